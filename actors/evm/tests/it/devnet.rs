//! A chain in memory, with shards that answer at once: what the tests play on.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use alloy_sol_types::{SolCall, SolConstructor, SolEvent, SolValue, sol};
use penstock_evm::{
    BlockBuilder, BlockEnv, CallOutcome, CallRequest, ChainSpec, DiscoverLimits, ExecutedBlock,
    Finding, Genesis, GenesisAccount, PushError, SigningKey, State, attest, call, discover_lane,
    env_of, genesis_block, next_env, recover, verify,
};
use penstock_rules::block::Block;
use penstock_rules::ids::{Igas, ModelHash, RequestKey, ShardId};
use penstock_rules::message::GangRequest;
use penstock_rules::model::{ModelInfo, Port, Signature as ModelSignature};
use penstock_rules::request::{Mode, ModelError, Outcome, Settled};
use penstock_rules::state::{Receipt, StateRead};
use penstock_rules::tensor::{self, ElementType, Tensor};
use penstock_rules::tx::PoolTx;
use std::collections::BTreeMap;
use std::sync::Arc;

sol! {
    struct Number { int128 value; int128 decimals; }
    struct Tensors { string name; Number[] values; uint32[] shape; }
    struct Strings { string name; string[] values; }
    struct Json { string name; string value; }
    struct Input { Tensors[] numbers; Strings[] strings; }
    struct ModelInferenceRequest { uint8 mode; string modelCID; Input input; }
    struct Output { Tensors[] numbers; Strings[] strings; Json[] jsons; bool is_simulation_result; }
    struct Sight {
        uint256 number; uint256 timestamp; uint256 basefee; address coinbase; uint256 prevrandao; uint256 gaslimit;
        uint256 chainid; bytes32 parent; uint256 gas; uint256 gasprice; address origin; uint256 originBalance;
        uint256 coinbaseBalance; uint256 precompileBalance; uint256 precompileCodeSize; bytes32 precompileCodeHash;
        uint256 returnDataSize;
    }

    constructor(string model, string input);

    function runModelInference(ModelInferenceRequest request) returns (Output);
    event ModelInferenceEvent(string inferenceID, ModelInferenceRequest request, Output response);
    error UnknownModel(string cid);
    error ModelFailed(uint8 reason);
    error Unsupported();

    event Answer(uint256 indexed index, int128 value, int128 decimals);
    event Returned(bool success, bytes data);
    event Tried(bool success, bytes returned);
    event Caught(bytes reason);
    event Saw(Sight before, Sight later, bool simulation, int128 value, int128 decimals);

    function chain(Number[] row, uint256 links);
    function fan(Number[] row, uint256 calls);
    function attempt(Number[] row);
    function attemptModel(string cid, Number[] row);
    function run(Number[] row, Number truth, uint256 junk);
    function reach(uint8 kind, uint256 value, Number[] row);
    function inRevertedFrame(Number[] row);
    function callWithGas(Number[] row, uint256 gasLimit);
    function burnThenCall(Number[] row, uint256 left);
    function callThenBurn(Number[] row);
    function spy(Number[] row);
    function spyByEnvironment(Number[] row);
    function set(Number head);
    function ask(Number[] row, uint256 fixedCalls);
    function caught() returns (uint256);
    function simulations() returns (uint256);
    function success() returns (bool);
    function returned() returns (bytes);
}

/// The inference precompile.
pub const F4: Address = penstock_evm::predeploys::INFERENCE;
/// The id of the model that all tests use: one input `x` of `[0, 4]` floats, one output `y` of `[0, 1]` floats.
pub const MODEL: &str = "toy";
/// Its cost without units.
pub const IGAS_BASE: u64 = 1_000;
/// Its cost per row.
pub const IGAS_PER_UNIT: u64 = 10;
/// Cost of a request of one row, at the multiplier of genesis.
pub const PRICE: u64 = (IGAS_BASE + IGAS_PER_UNIT) * 100;
/// Gas limit of test transactions: enough for 20 calls.
pub const GAS: u64 = 8_000_000;
/// First elements from which on the toy model has no output.
pub const FAILS_FROM: i128 = 1_000_000_000;

/// Chain, keys, and the results that shards have given so far.
pub struct Devnet {
    pub spec: ChainSpec,
    pub head: ExecutedBlock,
    pub producer: SigningKey,
    pub shards: Vec<SigningKey>,
    pub results: BTreeMap<RequestKey, Arc<Settled>>,
    /// Next nonce per account.
    nonces: BTreeMap<usize, u64>,
}

