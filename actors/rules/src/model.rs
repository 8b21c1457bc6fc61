//! What the chain knows of a model: content, price and signature.

use crate::ids::{Igas, ModelHash};
use crate::tensor::ElementType;
use serde::{Deserialize, Serialize};

/// A named input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Name, as in the ONNX graph.
    pub name: String,
    /// Element type.
    pub element: ElementType,
    /// Dimensions; 0 stands for one that the caller chooses (a batch or a sequence).
    pub shape: Vec<u32>,
}

/// Inputs and outputs of a model, in the graph's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signature {
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
}

/// A model as the on-chain registry has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The id that contracts use (OpenGradient's `modelCID`).
    pub cid: String,
    /// keccak256 of the ONNX file.
    pub hash: ModelHash,
    /// Static cost of a request, without its units.
    pub igas_base: Igas,
    /// Static cost per unit: see [`Signature::units`].
    pub igas_per_unit: Igas,
    /// Inputs and outputs.
    pub signature: Signature,
}

impl ModelInfo {
    /// Cost of a request of `units`, or the largest value where it would overflow.
    #[must_use]
    pub const fn igas(&self, units: u64) -> Igas {
        Igas(
            self.igas_base
                .0
                .saturating_add(self.igas_per_unit.0.saturating_mul(units)),
        )
    }
}

/// Why bytes are not a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model signature is malformed at byte {0}")]
pub struct SignatureError(pub usize);

impl Signature {
    /// Units of an input with these shapes, in the order of the inputs: the largest product of chosen dimensions over
    /// all inputs, at least 1. Shapes that do not fit give 1: the request fails with `WrongInput` anyway.
    #[must_use]
    pub fn units<'a>(&self, shapes: impl IntoIterator<Item = &'a [u32]>) -> u64 {
        self.inputs
            .iter()
            .zip(shapes)
            .map(|(port, shape)| {
                port.shape
                    .iter()
                    .zip(shape)
                    .filter(|(declared, _)| **declared == 0)
                    .fold(1u64, |n, (_, &d)| n.saturating_mul(u64::from(d)))
            })
            .max()
            .unwrap_or(1)
            .max(1)
    }

    /// Compact bytes for the registry: `u8` inputs, `u8` outputs, then per port `u8` name length, name, `u8` element
    /// type, `u8` rank, `u32` little-endian per dimension.
    ///
    /// # Errors
    /// Where there are more than 255 ports, dimensions, or bytes in a name.
    pub fn encode(&self) -> Result<Vec<u8>, SignatureError> {
        let byte = |n: usize| u8::try_from(n).map_err(|_| SignatureError(0));
        let mut out = vec![byte(self.inputs.len())?, byte(self.outputs.len())?];
        for port in self.inputs.iter().chain(&self.outputs) {
            out.push(byte(port.name.len())?);
            out.extend(port.name.as_bytes());
            out.push(port.element as u8);
            out.push(byte(port.shape.len())?);
            out.extend(port.shape.iter().flat_map(|d| d.to_le_bytes()));
        }
        Ok(out)
    }

    /// Reads [`Signature::encode`]'s bytes.
    ///
    /// # Errors
    /// Names the byte at which they stop making sense.
    pub fn decode(bytes: &[u8]) -> Result<Self, SignatureError> {
        let mut at = 0;
        let mut take = |count: usize| {
            let slice = bytes.get(at..at + count).ok_or(SignatureError(at))?;
            at += count;
            Ok::<_, SignatureError>((slice, at))
        };
        let counts = take(2)?.0;
        let (inputs, outputs) = (counts[0] as usize, counts[1] as usize);
        let mut ports = Vec::with_capacity(inputs + outputs);
        for _ in 0..inputs + outputs {
            let name_len = take(1)?.0[0] as usize;
            let (name, here) = take(name_len)?;
            let name = std::str::from_utf8(name)
                .map_err(|_| SignatureError(here))?
                .to_owned();
            let (element, here) = take(1)?;
            let element = ElementType::from_u8(element[0]).ok_or(SignatureError(here))?;
            let rank = take(1)?.0[0] as usize;
            let shape = take(4 * rank)?
                .0
                .chunks_exact(4)
                .map(|d| u32::from_le_bytes([d[0], d[1], d[2], d[3]]))
                .collect();
            ports.push(Port {
                name,
                element,
                shape,
            });
        }
        if at != bytes.len() {
            return Err(SignatureError(at));
        }
        let outputs = ports.split_off(inputs);
        Ok(Self {
            inputs: ports,
            outputs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let port = |name: &str, shape: &[u32]| Port {
            name: name.into(),
            element: ElementType::F32,
            shape: shape.into(),
        };
        Signature {
            inputs: vec![port("x", &[0, 10]), port("mask", &[0, 0])],
            outputs: vec![port("y", &[0, 1])],
        }
    }

    #[test]
    fn a_signature_comes_back_and_every_cut_is_an_error() {
        let bytes = signature().encode().expect("small");
        assert_eq!(Signature::decode(&bytes), Ok(signature()));
        for cut in 0..bytes.len() {
            assert!(Signature::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn units_are_the_largest_product_of_chosen_dimensions() {
        let shapes: [&[u32]; 2] = [&[3, 10], &[3, 5]];
        assert_eq!(signature().units(shapes), 15);
        assert_eq!(Signature::default().units([]), 1);
    }
}
