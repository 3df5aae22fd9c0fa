//! What the shipped checkpoint makes of a picture, bit for bit: with any number of threads, at every level of
//! the CPU (in f32 at every one with vectors), the same as when this was written. A new checkpoint or other
//! arithmetic changes the hashes; nothing else may.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::process::Command;

use common::{Picture, Random};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, DeviceChoice, Options, Precision};

/// Of the outputs at each precision.
const HASHES: [(Precision, &str); 2] =
    [(Precision::F32, "228695ea64d5b3b2"), (Precision::Int8, "5625e94d11de8c2f")];

const SCALAR: &str = "scalar";

/// Of those in f32 without vectors.
const SCALAR_HASH: &str = "ea7bdd435ca79521";

const LEVELS: [&str; 5] = [SCALAR, "avx2", "avxvnni", "avx512", "avx512vnni"];

/// Set where the test calls itself at a level.
const CALLED: &str = "TUNABLECONV_TEST_SHIPPED";

/// Ramps, edges, texture and noise, in integers alone.
fn picture(width: usize, height: usize) -> Picture {
    let mut picture = Picture::random(width, height, 0, 5);
    let mut random = Random(7);
    for (p, plane) in picture.planes.iter_mut().enumerate() {
        let width = if p == 0 { width } else { width.div_ceil(2) };
        let noise = random.bytes(plane.len());
        for (i, (sample, noise)) in plane.iter_mut().zip(noise).enumerate() {
            let (x, y) = (i % width, i / width);
            let ramp = 40 + (x + 2 * y) * 160 / (3 * width);
            let edge = if (x / 23 + y / 17) % 3 == 0 { 30 } else { 0 };
            let texture = (x * x + 3 * y * y) / 7 % 16;
            *sample = (ramp + edge + texture) as u8 + noise / 16;
        }
    }
    picture
}

fn hash(precision: Precision, threads: usize) -> String {
    let checkpoint = Checkpoint::built_in().unwrap();
    let options = Options { device: DeviceChoice::Cpu, precision, threads, ..Options::default() };
    let mut engine = engine::open(&checkpoint, &options).unwrap();
    let mut hasher = blake3::Hasher::new();
    for (width, height) in [(194, 130), (67, 35)] {
        let (input, mut output) = (picture(width, height), picture(width, height));
        for values in [[0.3, 0.0, 0.0], [0.0, 0.8, 0.4], [1.0, 0.5, 1.0]] {
            let tuning = engine.metadata().tuning.tuning(&values).unwrap();
            engine.set_tuning(&tuning).unwrap();
            engine.process(&input.frame(), &mut output.frame_mut()).unwrap();
            output.planes.iter().for_each(|plane| _ = hasher.update(plane));
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[test]
fn its_output_is_what_it_was() {
    if std::env::var_os(CALLED).is_some() {
        let is_scalar = std::env::var("TUNABLECONV_CPU").unwrap() == SCALAR;
        for (precision, vectors) in HASHES {
            let is_apart = is_scalar && precision == Precision::F32;
            let expected = if is_apart { SCALAR_HASH } else { vectors };
            for threads in [1, 2, 3] {
                assert_eq!(hash(precision, threads), expected, "{precision}, {threads} threads");
            }
        }
        return;
    }
    // The level of a process is what it was at first.
    for level in LEVELS {
        let itself = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "its_output_is_what_it_was"])
            .env(CALLED, "1")
            .env("TUNABLECONV_CPU", level)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&itself.stdout);
        assert!(itself.status.success() && text.contains("1 passed"), "{level}: {text}");
    }
}
