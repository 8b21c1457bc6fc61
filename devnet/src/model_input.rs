//! Tensors as people write them on the command line: `NAME=JSON`.

use eyre::{WrapErr, bail, eyre};
use penstock_rules::model::Port;
use penstock_rules::tensor::{ElementType, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;

/// One tensor per input port: from `NAME=JSON`, or zeros, with 1 for each dimension that the caller chooses.
///
/// # Errors
/// Names the input that is unknown or does not fit.
pub fn read(ports: &[Port], inputs: &[String]) -> eyre::Result<Vec<Tensor>> {
    let mut given = BTreeMap::new();
    for input in inputs {
        let (name, json) = input
            .split_once('=')
            .ok_or_else(|| eyre!("--input {input:?}: write NAME=JSON"))?;
        let value: Value = serde_json::from_str(json)
            .wrap_err_with(|| format!("--input {name}: the value is no JSON"))?;
        given.insert(name.to_owned(), value);
    }
    let tensors = ports
        .iter()
        .map(|port| match given.remove(&port.name) {
            Some(value) => tensor(port, &value).wrap_err_with(|| format!("--input {}", port.name)),
            None => Ok(zeros(port)),
        })
        .collect::<eyre::Result<Vec<_>>>()?;
    if let Some(name) = given.keys().next() {
        let known: Vec<_> = ports.iter().map(|p| p.name.as_str()).collect();
        bail!("the model has no input {name}: it has {}", known.join(", "));
    }
    Ok(tensors)
}

fn zeros(port: &Port) -> Tensor {
    let shape: Vec<u32> = port.shape.iter().map(|d| (*d).max(1)).collect();
    let count: usize = shape.iter().map(|d| *d as usize).product();
    match port.element.size() {
        None => Tensor::from_strings(&port.name, &shape, vec![""; count]),
        Some(size) => Tensor {
            name: port.name.clone(),
            element: port.element,
            shape,
            data: vec![0; count * size].into(),
        },
    }
}

fn tensor(port: &Port, value: &Value) -> eyre::Result<Tensor> {
    let mut shape = Vec::new();
    let mut level = value;
    while let Value::Array(items) = level {
        shape.push(u32::try_from(items.len())?);
        match items.first() {
            Some(first) => level = first,
            None => break,
        }
    }
    let mut flat = Vec::new();
    flatten(value, 0, &shape, &mut flat)?;
    if port.element == ElementType::String {
        let texts = flat
            .iter()
            .map(|v| v.as_str().ok_or_else(|| eyre!("{v} is no text")))
            .collect::<eyre::Result<Vec<_>>>()?;
        return Ok(Tensor::from_strings(&port.name, &shape, texts));
    }
    let mut data = Vec::new();
    for value in flat {
        append(port.element, value, &mut data)
            .ok_or_else(|| eyre!("{value} is no {:?}", port.element))?;
    }
    Ok(Tensor {
        name: port.name.clone(),
        element: port.element,
        shape,
        data: data.into(),
    })
}

/// A number's little-endian bytes; `None` where it does not fit.
fn append(element: ElementType, value: &Value, data: &mut Vec<u8>) -> Option<()> {
    match element {
        // From the text, so that the value is rounded once.
        ElementType::F32 => data.extend(value.to_string().parse::<f32>().ok()?.to_le_bytes()),
        ElementType::F64 => data.extend(value.as_f64()?.to_le_bytes()),
        ElementType::I64 => data.extend(value.as_i64()?.to_le_bytes()),
        ElementType::I32 => data.extend(i32::try_from(value.as_i64()?).ok()?.to_le_bytes()),
        ElementType::U32 => data.extend(u32::try_from(value.as_i64()?).ok()?.to_le_bytes()),
        ElementType::I8 => data.extend(i8::try_from(value.as_i64()?).ok()?.to_le_bytes()),
        ElementType::U8 => data.push(u8::try_from(value.as_i64()?).ok()?),
        ElementType::Bool => data.push(u8::from(value.as_bool()?)),
        ElementType::String => return None,
    }
    Some(())
}

fn flatten<'a>(
    value: &'a Value,
    depth: usize,
    shape: &[u32],
    out: &mut Vec<&'a Value>,
) -> eyre::Result<()> {
    match (value, shape.get(depth)) {
        (Value::Array(items), Some(length)) if items.len() == *length as usize => items
            .iter()
            .try_for_each(|item| flatten(item, depth + 1, shape, out)),
        (Value::Array(_), _) | (_, Some(_)) => bail!("the lists are not all of one length"),
        (value, None) => {
            out.push(value);
            Ok(())
        }
    }
}

/// A tensor's values as JSON, flat.
///
/// # Errors
/// Where a string tensor's bytes are malformed.
pub fn show(tensor: &Tensor) -> eyre::Result<String> {
    let data = &tensor.data[..];
    let list: Vec<String> = match tensor.element {
        ElementType::String => return Ok(serde_json::to_string(&tensor.strings()?)?),
        ElementType::F32 => words(data, |b| f32::from_le_bytes(b).to_string()),
        ElementType::I32 => words(data, |b| i32::from_le_bytes(b).to_string()),
        ElementType::U32 => words(data, |b| u32::from_le_bytes(b).to_string()),
        ElementType::I64 => words(data, |b| i64::from_le_bytes(b).to_string()),
        ElementType::F64 => words(data, |b| f64::from_le_bytes(b).to_string()),
        ElementType::U8 => words(data, |b: [u8; 1]| b[0].to_string()),
        ElementType::Bool => words(data, |b: [u8; 1]| (b[0] != 0).to_string()),
        ElementType::I8 => words(data, |b| i8::from_le_bytes(b).to_string()),
    };
    Ok(format!("[{}]", list.join(", ")))
}

fn words<const N: usize>(data: &[u8], show: impl Fn([u8; N]) -> String) -> Vec<String> {
    data.chunks_exact(N)
        .map(|chunk| show(chunk.try_into().expect("chunks have N bytes")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(element: ElementType) -> Port {
        Port {
            name: "x".into(),
            element,
            shape: vec![0, 2],
        }
    }

    #[test]
    fn what_is_read_is_shown_as_it_was() {
        for (element, json, flat) in [
            (ElementType::F32, "[[1.5, -2]]", "[1.5, -2]"),
            (ElementType::I64, "[[1], [-2]]", "[1, -2]"),
            (ElementType::String, "[[\"a\", \"\"]]", "[\"a\",\"\"]"),
            (ElementType::Bool, "[[true, false]]", "[true, false]"),
        ] {
            let tensors = read(&[port(element)], &[format!("x={json}")]).expect(json);
            assert_eq!(show(&tensors[0]).expect("values"), flat);
        }
    }

    #[test]
    fn wrong_input_is_named() {
        for (input, culprit) in [
            ("x", "NAME=JSON"),
            ("x=[", "x"),
            ("y=[1]", "y"),
            ("x=[[1], [1, 2]]", "length"),
            ("x=[[\"a\"]]", "\"a\""),
        ] {
            let error = read(&[port(ElementType::F32)], &[input.into()]).expect_err(input);
            assert!(format!("{error:?}").contains(culprit), "{input}: {error:?}");
        }
    }

    #[test]
    fn without_input_there_are_zeros_of_the_least_shape() {
        let tensors = read(&[port(ElementType::I32)], &[]).expect("zeros");
        assert_eq!(tensors[0].shape, [1, 2]);
        assert_eq!(show(&tensors[0]).expect("values"), "[0, 0]");
    }
}
