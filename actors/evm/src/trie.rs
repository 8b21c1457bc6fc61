//! Ethereum's Merkle-Patricia trie in memory: persistent, incremental, over hashed keys of 32 bytes.
//!
//! Nodes are shared between clones and copied along the path of a change alone. Each remembers its reference (its RLP, or
//! the hash of it), so a root costs the hashes of what changed since the last one, whichever clone asked first.

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieMask};
use std::sync::{Arc, OnceLock};

/// A trie from hashed keys to values. A clone shares all nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trie {
    root: Option<Arc<Node>>,
}

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    reference: OnceLock<RlpNode>,
}

type Children = [Option<Arc<Node>>; 16];

#[derive(Clone, Debug)]
enum Kind {
    Leaf(Nibbles, Box<[u8]>),
    Extension(Nibbles, Arc<Node>),
    Branch(Box<Children>),
}

impl Trie {
    /// Sets the value of a key. An empty value can't stand in a trie: use [`Trie::remove`].
    pub(crate) fn insert(&mut self, key: B256, value: &[u8]) {
        debug_assert!(!value.is_empty(), "an empty value is an absence");
        let path = Nibbles::unpack(key);
        match &mut self.root {
            Some(root) => insert(root, path, value),
            None => self.root = Some(leaf(path, value.into())),
        }
    }

    /// Removes a key, if it is there.
    pub(crate) fn remove(&mut self, key: B256) {
        let path = Nibbles::unpack(key);
        // An absent key must not cost a copied path.
        if self.root.as_ref().is_some_and(|root| has(root, path)) {
            self.root = self.root.take().and_then(|root| remove(root, path));
        }
    }

    /// The nodes from the root to where `key` is or would be, as RLP: those that stand inside their parent are left out, as
    /// they come with it.
    pub(crate) fn proof(&self, key: B256) -> Vec<Bytes> {
        let mut nodes = Vec::new();
        let mut path = Nibbles::unpack(key);
        let mut next = self.root.as_ref();
        while let Some(node) = next {
            let mut rlp = Vec::with_capacity(NODE_BYTES);
            node.encode(&mut rlp);
            if nodes.is_empty() || rlp.len() >= HASHED_FROM {
                nodes.push(rlp.into());
            }
            next = match &node.kind {
                Kind::Leaf(..) => None,
                Kind::Extension(here, child) if path.starts_with(here) => {
                    path = path.slice(here.len()..);
                    Some(child)
                }
                Kind::Extension(..) => None,
                Kind::Branch(children) => {
                    let child = children[digit(&path, 0)].as_ref();
                    path = path.slice(1..);
                    child
                }
            };
        }
        nodes
    }

    /// The root hash.
    pub(crate) fn root(&self) -> B256 {
        let Some(root) = &self.root else {
            return EMPTY_ROOT_HASH;
        };
        let reference = root.reference(&mut Vec::with_capacity(NODE_BYTES));
        reference
            .as_hash()
            .unwrap_or_else(|| keccak256(&reference[..]))
    }
}

/// Bytes from which on a node's parent holds its hash, and not the node itself.
const HASHED_FROM: usize = 32;
/// Bytes of the largest node: a branch of 16 references of 33 bytes each, an empty value, and a list header of 3.
const NODE_BYTES: usize = 16 * 33 + 1 + 3;

impl Node {
    fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            kind,
            reference: OnceLock::new(),
        })
    }

    fn reference(&self, buffer: &mut Vec<u8>) -> RlpNode {
        if let Some(reference) = self.reference.get() {
            return reference.clone();
        }
        let reference = self.encode(buffer);
        self.reference.get_or_init(|| reference).clone()
    }

    /// Writes the node's RLP to `buffer`, and gives its reference.
    fn encode(&self, buffer: &mut Vec<u8>) -> RlpNode {
        match &self.kind {
            Kind::Leaf(path, value) => {
                buffer.clear();
                LeafNodeRef::new(path, value).rlp(buffer)
            }
            Kind::Extension(path, child) => {
                let child = child.reference(buffer);
                buffer.clear();
                ExtensionNodeRef::new(path, &child).rlp(buffer)
            }
            Kind::Branch(children) => {
                let mut stack: [RlpNode; 16] = Default::default();
                let (mut count, mut mask) = (0, 0u16);
                for (index, child) in children.iter().enumerate() {
                    if let Some(child) = child {
                        stack[count] = child.reference(buffer);
                        count += 1;
                        mask |= 1 << index;
                    }
                }
                buffer.clear();
                BranchNodeRef::new(&stack[..count], TrieMask::new(mask)).rlp(buffer)
            }
        }
    }
}

fn leaf(path: Nibbles, value: Box<[u8]>) -> Arc<Node> {
    Node::new(Kind::Leaf(path, value))
}

fn digit(path: &Nibbles, index: usize) -> usize {
    usize::from(path.get_unchecked(index))
}

/// A branch of two, behind the part of the path that they have in common.
fn fork(common: Nibbles, one: (usize, Arc<Node>), other: (usize, Arc<Node>)) -> Kind {
    let mut children = Children::default();
    children[one.0] = Some(one.1);
    children[other.0] = Some(other.1);
    let branch = Kind::Branch(Box::new(children));
    if common.is_empty() {
        branch
    } else {
        Kind::Extension(common, Node::new(branch))
    }
}

