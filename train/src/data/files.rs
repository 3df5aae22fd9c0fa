//! Which files of a folder are images.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::tell;
use crate::terminal::causes;

/// Kinds that are read.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Kinds of pictures that are not read, so that a folder of them is not taken for an empty one.
const UNREAD: [&str; 22] = [
    "3fr", "arw", "avif", "bmp", "cr2", "cr3", "dng", "exr", "gif", "hdr", "heic", "heif", "j2k",
    "jp2", "jxl", "nef", "orf", "ppm", "raf", "rw2", "tif", "tiff",
];

/// The PNG, JPEG and WebP files (by extension, in either case) in `dir` and its subfolders,
/// sorted by path. A subfolder that cannot be listed is skipped with a line on stderr, and another
/// tells of pictures of other kinds.
///
/// # Errors
/// If `dir` does not exist or cannot be listed; the message names it.
pub fn list_images(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = list_files(dir, |path| is_one_of(path, &EXTENSIONS) || is_one_of(path, &UNREAD))?;
    let (images, others): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| is_one_of(path, &EXTENSIONS));
    if !others.is_empty() {
        tell!(
            "warning: {}: {} are not read, only PNG, JPEG and WebP",
            dir.display(),
            count_kinds(&others)
        );
    }
    Ok(images)
}

/// `2 of .heic, 1 of .tif`, in the order of the kinds.
fn count_kinds(files: &[PathBuf]) -> String {
    let mut counts = BTreeMap::new();
    for extension in files.iter().filter_map(|path| path.extension()) {
        *counts.entry(extension.to_string_lossy().to_lowercase()).or_insert(0) += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(kind, n)| format!("{n} of .{kind}")).collect();
    counts.join(", ")
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
            Err(error) => tell!("warning: skipped: {}", causes(&error)),
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

fn is_one_of(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|extension| {
        extensions.iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}
