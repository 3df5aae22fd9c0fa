//! Factors, and biases, for each output channel: `y = (1 + s) (k x + b) + t`.
//!
//! With biases it is FiLM (Perez, Strub, de Vries, Dumoulin, Courville, AAAI 2018) as "You Only Train Once" has it
//! (Dosovitskiy and Djolonga, ICLR 2020), and, trained after k for the other end of the knob, AdaFM with filters of 1×1
//! (He, Dong, Qiao, CVPR 2019); without, and on the branches of residual blocks, the conditions of CResMD (He, Dong,
//! Qiao, ECCV 2020).

use candle_core::Result;
use tunableconv::nn::{Init, TensorSpec};

use super::{Bank, Kernel, Parts, Rule};

pub(super) struct Channels {
    /// Whether there are biases, too.
    pub has_bias: bool,
}

impl Rule for Channels {
    fn tensors(&self, bank: &Bank) -> Vec<TensorSpec> {
        let shape = [bank.corners(), bank.shape()[0]];
        let zeros = |name: &str| TensorSpec::new(bank.part(name), &shape, Init::Constant(0.0));
        let bias = (self.has_bias && bank.bias.is_some()).then(|| zeros("bias"));
        [Some(zeros("scale")), bias].into_iter().flatten().collect()
    }

    fn differences(&self, bank: &Bank, parts: &Parts<'_>, k: &Kernel) -> Result<Kernel> {
        let scale = parts.get(&bank.part("scale"))?;
        let (corners, channels) = scale.dims2()?;
        let weight = k.weight.broadcast_mul(&scale.reshape((corners, channels, 1, 1, 1))?)?;
        let of_bias = |bias: &candle_core::Tensor| {
            let scaled = bias.broadcast_mul(scale)?;
            if self.has_bias { scaled + parts.get(&bank.part("bias"))? } else { Ok(scaled) }
        };
        Ok(Kernel { weight, bias: k.bias.as_ref().map(of_bias).transpose()? })
    }
}
