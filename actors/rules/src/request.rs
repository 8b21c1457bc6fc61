//! Requests, outcomes and attestations: what is asked, what is answered, who stands for it.

use crate::ids::{ModelHash, RequestKey, ShardId};
use alloy_primitives::{B256, Bytes, Keccak256, keccak256};
use alloy_rlp::{Decodable, Encodable, Header, RlpDecodable, RlpEncodable};
use serde::{Deserialize, Serialize};

/// Numeric version of the inference engine. It changes whenever any model's bits may change, and is part of every
/// [`RequestKey`], so answers of different engines are never confused.
pub const ENGINE_VERSION: u32 = 1;

/// How an answer is trusted (OpenGradient's `ModelInferenceMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Mode {
    /// One shard's signed answer.
    Vanilla = 0,
    /// Stand-in for a proof: a quorum of equal answers, and followers that hold the model re-execute.
    Zk = 1,
    /// Stand-in for an enclave: a quorum of equal answers from different shards.
    Tee = 2,
}

impl Mode {
    /// The mode with this number.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Vanilla,
            1 => Self::Zk,
            2 => Self::Tee,
            _ => return None,
        })
    }
}

/// How many different shards must give the same answer, per mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// For [`Mode::Vanilla`].
    pub vanilla: u8,
    /// For [`Mode::Zk`].
    pub zk: u8,
    /// For [`Mode::Tee`].
    pub tee: u8,
}

impl Default for Quorum {
    fn default() -> Self {
        Self {
            vanilla: 1,
            zk: 2,
            tee: 2,
        }
    }
}

impl Quorum {
    /// The number of equal answers that `mode` needs.
    #[must_use]
    pub const fn of(&self, mode: Mode) -> u8 {
        match mode {
            Mode::Vanilla => self.vanilla,
            Mode::Zk => self.zk,
            Mode::Tee => self.tee,
        }
    }
}

/// One call of a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// The model, by content.
    pub model: ModelHash,
    /// How the answer is to be trusted.
    pub mode: Mode,
    /// Canonical input tensors ([`crate::tensor::encode`]), in the order of the model's inputs.
    pub input: Bytes,
}

impl Request {
    /// The request's identity: keccak256 over domain tag, model, mode, engine version and input.
    #[must_use]
    pub fn key(&self) -> RequestKey {
        let mut hasher = Keccak256::new();
        hasher.update(b"penstock/request/1");
        hasher.update(self.model.0);
        hasher.update([self.mode as u8]);
        hasher.update(ENGINE_VERSION.to_be_bytes());
        hasher.update(&self.input);
        RequestKey(hasher.finalize())
    }
}

/// Why a model deterministically gives no output. It is an outcome: witnessed, charged, reverted with a typed error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum ModelError {
    /// Inputs do not have the names, types or shapes that the model takes.
    WrongInput = 1,
    /// An output holds NaN or an infinity.
    NotFinite = 2,
    /// An operator met a value that it has no result for (an index out of range, say).
    Domain = 3,
    /// A limit of the engine on this input was passed (memory, elements).
    TooLarge = 4,
}

impl ModelError {
    /// The error with this number.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::WrongInput,
            2 => Self::NotFinite,
            3 => Self::Domain,
            4 => Self::TooLarge,
            _ => return None,
        })
    }
}

/// What a request comes to. The same on every shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Canonical output tensors ([`crate::tensor::encode`]), in the order of the model's outputs.
    Output(Bytes),
    /// No output, deterministically.
    Failed(ModelError),
}

impl Outcome {
    /// keccak256 over a domain tag, the kind and the payload.
    #[must_use]
    pub fn hash(&self) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update(b"penstock/outcome/1");
        match self {
            Self::Output(bytes) => {
                hasher.update([0]);
                hasher.update(bytes);
            }
            Self::Failed(error) => hasher.update([*error as u8]),
        }
        hasher.finalize()
    }

    /// Bytes of the payload.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Output(bytes) => bytes.len(),
            Self::Failed(_) => 0,
        }
    }

    /// Whether the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// As RLP: the list `[kind, payload]`, kind 0 for an output, else the [`ModelError`]'s number.
#[derive(RlpEncodable, RlpDecodable)]
struct OutcomeRlp {
    kind: u8,
    payload: Bytes,
}

impl Encodable for Outcome {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        let (kind, payload) = match self {
            Self::Output(bytes) => (0, bytes.clone()),
            Self::Failed(error) => (*error as u8, Bytes::new()),
        };
        OutcomeRlp { kind, payload }.encode(out);
    }

    fn length(&self) -> usize {
        let payload = match self {
            Self::Output(bytes) => bytes.length(),
            Self::Failed(_) => 1,
        };
        let payload_length = 1 + payload;
        payload_length
            + Header {
                list: true,
                payload_length,
            }
            .length()
    }
}

impl Decodable for Outcome {
    fn decode(buf: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let OutcomeRlp { kind, payload } = OutcomeRlp::decode(buf)?;
        if kind == 0 {
            return Ok(Self::Output(payload));
        }
        if !payload.is_empty() {
            return Err(alloy_rlp::Error::Custom("a failed outcome has no payload"));
        }
        ModelError::from_u8(kind)
            .map(Self::Failed)
            .ok_or(alloy_rlp::Error::Custom("unknown kind of outcome"))
    }
}

/// A shard's signature over chain, request and outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, RlpEncodable, RlpDecodable)]
pub struct Attestation {
    /// Who signed.
    pub shard: ShardId,
    /// secp256k1 signature over [`attestation_digest`]: r, s (32 bytes each) and the recovery bit (0 or 1), 65 bytes.
    pub signature: Bytes,
}

/// What a shard signs for an answer: keccak256 over domain tag, chain id, request key and outcome hash.
#[must_use]
pub fn attestation_digest(chain_id: u64, key: RequestKey, outcome_hash: B256) -> B256 {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend(b"penstock/attestation/1");
    bytes.extend(chain_id.to_be_bytes());
    bytes.extend(key.0);
    bytes.extend(outcome_hash);
    keccak256(bytes)
}

/// An answer that reached its quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The request.
    pub key: RequestKey,
    /// Its outcome.
    pub outcome: Outcome,
    /// Who stands for it, by ascending shard, all different.
    pub attestations: Vec<Attestation>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            model: ModelHash(B256::repeat_byte(1)),
            mode: Mode::Vanilla,
            input: Bytes::from_static(b"input"),
        }
    }

    #[test]
    fn each_part_of_a_request_changes_its_key() {
        let base = request();
        let mut others = [base.clone(), base.clone(), base.clone()];
        others[0].model = ModelHash(B256::repeat_byte(2));
        others[1].mode = Mode::Tee;
        others[2].input = Bytes::from_static(b"inpuT");
        for other in others {
            assert_ne!(base.key(), other.key());
        }
    }

    #[test]
    fn outcomes_come_back_from_rlp() {
        for outcome in [
            Outcome::Output(Bytes::from_static(b"abc")),
            Outcome::Output(Bytes::new()),
            Outcome::Output(Bytes::from_static(&[5])),
            Outcome::Failed(ModelError::NotFinite),
        ] {
            let bytes = alloy_rlp::encode(&outcome);
            assert_eq!(bytes.len(), outcome.length());
            assert_eq!(Outcome::decode(&mut &bytes[..]), Ok(outcome));
        }
    }
}
