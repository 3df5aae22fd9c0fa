//! Degraded before it came here.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Degradation;
use super::kind::{Fixed, Kind};

/// Comes degraded, as the twin of the clean image in a
/// [pair of clips](crate::pairs::PairFolder). Must be the first of its chain.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Only pairs in a folder of this name; any if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

impl Degradation {
    /// From any folder.
    pub const RECORDED: Self = Self::Recorded(Recorded { folder: None });

    /// The degradation as [`Recorded`], if it is that.
    #[must_use]
    pub fn as_recorded(&self) -> Option<&Recorded> {
        match self {
            Self::Recorded(recorded) => Some(recorded),
            _ => None,
        }
    }

    /// Whether it is [`Recorded`].
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.as_recorded().is_some()
    }
}

impl Kind for Recorded {
    const STRENGTH: Option<&'static str> = None;
    const NOTHING: f32 = 1.0;

    fn strengths(&self) -> [f32; 2] {
        [1.0; 2]
    }

    /// From any folder: how strong it is nobody knows.
    fn at(&self, _: f32) -> Self {
        Self { folder: None }
    }

    fn check(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Nothing: it needs no more than its twin.
    fn fix(&self, _: f32, _: ChaCha8Rng, _: (usize, usize)) -> Option<Fixed> {
        None
    }
}
