//! What a folder of training data says of itself: `dataset.toml` in it.
//!
//! ```toml
//! name = "CLIC 2025 images"
//! licence = "Unsplash licence"
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tunableconv::checkpoint::DataSet;

use crate::content::Hash;

/// Name of the file.
const FILE: &str = "dataset.toml";

/// Of a set whose folder does not say it.
const UNKNOWN_LICENCE: &str = "licence not stated";

/// Longest name or licence, in bytes: every checkpoint carries them.
const MAX_LENGTH: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    name: String,
    licence: String,
}

/// The data set in a folder, of which so many images, or pairs of clips, were read. Without a
/// `dataset.toml` it has the folder's name.
///
/// # Errors
/// A description that cannot be used; names its file.
pub fn describe(folder: &Path, count: usize, hash: Hash) -> anyhow::Result<DataSet> {
    let path = folder.join(FILE);
    let description = match fs::read_to_string(&path) {
        Ok(text) => parse(&text).with_context(|| path.display().to_string())?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Description { name: name_of(folder)?, licence: UNKNOWN_LICENCE.into() }
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let Description { name, licence } = description;
    Ok(DataSet { name, licence, count: Some(count as u64), hash: Some(hash.to_string()) })
}

fn parse(text: &str) -> anyhow::Result<Description> {
    let description: Description = toml::from_str(text)?;
    for (key, value) in [("name", &description.name), ("licence", &description.licence)] {
        ensure!(
            (1..=MAX_LENGTH).contains(&value.len()) && !value.contains(char::is_control),
            "{key} = {value:?}, expected a line of 1 to {MAX_LENGTH} bytes"
        );
    }
    Ok(description)
}

/// The last part of a folder's whole path.
pub(crate) fn name_of(folder: &Path) -> anyhow::Result<String> {
    let whole = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let name = whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy();
    // Names of files may hold anything.
    Ok(name.replace(char::is_control, "?"))
}
