//! Noise is taken out of every pixel format as well as out of 4:2:0.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::Random;
use common::play::{Frame, frames_of, media};

/// Standard deviation of the noise in R, G and B, in codes.
const SIGMA: f32 = 25.0;

/// How strong the built-in model is told that it is: in luma it is a little less than in RGB, and 1
/// means 35 codes.
const LEVEL: f64 = 0.48;

const FORMATS: [&str; 14] = [
    "RGBA",
    "RGB",
    "GBR",
    "ARGB64",
    "Y444",
    "AYUV",
    "NV24",
    "Y444_10LE",
    "Y42B",
    "YUY2",
    "UYVY",
    "I422_10LE",
    "v210",
    "NV16",
];

fn psnr(frame: &Frame, clean: &Frame) -> f64 {
    let pixels = frame.data.chunks(4).zip(clean.data.chunks(4));
    let squares = pixels.flat_map(|(a, b)| a[..3].iter().zip(&b[..3]));
    let sum: f64 = squares.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    20.0 * 255f64.log10() - 10.0 * (sum / (frame.data.len() / 4 * 3) as f64).log10()
}

/// About normal.
fn normal(random: &mut Random) -> f32 {
    (0..12).map(|_| random.next()).sum::<f32>() / 2.0
}

#[test]
fn every_format_is_denoised_as_well_as_420_is() {
    common::init();
    let clean = frames_of(&media("still.png"), "pngdec ! videoconvert ! video/x-raw,format=RGBA");
    let clean = &clean[0];
    let mut random = Random(3);
    let noisy = clean.data.iter().enumerate().map(|(i, &code)| match i % 4 {
        3 => code,
        _ => (f32::from(code) + SIGMA * normal(&mut random)).round() as u8,
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("noisy.raw");
    std::fs::write(&file, noisy.collect::<Vec<u8>>()).unwrap();
    let (width, height) = clean.size();
    let psnr_of = |format: &str, alpha: f64| {
        let filtered = |file: &Path| {
            let elements = format!(
                "rawvideoparse format=rgba width={width} height={height} ! videoconvert dither=none \
                 ! video/x-raw,format={format} ! tunableconvfilter precision=f32 alpha={alpha} \
                 ! videoconvert dither=none ! video/x-raw,format=RGBA"
            );
            frames_of(file, &elements)
        };
        psnr(&filtered(&file)[0], clean)
    };
    let way_over_420 = psnr_of("I420", LEVEL);
    println!("I420: {:.2} -> {way_over_420:.2} dB", psnr_of("I420", 0.0));
    for format in FORMATS {
        let (before, after) = (psnr_of(format, 0.0), psnr_of(format, LEVEL));
        println!("{format}: {before:.2} -> {after:.2} dB");
        assert!(after > way_over_420 - 0.5, "{format}: {after}, over I420 {way_over_420}");
    }
}
