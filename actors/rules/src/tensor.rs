//! Named tensors and their one canonical encoding, which request keys and outcome hashes cover.
//!
//! Encoding of a list of tensors, all integers little-endian: `u8` version (1), `u16` count, then for each tensor
//! `u16` name length, name (UTF-8), `u8` element type, `u8` rank, `u32` per dimension, `u64` data length in bytes, data.
//! Fixed-size elements stand in row-major order, little-endian; NaN is canonical (`0x7fc00000`) before it comes here.
//! Strings stand as `u32` length and UTF-8 bytes, each.

use alloy_primitives::Bytes;
use serde::{Deserialize, Serialize};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum ElementType {
    /// IEEE 754 binary32.
    F32 = 1,
    /// Unsigned 8-bit integer.
    U8 = 2,
    /// Signed 8-bit integer.
    I8 = 3,
    /// Signed 32-bit integer.
    I32 = 6,
    /// Signed 64-bit integer.
    I64 = 7,
    /// UTF-8 strings.
    String = 8,
    /// Booleans, one byte each, 0 or 1.
    Bool = 9,
    /// IEEE 754 binary64: taken at a model's border alone.
    F64 = 11,
    /// Unsigned 32-bit integer.
    U32 = 12,
}

impl ElementType {
    /// The type with this number (ONNX's `TensorProto.DataType`).
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            6 => Self::I32,
            7 => Self::I64,
            8 => Self::String,
            9 => Self::Bool,
            11 => Self::F64,
            12 => Self::U32,
            _ => return None,
        })
    }

    /// Bytes of one element; `None` for strings.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        Some(match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::I64 | Self::F64 => 8,
            Self::String => return None,
        })
    }
}

/// A named tensor, row-major.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tensor {
    /// Name of the model's input or output.
    pub name: String,
    /// Type of the elements.
    pub element: ElementType,
    /// Dimensions, outermost first. Empty for a scalar.
    pub shape: Vec<u32>,
    /// Elements as the module describes.
    pub data: Bytes,
}

/// Why bytes are not a canonical list of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The bytes end too early, or go on after the end.
    #[error("tensor list has a wrong length")]
    Length,
    /// Unknown version byte.
    #[error("tensor list has unknown version {0}")]
    Version(u8),
    /// Unknown element type.
    #[error("tensor has unknown element type {0}")]
    Element(u8),
    /// A name or string is not UTF-8.
    #[error("tensor holds a name or string that is not utf-8")]
    Utf8,
    /// Data length and shape disagree.
    #[error("tensor data does not fit its shape")]
    Shape,
}

/// Version of the encoding.
pub const TENSOR_ENCODING_VERSION: u8 = 1;

impl Tensor {
    /// Number of elements; `None` where the product overflows.
    #[must_use]
    pub fn len(&self) -> Option<usize> {
        self.shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d as usize))
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Makes a float tensor from IEEE bit patterns.
    #[must_use]
    pub fn from_f32_bits(name: &str, shape: &[u32], bits: impl IntoIterator<Item = u32>) -> Self {
        let data: Vec<u8> = bits.into_iter().flat_map(u32::to_le_bytes).collect();
        Self {
            name: name.into(),
            element: ElementType::F32,
            shape: shape.into(),
            data: data.into(),
        }
    }

    fn check(&self) -> Result<(), TensorError> {
        let count = self.len().ok_or(TensorError::Shape)?;
        match self.element.size() {
            Some(size) => {
                let bytes = count.checked_mul(size).ok_or(TensorError::Shape)?;
                if bytes != self.data.len() {
                    return Err(TensorError::Shape);
                }
            }
            None => {
                if self.strings()?.len() != count {
                    return Err(TensorError::Shape);
                }
            }
        }
        Ok(())
    }

    /// The strings of a string tensor.
    ///
    /// # Errors
    /// Where the data are not length-prefixed UTF-8.
    pub fn strings(&self) -> Result<Vec<&str>, TensorError> {
        let mut rest = &self.data[..];
        let mut out = Vec::new();
        while !rest.is_empty() {
            let len = take(&mut rest, 4)?;
            let len = u32::from_le_bytes(len.try_into().map_err(|_| TensorError::Length)?);
            let text = take(&mut rest, len as usize)?;
            out.push(std::str::from_utf8(text).map_err(|_| TensorError::Utf8)?);
        }
        Ok(out)
    }

    /// Makes a string tensor.
    #[must_use]
    pub fn from_strings<'a>(
        name: &str,
        shape: &[u32],
        values: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut data = Vec::new();
        for value in values {
            data.extend((value.len() as u32).to_le_bytes());
            data.extend(value.as_bytes());
        }
        Self {
            name: name.into(),
            element: ElementType::String,
            shape: shape.into(),
            data: data.into(),
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], TensorError> {
    let (head, tail) = rest.split_at_checked(count).ok_or(TensorError::Length)?;
    *rest = tail;
    Ok(head)
}

