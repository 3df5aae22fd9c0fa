//! Knobs, the properties that stand for tuning parameters, and the tuning that their values mean to
//! a model.

use tunableconv::Result;
use tunableconv::tuning::{Domain, MAX_PARAMETERS, Parameter, Tuning, TuningSpace};

/// Knobs of `tunableconvfilter`: the first, second, … tuning parameter of whichever model it loads.
pub const UNIT_NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// One property that turns a tuning parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Knob {
    /// Name of the property.
    pub name: String,
    /// Short name for people.
    pub nick: String,
    /// What turning it up does.
    pub blurb: String,
    /// Smallest value.
    pub minimum: f64,
    /// Largest value.
    pub maximum: f64,
    /// Value when nobody sets one.
    pub default: f64,
}

/// What the values of knobs are in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// 0 for the parameter's minimum, 1 for its maximum.
    Unit,
    /// The parameter's own.
    Parameter,
}

/// Values of an element's knobs; `None` for one that was never set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knobs {
    /// What they are in.
    pub scale: Scale,
    /// In the order of the properties.
    pub values: [Option<f64>; MAX_PARAMETERS],
}

impl Knobs {
    /// None of them set.
    pub fn unset(scale: Scale) -> Self {
        Self { scale, values: [None; MAX_PARAMETERS] }
    }

    /// These, with the value of one more.
    pub fn with(mut self, value: Option<(usize, f64)>) -> Self {
        if let Some((index, value)) = value {
            self.values[index] = Some(value);
        }
        self
    }

    /// The tuning these values mean: unset ones stand at the parameter's default. On a simplex they
    /// are weights, divided by their sum; with two parameters there is one knob t, and
    /// ω = (1 − t, t). Values beyond the range by rounding, as GObject and the curves of control
    /// sources give them, are those of its ends.
    ///
    /// # Errors
    /// As [`TuningSpace::tuning_from_weights`].
    pub fn tuning(&self, space: &TuningSpace) -> Result<Tuning> {
        if is_line(space) {
            let t = self.values[0].unwrap_or(space.parameters[1].default).clamp(0.0, 1.0);
            return space.tuning(&[1.0 - t, t]);
        }
        let mut weights = [0.0; MAX_PARAMETERS];
        for ((weight, parameter), value) in
            weights.iter_mut().zip(&space.parameters).zip(self.values)
        {
            let Parameter { minimum, maximum, default, .. } = *parameter;
            let value = match (value, self.scale) {
                (None, _) => default,
                (Some(value), Scale::Parameter) => value,
                (Some(value), Scale::Unit) => minimum + value * (maximum - minimum),
            };
            *weight = value.clamp(minimum, maximum);
        }
        space.tuning_from_weights(&weights[..space.len().min(MAX_PARAMETERS)])
    }

    /// Indices of the knobs that were turned up although the model has no parameter for them. Hosts
    /// that save and load all properties set them to 0, where they stand by themselves.
    pub fn without_parameter(&self, space: &TuningSpace) -> impl Iterator<Item = usize> + use<> {
        let (values, used) = (self.values, used_knobs(space));
        let is_up = move |index: &usize| values[*index].is_some_and(|value| value != 0.0);
        (used..MAX_PARAMETERS).filter(is_up)
    }
}

/// The knobs with the parameters' own names and ranges.
pub fn parameter_knobs(space: &TuningSpace) -> Vec<Knob> {
    let knob = |index| {
        let Parameter { name, nick, blurb, minimum, maximum, default, .. } =
            turned_parameter(space, index);
        let blurb = match is_line(space) {
            false => blurb.clone(),
            true => {
                format!("From `{}` at 0 to `{name}` at 1; {blurb}", space.parameters[0].name)
            }
        };
        let (name, nick) = (name.clone(), nick.clone());
        Knob { name, nick, blurb, minimum: *minimum, maximum: *maximum, default: *default }
    };
    (0..used_knobs(space)).map(knob).collect()
}

