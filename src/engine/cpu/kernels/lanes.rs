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
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    /// At least `low`, at most `high`; NaN becomes `low`.
    unsafe fn clamp(self, low: Self, high: Self) -> Self;
    /// Stores values of 0 to 255, rounded to even at halves.
    unsafe fn store_u8(self, to: *mut u8);
    /// Stores values that are clamped to 0 to 255, NaN to 0, and rounded to even at halves: two
    /// vectors at each of two places.
    #[inline(always)]
    unsafe fn store_clamped_u8(values: [[Self; 2]; 2], to: [*mut u8; 2]) {
        // SAFETY: as the function's.
        unsafe {
            let (low, high) = (Self::splat(0.0), Self::splat(255.0));
            for (values, to) in values.into_iter().zip(to) {
                values[0].clamp(low, high).store_u8(to);
                values[1].clamp(low, high).store_u8(to.add(Self::LEN));
            }
        }
    }
    /// Stores values of -32768 to 32767, rounded to even at halves.
    unsafe fn store_i16(self, to: *mut i16);
    /// As many bytes as there are values.
    unsafe fn load_u8(from: *const u8) -> Self;

    /// Stores value `i` of the vector at `from[j] + at` at `to + i * step + j`, for the first `LEN`
    /// addresses.
    #[inline(always)]
    unsafe fn transpose(from: &[*const f32; LINE], at: usize, to: *mut f32, step: usize) {
        for (j, from) in from[..Self::LEN].iter().enumerate() {
            for i in 0..Self::LEN {
                // SAFETY: the caller vouches for `LEN` vectors, and as many to write.
                unsafe { *to.add(i * step + j) = *from.add(at + i) };
            }
        }
    }

    /// The first `count` values at the address, 1 to `LEN`, then zeros.
    #[inline(always)]
    unsafe fn load_first(count: usize, from: *const f32) -> Self {
        // SAFETY: the caller vouches for `count` values, of LEN ≤ LINE.
        unsafe {
            if count == Self::LEN {
                return Self::load(from);
            }
            let mut values = [0f32; LINE];
            std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), count);
            Self::load(values.as_ptr())
        }
    }

    /// Stores the first `count` values, 1 to `LEN`.
    #[inline(always)]
    unsafe fn store_first(self, count: usize, to: *mut f32) {
        // SAFETY: the caller vouches for `count` values, of LEN ≤ LINE.
        unsafe {
            if count == Self::LEN {
                return self.store(to);
            }
            let mut values = [0f32; LINE];
            self.store(values.as_mut_ptr());
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, count);
        }
    }

    /// The last value of `before`, then all but the last of these.
    unsafe fn shifted_in(self, before: Self) -> Self;
    /// All but the first of these, then the first value of `behind`.
    unsafe fn shifted_out(self, behind: Self) -> Self;
}

/// Values in the longest vector, and in a cache line. Row strides are multiples.
pub(super) const LINE: usize = 16;

/// Rounds |v| < 2²² to an integer, halves to even: at this offset the last bit of an f32 is 1.
#[inline(always)]
pub(crate) fn round_small(v: f32) -> f32 {
    const OFFSET: f32 = (3 << 22) as f32;
    (v + OFFSET) - OFFSET
}

