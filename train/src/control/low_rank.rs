//! A product of two thin matrices for each corner, and a bias: PaLoRA (Dimitriadis, Frossard, Fleuret, ICLR 2025).

use candle_core::Result;
use tunableconv::nn::{Init, TensorSpec};

use super::{Bank, Kernel, Parts, Rule};

pub(super) struct LowRank {
    pub rank: usize,
}

impl Rule for LowRank {
    fn tensors(&self, bank: &Bank) -> Vec<TensorSpec> {
        let (corners, rank) = (bank.corners(), self.rank);
        let (c_out, rest) = (bank.shape()[0], bank.shape()[1..].iter().product());
        // The product begins at 0, as is usual.
        let zeros = |name: &str, shape: &[usize]| {
            TensorSpec::new(bank.part(name), shape, Init::Constant(0.0))
        };
        let left = zeros("left", &[corners, c_out, rank]);
        let right = TensorSpec::new(bank.part("right"), &[corners, rank, rest], bank.weight.init);
        let bias = bank.bias.as_ref().map(|_| zeros("bias", &[corners, c_out]));
        [Some(left), Some(right), bias].into_iter().flatten().collect()
    }

    fn differences(&self, bank: &Bank, parts: &Parts<'_>, k: &Kernel) -> Result<Kernel> {
        let get = |name: &str| parts.get(&bank.part(name));
        let shape = [&[bank.corners()], bank.shape()].concat();
        let weight = get("left")?.matmul(get("right")?)?.reshape(shape)?;
        let bias = k.bias.as_ref().map(|_| get("bias").cloned()).transpose()?;
        Ok(Kernel { weight, bias })
    }
}
