//! The model of execution: accounts with nonces, a few contracts that ask models, and blocks of their transactions.
//!
//! It stands in for `penstock-evm` with the same contract: a run on a state ends, or stops at the first request whose
//! answer is unknown; discovery goes on behind it in two worlds; a block carries the witness of what its execution
//! consumed, and is verified from that alone.

use super::Mutant;
use super::attest;
use alloy_primitives::{Address, B256, Bytes, Keccak256, keccak256};
use penstock_rules::block::WitnessEntry;
use penstock_rules::extractor::Finding;
use penstock_rules::ids::{Height, Igas, Micros, ModelHash, RequestKey, Seq, TxHash};
use penstock_rules::message::GangRequest;
use penstock_rules::request::{Mode, ModelError, Outcome, Quorum, Request, Settled};
use penstock_rules::tx::{PoolTx, ReadyTx, Reason};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Models that contracts ask.
pub(super) const MODELS: u8 = 3;
/// Storage cells that contracts share.
pub(super) const CELLS: u8 = 4;
/// Different requests of one transaction at most, as discovery has it.
const REQUESTS_MAX: usize = 64;
/// Transactions of one block: few, so that blocks are full now and then.
const BLOCK_TXS_MAX: usize = 24;

/// What a contract does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// Asks nothing, and changes a cell.
    Plain { cell: u8 },
    /// Asks several times; no input depends on an answer.
    Independent { count: u8, salt: u8 },
    /// Asks several times; each input is made of the answer before.
    Chained { count: u8, salt: u8 },
    /// Its input depends on a cell, which it changes by the answer.
    OfState { cell: u8, count: u8 },
    /// Asks without an end.
    Endless { salt: u8 },
}

/// A call of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) program: Program,
    pub(super) model: u8,
    pub(super) mode: Mode,
}

impl Call {
    /// As a transaction's bytes.
    pub(super) fn encode(self) -> Bytes {
        let [kind, a, b] = match self.program {
            Program::Plain { cell } => [0, cell, 0],
            Program::Independent { count, salt } => [1, count, salt],
            Program::Chained { count, salt } => [2, count, salt],
            Program::OfState { cell, count } => [3, cell, count],
            Program::Endless { salt } => [4, 0, salt],
        };
        vec![kind, a, b, self.model, self.mode as u8].into()
    }

    /// Of a transaction's bytes; bytes that are no call do nothing.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
        let program = match (at(0), at(1), at(2)) {
            (1, count, salt) => Program::Independent { count, salt },
            (2, count, salt) => Program::Chained { count, salt },
            (3, cell, count) => Program::OfState { cell, count },
            (4, _, salt) => Program::Endless { salt },
            (_, cell, _) => Program::Plain { cell },
        };
        Self {
            program,
            model: at(3),
            mode: Mode::from_u8(at(4)).unwrap_or(Mode::Vanilla),
        }
    }
}

/// Content hash of a model.
pub(super) fn model_hash(model: u8) -> ModelHash {
    ModelHash(B256::repeat_byte(model + 1))
}

/// What a model costs: 1, 6 or 11 ms.
fn igas(model: u8) -> Igas {
    Igas(1_000 + 5_000 * u64::from(model))
}

/// What every honest shard answers.
pub(super) fn infer(model: ModelHash, input: &[u8]) -> Outcome {
    let mut hasher = Keccak256::new();
    hasher.update(model.0);
    hasher.update(input);
    let digest = hasher.finalize();
    // Some inputs have no result: that is an answer too.
    if digest[31].is_multiple_of(16) {
        return Outcome::Failed(ModelError::Domain);
    }
    Outcome::Output(Bytes::copy_from_slice(&digest[..8]))
}

/// What the chain knows after a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    nonces: BTreeMap<Address, u64>,
    cells: BTreeMap<u8, u64>,
}

