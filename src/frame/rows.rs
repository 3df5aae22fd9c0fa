//! Rows of a frame from and to the net's input and residual.
//!
//! One row of the net is two rows of luma and one of chroma. They are kept as three rows of pairs:
//! the upper luma samples of each 2×2 block, the lower ones, and U with V.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Chroma, Frame, FrameFormat, FrameMut, Plane, PlaneMut, SampleFormat};
use crate::engine::cpu::kernels::{Job, Level};

/// What a sample becomes. Twice a code value less twice that of 0 is an integer in every range and
/// depth.
pub(crate) trait Value: Copy + Default {
    /// `scale` is that of the normalised value, 1 / (2 · span).
    fn from_doubled(doubled: i32, scale: f32) -> Self;
}

/// Normalised.
impl Value for f32 {
    #[inline(always)]
    fn from_doubled(doubled: i32, scale: f32) -> f32 {
        doubled as f32 * scale
    }
}

/// Doubled code values above that of 0.
impl Value for i16 {
    #[inline(always)]
    fn from_doubled(doubled: i32, _scale: f32) -> i16 {
        doubled as i16
    }
}

/// A sample in memory.
trait Sample: Copy {
    const BYTES: usize;
    /// Largest code value.
    const MAX: f32;
    fn read(bytes: &[u8]) -> u16;
    fn write(code: u16, bytes: &mut [u8]);
}

struct U8;
struct U10<const SHIFT: u32>;

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

impl Frame<'_> {
    /// Reads these columns, in blocks, of a row of the net: upper luma, lower luma and chroma
    /// pairs. Samples beyond an odd width or height are the last ones.
    ///
    /// # Panics
    /// If there is no column, the row or columns are outside the frame, or a slice has not two
    /// values per column.
    pub(crate) fn read_pairs<T: Value>(
        &self,
        level: Level,
        row: usize,
        columns: Range<usize>,
        out: [&mut [T]; 3],
    ) {
        check(&self.format, row, &columns, out.each_ref().map(|out| out.len()));
        let read = Read { frame: self, row, columns, out };
        match self.format.samples {
            SampleFormat::U8 => level.run(ReadAs(read, PhantomData::<U8>)),
            SampleFormat::U10Low => level.run(ReadAs(read, PhantomData::<U10<0>>)),
            SampleFormat::U10High => level.run(ReadAs(read, PhantomData::<U10<6>>)),
        }
    }
}

/// # Panics
/// Unless there are columns, in a row of a frame of this format, and two values for each.
fn check(format: &FrameFormat, row: usize, columns: &Range<usize>, lens: [usize; 3]) {
    let (half_width, half_height) = format.half_size();
    assert!(
        row < half_height && !columns.is_empty() && columns.end <= half_width,
        "row {row}, columns {columns:?} of {half_width}×{half_height}"
    );
    assert_eq!(lens, [2 * columns.len(); 3], "two values per column");
}

/// Checked by [`Frame::read_pairs`].
struct Read<'a, 'o, T> {
    frame: &'a Frame<'a>,
    row: usize,
    columns: Range<usize>,
    out: [&'o mut [T]; 3],
}

struct ReadAs<'a, 'o, T, S>(Read<'a, 'o, T>, PhantomData<S>);

impl<T: Value, S: Sample> Job for ReadAs<'_, '_, T, S> {
    #[inline(always)]
    fn run(self) {
        let Read { frame, row, columns, out: [top, bottom, chroma] } = self.0;
        let format = frame.format;
        let bits = format.samples.bits();
        let samples = 2 * columns.start..(2 * columns.end).min(format.width);
        for (out, line) in [(top, 2 * row), (bottom, 2 * row + 1)] {
            let line = line.min(format.height - 1);
            let line = bytes_of::<S>(&frame.y, line, samples.clone());
            let (inside, beyond) = out.split_at_mut(samples.len());
            read_line::<T, S>(inside, line, 1, format.range.luma(bits));
            beyond.fill(inside[inside.len() - 1]);
        }
        let range = format.range.chroma(bits);
        match &frame.chroma {
            Chroma::Planar { u, v } => {
                for (first, plane) in [u, v].into_iter().enumerate() {
                    let line = bytes_of::<S>(plane, row, columns.clone());
                    read_line::<T, S>(&mut chroma[first..], line, 2, range);
                }
            }
            Chroma::SemiPlanar { uv, v_first } => {
                let line = bytes_of::<S>(uv, row, 2 * columns.start..2 * columns.end);
                read_line::<T, S>(chroma, line, 1, range);
                if *v_first {
                    chroma.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.swap(0, 1));
                }
            }
        }
    }
}

