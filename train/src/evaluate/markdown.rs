//! `report.md`.

use std::fmt::Write as _;

use super::Report;
use super::points::{Place, label};
use super::quality::{ConditionReport, Numbers};
use crate::inspect::describe_set;

/// The whole report.
pub fn render(report: &Report) -> String {
    let from = &report.provenance;
    let mut md = format!("# Evaluation of {}\n\n", file_name(&report.checkpoint));
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(md, "| {name} | {} |", value.replace('|', "\\|"));
    };
    line("what", "value".into());
    line("---", "---".into());
    line("net", report.net.clone());
    line("domain", format!("{:?}", report.tuning.domain).to_lowercase());
    for (parameter, undoes) in report.tuning.parameters.iter().zip(&report.undoes) {
        let undoes = match undoes.is_empty() {
            true => String::new(),
            false => format!("; undoes {}", undoes.join(", ")),
        };
        let p = parameter;
        let range = format!("{} to {}, default {}", p.minimum, p.maximum, p.default);
        line(&format!("parameter `{}`", p.name), format!("{range}: {}{undoes}", p.objective));
    }
    line("recipe", format!("{}, seed {}, {} steps", from.recipe, from.seed, from.steps));
    for set in &from.data {
        line("trained on", describe_set(set));
    }
    line("made by", format!("tunableconv-train {}", from.crate_version));
    line("engine", report.engine.clone());
    line("tested on", format!("{}: {} images", file_name(&report.data), report.images));
    line("skipped", format!("{} files", report.skipped));

    md += "\n## Protocol\n\n\
        Clean image → the degradations named, in this order, in RGB (blur: 21×21, σ in pixels; noise: σ of \
        255) → BT.601 limited-range 4:2:0, 8 bit → engine. The *clean* columns compare with the clean picture through \
        the same conversion; *own target* is, at a corner, the picture with the degradations that this \
        corner leaves alone. PSNR in dB, peak 255, averaged over the images, an identical picture \
        counting as 100 dB; at its *own level* every picture has the knobs where they say how strong its \
        degradation is; UV is both chroma planes together; SSIM is of luma, at most 1. The best of \
        a column is **bold**.\n";
    for condition in &report.conditions {
        quality(&mut md, report, condition);
    }
    control(&mut md, report);
    flicker(&mut md, report);
    md += "\n## Pictures\n\n![Clean, input and filtered crops](sheet.png)\n";
    md
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A column: its name, decimals, and whether more is better.
type Column = (&'static str, usize, bool, fn(&Numbers) -> Option<f64>);

const COLUMNS: [Column; 4] = [
    ("PSNR-Y [dB]", 2, true, |n| Some(n.scores.psnr_y)),
    ("PSNR-UV [dB]", 2, true, |n| Some(n.scores.psnr_uv)),
    ("SSIM-Y", 4, true, |n| Some(n.scores.ssim_y)),
    ("LPIPS (low is good)", 4, false, |n| n.lpips),
];

fn quality(md: &mut String, report: &Report, of: &ConditionReport) {
    let with_lpips = of.input.lpips.is_some();
    let columns =
        || COLUMNS.iter().filter(move |(name, ..)| with_lpips || !name.starts_with("LPIPS"));
    let has_own = of.points.iter().any(|point| point.own.is_some());
    let _ = write!(md, "\n## Quality: {}\n\n| place | tuning |", of.condition.label());
    for (name, ..) in columns() {
        let _ = write!(md, " {name} |");
    }
    md.push_str(if has_own { " own target: PSNR-Y [dB] | SSIM-Y |\n" } else { "\n" });
    md.push_str("|---|---|");
    md.push_str(&"--:|".repeat(columns().count() + if has_own { 2 } else { 0 }));
    md.push('\n');

    let mut row = |place: &str, tuning: &str, clean: &Numbers, own: Option<&Numbers>| {
        let _ = write!(md, "| {place} | {tuning} |");
        for (_, decimals, more, value) in columns() {
            let shown = value(clean).map(|v| format!("{v:.decimals$}")).unwrap_or_default();
            let points = of.points.iter().map(|point| &point.clean);
            let all = points.chain(of.told.iter().map(|told| &told.clean)).filter_map(value);
            let best = if *more { all.reduce(f64::max) } else { all.reduce(f64::min) };
            let is_best = best.is_some_and(|best| shown == format!("{best:.decimals$}"));
            let identical = clean.identical == report.images && *decimals == 2;
            let shown = if identical { "identical".into() } else { shown };
            let _ = if is_best { write!(md, " **{shown}** |") } else { write!(md, " {shown} |") };
        }
        if has_own {
            let identical = own.is_some_and(|own| own.identical == report.images);
            let psnr = own.map(|own| format!("{:.2}", own.scores.psnr_y)).unwrap_or_default();
            let psnr = if identical { "identical".into() } else { psnr };
            let ssim = own.map(|own| format!("{:.4}", own.scores.ssim_y)).unwrap_or_default();
            let _ = write!(md, " {psnr} | {ssim} |");
        }
        md.push('\n');
    };
    row("input", "not filtered", &of.input, None);
    for point in &of.points {
        let place = match point.place {
            Place::Corner => "corner",
            Place::Edge => "edge",
            Place::Centre => "centre",
        };
        let mut tuning = label(&report.tuning, &point.tuning);
        if point.identity {
            tuning += " (passed through)";
        }
        row(place, &tuning, &point.clean, point.own.as_ref());
    }
    for told in &of.told {
        let place = match told.factor == 1.0 {
            true => "own level".to_owned(),
            false => format!("own level × {}", told.factor),
        };
        row(&place, &label(&report.tuning, &told.tuning), &told.clean, None);
    }
}

fn control(md: &mut String, report: &Report) {
    if report.control.is_empty() {
        return;
    }
    md.push_str(
        "\n## Control\n\n\
        Each parameter over 11 evenly spaced values, the others at 0 (on a simplex: sharing the rest), \
        towards the target where it is on. *Rank correlation* is Spearman's, of the parameter with \
        PSNR-Y, that is with −loss: 1 is monotone control (−1 with the loss itself). *Bend* is the \
        largest second difference of PSNR-Y between neighbouring values: 0 is a straight response. \
        *−0.1* and *1.1* lie a tenth of the way outside the domain; *rises on* says whether PSNR-Y \
        never falls from one to the other, *finite* whether the net's own output is.\n\n\
        | parameter | condition | rank correlation | bend [dB] | −0.1 [dB] | 0 [dB] | 1 [dB] | 1.1 [dB] | rises on | finite |\n\
        |---|---|--:|--:|--:|--:|--:|--:|---|---|\n",
    );
    let yes = |b: bool| if b { "yes" } else { "no" };
    for c in &report.control {
        let rank = c.rank_correlation.map_or("flat".into(), |r| format!("{r:.3}"));
        let db: Vec<String> = [0, 1, c.psnr_y.len() - 2, c.psnr_y.len() - 1]
            .map(|i| {
                if c.psnr_y[i] == 100.0 {
                    "identical".into()
                } else {
                    format!("{:.2}", c.psnr_y[i])
                }
            })
            .into();
        let _ = writeln!(
            md,
            "| {} | {} | {rank} | {:.2} | {} | {} | {} |",
            c.parameter,
            c.condition.label(),
            c.second_difference,
            db.join(" | "),
            yes(c.rises_beyond),
            yes(c.finite_beyond),
        );
    }
    md.push('\n');
    for p in &report.tuning.parameters {
        if report.control.iter().any(|c| c.parameter == p.name) {
            let _ = writeln!(md, "![Response to {0}](response-{0}.svg)", p.name);
        }
    }
}

fn flicker(md: &mut String, report: &Report) {
    let Some(clip) = &report.clip else { return };
    let _ = write!(
        md,
        "\n## Flicker\n\n\
        On {}, which should be a clean clip, as noise that is removed counts: mean absolute difference from frame to frame of what the filter changes (output − input, \
        luma), in code values of 255. 0 for a static scene at a fixed tuning; motion that input and \
        output share drops out. *Moving*: the parameter goes from 0 to 1 over the clip; *fixed*: it \
        stays at 0.5; the others at 0. Their difference may be negative where the parameter does less on the \
        way than at 0.5.\n\n\
        | parameter | moving | fixed | added by moving |\n|---|--:|--:|--:|\n",
        file_name(clip)
    );
    for f in &report.flicker {
        let _ =
            writeln!(md, "| {} | {:.3} | {:.3} | {:+.3} |", f.parameter, f.ramp, f.fixed, f.added);
    }
    md.push('\n');
    for f in &report.flicker {
        let _ = writeln!(md, "![Flicker with {0}](flicker-{0}.svg)", f.parameter);
    }
}
