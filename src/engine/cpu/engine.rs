//! The CPU engine: folds banks at each new tuning and runs the row pipeline.

use std::sync::Arc;

use candle_core::Device;

use super::bank::{Bank, Folded, SharedBanks, input_order};
use super::kernels::Level;
use super::kernels::aligned::Number;
use super::kernels::conv_row::{
    Added, ConvRow, RowKernel, RowShape, choose, f32_kernels, i16_kernels, u8_kernels,
};
use super::line_buffer::Kind;
use super::pipeline::{Edge, Layer, Pipeline, Tiling};
use super::plan::{ChainSpec, LayerSpec, Plan};
use super::quant::{
    EdgeQuant, INNER_WEIGHT_MAX, INPUT_MAX, InputScale, LAST_MAX, LayerQuant, set_scales,
    weight_max,
};
use super::rows::{FrameSum, TensorSink, TensorSource};
use super::winograd::{TILE, WinogradConv};
use super::workers::Workers;
use crate::checkpoint::{Checkpoint, Metadata};
use crate::engine::smoothing::Smoothing;
use crate::engine::{Engine, Options, Precision};
use crate::frame::{CHANNELS, Frame, FrameFormat, FrameMut};
use crate::net::Net;
use crate::ranges::Ranges;
use crate::tuning::Tuning;
use crate::{Error, Result};

/// Longest vector of output channels; what is per channel is padded to it.
const MAX_LANES: usize = 16;

/// State of an int8 engine beside the pipeline's.
pub(super) struct Int8 {
    pub(super) ranges: Ranges,
    /// Edge that each layer adds.
    adds: Vec<Option<usize>>,
    input: InputScale,
    /// Input, then every inner edge.
    pub(super) edges: Vec<EdgeQuant>,
    layers: Vec<LayerQuant>,
}

