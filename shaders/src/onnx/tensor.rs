//! Constant tensors of a file.

use super::proto::{TensorProto, tensor_proto::DataLocation};
use crate::error::LoadError;
use crate::graph::Constant;
use crate::limits::Limits;
use crate::num::from_half;
use penstock_rules::tensor::ElementType;

fn refuse(tensor: &TensorProto, reason: impl Into<String>) -> LoadError {
    LoadError::Value {
        name: tensor.name().chars().take(80).collect(),
        reason: reason.into(),
    }
}

/// ONNX's number of binary16.
pub(crate) const FLOAT16: i32 = 10;

/// The element type as which a value of ONNX's type `number` is held, `None` where the engine has no such values. Half
/// precision is held as binary32, which has all its values.
pub(crate) fn held(number: i32) -> Option<ElementType> {
    if number == FLOAT16 {
        return Some(ElementType::F32);
    }
    u8::try_from(number)
        .ok()
        .and_then(ElementType::from_u8)
        .filter(|e| *e != ElementType::String)
}

/// Reads a tensor into words.
///
/// # Errors
/// Where it stands outside the file, has a type that the engine does not hold, or data that do not fit its shape.
pub fn read_tensor(tensor: &TensorProto, limits: &Limits) -> Result<Constant, LoadError> {
    if tensor.data_location() == DataLocation::External || !tensor.external_data.is_empty() {
        return Err(refuse(tensor, "external data are not taken"));
    }
    if tensor.segment.is_some() {
        return Err(refuse(tensor, "segments are not taken"));
    }
    let number = tensor.data_type();
    let element = held(number)
        .ok_or_else(|| refuse(tensor, format!("element type {number} is not supported")))?;
    let mut dims = Vec::with_capacity(tensor.dims.len());
    let mut count = 1u64;
    for &dim in &tensor.dims {
        let dim = u32::try_from(dim)
            .map_err(|_| refuse(tensor, format!("dimension {dim} is invalid")))?;
        dims.push(dim);
        count = count
            .checked_mul(u64::from(dim))
            .filter(|&n| n <= limits.elements_max)
            .ok_or(LoadError::Limit {
                what: "elements of a constant",
                found: u64::MAX,
                limit: limits.elements_max,
            })?;
    }
    let count = count as usize;
    let words = words(tensor, element)?;
    let per = if element == ElementType::I64 { 2 } else { 1 };
    if words.len() != count * per {
        return Err(refuse(
            tensor,
            format!("{} elements of data for {count}", words.len() / per),
        ));
    }
    Ok(Constant::new(element, dims, words))
}

fn words(tensor: &TensorProto, element: ElementType) -> Result<Vec<u32>, LoadError> {
    use ElementType as E;
    let raw = tensor.raw_data.as_deref().filter(|raw| !raw.is_empty());
    if tensor.data_type() == FLOAT16 {
        return halves(tensor, raw);
    }
    let Some(raw) = raw else {
        return Ok(match element {
            E::F32 => tensor.float_data.iter().map(|v| v.to_bits()).collect(),
            E::F64 => tensor
                .double_data
                .iter()
                .map(|&v| (v as f32).to_bits())
                .collect(),
            E::I64 => tensor.int64_data.iter().flat_map(|&v| split(v)).collect(),
            E::U32 => tensor.uint64_data.iter().map(|&v| v as u32).collect(),
            E::U8 => tensor.int32_data.iter().map(|&v| v as u32 & 0xff).collect(),
            E::I8 => tensor
                .int32_data
                .iter()
                .map(|&v| i32::from(v as i8) as u32)
                .collect(),
            E::Bool => tensor
                .int32_data
                .iter()
                .map(|&v| u32::from(v != 0))
                .collect(),
            E::I32 | E::String => tensor.int32_data.iter().map(|&v| v as u32).collect(),
        });
    };
    let size = element.size().unwrap_or(1);
    if raw.len() % size != 0 {
        return Err(refuse(tensor, "raw data do not fit the element type"));
    }
    Ok(widen(element, raw))
}

/// Half precision, which stands in the raw data, or in the low halves of integers.
fn halves(tensor: &TensorProto, raw: Option<&[u8]>) -> Result<Vec<u32>, LoadError> {
    let word = |half: u16| from_half(half).to_bits();
    let Some(raw) = raw else {
        return Ok(tensor.int32_data.iter().map(|&v| word(v as u16)).collect());
    };
    let (pairs, []) = raw.as_chunks() else {
        return Err(refuse(tensor, "raw data do not fit the element type"));
    };
    Ok(pairs.iter().map(|p| word(u16::from_le_bytes(*p))).collect())
}

/// Little-endian elements to words.
pub(crate) fn widen(element: ElementType, raw: &[u8]) -> Vec<u32> {
    let mut out = Vec::new();
    widen_into(element, raw, &mut out);
    out
}

/// As [`widen`], appended to `out`.
pub(crate) fn widen_into(element: ElementType, raw: &[u8], out: &mut Vec<u32>) {
    use ElementType as E;
    let word = |c: &[u8; 4]| u32::from_le_bytes(*c);
    match element {
        E::F32 | E::I32 | E::U32 | E::I64 => out.extend(raw.as_chunks().0.iter().map(word)),
        E::F64 => out.extend(
            raw.as_chunks()
                .0
                .iter()
                .map(|c| (f64::from_le_bytes(*c) as f32).to_bits()),
        ),
        E::U8 | E::String => out.extend(raw.iter().map(|&b| u32::from(b))),
        E::I8 => out.extend(raw.iter().map(|&b| i32::from(b as i8) as u32)),
        E::Bool => out.extend(raw.iter().map(|&b| u32::from(b != 0))),
    }
}

/// Words to little-endian elements.
pub(crate) fn narrow_into(element: ElementType, words: &[u32], out: &mut Vec<u8>) {
    use ElementType as E;
    match element {
        E::F32 | E::I32 | E::U32 | E::I64 => {
            out.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        }
        E::F64 => out.extend(
            words
                .iter()
                .flat_map(|&w| f64::from(f32::from_bits(w)).to_le_bytes()),
        ),
        E::U8 | E::I8 | E::Bool | E::String => out.extend(words.iter().map(|&w| w as u8)),
    }
}

fn split(v: i64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}
