//! The candle engine: any net, whole frames, on the CPU or on CUDA.

use std::sync::Arc;

use candle_core::{Device, Module, Storage, Tensor};

use super::smoothing::Smoothing;
use super::{Engine, Precision, thread_pool};
use crate::Result;
use crate::checkpoint::Metadata;
use crate::frame::{CHANNELS, Frame, FrameMut};
use crate::net::Net;
use crate::nn::FoldedChain;
use crate::tuning::Tuning;

/// See the module documentation.
pub struct CandleEngine {
    net: Arc<Net>,
    pool: Option<rayon::ThreadPool>,
    description: String,
    tuning: Tuning,
    folded: FoldedChain,
    is_identity: bool,
    smoothing: Smoothing,
}

impl CandleEngine {
    /// An engine at the net's default tuning; `threads = 0` means all cores. `note` ends up in the
    /// description.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a net that does not work on 4:2:0;
    /// [`Error::Device`](crate::Error::Device) when threads cannot be started, or a failed fold.
    pub fn new(net: Arc<Net>, threads: usize, note: &str) -> Result<Self> {
        net.metadata().architecture.io().check_yuv420("engines")?;
        let tuning = net.metadata().tuning.default_tuning()?;
        let folded = net.fold(&tuning)?;
        let pool = thread_pool(threads)?;
        let count =
            pool.as_ref().map_or_else(rayon::current_num_threads, |p| p.current_num_threads());
        let place = match net.device() {
            Device::Cpu => format!("CPU ({}), {count} threads", super::cpu::kernels::level_name()),
            _ => "CUDA".into(),
        };
        let note = if note.is_empty() { String::new() } else { format!("; {note}") };
        Ok(Self {
            description: format!("candle on {place}, f32{note}"),
            is_identity: folded.is_zero()?,
            smoothing: Smoothing::measure(&net)?,
            net,
            pool,
            tuning,
            folded,
        })
    }

    fn run(&self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        let (width, height) = input.format().half_size();
        let mut planes = vec![0.0; CHANNELS * width * height];
        input.unpack(&mut planes);
        let x = Tensor::from_vec(planes, (1, CHANNELS, height, width), self.net.device())?;
        let residual = self.folded.forward(&x)?.to_device(&Device::Cpu)?.contiguous()?;
        let (storage, layout) = residual.storage_and_layout();
        match &*storage {
            Storage::Cpu(data) => {
                let data = data.as_slice::<f32>()?;
                let data = &data[layout.start_offset()..][..residual.elem_count()];
                output.pack_sum(input, data, self.smoothing())
            }
            _ => unreachable!("the residual was copied to the CPU"),
        }
    }
}

impl Engine for CandleEngine {
    fn metadata(&self) -> &Metadata {
        self.net.metadata()
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn set_tuning(&mut self, tuning: &Tuning) -> Result<bool> {
        if *tuning == self.tuning {
            return Ok(false);
        }
        self.folded = self.net.fold(tuning)?;
        self.is_identity = self.folded.is_zero()?;
        self.tuning = *tuning;
        Ok(true)
    }

    fn is_identity(&self) -> bool {
        self.is_identity
    }

    fn smoothing(&self) -> f32 {
        self.smoothing.at(&self.tuning)
    }

    fn process(&mut self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        match &self.pool {
            Some(pool) => pool.install(|| self.run(input, output)),
            None => self.run(input, output),
        }
    }
}
