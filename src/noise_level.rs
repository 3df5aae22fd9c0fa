//! How noisy a frame is, by the frame alone.
//!
//! The luma is cut into blocks of 12×12 pixels. In the flattest of them nearly all that varies around a
//! plane is noise, coarse noise too, as cameras and decoders make it; so the estimate is a low quantile of
//! the blocks' variances around their planes. With the sums over a block's places (x, y), each −5.5 to 5.5,
//!
//! `variance = (Σv² − (Σv)²/144 − (Σxv)²/Σx² − (Σyv)²/Σy²) / 141`.
//!
//! Blocks with clipped pixels say too little and are left out. The quantile is of a few of many variances and
//! hence below their mean; a factor, set on photographs of another kind than the tests', makes up for it. A
//! picture without any flat block is taken for noisier than it is.

use crate::checkpoint::Metadata;
use crate::engine::cpu::kernels::Level;
use crate::frame::Frame;
use crate::tuning::Domain;

/// Side of a block, in pixels.
const BLOCK: usize = 12;

/// Pixels of a block.
const PIXELS: f64 = (BLOCK * BLOCK) as f64;

/// Σx² over a block.
const SQUARES: f64 = PIXELS * ((BLOCK * BLOCK - 1) as f64) / 12.0;

/// Rows of blocks are left out, evenly, where there are more blocks.
const MOST: usize = 2048;

/// Least number of blocks that tell something.
const LEAST: usize = 8;

/// Share of the blocks that are as flat as the one that counts.
const QUANTILE: f64 = 0.08;

/// What the root of that quantile is multiplied by.
const FACTOR: f64 = 1.06;

/// Normalised luma beyond which a pixel may be clipped.
const ENDS: [f32; 2] = [1.0 / 255.0, 254.0 / 255.0];

/// Share of clipped pixels above which a block is left out.
const CLIPPED: f32 = 0.1;

/// Subtracted from values, so that their squares stay small.
const MIDDLE: f32 = 0.5;

/// Kinds of degradations that are noise, as recipes call them.
const KINDS: [&str; 3] = ["noise", "camera", "poisson-gaussian"];

/// Measures frames; keeps room for the largest so far.
#[derive(Debug, Default)]
pub struct NoiseMeter {
    /// Two rows of luma and one of chroma.
    rows: [Vec<f32>; 3],
    /// For every column of a row of blocks.
    columns: Vec<Column>,
    variances: Vec<f64>,
}

/// Sums over the pixels of a block's column, each less [`MIDDLE`].
#[derive(Clone, Copy, Debug, Default)]
struct Column {
    values: f32,
    squares: f32,
    /// Σyv.
    slope: f32,
    clipped: f32,
}

impl NoiseMeter {
    /// Root mean square of the noise in luma, where black is 0 and white 1. `None` where too little of the
    /// frame is neither black nor white, or the frame is smaller than a few blocks.
    pub fn measure(&mut self, frame: &Frame<'_>) -> Option<f64> {
        let (width, height) = (frame.format().width / BLOCK, frame.format().height / BLOCK);
        if width * height < LEAST {
            return None;
        }
        let step = (width * height).div_ceil(MOST);
        for row in &mut self.rows {
            row.resize(width * BLOCK, 0.0);
        }
        self.variances.clear();
        // Centred, what is left of the last step on both sides.
        for top in ((height - 1) % step / 2..height).step_by(step) {
            self.add_row(frame, top * BLOCK);
        }
        let count = self.variances.len();
        if count < LEAST {
            return None;
        }
        let index = (QUANTILE * (count - 1) as f64).round() as usize;
        let (_, variance, _) = self.variances.select_nth_unstable_by(index, f64::total_cmp);
        Some(FACTOR * variance.sqrt())
    }

    /// Adds the variances of the blocks from row `top` on, which is even.
    fn add_row(&mut self, frame: &Frame<'_>, top: usize) {
        let Self { rows, columns, variances } = self;
        columns.clear();
        columns.resize(rows[0].len(), Column::default());
        for pair in 0..BLOCK / 2 {
            let blocks = 0..rows[0].len() / 2;
            let out = rows.each_mut().map(Vec::as_mut_slice);
            frame.read_pairs(Level::current(), top / 2 + pair, blocks, out);
            for (row, line) in rows[..2].iter().enumerate() {
                let y = (2 * pair + row) as f32 - (BLOCK - 1) as f32 / 2.0;
                for (column, &value) in columns.iter_mut().zip(line) {
                    let v = value - MIDDLE;
                    column.values += v;
                    column.squares += v * v;
                    column.slope += y * v;
                    column.clipped += f32::from(value <= ENDS[0] || value >= ENDS[1]);
                }
            }
        }
        for block in columns.chunks_exact(BLOCK) {
            let clipped: f32 = block.iter().map(|column| column.clipped).sum();
            if clipped <= CLIPPED * PIXELS as f32 {
                variances.push(variance(block));
            }
        }
    }
}

/// The parameter that is the level of the noise, and the noise for which it is 1: root mean square in luma,
/// where black is 0 and white 1. `None` if the net was not told of noise by such an error.
pub fn told(metadata: &Metadata) -> Option<(usize, f64)> {
    let Metadata { tuning, provenance, .. } = metadata;
    let of_link = |link: &serde_json::Value| {
        let kind = link["degradation"]["kind"].as_str()?;
        let error = link["level"]["error"].as_f64().filter(|error| *error > 0.0)?;
        if !KINDS.contains(&kind) {
            return None;
        }
        let name = link["parameter"].as_str()?;
        let index = tuning.parameters.iter().position(|parameter| parameter.name == name)?;
        Some((index, error / 255.0))
    };
    let mut links = provenance.degradations.iter().filter(|_| tuning.domain == Domain::Box);
    links.find_map(of_link)
}

