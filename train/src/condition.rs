//! What pictures are measured under: degradations of fixed strengths, as text `blur:1.5+noise:25`.
//!
//! A chain is any that a recipe may have, with one number in the place of each range:
//! `KIND:STRENGTH`, where there are more keys than one with `:KEY=VALUE` for each of them, and `+`
//! before what happens next. `clean` is no degradation at all.
//!
//! | text | is |
//! |---|---|
//! | `noise:25` | Gaussian noise of σ = 25 of 255 |
//! | `blur:1.5+noise:15` | blur of σ = 1.5 pixels, then noise |
//! | `jpeg:40` | JPEG of quality 40 |
//! | `poisson-gaussian:0.01:sigma=3` | shot noise of gain 0.01, read noise of σ = 3 |
//! | `chroma-noise:20:radius=1.5` | blotches of colour |
//! | `camera:0.01:sigma=3:smoothing=1.5:sharpening=0.5` | noise as a camera makes it |
//! | `downscale:2:filter=bicubic` | half the size and back |
//! | `motion-blur:8` | a path of 8 pixels |
//! | `recorded` | the degraded one of a pair |

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use serde::{Serialize, Serializer};
use tunableconv::checkpoint::Metadata;

use crate::degrade::{Blur, Degradation, Draw, Noise, apply, check_chain};
use crate::recipe::Link;
use crate::rgb::Rgb;

/// Degradations of fixed strengths, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// Their ranges are single numbers.
    links: Vec<Degradation>,
}

impl Condition {
    /// Of degradations whose ranges are single numbers.
    pub(crate) fn of(links: Vec<Degradation>) -> Self {
        Self { links }
    }

    /// Gaussian blur of a standard deviation in pixels, then Gaussian noise of one of 255; 0 for
    /// none.
    #[must_use]
    pub fn blur_and_noise(blur: f32, noise: f32) -> Self {
        let mut links = vec![];
        if blur != 0.0 {
            links.push(Blur { sigma: [blur; 2] }.into());
        }
        if noise != 0.0 {
            links.push(Noise { sigma: [noise; 2] }.into());
        }
        Self { links }
    }

    /// Each noise alone, each blur alone, and each blur with the first noise; 0 stands for none.
    #[must_use]
    pub fn noise_and_blur(noise: &[f32], blur: &[f32]) -> Vec<Self> {
        let present = |sigmas: &[f32]| -> Vec<f32> {
            sigmas.iter().copied().filter(|sigma| *sigma != 0.0).collect()
        };
        let (noise, blur) = (present(noise), present(blur));
        let mut all: Vec<_> = noise.iter().map(|&noise| Self::blur_and_noise(0.0, noise)).collect();
        for noise in [0.0].iter().chain(noise.first()) {
            all.extend(blur.iter().map(|&blur| Self::blur_and_noise(blur, *noise)));
        }
        all
    }

    /// What a net that undoes `chain` is measured under: each link alone, in the middle of its range
    /// and at its strongest, then all of them in the middle.
    #[must_use]
    pub fn all_of_chain(chain: &[Degradation]) -> Vec<Self> {
        let mut all: Vec<Self> = vec![];
        let middle: Vec<_> = chain.iter().map(|link| link.at(0.5)).collect();
        for (link, middle) in chain.iter().zip(&middle) {
            all.extend([middle.clone(), link.at(1.0)].map(|link| Self { links: vec![link] }));
        }
        all.push(Self { links: middle });
        distinct(all)
    }

    /// Checks strengths.
    ///
    /// # Errors
    /// Names the degradation and what was expected.
    pub fn check(&self) -> anyhow::Result<()> {
        let recorded = self.links.iter().filter(|link| link.is_recorded()).count();
        ensure!(recorded <= 1, "{recorded} times `recorded`, expected once at most");
        check_chain(&self.links)
    }

