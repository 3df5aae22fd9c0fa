//! Which degradations each parameter undoes.

use anyhow::ensure;
use tunableconv::checkpoint::Metadata;
use tunableconv::tuning::Domain;

use super::points::{Place, Point};
use crate::condition::{Condition, trained_for};
use crate::degrade::Degradation;

/// Kinds of degradation that the parameters of a net undo.
#[derive(Clone, Debug)]
pub struct Roles {
    /// One list per parameter; an empty one where nothing is known.
    kinds: Vec<Vec<String>>,
    maxima: Vec<f64>,
    is_single: bool,
}

impl Roles {
    /// As `given` by name of the parameter, else as the checkpoint says; where it does not, `denoise`
    /// undoes kinds of noise and `deblur` kinds of blur.
    ///
    /// # Errors
    /// A parameter or kind that there is not.
    pub fn new(metadata: &Metadata, given: &[(String, String)]) -> anyhow::Result<Self> {
        let space = &metadata.tuning;
        for (name, kind) in given {
            let known = space.parameters.iter().any(|p| &p.name == name);
            ensure!(known, "no parameter `{name}`, there are {}", space.names());
            let known = Degradation::KINDS.iter().any(|(known, _)| known == kind);
            ensure!(known, "there is no degradation `{kind}`, there are {}", Degradation::kinds());
        }
        let links = trained_for(metadata)?;
        let kinds_of = |name: &str| -> Vec<String> {
            let own: Vec<_> =
                given.iter().filter(|(n, _)| n == name).map(|(_, k)| k.clone()).collect();
            if !own.is_empty() {
                return own;
            }
            if !links.is_empty() {
                let own = links.iter().filter(|link| link.parameter == name);
                return own.map(|link| link.degradation.kind().to_owned()).collect();
            }
            let usual: &[&str] = match name {
                "denoise" => &["noise", "poisson-gaussian", "chroma-noise", "camera"],
                "deblur" => &["blur", "motion-blur"],
                _ => &[],
            };
            usual.iter().map(|kind| (*kind).to_owned()).collect()
        };
        Ok(Self {
            kinds: space.parameters.iter().map(|p| kinds_of(&p.name)).collect(),
            maxima: space.parameters.iter().map(|p| p.maximum).collect(),
            is_single: space.domain == Domain::Simplex && space.len() == 1,
        })
    }

    /// The kinds that each parameter undoes.
    #[must_use]
    pub fn kinds(&self) -> &[Vec<String>] {
        &self.kinds
    }

    /// Which degradations of a condition the target of a point keeps: those that no parameter undoes
    /// which is on. `None` away from the corners, or where nothing is known of the parameters.
    #[must_use]
    pub fn kept_at(&self, point: &Point, condition: &Condition) -> Option<Vec<bool>> {
        let known =
            point.place == Place::Corner && self.kinds.iter().any(|kinds| !kinds.is_empty());
        let is_on = |j: usize| point.tuning[j] == self.maxima[j];
        known.then(|| self.kept(condition, is_on))
    }

    /// Which degradations of a condition the target along parameter `j` keeps: where it alone is on,
    /// or none where nothing is known of it. `None` where there is nothing for it to undo.
    #[must_use]
    pub fn kept_along(&self, j: usize, condition: &Condition) -> Option<Vec<bool>> {
        let own = &self.kinds[j];
        if self.is_single {
            return None;
        }
        if own.is_empty() {
            return Some(vec![false; condition.kinds().len()]);
        }
        let undoes_some = condition.kinds().any(|kind| own.iter().any(|own| own == kind));
        undoes_some.then(|| self.kept(condition, |other| other == j))
    }

    fn kept(&self, condition: &Condition, is_on: impl Fn(usize) -> bool) -> Vec<bool> {
        let undone = |kind: &str| {
            let mut on = self.kinds.iter().enumerate().filter(|(j, _)| is_on(*j));
            on.any(|(_, kinds)| kinds.iter().any(|own| own == kind))
        };
        condition.kinds().map(|kind| !undone(kind)).collect()
    }
}
