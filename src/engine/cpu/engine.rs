//! The CPU engine: folds banks at each new tuning and runs the row pipeline.

mod convs;
mod int8;
mod picture;

use std::sync::Arc;

use candle_core::Device;

use super::bank::{Bank, Folded, SharedBanks};
use super::kernels::Level;
use super::kernels::conv_row::{f32_kernels, i16_kernels, u8_kernels};
use super::line_buffer::Kind;
use super::pipeline::{Edge, Layer, Pipeline, Tiling};
use super::plan::{ChainSpec, Plan};
use super::quant::InputScale;
use super::rows::{FrameSum, TensorSink, TensorSource};
use super::stages::cuts;
use super::winograd::{TILE, row_unit};
use super::workers::Workers;
use crate::checkpoint::{Checkpoint, Metadata};
use crate::engine::smoothing::Smoothing;
use crate::engine::{Engine, Options, Precision};
use crate::frame::{CHANNELS, Frame, FrameFormat, FrameMut, Recolour};
use crate::net::Net;
use crate::nn::{Architecture, Colour, Io};
use crate::ranges::Ranges;
use crate::tuning::Tuning;
use crate::{Error, Result};
pub(super) use convs::edge_kinds;
use convs::{
    convs, fits_int8, fits_winograd, row_shape, set, set_added, set_bounds, set_slopes,
    winograd_conv,
};
pub(super) use int8::Int8;

/// Longest vector of output channels; what is per channel is padded to it.
const MAX_LANES: usize = 16;

/// See the module documentation.
pub struct CpuEngine {
    metadata: Metadata,
    io: Io,
    description: String,
    tuning: Tuning,
    is_identity: bool,
    precision: Precision,
    banks: SharedBanks,
    /// Scratch space, per layer.
    folded: Vec<Folded>,
    int8: Option<Int8>,
    /// What activations are clamped to in f32, for nets that were trained so.
    bounds: Option<Ranges>,
    smoothing: Arc<Smoothing>,
    pipeline: Pipeline,
    /// Of a net in RGB or on luma, the picture that it reads and the one that it makes, `[C, H, W]`.
    pictures: [Vec<f32>; 2],
    /// Of a net on luma.
    recolour: Option<Recolour>,
}

impl CpuEngine {
    /// Whether this engine has the precision for a checkpoint.
    ///
    /// # Errors
    /// Why it does not run the net at all, or not in this precision.
    pub(crate) fn supports(
        checkpoint: &Checkpoint,
        precision: Precision,
    ) -> std::result::Result<(), String> {
        let spec = ChainSpec::of(&checkpoint.metadata.architecture)?;
        match precision {
            Precision::Auto | Precision::F32 => return Ok(()),
            Precision::F16 => return Err("it is no faster than f32 on a CPU".into()),
            Precision::Int8 => {}
        }
        if ranges_of(checkpoint).is_none() {
            let add = "`tunableconv-train calibrate` adds them";
            return Err(format!("the checkpoint has no activation ranges: {add}"));
        }
        fits_int8(&spec).map_err(Into::into)
    }

    /// Whether ranges of activations would be of use to a net.
    ///
    /// # Errors
    /// [`Error::Precision`] for one that this engine runs, but not in int8.
    pub fn check_int8(architecture: &Architecture) -> Result<()> {
        let Ok(spec) = ChainSpec::of(architecture) else { return Ok(()) };
        let precision = Precision::Int8.to_string();
        fits_int8(&spec).map_err(|reason| Error::Precision { precision, reason: reason.into() })
    }

    /// Says in the description what else was to be said about the choice of this engine.
    pub(crate) fn with_note(mut self, note: &str) -> Self {
        if !note.is_empty() {
            self.description = format!("{}; {note}", self.description);
        }
        self
    }

    /// Smooths chroma that the net does not see.
    pub(crate) fn with_smoothing(mut self, smoothing: Arc<Smoothing>) -> Self {
        self.smoothing = smoothing;
        self
    }