#[inline(always)]
fn bytes_of<'p, S: Sample>(plane: &Plane<'p>, row: usize, samples: Range<usize>) -> &'p [u8] {
    let first = row * plane.stride_bytes + samples.start * S::BYTES;
    &plane.data[first..][..samples.len() * S::BYTES]
}

/// Every `step`-th value of `out` from the samples of a line.
#[inline(always)]
fn read_line<T: Value, S: Sample>(
    out: &mut [T],
    line: &[u8],
    step: usize,
    (black, span): (f32, f32),
) {
    let (black, scale) = ((2.0 * black) as i32, 0.5 / span);
    let value = |sample: &[u8]| T::from_doubled(2 * i32::from(S::read(sample)) - black, scale);
    if step == 1 {
        for (out, sample) in out.iter_mut().zip(line.chunks_exact(S::BYTES)) {
            *out = value(sample);
        }
    } else {
        for (out, sample) in out.chunks_mut(2).zip(line.chunks_exact(S::BYTES)) {
            out[0] = value(sample);
        }
    }
}

/// Writes rows of a frame from any thread.
pub(crate) struct FrameWriter<'a> {
    format: FrameFormat,
    y: PlaneWriter,
    chroma: Chroma<PlaneWriter>,
    frame: PhantomData<&'a mut [u8]>,
}

#[derive(Clone, Copy)]
struct PlaneWriter {
    data: *mut u8,
    len: usize,
    stride_bytes: usize,
}

// SAFETY: it stands for a `&mut` of the planes, and its one method's caller keeps threads apart.
unsafe impl Send for FrameWriter<'_> {}
// SAFETY: as above.
unsafe impl Sync for FrameWriter<'_> {}

impl PlaneWriter {
    fn new(plane: &mut PlaneMut<'_>) -> Self {
        let (data, len) = (plane.data.as_mut_ptr(), plane.data.len());
        Self { data, len, stride_bytes: plane.stride_bytes }
    }

    /// # Safety
    /// No one else uses these samples while the slice lives.
    #[inline(always)]
    unsafe fn bytes_of<'p, S: Sample>(&self, row: usize, samples: Range<usize>) -> &'p mut [u8] {
        let first = row * self.stride_bytes + samples.start * S::BYTES;
        let len = samples.len() * S::BYTES;
        assert!(first + len <= self.len);
        // SAFETY: inside the plane, and the caller vouches that no one else uses it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(first), len) }
    }
}

impl FrameMut<'_> {
    /// A writer of rows.
    pub(crate) fn writer(&mut self) -> FrameWriter<'_> {
        let chroma = match &mut self.chroma {
            Chroma::Planar { u, v } => {
                Chroma::Planar { u: PlaneWriter::new(u), v: PlaneWriter::new(v) }
            }
            Chroma::SemiPlanar { uv, v_first } => {
                Chroma::SemiPlanar { uv: PlaneWriter::new(uv), v_first: *v_first }
            }
        };
        let y = PlaneWriter::new(&mut self.y);
        FrameWriter { format: self.format, y, chroma, frame: PhantomData }
    }
}

impl FrameWriter<'_> {
    /// Writes these columns, in blocks, of a row of the net: the input's samples plus the residual,
    /// laid out as [`Frame::read_pairs`] does and normalised, rounded to the nearest code (ties to
    /// even) and clamped. A residual that is not a number gives code 0.
    ///
    /// # Safety
    /// No two calls with the same row and columns at once.
    ///
    /// # Panics
    /// If there is no column, the row or columns are outside the frame, a slice has not two values
    /// per column, or `input` has another format.
    pub(crate) unsafe fn write_pairs(
        &self,
        level: Level,
        input: &Frame<'_>,
        row: usize,
        columns: Range<usize>,
        residual: [&[f32]; 3],
    ) {
        assert_eq!(input.format, self.format);
        check(&self.format, row, &columns, residual.map(<[f32]>::len));
        let write = Write { writer: self, input, row, columns, residual };
        match input.format.samples {
            SampleFormat::U8 => level.run(WriteAs(write, PhantomData::<U8>)),
            SampleFormat::U10Low => level.run(WriteAs(write, PhantomData::<U10<0>>)),
            SampleFormat::U10High => level.run(WriteAs(write, PhantomData::<U10<6>>)),
        }
    }
}

/// Checked by [`FrameWriter::write_pairs`], whose caller keeps threads apart.
struct Write<'a> {
    writer: &'a FrameWriter<'a>,
    input: &'a Frame<'a>,
    row: usize,
    columns: Range<usize>,
    residual: [&'a [f32]; 3],
}

