//! What rounds, as candle operations with straight-through gradients.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Storage, Tensor, WithDType as _, bail,
};
use rayon::prelude::*;
use tunableconv::checkpoint::STATISTICS;
use tunableconv::engine::{Finish, InputScale, LAST_MARGIN, QuantisedLayer};
use tunableconv::frame::CHANNELS;

/// Normalised values to the first layer's whole numbers, `[N, 6, H, W]`; an input scale for each
/// sample, or one for all.
pub(super) struct Encode {
    pub(super) inputs: Vec<InputScale>,
}

impl Encode {
    fn input(&self, plane: usize) -> (InputScale, usize) {
        (self.inputs[(plane / CHANNELS).min(self.inputs.len() - 1)], plane % CHANNELS)
    }
}

impl CustomOp1 for Encode {
    fn name(&self) -> &'static str {
        "encode"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = dense(x, layout)?;
        let plane_len = plane_len(layout.shape())?;
        let planes = x.chunks_exact(plane_len).enumerate().flat_map(|(plane, values)| {
            let (input, channel) = self.input(plane);
            values.iter().map(move |&v| input.encode(channel, v))
        });
        Ok((CpuStorage::F32(planes.collect()), layout.shape().clone()))
    }

    /// A step of the input is worth its scale. Frames do not reach the ends of the range.
    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let n = x.dim(0)?;
        let scales: Vec<f32> =
            (0..n).flat_map(|sample| self.input(sample * CHANNELS).0.scale()).collect();
        let scales = Tensor::from_vec(scales, (n, CHANNELS, 1, 1), x.device())?;
        grad.broadcast_div(&scales).map(Some)
    }
}

/// Folded weights `[S, C_out, C_in, K, K]` to their whole numbers.
pub(super) struct Round {
    codes: Vec<f32>,
    /// `[S, C_out, C_in, 1, 1]`: codes per unit of a weight.
    per_unit: Vec<f32>,
}

impl Round {
    /// Of a layer's kernel sets.
    pub(super) fn new(sets: &[QuantisedLayer]) -> Self {
        let per_unit = sets.iter().flat_map(|set| {
            (0..set.finish.len()).flat_map(move |c| {
                let output_scale = set.output_scale.as_ref().map_or(1.0, |scale| scale[c]);
                let step = set.finish[c].scale * output_scale;
                set.input_scale.iter().map(move |scale| scale / step)
            })
        });
        let per_unit = per_unit.collect();
        Self { per_unit, codes: sets.iter().flat_map(|set| set.weights.iter().copied()).collect() }
    }
}

impl CustomOp1 for Round {
    fn name(&self) -> &'static str {
        "round-weights"
    }

    fn cpu_fwd(&self, _: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.codes.clone()), layout.shape().clone()))
    }

    fn bwd(&self, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (sets, c_out, c_in, _, _) = weight.dims5()?;
        let shape = (sets, c_out, c_in, 1, 1);
        let per_unit = Tensor::from_slice(&self.per_unit, shape, weight.device())?;
        grad.broadcast_mul(&per_unit).map(Some)
    }
}

/// Sums `[N, C, H, W]` without offsets to centred codes, or to values. Bias `[S, C]` and ranges
/// `[S, C, 3]` (any other size for values) are in `sets` already.
pub(super) struct Requantise {
    /// S kernel sets.
    pub(super) sets: Arc<Vec<QuantisedLayer>>,
    /// Sums with offsets, where those to come have no exact f32.
    pub(super) exact: Option<Tensor>,
    /// What becomes of the sums.
    pub(super) into: Into,
}

/// What becomes of the sums of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Into {
    /// Codes, those of zero taken away.
    Codes,
    /// Values in steps of the output, or in its unit after the last layer.
    Values,
}

/// One channel of one sample on its way back.
#[derive(Clone, Copy, Default)]
struct PlaneGradients {
    bias: f64,
    minimum: f64,
    maximum: f64,
}

impl Requantise {
    /// Finish, offset and what a step of the output is worth, of channel `plane` of all samples'
    /// channels.
    fn channel(&self, plane: usize, planes: usize) -> (Finish, f32, f32) {
        let channels = self.sets[0].finish.len();
        let each = planes / self.sets.len();
        let (set, c) = (&self.sets[plane / each], plane % channels);
        let offset = if self.exact.is_some() { 0.0 } else { set.offsets[c] as f32 };
        (set.finish[c], offset, set.output_scale.as_ref().map_or(1.0, |scale| scale[c]))
    }

