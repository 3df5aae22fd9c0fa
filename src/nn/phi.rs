//! φ, the map from a tuning to mixing coefficients: what it is, and how it is computed, with tensors where
//! it is trained and without where every frame has another tuning.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::init::{Init, TensorSpec};
use crate::Error;
use crate::tuning::corner_weights;

/// How the tuning becomes mixing coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// a = ω (with `expand` > 1: as `Mlp`).
    Linear,
    /// a = W ω + c.
    Mlp,
    /// One kernel per corner of the unit box: a_c = Π_j (ω_j if corner c has bit j, else 1 − ω_j).
    Multilinear,
}

/// Configuration of φ, the map from a tuning to mixing coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhiConfig {
    /// The kind of map.
    pub mode: Mode,
    /// Kernels per parameter, P = p·expand; must be 1 for [`Mode::Multilinear`], where P = 2^p.
    pub expand: usize,
}

impl Default for PhiConfig {
    fn default() -> Self {
        Self { mode: Mode::Mlp, expand: 1 }
    }
}

impl PhiConfig {
    /// Number of kernels P in a bank for `p` parameters.
    pub fn kernels(&self, p: usize) -> usize {
        match self.mode {
            Mode::Linear | Mode::Mlp => p * self.expand,
            Mode::Multilinear => 1 << p,
        }
    }

    fn has_affine(&self) -> bool {
        match self.mode {
            Mode::Linear => self.expand > 1,
            Mode::Mlp => true,
            Mode::Multilinear => false,
        }
    }

    /// Those of a layer whose names begin with `prefix`.
    pub(super) fn tensors(&self, p: usize, prefix: &str) -> Vec<TensorSpec> {
        if !self.has_affine() {
            return vec![];
        }
        // At ω = 0 the bank's mean (scaled to keep its variance) is used; W is small beside it, so
        // that activations start at the same scale all over the domain.
        let kernels = self.kernels(p);
        let (weight, bias) = (0.5 / (p as f64).sqrt(), 1.0 / (kernels as f64).sqrt());
        vec![
            TensorSpec::new(format!("{prefix}mlp.weight"), &[kernels, p], Init::Uniform(weight)),
            TensorSpec::new(format!("{prefix}mlp.bias"), &[kernels], Init::Constant(bias)),
        ]
    }
}

/// φ with its weights: tensors, or numbers.
#[derive(Clone, Debug)]
pub(crate) enum Phi<T> {
    /// a = ω.
    Identity,
    /// a = W ω + c.
    Affine {
        /// W, `[P, p]`.
        weight: T,
        /// c, `[P]`.
        bias: T,
    },
    /// Of the corners of the unit box.
    Multilinear,
}

impl Phi<Tensor> {
    /// Reads it for `p` parameters.
    pub(super) fn new(p: usize, config: PhiConfig, vb: VarBuilder) -> Result<Self> {
        if config.expand == 0 || (config.mode == Mode::Multilinear && config.expand != 1) {
            bail!("expand = {} is not possible with {:?}", config.expand, config.mode);
        }
        if config.has_affine() {
            let kernels = config.kernels(p);
            let vb = vb.pp("mlp");
            let (weight, bias) = (vb.get((kernels, p), "weight")?, vb.get(kernels, "bias")?);
            return Ok(Self::Affine { weight, bias });
        }
        Ok(if config.mode == Mode::Multilinear { Self::Multilinear } else { Self::Identity })
    }

    /// Of tunings `[B, p]`; returns `[B, P]`.
    pub(super) fn coefficients(&self, omega: &Tensor) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(omega.clone()),
            Self::Affine { weight, bias } => omega.matmul(&weight.t()?)?.broadcast_add(bias),
            Self::Multilinear => {
                let (batch, p) = omega.dims2()?;
                if p == 0 {
                    return Tensor::ones((batch, 1), omega.dtype(), omega.device());
                }
                let rest = omega.affine(-1.0, 1.0)?;
                let corners = (0..1usize << p).map(|corner| {
                    let factor = |j: usize| {
                        let source = if corner >> j & 1 == 1 { omega } else { &rest };
                        source.narrow(1, j, 1)
                    };
                    (1..p).try_fold(factor(0)?, |product, j| product.mul(&factor(j)?))
                });
                Tensor::cat(&corners.collect::<Result<Vec<_>>>()?, 1)
            }
        }
    }
}

impl Phi<Vec<f32>> {
    /// Of a layer for `p` parameters, whose tensors `find` knows by the ends of their names.
    ///
    /// # Errors
    /// [`Error::Config`] naming a tensor that is missing or of another size.
    pub(crate) fn of<'t>(
        p: usize,
        config: PhiConfig,
        find: impl Fn(&str) -> Option<(String, &'t [f32])>,
    ) -> crate::Result<Self> {
        if !config.has_affine() {
            let is_multilinear = config.mode == Mode::Multilinear;
            return Ok(if is_multilinear { Self::Multilinear } else { Self::Identity });
        }
        let values = |suffix: &str, expected: usize| match find(suffix) {
            Some((_, values)) if values.len() == expected => Ok(values.to_vec()),
            Some((name, values)) => {
                let got = values.len();
                Err(Error::Config(format!("tensor `{name}` has {got} values, expected {expected}")))
            }
            None => Err(Error::Config(format!("a tensor `…{suffix}` is missing"))),
        };
        let kernels = config.kernels(p);
        let (weight, bias) = (values("mlp.weight", kernels * p)?, values("mlp.bias", kernels)?);
        Ok(Self::Affine { weight, bias })
    }

    /// Of one tuning; fills `a`, which has room for P.
    pub(crate) fn coefficients(&self, omega: &[f32], a: &mut [f32]) {
        match self {
            Self::Identity => a.copy_from_slice(omega),
            Self::Affine { weight, bias } => {
                for ((a, row), bias) in a.iter_mut().zip(weight.chunks(omega.len())).zip(bias) {
                    *a = row.iter().zip(omega).map(|(w, o)| w * o).sum::<f32>() + bias;
                }
            }
            Self::Multilinear => corner_weights(omega, a),
        }
    }
}