fn insert(slot: &mut Arc<Node>, path: Nibbles, value: &[u8]) {
    let node = Arc::make_mut(slot);
    node.reference.take();
    match &mut node.kind {
        Kind::Leaf(here, old) if *here == path => *old = value.into(),
        Kind::Leaf(here, old) => {
            let at = here.common_prefix_length(&path);
            let kept = leaf(here.slice(at + 1..), std::mem::take(old));
            let new = leaf(path.slice(at + 1..), value.into());
            node.kind = fork(
                path.slice(..at),
                (digit(here, at), kept),
                (digit(&path, at), new),
            );
        }
        Kind::Extension(here, child) => {
            let at = here.common_prefix_length(&path);
            if at == here.len() {
                return insert(child, path.slice(at..), value);
            }
            let below = if at + 1 == here.len() {
                Arc::clone(child)
            } else {
                Node::new(Kind::Extension(here.slice(at + 1..), Arc::clone(child)))
            };
            let new = leaf(path.slice(at + 1..), value.into());
            node.kind = fork(
                path.slice(..at),
                (digit(here, at), below),
                (digit(&path, at), new),
            );
        }
        Kind::Branch(children) => {
            let rest = path.slice(1..);
            match &mut children[digit(&path, 0)] {
                Some(child) => insert(child, rest, value),
                none => *none = Some(leaf(rest, value.into())),
            }
        }
    }
}

fn has(node: &Node, path: Nibbles) -> bool {
    match &node.kind {
        Kind::Leaf(here, _) => *here == path,
        Kind::Extension(here, child) => {
            path.starts_with(here) && has(child, path.slice(here.len()..))
        }
        Kind::Branch(children) => children[digit(&path, 0)]
            .as_ref()
            .is_some_and(|child| has(child, path.slice(1..))),
    }
}

/// Removes a path that is there. `None` where nothing is left.
fn remove(node: Arc<Node>, path: Nibbles) -> Option<Arc<Node>> {
    match Arc::unwrap_or_clone(node).kind {
        Kind::Leaf(..) => None,
        Kind::Extension(here, child) => {
            remove(child, path.slice(here.len()..)).map(|child| prepend(here, child))
        }
        Kind::Branch(mut children) => {
            let index = digit(&path, 0);
            children[index] = children[index]
                .take()
                .and_then(|child| remove(child, path.slice(1..)));
            let mut left = (0..16).filter(|&i| children[i].is_some());
            let (first, more) = (left.next()?, left.next().is_some());
            if more {
                return Some(Node::new(Kind::Branch(children)));
            }
            // A branch of one is not canonical: its child takes its place, with the digit before its path.
            let only = children[first].take()?;
            Some(prepend(Nibbles::from_nibbles([first as u8]), only))
        }
    }
}

fn prepend(before: Nibbles, node: Arc<Node>) -> Arc<Node> {
    let mut node = Arc::unwrap_or_clone(node);
    match &mut node.kind {
        Kind::Leaf(here, _) | Kind::Extension(here, _) => {
            *here = before.join(here);
            node.reference.take();
            Arc::new(node)
        }
        Kind::Branch(_) => Node::new(Kind::Extension(before, Arc::new(node))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_trie::HashBuilder;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn reference(entries: &BTreeMap<B256, Vec<u8>>) -> B256 {
        let mut builder = HashBuilder::default();
        for (key, value) in entries {
            builder.add_leaf(Nibbles::unpack(key), value);
        }
        builder.root()
    }

    /// Few keys with long common prefixes, and values from one byte on: extensions, splits, collapses and nodes that
    /// are shorter than a hash all happen.
    fn crowded(number: u8) -> B256 {
        let mut key = [0; 32];
        (key[0], key[15], key[31]) = (number & 3, number >> 2 & 1, number);
        B256::from(key)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn the_root_is_that_of_the_reference_after_each_change(
            changes in proptest::collection::vec((0u8..40, 0u8..4, 1usize..70), 1..100),
        ) {
            let (mut trie, mut entries) = (Trie::default(), BTreeMap::new());
            for (number, kind, length) in changes {
                let key = crowded(number);
                if kind == 0 {
                    trie.remove(key);
                    entries.remove(&key);
                } else {
                    let value = vec![kind; length];
                    trie.insert(key, &value);
                    entries.insert(key, value);
                }
                prop_assert_eq!(trie.root(), reference(&entries));
            }
        }

        #[test]
        fn a_clone_keeps_its_root_whatever_happens_to_the_other(
            before in proptest::collection::btree_map(0u8..40, 1u8..9, 0..30),
            after in proptest::collection::vec((0u8..40, 0u8..9), 1..30),
        ) {
            let mut trie = Trie::default();
            let mut entries = BTreeMap::new();
            for (number, value) in before {
                trie.insert(crowded(number), &[value]);
                entries.insert(crowded(number), vec![value]);
            }
            let kept = trie.clone();
            for (number, value) in after {
                match value {
                    0 => trie.remove(crowded(number)),
                    value => trie.insert(crowded(number), &[value]),
                }
                trie.root();
            }
            prop_assert_eq!(kept.root(), reference(&entries));
        }
    }

    #[test]
    fn an_empty_trie_has_the_empty_root() {
        let mut trie = Trie::default();
        assert_eq!(trie.root(), EMPTY_ROOT_HASH);
        trie.remove(B256::ZERO);
        trie.insert(B256::ZERO, &[1]);
        trie.remove(B256::ZERO);
        assert_eq!(trie.root(), EMPTY_ROOT_HASH);
    }
}