impl State {
    pub(super) fn nonce(&self, sender: Address) -> u64 {
        self.nonces.get(&sender).copied().unwrap_or(0)
    }

    fn root(&self) -> B256 {
        let mut hasher = Keccak256::new();
        for (sender, nonce) in &self.nonces {
            hasher.update(sender);
            hasher.update(nonce.to_be_bytes());
        }
        for (cell, value) in &self.cells {
            hasher.update([*cell]);
            hasher.update(value.to_be_bytes());
        }
        hasher.finalize()
    }
}

/// A block of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) height: Height,
    pub(super) parent: B256,
    pub(super) timestamp_secs: u64,
    pub(super) txs: Vec<PoolTx>,
    pub(super) witness: Vec<WitnessEntry>,
    pub(super) state_root: B256,
    pub(super) hash: B256,
}

impl Block {
    fn sealed(mut self) -> Self {
        self.hash = self.digest();
        self
    }

    pub(super) fn digest(&self) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update(self.height.0.to_be_bytes());
        hasher.update(self.parent);
        hasher.update(self.timestamp_secs.to_be_bytes());
        for tx in &self.txs {
            hasher.update(tx.hash);
        }
        for entry in &self.witness {
            hasher.update(entry.key.0);
            hasher.update(entry.outcome.hash());
            for attestation in &entry.attestations {
                hasher.update(attestation.shard.0);
                hasher.update(&attestation.signature);
            }
        }
        hasher.update(self.state_root);
        hasher.finalize()
    }
}

/// A head, as a process knows it.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) height: Height,
    pub(super) hash: B256,
    pub(super) timestamp_secs: u64,
    pub(super) seq: Seq,
    pub(super) state: State,
    /// The block; none at genesis.
    pub(super) block: Option<Arc<Block>>,
}

impl Head {
    pub(super) fn genesis() -> Self {
        Self {
            height: Height(0),
            hash: keccak256(b"penstock/sim/genesis"),
            timestamp_secs: 0,
            seq: Seq(0),
            state: State::default(),
            block: None,
        }
    }

    pub(super) fn included(&self) -> Vec<TxHash> {
        let block = self.block.iter();
        block.flat_map(|b| &b.txs).map(|tx| tx.hash).collect()
    }
}

/// Settled answers that a process knows.
pub(super) type Book = BTreeMap<RequestKey, Arc<Settled>>;

/// Why a run stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Missing(RequestKey),
    FeeBelowMarket,
    Nonce,
    TooMany,
}

struct Done {
    state: State,
    used: Vec<GangRequest>,
    igas: Igas,
}

/// A block that was built, and what became of the candidates.
#[derive(Clone, Debug)]
pub(super) struct Built {
    pub(super) block: Block,
    pub(super) included: Vec<TxHash>,
    pub(super) withheld: Vec<(TxHash, Reason)>,
}

enum Base {
    Certain(State),
    Worlds([State; 2]),
    Blocked,
}

/// The rules of execution, whole or with a part left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evm {
    pub(super) mutant: Option<Mutant>,
    pub(super) quorum: Quorum,
    /// Whether the base fee moves: not where blocks come only as transactions do.
    pub(super) moving_fee: bool,
}

impl Evm {
    /// Wei per gas of the block after `height`: it goes up and down in steps.
    pub(super) fn base_fee(&self, height: Height) -> u128 {
        if self.moving_fee {
            10 + 5 * u128::from(height.0 / 3 % 4)
        } else {
            10
        }
    }

    fn key(&self, request: &Request) -> RequestKey {
        if self.mutant == Some(Mutant::ModeNotInKey) {
            let mode = Mode::Vanilla;
            let model = request.model;
            let input = request.input.clone();
            return Request { model, mode, input }.key();
        }
        request.key()
    }

