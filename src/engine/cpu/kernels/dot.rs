//! Dot products of a few neighbouring inputs with the weights of a vector of output channels: what
//! the kernels of [`super::conv_row`] differ in. Here are those in plain Rust.

use half::f16;

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

    /// Steps after which [`Dot::carry`] is due; 0 for never.
    const CARRY: usize = 0;

    /// Moves sums from where they are short to where they are long.
    #[inline(always)]
    unsafe fn carry(sum: Self::Sum) -> Self::Sum {
        sum
    }
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

/// Most products that are summed in f16 before they are carried to f32; the kernels of
/// [`super::conv_row`] look at it between segments.
pub(super) const F16_CARRY: usize = 48;

/// Pairs of f16, four channels at once; bit for bit what CPUs with such instructions do, and slow.
pub(super) struct PlainF16;

/// Two sums per channel.
#[derive(Clone, Copy)]
pub(super) struct PlainF16Sum {
    short: [[f16; 2]; 4],
    long: [[f32; 2]; 4],
}

impl Dot for PlainF16 {
    type X = f16;
    type W = f16;
    type Operand = [[f16; 2]; 4];
    type Sum = PlainF16Sum;
    type Float = Plain;
    const GROUP: usize = 2;
    const SCALED: bool = false;
    const FUSED: bool = false;
    const CARRY: usize = F16_CARRY;

    #[inline(always)]
    unsafe fn zero() -> PlainF16Sum {
        PlainF16Sum { short: [[f16::ZERO; 2]; 4], long: [[0.0; 2]; 4] }
    }

    #[inline(always)]
    unsafe fn broadcast(x: *const f16) -> [[f16; 2]; 4] {
        // SAFETY: the caller vouches for two inputs.
        [unsafe { x.cast::<[f16; 2]>().read_unaligned() }; 4]
    }

    #[inline(always)]
    unsafe fn weights(w: *const f16) -> [[f16; 2]; 4] {
        // SAFETY: the caller vouches for eight weights.
        unsafe { w.cast::<[[f16; 2]; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn dot(sum: PlainF16Sum, x: [[f16; 2]; 4], w: [[f16; 2]; 4]) -> PlainF16Sum {
        let short = std::array::from_fn(|lane| {
            std::array::from_fn(|i| fused_f16(x[lane][i], w[lane][i], sum.short[lane][i]))
        });
        PlainF16Sum { short, ..sum }
    }

    #[inline(always)]
    unsafe fn carry(sum: PlainF16Sum) -> PlainF16Sum {
        let long = std::array::from_fn(|lane| {
            std::array::from_fn(|i| sum.long[lane][i] + sum.short[lane][i].to_f32())
        });
        PlainF16Sum { short: [[f16::ZERO; 2]; 4], long }
    }

    #[inline(always)]
    unsafe fn to_float(sum: PlainF16Sum) -> Plain {
        // SAFETY: `Plain` needs no level.
        let sum = unsafe { Self::carry(sum) };
        Plain(sum.long.map(|[even, odd]| even + odd))
    }
}

/// `x · w + sum`, rounded once.
#[inline(always)]
fn fused_f16(x: f16, w: f16, sum: f16) -> f16 {
    let value = |v: f16| f64::from(v.to_f32());
    // Exact, as all three have few bits.
    let exact = value(x) * value(w) + value(sum);
    let near = exact as f32;
    let is_even = near.to_bits() & 1 == 0;
    // An odd last bit remembers what was lost, so that the second rounding is the only one.
    let odd = match f64::from(near).abs().partial_cmp(&exact.abs()) {
        Some(std::cmp::Ordering::Less) if is_even => f32::from_bits(near.to_bits() + 1),
        Some(std::cmp::Ordering::Greater) if is_even => f32::from_bits(near.to_bits() - 1),
        _ => near,
    };
    f16::from_f32(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_sums_in_f16_are_rounded_once() {
        let fused = |x: f32, w: f32, sum: f32| {
            fused_f16(f16::from_f32(x), f16::from_f32(w), f16::from_f32(sum)).to_f32()
        };
        assert_eq!(fused(1.0, 1.0, 2048.0), 2048.0);
        assert_eq!(fused(1.0, 1.0, 2050.0), 2052.0);
        // 2051 − 2⁻²⁰ and its negative: in f32 they would round to the half that goes up.
        let (above, below) = (1025.0 / 1024.0, 1023.0 / 1024.0);
        assert_eq!(fused(above, below, 2050.0), 2050.0);
        assert_eq!(fused(above, -below, -2050.0), -2050.0);
        assert_eq!(fused(300.0, 300.0, 0.0), f32::INFINITY);
        assert!(fused(f32::NAN, 1.0, 1.0).is_nan());
    }
}
