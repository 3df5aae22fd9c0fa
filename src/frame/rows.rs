//! Rows of a frame from and to the net's input and residual.
//!
//! One row of the net is two rows of luma and one of chroma. They are kept as three rows of pairs:
//! the upper luma samples of each 2×2 block, the lower ones, and U with V.

use std::marker::PhantomData;
use std::ops::Range;

use super::rgb::{ReadRgb, WriteRgb};
use super::samples::{High, Low, Sample, U8, Value};
use super::yuv::{ReadYuv, WriteYuv};
use super::{Frame, FrameFormat, FrameMut, Plane, PlaneMut, Planes, SampleFormat};
use crate::engine::cpu::kernels::Level;

/// Runs a job on samples of a format.
macro_rules! of_samples {
    ($samples:expr, $level:expr, $job:ident, $value:expr) => {
        match $samples {
            SampleFormat::U8 => $level.run($job($value, PhantomData::<U8>)),
            SampleFormat::U10Low => $level.run($job($value, PhantomData::<Low<10>>)),
            SampleFormat::U10High => $level.run($job($value, PhantomData::<High<10>>)),
            SampleFormat::U12Low => $level.run($job($value, PhantomData::<Low<12>>)),
            SampleFormat::U12High => $level.run($job($value, PhantomData::<High<12>>)),
            SampleFormat::U16 => $level.run($job($value, PhantomData::<High<16>>)),
        }
    };
}

impl Frame<'_> {
    /// Reads these columns, in blocks, of a row of the net: upper luma, lower luma and chroma
    /// pairs. Samples beyond an odd width or height are the last ones. The values are doubled codes
    /// where [`Frame::is_in_codes`].
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
        if self.planes.is_rgb() {
            of_samples!(self.format.samples, level, ReadRgb, read);
        } else {
            of_samples!(self.format.samples, level, ReadYuv, read);
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
pub(super) struct Read<'a, 'o, T> {
    pub(super) frame: &'a Frame<'a>,
    pub(super) row: usize,
    pub(super) columns: Range<usize>,
    pub(super) out: [&'o mut [T]; 3],
}

#[inline(always)]
pub(super) fn samples_of<'p, S: Sample>(
    plane: &Plane<'p>,
    row: usize,
    samples: Range<usize>,
) -> &'p [u8] {
    let first = row * plane.stride_bytes + samples.start * S::BYTES;
    &plane.data[first..][..samples.len() * S::BYTES]
}

/// Samples of Y, U, V, R, G or B: the first of a row is `offset` bytes into it, others follow every
/// `step` bytes.
#[derive(Clone, Copy)]
pub(super) struct Component<P> {
    pub(super) plane: P,
    pub(super) offset: usize,
    pub(super) step: usize,
}

impl<P> Component<P> {
    /// Bytes of a row from the first of these samples to the last, of which there is one.
    #[inline(always)]
    fn bytes<S: Sample>(&self, samples: Range<usize>) -> Range<usize> {
        let first = self.offset + samples.start * self.step;
        first..first + (samples.len() - 1) * self.step + S::BYTES
    }
}

impl<'p> Component<&Plane<'p>> {
    /// From the first of these samples to the last, of which there is one.
    #[inline(always)]
    pub(super) fn line<S: Sample>(&self, row: usize, samples: Range<usize>) -> &'p [u8] {
        let Range { start, end } = self.bytes::<S>(samples);
        &self.plane.data[row * self.plane.stride_bytes..][start..end]
    }
}

impl Component<&PlaneWriter> {
    /// From the first of these samples to the last, of which there is one.
    ///
    /// # Safety
    /// No one else uses these bytes while the slice lives.
    #[inline(always)]
    pub(super) unsafe fn line<'p, S: Sample>(
        &self,
        row: usize,
        samples: Range<usize>,
    ) -> &'p mut [u8] {
        // SAFETY: as the caller's.
        unsafe { self.plane.bytes_of(row, self.bytes::<S>(samples)) }
    }
}

/// Writes rows of a frame from any thread.
pub(crate) struct FrameWriter<'a> {
    format: FrameFormat,
    smoothing: f32,
    pub(super) planes: Planes<PlaneWriter>,
    frame: PhantomData<&'a mut [u8]>,
}

#[derive(Clone, Copy)]
pub(super) struct PlaneWriter {
    data: *mut u8,
    len: usize,
    stride_bytes: usize,
}

// SAFETY: it stands for a `&mut` of the planes, and the callers of its methods keep threads apart.
unsafe impl Send for FrameWriter<'_> {}
// SAFETY: as above.
unsafe impl Sync for FrameWriter<'_> {}

impl PlaneWriter {
    fn new(plane: &mut PlaneMut<'_>) -> Self {
        let (data, len) = (plane.data.as_mut_ptr(), plane.data.len());
        Self { data, len, stride_bytes: plane.stride_bytes }
    }

    /// # Safety
    /// No one else uses these bytes of the row while the slice lives.
    #[inline(always)]
    pub(super) unsafe fn bytes_of<'p>(&self, row: usize, bytes: Range<usize>) -> &'p mut [u8] {
        let (first, len) = (row * self.stride_bytes + bytes.start, bytes.len());
        assert!(first + len <= self.len);
        // SAFETY: inside the plane, and the caller vouches that no one else uses it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(first), len) }
    }

    /// Copies these bytes of a row.
    ///
    /// # Safety
    /// No one else uses them meanwhile.
    #[inline(always)]
    pub(super) unsafe fn copy(&self, row: usize, bytes: Range<usize>, from: &Plane<'_>) {
        let from = &from.data[row * from.stride_bytes..][bytes.clone()];
        // SAFETY: as the caller's.
        unsafe { self.bytes_of(row, bytes) }.copy_from_slice(from);
    }

    /// # Safety
    /// No one else uses these samples while the slice lives.
    #[inline(always)]
    pub(super) unsafe fn samples_of<'p, S: Sample>(
        &self,
        row: usize,
        samples: Range<usize>,
    ) -> &'p mut [u8] {
        // SAFETY: as the caller's.
        unsafe { self.bytes_of(row, samples.start * S::BYTES..samples.end * S::BYTES) }
    }
}

impl FrameMut<'_> {
    /// A writer of rows, with this share of smoothing.
    pub(crate) fn writer(&mut self, smoothing: f32) -> FrameWriter<'_> {
        let planes = self.planes.as_mut().map(PlaneWriter::new);
        FrameWriter { format: self.format, smoothing, planes, frame: PhantomData }
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
    /// per column, or `input` has another format or layout.
    pub(crate) unsafe fn write_pairs(
        &self,
        level: Level,
        input: &Frame<'_>,
        row: usize,
        columns: Range<usize>,
        residual: [&[f32]; 3],
    ) {
        assert_eq!(input.format, self.format);
        assert!(input.planes.fits(&self.planes), "another layout");
        check(&self.format, row, &columns, residual.map(<[f32]>::len));
        let smoothing = self.smoothing;
        let write = Write { writer: self, input, row, columns, residual, smoothing };
        if input.planes.is_rgb() {
            of_samples!(input.format.samples, level, WriteRgb, write);
        } else {
            of_samples!(input.format.samples, level, WriteYuv, write);
        }
    }
}

/// Checked by [`FrameWriter::write_pairs`], whose caller keeps threads apart.
pub(super) struct Write<'a> {
    pub(super) writer: &'a FrameWriter<'a>,
    pub(super) input: &'a Frame<'a>,
    pub(super) row: usize,
    pub(super) columns: Range<usize>,
    pub(super) residual: [&'a [f32]; 3],
    pub(super) smoothing: f32,
}
