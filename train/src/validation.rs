//! What a run is measured on while it trains: pictures that it is never trained on, degraded once and
//! for all, filtered by the averaged weights through the engine at the corners and the middle of the
//! domain.
//!
//! There are always as many pictures, each image serving for several where there are few. Each has the
//! degradations of one of the recipe's samples, in turn, with strengths that depend on its number
//! alone, so that runs of other seeds are compared on the same. Where the recipe
//! has corner targets, a point's target is the weighted mean of the corners', at a corner its own; a
//! picture counts only where that is another picture than the input. With other objectives the
//! target is the clean picture.
//!
//! What decides which weights are the best is not PSNR, whose mean the pictures decide that have nearly
//! nothing to restore. Where nothing but corner targets is asked for it is the error as
//! [`crate::corner_targets`] weighs it in training: each picture's divided by that between its input and
//! its clean picture, luma's and chroma's apart. With other objectives it is the recipe's own loss on
//! crops of the same images, without what a discriminator says.

use anyhow::{Context as _, ensure};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, DeviceChoice, Options, Precision};
use tunableconv::tuning::{Domain, Tuning, TuningSpace};

use crate::batch::{Pictures, measured_level};
use crate::corner_targets::{channel_scales, corner_weights, mean_target};
use crate::degrade::{Draw, Recorded, apply_all_corners};
use crate::evaluate::points::{Place, points};
use crate::metrics::{Scores, psnr};
use crate::recipe::{Level, Link, Recipe};
use crate::score::{IDENTICAL_DB, MATRIX, Mean, RANGE, filter, planes};
use crate::sheet::Sheet;
use crate::view::View;
use crate::yuv::Yuv420;

/// Pictures measured on, of images evenly spaced through the set.
const PICTURES: usize = 32;

/// Side of the square used from the middle of a picture, in pixels.
pub const SIDE: usize = 192;

/// Rows and columns of points of a sample sheet, at most.
const SHOWN: (usize, usize) = (4, 5);

/// Parameters up to which every corner of a box is a point; above, those of one parameter and of all.
const WHOLE_BOX: usize = 3;

/// Pictures and points, ready to be measured on.
pub struct Validation {
    points: Vec<Point>,
    pictures: Vec<Picture>,
    precision: Precision,
}

struct Point {
    /// `name=value` of every parameter.
    label: String,
    /// Entries; of parameters that tell a level those of the strongest.
    tuning: Vec<f64>,
    /// What a picture's own levels are multiplied with where parameters tell them.
    factor: f64,
}

/// How wrongly levels are told at further points: what that costs should be seen.
const WRONG: [f64; 2] = [0.5, 2.0];

impl Point {
    /// The tuning for a picture of these levels.
    fn tuning(&self, space: &TuningSpace, levels: &[Option<f64>]) -> anyhow::Result<Tuning> {
        let told = |(value, level): (&f64, &Option<f64>)| {
            level.map_or(*value, |level| (level * self.factor).min(1.0))
        };
        Ok(space.tuning(&self.tuning.iter().zip(levels).map(told).collect::<Vec<_>>())?)
    }
}

struct Picture {
    name: String,
    clean: Yuv420,
    degraded: Yuv420,
    /// The same at the size of the clean one.
    enlarged: Yuv420,
    /// Of each channel's error.
    scales: Vec<f32>,
    /// One for each point where there is something to learn.
    targets: Vec<Option<Yuv420>>,
    /// For each parameter the level that it tells, where it does.
    levels: Vec<Option<f64>>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Mean over points and pictures of the weighted error, as the loss of corner targets has it: the
    /// less, the better.
    pub loss: f64,
    /// Means over the pictures, one entry per point.
    pub scores: Vec<Scores>,
}

impl Measured {
    /// Mean PSNR-Y over the points, in dB.
    #[must_use]
    pub fn psnr_y(&self) -> f64 {
        self.scores.iter().map(|scores| scores.psnr_y).sum::<f64>() / self.scores.len() as f64
    }
}

/// A filtered picture, and how far it is from its target, where there is something to learn.
type Filtered = (Yuv420, Option<(f64, Scores)>);

/// Sums of what is measured.
struct Sums<'p> {
    points: &'p [Point],
    loss: f64,
    count: usize,
    means: Vec<Mean>,
}

impl<'p> Sums<'p> {
    fn new(points: &'p [Point]) -> Self {
        Self { points, loss: 0.0, count: 0, means: vec![Mean::default(); points.len()] }
    }

