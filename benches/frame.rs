//! Whole frames through the engine, and the price of a new tuning.

use divan::Bencher;
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, Engine, Options};
use tunableconv::frame::{FrameFormat, Range, SampleFormat};
use tunableconv::picture::Picture;

fn main() {
    divan::main();
}

fn engine() -> Box<dyn Engine> {
    let checkpoint = Checkpoint::built_in().expect("the library carries a valid checkpoint");
    engine::open(&checkpoint, &Options::default()).expect("the CPU is always there")
}

/// One 4:2:0 frame of noise in, one out; all cores.
#[divan::bench(args = [(640, 360), (1280, 720), (1920, 1080)], sample_count = 20)]
fn process(bencher: Bencher, (width, height): (usize, usize)) {
    let mut engine = engine();
    let format = FrameFormat { width, height, range: Range::Limited, samples: SampleFormat::U8 };
    let pattern = |len: usize| (0..len).map(|i| (i * i / 7 % 251) as u8).collect::<Vec<u8>>();
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    let planes = [pattern(width * height), pattern(chroma), pattern(chroma)];
    let input = Picture::new(format, planes).expect("planes that fit");
    let mut output = input.clone();
    bencher.bench_local(|| {
        engine.process(&input.frame(), &mut output.frame_mut()).expect("frames that fit");
    });
}

/// A tuning that differs from the last one: what a keyframed ramp costs on every frame.
#[divan::bench]
fn set_tuning(bencher: Bencher) {
    let mut engine = engine();
    let space = engine.metadata().tuning.clone();
    let mut step = 0;
    bencher.bench_local(|| {
        step += 1;
        let value = f64::from(step % 1000) / 1000.0;
        let tuning = space.tuning(&vec![value; space.len()]).expect("inside the domain");
        engine.set_tuning(&tuning).expect("a tuning of this net")
    });
}
