//! How much of the chroma that the net does not see is to be smoothed, see [`crate::frame`].
//!
//! The net sees one chroma value for each 2×2 block. Where a frame has more, noise inside the blocks
//! would stay while the net takes that between them away. So as much is taken away inside as the net
//! takes away between: its share of the noise on a flat picture, measured where each parameter alone
//! is turned up, and linear from there. The further it is turned up, the stronger that noise is: a net
//! may take a parameter for the level of the noise.

use candle_core::{Module, Tensor};

use crate::Result;
use crate::frame::CHANNELS;
use crate::net::Net;
use crate::nn::Colour;
use crate::tuning::{Domain, Tuning, TuningSpace};

/// Width and height of the picture, in blocks.
const SIDE: usize = 32;

/// Blocks at its edges that are not looked at: the net sees the edge there.
const MARGIN: usize = 8;

/// Largest magnitude of the noise where a parameter is at its maximum: its standard deviation is 20 of
/// 255 codes.
const NOISE: f32 = 20.0 / 255.0 * 1.732;

/// How far parameters of a box are turned up.
const PLACES: [f32; 4] = [0.0, 0.25, 0.5, 1.0];

/// Shares are rounded to these steps, so that they are the same on every machine.
const STEPS: f64 = 256.0;

/// Shares of the noise that a net takes away.
#[derive(Clone, Debug)]
pub(crate) struct Smoothing {
    space: TuningSpace,
    /// Where each parameter alone is at [`PLACES`].
    alone: Vec<[f32; PLACES.len()]>,
}

impl Smoothing {
    /// None, whatever the tuning.
    pub(crate) fn none(space: &TuningSpace) -> Self {
        Self { space: space.clone(), alone: vec![[0.0; PLACES.len()]; space.len()] }
    }

    /// Measures a net.
    ///
    /// # Errors
    /// [`crate::Error::Candle`].
    pub(crate) fn measure(net: &Net) -> Result<Self> {
        let space = &net.metadata().tuning;
        if net.metadata().architecture.io().colour != Colour::Yuv420 {
            // Nothing is kept from the net.
            return Ok(Self::none(space));
        }
        let noise = noise();
        let share = |index: usize, place: f32| -> Result<f32> {
            let values = space.parameters.iter().enumerate().map(|(other, parameter)| {
                let up = if other == index { f64::from(place) } else { 0.0 };
                parameter.minimum + up * (parameter.maximum - parameter.minimum)
            });
            let strength = if place > 0.0 { place } else { PLACES[1] };
            let noise: Vec<f32> = noise.iter().map(|value| strength * value).collect();
            share(net, &space.tuning(&values.collect::<Vec<_>>())?, &noise)
        };
        let curve = |index: usize| -> Result<_> {
            let mut curve = [0.0; PLACES.len()];
            match space.domain {
                Domain::Box => {
                    for (value, place) in curve.iter_mut().zip(PLACES) {
                        *value = share(index, place)?;
                    }
                }
                Domain::Simplex => {
                    let most = share(index, 1.0)?;
                    curve = PLACES.map(|place| place * most);
                }
            }
            Ok(curve)
        };
        let alone = (0..space.len()).map(curve).collect::<Result<_>>()?;
        Ok(Self { space: space.clone(), alone })
    }

    /// The share at a tuning.
    pub(crate) fn at(&self, tuning: &Tuning) -> f32 {
        let entries = self.space.parameters.iter().zip(tuning.values()).zip(&self.alone);
        let added = entries.map(|((parameter, &value), curve)| {
            let width = parameter.maximum - parameter.minimum;
            let place = ((f64::from(value) - parameter.minimum) / width) as f32;
            along(curve, place) - curve[0]
        });
        // With all parameters at their minimum all curves are at the same value.
        let base = self.alone.first().map_or(0.0, |curve| curve[0]);
        (base + added.sum::<f32>()).clamp(0.0, 1.0)
    }
}

/// Linear between [`PLACES`].
fn along(curve: &[f32; PLACES.len()], place: f32) -> f32 {
    let after = PLACES.partition_point(|&other| other <= place).clamp(1, PLACES.len() - 1);
    let way = (place - PLACES[after - 1]) / (PLACES[after] - PLACES[after - 1]);
    curve[after - 1] + way * (curve[after] - curve[after - 1])
}

/// Noise around 0, the same every time.
fn noise() -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * NOISE
    };
    (0..CHANNELS * SIDE * SIDE).map(|_| next()).collect()
}

/// The share of this noise on grey that the net takes out of chroma.
fn share(net: &Net, tuning: &Tuning, noise: &[f32]) -> Result<f32> {
    let picture = noise.iter().map(|v| 0.5 + v).collect();
    let shape = (1, CHANNELS, SIDE, SIDE);
    let picture = Tensor::from_vec::<_, f32>(picture, shape, net.device())?;
    let residual = net.fold(tuning)?.forward(&picture)?.flatten_all()?.to_vec1::<f32>()?;
    let (mut before, mut after) = (0.0, 0.0);
    for channel in CHANNELS - 2..CHANNELS {
        for row in MARGIN..SIDE - MARGIN {
            let first = (channel * SIDE + row) * SIDE;
            for i in first + MARGIN..first + SIDE - MARGIN {
                before += f64::from(noise[i]).powi(2);
                after += f64::from(noise[i] + residual[i]).powi(2);
            }
        }
    }
    let share = 1.0 - (after / before).sqrt();
    Ok(((share * STEPS).round() / STEPS).clamp(0.0, 1.0) as f32)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::checkpoint::Checkpoint;

    #[test]
    fn a_denoiser_smooths_as_it_is_turned_up_and_a_deblurrer_does_not() {
        let net = Net::new(&Checkpoint::built_in().unwrap(), &Device::Cpu).unwrap();
        let smoothing = Smoothing::measure(&net).unwrap();
        let space = &net.metadata().tuning;
        let at = |denoise: f64, deblur: f64| {
            let mut values = vec![denoise, deblur];
            values.resize(space.len(), 0.0);
            smoothing.at(&space.tuning(&values).unwrap())
        };
        let of = |knobs: [f64; 3], deblurs: bool| {
            knobs.map(|t| if deblurs { at(0.0, t) } else { at(t, 0.0) })
        };
        let [denoise, deblur] = [false, true].map(|deblurs| of([0.25, 0.5, 1.0], deblurs));
        println!("denoise {denoise:?}, deblur {deblur:?}");
        assert_eq!(at(0.0, 0.0), 0.0);
        assert!(at(1.0, 0.0) > 0.8);
        assert_eq!(at(0.125, 0.0), 0.5 * at(0.25, 0.0));
        assert_eq!(at(0.75, 0.0), 0.5 * (at(0.5, 0.0) + at(1.0, 0.0)));
        // Told of blur alone, the net may still look for noise itself.
        assert!(denoise.iter().zip(deblur).all(|(denoise, deblur)| deblur < 0.5 * denoise));
    }
}