pub fn key(number: u8) -> SigningKey {
    SigningKey::new(B256::with_last_byte(number)).expect("small numbers are keys")
}

/// The key of the test account with this index.
pub fn account(index: usize) -> SigningKey {
    key(100 + u8::try_from(index).expect("few accounts"))
}

pub fn model() -> ModelInfo {
    let port = |name: &str, width| Port {
        name: name.into(),
        element: ElementType::F32,
        shape: vec![0, width],
    };
    ModelInfo {
        cid: MODEL.into(),
        hash: ModelHash(keccak256(MODEL)),
        igas_base: Igas(IGAS_BASE),
        igas_per_unit: Igas(IGAS_PER_UNIT),
        signature: ModelSignature {
            inputs: vec![port("x", 4)],
            outputs: vec![port("y", 1)],
        },
    }
}

/// What the toy model gives: one number in 0..1 per row, from the hash of the input. It fails on huge first elements.
pub fn outcome(input: &[u8]) -> Outcome {
    let tensors = tensor::decode(input).expect("a canonical input");
    let first = f32::from_le_bytes(tensors[0].data[..4].try_into().expect("a float"));
    if first >= FAILS_FROM as f32 {
        return Outcome::Failed(ModelError::NotFinite);
    }
    let rows = tensors[0].shape[0];
    let hash = keccak256(input);
    let bits = (0..rows).map(|row| {
        let number = u16::from_be_bytes([hash[row as usize % 31], hash[row as usize % 31 + 1]]);
        (f32::from(number) / 65_536.0).to_bits()
    });
    let output = Tensor::from_f32_bits("y", &[rows, 1], bits);
    Outcome::Output(tensor::encode(&[output]).into())
}

/// A row of four whole numbers and halves: `first`, 0.5, 2, -3.
pub fn row(first: i128) -> Vec<Number> {
    let number = |value, decimals| Number { value, decimals };
    vec![number(first, 0), number(5, 1), number(2, 0), number(-3, 0)]
}

/// Calldata of F4 for one row.
pub fn inference(first: i128, mode: Mode) -> Vec<u8> {
    inference_of(MODEL, first, mode)
}

pub fn inference_of(cid: &str, first: i128, mode: Mode) -> Vec<u8> {
    runModelInferenceCall {
        request: ModelInferenceRequest {
            mode: mode as u8,
            modelCID: cid.into(),
            input: Input {
                numbers: vec![Tensors {
                    name: "x".into(),
                    values: row(first),
                    shape: vec![1, 4],
                }],
                strings: vec![],
            },
        },
    }
    .abi_encode()
}

/// A transaction before it is signed.
pub struct Draft {
    pub from: usize,
    pub to: Option<Address>,
    pub data: Vec<u8>,
    pub value: u64,
    pub gas: u64,
    pub max_fee: u128,
}

impl Draft {
    pub fn call(from: usize, to: Address, data: Vec<u8>) -> Self {
        Self {
            from,
            to: Some(to),
            data,
            value: 0,
            gas: GAS,
            max_fee: 10_000_000_000,
        }
    }

    pub fn create(from: usize, code: Vec<u8>) -> Self {
        Self {
            to: None,
            ..Self::call(from, Address::ZERO, code)
        }
    }
}

impl Devnet {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A devnet whose genesis was changed before it began.
    pub fn with(change: impl FnOnce(&mut Genesis)) -> Self {
        let producer = key(1);
        let shards: Vec<_> = (10..13).map(key).collect();
        let rich = GenesisAccount {
            balance: U256::from(10).pow(U256::from(24)),
            ..GenesisAccount::default()
        };
        let mut genesis = Genesis {
            spec: ChainSpec {
                producers: vec![producer.address()],
                ..ChainSpec::default()
            },
            timestamp: 1_000,
            alloc: (0..10)
                .map(|index| (account(index).address(), rich.clone()))
                .collect(),
            owner: account(0).address(),
            shards: shards.iter().map(|key| ShardId(key.address())).collect(),
            models: vec![model()],
        };
        change(&mut genesis);
        Self {
            head: genesis_block(&genesis),
            spec: genesis.spec,
            producer,
            shards,
            results: BTreeMap::new(),
            nonces: BTreeMap::new(),
        }
    }

    pub fn state(&self) -> &State {
        &self.head.state
    }

    /// The environment of the next block, one second on.
    pub fn env(&self) -> BlockEnv {
        let timestamp = self.head.header.timestamp + 1;
        next_env(&self.spec, self.state(), &self.head.header, timestamp)
    }

