//! Writes a file whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes `path` through `fill`: into a temporary neighbour first, flushed to disk, then renamed. Links
/// are followed, and a file that is there hands on its permissions.
///
/// When `fill` or the disk fails, the temporary file is removed and an older `path` stays as it was.
/// What is no regular file (a pipe, a device, `/dev/stdout`) is written into, and so is a file that
/// cannot be replaced because something is mounted on it.
///
/// # Errors
/// Whatever `fill` returns, or the I/O error of creating, flushing or renaming the file.
pub fn write<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let old = match fs::metadata(path) {
        Ok(old) if old.is_dir() => return Err(io::Error::from(ErrorKind::IsADirectory).into()),
        Ok(old) if !old.is_file() => return write_into(path, fill),
        Ok(old) => Some(old),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let target = follow(path)?;
    let temporary = temporary_name(&target);
    let written = write_whole(&temporary, old.as_ref(), fill)
        .and_then(|()| replace(&temporary, &target).map_err(E::from));
    if written.is_err() {
        // The error that matters is the one being returned.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Where links lead, also to what is not there yet.
fn follow(path: &Path) -> io::Result<PathBuf> {
    // As many as Linux follows.
    const MAX_LINKS: usize = 40;
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            // It is no link, or not there.
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many links"))
}

fn write_into<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = BufWriter::new(OpenOptions::new().write(true).open(path)?);
    fill(&mut file)?;
    Ok(file.flush()?)
}

fn write_whole<E: From<io::Error>>(
    temporary: &Path,
    old: Option<&Metadata>,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let file = File::create(temporary)?;
    if let Some(old) = old {
        file.set_permissions(old.permissions())?;
    }
    let mut file = BufWriter::new(file);
    fill(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok(())
}

/// Puts a whole file in the place of another.
fn replace(temporary: &Path, target: &Path) -> io::Result<()> {
    match fs::rename(temporary, target) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            io::copy(&mut File::open(temporary)?, &mut File::create(target)?)?;
            fs::remove_file(temporary)
        }
        renamed => renamed,
    }
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

    #[test]
    #[cfg(unix)]
    fn links_are_followed_and_permissions_kept() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        symlink("folder/real", at("link")).unwrap();
        symlink(at("link"), at("further")).unwrap();
        for text in [&b"new"[..], b"newer"] {
            write::<io::Error>(&at("further"), |f| f.write_all(text)).unwrap();
            assert_eq!(fs::read(at("folder/real")).unwrap(), text);
            assert!(at("link").is_symlink() && at("further").is_symlink());
            fs::set_permissions(at("folder/real"), fs::Permissions::from_mode(0o600)).unwrap();
        }
        write::<io::Error>(&at("folder/real"), |f| f.write_all(b"newest")).unwrap();
        let mode = fs::metadata(at("folder/real")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        symlink(at("a"), at("b")).unwrap();
        symlink(at("b"), at("a")).unwrap();
        assert!(write::<io::Error>(&at("a"), |f| f.write_all(b"x")).is_err());
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_regular_file_is_written_into() {
        use std::os::unix::fs::FileTypeExt as _;
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write::<io::Error>(&pipe, |f| f.write_all(b"through")).unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let error = write::<io::Error>(dir.path(), |f| f.write_all(b"x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
    }
}
