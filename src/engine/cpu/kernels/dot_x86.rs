//! [`Dot`] on AVX2, AVX-VNNI, AVX-512 and its VNNI.

use std::arch::x86_64::*;

use super::dot::Dot;
use super::lanes::Lanes;

/// A dot product whose every function is one expression.
macro_rules! dot {
    (
        $(#[$doc:meta])*
        $name:ident: $x:ty, $w:ty, $operand:ty, $sum:ty => $float:ty, group $group:literal, scaled $scaled:literal, fused $fused:literal;
        zero $zero:expr;
        broadcast |$bx:ident| $broadcast:expr;
        weights |$ww:ident| $weights:expr;
        dot |$s:ident, $dx:ident, $dw:ident| $dot:expr;
        to_float |$f:ident| $to_float:expr;
    ) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Dot for $name {
            type X = $x;
            type W = $w;
            type Operand = $operand;
            type Sum = $sum;
            type Float = $float;
            const GROUP: usize = $group;
            const SCALED: bool = $scaled;
            const FUSED: bool = $fused;

            #[inline(always)]
            unsafe fn zero() -> $sum {
                // SAFETY: the caller vouches for the level.
                unsafe { $zero }
            }

            #[inline(always)]
            unsafe fn broadcast($bx: *const $x) -> $operand {
                // SAFETY: the caller vouches for the level and for GROUP inputs.
                unsafe { $broadcast }
            }

            #[inline(always)]
            unsafe fn weights($ww: *const $w) -> $operand {
                // SAFETY: the caller vouches for the level and for the weights.
                unsafe { $weights }
            }

            #[inline(always)]
            unsafe fn dot($s: $sum, $dx: $operand, $dw: $operand) -> $sum {
                // SAFETY: the caller vouches for the level.
                unsafe { $dot }
            }

            #[inline(always)]
            #[allow(unused_unsafe, reason = "f32 sums are floats as they are")]
            unsafe fn to_float($f: $sum) -> $float {
                // SAFETY: the caller vouches for the level.
                unsafe { $to_float }
            }
        }
    };
}

dot! {
    /// f32, eight channels at once.
    Avx2F32: f32, f32, __m256, __m256 => __m256, group 1, scaled false, fused true;
    zero _mm256_setzero_ps();
    broadcast |x| _mm256_broadcast_ss(&*x);
    weights |w| __m256::load(w);
    dot |sum, x, w| _mm256_fmadd_ps(x, w, sum);
    to_float |sum| sum;
}

dot! {
    /// Pairs of i16, eight channels at once.
    Avx2I16: i16, i16, __m256i, __m256i => __m256, group 2, scaled true, fused false;
    zero _mm256_setzero_si256();
    broadcast |x| _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
    weights |w| _mm256_loadu_si256(w.cast());
    dot |sum, x, w| _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
    to_float |sum| _mm256_cvtepi32_ps(sum);
}

dot! {
    /// Pairs of i16, eight channels at once.
    AvxVnniI16: i16, i16, __m256i, __m256i => __m256, group 2, scaled true, fused true;
    zero _mm256_setzero_si256();
    broadcast |x| _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
    weights |w| _mm256_loadu_si256(w.cast());
    dot |sum, x, w| _mm256_dpwssd_avx_epi32(sum, w, x);
    to_float |sum| _mm256_cvtepi32_ps(sum);
}

dot! {
    /// Four u8 with four i8 weights, eight channels at once.
    AvxVnniU8: u8, i8, __m256i, __m256i => __m256, group 4, scaled true, fused true;
    zero _mm256_setzero_si256();
    broadcast |x| _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
    weights |w| _mm256_loadu_si256(w.cast());
    dot |sum, x, w| _mm256_dpbusd_avx_epi32(sum, x, w);
    to_float |sum| _mm256_cvtepi32_ps(sum);
}

