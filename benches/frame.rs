//! Whole 4:2:0 frames through the engines, and the price of a new tuning.
//!
//! `cargo bench --bench frame -- 1280x720` takes one size, `-- int8` one precision;
//! `TUNABLECONV_CPU=avx2` lowers the CPU level.

use std::fmt;

use divan::Bencher;
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{CandleEngine, CpuEngine, DeviceChoice, Engine, Options, Precision};
use tunableconv::frame::{FrameFormat, Range, SampleFormat};
use tunableconv::net::Net;
use tunableconv::picture::Picture;
use tunableconv::tuning::Tuning;

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
        for precision in [Precision::F32, Precision::F16, Precision::Int8] {
            if CpuEngine::new(&checkpoint(), &options(precision, 1)).is_ok() {
                all.push(Self::Cpu(precision));
            }
        }
        all
    }

    fn open(self, threads: usize) -> Box<dyn Engine> {
        let checkpoint = checkpoint();
        match self {
            Self::Cpu(precision) => Box::new(
                CpuEngine::new(&checkpoint, &options(precision, threads)).expect("it was listed"),
            ),
            Self::Candle => {
                let net = Net::new(&checkpoint, &candle_core::Device::Cpu).expect("a valid net");
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
    Options { device: DeviceChoice::Cpu, precision, threads }
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

/// The same with a new tuning for every frame, as on a keyframed ramp; all cores, 1280×720.
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
