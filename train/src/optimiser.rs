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
        let value: Vec<f32> = (0..len).map(|_| value()).collect();
        let (shape, zeros) = (spec.shape.clone(), vec![0.0; len]);
        Slot { shape, m: zeros.clone(), v: zeros, ema: value.clone(), value }
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
    /// A tensor without gradient, or a gradient that is not finite.
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
        ensure!(
            norm.is_finite(),
            "step {step}: the gradient is not finite; lower the learning rate"
        );

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
