//! Tuning parameters, their domain, and validated tunings.
//!
//! A *tuning* ω has one entry per parameter. It lives in a *domain*: a box (every entry in its own
//! range) or the simplex (non-negative entries that sum to 1).

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// More parameters than any published tunable net has; bounds what a checkpoint may ask for.
pub const MAX_PARAMETERS: usize = 16;

/// Names that parameters cannot have in the element, whose other properties have them.
pub const RESERVED_NAMES: [&str; 17] = [
    "auto-level",
    "compare",
    "cuda-device-id",
    "device",
    "keyframes",
    "message",
    "model",
    "name",
    "noise-level",
    "overload",
    "parent",
    "post-messages",
    "precision",
    "qos",
    "stats",
    "threads",
    "tile-size",
];

/// How far the sum of a simplex tuning may be from 1.
const SIMPLEX_TOLERANCE: f64 = 1e-4;

/// One tuning parameter, described for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Lower-case identifier, `[a-z][a-z0-9-]*`.
    pub name: String,
    /// Short human-readable name.
    pub nick: String,
    /// One sentence on what turning it up does.
    pub blurb: String,
    /// Smallest value.
    pub minimum: f64,
    /// Largest value.
    pub maximum: f64,
    /// Value when nobody sets one.
    pub default: f64,
    /// What the net is asked for where this parameter is at its maximum.
    pub objective: String,
}

/// The set that tunings are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Every entry is free in its `[minimum, maximum]`.
    Box,
    /// Entries are ≥ 0 and sum to 1.
    Simplex,
}

/// The parameters of a net together with their domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningSpace {
    /// Box or simplex.
    pub domain: Domain,
    /// In the order of the tuning's entries.
    pub parameters: Vec<Parameter>,
}

/// Largest magnitude of a parameter's minimum and maximum.
pub const MAX_BOUND: f64 = 1e6;

/// A validated tuning ω; made by [`TuningSpace`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// Entries, then zeros.
    values: [f32; MAX_PARAMETERS],
    len: usize,
}

impl Tuning {
    fn new(entries: impl ExactSizeIterator<Item = f32>) -> Self {
        let mut tuning = Self { values: [0.0; MAX_PARAMETERS], len: entries.len() };
        tuning.values[..tuning.len].iter_mut().zip(entries).for_each(|(to, v)| *to = v);
        tuning
    }

