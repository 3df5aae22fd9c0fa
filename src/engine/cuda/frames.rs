//! Frames of 4:2:0 in the memory of a [`Gpu`], and on their way there and back, in bands of rows.

use std::ops::Range;

use super::conv::bytes_of;
use super::gpu::{Address, Gpu, Kernel, Launch, Pinned};
use crate::Result;
use crate::frame::{FrameFormat, Plane, Yuv420, YuvComponent};

/// Blocks of 2×2 pixels of a row that a block of threads reads or writes.
const COLUMNS: usize = 128;

/// A plane of the host that is to be written, and its stride in bytes.
pub(super) type PlaneMut<'a> = (&'a mut [u8], usize);

/// The planes of the input and of the output.
#[derive(Default)]
pub(super) struct Frames {
    from: [OnGpu; 3],
    to: [OnGpu; 3],
}

/// A plane in the memory of the GPU, and what it is copied from or to there.
#[derive(Default)]
struct OnGpu {
    bytes: usize,
    stride: usize,
    /// Bytes that there is room for.
    room: usize,
    at: Address,
    pinned: Option<Pinned>,
}

/// The argument of the kernels that read and write frames, as they have it: see `kernels/video.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Video {
    from: [Samples; 3],
    to: [Samples; 3],
    edge: Address,
    channels: i32,
    width: i32,
    height: i32,
    bytes: i32,
    shift: i32,
    mask: i32,
    zero: [i32; 2],
    scale: [f32; 2],
    span: [f32; 2],
}

const _: () = assert!(size_of::<Video>() == 152);

/// Samples of Y, U or V.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Samples {
    at: Address,
    stride: i32,
    step: i32,
}

/// Rows of a plane (0: luma) or component that are those of blocks of 2×2.
fn rows_of(index: usize, blocks: &Range<usize>, format: FrameFormat) -> Range<usize> {
    match index {
        0 => (2 * blocks.start).min(format.height)..(2 * blocks.end).min(format.height),
        _ => blocks.clone(),
    }
}

impl Frames {
    /// Makes room for planes such as these; where there is enough, no more is taken.
    ///
    /// # Errors
    /// There is not so much memory.
    pub(super) fn prepare(
        &mut self,
        gpu: &mut impl Gpu,
        from: &Yuv420<Plane<'_>>,
        to: &Yuv420<PlaneMut<'_>>,
    ) -> Result<()> {
        let from = from.planes.each_ref().map(|plane| {
            plane.as_ref().map_or((0, 0), |plane| (plane.data.len(), plane.stride_bytes))
        });
        let to = to
            .planes
            .each_ref()
            .map(|plane| plane.as_ref().map_or((0, 0), |(data, stride)| (data.len(), *stride)));
        for (plane, size) in self.from.iter_mut().zip(from).chain(self.to.iter_mut().zip(to)) {
            plane.prepare(gpu, size)?;
        }
        Ok(())
    }

    pub(super) fn free(&mut self, gpu: &mut impl Gpu) {
        self.from.iter_mut().chain(&mut self.to).for_each(|plane| plane.free(gpu));
    }

    /// Begins to send rows of blocks.
    ///
    /// # Errors
    /// What the GPU says.
    pub(super) fn send(
        &mut self,
        gpu: &mut impl Gpu,
        format: FrameFormat,
        from: &Yuv420<Plane<'_>>,
        blocks: &Range<usize>,
    ) -> Result<()> {
        for (index, (plane, own)) in from.planes.iter().flatten().zip(&mut self.from).enumerate() {
            let part = own.part(&rows_of(index, blocks, format));
            let Some(pinned) = &mut own.pinned else { continue };
            // SAFETY: of this frame it is sent once, and none before is on its way.
            let rows = unsafe { pinned.part_mut(part.clone()) };
            rows.copy_from_slice(&plane.data[part.clone()]);
            gpu.send(own.at + part.start as Address, pinned, part)?;
        }
        Ok(())
    }

    /// Begins to fetch rows of blocks.
    ///
    /// # Errors
    /// What the GPU says.
    pub(super) fn fetch(
        &mut self,
        gpu: &mut impl Gpu,
        format: FrameFormat,
        blocks: &Range<usize>,
    ) -> Result<()> {
        for (index, own) in self.to.iter_mut().enumerate() {
            let part = own.part(&rows_of(index, blocks, format));
            // Planes of frames before may be more.
            let Some(pinned) = own.pinned.as_mut().filter(|_| own.bytes > 0) else { continue };
            gpu.fetch(own.at + part.start as Address, pinned, part)?;
        }
        Ok(())
    }

