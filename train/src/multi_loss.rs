//! The parametric multi-loss: `L(θ; ω) = Σ w(ω) λ L(f(x; ω, θ), target)`, with the ω that also mixes
//! the kernels (Maggioni et al., CVPR 2023, sec. 3).

use anyhow::{Context as _, ensure};
use candle_core::{Device, Tensor};
use tunableconv::nn::{Io, Output};
use tunableconv::resample::{Filter, Resize};

use crate::batch::HostBatch;
use crate::loss::adversarial::{AdversarialKind, Discriminator};
use crate::loss::features::{FeatureNet, SharedFeatures};
use crate::loss::{Corners, Seen, colour};
use crate::recipe::{Objective, Recipe, Target};
use crate::view::View;
use crate::yuv::{Matrix, Range};

/// Decay of the running means of adaptive weights, per step.
const MEAN_DECAY: f32 = 0.99;

/// One step's samples, on the device; see [`HostBatch`].
pub struct DeviceBatch {
    /// `[B, p]`.
    pub tunings: Tensor,
    /// `[N, C, H, W]`.
    pub input: Tensor,
    /// Range of each sample's planes before they were normalised, `[N]`.
    pub ranges: Vec<Range>,
    residual: Option<Tensor>,
    scales: Option<Tensor>,
    /// As [`Corners::each`].
    corners: Vec<(Tensor, Tensor)>,
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
        let (n, view) = (batch.matrices.len(), recipe.view());
        let (crop, channels) = (recipe.batch.crop, view.channels());
        let planes = |values: &Vec<f32>, side: usize| -> anyhow::Result<Tensor> {
            let side = view.planes_side(side);
            Ok(Tensor::from_slice(values, (n, channels, side, side), device)?)
        };
        let picture = |values: &Vec<f32>| planes(values, crop);
        let p = recipe.tuning.len();
        let each = n / recipe.batch.micro_batches;
        let weights = recipe.objectives.iter().map(|objective| {
            let of = |tuning| objective.weight_at(&recipe.tuning, tuning);
            let weights = batch.tunings.chunks_exact(p).flat_map(|t| vec![of(t); each]);
            Ok(Tensor::from_vec(weights.collect::<Vec<f32>>(), n, device)?)
        });
        let weights = weights.collect::<anyhow::Result<_>>()?;
        let has_corners = !batch.residual.is_empty();
        let corner = |(weights, wanted): &(Vec<f32>, Vec<f32>)| {
            Ok((Tensor::from_slice(weights, (n, 1, 1, 1), device)?, picture(wanted)?))
        };
        let scales = || Tensor::from_slice(&batch.scales, (n, channels), device);
        Ok(Self {
            tunings: Tensor::from_slice(&batch.tunings, (n / each, p), device)?,
            input: planes(&batch.input, crop / view.scale)?,
            residual: has_corners.then(|| picture(&batch.residual)).transpose()?,
            scales: has_corners.then(scales).transpose()?,
            corners: batch.corners.iter().map(corner).collect::<anyhow::Result<_>>()?,
            targets: batch.targets.iter().map(picture).collect::<anyhow::Result<_>>()?,
            ranges: batch.ranges.clone(),
            matrices: batch.matrices.clone(),
            weights,
        })
    }

    fn samples(&self) -> usize {
        self.matrices.len()
    }

    /// What a net makes of the batch, `run` being the net itself of what it reads.
    ///
    /// # Errors
    /// Those of `run`; a failing device.
    pub fn filtered(
        &self,
        io: &Io,
        run: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Made> {
        Made::by(io, &self.input, run)
    }

    /// The input, enlarged bicubically by a net that enlarges.
    ///
    /// # Errors
    /// A failing device.
    pub fn unfiltered(&self, view: View) -> candle_core::Result<Made> {
        Made::unfiltered(view, &self.input)
    }

    fn corners<'b>(&'b self, made: &'b Made) -> Option<Corners<'b>> {
        let (wanted, scales) = (self.residual.as_ref()?, self.scales.as_ref()?);
        Some(Corners { residual: made.residual.as_ref()?, wanted, scales, each: &self.corners })
    }
}

