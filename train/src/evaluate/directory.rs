//! A report's directory, written whole or not at all.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, bail, ensure};

/// Marks a directory as a report: the `format` of its `report.json`.
pub const FORMAT: &str = "tunableconv evaluation 2";

/// What it begins with in reports of every version.
const FORMAT_NAME: &str = "tunableconv evaluation ";

/// A hidden sibling of the directory to be, or what is in it where it cannot be replaced; removed again
/// unless it is published.
pub struct Draft {
    target: PathBuf,
    draft: PathBuf,
    /// Whether something is mounted on the target.
    is_inside: bool,
}

impl Draft {
    /// Begins a report that is to be `target`.
    ///
    /// # Errors
    /// If `target` is there and neither empty nor an earlier report, or cannot be made.
    pub fn begin(target: &Path) -> anyhow::Result<Self> {
        let entries = check_replaceable(target)?;
        let cannot = || format!("cannot create {}", target.display());
        // Links are followed.
        let target = if entries.is_some() {
            target.canonicalize().with_context(cannot)?
        } else {
            target.into()
        };
        let is_inside = entries.is_some() && is_mount_point(&target).with_context(cannot)?;
        let draft = match is_inside {
            true => target.join(format!(".{}.draft.tmp", std::process::id())),
            false => sibling(&target, "draft")?,
        };
        fs::create_dir(&draft).with_context(cannot)?;
        Ok(Self { target, draft, is_inside })
    }

    /// Where a file of the report is written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.draft.join(name)
    }

    /// Puts the report in place, instead of an earlier one.
    ///
    /// # Errors
    /// If something else is there by now, or a directory cannot be renamed.
    pub fn publish(self) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", self.target.display());
        if self.is_inside {
            let new = fs::read_dir(&self.draft).with_context(cannot)?;
            let new = new.collect::<Result<Vec<_>, _>>().with_context(cannot)?;
            for file in check_entries(&self.target, self.draft.file_name())? {
                fs::remove_file(&file)
                    .with_context(|| format!("cannot remove {}", file.display()))?;
            }
            for file in new {
                fs::rename(file.path(), self.target.join(file.file_name())).with_context(cannot)?;
            }
            return Ok(());
        }
        check_replaceable(&self.target)?;
        let old = sibling(&self.target, "old")?;
        let replaces = self.target.exists();
        if replaces {
            fs::rename(&self.target, &old).with_context(cannot)?;
        }
        if let Err(error) = fs::rename(&self.draft, &self.target) {
            if replaces {
                fs::rename(&old, &self.target).with_context(cannot)?;
            }
            return Err(error).with_context(cannot);
        }
        if replaces {
            fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already once published.
        let _ = fs::remove_dir_all(&self.draft);
    }
}

/// The files that a report replaces; none if there is nothing at all.
fn check_replaceable(target: &Path) -> anyhow::Result<Option<Vec<PathBuf>>> {
    if !target.exists() {
        ensure!(
            !target.is_symlink(),
            "{} is a link to a folder that there is not: make that first",
            target.display()
        );
        return Ok(None);
    }
    ensure!(target.is_dir(), "{} is not a directory", target.display());
    check_entries(target, None).map(Some)
}

/// The files of an earlier report, but for one of this name.
fn check_entries(target: &Path, but: Option<&OsStr>) -> anyhow::Result<Vec<PathBuf>> {
    let listed =
        fs::read_dir(target).with_context(|| format!("cannot list {}", target.display()))?;
    let mut entries = listed.collect::<Result<Vec<_>, _>>()?;
    entries.retain(|entry| Some(entry.file_name().as_os_str()) != but);
    if entries.is_empty() {
        return Ok(vec![]);
    }
    let json = fs::read(target.join("report.json")).unwrap_or_default();
    let report: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
    if !report["format"].as_str().is_some_and(|format| format.starts_with(FORMAT_NAME)) {
        bail!("{} is not empty and not an earlier report", target.display());
    }
    for entry in &entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours =
            matches!(&*name, "report.md" | "report.json" | "sheet.png") || name.ends_with(".svg");
        ensure!(ours, "{} holds {name}, which no report has", target.display());
    }
    Ok(entries.iter().map(fs::DirEntry::path).collect())
}

/// Whether something is mounted on a folder, so that it cannot be renamed.
#[cfg(unix)]
fn is_mount_point(folder: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let Some(parent) = folder.parent() else { return Ok(true) };
    Ok(fs::metadata(folder)?.dev() != fs::metadata(parent)?.dev())
}

#[cfg(not(unix))]
fn is_mount_point(_folder: &Path) -> io::Result<bool> {
    Ok(false)
}

fn sibling(target: &Path, what: &str) -> anyhow::Result<PathBuf> {
    let Some(name) = target.file_name() else {
        bail!("{} does not name a directory", target.display());
    };
    let name = name.to_string_lossy();
    Ok(target.with_file_name(format!(".{name}.{}.{what}.tmp", std::process::id())))
}
