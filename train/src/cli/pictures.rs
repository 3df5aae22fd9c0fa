//! Which pictures a command measures on, and how it degrades them.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use tunableconv::checkpoint::Metadata;
use tunableconv_train::condition::{Condition, trained_for};
use tunableconv_train::test_set::TestSet;

/// Pictures, one way or the other.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct PicturesArgs {
    /// Folder of clean images.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of pairs of clips, NAME.clean.y4m and NAME.degraded.y4m.
    #[arg(long, value_name = "DIR")]
    pairs: Option<PathBuf>,
}

impl PicturesArgs {
    pub fn open(&self) -> anyhow::Result<TestSet> {
        match (&self.data, &self.pairs) {
            (Some(data), _) => TestSet::images(data),
            (None, Some(pairs)) => TestSet::pairs(pairs),
            (None, None) => anyhow::bail!("give --data DIR or --pairs DIR"),
        }
    }
}

/// One way to degrade them.
#[derive(Args)]
pub struct ConditionArgs {
    /// Degradations, one after the other, as in blur:1.5+jpeg:40; all kinds of recipes.
    #[arg(long, value_name = "CHAIN", conflicts_with_all = ["noise", "blur"])]
    degrade: Option<Condition>,
    /// Standard deviation of Gaussian noise, of 255; short for noise:SIGMA.
    #[arg(long, default_value_t = 0.0)]
    noise: f32,
    /// Standard deviation of Gaussian blur, in pixels, before noise; short for blur:SIGMA.
    #[arg(long, default_value_t = 0.0)]
    blur: f32,
}

impl ConditionArgs {
    /// Checked.
    pub fn condition(&self) -> anyhow::Result<Condition> {
        let short = || Condition::blur_and_noise(self.blur, self.noise);
        let condition = self.degrade.clone().unwrap_or_else(short);
        condition.check()?;
        Ok(condition)
    }
}

/// Several ways; where none is given, those that the checkpoint was trained for.
#[derive(Args)]
pub struct ConditionsArgs {
    /// Degradations, one after the other, as in blur:1.5+jpeg:40, and after a comma others; all kinds
    /// of recipes [default: those that the checkpoint was trained for, at medium and full strength].
    #[arg(long, value_name = "CHAIN", value_delimiter = ',', conflicts_with_all = ["noise", "blur"])]
    degrade: Vec<Condition>,
    /// Standard deviations of Gaussian noise, of 255.
    #[arg(long, value_name = "SIGMA", value_delimiter = ',')]
    noise: Option<Vec<f32>>,
    /// Standard deviations of Gaussian blur, in pixels.
    #[arg(long, value_name = "SIGMA", value_delimiter = ',')]
    blur: Option<Vec<f32>>,
}

impl ConditionsArgs {
    /// Those given; `short` makes them of what is given of noise and blur, and `usual` are those of a
    /// checkpoint that does not say what it was trained for.
    pub fn conditions(
        &self,
        metadata: &Metadata,
        set: &TestSet,
        short: impl Fn(Option<&[f32]>, Option<&[f32]>) -> Vec<Condition>,
    ) -> anyhow::Result<Vec<Condition>> {
        if !self.degrade.is_empty() {
            return Ok(self.degrade.clone());
        }
        if self.noise.is_some() || self.blur.is_some() {
            return Ok(short(self.noise.as_deref(), self.blur.as_deref()));
        }
        let chain: Vec<_> =
            trained_for(metadata)?.into_iter().map(|link| link.degradation).collect();
        let (recorded, made): (Vec<_>, Vec<_>) =
            chain.into_iter().partition(|link| link.is_recorded());
        let mut conditions = if made.is_empty() { vec![] } else { Condition::all_of_chain(&made) };
        if set.has_pairs() || set.scale() > 1 {
            conditions.insert(0, Condition::default());
        }
        if conditions.is_empty() {
            ensure!(
                recorded.is_empty(),
                "the checkpoint was trained on recorded pairs: give --pairs DIR, or --degrade CHAIN"
            );
            conditions = short(None, None);
        }
        Ok(conditions)
    }
}
