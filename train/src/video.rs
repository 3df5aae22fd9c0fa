//! Degrades a Y4M clip through the RGB path that training uses.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::clip::{Clip, write_frame};
use crate::condition::Condition;
use crate::yuv::{Matrix, Yuv420};

/// Degrades every frame of the Y4M file `input` (8-bit 4:2:0) and writes `output`, whole or not
/// at all. Returns the number of frames.
///
/// A frame becomes RGB (chroma replicated), is degraded, and goes back to rounded 4:2:0. Kinds of
/// noise have the seed `seed · 0x9E3779B97F4A7C15 + frame index` (wrapping; see
/// [`noise_for_eval`](crate::degrade::noise_for_eval)), all others the same in every frame. When
/// clean only that round trip is left. The range is limited unless the header says `XCOLORRANGE=FULL`; all header fields are carried over.
///
/// # Errors
/// If a strength is out of its range, a file cannot be read or written, the colour space
/// is another one, or the clip is empty, broken or cut short. The message names the file and,
/// where it applies, the frame (from 0).
pub fn degrade_y4m(
    input: &Path,
    output: &Path,
    condition: &Condition,
    seed: u64,
    matrix: Matrix,
) -> anyhow::Result<usize> {
    condition.check()?;
    ensure!(!condition.is_recorded(), "what is recorded cannot be made: it comes with a pair");
    let mut clip = Clip::open(input).with_context(|| format!("cannot read {}", input.display()))?;
    let bar = ProgressBar::new(clip.expected_frames).with_style(bar_style());
    let mut frames = 0;
    tunableconv::atomic_file::write::<anyhow::Error>(output, |file| {
        file.write_all(&clip.header)?;
        // A batch of one frame a thread, so that memory stays bounded.
        let batch_size = rayon::current_num_threads();
        loop {
            let mut batch = Vec::with_capacity(batch_size);
            while batch.len() < batch_size {
                let index = frames + batch.len();
                let frame =
                    clip.next_frame().with_context(|| format!("cannot read frame {index}"))?;
                let Some(frame) = frame else { break };
                batch.push((seed_of_frame(seed, index as u64), frame));
            }
            let degraded: Vec<[Vec<u8>; 3]> = batch
                .par_iter()
                .map(|(frame_seed, frame)| {
                    let clean = frame.picture.to_rgb(matrix, clip.range);
                    let degraded = condition.apply_to_frame(clean, seed, *frame_seed);
                    Yuv420::from_rgb(&degraded, matrix, clip.range).to_bytes()
                })
                .collect();
            for ((_, frame), planes) in batch.iter().zip(degraded) {
                write_frame(file, &frame.params, &planes)?;
            }
            frames += batch.len();
            bar.inc(batch.len() as u64);
            if batch.len() < batch_size {
                break;
            }
        }
        ensure!(frames > 0, "the clip holds no frame");
        Ok(())
    })
    .with_context(|| format!("cannot degrade {} into {}", input.display(), output.display()))?;
    bar.finish_and_clear();
    Ok(frames)
}

pub(crate) fn seed_of_frame(seed: u64, index: u64) -> u64 {
    // The odd multiplier keeps the frames of neighbouring seeds apart.
    seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(index)
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("degrading [{bar:40}] {pos}/{len} frames {eta}")
        .expect("the template is a constant")
        .progress_chars("=> ")
}