    fn run(
        &self,
        state: &State,
        base_fee: u128,
        tx: &PoolTx,
        mut look: impl FnMut(&GangRequest) -> Option<Outcome>,
    ) -> Result<Done, Stop> {
        if state.nonce(tx.sender) != tx.nonce {
            return Err(Stop::Nonce);
        }
        if tx.max_fee_per_gas < base_fee {
            return Err(Stop::FeeBelowMarket);
        }
        let call = Call::decode(&tx.raw);
        let mut used: Vec<GangRequest> = Vec::new();
        let mut paid = Igas(0);
        let mut ask = |input: Vec<u8>| -> Result<Outcome, Stop> {
            let request = Request {
                model: model_hash(call.model),
                mode: call.mode,
                input: input.into(),
            };
            let request = GangRequest {
                key: self.key(&request),
                model: request.model,
                mode: request.mode,
                input: request.input,
                igas: igas(call.model),
                certain: false,
            };
            paid = paid.saturating_add(request.igas);
            let outcome = look(&request).ok_or(Stop::Missing(request.key))?;
            if used.iter().all(|u| u.key != request.key) {
                if used.len() == REQUESTS_MAX {
                    return Err(Stop::TooMany);
                }
                used.push(request);
            }
            Ok(outcome)
        };
        let mut next = state.clone();
        let cell = |cell: u8| state.cells.get(&cell).copied().unwrap_or(0);
        // A failed outcome reverts: what was written goes, what was asked stays witnessed.
        let mut written = None;
        match call.program {
            Program::Plain { cell: at } => written = Some((at, cell(at).wrapping_add(1))),
            Program::Independent { count, salt } => {
                for i in 0..count {
                    ask(vec![1, salt, i])?;
                }
            }
            Program::Chained { count, salt } => {
                let mut input = vec![2, salt];
                for _ in 0..count {
                    match ask(input)? {
                        Outcome::Output(bytes) => input = bytes.to_vec(),
                        Outcome::Failed(_) => break,
                    }
                }
            }
            Program::OfState { cell: at, count } => {
                let mut sum = cell(at);
                let mut whole = true;
                for i in 0..count {
                    // Few values, so that inputs come back.
                    match ask(vec![3, at, i, (cell(at) % 8) as u8])? {
                        Outcome::Output(bytes) => sum = sum.wrapping_add(u64::from(bytes[0])),
                        Outcome::Failed(_) => whole = false,
                    }
                }
                written = whole.then_some((at, sum));
            }
            Program::Endless { salt } => {
                let mut input = vec![4, salt];
                // Never the same again, so that it has no end but the limit of requests.
                for step in 0..=u8::MAX {
                    input = match ask(input)? {
                        Outcome::Output(bytes) => bytes.to_vec(),
                        Outcome::Failed(error) => vec![salt, error as u8],
                    };
                    input.extend([4, step]);
                }
            }
        }
        if let Some((cell, value)) = written {
            next.cells.insert(cell, value);
        }
        next.nonces.insert(tx.sender, tx.nonce + 1);
        Ok(Done {
            state: next,
            used,
            igas: paid,
        })
    }

