//! Folders of clean images, and random crops out of them.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use rand::{Rng, RngExt as _};
use rayon::prelude::*;

use crate::content::{Hash, hash_file, hash_set};
use crate::rgb::{Rgb, load_image};

const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Images held in memory as 8-bit RGB.
#[derive(Debug)]
pub struct ImageFolder {
    images: Vec<RgbImage>,
    paths: Vec<PathBuf>,
    hashes: Vec<Hash>,
    skipped: usize,
    min_side: usize,
}

impl ImageFolder {
    /// Decodes every PNG, JPEG and WebP file in `dirs` and their subfolders, in the order of
    /// [`list_images`] for one folder after the other. A file that is broken, or cannot be read,
    /// or has a side shorter than `min_side` pixels, is skipped with a line on stderr.
    ///
    /// # Errors
    /// If one of `dirs` does not exist or cannot be listed, or no usable image is left in it.
    pub fn load(dirs: &[PathBuf], min_side: usize) -> anyhow::Result<Self> {
        ensure!(!dirs.is_empty(), "no image folder was given");
        let mut folder =
            Self { images: vec![], paths: vec![], hashes: vec![], skipped: 0, min_side };
        for dir in dirs {
            let paths = list_images(dir)?;
            let bar = ProgressBar::new(paths.len() as u64)
                .with_style(bar_style())
                .with_message(format!("reading {}", dir.display()));
            let decoded: Vec<anyhow::Result<(RgbImage, Hash)>> = paths
                .par_iter()
                .map(|path| {
                    let image = load_usable(path, min_side);
                    bar.inc(1);
                    image
                })
                .collect();
            bar.finish_and_clear();
            let before = folder.images.len();
            for (path, image) in paths.into_iter().zip(decoded) {
                match image {
                    Ok((image, hash)) => {
                        folder.images.push(image);
                        folder.paths.push(path);
                        folder.hashes.push(hash);
                    }
                    Err(error) => {
                        folder.skipped += 1;
                        eprintln!("warning: skipped: {error:#}");
                    }
                }
            }
            if folder.images.len() == before {
                bail!(
                    "{}: no usable PNG, JPEG or WebP image with sides of at least {min_side} pixels",
                    dir.display()
                );
            }
        }
        Ok(folder)
    }

    /// Number of images; at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a loaded folder is never empty")]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Number of files that were skipped as broken or too small.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The images.
    #[must_use]
    pub fn images(&self) -> &[RgbImage] {
        &self.images
    }

    /// Where each image came from.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Hash of the names and contents of the images' files.
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash_set(self.paths.iter().map(PathBuf::as_path).zip(self.hashes.iter().copied()))
    }

    /// Takes `count` random images out, in their order.
    ///
    /// # Panics
    /// If that leaves none.
    pub fn set_aside<R: Rng + ?Sized>(&mut self, count: usize, rng: &mut R) -> Self {
        assert!(count < self.len(), "{count} of {} images", self.len());
        let mut aside = Self { images: vec![], paths: vec![], hashes: vec![], skipped: 0, ..*self };
        let mut chosen = rand::seq::index::sample(rng, self.len(), count).into_vec();
        chosen.sort_unstable();
        for index in chosen.into_iter().rev() {
            aside.images.push(self.images.remove(index));
            aside.paths.push(self.paths.remove(index));
            aside.hashes.push(self.hashes.remove(index));
        }
        aside.images.reverse();
        aside.paths.reverse();
        aside.hashes.reverse();
        aside
    }

    /// The middle of an image, of at most `side` pixels each way, in even numbers of them.
    #[must_use]
    pub fn middle(&self, index: usize, side: usize) -> Rgb {
        let image = &self.images[index];
        let (width, height) = image.dimensions();
        let span = |length: u32| length.min(side as u32) & !1;
        let (w, h) = (span(width), span(height));
        let view = image::imageops::crop_imm(image, (width - w) / 2, (height - h) / 2, w, h);
        Rgb::from_image(&view.to_image())
    }

    /// A square crop at a random place of a random image, in one of its eight orientations, all
    /// uniformly drawn.
    ///
    /// Its side is `size + 2 · halo` pixels. Along an axis where the image is shorter than that,
    /// only the inner `size` pixels are sure to lie inside, and edges are replicated outside.
    ///
    /// # Panics
    /// If `size` is 0 or above the `min_side` of [`Self::load`].
    pub fn sample_crop<R: Rng + ?Sized>(&self, size: usize, halo: usize, rng: &mut R) -> Rgb {
        assert!(
            0 < size && size <= self.min_side,
            "crops of {size} pixels from images that may have only {}",
            self.min_side
        );
        let image = &self.images[rng.random_range(0..self.images.len())];
        let columns = pick_span(image.width() as usize, size, halo, rng);
        let rows = pick_span(image.height() as usize, size, halo, rng);
        let stride = 3 * image.width() as usize;
        let mut data = Vec::with_capacity(3 * rows.len() * columns.len());
        for c in 0..3 {
            for y in &rows {
                let row = &image.as_raw()[y * stride..][..stride];
                data.extend(columns.iter().map(|x| f32::from(row[3 * x + c]) / 255.0));
            }
        }
        Rgb::new(columns.len(), rows.len(), data).dihedral(rng.random_range(0..8))
    }
}

