//! The parametric multi-loss: `L(θ; ω) = Σ w(ω) λ L(f(x; ω, θ), target)`, with the ω that also mixes
//! the kernels (Maggioni et al., CVPR 2023, sec. 3).

use std::path::Path;

use anyhow::{Context as _, ensure};
use candle_core::{Device, Tensor};
use image::imageops::{FilterType, resize};
use tunableconv::frame::CHANNELS;

use crate::batch::HostBatch;
use crate::loss::adversarial::{Discriminator, generator_loss};
use crate::loss::features::FeatureNet;
use crate::loss::perceptual::{feature_loss, gram, style_loss};
use crate::loss::{colour, pixel, ssim};
use crate::recipe::{ErrorScale, LossKind, Objective, Recipe, Target};
use crate::rgb::{Rgb, load_image};
use crate::yuv::{Matrix, Range};

/// Longest side of a style picture, in pixels: brush strokes are some tens of them.
const STYLE_SIDE: u32 = 512;

/// Channels of luma.
const LUMA: usize = 4;

/// Squared error below which its logarithm hardly changes: half a code value does not matter to anyone.
const LOG_FLOOR: f64 = (0.5 / 255.0) * (0.5 / 255.0);

/// Decay of the running means of adaptive weights, per step.
const MEAN_DECAY: f32 = 0.99;

/// One step's samples, on the device; see [`HostBatch`].
pub struct DeviceBatch {
    /// `[B, p]`.
    pub tunings: Tensor,
    /// `[N, 6, H, W]`.
    pub input: Tensor,
    /// Range of each sample's planes before they were normalised, `[N]`.
    pub ranges: Vec<Range>,
    residual: Option<Tensor>,
    scales: Option<Tensor>,
    targets: Vec<Tensor>,
    matrices: Vec<Matrix>,
    /// w(ω) of each objective, `[N]`.
    weights: Vec<Tensor>,
}

impl DeviceBatch {
    /// Copies a batch of `recipe` to `device`.
    ///
    /// # Errors
    /// A failing device.
    pub fn new(batch: &HostBatch, recipe: &Recipe, device: &Device) -> anyhow::Result<Self> {
        let (n, side) = (batch.matrices.len(), recipe.batch.crop / 2);
        let picture = |values: &Vec<f32>| {
            Tensor::from_slice(values, (n, CHANNELS, side, side), device).map_err(Into::into)
        };
        let p = recipe.tuning.len();
        let each = n / recipe.batch.micro_batches;
        let weights = recipe.objectives.iter().map(|objective| {
            let of = |tuning| objective.weight_at(&recipe.tuning, tuning);
            let weights = batch.tunings.chunks_exact(p).flat_map(|t| vec![of(t); each]);
            Ok(Tensor::from_vec(weights.collect::<Vec<f32>>(), n, device)?)
        });
        let weights = weights.collect::<anyhow::Result<_>>()?;
        let has_corners = !batch.residual.is_empty();
        let scales = || Tensor::from_slice(&batch.scales, (n, CHANNELS), device);
        Ok(Self {
            tunings: Tensor::from_slice(&batch.tunings, (n / each, p), device)?,
            input: picture(&batch.input)?,
            residual: has_corners.then(|| picture(&batch.residual)).transpose()?,
            scales: has_corners.then(scales).transpose()?,
            targets: batch.targets.iter().map(picture).collect::<anyhow::Result<_>>()?,
            ranges: batch.ranges.clone(),
            matrices: batch.matrices.clone(),
            weights,
        })
    }
}

/// The losses of a recipe, ready to be evaluated.
pub struct MultiLoss {
    terms: Vec<Term>,
    features: Option<FeatureNet>,
    /// Running mean of each loss where weights are adaptive; 0 before the first.
    means: Option<Vec<f32>>,
}

struct Term {
    objective: Objective,
    /// Index among the batch's targets; the input if there is none.
    target: Option<usize>,
    /// Gram matrices of the style picture.
    style: Vec<Tensor>,
}

impl Term {
    /// What the output is compared with.
    fn target<'b>(&self, batch: &'b DeviceBatch) -> &'b Tensor {
        match (self.objective.target(), self.target) {
            (Some(Target::Input), _) | (_, None) => &batch.input,
            (_, Some(target)) => &batch.targets[target],
        }
    }
}

/// What the losses came to in a step.
pub struct Evaluation {
    /// What is minimised, a scalar.
    pub total: Tensor,
    /// Of each objective, the sum of w(ω) L over the samples and that of w(ω).
    pub sums: Vec<(f64, f64)>,
    /// Squared error of luma to the mean target, where there is one.
    pub luma_error: Option<f64>,
    /// Of the adversarial objective: its target and the output in RGB, and w(ω).
    pub judged: Option<Judged>,
}

/// Pictures for a discriminator, without gradient.
pub struct Judged {
    /// `[N, 3, H, W]`.
    pub real: Tensor,
    /// `[N, 3, H, W]`.
    pub fake: Tensor,
    /// `[N]`.
    pub weights: Tensor,
}