/// The knobs [`UNIT_NAMES`]; defaults and blurbs tell what they are in the model of this space.
pub fn unit_knobs(space: &TuningSpace) -> Vec<Knob> {
    let defaults = unit_defaults(space);
    let knob = |(index, name): (usize, &&str)| {
        let ordinal = ["First", "Second", "Third", "Fourth"][index];
        let what = if index < used_knobs(space) {
            let parameter = turned_parameter(space, index);
            format!("in the built-in model `{}`: {}", parameter.name, parameter.blurb)
        } else {
            "not used by the built-in model".into()
        };
        Knob {
            name: (*name).into(),
            nick: format!("{ordinal} parameter"),
            blurb: format!(
                "{ordinal} tuning parameter of the model, 0 for its minimum, 1 for its maximum; \
                 {what}"
            ),
            minimum: 0.0,
            maximum: 1.0,
            default: defaults[index],
        }
    };
    UNIT_NAMES.iter().enumerate().map(knob).collect()
}

/// What knobs stand at that were never set, in the scale of the knobs.
pub fn defaults(space: &TuningSpace, scale: Scale) -> [f64; MAX_PARAMETERS] {
    match scale {
        Scale::Unit => unit_defaults(space),
        Scale::Parameter => {
            let mut defaults = [0.0; MAX_PARAMETERS];
            for (index, knob) in defaults.iter_mut().enumerate().take(used_knobs(space)) {
                *knob = turned_parameter(space, index).default;
            }
            defaults
        }
    }
}

fn unit_defaults(space: &TuningSpace) -> [f64; MAX_PARAMETERS] {
    let mut defaults = [0.0; MAX_PARAMETERS];
    for (index, knob) in defaults.iter_mut().enumerate().take(used_knobs(space)) {
        let Parameter { minimum, maximum, default, .. } = *turned_parameter(space, index);
        *knob = ((default - minimum) / (maximum - minimum)).clamp(0.0, 1.0);
    }
    defaults
}

/// The parameter that turning up a knob turns up.
///
/// # Panics
/// If the model does not use this knob.
fn turned_parameter(space: &TuningSpace, index: usize) -> &Parameter {
    &space.parameters[if is_line(space) { 1 } else { index }]
}

/// How many knobs, from the first, the model uses.
fn used_knobs(space: &TuningSpace) -> usize {
    if is_line(space) { 1 } else { space.len() }
}

