//! Tables and curves of what a comparison came to.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use tunableconv::atomic_file;

use super::contenders::oracle_name;
use super::measure::SIDE;
use super::{CONTENDERS, Contender, Outcome, Part, Point, Results, TASKS, Task};
use crate::chart::{Line, Panel, draw};

/// The frame that folding is set against, in pixels.
const FRAME: f64 = 640.0 * 360.0;

/// What the losses at a point are told by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// PSNR: more is better.
    Decibel,
    /// What is minimised: less is better.
    Loss,
}

impl Unit {
    fn of(task: &Task) -> anyhow::Result<Self> {
        Ok(if task.recipe()?.has_corner_targets() { Self::Decibel } else { Self::Loss })
    }

    fn value(self, point: &Point) -> f64 {
        match self {
            Self::Decibel => point.psnr,
            Self::Loss => point.loss,
        }
    }

    /// How much worse than the oracle: in dB, or in percent of its loss.
    fn gap(self, own: &Point, oracle: &Point) -> f64 {
        match self {
            Self::Decibel => oracle.psnr - own.psnr,
            Self::Loss => 100.0 * (own.loss / oracle.loss - 1.0),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Decibel => "dB",
            Self::Loss => "%",
        }
    }
}

/// Writes `path` and, into the folder `results` beside it, the curves; from the results that lie there.
///
/// # Errors
/// Results that cannot be read; a failed write.
pub fn report(results: &Path, path: &Path) -> anyhow::Result<()> {
    let folder = results.file_name().context("the results are in no folder")?.to_string_lossy();
    let together = results.parent().unwrap_or(Path::new(""));
    ensure!(
        together == path.parent().unwrap_or(Path::new("")),
        "{} does not lie beside {}, to which it would link",
        path.display(),
        results.display()
    );
    let mut text = String::from(INTRODUCTION);
    for task in &TASKS {
        let all = Results::read(&results.join(format!("{}.jsonl", task.name)))?;
        if all.outcomes().is_empty() {
            continue;
        }
        let section = Section { task, all: &all, unit: Unit::of(task)? };
        write!(text, "\n{}", section.text(&folder)?)?;
        let curves = results.join(format!("{}.svg", task.name));
        let svg = draw(&section.panels())?;
        atomic_file::write::<anyhow::Error>(&curves, |file| {
            Ok(std::io::Write::write_all(file, svg.as_bytes())?)
        })?;
        let reading = results.join(format!("{}.md", task.name));
        if reading.exists() {
            let told =
                std::fs::read_to_string(&reading).with_context(|| reading.display().to_string())?;
            write!(text, "\n{}\n", told.trim())?;
        }
    }
    atomic_file::write::<anyhow::Error>(path, |file| {
        Ok(std::io::Write::write_all(file, text.as_bytes())?)
    })
}

const INTRODUCTION: &str = "# Tunable convolutions and their rivals\n\n\
    The same net, pictures, number of steps and seeds for every way to give a net a knob. What they cost once folded is \
    the same for all but the output blend, which runs a net for each corner, and CFSNet, whose blocks have two branches. *Gap*: what is missing to a fixed net of \
    the same size, steps and seed that was trained for that tuning alone (the *oracle*). Mean over the seeds, with half \
    of the distance between the best and the worst.\n\n\
    This page is made by `tunableconv-train compare --report`; [recipes.md](recipes.md#compare) says how to run it.\n";

struct Section<'a> {
    task: &'static Task,
    all: &'a Results,
    unit: Unit,
}