impl MultiLoss {
    /// The losses of `recipe`; `features` is needed where one of them looks at features.
    ///
    /// # Errors
    /// A missing feature net; a style picture that cannot be read.
    pub fn new(
        recipe: &Recipe,
        features: Option<FeatureNet>,
        device: &Device,
    ) -> anyhow::Result<Self> {
        if recipe.needs_features() {
            ensure!(features.is_some(), "the losses on features need a feature network");
        }
        let masks = recipe.target_masks();
        let term = |objective: &Objective| {
            let index = |mask| masks.iter().position(|other| *other == mask);
            let style = match (&objective.loss, &features) {
                (LossKind::Style { image }, Some(net)) => {
                    let rgb = style_picture(image)?;
                    let shape = (1, 3, rgb.height, rgb.width);
                    let features = net.features(&Tensor::from_vec(rgb.data, shape, device)?)?;
                    features.iter().map(gram).collect::<candle_core::Result<_>>()?
                }
                _ => vec![],
            };
            let target = recipe.kept_by(objective).and_then(index);
            Ok(Term { objective: objective.clone(), target, style })
        };
        let terms: Vec<Term> = recipe.objectives.iter().map(term).collect::<anyhow::Result<_>>()?;
        let means = recipe.adaptive_weights.then(|| vec![0.0; terms.len()]);
        Ok(Self { terms, features, means })
    }

    /// The running means of the losses, part of a run's state.
    pub fn means(&mut self) -> Option<&mut Vec<f32>> {
        self.means.as_mut()
    }

    /// The loss of a net's `residual` on a batch; `discriminator` judges where an objective is
    /// adversarial, and receives no gradient.
    ///
    /// # Errors
    /// A failing device; crops too small for a loss.
    pub fn evaluate(
        &mut self,
        batch: &DeviceBatch,
        residual: &Tensor,
        discriminator: Option<(&Discriminator, &crate::recipe::Discriminator)>,
    ) -> anyhow::Result<Evaluation> {
        let pictures = Pictures::new(batch, residual)?;
        let (mut total, mut luma_error, mut judged) = (None::<Tensor>, None, None);
        let mut sums = Vec::with_capacity(self.terms.len());
        for (index, term) in self.terms.iter().enumerate() {
            let target = term.target(batch);
            let per_sample = match &term.objective.loss {
                LossKind::CornerTargets { scale } => {
                    let (errors, luma) = corner_errors(batch, residual, *scale)?;
                    luma_error = Some(luma);
                    errors
                }
                LossKind::Adversarial {} => {
                    let (discriminator, config) =
                        discriminator.context("an adversarial objective needs a discriminator")?;
                    let (real, fake) = (pictures.rgb(target)?, pictures.rgb(&pictures.output)?);
                    let logits = (discriminator.forward(&real)?, discriminator.forward(&fake)?);
                    let weights = batch.weights[index].clone();
                    judged = Some(Judged { real, fake: fake.detach(), weights });
                    generator_loss(config.loss, &logits.0, &logits.1)?
                }
                loss => self.loss(loss, term, &pictures, target)?,
            };
            let is_game = term.objective.loss == LossKind::Adversarial {};
            let weighted = (&per_sample * &batch.weights[index])?.sum_all()?;
            let sum = f64::from(weighted.to_scalar::<f32>()?);
            let weight = f64::from(batch.weights[index].sum_all()?.to_scalar::<f32>()?);
            sums.push((sum, weight));
            let scale = match &mut self.means {
                // A game's loss is no distance: it has no scale of its own.
                Some(_) if is_game => 1.0,
                None => 1.0,
                Some(means) => running_mean(&mut means[index], sum, weight).recip(),
            };
            let lambda = term.objective.weight * f64::from(scale);
            let term = (weighted * (lambda / pictures.samples as f64))?;
            total = Some(match total {
                None => term,
                Some(total) => (total + term)?,
            });
        }
        let total = total.context("a recipe without objectives")?;
        Ok(Evaluation { total, sums, luma_error, judged })
    }

    /// What [`Self::evaluate`] gives but for adversarial objectives and the scales of adaptive
    /// weights, which change while a run learns: a measure of how far it has come.
    ///
    /// # Errors
    /// As for that.
    pub fn measure(&self, batch: &DeviceBatch, residual: &Tensor) -> anyhow::Result<f64> {
        let pictures = Pictures::new(batch, residual)?;
        let mut total = 0.0;
        for (term, weights) in self.terms.iter().zip(&batch.weights) {
            let per_sample = match &term.objective.loss {
                LossKind::Adversarial {} => continue,
                LossKind::CornerTargets { scale } => corner_errors(batch, residual, *scale)?.0,
                loss => self.loss(loss, term, &pictures, term.target(batch))?,
            };
            let sum = f64::from((per_sample * weights)?.sum_all()?.to_scalar::<f32>()?);
            total += term.objective.weight * sum / pictures.samples as f64;
        }
        Ok(total)
    }

