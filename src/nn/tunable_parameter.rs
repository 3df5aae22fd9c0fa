//! A plain parameter mixed by the tuning, such as the residual scales β and γ of NAFNet.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::init::{Init, TensorSpec};
use super::phi::{Phi, PhiConfig};
use super::tunable_conv::{check_tuning, mix};

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct TunableParameter {
    parameters: usize,
    data: Tensor,
    phi: Phi<Tensor>,
}

impl TunableParameter {
    /// The tensors of one with `p` tuning parameters.
    pub fn tensors(
        prefix: &str,
        p: usize,
        shape: &[usize],
        init: Init,
        phi: PhiConfig,
    ) -> Vec<TensorSpec> {
        let mut specs = vec![TensorSpec::new(format!("{prefix}data"), &full(p, shape, phi), init)];
        specs.extend(phi.tensors(p, prefix));
        specs
    }

    /// Reads `data` `[1, P, shape…]`, and `mlp.weight`, `mlp.bias` when φ has them, from `vb`.
    ///
    /// # Errors
    /// A missing or misshaped tensor, or an impossible configuration.
    pub fn new(p: usize, shape: &[usize], phi: PhiConfig, vb: VarBuilder) -> Result<Self> {
        let data = vb.get(full(p, shape, phi), "data")?;
        Ok(Self { parameters: p, data, phi: Phi::new(p, phi, vb)? })
    }

    /// The parameter at tunings `omega`, `[B, p]`; returns `[B, shape…]`.
    ///
    /// # Errors
    /// A tuning of another shape.
    pub fn fold(&self, omega: &Tensor) -> Result<Tensor> {
        check_tuning(omega, self.parameters)?;
        mix(&self.data, &self.phi.coefficients(omega)?)
    }
}

/// Shape of the bank.
fn full(p: usize, shape: &[usize], phi: PhiConfig) -> Vec<usize> {
    [&[1, phi.kernels(p)], shape].concat()
}
