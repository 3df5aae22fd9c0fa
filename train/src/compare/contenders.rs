//! Who takes part, and what each changes of a task's recipe.

use anyhow::Context as _;
use toml::{Table, Value};

use super::Task;
use crate::recipe::Recipe;

/// A way to give a net a knob.
#[derive(Debug)]
pub struct Contender {
    /// Short, for commands and files.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// One line on how the knob works, with the source.
    pub about: &'static str,
    /// Which of the two.
    pub part: Part,
    /// How it comes to be.
    pub way: Way,
}

/// What a contender is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To be compared with ours.
    Rival,
    /// To see what of ours matters.
    Ablation,
}

/// How a contender comes to be.
#[derive(Debug)]
pub enum Way {
    /// Trained in one run, with these keys in place of the recipe's.
    Trained(&'static str),
    /// Trained for the base alone, as the oracle there; then this difference, for the other ends, on frozen kernels.
    TrainedTwice(&'static str),
    /// The outputs of the oracles of the corners, mixed.
    Blend,
}

use Part::{Ablation, Rival};
use Way::{Blend, Trained, TrainedTwice};

/// All of them: ours, its rivals, what is left out of ours in turn.
pub const CONTENDERS: [Contender; 23] = [
    Contender {
        name: "tunable",
        title: "tunable, kernel per corner",
        about: "every layer has a kernel for each corner of the domain",
        part: Rival,
        way: Trained(""),
    },
    Contender {
        name: "shared",
        title: "tunable upon a shared kernel",
        about: "a kernel that all corners share, and one for each that is added and begins at 0",
        part: Rival,
        way: Trained("control.difference = \"kernels\""),
    },
    Contender {
        name: "tunable-mlp2",
        title: "tunable, mlp, expand 2",
        about: "two kernels for each parameter, mixed by coefficients a = Wω + c that are learned",
        part: Rival,
        way: Trained("net.phi = { mode = \"mlp\", expand = 2 }"),
    },
    Contender {
        name: "blend",
        title: "output blend",
        about: "the outputs of the nets of all corners, mixed; as many nets run",
        part: Rival,
        way: Blend,
    },
    Contender {
        name: "dni",
        title: "DNI",
        about: "weights between those of nets that were fine-tuned from one (Wang et al., CVPR 2019)",
        part: Rival,
        way: TrainedTwice("kernels"),
    },
    Contender {
        name: "adafm",
        title: "AdaFM 1×1",
        about: "factors and biases for each channel, trained on frozen kernels (He, Dong, Qiao, CVPR 2019)",
        part: Rival,
        way: TrainedTwice("scales"),
    },
    Contender {
        name: "cfsnet",
        title: "CFSNet",
        about: "a second branch in each residual block, trained beside a frozen one, and coupled with it channel by \
                channel (Wang et al., ICCV 2019), at twice the cost of the blocks",
        part: Rival,
        way: TrainedTwice("branch"),
    },
    Contender {
        name: "film",
        title: "FiLM",
        about: "factors and biases for each channel that follow the tuning, as in You Only Train Once \
                (Dosovitskiy, Djolonga, ICLR 2020), here without hidden layers",
        part: Rival,
        way: Trained("control.difference = \"scales\""),
    },
    Contender {
        name: "cresmd",
        title: "CResMD",
        about: "factors for each channel on what is added, tunings from Beta(0.5, 1) (He, Dong, Qiao, ECCV 2020)",
        part: Rival,
        way: Trained(
            "control = { difference = \"gains\", layers = \"branches\" }\n\
             batch.tunings = { kind = \"beta\", a = 0.5, b = 1.0 }",
        ),
    },
    Contender {
        name: "low-rank",
        title: "low rank 4",
        about: "one kernel and a product of rank 4 for each corner, as PaLoRA (Dimitriadis et al., ICLR 2025)",
        part: Rival,
        way: Trained("control.difference = { low-rank = 4 }"),
    },
    Contender {
        name: "blind",
        title: "no knob",
        about: "one ordinary net for all tunings",
        part: Rival,
        way: Trained("control.difference = \"none\""),
    },
    Contender {
        name: "last-layer",
        title: "tunable in the last layer",
        about: "a kernel for each corner in the last layer alone",
        part: Ablation,
        way: Trained("control = { difference = \"kernels\", layers = \"last\" }"),
    },
    Contender {
        name: "tunable-linear",
        title: "tunable, linear",
        about: "a kernel for each parameter, mixed by ω itself: on a box nothing is left at ω = 0",
        part: Ablation,
        way: Trained("net.phi = { mode = \"linear\", expand = 1 }"),
    },
    Contender {
        name: "tunable-mlp1",
        title: "tunable, mlp, expand 1",
        about: "a kernel for each parameter, mixed by coefficients that are learned",
        part: Ablation,
        way: Trained("net.phi = { mode = \"mlp\", expand = 1 }"),
    },
    Contender {
        name: "tunable-mlp4",
        title: "tunable, mlp, expand 4",
        about: "four kernels for each parameter, mixed by coefficients that are learned",
        part: Ablation,
        way: Trained("net.phi = { mode = \"mlp\", expand = 4 }"),
    },
    Contender {
        name: "uniform",
        title: "tunable, tunings uniform",
        about: "as the first, trained at tunings from all over the domain alike",
        part: Ablation,
        way: Trained("batch.tunings = { kind = \"uniform\" }"),
    },
    Contender {
        name: "corners-only",
        title: "tunable, tunings of corners",
        about: "as the first, trained at the corners only",
        part: Ablation,
        way: Trained("batch.tunings = { kind = \"corner-boosted\", share = 1.0 }"),
    },
    Contender {
        name: "annealed",
        title: "tunable, tunings annealed",
        about: "as the first, trained at the corners at first, and more and more all over the domain",
        part: Ablation,
        way: Trained("batch.tunings = { kind = \"annealed\", from = 1.0, to = 0.0 }"),
    },
    Contender {
        name: "stratified",
        title: "tunable, tunings stratified",
        about: "as the first, every step trained at tunings from all parts of the domain (Latin hypercube)",
        part: Ablation,
        way: Trained("batch.tunings = { kind = \"stratified\" }"),
    },
    Contender {
        name: "alike",
        title: "tunable, kernels that begin alike",
        about: "as the first, but the kernels of all corners begin as one, to see what of a shared kernel that is",
        part: Ablation,
        way: Trained("control = { difference = \"kernels\", frozen = true }"),
    },
    Contender {
        name: "fast",
        title: "tunable, twice the learning rate",
        about: "as the first, with steps twice as large, to see the same",
        part: Ablation,
        way: Trained("optimiser.learning_rate = 3e-3"),
    },
    Contender {
        name: "alike-fast",
        title: "tunable, alike and twice the rate",
        about: "kernels that begin alike, and twice the learning rate",
        part: Ablation,
        way: Trained(
            "control = { difference = \"kernels\", frozen = true }\n\
             optimiser.learning_rate = 3e-3",
        ),
    },
    Contender {
        name: "absolute",
        title: "tunable, absolute errors",
        about: "as the first, with absolute instead of squared errors to the targets of the corners",
        part: Ablation,
        way: Trained(
            "objectives = [{ loss = { kind = \"corner-targets\", error = \"absolute\" } }]",
        ),
    },
];

/// What the oracle of a tuning is called.
#[must_use]
pub fn oracle_name(tuning: &[f64]) -> String {
    let values: Vec<String> = tuning.iter().map(ToString::to_string).collect();
    format!("oracle-{}", values.join("-"))
}

/// The recipe of the oracle of a tuning.
///
/// # Errors
/// None for the tunings of a task.
pub fn oracle(task: &Task, tuning: &[f64], seed: u64) -> anyhow::Result<Recipe> {
    let changes =
        format!("control.difference = \"none\"\n{}", fixed(std::slice::from_ref(&tuning)));
    with(task, &oracle_name(tuning), &changes, seed)
}

impl Contender {
    /// The one of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CONTENDERS.iter().find(|contender| contender.name == name)
    }

    /// Its recipe, of a contender that is trained.
    ///
    /// # Errors
    /// None for those there are.
    pub fn recipe(&self, task: &Task, seed: u64) -> anyhow::Result<Option<Recipe>> {
        let changes = match self.way {
            Blend => return Ok(None),
            Trained(changes) => changes.to_owned(),
            TrainedTwice(difference) => format!(
                "control = {{ difference = \"{difference}\", base = {:?}, frozen = true }}\n{}",
                task.base,
                fixed(task.others)
            ),
        };
        with(task, self.name, &changes, seed).map(Some)
    }

    /// Whether it can take part.
    #[must_use]
    pub fn fits(&self, task: &Task) -> bool {
        match self.name {
            // On a simplex the first one is mixed so.
            "tunable-linear" => task.name != "lifelike",
            // With one knob the first one is trained so.
            "uniform" => task.name == "corners",
            // Elsewhere there is only one target, or no corner targets.
            "absolute" => task.name == "corners",
            _ => true,
        }
    }
}

/// Keys of a recipe whose tunings are these.
fn fixed(tunings: &[&[f64]]) -> String {
    format!("batch.tunings = {{ kind = \"fixed\", values = {tunings:?} }}")
}

/// The recipe of a task with other keys and a name of its own.
fn with(task: &Task, name: &str, changes: &str, seed: u64) -> anyhow::Result<Recipe> {
    let mut table = task.table()?;
    let changes: Table = changes.parse().with_context(|| format!("contender `{name}`"))?;
    overlay(&mut table, changes);
    if control_of(&table) == Some("branch") {
        widen_blocks(&mut table);
    }
    table.insert("name".into(), format!("{}/{name}", task.name).into());
    table.insert("seed".into(), Value::Integer(i64::try_from(seed)?));
    Recipe::parse(&toml::to_string(&table)?).with_context(|| format!("contender `{name}`"))
}

/// What the differences of a recipe are, where that is one word.
fn control_of(table: &Table) -> Option<&str> {
    table.get("control")?.get("difference")?.as_str()
}

/// Makes room for a second branch in each residual block: twice the channels in the layer that opens it.
fn widen_blocks(table: &mut Table) {
    let layers = table.get_mut("net").and_then(|net| net.get_mut("layers"));
    let Some(layers) = layers.and_then(Value::as_array_mut) else { return };
    let is_added = |layer: &Value| layer.get("add").is_some();
    for index in 0..layers.len().saturating_sub(1) {
        if is_added(&layers[index + 1])
            && let Some(Value::Integer(channels)) = layers[index].get_mut("channels")
        {
            *channels *= 2;
        }
    }
}

/// Puts `changes` in the place of what is there; of tables key by key, but for those that have a `kind`.
fn overlay(table: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (table.get_mut(&key), change) {
            (Some(Value::Table(own)), Value::Table(change)) if !change.contains_key("kind") => {
                overlay(own, change);
            }
            (_, change) => {
                table.insert(key, change);
            }
        }
    }
}
