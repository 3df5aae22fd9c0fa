//! Engines: what holds a net, takes a tuning, and turns an input frame into an output frame.

mod candle;
#[doc(hidden)]
pub mod cpu;
#[doc(hidden)]
pub mod cuda;
mod device;
mod model;
mod precision;
mod smoothing;
mod tensors;
mod tiles;

pub use candle::CandleEngine;
pub use cpu::{CpuEngine, Finish, InputScale, QuantisedLayer, Quantiser};
pub use device::DeviceChoice;
pub use model::Model;
pub use precision::Precision;

use crate::checkpoint::{Checkpoint, Metadata};
use crate::frame::{Frame, FrameMut};
pub use crate::ranges::LAST_MARGIN;
use crate::tuning::Tuning;
use crate::{Error, Result};

/// Runs a net on video frames.
///
/// Same frame, same tuning, same engine: bit-identical output, whatever the thread count.
pub trait Engine: Send {
    /// What the checkpoint says of itself.
    fn metadata(&self) -> &Metadata;

    /// One line for people: which engine, device, precision and threads, and what was not used.
    fn description(&self) -> &str;

    /// What it computes in; never [`Precision::Auto`].
    fn precision(&self) -> Precision;

    /// Sets the tuning of the frames to come; folds the net only when it differs from the last.
    /// Returns whether it folded.
    ///
    /// # Errors
    /// [`Error::TuningLen`] for a tuning made for another net; [`Error::Candle`].
    fn set_tuning(&mut self, tuning: &Tuning) -> Result<bool>;

    /// Whether the output is the input, bit for bit, at the tuning that is set.
    fn is_identity(&self) -> bool;

    /// Share of the chroma inside each 2×2 block that is smoothed at the tuning that is set, where
    /// frames have more chroma than the net sees; from 0 to 1, see [`crate::frame`].
    fn smoothing(&self) -> f32 {
        0.0
    }

    /// Share of the activations in the last frame that were as large as the checkpoint's calibration
    /// lets them be, from 0 to 1: far more than it was calibrated for means that int8 is far off.
    /// Always 0 where nothing is calibrated.
    fn saturation(&self) -> f64 {
        0.0
    }

    /// Width and height of the output for an input of this size.
    fn output_size(&self, width: usize, height: usize) -> (usize, usize) {
        let scale = self.metadata().architecture.io().scale;
        (width * scale, height * scale)
    }

    /// Filters one frame.
    ///
    /// # Errors
    /// [`Error::Frame`] when the frames do not fit each other; [`Error::Candle`].
    fn process(&mut self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()>;
}

/// What an engine is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where it runs.
    pub device: DeviceChoice,
    /// What it computes in.
    pub precision: Precision,
    /// CPU threads; 0 for one per core.
    pub threads: usize,
    /// Rows and columns that [`CandleEngine`] makes at once, at most, which bounds its memory; 0 for 512, or
    /// 2048 where a net takes means over the frame, which alone depend on it a little. On CUDA most rows of what a
    /// chain reads; 0 for as many as a large GPU's cache holds. The row pipeline keeps some rows of each layer, and of a
    /// deep net about 1 GB between its stages, whatever the frame's size.
    pub tile_size: usize,
}

/// The engine of a checkpoint that runs only once, see [`Model::open`].
///
/// # Errors
/// As [`Model::open`].
pub fn open(checkpoint: &Checkpoint, options: &Options) -> Result<Box<dyn Engine>> {
    Model::new(checkpoint.clone()).open(options)
}

/// A pool of its own for a bounded number of threads; `None` means the shared pool of all cores.
fn thread_pool(threads: usize) -> Result<Option<rayon::ThreadPool>> {
    if threads == 0 {
        return Ok(None);
    }
    let builder = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("tunableconv-{index}"));
    builder.build().map(Some).map_err(|e| Error::Device {
        device: format!("cpu with {threads} threads"),
        reason: e.to_string(),
    })
}
