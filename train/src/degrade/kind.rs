//! The kinds of degradation, as recipes name them.

use std::f32::consts::PI;

use anyhow::{Context as _, ensure};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::camera::Camera;
use super::chroma_noise::ChromaNoise;
use super::downscale::Rescale;
use super::jpeg::{PHASES, jpeg};
use super::motion_blur::MotionBlur;
use super::noise::add_noise;
use super::poisson_gaussian::add_poisson_gaussian;
use super::{Filter, blur, standard_normal, uniform};
use crate::rgb::Rgb;

/// Greatest `radius` of chroma noise, in pixels.
const MAX_CHROMA_RADIUS: f32 = 4.0;

/// Greatest `length` of motion blur, in pixels.
const MAX_MOTION: f32 = 64.0;

/// One link of a chain, with the ranges its strengths are drawn from: uniformly, for every
/// sample. Nothing tells the net what was drawn.
///
/// In a recipe: `{ kind = "motion-blur", length = [0.0, 12.0] }`.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Degradation {
    /// Gaussian blur, 21×21 taps, edges replicated.
    Blur {
        /// Least and greatest standard deviation, in pixels.
        sigma: [f32; 2],
    },
    /// Gaussian noise, independent per pixel and RGB channel, then clipped to `[0, 1]`.
    Noise {
        /// Least and greatest standard deviation, of 255.
        sigma: [f32; 2],
    },
    /// Shot and read noise of a sensor, independent per pixel and RGB channel: Gaussian of
    /// variance `gain · x + (sigma / 255)²` at the value `x` (Foi et al., "Practical
    /// Poissonian-Gaussian noise modeling and fitting", IEEE TIP 2008), then clipped to `[0, 1]`.
    ///
    /// The Gaussian stands for the Poisson distribution of `x / gain` photons, which it comes
    /// close to above some ten photons.
    PoissonGaussian {
        /// Least and greatest variance of the shot noise at white, 0 to 1: one over the number
        /// of photons there.
        gain: [f32; 2],
        /// Least and greatest standard deviation of the read noise, of 255, 0 to 255.
        sigma: [f32; 2],
    },
    /// Gaussian noise on Cb and Cr (BT.709), independent of each other; luma keeps its value
    /// where the result needs no clipping to `[0, 1]`.
    ChromaNoise {
        /// Least and greatest standard deviation of Cb and of Cr, of 255, 0 to 255.
        sigma: [f32; 2],
        /// Least and greatest size of the blotches, 0 to 4 pixels: standard deviation of the
        /// Gaussian that white noise was filtered with. 0, the default: independent pixels.
        #[serde(default)]
        radius: [f32; 2],
    },
    /// Shot and read noise of a sensor behind a mosaic of colours, as a camera's processing leaves it:
    /// correlated over some pixels, depending on the signal, coarser in colour than in luma. Of the
    /// processing's own errors nothing is added.
    Camera {
        /// Least and greatest variance of the shot noise at white, in linear light, 0 to 1: one over
        /// the number of photons there.
        gain: [f32; 2],
        /// Least and greatest standard deviation of the read noise, of 255 in linear light, 0 to 64.
        sigma: [f32; 2],
        /// Least and greatest blur of colour, 0 to 4 pixels; none is the default.
        #[serde(default)]
        smoothing: [f32; 2],
        /// Least and greatest amount of sharpening, 0 to 2; none is the default.
        #[serde(default)]
        sharpening: [f32; 2],
    },
    /// Motion at constant speed along a straight line in a random direction, edges replicated.
    MotionBlur {
        /// Least and greatest length of the path, 0 to 64 pixels.
        length: [f32; 2],
    },
    /// Scaled down, and back up with [`Filter::Bicubic`].
    Downscale {
        /// Least and greatest factor, 1 to 4; sides are rounded to whole pixels.
        factor: [f32; 2],
        /// How it is scaled down.
        filter: Filter,
    },
    /// Compressed as JPEG, 4:2:0, with the grid of blocks at a random place; rounds to 8 bit.
    Jpeg {
        /// Least and greatest IJG quality, 1 to 100; the greatest degrades least.
        quality: [u8; 2],
    },
    /// Comes degraded, as the twin of the clean image in a
    /// [pair of clips](crate::pairs::PairFolder). Must be the first of its chain.
    Recorded {
        /// Only pairs in a folder of this name; any if left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<String>,
    },
}

/// A degradation with every random choice made, for images of one size.
pub(super) type Fixed = Box<dyn Fn(&Rgb) -> Rgb>;

impl Degradation {
    /// Every kind's name, and the key of its strengths where it has any.
    pub const KINDS: [(&'static str, Option<&'static str>); 9] = [
        ("blur", Some("sigma")),
        ("noise", Some("sigma")),
        ("poisson-gaussian", Some("gain")),
        ("chroma-noise", Some("sigma")),
        ("camera", Some("gain")),
        ("motion-blur", Some("length")),
        ("downscale", Some("factor")),
        ("jpeg", Some("quality")),
        ("recorded", None),
    ];

