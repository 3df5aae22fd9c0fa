//! Frames and tunings allocate nothing once the first ones are through, and the engine's memory at
//! 1080p is small.
//!
//! A program of its own: the test harness allocates, on another thread, when a test takes a minute.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Picture, random_net, two_knobs};
use tunableconv::checkpoint::{Architecture, Checkpoint};
use tunableconv::engine::{self, Engine, Options, Precision};
use tunableconv::frame::{Frame, FrameMut, Matrix, Plane, PlaneMut, Planes, RgbPixel};
use tunableconv::nn::{Activation, Colour, Mode, PhiConfig, PlainConfig, PlainLayer};

/// The system's allocator, counting calls and bytes of all threads.
struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::SeqCst);
        BYTES.fetch_add(layout.size(), Ordering::SeqCst);
        // SAFETY: as the function's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: as the function's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let checkpoint = Checkpoint::built_in().unwrap();
    let (input, mut output) =
        (Picture::random(1920, 1080, 0, 3), Picture::random(1920, 1080, 0, 4));
    let format = input.format;
    let (width, height) = (format.width, format.height);
    let (pixels, mut out) = (vec![90; 4 * width * height], vec![0; 4 * width * height]);
    let (pixel, matrix) = (RgbPixel { bytes: 4, r: 2, g: 1, b: 0 }, Matrix::Bt709);
    let precisions = [Precision::F32, Precision::Int8];
    for (precision, rgb) in precisions.map(|p| [(p, false), (p, true)]).concat() {
        let before = BYTES.load(Ordering::SeqCst);
        let options = Options { precision, threads: 2, ..Default::default() };
        let mut engine: Box<dyn Engine> = engine::open(&checkpoint, &options).unwrap();
        let tunings = [[0.2, 0.3, 0.0], [0.7, 0.1, 0.4], [0.4, 0.9, 0.2], [1.0, 1.0, 1.0]]
            .map(|values| engine.metadata().tuning.tuning(&values).unwrap());
        let mut frame = |index: usize| {
            engine.set_tuning(&tunings[index % 4]).unwrap();
            if rgb {
                let pixels = Plane { data: &pixels, stride_bytes: 4 * width };
                let out = PlaneMut { data: &mut out, stride_bytes: 4 * width };
                let input = Planes::PackedRgb { pixels, pixel, matrix };
                let output = Planes::PackedRgb { pixels: out, pixel, matrix };
                let input = Frame::new(format, input).unwrap();
                engine.process(&input, &mut FrameMut::new(format, output).unwrap()).unwrap();
            } else {
                engine.process(&input.frame(), &mut output.frame_mut()).unwrap();
            }
        };
        (0..2).for_each(&mut frame);
        let bytes = BYTES.load(Ordering::SeqCst) - before;
        let calls = CALLS.load(Ordering::SeqCst);
        (2..4).for_each(&mut frame);
        let calls = CALLS.load(Ordering::SeqCst) - calls;
        let layout = if rgb { "RGB" } else { "4:2:0" };
        println!("{precision}, {layout}: {:.1} MB at 1920×1080", bytes as f64 / 1e6);
        assert_eq!(calls, 0, "{precision}, {layout}: allocations in two frames with new tunings");
        assert!(bytes <= 24_000_000, "{precision}, {layout}: {bytes} bytes");
    }
    for colour in [Colour::Rgb, Colour::Luma] {
        check_pictures(colour);
    }
}

/// The same of nets that make the picture themselves.
fn check_pictures(colour: Colour) {
    let channels = if colour == Colour::Luma { 4 } else { 12 };
    let layers = vec![
        PlainLayer::new("head", 3, 8, Activation::LeakyRelu(0.1)),
        PlainLayer { shuffle: 2, ..PlainLayer::new("tail", 3, channels, Activation::None) },
    ];
    let phi = PhiConfig { mode: Mode::Linear, expand: 1 };
    let net = PlainConfig { colour, scale: 2, residual: true, layers, phi };
    let checkpoint = random_net(Architecture::Plain(net), two_knobs(), 3);
    let options = Options { precision: Precision::F32, threads: 2, ..Default::default() };
    let mut engine = engine::open(&checkpoint, &options).unwrap();
    let tunings = [[0.2, 0.3], [0.7, 0.1], [0.4, 0.9], [1.0, 1.0]]
        .map(|values| engine.metadata().tuning.tuning(&values).unwrap());
    let (input, mut output) = (Picture::random(321, 180, 0, 3), Picture::random(642, 360, 0, 4));
    let mut frame = |index: usize| {
        engine.set_tuning(&tunings[index]).unwrap();
        engine.process(&input.frame(), &mut output.frame_mut()).unwrap();
    };
    (0..2).for_each(&mut frame);
    let calls = CALLS.load(Ordering::SeqCst);
    (2..4).for_each(&mut frame);
    let calls = CALLS.load(Ordering::SeqCst) - calls;
    assert_eq!(calls, 0, "{colour:?}: allocations in two frames with new tunings");
}