    /// The kinds of its degradations.
    pub fn kinds(&self) -> impl ExactSizeIterator<Item = &'static str> {
        self.links.iter().map(Degradation::kind)
    }

    /// Whether it begins with [`Degradation::Recorded`], and so needs pairs of pictures.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.links.first() == Some(&Degradation::RECORDED)
    }

    /// With [`Degradation::Recorded`] as its first.
    #[must_use]
    pub fn recorded(mut self) -> Self {
        if !self.is_recorded() {
            self.links.insert(0, Degradation::RECORDED);
        }
        self
    }

    /// A picture degraded by those links that `keep` says, in order. All random choices are functions
    /// of `seed`; Gaussian noise is that of [`crate::degrade::noise_for_eval`].
    ///
    /// # Panics
    /// If `keep` has another length than the chain, or [`Self::is_recorded`] and there is no `twin`.
    #[must_use]
    pub fn apply(&self, clean: &Rgb, twin: Option<&Rgb>, seed: u64, keep: &[bool]) -> Rgb {
        let strengths: Vec<_> = self.strengths().map(|(_, strength)| Some(strength)).collect();
        apply(&self.links, &Draw::fixed(&strengths, seed), keep, clean, twin)
    }

    /// A frame of a clip: noise is another in each, and the rest the same in all.
    ///
    /// # Panics
    /// If [`Self::is_recorded`].
    #[must_use]
    pub fn apply_to_frame(&self, clean: Rgb, seed: u64, frame_seed: u64) -> Rgb {
        let mut image = clean;
        for (i, link) in self.links.iter().enumerate() {
            let seed = if link.is_noise() { frame_seed } else { seed };
            let only: Vec<bool> = (0..self.links.len()).map(|j| j == i).collect();
            image = self.apply(&image, None, seed, &only);
        }
        image
    }

    /// Kind and strength of each degradation.
    pub fn strengths(&self) -> impl Iterator<Item = (&'static str, f32)> {
        self.links.iter().map(|link| (link.kind(), link.strengths()[0]))
    }

    /// For people: `blur 1.5, noise 25`.
    #[must_use]
    pub fn label(&self) -> String {
        let text = self.to_string();
        text.replace('+', ", ").replace(":sigma=", ", sigma ").replace([':', '='], " ")
    }
}

/// The degradations that a checkpoint was trained to undo; none where the file does not say.
///
/// # Errors
/// What cannot be understood.
pub fn trained_for(metadata: &Metadata) -> anyhow::Result<Vec<Link>> {
    let links = metadata.provenance.degradations.iter();
    let links = links.map(|link| Ok(serde_json::from_value(link.clone())?));
    let links: Vec<Link> = links.collect::<anyhow::Result<_>>().context(
        "the checkpoint was trained to undo what this version does not know: give --degrade",
    )?;
    let chain: Vec<_> = links.iter().map(|link| link.degradation.clone()).collect();
    check_chain(&chain).context("the checkpoint's degradations")?;
    Ok(links)
}

/// Without those that were there before.
#[must_use]
pub fn distinct(conditions: Vec<Condition>) -> Vec<Condition> {
    let mut distinct = vec![];
    for condition in conditions {
        if !distinct.contains(&condition) {
            distinct.push(condition);
        }
    }
    distinct
}

