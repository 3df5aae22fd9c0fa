//! The candle engine: any net, in tiles, on the CPU or on CUDA.

use std::sync::Arc;

use candle_core::{Device, Module, Tensor};

use super::smoothing::Smoothing;
use super::tensors::filter;
use super::tiles::{Tile, made_of, tiles};
use super::{Engine, Precision, thread_pool};
use crate::Result;
use crate::checkpoint::Metadata;
use crate::frame::{Frame, FrameMut};
use crate::net::Net;
use crate::nn::{Colour, FoldedNet, Io, Reach, Statistics};
use crate::tuning::Tuning;

/// Rows and columns of a tensor that are made at once, at most: of 64 channels they are 64 MiB.
const TILE_SIDE: usize = 512;

/// The same for nets that take means over a frame, and are exact where it is in one piece.
const TILE_SIDE_OF_MEANS: usize = 2048;

/// See the module documentation.
pub struct CandleEngine {
    net: Arc<Net>,
    io: Io,
    pool: Option<rayon::ThreadPool>,
    description: String,
    tuning: Tuning,
    folded: FoldedNet,
    is_identity: bool,
    smoothing: Smoothing,
    /// Rows and columns that are made at once, at most.
    tile_side: usize,
}

impl CandleEngine {
    /// An engine at the net's default tuning; `threads = 0` means all cores. `note` ends up in the
    /// description.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when threads cannot be started, or a failed fold.
    pub fn new(net: Arc<Net>, threads: usize, note: &str) -> Result<Self> {
        let tuning = net.metadata().tuning.default_tuning()?;
        let folded = net.fold(&tuning)?;
        let pool = thread_pool(threads)?;
        let count =
            pool.as_ref().map_or_else(rayon::current_num_threads, |p| p.current_num_threads());
        let place = match net.device() {
            Device::Cpu => format!("CPU ({}), {count} threads", super::cpu::kernels::level_name()),
            _ => "CUDA".into(),
        };
        let note = if note.is_empty() { String::new() } else { format!("; {note}") };
        Ok(Self {
            description: format!("candle on {place}, f32{note}"),
            is_identity: is_identity(&net, &folded)?,
            smoothing: Smoothing::measure(&net)?,
            io: net.metadata().architecture.io(),
            net,
            tile_side: 0,
            pool,
            tuning,
            folded,
        }
        .with_tile_size(0))
    }

    /// With tiles of so many rows and columns at most; 0 for 512, or 2048 of nets that take means over a
    /// frame.
    #[must_use]
    pub fn with_tile_size(self, tile_size: usize) -> Self {
        let tile_side = match (tile_size, self.io.reach) {
            (0, Reach::Pixels(_)) => TILE_SIDE,
            (0, Reach::Means(_)) => TILE_SIDE_OF_MEANS,
            (given, _) => given,
        };
        Self { tile_side, ..self }
    }

    fn run(&self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        filter(&self.io, self.smoothing(), input, output, |x, size| self.tensor(x, size))
    }

    /// What the net makes of a tensor `[C, H, W]` of this height and width: a residual in 4:2:0, else the
    /// picture.
    fn tensor(&self, x: Vec<f32>, size: [usize; 2]) -> Result<Vec<f32>> {
        let tiles = tiles(&self.io, size, self.tile_side);
        let shape = (1, self.io.channels, size[0], size[1]);
        let x = Tensor::from_vec(x, shape, self.net.device())?;
        let statistics = match &tiles[..] {
            [_] => Statistics::own(),
            _ => self.statistics(&x, &tiles)?,
        };
        made_of(&self.io, &x, &tiles, |part| self.tile(part, statistics.clone()))
    }

    /// Of all tiles together, if the net takes means over the frame.
    fn statistics(&self, x: &Tensor, tiles: &[Tile]) -> Result<Statistics> {
        if let Reach::Pixels(_) = self.io.reach {
            return Ok(Statistics::own());
        }
        let record = |tile: &Tile| {
            let mut statistics = Statistics::recording();
            let part = tile.read(x)?;
            self.io.picture(&part, |x| self.folded.forward_with(x, &mut statistics))?;
            let size: usize = tile.makes.iter().map(|range| range.len()).product();
            Ok((statistics, size as f64))
        };
        let recorded = tiles.iter().map(record).collect::<Result<Vec<_>>>()?;
        Ok(Statistics::joined(&recorded)?)
    }

