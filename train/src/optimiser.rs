//! Adam with its whole state in plain vectors, so that a run can be stopped and resumed exactly.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use anyhow::{Context as _, ensure};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tunableconv::nn::{Init, TensorSpec};

use crate::recipe;

const EPSILON: f64 = 1e-8;

/// What a step ends with whose learning rate is too large.
#[derive(Debug, thiserror::Error)]
#[error("step {step}: the gradient is not finite; lower the learning rate")]
pub struct Diverged {
    /// From 0.
    pub step: u64,
}

/// One trainable tensor with its moments and its moving average.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Current value.
    pub value: Vec<f32>,
    /// First moment.
    pub m: Vec<f32>,
    /// Second moment.
    pub v: Vec<f32>,
    /// Exponential moving average of the values.
    pub ema: Vec<f32>,
}

impl Slot {
    /// A tensor before the first step.
    pub fn new(shape: Vec<usize>, value: Vec<f32>) -> Self {
        let zeros = vec![0.0; value.len()];
        Self { shape, m: zeros.clone(), v: zeros, ema: value.clone(), value }
    }
}

/// The trainable tensors by name.
pub struct Adam {
    config: recipe::Optimiser,
    steps: u64,
    slots: BTreeMap<String, Slot>,
    vars: BTreeMap<String, Var>,
}

/// Fresh slots: initial values from the seed, tensor by tensor in the order of `specs`.
pub fn initial_slots(specs: &[TensorSpec], seed: u64) -> BTreeMap<String, Slot> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut slot = |spec: &TensorSpec| {
        let len = spec.shape.iter().product();
        let mut value = || match spec.init {
            Init::Uniform(bound) => (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32,
            Init::Constant(value) => value as f32,
        };
        Slot::new(spec.shape.clone(), (0..len).map(|_| value()).collect())
    };
    specs.iter().map(|spec| (spec.name.clone(), slot(spec))).collect()
}

