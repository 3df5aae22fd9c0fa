//! The CUDA engine: chains of convolutions on a [`Gpu`].

use std::sync::Arc;

use candle_core::{Device, Module as _, Tensor};

use super::chain::GpuChain;
use super::conv::{Storage, bytes_of};
use super::gpu::{Address, Gpu, Kernel, Launch};
use crate::checkpoint::Metadata;
use crate::engine::smoothing::Smoothing;
use crate::engine::tensors::filter;
use crate::engine::{Engine, Precision};
use crate::frame::{Frame, FrameFormat, FrameMut, Plane, Yuv420, YuvComponent};
use crate::net::Net;
use crate::nn::{Colour, Io};
use crate::tuning::Tuning;
use crate::{Error, Result};

/// Blocks of 2×2 pixels of a row that a block of threads reads or writes.
const COLUMNS: usize = 128;

/// See the module documentation.
///
/// Frames of 4:2:0 go to the GPU and back as they are; of others the net's tensors do.
pub struct CudaEngine<G: Gpu> {
    net: Arc<Net>,
    io: Io,
    description: String,
    precision: Precision,
    tuning: Tuning,
    is_identity: bool,
    smoothing: Smoothing,
    chain: GpuChain<G>,
    frames: Frames,
}

/// Frames in the memory of the GPU.
#[derive(Default)]
struct Frames {
    layout: Layout,
    /// Where the input's planes are.
    from: [Address; 3],
    /// Where the output's are.
    to: [Address; 3],
    /// A plane of the output on its way back.
    bytes: Vec<u8>,
}

/// Bytes and stride of planes; 0 of those that there are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Layout {
    from: [(usize, usize); 3],
    to: [(usize, usize); 3],
}

/// The argument of the kernels that read and write frames, as they have it: see `kernels/video.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Video {
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

impl<G: Gpu> CudaEngine<G> {
    /// An engine at the net's default tuning. The net's banks stay on the CPU, where they are folded.
    ///
    /// # Errors
    /// [`Error::Config`] for a net that is no chain of convolutions, or of another kind than the kernels are for;
    /// what `gpu` says.
    pub fn new(net: Arc<Net>, storage: Storage, gpu: G) -> Result<Self> {
        let architecture = &net.metadata().architecture;
        let Some(layers) = architecture.chain() else {
            let reason = format!("it is no chain of convolutions ({})", architecture.describe());
            return Err(Error::Config(reason));
        };
        let precision = match storage {
            Storage::F16 => Precision::F16,
            Storage::F32 => Precision::F32,
        };
        let tuning = net.metadata().tuning.default_tuning()?;
        let mut engine = Self {
            io: architecture.io(),
            description: format!("CUDA kernels on {}, {precision}", gpu.name()),
            chain: GpuChain::new(&layers, storage, gpu)?,
            smoothing: Smoothing::measure(&net)?,
            is_identity: false,
            precision,
            frames: Frames::default(),
            net,
            tuning,
        };
        engine.fold()?;
        Ok(engine)
    }

    /// What the net makes of a tensor `x`, `[C, H, W]`, of this width and height: `[C, H, W]`, and its width and height.
    ///
    /// # Errors
    /// [`Error::Frame`] for lengths other than C · H · W; what the GPU says.
    pub fn tensor(
        &mut self,
        x: &[f32],
        size: (usize, usize),
    ) -> Result<(Vec<f32>, (usize, usize))> {
        let expected = self.io.channels * size.0 * size.1;
        if expected == 0 || x.len() != expected {
            let (got, channels) = (x.len(), self.io.channels);
            let reason = format!("{got} values, expected {channels}×{}×{}", size.1, size.0);
            return Err(Error::Frame(reason));
        }
        self.chain.tensor(x, size)
    }

    /// What it runs on.
    pub fn gpu(&self) -> &G {
        self.chain.gpu_ref()
    }

    fn fold(&mut self) -> Result<()> {
        let folded = self.net.fold(&self.tuning)?.into_chain()?;
        self.is_identity = self.io.keeps_frames() && folded.is_zero()?;
        self.chain.set(&folded)
    }

