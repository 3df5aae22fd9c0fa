//! A dense layer whose weights are mixed from a bank by the tuning.

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;

use super::init::{Init, TensorSpec};
use super::phi::{Phi, PhiConfig};
use super::tunable_conv::{check_tuning, mix};

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct TunableDense {
    parameters: usize,
    weight: Tensor,
    bias: Tensor,
    phi: Phi<Tensor>,
}

impl TunableDense {
    /// The tensors of one with `p` tuning parameters; its weights start so that outputs have the variance
    /// of inputs.
    pub fn tensors(
        prefix: &str,
        p: usize,
        (c_in, c_out): (usize, usize),
        phi: PhiConfig,
    ) -> Vec<TensorSpec> {
        let (kernels, bound) = (phi.kernels(p), (3.0 / c_in as f64).sqrt());
        let weight = [1, kernels, c_out, c_in];
        let mut specs = vec![
            TensorSpec::new(format!("{prefix}weight"), &weight, Init::Uniform(bound)),
            TensorSpec::new(format!("{prefix}bias"), &[1, kernels, c_out], Init::Constant(0.0)),
        ];
        specs.extend(phi.tensors(p, prefix));
        specs
    }

    /// Reads `weight` `[1, P, C_out, C_in]`, `bias` `[1, P, C_out]`, and `mlp.weight`, `mlp.bias` when φ has
    /// them, from `vb`.
    ///
    /// # Errors
    /// A missing or misshaped tensor, or an impossible configuration.
    pub fn new(
        p: usize,
        (c_in, c_out): (usize, usize),
        phi: PhiConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let kernels = phi.kernels(p);
        let weight = vb.get((1, kernels, c_out, c_in), "weight")?;
        let bias = vb.get((1, kernels, c_out), "bias")?;
        Ok(Self { parameters: p, weight, bias, phi: Phi::new(p, phi, vb)? })
    }

    /// The ordinary layers at tunings `omega`, `[B, p]`.
    ///
    /// # Errors
    /// A tuning of another shape.
    pub fn fold(&self, omega: &Tensor) -> Result<FoldedDense> {
        check_tuning(omega, self.parameters)?;
        let coefficients = self.phi.coefficients(omega)?;
        let weight = mix(&self.weight, &coefficients)?.transpose(1, 2)?.contiguous()?;
        Ok(FoldedDense { weight, bias: mix(&self.bias, &coefficients)?.unsqueeze(1)? })
    }
}

/// Ordinary dense layers: what a tunable one becomes at fixed tunings.
#[derive(Clone, Debug)]
pub struct FoldedDense {
    /// `[B, C_in, C_out]`.
    weight: Tensor,
    /// `[B, 1, C_out]`.
    bias: Tensor,
}

impl Module for FoldedDense {
    /// Of `[N, L, C_in]`, with N a multiple of B; returns `[N, L, C_out]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let ((n, l, c), (sets, c_in, c_out)) = (x.dims3()?, self.weight.dims3()?);
        if c != c_in || !n.is_multiple_of(sets) {
            bail!("dense: input {:?}, expected [N, L, {c_in}], N a multiple of {sets}", x.dims());
        }
        let y = x.reshape((sets, n / sets * l, c))?.matmul(&self.weight)?;
        y.broadcast_add(&self.bias)?.reshape((n, l, c_out))
    }
}
