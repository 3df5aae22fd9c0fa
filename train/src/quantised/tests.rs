//! Gradients of [`Requantise`] against finite differences. With so many codes that rounding is lost
//! in f32, the operation is `clamp(leaky(STEP · sum + bias), minimum, maximum)`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use tunableconv::checkpoint::STATISTICS;
use tunableconv::engine::{Finish, LAST_MARGIN, QuantisedLayer};

use super::ops::{Into, Requantise};

const CODES: f32 = (1 << 20) as f32;
const SLOPE: f32 = 0.1;
const STEP: f32 = 0.02;

const SAMPLES: usize = 4;
const SETS: usize = 2;
const CHANNELS: usize = 2;
/// Height and width.
const SIZE: (usize, usize) = (3, 5);
const LEN: usize = SAMPLES * CHANNELS * SIZE.0 * SIZE.1;

/// Reproducible numbers in −1 to 1.
fn random(len: usize, seed: u32) -> Vec<f32> {
    let hash = |i: u32| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 7 & 0xffff) as f32;
    (0..len as u32).map(|i| hash(i * i + 7 * i) / 32768.0 - 1.0).collect()
}

#[derive(Clone)]
struct Case {
    sums: Vec<f32>,
    /// `[SETS, CHANNELS]`.
    bias: Vec<f32>,
    /// `[SETS, CHANNELS, 3]`.
    ranges: Vec<f32>,
    /// Of the codes around zero that the last layer reads.
    symmetric: bool,
}

impl Case {
    fn new(symmetric: bool) -> Self {
        let range = |set_channel: usize| {
            let (low, high) = [(-0.09, 1.0), (-0.06, 0.7), (-0.1, 0.4), (-0.15, 1.3)][set_channel];
            [low, high, 0.1]
        };
        Self {
            sums: random(LEN, 1).into_iter().map(|v| 120.0 * v).collect(),
            bias: random(SETS * CHANNELS, 2).into_iter().map(|v| 0.2 * v).collect(),
            ranges: (0..SETS * CHANNELS).flat_map(range).collect(),
            symmetric,
        }
    }

    /// Lowest and highest value and value of a step, per set and channel.
    fn ends(&self) -> Vec<(f32, f32, f32)> {
        let ends = |range: &[f32]| {
            let largest = LAST_MARGIN * range[1].max(-range[0]);
            let (low, high) =
                if self.symmetric { (-largest, largest) } else { (range[0], range[1]) };
            let steps = if self.symmetric { 2.0 * CODES } else { CODES };
            (low, high, (high - low) / steps)
        };
        self.ranges.chunks(STATISTICS).map(ends).collect()
    }

    fn layers(&self) -> Vec<QuantisedLayer> {
        let all = self.ends();
        let layer = |set: usize| {
            let ends = &all[set * CHANNELS..][..CHANNELS];
            let finish = ends.iter().zip(&self.bias[set * CHANNELS..]);
            let finish = finish.map(|(&(low, _, scale), bias)| Finish {
                scale: STEP / scale,
                bias: bias / scale,
                slope: SLOPE,
                zero: if self.symmetric { 0.0 } else { (-low / scale).round() },
                low: if self.symmetric { -CODES } else { 0.0 },
                high: CODES,
            });
            QuantisedLayer {
                weights: vec![],
                input_scale: vec![],
                output_scale: Some(ends.iter().map(|e| e.2).collect()),
                added_step: None,
                offsets: vec![0.0; CHANNELS],
                finish: finish.collect(),
                largest_sum: 0.0,
            }
        };
        (0..SETS).map(layer).collect()
    }

    /// What the operation stands for, in f64: output values and whether each is near a kink.
    fn reference(&self) -> Vec<(f64, bool)> {
        let (ends, plane) = (self.ends(), SIZE.0 * SIZE.1);
        let value = |(at, &sum): (usize, &f32)| {
            let (sample, channel) = (at / (CHANNELS * plane), at / plane % CHANNELS);
            let of = sample / (SAMPLES / SETS) * CHANNELS + channel;
            let y = f64::from(STEP) * f64::from(sum) + f64::from(self.bias[of]);
            let y = if y < 0.0 { f64::from(SLOPE) * y } else { y };
            let (low, high) = (f64::from(ends[of].0), f64::from(ends[of].1));
            let near = [0.0, low, high].iter().any(|kink| (y - kink).abs() < 0.01);
            (y.clamp(low, high), near)
        };
        self.sums.iter().enumerate().map(value).collect()
    }

