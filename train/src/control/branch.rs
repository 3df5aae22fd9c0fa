//! A second branch in each residual block, trained after the first, and coupled with it channel by channel: CFSNet
//! (Wang, Guo, Tian, Dong, Qiao, ICCV 2019), `x + (1 − α) M₂ σ(M₁ x) + α R₂ σ(R₁ x)`.
//!
//! A block is as wide as both branches: what opens it gives the channels of the first, then those of the second.

use candle_core::{Result, Tensor};
use tunableconv::nn::{Init, TensorSpec};

use super::{Bank, Kernel, Parts, Role, Rule};

pub(super) struct Branch;

/// α before training.
const COUPLED: f64 = 0.5;

impl Branch {
    /// Shapes of the second branch's kernel and bias.
    fn shapes(bank: &Bank) -> (Vec<usize>, [usize; 2]) {
        let mut shape = [&[1], bank.shape()].concat();
        let halved = if bank.role == Role::Opens { 1 } else { 2 };
        shape[halved] /= 2;
        let channels = shape[1];
        (shape, [1, channels])
    }
}

impl Rule for Branch {
    fn tensors(&self, bank: &Bank) -> Vec<TensorSpec> {
        let (weight, bias) = Self::shapes(bank);
        let gains = [bank.corners(), bank.shape()[0]];
        let tensor =
            |name: &str, shape: &[usize], init| TensorSpec::new(bank.part(name), shape, init);
        let bias = bank.bias.as_ref().map(|_| tensor("bias", &bias, Init::Constant(0.0)));
        let gains =
            (bank.role == Role::Closes).then(|| tensor("gains", &gains, Init::Constant(COUPLED)));
        [Some(tensor("weight", &weight, bank.weight.init)), bias, gains]
            .into_iter()
            .flatten()
            .collect()
    }

    fn differences(&self, bank: &Bank, parts: &Parts<'_>, k: &Kernel) -> Result<Kernel> {
        let get = |name: &str| parts.get(&bank.part(name));
        let weight = get("weight")?;
        if bank.role == Role::Opens {
            // Behind the channels of the first; the same at every corner.
            let channels = weight.dim(1)?;
            let corners = Tensor::ones((bank.corners(), 1), weight.dtype(), weight.device())?;
            let behind = |own: &Tensor| {
                let all = own.pad_with_zeros(1, channels, 0)?;
                let shape = [&[bank.corners()], &all.dims()[1..]].concat();
                corners.matmul(&all.flatten_from(1)?)?.reshape(shape)
            };
            let bias = k.bias.as_ref().map(|_| behind(get("bias")?)).transpose()?;
            return Ok(Kernel { weight: behind(weight)?, bias });
        }
        let gains = get("gains")?;
        let (corners, channels) = gains.dims2()?;
        // Instead of the first.
        let other = (weight.pad_with_zeros(2, weight.dim(2)?, 0)? - &k.weight)?;
        let weight = other.broadcast_mul(&gains.reshape((corners, channels, 1, 1, 1))?)?;
        let of_bias = |bias: &Tensor| (get("bias")? - bias)?.broadcast_mul(gains);
        Ok(Kernel { weight, bias: k.bias.as_ref().map(of_bias).transpose()? })
    }

    fn is_left_out_at_base(&self, bank: &Bank) -> bool {
        bank.role == Role::Closes
    }
}