/// The source indices of `size + 2 · halo` consecutive pixels along an axis of `len` pixels.
fn pick_span<R: Rng + ?Sized>(len: usize, size: usize, halo: usize, rng: &mut R) -> Vec<usize> {
    let full = size + 2 * halo;
    if full <= len {
        let start = rng.random_range(0..=len - full);
        (start..start + full).collect()
    } else {
        let core = rng.random_range(0..=len - size);
        (core..core + full).map(|i| i.saturating_sub(halo).min(len - 1)).collect()
    }
}

fn load_usable(path: &Path, min_side: usize) -> anyhow::Result<(RgbImage, Hash)> {
    // Opening a pipe would wait for its writer.
    ensure!(path.is_file(), "{} is not a file", path.display());
    let image = load_image(path)?;
    let (width, height) = image.dimensions();
    ensure!(
        width.min(height) as usize >= min_side,
        "{}: {width}x{height} is smaller than {min_side} pixels",
        path.display()
    );
    Ok((image, hash_file(path)?))
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {eta}")
        .expect("the template is a constant")
        .progress_chars("=> ")
}

/// The PNG, JPEG and WebP files (by extension, in either case) in `dir` and its subfolders,
/// sorted by path. A subfolder that cannot be listed is skipped with a line on stderr.
///
/// # Errors
/// If `dir` does not exist or cannot be listed; the message names it.
pub fn list_images(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    list_files(dir, has_image_extension)
}

/// [`list_images`] for the files that `wanted` says.
pub(crate) fn list_files(
    dir: &Path,
    wanted: impl Fn(&Path) -> bool,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    // Links may lead back to a folder already seen.
    let mut seen = HashSet::new();
    while let Some(folder) = folders.pop() {
        match entries(&folder, &mut seen) {
            Ok(paths) => {
                for path in paths {
                    if path.is_dir() {
                        folders.push(path);
                    } else if wanted(&path) {
                        files.push(path);
                    }
                }
            }
            Err(error) if folder == dir => return Err(error),
            Err(error) => eprintln!("warning: skipped: {error:#}"),
        }
    }
    files.sort();
    Ok(files)
}

/// What a folder holds; nothing if it was seen.
fn entries(folder: &Path, seen: &mut HashSet<PathBuf>) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("cannot list the folder {}", folder.display());
    if !seen.insert(folder.canonicalize().with_context(context)?) {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(context)?;
    entries.map(|entry| Ok(entry.with_context(context)?.path())).collect()
}

fn has_image_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}