    /// Of the losses that need nothing else.
    fn loss(
        &self,
        loss: &LossKind,
        term: &Term,
        pictures: &Pictures<'_>,
        target: &Tensor,
    ) -> anyhow::Result<Tensor> {
        self.unnamed_loss(loss, term, pictures, target)
            .with_context(|| format!("objective `{}`", term.objective.name()))
    }

    fn unnamed_loss(
        &self,
        loss: &LossKind,
        term: &Term,
        pictures: &Pictures<'_>,
        target: &Tensor,
    ) -> anyhow::Result<Tensor> {
        let output = &pictures.output;
        let of_features = |picture: &Tensor| -> anyhow::Result<Vec<Tensor>> {
            let net = self.features.as_ref().context("no feature net")?;
            Ok(net.features(&pictures.rgb(picture)?)?)
        };
        Ok(match loss {
            LossKind::L1 {} => pixel::l1(output, target)?,
            LossKind::L2 {} => pixel::l2(output, target)?,
            LossKind::Charbonnier { epsilon } => pixel::charbonnier(output, target, *epsilon)?,
            LossKind::Ssim {} => {
                one_minus(&ssim::ssim(&colour::luma(output)?, &colour::luma(target)?)?)?
            }
            LossKind::MsSsim {} => {
                one_minus(&ssim::ms_ssim(&colour::luma(output)?, &colour::luma(target)?)?)?
            }
            LossKind::Features {} => feature_loss(&of_features(output)?, &of_features(target)?)?,
            LossKind::Style { .. } => style_loss(&of_features(output)?, &term.style)?,
            LossKind::TotalVariation {} => pixel::total_variation(&pictures.rgb(output)?)?,
            LossKind::CornerTargets { .. } | LossKind::Adversarial {} => {
                unreachable!("handled by the caller")
            }
        })
    }
}

/// The output of a step and what it is converted with.
struct Pictures<'a> {
    output: Tensor,
    matrices: &'a [Matrix],
    samples: usize,
}

impl<'a> Pictures<'a> {
    fn new(batch: &'a DeviceBatch, residual: &Tensor) -> anyhow::Result<Self> {
        let output = (&batch.input + residual)?;
        Ok(Self { output, matrices: &batch.matrices, samples: batch.matrices.len() })
    }

    fn rgb(&self, planes: &Tensor) -> anyhow::Result<Tensor> {
        Ok(colour::rgb(planes, self.matrices)?)
    }
}

/// Scaled squared error of each sample to its mean target, `[N]`, and the plain one of luma.
fn corner_errors(
    batch: &DeviceBatch,
    residual: &Tensor,
    scale: ErrorScale,
) -> anyhow::Result<(Tensor, f64)> {
    let (Some(wanted), Some(scales)) = (&batch.residual, &batch.scales) else {
        anyhow::bail!("the batch has no corner targets");
    };
    let errors = (residual - wanted)?.sqr()?;
    let luma = errors.detach().narrow(1, 0, LUMA)?.mean_all()?.to_scalar::<f32>()?;
    let of_channels = errors.mean((2, 3))?;
    let scaled = match scale {
        ErrorScale::Input => of_channels.mul(scales)?.mean(1)?,
        ErrorScale::Log => {
            let chroma = CHANNELS - LUMA;
            let log = |first: usize, count: usize| {
                let error = of_channels.narrow(1, first, count)?.mean(1)?;
                error.affine(1.0 / LOG_FLOOR, 1.0)?.log()? * (count as f64 / CHANNELS as f64)
            };
            (log(0, LUMA)? + log(LUMA, chroma)?)?
        }
    };
    Ok((scaled, f64::from(luma)))
}

/// A picture, made smaller if a side is longer than [`STYLE_SIDE`].
fn style_picture(path: &Path) -> anyhow::Result<Rgb> {
    let image = load_image(path)?;
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= STYLE_SIDE {
        return Ok(Rgb::from_image(&image));
    }
    let scaled = |side: u32| (side * STYLE_SIDE).div_ceil(longest);
    let (width, height) = (scaled(width), scaled(height));
    Ok(Rgb::from_image(&resize(&image, width, height, FilterType::CatmullRom)))
}

fn one_minus(similarity: &Tensor) -> candle_core::Result<Tensor> {
    similarity.affine(-1.0, 1.0)
}

/// Updates a running mean of `sum / weight` and returns it; 1 before there was anything.
fn running_mean(mean: &mut f32, sum: f64, weight: f64) -> f32 {
    if weight > 0.0 {
        let now = ((sum / weight) as f32).abs().max(f32::MIN_POSITIVE);
        *mean = if *mean == 0.0 { now } else { MEAN_DECAY * *mean + (1.0 - MEAN_DECAY) * now };
    }
    if *mean == 0.0 { 1.0 } else { *mean }
}