/// Four values in plain Rust. Without a fused multiply-add instruction
/// `f32::mul_add` is a library call, so this one rounds twice.
#[derive(Clone, Copy)]
pub(super) struct Plain(pub(super) [f32; 4]);

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

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        Self(std::array::from_fn(|i| {
            let v = if self.0[i] > low.0[i] { self.0[i] } else { low.0[i] };
            if v < high.0[i] { v } else { high.0[i] }
        }))
    }

    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8) {
        let codes = self.0.map(|v| round_small(v) as i32 as u8);
        // SAFETY: the caller vouches for four values; any alignment is allowed.
        unsafe { to.cast::<[u8; 4]>().write_unaligned(codes) }
    }

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        // SAFETY: the caller vouches for four values.
        Self(unsafe { from.cast::<[u8; 4]>().read_unaligned() }.map(f32::from))
    }

    #[inline(always)]
    unsafe fn store_i16(self, to: *mut i16) {
        let codes = self.0.map(|v| round_small(v) as i32 as i16);
        // SAFETY: the caller vouches for four values; any alignment is allowed.
        unsafe { to.cast::<[i16; 4]>().write_unaligned(codes) }
    }

    #[inline(always)]
    unsafe fn shifted_in(self, before: Self) -> Self {
        let (v, before) = (self.0, before.0);
        Self([before[3], v[0], v[1], v[2]])
    }

    #[inline(always)]
    unsafe fn shifted_out(self, behind: Self) -> Self {
        let (v, behind) = (self.0, behind.0);
        Self([v[1], v[2], v[3], behind[0]])
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LINE, Lanes};
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

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: the caller vouches for the level.
            unsafe { _mm256_add_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: the caller vouches for the level.
            unsafe { _mm256_mul_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn clamp(self, low: Self, high: Self) -> Self {
            // The second operand is the result where one is NaN.
            // SAFETY: the caller vouches for the level.
            unsafe { _mm256_min_ps(_mm256_max_ps(self, low), high) }
        }

        #[inline(always)]
        unsafe fn store_u8(self, to: *mut u8) {
            // SAFETY: the caller vouches for AVX2 and for eight values.
            unsafe {
                let codes = _mm256_cvtps_epi32(self);
                let (low, high) =
                    (_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
                let words = _mm_packus_epi32(low, high);
                _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words));
            }
        }

        #[inline(always)]
        unsafe fn load_u8(from: *const u8) -> Self {
            // SAFETY: the caller vouches for AVX2 and for eight values.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
        }

        #[inline(always)]
        unsafe fn store_i16(self, to: *mut i16) {
            // SAFETY: the caller vouches for AVX2 and for eight values.
            unsafe {
                let codes = _mm256_cvtps_epi32(self);
                let (low, high) =
                    (_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
                _mm_storeu_si128(to.cast(), _mm_packs_epi32(low, high));
            }
        }

        #[inline(always)]
        unsafe fn shifted_in(self, before: Self) -> Self {
            // SAFETY: the caller vouches for AVX2.
            unsafe {
                let (before, v) = (_mm256_castps_si256(before), _mm256_castps_si256(self));
                let middle = _mm256_permute2x128_si256::<0x21>(before, v);
                _mm256_castsi256_ps(_mm256_alignr_epi8::<12>(v, middle))
            }
        }

        #[inline(always)]
        unsafe fn shifted_out(self, behind: Self) -> Self {
            // SAFETY: the caller vouches for AVX2.
            unsafe {
                let (v, behind) = (_mm256_castps_si256(self), _mm256_castps_si256(behind));
                let middle = _mm256_permute2x128_si256::<0x21>(v, behind);
                _mm256_castsi256_ps(_mm256_alignr_epi8::<4>(middle, v))
            }
        }

        #[inline(always)]
        unsafe fn transpose(from: &[*const f32; LINE], at: usize, to: *mut f32, step: usize) {
            // SAFETY: the caller vouches for AVX2, for eight vectors, and as many to write.
            unsafe {
                let mut rows = [Self::splat(0.0); 8];
                for (row, from) in rows.iter_mut().zip(from) {
                    *row = Self::load(from.add(at));
                }
                let (a, b) = (quarters_256(&rows[..4]), quarters_256(&rows[4..]));
                for i in 0..4 {
                    let low = _mm256_permute2f128_ps::<0x20>(a[i], b[i]);
                    let high = _mm256_permute2f128_ps::<0x31>(a[i], b[i]);
                    low.store(to.add(i * step));
                    high.store(to.add((4 + i) * step));
                }
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

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: the caller vouches for the level.
            unsafe { _mm512_add_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: the caller vouches for the level.
            unsafe { _mm512_mul_ps(self, b) }
        }

        #[inline(always)]
        unsafe fn clamp(self, low: Self, high: Self) -> Self {
            // The second operand is the result where one is NaN.
            // SAFETY: the caller vouches for the level.
            unsafe { _mm512_min_ps(_mm512_max_ps(self, low), high) }
        }

        #[inline(always)]
        unsafe fn store_u8(self, to: *mut u8) {
            // SAFETY: the caller vouches for AVX-512 F and for sixteen values.
            unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self))) }
        }

        #[inline(always)]
        unsafe fn store_clamped_u8(values: [[Self; 2]; 2], to: [*mut u8; 2]) {
            // SAFETY: the caller vouches for AVX-512 F and BW and for twice 32 values.
            unsafe {
                let high = _mm512_set1_ps(255.0);
                // The minimum of NaN is NaN, which becomes the least integer, and with all others
                // below zero is clamped by the packing. No closure, for the reason that `finish` has.
                let clamped = [
                    [_mm512_min_ps(high, values[0][0]), _mm512_min_ps(high, values[0][1])],
                    [_mm512_min_ps(high, values[1][0]), _mm512_min_ps(high, values[1][1])],
                ];
                let codes = [
                    _mm512_packs_epi32(
                        _mm512_cvtps_epi32(clamped[0][0]),
                        _mm512_cvtps_epi32(clamped[0][1]),
                    ),
                    _mm512_packs_epi32(
                        _mm512_cvtps_epi32(clamped[1][0]),
                        _mm512_cvtps_epi32(clamped[1][1]),
                    ),
                ];
                // Quarter by quarter of the vectors; the fours of each are to lie together.
                let bytes = _mm512_packus_epi16(codes[0], codes[1]);
                let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                let bytes = _mm512_permutexvar_epi32(order, bytes);
                _mm256_storeu_si256(to[0].cast(), _mm512_castsi512_si256(bytes));
                _mm256_storeu_si256(to[1].cast(), _mm512_extracti64x4_epi64::<1>(bytes));
            }
        }

        #[inline(always)]
        unsafe fn load_u8(from: *const u8) -> Self {
            // SAFETY: the caller vouches for AVX-512 F and for sixteen values.
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
        }

        #[inline(always)]
        unsafe fn store_i16(self, to: *mut i16) {
            // SAFETY: the caller vouches for AVX-512 F and for sixteen values.
            unsafe {
                _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(self)))
            }
        }

        #[inline(always)]
        unsafe fn load_first(count: usize, from: *const f32) -> Self {
            // SAFETY: the caller vouches for AVX-512 F and for `count` values.
            unsafe { _mm512_maskz_loadu_ps(u16::MAX >> (Self::LEN - count), from) }
        }

        #[inline(always)]
        unsafe fn store_first(self, count: usize, to: *mut f32) {
            // SAFETY: the caller vouches for AVX-512 F and for `count` values.
            unsafe { _mm512_mask_storeu_ps(to, u16::MAX >> (Self::LEN - count), self) }
        }

        #[inline(always)]
        unsafe fn shifted_in(self, before: Self) -> Self {
            // SAFETY: the caller vouches for AVX-512 F.
            unsafe {
                let (v, before) = (_mm512_castps_si512(self), _mm512_castps_si512(before));
                _mm512_castsi512_ps(_mm512_alignr_epi32::<15>(v, before))
            }
        }

        #[inline(always)]
        unsafe fn shifted_out(self, behind: Self) -> Self {
            // SAFETY: the caller vouches for AVX-512 F.
            unsafe {
                let (v, behind) = (_mm512_castps_si512(self), _mm512_castps_si512(behind));
                _mm512_castsi512_ps(_mm512_alignr_epi32::<1>(behind, v))
            }
        }

        #[inline(always)]
        unsafe fn transpose(from: &[*const f32; LINE], at: usize, to: *mut f32, step: usize) {
            // SAFETY: the caller vouches for AVX-512 F, for sixteen vectors, and as many to write.
            unsafe {
                let mut rows = [Self::splat(0.0); 16];
                for (row, from) in rows.iter_mut().zip(from) {
                    *row = Self::load(from.add(at));
                }
                let fours = [
                    quarters_512(&rows[..4]),
                    quarters_512(&rows[4..8]),
                    quarters_512(&rows[8..12]),
                    quarters_512(&rows[12..]),
                ];
                let [a, b, c, d] = fours;
                for i in 0..4 {
                    let (a, b, c, d) = (a[i], b[i], c[i], d[i]);
                    let (ab, cd) =
                        (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0x44>(c, d));
                    _mm512_shuffle_f32x4::<0x88>(ab, cd).store(to.add(i * step));
                    _mm512_shuffle_f32x4::<0xdd>(ab, cd).store(to.add((4 + i) * step));
                    let (ab, cd) =
                        (_mm512_shuffle_f32x4::<0xee>(a, b), _mm512_shuffle_f32x4::<0xee>(c, d));
                    _mm512_shuffle_f32x4::<0x88>(ab, cd).store(to.add((8 + i) * step));
                    _mm512_shuffle_f32x4::<0xdd>(ab, cd).store(to.add((12 + i) * step));
                }
            }
        }
    }

    /// Four rows to four columns within each quarter: quarter `q` of vector `i` is column `4 q + i`.
    ///
    /// # Safety
    /// AVX-512 F.
    #[inline(always)]
    unsafe fn quarters_512(rows: &[__m512]) -> [__m512; 4] {
        // SAFETY: the caller vouches for AVX-512 F.
        unsafe {
            let (ab, ab2) =
                (_mm512_unpacklo_ps(rows[0], rows[1]), _mm512_unpackhi_ps(rows[0], rows[1]));
            let (cd, cd2) =
                (_mm512_unpacklo_ps(rows[2], rows[3]), _mm512_unpackhi_ps(rows[2], rows[3]));
            let (ab, ab2) = (_mm512_castps_pd(ab), _mm512_castps_pd(ab2));
            let (cd, cd2) = (_mm512_castps_pd(cd), _mm512_castps_pd(cd2));
            [
                _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)),
                _mm512_castpd_ps(_mm512_unpacklo_pd(ab2, cd2)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(ab2, cd2)),
            ]
        }
    }

    /// [`quarters_512`] within halves.
    ///
    /// # Safety
    /// AVX2.
    #[inline(always)]
    unsafe fn quarters_256(rows: &[__m256]) -> [__m256; 4] {
        // SAFETY: the caller vouches for AVX2.
        unsafe {
            let (ab, ab2) =
                (_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[0], rows[1]));
            let (cd, cd2) =
                (_mm256_unpacklo_ps(rows[2], rows[3]), _mm256_unpackhi_ps(rows[2], rows[3]));
            let (ab, ab2) = (_mm256_castps_pd(ab), _mm256_castps_pd(ab2));
            let (cd, cd2) = (_mm256_castps_pd(cd), _mm256_castps_pd(cd2));
            [
                _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)),
                _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)),
                _mm256_castpd_ps(_mm256_unpacklo_pd(ab2, cd2)),
                _mm256_castpd_ps(_mm256_unpackhi_pd(ab2, cd2)),
            ]
        }
    }
}
