//! JPEG compression.

use std::io::Cursor;

use image::ImageDecoder as _;
use image::codecs::jpeg::JpegDecoder;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::kind::{Fixed, Kind, check_range, within};
use crate::rgb::Rgb;

/// Places of the grid along an axis: chroma blocks are 16 pixels wide at 4:2:0.
const PHASES: usize = 16;

/// Compressed as JPEG, 4:2:0, with the grid of blocks at a random place; rounds to 8 bit.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Jpeg {
    /// Least and greatest IJG quality, 1 to 100; the greatest degrades least.
    pub quality: [u8; 2],
}

impl Kind for Jpeg {
    const STRENGTH: Option<&'static str> = Some("quality");
    const NOTHING: f32 = 100.0;
    const WHOLE: bool = true;

    fn strengths(&self) -> [f32; 2] {
        self.quality.map(f32::from)
    }

    fn at(&self, severity: f32) -> Self {
        let [low, high] = self.strengths();
        Self { quality: within([high, low], severity).map(|quality| quality.round() as u8) }
    }

    fn check(&self) -> anyhow::Result<()> {
        check_range("quality", self.strengths(), [1.0, 100.0])
    }

    fn fix(&self, quality: f32, mut rng: ChaCha8Rng, _: (usize, usize)) -> Option<Fixed> {
        let phase = [(); 2].map(|()| rng.random_range(0..PHASES));
        let quality = quality.round().clamp(1.0, 100.0) as u8;
        Some(Box::new(move |image| jpeg(image, quality, phase)))
    }

    /// IJG's scale of the quantisers, 1 at quality 50.
    fn amount(quality: f32) -> f32 {
        if quality < 50.0 { 50.0 / quality } else { 2.0 - quality / 50.0 }
    }

    fn of_amount(amount: f32) -> f32 {
        if amount > 1.0 { 50.0 / amount } else { 100.0 - 50.0 * amount }
    }
}

/// Encodes the image as baseline JPEG and decodes it again: Annex K tables scaled by the IJG
/// `quality` (1 to 100; others are clamped), 4:2:0 with averaged chroma. Values are rounded to 8 bit
/// on the way in and on the way out.
///
/// The top left pixel of the image lies at `phase`, `[x, y]` from 0 to 15, in its 16×16 block;
/// what of a block lies outside is replicated.
///
/// # Panics
/// If a side plus its phase exceeds 65535 pixels, JPEG's limit.
#[must_use]
pub fn jpeg(image: &Rgb, quality: u8, phase: [usize; 2]) -> Rgb {
    let (width, height) = (image.width + phase[0], image.height + phase[1]);
    let side = |pixels: usize| u16::try_from(pixels).expect("a side JPEG can express");
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, quality.clamp(1, 100));
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    encoder
        .encode(&shifted_bytes(image, phase), side(width), side(height), ColorType::Rgb)
        .expect("memory takes what is written");

    let decoder = JpegDecoder::new(Cursor::new(file)).expect("the header was just written");
    let mut pixels = vec![0; 3 * width * height];
    decoder.read_image(&mut pixels).expect("the file was just written");
    let mut data = Vec::with_capacity(image.data.len());
    for c in 0..3 {
        for row in pixels.chunks_exact(3 * width).skip(phase[1]) {
            let values = row[3 * phase[0]..].chunks_exact(3);
            data.extend(values.map(|pixel| f32::from(pixel[c]) / 255.0));
        }
    }
    Rgb::new(image.width, image.height, data)
}

/// Interleaved bytes, with the first column and row repeated `phase` times.
fn shifted_bytes(image: &Rgb, phase: [usize; 2]) -> Vec<u8> {
    let planes = [image.plane(0), image.plane(1), image.plane(2)];
    let width = image.width + phase[0];
    let mut bytes = vec![0; 3 * width * (image.height + phase[1])];
    for (y, out) in bytes.chunks_exact_mut(3 * width).enumerate() {
        let start = y.saturating_sub(phase[1]) * image.width;
        for (c, plane) in planes.iter().enumerate() {
            let row = &plane[start..][..image.width];
            let values = std::iter::repeat_n(&row[0], phase[0]).chain(row);
            for (out, value) in out[c..].iter_mut().step_by(3).zip(values) {
                // `as u8` saturates.
                *out = (value * 255.0 + 0.5) as u8;
            }
        }
    }
    bytes
}
