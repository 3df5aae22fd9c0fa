//! Writes a file whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes `path` through `fill`: into a temporary neighbour first, flushed to disk, then renamed.
///
/// When `fill` or the disk fails, the temporary file is removed and an older `path` stays as it was.
///
/// # Errors
/// Whatever `fill` returns, or the I/O error of creating, flushing or renaming the file.
pub fn write<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = temporary_name(path);
    let written =
        write_whole(&temporary, fill).and_then(|()| fs::rename(&temporary, path).map_err(E::from));
    if written.is_err() {
        // The error that matters is the one being returned.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_whole<E: From<io::Error>>(
    temporary: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = BufWriter::new(File::create(temporary)?);
    fill(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok(())
}

/// `dir/.name.pid.tmp`: hidden, in the same folder (so that the rename is atomic), one per process.
fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        write::<io::Error>(&path, |f| f.write_all(b"old")).unwrap();
        let failed: Result<(), io::Error> = write(&path, |f| {
            f.write_all(b"half of the new")?;
            Err(io::Error::other("disk on fire"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
