//! The pictures that a net is measured on: a folder of clean images, or pairs of clean and degraded
//! clips.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use tunableconv::frame::MAX_SIDE;

use crate::condition::{Condition, distinct};
use crate::data::{default_cache, list_images};
use crate::loss::ssim::WINDOW;
use crate::pairs::PairFolder;
use crate::rgb::Rgb;
use crate::view::View;

/// Pairs of frames used at most, evenly spread: neighbours are alike.
const PAIRS: usize = 64;

/// Pictures to measure on; they are read as they are needed.
pub struct TestSet {
    folder: PathBuf,
    /// See [`TestPicture::scale`].
    scale: usize,
    /// Fewest pixels on a side of what can be compared, at full size.
    smallest: usize,
    source: Source,
}

enum Source {
    Images(Vec<PathBuf>),
    Pairs {
        pairs: PairFolder,
        /// Indices of frames.
        frames: Vec<usize>,
    },
}

/// One of them.
pub struct TestPicture {
    /// Short, for captions.
    pub name: String,
    /// Without degradation, at full size.
    pub clean: Rgb,
    /// The net gets a picture whose sides are this many times smaller, and is to make this one of it.
    pub scale: usize,
    /// The degraded one of a pair.
    pub twin: Option<Rgb>,
    /// Names of the folders that a pair is in, which may say what degraded it.
    pub folders: Vec<String>,
}

impl TestSet {
    /// The images below a folder.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub fn images(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self::of(folder, Source::Images(list_images(folder)?)))
    }

    /// Frames of the [pairs of clips](crate::pairs) below a folder.
    ///
    /// # Errors
    /// No usable pair, or more than a quarter of the memory holds.
    pub fn pairs(folder: &Path) -> anyhow::Result<Self> {
        let pairs = PairFolder::load(&[folder.into()], WINDOW, default_cache())?;
        let count = pairs.len().min(PAIRS);
        let frames = (0..count).map(|i| i * pairs.len() / count).collect();
        Ok(Self::of(folder, Source::Pairs { pairs, frames }))
    }

    fn of(folder: &Path, source: Source) -> Self {
        Self { folder: folder.into(), scale: 1, smallest: WINDOW, source }
    }

    /// For a measure that takes no smaller pictures.
    #[must_use]
    pub fn at_least(self, smallest: usize) -> Self {
        Self { smallest: self.smallest.max(smallest), ..self }
    }

    /// For a net that enlarges so many times: pictures are cut to multiples of that.
    ///
    /// # Errors
    /// Pairs, which are of one size.
    pub fn for_scale(self, scale: usize) -> anyhow::Result<Self> {
        ensure!(
            scale == 1 || !self.has_pairs(),
            "the net makes pictures of {scale} times the size, pairs of clips are of one: give --data DIR"
        );
        Ok(Self { scale, ..self })
    }

    /// See [`TestPicture::scale`].
    #[must_use]
    pub fn scale(&self) -> usize {
        self.scale
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Number of pictures, those that cannot be used among them.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Images(paths) => paths.len(),
            Source::Pairs { frames, .. } => frames.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the pictures are pairs.
    #[must_use]
    pub fn has_pairs(&self) -> bool {
        matches!(self.source, Source::Pairs { .. })
    }

    /// Keeps the first `count` at most.
    pub fn truncate(&mut self, count: usize) {
        match &mut self.source {
            Source::Images(paths) => paths.truncate(count),
            Source::Pairs { frames, .. } => frames.truncate(count),
        }
    }

    /// Reads a picture, however small.
    ///
    /// # Errors
    /// Names a file that cannot be read, or has a side of more than 8192 pixels.
    ///
    /// # Panics
    /// If there is no such picture.
    pub fn read(&self, index: usize) -> anyhow::Result<TestPicture> {
        match &self.source {
            Source::Images(paths) => {
                let path = &paths[index];
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let (clean, scale) = (Rgb::load(path)?, self.scale);
                let (width, height) = (clean.width, clean.height);
                ensure!(
                    width.min(height) >= scale && width.max(height) <= MAX_SIDE,
                    "{}: {width}x{height}, expected sides of {scale} to {MAX_SIDE} pixels",
                    path.display()
                );
                let clean = View { scale, ..View::YUV420 }.fitting(clean);
                Ok(TestPicture { name, clean, scale, twin: None, folders: vec![] })
            }
            Source::Pairs { pairs, frames } => {
                let frame = frames[index];
                let (clean, twin) = pairs.whole(frame);
                let (name, twin) = (format!("pair {frame}"), Some(twin));
                let folders = pairs.folders_of(frame).map(str::to_owned).collect();
                Ok(TestPicture { name, clean, scale: 1, twin, folders })
            }
        }
    }

    /// Reads a picture that can be filtered and compared.
    ///
    /// # Errors
    /// Names it, when it is broken or its sides are not within 11 to 8192 pixels, or what [`Self::at_least`] says.
    ///
    /// # Panics
    /// If there is no such picture.
    pub fn load(&self, index: usize) -> anyhow::Result<TestPicture> {
        let picture = self.read(index)?;
        let (width, height) = (picture.clean.width, picture.clean.height);
        let smallest = self.smallest.max(self.scale * WINDOW);
        ensure!(
            width.min(height) >= smallest,
            "{}: {width}x{height}, expected sides of {smallest} to {MAX_SIDE} pixels",
            self.describe(index)
        );
        Ok(picture)
    }

    /// What a picture is, for messages.
    #[must_use]
    pub fn describe(&self, index: usize) -> String {
        match &self.source {
            Source::Images(paths) => paths[index].display().to_string(),
            Source::Pairs { frames, .. } => {
                format!("{}: pair {}", self.folder.display(), frames[index])
            }
        }
    }

    /// Checks a condition; with pairs it begins with what is recorded.
    ///
    /// # Errors
    /// Strengths out of range; a recorded degradation without pairs.
    pub fn settle(&self, condition: Condition) -> anyhow::Result<Condition> {
        condition.check()?;
        ensure!(
            self.has_pairs() || !condition.is_recorded(),
            "{condition}: what is recorded comes with pairs of clips: give --pairs DIR"
        );
        Ok(if self.has_pairs() { condition.recorded() } else { condition })
    }

    /// [`Self::settle`] for several, each once.
    ///
    /// # Errors
    /// As for one.
    pub fn settle_all(&self, conditions: &[Condition]) -> anyhow::Result<Vec<Condition>> {
        let settled = conditions.iter().map(|condition| self.settle(condition.clone()));
        Ok(distinct(settled.collect::<anyhow::Result<_>>()?))
    }
}
