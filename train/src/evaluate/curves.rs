//! Response and flicker curves as SVG.

use super::Report;
use super::flicker::Flicker;
use super::quality::Control;
use crate::chart::{Line, Panel, draw};

/// PSNR-Y along a parameter, one line per condition; `None` where it was not swept.
pub fn response(report: &Report, parameter: &str) -> anyhow::Result<Option<String>> {
    let swept: Vec<&Control> = report.control.iter().filter(|c| c.parameter == parameter).collect();
    if swept.is_empty() {
        return Ok(None);
    }
    let line = |c: &&Control| Line {
        name: c.condition.label(),
        points: c.way.iter().copied().zip(c.psnr_y.iter().copied()).collect(),
    };
    let panel = Panel {
        title: format!("Response to {parameter}"),
        x_name: format!("{parameter}, from its minimum (0) to its maximum (1)"),
        y_name: "PSNR-Y towards its target [dB]".into(),
        lines: swept.iter().map(line).collect(),
        domain: Some((0.0, 1.0)),
    };
    draw(&[panel]).map(Some)
}

/// Flicker from frame to frame.
pub fn flicker(flicker: &Flicker) -> anyhow::Result<String> {
    let line = |name: String, values: &[f64]| Line {
        name,
        points: values.iter().enumerate().map(|(i, v)| ((i + 1) as f64, *v)).collect(),
    };
    let panel = Panel {
        title: format!("Flicker with {}", flicker.parameter),
        x_name: "frame".into(),
        y_name: "flicker [code values of luma]".into(),
        lines: vec![
            line(format!("{} moving from 0 to 1", flicker.parameter), &flicker.ramp_frames),
            line(format!("{} fixed at 0.5", flicker.parameter), &flicker.fixed_frames),
        ],
        domain: None,
    };
    draw(&[panel])
}