/// Around the plane that fits best.
fn variance(block: &[Column]) -> f64 {
    let sum = |of: fn(&Column) -> f32| block.iter().map(|c| f64::from(of(c))).sum::<f64>();
    let (values, squares, along_y) = (sum(|c| c.values), sum(|c| c.squares), sum(|c| c.slope));
    let along_x = block
        .iter()
        .enumerate()
        .map(|(x, column)| (x as f64 - (BLOCK - 1) as f64 / 2.0) * f64::from(column.values));
    let along_x: f64 = along_x.sum();
    let explained = values.powi(2) / PIXELS + (along_x.powi(2) + along_y.powi(2)) / SQUARES;
    ((squares - explained) / (PIXELS - 3.0)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameFormat, Plane, Planes, Range, SampleFormat};

    const WIDTH: usize = 240;
    const HEIGHT: usize = 180;

    fn measure(width: usize, height: usize, luma: &[u8]) -> Option<f64> {
        let format = FrameFormat { width, height, range: Range::Full, samples: SampleFormat::U8 };
        let y = Plane { data: luma, stride_bytes: width };
        let frame = Frame::new(format, Planes::Grey { y }).unwrap();
        NoiseMeter::default().measure(&frame).map(|level| 255.0 * level)
    }

    /// Sums of uniform noise, of this standard deviation.
    fn noise(count: usize, sigma: f64) -> Vec<f64> {
        let mut state = 1_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as f64 / f64::from(1_u32 << 31) - 0.5
        };
        (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f64>() * sigma).collect()
    }

    fn picture(clean: impl Fn(usize, usize) -> f64, noise: &[f64]) -> Vec<u8> {
        let place = |at: usize| (at % WIDTH, at / WIDTH);
        let values = noise.iter().enumerate().map(|(at, noise)| {
            let (x, y) = place(at);
            (clean(x, y) + noise).round().clamp(0.0, 255.0) as u8
        });
        values.collect()
    }

    /// A slope, with checks on its left half.
    fn half_flat(x: usize, y: usize) -> f64 {
        let texture = if x < WIDTH / 2 { ((x / 2 + y / 3) % 2) as f64 * 60.0 } else { 0.0 };
        60.0 + (x + y) as f64 * 0.2 + texture
    }

    #[test]
    fn a_model_is_told_of_noise_by_an_error_that_there_is() {
        let mut metadata = crate::checkpoint::Checkpoint::built_in().unwrap().metadata;
        assert_eq!(told(&metadata), Some((0, 35.0 / 255.0)));
        for link in &mut metadata.provenance.degradations {
            link["level"]["error"] = 0.0.into();
        }
        assert_eq!(told(&metadata), None);
    }

    #[test]
    fn the_noise_is_found_beside_texture() {
        for sigma in [2.0, 5.0, 15.0, 30.0] {
            let noise = noise(WIDTH * HEIGHT, sigma);
            let level = measure(WIDTH, HEIGHT, &picture(half_flat, &noise)).unwrap();
            assert!((level / sigma - 1.0).abs() < 0.15, "{level} for {sigma}");
        }
        let level = measure(WIDTH, HEIGHT, &picture(half_flat, &noise(WIDTH * HEIGHT, 0.0)));
        // What rounding adds.
        assert!(level.unwrap() < 0.4, "{level:?}");
    }

    #[test]
    fn coarse_noise_counts_as_fine_noise_does() {
        let fine = noise(WIDTH * HEIGHT, 10.0);
        // A mean of 2×2 has half the standard deviation.
        let coarse: Vec<f64> = (0..WIDTH * HEIGHT)
            .map(|at| {
                let [right, below] = [1, WIDTH].map(|step| (at + step) % fine.len());
                let corner = (at + WIDTH + 1) % fine.len();
                (fine[at] + fine[right] + fine[below] + fine[corner]) / 4.0
            })
            .collect();
        let level = measure(WIDTH, HEIGHT, &picture(half_flat, &coarse)).unwrap();
        assert!((level / 5.0 - 1.0).abs() < 0.2, "{level}");
    }

    #[test]
    fn what_is_clipped_says_nothing() {
        let noise = noise(WIDTH * HEIGHT, 8.0);
        // Three quarters are black, where half of the noise is cut off.
        let mostly_black = |x: usize, _: usize| if x < WIDTH * 3 / 4 { 0.0 } else { 100.0 };
        let level = measure(WIDTH, HEIGHT, &picture(mostly_black, &noise)).unwrap();
        assert!((level / 8.0 - 1.0).abs() < 0.15, "{level}");
        assert_eq!(measure(WIDTH, HEIGHT, &picture(|_, _| 0.0, &noise)), None);
        assert_eq!(measure(WIDTH, HEIGHT, &[255; WIDTH * HEIGHT]), None);
    }

    #[test]
    fn every_size_is_taken_and_large_frames_are_sampled() {
        assert_eq!(measure(1, 1, &[9]), None);
        assert_eq!(measure(23, 47, &[99; 23 * 47]), None);
        for (width, height) in [(25, 49), (1921, 1081), (8192, 12), (13, 8191)] {
            let luma: Vec<u8> =
                noise(width * height, 6.0).iter().map(|v| (v + 128.0).round() as u8).collect();
            let level = measure(width, height, &luma).unwrap();
            assert!((level / 6.0 - 1.0).abs() < 0.2, "{level} at {width}×{height}");
        }
    }
}
