//! Engines on CUDA through NVIDIA's driver, for which a library stands in that runs the kernels on the CPU. So all is
//! run that runs on a GPU, but for what `nvcc` makes of the kernels.

#![cfg(all(target_os = "linux", feature = "cuda"))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::process::Command;

use common::{Picture, calibrated, random_checkpoint, random_net, two_knobs};
use tunableconv::checkpoint::Architecture;
use tunableconv::engine::{self, DeviceChoice, Engine, Options, Precision};
use tunableconv::nn::{Mode, NafNetConfig};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const STAND_IN: &str = "TUNABLECONV_TEST_DRIVER";

/// Runs a test of this file again with that library.
fn with_driver(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let kernels = [
        "conv_f16",
        "conv_f32",
        "read_video_f16",
        "read_video_f32",
        "write_video",
        "driver/libcuda",
    ];
    let output = Command::new(std::env::var("CXX").unwrap_or("c++".into()))
        .args(["-std=c++17", "-O2", "-shared", "-fPIC"])
        .arg(format!("-I{ROOT}/src/engine/cuda/kernels"))
        .arg(format!("-I{ROOT}/tests/cuda"))
        .args(kernels.map(|kernel| format!("{ROOT}/tests/cuda/{kernel}.cpp")))
        .arg("-o")
        .arg(folder.path().join("libcuda.so.1"))
        .output()
        .expect("a C++ compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::os::unix::fs::symlink("libcuda.so.1", folder.path().join("libcuda.so")).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env(STAND_IN, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

fn options(device: &str, precision: Precision) -> Options {
    Options { device: device.parse().unwrap(), precision, ..Default::default() }
}

fn filtered(engine: &mut dyn Engine, input: &Picture) -> Picture {
    let mut output = input.clone();
    engine.process(&input.frame(), &mut output.frame_mut()).unwrap();
    output
}

#[test]
fn frames_go_through_the_driver() {
    if std::env::var_os(STAND_IN).is_none() {
        return with_driver("frames_go_through_the_driver");
    }
    let mut checkpoint = calibrated(random_checkpoint(Mode::Multilinear, 7));
    let tail = checkpoint.tensors.iter_mut().filter(|(name, _)| name.starts_with("tail"));
    tail.for_each(|(_, values)| values.iter_mut().for_each(|value| *value *= 0.02));
    let open = |device: &str, precision| engine::open(&checkpoint, &options(device, precision));
    let in_bands = |device: &str, precision| {
        engine::open(&checkpoint, &Options { tile_size: 4, ..options(device, precision) })
    };
    let [input, other] = [5, 6].map(|seed| Picture::random(45, 22, 3, seed));
    let wanted = filtered(&mut *open("cpu", Precision::F32).unwrap(), &input);
    for (device, precision, computed) in [
        ("cuda", Precision::Auto, Precision::F16),
        ("cuda:0", Precision::F32, Precision::F32),
        ("auto", Precision::Auto, Precision::F16),
        ("auto", Precision::F16, Precision::F16),
        ("auto", Precision::F32, Precision::F32),
    ] {
        let mut engine = open(device, precision).unwrap();
        assert_eq!(engine.precision(), computed, "{device} {precision}");
        let expected = format!("CUDA kernels on Emulator (cuda:0), {computed}");
        assert_eq!(engine.description(), expected);
        // On another thread than it was opened on.
        let got = std::thread::scope(|scope| {
            scope.spawn(|| filtered(&mut *engine, &input)).join().unwrap()
        });
        let pairs = got.samples().into_iter().flatten().zip(wanted.samples().into_iter().flatten());
        let apart = pairs.map(|(got, wanted)| got.abs_diff(wanted)).max();
        assert!(apart <= Some(1), "{device} {precision}: {apart:?}");
        // One band is sent and another fetched while a third is computed; another frame is in none of them.
        let mut engine = in_bands(device, precision).unwrap();
        filtered(&mut *engine, &other);
        assert!(filtered(&mut *engine, &input) == got, "{device} {precision}, in bands");
        // Weights are sent beside frames.
        let usual = checkpoint.metadata.tuning.default_tuning().unwrap();
        let moved = checkpoint.metadata.tuning.tuning(&[0.9, 0.1]).unwrap();
        let mut new = open(device, precision).unwrap();
        new.set_tuning(&moved).unwrap();
        let wanted = filtered(&mut *new, &input);
        assert!(wanted != got);
        for (tuning, wanted) in [(&moved, &wanted), (&usual, &got), (&moved, &wanted)] {
            engine.set_tuning(tuning).unwrap();
            assert!(filtered(&mut *engine, &input) == *wanted, "{device} {precision}, retuned");
        }
    }
    // What is only on the CPU is had there, unless the device was asked for.
    let on_cpu = open("auto", Precision::Int8).unwrap();
    assert!(on_cpu.description().starts_with("row pipeline on CPU"), "{}", on_cpu.description());
    let told = |opened: tunableconv::Result<Box<dyn Engine>>| opened.err().unwrap().to_string();
    let refused = told(open("cuda", Precision::Int8));
    assert_eq!(refused, "precision int8: on CUDA there are f16 and f32");
    let refused = told(open("cuda:3", Precision::Auto));
    assert_eq!(refused, "device cuda:3: the driver has 1 devices, counted from 0");

    // More than there is memory for.
    let mut engine = open("cuda", Precision::F32).unwrap();
    let large = Picture::random(4000, 4000, 0, 5);
    let mut output = large.clone();
    for _ in 0..2 {
        let failed = engine.process(&large.frame(), &mut output.frame_mut()).unwrap_err();
        let failed = failed.to_string();
        assert!(failed.starts_with("device cuda:0: memory for "), "{failed}");
        assert!(failed.contains("out of memory") && output == large, "{failed}");
    }
    // And on it goes, with a size that it has had before, too.
    let again = filtered(&mut *engine, &input);
    let failed = engine.process(&large.frame(), &mut output.frame_mut());
    assert!(failed.is_err());
    assert!(filtered(&mut *engine, &input) == again);

    let nafnet = random_net(Architecture::Nafnet(NafNetConfig::default()), two_knobs(), 3);
    let opened = engine::open(&nafnet, &options("cuda", Precision::Auto));
    if DeviceChoice::Cuda(0).for_candle().is_err() {
        let refused = told(opened);
        assert!(refused.contains("no chain of convolutions, and candle has no CUDA"), "{refused}");
        let auto = engine::open(&nafnet, &options("auto", Precision::Auto)).unwrap();
        assert!(
            auto.description().contains("no CUDA: the net is no chain"),
            "{}",
            auto.description()
        );
    }
}
