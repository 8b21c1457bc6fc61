//! The layout and the contracts, held against each other by running the compiled code in a plain EVM.

use super::*;
use alloy_primitives::{TxKind, keccak256, map::HashMap};
use alloy_sol_types::{SolCall, SolError, sol};
use penstock_rules::model::Port;
use penstock_rules::tensor::ElementType;
use revm::context::TxEnv;
use revm::context::result::ExecutionResult;
use revm::database::{CacheDB, EmptyDB};
use revm::state::{AccountInfo, Bytecode};
use revm::{Context, Database, ExecuteCommitEvm, MainBuilder, MainContext};

sol!(
    #[allow(missing_docs)]
    ModelRegistry,
    "../../devnet/contracts/artifacts/ModelRegistry.json"
);
sol!(
    #[allow(missing_docs)]
    ShardRegistry,
    "../../devnet/contracts/artifacts/ShardRegistry.json"
);
sol!(
    #[allow(missing_docs)]
    InferenceMarket,
    "../../devnet/contracts/artifacts/InferenceMarket.json"
);
sol!(
    #[allow(missing_docs)]
    Multicall3,
    "../../devnet/contracts/artifacts/Multicall3.json"
);

const OWNER: Address = address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
const STRANGER: Address = address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8");

fn port(name: &str, element: ElementType, shape: &[u32]) -> Port {
    Port {
        name: name.into(),
        element,
        shape: shape.into(),
    }
}

/// Two models: one whose id and signature are short, one whose both need several slots.
fn models() -> Vec<ModelInfo> {
    vec![
        ModelInfo {
            cid: "risk".into(),
            hash: ModelHash(B256::repeat_byte(7)),
            igas_base: Igas(120),
            igas_per_unit: Igas(u64::MAX),
            signature: Signature {
                inputs: vec![port("x", ElementType::F32, &[0, 10])],
                outputs: vec![port("y", ElementType::F32, &[0, 1])],
            },
        },
        ModelInfo {
            cid: "QmbbzDwqSxZSgkz1EbsNHp2mb67rYeUYHYWJ4wECE24S7A-and-more".into(),
            hash: ModelHash(B256::repeat_byte(9)),
            igas_base: Igas(1),
            igas_per_unit: Igas(0),
            signature: Signature {
                inputs: (0..9)
                    .map(|i| port(&format!("input_{i}"), ElementType::I64, &[1, i, 3]))
                    .collect(),
                outputs: vec![port("labels", ElementType::String, &[0])],
            },
        },
    ]
}

fn shards() -> Vec<ShardId> {
    (1..=3).map(|i| ShardId(Address::repeat_byte(i))).collect()
}

fn inputs<'a>(models: &'a [ModelInfo], shards: &'a [ShardId]) -> Inputs<'a> {
    Inputs {
        owner: OWNER,
        shards,
        quorum: Quorum {
            vanilla: 1,
            zk: 3,
            tee: 2,
        },
        models,
        multiplier: MULTIPLIER_INITIAL,
    }
}

struct Chain(CacheDB<EmptyDB>);

impl Chain {
    fn new(inputs: &Inputs<'_>) -> Self {
        let mut db = CacheDB::<EmptyDB>::default();
        for predeploy in alloc(inputs) {
            let code = Bytecode::new_raw(predeploy.code);
            let info = AccountInfo {
                nonce: predeploy.nonce,
                ..AccountInfo::from_bytecode(code)
            };
            db.insert_account_info(predeploy.address, info);
            for (slot, value) in predeploy.slots {
                db.insert_account_storage(predeploy.address, slot, value)
                    .expect("memory does not fail");
            }
        }
        Self(db)
    }

