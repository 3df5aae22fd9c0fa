//! The metrics log as curves.

use crate::chart::{Line, Panel, draw};

use super::metrics::{Column, VAL_LOSS, VAL_PSNR};

/// Most points of a line: more would be more than its pixels.
const POINTS: usize = 1000;

/// Name of the line of training crops, whose PSNR counts from black to white, where that of pictures counts all codes.
const TRAINING: &str = "training, random tunings, from black to white";

/// Losses above, PSNR below: of training crops at random tunings, and of validation pictures.
///
/// # Errors
/// None that is known.
pub fn draw_columns(title: &str, columns: &[Column]) -> anyhow::Result<String> {
    let line = |name: &str, shown: &str| {
        let (_, points) = columns.iter().find(|(column, _)| column == name)?;
        let stride = points.len().div_ceil(POINTS).max(1);
        let points: Vec<_> = points.iter().rev().step_by(stride).rev().copied().collect();
        (!points.is_empty()).then(|| Line { name: shown.into(), points })
    };
    let panel = |title: String, y_name: &str, lines: Vec<Line>| Panel {
        title,
        x_name: "step".into(),
        y_name: y_name.into(),
        lines,
        domain: None,
    };
    let loss = line("loss", "training").into_iter().chain(line(VAL_LOSS, "validation")).collect();
    let mut psnr: Vec<Line> = line("psnr_db", TRAINING).into_iter().collect();
    for (name, _) in columns {
        let point = name.strip_prefix(VAL_PSNR).and_then(|rest| rest.strip_prefix(' '));
        psnr.extend(point.and_then(|point| line(name, &format!("validation, {point}"))));
    }
    let mut panels = vec![panel(title.into(), "loss", loss)];
    if !psnr.is_empty() {
        panels.push(panel("Towards the target".into(), "PSNR-Y [dB]", psnr));
    }
    draw(&panels)
}
