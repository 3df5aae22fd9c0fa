//! 2-D convolution with one kernel set per batch, per micro-batch or per sample,
//! differentiable, with bias and activation in the same operation.
//!
//! On the CPU it runs on this crate's kernels; elsewhere it is built from candle's
//! own operations.

use crate::engine::cpu::kernels::{Backward, ConvFloat, ConvShape, Wanted};
use serde::{Deserialize, Serialize};

use candle_core::{
    CpuStorage, CustomOp3, DType, Error, Layout, Result, Shape, Storage, Tensor, WithDType, bail,
};

/// How a kernel moves over its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvGeometry {
    /// Step between output pixels, in input pixels, at least 1.
    pub stride: usize,
    /// Zeros added on each of the four sides, in pixels.
    pub padding: usize,
    /// Distance between taps, in input pixels, at least 1.
    pub dilation: usize,
    /// Number of channel groups; divides both channel counts.
    pub groups: usize,
}

impl Default for ConvGeometry {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, groups: 1 }
    }
}

/// What is applied to each output pixel after the bias.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Nothing.
    None,
    /// `v` above zero, `slope * v` below; the slope is at least 0.
    LeakyRelu(f32),
    /// The same with a slope of its own for each channel, which is one of a layer's tensors (He, Zhang, Ren,
    /// Sun, "Delving Deep into Rectifiers", ICCV 2015).
    #[serde(rename = "prelu")]
    PRelu,
}

impl Activation {
    /// Slope below zero; 1 is the identity.
    fn slope(self) -> Result<f32> {
        match self {
            Self::None => Ok(1.0),
            // The backward pass tells the side of zero from the result's sign.
            Self::LeakyRelu(slope) if slope >= 0.0 && slope.is_finite() => Ok(slope),
            Self::LeakyRelu(slope) => {
                bail!("conv2d: expected a finite slope of at least 0, got {slope}")
            }
            Self::PRelu => bail!("conv2d: slopes for each channel are applied after it"),
        }
    }
}

/// `v` above zero, `slope · v` below, where slopes `[B, C]` are for equal runs of a batch `[N, C, H, W]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let ((n, c, h, w), (sets, channels)) = (x.dims4()?, slope.dims2()?);
    if channels != c || sets == 0 || !n.is_multiple_of(sets) {
        bail!(
            "prelu: slopes {:?} for {:?}, expected [B, {c}], B dividing {n}",
            slope.dims(),
            x.dims()
        );
    }
    let below = x.neg()?.relu()?.reshape((sets, n / sets, c, h * w))?;
    let below = below.broadcast_mul(&slope.reshape((sets, 1, c, 1))?)?;
    x.relu()? - below.reshape((n, c, h, w))?
}

/// Cross-correlation with zero padding, plus bias, through an activation.
///
/// Sample `n` meets kernel set `n / (N / B)`: with `B = 1` this is an ordinary
/// convolution, with `B = N` each sample has a kernel of its own.
///
/// # Shapes
/// - `x`: `[N, C_in, H, W]`
/// - `weight`: `[B, C_out, C_in / groups, K_h, K_w]`, `B` divides `N`
/// - `bias`: `[B, C_out]`
/// - returns `[N, C_out, H_out, W_out]`, where
///   `H_out = (H + 2 padding - dilation (K_h - 1) - 1) / stride + 1`
///
/// # Errors
/// Sizes that do not fit together, an input smaller than the kernel, a zero
/// stride, dilation or group count, a bad slope, operands of different types or
/// on different devices; on the CPU, types other than f32 and f64.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    geometry: ConvGeometry,
    activation: Activation,
) -> Result<Tensor> {
    let slope = activation.slope()?;
    let steps = [geometry.stride, geometry.padding, geometry.dilation, geometry.groups];
    let shape = ConvShape::new(x.dims(), weight.dims(), steps)
        .map_err(|message| Error::Msg(format!("conv2d: {message}")))?;
    let expected = [shape.sets, shape.c_out];
    if let Some(bias) = bias
        && bias.dims() != expected
    {
        bail!("conv2d: expected a bias [B, C_out] = {expected:?}, got {:?}", bias.dims());
    }
    for (name, other) in [("weights", Some(weight)), ("bias", bias)] {
        let Some(other) = other else { continue };
        if other.dtype() != x.dtype() {
            let (want, got) = (x.dtype(), other.dtype());
            bail!("conv2d: expected {name} of the input's type {want:?}, got {got:?}");
        }
        if !other.device().same_device(x.device()) {
            bail!("conv2d: expected {name} on the input's device");
        }
    }
    if !x.device().is_cpu() {
        return by_candle(x, weight, bias, geometry, slope);
    }
    if !matches!(x.dtype(), DType::F32 | DType::F64) {
        bail!("conv2d: expected f32 or f64 on the CPU, got {:?}", x.dtype());
    }
    let bias = match bias {
        Some(bias) => bias.contiguous()?,
        None => Tensor::zeros(&expected, x.dtype(), x.device())?,
    };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, Conv { shape, slope })
}

