//! Scores at the points of the domain and along each parameter, over a folder.

use candle_core::Tensor;
use indicatif::ProgressBar;
use serde::Serialize;
use tunableconv::engine::Engine;
use tunableconv::net::Net;
use tunableconv::tuning::TuningSpace;

use super::Distance;
use super::control::{largest_second_difference, spearman};
use super::levels::{FACTORS, Levels};
use super::points::{Place, along, points};
use super::roles::Roles;
use crate::condition::Condition;
use crate::metrics::{Scores, psnr};
use crate::score::{IDENTICAL_DB, MATRIX, Mean, RANGE, bar_style, filter};
use crate::tell;
use crate::terminal::causes;
use crate::test_set::TestSet;
use crate::yuv::Yuv420;

/// Values of a sweep within the domain, evenly spaced.
const STEPS: usize = 11;

/// How far a sweep goes on beyond either end, of the way.
const BEYOND: f64 = 0.1;

/// Means over the images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Numbers {
    /// PSNR and SSIM.
    #[serde(flatten)]
    pub scores: Scores,
    /// Images that were the reference itself, value for value.
    pub identical: usize,
    /// LPIPS, lower is better; null when it was not asked for.
    pub lpips: Option<f64>,
}

/// One tuning under one condition.
#[derive(Debug, Serialize)]
pub struct PointReport {
    /// What point of the domain.
    pub place: Place,
    /// One entry per parameter.
    pub tuning: Vec<f64>,
    /// Whether the engine passes frames through untouched here.
    pub identity: bool,
    /// Against the clean picture.
    pub clean: Numbers,
    /// At a corner whose target is known: against that.
    pub own: Option<Numbers>,
}

/// One condition.
#[derive(Debug, Serialize)]
pub struct ConditionReport {
    /// What it is.
    pub condition: Condition,
    /// The unfiltered picture against the clean one.
    pub input: Numbers,
    /// Over the domain.
    pub points: Vec<PointReport>,
    /// Where parameters are told levels: at each picture's own, and told wrongly.
    pub told: Vec<ToldReport>,
}

/// Every picture at its own level.
#[derive(Debug, Serialize)]
pub struct ToldReport {
    /// What the level is multiplied with.
    pub factor: f64,
    /// Means of the entries over the pictures.
    pub tuning: Vec<f64>,
    /// Against the clean picture.
    pub clean: Numbers,
}

/// How one parameter controls under one condition.
#[derive(Debug, Serialize)]
pub struct Control {
    /// The parameter.
    pub parameter: String,
    /// How the pictures were degraded.
    pub condition: Condition,
    /// Ways along the parameter, 0 to 1 within the domain, with one value beyond at either end.
    pub way: Vec<f64>,
    /// Mean PSNR-Y at each, dB, towards the target where the parameter is on.
    pub psnr_y: Vec<f64>,
    /// Spearman's correlation of ω_j with PSNR-Y within the domain; null for a flat response.
    pub rank_correlation: Option<f64>,
    /// Largest second difference of PSNR-Y within the domain, dB.
    pub second_difference: f64,
    /// Whether the net's own output is finite at both ends beyond the domain.
    pub finite_beyond: bool,
    /// Whether PSNR-Y never falls from one end beyond the domain to the other.
    pub rises_beyond: bool,
}

/// What [`measure`] finds.
pub struct Measured {
    /// Images used.
    pub images: usize,
    /// Files left out.
    pub skipped: usize,
    /// Quality.
    pub conditions: Vec<ConditionReport>,
    /// Control.
    pub control: Vec<Control>,
}

/// A sum of numbers over images.
#[derive(Clone, Default)]
struct Sum {
    scores: Mean,
    identical: usize,
    lpips: Option<f64>,
}

impl Sum {
    fn add(
        &mut self,
        picture: &Yuv420,
        reference: &Yuv420,
        lpips: Option<&Distance>,
    ) -> anyhow::Result<()> {
        self.scores.add(Scores::of(picture, reference)?);
        self.identical += usize::from(picture == reference);
        if let Some(distance) = lpips {
            let rgb = |yuv: &Yuv420| yuv.to_rgb(MATRIX, RANGE);
            let sum = self.lpips.unwrap_or(0.0);
            self.lpips = Some(sum + distance(&rgb(picture), &rgb(reference))?);
        }
        Ok(())
    }