    /// One finding per transaction of a lane, as `penstock_evm::discover_lane` has it.
    pub(super) fn discover_lane(&self, head: &Head, txs: &[PoolTx], book: &Book) -> Vec<Finding> {
        let base_fee = self.base_fee(head.height);
        let mut base = Base::Certain(head.state.clone());
        let simulate = |world: u8, state: &State, tx: &PoolTx| {
            let mut unknown: Vec<GangRequest> = Vec::new();
            let done = self.run(state, base_fee, tx, |request| {
                if let Some(settled) = book.get(&request.key) {
                    return Some(settled.outcome.clone());
                }
                if unknown.iter().all(|u| u.key != request.key) {
                    unknown.push(request.clone());
                }
                let placeholder = keccak256([&[world][..], &request.key.0[..]].concat());
                Some(Outcome::Output(Bytes::copy_from_slice(&placeholder[..8])))
            });
            (done, unknown)
        };
        let mut findings = Vec::new();
        for tx in txs {
            let finding = match std::mem::replace(&mut base, Base::Blocked) {
                Base::Blocked => Finding::Behind,
                Base::Certain(state) => {
                    let (first, mut unknown) = simulate(0, &state, tx);
                    if let Some(certain) = unknown.first_mut() {
                        certain.certain = true;
                        let (second, others) = simulate(1, &state, tx);
                        if let (Ok(first), Ok(second)) = (first, second) {
                            base = Base::Worlds([first.state, second.state]);
                        }
                        waits(common(unknown, &others))
                    } else {
                        match first {
                            Ok(done) => {
                                base = Base::Certain(done.state);
                                Finding::Ready {
                                    keys: done.used.iter().map(|r| r.key).collect(),
                                    igas: done.igas,
                                    gas_used: 21_000 + done.igas.0,
                                }
                            }
                            Err(Stop::FeeBelowMarket) => Finding::FeeBelowMarket,
                            Err(Stop::TooMany | Stop::Missing(_)) => Finding::TooMany,
                            Err(Stop::Nonce) => Finding::Invalid,
                        }
                    }
                }
                Base::Worlds([one, two]) => {
                    let (first, unknown) = simulate(0, &one, tx);
                    let (second, others) = simulate(1, &two, tx);
                    if let (Ok(first), Ok(second)) = (first, second) {
                        base = Base::Worlds([first.state, second.state]);
                    }
                    let requests = common(unknown, &others);
                    if requests.is_empty() {
                        Finding::Behind
                    } else {
                        waits(requests)
                    }
                }
            };
            findings.push(finding);
        }
        findings
    }

    /// Executes candidates in order and seals, as the producer's shell does.
    pub(super) fn build(
        &self,
        head: &Head,
        timestamp_secs: u64,
        candidates: &[Arc<ReadyTx>],
        book: &Book,
    ) -> Built {
        let base_fee = self.base_fee(head.height);
        let mut state = head.state.clone();
        let (mut included, mut withheld) = (Vec::new(), Vec::new());
        let (mut txs, mut witness): (Vec<PoolTx>, Vec<WitnessEntry>) = (Vec::new(), Vec::new());
        let mut blocked = BTreeSet::new();
        for candidate in candidates {
            let tx = &candidate.tx;
            if blocked.contains(&tx.sender) {
                withheld.push((tx.hash, Reason::NonceDependency));
                continue;
            }
            if txs.len() == BLOCK_TXS_MAX {
                blocked.insert(tx.sender);
                withheld.push((tx.hash, Reason::BlockFull));
                continue;
            }
            let mut consumed: Vec<Arc<Settled>> = Vec::new();
            let run = self.run(&state, base_fee, tx, |request| {
                let stale = || {
                    let stale = self.mutant == Some(Mutant::StaleInputTaken);
                    let mut known = candidate.keys.iter().filter(|_| stale);
                    known.find_map(|key| book.get(key))
                };
                let settled = book.get(&request.key).or_else(stale)?;
                consumed.push(Arc::clone(settled));
                Some(settled.outcome.clone())
            });
            let reason = match run {
                Ok(done) => {
                    state = done.state;
                    for settled in consumed {
                        if witness.iter().all(|entry| entry.key != settled.key) {
                            witness.push(WitnessEntry {
                                key: settled.key,
                                outcome: settled.outcome.clone(),
                                attestations: settled.attestations.clone(),
                            });
                        }
                    }
                    included.push(tx.hash);
                    txs.push(tx.clone());
                    continue;
                }
                Err(Stop::Missing(_) | Stop::TooMany) => Reason::StaleInput,
                Err(Stop::FeeBelowMarket) => Reason::FeeBelowMarket,
                Err(Stop::Nonce) => Reason::NonceDependency,
            };
            blocked.insert(tx.sender);
            withheld.push((tx.hash, reason));
        }
        let block = Block {
            height: head.height.next(),
            parent: head.hash,
            timestamp_secs,
            txs,
            witness,
            state_root: state.root(),
            hash: B256::ZERO,
        };
        Built {
            block: block.sealed(),
            included,
            withheld,
        }
    }

