//! Dot products of a few neighbouring inputs with the weights of a vector of output channels: what
//! the kernels of [`super::conv_row`] differ in. Here are those in plain Rust.

use super::aligned::Number;
use super::lanes::{Lanes, Plain};

/// One way to multiply and add.
///
/// # Safety
/// Each function needs the CPU level of its type, `broadcast` needs [`Dot::GROUP`] inputs at the
/// address and `weights` [`Dot::GROUP`] × [`Dot::Float`]'s length of weights. All inline into their
/// caller, which has to enable the level's features.
pub(super) trait Dot {
    /// Input.
    type X: Number;
    /// Weight.
    type W: Number;
    /// The inputs or weights of one product.
    type Operand: Copy;
    /// Sums, one or more per output channel.
    type Sum: Copy;
    /// Sums as f32, one per output channel.
    type Float: Lanes;
    /// Inputs per product.
    const GROUP: usize;
    /// Whether the sums are integers, in units of a scale per output channel.
    const SCALED: bool;
    /// Whether [`Dot::dot`] is one instruction.
    const FUSED: bool;

    unsafe fn zero() -> Self::Sum;
    /// The same inputs for every output channel.
    unsafe fn broadcast(x: *const Self::X) -> Self::Operand;
    /// Laid out `[channel][input]`.
    unsafe fn weights(w: *const Self::W) -> Self::Operand;
    unsafe fn dot(sum: Self::Sum, x: Self::Operand, w: Self::Operand) -> Self::Sum;
    unsafe fn to_float(sum: Self::Sum) -> Self::Float;
}

/// f32, four channels at once.
pub(super) struct PlainF32;

impl Dot for PlainF32 {
    type X = f32;
    type W = f32;
    type Operand = Plain;
    type Sum = Plain;
    type Float = Plain;
    const GROUP: usize = 1;
    const SCALED: bool = false;
    const FUSED: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Plain {
        Plain([0.0; 4])
    }

    #[inline(always)]
    unsafe fn broadcast(x: *const f32) -> Plain {
        // SAFETY: the caller vouches for one input.
        Plain([unsafe { *x }; 4])
    }

    #[inline(always)]
    unsafe fn weights(w: *const f32) -> Plain {
        // SAFETY: the caller vouches for four weights.
        unsafe { Plain::load(w) }
    }

    #[inline(always)]
    unsafe fn dot(sum: Plain, x: Plain, w: Plain) -> Plain {
        // SAFETY: `Plain` needs no level.
        unsafe { x.mul_add(w, sum) }
    }

    #[inline(always)]
    unsafe fn to_float(sum: Plain) -> Plain {
        sum
    }
}

/// Pairs of i16, four channels at once.
pub(super) struct PlainI16;

impl Dot for PlainI16 {
    type X = i16;
    type W = i16;
    type Operand = [[i16; 2]; 4];
    type Sum = [i32; 4];
    type Float = Plain;
    const GROUP: usize = 2;
    const SCALED: bool = true;
    const FUSED: bool = false;

    #[inline(always)]
    unsafe fn zero() -> [i32; 4] {
        [0; 4]
    }

    #[inline(always)]
    unsafe fn broadcast(x: *const i16) -> [[i16; 2]; 4] {
        // SAFETY: the caller vouches for two inputs.
        [unsafe { x.cast::<[i16; 2]>().read_unaligned() }; 4]
    }

    #[inline(always)]
    unsafe fn weights(w: *const i16) -> [[i16; 2]; 4] {
        // SAFETY: the caller vouches for eight weights.
        unsafe { w.cast::<[[i16; 2]; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn dot(sum: [i32; 4], x: [[i16; 2]; 4], w: [[i16; 2]; 4]) -> [i32; 4] {
        std::array::from_fn(|lane| {
            let product = |i: usize| i32::from(x[lane][i]) * i32::from(w[lane][i]);
            sum[lane].wrapping_add(product(0).wrapping_add(product(1)))
        })
    }

    #[inline(always)]
    unsafe fn to_float(sum: [i32; 4]) -> Plain {
        Plain(sum.map(|v| v as f32))
    }
}
