//! The border as a whole: OpenGradient's files and vectors, hostile calldata, and the way there and back.

use super::*;
use alloy_primitives::{B256, Bytes, hex, keccak256};
use alloy_sol_types::{SolCall, SolError, SolEvent, SolValue};
use penstock_rules::ids::{Igas, ModelHash};
use penstock_rules::model::{ModelInfo, Port, Signature};
use penstock_rules::request::{Mode, ModelError};
use penstock_rules::tensor::{self, ElementType, Tensor};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;

macro_rules! opengradient {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/fixtures/opengradient/", $name))
    };
}

macro_rules! artifact {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../devnet/contracts/artifacts/",
            $name,
            ".json"
        ))
    };
}

fn vector(name: &str) -> Bytes {
    let vectors: Value = serde_json::from_str(opengradient!("vectors.json")).expect("json");
    let text = vectors[name].as_str().expect("a vector");
    hex::decode(text).expect("hex").into()
}

/// Entries of an ABI, each as its canonical text (keys are sorted), whatever the order of the list.
fn entries(abi: &Value) -> BTreeSet<String> {
    abi.as_array()
        .expect("an abi is a list")
        .iter()
        .map(Value::to_string)
        .collect()
}

fn artifact_abi(artifact: &str) -> Value {
    serde_json::from_str::<Value>(artifact).expect("json")["abi"].clone()
}

#[test]
fn our_solidity_has_opengradients_abi() {
    let check = |ours: &str, theirs: &str| {
        let theirs: Value = serde_json::from_str(theirs).expect("json");
        assert_eq!(entries(&artifact_abi(ours)), entries(&theirs));
    };
    check(
        artifact!("IInference"),
        opengradient!("InferencePrecompile.abi"),
    );
    check(artifact!("InferenceHub"), opengradient!("inference.abi"));
}

#[test]
fn price_queries_are_those_of_opengradients_workflow() {
    let workflow: Value =
        serde_json::from_str(opengradient!("PriceHistoryInference.abi")).expect("json");
    let theirs = &workflow[0]["inputs"][2];
    let ours = artifact_abi(artifact!("IPriceFeed"));
    let query = ours
        .as_array()
        .expect("a list")
        .iter()
        .find(|entry| entry["name"] == "queryHistoricalCandles")
        .map(|entry| &entry["inputs"][0])
        .expect("the function");
    for key in ["components", "internalType", "type"] {
        assert_eq!(query[key], theirs[key]);
    }
}

/// The canonical signature of an ABI entry, from its JSON: what selectors and topics hash.
fn signature(entry: &Value) -> String {
    fn kind(parameter: &Value) -> String {
        let name = parameter["type"].as_str().expect("a type");
        match name.strip_prefix("tuple") {
            Some(suffix) => format!("{}{suffix}", list(&parameter["components"])),
            None => name.into(),
        }
    }
    fn list(parameters: &Value) -> String {
        let kinds: Vec<String> = parameters
            .as_array()
            .expect("parameters")
            .iter()
            .map(kind)
            .collect();
        format!("({})", kinds.join(","))
    }
    let name = entry["name"].as_str().expect("a name");
    format!("{name}{}", list(&entry["inputs"]))
}

#[test]
fn the_types_in_rust_are_those_in_solidity() {
    let mut hashes = BTreeSet::new();
    for artifact in [
        artifact!("IInference"),
        artifact!("InferenceHub"),
        artifact!("IPreprocessing"),
        artifact!("IPriceFeed"),
        artifact!("IInferenceErrors"),
    ] {
        for entry in artifact_abi(artifact).as_array().expect("a list") {
            hashes.insert(keccak256(signature(entry)));
        }
    }
    let selectors: BTreeSet<[u8; 4]> = hashes
        .iter()
        .map(|hash| [hash[0], hash[1], hash[2], hash[3]])
        .collect();
    for selector in [
        solidity::runModelInferenceCall::SELECTOR,
        solidity::runLLMCompletionCall::SELECTOR,
        solidity::runLLMChatCall::SELECTOR,
        solidity::runInferenceOnPriceFeedCall::SELECTOR,
        solidity::queryHistoricalCandlesCall::SELECTOR,
        solidity::runCall::SELECTOR,
        solidity::minCall::SELECTOR,
        solidity::maxCall::SELECTOR,
        solidity::meanCall::SELECTOR,
        solidity::stdDevCall::SELECTOR,
        solidity::varianceCall::SELECTOR,
        solidity::medianCall::SELECTOR,
        solidity::standardizeCall::SELECTOR,
        solidity::normalizeCall::SELECTOR,
        solidity::correlationCall::SELECTOR,
        solidity::UnknownModel::SELECTOR,
        solidity::ModelFailed::SELECTOR,
        solidity::Unsupported::SELECTOR,
        solidity::BadRequest::SELECTOR,
        solidity::Overflow::SELECTOR,
        solidity::Undefined::SELECTOR,
        solidity::TooLarge::SELECTOR,
    ] {
        assert!(selectors.contains(&selector), "{selector:02x?}");
    }
    assert!(hashes.contains(&solidity::ModelInferenceEvent::SIGNATURE_HASH));
    assert!(hashes.contains(&solidity::InferenceResult::SIGNATURE_HASH));
}