    /// A frame of 4:2:0 through a net that adds to it.
    fn run_video(
        &mut self,
        format: FrameFormat,
        from: &Yuv420<Plane<'_>>,
        to: Yuv420<(&mut [u8], usize)>,
    ) -> Result<()> {
        let half = format.half_size();
        self.chain.prepare(half)?;
        let mut layout = Layout::default();
        for (own, plane) in layout.from.iter_mut().zip(from.planes.iter().flatten()) {
            *own = (plane.data.len(), plane.stride_bytes);
        }
        for (own, (data, stride)) in layout.to.iter_mut().zip(to.planes.iter().flatten()) {
            *own = (data.len(), *stride);
        }
        self.frames.prepare(self.chain.gpu(), layout)?;
        for (plane, at) in from.planes.iter().flatten().zip(self.frames.from) {
            self.chain.gpu().write(at, plane.data)?;
        }
        let video = self.frames.video(format, from.components, to.components);
        let read = match self.chain.storage_of(0) {
            Storage::F16 => Kernel::ReadVideoF16,
            Storage::F32 => Kernel::ReadVideoF32,
        };
        self.launch(read, 0, video, half)?;
        self.chain.run()?;
        self.launch(Kernel::WriteVideo, self.chain.edges() - 1, video, half)?;
        // Chroma in pairs has as many samples in a row as luma, or one more.
        let pairs = if to.planes[2].is_none() { 2 } else { 1 };
        let bytes = format.samples.bytes();
        for (index, (data, stride)) in to.planes.into_iter().flatten().enumerate() {
            let (width, rows) = match index {
                0 => (format.width, format.height),
                _ => (pairs * half.0, half.1),
            };
            let copy = &mut self.frames.bytes;
            copy.resize(data.len(), 0);
            self.chain.gpu().read(self.frames.to[index], copy)?;
            // What lies between rows is not ours.
            let lines = data.chunks_mut(stride).zip(copy.chunks(stride)).take(rows);
            lines.for_each(|(to, from)| {
                to[..width * bytes].copy_from_slice(&from[..width * bytes]);
            });
        }
        Ok(())
    }

    /// Launches a kernel between a frame and an edge.
    fn launch(
        &mut self,
        kernel: Kernel,
        edge: usize,
        mut video: Video,
        (half_width, half_height): (usize, usize),
    ) -> Result<()> {
        let (at, channels) = self.chain.edge(edge);
        (video.edge, video.channels) = (at, channels as i32);
        let launch = Launch {
            grid: [half_width.div_ceil(COLUMNS) as u32, half_height as u32, 1],
            threads: COLUMNS as u32,
            shared_bytes: 0,
        };
        self.chain.gpu().launch(kernel, bytes_of(&video), launch)
    }

    /// Compares what the GPU makes of noise with what candle makes of it on the CPU.
    ///
    /// # Errors
    /// [`Error::Device`] when they differ by more than the precision; what the GPU says.
    pub fn check(&mut self) -> Result<()> {
        // More than a tile, and no multiple of one.
        let (width, height) = (37, 21);
        let channels = self.io.channels;
        let value = |i: usize| (i * i * 7 % 251) as f32 / 250.0;
        let x: Vec<f32> = (0..channels * width * height).map(value).collect();
        let (got, _) = self.tensor(&x, (width, height))?;
        let x = Tensor::from_vec(x, (1, channels, height, width), &Device::Cpu)?;
        let wanted = self.net.fold(&self.tuning)?.forward(&x)?.flatten_all()?.to_vec1::<f32>()?;
        let squares = |values: &mut dyn Iterator<Item = f32>| -> f64 {
            values.map(|v| f64::from(v).powi(2)).sum()
        };
        let error = squares(&mut got.iter().zip(&wanted).map(|(a, b)| a - b));
        let apart = (error / squares(&mut wanted.iter().copied()).max(f64::MIN_POSITIVE)).sqrt();
        let most = if self.precision == Precision::F16 { 2e-2 } else { 1e-4 };
        if apart <= most {
            return Ok(());
        }
        Err(Error::Device {
            device: self.chain.gpu().name(),
            reason: format!(
                "its kernels are {:.1} % off what the CPU makes of the same, expected at most {} %",
                100.0 * apart,
                100.0 * most
            ),
        })
    }
}

