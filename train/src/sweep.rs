//! A labelled contact sheet of one image over the tuning domain.

use tunableconv::engine::Engine;
use tunableconv::tuning::{Domain, Parameter, TuningSpace};

use crate::condition::Condition;
use crate::metrics::psnr;
use crate::score::filter;
use crate::sheet::Sheet;
use crate::test_set::TestPicture;
use crate::yuv::{Matrix, Range, Yuv420};

const COLUMNS: usize = 5;

/// Filters `picture` under `condition` over the domain: the first parameter from column to column, the second (if any)
/// from row to row, the others at 0 or as near to it as they go. On a simplex, the first parameter gives way to each other.
/// Above, the clean and the degraded image.
///
/// # Errors
/// A failing engine.
///
/// # Panics
/// If the condition is recorded and the picture is no pair.
pub fn sweep(
    engine: &mut dyn Engine,
    title: &str,
    picture: &TestPicture,
    condition: &Condition,
) -> anyhow::Result<Sheet> {
    let degraded = picture.degraded(condition, 0);
    let (reference, unfiltered) = (picture.reference(), picture.unfiltered(&degraded));
    let quality = |picture: &Yuv420| {
        let db = psnr(&picture.y, &reference.y, 255.0);
        if db.is_finite() { format!("{db:.2} dB") } else { "identical".into() }
    };
    let show = |picture: &Yuv420| picture.to_rgb(Matrix::Bt601, Range::Limited).to_image();

    let mut sheet = Sheet::new(COLUMNS)
        .title(title)
        .tile(show(&reference), "reference")
        .tile(show(&unfiltered), format!("input  {}", quality(&unfiltered)));
    // The tunings begin on a row of their own.
    for _ in 2..COLUMNS {
        sheet = sheet.gap();
    }
    let space = engine.metadata().tuning.clone();
    for values in grid(&space) {
        let tuning = space.tuning(&values)?;
        engine.set_tuning(&tuning)?;
        let filtered = filter(engine, &degraded)?;
        // Two of them change at most; of a simplex, those that the output is mixed from.
        let is_shown = |value: f64| space.domain == Domain::Box || value > 0.0;
        let names = space.parameters.iter().zip(&values).filter(|(_, v)| is_shown(**v)).take(2);
        let caption: Vec<String> = names.map(|(p, v)| format!("{} {v:.2}", p.name)).collect();
        let caption = format!("{}  {}", caption.join(" "), quality(&filtered));
        sheet = sheet.tile(show(&filtered), caption);
    }
    Ok(sheet)
}

/// Tunings to show, row by row of [`COLUMNS`].
fn grid(space: &TuningSpace) -> Vec<Vec<f64>> {
    let p = space.len();
    let steps = |count: usize| (0..count).map(move |i| i as f64 / (count - 1) as f64);
    let at = |j: usize, t: f64| {
        let parameter = &space.parameters[j];
        parameter.minimum + t * (parameter.maximum - parameter.minimum)
    };
    let mut tunings = Vec::new();
    match space.domain {
        Domain::Box if p == 0 => tunings.push(vec![]),
        Domain::Box => {
            let nearest_to_0 =
                |parameter: &Parameter| 0f64.clamp(parameter.minimum, parameter.maximum);
            let rest: Vec<f64> = space.parameters.iter().map(nearest_to_0).collect();
            let rows: Vec<f64> = if p > 1 { steps(3).collect() } else { vec![0.0] };
            for row in rows {
                for column in steps(COLUMNS) {
                    let mut values = rest.clone();
                    values[0] = at(0, column);
                    if p > 1 {
                        values[1] = at(1, row);
                    }
                    tunings.push(values);
                }
            }
        }
        Domain::Simplex => {
            for other in 1..p {
                for t in steps(COLUMNS) {
                    let mut values = vec![0.0; p];
                    (values[0], values[other]) = (1.0 - t, t);
                    tunings.push(values);
                }
            }
        }
    }
    tunings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(ranges: &[(f64, f64)]) -> TuningSpace {
        let parameter = |(at, &(minimum, maximum)): (usize, &(f64, f64))| Parameter {
            name: format!("p{at}"),
            nick: String::new(),
            blurb: String::new(),
            minimum,
            maximum,
            default: minimum,
            objective: String::new(),
        };
        let parameters = ranges.iter().enumerate().map(parameter).collect();
        TuningSpace { domain: Domain::Box, parameters }
    }

    #[test]
    fn knobs_that_are_not_swept_stay_in_their_range() {
        assert_eq!(grid(&space(&[])), [vec![0.0; 0]]);
        let shown = grid(&space(&[(0.0, 1.0), (0.0, 1.0), (0.5, 1.0), (-2.0, -1.0), (-1.0, 1.0)]));
        assert_eq!(shown.len(), 3 * COLUMNS);
        assert!(shown.iter().all(|values| values[2..] == [0.5, -1.0, 0.0]), "{shown:?}");
    }
}