#[test]
fn selectors_and_topics_are_the_published_ones() {
    let check = |selector: [u8; 4], expect: u32| assert_eq!(u32::from_be_bytes(selector), expect);
    check(solidity::runModelInferenceCall::SELECTOR, 0x7289_e9c2);
    check(solidity::runLLMCompletionCall::SELECTOR, 0x1480_0c61);
    check(solidity::runLLMChatCall::SELECTOR, 0xe39a_a7e7);
    check(solidity::runInferenceOnPriceFeedCall::SELECTOR, 0xa192_a0f9);
    check(solidity::queryHistoricalCandlesCall::SELECTOR, 0xf2f0_8e63);
    check(solidity::runCall::SELECTOR, 0xcbf0_9d80);
    check(solidity::minCall::SELECTOR, 0x0b78_e859);
    check(solidity::maxCall::SELECTOR, 0xbcbd_0b5c);
    check(solidity::meanCall::SELECTOR, 0xd908_6f5e);
    check(solidity::stdDevCall::SELECTOR, 0x1f14_f01f);
    check(solidity::varianceCall::SELECTOR, 0xdddb_5bbe);
    check(solidity::medianCall::SELECTOR, 0x0061_1cc2);
    check(solidity::standardizeCall::SELECTOR, 0x0d99_18d2);
    check(solidity::normalizeCall::SELECTOR, 0x234d_ccde);
    check(solidity::correlationCall::SELECTOR, 0x03c7_cf83);
    assert_eq!(
        solidity::ModelInferenceEvent::SIGNATURE_HASH[..4],
        [0x1b, 0x28, 0x3a, 0xf3]
    );
    assert_eq!(
        solidity::InferenceResult::SIGNATURE_HASH[..4],
        [0xc1, 0x39, 0x6f, 0xf6]
    );
}

#[test]
fn the_published_calldata_decode() {
    let call = decode_request(&vector("runModelInference_calldata")).expect("a call");
    let expect = InferenceCall {
        mode: Mode::Vanilla,
        cid: "QmbbzDwqSxZSgkz1EbsNHp2mb67rYeUYHYWJ4wECE24S7A".into(),
        numbers: vec![NumberTensor {
            name: "input".into(),
            values: vec![number(7286679744720459, 17), number(4486280083656311, 16)],
            shape: vec![2],
        }],
        strings: vec![],
    };
    assert_eq!(call, expect);
}

#[test]
fn a_published_output_is_what_we_write_to_the_byte() {
    let published = vector("ModelOutput4_return");
    let outputs = [Tensor::from_f32_bits("Y", &[1], [(-1.5f32).to_bits()])];
    assert_eq!(encode_output(&outputs).map(Bytes::from), Ok(published));

    let empty = vector("ModelOutput4_simulation_return");
    let output = solidity::ModelOutput::abi_decode(&empty).expect("a ModelOutput");
    assert!(output.is_simulation_result && output.numbers.is_empty());
}

#[test]
fn functions_that_are_not_here_are_told_from_those_that_never_were() {
    let check = |selector: [u8; 4], expect: &AbiError| {
        let calldata = [&selector[..], &[0xff; 40]].concat();
        assert_eq!(&decode_request(&calldata).expect_err("no call"), expect);
    };
    check(
        solidity::runLLMChatCall::SELECTOR,
        &AbiError::Unsupported(0xe39a_a7e7),
    );
    check(
        solidity::runLLMCompletionCall::SELECTOR,
        &AbiError::Unsupported(0x1480_0c61),
    );
    check(
        solidity::runModelInferenceCall::SELECTOR,
        &AbiError::Malformed,
    );
    check([0; 4], &AbiError::UnknownFunction);
    assert_eq!(decode_request(&[]), Err(AbiError::UnknownFunction));
    assert_eq!(
        decode_price_feed_call(&solidity::queryHistoricalCandlesCall::SELECTOR).revert(),
        Revert::Unsupported
    );
    assert_eq!(
        decode_price_feed_call(&[1, 2, 3, 4]).revert(),
        Revert::BadRequest
    );
}