    /// Executes a block again from its witness alone: the state after it, or why it is not valid.
    pub(super) fn verify(&self, head: &Head, block: &Block) -> Result<State, String> {
        if block.parent != head.hash || block.height != head.height.next() {
            return Err("it stands on another block".into());
        }
        if block.hash != block.digest() {
            return Err("its hash is another".into());
        }
        let witness: BTreeMap<RequestKey, &WitnessEntry> =
            block.witness.iter().map(|e| (e.key, e)).collect();
        let base_fee = self.base_fee(head.height);
        let mut state = head.state.clone();
        let mut asked: Vec<(RequestKey, u8)> = Vec::new();
        for tx in &block.txs {
            let done = self
                .run(&state, base_fee, tx, |request| {
                    witness.get(&request.key).map(|e| e.outcome.clone())
                })
                .map_err(|stop| format!("{} does not run: {stop:?}", tx.hash))?;
            state = done.state;
            for request in done.used {
                let quorum = self.quorum.of(request.mode);
                match asked.iter_mut().find(|(key, _)| *key == request.key) {
                    Some((_, most)) => *most = quorum.max(*most),
                    None => asked.push((request.key, quorum)),
                }
            }
        }
        if self.mutant != Some(Mutant::WitnessUnchecked) {
            let keys: Vec<_> = block.witness.iter().map(|e| e.key).collect();
            let used: Vec<_> = asked.iter().map(|(key, _)| *key).collect();
            if keys != used {
                return Err("its witness has other requests than its execution".into());
            }
            for (entry, (_, quorum)) in block.witness.iter().zip(&asked) {
                attest::check(entry, usize::from(*quorum))?;
            }
        }
        if state.root() != block.state_root {
            return Err("its state root is another".into());
        }
        Ok(state)
    }
}

/// A block that nobody may take: the block with an outcome of its witness changed, its effects executed as if it were
/// true, and sealed again. `None` where nothing was asked.
pub(super) fn forged(evm: &Evm, head: &Head, block: &Block) -> Option<Block> {
    let mut forged = block.clone();
    let entry = forged.witness.first_mut()?;
    entry.outcome = Outcome::Output(Bytes::from_static(b"forged!!"));
    // The state root of a careful forger fits, where the execution asks nothing else for it.
    let unchecked = Evm {
        mutant: Some(Mutant::WitnessUnchecked),
        ..*evm
    };
    let witness: BTreeMap<_, _> = forged
        .witness
        .iter()
        .map(|e| (e.key, e.outcome.clone()))
        .collect();
    let mut state = head.state.clone();
    for tx in &forged.txs {
        let look = |request: &GangRequest| witness.get(&request.key).cloned();
        let done = unchecked.run(&state, evm.base_fee(head.height), tx, look);
        state = done.ok()?.state;
    }
    forged.state_root = state.root();
    Some(forged.sealed())
}

/// Requests of one world that the other asks for too.
fn common(mut requests: Vec<GangRequest>, others: &[GangRequest]) -> Vec<GangRequest> {
    requests.retain(|request| others.iter().any(|other| other.key == request.key));
    requests
}

fn waits(requests: Vec<GangRequest>) -> Finding {
    let igas = requests
        .iter()
        .fold(Igas(0), |sum, request| sum.saturating_add(request.igas));
    Finding::Waits { requests, igas }
}

/// How long the engine of a shard takes for a batch, on a shard that is as fast as it should be.
pub(super) fn run_time(model: ModelHash, requests: usize) -> Micros {
    let each = igas(model.0[0].saturating_sub(1)).0;
    Micros(2_000 + each * requests as u64)
}