    /// What the net makes of the tensor of a tile, on the CPU.
    fn tile(&self, x: &Tensor, mut statistics: Statistics) -> Result<Tensor> {
        let made = match self.io.colour {
            Colour::Yuv420 => self.folded.forward(x)?,
            Colour::Rgb | Colour::Luma => {
                self.io.picture(x, |x| self.folded.forward_with(x, &mut statistics))?
            }
        };
        Ok(made.to_device(&Device::Cpu)?.contiguous()?)
    }
}

/// Whether frames stay what they are.
fn is_identity(net: &Net, folded: &FoldedNet) -> Result<bool> {
    Ok(net.metadata().architecture.io().keeps_frames() && folded.is_zero()?)
}

impl Engine for CandleEngine {
    fn metadata(&self) -> &Metadata {
        self.net.metadata()
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn precision(&self) -> Precision {
        Precision::F32
    }

    fn set_tuning(&mut self, tuning: &Tuning) -> Result<bool> {
        if *tuning == self.tuning {
            return Ok(false);
        }
        self.folded = self.net.fold(tuning)?;
        self.is_identity = is_identity(&self.net, &self.folded)?;
        self.tuning = *tuning;
        Ok(true)
    }

    fn is_identity(&self) -> bool {
        self.is_identity
    }

    fn smoothing(&self) -> f32 {
        self.smoothing.at(&self.tuning)
    }

    fn process(&mut self, input: &Frame<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        match &self.pool {
            Some(pool) => pool.install(|| self.run(input, output)),
            None => self.run(input, output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Architecture, Checkpoint, Provenance};
    use crate::frame::{
        FrameFormat, Matrix, Plane, PlaneMut, Planes, Range, RgbPixel, SampleFormat,
    };
    use crate::nn::{
        Activation, EdsrConfig, NafNetConfig, PhiConfig, PlainConfig, PlainLayer, StyleNetConfig,
        SwinIrConfig, TwoScaleConfig, VideoNetConfig,
    };
    use crate::tuning::{Domain, Parameter, TuningSpace};

    fn random(state: &mut u64) -> f32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (*state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn engine(architecture: Architecture, tile_side: usize) -> CandleEngine {
        let parameter = Parameter {
            name: "alpha".into(),
            nick: "Alpha".into(),
            blurb: "A knob".into(),
            minimum: 0.0,
            maximum: 1.0,
            default: 0.7,
            objective: String::new(),
        };
        let tuning = TuningSpace { domain: Domain::Box, parameters: vec![parameter] };
        let provenance = Provenance::default();
        let metadata = Metadata { architecture, tuning, provenance, calibration: None };
        // Between normalisations and products they have to be larger to be seen.
        let largest = if metadata.architecture.chain().is_some() { 0.2 } else { 0.9 };
        let mut state = 11;
        let tensors = metadata.tensors().into_iter().map(|spec| {
            let len = spec.shape.iter().product::<usize>();
            (spec.name, (0..len).map(|_| largest * random(&mut state)).collect())
        });
        let checkpoint = Checkpoint { tensors: tensors.collect(), metadata };
        let net = Arc::new(Net::new(&checkpoint, &Device::Cpu).unwrap());
        CandleEngine::new(net, 1, "").unwrap().with_tile_size(tile_side)
    }

    fn edsr(scale: usize) -> Architecture {
        let phi = PhiConfig::default();
        Architecture::Edsr(EdsrConfig { channels: 8, blocks: 2, scale, phi, ..Default::default() })
    }

    fn swinir(scale: usize) -> Architecture {
        let (depths, heads, window) = (vec![2], vec![2], 4);
        let config =
            SwinIrConfig { channels: 8, depths, heads, window, scale, ..Default::default() };
        Architecture::Swinir(config)
    }

    /// Luma at twice the size, made of pairs of pixels.
    fn coarse() -> Architecture {
        let layer = |name: &str, channels| PlainLayer::new(name, 3, channels, Activation::None);
        let layers = vec![
            PlainLayer { stride: 2, ..layer("first", 4) },
            PlainLayer { shuffle: 4, ..layer("last", 16) },
        ];
        let (colour, phi) = (Colour::Luma, PhiConfig::default());
        Architecture::Plain(PlainConfig { colour, scale: 2, residual: true, layers, phi })
    }

    /// An engine's frame of noise in RGB; `width` and `height` are the input's.
    fn filtered(engine: &mut CandleEngine, (width, height): (usize, usize)) -> Vec<u8> {
        let pixel = RgbPixel { bytes: 3, r: 2, g: 1, b: 0 };
        let (range, samples) = (Range::Full, SampleFormat::U8);
        let format = FrameFormat { width, height, range, samples };
        let planes = |data| {
            let plane = Plane { data, stride_bytes: 3 * width };
            Planes::PackedRgb { pixels: plane, pixel, matrix: Matrix::Bt709 }
        };
        let mut state = 5;
        let input: Vec<u8> =
            (0..3 * width * height).map(|_| (127.5 + 127.0 * random(&mut state)) as u8).collect();
        let (out_width, out_height) = engine.output_size(width, height);
        let mut output = vec![0; 3 * out_width * out_height];
        let plane = PlaneMut { data: &mut output, stride_bytes: 3 * out_width };
        let out_planes = Planes::PackedRgb { pixels: plane, pixel, matrix: Matrix::Bt709 };
        let out_format = FrameFormat { width: out_width, height: out_height, ..format };
        let mut out = FrameMut::new(out_format, out_planes).unwrap();
        engine.process(&Frame::new(format, planes(&input)).unwrap(), &mut out).unwrap();
        output
    }

    #[test]
    fn tiles_make_what_the_whole_picture_makes_bit_for_bit() {
        let video = VideoNetConfig { channels: 8, layers: 2, ..Default::default() };
        let two_scale = TwoScaleConfig { channels: 8, inner_channels: 8, ..Default::default() };
        let mut nets = vec![Architecture::Video(video), Architecture::TwoScale(two_scale)];
        nets.extend([1, 2, 3, 4].map(edsr));
        nets.push(coarse());
        nets.extend([1, 2].map(swinir));
        for architecture in nets {
            let io = architecture.io();
            let size = [67, 90];
            let mut state = 3;
            let x: Vec<f32> =
                (0..io.channels * size[0] * size[1]).map(|_| random(&mut state)).collect();
            let whole = engine(architecture.clone(), 500).tensor(x.clone(), size).unwrap();
            for side in [16, 31, 60] {
                let got = engine(architecture.clone(), side).tensor(x.clone(), size).unwrap();
                let apart = got.iter().zip(&whole).filter(|(a, b)| a.to_bits() != b.to_bits());
                assert_eq!(apart.count(), 0, "{architecture:?} in tiles of {side}");
            }
        }
    }

    #[test]
    fn tiles_of_nets_that_take_means_fit_without_a_seam() {
        let (encoder_blocks, decoder_blocks, phi) = (vec![1, 1], vec![1, 1], PhiConfig::default());
        let nafnet =
            NafNetConfig { channels: 4, encoder_blocks, middle_blocks: 1, decoder_blocks, phi };
        let style = StyleNetConfig { channels: 4, blocks: 1, ..Default::default() };
        for architecture in [Architecture::Nafnet(nafnet), Architecture::Stylenet(style)] {
            let (size, channels) = ([122, 150], architecture.io().channels);
            let mut state = 3;
            // Brighter to the right, so that tiles have other means than the whole.
            let x: Vec<f32> = (0..channels * size[0] * size[1])
                .map(|at| 0.3 * random(&mut state) + (at % size[1]) as f32 / size[1] as f32)
                .collect();
            let engine = engine(architecture.clone(), 40);
            let got = engine.tensor(x.clone(), size).unwrap();
            assert_eq!(engine.tensor(x.clone(), size).unwrap(), got, "another time it is another");

            let tensor =
                Tensor::from_vec(x.clone(), (1, channels, size[0], size[1]), &Device::Cpu).unwrap();
            let tiles = tiles(&engine.io, size, 40);
            assert_eq!(tiles.len(), 16);
            let statistics = engine.statistics(&tensor, &tiles).unwrap();
            let whole = engine.tile(&tensor, statistics).unwrap();
            let whole = whole.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let apart = got.iter().zip(&whole).filter(|(a, b)| a.to_bits() != b.to_bits());
            assert_eq!(apart.count(), 0, "{architecture:?}");

            // Near to what the whole frame's own means give.
            let own = engine.with_tile_size(500).tensor(x, size).unwrap();
            let mean =
                |values: &mut dyn Iterator<Item = f32>| values.sum::<f32>() / own.len() as f32;
            let error = mean(&mut got.iter().zip(&own).map(|(a, b)| (a - b).powi(2)));
            let centre = mean(&mut own.iter().copied());
            let variance = mean(&mut own.iter().map(|v| (v - centre).powi(2)));
            println!("{}: {:.1e}", architecture.describe(), error / variance);
            assert!(error < 0.3 * variance && error > 0.0, "{error} {variance}");
        }
    }

    #[test]
    fn tiles_of_a_frame_of_television_make_what_the_whole_does() {
        let video = VideoNetConfig { channels: 4, layers: 1, ..Default::default() };
        let two_scale = TwoScaleConfig { channels: 4, inner_channels: 4, ..Default::default() };
        let sizes = [([540, 960], Architecture::Video(video)), ([1080, 1920], edsr(2))];
        let two_scale = ([540, 960], Architecture::TwoScale(two_scale));
        for (size, architecture) in sizes.into_iter().chain([two_scale]) {
            let mut state = 3;
            let len = architecture.io().channels * size[0] * size[1];
            let x: Vec<f32> = (0..len).map(|_| random(&mut state)).collect();
            let whole = engine(architecture.clone(), 2000).tensor(x.clone(), size).unwrap();
            let tiled = engine(architecture.clone(), TILE_SIDE).tensor(x, size).unwrap();
            let apart = tiled.iter().zip(&whole).filter(|(a, b)| a.to_bits() != b.to_bits());
            assert_eq!(apart.count(), 0, "{architecture:?}");
        }
    }

    #[test]
    fn frames_in_rgb_are_what_the_net_makes_of_them() {
        for scale in [1, 2, 3, 4] {
            let (width, height) = (19, 13);
            let mut engine = engine(edsr(scale), 16);
            let got = filtered(&mut engine, (width, height));
            let mut state = 5;
            let codes: Vec<f32> = (0..3 * width * height)
                .map(|_| (127.5 + 127.0 * random(&mut state)).floor())
                .collect();
            // Blue first.
            let x: Vec<f32> = [2, 1, 0]
                .iter()
                .flat_map(|c| codes.iter().skip(*c).step_by(3).map(|code| code / 255.0))
                .collect();
            let x = Tensor::from_vec(x, (1, 3, height, width), &Device::Cpu).unwrap();
            let omega = Tensor::new(&[[0.7f32]], &Device::Cpu).unwrap();
            let y = engine.net.forward(&x, &omega).unwrap();
            let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let pixels = y.len() / 3;
            assert_eq!(got.len(), y.len());
            for (i, code) in got.iter().enumerate() {
                let want = (y[(2 - i % 3) * pixels + i / 3] * 255.0).clamp(0.0, 255.0);
                assert!((f32::from(*code) - want).abs() < 0.501, "×{scale} {i}: {code} {want}");
            }
            assert!(!engine.is_identity());
        }
    }

    #[test]
    fn an_output_of_another_size_is_refused() {
        let mut engine = engine(edsr(2), 16);
        let format =
            FrameFormat { width: 4, height: 4, range: Range::Full, samples: SampleFormat::U8 };
        let (input, mut output) = ([0; 16], [0; 16]);
        let input = Planes::Grey { y: Plane { data: &input[..], stride_bytes: 4 } };
        let planes = Planes::Grey { y: PlaneMut { data: &mut output[..], stride_bytes: 4 } };
        let mut out = FrameMut::new(format, planes).unwrap();
        let error = engine.process(&Frame::new(format, input).unwrap(), &mut out).unwrap_err();
        assert_eq!(error.to_string(), "frame: output is (4, 4), expected (8, 8)");
    }
}
