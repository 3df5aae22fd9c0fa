//! A report's directory, written whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// Marks a directory as a report: the `format` of its `report.json`.
pub const FORMAT: &str = "tunableconv evaluation 1";

/// A hidden sibling of the directory to be; removed again unless it is published.
pub struct Draft {
    target: PathBuf,
    draft: PathBuf,
}

impl Draft {
    /// Begins a report that is to be `target`.
    ///
    /// # Errors
    /// If `target` is there and neither empty nor an earlier report, or cannot be made.
    pub fn begin(target: &Path) -> anyhow::Result<Self> {
        check_replaceable(target)?;
        let draft = sibling(target, "draft")?;
        fs::create_dir(&draft).with_context(|| format!("cannot create {}", target.display()))?;
        Ok(Self { target: target.into(), draft })
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
        check_replaceable(&self.target)?;
        let cannot = || format!("cannot write {}", self.target.display());
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

fn check_replaceable(target: &Path) -> anyhow::Result<()> {
    if !target.exists() {
        return Ok(());
    }
    ensure!(target.is_dir(), "{} is not a directory", target.display());
    let listed =
        fs::read_dir(target).with_context(|| format!("cannot list {}", target.display()))?;
    let entries = listed.collect::<Result<Vec<_>, _>>()?;
    if entries.is_empty() {
        return Ok(());
    }
    let json = fs::read(target.join("report.json")).unwrap_or_default();
    let report: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
    if report["format"] != FORMAT {
        bail!("{} is not empty and not an earlier report", target.display());
    }
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours =
            matches!(&*name, "report.md" | "report.json" | "sheet.png") || name.ends_with(".svg");
        ensure!(ours, "{} holds {name}, which no report has", target.display());
    }
    Ok(())
}

fn sibling(target: &Path, what: &str) -> anyhow::Result<PathBuf> {
    let Some(name) = target.file_name() else {
        bail!("{} does not name a directory", target.display());
    };
    let name = name.to_string_lossy();
    Ok(target.with_file_name(format!(".{name}.{}.{what}.tmp", std::process::id())))
}
