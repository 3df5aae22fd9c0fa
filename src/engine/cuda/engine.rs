//! The CUDA engine: chains of convolutions on a [`Gpu`].

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::chain::GpuChain;
use super::conv::{Storage, bytes_of};
use super::gpu::{Address, Gpu, Kernel, Launch};
use crate::checkpoint::Metadata;
use crate::engine::smoothing::Smoothing;
use crate::engine::tensors::filter;
use crate::engine::{Engine, Precision};
use crate::frame::{Frame, FrameFormat, FrameMut, Yuv420};
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
    /// Bytes of the planes, of the input and of the output.
    sizes: Vec<usize>,
    /// Where they are.
    at: Vec<Address>,
    /// A plane of the output on its way back.
    bytes: Vec<u8>,
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
        from: &Yuv420<crate::frame::Plane<'_>>,
        to: Yuv420<(&mut [u8], usize)>,
    ) -> Result<()> {
        let (half_width, half_height) = format.half_size();
        self.chain.prepare((half_width, half_height))?;
        let sizes = from.planes.iter().map(|plane| plane.data.len());
        let sizes: Vec<usize> = sizes.chain(to.planes.iter().map(|(data, _)| data.len())).collect();
        self.frames.prepare(self.chain.gpu(), sizes)?;
        for (plane, at) in from.planes.iter().zip(&self.frames.at) {
            self.chain.gpu().write(*at, plane.data)?;
        }
        let (from_at, to_at) = self.frames.at.split_at(from.planes.len());
        let place = |at: &[Address], strides: &[usize], of: &crate::frame::YuvComponent| Samples {
            at: at[of.plane] + of.offset as Address,
            stride: strides[of.plane] as i32,
            step: of.step as i32,
        };
        let from_strides: Vec<usize> = from.planes.iter().map(|plane| plane.stride_bytes).collect();
        let to_strides: Vec<usize> = to.planes.iter().map(|(_, stride)| *stride).collect();
        let codes = format.codes();
        let mut video = Video {
            from: from.components.each_ref().map(|of| place(from_at, &from_strides, of)),
            to: to.components.each_ref().map(|of| place(to_at, &to_strides, of)),
            width: format.width as i32,
            height: format.height as i32,
            bytes: format.samples.bytes() as i32,
            shift: codes.shift as i32,
            mask: (1 << format.samples.bits()) - 1,
            zero: codes.zero,
            scale: codes.scale,
            span: codes.span,
            ..Default::default()
        };
        let launch = Launch {
            grid: [half_width.div_ceil(COLUMNS) as u32, half_height as u32, 1],
            threads: COLUMNS as u32,
            shared_bytes: 0,
        };
        let read = match self.chain.storage_of(0) {
            Storage::F16 => Kernel::ReadVideoF16,
            Storage::F32 => Kernel::ReadVideoF32,
        };
        let last = self.chain.edges() - 1;
        for (kernel, edge) in [(read, 0), (Kernel::WriteVideo, last)] {
            let (at, channels) = self.chain.edge(edge);
            (video.edge, video.channels) = (at, channels as i32);
            if edge == last {
                self.chain.run()?;
            }
            self.chain.gpu().launch(kernel, bytes_of(&video), launch)?;
        }
        let rows = [format.height, half_height, half_height];
        let samples = [format.width, half_width * if to.planes.len() == 2 { 2 } else { 1 }];
        for (index, (data, stride)) in to.planes.into_iter().enumerate() {
            let bytes = &mut self.frames.bytes;
            bytes.resize(data.len(), 0);
            self.chain.gpu().read(to_at[index], bytes)?;
            let width = samples[index.min(1)] * format.samples.bytes();
            let lines = data.chunks_mut(stride).zip(bytes.chunks(stride)).take(rows[index]);
            lines.for_each(|(to, from)| to[..width].copy_from_slice(&from[..width]));
        }
        Ok(())
    }
}

impl Frames {
    /// Makes room for planes of so many bytes.
    fn prepare(&mut self, gpu: &mut impl Gpu, sizes: Vec<usize>) -> Result<()> {
        if self.sizes == sizes {
            return Ok(());
        }
        self.free(gpu);
        for bytes in &sizes {
            self.at.push(gpu.allocate(*bytes)?);
        }
        self.sizes = sizes;
        Ok(())
    }

    fn free(&mut self, gpu: &mut impl Gpu) {
        self.at.drain(..).for_each(|at| gpu.free(at));
        self.sizes.clear();
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
            if let (Some(from), Some(to)) = (input.yuv420(), output.yuv420()) {
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
