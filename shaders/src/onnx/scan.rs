//! A walk over the wire format that counts before anything is decoded.
//!
//! Two bytes on the wire can become some hundred in memory (an empty node). So messages, strings and nesting are counted
//! first, with nothing allocated; what passes is at most a small multiple of the file in memory.

use super::limit;
use crate::error::LoadError;
use crate::limits::Limits;

/// Messages of one kind that matter here, and the fields of each that hold messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    /// Any other: its content is not walked, only counted by bytes (its parts cost at most as much as a string).
    Other,
}

/// Messages in a file, per node of the limit: a node has some attributes, value infos and an initialiser.
const MESSAGES_PER_NODE: usize = 16;

/// Strings in a file, per node of the limit. Tree ensembles have a mode string per tree node.
const STRINGS_PER_NODE: usize = 128;

/// Of what kind the message in field `field` of a `kind` is; `None` where it is a string, bytes or packed numbers.
const fn child(kind: Kind, field: u64) -> Option<Kind> {
    Some(match (kind, field) {
        (Kind::Model, 7) | (Kind::Attribute, 6 | 11) => Kind::Graph,
        (Kind::Graph, 1) => Kind::Node,
        (Kind::Node, 5) => Kind::Attribute,
        (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) => Kind::Tensor,
        (Kind::Model, 8 | 14 | 20 | 25)
        | (Kind::Graph, 11..=16)
        | (Kind::Node, 9)
        | (Kind::Attribute, 14 | 15 | 22 | 23)
        | (Kind::Tensor, 3 | 13 | 16) => Kind::Other,
        _ => return None,
    })
}

struct Scan<'a> {
    limits: &'a Limits,
    nodes: usize,
    tensors: usize,
    messages: usize,
    strings: usize,
}

/// Counts what `file` holds.
///
/// # Errors
/// Where the wire format is broken, or a limit is passed.
pub(super) fn scan(file: &[u8], limits: &Limits) -> Result<(), LoadError> {
    let mut scan = Scan {
        limits,
        nodes: 0,
        tensors: 0,
        messages: 0,
        strings: 0,
    };
    scan.message(file, Kind::Model, 0)
}

impl Scan<'_> {
    fn message(&mut self, mut bytes: &[u8], kind: Kind, depth: usize) -> Result<(), LoadError> {
        self.count(kind, depth)?;
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            match tag & 7 {
                0 => {
                    varint(&mut bytes)?;
                }
                1 => {
                    take(&mut bytes, 8)?;
                }
                2 => {
                    let length = varint(&mut bytes)?;
                    let length = usize::try_from(length).map_err(|_| broken())?;
                    let content = take(&mut bytes, length)?;
                    match child(kind, tag >> 3) {
                        Some(Kind::Other) => {
                            // Two bytes make the smallest part of a message, a string the dearest part.
                            self.strings += length / 2;
                            self.count(Kind::Other, depth)?;
                        }
                        Some(inner) => {
                            let deeper = usize::from(inner == Kind::Graph);
                            self.message(content, inner, depth + deeper)?;
                        }
                        None => self.strings += 1,
                    }
                }
                5 => {
                    take(&mut bytes, 4)?;
                }
                _ => return Err(broken()),
            }
        }
        Ok(())
    }

    fn count(&mut self, kind: Kind, depth: usize) -> Result<(), LoadError> {
        let limits = self.limits;
        self.messages += 1;
        match kind {
            Kind::Node => self.nodes += 1,
            Kind::Tensor => self.tensors += 1,
            _ => {}
        }
        // The graph itself is depth 1.
        let checks = [
            (
                "depth of subgraphs",
                depth.saturating_sub(1),
                limits.depth_max,
            ),
            ("nodes", self.nodes, limits.nodes_max),
            ("constant tensors", self.tensors, limits.tensors_max),
            (
                "messages of the file",
                self.messages,
                limits.nodes_max.saturating_mul(MESSAGES_PER_NODE),
            ),
            (
                "strings of the file",
                self.strings,
                limits.nodes_max.saturating_mul(STRINGS_PER_NODE),
            ),
        ];
        for (what, found, most) in checks {
            if found > most {
                return Err(limit(what, found, most));
            }
        }
        Ok(())
    }
}

fn broken() -> LoadError {
    LoadError::Malformed("the wire format is broken".into())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], LoadError> {
    let (head, tail) = bytes.split_at_checked(count).ok_or_else(broken)?;
    *bytes = tail;
    Ok(head)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, LoadError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(content);
        out
    }

    #[test]
    fn a_file_of_empty_nodes_is_refused_before_it_is_decoded() {
        let nodes: Vec<u8> = (0..30_000).flat_map(|_| field(1, &[])).collect();
        let file = field(7, &nodes);
        assert!(matches!(
            scan(&file, &Limits::default()),
            Err(LoadError::Limit { what: "nodes", .. })
        ));
    }

    #[test]
    fn graphs_in_graphs_are_refused_beyond_the_depth() {
        let mut graph = Vec::new();
        for _ in 0..4 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        assert_eq!(scan(&field(7, &graph), &Limits::default()), Ok(()));
        for _ in 0..1_000 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        assert!(matches!(
            scan(&field(7, &graph), &Limits::default()),
            Err(LoadError::Limit {
                what: "depth of subgraphs",
                ..
            })
        ));
    }

    #[test]
    fn broken_wire_formats_are_errors() {
        for bytes in [&[0x3a, 5, 1][..], &[0xff; 12], &[0x0b], &[0x0d, 1], &[0x09]] {
            assert!(matches!(
                scan(bytes, &Limits::default()),
                Err(LoadError::Malformed(_))
            ));
        }
    }
}
