//! Whole frames through the engine, and the price of a new tuning.

use divan::Bencher;
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, DeviceChoice, Engine};
use tunableconv::frame::{Chroma, Frame, FrameFormat, FrameMut, Plane, PlaneMut, Range};

fn main() {
    divan::main();
}

fn engine() -> Box<dyn Engine> {
    let checkpoint = Checkpoint::built_in().expect("the library carries a valid checkpoint");
    engine::open(&checkpoint, DeviceChoice::Cpu, 0).expect("the CPU is always there")
}

/// One 4:2:0 frame of noise in, one out; all cores.
#[divan::bench(args = [(640, 360), (1280, 720), (1920, 1080)], sample_count = 20)]
fn process(bencher: Bencher, (width, height): (usize, usize)) {
    let mut engine = engine();
    let format = FrameFormat { width, height, range: Range::Limited };
    let (half_width, half_height) = format.half_size();
    let bytes: Vec<u8> = (0..width * height).map(|i| (i * i / 7 % 251) as u8).collect();
    let (mut y, mut u) = (bytes.clone(), bytes[..half_width * half_height].to_vec());
    let (u_in, mut v) = (u.clone(), u.clone());
    let plane = |data, stride_bytes| Plane { data, stride_bytes };
    let plane_mut = |data, stride_bytes| PlaneMut { data, stride_bytes };
    let chroma = Chroma::Planar { u: plane(&u_in, half_width), v: plane(&u_in, half_width) };
    let input = Frame::new(format, plane(&bytes, width), chroma).expect("planes that fit");
    let chroma =
        Chroma::Planar { u: plane_mut(&mut u, half_width), v: plane_mut(&mut v, half_width) };
    let mut output = FrameMut::new(format, plane_mut(&mut y, width), chroma).expect("they fit");
    bencher.bench_local(|| engine.process(&input, &mut output).expect("frames that fit"));
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