    fn forward(&self, sums: &[f32], plane_len: usize) -> Vec<f32> {
        let mut out = vec![0.0; sums.len()];
        let planes = sums.len() / plane_len;
        let pairs = out.par_chunks_exact_mut(plane_len).zip(sums.par_chunks_exact(plane_len));
        pairs.enumerate().for_each(|(plane, (out, sums))| {
            let (finish, offset, _) = self.channel(plane, planes);
            let pixels = out.iter_mut().zip(sums);
            if self.into == Into::Codes {
                pixels.for_each(|(out, &sum)| {
                    *out = finish.code(finish.activated(sum + offset)) - finish.zero;
                });
            } else {
                pixels.for_each(|(out, &sum)| *out = finish.activated(sum + offset));
            }
        });
        out
    }

    /// Replaces the gradient of the output by that of the sums, and returns those of bias and range
    /// of each plane. `ranges` is `[S, C, 3]`.
    fn backward(
        &self,
        sums: &[f32],
        grad: &mut [f32],
        plane_len: usize,
        ranges: &[f32],
    ) -> Vec<PlaneGradients> {
        let planes = sums.len() / plane_len;
        let pairs = grad.par_chunks_exact_mut(plane_len).zip(sums.par_chunks_exact(plane_len));
        let gradients = pairs.enumerate().map(|(plane, (grad, sums))| {
            let (finish, offset, scale) = self.channel(plane, planes);
            if self.into == Into::Values {
                return values(finish, offset, scale, sums, grad);
            }
            let of_ends = inner(finish, offset, sums, grad);
            let (each, channels) = (planes / self.sets.len(), self.sets[0].finish.len());
            let at = (plane / each * channels + plane % channels) * STATISTICS;
            of_ends.to_range(finish, scale, &ranges[at..at + STATISTICS])
        });
        gradients.collect()
    }
}

/// Gradients of an inner layer's plane, in steps of the output.
struct Ends {
    /// Of the value before the activation.
    bias: f64,
    /// Sums of the output's gradient over values below and above the range.
    below: f64,
    above: f64,
    /// Sum of the output's gradient times what rounding adds, inside.
    rounding: f64,
}

/// Backward pass of an inner layer's plane; `grad` becomes that of the sums.
fn inner(finish: Finish, offset: f32, sums: &[f32], grad: &mut [f32]) -> Ends {
    const LANES: usize = 8;
    let (mut bias, mut below) = ([0f32; LANES], [0f32; LANES]);
    let (mut above, mut rounding) = ([0f32; LANES], [0f32; LANES]);
    for (grad, sums) in grad.chunks_mut(LANES).zip(sums.chunks(LANES)) {
        for (lane, (grad, &sum)) in grad.iter_mut().zip(sums).enumerate() {
            let (g, activated) = (*grad, finish.activated(sum + offset));
            let value = activated + finish.zero;
            let code = finish.code(activated);
            let (is_below, is_above) = (value < finish.low, value > finish.high);
            let slope = if activated < 0.0 { finish.slope } else { 1.0 };
            let inside = if is_below || is_above { 0.0 } else { g };
            below[lane] += if is_below { g } else { 0.0 };
            above[lane] += if is_above { g } else { 0.0 };
            rounding[lane] += inside * (code - value);
            bias[lane] += inside * slope;
            *grad = inside * slope * finish.scale;
        }
    }
    let sum = |lanes: [f32; LANES]| lanes.into_iter().map(f64::from).sum();
    Ends { bias: sum(bias), below: sum(below), above: sum(above), rounding: sum(rounding) }
}