    /// Puts rows of blocks that are fetched where they belong.
    ///
    /// # Errors
    /// What the GPU says.
    pub(super) fn take_in(
        &self,
        gpu: &mut impl Gpu,
        format: FrameFormat,
        to: &mut Yuv420<PlaneMut<'_>>,
        blocks: &Range<usize>,
    ) -> Result<()> {
        // Chroma in pairs has as many samples in a row as luma, or one more.
        let pairs = if to.planes[2].is_none() { 2 } else { 1 };
        let width = |index| if index == 0 { format.width } else { pairs * format.half_size().0 };
        for (index, (data, stride)) in to.planes.iter_mut().flatten().enumerate() {
            let own = &self.to[index];
            let part = own.part(&rows_of(index, blocks, format));
            let Some(pinned) = &own.pinned else { continue };
            gpu.wait()?;
            // SAFETY: that was what has just been waited for.
            let rows = unsafe { pinned.part(part.clone()) };
            // What lies between rows is not ours.
            let width = width(index) * format.samples.bytes();
            for (to, from) in data[part].chunks_mut(*stride).zip(rows.chunks(*stride)) {
                to[..width].copy_from_slice(&from[..width]);
            }
        }
        Ok(())
    }

    /// The argument of the kernels for a whole frame, but for the edge.
    pub(super) fn video(
        &self,
        format: FrameFormat,
        from: [YuvComponent; 3],
        to: [YuvComponent; 3],
    ) -> Video {
        let place = |planes: &[OnGpu; 3], of: YuvComponent| Samples {
            at: planes[of.plane].at + of.offset as Address,
            stride: planes[of.plane].stride as i32,
            step: of.step as i32,
        };
        let codes = format.codes();
        Video {
            from: from.map(|of| place(&self.from, of)),
            to: to.map(|of| place(&self.to, of)),
            width: format.width as i32,
            height: format.height as i32,
            bytes: format.samples.bytes() as i32,
            shift: codes.shift as i32,
            mask: (1 << format.samples.bits()) - 1,
            zero: codes.zero,
            scale: codes.scale,
            span: codes.span,
            ..Default::default()
        }
    }
}

impl OnGpu {
    fn prepare(&mut self, gpu: &mut impl Gpu, (bytes, stride): (usize, usize)) -> Result<()> {
        if bytes > self.room {
            self.free(gpu);
            self.at = gpu.allocate(bytes)?;
            self.pinned = Some(gpu.pin(bytes)?);
            self.room = bytes;
        }
        (self.bytes, self.stride) = (bytes, stride);
        Ok(())
    }

    fn free(&mut self, gpu: &mut impl Gpu) {
        let Self { at, pinned, .. } = std::mem::take(self);
        if at != 0 {
            gpu.free(at);
        }
        pinned.into_iter().for_each(|pinned| gpu.unpin(pinned));
    }

    /// Where rows lie in it; the last one may end with its last sample.
    fn part(&self, rows: &Range<usize>) -> Range<usize> {
        (rows.start * self.stride).min(self.bytes)..(rows.end * self.stride).min(self.bytes)
    }
}

impl Video {
    /// Launches a kernel between rows of blocks and an edge that is of them, or what is there from `first` on: its
    /// numbers, which are so many a pixel, of so many bytes.
    ///
    /// # Errors
    /// What the GPU says.
    pub(super) fn launch(
        mut self,
        gpu: &mut impl Gpu,
        kernel: Kernel,
        format: FrameFormat,
        blocks: &Range<usize>,
        (edge, channels): (Address, usize),
    ) -> Result<()> {
        for samples in [&mut self.from, &mut self.to] {
            for (index, samples) in samples.iter_mut().enumerate() {
                let rows = rows_of(index, blocks, format);
                samples.at += rows.start as Address * samples.stride as Address;
            }
        }
        self.height = rows_of(0, blocks, format).len() as i32;
        (self.edge, self.channels) = (edge, channels as i32);
        let columns = format.half_size().0.div_ceil(COLUMNS);
        let launch = Launch {
            grid: [columns as u32, blocks.len() as u32, 1],
            threads: COLUMNS as u32,
            shared_bytes: 0,
        };
        gpu.launch(kernel, bytes_of(&self), launch)
    }
}
