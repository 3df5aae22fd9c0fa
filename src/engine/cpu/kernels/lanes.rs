//! Vectors of f32, one type per CPU level.

/// A vector register of f32.
///
/// # Safety
/// Each function needs the CPU level of its type; `load` and `store` need
/// [`Lanes::LEN`] readable or writable values at the address, of any alignment.
/// All inline into their caller, which has to enable that level's features for
/// them to become single instructions.
pub(super) trait Lanes: Copy {
    /// Number of values; divides [`LINE`].
    const LEN: usize;
    unsafe fn splat(v: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self * b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// `self` above zero and NaN as they are, `self * slope` below zero.
    unsafe fn leaky(self, slope: Self) -> Self;
}

/// Values in the longest vector, and in a cache line. Row strides are multiples.
pub(super) const LINE: usize = 16;

/// Four values in plain Rust. Without a fused multiply-add instruction
/// `f32::mul_add` is a library call, so this one rounds twice.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 4]);

impl Lanes for Plain {
    const LEN: usize = 4;

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Self([v; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for four values; any alignment is allowed.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for four values; any alignment is allowed.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        let (a, b, c) = (self.0, b.0, c.0);
        Self([a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]])
    }

    #[inline(always)]
    unsafe fn leaky(self, slope: Self) -> Self {
        let mut out = self.0;
        for (v, slope) in out.iter_mut().zip(slope.0) {
            *v = if *v < 0.0 { *v * slope } else { *v };
        }
        Self(out)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    impl Lanes for __m256 {
        const LEN: usize = 8;

        #[inline(always)]
        unsafe fn splat(v: f32) -> Self {
            // SAFETY: the caller vouches for AVX2.
            unsafe { _mm256_set1_ps(v) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for AVX2 and for eight values.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for AVX2 and for eight values.
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: the caller vouches for AVX2 and FMA.
            unsafe { _mm256_fmadd_ps(self, b, c) }
        }

        #[inline(always)]
        unsafe fn leaky(self, slope: Self) -> Self {
            // SAFETY: the caller vouches for AVX2.
            unsafe {
                let below = _mm256_cmp_ps::<_CMP_LT_OQ>(self, _mm256_setzero_ps());
                _mm256_blendv_ps(self, _mm256_mul_ps(self, slope), below)
            }
        }
    }

    impl Lanes for __m512 {
        const LEN: usize = 16;

        #[inline(always)]
        unsafe fn splat(v: f32) -> Self {
            // SAFETY: the caller vouches for AVX-512 F.
            unsafe { _mm512_set1_ps(v) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for AVX-512 F and for sixteen values.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for AVX-512 F and for sixteen values.
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: the caller vouches for AVX-512 F.
            unsafe { _mm512_fmadd_ps(self, b, c) }
        }

        #[inline(always)]
        unsafe fn leaky(self, slope: Self) -> Self {
            // SAFETY: the caller vouches for AVX-512 F.
            unsafe {
                let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, _mm512_setzero_ps());
                _mm512_mask_mul_ps(self, below, self, slope)
            }
        }
    }
}