    fn raw(&mut self, from: Address, to: Address, data: Vec<u8>) -> Result<Bytes, Bytes> {
        let nonce = self
            .0
            .basic(from)
            .expect("memory does not fail")
            .map_or(0, |account| account.nonce);
        let tx = TxEnv::builder()
            .caller(from)
            .kind(TxKind::Call(to))
            .data(data.into())
            .nonce(nonce)
            .gas_limit(10_000_000)
            .build()
            .expect("a transaction");
        let mut evm = Context::mainnet().with_db(&mut self.0).build_mainnet();
        match evm.transact_commit(tx).expect("memory does not fail") {
            ExecutionResult::Success { output, .. } => Ok(output.into_data()),
            ExecutionResult::Revert { output, .. } => Err(output),
            ExecutionResult::Halt { reason, .. } => panic!("halted: {reason:?}"),
        }
    }

    fn call<C: SolCall>(
        &mut self,
        from: Address,
        to: Address,
        call: &C,
    ) -> Result<C::Return, Bytes> {
        let output = self.raw(from, to, call.abi_encode())?;
        Ok(C::abi_decode_returns(&output).expect("return data decode"))
    }

    fn read(&mut self) -> impl FnMut(Address, U256) -> U256 {
        |address, slot| self.0.storage(address, slot).expect("memory does not fail")
    }

    /// All non-zero storage of an account.
    fn storage(&self, address: Address) -> HashMap<U256, U256> {
        self.0.cache.accounts[&address]
            .storage
            .iter()
            .filter(|(_, value)| !value.is_zero())
            .map(|(slot, value)| (*slot, *value))
            .collect()
    }
}

fn register(model: &ModelInfo) -> ModelRegistry::registerCall {
    ModelRegistry::registerCall {
        cid: model.cid.clone(),
        contentHash: model.hash.0,
        igasBase: model.igas_base.0,
        igasPerUnit: model.igas_per_unit.0,
        signature: check_model(model).expect("small").into(),
    }
}

#[test]
fn what_genesis_writes_reads_back_without_the_evm() {
    let (models, shards) = (models(), shards());
    let inputs = inputs(&models, &shards);
    let mut chain = Chain::new(&inputs);
    let read = &mut chain.read();
    assert_eq!(read_models(read), models);
    assert_eq!(read_model("risk", read), Some(models[0].clone()));
    assert_eq!(read_model("Risk", read), None);
    assert_eq!(read_shards(read), shards);
    assert!(is_shard(shards[2], read) && !is_shard(ShardId(OWNER), read));
    assert_eq!(read_quorum(read), inputs.quorum);
    assert_eq!(read_multiplier(read), MULTIPLIER_INITIAL);
}

#[test]
fn what_genesis_writes_is_what_the_contracts_show() {
    let (models, shards) = (models(), shards());
    let mut chain = Chain::new(&inputs(&models, &shards));
    let count = chain.call(STRANGER, MODEL_REGISTRY, &ModelRegistry::countCall {});
    assert_eq!(count, Ok(U256::from(2)));
    for (index, model) in models.iter().enumerate() {
        let at = ModelRegistry::cidAtCall {
            index: U256::from(index),
        };
        assert_eq!(
            chain.call(STRANGER, MODEL_REGISTRY, &at),
            Ok(model.cid.clone())
        );
        let ask = ModelRegistry::modelCall {
            cid: model.cid.clone(),
        };
        let found = chain
            .call(STRANGER, MODEL_REGISTRY, &ask)
            .expect("registered");
        assert_eq!(found.contentHash, model.hash.0);
        assert_eq!(found.igasBase, model.igas_base.0);
        assert_eq!(found.igasPerUnit, model.igas_per_unit.0);
        assert_eq!(found.number, index as u64 + 1);
        assert_eq!(
            found.signature,
            Bytes::from(check_model(model).expect("small"))
        );
    }
    let all = chain.call(STRANGER, SHARD_REGISTRY, &ShardRegistry::allCall {});
    assert_eq!(all, Ok(shards.iter().map(|shard| shard.0).collect()));
    let quorum = chain
        .call(STRANGER, SHARD_REGISTRY, &ShardRegistry::quorumCall {})
        .expect("a view");
    assert_eq!((quorum.vanilla, quorum.zk, quorum.tee), (1, 3, 2));
    for registry in [MODEL_REGISTRY, SHARD_REGISTRY] {
        let owner = chain.call(STRANGER, registry, &ModelRegistry::ownerCall {});
        assert_eq!(owner, Ok(OWNER));
    }
    let price = InferenceMarket::gasForCall {
        cid: models[1].cid.clone(),
        units: 5,
    };
    let price = chain.call(STRANGER, INFERENCE_MARKET, &price);
    assert_eq!(price, Ok(U256::from(MULTIPLIER_INITIAL)));
}

