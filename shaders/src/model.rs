//! A loaded model: graph, weights, plans, cost.

use crate::error::LoadError;
use crate::limits::Limits;
use crate::plan::Plan;
use penstock_rules::ids::{Igas, ModelHash};
use penstock_rules::model::{ModelInfo, Signature};
use penstock_rules::request::ModelError;
use std::sync::Arc;

/// A model, checked and prepared. It is immutable but for its cache of plans.
#[derive(Debug)]
pub struct Model {
    hash: ModelHash,
    signature: Signature,
    igas_base: Igas,
    igas_per_unit: Igas,
    batch_max: u32,
    weights: Vec<u32>,
}

impl Model {
    /// Reads an ONNX file, checks it against `limits`, and prepares its weights.
    ///
    /// # Errors
    /// Names what is wrong, unsupported or too large.
    pub fn load(onnx: &[u8], limits: &Limits) -> Result<Arc<Self>, LoadError> {
        if onnx.len() > limits.file_bytes_max {
            return Err(LoadError::Limit {
                what: "bytes of the file",
                found: onnx.len() as u64,
                limit: limits.file_bytes_max as u64,
            });
        }
        Err(LoadError::Malformed("no operator is known yet".into()))
    }

    /// keccak256 of the file.
    #[must_use]
    pub fn hash(&self) -> ModelHash {
        self.hash
    }

    /// Inputs and outputs.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Static cost of a request, without its units.
    #[must_use]
    pub fn igas_base(&self) -> Igas {
        self.igas_base
    }

    /// Static cost per unit.
    #[must_use]
    pub fn igas_per_unit(&self) -> Igas {
        self.igas_per_unit
    }

    /// Units that are joined into one run, at most.
    #[must_use]
    pub fn batch_max(&self) -> u32 {
        self.batch_max
    }

    /// What the registry holds of this model under the id `cid`.
    #[must_use]
    pub fn info(&self, cid: &str) -> ModelInfo {
        ModelInfo {
            cid: cid.into(),
            hash: self.hash,
            igas_base: self.igas_base,
            igas_per_unit: self.igas_per_unit,
            signature: self.signature.clone(),
        }
    }

    /// Prepared weights, the words of [`crate::plan::Space::Weights`]. They never change.
    #[must_use]
    pub fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// The plan for inputs of these shapes, in the signature's order, from the cache or new.
    ///
    /// # Errors
    /// [`ModelError::WrongInput`] where the shapes do not fit, [`ModelError::TooLarge`] beyond the limits.
    pub fn plan(&self, shapes: &[Vec<u32>]) -> Result<Arc<Plan>, ModelError> {
        let _ = shapes;
        Err(ModelError::WrongInput)
    }
}
