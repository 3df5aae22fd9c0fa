//! Samples in memory: their code values, what those become, and their sum with a residual.

/// What a sample becomes.
pub(crate) trait Value: Copy + Default {
    /// From twice a code value less twice that of 0, an integer in every range and depth. `scale`
    /// is that of the normalised value, 1 / (2 · span).
    fn from_doubled(doubled: i32, scale: f32) -> Self;

    /// From a normalised value that need not be a code's.
    fn from_tensor(v: f32) -> Self;
}

/// How code values are normalised.
#[derive(Clone, Copy)]
pub(super) struct Normal {
    /// Doubled code of 0.
    zero: i32,
    /// Worth of 1 of a doubled code.
    scale: f32,
    /// Codes from 0 to 1.
    span: f32,
}

impl Normal {
    /// With the code of 0 and codes from there to 1.
    #[inline(always)]
    pub(super) fn new((zero, span): (f32, f32)) -> Self {
        Self { zero: (2.0 * zero) as i32, scale: 0.5 / span, span }
    }

    #[inline(always)]
    pub(super) fn of_code<T: Value>(self, code: u16) -> T {
        T::from_doubled(2 * i32::from(code) - self.zero, self.scale)
    }

    /// Of twice a code, or of a mean of codes.
    #[inline(always)]
    pub(super) fn of_mean<T: Value>(self, doubled: f32) -> T {
        T::from_tensor((doubled - self.zero as f32) * self.scale)
    }

    /// One half.
    #[inline(always)]
    pub(super) fn middle<T: Value>(self) -> T {
        T::from_doubled(self.span as i32, self.scale)
    }
}

/// A sample in memory.
pub(super) trait Sample: Copy {
    const BYTES: usize;
    /// Largest code value.
    const MAX: f32;
    fn read(bytes: &[u8]) -> u16;
    fn write(code: u16, bytes: &mut [u8]);
}

pub(super) struct U8;
pub(super) struct U10<const SHIFT: u32>;

impl Clone for U8 {
    fn clone(&self) -> Self {
        *self
    }
}
impl Copy for U8 {}
impl<const SHIFT: u32> Clone for U10<SHIFT> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<const SHIFT: u32> Copy for U10<SHIFT> {}

impl Sample for U8 {
    const BYTES: usize = 1;
    const MAX: f32 = 255.0;

    #[inline(always)]
    fn read(bytes: &[u8]) -> u16 {
        u16::from(bytes[0])
    }

    #[inline(always)]
    fn write(code: u16, bytes: &mut [u8]) {
        bytes[0] = code as u8;
    }
}

impl<const SHIFT: u32> Sample for U10<SHIFT> {
    const BYTES: usize = 2;
    const MAX: f32 = 1023.0;

    #[inline(always)]
    fn read(bytes: &[u8]) -> u16 {
        (u16::from_le_bytes([bytes[0], bytes[1]]) >> SHIFT) & 1023
    }

    #[inline(always)]
    fn write(code: u16, bytes: &mut [u8]) {
        bytes.copy_from_slice(&(code << SHIFT).to_le_bytes());
    }
}

/// The code nearest to a code plus a residual.
#[inline(always)]
pub(super) fn sum<S: Sample>(code: u16, residual: f32, span: f32) -> u16 {
    nearest::<S>(f32::from(code) + residual * span) as u16
}

/// The code nearest to a value, ties to even, in the low 16 bits; others are set too. It is 0 for
/// what is not a number.
#[inline(always)]
pub(super) fn nearest<S: Sample>(v: f32) -> u32 {
    /// At this offset the last bit of an f32 is 1, and the low bits are the integer.
    const OFFSET: f32 = (3 << 22) as f32;
    let v = if v > 0.0 { v } else { 0.0 };
    let v = if v < S::MAX { v } else { S::MAX };
    (v + OFFSET).to_bits()
}