#[test]
fn every_revert_has_its_own_selector() {
    let all = [
        Revert::UnknownModel("risk".into()),
        Revert::ModelFailed(ModelError::NotFinite),
        Revert::Unsupported,
        Revert::BadRequest,
        Revert::Overflow,
        Revert::Undefined,
        Revert::TooLarge,
    ];
    let selectors: BTreeSet<Vec<u8>> = all.iter().map(|r| r.encode()[..4].to_vec()).collect();
    assert_eq!(selectors.len(), all.len());
    let data = all[1].encode();
    assert_eq!(
        solidity::ModelFailed::abi_decode(&data).map(|e| e.reason),
        Ok(ModelError::NotFinite as u8)
    );
}

fn calldata(call: &InferenceCall) -> Vec<u8> {
    solidity::runModelInferenceCall {
        request: call.into(),
    }
    .abi_encode()
}

fn number(value: i128, decimals: i128) -> Number {
    Number { value, decimals }
}

fn sample() -> InferenceCall {
    InferenceCall {
        mode: Mode::Tee,
        cid: "m".into(),
        numbers: vec![
            NumberTensor {
                name: "n".into(),
                values: vec![number(3, 0), number(-40, 1)],
                shape: vec![2],
            },
            NumberTensor {
                name: "x".into(),
                values: vec![number(15, 1), number(-25, 2), number(0, 0)],
                shape: vec![1, 3],
            },
        ],
        strings: vec![StringTensor {
            name: "s".into(),
            values: vec!["täst".into(), String::new()],
        }],
    }
}

fn model() -> ModelInfo {
    let port = |name: &str, element, shape: &[u32]| Port {
        name: name.into(),
        element,
        shape: shape.into(),
    };
    ModelInfo {
        cid: "m".into(),
        hash: ModelHash(B256::repeat_byte(1)),
        igas_base: Igas(1),
        igas_per_unit: Igas(1),
        signature: Signature {
            inputs: vec![
                port("x", ElementType::F32, &[0, 3]),
                port("s", ElementType::String, &[0]),
                port("n", ElementType::I8, &[2]),
            ],
            outputs: vec![],
        },
    }
}

#[test]
fn a_call_becomes_canonical_tensors_in_the_order_of_the_signature() {
    let call = sample();
    let (request, units) = to_request(&call, &model()).expect("fits");
    assert_eq!((request.mode, request.model), (Mode::Tee, model().hash));
    assert_eq!(units, 2, "two strings");
    let bits = [1.5f32, -0.25, 0.0].map(f32::to_bits);
    let expect = vec![
        Tensor::from_f32_bits("x", &[1, 3], bits),
        Tensor::from_strings("s", &[2], ["täst", ""]),
        Tensor {
            name: "n".into(),
            element: ElementType::I8,
            shape: vec![2],
            data: Bytes::from_static(&[3, 0xfc]),
        },
    ];
    assert_eq!(tensor::decode(&request.input), Ok(expect));
    // The same numbers written otherwise, in another order, make the same request.
    let mut other = call;
    other.numbers.reverse();
    other.numbers[0].values[0] = number(1_500, 3);
    assert_eq!(to_request(&other, &model()), Ok((request, units)));
}

#[test]
fn what_does_not_fit_the_signature_is_wrong_input() {
    type Change = fn(&mut InferenceCall);
    let changes: [(&str, Change); 17] = [
        ("missing", |call| call.numbers.truncate(1)),
        ("missing strings", |call| call.strings.clear()),
        ("unknown name", |call| call.numbers[0].name = "N".into()),
        ("extra", |call| {
            let mut extra = call.numbers[0].clone();
            extra.name = "extra".into();
            call.numbers.push(extra);
        }),
        ("doubled", |call| {
            let again = call.numbers[0].clone();
            call.numbers.push(again);
        }),
        ("doubled across kinds", |call| {
            call.strings.push(StringTensor {
                name: "x".into(),
                values: vec![],
            });
        }),
        ("rank", |call| call.numbers[1].shape = vec![3]),
        ("fixed dimension", |call| {
            call.numbers[1].shape = vec![3, 1];
        }),
        ("count", |call| call.numbers[1].values.truncate(2)),
        ("no rows", |call| {
            call.numbers[1].shape = vec![0, 3];
            call.numbers[1].values.clear();
        }),
        ("shape overflows", |call| {
            call.numbers[1].shape = vec![u32::MAX, u32::MAX];
        }),
        ("out of range", |call| {
            call.numbers[0].values[0] = number(128, 0);
        }),
        ("fraction", |call| {
            call.numbers[0].values[0] = number(15, 1);
        }),
        ("infinite", |call| {
            call.numbers[1].values[0] = number(1, -39);
        }),
        ("strings for numbers", |call| {
            call.numbers.pop();
            call.strings.push(StringTensor {
                name: "x".into(),
                values: vec!["1".into(); 3],
            });
        }),
        ("numbers for strings", |call| {
            call.strings.clear();
            call.numbers.push(NumberTensor {
                name: "s".into(),
                values: vec![number(1, 0)],
                shape: vec![1],
            });
        }),
        ("no strings", |call| call.strings[0].values.clear()),
    ];
    for (name, change) in changes {
        let mut call = sample();
        change(&mut call);
        assert_eq!(
            to_request(&call, &model()),
            Err(ModelError::WrongInput),
            "{name}"
        );
    }
}