    /// Signs a transaction with the account's next nonce.
    pub fn sign(&mut self, draft: Draft) -> PoolTx {
        let nonce = self.nonces.entry(draft.from).or_default();
        let tx = TxEip1559 {
            chain_id: self.spec.chain_id,
            nonce: *nonce,
            gas_limit: draft.gas,
            max_fee_per_gas: draft.max_fee,
            max_priority_fee_per_gas: 1_000.min(draft.max_fee),
            to: draft.to.map_or(TxKind::Create, TxKind::Call),
            value: U256::from(draft.value),
            access_list: Default::default(),
            input: draft.data.into(),
        };
        *nonce += 1;
        let envelope: TxEnvelope = signed(tx, &account(draft.from));
        recover(&envelope.encoded_2718(), &self.spec).expect("a good transaction")
    }

    /// Takes back the account's last nonces: their transactions were not included.
    pub fn rewind(&mut self, from: usize, count: u64) {
        *self.nonces.entry(from).or_default() -= count;
    }

    pub fn send(&mut self, from: usize, to: Address, data: impl SolCall) -> PoolTx {
        self.sign(Draft::call(from, to, data.abi_encode()))
    }

    /// Deploys a compiled contract whose constructor takes the model's id and input.
    pub fn deploy(&mut self, name: &str) -> Address {
        let arguments = constructorCall {
            model: MODEL.into(),
            input: "x".into(),
        };
        self.deploy_with(name, &arguments.abi_encode())
    }

    pub fn deploy_with(&mut self, name: &str, arguments: &[u8]) -> Address {
        let code = [creation_code(name), arguments.to_vec()].concat();
        let tx = self.sign(Draft::create(0, code));
        self.include(&[tx])[0]
            .contract_address
            .expect("the contract was made")
    }

    pub fn discover(&self, lane: &[PoolTx]) -> Vec<Finding> {
        let limits = DiscoverLimits::default();
        discover_lane(
            self.state(),
            &self.spec,
            &self.env(),
            lane,
            &self.results,
            &limits,
        )
    }

    pub fn discover_one(&self, tx: &PoolTx) -> Finding {
        self.discover(std::slice::from_ref(tx)).remove(0)
    }

    /// Has all shards answer these requests.
    pub fn settle(&mut self, requests: &[GangRequest]) {
        for request in requests {
            let settled = self.answer(request, self.shards.len());
            self.results.insert(request.key, Arc::new(settled));
        }
    }

    /// The answer of the first `count` shards.
    pub fn answer(&self, request: &GangRequest, count: usize) -> Settled {
        let outcome = outcome(&request.input);
        let hash = outcome.hash();
        let mut attestations: Vec<_> = self.shards[..count]
            .iter()
            .map(|shard| attest(shard, self.spec.chain_id, request.key, hash))
            .collect();
        attestations.sort_by_key(|attestation| attestation.shard);
        Settled {
            key: request.key,
            outcome,
            attestations,
        }
    }

    /// Discovers and settles until the transaction is ready. Gives the number of rounds.
    pub fn prepare(&mut self, tx: &PoolTx) -> usize {
        for rounds in 0..50 {
            match self.discover_one(tx) {
                Finding::Ready { .. } => return rounds,
                Finding::Waits { requests, .. } => self.settle(&requests),
                other => panic!("{other:?}"),
            }
        }
        panic!("the transaction does not get ready");
    }

    /// Builds a block of those transactions that can be in it.
    pub fn build(&self, txs: &[PoolTx]) -> (ExecutedBlock, Vec<Result<Receipt, PushError>>) {
        let mut builder = BlockBuilder::new(self.state().clone(), &self.spec, self.env());
        let receipts = txs
            .iter()
            .map(|tx| builder.push(tx, &self.results))
            .collect();
        let mut executed = builder.seal();
        executed.block.signature = self.producer.sign(executed.hash);
        (executed, receipts)
    }

    pub fn verify(&self, block: &Block) -> Result<ExecutedBlock, penstock_evm::VerifyError> {
        verify(self.state(), &self.spec, &self.head.header, block)
    }

    /// Adopts a block after it was verified from its bytes alone, to the same result.
    pub fn adopt(&mut self, built: ExecutedBlock) {
        let verified = self.verify(&built.block).expect("an own block is valid");
        assert_eq!(verified.hash, built.hash);
        assert_eq!(verified.header, built.header);
        assert_eq!(verified.receipts, built.receipts);
        assert_eq!(verified.senders, built.senders);
        assert_eq!(verified.diff, built.diff);
        assert_eq!(verified.state.root(), built.header.state_root);
        self.head = verified;
    }