/// Registering through the contracts must leave the very storage that genesis would have written.
#[test]
fn what_the_contracts_write_is_what_genesis_writes() {
    let (models, shards) = (models(), shards());
    let at_genesis = Chain::new(&inputs(&models, &shards));
    let mut chain = Chain::new(&inputs(&[], &[]));
    for model in &models {
        let done = chain.call(OWNER, MODEL_REGISTRY, &register(model));
        assert!(done.is_ok());
    }
    // A shard in the middle that goes again: the last one takes its place.
    for shard in [shards[0], shards[2], shards[1]] {
        let done = chain.call(
            OWNER,
            SHARD_REGISTRY,
            &ShardRegistry::addCall { shard: shard.0 },
        );
        assert!(done.is_ok());
    }
    for shard in [shards[2], shards[1]] {
        let gone = ShardRegistry::removeCall { shard: shard.0 };
        assert!(chain.call(OWNER, SHARD_REGISTRY, &gone).is_ok());
        assert!(!is_shard(shard, &mut chain.read()));
    }
    for shard in [shards[1], shards[2]] {
        let done = chain.call(
            OWNER,
            SHARD_REGISTRY,
            &ShardRegistry::addCall { shard: shard.0 },
        );
        assert!(done.is_ok());
    }
    assert_eq!(read_models(&mut chain.read()), models);
    assert_eq!(read_shards(&mut chain.read()), shards);
    for address in [MODEL_REGISTRY, SHARD_REGISTRY] {
        assert_eq!(chain.storage(address), at_genesis.storage(address));
    }
    let quorum = ShardRegistry::setQuorumCall {
        vanilla: 2,
        zk: 4,
        tee: 255,
    };
    assert!(chain.call(OWNER, SHARD_REGISTRY, &quorum).is_ok());
    let expect = Quorum {
        vanilla: 2,
        zk: 4,
        tee: 255,
    };
    assert_eq!(read_quorum(&mut chain.read()), expect);
}

#[test]
fn only_the_owner_writes_and_only_what_makes_sense() {
    let (models, shards) = (models(), shards());
    let mut chain = Chain::new(&inputs(&models[..1], &shards));
    let refused = |result: Result<_, Bytes>, selector: [u8; 4]| {
        let data = match result {
            Ok(_) => panic!("must be refused"),
            Err(data) => data,
        };
        assert_eq!(data[..4], selector);
    };
    let mut try_register = |from, call: ModelRegistry::registerCall, selector| {
        refused(chain.call(from, MODEL_REGISTRY, &call).map(drop), selector);
    };
    let good = register(&models[1]);
    try_register(STRANGER, good.clone(), ModelRegistry::NotOwner::SELECTOR);
    try_register(
        OWNER,
        register(&models[0]),
        ModelRegistry::AlreadyRegistered::SELECTOR,
    );
    for cid in ["", &"x".repeat(CID_BYTES_MAX + 1)] {
        let mut bad = good.clone();
        bad.cid = cid.into();
        try_register(OWNER, bad, ModelRegistry::BadCid::SELECTOR);
    }
    for length in [0, 1, SIGNATURE_BYTES_MAX + 1] {
        let mut bad = good.clone();
        bad.signature = vec![1; length].into();
        try_register(OWNER, bad, ModelRegistry::BadModel::SELECTOR);
    }
    let mut bad = good.clone();
    bad.contentHash = B256::ZERO;
    try_register(OWNER, bad, ModelRegistry::BadModel::SELECTOR);

    let add = |shard| ShardRegistry::addCall { shard };
    let mut try_add = |from, shard, selector| {
        refused(
            chain.call(from, SHARD_REGISTRY, &add(shard)).map(drop),
            selector,
        );
    };
    try_add(STRANGER, STRANGER, ShardRegistry::NotOwner::SELECTOR);
    try_add(
        OWNER,
        shards[0].0,
        ShardRegistry::AlreadyRegistered::SELECTOR,
    );
    try_add(OWNER, Address::ZERO, ShardRegistry::ZeroAddress::SELECTOR);
    let remove = ShardRegistry::removeCall { shard: STRANGER };
    refused(
        chain.call(OWNER, SHARD_REGISTRY, &remove).map(drop),
        ShardRegistry::NotRegistered::SELECTOR,
    );
    let quorum = ShardRegistry::setQuorumCall {
        vanilla: 1,
        zk: 0,
        tee: 1,
    };
    refused(
        chain.call(OWNER, SHARD_REGISTRY, &quorum).map(drop),
        ShardRegistry::BadQuorum::SELECTOR,
    );

    let hand_over = ModelRegistry::transferOwnershipCall { to: STRANGER };
    assert!(chain.call(OWNER, MODEL_REGISTRY, &hand_over).is_ok());
    assert!(chain.call(STRANGER, MODEL_REGISTRY, &good).is_ok());
}

