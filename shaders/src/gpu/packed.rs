//! Right operands that never change, packed once per device: as kernels with broadcasts read them, four columns side by side
//! for each `k` (`kernels/lib/broadcast.wgsl`).

use crate::num::Width;
use crate::plan::{Contract, Conv, Plan, Space, Step};
use std::collections::BTreeSet;

/// Columns of a vector.
const FOUR: u32 = 4;

/// Elements of rows that are broadcast at a time, `BROADCAST` of `lib/broadcast.wgsl`.
pub const BROADCAST: u32 = 8;

/// Depths are filled up with zeros to a multiple of this: elements of one row that are broadcast in a round, which has two
/// broadcasts.
const DEPTH_STEP: u32 = 2 * BROADCAST;

/// Matrices among a model's weights that are packed alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pack {
    /// Word of the weights at which the first begins.
    offset: u32,
    /// How many they are.
    matrices: u32,
    /// Rows of each, which are columns of results.
    n: u32,
    /// Elements of a row.
    k: u32,
    /// Whether they have at most 16 bits: then two of a row stand in one word.
    narrow: bool,
}

impl Pack {
    /// The right operand of a contraction, if it is weights, and if batches read whole matrices of it.
    pub fn of_contract(contract: &Contract) -> Option<Self> {
        let rows = contract.b.q.len / contract.k;
        let whole = contract
            .b
            .batch
            .iter()
            .all(|step| step.is_multiple_of(contract.n));
        let pack = Self {
            offset: contract.b.q.offset,
            matrices: rows / contract.n,
            n: contract.n,
            k: contract.k,
            narrow: contract.width != Width::Bits24,
        };
        let weights = contract.b.q.space == Space::Weights && contract.width != Width::Float;
        (weights && whole && rows.is_multiple_of(contract.n)).then_some(pack)
    }

    /// The weights of a convolution, if they are the model's.
    pub fn of_conv(conv: &Conv) -> Option<Self> {
        let pack = Self {
            offset: conv.weight_q.offset,
            matrices: conv.groups,
            n: conv.cout,
            k: conv.weight_q.len / (conv.groups * conv.cout),
            narrow: conv.width != Width::Bits24,
        };
        (conv.weight_q.space == Space::Weights && conv.width != Width::Float).then_some(pack)
    }

    /// Vectors of all columns at one `k`, or at two of narrow ones.
    pub const fn fours(&self) -> u32 {
        self.n.div_ceil(FOUR)
    }

    /// Vectors of a matrix.
    pub const fn matrix(&self) -> u32 {
        self.fours() * self.k.next_multiple_of(DEPTH_STEP) / self.elements()
    }

    /// Elements of a row in a word.
    const fn elements(&self) -> u32 {
        if self.narrow { 2 } else { 1 }
    }

    /// Words of all matrices.
    pub const fn words(&self) -> u64 {
        self.matrices as u64 * self.matrix() as u64 * FOUR as u64
    }

    /// The matrices among `weights`, packed.
    pub fn packed(&self, weights: &[u32]) -> Vec<u32> {
        let [n, k] = [self.n as usize, self.k as usize];
        let width = (FOUR * self.fours()) as usize;
        let matrix = (FOUR * self.matrix()) as usize;
        let mut out = vec![0; self.words() as usize];
        let rows = &weights[self.offset as usize..][..self.matrices as usize * n * k];
        for (out, rows) in out.chunks_exact_mut(matrix).zip(rows.chunks_exact(n * k)) {
            for (column, row) in rows.chunks_exact(k).enumerate() {
                for (at, &word) in row.iter().enumerate() {
                    if self.narrow {
                        out[at / 2 * width + column] |= (word & 0xffff) << (at % 2 * 16);
                    } else {
                        out[at * width + column] = word;
                    }
                }
            }
        }
        out
    }
}

/// Words that a plan's weights take when they are packed.
pub(crate) fn packed_words(plan: &Plan) -> u64 {
    let packs: BTreeSet<Pack> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Contract(step) => Pack::of_contract(step),
            Step::Conv(step) => Pack::of_conv(step),
            _ => None,
        })
        .collect();
    packs.iter().map(Pack::words).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_side_by_side_and_edges_are_zero() {
        let pack = Pack {
            offset: 3,
            matrices: 2,
            n: 5,
            k: 3,
            narrow: false,
        };
        let weights: Vec<u32> = (0..3 + 2 * 5 * 3).collect();
        let packed = pack.packed(&weights);
        assert_eq!(packed.len() as u64, pack.words());
        for matrix in 0..2 {
            for k in 0..16 {
                for column in 0..8 {
                    let found = packed[(matrix * 16 + k) * 8 + column];
                    let expect = match (k, column) {
                        (0..3, 0..5) => 3 + (matrix * 5 + column) * 3 + k,
                        _ => 0,
                    };
                    assert_eq!(found as usize, expect, "{matrix}, {k}, {column}");
                }
            }
        }
    }

    #[test]
    fn two_narrow_values_of_a_row_share_a_word() {
        let pack = Pack {
            offset: 1,
            matrices: 1,
            n: 2,
            k: 3,
            narrow: true,
        };
        let weights = [9, -1, 2, -32_767, 4, 32_767, 6].map(|q: i32| q as u32);
        let packed = pack.packed(&weights);
        assert_eq!(packed.len() as u64, pack.words());
        assert_eq!(
            packed[..8],
            [0x0002_ffff, 0x7fff_0004, 0, 0, 0x8001, 6, 0, 0]
        );
        assert!(packed[8..].iter().all(|&word| word == 0));
    }
}