    fn add(&mut self, point: usize, (loss, scores): (f64, Scores)) {
        // What is told wrongly is not what is learned.
        if self.points[point].factor == 1.0 {
            self.loss += loss;
            self.count += 1;
        }
        self.means[point].add(scores);
    }

    fn mean(&self) -> Measured {
        let scores = self.means.iter().map(Mean::mean).collect();
        Measured { loss: self.loss / self.count as f64, scores }
    }
}

impl Validation {
    /// Degrades what `held` has for the recipe.
    ///
    /// # Errors
    /// Pictures too small to be compared; none on which the recipe can show anything.
    ///
    /// # Panics
    /// If the recipe has a recorded degradation and there are no pairs.
    pub fn new(recipe: &Recipe, held: &Pictures) -> anyhow::Result<Self> {
        let mut points = points_of(recipe);
        let picture = |number: usize| Picture::new(recipe, held, number, &points);
        let mut pictures = (0..PICTURES).map(picture).collect::<anyhow::Result<Vec<_>>>()?;

        // A point where no picture has a target tells nothing.
        let counts = |j: &usize| pictures.iter().any(|picture| picture.targets[*j].is_some());
        let counting: Vec<usize> = (0..points.len()).filter(counts).collect();
        ensure!(
            !counting.is_empty(),
            "validation: no picture is degraded by what a parameter undoes"
        );
        for picture in &mut pictures {
            picture.targets = counting.iter().map(|&j| picture.targets[j].take()).collect();
        }
        let mut index = 0..;
        points.retain(|_| index.next().is_some_and(|j| counting.contains(&j)));
        let precision = if recipe.quantised { Precision::Int8 } else { Precision::F32 };
        Ok(Self { points, pictures, precision })
    }

    /// The points, as `name=value` of their parameters.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.points.iter().map(|point| point.label.as_str())
    }

    /// What the unfiltered pictures come to.
    ///
    /// # Errors
    /// None for pictures that [`Self::new`] took.
    pub fn input(&self) -> anyhow::Result<Measured> {
        let mut sums = Sums::new(&self.points);
        for picture in &self.pictures {
            for point in 0..self.points.len() {
                let scores = picture.compare(&picture.enlarged, point)?;
                scores.into_iter().for_each(|scores| sums.add(point, scores));
            }
        }
        Ok(sums.mean())
    }

    /// Filters every picture at every point; returns a contact sheet of some, too.
    ///
    /// # Errors
    /// A net that the engine does not run.
    pub fn measure(&self, checkpoint: &Checkpoint) -> anyhow::Result<(Measured, Sheet)> {
        // One engine of one thread for each of those there are, and its share of the pictures.
        let each = self.pictures.len().div_ceil(rayon::current_num_threads());
        let shares: Vec<Vec<Vec<Filtered>>> = self
            .pictures
            .par_chunks(each)
            .map(|share| self.filter(checkpoint, share))
            .collect::<anyhow::Result<_>>()?;
        let mut sums = Sums::new(&self.points);
        let mut shown = vec![];
        let mut rows = shares.into_iter().flatten();
        // Sums in an order that does not depend on the threads.
        for (number, row) in rows.by_ref().enumerate() {
            for (point, (_, scores)) in row.iter().enumerate() {
                scores.iter().for_each(|scores| sums.add(point, *scores));
            }
            if number < SHOWN.0 {
                let row = row.into_iter().take(SHOWN.1);
                shown.push(row.map(|(y, scores)| (y, scores.map(|(_, s)| s.psnr_y))).collect());
            }
        }
        let measured = sums.mean();
        let from = &checkpoint.metadata.provenance;
        let title = format!(
            "{} after {} steps: PSNR-Y towards the target, mean {:.2} dB",
            from.recipe,
            from.steps,
            measured.psnr_y()
        );
        Ok((measured, self.sheet(title, shown)))
    }

    /// Filters pictures at every point; returns a row for each picture.
    fn filter(
        &self,
        checkpoint: &Checkpoint,
        pictures: &[Picture],
    ) -> anyhow::Result<Vec<Vec<Filtered>>> {
        let device = DeviceChoice::Cpu;
        let options =
            Options { device, precision: self.precision, threads: 1, ..Options::default() };
        let mut engine = engine::open(checkpoint, &options)?;
        let space = &checkpoint.metadata.tuning;
        let mut rows = vec![Vec::with_capacity(self.points.len()); pictures.len()];
        for (index, point) in self.points.iter().enumerate() {
            for (picture, row) in pictures.iter().zip(&mut rows) {
                engine.set_tuning(&point.tuning(space, &picture.levels)?)?;
                let filtered = filter(engine.as_mut(), &picture.degraded)?;
                let scores = picture.compare(&filtered, index)?;
                row.push((filtered, scores));
            }
        }
        Ok(rows)
    }

    fn sheet(&self, title: String, shown: Vec<Vec<(Yuv420, Option<f64>)>>) -> Sheet {
        let show = |picture: &Yuv420| picture.to_rgb(MATRIX, RANGE).to_image();
        let columns = self.points.len().min(SHOWN.1);
        let titles = self.labels().take(columns).map(str::to_owned);
        let mut sheet = Sheet::new(2 + columns)
            .title(title)
            .column_titles(["clean".to_owned(), "input".to_owned()].into_iter().chain(titles));
        for (picture, row) in self.pictures.iter().zip(shown) {
            sheet = sheet.tile(show(&picture.clean), picture.name.clone());
            let db = psnr(&picture.enlarged.y, &picture.clean.y, 255.0);
            let caption = match db > IDENTICAL_DB {
                true => "as clean".to_owned(),
                false => format!("{db:.2} dB from clean"),
            };
            sheet = sheet.tile(show(&picture.enlarged), caption);
            for (filtered, db) in row {
                let caption = match db {
                    None => "nothing to change".to_owned(),
                    Some(db) if db > IDENTICAL_DB => "identical".to_owned(),
                    Some(db) => format!("{db:.2} dB"),
                };
                sheet = sheet.tile(show(&filtered), caption);
            }
        }
        sheet
    }
}