    /// From any folder.
    pub const RECORDED: Self = Self::Recorded { folder: None };

    /// Whether it is [`Self::Recorded`].
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        matches!(self, Self::Recorded { .. })
    }

    /// The name of its kind in recipes.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Blur { .. } => "blur",
            Self::Noise { .. } => "noise",
            Self::PoissonGaussian { .. } => "poisson-gaussian",
            Self::ChromaNoise { .. } => "chroma-noise",
            Self::Camera { .. } => "camera",
            Self::MotionBlur { .. } => "motion-blur",
            Self::Downscale { .. } => "downscale",
            Self::Jpeg { .. } => "jpeg",
            Self::Recorded { .. } => "recorded",
        }
    }

    /// Whether it is another in every frame of a clip, whatever the scene does.
    #[must_use]
    pub fn is_noise(&self) -> bool {
        matches!(
            self,
            Self::Noise { .. }
                | Self::PoissonGaussian { .. }
                | Self::ChromaNoise { .. }
                | Self::Camera { .. }
        )
    }

    /// With every range cut to one number: `severity` is the way from where it degrades least, 0, to
    /// where it degrades most, 1.
    #[must_use]
    pub fn at(&self, severity: f32) -> Self {
        let at = |[low, high]: [f32; 2]| [low + severity * (high - low); 2];
        match *self {
            Self::Blur { sigma } => Self::Blur { sigma: at(sigma) },
            Self::Noise { sigma } => Self::Noise { sigma: at(sigma) },
            Self::PoissonGaussian { gain, sigma } => {
                Self::PoissonGaussian { gain: at(gain), sigma: at(sigma) }
            }
            Self::ChromaNoise { sigma, radius } => {
                Self::ChromaNoise { sigma: at(sigma), radius: at(radius) }
            }
            Self::Camera { gain, sigma, smoothing, sharpening } => Self::Camera {
                gain: at(gain),
                sigma: at(sigma),
                smoothing: at(smoothing),
                sharpening: at(sharpening),
            },
            Self::MotionBlur { length } => Self::MotionBlur { length: at(length) },
            Self::Downscale { factor, filter } => Self::Downscale { factor: at(factor), filter },
            Self::Jpeg { quality: [low, high] } => {
                let [quality, _] = at([f32::from(high), f32::from(low)]);
                Self::Jpeg { quality: [quality.round() as u8; 2] }
            }
            Self::Recorded { .. } => Self::RECORDED,
        }
    }

    /// How strong a strength is, from 0 where nothing happens to 1 at the strongest of the range; 0 of
    /// [`Self::Recorded`], whose strength nobody knows.
    #[must_use]
    pub fn level(&self, strength: f32) -> f32 {
        let (nothing, most) = (self.amount(self.without()), self.amount(self.most()));
        if most == nothing { 0.0 } else { (self.amount(strength) - nothing) / (most - nothing) }
    }

    /// The strength of a level, within the range.
    #[must_use]
    pub fn strength_at(&self, level: f32) -> f32 {
        let (nothing, most) = (self.amount(self.without()), self.amount(self.most()));
        let [low, high] = self.strengths();
        let amount = nothing + level * (most - nothing);
        let strength = match self {
            Self::PoissonGaussian { .. } | Self::Camera { .. } => amount * amount,
            Self::Jpeg { .. } if amount > 1.0 => 50.0 / amount,
            Self::Jpeg { .. } => 100.0 - 50.0 * amount,
            _ => amount,
        };
        strength.clamp(low, high)
    }

    /// What the errors grow with.
    fn amount(&self, strength: f32) -> f32 {
        match self {
            // A variance.
            Self::PoissonGaussian { .. } | Self::Camera { .. } => strength.sqrt(),
            // IJG's scale of the quantisers, 1 at quality 50.
            Self::Jpeg { .. } if strength < 50.0 => 50.0 / strength,
            Self::Jpeg { .. } => 2.0 - strength / 50.0,
            _ => strength,
        }
    }

    /// The strength at which nothing happens.
    fn without(&self) -> f32 {
        match self {
            Self::Downscale { .. } | Self::Recorded { .. } => 1.0,
            Self::Jpeg { .. } => 100.0,
            _ => 0.0,
        }
    }

    /// The strongest of the range.
    fn most(&self) -> f32 {
        let [low, high] = self.strengths();
        if matches!(self, Self::Jpeg { .. }) { low } else { high }
    }

    /// Least and greatest strength: the first field of each kind. 1 where there is none.
    #[must_use]
    pub fn strengths(&self) -> [f32; 2] {
        match *self {
            Self::Blur { sigma } | Self::Noise { sigma } | Self::ChromaNoise { sigma, .. } => sigma,
            Self::PoissonGaussian { gain, .. } | Self::Camera { gain, .. } => gain,
            Self::MotionBlur { length } => length,
            Self::Downscale { factor, .. } => factor,
            Self::Jpeg { quality } => quality.map(f32::from),
            Self::Recorded { .. } => [1.0; 2],
        }
    }

    /// Checks what the type cannot: that ranges are ranges, within their limits.
    ///
    /// # Errors
    /// Names the kind, the key and what was expected.
    pub fn check(&self) -> anyhow::Result<()> {
        let checked = match *self {
            Self::Blur { sigma } | Self::Noise { sigma } => {
                check_range("sigma", sigma, [0.0, f32::INFINITY])
            }
            Self::PoissonGaussian { gain, sigma } => check_range("gain", gain, [0.0, 1.0])
                .and_then(|()| check_range("sigma", sigma, [0.0, 255.0])),
            Self::ChromaNoise { sigma, radius } => check_range("sigma", sigma, [0.0, 255.0])
                .and_then(|()| check_range("radius", radius, [0.0, MAX_CHROMA_RADIUS])),
            Self::Camera { gain, sigma, smoothing, sharpening } => {
                check_range("gain", gain, [0.0, 1.0])
                    .and_then(|()| check_range("sigma", sigma, [0.0, 64.0]))
                    .and_then(|()| check_range("smoothing", smoothing, [0.0, MAX_CHROMA_RADIUS]))
                    .and_then(|()| check_range("sharpening", sharpening, [0.0, 2.0]))
            }
            Self::MotionBlur { length } => check_range("length", length, [0.0, MAX_MOTION]),
            Self::Downscale { factor, .. } => check_range("factor", factor, [1.0, 4.0]),
            Self::Jpeg { .. } => check_range("quality", self.strengths(), [1.0, 100.0]),
            Self::Recorded { .. } => Ok(()),
        };
        checked.with_context(|| format!("{self:?}"))
    }

    /// Makes every random choice but the strength. `None` where nothing would change, and for
    /// [`Self::Recorded`], which needs no more than its twin.
    pub(super) fn fix(
        &self,
        strength: f32,
        mut rng: ChaCha8Rng,
        (width, height): (usize, usize),
    ) -> Option<Fixed> {
        let len = 3 * width * height;
        match *self {
            Self::PoissonGaussian { sigma, .. } => {
                let sigma = uniform(sigma, &mut rng);
                let field =
                    (strength > 0.0 || sigma > 0.0).then(|| standard_normal(len, &mut rng))?;
                Some(Box::new(move |image| add_poisson_gaussian(image, &field, strength, sigma)))
            }
            Self::Camera { sigma, smoothing, sharpening, .. } => {
                let sigma = uniform(sigma, &mut rng);
                let processing = [smoothing, sharpening].map(|range| uniform(range, &mut rng));
                if strength <= 0.0 && sigma <= 0.0 {
                    return None;
                }
                let camera = Camera::new(width * height, strength, sigma, processing, &mut rng);
                Some(Box::new(move |image| camera.apply(image)))
            }
            Self::Downscale { filter, .. } => {
                let rescale = Rescale::new(width, height, strength, filter)?;
                Some(Box::new(move |image| rescale.apply(image)))
            }
            Self::Jpeg { .. } => {
                let phase = [(); 2].map(|()| rng.random_range(0..PHASES));
                let quality = strength.round().clamp(1.0, 100.0) as u8;
                Some(Box::new(move |image| jpeg(image, quality, phase)))
            }
            Self::Recorded { .. } => None,
            // From here on a strength of 0 is the identity.
            _ if strength.is_nan() || strength <= 0.0 => None,
            Self::Blur { .. } => Some(Box::new(move |image| blur(image, strength))),
            Self::Noise { .. } => {
                let field = standard_normal(len, &mut rng);
                Some(Box::new(move |image| add_noise(image, &field, strength)))
            }
            Self::ChromaNoise { radius, .. } => {
                let radius = uniform(radius, &mut rng);
                let noise = ChromaNoise::new(width, height, strength, radius, &mut rng);
                Some(Box::new(move |image| noise.add_to(image)))
            }
            Self::MotionBlur { .. } => {
                let motion = MotionBlur::new(strength, uniform([0.0, PI], &mut rng));
                Some(Box::new(move |image| motion.apply(image)))
            }
        }
    }
}

/// Checks every degradation of a chain, and that recorded ones, of which a sample has one, come first.
///
/// # Errors
/// Names the kind, the key and what was expected.
pub fn check_chain(chain: &[Degradation]) -> anyhow::Result<()> {
    for (i, degradation) in chain.iter().enumerate() {
        degradation.check()?;
        ensure!(
            !degradation.is_recorded() || chain[..i].iter().all(Degradation::is_recorded),
            "degradation {i} is `recorded`: it must be the first of its chain"
        );
    }
    Ok(())
}

fn check_range(name: &str, [low, high]: [f32; 2], [least, most]: [f32; 2]) -> anyhow::Result<()> {
    let limit = if most.is_finite() { format!(" <= {most}") } else { ", both finite".into() };
    ensure!(
        least <= low && low <= high && high <= most && high.is_finite(),
        "{name} = [{low}, {high}]: expected [least, greatest] with \
         {least} <= least <= greatest{limit}"
    );
    Ok(())
}