    /// The entries, one per parameter.
    pub fn values(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl TuningSpace {
    /// Number of parameters p.
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Whether there are no parameters: an ordinary net.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// Checks names, ranges and defaults.
    ///
    /// # Errors
    /// [`Error::Parameter`] naming the first parameter at fault; [`Error::Config`] for too many, or a simplex of
    /// none.
    pub fn validate(&self) -> Result<()> {
        self.check_count()?;
        if self.is_empty() && self.domain == Domain::Simplex {
            return Err(Error::Config("a simplex of 0 tuning parameters".into()));
        }
        for (index, parameter) in self.parameters.iter().enumerate() {
            let fail =
                |reason: String| Err(Error::Parameter { name: parameter.name.clone(), reason });
            let mut letters = parameter.name.chars();
            if !letters.next().is_some_and(|c| c.is_ascii_lowercase())
                || !letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            {
                return fail("a name is a lower-case letter, then letters, digits or `-`".into());
            }
            if self.parameters[..index].iter().any(|other| other.name == parameter.name) {
                return fail("the name is used twice".into());
            }
            let Parameter { minimum, maximum, default, .. } = *parameter;
            let bounded = minimum.abs().max(maximum.abs()) <= MAX_BOUND;
            if !(bounded && minimum < maximum) {
                return fail(format!(
                    "range {minimum}..={maximum}, expected one that is not empty and within \
                     ±{MAX_BOUND}"
                ));
            }
            if !(minimum..=maximum).contains(&default) {
                return fail(format!("default {default} is outside {minimum}..={maximum}"));
            }
            if self.domain == Domain::Simplex && (minimum, maximum) != (0.0, 1.0) {
                return fail(format!("range {minimum}..={maximum} on a simplex, expected 0..=1"));
            }
        }
        self.default_tuning().map(drop)
    }

    /// A tuning from one value per parameter.
    ///
    /// # Errors
    /// [`Error::TuningLen`], [`Error::TuningRange`] (also for NaN) or [`Error::TuningSum`].
    pub fn tuning(&self, values: &[f64]) -> Result<Tuning> {
        self.check_len(values)?;
        for (parameter, &value) in self.parameters.iter().zip(values) {
            if !(parameter.minimum..=parameter.maximum).contains(&value) {
                return Err(range_error(parameter, value));
            }
        }
        let sum: f64 = values.iter().sum();
        if self.domain == Domain::Simplex && (sum - 1.0).abs() > SIMPLEX_TOLERANCE {
            return Err(Error::TuningSum { sum });
        }
        Ok(Tuning::new(values.iter().map(|&v| v as f32)))
    }

    /// A tuning from weights: on a simplex divided by their sum (all zero: the defaults), in a box
    /// taken as they are.
    ///
    /// # Errors
    /// As [`TuningSpace::tuning`].
    pub fn tuning_from_weights(&self, weights: &[f64]) -> Result<Tuning> {
        self.check_len(weights)?;
        let sum: f64 = weights.iter().sum();
        match self.domain {
            Domain::Box => self.tuning(weights),
            Domain::Simplex if sum == 0.0 => self.default_tuning(),
            Domain::Simplex => {
                let mut normalised = [0.0; MAX_PARAMETERS];
                let normalised = &mut normalised[..weights.len()];
                normalised.iter_mut().zip(weights).for_each(|(to, w)| *to = w / sum);
                self.tuning(normalised)
            }
        }
    }

    /// A tuning from `(name, value)` pairs; parameters not named are 0.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::Parameter`] where one is named twice, or as
    /// [`TuningSpace::tuning`].
    pub fn tuning_from_names(&self, named: &[(String, f64)]) -> Result<Tuning> {
        let mut values = vec![0.0; self.len()];
        for (number, (name, value)) in named.iter().enumerate() {
            if named[..number].iter().any(|(other, _)| other == name) {
                let reason = "it is given twice".into();
                return Err(Error::Parameter { name: name.clone(), reason });
            }
            let index = self.parameters.iter().position(|p| &p.name == name).ok_or_else(|| {
                Error::UnknownParameter { name: name.clone(), names: self.names() }
            })?;
            values[index] = *value;
        }
        self.tuning(&values)
    }

    /// The tuning of every parameter's default.
    ///
    /// # Errors
    /// [`Error::TuningSum`] when the defaults are not on the simplex.
    pub fn default_tuning(&self) -> Result<Tuning> {
        let defaults: Vec<f64> = self.parameters.iter().map(|p| p.default).collect();
        self.tuning(&defaults)
    }

    /// Number of corners of the domain: 2^p of a box, p of a simplex.
    pub fn corner_count(&self) -> usize {
        match self.domain {
            Domain::Box => 1 << self.len(),
            Domain::Simplex => self.len(),
        }
    }

    /// Weight of each of [`TuningSpace::corners`] in the mixture of them that ω is: ω itself in the simplex.
    ///
    /// # Panics
    /// Unless `omega` has a value for each parameter and `weights` one for each corner of the simplex.
    pub fn corner_weights(&self, omega: &[f32], weights: &mut [f32]) {
        match self.domain {
            Domain::Simplex => weights.copy_from_slice(omega),
            Domain::Box => {
                let mut unit = [0.0; MAX_PARAMETERS];
                for ((unit, p), o) in unit.iter_mut().zip(&self.parameters).zip(omega) {
                    *unit = ((f64::from(*o) - p.minimum) / (p.maximum - p.minimum)) as f32;
                }
                corner_weights(&unit[..omega.len()], weights);
            }
        }
    }

    /// The corners of the domain. Corner c of a box has parameter j at its maximum where bit j of c
    /// is set and at its minimum elsewhere; corner c of a simplex has all weight on parameter c.
    ///
    /// # Panics
    /// If the space is not valid.
    pub fn corners(&self) -> impl Iterator<Item = Tuning> + '_ {
        (0..self.corner_count()).map(|corner| {
            let at_maximum = |j: usize| match self.domain {
                Domain::Box => corner >> j & 1 == 1,
                Domain::Simplex => corner == j,
            };
            let value = |(j, p): (usize, &Parameter)| {
                if at_maximum(j) { p.maximum as f32 } else { p.minimum as f32 }
            };
            Tuning::new(self.parameters.iter().enumerate().map(value))
        })
    }

    /// A tuning that may leave the domain, for studying extrapolation; only finiteness is checked.
    ///
    /// # Errors
    /// [`Error::TuningLen`], or [`Error::TuningRange`] for an entry that is not finite.
    pub fn extrapolated_tuning(&self, values: &[f64]) -> Result<Tuning> {
        self.check_len(values)?;
        for (parameter, &value) in self.parameters.iter().zip(values) {
            if !value.is_finite() {
                return Err(range_error(parameter, value));
            }
        }
        Ok(Tuning::new(values.iter().map(|&v| v as f32)))
    }

    /// The parameters' names, for messages.
    pub fn names(&self) -> String {
        if self.is_empty() {
            return "none".into();
        }
        let names: Vec<&str> = self.parameters.iter().map(|p| p.name.as_str()).collect();
        names.join(", ")
    }

    fn check_count(&self) -> Result<()> {
        if self.len() <= MAX_PARAMETERS {
            return Ok(());
        }
        let count = self.len();
        Err(Error::Config(format!("{count} tuning parameters, expected at most {MAX_PARAMETERS}")))
    }

    fn check_len(&self, values: &[f64]) -> Result<()> {
        self.check_count()?;
        if values.len() == self.len() {
            return Ok(());
        }
        Err(Error::TuningLen { expected: self.len(), got: values.len(), names: self.names() })
    }
}

fn range_error(parameter: &Parameter, value: f64) -> Error {
    Error::TuningRange {
        name: parameter.name.clone(),
        value,
        minimum: parameter.minimum,
        maximum: parameter.maximum,
    }
}

/// Weight of each corner of the unit box at a point of it:
/// `a_c = Π_j (ω_j if corner c has bit j, else 1 − ω_j)`.
pub fn corner_weights(omega: &[f32], a: &mut [f32]) {
    for (corner, a) in a.iter_mut().enumerate() {
        let side = |(j, &o): (usize, &f32)| if corner >> j & 1 == 1 { o } else { 1.0 - o };
        *a = omega.iter().enumerate().map(side).product();
    }
}
