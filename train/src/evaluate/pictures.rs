//! The report's contact sheet: some images by some tunings.

use tunableconv::engine::Engine;

use super::points::{Place, points};
use crate::condition::Condition;
use crate::metrics::psnr;
use crate::rgb::Rgb;
use crate::score::{MATRIX, RANGE, filter};
use crate::sheet::Sheet;
use crate::test_set::{TestPicture, TestSet};
use crate::yuv::Yuv420;

/// Images shown, evenly spaced through the folder.
const IMAGES: usize = 4;

/// Tunings shown at most, beside the input and the clean picture.
const TUNINGS: usize = 6;

/// Side of a tile in pixels.
const SIDE: usize = 240;

/// Middles of images under `condition`: clean, input, the corners that change it, the centre.
pub fn sheet(
    engine: &mut dyn Engine,
    set: &TestSet,
    condition: &Condition,
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
    let titles = ["clean".into(), format!("input: {}", condition.label())];
    let mut sheet = Sheet::new(2 + tunings.len())
        .title(format!("{}: PSNR-Y towards the clean picture", engine.metadata().provenance.recipe))
        .column_titles(titles.into_iter().chain(tunings.iter().map(title)));

    // Broken images were warned of when they were measured.
    let usable: Vec<usize> = (0..set.len()).filter(|&index| set.load(index).is_ok()).collect();
    let shown = usable.len().min(IMAGES);
    for index in (0..shown).map(|k| usable[k * usable.len() / shown]) {
        let whole = set.load(index)?;
        let side = |side: usize| side.min(SIDE) / whole.scale * whole.scale;
        let (width, height) = (side(whole.clean.width), side(whole.clean.height));
        // Even places keep the pairs of pixels that share chroma.
        let grid = 2 * whole.scale;
        let place = |whole: usize, part: usize| (whole - part) / 2 / grid * grid;
        let (x, y) = (place(whole.clean.width, width), place(whole.clean.height, height));
        let crop = |picture: &Rgb| picture.crop(x, y, width, height);
        let picture = TestPicture {
            clean: crop(&whole.clean),
            scale: whole.scale,
            twin: whole.twin.as_ref().map(crop),
            name: whole.name,
            folders: whole.folders,
        };
        let reference = picture.reference();
        let degraded = picture.degraded(condition, index);
        let unfiltered = picture.unfiltered(&degraded);
        let show = |picture: &Yuv420| picture.to_rgb(MATRIX, RANGE).to_image();
        let quality = |picture: &Yuv420| {
            let db = psnr(&picture.y, &reference.y, 255.0);
            if db.is_finite() { format!("{db:.2} dB") } else { "identical".into() }
        };
        sheet = sheet
            .tile(show(&reference), picture.name)
            .tile(show(&unfiltered), quality(&unfiltered));
        for tuning in &tunings {
            engine.set_tuning(tuning)?;
            let filtered = filter(engine, &degraded)?;
            sheet = sheet.tile(show(&filtered), quality(&filtered));
        }
    }
    Ok(sheet)
}