impl fmt::Display for Condition {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.links.is_empty() {
            return to.write_str("clean");
        }
        for (i, link) in self.links.iter().enumerate() {
            let before = if i == 0 { "" } else { "+" };
            write!(to, "{before}{}", link.kind())?;
            if !link.is_recorded() {
                write!(to, ":{}", link.strengths()[0])?;
            }
            for (key, value) in link.details() {
                write!(to, ":{key}={value}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Condition {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "clean" {
            return Ok(Self::default());
        }
        let links =
            text.split('+').map(|link| parse_link(link).with_context(|| format!("`{link}`")));
        let condition = Self { links: links.collect::<anyhow::Result<_>>()? };
        condition.check()?;
        Ok(condition)
    }
}

fn parse_link(text: &str) -> anyhow::Result<Degradation> {
    let mut parts = text.split(':');
    let kind = parts.next().unwrap_or_default();
    let Some((_, strength_key)) = Degradation::KINDS.iter().find(|(known, _)| *known == kind)
    else {
        bail!("there is no degradation `{kind}`, there are {}", Degradation::kinds());
    };
    // In the form that a recipe has.
    let mut fields = serde_json::Map::new();
    fields.insert("kind".into(), kind.into());
    let number = |text: &str| -> anyhow::Result<serde_json::Value> {
        let value: f32 = text.parse().with_context(|| format!("`{text}` is not a number"))?;
        ensure!(value.is_finite(), "{value}, expected a finite number");
        if Degradation::is_whole(kind) {
            ensure!(value.fract() == 0.0, "{value}, expected a whole number");
            let whole = u8::try_from(value as i64)
                .with_context(|| format!("{value}, expected a whole number from 0 to 255"))?;
            return Ok(serde_json::json!([whole, whole]));
        }
        Ok(serde_json::json!([value, value]))
    };
    if let Some(key) = strength_key {
        let strength =
            parts.next().with_context(|| format!("expected {kind}:{}", key.to_uppercase()))?;
        fields.insert((*key).into(), number(strength).context(*key)?);
    }
    for part in parts {
        let (key, value) =
            part.split_once('=').with_context(|| format!("`{part}`: expected KEY=VALUE"))?;
        let value = match key {
            "filter" => value.into(),
            _ => number(value).with_context(|| key.to_owned())?,
        };
        ensure!(fields.insert(key.into(), value).is_none(), "{key} is given twice");
    }
    Ok(serde_json::from_value(fields.into())?)
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::degrade::Jpeg;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in [
            "clean",
            "noise:25",
            "blur:1.5+noise:15",
            "recorded+jpeg:40",
            "poisson-gaussian:0.01:sigma=3",
            "chroma-noise:20:radius=1.5",
            "chroma-noise:20",
            "camera:0.01:sigma=3:smoothing=1.5:sharpening=0.5",
            "camera:0.01:sigma=0",
            "downscale:2:filter=bicubic",
            "motion-blur:8",
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        let area = "downscale:2+poisson-gaussian:0.1".parse::<Condition>().unwrap().to_string();
        assert_eq!(area, "downscale:2:filter=area+poisson-gaussian:0.1:sigma=0");
        assert_eq!(Condition::blur_and_noise(1.5, 25.0).to_string(), "blur:1.5+noise:25");
        assert_eq!(Condition::blur_and_noise(0.0, 25.0).label(), "noise 25");
        let label = "blur:2+poisson-gaussian:0.1:sigma=3".parse::<Condition>().unwrap().label();
        assert_eq!(label, "blur 2, poisson-gaussian 0.1, sigma 3");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", "there is no degradation ``, there are blur, noise"),
            ("nois:25", "there is no degradation `nois`"),
            ("noise", "expected noise:SIGMA"),
            ("noise:x", "sigma: `x` is not a number"),
            ("noise:-1", "expected 0 to 1000"),
            ("noise:nan", "expected a finite number"),
            ("noise:1001", "noise: sigma = 1001, expected 0 to 1000"),
            ("noise:5:radius=1", "radius"),
            ("noise:5:6", "`6`: expected KEY=VALUE"),
            ("noise:5:sigma=6", "sigma is given twice"),
            ("jpeg:0", "quality = 0, expected 1 to 100"),
            ("jpeg:40.5", "expected a whole number"),
            ("jpeg:101", "quality = 101, expected 1 to 100"),
            ("jpeg:300", "quality: 300, expected a whole number"),
            ("downscale:9", "factor"),
            ("downscale:2:filter=sharp", "sharp"),
            ("noise:5+recorded", "it must be the first"),
            ("recorded:3", "`3`: expected KEY=VALUE"),
        ] {
            let error = format!("{:#}", text.parse::<Condition>().unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_chain_is_measured_link_by_link_and_whole() {
        let chain = [
            Blur { sigma: [0.0, 2.0] }.into(),
            Jpeg { quality: [20, 60] }.into(),
            Noise { sigma: [5.0; 2] }.into(),
        ];
        let all: Vec<_> =
            Condition::all_of_chain(&chain).iter().map(Condition::to_string).collect();
        let expected =
            ["blur:1", "blur:2", "jpeg:40", "jpeg:20", "noise:5", "blur:1+jpeg:40+noise:5"];
        assert_eq!(all, expected);
        let one = Condition::all_of_chain(&chain[2..]);
        assert_eq!(one.len(), 1);
    }
}
