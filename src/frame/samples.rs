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

    /// Twice the code of 0.
    pub(super) fn zero(self) -> i32 {
        self.zero
    }

    /// Worth of half a code.
    pub(super) fn scale(self) -> f32 {
        self.scale
    }

    /// Codes from 0 to 1.
    pub(super) fn span(self) -> f32 {
        self.span
    }

    #[inline(always)]
    pub(super) fn of_code<T: Value>(self, code: u16) -> T {
        T::from_doubled(2 * i32::from(code) - self.zero, self.scale)
    }

    /// As [`Normal::of_code`], where not all values are those of codes.
    #[inline(always)]
    pub(super) fn of_sample<T: Value>(self, code: u16) -> T {
        self.of_mean(2.0 * f32::from(code))
    }

    /// Of twice a mean of codes.
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
    /// Bits that are not the code's stay as they are in `from`.
    fn write(code: u16, from: &[u8], to: &mut [u8]);
}

#[derive(Clone, Copy)]
pub(super) struct U8;

/// The low bits of a 16-bit word; others are 0.
#[derive(Clone, Copy)]
pub(super) struct Low<const BITS: u32>;

/// The high bits of a 16-bit word; others mean nothing.
#[derive(Clone, Copy)]
pub(super) struct High<const BITS: u32>;

const fn max(bits: u32) -> u16 {
    u16::MAX >> (16 - bits)
}

#[inline(always)]
fn word(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

impl Sample for U8 {
    const BYTES: usize = 1;
    const MAX: f32 = 255.0;

    #[inline(always)]
    fn read(bytes: &[u8]) -> u16 {
        u16::from(bytes[0])
    }

    #[inline(always)]
    fn write(code: u16, _from: &[u8], to: &mut [u8]) {
        to[0] = code as u8;
    }
}

impl<const BITS: u32> Sample for Low<BITS> {
    const BYTES: usize = 2;
    const MAX: f32 = max(BITS) as f32;

    #[inline(always)]
    fn read(bytes: &[u8]) -> u16 {
        word(bytes) & max(BITS)
    }

    #[inline(always)]
    fn write(code: u16, _from: &[u8], to: &mut [u8]) {
        to[..2].copy_from_slice(&code.to_le_bytes());
    }
}

impl<const BITS: u32> Sample for High<BITS> {
    const BYTES: usize = 2;
    const MAX: f32 = max(BITS) as f32;

    #[inline(always)]
    fn read(bytes: &[u8]) -> u16 {
        word(bytes) >> (16 - BITS)
    }

    #[inline(always)]
    fn write(code: u16, from: &[u8], to: &mut [u8]) {
        let (shift, others) = (16 - BITS, !(max(BITS) << (16 - BITS)));
        to[..2].copy_from_slice(&(code << shift | word(from) & others).to_le_bytes());
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

/// Codes of a line's samples, `step` bytes apart; the line ends with the last.
#[inline(always)]
pub(super) fn read_codes<S: Sample>(line: &[u8], step: usize, codes: &mut [u16]) {
    match step / S::BYTES {
        1 => read_every::<S, 1>(line, codes),
        2 => read_every::<S, 2>(line, codes),
        4 => read_every::<S, 4>(line, codes),
        _ => codes.iter_mut().zip(line.chunks(step)).for_each(|(to, from)| *to = S::read(from)),
    }
}

#[inline(always)]
fn read_every<S: Sample, const N: usize>(line: &[u8], codes: &mut [u16]) {
    let samples = line.chunks_exact(N * S::BYTES);
    let (last, count) = (samples.remainder(), samples.len());
    codes.iter_mut().zip(samples).for_each(|(to, from)| *to = S::read(from));
    if !last.is_empty() {
        codes[count] = S::read(last);
    }
}

/// Writes samples, `step` bytes apart, over those of a line: `from` is as the input has it.
#[inline(always)]
pub(super) fn write_codes<S: Sample>(codes: &[u16], from: &[u8], to: &mut [u8], step: usize) {
    match step / S::BYTES {
        1 => write_every::<S, 1>(codes, from, to),
        2 => write_every::<S, 2>(codes, from, to),
        4 => write_every::<S, 4>(codes, from, to),
        _ => {
            let lines = from.chunks(step).zip(to.chunks_mut(step));
            codes.iter().zip(lines).for_each(|(code, (from, to))| S::write(*code, from, to));
        }
    }
}

#[inline(always)]
fn write_every<S: Sample, const N: usize>(codes: &[u16], from: &[u8], to: &mut [u8]) {
    let step = N * S::BYTES;
    let whole = from.len() / step;
    let (from, last) = from.split_at(whole * step);
    let (to, last_to) = to.split_at_mut(whole * step);
    let lines = from.chunks_exact(step).zip(to.chunks_exact_mut(step));
    codes.iter().zip(lines).for_each(|(code, (from, to))| S::write(*code, from, to));
    if !last.is_empty() {
        S::write(codes[whole], last, last_to);
    }
}
