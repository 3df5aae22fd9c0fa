//! Content hashes: what tells one set of files from another.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use anyhow::Context as _;

pub use blake3::Hash;

/// BLAKE3 of a file's bytes.
///
/// # Errors
/// If it cannot be read; the message names it.
pub fn hash_file(path: &Path) -> anyhow::Result<Hash> {
    let hash = File::open(path).and_then(|file| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file)?;
        Ok(hasher.finalize())
    });
    hash.with_context(|| format!("cannot read {}", path.display()))
}

/// BLAKE3 of bytes.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> Hash {
    blake3::hash(bytes)
}

/// One hash of many files, by their names without folders and their contents, in order.
pub fn hash_set<'a>(files: impl IntoIterator<Item = (&'a Path, Hash)>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for (path, hash) in files {
        let name = path.file_name().unwrap_or(OsStr::new(""));
        hasher.update(hash.as_bytes());
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_encoded_bytes());
    }
    hasher.finalize()
}
