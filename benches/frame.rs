//! Whole frames through the engines, 4:2:0 and other layouts, the price of a new tuning, and of an estimate of
//! the noise.
//!
//! `cargo bench --bench frame -- 1280x720` takes one size, `-- int8` one precision;
//! `TUNABLECONV_CPU=avx2` lowers the CPU level.

use std::fmt;

use divan::Bencher;
use tunableconv::checkpoint::{Checkpoint, Metadata, Provenance};
use tunableconv::engine::{CandleEngine, CpuEngine, DeviceChoice, Engine, Options, Precision};
use tunableconv::frame::{
    Frame, FrameFormat, FrameMut, Matrix, Plane, PlaneMut, Planes, Range, RgbPixel, SampleFormat,
    Subsampling, YuvPixel,
};
use tunableconv::net::Net;
use tunableconv::nn::{Architecture, EdsrConfig, Mode, PhiConfig};
use tunableconv::noise_level::NoiseMeter;
use tunableconv::picture::Picture;
use tunableconv::tuning::{Domain, Parameter, Tuning, TuningSpace};

fn main() {
    divan::main();
}

const SIZES: [(usize, usize); 4] = [(640, 360), (1280, 720), (1920, 1080), (3840, 2160)];

#[derive(Clone, Copy)]
enum Contestant {
    Cpu(Precision),
    Candle,
}

impl Contestant {
    /// Those this machine has for the built-in checkpoint.
    fn all() -> Vec<Self> {
        let mut all = vec![Self::Candle];
        for precision in [Precision::F32, Precision::Int8] {
            if CpuEngine::new(&checkpoint(), &options(precision, 1)).is_ok() {
                all.push(Self::Cpu(precision));
            }
        }
        all
    }

    fn open(self, threads: usize) -> Box<dyn Engine> {
        self.open_net(&checkpoint(), threads)
    }

    fn open_net(self, checkpoint: &Checkpoint, threads: usize) -> Box<dyn Engine> {
        match self {
            Self::Cpu(precision) => Box::new(
                CpuEngine::new(checkpoint, &options(precision, threads)).expect("it was listed"),
            ),
            Self::Candle => {
                let net = Net::new(checkpoint, &candle_core::Device::Cpu).expect("a valid net");
                Box::new(CandleEngine::new(net.into(), threads, "").expect("a few threads"))
            }
        }
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(precision) => precision.fmt(f),
            Self::Candle => f.write_str("candle"),
        }
    }
}

#[derive(Clone, Copy)]
struct Case {
    contestant: Contestant,
    size: (usize, usize),
    threads: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { contestant, size: (width, height), threads } = self;
        write!(f, "{contestant} {width}x{height} {threads} threads")
    }
}

fn cases() -> Vec<Case> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut cases = vec![];
    for size in SIZES {
        for threads in if cores > 1 { vec![1, cores] } else { vec![1] } {
            let of = |contestant| Case { contestant, size, threads };
            cases.extend(Contestant::all().into_iter().map(of));
        }
    }
    cases
}

fn checkpoint() -> Checkpoint {
    Checkpoint::built_in().expect("the library carries a valid checkpoint")
}

fn options(precision: Precision, threads: usize) -> Options {
    Options { device: DeviceChoice::Cpu, precision, threads, ..Options::default() }
}

fn picture((width, height): (usize, usize)) -> Picture {
    let samples = SampleFormat::U8;
    let format = FrameFormat { width, height, range: Range::Limited, samples };
    let pattern = |len: usize| (0..len).map(|i| (i * i / 7 % 251) as u8).collect::<Vec<u8>>();
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    let planes = [pattern(width * height), pattern(chroma), pattern(chroma)];
    Picture::new(format, planes).expect("planes that fit")
}

