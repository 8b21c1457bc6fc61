//! Tree ensembles.

use super::Buffer;

/// Tree ensembles: for each row of features, each tree is walked to a leaf, and leaves' weights are folded per target in
/// the order of the trees (a sum begins with +0 and adds in `F32`).
///
/// A node is [`TREE_NODE_WORDS`] words: `feature | mode << 24`, threshold (`F32` bits), and the numbers of the nodes taken
/// when the comparison is true and false. Mode bits 0 to 2 are a [`TreeMode`]; bit 3 says that a NaN feature counts as true. A leaf has
/// mode [`TREE_LEAF`]; its two last words are the first and the number of its weights.
/// A weight is two words: target, and weight (`F32` bits).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trees {
    /// Rows.
    pub rows: u32,
    /// Features per row.
    pub features: u32,
    /// Outputs per row.
    pub targets: u32,
    /// Trees.
    pub trees: u32,
    /// Comparisons on the longest way from a root to a leaf.
    pub depth: u32,
    /// Fold over trees.
    pub fold: TreeFold,
    /// `F32` over rows, features.
    pub input: Buffer,
    /// `U32`: root node of each tree.
    pub roots: Buffer,
    /// `U32`: nodes.
    pub nodes: Buffer,
    /// `U32`: weights.
    pub weights: Buffer,
    /// `F32` over rows, targets.
    pub out: Buffer,
}

/// Words of a tree's node.
pub const TREE_NODE_WORDS: u32 = 4;

/// Mode of a leaf. Its place in a node's first word is bits 24 to 31.
pub const TREE_LEAF: u32 = 0xff;

/// How a tree's node compares `feature` with `threshold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TreeMode {
    /// `feature <= threshold`
    LessEqual = 0,
    /// `feature < threshold`
    Less = 1,
    /// `feature >= threshold`
    GreaterEqual = 2,
    /// `feature > threshold`
    Greater = 3,
    /// `feature == threshold`
    Equal = 4,
    /// `feature != threshold`
    NotEqual = 5,
}

/// How trees' leaves become one value per target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TreeFold {
    /// Sum.
    Sum = 0,
    /// Smallest; +0 for a target that no leaf names.
    Min = 1,
    /// Largest; +0 for a target that no leaf names.
    Max = 2,
}