#[test]
fn storage_that_makes_no_sense_is_read_without_harm() {
    for value in [
        U256::MAX,
        U256::MAX - U256::ONE,
        U256::from(0x3f),
        U256::ONE,
    ] {
        let read = &mut |_, _| value;
        assert_eq!(read_model("risk", read), None);
        assert!(read_multiplier(read) > 0);
        assert!(
            read_models(&mut |_, slot| if slot == U256::ONE { U256::ONE } else { value })
                .is_empty()
        );
    }
    assert_eq!(read_multiplier(&mut |_, _| U256::MAX), u64::MAX);
}

#[test]
fn the_create2_deployer_is_the_one_that_clients_know() {
    let hash = keccak256(&code::CREATE2_DEPLOYER);
    let known = "0x2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989";
    assert_eq!(hash.to_string(), known);

    let mut chain = Chain::new(&inputs(&[], &[]));
    // Init code that leaves one byte of code, 0x00: PUSH1 1 PUSH1 0 RETURN.
    let init = [0x60, 0x01, 0x60, 0x00, 0xf3];
    let salt = B256::repeat_byte(3);
    let data = [salt.as_slice(), &init].concat();
    let made = chain.raw(STRANGER, CREATE2_DEPLOYER, data.clone());
    let expect = CREATE2_DEPLOYER.create2(salt, keccak256(init));
    assert_eq!(made, Ok(Bytes::copy_from_slice(expect.as_slice())));
    assert_eq!(
        chain.raw(STRANGER, CREATE2_DEPLOYER, data),
        Err(Bytes::new())
    );
}

#[test]
fn multicall_gathers_results_and_lets_those_fail_that_may() {
    let mut chain = Chain::new(&inputs(&models(), &shards()));
    let call = |data: Vec<u8>, allow: bool| Multicall3::Call3 {
        target: MODEL_REGISTRY,
        allowFailure: allow,
        callData: data.into(),
    };
    let count = ModelRegistry::countCall {}.abi_encode();
    let missing = ModelRegistry::modelCall { cid: "no".into() }.abi_encode();
    let both = |allow| Multicall3::aggregate3Call {
        calls: vec![call(count.clone(), true), call(missing.clone(), allow)],
    };
    let results = chain
        .call(STRANGER, MULTICALL3, &both(true))
        .expect("failure is allowed");
    assert_eq!(results[0].returnData.last(), Some(&2));
    assert!(results[0].success && !results[1].success);
    assert_eq!(
        results[1].returnData[..4],
        ModelRegistry::NotRegistered::SELECTOR
    );
    assert!(chain.call(STRANGER, MULTICALL3, &both(false)).is_err());
}

#[test]
fn every_precompile_has_one_byte_of_code() {
    for predeploy in &alloc(&inputs(&[], &[]))[..3] {
        assert_eq!(predeploy.code, code::RESERVED);
    }
}