    /// An engine at the net's default tuning; the device is the CPU whatever the options say.
    ///
    /// # Errors
    /// [`Error::Precision`] for a net that does not run here in that precision, or not at all;
    /// [`Error::Device`] when threads cannot be started; [`Error::Config`] for tensors that are not
    /// those of the net; [`Error::Candle`].
    pub fn new(checkpoint: &Checkpoint, options: &Options) -> Result<Self> {
        let smoothing = Smoothing::measure(&Net::new(checkpoint, &Device::Cpu)?)?;
        let engine = Self::with_banks(checkpoint, SharedBanks::new(checkpoint)?, options)?;
        Ok(engine.with_smoothing(Arc::new(smoothing)))
    }

    /// As [`CpuEngine::new`], with the checkpoint's banks.
    ///
    /// # Errors
    /// As [`CpuEngine::new`].
    pub(crate) fn with_banks(
        checkpoint: &Checkpoint,
        banks: SharedBanks,
        options: &Options,
    ) -> Result<Self> {
        Self::at_level(checkpoint, banks, options, Level::current())
    }

    /// As [`CpuEngine::with_banks`], at a CPU level.
    pub(crate) fn at_level(
        checkpoint: &Checkpoint,
        banks: SharedBanks,
        options: &Options,
        level: Level,
    ) -> Result<Self> {
        let precision = match options.precision {
            Precision::Auto => {
                let takes_int8 = Self::supports(checkpoint, Precision::Int8).is_ok();
                Precision::fastest(level.multiplies_bytes(), takes_int8)
            }
            asked => asked,
        };
        Self::supports(checkpoint, precision)
            .map_err(|reason| Error::Precision { precision: precision.to_string(), reason })?;
        let spec = ChainSpec::of(&checkpoint.metadata.architecture).map_err(Error::Config)?;
        let weights: Vec<_> = banks.iter().map(Bank::folded_bytes).collect();
        let cuts = cuts(&spec, &weights);
        Self::of_chain(checkpoint, (spec, &cuts), banks, precision, options.threads, level)
    }

    /// An engine that runs a chain, cut at some edges, with the checkpoint's tensors and tuning parameters.
    fn of_chain(
        checkpoint: &Checkpoint,
        (mut spec, cuts): (ChainSpec, &[usize]),
        banks: SharedBanks,
        precision: Precision,
        threads: usize,
        level: Level,
    ) -> Result<Self> {
        let int8 = match precision {
            Precision::Int8 => ranges_of(checkpoint).map(|ranges| Int8::new(ranges, &spec)),
            _ => None,
        };
        let is_bounded = checkpoint.metadata.calibration.as_ref().is_some_and(|c| c.bounds);
        let bounds = ranges_of(checkpoint).filter(|_| is_bounded && int8.is_none());
        let winograd: Vec<bool> =
            (0..spec.layers.len()).map(|l| int8.is_none() && fits_winograd(&spec, l)).collect();
        let kinds = edge_kinds(&spec, int8.is_some(), level);
        for (layer, &winograd) in spec.layers.iter_mut().zip(&winograd) {
            if winograd {
                (layer.column_unit, layer.row_unit) = (TILE, row_unit(layer.c_in));
            }
        }
        let layers = spec.layers.iter().enumerate().map(|(index, layer)| {
            let shape = row_shape(layer, spec.parts(index));
            match kinds[index] {
                Kind::F32 if winograd[index] => Layer::Winograd(winograd_conv(level, layer)),
                Kind::F32 => Layer::F32(convs(&f32_kernels(level), shape, layer)),
                Kind::I16 { .. } => Layer::I16(convs(&i16_kernels(level), shape, layer)),
                Kind::U8 => Layer::U8(convs(&u8_kernels(level), shape, layer)),
            }
        });
        let layers = layers.collect();
        let zeros = |edge: usize| {
            let pixels = edge.checked_sub(1).map_or(1, |layer| spec.layers[layer].shuffle);
            vec![0.0; (pixels * spec.channels(edge)).next_multiple_of(MAX_LANES)]
        };
        let edges = kinds.iter().enumerate().map(|(edge, &kind)| {
            let components = winograd.get(edge).copied().unwrap_or(false);
            // Of what is kept whole components are made, and it is added, from where it is kept.
            let plain = match cuts.contains(&edge) {
                true => !components || !winograd[edge - 1],
                false => !components || spec.layers.iter().any(|l| l.add.contains(&Some(edge))),
            };
            Edge { kind, plain, components, zero: zeros(edge) }
        });
        let edges = edges.collect();
        let workers = Workers::new(threads)?;
        let (level_name, threads) = (level.name(), workers.count());
        let folded = banks.iter().zip(&spec.layers);
        let mut engine = Self {
            metadata: checkpoint.metadata.clone(),
            io: checkpoint.metadata.architecture.io(),
            description: format!(
                "row pipeline on CPU ({level_name}), {threads} threads, {precision}"
            ),
            tuning: checkpoint.metadata.tuning.default_tuning()?,
            is_identity: false,
            precision,
            folded: folded.map(|(bank, layer)| Folded::zeroed(bank, layer.c_out)).collect(),
            banks,
            int8,
            bounds,
            smoothing: Arc::new(Smoothing::none(&checkpoint.metadata.tuning)),
            pipeline: Pipeline::new(
                Plan::new(spec, cuts).map_err(Error::Config)?,
                level,
                edges,
                layers,
                workers,
            ),
            pictures: Default::default(),
            recolour: None,
        };
        engine.fold();
        Ok(engine)
    }