/// Tunings of a ramp, all different from their neighbours.
fn ramp(engine: &dyn Engine) -> impl Iterator<Item = Tuning> + use<> {
    let space = engine.metadata().tuning.clone();
    (0..).map(move |step: u32| {
        let value = 0.1 + f64::from(step % 1000) / 2000.0;
        space.tuning(&vec![value; space.len()]).expect("inside the domain")
    })
}

/// One frame in, one out.
#[divan::bench(args = cases(), sample_count = 15)]
fn process(bencher: Bencher, case: Case) {
    let mut engine = case.contestant.open(case.threads);
    let input = picture(case.size);
    let mut output = input.clone();
    let mut run = || {
        engine.process(&input.frame(), &mut output.frame_mut()).expect("frames that fit");
    };
    run();
    bencher.bench_local(run);
}

/// Name and planes of layouts, by their index.
fn layouts() -> [(&'static str, Planes<usize>); 10] {
    let yuv = |subsampling| Planes::Planar { y: 0, u: 1, v: 2, subsampling };
    let packed = |bytes, [r, g, b]: [usize; 3]| {
        let pixel = RgbPixel { bytes, r, g, b };
        Planes::PackedRgb { pixels: 0, pixel, matrix: Matrix::Bt709 }
    };
    let packed_yuv = |[y, u, v]: [usize; 3], is_pair| {
        let pixel = YuvPixel { bytes: 4, y, u, v, is_pair };
        Planes::PackedYuv { pixels: 0, pixel }
    };
    [
        ("I420", yuv(Subsampling::Yuv420)),
        (
            "NV12",
            Planes::SemiPlanar { y: 0, uv: 1, v_first: false, subsampling: Subsampling::Yuv420 },
        ),
        ("Y42B", yuv(Subsampling::Yuv422)),
        ("Y444", yuv(Subsampling::Yuv444)),
        ("YUY2", packed_yuv([0, 1, 3], true)),
        ("AYUV", packed_yuv([1, 2, 3], false)),
        ("GRAY8", Planes::Grey { y: 0 }),
        ("RGB", packed(3, [0, 1, 2])),
        ("BGRx", packed(4, [2, 1, 0])),
        ("GBR", Planes::PlanarRgb { r: 2, g: 0, b: 1, matrix: Matrix::Bt709 }),
    ]
}

#[derive(Clone, Copy)]
struct LayoutCase {
    contestant: Contestant,
    name: &'static str,
    layout: Planes<usize>,
}

impl fmt::Display for LayoutCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.contestant, self.name)
    }
}

fn layout_cases() -> Vec<LayoutCase> {
    let on_cpu = |contestant: &Contestant| matches!(contestant, Contestant::Cpu(_));
    let of = |contestant| layouts().map(|(name, layout)| LayoutCase { contestant, name, layout });
    Contestant::all().into_iter().filter(on_cpu).flat_map(of).collect()
}

/// One frame in, one out, in every layout; one thread, 1280×720.
#[divan::bench(args = layout_cases(), sample_count = 25)]
fn process_layout(bencher: Bencher, case: LayoutCase) {
    const SIZE: (usize, usize) = (1280, 720);
    /// Enough for a row of every layout, 4 bytes a pixel.
    const STRIDE: usize = 4 * SIZE.0;
    let (range, samples) = (Range::Limited, SampleFormat::U8);
    let format = FrameFormat { width: SIZE.0, height: SIZE.1, range, samples };
    let mut engine = case.contestant.open(1);
    let pattern = (0..STRIDE * SIZE.1).map(|i| (i * i / 7 % 251) as u8).collect::<Vec<u8>>();
    let planes = [pattern.clone(), pattern.clone(), pattern];
    let mut outputs = planes.clone();
    let mut run = || {
        let plane = |index: usize| Plane { data: &planes[index], stride_bytes: STRIDE };
        let input = Frame::new(format, case.layout.map(plane)).expect("planes that fit");
        let mut data = outputs.each_mut().map(Vec::as_mut_slice);
        let plane = |index: usize| PlaneMut {
            data: std::mem::take(&mut data[index]),
            stride_bytes: STRIDE,
        };
        let mut output = FrameMut::new(format, case.layout.map(plane)).expect("planes that fit");
        engine.process(&input, &mut output).expect("frames that fit");
    };
    run();
    bencher.bench_local(run);
}