    fn numbers(&self) -> Numbers {
        let lpips = self.lpips.map(|sum| sum / self.scores.count as f64);
        Numbers { scores: self.scores.mean(), identical: self.identical, lpips }
    }
}

/// Sums at the pictures' own levels.
#[derive(Clone)]
struct Told {
    tunings: Vec<f64>,
    sum: Sum,
}

impl Told {
    fn new(parameters: usize) -> Self {
        Self { tunings: vec![0.0; parameters], sum: Sum::default() }
    }
}

/// A parameter swept under a condition.
struct Sweep {
    parameter: usize,
    /// Index of the condition.
    condition: usize,
    /// What of it the reference keeps.
    keep: Vec<bool>,
    psnr_y: Vec<f64>,
}

/// Scores `engine` on `set` under `conditions`. `roles` says what each parameter undoes. A picture
/// that is broken or has a side under 11 pixels is skipped with a warning.
///
/// # Errors
/// A failing engine or distance.
pub fn measure(
    engine: &mut dyn Engine,
    net: &Net,
    set: &TestSet,
    conditions: &[Condition],
    (roles, levels): (&Roles, &Levels),
    lpips: Option<&Distance>,
) -> anyhow::Result<Measured> {
    let space = engine.metadata().tuning.clone();
    let points = points(&space);
    let own: Vec<Vec<Option<Vec<bool>>>> = conditions
        .iter()
        .map(|condition| {
            let kept = points.iter().map(|point| roles.kept_at(point, condition));
            // What is kept there is only at the size that the net gets.
            let is_there = |keep: &Vec<bool>| set.scale() == 1 || keep.iter().all(|keep| !keep);
            kept.map(|keep| keep.filter(is_there)).collect()
        })
        .collect();
    let mut clean = vec![vec![Sum::default(); points.len()]; conditions.len()];
    let mut targets = clean.clone();
    let mut inputs = vec![Sum::default(); conditions.len()];
    let mut identity = vec![false; points.len()];
    let mut sweeps = sweeps(&space, conditions, roles);
    let factors = if levels.are_told() { &FACTORS[..] } else { &[] };
    let mut told = vec![vec![Told::new(space.len()); factors.len()]; conditions.len()];
    let (mut images, mut skipped) = (0, 0);

    let bar =
        ProgressBar::new((set.len() * conditions.len()) as u64).with_style(bar_style("pictures"));
    for index in 0..set.len() {
        let picture = match set.load(index) {
            Ok(picture) => picture,
            Err(error) => {
                bar.suspend(|| tell!("warning: skipped: {}", causes(&error)));
                bar.inc(conditions.len() as u64);
                skipped += 1;
                continue;
            }
        };
        images += 1;
        let reference = picture.reference();
        for (c, condition) in conditions.iter().enumerate() {
            let degraded = picture.degraded(condition, index);
            inputs[c].add(&picture.unfiltered(&degraded), &reference, lpips)?;
            for (k, point) in points.iter().enumerate() {
                engine.set_tuning(&space.tuning(&point.tuning)?)?;
                identity[k] = engine.is_identity();
                let filtered = filter(engine, &degraded)?;
                clean[c][k].add(&filtered, &reference, lpips)?;
                if let Some(keep) = &own[c][k] {
                    let target = picture.target(condition, index, keep);
                    targets[c][k].add(&filtered, &target, lpips)?;
                }
            }
            for (told, factor) in told[c].iter_mut().zip(factors) {
                let tuning = levels.tuning(&picture, condition, index, *factor);
                engine.set_tuning(&space.tuning(&tuning)?)?;
                told.sum.add(&filter(engine, &degraded)?, &reference, lpips)?;
                told.tunings.iter_mut().zip(tuning).for_each(|(sum, value)| *sum += value);
            }
            for sweep in sweeps.iter_mut().filter(|sweep| sweep.condition == c) {
                let reference = picture.target(condition, index, &sweep.keep);
                for (sum, t) in sweep.psnr_y.iter_mut().zip(ways()) {
                    let values = along(&space, sweep.parameter, t);
                    engine.set_tuning(&space.extrapolated_tuning(&values)?)?;
                    let filtered = filter(engine, &degraded)?;
                    *sum += psnr(&filtered.y, &reference.y, 255.0).min(IDENTICAL_DB);
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if images == 0 {
        return Ok(Measured { images, skipped, conditions: Vec::new(), control: Vec::new() });
    }

    let report = |(c, condition): (usize, &Condition)| ConditionReport {
        condition: condition.clone(),
        input: inputs[c].numbers(),
        points: points
            .iter()
            .enumerate()
            .map(|(k, point)| PointReport {
                place: point.place,
                tuning: point.tuning.clone(),
                identity: identity[k],
                clean: clean[c][k].numbers(),
                own: own[c][k].as_ref().map(|_| targets[c][k].numbers()),
            })
            .collect(),
        told: told[c]
            .iter()
            .zip(factors)
            .map(|(told, factor)| ToldReport {
                factor: *factor,
                tuning: told.tunings.iter().map(|sum| sum / images as f64).collect(),
                clean: told.sum.numbers(),
            })
            .collect(),
    };
    let control = sweeps.into_iter().map(|sweep| {
        let condition = conditions[sweep.condition].clone();
        control(net, &space, sweep, condition, images)
    });
    Ok(Measured {
        images,
        skipped,
        conditions: conditions.iter().enumerate().map(report).collect(),
        control: control.collect::<anyhow::Result<_>>()?,
    })
}

/// Every parameter under the conditions with something for it to undo, towards the corner where it
/// alone is on; a parameter that nothing is known of under all of them, towards the clean picture.
fn sweeps(space: &TuningSpace, conditions: &[Condition], roles: &Roles) -> Vec<Sweep> {
    let mut sweeps = Vec::new();
    for parameter in 0..space.len() {
        for (condition, of) in conditions.iter().enumerate() {
            if let Some(keep) = roles.kept_along(parameter, of) {
                let psnr_y = vec![0.0; ways().count()];
                sweeps.push(Sweep { parameter, condition, keep, psnr_y });
            }
        }
    }
    sweeps
}

/// The ways along a parameter that a sweep visits.
fn ways() -> impl Iterator<Item = f64> {
    let within = (0..STEPS).map(|i| i as f64 / (STEPS - 1) as f64);
    std::iter::once(-BEYOND).chain(within).chain(std::iter::once(1.0 + BEYOND))
}

fn control(
    net: &Net,
    space: &TuningSpace,
    sweep: Sweep,
    condition: Condition,
    images: usize,
) -> anyhow::Result<Control> {
    let way: Vec<f64> = ways().collect();
    let psnr_y: Vec<f64> = sweep.psnr_y.iter().map(|sum| sum / images as f64).collect();
    let within = 1..way.len() - 1;
    let finite = |t: f64| finite(net, &along(space, sweep.parameter, t));
    Ok(Control {
        parameter: space.parameters[sweep.parameter].name.clone(),
        condition,
        rank_correlation: spearman(&way[within.clone()], &psnr_y[within.clone()]),
        second_difference: largest_second_difference(&psnr_y[within]),
        finite_beyond: finite(-BEYOND)? && finite(1.0 + BEYOND)?,
        rises_beyond: psnr_y.is_sorted(),
        way,
        psnr_y,
    })
}

/// Whether the net's own output is finite on a picture of stripes: 8-bit planes cannot tell.
fn finite(net: &Net, tuning: &[f64]) -> anyhow::Result<bool> {
    const SIDE: usize = 32;
    let channels = net.metadata().architecture.io().channels;
    let stripes: Vec<f32> = (0..channels * SIDE * SIDE).map(|i| (i % 7) as f32 / 6.0).collect();
    let x = Tensor::from_vec(stripes, (1, channels, SIDE, SIDE), net.device())?;
    let entries: Vec<f32> = tuning.iter().map(|&v| v as f32).collect();
    let omega = Tensor::from_vec(entries, (1, tuning.len()), net.device())?;
    let y = net.forward(&x, &omega)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(y.iter().all(|v| v.is_finite()))
}
