//! What is compared on.

use anyhow::Context as _;

use crate::recipe::Recipe;

/// A recipe, and the tunings that matter in it.
#[derive(Debug)]
pub struct Task {
    /// Of its recipe, too.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// A paragraph for people.
    pub about: &'static str,
    recipe: &'static str,
    /// The corner where nets begin that are trained twice.
    pub base: &'static [f64],
    /// What those are trained for then.
    pub others: &'static [&'static [f64]],
    /// Where all are measured; for each there is an oracle.
    pub points: &'static [&'static [f64]],
    /// The two ends of the way along which the knob is moved.
    pub way: [&'static [f64]; 2],
}

/// All of them.
pub const TASKS: [Task; 4] = [
    Task {
        name: "noise",
        title: "How strong is the noise?",
        about: "One knob names the strength of Gaussian noise, from 0 to 50 of 255; the target is the clean picture. \
                At each value the noise is as strong as it says.",
        recipe: include_str!("../../comparisons/noise.toml"),
        base: &[1.0],
        others: &[&[0.1]],
        points: &[&[0.1], &[0.2], &[0.3], &[0.5], &[0.75], &[1.0]],
        way: [&[0.0], &[1.0]],
    },
    Task {
        name: "levels",
        title: "How strong is the noise, how strong the blur?",
        about: "Two knobs name the strengths of a blur, up to 2 pixels, and of the noise upon it, up to 30 of 255; the \
                target is the clean picture. At each setting both are as strong as it says.",
        recipe: include_str!("../../comparisons/levels.toml"),
        base: &[1.0, 1.0],
        others: &[&[0.1, 0.1], &[1.0, 0.1], &[0.1, 1.0]],
        points: &[&[0.5, 0.0], &[0.0, 0.5], &[0.2, 0.5], &[0.5, 0.5], &[0.5, 1.0], &[1.0, 1.0]],
        way: [&[0.0, 0.0], &[1.0, 1.0]],
    },
    Task {
        name: "corners",
        title: "How much of the noise, how much of the blur?",
        about: "Two knobs say how much of the noise and of the blur of a picture is taken away, whatever their \
                strength: four targets at the corners, their mean (as squared errors have it) between them.",
        recipe: include_str!("../../comparisons/corners.toml"),
        base: &[1.0, 1.0],
        others: &[&[0.0, 0.0], &[1.0, 0.0], &[0.0, 1.0]],
        points: &[&[1.0, 0.0], &[0.0, 1.0], &[1.0, 1.0], &[0.5, 0.5], &[0.25, 0.75], &[0.75, 0.25]],
        way: [&[0.0, 0.0], &[1.0, 1.0]],
    },
    Task {
        name: "lifelike",
        title: "Accurate or lifelike?",
        about: "One knob between two losses that are not of one kind, on pictures of one blur and one noise: least \
                absolute error, and features of SqueezeNet 1.1.",
        recipe: include_str!("../../comparisons/lifelike.toml"),
        base: &[1.0, 0.0],
        others: &[&[0.0, 1.0]],
        points: &[&[1.0, 0.0], &[0.75, 0.25], &[0.5, 0.5], &[0.25, 0.75], &[0.0, 1.0]],
        way: [&[1.0, 0.0], &[0.0, 1.0]],
    },
];

impl Task {
    /// The recipe's text.
    ///
    /// # Errors
    /// None for those there are.
    pub fn table(&self) -> anyhow::Result<toml::Table> {
        self.recipe.parse().with_context(|| format!("comparison `{}`", self.name))
    }

    /// The recipe.
    ///
    /// # Errors
    /// None for those there are.
    pub fn recipe(&self) -> anyhow::Result<Recipe> {
        Recipe::parse(self.recipe).with_context(|| format!("comparison `{}`", self.name))
    }
}
