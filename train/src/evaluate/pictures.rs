//! The report's contact sheet: some images by some tunings.

use std::path::PathBuf;

use tunableconv::engine::Engine;

use super::points::{Place, points};
use crate::metrics::psnr;
use crate::rgb::Rgb;
use crate::score::{Conditions, MATRIX, RANGE, filter};
use crate::sheet::Sheet;
use crate::yuv::Yuv420;

/// Images shown, evenly spaced through the folder.
const IMAGES: usize = 4;

/// Tunings shown at most, beside the input and the clean picture.
const TUNINGS: usize = 6;

/// Side of a tile in pixels.
const SIDE: usize = 240;

/// Middles of images degraded by `conditions`: clean, input, the corners that change it, the centre.
pub fn sheet(
    engine: &mut dyn Engine,
    paths: &[PathBuf],
    conditions: Conditions,
) -> anyhow::Result<Sheet> {
    let space = engine.metadata().tuning.clone();
    let mut tunings = Vec::new();
    for place in [Place::Centre, Place::Corner] {
        for point in points(&space).into_iter().filter(|point| point.place == place) {
            let tuning = space.tuning(&point.tuning)?;
            engine.set_tuning(&tuning)?;
            if !engine.is_identity() {
                tunings.push(tuning);
            }
        }
    }
    tunings.truncate(TUNINGS);
    let title = |tuning: &tunableconv::tuning::Tuning| {
        let named = space.parameters.iter().zip(tuning.values());
        let parts: Vec<String> =
            named.map(|(p, v)| format!("{} {}", p.name, (v * 100.0).round() / 100.0)).collect();
        parts.join("  ")
    };
    let Conditions { noise, blur, .. } = conditions;
    let titles = ["clean".into(), format!("input: {}", super::markdown::condition(noise, blur))];
    let mut sheet = Sheet::new(2 + tunings.len())
        .title(format!("{}: PSNR-Y towards the clean picture", engine.metadata().provenance.recipe))
        .column_titles(titles.into_iter().chain(tunings.iter().map(title)));

    // Broken images were warned of when they were measured.
    let usable: Vec<usize> = (0..paths.len()).filter(|&i| Rgb::load(&paths[i]).is_ok()).collect();
    let shown = usable.len().min(IMAGES);
    for index in (0..shown).map(|k| usable[k * usable.len() / shown]) {
        let image = Rgb::load(&paths[index])?;
        let (width, height) = (image.width.min(SIDE), image.height.min(SIDE));
        let image =
            image.crop((image.width - width) / 2, (image.height - height) / 2, width, height);
        let reference = conditions.reference(&image, index);
        let degraded = conditions.degraded(&image, index);
        let show = |picture: &Yuv420| picture.to_rgb(MATRIX, RANGE).to_image();
        let quality = |picture: &Yuv420| {
            let db = psnr(&picture.y, &reference.y, 255.0);
            if db.is_finite() { format!("{db:.2} dB") } else { "identical".into() }
        };
        let name = paths[index].file_stem().unwrap_or_default().to_string_lossy();
        sheet = sheet.tile(show(&reference), name).tile(show(&degraded), quality(&degraded));
        for tuning in &tunings {
            engine.set_tuning(tuning)?;
            let filtered = filter(engine, &degraded)?;
            sheet = sheet.tile(show(&filtered), quality(&filtered));
        }
    }
    Ok(sheet)
}
