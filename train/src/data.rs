//! Folders of clean images, and random crops out of them.

mod files;
mod memory;
mod pieces;
mod set;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use rand::{Rng, RngExt as _};
use rayon::prelude::*;
use tunableconv::checkpoint::DataSet;

use crate::content::{Hash, hash_set};
use crate::rgb::{ImageFile, Rgb};
use crate::tell;
use crate::terminal::causes;

pub(crate) use files::list_files;
pub use files::list_images;
pub use memory::default_cache;
use pieces::Cut;
pub use pieces::Keep;
pub(crate) use set::{describe, name_of};

/// Images held in memory as 8-bit RGB, whole or in pieces.
#[derive(Debug)]
pub struct ImageFolder {
    images: Vec<Image>,
    sets: Vec<DataSet>,
    skipped: usize,
    min_side: usize,
}

/// One of them.
#[derive(Debug)]
struct Image {
    path: PathBuf,
    /// Of the file.
    hash: Hash,
    /// Number of all pixels.
    size: u64,
    /// The image, or parts of it; at least one.
    pieces: Vec<RgbImage>,
}

impl ImageFolder {
    /// Decodes every PNG, JPEG and WebP file in `dirs` and their subfolders, in the order of
    /// [`list_images`] for one folder after the other, and keeps of them what `keep` says. A file
    /// that is broken, or cannot be read, or has a side shorter than `min_side` pixels, is skipped
    /// with a line on stderr.
    ///
    /// # Errors
    /// If one of `dirs` does not exist or cannot be listed, or no usable image is left in it, or
    /// there is not room for all of them, or a folder's `dataset.toml` cannot be used.
    pub fn load(dirs: &[PathBuf], min_side: usize, keep: Keep) -> anyhow::Result<Self> {
        ensure!(!dirs.is_empty(), "no image folder was given");
        let lists = dirs.iter().map(|dir| list_images(dir)).collect::<anyhow::Result<Vec<_>>>()?;
        let sizes: Vec<Option<u64>> =
            lists.par_iter().flatten().map(|path| ImageFile::size(path)).collect();
        let cut = Cut::new(keep, &sizes)?;
        let mut folder = Self { images: vec![], sets: vec![], skipped: 0, min_side };
        for (dir, paths) in dirs.iter().zip(lists) {
            let bar = ProgressBar::new(paths.len() as u64)
                .with_style(bar_style())
                .with_message(format!("reading {}", dir.display()));
            let read: Vec<anyhow::Result<Image>> = paths
                .into_par_iter()
                .map(|path| {
                    let image = Image::load(path, min_side, cut);
                    bar.inc(1);
                    image
                })
                .collect();
            bar.finish_and_clear();
            let before = folder.images.len();
            for image in read {
                match image {
                    Ok(image) => folder.images.push(image),
                    Err(error) => {
                        folder.skipped += 1;
                        tell!("warning: skipped: {}", causes(&error));
                    }
                }
            }
            if folder.images.len() == before {
                bail!(
                    "{}: no usable PNG, JPEG or WebP image with sides of at least {min_side} pixels",
                    dir.display()
                );
            }
            let own = &folder.images[before..];
            folder.sets.push(describe(dir, own.len(), hash_images(own))?);
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

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let pieces = self.images.iter().flat_map(|image| &image.pieces);
        pieces.map(|piece| piece.as_raw().len() as u64).sum()
    }

    /// Share of all pixels that is in memory, up to 1.
    #[must_use]
    pub fn kept(&self) -> f64 {
        let all: u64 = self.images.iter().map(|image| image.size).sum();
        let pieces = self.images.iter().flat_map(|image| &image.pieces);
        pieces.map(|piece| f64::from(piece.width()) * f64::from(piece.height())).sum::<f64>()
            / all as f64
    }

    /// What is in memory of each image: all of it, or pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &[RgbImage]> {
        self.images.iter().map(|image| image.pieces.as_slice())
    }

    /// Where each image came from.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.images.iter().map(|image| image.path.as_path())
    }

    /// Hash of the names and contents of the images' files.
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash_images(&self.images)
    }

    /// The data sets that were read, one for each folder.
    #[must_use]
    pub fn sets(&self) -> &[DataSet] {
        &self.sets
    }

    /// Takes `count` random images out, in their order.
    ///
    /// # Panics
    /// If that leaves none.
    pub fn set_aside<R: Rng + ?Sized>(&mut self, count: usize, rng: &mut R) -> Self {
        assert!(count < self.len(), "{count} of {} images", self.len());
        let mut aside = Self { images: vec![], sets: vec![], skipped: 0, ..*self };
        let mut chosen = rand::seq::index::sample(rng, self.len(), count).into_vec();
        chosen.sort_unstable();
        for index in chosen.into_iter().rev() {
            aside.images.push(self.images.remove(index));
        }
        aside.images.reverse();
        aside
    }

    /// Leaves out what others hold too, whatever the files are called; returns how many there were.
    pub fn leave_out(&mut self, others: &Self) -> usize {
        let theirs: HashSet<Hash> = others.images.iter().map(|image| image.hash).collect();
        let before = self.images.len();
        self.images.retain(|image| !theirs.contains(&image.hash));
        before - self.images.len()
    }

    /// The middle of an image, or of its first piece, of at most `side` pixels each way, in even
    /// numbers of them; and the name of its file.
    #[must_use]
    pub fn middle(&self, index: usize, side: usize) -> (Rgb, String) {
        let Image { path, pieces, .. } = &self.images[index];
        let piece = &pieces[0];
        let (width, height) = piece.dimensions();
        let span = |length: u32| length.min(side as u32) & !1;
        let (w, h) = (span(width), span(height));
        let view = image::imageops::crop_imm(piece, (width - w) / 2, (height - h) / 2, w, h);
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (Rgb::from_image(&view.to_image()), name)
    }

    /// A square crop at a random place of a random image, or of a random piece of it, in one of its
    /// eight orientations, all uniformly drawn.
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
        let image = match &self.images[rng.random_range(0..self.images.len())].pieces[..] {
            [whole] => whole,
            pieces => &pieces[rng.random_range(0..pieces.len())],
        };
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

fn hash_images(images: &[Image]) -> Hash {
    hash_set(images.iter().map(|image| (image.path.as_path(), image.hash)))
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

impl Image {
    fn load(path: PathBuf, min_side: usize, cut: Cut) -> anyhow::Result<Self> {
        let (image, hash) = ImageFile::read(&path)?.decode_hashed()?;
        let (width, height) = image.dimensions();
        ensure!(
            width.min(height) as usize >= min_side,
            "{}: {width}x{height} is smaller than {min_side} pixels",
            path.display()
        );
        let size = u64::from(width) * u64::from(height);
        Ok(Self { path, hash, size, pieces: cut.apply(image, hash) })
    }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {eta}")
        .expect("the template is a constant")
        .progress_chars("=> ")
}