    /// The operation's values, and the gradients of their sum with these factors: of sums, biases
    /// and ranges.
    fn run(&self, factors: &[f32]) -> (Vec<f32>, [Vec<f32>; 3]) {
        let device = Device::Cpu;
        let shape = (SAMPLES, CHANNELS, SIZE.0, SIZE.1);
        let var = |values: &[f32], shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(values, shape, &device).unwrap()).unwrap()
        };
        let sums = var(&self.sums, &[shape.0, shape.1, shape.2, shape.3]);
        let bias = var(&self.bias, &[SETS, CHANNELS]);
        let ranges = var(&self.ranges, &[SETS, CHANNELS, STATISTICS]);
        let operation =
            Requantise { sets: Arc::new(self.layers()), exact: None, into: Into::Codes };
        let codes = sums.apply_op3(&bias, &ranges, operation).unwrap();
        // From codes to values, one step of which is a constant here: its gradient is in the
        // operation's.
        let scales: Vec<f32> = self.ends().iter().map(|ends| ends.2).collect();
        let scales = Tensor::from_vec(scales, (SETS, 1, CHANNELS, 1, 1), &device).unwrap();
        let by_set = (SETS, SAMPLES / SETS, CHANNELS, SIZE.0, SIZE.1);
        let values = codes.reshape(by_set).unwrap().broadcast_mul(&scales).unwrap();
        let values = values.flatten_all().unwrap();
        let factors = Tensor::from_slice(factors, LEN, &device).unwrap();
        let gradients = values.mul(&factors).unwrap().sum_all().unwrap().backward().unwrap();
        let of = |var: &Var| gradients.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        (values.to_vec1().unwrap(), [of(&sums), of(&bias), of(&ranges)])
    }
}

#[test]
fn gradients_are_those_of_the_clamped_activation() {
    for symmetric in [false, true] {
        let case = Case::new(symmetric);
        let reference = case.reference();
        // Values near a kink do not count: differences are no gradients there.
        let factors = random(LEN, 3).into_iter().zip(&reference);
        let factors: Vec<f32> =
            factors.map(|(factor, (_, near))| if *near { 0.0 } else { factor }).collect();
        let near = reference.iter().filter(|(_, near)| *near).count();
        assert!(near * 4 < LEN, "{near} of {LEN}");
        let (values, gradients) = case.run(&factors);
        for (got, (want, _)) in values.iter().zip(&reference) {
            assert!((f64::from(*got) - want).abs() < 1e-5, "{got}, want {want}");
        }

        let loss = |case: &Case| {
            let values = case.reference().into_iter().zip(&factors);
            values.map(|((value, _), factor)| value * f64::from(*factor)).sum::<f64>()
        };
        let check = |name: &str, got: &[f32], of: fn(&mut Case) -> &mut Vec<f32>, step: f32| {
            let mut moved = 0;
            for (at, got) in got.iter().enumerate() {
                let at_offset = |offset: f32| {
                    let mut case = case.clone();
                    of(&mut case)[at] += offset;
                    loss(&case)
                };
                let want = (at_offset(step) - at_offset(-step)) / f64::from(2.0 * step);
                let error = (f64::from(*got) - want).abs();
                assert!(error < 1e-3, "{name} {at}, symmetric {symmetric}: {got}, want {want}");
                moved += usize::from(want != 0.0);
            }
            moved
        };
        let of_sums = check("sum", &gradients[0], |case| &mut case.sums, 0.25);
        assert!(of_sums > LEN / 4 && of_sums < LEN, "some inside, some outside: {of_sums}");
        check("bias", &gradients[1], |case| &mut case.bias, 0.005);
        let ends = check("range", &gradients[2], |case| &mut case.ranges, 0.005);
        // Symmetric codes follow the end that is further away.
        assert_eq!(ends, SETS * CHANNELS * if symmetric { 1 } else { 2 });
    }
}