struct WriteAs<'a, S>(Write<'a>, PhantomData<S>);

impl<S: Sample> Job for WriteAs<'_, S> {
    #[inline(always)]
    fn run(self) {
        let Write { writer, input, row, columns, residual: [top, bottom, chroma] } = self.0;
        let format = input.format;
        let bits = format.samples.bits();
        let samples = 2 * columns.start..(2 * columns.end).min(format.width);
        for (residual, line) in [(top, 2 * row), (bottom, 2 * row + 1)] {
            if line < format.height {
                let codes = bytes_of::<S>(&input.y, line, samples.clone());
                // SAFETY: these samples are this call's, see `FrameWriter::write_pairs`.
                let out = unsafe { writer.y.bytes_of::<S>(line, samples.clone()) };
                write_line::<S>(out, codes, 1, residual, 1, format.range.luma(bits).1);
            }
        }
        let span = format.range.chroma(bits).1;
        let wide = 2 * columns.start..2 * columns.end;
        // Samples of U (0) and V (1): their bytes, and the step from one to the next.
        let line_in = |which: usize| match &input.chroma {
            Chroma::Planar { u, v } => (bytes_of::<S>([u, v][which], row, columns.clone()), 1),
            Chroma::SemiPlanar { uv, v_first } => {
                let first = which ^ usize::from(*v_first);
                (&bytes_of::<S>(uv, row, wide.clone())[first * S::BYTES..], 2)
            }
        };
        match (&input.chroma, &writer.chroma) {
            // Both in the order of the residual.
            (
                Chroma::SemiPlanar { uv, v_first: false },
                Chroma::SemiPlanar { uv: out, v_first: false },
            ) => {
                let codes = bytes_of::<S>(uv, row, wide.clone());
                // SAFETY: as above.
                let out = unsafe { out.bytes_of::<S>(row, wide.clone()) };
                write_line::<S>(out, codes, 1, chroma, 1, span);
            }
            (_, Chroma::Planar { u, v }) => {
                for (which, out) in [u, v].into_iter().enumerate() {
                    // SAFETY: as above.
                    let out = unsafe { out.bytes_of::<S>(row, columns.clone()) };
                    let (codes, step) = line_in(which);
                    write_line::<S>(out, codes, step, &chroma[which..], 2, span);
                }
            }
            (_, Chroma::SemiPlanar { uv, v_first }) => {
                // SAFETY: as above.
                let out = unsafe { uv.bytes_of::<S>(row, wide.clone()) };
                for which in 0..2 {
                    let (codes, step) = line_in(which);
                    let codes = codes.chunks_exact(S::BYTES).step_by(step);
                    let at = which ^ usize::from(*v_first);
                    let outs = out.chunks_exact_mut(S::BYTES).skip(at).step_by(2);
                    for ((out, code), r) in outs.zip(codes).zip(chroma[which..].iter().step_by(2)) {
                        S::write(sum::<S>(S::read(code), *r, span), out);
                    }
                }
            }
        }
    }
}

/// Every sample of `out` from every `code_step`-th code and every `step`-th residual.
#[inline(always)]
fn write_line<S: Sample>(
    out: &mut [u8],
    codes: &[u8],
    code_step: usize,
    residual: &[f32],
    step: usize,
    span: f32,
) {
    let outs = out.chunks_exact_mut(S::BYTES);
    if code_step == 1 && step == 1 {
        for ((out, code), r) in outs.zip(codes.chunks_exact(S::BYTES)).zip(residual) {
            S::write(sum::<S>(S::read(code), *r, span), out);
        }
    } else if code_step == 1 {
        for ((out, code), r) in outs.zip(codes.chunks_exact(S::BYTES)).zip(residual.chunks(2)) {
            S::write(sum::<S>(S::read(code), r[0], span), out);
        }
    } else {
        let codes = codes.chunks(2 * S::BYTES).map(|pair| &pair[..S::BYTES]);
        for ((out, code), r) in outs.zip(codes).zip(residual.chunks(2)) {
            S::write(sum::<S>(S::read(code), r[0], span), out);
        }
    }
}

/// The code nearest to a code plus a residual.
#[inline(always)]
fn sum<S: Sample>(code: u16, residual: f32, span: f32) -> u16 {
    /// At this offset the last bit of an f32 is 1, and the low bits are the integer.
    const OFFSET: f32 = (3 << 22) as f32;
    let v = f32::from(code) + residual * span;
    let v = if v > 0.0 { v } else { 0.0 };
    let v = if v < S::MAX { v } else { S::MAX };
    (v + OFFSET).to_bits() as u16
}
