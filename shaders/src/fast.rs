//! What an answer in native floats ([`crate::Mode::Fast`]) is held against: the exact one, within a tolerance. Nobody else
//! need get its bits, so it is never hashed.

use crate::verify::Tolerance;
use penstock_rules::request::Outcome;
use penstock_rules::tensor::{ElementType, Tensor, decode};

/// How far native floats may be from the exact answer: [`Tolerance::relative`] and [`Tolerance::absolute`].
pub const NEAR: Tolerance = Tolerance {
    relative: 1e-4,
    absolute: 1e-3,
    arg_max: crate::verify::ArgMax::Any,
};

/// The largest difference between two outcomes' floats.
///
/// # Errors
/// Says where they are further apart than [`NEAR`], or are no answers to one request.
pub fn distance(exact: &Outcome, fast: &Outcome) -> Result<f64, String> {
    let (Outcome::Output(exact), Outcome::Output(fast)) = (exact, fast) else {
        return if exact == fast {
            Ok(0.0)
        } else {
            Err(format!("{fast:?} for {exact:?}"))
        };
    };
    let read = |bytes| decode(bytes).map_err(|error| error.to_string());
    let (exact, fast) = (read(exact)?, read(fast)?);
    if exact.len() != fast.len() {
        return Err(format!("{} outputs for {}", fast.len(), exact.len()));
    }
    let mut most = 0f64;
    for (want, have) in exact.iter().zip(&fast) {
        let is = |tensor: &Tensor| (tensor.name.clone(), tensor.element, tensor.shape.clone());
        if is(want) != is(have) {
            return Err(format!("{}: another tensor than {}", have.name, want.name));
        }
        let (Some(wants), Some(haves)) = (floats(want), floats(have)) else {
            if want.data != have.data {
                return Err(format!("{}: other integers", have.name));
            }
            continue;
        };
        for (i, (want, have_value)) in wants.into_iter().zip(haves).enumerate() {
            let apart = (have_value - want).abs();
            if apart > NEAR.absolute + NEAR.relative * want.abs() {
                return Err(format!("{}[{i}]: {have_value} for {want}", have.name));
            }
            most = most.max(apart);
        }
    }
    Ok(most)
}

/// A tensor's floats, where it has some.
fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    let data = &tensor.data;
    match tensor.element {
        ElementType::F32 => {
            let words = data.as_chunks().0.iter();
            Some(words.map(|&w| f32::from_le_bytes(w).into()).collect())
        }
        ElementType::F64 => {
            let words = data.as_chunks().0.iter();
            Some(words.map(|&w| f64::from_le_bytes(w)).collect())
        }
        _ => None,
    }
}
