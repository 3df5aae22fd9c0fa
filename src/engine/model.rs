//! A checkpoint that many engines run.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use candle_core::{Device, DeviceLocation};
use once_cell::sync::OnceCell;

use super::cpu::{CpuEngine, SharedBanks};
use super::smoothing::Smoothing;
use super::{CandleEngine, Engine, Options, Precision};
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

    /// Makes the fastest engine that the options allow: [`CpuEngine`] for the nets it carries,
    /// [`CandleEngine`] for the others and on CUDA. The description says when a net is not carried,
    /// and why.
    ///
    /// # Errors
    /// [`Error::Device`] when the device cannot be used; [`Error::Precision`] when the net does not
    /// run in that precision there; [`Error::Candle`].
    pub fn open(&self, options: &Options) -> Result<Box<dyn Engine>> {
        let Options { device, precision, threads, tile_size } = *options;
        let opened = device.open()?;
        let mut note = opened.note;
        let refused = if opened.device.is_cpu() {
            match CpuEngine::supports(&self.checkpoint, precision) {
                Ok(()) => {
                    let banks =
                        self.banks.get_or_try_init(|| SharedBanks::new(&self.checkpoint))?;
                    let engine = CpuEngine::with_banks(&self.checkpoint, banks.clone(), options)?;
                    let smoothing = self.smoothing.get_or_try_init(|| {
                        Smoothing::measure(&*self.net(&opened.device)?).map(Arc::new)
                    })?;
                    return Ok(Box::new(engine.with_note(&note).with_smoothing(smoothing.clone())));
                }
                Err(reason) => reason,
            }
        } else {
            "on CUDA there is only f32".into()
        };
        if !matches!(precision, Precision::Auto | Precision::F32) {
            return Err(Error::Precision { precision: precision.to_string(), reason: refused });
        }
        if opened.device.is_cpu() {
            tracing::warn!("candle runs the net, slowly, as the row pipeline cannot: {refused}");
            let others = if note.is_empty() { String::new() } else { format!("; {note}") };
            note = format!("the row pipeline cannot run the net: {refused}{others}");
        }
        let engine = CandleEngine::new(self.net(&opened.device)?, threads, &note)?;
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
