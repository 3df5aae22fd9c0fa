//! A checkpoint that many engines run.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use candle_core::{Device, DeviceLocation};
use once_cell::sync::OnceCell;

use super::cpu::{CpuEngine, SharedBanks};
#[cfg(feature = "cuda")]
use super::cuda::{CudaEngine, Driver, Storage};
use super::device::{Place, candle_reason, probe};
use super::smoothing::Smoothing;
use super::{CandleEngine, DeviceChoice, Engine, Options, Precision};
use crate::checkpoint::{Checkpoint, Metadata};
use crate::net::Net;
use crate::{Error, Result};

/// A checkpoint with what its engines share: the kernel banks in the order in which each kind of
/// engine reads them. Keep it in an `Arc` and open one engine for each stream.
///
/// ```
/// use tunableconv::checkpoint::Checkpoint;
/// use tunableconv::engine::{Model, Options};
///
/// let model = Model::new(Checkpoint::built_in()?);
/// let (first, second) = (model.open(&Options::default())?, model.open(&Options::default())?);
/// assert_eq!(first.description(), second.description());
/// # Ok::<(), tunableconv::Error>(())
/// ```
pub struct Model {
    checkpoint: Checkpoint,
    banks: OnceCell<SharedBanks>,
    smoothing: OnceCell<Arc<Smoothing>>,
    nets: Mutex<Vec<(DeviceLocation, Weak<Net>)>>,
}

impl Model {
    /// A model of which no engine runs yet.
    pub fn new(checkpoint: Checkpoint) -> Self {
        Self {
            checkpoint,
            banks: OnceCell::new(),
            smoothing: OnceCell::new(),
            nets: Mutex::default(),
        }
    }

    /// What the checkpoint says of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.checkpoint.metadata
    }

    /// Makes the fastest engine that the options allow: on CUDA the one for chains of convolutions, on the CPU
    /// [`CpuEngine`] for the nets it carries, [`CandleEngine`] for the others. The description says when a net is not
    /// carried, and why.
    ///
    /// # Errors
    /// [`Error::Device`] when the device cannot be used; [`Error::Precision`] when the net does not
    /// run in that precision there; [`Error::Candle`].
    pub fn open(&self, options: &Options) -> Result<Box<dyn Engine>> {
        let Options { device, precision, threads, tile_size } = *options;
        let (place, mut note) = device.place(precision, probe)?;
        if let Place::Cuda(ordinal) = place {
            match self.open_cuda(ordinal, options) {
                Err(Error::Device { reason, .. } | Error::Config(reason))
                    if device == DeviceChoice::Auto =>
                {
                    note = format!("no CUDA: {reason}");
                }
                opened => return opened,
            }
        }
        let refused = match CpuEngine::supports(&self.checkpoint, precision) {
            Ok(()) => {
                let banks = self.banks.get_or_try_init(|| SharedBanks::new(&self.checkpoint))?;
                let engine = CpuEngine::with_banks(&self.checkpoint, banks.clone(), options)?;
                let smoothing = self.smoothing.get_or_try_init(|| {
                    Smoothing::measure(&*self.net(&Device::Cpu)?).map(Arc::new)
                })?;
                return Ok(Box::new(engine.with_note(&note).with_smoothing(smoothing.clone())));
            }
            Err(reason) => reason,
        };
        let others = if note.is_empty() { String::new() } else { format!("; {note}") };
        if !matches!(precision, Precision::Auto | Precision::F32) {
            let (precision, reason) = (precision.to_string(), format!("{refused}{others}"));
            return Err(Error::Precision { precision, reason });
        }
        tracing::warn!("candle runs the net, slowly, as the row pipeline cannot: {refused}");
        let note = format!("the row pipeline cannot run the net: {refused}{others}");
        let engine = CandleEngine::new(self.net(&Device::Cpu)?, threads, &note)?;
        Ok(Box::new(engine.with_tile_size(tile_size)))
    }

    /// An engine on a CUDA device that has answered: chains of convolutions by kernels of their own, other nets by
    /// candle.
    fn open_cuda(&self, ordinal: usize, options: &Options) -> Result<Box<dyn Engine>> {
        let Options { precision, threads, tile_size, .. } = *options;
        let refused = |reason: &str| {
            Err(Error::Precision { precision: precision.to_string(), reason: reason.into() })
        };
        if precision == Precision::Int8 {
            return refused("on CUDA there are f16 and f32");
        }
        #[cfg(feature = "cuda")]
        if self.metadata().architecture.chain().is_some() {
            let storage = match precision {
                Precision::F32 => Storage::F32,
                _ => Storage::F16,
            };
            let net = self.net(&Device::Cpu)?;
            let mut engine = CudaEngine::new(net, storage, Driver::open(ordinal)?)?;
            engine.check()?;
            let engine = engine.with_tile_size(tile_size);
            return Ok(Box::new(engine));
        }
        if precision == Precision::F16 {
            return refused("on CUDA f16 is for chains of convolutions");
        }
        let failed = |error| Error::Device {
            device: DeviceChoice::Cuda(ordinal).to_string(),
            reason: format!("the net is no chain of convolutions, and {}", candle_reason(&error)),
        };
        let device = Device::new_cuda(ordinal).map_err(failed)?;
        let engine = CandleEngine::new(self.net(&device)?, threads, "")?;
        Ok(Box::new(engine.with_tile_size(tile_size)))
    }

    /// The net on a device, shared with the engines that already run it there.
    fn net(&self, device: &Device) -> Result<Arc<Net>> {
        let mut nets = self.nets.lock().unwrap_or_else(PoisonError::into_inner);
        nets.retain(|(_, net)| net.strong_count() > 0);
        let location = device.location();
        let known = nets.iter().find(|(other, _)| *other == location);
        if let Some(net) = known.and_then(|(_, net)| net.upgrade()) {
            return Ok(net);
        }
        let net = Arc::new(Net::new(&self.checkpoint, device)?);
        nets.push((location, Arc::downgrade(&net)));
        Ok(net)
    }
}
