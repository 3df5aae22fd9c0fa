//! What a run was made of: a resumed run must have the same.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::content::{Hash, hash_file};
use crate::recipe::Recipe;
use crate::trainer::{Cadence, Sources};

/// All that decides a run besides its recipe; `run.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// What was given to read.
    pub sources: Sources,
    /// What was read.
    pub data: DataRecord,
    /// How often it reports and saves.
    pub cadence: Cadence,
    /// Level of the processor's kernels that it trains with; others round otherwise.
    pub kernels: String,
}

/// What was in the files of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecord {
    /// Images, before any were set aside.
    pub images: Set,
    /// Pairs of clips, before any were set aside, if the recipe uses such.
    pub pairs: Option<Set>,
    /// Images for validation, if such were given.
    pub val_images: Option<Set>,
    /// Pairs of clips for validation, if such were given.
    pub val_pairs: Option<Set>,
    /// Hash of the feature network's file, if the recipe uses one.
    pub features: Option<String>,
    /// Hashes of the style pictures' files, in the order of the objectives.
    pub styles: Vec<String>,
}

/// Files that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// How many: images, or pairs of clips.
    pub count: usize,
    /// Hash of their names and contents.
    pub hash: String,
}

impl Set {
    /// As a folder has it.
    #[must_use]
    pub fn new(count: usize, hash: Hash) -> Self {
        Self { count, hash: hash.to_string() }
    }
}

impl DataRecord {
    /// Checks that a run goes on with what it began with.
    ///
    /// # Errors
    /// Names what differs.
    pub fn check(&self, now: &Self) -> anyhow::Result<()> {
        let sets = [
            ("images", Some(&self.images), Some(&now.images)),
            ("pairs of clips", self.pairs.as_ref(), now.pairs.as_ref()),
            ("validation images", self.val_images.as_ref(), now.val_images.as_ref()),
            ("validation pairs of clips", self.val_pairs.as_ref(), now.val_pairs.as_ref()),
        ];
        for (what, began, now) in sets {
            let count = |set: Option<&Set>| set.map_or(0, |set| set.count);
            let (before, count) = (count(began), count(now));
            ensure!(before == count, "the run began with {before} {what}, there are {count} now");
            ensure!(began == now, "the run began with {before} other {what}");
        }
        ensure!(self.features == now.features, "the run began with another feature network");
        ensure!(self.styles == now.styles, "the run began with another style picture");
        Ok(())
    }
}

/// Hash of the feature network's file.
///
/// # Errors
/// If it cannot be read.
pub fn hash_features(path: Option<&Path>) -> anyhow::Result<Option<String>> {
    path.map(|path| Ok(hash_file(path)?.to_string())).transpose()
}

/// Hashes of the files that a recipe's losses read.
///
/// # Errors
/// If one cannot be read.
pub fn hash_styles(recipe: &Recipe) -> anyhow::Result<Vec<String>> {
    let files = recipe.objectives.iter().filter_map(|objective| objective.loss.as_loss().file());
    files.map(|path| Ok(hash_file(path)?.to_string())).collect()
}

impl RunRecord {
    /// Reads the record of a run.
    ///
    /// # Errors
    /// Names the file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }
}