/// The same function from candle's operations, one kernel set at a time.
fn by_candle(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    geometry: ConvGeometry,
    slope: f32,
) -> Result<Tensor> {
    let sets = weight.dim(0)?;
    let each = x.dim(0)? / sets;
    let mut parts = Vec::with_capacity(sets);
    for set in 0..sets {
        let mut y = x.narrow(0, set * each, each)?.contiguous()?.conv2d(
            &weight.get(set)?.contiguous()?,
            geometry.padding,
            geometry.stride,
            geometry.dilation,
            geometry.groups,
        )?;
        if let Some(bias) = bias {
            y = y.broadcast_add(&bias.get(set)?.reshape((1, (), 1, 1))?)?;
        }
        if slope != 1.0 {
            y = (y.relu()? - (y.neg()?.relu()? * f64::from(slope))?)?;
        }
        parts.push(y);
    }
    Tensor::cat(&parts, 0)
}

struct Conv {
    shape: ConvShape,
    slope: f32,
}

impl Conv {
    fn forward<T: ConvFloat + From<f32>>(&self, x: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
        T::forward(&self.shape, x, weight, bias, T::from(self.slope))
    }

    fn backward<T: ConvFloat + WithDType + From<f32>>(
        &self,
        [x, weight, bias, out, grad]: [&Tensor; 5],
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        // A tensor outside the graph (the first layer's input, say) needs no gradient.
        let wanted = Wanted { x: x.track_op(), weight: weight.track_op(), bias: bias.track_op() };
        let gradients = {
            let (xs, xl) = x.storage_and_layout();
            let (ws, wl) = weight.storage_and_layout();
            let (os, ol) = out.storage_and_layout();
            let (gs, gl) = grad.storage_and_layout();
            let operands = Backward {
                x: cpu_slice::<T>(&xs, xl)?,
                weight: cpu_slice::<T>(&ws, wl)?,
                out: cpu_slice::<T>(&os, ol)?,
                grad: cpu_slice::<T>(&gs, gl)?,
                slope: T::from(self.slope),
            };
            T::backward(&self.shape, &operands, wanted)
        };
        let tensor = |like: &Tensor, data: Option<Vec<T>>| {
            data.map(|data| Tensor::from_vec(data, like.shape(), like.device())).transpose()
        };
        Ok((
            tensor(x, gradients.x)?,
            tensor(weight, gradients.weight)?,
            tensor(bias, gradients.bias)?,
        ))
    }
}

/// The elements of a contiguous tensor on the CPU.
fn cpu_slice<'a, T: WithDType>(storage: &'a Storage, layout: &Layout) -> Result<&'a [T]> {
    match storage {
        Storage::Cpu(storage) => contiguous(T::cpu_storage_as_slice(storage)?, layout),
        _ => bail!("conv2d: expected operands on the CPU"),
    }
}

fn contiguous<'a, T>(data: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("conv2d: expected contiguous operands"),
    }
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let s = &self.shape;
        let out = match (x, weight, bias) {
            (CpuStorage::F32(x), CpuStorage::F32(w), CpuStorage::F32(b)) => {
                let (x, w, b) = (contiguous(x, xl)?, contiguous(w, wl)?, contiguous(b, bl)?);
                CpuStorage::F32(self.forward(x, w, b))
            }
            (CpuStorage::F64(x), CpuStorage::F64(w), CpuStorage::F64(b)) => {
                let (x, w, b) = (contiguous(x, xl)?, contiguous(w, wl)?, contiguous(b, bl)?);
                CpuStorage::F64(self.forward(x, w, b))
            }
            _ => bail!("conv2d: expected operands that are all f32 or all f64"),
        };
        Ok((out, Shape::from((s.n, s.c_out, s.out_h, s.out_w))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let tensors = [x, weight, bias, out, grad];
        match x.dtype() {
            DType::F32 => self.backward::<f32>(tensors),
            DType::F64 => self.backward::<f64>(tensors),
            other => bail!("conv2d: expected f32 or f64 on the CPU, got {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
