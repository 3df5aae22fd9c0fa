//! Points of parameters that are told how strong a degradation is: at each picture's own level, and where
//! that is told wrongly.

use tunableconv::checkpoint::Metadata;

use crate::batch::measured_level;
use crate::condition::{Condition, trained_for};
use crate::recipe::Link;
use crate::score::RANGE;
use crate::test_set::TestPicture;
use crate::view::View;

/// What the level is multiplied with.
pub const FACTORS: [f64; 3] = [1.0, 0.5, 2.0];

/// The parameters of a checkpoint that are told levels.
pub struct Levels {
    /// For each parameter the degradations whose level it is told; none for any other.
    links: Vec<Vec<Link>>,
    maxima: Vec<f64>,
}

impl Levels {
    /// As the checkpoint says.
    ///
    /// # Errors
    /// A checkpoint that says what this version does not know.
    pub fn new(metadata: &Metadata) -> anyhow::Result<Self> {
        let all = trained_for(metadata)?;
        let own = |name: &str| {
            let own = all.iter().filter(|link| link.parameter == name && link.level.is_some());
            own.cloned().collect()
        };
        let parameters = &metadata.tuning.parameters;
        Ok(Self {
            links: parameters.iter().map(|p| own(&p.name)).collect(),
            maxima: parameters.iter().map(|p| p.maximum).collect(),
        })
    }

    /// Whether there are any.
    #[must_use]
    pub fn are_told(&self) -> bool {
        self.links.iter().any(|links| !links.is_empty())
    }

    /// The tuning for a picture under a condition: its levels times `factor`, within the domain; every
    /// other parameter is on.
    #[must_use]
    pub fn tuning(
        &self,
        picture: &TestPicture,
        condition: &Condition,
        index: usize,
        factor: f64,
    ) -> Vec<f64> {
        let entry = |(links, maximum): (&Vec<Link>, &f64)| match links.is_empty() {
            true => *maximum,
            false => (self.level(links, picture, condition, index) * factor).clamp(0.0, 1.0),
        };
        self.links.iter().zip(&self.maxima).map(entry).collect()
    }

    /// `tuning` with the entries that are told levels replaced as in [`Self::tuning`].
    #[must_use]
    pub fn told(
        &self,
        tuning: &[f32],
        picture: &TestPicture,
        condition: &Condition,
        index: usize,
        factor: f64,
    ) -> Vec<f64> {
        let told = self.tuning(picture, condition, index, factor);
        let entries = self.links.iter().zip(told).zip(tuning);
        let entry = |((links, told), given): ((&Vec<Link>, f64), &f32)| match links.is_empty() {
            true => f64::from(*given),
            false => told,
        };
        entries.map(entry).collect()
    }

    /// Whether a recorded degradation is that of this pair: where the checkpoint was trained on pairs in
    /// folders of certain names, those of the folders that this one is in; if it is in none of them, any.
    fn is_recorded_in(&self, link: &Link, picture: &TestPicture) -> bool {
        fn folder(link: &Link) -> Option<&String> {
            link.degradation.as_recorded()?.folder.as_ref()
        }
        let is_here = |link: &Link| folder(link).is_some_and(|name| picture.folders.contains(name));
        folder(link).is_none() || is_here(link) || !self.links.iter().flatten().any(is_here)
    }

    /// The level of what `links` undo.
    fn level(
        &self,
        links: &[Link],
        picture: &TestPicture,
        condition: &Condition,
        index: usize,
    ) -> f64 {
        let is_recorded_here = |link: &&Link| self.is_recorded_in(link, picture);
        let own = |kind: &str| {
            links.iter().filter(is_recorded_here).find(|link| link.degradation.kind() == kind)
        };
        if let Some(level) = links[0].level.filter(|level| level.error.is_some()) {
            let others: Vec<bool> = condition.kinds().map(|kind| own(kind).is_none()).collect();
            let degraded = picture.degraded(condition, index).normalised(RANGE);
            let without = picture.planes(condition, index, &others).normalised(RANGE);
            return measured_level(View::YUV420, &degraded, &without, level).map_or(0.0, f64::from);
        }
        let levels = condition
            .strengths()
            .filter_map(|(kind, strength)| Some(f64::from(own(kind)?.degradation.level(strength))));
        levels.fold(0.0, f64::max)
    }
}
