//! What a run says while it trains: a bar on a terminal, a line per logged step elsewhere.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::run_dir::Metrics;
use crate::tell;

/// Where a run stands, on stderr.
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: u64,
    first: u64,
    begin: Instant,
    /// Whether the time that is left was told.
    told: Cell<bool>,
}

/// When it is told at the latest.
const SOON: Duration = Duration::from_secs(5);

impl Progress {
    /// Of the steps from `first` to `steps`.
    #[must_use]
    pub fn new(name: &str, first: u64, steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(name, first, steps));
        Self { bar, steps, first, begin: Instant::now(), told: Cell::new(false) }
    }

    /// Tells of a logged step.
    pub fn tell(&self, metrics: &Metrics, is_best: bool) {
        let psnr = metrics.psnr_db.map_or(String::new(), |psnr| format!("  {psnr:.2} dB"));
        let training = format!("loss {:.4}{psnr}", metrics.loss);
        let validation = metrics.validation.as_ref().map(|measured| {
            let best = if is_best { ", the best so far" } else { "" };
            format!("validation loss {:.4}  {:.2} dB{best}", measured.loss, measured.psnr_y())
        });
        match &self.bar {
            Some(bar) => {
                bar.set_message(training);
                if let Some(validation) = validation {
                    bar.println(format!("step {}: {validation}", metrics.step));
                }
            }
            None => {
                let pace = self.pace(metrics.step);
                let validation = validation.map_or(String::new(), |text| format!("  {text}"));
                tell!("step {} of {}  {training}{validation}  {pace}", metrics.step, self.steps);
            }
        }
        self.told.set(true);
    }

    /// How fast it goes, and how much time is left.
    fn pace(&self, step: u64) -> String {
        let taken = (step - self.first) as f64;
        let seconds = self.begin.elapsed().as_secs_f64();
        let left = (self.steps - step) as f64 * seconds / taken.max(1.0);
        let left = HumanDuration(Duration::from_secs_f64(left));
        format!("{:.1} steps/s  {left:#} left", taken / seconds.max(f64::MIN_POSITIVE))
    }

    /// Shows the step that was just taken.
    pub fn set(&self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        } else if !self.told.get() && self.begin.elapsed() >= SOON {
            tell!("step {step} of {}  {}", self.steps, self.pace(step));
            self.told.set(true);
        }
    }

    /// Leaves the bar as it is.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

fn bar(name: &str, first: u64, steps: u64) -> ProgressBar {
    let style = "{prefix} {wide_bar} {pos}/{len}  {msg}  {per_sec}  ETA {eta}";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(steps).with_style(style).with_prefix(name.to_owned());
    bar.set_position(first);
    bar.reset_eta();
    bar
}
