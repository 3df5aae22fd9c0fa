//! Response and flicker curves as SVG.

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;

use super::flicker::Flicker;
use super::quality::Control;
use super::{Report, markdown};

const SIZE: (u32, u32) = (760, 460);
const FONT: &str = "sans-serif";
/// Told apart also by those who do not see all colours (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 90, 0),
];

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// PSNR-Y along a parameter, one line per condition; `None` where it was not swept.
pub fn response(report: &Report, parameter: &str) -> anyhow::Result<Option<String>> {
    let swept: Vec<&Control> = report.control.iter().filter(|c| c.parameter == parameter).collect();
    if swept.is_empty() {
        return Ok(None);
    }
    let lines: Vec<Line> = swept
        .iter()
        .map(|c| Line {
            name: markdown::condition(c.noise, c.blur),
            points: c.way.iter().copied().zip(c.psnr_y.iter().copied()).collect(),
        })
        .collect();
    let title = format!("Response to {parameter}");
    let x = format!("{parameter}, from its minimum (0) to its maximum (1)");
    draw(&title, &x, "PSNR-Y towards its target [dB]", &lines, Some((0.0, 1.0))).map(Some)
}

/// Flicker from frame to frame.
pub fn flicker(flicker: &Flicker) -> anyhow::Result<String> {
    let line = |name: String, values: &[f64]| Line {
        name,
        points: values.iter().enumerate().map(|(i, v)| ((i + 1) as f64, *v)).collect(),
    };
    let lines = [
        line(format!("{} moving from 0 to 1", flicker.parameter), &flicker.ramp_frames),
        line(format!("{} fixed at 0.5", flicker.parameter), &flicker.fixed_frames),
    ];
    let title = format!("Flicker with {}", flicker.parameter);
    draw(&title, "frame", "flicker [code values of luma]", &lines, None)
}

/// Draws lines over a light background; what is outside `domain` is shaded.
fn draw(
    title: &str,
    x_name: &str,
    y_name: &str,
    lines: &[Line],
    domain: Option<(f64, f64)>,
) -> anyhow::Result<String> {
    let mut svg = String::new();
    paint(&mut svg, title, x_name, y_name, lines, domain)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("cannot draw `{title}`"))?;
    Ok(svg)
}

fn paint(
    svg: &mut String,
    title: &str,
    x_name: &str,
    y_name: &str,
    lines: &[Line],
    domain: Option<(f64, f64)>,
) -> Result<(), Box<dyn std::error::Error>> {
    let all = || lines.iter().flat_map(|line| &line.points);
    let low = |f: fn(&(f64, f64)) -> f64| all().map(f).fold(f64::INFINITY, f64::min);
    let high = |f: fn(&(f64, f64)) -> f64| all().map(f).fold(f64::NEG_INFINITY, f64::max);
    let (left, mut right) = (low(|p| p.0), high(|p| p.0));
    let (bottom, top) = (low(|p| p.1), high(|p| p.1));
    if left == right {
        right += 1.0;
    }
    let margin = if top > bottom { 0.06 * (top - bottom) } else { 0.05 };
    // What is never negative has no axis below 0.
    let floor = if bottom >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
    let (bottom, top) = ((bottom - margin).max(floor), top + margin);

    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(left..right, bottom..top)?;
    if let Some((from, to)) = domain {
        for (a, b) in [(left, from), (to, right)] {
            let shade = RGBColor(238, 238, 238).filled();
            chart.draw_series([Rectangle::new([(a, bottom), (b, top)], shade)])?;
        }
    }
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(215, 215, 215))
        .x_labels(13)
        .y_labels(9)
        .x_label_formatter(&|v| format!("{}", (v * 10.0).round() / 10.0))
        .y_label_formatter(&|v| match top - bottom {
            span if span < 0.2 => format!("{v:.3}"),
            span if span < 2.0 => format!("{v:.2}"),
            _ => format!("{v:.1}"),
        })
        .x_desc(x_name)
        .y_desc(y_name)
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 14))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        let points = line.points.iter().copied();
        chart
            .draw_series(LineSeries::new(points.clone(), style))?
            .label(line.name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        // Dots on many frames would hide the line.
        if line.points.len() <= 20 {
            chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(190, 190, 190))
        .label_font((FONT, 13))
        .draw()?;
    root.present()?;
    Ok(())
}
