//! Tunable convolutions against the other ways to give a net a knob: the same net, pictures, steps and seeds.
//!
//! A *task* is a recipe and where to measure; a *contender* is what it changes of the recipe. An *oracle* is a fixed
//! net that was trained for one tuning alone: what a contender is short of it there is its *gap*. Each may have the
//! learning rate that suits it best, which is chosen on pictures of their own. Each run is
//! measured on test pictures as soon as it is done, and leaves one line in the task's results, so that a comparison
//! goes on where it was stopped, on another day or another machine.

mod choice;
mod contenders;
mod measure;
mod report;
mod results;
mod runner;
mod tasks;

pub use choice::Rates;
pub use contenders::{CONTENDERS, Contender, Part, Way, oracle_name};
pub use report::report;
pub use results::{Outcome, Point, Results};
pub use runner::{Progress, Runner, Settings};
pub use tasks::{TASKS, Task};