impl Picture {
    fn new(
        recipe: &Recipe,
        held: &Pictures,
        number: usize,
        points: &[Point],
    ) -> anyhow::Result<Self> {
        let (chain, samples) = (recipe.chain(), &recipe.batch.samples);
        let sample = &samples[number % samples.len()];
        let spread = |count: usize| match count < PICTURES {
            true => number % count,
            false => number * count / PICTURES,
        };
        let active = recipe.is_active(sample);
        let mut active_links = chain.iter().zip(&active).filter(|(_, active)| **active);
        let recorded = active_links.find_map(|(degradation, _)| degradation.as_recorded());
        let (clean, twin, name) = if let Some(Recorded { folder }) = recorded {
            let pairs = held.pairs.as_ref().expect("a recorded degradation comes with pairs");
            let frames = pairs.frames_in(folder.as_deref());
            let index = frames[spread(frames.len())];
            let (clean, twin) = pairs.middle(index, SIDE);
            (clean, Some(twin), format!("pair {index}"))
        } else {
            let (clean, name) = held.images.middle(spread(held.images.len()), SIDE);
            (recipe.view().fitting(clean), None, name)
        };
        let draw = Draw::sample(&chain, &active, &mut ChaCha8Rng::seed_from_u64(number as u64));
        let mut masks = vec![vec![true; chain.len()], vec![false; chain.len()]];
        let levels = recipe.levels();
        let others = |j: usize| {
            let keeps = |link: &Link| recipe.parameter_of(link) != Some(j);
            recipe.degradations.iter().map(keeps).collect::<Vec<_>>()
        };
        masks.extend((0..levels.len()).map(others));
        if recipe.has_corner_targets() {
            masks.extend(recipe.corners().into_iter().map(|corner| recipe.kept_at(corner)));
        }
        let view = recipe.view();
        let images = apply_all_corners(&chain, &draw, &masks, &view.small(&clean), twin.as_ref());
        let mut all = images.iter().map(planes);
        let (Some(degraded), Some(undegraded)) = (all.next(), all.next()) else {
            unreachable!("there are two masks at least")
        };
        let clean = if view.scale == 1 { undegraded } else { planes(&clean) };
        let enlarged = degraded.enlarged(view.scale);
        let without: Vec<Yuv420> = all.by_ref().take(levels.len()).collect();
        let level = |(j, level): (usize, &Option<Level>)| {
            let level = (*level)?;
            let links = recipe.degradations.iter().zip(&draw.strengths);
            let own = links.filter(|(link, _)| recipe.parameter_of(link) == Some(j));
            let told = own.filter_map(|(link, s)| Some(link.degradation.level((*s)?)));
            let values = |planes: &Yuv420| planes.normalised(RANGE);
            let measured =
                measured_level(View::YUV420, &values(&degraded), &values(&without[j]), level);
            Some(f64::from(measured.unwrap_or_else(|| told.fold(0.0, f32::max))))
        };
        let levels: Vec<_> = levels.iter().enumerate().map(level).collect();
        let corners: Vec<Yuv420> = all.collect();
        let target = |point: &Point| {
            if !recipe.has_corner_targets() {
                return Some(clean.clone());
            }
            let entries: Vec<f32> = point.tuning.iter().map(|value| *value as f32).collect();
            let weights = corner_weights(recipe, &entries);
            Some(mean(&weights, &corners)).filter(|target| *target != degraded)
        };
        let targets = points.iter().map(target).collect();
        let scales =
            channel_scales(View::YUV420, &enlarged.normalised(RANGE), &clean.normalised(RANGE));
        let picture = Self { name, clean, degraded, enlarged, scales, targets, levels };
        // As what is too small to be compared never can be.
        Scores::of(&picture.enlarged, &picture.clean).with_context(|| picture.name.clone())?;
        Ok(picture)
    }

