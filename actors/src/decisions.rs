//! The scheduler's decision log: a file with everything that it was told and what it decided, a JSON object a line.
//!
//! ```text
//!   {"format":1,"config":{...}}
//!   {"at":µs,"event":{...},"decided":[...],"digest":"0x..."}     digest: keccak256 over all effects as JSON
//! ```
//!
//! The machine is deterministic, so the file is enough to have every decision again ([`replay`]), with a debugger or
//! with another build: the first line that comes out otherwise is named.

use alloy_primitives::{B256, keccak256};
use penstock_rules::Machine;
use penstock_rules::ids::{LeaseId, Micros, RequestKey, ShardId};
use penstock_rules::message::Deferral;
use penstock_rules::scheduler::{Config, Decision, Effect, Event, Scheduler};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Form of the file.
const FORMAT: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Start {
    format: u32,
    config: Config,
}

/// Any other line. `E` and `D`: owned where read, borrowed where written.
#[derive(Serialize, Deserialize)]
struct Line<E, D> {
    at: Micros,
    event: E,
    decided: D,
    digest: B256,
}

/// What was decided on an event, without what the event says already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// Requests go to a shard.
    Assign {
        /// As which lease.
        lease: LeaseId,
        /// To whom.
        shard: ShardId,
        /// Which.
        keys: Vec<RequestKey>,
    },
    /// A lease is taken back.
    Cancel(LeaseId),
    /// An answer has its quorum.
    Settle(RequestKey),
    /// A gang waits: why, and how many blocks.
    Defer(Deferral),
    /// A shard was caught lying.
    Quarantine(ShardId),
    /// A plan was made, or something went wrong.
    Note(Decision),
}

fn decided(effects: &[Effect]) -> Vec<Decided> {
    let one = |effect: &Effect| match effect {
        Effect::Assign(work) => Some(Decided::Assign {
            lease: work.lease,
            shard: work.shard,
            keys: work.requests.iter().map(|request| request.key).collect(),
        }),
        Effect::Cancel(cancel) => Some(Decided::Cancel(cancel.lease)),
        Effect::Settle(settled) => Some(Decided::Settle(settled.key)),
        Effect::Defer(deferral) => Some(Decided::Defer(*deferral)),
        Effect::Quarantine(evidence) => Some(Decided::Quarantine(evidence.shard)),
        Effect::Log(record) => Some(Decided::Note(record.decision.clone())),
        Effect::Prefetch(_) | Effect::Resend(_) | Effect::Congestion(_) | Effect::Fenced => None,
    };
    effects.iter().filter_map(one).collect()
}

fn digest(effects: &[Effect]) -> io::Result<B256> {
    Ok(keccak256(serde_json::to_vec(effects)?))
}

/// Writes a decision log.
#[derive(Debug)]
pub(crate) struct DecisionLog {
    file: BufWriter<File>,
    path: PathBuf,
}

impl DecisionLog {
    /// Begins a file of its own in `folder`: `<start in µs>.jsonl`.
    pub(crate) fn create(folder: &Path, start: Micros, config: &Config) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.jsonl", start.0));
        let mut log = Self {
            file: BufWriter::new(File::create_new(&path)?),
            path,
        };
        let start = Start {
            format: FORMAT,
            config: config.clone(),
        };
        log.line(&start)?;
        log.flush()?;
        Ok(log)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds what was told and what came of it.
    pub(crate) fn add(&mut self, at: Micros, event: &Event, effects: &[Effect]) -> io::Result<()> {
        self.line(&Line {
            at,
            event,
            decided: decided(effects),
            digest: digest(effects)?,
        })
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, value)?;
        self.file.write_all(b"\n")
    }

    /// Has what was added in the file: what a killed process leaves.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Why a decision log does not give its decisions again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It can't be read.
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    /// It is empty, or does not begin as a decision log.
    #[error("is no decision log: {0}")]
    Start(String),
    /// It was written in another form.
    #[error("has format {0}, this version reads {FORMAT}")]
    Format(u32),
    /// A line is malformed, and not merely the last one cut.
    #[error("line {line} is malformed: {why}")]
    Malformed {
        /// Which, from 1.
        line: u64,
        /// Why.
        why: String,
    },
    /// Other decisions than the file has.
    #[error("line {line}, {at} µs: the log has {logged:?}, the replay gives {replayed:?}")]
    Differs {
        /// Which, from 1.
        line: u64,
        /// When it was.
        at: Micros,
        /// What the file says.
        logged: Vec<Decided>,
        /// What came now.
        replayed: Vec<Decided>,
    },
}

/// What a replay saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Events.
    pub events: u64,
    /// Assignments.
    pub assigned: u64,
    /// Answers with their quorum.
    pub settled: u64,
    /// Deferrals, each with a reason.
    pub deferred: u64,
    /// Whether the last line was cut, as a kill does: it is left out.
    pub cut: bool,
}

/// Tells a new scheduler what the log says that one was told, and compares all that it decides.
///
/// # Errors
/// The first line that differs, or what is wrong with the file.
pub fn replay(log: impl BufRead) -> Result<Replayed, ReplayError> {
    let mut lines = log.split(b'\n');
    let first = lines
        .next()
        .transpose()?
        .ok_or_else(|| ReplayError::Start("it is empty".into()))?;
    let start: Start =
        serde_json::from_slice(&first).map_err(|error| ReplayError::Start(error.to_string()))?;
    if start.format != FORMAT {
        return Err(ReplayError::Format(start.format));
    }
    let mut scheduler = Scheduler::new(start.config);
    let mut seen = Replayed::default();
    let mut broken = None;
    for (line, bytes) in (2..).zip(lines) {
        let bytes = bytes?;
        if let Some(broken) = broken {
            return Err(broken);
        }
        let read = serde_json::from_slice::<Line<Event, Vec<Decided>>>(&bytes);
        let Line {
            at,
            event,
            decided: logged,
            digest: said,
        } = match read {
            Ok(read) => read,
            Err(error) => {
                let why = error.to_string();
                broken = Some(ReplayError::Malformed { line, why });
                continue;
            }
        };
        let mut effects = Vec::new();
        scheduler.apply(at, event, &mut effects);
        let replayed = decided(&effects);
        if replayed != logged || digest(&effects)? != said {
            return Err(ReplayError::Differs {
                line,
                at,
                logged,
                replayed,
            });
        }
        seen.events += 1;
        for one in &replayed {
            match one {
                Decided::Assign { .. } => seen.assigned += 1,
                Decided::Settle(_) => seen.settled += 1,
                Decided::Defer(_) => seen.deferred += 1,
                Decided::Cancel(_) | Decided::Quarantine(_) | Decided::Note(_) => {}
            }
        }
    }
    seen.cut = broken.is_some();
    Ok(seen)
}

#[cfg(test)]
mod tests;
