//! What each value of `alpha` does, in decibels and to the eye.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use image::RgbImage;
use tunableconv_train::clip::Clip;
use tunableconv_train::metrics::psnr;
use tunableconv_train::sheet::Sheet;
use tunableconv_train::yuv::{Matrix, Range, Yuv420};

use crate::STRONGEST;
use crate::pipelines::filter_frames;

/// From nothing, by what is right for the noise, to more than that.
const ALPHAS: [f64; 5] = [0.0, 0.15, 0.3, 0.45, STRONGEST];

/// Frames that are measured.
const FRAMES: u32 = 30;

/// Pictures of the sheet: at most this wide and high, so that noise is seen pixel by pixel.
const CROP: (usize, usize) = (400, 300);

/// Writes the contact sheet of one frame, and returns a table of PSNR-Y for people.
pub fn measure(
    clean: &Path,
    noisy: &Path,
    sheet: &Path,
    model: Option<&Path>,
) -> anyhow::Result<String> {
    let clean = read_y4m(clean)?;
    let noisy_frames = read_y4m(noisy)?;
    let shown = clean.len() / 2;
    let mut tiles = vec![
        (tile(&clean[shown]), "clean".to_owned()),
        (tile(&noisy_frames[shown]), caption("noisy", mean_psnr(&noisy_frames, &clean))),
    ];
    let mut table = String::from("alpha  PSNR-Y of the filtered clip, dB\n");
    for alpha in ALPHAS {
        println!("    alpha {alpha}");
        let mut scores = Vec::new();
        filter_frames(noisy, alpha, FRAMES, model, |index, picture| {
            let reference = clean.get(index).context("more frames than the clean clip has")?;
            scores.push(psnr(&picture.y, &reference.y, 255.0));
            if index == shown {
                tiles.push((tile(&picture), String::new()));
            }
            Ok(())
        })?;
        ensure!(scores.len() == clean.len(), "{} frames came out", scores.len());
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        writeln!(table, "{alpha:5.2}  {mean:.2}")?;
        if let Some((_, text)) = tiles.last_mut() {
            *text = caption(&format!("alpha {alpha}"), mean);
        }
    }
    let sheet_of_tiles =
        Sheet::new(4).title(format!("tunableconvfilter: one net, alpha from 0 to {STRONGEST}"));
    let sheet_of_tiles =
        tiles.into_iter().fold(sheet_of_tiles, |sheet, (image, text)| sheet.tile(image, text));
    sheet_of_tiles.save(sheet)?;
    Ok(table)
}

fn caption(name: &str, psnr: f64) -> String {
    format!("{name}, {psnr:.2} dB")
}

fn mean_psnr(pictures: &[Yuv420], references: &[Yuv420]) -> f64 {
    let scores = pictures.iter().zip(references).map(|(a, b)| psnr(&a.y, &b.y, 255.0));
    scores.sum::<f64>() / pictures.len() as f64
}

/// The first frames of a clip.
fn read_y4m(path: &Path) -> anyhow::Result<Vec<Yuv420>> {
    let name = || format!("cannot read {}", path.display());
    let mut clip = Clip::open(path).with_context(name)?;
    let mut pictures = Vec::new();
    while pictures.len() < FRAMES as usize {
        let Some(frame) = clip.next_frame().with_context(name)? else { break };
        pictures.push(frame.picture);
    }
    ensure!(!pictures.is_empty(), "{} holds no frame", path.display());
    Ok(pictures)
}

/// A part of a picture in its own resolution, above and left of the middle: in the project's own
/// clip that shows leaves, bark and a flat wall.
fn tile(picture: &Yuv420) -> RgbImage {
    let (width, height) = (CROP.0.min(picture.width), CROP.1.min(picture.height));
    let (x, y) = ((picture.width - width) / 8, (picture.height - height) / 8);
    picture.to_rgb(Matrix::Bt709, Range::Limited).crop(x, y, width, height).to_image()
}
