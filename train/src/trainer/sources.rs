//! What a run reads besides its recipe, and what of it is kept for validation.

use std::path::{PathBuf, absolute};

use anyhow::{Context as _, bail, ensure};
use bytesize::ByteSize;
use candle_core::Device;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tunableconv::checkpoint::DataSet;

use crate::batch::Pictures;
use crate::data::{ImageFolder, Keep, default_cache};
use crate::loss::features::FeatureNet;
use crate::pairs::PairFolder;
use crate::recipe::Recipe;
use crate::run_dir::record::{hash_features, hash_styles};
use crate::run_dir::{DataRecord, Set};
use crate::tell;
use crate::validation::SIDE;

/// Share of the pictures that is set aside where none are given for validation.
pub const VAL_SHARE: f64 = 0.05;

/// Images below which none are set aside: they are needed more for training.
const ENOUGH: usize = 8;

/// Most images, or pairs of clips, set aside: more would be measured on no longer.
const MOST: usize = 32;

/// Stream of the generator that chooses them; batches have those from 1 on.
const STREAM: u64 = u64::MAX;

/// What a run reads besides its recipe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Folders of clean images.
    pub folders: Vec<PathBuf>,
    /// Folders of pairs of clips, for recorded degradations.
    pub pairs: Vec<PathBuf>,
    /// Weights of a feature network, for losses on features.
    pub features: Option<PathBuf>,
    /// Folders of clean images for validation.
    pub val: Vec<PathBuf>,
    /// Folders of pairs of clips for validation.
    pub val_pairs: Vec<PathBuf>,
    /// Share of the pictures that is set aside where none are given for validation, 0 to below 1;
    /// [`VAL_SHARE`] if not given.
    pub val_share: Option<f64>,
    /// Most bytes of memory that the pictures take; [`default_cache`] if not given.
    pub cache: Option<u64>,
}

impl Sources {
    /// These, where given, instead of what a run has recorded.
    #[must_use]
    pub fn or(self, recorded: &Self) -> Self {
        let or = |given: Vec<PathBuf>, recorded: &Vec<PathBuf>| {
            if given.is_empty() { recorded.clone() } else { given }
        };
        Self {
            folders: or(self.folders, &recorded.folders),
            pairs: or(self.pairs, &recorded.pairs),
            features: self.features.or_else(|| recorded.features.clone()),
            val: or(self.val, &recorded.val),
            val_pairs: or(self.val_pairs, &recorded.val_pairs),
            val_share: self.val_share.or(recorded.val_share),
            cache: self.cache.or(recorded.cache),
        }
    }

    /// With paths that mean the same from everywhere, and what depends on the machine as it is here.
    ///
    /// # Errors
    /// If there is no current folder.
    pub fn settled(mut self) -> anyhow::Result<Self> {
        self.cache = self.cache.or_else(|| Some(default_cache()));
        let lists = [&mut self.folders, &mut self.pairs, &mut self.val, &mut self.val_pairs];
        for path in lists.into_iter().flatten().chain(&mut self.features) {
            *path = absolute(&*path).with_context(|| path.display().to_string())?;
        }
        Ok(self)
    }
}

/// What was read.
pub struct Loaded {
    /// To train on.
    pub pictures: Pictures,
    /// To measure on, if there are any.
    pub held: Option<Pictures>,
    /// For losses on features.
    pub features: Option<FeatureNet>,
    /// What all of it was.
    pub record: DataRecord,
    /// The data sets trained on.
    pub sets: Vec<DataSet>,
}

