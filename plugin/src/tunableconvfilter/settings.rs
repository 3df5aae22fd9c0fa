//! Property values, and the tuning they mean to a model.

use tunableconv::Result;
use tunableconv::tuning::{Domain, MAX_PARAMETERS, Parameter, Tuning, TuningSpace};

/// Properties that stand for the first, second, … tuning parameter of the model.
pub const SLOT_NAMES: [&str; SLOTS] = ["alpha", "beta", "gamma", "delta"];

/// Number of those properties.
pub const SLOTS: usize = 4;

/// Everything that can be set from outside, and what properties tell of the running model.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Path of the checkpoint; `None` or empty for the built-in one.
    pub model: Option<String>,
    /// As [`tunableconv::engine::DeviceChoice`] reads it.
    pub device: String,
    /// As [`tunableconv::engine::Precision`] reads it.
    pub precision: String,
    /// Threads on the CPU; 0 for all cores.
    pub threads: u32,
    /// What was set of the tuning.
    pub slots: Slots,
    /// What slots that were never set stand at, in the model last loaded.
    pub defaults: [f64; SLOTS],
    /// Description of the engine that runs; empty while stopped.
    pub engine: String,
}

impl Settings {
    /// Nothing set; `defaults` are those of the built-in model.
    pub fn new(defaults: [f64; SLOTS]) -> Self {
        Self {
            model: None,
            device: "auto".into(),
            precision: "auto".into(),
            threads: 0,
            slots: Slots::default(),
            defaults,
            engine: String::new(),
        }
    }

    /// What a slot's property reads as.
    pub fn slot(&self, index: usize) -> f64 {
        self.slots.0[index].unwrap_or(self.defaults[index])
    }
}

/// Values of the slots, 0 to 1; `None` for one that was never set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slots(pub [Option<f64>; SLOTS]);

impl Slots {
    /// The tuning these values mean: each spans its parameter's range, unset ones stand at the
    /// parameter's default. On a simplex they are weights, divided by their sum; with two
    /// parameters there is one slot t, and ω = (1 − t, t).
    ///
    /// # Errors
    /// As [`TuningSpace::tuning_from_weights`].
    pub fn tuning(&self, space: &TuningSpace) -> Result<Tuning> {
        if is_line(space) {
            let t = self.0[0].unwrap_or(space.parameters[1].default);
            return space.tuning(&[1.0 - t, t]);
        }
        let value = |(index, parameter): (usize, &Parameter)| {
            let Parameter { minimum, maximum, default, .. } = *parameter;
            self.0.get(index).copied().flatten().map_or(default, |slot| {
                // Rounding could step over an end.
                (minimum + slot * (maximum - minimum)).clamp(minimum, maximum)
            })
        };
        let mut values = [0.0; MAX_PARAMETERS];
        let entries = space.parameters.iter().enumerate().map(value);
        values.iter_mut().zip(entries).for_each(|(to, entry)| *to = entry);
        space.tuning_from_weights(&values[..space.len().min(MAX_PARAMETERS)])
    }

    /// Indices of the slots that were set although the model has no parameter for them.
    pub fn without_parameter(&self, space: &TuningSpace) -> impl Iterator<Item = usize> + use<> {
        let (slots, used) = (*self, used_slots(space));
        (used..SLOTS).filter(move |&index| slots.0[index].is_some())
    }
}

/// The parameters' defaults as slot values.
pub fn default_slots(space: &TuningSpace) -> [f64; SLOTS] {
    let mut defaults = [0.0; SLOTS];
    for (index, slot) in defaults.iter_mut().enumerate().take(used_slots(space)) {
        let parameter = slot_parameter(space, index);
        let Parameter { minimum, maximum, default, .. } = *parameter;
        *slot = ((default - minimum) / (maximum - minimum)).clamp(0.0, 1.0);
    }
    defaults
}

/// The parameter that turning up a slot turns up.
///
/// # Panics
/// If the model does not use this slot.
pub fn slot_parameter(space: &TuningSpace, index: usize) -> &Parameter {
    &space.parameters[if is_line(space) { 1 } else { index }]
}

/// How many slots, from the first, the model uses.
pub fn used_slots(space: &TuningSpace) -> usize {
    if is_line(space) { 1 } else { space.len().min(SLOTS) }
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

    fn values(slots: [Option<f64>; SLOTS], space: &TuningSpace) -> Vec<f32> {
        Slots(slots).tuning(space).unwrap().values().to_vec()
    }

    #[test]
    fn slots_span_their_ranges() {
        let space = space(Domain::Box, &[(0.0, 50.0, 10.0), (-1.0, 1.0, 0.5)]);
        assert_eq!(values([Some(0.0), Some(0.0), None, None], &space), [0.0, -1.0]);
        assert_eq!(values([Some(1.0), Some(1.0), None, None], &space), [50.0, 1.0]);
        assert_eq!(values([Some(0.5), None, None, None], &space), [25.0, 0.5]);
        assert_eq!(default_slots(&space), [0.2, 0.75, 0.0, 0.0]);
    }

    #[test]
    fn ends_are_not_overstepped_by_rounding() {
        let space = space(Domain::Box, &[(-0.1, 0.7, 0.0), (0.1, 0.3, 0.2)]);
        for step in 0..=1000 {
            let slot = Some(f64::from(step) / 1000.0);
            Slots([slot, slot, None, None]).tuning(&space).unwrap();
        }
    }

    #[test]
    fn one_slot_spans_a_simplex_of_two() {
        let space = space(Domain::Simplex, &[(0.0, 1.0, 0.75), (0.0, 1.0, 0.25)]);
        assert_eq!(values([None; 4], &space), [0.75, 0.25]);
        assert_eq!(values([Some(1.0), None, None, None], &space), [0.0, 1.0]);
        assert_eq!(default_slots(&space), [0.25, 0.0, 0.0, 0.0]);
        let unknown = Slots([Some(0.5), Some(0.5), None, None]).without_parameter(&space);
        assert_eq!(unknown.collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn slots_are_weights_on_a_simplex() {
        let third = 1.0 / 3.0;
        let space = space(Domain::Simplex, &[(0.0, 1.0, third); 3]);
        assert_eq!(values([Some(1.0), Some(0.5), Some(0.5), None], &space), [0.5, 0.25, 0.25]);
        let defaults = values([Some(0.0), Some(0.0), Some(0.0), None], &space);
        assert_eq!(defaults, [third as f32; 3]);
    }

    #[test]
    fn parameters_beyond_the_slots_stand_at_their_defaults() {
        let space = space(Domain::Box, &[(0.0, 1.0, 0.5); 5]);
        assert_eq!(values([Some(1.0); 4], &space), [1.0, 1.0, 1.0, 1.0, 0.5]);
        assert_eq!(Slots([Some(1.0); 4]).without_parameter(&space).count(), 0);
    }
}
