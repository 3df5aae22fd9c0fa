//! The kernels there are, and which of them runs a shape. They are written from the lowest level to the highest,
//! and handed out the other way round.

use super::super::dot::{PlainF32, PlainI16};
#[cfg(target_arch = "x86_64")]
use super::super::dot_x86::*;
use super::*;

/// A function that runs [`conv_row`] with a level's features.
macro_rules! kernel {
    ($(#[$feature:meta])? $level:ident, $dot:ident, pixels $most:literal $(or $fewer:literal)*) => {{
        $(#[$feature])?
        unsafe fn call(call: &Call<<$dot as Dot>::X, <$dot as Dot>::W>) {
            // SAFETY: the caller vouches for the call; the features are enabled.
            unsafe {
                match call.block {
                    $($fewer => conv_row::<$dot, $fewer>(call),)*
                    _ => conv_row::<$dot, $most>(call),
                }
            }
        }
        $(#[$feature])?
        unsafe fn peak(steps: usize) {
            // SAFETY: the features are enabled.
            unsafe { self::peak::<$dot, $most>(steps) }
        }
        RowKernel {
            name: stringify!($dot),
            lanes: <<$dot as Dot>::Float as Lanes>::LEN,
            group: <$dot as Dot>::GROUP,
            pixels: last(&[$most $(, $fewer)*]),
            blocks: &[$most $(, $fewer)*],
            level: Level::$level,
            call,
            peak: <$dot as Dot>::FUSED.then_some(peak as unsafe fn(usize)),
        }
    }};
}

const fn last(blocks: &[usize]) -> usize {
    blocks[blocks.len() - 1]
}

/// The kernels of [`RowKernel`] for f32, best first.
pub(crate) fn f32_kernels(level: Level) -> Vec<RowKernel<f32, f32>> {
    let mut kernels = vec![kernel!(Scalar, PlainF32, pixels 4)];
    #[cfg(target_arch = "x86_64")]
    {
        kernels.push(kernel!(#[target_feature(enable = "avx2,fma")] Avx2, Avx2F32, pixels 6));
        kernels.push(kernel!(
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            Avx512, Avx512F32, pixels 14 or 12 or 10 or 8
        ));
        kernels.push(kernel!(
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            Avx512, Avx512F32Halves, pixels 14
        ));
    }
    up_to(level, kernels)
}

/// The kernels of [`RowKernel`] for i16, best first.
pub(crate) fn i16_kernels(level: Level) -> Vec<RowKernel<i16, i16>> {
    let mut kernels = vec![kernel!(Scalar, PlainI16, pixels 4)];
    #[cfg(target_arch = "x86_64")]
    {
        kernels.push(kernel!(#[target_feature(enable = "avx2,fma")] Avx2, Avx2I16, pixels 6));
        kernels.push(kernel!(
            #[target_feature(enable = "avxvnni,avx2,fma")]
            AvxVnni, AvxVnniI16, pixels 6
        ));
        kernels.push(kernel!(
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            Avx512, Avx512I16, pixels 14
        ));
        kernels.push(kernel!(
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            Avx512, Avx512I16Halves, pixels 14
        ));
        kernels.push(kernel!(
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
            Avx512Vnni, VnniI16, pixels 14
        ));
        kernels.push(kernel!(
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
            Avx512Vnni, VnniI16Halves, pixels 14
        ));
    }
    up_to(level, kernels)
}

/// The kernels of [`RowKernel`] for u8 by i8, best first. Where a level has none, int8 keeps its edges in i16.
pub(crate) fn u8_kernels(level: Level) -> Vec<RowKernel<u8, i8>> {
    let mut kernels = vec![];
    #[cfg(target_arch = "x86_64")]
    {
        kernels.push(kernel!(
            #[target_feature(enable = "avxvnni,avx2,fma")]
            AvxVnni, AvxVnniU8, pixels 6
        ));
        kernels.push(kernel!(
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
            Avx512Vnni, VnniU8, pixels 14
        ));
    }
    up_to(level, kernels)
}

/// Those that the CPU can run up to `level`, highest level first.
fn up_to<X, W>(level: Level, mut kernels: Vec<RowKernel<X, W>>) -> Vec<RowKernel<X, W>> {
    kernels.retain(|kernel| kernel.level <= level && kernel.level.is_available());
    kernels.reverse();
    kernels
}

/// The kernel of the highest level that wastes the fewest lanes on this shape.
pub(crate) fn choose<X, W>(
    kernels: &[RowKernel<X, W>],
    shape: &RowShape,
) -> Option<RowKernel<X, W>> {
    let highest = kernels.first()?.level;
    kernels
        .iter()
        .filter(|kernel| kernel.level == highest && shape.run.is_multiple_of(kernel.group))
        .min_by_key(|kernel| {
            // Steps of all vectors for one pixel, the fewer the better; of equals the longer vector.
            let steps = shape.c_out.div_ceil(kernel.lanes) * shape.run / kernel.group;
            (steps, usize::MAX - kernel.lanes)
        })
        .copied()
}