impl Section<'_> {
    fn text(&self, folder: &str) -> anyhow::Result<String> {
        let Self { task, unit, .. } = *self;
        let recipe = task.recipe()?;
        let mut text = format!("## {}\n\n{}\n\n", task.title, task.about);
        let seeds = self.seeds();
        let any = self.all.outcomes().first().context("no outcome")?;
        // Some are trained twice.
        let steps = self.all.outcomes().iter().map(|outcome| outcome.steps).min();
        writeln!(
            text,
            "{}, {:.1} kMAC a pixel, {} steps of {} crops of {}×{}; measured on {} crops of {SIDE}×{SIDE}; seeds {}.\n",
            recipe.net.describe(),
            recipe.net.macs() / 1e3,
            steps.unwrap_or_default(),
            recipe.batch.micro_batches * recipe.batch.size,
            recipe.batch.crop,
            recipe.batch.crop,
            any.pictures,
            seeds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        )?;
        let names: Vec<String> =
            recipe.tuning.parameters.iter().map(|parameter| parameter.name.clone()).collect();
        let what = match unit {
            Unit::Decibel => "PSNR-Y to what is wanted there, in dB, from black to white",
            Unit::Loss => "What is minimised there",
        };
        writeln!(text, "{what}, at {}:\n", names.join(", "))?;
        let values =
            |tuning: &[f64]| tuning.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let heads: Vec<String> = task.points.iter().map(|point| values(point)).collect();
        writeln!(text, "| | {} |", heads.join(" | "))?;
        writeln!(text, "|---|{}", "--:|".repeat(heads.len()))?;
        let oracles = (0..task.points.len()).map(|index| {
            let own = self.of(&oracle_name(task.points[index]));
            spread(own.iter().map(|outcome| unit.value(&outcome.points[index])), digits(unit))
        });
        writeln!(text, "| oracles | {} |", oracles.collect::<Vec<_>>().join(" | "))?;
        for contender in self.contenders() {
            let own = self.of(contender.name);
            let at = (0..task.points.len()).map(|index| {
                spread(own.iter().map(|outcome| unit.value(&outcome.points[index])), digits(unit))
            });
            let cells = at.collect::<Vec<_>>().join(" | ");
            writeln!(text, "| {} | {cells} |", contender.title)?;
        }
        if unit == Unit::Loss {
            text += &self.losses()?;
        }
        text += &self.costs()?;
        write!(text, "\n![Gap to the oracles]({folder}/{}.svg)\n", task.name)?;
        text += "\nWho takes part:\n\n";
        for contender in self.contenders() {
            writeln!(
                text,
                "- **{}** (`{}`): {}.",
                contender.title, contender.name, contender.about
            )?;
        }
        Ok(text)
    }

    /// Each loss by itself at both ends.
    fn losses(&self) -> anyhow::Result<String> {
        let Some(first) = self.all.outcomes().first() else { return Ok(String::new()) };
        let names: Vec<&String> = first.points[0].losses.keys().collect();
        let ends = [0, self.task.points.len() - 1];
        let mut text =
            String::from("\nEach loss by itself, at the first and at the last of these:\n\n| |");
        for name in &names {
            write!(text, " `{name}` | |")?;
        }
        writeln!(text, "\n|---|{}", "--:|".repeat(2 * names.len()))?;
        for contender in self.contenders() {
            write!(text, "| {} |", contender.title)?;
            for name in &names {
                for end in ends {
                    let own = self.of(contender.name);
                    let losses = own.iter().map(|outcome| outcome.points[end].losses[*name]);
                    write!(text, " {} |", spread(losses, 4))?;
                }
            }
            text += "\n";
        }
        Ok(text)
    }

    fn costs(&self) -> anyhow::Result<String> {
        let unit = self.unit;
        let mut text = format!(
            "\n| | mean gap, {0} | largest gap, {0} | monotone | smooth | trained numbers | steps | minutes | kMAC a pixel | folding |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            unit.name()
        );
        for contender in self.contenders() {
            let own = self.of(contender.name);
            let Some(first) = own.first() else { continue };
            let gaps = own.iter().filter_map(|outcome| self.gaps(outcome));
            let gaps: Vec<Vec<f64>> = gaps.collect();
            let mean = |gaps: &Vec<f64>| gaps.iter().sum::<f64>() / gaps.len() as f64;
            let largest = |gaps: &Vec<f64>| gaps.iter().copied().fold(f64::MIN, f64::max);
            let mut control = [monotone, smooth].map(|of| {
                let each = own.iter().map(|outcome| of(&outcome.response));
                spread(each, 2)
            });
            let mut folding = format!("{:.3} %", 100.0 * first.folding / (first.macs * FRAME));
            // A net without a knob does not answer, and is folded once for all.
            if first.response.iter().all(|distance| *distance < 0.01) {
                control = ["–", "–"].map(str::to_owned);
                folding = "–".into();
            }
            writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {folding} |",
                contender.title,
                spread(gaps.iter().map(mean), 2),
                spread(gaps.iter().map(largest), 2),
                control[0],
                control[1],
                first.trained,
                first.steps,
                spread(own.iter().filter_map(|outcome| Some(outcome.seconds? / 60.0)), 1),
                first.macs / 1e3,
            )?;
        }
        text += "\nMonotone: rank correlation of the knob, moved along its way in eleven steps, with how far the output is \
                 from that at the beginning (1 is best). Smooth: the largest second difference of that distance, of \
                 the whole (0 is a straight line). Minutes: of training, on the machine that the reading below names. Folding: multiplications to mix all kernels anew, of those of a \
                 frame of 640×360.\n";
        text += &self.rates();
        Ok(text)
    }

    /// The learning rates, where they were chosen.
    fn rates(&self) -> String {
        let of = |name: &str, title: &str| {
            let own = self.of(name);
            let rates = own.iter().filter_map(|outcome| outcome.learning_rate);
            let mut rates: Vec<_> = rates.map(|rate| format!("{rate:e}")).collect();
            rates.dedup();
            (!rates.is_empty()).then(|| format!("{title} {}", rates.join(" and ")))
        };
        let oracles = self.task.points.iter().map(|point| oracle_name(point));
        let oracles = oracles.filter_map(|name| of(&name, &name));
        let all: Vec<_> =
            oracles.chain(self.contenders().filter_map(|c| of(c.name, c.title))).collect();
        if all.is_empty() {
            return String::new();
        }
        let mut text = format!("\nLearning rates, chosen on other pictures: {}.", all.join("; "));
        text += &self.rates_at_an_end();
        text + "\n"
    }

    /// How many of the chosen rates may be too small, or too large, for all that was tried.
    fn rates_at_an_end(&self) -> String {
        let rates: Vec<f64> =
            self.all.outcomes().iter().filter_map(|outcome| outcome.learning_rate).collect();
        let end = |of: fn(f64, f64) -> f64| rates.iter().copied().reduce(of);
        let (Some(least), Some(most)) = (end(f64::min), end(f64::max)) else {
            return String::new();
        };
        let count = |end: f64| rates.iter().filter(|rate| **rate == end).count();
        if least == most {
            return String::new();
        }
        format!(
            " {} of these {} runs have the largest of them and {} the smallest: to those one beyond may suit better.",
            count(most),
            rates.len(),
            count(least)
        )
    }

    /// To the oracles of the same seed, at every point.
    fn gaps(&self, outcome: &Outcome) -> Option<Vec<f64>> {
        let points = self.task.points.iter().enumerate();
        let gap = |(index, tuning): (usize, &&[f64])| {
            let oracle = self.all.get(&oracle_name(tuning), outcome.seed)?;
            Some(self.unit.gap(&outcome.points[index], &oracle.points[index]))
        };
        points.map(gap).collect()
    }

    /// Gaps along the points, for rivals and for ablations.
    fn panels(&self) -> Vec<Panel> {
        let panel = |part: Part, title: &str| {
            let shown = self
                .contenders()
                .filter(|contender| contender.part == part || contender.name == CONTENDERS[0].name);
            let line = |contender: &Contender| {
                let own = self.of(contender.name);
                let gaps: Vec<Vec<f64>> =
                    own.iter().filter_map(|outcome| self.gaps(outcome)).collect();
                let mean = |index: usize| {
                    gaps.iter().map(|gaps| gaps[index]).sum::<f64>() / gaps.len() as f64
                };
                let x = |index: usize| match self.task.points[index] {
                    [value] => *value,
                    [_, value] if self.unit == Unit::Loss => *value,
                    _ => (index + 1) as f64,
                };
                let points = (0..self.task.points.len()).filter(|_| !gaps.is_empty());
                Line {
                    name: contender.title.into(),
                    points: points.map(|index| (x(index), mean(index))).collect(),
                }
            };
            let x_name = match self.task.points[0] {
                [_] => "value of the knob",
                _ if self.unit == Unit::Loss => "share of the second parameter",
                _ => "points, in the order of the table",
            };
            Panel {
                title: format!("{}: {title}", self.task.title),
                x_name: x_name.into(),
                y_name: format!("gap to the oracle, {}", self.unit.name()),
                lines: shown.map(line).filter(|line| !line.points.is_empty()).collect(),
                domain: None,
            }
        };
        [panel(Part::Rival, "rivals"), panel(Part::Ablation, "what matters of it")]
            .into_iter()
            .filter(|panel| panel.lines.len() > 1)
            .collect()
    }

    /// Those that have been measured.
    fn contenders(&self) -> impl Iterator<Item = &'static Contender> {
        CONTENDERS.iter().filter(|contender| !self.of(contender.name).is_empty())
    }

    fn of(&self, name: &str) -> Vec<&Outcome> {
        self.all.outcomes().iter().filter(|outcome| outcome.contender == name).collect()
    }

    fn seeds(&self) -> Vec<u64> {
        let mut seeds: Vec<u64> = self.all.outcomes().iter().map(|outcome| outcome.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds
    }
}

