//! What a moving tuning adds to a filter's flicker.
//!
//! Flicker between two frames is the mean absolute difference of the filter's *change*, output
//! minus input, over the luma plane, in code values. The scene's own motion is mostly in both
//! output and input and drops out, so no motion estimate is needed; a static scene at a fixed
//! tuning has none. A tuning that moves must change the picture, so part of what it adds is meant.

use std::path::Path;

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;
use serde::Serialize;
use tunableconv::engine::Engine;
use tunableconv::frame::MAX_SIDE;

use super::points::along;
use crate::clip::Clip;
use crate::score::{bar_style, filter_in};
use crate::yuv::Range;

/// Flicker along one parameter, in code values of luma (0 to 255).
#[derive(Clone, Debug, Serialize)]
pub struct Flicker {
    /// The parameter.
    pub parameter: String,
    /// Mean while the parameter moves from 0 to 1 of its path over the clip.
    pub ramp: f64,
    /// Mean with the parameter in the middle of its path.
    pub fixed: f64,
    /// `ramp − fixed`.
    pub added: f64,
    /// While moving, from each frame to the next.
    pub ramp_frames: Vec<f64>,
    /// In the middle, from each frame to the next.
    pub fixed_frames: Vec<f64>,
}

/// A Y4M clip of at least two frames that has been read to its end once.
pub struct Checked<'p> {
    path: &'p Path,
    frames: usize,
}

impl<'p> Checked<'p> {
    /// Reads the clip through, so that a broken one is found before any work.
    ///
    /// # Errors
    /// A clip that is broken, cut short or has fewer than two frames.
    pub fn read(path: &'p Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read {}", path.display());
        let mut clip = Clip::open(path).with_context(cannot)?;
        let (width, height) = clip.size();
        ensure!(
            width.max(height) <= MAX_SIDE,
            "{}: {width}x{height}, expected sides of at most {MAX_SIDE} pixels",
            path.display()
        );
        let mut frames = 0;
        while clip
            .next_frame()
            .with_context(|| format!("frame {frames}"))
            .with_context(cannot)?
            .is_some()
        {
            frames += 1;
        }
        ensure!(frames >= 2, "{}: flicker needs two frames, found {frames}", path.display());
        Ok(Self { path, frames })
    }

    /// Measures every parameter.
    ///
    /// # Errors
    /// A failing engine, or a clip that has changed.
    pub fn flicker(&self, engine: &mut dyn Engine) -> anyhow::Result<Vec<Flicker>> {
        let space = engine.metadata().tuning.clone();
        let mut clip = Clip::open(self.path)?;
        let bar = ProgressBar::new(self.frames as u64).with_style(bar_style("frames"));
        // Per parameter: ramp, fixed.
        let mut tracks = vec![Track::default(); 2 * space.len()];
        let mut index = 0;
        while let Some(frame) = clip.next_frame()? {
            for (k, track) in tracks.iter_mut().enumerate() {
                let t = if k % 2 == 0 { index as f64 / (self.frames - 1) as f64 } else { 0.5 };
                engine.set_tuning(&space.tuning(&along(&space, k / 2, t.min(1.0)))?)?;
                track.add(engine, &frame.picture, clip.range)?;
            }
            index += 1;
            bar.inc(1);
        }
        bar.finish_and_clear();
        ensure!(index == self.frames, "{} changed while it was read", self.path.display());
        let pairs = space.parameters.iter().zip(tracks.chunks_exact(2));
        let mean = |track: &Track| track.steps.iter().sum::<f64>() / track.steps.len() as f64;
        let flicker = pairs.map(|(parameter, tracks)| Flicker {
            parameter: parameter.name.clone(),
            ramp: mean(&tracks[0]),
            fixed: mean(&tracks[1]),
            added: mean(&tracks[0]) - mean(&tracks[1]),
            ramp_frames: tracks[0].steps.clone(),
            fixed_frames: tracks[1].steps.clone(),
        });
        Ok(flicker.collect())
    }
}

/// The change of the last frame, and how far it moved from frame to frame.
#[derive(Clone, Default)]
struct Track {
    change: Vec<f32>,
    steps: Vec<f64>,
}

impl Track {
    fn add(
        &mut self,
        engine: &mut dyn Engine,
        input: &crate::yuv::Yuv420,
        range: Range,
    ) -> anyhow::Result<()> {
        let output = filter_in(engine, input, range)?;
        let input = input.enlarged(engine.metadata().architecture.io().scale);
        let change: Vec<f32> = output.y.iter().zip(&input.y).map(|(out, x)| out - x).collect();
        if !self.change.is_empty() {
            let pairs = change.iter().zip(&self.change);
            let sum: f64 = pairs.map(|(now, before)| f64::from((now - before).abs())).sum();
            self.steps.push(sum / change.len() as f64);
        }
        self.change = change;
        Ok(())
    }
}