fn is_line(space: &TuningSpace) -> bool {
    space.domain == Domain::Simplex && space.len() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(domain: Domain, ranges: &[(f64, f64, f64)]) -> TuningSpace {
        let parameter = |(index, &(minimum, maximum, default)): (usize, &(f64, f64, f64))| {
            let name = format!("p{index}");
            let (nick, blurb, objective) = (name.clone(), name.clone(), name.clone());
            Parameter { name, nick, blurb, minimum, maximum, default, objective }
        };
        let space =
            TuningSpace { domain, parameters: ranges.iter().enumerate().map(parameter).collect() };
        space.validate().unwrap();
        space
    }

    fn knobs(scale: Scale, values: &[Option<f64>]) -> Knobs {
        let mut knobs = Knobs::unset(scale);
        knobs.values[..values.len()].copy_from_slice(values);
        knobs
    }

    fn values(scale: Scale, set: &[Option<f64>], space: &TuningSpace) -> Vec<f32> {
        knobs(scale, set).tuning(space).unwrap().values().to_vec()
    }

    #[test]
    fn unit_knobs_span_the_ranges_and_others_are_the_values() {
        let space = space(Domain::Box, &[(0.0, 50.0, 10.0), (-1.0, 1.0, 0.5)]);
        assert_eq!(values(Scale::Unit, &[Some(0.0), Some(0.0)], &space), [0.0, -1.0]);
        assert_eq!(values(Scale::Unit, &[Some(1.0), Some(1.0)], &space), [50.0, 1.0]);
        assert_eq!(values(Scale::Unit, &[Some(0.5)], &space), [25.0, 0.5]);
        assert_eq!(values(Scale::Parameter, &[Some(30.0), Some(-0.5)], &space), [30.0, -0.5]);
        assert_eq!(values(Scale::Parameter, &[], &space), [10.0, 0.5]);
        assert_eq!(defaults(&space, Scale::Unit)[..3], [0.2, 0.75, 0.0]);
        assert_eq!(defaults(&space, Scale::Parameter)[..3], [10.0, 0.5, 0.0]);
        let own = parameter_knobs(&space);
        assert_eq!((own.len(), own[0].maximum, own[1].default), (2, 50.0, 0.5));
    }

    #[test]
    fn ends_are_not_overstepped_by_rounding() {
        let space = space(Domain::Box, &[(-0.1, 0.7, 0.0), (0.1, 0.3, 0.2)]);
        for step in 0..=1000 {
            let value = Some(f64::from(step) / 1000.0);
            knobs(Scale::Unit, &[value, value]).tuning(&space).unwrap();
        }
        for value in [0.7f64.next_up(), (-0.1f64).next_down(), 0.1f64.next_down()] {
            knobs(Scale::Parameter, &[Some(value), Some(value)]).tuning(&space).unwrap();
        }
    }

    #[test]
    fn one_knob_spans_a_simplex_of_two() {
        let space = space(Domain::Simplex, &[(0.0, 1.0, 0.75), (0.0, 1.0, 0.25)]);
        for scale in [Scale::Unit, Scale::Parameter] {
            assert_eq!(values(scale, &[], &space), [0.75, 0.25]);
            assert_eq!(values(scale, &[Some(1.0)], &space), [0.0, 1.0]);
            assert_eq!(values(scale, &[Some(1f64.next_up())], &space), [0.0, 1.0]);
            assert_eq!(values(scale, &[Some(0f64.next_down())], &space), [1.0, 0.0]);
            assert_eq!(defaults(&space, scale)[..2], [0.25, 0.0]);
            let unknown = knobs(scale, &[Some(0.5), Some(0.5)]).without_parameter(&space);
            assert_eq!(unknown.collect::<Vec<_>>(), [1]);
            let loaded = knobs(scale, &[Some(0.5), Some(0.0)]).without_parameter(&space);
            assert_eq!(loaded.count(), 0);
        }
        let own = parameter_knobs(&space);
        assert_eq!(own.len(), 1);
        assert_eq!((own[0].name.as_str(), own[0].default), ("p1", 0.25));
        assert!(own[0].blurb.starts_with("From `p0` at 0 to `p1` at 1"));
    }

    #[test]
    fn knobs_are_weights_on_a_simplex() {
        let third = 1.0 / 3.0;
        let space = space(Domain::Simplex, &[(0.0, 1.0, third); 3]);
        let set = |values: [f64; 3]| values.map(Some);
        for scale in [Scale::Unit, Scale::Parameter] {
            assert_eq!(values(scale, &set([1.0, 0.5, 0.5]), &space), [0.5, 0.25, 0.25]);
            assert_eq!(values(scale, &set([0.0; 3]), &space), [third as f32; 3]);
        }
    }

    #[test]
    fn parameters_beyond_the_unit_knobs_stand_at_their_defaults() {
        let space = space(Domain::Box, &[(0.0, 1.0, 0.5); 5]);
        assert_eq!(values(Scale::Unit, &[Some(1.0); 4], &space), [1.0, 1.0, 1.0, 1.0, 0.5]);
        assert_eq!(knobs(Scale::Unit, &[Some(1.0); 4]).without_parameter(&space).count(), 0);
        assert_eq!(unit_knobs(&space).len(), 4);
        assert_eq!(parameter_knobs(&space).len(), 5);
    }
}