    /// How far a filtered picture is from the target of a point, where there is something to learn:
    /// by weighted error, and by the usual scores.
    fn compare(&self, filtered: &Yuv420, point: usize) -> anyhow::Result<Option<(f64, Scores)>> {
        let Some(target) = &self.targets[point] else { return Ok(None) };
        let (values, wanted) = (filtered.normalised(RANGE), target.normalised(RANGE));
        let each = values.len() / self.scales.len();
        let channels = values.chunks(each).zip(wanted.chunks(each)).zip(&self.scales);
        let loss = channels.map(|((values, wanted), scale)| {
            let squares = values.iter().zip(wanted).map(|(a, b)| f64::from(a - b).powi(2));
            f64::from(*scale) * squares.sum::<f64>() / each as f64
        });
        Ok(Some((loss.sum::<f64>() / self.scales.len() as f64, Scores::of(filtered, target)?)))
    }
}

/// Weighted mean of equally large pictures.
fn mean(weights: &[f32], pictures: &[Yuv420]) -> Yuv420 {
    let of = |plane: fn(&Yuv420) -> &Vec<f32>| {
        let planes: Vec<_> = pictures.iter().map(|picture| plane(picture).clone()).collect();
        mean_target(weights, &planes)
    };
    let (y, u, v) = (of(|p| &p.y), of(|p| &p.u), of(|p| &p.v));
    Yuv420 { width: pictures[0].width, height: pictures[0].height, y, u, v }
}

/// Corners and the middle; without the corner of a box where all are off, which changes nothing. Where
/// parameters tell levels, these are each picture's own at every point, and at two more they are told
/// wrongly.
fn points_of(recipe: &Recipe) -> Vec<Point> {
    let (space, levels) = (&recipe.tuning, recipe.levels());
    let p = space.len();
    let is_told = |j: usize| levels[j].is_some();
    let counts = |point: &crate::evaluate::points::Point| match point.place {
        Place::Edge => false,
        Place::Centre => true,
        Place::Corner if space.domain == Domain::Simplex => true,
        Place::Corner => {
            let on = point.tuning.iter().filter(|value| **value != 0.0).count();
            on > 0 && (p <= WHOLE_BOX || on == 1 || on == p)
        }
    };
    let point = |mut tuning: Vec<f64>, factor: f64| {
        let mut entries = vec![];
        for (j, (parameter, value)) in space.parameters.iter().zip(&mut tuning).enumerate() {
            let told = match (is_told(j), factor == 1.0) {
                (true, true) => "level".to_owned(),
                (true, false) => format!("level*{factor}"),
                (false, _) => ((*value * 100.0).round() / 100.0).to_string(),
            };
            entries.push(format!("{}={told}", parameter.name));
            if is_told(j) {
                *value = 1.0;
            }
        }
        Point { label: entries.join(" "), tuning, factor }
    };
    let mut all: Vec<Point> = vec![];
    for own in points(space).into_iter().filter(counts) {
        let own = point(own.tuning, 1.0);
        // Points that differ in levels only are one.
        if all.iter().all(|other| other.label != own.label) {
            all.push(own);
        }
    }
    if levels.iter().any(Option::is_some) {
        all.extend(WRONG.map(|factor| point(vec![1.0; p], factor)));
    }
    all
}