/// One 4:2:0 frame with a new tuning for each, as on a keyframed ramp; all cores, 1280×720.
#[divan::bench(args = Contestant::all(), sample_count = 40)]
fn retune_and_process(bencher: Bencher, contestant: Contestant) {
    let mut engine = contestant.open(0);
    let input = picture((1280, 720));
    let mut output = input.clone();
    let mut tunings = ramp(&*engine);
    let mut run = || {
        let tuning = tunings.next().expect("endless");
        engine.set_tuning(&tuning).expect("a tuning of this net");
        engine.process(&input.frame(), &mut output.frame_mut()).expect("frames that fit");
    };
    run();
    bencher.bench_local(run);
}

/// The new tuning alone.
#[divan::bench(args = Contestant::all())]
fn set_tuning(bencher: Bencher, contestant: Contestant) {
    let mut engine = contestant.open(0);
    let mut tunings = ramp(&*engine);
    bencher.bench_local(|| {
        let tuning = tunings.next().expect("endless");
        engine.set_tuning(&tuning).expect("a tuning of this net")
    });
}

/// EDSR with 16 blocks of 64 channels, of which so many kernels are mixed in each layer: 1 for the ordinary
/// net.
fn edsr(scale: usize, kernels: usize) -> Checkpoint {
    let parameter = Parameter {
        name: "alpha".into(),
        nick: "Alpha".into(),
        blurb: "A knob".into(),
        minimum: 0.0,
        maximum: 1.0,
        default: 1.0,
        objective: String::new(),
    };
    let tuning = TuningSpace { domain: Domain::Box, parameters: vec![parameter] };
    let mode = if kernels == 1 { Mode::Linear } else { Mode::Mlp };
    let phi = PhiConfig { mode, expand: kernels };
    let architecture = Architecture::Edsr(EdsrConfig { scale, phi, ..Default::default() });
    let metadata =
        Metadata { architecture, tuning, provenance: Provenance::default(), calibration: None };
    let values = |len: usize| (0..len).map(|i| (i * i % 251) as f32 * 1e-3 - 0.125).collect();
    let tensors = metadata.tensors().into_iter();
    let tensors = tensors.map(|spec| (spec.name, values(spec.shape.iter().product())));
    Checkpoint { tensors: tensors.collect(), metadata }
}

/// One 4:2:0 frame of 640×360 in, one as large out, through EDSR; all cores.
#[divan::bench(args = [(Contestant::Candle, 4), (Contestant::Cpu(Precision::F32), 4),
    (Contestant::Cpu(Precision::F32), 1)].map(Edsr), sample_count = 3, sample_size = 1)]
fn process_edsr(bencher: Bencher, Edsr((contestant, kernels)): Edsr) {
    let mut engine = contestant.open_net(&edsr(1, kernels), 0);
    let input = picture((640, 360));
    let mut output = input.clone();
    let mut run = || {
        engine.process(&input.frame(), &mut output.frame_mut()).expect("frames that fit");
    };
    run();
    bencher.bench_local(run);
}

#[derive(Clone, Copy)]
struct Edsr((Contestant, usize));

impl fmt::Display for Edsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self((contestant, kernels)) = self;
        write!(f, "{contestant}, {kernels} kernels in each bank")
    }
}

/// The noise of a 4:2:0 frame, as the element estimates it of every eighth.
#[divan::bench(args = SIZES)]
fn measure_noise(bencher: Bencher, size: (usize, usize)) {
    let input = picture(size);
    let mut meter = NoiseMeter::default();
    bencher.bench_local(|| meter.measure(&input.frame()));
}