    /// Builds, verifies and adopts a block of exactly these transactions.
    pub fn include(&mut self, txs: &[PoolTx]) -> Vec<Receipt> {
        let (built, receipts) = self.build(txs);
        let receipts = receipts
            .into_iter()
            .map(|receipt| receipt.expect("the transaction is included"))
            .collect();
        self.adopt(built);
        receipts
    }

    /// Prepares and includes one transaction.
    pub fn run(&mut self, tx: &PoolTx) -> Receipt {
        self.prepare(tx);
        self.include(std::slice::from_ref(tx)).remove(0)
    }

    /// Reads through `eth_call` on the head.
    pub fn read<C: SolCall>(&self, to: Address, data: C) -> C::Return {
        match self.call(to, data.abi_encode()) {
            CallOutcome::Returned { output, .. } => {
                C::abi_decode_returns(&output).expect("decodes")
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn call(&self, to: Address, data: Vec<u8>) -> CallOutcome {
        let request = CallRequest {
            from: account(9).address(),
            to: Some(to),
            data: data.into(),
            ..CallRequest::default()
        };
        call(
            self.state(),
            &self.spec,
            &env_of(&self.head.header),
            &request,
            &self.results,
        )
    }

    pub fn balance(&self, address: Address) -> U256 {
        let Ok(account) = self.state().account(address);
        account.unwrap_or_default().balance
    }
}

pub fn signed<T>(tx: T, key: &SigningKey) -> TxEnvelope
where
    T: SignableTransaction<Signature>,
    alloy_consensus::Signed<T>: Into<TxEnvelope>,
{
    let bytes = key.sign(tx.signature_hash());
    let signature = Signature::from_bytes_and_parity(&bytes[..64], bytes[64] == 1);
    tx.into_signed(signature).into()
}

/// Creation code of a contract of `devnet/contracts`, as its script compiled it.
pub fn creation_code(name: &str) -> Vec<u8> {
    let path = format!(
        "{}/../../devnet/contracts/artifacts/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let artifact: serde_json::Value = serde_json::from_str(&text).expect("json");
    artifact["bytecode"]
        .as_str()
        .and_then(|hex| hex.parse::<Bytes>().ok())
        .expect("an artifact has bytecode")
        .to_vec()
}

/// The events of one kind among a receipt's logs.
pub fn events<E: SolEvent>(receipt: &Receipt) -> Vec<E> {
    receipt
        .logs
        .iter()
        .filter_map(|log| E::decode_log_data(&log.data).ok())
        .collect()
}

/// Arguments of `InConstructor`.
pub fn bytes_argument(data: &[u8]) -> Vec<u8> {
    (Bytes::copy_from_slice(data),).abi_encode_params()
}

/// Hand-written EVM code.
#[derive(Default)]
pub struct Asm(Vec<u8>);

impl Asm {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn push_byte(self, byte: u8) -> Self {
        self.op(&[0x60, byte])
    }

    /// Copies the first bytes of the calldata to memory 0.
    pub fn copy_calldata(self, bytes: u8) -> Self {
        self.push_byte(bytes).op(&[0x5f, 0x5f, 0x37])
    }

    /// Calls with memory from 0 on as calldata and for the return data, and forgets whether it succeeded.
    pub fn static_call(self, to: Address, given: u8, returned: u8) -> Self {
        self.push_byte(returned)
            .op(&[0x5f])
            .push_byte(given)
            .op(&[0x5f, 0x73])
            .op(to.as_slice())
            .op(&[0x5a, 0xfa, 0x50])
    }

    /// Fills with zeros up to this length.
    pub fn pad(mut self, length: usize) -> Self {
        assert!(self.0.len() <= length, "the block is too long");
        self.0.resize(length, 0);
        self
    }

    /// Creation code that leaves this code.
    pub fn deploy(self) -> Vec<u8> {
        let length = u16::try_from(self.0.len())
            .expect("short code")
            .to_be_bytes();
        // PUSH2 length, DUP1, PUSH1 10, PUSH0, CODECOPY, PUSH0, RETURN: 10 bytes.
        let mut code = vec![
            0x61, length[0], length[1], 0x80, 0x60, 10, 0x5f, 0x39, 0x5f, 0xf3,
        ];
        code.extend(self.0);
        code
    }
}
