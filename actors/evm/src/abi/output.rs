//! A model's output tensors to return data and log data.

use super::call::InferenceCall;
use super::decimal::Number;
use super::solidity;
use alloy_primitives::LogData;
use alloy_sol_types::{SolEvent, SolValue};
use penstock_rules::request::ModelError;
use penstock_rules::tensor::{ElementType, Tensor};

/// Return data of `runModelInference`: a `ModelOutput` (v2) with `is_simulation_result` false.
///
/// Floats become the shortest decimal that gives back the same float; integers and booleans have 0 decimals. Strings
/// stand apart, without their shape, as the interface has it.
///
/// # Errors
/// [`ModelError::NotFinite`] for NaN or an infinity, [`ModelError::Domain`] where data don't fit their shape. Honest
/// shards answer neither as an output.
pub fn encode_output(outputs: &[Tensor]) -> Result<Vec<u8>, ModelError> {
    Ok(model_output(outputs)?.abi_encode())
}

/// The log that F4 emits: `ModelInferenceEvent(inferenceID, request, response)`.
///
/// # Errors
/// As [`encode_output`].
pub fn inference_event(
    id: &str,
    call: &InferenceCall,
    outputs: &[Tensor],
) -> Result<LogData, ModelError> {
    let event = solidity::ModelInferenceEvent {
        inferenceID: id.into(),
        request: call.into(),
        response: model_output(outputs)?,
    };
    Ok(event.encode_log_data())
}

fn model_output(outputs: &[Tensor]) -> Result<solidity::ModelOutput, ModelError> {
    let mut numbers = Vec::new();
    let mut strings = Vec::new();
    for tensor in outputs {
        if tensor.element == ElementType::String {
            strings.push(solidity::StringTensor {
                name: tensor.name.clone(),
                values: tensor
                    .strings()
                    .map_err(|_| ModelError::Domain)?
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            });
        } else {
            numbers.push(solidity::MultiDimensionalNumberTensor {
                name: tensor.name.clone(),
                values: elements(tensor)?,
                shape: tensor.shape.clone(),
            });
        }
    }
    Ok(solidity::ModelOutput {
        numbers,
        strings,
        jsons: Vec::new(),
        is_simulation_result: false,
    })
}

fn elements(tensor: &Tensor) -> Result<Vec<solidity::Number>, ModelError> {
    let size = tensor.element.size().ok_or(ModelError::Domain)?;
    let count = tensor.len().ok_or(ModelError::Domain)?;
    if count.checked_mul(size) != Some(tensor.data.len()) {
        return Err(ModelError::Domain);
    }
    tensor
        .data
        .chunks_exact(size)
        .map(|bytes| Ok(element(tensor.element, bytes)?.into()))
        .collect()
}

fn element(element: ElementType, bytes: &[u8]) -> Result<Number, ModelError> {
    fn le<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ModelError> {
        bytes.try_into().map_err(|_| ModelError::Domain)
    }
    let whole = match element {
        ElementType::F32 => {
            return Number::from_f32(f32::from_le_bytes(le(bytes)?)).ok_or(ModelError::NotFinite);
        }
        ElementType::F64 => {
            return Number::from_f64(f64::from_le_bytes(le(bytes)?)).ok_or(ModelError::NotFinite);
        }
        ElementType::U8 | ElementType::Bool => i128::from(u8::from_le_bytes(le(bytes)?)),
        ElementType::I8 => i128::from(i8::from_le_bytes(le(bytes)?)),
        ElementType::I32 => i128::from(i32::from_le_bytes(le(bytes)?)),
        ElementType::I64 => i128::from(i64::from_le_bytes(le(bytes)?)),
        ElementType::U32 => i128::from(u32::from_le_bytes(le(bytes)?)),
        ElementType::String => return Err(ModelError::Domain),
    };
    Ok(Number::whole(whole))
}

impl From<Number> for solidity::Number {
    fn from(number: Number) -> Self {
        Self {
            value: number.value,
            decimals: number.decimals,
        }
    }
}

impl From<&InferenceCall> for solidity::ModelInferenceRequest {
    fn from(call: &InferenceCall) -> Self {
        Self {
            mode: call.mode as u8,
            modelCID: call.cid.clone(),
            input: solidity::ModelInput {
                numbers: call
                    .numbers
                    .iter()
                    .map(|tensor| solidity::MultiDimensionalNumberTensor {
                        name: tensor.name.clone(),
                        values: tensor.values.iter().map(|n| (*n).into()).collect(),
                        shape: tensor.shape.clone(),
                    })
                    .collect(),
                strings: call
                    .strings
                    .iter()
                    .map(|tensor| solidity::StringTensor {
                        name: tensor.name.clone(),
                        values: tensor.values.clone(),
                    })
                    .collect(),
            },
        }
    }
}
