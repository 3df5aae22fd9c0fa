//! A kernel of its own for each corner beside the one that they share: what a tunable layer is without φ.
//!
//! Trained after k, for one corner after the other, it is deep network interpolation (Wang, Yu, Dong, Tang, Loy,
//! CVPR 2019).

use candle_core::Result;
use tunableconv::nn::{Init, TensorSpec};

use super::{Bank, Kernel, Parts, Rule};

pub(super) struct Kernels;

impl Rule for Kernels {
    fn tensors(&self, bank: &Bank) -> Vec<TensorSpec> {
        let zeros = |name: &str, spec: &TensorSpec| {
            TensorSpec::new(bank.part(name), &spec.shape[1..], Init::Constant(0.0))
        };
        let bias = bank.bias.as_ref().map(|bias| zeros("bias", bias));
        [Some(zeros("weight", &bank.weight)), bias].into_iter().flatten().collect()
    }

    fn differences(&self, bank: &Bank, parts: &Parts<'_>, k: &Kernel) -> Result<Kernel> {
        let get = |name: &str| parts.get(&bank.part(name)).cloned();
        Ok(Kernel {
            weight: get("weight")?,
            bias: k.bias.as_ref().map(|_| get("bias")).transpose()?,
        })
    }
}