/// See the module documentation.
pub struct CpuEngine {
    metadata: Metadata,
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
        let calibrated = ranges_of(checkpoint).is_some();
        let reason = match precision {
            Precision::Int8 if !calibrated => {
                "the checkpoint has no activation ranges: `tunableconv-train calibrate` adds them"
            }
            Precision::Int8 if !adds_codes(&spec) => {
                "the net adds its input or to its output, which int8 does not do"
            }
            _ => return Ok(()),
        };
        Err(reason.into())
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
                Precision::fastest(true, level.multiplies_bytes(), takes_int8)
            }
            asked => asked,
        };
        Self::supports(checkpoint, precision)
            .map_err(|reason| Error::Precision { precision: precision.to_string(), reason })?;
        let spec = ChainSpec::of(&checkpoint.metadata.architecture).map_err(Error::Config)?;
        Self::of_chain(checkpoint, spec, banks, precision, options.threads, level)
    }

    /// An engine that runs a chain with the checkpoint's tensors and tuning parameters.
    fn of_chain(
        checkpoint: &Checkpoint,
        mut spec: ChainSpec,
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
            layer.column_unit = if winograd { TILE } else { 1 };
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
            Edge { kind, components, zero: zeros(edge) }
        });
        let edges = edges.collect();
        let workers = Workers::new(threads)?;
        let (level_name, threads) = (level.name(), workers.count());
        let folded = banks.iter().zip(&spec.layers);
        let mut engine = Self {
            metadata: checkpoint.metadata.clone(),
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
                Plan::new(spec).map_err(Error::Config)?,
                level,
                edges,
                layers,
                workers,
            ),
        };
        engine.fold();
        Ok(engine)
    }

    /// Computes the residual of a tensor `x` `[6, H, W]`, normalised as frames are; `size` is its
    /// width and height.
    ///
    /// # Errors
    /// [`Error::Frame`] for lengths other than 6 · H · W.
    pub fn residual(&mut self, x: &[f32], size: (usize, usize), out: &mut [f32]) -> Result<()> {
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
        self.pipeline.bytes() + self.banks.iter().map(Bank::bytes).sum::<usize>() + 2 * folded
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
            let Folded { weights, bias, .. } = &mut self.folded[index];
            if index == last {
                self.is_identity = weights.iter().chain(&*bias).all(|&v| v == 0.0);
            }
            if let Some(int8) = &mut self.int8 {
                let (quant, output) = int8.quantise(index, weights, bias);
                match layer {
                    Layer::I16(convs) => set(convs, &quant.weights, &quant.bias, &quant.scale),
                    Layer::U8(convs) => {
                        quant.set_bytes();
                        set(convs, &quant.bytes, &quant.bias, &quant.scale);
                    }
                    Layer::F32(_) | Layer::Winograd(_) => unreachable!("int8 layers are integer"),
                }
                if let Some(output) = output {
                    let zeros = output.zero.iter().cycle();
                    edges[index + 1].zero.iter_mut().zip(zeros).for_each(|(to, zero)| *to = *zero);
                }
                if let Some(added) = int8.added(index) {
                    match layer {
                        Layer::I16(convs) => set_added(convs, added),
                        Layer::U8(convs) => set_added(convs, added),
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

impl Int8 {
    pub(super) fn new(ranges: Ranges, spec: &ChainSpec) -> Self {
        let last = spec.layers.len() - 1;
        let layers = spec.layers.iter().enumerate().map(|(index, layer)| {
            let order = input_order(layer, spec.parts(index));
            let channels: Vec<usize> = order.iter().map(|&(channel, _)| channel).collect();
            let inputs = channels.repeat(layer.kernel);
            let largest = match index {
                0 => weight_max(inputs.len(), INPUT_MAX),
                _ if index == last => weight_max(inputs.len(), LAST_MAX),
                _ => INNER_WEIGHT_MAX,
            };
            LayerQuant::new(layer.c_out, inputs, largest)
        });
        let edges = (0..=last).map(|edge| EdgeQuant::plain(vec![1.0; spec.channels(edge)]));
        let (layers, edges) = (layers.collect(), edges.collect());
        let adds = spec.layers.iter().map(|layer| layer.add).collect();
        let mut int8 = Self { ranges, adds, input: InputScale::Tensor, edges, layers };
        int8.edges[0] = InputScale::Tensor.quant();
        int8
    }

    /// Interpolates the scales of the inner edges.
    pub(super) fn tune(&mut self, omega: &[f32]) {
        self.ranges.tune(omega);
        set_scales(&mut self.edges[1..], &self.ranges);
    }

    /// Quantises a layer's folded weights, scratch space afterwards, and bias; returns it with the
    /// edge that it writes, none for the last.
    pub(super) fn quantise(
        &mut self,
        index: usize,
        weights: &mut [f32],
        bias: &[f32],
    ) -> (&mut LayerQuant, Option<&EdgeQuant>) {
        let (input, output) = (&self.edges[index], self.edges.get(index + 1));
        let layer = &mut self.layers[index];
        layer.set(weights, bias, input, output);
        (layer, output)
    }

    /// Code of zero of each channel of the edge that a layer adds, and what its steps are worth in those of
    /// the layer's output.
    pub(super) fn added(&self, index: usize) -> Option<impl Iterator<Item = (f32, f32)> + Clone> {
        let (from, output) = (&self.edges[self.adds[index]?], self.edges.get(index + 1)?);
        let steps = from.scale.iter().zip(&output.scale).map(|(from, output)| from / output);
        Some(from.zero.iter().copied().zip(steps))
    }

    /// Returns whether it is another one than before.
    pub(super) fn set_input(&mut self, input: InputScale) -> bool {
        let changed = input != self.input;
        if changed {
            self.input = input;
            self.edges[0] = input.quant();
        }
        changed
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

/// Whether all that is added are activations, to activations.
fn adds_codes(spec: &ChainSpec) -> bool {
    let last = spec.layers.len() - 1;
    spec.layers.iter().enumerate().all(|(l, layer)| {
        let Some(from) = layer.add else { return true };
        from != 0 && l != last
    })
}

/// How each edge is stored.
pub(super) fn edge_kinds(spec: &ChainSpec, int8: bool, level: Level) -> Vec<Kind> {
    let last = spec.layers.len() - 1;
    let kind = |edge: usize| match edge {
        _ if !int8 || edge > last => Kind::F32,
        0 => Kind::I16 { low: -INPUT_MAX, high: INPUT_MAX },
        _ if edge == last => Kind::I16 { low: -LAST_MAX, high: LAST_MAX },
        _ if u8_kernels(level).is_empty() => Kind::I16 { low: 0, high: 255 },
        _ => Kind::U8,
    };
    (0..=spec.layers.len()).map(kind).collect()
}

fn row_shape(layer: &LayerSpec, parts: usize) -> RowShape {
    let pixel = layer.c_in / (layer.unshuffle * parts);
    RowShape {
        segments: layer.kernel * layer.unshuffle * parts,
        run: layer.kernel * pixel,
        pixel: layer.stride * pixel,
        c_out: layer.c_out / layer.shuffle,
    }
}

/// Whether a layer of f32 is computed by [`super::winograd`].
fn fits_winograd(spec: &ChainSpec, index: usize) -> bool {
    let layer = &spec.layers[index];
    let in_place = layer.kernel == 3 && layer.step() == 1 && layer.shuffle == 1;
    let channels = layer.c_in.is_multiple_of(8) && layer.c_out.is_multiple_of(8);
    // What is added is needed as it is, not in components.
    let added = spec.layers.iter().any(|other| other.add == Some(index));
    index > 0 && in_place && channels && !added
}

fn kernel<X: Number, W: Number>(kernels: &[RowKernel<X, W>], shape: &RowShape) -> RowKernel<X, W> {
    choose(kernels, shape).expect("some kernel has a group of the run's")
}

fn winograd_conv(level: Level, layer: &LayerSpec) -> Box<WinogradConv> {
    let LayerSpec { c_in, c_out, slope, .. } = *layer;
    let component = RowShape { segments: 3, run: c_in, pixel: c_in, c_out };
    let kernel = kernel(&f32_kernels(level), &component);
    Box::new(WinogradConv::zeroed(kernel, c_in, c_out, slope))
}

/// One convolution for each row that a shuffle makes of one.
fn convs<X: Number, W: Number>(
    kernels: &[RowKernel<X, W>],
    shape: RowShape,
    layer: &LayerSpec,
) -> Vec<ConvRow<X, W>> {
    let kernel = kernel(kernels, &shape);
    (0..layer.shuffle).map(|_| ConvRow::zeroed(kernel, shape, layer.slope)).collect()
}

/// Gives a layer of f32 the lowest and highest values of its channels.
fn set_bounds(layer: &mut Layer, bounds: impl Iterator<Item = [f32; 2]> + Clone) {
    let set = |[low, high]: [&mut [f32]; 2]| {
        // The columns of a shuffle have the same channels.
        for ((low, high), bounds) in low.iter_mut().zip(high).zip(bounds.clone().cycle()) {
            [*low, *high] = bounds;
        }
    };
    match layer {
        Layer::F32(convs) => convs.iter_mut().for_each(|conv| set(conv.bounds_mut())),
        Layer::Winograd(conv) => set(conv.bounds_mut()),
        Layer::I16(_) | Layer::U8(_) => unreachable!("f32 layers are not integer"),
    }
}

/// Sets how codes that are added are read.
fn set_added<X, W>(convs: &mut [ConvRow<X, W>], added: impl Iterator<Item = (f32, f32)> + Clone) {
    for conv in convs {
        let Added { offset, step } = &mut conv.added;
        // The columns of a shuffle have the same channels.
        let channels = offset.iter_mut().zip(&mut **step);
        for ((offset, step), (zero, of_code)) in channels.zip(added.clone().cycle()) {
            (*offset, *step) = (-zero, of_code);
        }
    }
}

/// Divides the weights among the rows of a shuffle.
fn set<X: Number, W: Number>(
    convs: &mut [ConvRow<X, W>],
    weights: &[W],
    bias: &[f32],
    scale: &[f32],
) {
    let (count, channels) = (convs.len(), bias.len() / convs.len());
    let rows = convs.iter_mut().zip(weights.chunks_exact(weights.len() / count));
    for (index, (conv, weights)) in rows.enumerate() {
        conv.set_weights(weights);
        let of_row = index * channels..(index + 1) * channels;
        conv.bias[..channels].copy_from_slice(&bias[of_row.clone()]);
        if let Some(scale) = scale.get(of_row) {
            conv.scale[..channels].copy_from_slice(scale);
        }
    }
}

#[cfg(test)]
mod tests;