fn digits(unit: Unit) -> usize {
    match unit {
        Unit::Decibel => 2,
        Unit::Loss => 3,
    }
}

/// Mean, and half of the distance between the least and the largest where there are several.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let values: Vec<f64> = values.collect();
    if values.is_empty() {
        return "–".into();
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    match values.len() {
        1 => format!("{mean:.digits$}"),
        _ => format!("{mean:.digits$} ± {:.digits$}", 0.5 * (most - least)),
    }
}

/// Spearman's rank correlation of a response with where it is on its way.
fn monotone(response: &[f64]) -> f64 {
    let rank = |value: f64| {
        let below = response.iter().filter(|other| **other < value).count();
        let same = response.iter().filter(|other| **other == value).count();
        below as f64 + 0.5 * (same as f64 - 1.0)
    };
    let middle = 0.5 * (response.len() as f64 - 1.0);
    let (mut both, mut own, mut place) = (0.0, 0.0, 0.0);
    for (index, value) in response.iter().enumerate() {
        let (a, b) = (rank(*value) - middle, index as f64 - middle);
        both += a * b;
        own += a * a;
        place += b * b;
    }
    if own == 0.0 { 0.0 } else { both / (own * place).sqrt() }
}

/// Largest second difference of a response over its range.
fn smooth(response: &[f64]) -> f64 {
    let most = response.iter().copied().fold(f64::MIN, f64::max);
    let least = response.iter().copied().fold(f64::MAX, f64::min);
    let bend = |w: &[f64]| (w[0] - 2.0 * w[1] + w[2]).abs();
    let largest = response.windows(3).map(bend).fold(0.0, f64::max);
    if most > least { largest / (most - least) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_judged_by_order_and_by_bends() {
        assert!((monotone(&[0.0, 1.0, 4.0, 9.0]) - 1.0).abs() < 1e-12);
        assert!((monotone(&[3.0, 2.0, 1.0]) + 1.0).abs() < 1e-12);
        assert!(monotone(&[0.0, 2.0, 1.0, 3.0]) < 0.9);
        assert_eq!(monotone(&[1.0, 1.0, 1.0]), 0.0);
        assert_eq!(smooth(&[0.0, 1.0, 2.0, 3.0]), 0.0);
        assert_eq!(smooth(&[0.0, 0.0, 4.0]), 1.0);
        assert_eq!(spread([1.0, 2.0].into_iter(), 1), "1.5 ± 0.5");
        assert_eq!(spread([1.25].into_iter(), 2), "1.25");
        assert_eq!(spread(std::iter::empty(), 2), "–");
    }
}