    /// Computes the residual of a tensor `x` `[6, H, W]`, normalised as frames are; `size` is its
    /// width and height.
    ///
    /// # Errors
    /// [`Error::Frame`] for lengths other than 6 · H · W, or a net that reads something else.
    pub fn residual(&mut self, x: &[f32], size: (usize, usize), out: &mut [f32]) -> Result<()> {
        if self.io.colour != Colour::Yuv420 {
            let reason = format!("the net reads {:?}, expected a net on 4:2:0", self.io.colour);
            return Err(Error::Frame(reason));
        }
        let expected = CHANNELS * size.0 * size.1;
        if expected == 0 || x.len() != expected || out.len() != expected {
            let (got, out) = (x.len(), out.len());
            let reason = format!("{got} values to {out}, expected 6×{}×{}", size.1, size.0);
            return Err(Error::Frame(reason));
        }
        self.run_tensor((x, size), (out, size), None)
    }

    /// Runs the chain on a tensor `[C, H, W]`; each with its width and height.
    fn run_tensor(
        &mut self,
        (x, size): (&[f32], (usize, usize)),
        (out, out_size): (&mut [f32], (usize, usize)),
        tiling: Option<Tiling>,
    ) -> Result<()> {
        self.prepare(size, InputScale::Tensor, tiling)?;
        let (source, values) = (TensorSource { values: x, size }, std::sync::Mutex::new(out));
        self.pipeline.run(&source, &TensorSink { values, size: out_size });
        Ok(())
    }

    /// Bytes that the engine keeps for frames of the last size: line buffers, and banks that it may
    /// share with others.
    pub fn memory_bytes(&self) -> usize {
        let folded: usize = self.folded.iter().map(Folded::bytes).sum();
        let pictures: usize = self.pictures.iter().map(|p| size_of::<f32>() * p.len()).sum();
        let banks: usize = self.banks.iter().map(Bank::bytes).sum();
        self.pipeline.bytes() + banks + 2 * folded + pictures
    }

    fn prepare(
        &mut self,
        size: (usize, usize),
        input: InputScale,
        tiling: Option<Tiling>,
    ) -> Result<()> {
        self.pipeline.prepare(size, tiling).map_err(Error::Frame)?;
        if self.int8.as_mut().is_some_and(|int8| int8.set_input(input)) {
            self.fold();
        }
        Ok(())
    }