impl Ends {
    /// From steps of the output to its unit, which a step is `scale` of: with x = s · c, the gradient
    /// of x is that of c over s.
    fn to_range(&self, finish: Finish, scale: f32, range: &[f32]) -> PlaneGradients {
        let scale = f64::from(scale);
        let (below, above) = (self.below / scale, self.above / scale);
        let (rounding, bias) = (self.rounding / scale, self.bias / scale);
        let steps = f64::from(finish.high - finish.low);
        if finish.low < 0.0 {
            // s = margin · m / high: the ends are ± margin · m, where m is the larger magnitude.
            let steps = f64::from(finish.high);
            let of_larger = f64::from(LAST_MARGIN) * (above - below + rounding / steps);
            let (minimum, maximum) =
                if range[1] >= -range[0] { (0.0, of_larger) } else { (-of_larger, 0.0) };
            return PlaneGradients { bias, minimum, maximum };
        }
        // Ends that 0 has taken the place of do not move.
        let minimum = if range[0] <= 0.0 { below - rounding / steps } else { 0.0 };
        let maximum = if range[1] >= 0.0 { above + rounding / steps } else { 0.0 };
        PlaneGradients { bias, minimum, maximum }
    }
}

/// Backward pass of a plane of values, of which a step is `scale`; `grad` becomes that of the sums.
fn values(
    finish: Finish,
    offset: f32,
    scale: f32,
    sums: &[f32],
    grad: &mut [f32],
) -> PlaneGradients {
    let mut bias = 0.0;
    for (grad, &sum) in grad.iter_mut().zip(sums) {
        let slope = if finish.activated(sum + offset) < 0.0 { finish.slope } else { 1.0 };
        bias += f64::from(*grad * slope);
        *grad *= slope * finish.scale;
    }
    PlaneGradients { bias: bias / f64::from(scale), ..PlaneGradients::default() }
}

impl CustomOp3 for Requantise {
    fn name(&self) -> &'static str {
        "requantise"
    }

    fn cpu_fwd(
        &self,
        sums: &CpuStorage,
        layout: &Layout,
        _bias: &CpuStorage,
        _bias_layout: &Layout,
        _ranges: &CpuStorage,
        _ranges_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let plane_len = plane_len(layout.shape())?;
        let out = match &self.exact {
            Some(exact) => {
                let (storage, layout) = exact.storage_and_layout();
                self.forward(on_cpu(&storage, layout)?, plane_len)
            }
            None => self.forward(dense(sums, layout)?, plane_len),
        };
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(
        &self,
        sums: &Tensor,
        bias: &Tensor,
        ranges: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut of_sums = grad.flatten_all()?.to_vec1::<f32>()?;
        let of_planes = {
            let (storage, layout) = self.exact.as_ref().unwrap_or(sums).storage_and_layout();
            let range_values = ranges.flatten_all()?.to_vec1::<f32>()?;
            let (sums, len) = (on_cpu(&storage, layout)?, plane_len(sums.shape())?);
            self.backward(sums, &mut of_sums, len, &range_values)
        };
        let channels = self.sets[0].finish.len();
        let each = of_planes.len() / self.sets.len();
        let mut of_channels = vec![PlaneGradients::default(); self.sets.len() * channels];
        for (plane, gradients) in of_planes.iter().enumerate() {
            let total = &mut of_channels[plane / each * channels + plane % channels];
            total.bias += gradients.bias;
            total.minimum += gradients.minimum;
            total.maximum += gradients.maximum;
        }
        let of_sums = Tensor::from_vec(of_sums, sums.shape(), sums.device())?;
        let of_bias: Vec<f32> = of_channels.iter().map(|g| g.bias as f32).collect();
        let of_bias = Tensor::from_vec(of_bias, bias.shape(), bias.device())?;
        if self.into == Into::Values {
            return Ok((Some(of_sums), Some(of_bias), None));
        }
        // The mean takes no gradient, but its place has one: 0.
        let of_ranges = of_channels.iter().flat_map(|g| [g.minimum as f32, g.maximum as f32, 0.0]);
        let of_ranges: Vec<f32> = of_ranges.collect();
        let of_ranges = Tensor::from_vec(of_ranges, ranges.shape(), ranges.device())?;
        Ok((Some(of_sums), Some(of_bias), Some(of_ranges)))
    }
}

fn plane_len(shape: &Shape) -> Result<usize> {
    let (_, _, height, width) = shape.dims4()?;
    Ok(height * width)
}

fn dense<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&f32::cpu_storage_as_slice(storage)?[start..end]),
        None => bail!("expected contiguous operands"),
    }
}

fn on_cpu<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => dense(storage, layout),
        _ => bail!("expected operands on the CPU"),
    }
}