/// The canonical bytes of `tensors`.
///
/// # Panics
/// Where a tensor's data don't fit its shape, or a name is longer than 65,535 bytes: callers check before.
#[must_use]
pub fn encode(tensors: &[Tensor]) -> Vec<u8> {
    let mut out = vec![TENSOR_ENCODING_VERSION];
    out.extend((tensors.len() as u16).to_le_bytes());
    for tensor in tensors {
        assert!(tensor.check().is_ok(), "tensor data must fit the shape");
        let name_len = u16::try_from(tensor.name.len()).expect("tensor names are short");
        out.extend(name_len.to_le_bytes());
        out.extend(tensor.name.as_bytes());
        out.push(tensor.element as u8);
        out.push(u8::try_from(tensor.shape.len()).expect("rank is at most 255"));
        for dim in &tensor.shape {
            out.extend(dim.to_le_bytes());
        }
        out.extend((tensor.data.len() as u64).to_le_bytes());
        out.extend(&tensor.data[..]);
    }
    out
}

/// Reads canonical bytes.
///
/// # Errors
/// Names what is wrong; nothing past the given bytes is allocated.
pub fn decode(bytes: &[u8]) -> Result<Vec<Tensor>, TensorError> {
    let mut rest = bytes;
    let version = take(&mut rest, 1)?[0];
    if version != TENSOR_ENCODING_VERSION {
        return Err(TensorError::Version(version));
    }
    let count = u16::from_le_bytes([rest_byte(&mut rest)?, rest_byte(&mut rest)?]);
    let mut out = Vec::new();
    for _ in 0..count {
        let name_len = u16::from_le_bytes([rest_byte(&mut rest)?, rest_byte(&mut rest)?]);
        let name = std::str::from_utf8(take(&mut rest, name_len as usize)?)
            .map_err(|_| TensorError::Utf8)?
            .to_owned();
        let element = rest_byte(&mut rest)?;
        let element = ElementType::from_u8(element).ok_or(TensorError::Element(element))?;
        let rank = rest_byte(&mut rest)?;
        let mut shape = Vec::with_capacity(rank as usize);
        for _ in 0..rank {
            let dim = take(&mut rest, 4)?;
            shape.push(u32::from_le_bytes(
                dim.try_into().map_err(|_| TensorError::Length)?,
            ));
        }
        let len = take(&mut rest, 8)?;
        let len = u64::from_le_bytes(len.try_into().map_err(|_| TensorError::Length)?);
        let len = usize::try_from(len).map_err(|_| TensorError::Length)?;
        let data = Bytes::copy_from_slice(take(&mut rest, len)?);
        let tensor = Tensor {
            name,
            element,
            shape,
            data,
        };
        tensor.check()?;
        out.push(tensor);
    }
    if rest.is_empty() {
        Ok(out)
    } else {
        Err(TensorError::Length)
    }
}

fn rest_byte(rest: &mut &[u8]) -> Result<u8, TensorError> {
    Ok(take(rest, 1)?[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Tensor> {
        vec![
            Tensor::from_f32_bits("x", &[1, 2], [0x3f80_0000, 0xc000_0000]),
            Tensor::from_strings("label", &[2], ["png", ""]),
        ]
    }

    #[test]
    fn a_list_comes_back_as_it_was() {
        assert_eq!(decode(&encode(&sample())), Ok(sample()));
        assert_eq!(decode(&encode(&[])), Ok(vec![]));
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_an_error() {
        let bytes = encode(&sample());
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(decode(&longer), Err(TensorError::Length));
    }

    #[test]
    fn a_shape_that_overflows_is_an_error() {
        let mut bytes = vec![1, 1, 0, 0, 0, 1, 3];
        bytes.extend([0xff; 12]);
        bytes.extend(4u64.to_le_bytes());
        bytes.extend([0; 4]);
        assert_eq!(decode(&bytes), Err(TensorError::Shape));
    }
}
