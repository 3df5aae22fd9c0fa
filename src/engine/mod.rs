//! Engines: what holds a net, takes a tuning, and turns an input frame into an output frame.

mod candle;
pub(crate) mod cpu;
mod device;

use std::sync::Arc;

pub use candle::CandleEngine;
pub use device::DeviceChoice;

use crate::checkpoint::{Checkpoint, Metadata};
use crate::frame::{Frame, FrameMut};
use crate::net::Net;
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

    /// Sets the tuning of the frames to come; folds the net only when it differs from the last.
    /// Returns whether it folded.
    ///
    /// # Errors
    /// [`Error::TuningLen`] for a tuning made for another net; [`Error::Candle`].
    fn set_tuning(&mut self, tuning: &Tuning) -> Result<bool>;

    /// Whether the output is the input, bit for bit, at the tuning that is set.
    fn is_identity(&self) -> bool;

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

/// Puts a checkpoint on a device and makes an engine for it; `threads = 0` means all cores.
///
/// # Errors
/// [`Error::Device`] when the device cannot be used; [`Error::Candle`].
pub fn open(
    checkpoint: &Checkpoint,
    device: DeviceChoice,
    threads: usize,
) -> Result<Box<dyn Engine>> {
    let opened = device.open()?;
    let net = Arc::new(Net::new(checkpoint, &opened.device)?);
    Ok(Box::new(CandleEngine::new(net, threads, &opened.note)?))
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