/// What a net makes of a batch.
pub struct Made {
    /// The pictures, planes `[N, C, H, W]`.
    picture: Tensor,
    /// Them minus the input, where they are of its size.
    residual: Option<Tensor>,
}

impl Made {
    fn by(
        io: &Io,
        input: &Tensor,
        run: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Self> {
        let mut output = None;
        let picture = io.picture(input, |x| run(x).inspect(|y| output = Some(y.clone())))?;
        let residual = match (io.scale, io.output) {
            (1, Output::Residual) => output,
            (1, Output::Direct) => Some((&picture - input)?),
            _ => None,
        };
        Ok(Self { picture, residual })
    }

    fn unfiltered(view: View, input: &Tensor) -> candle_core::Result<Self> {
        if view.scale == 1 {
            return Ok(Self { picture: input.clone(), residual: Some(input.zeros_like()?) });
        }
        let (n, c, h, w) = input.dims4()?;
        let large = (view.scale * w, view.scale * h);
        let mut resize = Resize::new(Filter::Bicubic, (w, h), large);
        let (mut plane, mut all) = (vec![], vec![]);
        for values in input.flatten_all()?.to_vec1::<f32>()?.chunks_exact(h * w) {
            resize.plane(values, &mut plane);
            all.extend_from_slice(&plane);
        }
        let shape = (n, c, large.1, large.0);
        Ok(Self { picture: Tensor::from_vec(all, shape, input.device())?, residual: None })
    }
}

/// The losses of a recipe, ready to be evaluated.
pub struct MultiLoss {
    view: View,
    terms: Vec<Term>,
    features: Option<FeatureNet>,
    /// Running mean of each loss where weights are adaptive; 0 before the first.
    means: Option<Vec<f32>>,
}

struct Term {
    objective: Objective,
    /// Index among the batch's targets; the input if there is none.
    target: Option<usize>,
    /// What of its loss is the same in every step.
    prepared: Vec<Tensor>,
}

impl Term {
    /// What the output is compared with.
    fn target<'b>(&self, batch: &'b DeviceBatch) -> &'b Tensor {
        match (self.objective.target(), self.target) {
            (Some(Target::Input), _) | (_, None) => &batch.input,
            (_, Some(target)) => &batch.targets[target],
        }
    }

    /// The loss of each sample.
    fn per_sample(&self, seen: &Seen<'_>) -> anyhow::Result<Tensor> {
        let loss = self.objective.loss.as_loss();
        loss.per_sample(seen).with_context(|| format!("objective `{}`", self.objective.name()))
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
            let prepared = objective.loss.as_loss().prepare(features.as_ref(), device);
            let prepared = prepared.with_context(|| format!("objective `{}`", objective.name()))?;
            let target = recipe.kept_by(objective).and_then(index);
            Ok(Term { objective: objective.clone(), target, prepared })
        };
        let terms: Vec<Term> = recipe.objectives.iter().map(term).collect::<anyhow::Result<_>>()?;
        let means = recipe.adaptive_weights.then(|| vec![0.0; terms.len()]);
        Ok(Self { view: recipe.view(), terms, features, means })
    }

    /// The running means of the losses, part of a run's state.
    pub fn means(&mut self) -> Option<&mut Vec<f32>> {
        self.means.as_mut()
    }

    /// The loss of what a net has made of a batch; `discriminator` judges where an objective is
    /// adversarial, and receives no gradient.
    ///
    /// # Errors
    /// A failing device; crops too small for a loss.
    pub fn evaluate(
        &mut self,
        batch: &DeviceBatch,
        made: &Made,
        discriminator: Option<(&Discriminator, &crate::recipe::Discriminator)>,
    ) -> anyhow::Result<Evaluation> {
        let game = discriminator.map(|(net, config)| (net, config.loss));
        let corners = batch.corners(made);
        let features = self.features.as_ref().map(SharedFeatures::new);
        let (mut total, mut luma_error, mut judged) = (None::<Tensor>, None, None);
        let mut sums = Vec::with_capacity(self.terms.len());
        for (index, term) in self.terms.iter().enumerate() {
            let is_game = term.objective.loss.as_loss().is_game();
            let seen = self.seen(term, batch, made, features.as_ref(), game);
            let per_sample = term.per_sample(&seen)?;
            if term.objective.is_corner_targets() {
                luma_error = corners.map(|corners| corners.luma_error(self.view)).transpose()?;
            }
            if is_game {
                let rgb = |planes| colour::of_view(self.view, planes, &batch.matrices);
                let (real, fake) = (rgb(term.target(batch))?, rgb(&made.picture.detach())?);
                judged = Some(Judged { real, fake, weights: batch.weights[index].clone() });
            }
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
            let term = (weighted * (lambda / batch.samples() as f64))?;
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
    pub fn measure(&self, batch: &DeviceBatch, made: &Made) -> anyhow::Result<f64> {
        let features = self.features.as_ref().map(SharedFeatures::new);
        let mut total = 0.0;
        for (term, weights) in self.terms.iter().zip(&batch.weights) {
            if term.objective.loss.as_loss().is_game() {
                continue;
            }
            let seen = self.seen(term, batch, made, features.as_ref(), None);
            let per_sample = term.per_sample(&seen)?;
            let sum = f64::from((per_sample * weights)?.sum_all()?.to_scalar::<f32>()?);
            total += term.objective.weight * sum / batch.samples() as f64;
        }
        Ok(total)
    }

    /// Each loss that compares with something, of all samples alike, whatever their tunings; but for adversarial ones.
    ///
    /// # Errors
    /// As for [`Self::evaluate`].
    pub fn each(&self, batch: &DeviceBatch, made: &Made) -> anyhow::Result<Vec<(String, f64)>> {
        let features = self.features.as_ref().map(SharedFeatures::new);
        let mut losses = vec![];
        for term in self.terms.iter().filter(|term| !term.objective.loss.as_loss().is_game()) {
            let seen = self.seen(term, batch, made, features.as_ref(), None);
            let mean = term.per_sample(&seen)?.mean_all()?.to_scalar::<f32>()?;
            losses.push((term.objective.name(), f64::from(mean)));
        }
        Ok(losses)
    }

    /// Mean squared error of luma to the mean of the corners' targets, or to the clean picture.
    ///
    /// # Errors
    /// No objective that compares with either; a failing device.
    pub fn luma_error(&self, batch: &DeviceBatch, made: &Made) -> anyhow::Result<f64> {
        if let Some(corners) = batch.corners(made) {
            return Ok(corners.luma_error(self.view)?);
        }
        let is_clean = |term: &&Term| term.objective.target() == Some(Target::Clean);
        let term = self.terms.iter().find(is_clean).context("no objective has a clean target")?;
        let difference =
            (&made.picture - term.target(batch))?.narrow(1, 0, self.view.groups()[0])?;
        Ok(f64::from(difference.sqr()?.mean_all()?.to_scalar::<f32>()?))
    }

    /// What an objective's loss is computed from.
    fn seen<'a>(
        &'a self,
        term: &'a Term,
        batch: &'a DeviceBatch,
        made: &'a Made,
        features: Option<&'a SharedFeatures<'a>>,
        game: Option<(&'a Discriminator, AdversarialKind)>,
    ) -> Seen<'a> {
        Seen {
            view: self.view,
            output: &made.picture,
            target: term.target(batch),
            corners: batch.corners(made),
            matrices: &batch.matrices,
            features,
            prepared: &term.prepared,
            game,
        }
    }
}

/// Updates a running mean of `sum / weight` and returns it; 1 before there was anything.
fn running_mean(mean: &mut f32, sum: f64, weight: f64) -> f32 {
    if weight > 0.0 {
        let now = ((sum / weight) as f32).abs().max(f32::MIN_POSITIVE);
        *mean = if *mean == 0.0 { now } else { MEAN_DECAY * *mean + (1.0 - MEAN_DECAY) * now };
    }
    if *mean == 0.0 { 1.0 } else { *mean }
}