#[test]
fn strings_take_the_shape_that_the_signature_leaves_them() {
    let check = |declared: &[u32], count: usize, expect: Option<&[u32]>| {
        let mut model = model();
        model.signature.inputs = vec![Port {
            name: "s".into(),
            element: ElementType::String,
            shape: declared.into(),
        }];
        let mut call = sample();
        call.numbers.clear();
        call.strings[0].values = vec!["a".into(); count];
        let shape = to_request(&call, &model).ok().map(|(request, _)| {
            tensor::decode(&request.input).expect("canonical")[0]
                .shape
                .clone()
        });
        assert_eq!(shape.as_deref(), expect, "{declared:?} with {count}");
    };
    check(&[0], 3, Some(&[3]));
    check(&[0, 2], 4, Some(&[2, 2]));
    check(&[0, 2], 3, None);
    check(&[0, 0], 3, Some(&[3, 1]));
    check(&[2], 2, Some(&[2]));
    check(&[2], 4, None);
    check(&[], 1, Some(&[]));
    check(&[], 2, None);
}

#[test]
fn outputs_of_every_type_are_written_as_the_interface_has_them() {
    let raw = |name: &str, element, shape: &[u32], data: &[u8]| Tensor {
        name: name.into(),
        element,
        shape: shape.into(),
        data: Bytes::copy_from_slice(data),
    };
    let outputs = [
        Tensor::from_f32_bits("f", &[2], [0.1f32.to_bits(), f32::MAX.to_bits()]),
        raw("d", ElementType::F64, &[], &0.1f64.to_le_bytes()),
        raw("i", ElementType::I64, &[1], &i64::MIN.to_le_bytes()),
        raw("u", ElementType::U32, &[1], &u32::MAX.to_le_bytes()),
        raw("b", ElementType::Bool, &[2], &[0, 1]),
        raw("e", ElementType::F32, &[0], &[]),
        Tensor::from_strings("s", &[1], ["png"]),
    ];
    let bytes = encode_output(&outputs).expect("finite");
    let output = solidity::ModelOutput::abi_decode(&bytes).expect("a ModelOutput");
    let values: Vec<Vec<(i128, i128)>> = output
        .numbers
        .iter()
        .map(|tensor| {
            tensor
                .values
                .iter()
                .map(|n| (n.value, n.decimals))
                .collect()
        })
        .collect();
    assert_eq!(values[0], [(1, 1), (34_028_235, -31)]);
    assert_eq!(values[1], [(1, 1)]);
    assert_eq!(values[2], [(i128::from(i64::MIN), 0)]);
    assert_eq!(values[3], [(i128::from(u32::MAX), 0)]);
    assert_eq!(values[4], [(0, 0), (1, 0)]);
    assert!(values[5].is_empty());
    assert_eq!(output.strings[0].values, ["png"]);
    assert!(!output.is_simulation_result && output.jsons.is_empty());

    let nan = Tensor::from_f32_bits("f", &[1], [0x7fc0_0000]);
    assert_eq!(encode_output(&[nan]), Err(ModelError::NotFinite));
    let short = raw("f", ElementType::F32, &[2], &[0; 4]);
    assert_eq!(encode_output(&[short]), Err(ModelError::Domain));
}

#[test]
fn the_event_holds_id_request_and_response() {
    let call = sample();
    let outputs = [Tensor::from_f32_bits("y", &[1], [0.5f32.to_bits()])];
    let data = inference_event("0xabc", &call, &outputs).expect("finite");
    assert_eq!(
        data.topics(),
        [solidity::ModelInferenceEvent::SIGNATURE_HASH]
    );
    let event = solidity::ModelInferenceEvent::decode_log_data(&data).expect("the event");
    assert_eq!(event.inferenceID, "0xabc");
    let again = solidity::runModelInferenceCall {
        request: event.request,
    };
    assert_eq!(decode_request(&again.abi_encode()), Ok(call));
    assert_eq!(
        event.response.abi_encode(),
        encode_output(&outputs).expect("finite")
    );
}

