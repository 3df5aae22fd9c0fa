//! Small checkpoints and frames for the integration tests.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "test helpers")]

use tunableconv::checkpoint::{
    Architecture, Calibration, Checkpoint, Metadata, Provenance, STATISTICS,
};
use tunableconv::frame::{
    Frame, FrameFormat, FrameMut, Plane, PlaneMut, Planes, Range, SampleFormat, Subsampling,
};
use tunableconv::nn::{Mode, PhiConfig, VideoNetConfig};
use tunableconv::tuning::{Domain, Parameter, TuningSpace};

/// A small linear congruential generator: reproducible numbers in −1 to 1.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (127.5 * (self.next() + 1.0)) as u8).collect()
    }
}

pub fn parameter(name: &str, default: f64) -> Parameter {
    Parameter {
        name: name.into(),
        nick: name.into(),
        blurb: format!("How much to {name}"),
        minimum: 0.0,
        maximum: 1.0,
        default,
        objective: String::new(),
    }
}

pub fn two_knobs() -> TuningSpace {
    let parameters = vec![parameter("denoise", 1.0), parameter("deblur", 0.0)];
    TuningSpace { domain: Domain::Box, parameters }
}

pub fn small_config(mode: Mode) -> VideoNetConfig {
    let expand = if mode == Mode::Multilinear { 1 } else { 2 };
    let phi = PhiConfig { mode, expand };
    VideoNetConfig { channels: 8, layers: 1, negative_slope: 0.1, phi }
}

/// A valid checkpoint with random weights.
pub fn random_checkpoint(mode: Mode, seed: u64) -> Checkpoint {
    random_checkpoint_of(small_config(mode), two_knobs(), seed)
}

/// The same for any size and domain.
pub fn random_checkpoint_of(config: VideoNetConfig, tuning: TuningSpace, seed: u64) -> Checkpoint {
    random_net(Architecture::Video(config), tuning, seed)
}

/// The same for any net.
pub fn random_net(architecture: Architecture, tuning: TuningSpace, seed: u64) -> Checkpoint {
    let provenance = Provenance::default();
    let metadata = Metadata { architecture, tuning, provenance, calibration: None };
    let mut random = Random(seed);
    let specs = metadata.tensors();
    let values = |len: usize, random: &mut Random| (0..len).map(|_| 0.3 * random.next()).collect();
    let tensors = specs
        .iter()
        .map(|s| (s.name.clone(), values(s.shape.iter().product(), &mut random)))
        .collect();
    Checkpoint { metadata, tensors }
}

/// The checkpoint with made-up activation ranges, another one in each corner and channel.
pub fn calibrated(mut checkpoint: Checkpoint) -> Checkpoint {
    let data = "none".into();
    let calibration = Calibration { data, images: 2, seed: 3, quantile: 0.999, bounds: false };
    checkpoint.metadata.calibration = Some(calibration);
    let mut random = Random(5);
    for spec in checkpoint.metadata.tensors() {
        if spec.name.ends_with(".activations") {
            let count = spec.shape.iter().product::<usize>() / STATISTICS;
            let range = |_| [0.5 * random.next() - 0.5, 0.5 * random.next() + 1.5, 0.25];
            checkpoint.tensors.insert(spec.name, (0..count).flat_map(range).collect());
        }
    }
    checkpoint
}

/// An I420 picture in memory, rows padded by `padding` bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub format: FrameFormat,
    pub padding: usize,
    pub planes: [Vec<u8>; 3],
}

impl Picture {
    pub fn random(width: usize, height: usize, padding: usize, seed: u64) -> Self {
        let format =
            FrameFormat { width, height, range: Range::Limited, samples: SampleFormat::U8 };
        let (half_width, half_height) = format.half_size();
        let mut random = Random(seed);
        let luma = random.bytes((width + padding) * height);
        let u = random.bytes((half_width + padding) * half_height);
        let v = random.bytes((half_width + padding) * half_height);
        Self { format, padding, planes: [luma, u, v] }
    }

    pub fn strides(&self) -> (usize, usize) {
        (self.format.width + self.padding, self.format.half_size().0 + self.padding)
    }

    pub fn frame(&self) -> Frame<'_> {
        let (luma, chroma) = self.strides();
        let [y, u, v] = &self.planes;
        let plane = |data, stride_bytes| Plane { data, stride_bytes };
        let (y, u, v) = (plane(y, luma), plane(u, chroma), plane(v, chroma));
        let planes = Planes::Planar { y, u, v, subsampling: Subsampling::Yuv420 };
        Frame::new(self.format, planes).unwrap()
    }

    pub fn frame_mut(&mut self) -> FrameMut<'_> {
        let (luma, chroma) = self.strides();
        let format = self.format;
        let [y, u, v] = &mut self.planes;
        let plane = |data, stride_bytes| PlaneMut { data, stride_bytes };
        let (y, u, v) = (plane(y, luma), plane(u, chroma), plane(v, chroma));
        let planes = Planes::Planar { y, u, v, subsampling: Subsampling::Yuv420 };
        FrameMut::new(format, planes).unwrap()
    }

    /// Visible samples of each plane, without the padding.
    pub fn samples(&self) -> [Vec<u8>; 3] {
        let (luma, chroma) = self.strides();
        let (half_width, _) = self.format.half_size();
        let rows = |plane: &[u8], stride: usize, width: usize| {
            plane.chunks(stride).flat_map(|row| row[..width].to_vec()).collect()
        };
        let [y, u, v] = &self.planes;
        [rows(y, luma, self.format.width), rows(u, chroma, half_width), rows(v, chroma, half_width)]
    }
}
