//! The run directory: resolved recipe, metrics log, resumable state, checkpoint.
//!
//! | file | what |
//! |---|---|
//! | `recipe.toml` | the recipe with every value, its seed among them |
//! | `data.json` | the image folders, and a fingerprint of what was in them |
//! | `start.safetensors` | the checkpoint that the run started from, if it did |
//! | `metrics.csv` | one line per logged step; the last columns are the objectives |
//! | `state.safetensors` | weights, moments and averages at a step: what `--resume` reads |
//! | `checkpoint.safetensors` | the averaged weights as a checkpoint, ready for the element |

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tunableconv::atomic_file;
use tunableconv::checkpoint::Checkpoint;

use crate::data::ImageFolder;
use crate::optimiser::Slot;
use crate::recipe::{Objective, Recipe};

const METRICS_HEADER: &str = "step,loss,psnr_db,learning_rate,gradient_norm,live_channels";

/// Name of the running means of the losses in the state.
const MEANS: &str = "objective_means";

/// What a run needs to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Steps taken.
    pub steps: u64,
    /// The trained tensors of the net and of a discriminator.
    pub slots: BTreeMap<String, Slot>,
    /// Running mean of each objective's loss where weights are adaptive, else empty.
    pub means: Vec<f32>,
}

/// What the images of a run were; a resumed run must have the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Folders, as given.
    pub folders: Vec<PathBuf>,
    /// Images used.
    pub images: usize,
    /// Hash of the images' names and sizes, in order.
    pub fingerprint: String,
    /// Number of pairs of frames, if the recipe uses such.
    #[serde(default)]
    pub pairs: Option<usize>,
    /// Hash of the feature network's file, if the recipe uses one.
    #[serde(default)]
    pub features: Option<String>,
}

impl DataRecord {
    /// Records the images of `folder`, loaded from `folders`, the number of pairs of frames, and the
    /// feature network's file.
    ///
    /// # Errors
    /// When that file cannot be read.
    pub fn new(
        folders: &[PathBuf],
        folder: &ImageFolder,
        pairs: Option<usize>,
        features: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let lines = folder.paths().iter().zip(folder.images()).flat_map(|(path, image)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name} {}x{}\n", image.width(), image.height()).into_bytes()
        });
        let features = features.map(|path| {
            let bytes = fs::read(path).with_context(|| path.display().to_string())?;
            anyhow::Ok(fnv1a(bytes))
        });
        Ok(Self {
            folders: folders.to_vec(),
            images: folder.len(),
            fingerprint: fnv1a(lines),
            pairs,
            features: features.transpose()?,
        })
    }
}

/// 64 bits, in hexadecimal.
fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> String {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.into_iter().fold(0xcbf2_9ce4_8422_2325_u64, mix))
}

/// One line of the metrics log.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Steps taken.
    pub step: u64,
    /// Mean loss since the last line.
    pub loss: f64,
    /// Mean luma PSNR to the mean target of the corners since the last line, in dB.
    pub psnr_db: Option<f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean gradient norm since the last line.
    pub gradient_norm: f64,
    /// Share of inner channels that are positive somewhere in the batch.
    pub live_channels: f64,
    /// Mean of each objective's loss since the last line, samples weighted by w(ω); not a number
    /// where no sample counted.
    pub objectives: Vec<f64>,
    /// Mean loss of the discriminator since the last line.
    pub discriminator_loss: Option<f64>,
}

