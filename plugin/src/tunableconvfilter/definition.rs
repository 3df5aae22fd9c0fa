//! What a concrete element is: its names, its knobs and its model.

use std::path::{Path, PathBuf};

use tunableconv::checkpoint::Metadata;
use tunableconv::{Error, Result};

use super::knobs::{Knob, Scale, parameter_knobs, unit_knobs};
use super::models::built_in;

/// Which model an element runs.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelSource {
    /// The one that its property `model` names.
    Property,
    /// The built-in one.
    BuiltIn,
    /// That of a file.
    File(PathBuf),
}

/// A concrete element.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Name in pipelines.
    pub element: String,
    /// Name of its GType, which projects of editors store.
    pub type_name: String,
    /// As `gst-inspect-1.0` shows it.
    pub long_name: String,
    /// As `gst-inspect-1.0` shows it.
    pub description: String,
    /// What it runs.
    pub source: ModelSource,
    /// What the values of its knobs are in.
    pub scale: Scale,
    /// How many times as large its model makes frames, where no other is chosen.
    pub enlarges: usize,
    /// Its own properties, first to last.
    pub knobs: Vec<Knob>,
}

impl Definition {
    /// `tunableconvfilter`: any model, with knobs for its first parameters.
    ///
    /// # Errors
    /// As [`built_in`].
    pub fn of_any_model() -> Result<Self> {
        let metadata = built_in()?.metadata();
        Ok(Self {
            element: "tunableconvfilter".into(),
            type_name: "TunableConvFilter".into(),
            long_name: "Denoise, deblur and deblock (neural, any model)".into(),
            description: "Filters video with a neural net whose trade-off can be tuned while it \
                          plays"
                .into(),
            source: ModelSource::Property,
            scale: Scale::Unit,
            enlarges: metadata.architecture.io().scale,
            knobs: unit_knobs(&metadata.tuning),
        })
    }

    /// `tunableconv-NAME`: one model, with knobs that are called and ranged as its parameters are.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a parameter with the name of another property.
    pub fn of_model(
        name: &str,
        source: ModelSource,
        metadata: &Metadata,
        is_taken: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let knobs = parameter_knobs(&metadata.tuning);
        if let Some(knob) = knobs.iter().find(|knob| is_taken(&knob.name)) {
            let reason = "the element has another property of this name".into();
            return Err(Error::Parameter { name: knob.name.clone(), reason });
        }
        let names: Vec<&str> = knobs.iter().map(|knob| knob.name.as_str()).collect();
        let model = match &source {
            ModelSource::File(path) => path.display().to_string(),
            _ => "built in".into(),
        };
        Ok(Self {
            element: format!("tunableconv-{name}"),
            type_name: format!("TunableConv-{name}"),
            long_name: format!("{} (neural, {name})", sentence(&names)),
            description: format!(
                "Filters video with a neural net, tuned by {} ({model})",
                names.join(", ")
            ),
            source,
            scale: Scale::Parameter,
            enlarges: metadata.architecture.io().scale,
            knobs,
        })
    }
}

/// "Denoise, deblur and sharpen": what people look for in a list of effects.
fn sentence(names: &[&str]) -> String {
    let list = match names {
        [] => String::new(),
        [one] => (*one).into(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    };
    let mut letters = list.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Name of the model in a file: its stem in lower case, other characters than letters and digits
/// replaced by `-`. `None` for a name of nothing else.
pub fn model_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy().to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = stem.chars().map(plain).collect();
    name.contains(|c| c != '-').then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_after_their_files() {
        let name = |path: &str| model_name(Path::new(path));
        assert_eq!(name("/a/broadcast.safetensors").as_deref(), Some("broadcast"));
        assert_eq!(name("My Net_v2.1.safetensors").as_deref(), Some("my-net-v2-1"));
        assert_eq!(name("/a/….safetensors"), None);
    }

    #[test]
    fn a_parameter_with_the_name_of_another_property_is_refused() {
        let metadata = built_in().unwrap().metadata();
        let definition =
            |taken: &str| Definition::of_model("x", ModelSource::BuiltIn, metadata, |n| n == taken);
        let good = definition("threads").unwrap();
        assert_eq!(
            (good.element.as_str(), good.type_name.as_str()),
            ("tunableconv-x", "TunableConv-x")
        );
        let names: Vec<&str> = good.knobs.iter().map(|knob| knob.name.as_str()).collect();
        assert_eq!(names, ["denoise", "deblur", "deblock"]);
        assert_eq!(good.long_name, "Denoise, deblur and deblock (neural, x)");
        assert_eq!(sentence(&["a", "b", "c"]), "A, b and c");
        assert_eq!(sentence(&["sharpen"]), "Sharpen");
        let error = definition("deblur").unwrap_err().to_string();
        assert_eq!(error, "parameter `deblur`: the element has another property of this name");
    }
}