    fn process_tiled(
        &mut self,
        input: &Frame<'_>,
        output: &mut FrameMut<'_>,
        tiling: Option<Tiling>,
    ) -> Result<()> {
        let format = input.format();
        if self.io.colour != Colour::Yuv420 {
            return self.process_picture(input, output, tiling);
        }
        output.check_same_format(input)?;
        let FrameFormat { range, samples, .. } = format;
        let scale = match input.is_in_codes() {
            true => InputScale::of_frames(range, samples.bits()),
            false => InputScale::Tensor,
        };
        self.prepare(format.half_size(), scale, tiling)?;
        let smoothing = self.smoothing();
        self.pipeline.run(input, &FrameSum { input, output: output.writer(smoothing) });
        Ok(())
    }

    /// Folds every layer at the tuning and gives it to the pipeline.
    fn fold(&mut self) {
        let omega = self.tuning.values();
        if let Some(int8) = &mut self.int8 {
            int8.tune(omega);
        }
        if let Some(bounds) = &mut self.bounds {
            bounds.tune(omega);
        }
        let (layers, edges) = self.pipeline.layers_mut();
        let last = layers.len() - 1;
        for (index, layer) in layers.iter_mut().enumerate() {
            self.banks[index].fold(omega, &mut self.folded[index]);
            let Folded { weights, bias, slopes, .. } = &mut self.folded[index];
            if !slopes.is_empty() {
                set_slopes(layer, slopes);
            }
            if index == last {
                self.is_identity =
                    self.io.keeps_frames() && weights.iter().chain(&*bias).all(|&v| v == 0.0);
            }
            if let Some(int8) = &mut self.int8 {
                if let Layer::F32(convs) = layer {
                    int8.to_steps(index, weights, bias);
                    set(convs, weights, bias, &[]);
                    edges[index + 1].set_zero(int8.edges.get(index + 1));
                    continue;
                }
                let (quant, output) = int8.quantise(index, weights, bias);
                match layer {
                    Layer::I16(convs) => set(convs, &quant.weights, &quant.bias, &quant.scale),
                    Layer::U8(convs) => {
                        quant.set_bytes();
                        set(convs, &quant.bytes, &quant.bias, &quant.scale);
                    }
                    Layer::F32(_) | Layer::Winograd(_) => unreachable!("int8 layers are integer"),
                }
                edges[index + 1].set_zero(output);
                for which in [0, 1] {
                    let Some(added) = int8.added(index, which) else { continue };
                    match layer {
                        Layer::I16(convs) => set_added(convs, which, added),
                        Layer::U8(convs) => set_added(convs, which, added),
                        Layer::F32(_) | Layer::Winograd(_) => unreachable!("as above"),
                    }
                }
            } else {
                match layer {
                    Layer::F32(convs) => set(convs, weights, bias, &[]),
                    Layer::Winograd(conv) => conv.set(weights, bias),
                    Layer::I16(_) | Layer::U8(_) => unreachable!("f32 layers are not integer"),
                }
                if let Some(ranges) = self.bounds.as_ref().filter(|ranges| index < ranges.len()) {
                    set_bounds(layer, ranges.bounds(index));
                }
            }
        }
        self.pipeline.refresh();
    }
}

impl Engine for CpuEngine {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn set_tuning(&mut self, tuning: &Tuning) -> Result<bool> {
        if *tuning == self.tuning {
            return Ok(false);
        }
        let (got, space) = (tuning.values().len(), &self.metadata.tuning);
        if got != space.len() {
            return Err(Error::TuningLen { expected: space.len(), got, names: space.names() });
        }
        self.tuning = *tuning;
        self.fold();
        Ok(true)
    }

    fn output_size(&self, width: usize, height: usize) -> (usize, usize) {
        (self.io.scale * width, self.io.scale * height)
    }

    fn is_identity(&self) -> bool {
        self.is_identity
    }

    fn smoothing(&self) -> f32 {
        self.smoothing.at(&self.tuning)
    }

    fn saturation(&self) -> f64 {
        self.pipeline.saturation()
    }

    fn process(&mut self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        self.process_tiled(input, output, None)
    }
}

/// The checkpoint's activation ranges, if it has them.
pub(super) fn ranges_of(checkpoint: &Checkpoint) -> Option<Ranges> {
    Ranges::new(&checkpoint.metadata, |name| checkpoint.tensors.get(name).cloned())
}

#[cfg(test)]
mod tests;
