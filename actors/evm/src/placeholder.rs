//! Outputs that stand for answers that are not known yet: right in names, types and shapes, and different in two worlds.

use penstock_rules::model::ModelInfo;
use penstock_rules::tensor::{self, ElementType, Tensor};

/// One of the two worlds in which discovery runs on behind an unknown answer. What both ask for does not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    First,
    Second,
}

/// Elements of one placeholder tensor at most: a chosen dimension that the input does not determine could stand for
/// anything, and a wrong guess must not cost memory.
const ELEMENTS_MAX: usize = 1 << 16;

/// Placeholder outputs of `model` for a canonical input.
///
/// The k-th dimension of an output that the caller chooses is taken for the k-th of the inputs, else for 1. The values
/// are neither zero nor one, where the type has such, so that a division or a probability does not revert by accident.
pub(crate) fn outputs(model: &ModelInfo, input: &[u8], world: World) -> Vec<Tensor> {
    let chosen = chosen_dimensions(model, input);
    model
        .signature
        .outputs
        .iter()
        .map(|port| {
            let mut given = chosen.iter().copied().chain(std::iter::repeat(1));
            let mut shape: Vec<u32> = port
                .shape
                .iter()
                .map(|&d| if d == 0 { given.next().unwrap_or(1) } else { d })
                .collect();
            let mut count = elements(&shape);
            if count.is_none_or(|count| count > ELEMENTS_MAX) {
                shape = port.shape.iter().map(|&d| d.max(1)).collect();
                count = elements(&shape).filter(|&count| count <= ELEMENTS_MAX);
            }
            let count = count.unwrap_or_else(|| {
                shape = vec![1];
                1
            });
            if port.element == ElementType::String {
                let text = match world {
                    World::First => "a",
                    World::Second => "b",
                };
                return Tensor::from_strings(&port.name, &shape, std::iter::repeat_n(text, count));
            }
            Tensor {
                name: port.name.clone(),
                element: port.element,
                data: value(port.element, world).repeat(count).into(),
                shape,
            }
        })
        .collect()
}

fn elements(shape: &[u32]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d as usize))
}

fn chosen_dimensions(model: &ModelInfo, input: &[u8]) -> Vec<u32> {
    let inputs = tensor::decode(input).unwrap_or_default();
    model
        .signature
        .inputs
        .iter()
        .zip(&inputs)
        .flat_map(|(port, tensor)| port.shape.iter().zip(&tensor.shape))
        .filter(|(declared, _)| **declared == 0)
        .map(|(_, &given)| given)
        .collect()
}

/// One element, little-endian. Floats are bit patterns of 0.25 and 0.75.
fn value(element: ElementType, world: World) -> Vec<u8> {
    let first = world == World::First;
    let whole = if first { 2u8 } else { 3 };
    match element {
        ElementType::F32 => if first { 0x3e80_0000u32 } else { 0x3f40_0000 }
            .to_le_bytes()
            .to_vec(),
        ElementType::F64 => if first {
            0x3fd0_0000_0000_0000u64
        } else {
            0x3fe8_0000_0000_0000
        }
        .to_le_bytes()
        .to_vec(),
        ElementType::Bool => vec![u8::from(first)],
        ElementType::U8 | ElementType::I8 => vec![whole],
        ElementType::I32 | ElementType::U32 => u32::from(whole).to_le_bytes().to_vec(),
        ElementType::I64 => u64::from(whole).to_le_bytes().to_vec(),
        // Strings have no fixed size and never come here.
        ElementType::String => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_rules::ids::{Igas, ModelHash};
    use penstock_rules::model::{Port, Signature};

    fn model(inputs: &[&[u32]], outputs: &[(ElementType, &[u32])]) -> ModelInfo {
        let port = |index: usize, element, shape: &[u32]| Port {
            name: format!("p{index}"),
            element,
            shape: shape.into(),
        };
        ModelInfo {
            cid: "m".into(),
            hash: ModelHash::default(),
            igas_base: Igas(1),
            igas_per_unit: Igas(0),
            signature: Signature {
                inputs: inputs
                    .iter()
                    .enumerate()
                    .map(|(i, shape)| port(i, ElementType::F32, shape))
                    .collect(),
                outputs: outputs
                    .iter()
                    .enumerate()
                    .map(|(i, (element, shape))| port(i, *element, shape))
                    .collect(),
            },
        }
    }

    fn input(shape: &[u32]) -> Vec<u8> {
        let count = shape.iter().product::<u32>();
        tensor::encode(&[Tensor::from_f32_bits(
            "p0",
            shape,
            std::iter::repeat_n(0, count as usize),
        )])
    }

    #[test]
    fn every_type_has_two_different_values_of_the_right_size() {
        for number in 0..=u8::MAX {
            let Some(element) = ElementType::from_u8(number) else {
                continue;
            };
            let model = model(&[&[1]], &[(element, &[2, 3])]);
            let [one, other] =
                [World::First, World::Second].map(|world| outputs(&model, &input(&[1]), world));
            assert_ne!(one, other);
            // Encoding panics where data don't fit the shape.
            assert_eq!(tensor::decode(&tensor::encode(&one)), Ok(one));
            assert_eq!(tensor::decode(&tensor::encode(&other)), Ok(other));
        }
    }

    #[test]
    fn chosen_dimensions_follow_the_input() {
        let model = model(
            &[&[0, 4]],
            &[(ElementType::F32, &[0, 1]), (ElementType::F32, &[0, 0])],
        );
        let shapes: Vec<_> = outputs(&model, &input(&[3, 4]), World::First)
            .into_iter()
            .map(|tensor| tensor.shape)
            .collect();
        assert_eq!(shapes, [vec![3, 1], vec![3, 1]]);
    }

    #[test]
    fn a_shape_past_the_limit_is_cut_down() {
        let model = model(
            &[&[0]],
            &[
                (ElementType::F32, &[0, 70_000]),
                (ElementType::F32, &[0, 0, 8]),
            ],
        );
        for tensor in outputs(&model, &input(&[60_000]), World::First) {
            assert!(tensor.len().is_some_and(|count| count <= ELEMENTS_MAX));
        }
    }
}