/// A run directory on disk.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes a new run directory; `start` is the checkpoint that the run starts from.
    ///
    /// # Errors
    /// When it already holds a run.
    pub fn create(
        path: &Path,
        recipe: &Recipe,
        data: &DataRecord,
        start: Option<&Checkpoint>,
    ) -> anyhow::Result<Self> {
        let dir = Self { path: path.into() };
        ensure!(
            !dir.recipe_path().exists(),
            "{} already holds a run; continue it with --resume or choose another folder",
            path.display()
        );
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        write_text(&dir.path.join("data.json"), &serde_json::to_string_pretty(data)?)?;
        write_text(&dir.metrics_path(), &format!("{}\n", metrics_header(recipe)))?;
        if let Some(start) = start {
            start.write(&dir.start_path())?;
        }
        // Last, as it is what makes the folder a run.
        write_text(&dir.recipe_path(), &recipe.to_toml()?)?;
        Ok(dir)
    }

    /// Opens the run directory of an earlier run; returns its recipe too.
    ///
    /// # Errors
    /// When it holds no run, or the run had other images.
    pub fn open(path: &Path) -> anyhow::Result<(Self, Recipe)> {
        let dir = Self { path: path.into() };
        let recipe = Recipe::read(&dir.recipe_path())
            .with_context(|| format!("{} holds no run to resume", path.display()))?;
        Ok((dir, recipe))
    }

    /// Checks that the images are those the run began with.
    ///
    /// # Errors
    /// Names both sets when they differ.
    pub fn check_data(&self, data: &DataRecord) -> anyhow::Result<()> {
        let path = self.path.join("data.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let began: DataRecord = serde_json::from_str(&text).context(path.display().to_string())?;
        if (began.images, &began.fingerprint) == (data.images, &data.fingerprint) {
            ensure!(
                began.pairs == data.pairs,
                "the run began with {} pairs of frames, these are {}",
                began.pairs.unwrap_or(0),
                data.pairs.unwrap_or(0)
            );
            ensure!(began.features == data.features, "the run began with another feature network");
            return Ok(());
        }
        bail!(
            "the run began with {} images of {:?}, this is {} other images of {:?}",
            began.images,
            began.folders,
            data.images,
            data.folders
        )
    }

    /// Where the shippable checkpoint goes.
    pub fn checkpoint_path(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    /// The checkpoint that the run started from, if it did.
    ///
    /// # Errors
    /// A broken file.
    pub fn start(&self) -> anyhow::Result<Option<Checkpoint>> {
        let path = self.start_path();
        Ok(path.exists().then(|| Checkpoint::read(&path)).transpose()?)
    }

    fn start_path(&self) -> PathBuf {
        self.path.join("start.safetensors")
    }

    fn recipe_path(&self) -> PathBuf {
        self.path.join("recipe.toml")
    }

    fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    fn state_path(&self) -> PathBuf {
        self.path.join("state.safetensors")
    }

    /// Appends to the metrics log.
    ///
    /// # Errors
    /// The I/O error, naming the file.
    pub fn log(&self, metrics: &Metrics) -> anyhow::Result<()> {
        let path = self.metrics_path();
        let Metrics { step, loss, learning_rate, gradient_norm, live_channels, .. } = metrics;
        let psnr = metrics.psnr_db.map_or(String::new(), |psnr| format!("{psnr:.3}"));
        let mut line = format!(
            "{step},{loss:.6},{psnr},{learning_rate:.3e},{gradient_norm:.4},{live_channels:.4}"
        );
        for value in metrics.objectives.iter().chain(&metrics.discriminator_loss) {
            line += &format!(",{value:.6}");
        }
        let file = OpenOptions::new().append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Drops lines of the metrics log after `step`, which a resumed run will write again.
    ///
    /// # Errors
    /// The I/O error, naming the file.
    pub fn rewind_log(&self, step: u64) -> anyhow::Result<()> {
        let path = self.metrics_path();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let step_of = |line: &str| line.split(',').next().and_then(|s| s.parse::<u64>().ok());
        let header = text.lines().next();
        let kept = text.lines().skip(1).filter(|line| step_of(line).is_some_and(|s| s <= step));
        let lines: Vec<&str> = header.into_iter().chain(kept).collect();
        write_text(&path, &(lines.join("\n") + "\n"))
    }

    /// Writes the resumable state.
    ///
    /// # Errors
    /// The I/O error, naming the file.
    pub fn write_state(&self, state: &State) -> anyhow::Result<()> {
        let path = self.state_path();
        let bytes_of = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut parts: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, slot) in &state.slots {
            for (part, values) in
                [("value", &slot.value), ("m", &slot.m), ("v", &slot.v), ("ema", &slot.ema)]
            {
                parts.push((format!("{part}.{name}"), slot.shape.clone(), bytes_of(values)));
            }
        }
        parts.push((MEANS.into(), vec![state.means.len()], bytes_of(&state.means)));
        let views = parts.iter().map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        });
        let views = views.collect::<anyhow::Result<Vec<_>>>()?;
        let metadata = HashMap::from([("steps".to_string(), state.steps.to_string())]);
        let bytes = safetensors::serialize(views, Some(metadata))?;
        atomic_file::write(&path, |file| file.write_all(&bytes))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads the state, if the run got as far as writing one.
    ///
    /// # Errors
    /// A malformed file, or tensors other than those of `fresh`.
    pub fn read_state(&self, fresh: &State) -> anyhow::Result<Option<State>> {
        let path = self.state_path();
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        parse_state(&bytes, fresh).with_context(|| path.display().to_string()).map(Some)
    }
}

fn parse_state(bytes: &[u8], fresh: &State) -> anyhow::Result<State> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let steps = header.metadata().as_ref().and_then(|m| m.get("steps"));
    let steps = steps.and_then(|s| s.parse().ok()).context("no step number in its metadata")?;
    let file = SafeTensors::deserialize(bytes)?;
    let read = |full: &str, shape: &[usize]| {
        let view = file.tensor(full).with_context(|| format!("tensor `{full}`"))?;
        ensure!(
            view.dtype() == Dtype::F32 && view.shape() == shape,
            "tensor `{full}` is {:?} {:?}, expected F32 {shape:?}",
            view.dtype(),
            view.shape()
        );
        let (words, _) = view.data().as_chunks::<4>();
        Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    };
    let slot = |(name, Slot { shape, .. }): (&String, &Slot)| {
        let part = |part: &str| read(&format!("{part}.{name}"), shape);
        let (value, m, v, ema) = (part("value")?, part("m")?, part("v")?, part("ema")?);
        Ok((name.clone(), Slot { shape: shape.clone(), value, m, v, ema }))
    };
    Ok(State {
        steps,
        slots: fresh.slots.iter().map(slot).collect::<anyhow::Result<_>>()?,
        means: read(MEANS, &[fresh.means.len()])?,
    })
}

fn metrics_header(recipe: &Recipe) -> String {
    let mut header = METRICS_HEADER.to_string();
    for name in recipe.objectives.iter().map(Objective::name) {
        header += &format!(",{name}");
    }
    if recipe.discriminator.is_some() {
        header += ",discriminator";
    }
    header
}

fn write_text(path: &Path, text: &str) -> anyhow::Result<()> {
    atomic_file::write(path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
