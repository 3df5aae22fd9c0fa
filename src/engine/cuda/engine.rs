//! The CUDA engine: chains of convolutions on a [`Gpu`].

use std::sync::Arc;

use candle_core::{Device, Module as _, Tensor};

use super::chain::GpuChain;
use super::conv::Storage;
use super::frames::{Frames, PlaneMut, Video};
use super::gpu::{Address, Gpu, Kernel};
use crate::checkpoint::Metadata;
use crate::engine::smoothing::Smoothing;
use crate::engine::tensors::filter;
use crate::engine::tiles::{Tile, bands, made_of, reach};
use crate::engine::{Engine, Precision};
use crate::frame::{Frame, FrameFormat, FrameMut, Plane, Yuv420};
use crate::net::Net;
use crate::nn::{Colour, Io};
use crate::tuning::Tuning;
use crate::{Error, Result};

/// Bytes that the edges of a band take at most, of which two at a time are in use: about what the second level caches
/// of large GPUs hold.
const BAND_BYTES: usize = 64 << 20;

/// Rows of a band are at least so many times those that it reads beyond one of its ends.
const REACHES: usize = 8;

/// See the module documentation.
///
/// Frames of 4:2:0 go to the GPU and back as they are; of others the net's tensors do. They are cut into bands of rows,
/// each with as many more as the net looks beyond it: what is in use of a band fits into a large GPU's cache, and one band
/// is sent and another fetched while a third is computed.
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
    /// Most rows of a band; 0 for as many as the caches hold.
    tile_side: usize,
    /// What frames of this size are cut into.
    size: (usize, usize),
    bands: Vec<Tile>,
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
            tile_side: 0,
            size: (0, 0),
            bands: vec![],
            net,
            tuning,
        };
        engine.fold()?;
        Ok(engine)
    }

    /// With bands of at most so many rows of the net's input; 0 for as many as the caches hold.
    #[must_use]
    pub fn with_tile_size(mut self, tile_size: usize) -> Self {
        (self.tile_side, self.size) = (tile_size, (0, 0));
        self
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

    /// What the net makes of a tensor `[C, H, W]` of this height and width, band by band: a residual in 4:2:0, else
    /// the picture.
    fn filtered(&mut self, x: Vec<f32>, size: [usize; 2]) -> Result<Vec<f32>> {
        let io = self.io;
        let x = Tensor::from_vec(x, (1, io.channels, size[0], size[1]), &Device::Cpu)?;
        let bands = bands(&io, (size[1], size[0]), self.rows((size[1], size[0])));
        let mut run = |x: &Tensor| -> Result<Tensor> {
            let (_, _, height, width) = x.dims4()?;
            let values = x.flatten_all()?.to_vec1::<f32>()?;
            let (y, (width, height)) = self.chain.tensor(&values, (width, height))?;
            let channels = y.len() / (width * height);
            Ok(Tensor::from_vec(y, (1, channels, height, width), &Device::Cpu)?)
        };
        made_of(&io, &x, &bands, |part| match io.colour {
            Colour::Yuv420 => run(part),
            Colour::Rgb | Colour::Luma => io.picture(part, &mut run),
        })
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

    /// Cuts what the net reads, of this width and height, into bands, and makes room for the largest.
    fn prepare(&mut self, size: (usize, usize)) -> Result<()> {
        if self.size != size {
            self.bands = bands(&self.io, size, self.rows(size));
            self.size = size;
        }
        let most = self.bands.iter().map(|band| band.reads[0].len()).max();
        self.chain.resize((size.0, most.unwrap_or(0)))
    }

    /// Most rows of a band.
    fn rows(&self, (width, height): (usize, usize)) -> usize {
        if self.tile_side > 0 {
            return self.tile_side;
        }
        let grid = self.io.grid;
        let some = height.min(REACHES * grid);
        let fit = BAND_BYTES * some / self.chain.bytes((width, some)).max(1);
        // What is read begins and ends where the net's own blocks do.
        let beyond = reach(&self.io).next_multiple_of(grid);
        (fit.saturating_sub(2 * beyond) / grid * grid).max(REACHES * beyond).max(grid)
    }

    /// A frame of 4:2:0 through a net that adds to it.
    fn run_video(
        &mut self,
        format: FrameFormat,
        from: &Yuv420<Plane<'_>>,
        mut to: Yuv420<PlaneMut<'_>>,
    ) -> Result<()> {
        self.prepare(format.half_size())?;
        self.frames.prepare(self.chain.gpu(), from, &to)?;
        let video = self.frames.video(format, from.components, to.components);
        let begun = self.begin(format, from, video);
        let (gpu, frames) = (self.chain.gpu(), &self.frames);
        let made = begun.and_then(|()| {
            self.bands
                .iter()
                .try_for_each(|band| frames.take_in(gpu, format, &mut to, &band.makes[0]))
        });
        if made.is_err() {
            gpu.settle();
        }
        made
    }

    /// Begins all that is to be done for a frame.
    fn begin(&mut self, format: FrameFormat, from: &Yuv420<Plane<'_>>, video: Video) -> Result<()> {
        let read = match self.chain.storage_of(0) {
            Storage::F16 => Kernel::ReadVideoF16,
            Storage::F32 => Kernel::ReadVideoF32,
        };
        let (width, last) = (format.half_size().0, self.chain.edges() - 1);
        let mut sent = 0;
        for band in &self.bands {
            let ([reads, _], [makes, _]) = (&band.reads, &band.makes);
            self.frames.send(self.chain.gpu(), format, from, &(sent..reads.end))?;
            sent = reads.end;
            self.chain.resize((width, reads.len()))?;
            let edge = self.chain.edge(0);
            video.launch(self.chain.gpu(), read, format, reads, edge)?;
            self.chain.run()?;
            let (at, channels) = self.chain.edge(last);
            let above = band.margins()[0] * width * channels * Storage::F32.bytes();
            let edge = (at + above as Address, channels);
            video.launch(self.chain.gpu(), Kernel::WriteVideo, format, makes, edge)?;
            self.frames.fetch(self.chain.gpu(), format, makes)?;
        }
        Ok(())
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
        filter(&io, smoothing, input, output, |x, size| self.filtered(x, size))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ops::Range;
    use std::ptr::NonNull;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::engine::cuda::{Launch, Pinned};

    /// Has memory, of which nothing is made.
    #[derive(Default)]
    struct Counter {
        taken: HashMap<Address, usize>,
        pinned: Vec<Vec<u8>>,
        next: Address,
    }

    impl Gpu for Counter {
        fn name(&self) -> String {
            "a counter".into()
        }

        fn allocate(&mut self, bytes: usize) -> Result<Address> {
            self.next += 256;
            self.taken.insert(self.next, bytes);
            Ok(self.next)
        }

        fn free(&mut self, at: Address) {
            self.taken.remove(&at).expect("allocated");
        }

        fn pin(&mut self, bytes: usize) -> Result<Pinned> {
            self.pinned.push(vec![0; bytes]);
            let at = NonNull::new(self.pinned.last_mut().unwrap().as_mut_ptr()).unwrap();
            // SAFETY: it lives as long as `self`, which is longer than what has it.
            Ok(unsafe { Pinned::new(at, bytes) })
        }

        fn unpin(&mut self, _: Pinned) {}

        fn write(&mut self, _: Address, _: &[u8]) -> Result<()> {
            Ok(())
        }

        fn read(&mut self, _: Address, _: &mut [u8]) -> Result<()> {
            Ok(())
        }

        fn send(&mut self, _: Address, _: &Pinned, _: Range<usize>) -> Result<()> {
            Ok(())
        }

        fn fetch(&mut self, _: Address, _: &mut Pinned, _: Range<usize>) -> Result<()> {
            Ok(())
        }

        fn wait(&mut self) -> Result<()> {
            Ok(())
        }

        fn settle(&mut self) {}

        fn launch(&mut self, _: Kernel, _: &[u8], _: Launch) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_edges_of_a_band_fit_into_a_cache_whatever_the_frame() {
        let net = Arc::new(Net::new(&Checkpoint::built_in().unwrap(), &Device::Cpu).unwrap());
        let mut engine = CudaEngine::new(net, Storage::F16, Counter::default()).unwrap();
        let taken = |engine: &CudaEngine<Counter>| engine.gpu().taken.values().sum::<usize>();
        let before = taken(&engine);
        for (width, height) in [(8, 6), (960, 540), (1920, 1080), (3840, 2160), (31, 20_000)] {
            engine.prepare((width, height)).unwrap();
            let edges = taken(&engine) - before;
            let made: usize = engine.bands.iter().map(|band| band.makes[0].len()).sum();
            let read: usize = engine.bands.iter().map(|band| band.reads[0].len()).sum();
            assert_eq!(made, height);
            let least = engine.chain.bytes((width, (REACHES + 2) * reach(&engine.io)));
            assert!(edges <= BAND_BYTES.max(least), "{width}×{height}: {edges}");
            assert!(4 * read <= 5 * made, "{width}×{height}: {read} rows read");
            println!("{width}×{height}: {} bands, {edges} bytes, {read} rows", engine.bands.len());
        }
    }
}