/// A few kilobytes whose overlapping offsets stand for millions of numbers: every tensor's head points at one array.
#[test]
fn overlapping_arrays_are_refused_before_they_cost_anything() {
    let word = |value: usize| {
        let mut word = [0u8; 32];
        word[24..].copy_from_slice(&(value as u64).to_be_bytes());
        word
    };
    let tensors = 1_000;
    let mut words = vec![word(32), word(0), word(96), word(128)]; // request: mode, cid, input
    words.push(word(0)); // the empty cid
    words.extend([word(64), word(96 + 32 * (tensors + 3 + 1 + 2_000))]); // input: numbers, strings
    words.push(word(tensors));
    words.extend((0..tensors).map(|_| word(32 * tensors)));
    words.extend([word(96), word(96), word(96)]); // one tensor: name, values, shape in one place
    words.push(word(1_000));
    words.extend((0..2_000).map(|_| word(0)));
    words.push(word(0));
    let calldata: Vec<u8> = solidity::runModelInferenceCall::SELECTOR
        .into_iter()
        .chain(words.into_iter().flatten())
        .collect();
    assert_eq!(decode_request(&calldata), Err(AbiError::Malformed));
}

#[test]
fn every_cut_of_a_call_is_malformed_and_more_at_its_end_is_not() {
    let bytes = calldata(&sample());
    assert_eq!(decode_request(&bytes), Ok(sample()));
    for cut in 4..bytes.len() {
        // The last string is empty, so nothing is cut off before its length word.
        assert_eq!(
            decode_request(&bytes[..cut]),
            Err(AbiError::Malformed),
            "cut at {cut}"
        );
    }
    let longer = [&bytes[..], &[0xab; 33]].concat();
    assert_eq!(decode_request(&longer), Ok(sample()));
}

prop_compose! {
    fn any_number_tensor()(name in ".{0,40}", values in proptest::collection::vec(any::<(i128, i128)>(), 0..20), shape: Vec<u32>) -> NumberTensor {
        NumberTensor { name, values: values.into_iter().map(|(v, d)| number(v, d)).collect(), shape }
    }
}

prop_compose! {
    fn any_call()(
        mode in 0u8..3,
        cid in ".{0,50}",
        numbers in proptest::collection::vec(any_number_tensor(), 0..4),
        strings in proptest::collection::vec((".{0,9}", proptest::collection::vec(".{0,40}", 0..4)), 0..3),
    ) -> InferenceCall {
        InferenceCall {
            mode: Mode::from_u8(mode).expect("in range"),
            cid,
            numbers,
            strings: strings.into_iter().map(|(name, values)| StringTensor { name, values }).collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_solidity_encodes_decodes_to_the_same_call(call in any_call()) {
        prop_assert_eq!(decode_request(&calldata(&call)), Ok(call));
    }

    /// A changed byte gives another call, or an error, or (in padding) the same call; never a panic, and never more
    /// numbers than the calldata have words.
    #[test]
    fn changed_calldata_never_cost_more_than_their_length(call in any_call(), changes in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4)) {
        let mut bytes = calldata(&call);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(call) = decode_request(&bytes) {
            let numbers: usize = call.numbers.iter().map(|tensor| tensor.values.len()).sum();
            prop_assert!(2 * numbers <= bytes.len() / 32);
            let _ = to_request(&call, &model());
        }
    }

    #[test]
    fn solidity_reads_what_we_write(bits in proptest::collection::vec(any::<u32>(), 0..30)) {
        let shape = [bits.len() as u32];
        let outputs = [Tensor::from_f32_bits("y", &shape, bits.iter().copied())];
        let finite = bits.iter().all(|b| f32::from_bits(*b).is_finite());
        match encode_output(&outputs) {
            Ok(bytes) => {
                prop_assert!(finite);
                let output = solidity::ModelOutput::abi_decode(&bytes).expect("a ModelOutput");
                for (value, bits) in output.numbers[0].values.iter().zip(&bits) {
                    let back = number(value.value, value.decimals).to_f32();
                    prop_assert_eq!(back, Some(f32::from_bits(*bits)));
                }
            }
            Err(error) => prop_assert!(!finite && error == ModelError::NotFinite),
        }
    }
}