impl Adam {
    /// An optimiser of `slots`, whose next step is `step` of `steps` in all.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(
        config: recipe::Optimiser,
        steps: u64,
        slots: BTreeMap<String, Slot>,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let var = |(name, slot): (&String, &Slot)| {
            let tensor = Tensor::from_slice(&slot.value, slot.shape.as_slice(), device)?;
            Ok((name.clone(), Var::from_tensor(&tensor)?))
        };
        let vars = slots.iter().map(var).collect::<anyhow::Result<_>>()?;
        Ok(Self { config, steps, slots, vars })
    }

    /// The trainable tensors, by name.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// Values, moments and averages, by name.
    pub fn slots(&self) -> &BTreeMap<String, Slot> {
        &self.slots
    }

    /// Learning rate of a step: linear warm-up, then half a cosine down to the final rate.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let recipe::Optimiser { learning_rate, final_learning_rate, warmup_steps, .. } =
            self.config;
        if step < warmup_steps {
            return learning_rate * (step + 1) as f64 / warmup_steps as f64;
        }
        let left = (self.steps.max(warmup_steps + 1) - warmup_steps) as f64;
        let progress = ((step - warmup_steps) as f64 / left).min(1.0);
        let cosine = 0.5 * (1.0 + (PI * progress).cos());
        final_learning_rate + (learning_rate - final_learning_rate) * cosine
    }

    /// Takes step number `step` (from 0). Returns the global gradient norm before clipping.
    ///
    /// # Errors
    /// A tensor without gradient; [`Diverged`].
    pub fn step(&mut self, step: u64, gradients: &GradStore) -> anyhow::Result<f64> {
        let mut flat = Vec::with_capacity(self.vars.len());
        for (name, var) in &self.vars {
            let gradient = gradients
                .get(var)
                .with_context(|| format!("tensor `{name}` received no gradient"))?;
            let gradient = gradient.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            flat.push(gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        let squares = flat.iter().flatten().map(|g| f64::from(*g).powi(2));
        let norm = squares.sum::<f64>().sqrt();
        ensure!(norm.is_finite(), Diverged { step });

        let clip = (self.config.clip_norm / norm.max(f64::MIN_POSITIVE)).min(1.0) as f32;
        let update = Update::new(&self.config, self.learning_rate(step), step);
        for ((slot, var), gradient) in self.slots.values_mut().zip(self.vars.values()).zip(&flat) {
            for (i, gradient) in gradient.iter().enumerate() {
                update.apply(slot, i, clip * gradient);
            }
            var.set(&Tensor::from_slice(&slot.value, slot.shape.as_slice(), var.device())?)?;
        }
        Ok(norm)
    }
}

impl Adam {
    /// Moves the values of a tensor, and their averages, into the set they are bound to.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// If there is no tensor of that name.
    pub fn project(&mut self, name: &str, into: impl Fn(&mut [f32])) -> anyhow::Result<()> {
        let slot = self.slots.get_mut(name).expect("a trained tensor's name");
        into(&mut slot.value);
        // These have seen the values before they were moved.
        into(&mut slot.ema);
        let var = &self.vars[name];
        var.set(&Tensor::from_slice(&slot.value, slot.shape.as_slice(), var.device())?)?;
        Ok(())
    }
}

/// The constants of one step.
struct Update {
    beta1: f32,
    beta2: f32,
    rate: f32,
    root_correction2: f32,
    ema_decay: f32,
}

impl Update {
    fn new(config: &recipe::Optimiser, learning_rate: f64, step: u64) -> Self {
        let exponent = (step + 1) as f64;
        let correction1 = 1.0 - config.beta1.powf(exponent);
        let correction2 = 1.0 - config.beta2.powf(exponent);
        // Early averages would remember the random start: ramp the decay up.
        let ema_decay = config.ema_decay.min((1.0 + exponent) / (10.0 + exponent));
        Self {
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            rate: (learning_rate / correction1) as f32,
            root_correction2: correction2.sqrt() as f32,
            ema_decay: ema_decay as f32,
        }
    }

    fn apply(&self, slot: &mut Slot, i: usize, gradient: f32) {
        let Slot { value, m, v, ema, .. } = slot;
        m[i] = self.beta1 * m[i] + (1.0 - self.beta1) * gradient;
        v[i] = self.beta2 * v[i] + (1.0 - self.beta2) * gradient * gradient;
        value[i] -= self.rate * m[i] / (v[i].sqrt() / self.root_correction2 + EPSILON as f32);
        ema[i] = self.ema_decay * ema[i] + (1.0 - self.ema_decay) * value[i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> recipe::Optimiser {
        recipe::Optimiser {
            learning_rate: 0.1,
            final_learning_rate: 0.01,
            warmup_steps: 2,
            beta1: 0.9,
            beta2: 0.99,
            clip_norm: 1e9,
            ema_decay: 0.5,
        }
    }

    fn adam(config: recipe::Optimiser, start: f32) -> Adam {
        let slot = Slot {
            shape: vec![1],
            value: vec![start],
            m: vec![0.0],
            v: vec![0.0],
            ema: vec![start],
        };
        let slots = BTreeMap::from([("x".to_string(), slot)]);
        Adam::new(config, 12, slots, &Device::Cpu).unwrap()
    }

    /// One step on (x − 3)²; returns the gradient norm.
    fn step(adam: &mut Adam, number: u64) -> f64 {
        let x = adam.vars()["x"].as_tensor().clone();
        let loss = (x - 3.0).unwrap().sqr().unwrap().sum_all().unwrap();
        adam.step(number, &loss.backward().unwrap()).unwrap()
    }

    #[test]
    fn steps_are_those_of_the_published_algorithm() {
        let mut adam = adam(config(), 0.5);
        let (mut x, mut m, mut v, mut ema) = (0.5f64, 0.0, 0.0, 0.5);
        for number in 0..12 {
            let gradient = 2.0 * (x - 3.0);
            let norm = step(&mut adam, number);
            assert!((norm - gradient.abs()).abs() < 1e-3);
            let t = (number + 1) as i32;
            (m, v) = (0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient * gradient);
            let corrected = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.99f64.powi(t)));
            x -= adam.learning_rate(number) * corrected.0 / (corrected.1.sqrt() + EPSILON);
            let decay = 0.5f64.min((1.0 + f64::from(t)) / (10.0 + f64::from(t)));
            ema = decay * ema + (1.0 - decay) * x;
            let slot = &adam.slots()["x"];
            assert!((f64::from(slot.value[0]) - x).abs() < 1e-4, "step {number}");
            assert!((f64::from(slot.ema[0]) - ema).abs() < 1e-4, "step {number}");
            assert_eq!(adam.vars()["x"].to_vec1::<f32>().unwrap(), slot.value);
        }
    }

    #[test]
    fn the_rate_warms_up_then_falls_along_half_a_cosine() {
        let adam = adam(config(), 0.0);
        let rates = [0, 1, 2, 7, 12].map(|step| adam.learning_rate(step));
        for (rate, expected) in rates.iter().zip([0.05, 0.1, 0.1, 0.055, 0.01]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn values_and_their_averages_are_projected() {
        let mut adam = adam(config(), 0.5);
        for number in 0..12 {
            step(&mut adam, number);
            adam.project("x", |values| values.iter_mut().for_each(|x| *x = x.min(0.5))).unwrap();
            let slot = &adam.slots()["x"];
            assert_eq!((slot.value[0], slot.ema[0]), (0.5, 0.5), "step {number}");
            assert_eq!(adam.vars()["x"].to_vec1::<f32>().unwrap(), [0.5]);
        }
    }

    #[test]
    fn gradients_above_the_clip_norm_are_scaled_down() {
        let clipped = recipe::Optimiser { clip_norm: 0.5, ..config() };
        let mut adam = adam(clipped, 0.0);
        assert!((step(&mut adam, 0) - 6.0).abs() < 1e-5, "the norm is reported before clipping");
        assert!((adam.slots()["x"].m[0] + 0.05).abs() < 1e-6, "a tenth of the clipped gradient");
    }

    #[test]
    fn a_gradient_that_is_not_finite_stops_the_run() {
        let mut adam = adam(config(), f32::INFINITY);
        let x = adam.vars()["x"].as_tensor().clone();
        let gradients = x.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let error = adam.step(7, &gradients).unwrap_err().to_string();
        assert!(error.contains("step 7"), "{error}");
    }
}
