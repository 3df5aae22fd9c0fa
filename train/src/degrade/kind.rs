//! What every kind of degradation says of itself, and what follows from that.

use std::fmt::Debug;

use anyhow::ensure;
use rand_chacha::ChaCha8Rng;

use super::Degradation;
use crate::rgb::Rgb;

/// A degradation with every random choice made, for images of one size.
pub type Fixed = Box<dyn Fn(&Rgb) -> Rgb>;

/// A kind of degradation: the ranges that its strengths are drawn from, and what it does to an image.
pub trait Kind: Debug + Sized {
    /// The key of its strength, by which it is told how strong it is; `None` where nobody knows.
    const STRENGTH: Option<&'static str>;

    /// The strength at which nothing happens.
    const NOTHING: f32 = 0.0;

    /// Whether a strength is a whole number.
    const WHOLE: bool = false;

    /// Whether it is another in every frame of a clip, whatever the scene does.
    const NOISE: bool = false;

    /// Least and greatest strength.
    fn strengths(&self) -> [f32; 2];

    /// With every range cut to one number: `severity` is the way from where it degrades least, 0, to
    /// where it degrades most, 1.
    #[must_use]
    fn at(&self, severity: f32) -> Self;

    /// Checks that ranges are ranges, within their limits.
    ///
    /// # Errors
    /// Names the key and what was expected.
    fn check(&self) -> anyhow::Result<()>;

    /// Makes every random choice but the strength. `None` where nothing would change.
    fn fix(&self, strength: f32, rng: ChaCha8Rng, size: (usize, usize)) -> Option<Fixed>;

    /// What the errors grow with.
    fn amount(strength: f32) -> f32 {
        strength
    }

    /// The inverse of [`Self::amount`].
    fn of_amount(amount: f32) -> f32 {
        amount
    }

    /// What is fixed besides the strength, by key, where its ranges are single numbers; without what is
    /// left at its default.
    fn details(&self) -> Vec<(&'static str, String)> {
        vec![]
    }
}

/// The kinds there are, as [`Degradation`].
macro_rules! kinds {
    ($($(#[$doc:meta])* $module:ident: $kind:ident as $name:literal,)*) => {
        $(mod $module; pub use $module::$kind;)*

        /// One link of a chain, with the ranges its strengths are drawn from: uniformly, for every
        /// sample. Nothing tells the net what was drawn.
        ///
        /// In a recipe: `{ kind = "motion-blur", length = [0.0, 12.0] }`.
        #[derive(serde::Deserialize, serde::Serialize, Clone, Debug, PartialEq)]
        #[serde(tag = "kind")]
        pub enum Degradation {
            $($(#[$doc])* #[serde(rename = $name)] $kind($kind),)*
        }

        $(impl From<$kind> for Degradation {
            fn from(kind: $kind) -> Self {
                Self::$kind(kind)
            }
        })*

        impl Degradation {
            /// Every kind's name, and the key of its strength where it has any.
            pub const KINDS: &[(&str, Option<&str>)] = &[$(($name, $kind::STRENGTH),)*];

            /// The name of its kind in recipes.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$kind(_) => $name,)* }
            }

            /// Whether it is another in every frame of a clip, whatever the scene does.
            #[must_use]
            pub fn is_noise(&self) -> bool {
                match self { $(Self::$kind(_) => $kind::NOISE,)* }
            }

            /// Whether the strength of the kind of that name is a whole number.
            pub(crate) fn is_whole(name: &str) -> bool {
                match name { $($name => $kind::WHOLE,)* _ => false }
            }

            /// With every range cut to one number: `severity` is the way from where it degrades least,
            /// 0, to where it degrades most, 1.
            #[must_use]
            pub fn at(&self, severity: f32) -> Self {
                match self { $(Self::$kind(kind) => Self::$kind(kind.at(severity)),)* }
            }

            /// Least and greatest strength. 1 where there is none.
            #[must_use]
            pub fn strengths(&self) -> [f32; 2] {
                match self { $(Self::$kind(kind) => kind.strengths(),)* }
            }

            /// Checks what the type cannot: that ranges are ranges, within their limits.
            ///
            /// # Errors
            /// Names the kind, the key and what was expected.
            pub fn check(&self) -> anyhow::Result<()> {
                let checked = match self { $(Self::$kind(kind) => kind.check(),)* };
                checked.map_err(|error| error.context(self.kind()))
            }

            /// See [`Kind::details`].
            pub(crate) fn details(&self) -> Vec<(&'static str, String)> {
                match self { $(Self::$kind(kind) => kind.details(),)* }
            }

            /// See [`Kind::fix`].
            fn fix(&self, strength: f32, rng: ChaCha8Rng, size: (usize, usize)) -> Option<Fixed> {
                match self { $(Self::$kind(kind) => kind.fix(strength, rng, size),)* }
            }

            /// What the errors grow with.
            fn amount(&self, strength: f32) -> f32 {
                match self { $(Self::$kind(_) => $kind::amount(strength),)* }
            }

            fn of_amount(&self, amount: f32) -> f32 {
                match self { $(Self::$kind(_) => $kind::of_amount(amount),)* }
            }

            /// The strength at which nothing happens.
            fn nothing(&self) -> f32 {
                match self { $(Self::$kind(_) => $kind::NOTHING,)* }
            }
        }
    };
}
pub(super) use kinds;

impl Degradation {
    /// The names of all kinds, for people.
    #[must_use]
    pub fn kinds() -> String {
        Self::KINDS.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", ")
    }

    /// How strong a strength is, from 0 where nothing happens to 1 at the strongest of the range; 0 of
    /// [`Self::Recorded`], whose strength nobody knows.
    #[must_use]
    pub fn level(&self, strength: f32) -> f32 {
        let (nothing, most) = self.amounts();
        if most == nothing { 0.0 } else { (self.amount(strength) - nothing) / (most - nothing) }
    }

    /// The strength of a level, within the range.
    #[must_use]
    pub fn strength_at(&self, level: f32) -> f32 {
        let (nothing, most) = self.amounts();
        let [low, high] = self.strengths();
        self.of_amount(nothing + level * (most - nothing)).clamp(low, high)
    }

    /// What errors grow with, where nothing happens and at the strongest.
    fn amounts(&self) -> (f32, f32) {
        (self.amount(self.nothing()), self.amount(self.at(1.0).strengths()[0]))
    }
}

/// Checks every degradation of a chain, and that recorded ones come first; of those a sample has one.
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

/// The number that is `severity` of the way through a range.
pub fn within([low, high]: [f32; 2], severity: f32) -> [f32; 2] {
    [low + severity * (high - low); 2]
}

/// # Errors
/// Names the key, its range, and what was expected.
pub fn check_range(
    name: &str,
    [low, high]: [f32; 2],
    [least, most]: [f32; 2],
) -> anyhow::Result<()> {
    let is_range = least <= low && low <= high && high <= most;
    ensure!(low != high || is_range, "{name} = {low}, expected {least} to {most}");
    ensure!(
        is_range,
        "{name} = [{low}, {high}]: expected [least, greatest] with \
         {least} <= least <= greatest <= {most}"
    );
    Ok(())
}
