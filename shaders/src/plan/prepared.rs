//! Prepared constants: which form of which constant stands at which word.

use crate::graph::{Constant, ValueId};
use crate::num::{Width, fixed};
use crate::plan::{ALIGN_WORDS, Tensor, tensor::walk};
use penstock_rules::tensor::ElementType;
use std::collections::HashMap;
use std::sync::Arc;

/// A form of a constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    constant: u64,
    start: i64,
    dims: Vec<u32>,
    strides: Vec<i64>,
    /// Leading dimensions that are rows, and the width, where it is quantised; `None` for plain words.
    rows: Option<(usize, Width)>,
    /// Zero points to be taken from 8-bit integers: one, or one per index of an axis.
    zeros: Option<(usize, Vec<i32>)>,
}

impl Form {
    /// `tensor`'s view on its constant, made contiguous, plain or quantised with its first `rows` dimensions as rows.
    pub(crate) fn of(tensor: &Tensor, constant: &Constant, rows: Option<(usize, Width)>) -> Self {
        Self {
            constant: constant.id,
            start: tensor.start,
            dims: tensor.dims.clone(),
            strides: tensor.strides.clone(),
            rows,
            zeros: None,
        }
    }

    /// `tensor`'s integers less their zero points, along `axis` where there are several.
    pub(crate) fn less(tensor: &Tensor, constant: &Constant, axis: usize, zeros: Vec<i32>) -> Self {
        Self {
            zeros: Some((axis, zeros)),
            ..Self::of(tensor, constant, None)
        }
    }

    /// Its words; a quantised form has its values first, then, aligned, its exponents.
    pub(crate) fn words(&self, constant: &Constant) -> Vec<u32> {
        let per = constant.kind.words() as usize;
        let mut words = Vec::new();
        walk(&self.dims, &self.strides, |offset| {
            let at = (self.start + offset) as usize * per;
            words.extend_from_slice(&constant.words[at..at + per]);
        });
        if let Some((axis, zeros)) = &self.zeros {
            let inner: usize = self
                .dims
                .iter()
                .skip(axis + 1)
                .map(|&d| d as usize)
                .product();
            for (i, word) in words.iter_mut().enumerate() {
                let zero = zeros[i / inner.max(1) % zeros.len()];
                *word = word.wrapping_sub(zero as u32);
            }
        }
        match self.rows {
            None => words,
            Some((rows, width)) => quantise(&words, &self.dims[..rows], width),
        }
    }
}

fn quantise(words: &[u32], rows: &[u32], width: Width) -> Vec<u32> {
    let rows = rows.iter().map(|&d| d as usize).product::<usize>();
    let cols = words.len() / rows.max(1);
    let values: Vec<f32> = words.iter().map(|&w| f32::from_bits(w)).collect();
    let mut out = vec![0i32; words.len()];
    let exponents: Vec<u32> = values
        .chunks_exact(cols)
        .zip(out.chunks_exact_mut(cols))
        .map(|(row, q)| u32::from(fixed::quantise_into(row, q, width).0))
        .collect();
    let mut words: Vec<u32> = out.into_iter().map(|q| q as u32).collect();
    words.resize(align(words.len() as u64) as usize, 0);
    words.extend(exponents);
    words
}

/// The next multiple of [`ALIGN_WORDS`].
pub(crate) fn align(words: u64) -> u64 {
    words.next_multiple_of(u64::from(ALIGN_WORDS))
}

/// Prepared constants in one run of words.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) words: Vec<u32>,
    forms: HashMap<Form, u32>,
    /// Constants that were computed once, by the value they stand for and a number.
    memo: HashMap<(ValueId, u32), Arc<Constant>>,
    /// Views on constants, made contiguous.
    flats: HashMap<Form, Arc<Constant>>,
    /// Small constants by content.
    interned: HashMap<(u8, Vec<u32>, Vec<u32>), Arc<Constant>>,
}

/// Largest constant that is kept by content, in words: attributes and shapes are smaller.
const INTERNED_WORDS_MAX: usize = 1_024;

impl Prepared {
    pub(crate) fn find(&self, form: &Form) -> Option<u32> {
        self.forms.get(form).copied()
    }

    /// Adds the form's words and tells where they begin; `None` where they don't fit `words_max`.
    pub(crate) fn add(&mut self, form: Form, constant: &Constant, words_max: u64) -> Option<u32> {
        let offset = align(self.words.len() as u64);
        let words = form.words(constant);
        if offset + words.len() as u64 > words_max {
            return None;
        }
        self.words.resize(offset as usize, 0);
        self.words.extend(words);
        self.forms.insert(form, offset as u32);
        Some(offset as u32)
    }
}

/// A pool that may be added to, or not any more.
pub(crate) enum Access<'a> {
    /// While a model is loaded.
    Open(&'a mut Prepared),
    /// Afterwards.
    Frozen(&'a Prepared),
}

impl Access<'_> {
    pub(crate) fn pool(&self) -> &Prepared {
        match self {
            Self::Open(pool) => pool,
            Self::Frozen(pool) => pool,
        }
    }

    pub(crate) fn memo(&self, key: (ValueId, u32)) -> Option<Arc<Constant>> {
        self.pool().memo.get(&key).cloned()
    }

    pub(crate) fn remember(&mut self, key: (ValueId, u32), constant: &Arc<Constant>) {
        if let Self::Open(pool) = self {
            pool.memo.insert(key, constant.clone());
        }
    }

    /// A view on a constant as a constant of its own, the same one from plan to plan.
    pub(crate) fn flat(&mut self, tensor: &Tensor, constant: &Constant) -> Arc<Constant> {
        self.formed(tensor.element, Form::of(tensor, constant, None), constant)
    }

    /// A plain form of a constant as a constant of its own, the same one from plan to plan.
    pub(crate) fn formed(
        &mut self,
        element: ElementType,
        form: Form,
        constant: &Constant,
    ) -> Arc<Constant> {
        if let Some(found) = self.pool().flats.get(&form) {
            return found.clone();
        }
        let made = Constant::new(element, form.dims.clone(), form.words(constant))
            .marked(constant.of_shape);
        let made = Arc::new(made);
        if let Self::Open(pool) = self {
            pool.flats.insert(form, made.clone());
        }
        made
    }

    /// The constant of this content, with an id that stays the same from plan to plan where it is small.
    pub(crate) fn intern(&mut self, constant: Constant) -> Arc<Constant> {
        if constant.of_shape || constant.words.len() > INTERNED_WORDS_MAX {
            return Arc::new(constant);
        }
        let key = (
            constant.element as u8,
            constant.dims.clone(),
            constant.words.clone(),
        );
        if let Some(found) = self.pool().interned.get(&key) {
            return found.clone();
        }
        let constant = Arc::new(constant);
        if let Self::Open(pool) = self {
            pool.interned.insert(key, constant.clone());
        }
        constant
    }
}
