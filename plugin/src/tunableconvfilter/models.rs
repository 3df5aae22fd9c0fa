//! Models: where they are found, and those in memory, each once for all elements that run it.

use std::collections::{HashMap, HashSet};
use std::path::{self, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;
use std::{env, fs};

use gstreamer as gst;
use once_cell::sync::OnceCell;
use tunableconv::checkpoint::{Checkpoint, Metadata};
use tunableconv::engine::Model;
use tunableconv::{Error, Result};

use super::definition::{Definition, ModelSource, model_name};
use super::imp::CAT;

/// Folders with models, separated as those of `PATH` are; they come before [`INSTALLED`].
const PATH_VARIABLE: &str = "TUNABLECONV_MODEL_PATH";

/// Folder of the models that are installed with the plugin.
const INSTALLED: &str = match option_env!("TUNABLECONV_MODEL_DIR") {
    Some(folder) => folder,
    None => "/usr/share/tunableconv/models",
};

/// Name of the model that the library carries.
const BUILT_IN_NAME: &str = "broadcast";

const SUFFIX: &str = "safetensors";

/// The built-in model, parsed once for all elements.
///
/// # Errors
/// As [`Checkpoint::built_in`].
pub fn built_in() -> Result<&'static Arc<Model>> {
    static BUILT_IN: OnceCell<Arc<Model>> = OnceCell::new();
    BUILT_IN.get_or_try_init(|| Ok(Arc::new(Model::new(Checkpoint::built_in()?))))
}

/// A file as it was when it was read.
#[derive(PartialEq, Eq, Hash)]
struct Version {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

/// The model in a file, shared with the elements that already run it.
///
/// # Errors
/// As [`Checkpoint::read`].
pub fn load(path: &Path) -> Result<Arc<Model>> {
    static LOADED: Mutex<Option<HashMap<Version, Weak<Model>>>> = Mutex::new(None);
    let io = |source| Error::Io { path: path.into(), source };
    let file = fs::metadata(path).map_err(io)?;
    let version = Version {
        path: path.canonicalize().map_err(io)?,
        bytes: file.len(),
        modified: file.modified().ok(),
    };
    // Held while reading, so that elements that start at once read a file once.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    loaded.retain(|_, model| model.strong_count() > 0);
    if let Some(model) = loaded.get(&version).and_then(Weak::upgrade) {
        return Ok(model);
    }
    let model = Arc::new(Model::new(Checkpoint::read(path)?));
    loaded.insert(version, Arc::downgrade(&model));
    Ok(model)
}

/// Makes GStreamer look again at the next start when a model has come or gone.
pub fn watch(plugin: &gst::Plugin) {
    plugin.add_dependency_simple(
        Some(PATH_VARIABLE),
        Some(INSTALLED),
        Some(&format!(".{SUFFIX}")),
        gst::PluginDependencyFlags::FILE_NAME_IS_SUFFIX,
    );
}

/// One element for each model: those on the path, then those installed, then the built-in one; the
/// first of a name is taken. Of files only the headers are read. Beside them, what was wrong.
pub fn definitions(is_taken: impl Fn(&str) -> bool) -> (Vec<Definition>, Vec<Error>) {
    let path = env::var_os(PATH_VARIABLE).unwrap_or_default();
    let mut folders: Vec<(PathBuf, bool)> =
        env::split_paths(&path).filter(|f| !f.as_os_str().is_empty()).map(|f| (f, true)).collect();
    folders.push((INSTALLED.into(), false));

    let (mut definitions, mut errors) = (Vec::new(), Vec::new());
    let mut names = HashSet::new();
    for (folder, is_asked_for) in folders {
        let mut here = HashMap::new();
        let files = match files(&folder) {
            Ok(files) => files,
            // Without installed models there is no folder of them.
            Err(_) if !is_asked_for && !folder.exists() => continue,
            Err(source) => {
                errors.push(Error::Io { path: folder, source });
                continue;
            }
        };
        for file in files {
            let defined = define(&file, &mut here, &mut names, &is_taken);
            match defined {
                Ok(definition) => definitions.extend(definition),
                Err(error) => errors.push(error),
            }
        }
    }
    if names.insert(BUILT_IN_NAME.into()) {
        let built_in = built_in().and_then(|model| {
            Definition::of_model(BUILT_IN_NAME, ModelSource::BuiltIn, model.metadata(), &is_taken)
        });
        match built_in {
            Ok(definition) => definitions.push(definition),
            Err(error) => errors.push(error),
        }
    }
    (definitions, errors)
}

/// Tells that a model or a folder of models cannot be used: in the debug log, and once for people,
/// when GStreamer's scanner looks for new models.
pub fn warn(error: &Error) {
    gst::warning!(CAT, "{error}");
    let is_scanner = env::current_exe()
        .is_ok_and(|program| program.file_name().is_some_and(|name| name == "gst-plugin-scanner"));
    if is_scanner {
        glib::g_printerr!("WARNING: tunableconv: {error}\n");
    }
}

/// `None` for a model that one of the same name in an earlier folder hides.
fn define(
    file: &Path,
    here: &mut HashMap<String, PathBuf>,
    names: &mut HashSet<String>,
    is_taken: impl Fn(&str) -> bool,
) -> Result<Option<Definition>> {
    // The program may change its folder before it makes the element.
    let file = &path::absolute(file).map_err(|source| Error::Io { path: file.into(), source })?;
    let refuse = |reason: String| Error::Checkpoint { file: file.display().to_string(), reason };
    let name =
        model_name(file).ok_or_else(|| refuse("its name has neither letters nor digits".into()))?;
    if let Some(other) = here.insert(name.clone(), file.into()) {
        return Err(refuse(format!("{} has the same name, `{name}`", other.display())));
    }
    let metadata = Metadata::read(file)?;
    let definition =
        Definition::of_model(&name, ModelSource::File(file.into()), &metadata, is_taken)
            .map_err(|error| refuse(error.to_string()))?;
    Ok(names.insert(name).then_some(definition))
}

/// The model files of a folder, by name.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = entries.collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == SUFFIX));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_memory_once_and_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut checkpoint = Checkpoint::built_in().unwrap();
        checkpoint.write(&path).unwrap();
        let first = load(&path).unwrap();
        assert!(Arc::ptr_eq(&first, &load(&folder.path().join("./a.safetensors")).unwrap()));
        checkpoint.metadata.provenance.recipe = "another, longer".into();
        checkpoint.write(&path).unwrap();
        let second = load(&path).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(second.metadata().provenance.recipe, "another, longer");
        let error = load(Path::new("/nonexistent/x.safetensors")).err().unwrap().to_string();
        assert!(error.starts_with("/nonexistent/x.safetensors: "), "{error}");
    }
}
