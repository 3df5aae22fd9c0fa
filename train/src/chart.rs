//! Line charts as SVG.

use anyhow::{Context as _, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Size of a panel in pixels.
const SIZE: (u32, u32) = (900, 460);
const FONT: &str = "sans-serif";
const FONT_SIZE: i32 = 13;
/// Where a legend begins, and the height of its lines, in pixels.
const LEGEND_TOP: i32 = 60;
const LEGEND_LINE: i32 = 20;
/// Told apart also by those who do not see all colours (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 90, 0),
];

/// A named line.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// x and y, in the order of x.
    pub points: Vec<(f64, f64)>,
}

/// One chart; several are drawn below each other.
pub struct Panel {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x_name: String,
    /// Beside it.
    pub y_name: String,
    /// From the seventh on dashed, as the colours begin anew.
    pub lines: Vec<Line>,
    /// What is outside, in x, is shaded.
    pub domain: Option<(f64, f64)>,
}

/// Draws panels over a light background.
///
/// # Errors
/// None that is known; the drawing library's.
pub fn draw(panels: &[Panel]) -> anyhow::Result<String> {
    let mut svg = String::new();
    paint(&mut svg, panels).map_err(|error| anyhow!("{error}")).with_context(|| {
        let titles: Vec<_> = panels.iter().map(|panel| panel.title.as_str()).collect();
        format!("cannot draw `{}`", titles.join("`, `"))
    })?;
    Ok(without_repetition(&svg))
}

/// The same drawing without attributes that are so anyway, with neighbouring lines of one kind, such as dashes, in one
/// path.
fn without_repetition(svg: &str) -> String {
    let svg = svg.replacen("<svg ", "<svg fill=\"none\" font-family=\"sans-serif\" ", 1);
    let (root, rest) = svg.split_at(svg.find('>').unwrap_or(0));
    let mut rest = rest.to_owned();
    for usual in [
        " opacity=\"1\"",
        " fill=\"none\"",
        " font-family=\"sans-serif\"",
        " stroke=\"none\"",
        " stroke-width=\"1\"",
    ] {
        rest = rest.replace(usual, "");
    }
    let mut drawing = root.to_owned();
    // Of the path that is open.
    let mut open = None;
    for line in rest.split_inclusive('\n') {
        let polyline = line.trim_end().strip_prefix("<polyline");
        let polyline = polyline.and_then(|line| line.strip_suffix(" \"/>"));
        let polyline = polyline.and_then(|line| line.split_once(" points=\""));
        let attributes = polyline.map(|(attributes, _)| attributes);
        if open.is_some() && open != attributes {
            drawing.push_str("\"/>\n");
        }
        if let Some((attributes, points)) = polyline {
            if open != Some(attributes) {
                drawing.push_str(&format!("<path{attributes} d=\""));
            }
            drawing.push('M');
            drawing.push_str(points);
        } else {
            drawing.push_str(line);
        }
        open = attributes;
    }
    drawing
}

type Drawing<T> = Result<T, Box<dyn std::error::Error>>;

fn paint(svg: &mut String, panels: &[Panel]) -> Drawing<()> {
    let (width, height) = SIZE;
    let root = SVGBackend::with_string(svg, (width, height * panels.len() as u32));
    let root = root.into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(root.split_evenly((panels.len(), 1))) {
        paint_panel(&area, panel)?;
    }
    root.present()?;
    Ok(())
}

fn paint_panel(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel) -> Drawing<()> {
    let Panel { title, x_name, y_name, lines, domain } = panel;
    let longest = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let (area, legend) = area.split_horizontally(SIZE.0 - 40 - 7 * longest.min(40) as u32);
    paint_legend(&legend, lines)?;
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

    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(left..right, bottom..top)?;
    if let Some((from, to)) = *domain {
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
        .label_style((FONT, FONT_SIZE))
        .axis_desc_style((FONT, 14))
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let style = colour(index).stroke_width(2);
        let points = line.points.iter().copied();
        if is_dashed(index) {
            chart.draw_series(DashedLineSeries::new(points.clone(), 12, 6, style))?;
        } else {
            chart.draw_series(LineSeries::new(points.clone(), style))?;
        }
        // Dots on many points would hide the line.
        if line.points.len() <= 20 {
            chart.draw_series(points.map(|point| Circle::new(point, 3, colour(index).filled())))?;
        }
    }
    Ok(())
}

/// A name beside a stroke of its line, from the top down.
fn paint_legend(area: &DrawingArea<SVGBackend<'_>, Shift>, lines: &[Line]) -> Drawing<()> {
    for (index, line) in lines.iter().enumerate() {
        let y = LEGEND_TOP + LEGEND_LINE * index as i32;
        // Two strokes where the line is dashed.
        let strokes = if is_dashed(index) { vec![(0, 7), (11, 18)] } else { vec![(0, 18)] };
        for (from, to) in strokes {
            area.draw(&PathElement::new([(from, y), (to, y)], colour(index).stroke_width(2)))?;
        }
        let style = (FONT, FONT_SIZE).into_font().color(&BLACK);
        area.draw(&Text::new(line.name.clone(), (24, y - FONT_SIZE / 2), style))?;
    }
    Ok(())
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

fn is_dashed(index: usize) -> bool {
    index >= COLOURS.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(lines: usize) -> Panel {
        let line = |index: usize| Line {
            name: format!("line {index}"),
            points: (0..30).map(|x| (f64::from(x), f64::from(x) * index as f64)).collect(),
        };
        Panel {
            title: "t".into(),
            x_name: "x".into(),
            y_name: "y".into(),
            lines: (0..lines).map(line).collect(),
            domain: None,
        }
    }

    #[test]
    fn panels_stand_below_each_other_and_every_line_is_told_apart() {
        let one = draw(&[panel(1)]).unwrap();
        assert!(one.contains("height=\"460\""));
        let two = draw(&[panel(8), panel(1)]).unwrap();
        assert!(two.contains("height=\"920\""));
        assert!((0..8).all(|index| two.contains(&format!("line {index}"))));
    }

    #[test]
    fn no_point_and_no_colour_is_lost_with_what_is_repeated() {
        let svg = "<svg width=\"9\">\n\
                   <polyline fill=\"none\" stroke=\"#1\" points=\"1,2 3,4 \"/>\n\
                   <polyline fill=\"none\" stroke=\"#1\" points=\"5,6 7,8 \"/>\n\
                   <polyline fill=\"none\" stroke=\"#2\" points=\"9,9 8,8 \"/>\n\
                   <circle r=\"3\" stroke=\"none\"/>\n\
                   <polyline stroke=\"#2\" points=\"1,1 2,2 \"/>\n</svg>\n";
        let wanted = "<svg fill=\"none\" font-family=\"sans-serif\" width=\"9\">\n\
                      <path stroke=\"#1\" d=\"M1,2 3,4M5,6 7,8\"/>\n\
                      <path stroke=\"#2\" d=\"M9,9 8,8\"/>\n\
                      <circle r=\"3\"/>\n\
                      <path stroke=\"#2\" d=\"M1,1 2,2\"/>\n</svg>\n";
        assert_eq!(without_repetition(svg), wanted);
    }
}