dot! {
    /// f32, sixteen channels at once.
    Avx512F32: f32, f32, __m512, __m512 => __m512, group 1, scaled false, fused true;
    zero _mm512_setzero_ps();
    broadcast |x| _mm512_set1_ps(*x);
    weights |w| __m512::load(w);
    dot |sum, x, w| _mm512_fmadd_ps(x, w, sum);
    to_float |sum| sum;
}

dot! {
    /// f32, eight channels at once with two sums each.
    Avx512F32Halves: f32, f32, __m512, __m512 => __m256, group 2, scaled false, fused true;
    zero _mm512_setzero_ps();
    broadcast |x| _mm512_castpd_ps(_mm512_set1_pd(x.cast::<f64>().read_unaligned()));
    weights |w| __m512::load(w);
    dot |sum, x, w| _mm512_fmadd_ps(x, w, sum);
    to_float |sum| {
        let sum = _mm512_add_ps(sum, _mm512_movehdup_ps(sum));
        _mm256_castsi256_ps(_mm512_cvtepi64_epi32(_mm512_castps_si512(sum)))
    };
}

dot! {
    /// Pairs of i16, sixteen channels at once.
    Avx512I16: i16, i16, __m512i, __m512i => __m512, group 2, scaled true, fused false;
    zero _mm512_setzero_si512();
    broadcast |x| _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
    weights |w| _mm512_loadu_si512(w.cast());
    dot |sum, x, w| _mm512_add_epi32(sum, _mm512_madd_epi16(x, w));
    to_float |sum| _mm512_cvtepi32_ps(sum);
}

dot! {
    /// Two pairs of i16, eight channels at once with two sums each.
    Avx512I16Halves: i16, i16, __m512i, __m512i => __m256, group 4, scaled true, fused false;
    zero _mm512_setzero_si512();
    broadcast |x| _mm512_set1_epi64(x.cast::<i64>().read_unaligned());
    weights |w| _mm512_loadu_si512(w.cast());
    dot |sum, x, w| _mm512_add_epi32(sum, _mm512_madd_epi16(x, w));
    to_float |sum| sum_halves(sum);
}

dot! {
    /// Pairs of i16, sixteen channels at once.
    VnniI16: i16, i16, __m512i, __m512i => __m512, group 2, scaled true, fused true;
    zero _mm512_setzero_si512();
    broadcast |x| _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
    weights |w| _mm512_loadu_si512(w.cast());
    dot |sum, x, w| _mm512_dpwssd_epi32(sum, w, x);
    to_float |sum| _mm512_cvtepi32_ps(sum);
}

dot! {
    /// Two pairs of i16, eight channels at once with two sums each.
    VnniI16Halves: i16, i16, __m512i, __m512i => __m256, group 4, scaled true, fused true;
    zero _mm512_setzero_si512();
    broadcast |x| _mm512_set1_epi64(x.cast::<i64>().read_unaligned());
    weights |w| _mm512_loadu_si512(w.cast());
    dot |sum, x, w| _mm512_dpwssd_epi32(sum, w, x);
    to_float |sum| sum_halves(sum);
}

dot! {
    /// Four u8 with four i8 weights, sixteen channels at once.
    VnniU8: u8, i8, __m512i, __m512i => __m512, group 4, scaled true, fused true;
    zero _mm512_setzero_si512();
    broadcast |x| _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
    weights |w| _mm512_loadu_si512(w.cast());
    dot |sum, x, w| _mm512_dpbusd_epi32(sum, x, w);
    to_float |sum| _mm512_cvtepi32_ps(sum);
}

/// Adds neighbouring sums.
///
/// # Safety
/// Needs AVX-512 F and VL.
#[inline(always)]
unsafe fn sum_halves(sums: __m512i) -> __m256 {
    // SAFETY: the caller vouches for the level.
    unsafe {
        let sums = _mm512_add_epi32(sums, _mm512_srli_epi64::<32>(sums));
        _mm256_cvtepi32_ps(_mm512_cvtepi64_epi32(sums))
    }
}