impl Frames {
    /// Makes room for planes.
    fn prepare(&mut self, gpu: &mut impl Gpu, layout: Layout) -> Result<()> {
        if self.layout == layout {
            return Ok(());
        }
        self.free(gpu);
        let sizes = layout.from.iter().chain(&layout.to);
        for (at, (bytes, _)) in self.from.iter_mut().chain(&mut self.to).zip(sizes) {
            if *bytes > 0 {
                *at = gpu.allocate(*bytes)?;
            }
        }
        self.layout = layout;
        Ok(())
    }

    fn free(&mut self, gpu: &mut impl Gpu) {
        for at in self.from.iter_mut().chain(&mut self.to) {
            if *at != 0 {
                gpu.free(std::mem::take(at));
            }
        }
        self.layout = Layout::default();
    }

    /// The argument of the kernels, but for the edge.
    fn video(&self, format: FrameFormat, from: [YuvComponent; 3], to: [YuvComponent; 3]) -> Video {
        let place = |at: &[Address; 3], planes: &[(usize, usize); 3], of: YuvComponent| Samples {
            at: at[of.plane] + of.offset as Address,
            stride: planes[of.plane].1 as i32,
            step: of.step as i32,
        };
        let codes = format.codes();
        Video {
            from: from.map(|of| place(&self.from, &self.layout.from, of)),
            to: to.map(|of| place(&self.to, &self.layout.to, of)),
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

impl<G: Gpu> Drop for CudaEngine<G> {
    fn drop(&mut self) {
        self.frames.free(self.chain.gpu());
    }
}

impl<G: Gpu> Engine for CudaEngine<G> {
    fn metadata(&self) -> &Metadata {
        self.net.metadata()
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn set_tuning(&mut self, tuning: &Tuning) -> Result<bool> {
        if *tuning == self.tuning {
            return Ok(false);
        }
        let before = std::mem::replace(&mut self.tuning, *tuning);
        self.fold().inspect_err(|_| self.tuning = before)?;
        Ok(true)
    }

    fn is_identity(&self) -> bool {
        self.is_identity
    }

    fn smoothing(&self) -> f32 {
        self.smoothing.at(&self.tuning)
    }

    fn process(&mut self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        if self.io.colour == Colour::Yuv420 {
            output.check_same_format(input)?;
            let bytes = input.format().samples.bytes();
            if let (Some(from), Some(to)) = (input.yuv420(), output.yuv420())
                // A word of the GPU's memory is at a multiple of its size.
                && from.planes.iter().flatten().all(|plane| plane.stride_bytes % bytes == 0)
                && to.planes.iter().flatten().all(|(_, stride)| stride % bytes == 0)
            {
                return self.run_video(input.format(), &from, to);
            }
        }
        let (io, smoothing) = (self.io, self.smoothing());
        filter(&io, smoothing, input, output, |x, [height, width]| {
            let x = Tensor::from_vec(x, (1, io.channels, height, width), &Device::Cpu)?;
            let mut run = |x: &Tensor| -> candle_core::Result<Tensor> {
                let (_, _, height, width) = x.dims4()?;
                let values = x.flatten_all()?.to_vec1::<f32>()?;
                let made = self.chain.tensor(&values, (width, height));
                let (y, (width, height)) =
                    made.map_err(|error| candle_core::Error::Msg(error.to_string()))?;
                let channels = y.len() / (width * height);
                Tensor::from_vec(y, (1, channels, height, width), &Device::Cpu)
            };
            let y = match io.colour {
                Colour::Yuv420 => run(&x)?,
                Colour::Rgb | Colour::Luma => io.picture(&x, run)?,
            };
            Ok(y.flatten_all()?.to_vec1()?)
        })
    }
}
