//! Tunable layers: a bank of P kernels mixed by coefficients a = φ(ω) that come from the tuning.
//!
//! Maggioni, Tanay, Babiloni, McDonagh, Leonardis, "Tunable Convolutions with Parametric
//! Multi-Loss Optimization", CVPR 2023 (arXiv:2304.00898):
//! `k(ω) = Σ aᵢ kᵢ`, `b(ω) = Σ aᵢ bᵢ`, `y = conv(x, k(ω)) + b(ω)`.
//!
//! A layer is always folded first, then run as an ordinary convolution. A tuning tensor of shape
//! `[B, p]` gives B folded kernels; a batch of N samples is then split into B equal runs, so that
//! `B = 1` is one tuning for the whole batch, `B = N` one per sample, and anything between one per
//! micro-batch. Gradients reach bank and φ through the fold.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{VarBuilder, VarMap};
//! use tunableconv::nn::{TunableConv2d, TunableConv2dConfig};
//!
//! let (vars, device) = (VarMap::new(), Device::Cpu);
//! let vb = VarBuilder::from_varmap(&vars, DType::F32, &device);
//! let config = TunableConv2dConfig { padding: 1, ..Default::default() };
//! let layer = TunableConv2d::new(2, 3, 8, 3, config, vb)?;
//! let x = Tensor::zeros((4, 3, 16, 16), DType::F32, &device)?;
//! let one_per_sample = Tensor::rand(0f32, 1., (4, 2), &device)?;
//! assert_eq!(layer.forward(&x, &one_per_sample)?.dims(), [4, 8, 16, 16]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;

use super::conv::{Activation, ConvGeometry, conv2d, prelu};
use super::init::{Init, TensorSpec};
use super::phi::{Phi, PhiConfig};

/// Slopes of PReLU before training, as PyTorch has them.
const PRELU: f64 = 0.25;

/// Mixes `bank`, `[1, P, …]`, by coefficients `[B, P]`; returns `[B, …]`.
pub(super) fn mix(bank: &Tensor, coefficients: &Tensor) -> Result<Tensor> {
    let (batch, kernels) = coefficients.dims2()?;
    let dims = bank.dims();
    if dims.len() < 2 || dims[0] != 1 || dims[1] != kernels {
        bail!("bank has shape {dims:?}, expected [1, {kernels}, …]");
    }
    let mut mixed = vec![batch];
    mixed.extend_from_slice(&dims[2..]);
    coefficients.matmul(&bank.reshape((kernels, ()))?)?.reshape(mixed)
}

pub(super) fn check_tuning(omega: &Tensor, p: usize) -> Result<()> {
    match omega.dims() {
        [_, entries] if *entries == p => Ok(()),
        dims => bail!("tuning has shape {dims:?}, expected [B, {p}]"),
    }
}

/// Configuration of a [`TunableConv2d`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TunableConv2dConfig {
    /// Step of the kernel, in samples.
    pub stride: usize,
    /// Zeros added on every side, in samples.
    pub padding: usize,
    /// Distance of neighbouring taps, in samples.
    pub dilation: usize,
    /// Channel groups.
    pub groups: usize,
    /// Whether a bank of biases is mixed along.
    pub bias: bool,
    /// φ.
    pub phi: PhiConfig,
    /// Applied to the output.
    pub activation: Activation,
}

impl Default for TunableConv2dConfig {
    fn default() -> Self {
        Self {
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
            bias: true,
            phi: PhiConfig::default(),
            activation: Activation::None,
        }
    }
}

impl TunableConv2dConfig {
    /// The tensors such a layer needs, with their initialisation: Kaiming uniform for the gain of
    /// leaky ReLU 0.1, times `gain`.
    pub fn tensors(
        &self,
        prefix: &str,
        p: usize,
        channels: (usize, usize),
        kernel: usize,
        gain: f64,
    ) -> Vec<TensorSpec> {
        let (c_in, c_out) = channels;
        let (kernels, c_group) = (self.phi.kernels(p), c_in / self.groups.max(1));
        let fan_in = (c_group * kernel * kernel) as f64;
        let bound = gain * (6.0 / (1.01 * fan_in)).sqrt();
        let weight = [1, kernels, c_out, c_group, kernel, kernel];
        let mut specs =
            vec![TensorSpec::new(format!("{prefix}weight"), &weight, Init::Uniform(bound))];
        if self.bias {
            let bias = [1, kernels, c_out];
            specs.push(TensorSpec::new(format!("{prefix}bias"), &bias, Init::Constant(0.0)));
        }
        if self.activation == Activation::PRelu {
            let slope = [1, kernels, c_out];
            specs.push(TensorSpec::new(format!("{prefix}slope"), &slope, Init::Constant(PRELU)));
        }
        specs.extend(self.phi.tensors(p, prefix));
        specs
    }
}

