//! A call's decimals to the one canonical request that they stand for.

use super::call::{InferenceCall, NumberTensor, StringTensor};
use super::decimal::Number;
use penstock_rules::model::{ModelInfo, Port};
use penstock_rules::request::{ModelError, Request};
use penstock_rules::tensor::{self, ElementType, Tensor};
use std::collections::BTreeMap;

/// The request that `call` makes of `model`, and its units (see `Signature::units`).
///
/// Tensors match the model's inputs by name and stand in the request in the order of the model's signature, converted
/// to its element types: floats correctly rounded, integers exactly. A dimension that the caller chooses is at least 1.
/// A string tensor has no shape of its own: its first chosen dimension takes all elements, further ones are 1.
///
/// # Errors
/// [`ModelError::WrongInput`] where a name is missing, doubled or unknown, a shape or count does not fit, or a value is
/// not one of the element type.
pub fn to_request(call: &InferenceCall, model: &ModelInfo) -> Result<(Request, u64), ModelError> {
    enum Given<'a> {
        Numbers(&'a NumberTensor),
        Strings(&'a StringTensor),
    }
    let numbers = call
        .numbers
        .iter()
        .map(|t| (t.name.as_str(), Given::Numbers(t)));
    let strings = call
        .strings
        .iter()
        .map(|t| (t.name.as_str(), Given::Strings(t)));
    let mut given = BTreeMap::new();
    for (name, tensor) in numbers.chain(strings) {
        if given.insert(name, tensor).is_some() {
            return Err(ModelError::WrongInput);
        }
    }
    let inputs = model
        .signature
        .inputs
        .iter()
        .map(|port| match given.remove(port.name.as_str()) {
            Some(Given::Numbers(tensor)) => number_tensor(port, tensor),
            Some(Given::Strings(tensor)) => string_tensor(port, tensor),
            None => None,
        })
        .collect::<Option<Vec<Tensor>>>()
        .filter(|_| given.is_empty())
        .ok_or(ModelError::WrongInput)?;
    let units = model
        .signature
        .units(inputs.iter().map(|tensor| tensor.shape.as_slice()));
    let request = Request {
        model: model.hash,
        mode: call.mode,
        input: tensor::encode(&inputs).into(),
    };
    Ok((request, units))
}

fn number_tensor(port: &Port, given: &NumberTensor) -> Option<Tensor> {
    let fits = port.shape.len() == given.shape.len()
        && port
            .shape
            .iter()
            .zip(&given.shape)
            .all(|(declared, chosen)| {
                if *declared == 0 {
                    *chosen > 0
                } else {
                    declared == chosen
                }
            });
    let count = given
        .shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))?;
    if !fits || count != given.values.len() {
        return None;
    }
    let mut data = Vec::with_capacity(count.checked_mul(port.element.size()?)?);
    for value in &given.values {
        push_element(&mut data, port.element, *value)?;
    }
    Some(Tensor {
        name: port.name.clone(),
        element: port.element,
        shape: given.shape.clone(),
        data: data.into(),
    })
}

fn push_element(data: &mut Vec<u8>, element: ElementType, number: Number) -> Option<()> {
    fn whole<T: TryFrom<i128>>(number: Number) -> Option<T> {
        T::try_from(number.to_whole()?).ok()
    }
    match element {
        ElementType::F32 => data.extend(number.to_f32()?.to_le_bytes()),
        ElementType::F64 => data.extend(number.to_f64()?.to_le_bytes()),
        ElementType::U8 => data.push(whole(number)?),
        ElementType::I8 => data.extend(whole::<i8>(number)?.to_le_bytes()),
        ElementType::I32 => data.extend(whole::<i32>(number)?.to_le_bytes()),
        ElementType::I64 => data.extend(whole::<i64>(number)?.to_le_bytes()),
        ElementType::U32 => data.extend(whole::<u32>(number)?.to_le_bytes()),
        ElementType::Bool => data.push(whole(number).filter(|value: &u8| *value <= 1)?),
        ElementType::String => return None,
    }
    Some(())
}

fn string_tensor(port: &Port, given: &StringTensor) -> Option<Tensor> {
    if port.element != ElementType::String {
        return None;
    }
    let fixed = port
        .shape
        .iter()
        .filter(|d| **d != 0)
        .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))?;
    let chosen = given.values.len().checked_div(fixed)?;
    let mut shape = port.shape.clone();
    match shape.iter_mut().find(|d| **d == 0) {
        Some(first) => *first = u32::try_from(chosen).ok().filter(|n| *n > 0)?,
        None if chosen != 1 => return None,
        None => {}
    }
    for further in shape.iter_mut().filter(|d| **d == 0) {
        *further = 1;
    }
    if chosen.checked_mul(fixed)? != given.values.len() {
        return None;
    }
    let values = given.values.iter().map(String::as_str);
    Some(Tensor::from_strings(&port.name, &shape, values))
}