impl Loaded {
    /// Reads everything that the recipe needs, and says what it has.
    ///
    /// # Errors
    /// Something that is needed and not given, or cannot be used.
    pub fn new(sources: &Sources, recipe: &Recipe) -> anyhow::Result<Self> {
        let features = sources.features.as_deref().filter(|_| recipe.needs_features());
        ensure!(
            features.is_some() || !recipe.needs_features(),
            "the recipe has losses on features: give --features FILE"
        );
        let net = features.map(|path| FeatureNet::load(path, &Device::Cpu)).transpose()?;
        ensure!(
            !(recipe.needs_pairs() && sources.pairs.is_empty()),
            "the recipe has a recorded degradation: give --pairs DIR"
        );
        let share = sources.val_share.unwrap_or(VAL_SHARE);
        ensure!((0.0..1.0).contains(&share), "--val-share {share}, expected 0 to below 1");
        let mut room = sources.cache.unwrap_or_else(default_cache);
        let enough = "--cache-size SIZE makes more room";
        let mut pairs = load_pairs(&sources.pairs, recipe, &mut room).context(enough)?;
        let own_val_pairs = load_pairs(&sources.val_pairs, recipe, &mut room).context(enough)?;
        let side = recipe.batch.crop;
        let span = side + 2 * recipe.batch.halo;
        let keep = Keep::Within { bytes: room, span };
        let mut images = ImageFolder::load(&sources.folders, side, keep)?;
        let (count, skipped, bytes) = (images.len(), images.skipped(), ByteSize(images.bytes()));
        tell!("{count} images, {skipped} skipped, {bytes} in memory");
        if images.kept() < 1.0 {
            tell!(
                "in memory are pieces of the larger ones, {:.1}% of all pixels, as there is room for \
                 {}: {enough}",
                images.kept() * 100.0,
                ByteSize(room)
            );
        }
        let mut sets = images.sets().to_vec();
        sets.extend(pairs.iter().flat_map(|pairs| pairs.sets().iter().cloned()));
        for DataSet { name, licence, count, .. } in &sets {
            tell!("data set: {name}, {licence}, {} read", count.unwrap_or_default());
        }
        let image_set = |images: &ImageFolder| Set::new(images.len(), images.hash());
        let pair_set = |pairs: &PairFolder| Set::new(pairs.clips(), pairs.hash());
        let mut record = DataRecord {
            images: image_set(&images),
            pairs: pairs.as_ref().map(pair_set),
            val_images: None,
            val_pairs: None,
            features: hash_features(features)?,
            styles: hash_styles(recipe)?,
        };

        let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
        rng.set_stream(STREAM);
        let aside = |count: usize| match (share * count as f64).ceil() as usize {
            number if count >= ENOUGH && number > 0 => number.min(MOST).min(count - 1),
            _ => 0,
        };
        let val_images = if sources.val.is_empty() {
            let count = aside(images.len());
            (count > 0).then(|| images.set_aside(count, &mut rng))
        } else {
            let own = ImageFolder::load(&sources.val, side, Keep::Middle { side: SIDE.max(span) })?;
            record.val_images = Some(image_set(&own));
            Some(own)
        };
        if let Some(held) = &val_images {
            let count = images.leave_out(held);
            let are = if count == 1 { "image is" } else { "images are" };
            if count > 0 {
                tell!("{count} {are} not trained on: the same picture is kept for validation");
            }
            ensure!(images.paths().len() > 0, "every image of --data is in --val, too");
        }
        let folders: Vec<&str> = recipe
            .degradations
            .iter()
            .filter_map(|link| link.degradation.as_recorded()?.folder.as_deref())
            .collect();
        let val_pairs = match &mut pairs {
            Some(pairs) if sources.val_pairs.is_empty() => {
                // A clip is no loss where there is another one.
                let count = aside(pairs.clips()).max(usize::from(share > 0.0 && pairs.clips() > 1));
                (count > 0).then(|| pairs.set_aside(count, &folders, &mut rng))
            }
            _ => own_val_pairs.inspect(|own| {
                record.val_pairs = Some(pair_set(own));
            }),
        };
        let missing = |pairs: &Option<PairFolder>| {
            let pairs = pairs.as_ref()?;
            folders.iter().find(|folder| pairs.frames_in(Some(folder)).is_empty())
        };
        if let Some(folder) = missing(&pairs) {
            bail!(
                "--pairs: no pair of clips is left in a folder `{folder}`, which the recipe asks for"
            );
        }
        if let Some(folder) = missing(&val_pairs) {
            bail!("no pair of clips in a folder `{folder}` for validation: give --val-pairs DIR");
        }
        let held = match (val_images, val_pairs) {
            (Some(images), pairs) if pairs.is_some() || !recipe.needs_pairs() => {
                let from = if sources.val.is_empty() { "set aside" } else { "given" };
                let count = images.len();
                tell!("{count} image{} {from} for validation", if count == 1 { "" } else { "s" });
                Some(Pictures { images, pairs })
            }
            _ => {
                let needed =
                    if recipe.needs_pairs() { "--val DIR --val-pairs DIR" } else { "--val DIR" };
                tell!("no pictures for validation: give {needed} to see how the run does");
                None
            }
        };
        Ok(Self { pictures: Pictures { images, pairs }, held, features: net, record, sets })
    }
}

/// What fits into `room` bytes, which become fewer.
fn load_pairs(
    folders: &[PathBuf],
    recipe: &Recipe,
    room: &mut u64,
) -> anyhow::Result<Option<PairFolder>> {
    if folders.is_empty() || !recipe.needs_pairs() {
        return Ok(None);
    }
    let pairs = PairFolder::load(folders, recipe.batch.crop, *room)?;
    tell!("{} pairs of frames, {} clips skipped", pairs.len(), pairs.skipped());
    *room = room.saturating_sub(pairs.bytes());
    Ok(Some(pairs))
}