/// A convolution whose kernel is mixed from a bank by the tuning.
#[derive(Clone, Debug)]
pub struct TunableConv2d {
    parameters: usize,
    weight: Tensor,
    bias: Option<Tensor>,
    slope: Option<Tensor>,
    phi: Phi<Tensor>,
    geometry: ConvGeometry,
    activation: Activation,
}

impl TunableConv2d {
    /// Reads `weight` `[1, P, C_out, C_in/groups, K, K]`, `bias` and, for [`Activation::PRelu`], `slope`
    /// `[1, P, C_out]`, `mlp.weight` `[P, p]` and `mlp.bias` `[P]` from `vb`.
    ///
    /// # Errors
    /// A missing or misshaped tensor, or an impossible configuration.
    pub fn new(
        p: usize,
        c_in: usize,
        c_out: usize,
        kernel: usize,
        config: TunableConv2dConfig,
        vb: VarBuilder,
    ) -> Result<Self> {
        let TunableConv2dConfig { stride, padding, dilation, groups, .. } = config;
        if groups == 0 || !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
            bail!("{c_in} → {c_out} channels in {groups} groups is not possible");
        }
        let kernels = config.phi.kernels(p);
        if kernels == 0 {
            bail!("{:?} mixes no kernels by no parameters", config.phi.mode);
        }
        let shape = (1, kernels, c_out, c_in / groups, kernel, kernel);
        let weight =
            vb.get(vec![shape.0, shape.1, shape.2, shape.3, shape.4, shape.5], "weight")?;
        let per_channel = |name: &str, is_there: bool| {
            is_there.then(|| vb.get((1, kernels, c_out), name)).transpose()
        };
        let bias = per_channel("bias", config.bias)?;
        let slope = per_channel("slope", config.activation == Activation::PRelu)?;
        Ok(Self {
            parameters: p,
            weight,
            bias,
            slope,
            phi: Phi::new(p, config.phi, vb)?,
            geometry: ConvGeometry { stride, padding, dilation, groups },
            activation: config.activation,
        })
    }

    /// The ordinary convolutions at tunings `omega`, `[B, p]`.
    ///
    /// # Errors
    /// A tuning of another shape.
    pub fn fold(&self, omega: &Tensor) -> Result<FoldedConv2d> {
        check_tuning(omega, self.parameters)?;
        let coefficients = self.phi.coefficients(omega)?;
        Ok(FoldedConv2d {
            weight: mix(&self.weight, &coefficients)?,
            bias: self.bias.as_ref().map(|bias| mix(bias, &coefficients)).transpose()?,
            slope: self.slope.as_ref().map(|slope| mix(slope, &coefficients)).transpose()?,
            geometry: self.geometry,
            activation: self.activation,
        })
    }

    /// `conv(x, k(ω)) + b(ω)`, then the activation.
    ///
    /// # Shapes
    /// - `x`: `[N, C_in, H, W]`
    /// - `omega`: `[B, p]` with B a divisor of N
    /// - returns `[N, C_out, H', W']`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, x: &Tensor, omega: &Tensor) -> Result<Tensor> {
        self.fold(omega)?.forward(x)
    }
}

/// An ordinary convolution with its activation: what a tunable one becomes at fixed tunings.
#[derive(Clone, Debug)]
pub struct FoldedConv2d {
    /// `[B, C_out, C_in/groups, K, K]`.
    pub weight: Tensor,
    /// `[B, C_out]`.
    pub bias: Option<Tensor>,
    /// `[B, C_out]`, of [`Activation::PRelu`].
    pub slope: Option<Tensor>,
    /// Stride, padding, dilation, groups.
    pub geometry: ConvGeometry,
    /// Applied to the output.
    pub activation: Activation,
}

impl FoldedConv2d {
    /// The same whose weights and biases are `factor` times as large.
    ///
    /// # Errors
    /// A failed device.
    pub fn scaled(self, factor: f32) -> Result<Self> {
        if factor == 1.0 {
            return Ok(self);
        }
        let scale = |tensor: Tensor| tensor.affine(f64::from(factor), 0.0);
        let bias = self.bias.map(scale).transpose()?;
        Ok(Self { weight: scale(self.weight)?, bias, ..self })
    }

    /// Whether every weight and bias is zero, so that the output is zero for any finite input.
    ///
    /// # Errors
    /// A failed copy from the device.
    pub fn is_zero(&self) -> Result<bool> {
        let zero = |tensor: &Tensor| -> Result<bool> {
            let largest = tensor.abs()?.flatten_all()?.max(0)?;
            Ok(largest.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()? == 0.0)
        };
        Ok(zero(&self.weight)? && self.bias.as_ref().map_or(Ok(true), zero)?)
    }
}

impl Module for FoldedConv2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (bias, geometry) = (self.bias.as_ref(), self.geometry);
        match &self.slope {
            Some(slope) => {
                prelu(&conv2d(x, &self.weight, bias, geometry, Activation::None)?, slope)
            }
            None => conv2d(x, &self.weight, bias, geometry, self.activation),
        }
    }
}
