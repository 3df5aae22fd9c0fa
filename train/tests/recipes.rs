//! The recipes that people copy: those shipped, the templates, and what the documents say of them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/tiny_nets.rs"]
mod tiny_nets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::{RECIPE, Workplace, picture};
use tunableconv_train::degrade::Degradation;
use tunableconv_train::recipe::Recipe;
use tunableconv_train::recipe::templates::TEMPLATES;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn document() -> String {
    std::fs::read_to_string(Path::new(ROOT).join("../docs/recipes.md")).unwrap()
}

#[test]
fn shipped_recipes_are_valid_and_survive_being_written() {
    let mut count = 0;
    for entry in std::fs::read_dir(Path::new(ROOT).join("recipes")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let recipe = Recipe::read(&path).unwrap();
        assert_eq!(Recipe::parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn templates_are_valid_and_every_one_is_documented() {
    let document = document();
    let listed: Vec<&str> =
        rows(&document, "## From photographs to a knob", 0).into_iter().map(|row| row[0]).collect();
    assert_eq!(listed, TEMPLATES.map(|(name, _)| name));
    let at = Workplace::new();
    for (name, text) in TEMPLATES {
        assert_eq!(at.succeed(&format!("train --print-recipe {name}")), text);
        let recipe = Recipe::parse(text).unwrap();
        assert_eq!(recipe.name, name);
        assert_eq!(Recipe::parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
    }
    assert!(at.fail("train --print-recipe x").contains("restore, lifelike, style"));
    assert!(at.fail("train --print-recipe style --run x").contains("cannot be used with"));
}

#[test]
fn templates_train() {
    let at = Workplace::new();
    for index in 0..9 {
        picture(150, 160, index).save(at.path(&format!("data/large{index}.png"))).unwrap();
    }
    picture(90, 80, 77).save(at.path("style.jpg")).unwrap();
    candle_core::safetensors::save(&tiny_nets::tiny_squeezenet(), at.path("net.safetensors"))
        .unwrap();
    for (name, text) in &TEMPLATES[..4] {
        let small = text
            .replace("channels = 32\nlayers = 4", "channels = 4\nlayers = 1")
            .replace("channels = 32,", "channels = 4,");
        assert_ne!(*text, small);
        std::fs::write(at.path("t.toml"), small).unwrap();
        let line =
            format!("train t.toml --data data --run {name} --steps 2 --features net.safetensors");
        at.succeed(&line);
        assert!(at.path(&format!("{name}/best.safetensors")).exists(), "{name}");
    }
}

/// The rows of the `index`-th table below a heading, cell by cell, without marks.
fn rows<'d>(document: &'d str, heading: &str, index: usize) -> Vec<Vec<&'d str>> {
    let start = document.find(&format!("{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let body = &document[start + heading.len()..];
    let end = body.find("\n#").unwrap_or(body.len());
    let mut tables: Vec<Vec<&str>> = vec![];
    let mut was_row = false;
    for line in body[..end].lines() {
        let is_row = line.starts_with('|');
        if is_row && !was_row {
            tables.push(vec![]);
        }
        if is_row {
            tables.last_mut().unwrap().push(line);
        }
        was_row = is_row;
    }
    let cells = |line: &'d str| {
        let line = line.trim_matches('|');
        line.split('|').map(|cell| cell.trim().trim_matches('`')).collect()
    };
    tables[index].iter().skip(2).map(|line| cells(line)).collect()
}

/// First cells that are not empty and name no part of another.
fn keys(document: &str, heading: &str, index: usize) -> BTreeSet<String> {
    let rows = rows(document, heading, index);
    let first = rows.iter().map(|row| row[0]).filter(|key| !key.is_empty() && !key.contains('.'));
    first.map(str::to_owned).collect()
}

/// For each kind of a table the keys that it lists.
fn kinds(document: &str, heading: &str, index: usize) -> BTreeMap<String, BTreeSet<String>> {
    let mut kinds = BTreeMap::<String, BTreeSet<String>>::new();
    let mut kind = String::new();
    for row in rows(document, heading, index) {
        if !row[0].is_empty() {
            kind = row[0].into();
        }
        let keys = kinds.entry(kind.clone()).or_default();
        if !row[1].is_empty() {
            keys.insert(row[1].into());
        }
    }
    kinds
}

/// What an error about `zzz` says is known instead.
fn known(recipe: &str) -> BTreeSet<String> {
    let error = format!("{:#}", Recipe::parse(recipe).unwrap_err());
    assert!(error.contains("`zzz`"), "{error}");
    let (_, known) = error.split_once("`zzz`").unwrap();
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A recipe with everything that has keys.
const FULL: &str = r#"
name = "full"
seed = 1
steps = 10
[net]
net = "video"
channels = 4
layers = 1
negative_slope = 0.1
phi = { mode = "mlp", expand = 2 }
[tuning]
domain = "box"
[[tuning.parameters]]
name = "p"
nick = "P"
blurb = "p"
minimum = 0.0
maximum = 1.0
default = 0.0
objective = "p"
[[degradations]]
parameter = "p"
degradation = { kind = "noise", sigma = [0.0, 1.0] }
[[objectives]]
parameter = "p"
loss = { kind = "adversarial" }
[discriminator]
loss = "hinge"
net = { channels = 4, layers = 1 }
learning_rate = 1e-4
[batch]
tunings = { kind = "uniform" }
[optimiser]
beta1 = 0.9
"#;

#[test]
fn every_key_is_documented_and_no_other() {
    let document = document();
    Recipe::parse(FULL).unwrap();
    let with = |after: &str| known(&FULL.replacen(after, &format!("{after}\nzzz = 1\n"), 1));
    assert_eq!(keys(&document, "### At the top", 0), known(&format!("zzz = 1\n{FULL}")));
    let mut net = with("net = \"video\"");
    let two_scale = "net = \"two-scale\"\nchannels = 4\nzzz = 1";
    net.extend(known(&FULL.replace("net = \"video\"\nchannels = 4\nlayers = 1", two_scale)));
    let video = "net = \"video\"\nchannels = 4\nlayers = 1\nnegative_slope = 0.1\n";
    for other in ["edsr", "plain", "nafnet", "stylenet", "swinir"] {
        net.extend(known(&FULL.replace(video, &format!("net = \"{other}\"\nzzz = 1\n"))));
    }
    let layers = "net = \"plain\"\nlayers = [{ zzz = 1 }]\n";
    assert_eq!(keys(&document, "### net", 1), known(&FULL.replace(video, layers)));
    net.insert("net".into());
    assert_eq!(keys(&document, "### net", 0), net);
    let phi = known(&FULL.replace("expand = 2", "expand = 2, zzz = 1"));
    let documented = rows(&document, "### net", 0);
    for key in phi {
        assert!(documented.iter().any(|row| row[0] == format!("phi.{key}")), "phi.{key}");
    }
    assert_eq!(keys(&document, "### tuning", 0), with("[tuning]"));
    assert_eq!(keys(&document, "### tuning", 1), with("[[tuning.parameters]]"));
    assert_eq!(keys(&document, "### degradations", 0), with("[[degradations]]"));
    let level = FULL.replace("sigma = [0.0, 1.0] }", "sigma = [0.0, 1.0] }\nlevel = { zzz = 1 }");
    assert_eq!(keys(&document, "### degradations", 2), known(&level));
    assert_eq!(keys(&document, "### objectives", 0), with("[[objectives]]"));
    assert_eq!(keys(&document, "### discriminator", 0), with("[discriminator]"));
    assert_eq!(keys(&document, "### batch", 0), with("[batch]"));
    assert_eq!(keys(&document, "### optimiser", 0), with("[optimiser]"));

    // Kinds, and the keys of each.
    for (heading, index, from) in [
        ("### degradations", 1, "kind = \"noise\", sigma = [0.0, 1.0]"),
        ("### objectives", 1, "kind = \"adversarial\""),
        ("### batch", 1, "kind = \"uniform\""),
    ] {
        let kinds = kinds(&document, heading, index);
        let names: BTreeSet<String> = kinds.keys().cloned().collect();
        assert_eq!(names, known(&FULL.replace(from, "kind = \"zzz\"")), "{heading}");
        for (kind, keys) in kinds {
            let with = FULL.replace(from, &format!("kind = \"{kind}\", zzz = 1"));
            assert_eq!(keys, known(&with), "{heading} {kind}");
        }
    }
    let all: BTreeSet<_> = Degradation::KINDS.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    assert_eq!(all, kinds(&document, "### degradations", 1).into_keys().collect());
}

#[test]
fn documented_defaults_are_those_of_the_code() {
    let document = document();
    let bare = FULL.replace("tunings = { kind = \"uniform\" }\n", "").replace("beta1 = 0.9\n", "");
    let text = Recipe::parse(&bare).unwrap().to_toml().unwrap();
    let table: toml::Table = text.parse().unwrap();
    let mut checked = 0;
    for section in ["batch", "optimiser"] {
        for row in rows(&document, &format!("### {section}"), 0) {
            let (key, default) = (row[0], row[2]);
            let Ok(default) = format!("x = {default}").parse::<toml::Table>() else {
                assert!(["size", "samples"].contains(&key), "{key}: {default}");
                continue;
            };
            let number = |value: &toml::Value| {
                value.as_float().or_else(|| value.as_integer().map(|integer| integer as f64))
            };
            let (own, told) = (&table[section][key], &default["x"]);
            assert!(own == told || (number(own).is_some() && number(own) == number(told)), "{key}");
            checked += 1;
        }
    }
    assert_eq!(checked, 13);
    let batch = Recipe::parse(&bare).unwrap().batch;
    assert_eq!((batch.size, batch.samples), (4, vec![vec!["p".to_owned()]; 4]));
    let two = bare.replace(
        "[[objectives]]\nparameter = \"p\"\nloss = { kind = \"adversarial\" }\n",
        "[[degradations]]\nparameter = \"q\"\ndegradation = { kind = \"jpeg\", quality = [1, 2] }\n",
    );
    let end = two.find("[discriminator]").unwrap();
    let two = two[..end].replace(
        "[[tuning.parameters]]",
        "[[tuning.parameters]]\nname = \"q\"\nnick = \"\"\nblurb = \"\"\nminimum = 0.0\n\
         maximum = 1.0\ndefault = 0.0\nobjective = \"\"\n[[tuning.parameters]]",
    );
    let samples = Recipe::parse(&two).unwrap().batch.samples;
    assert_eq!(samples, [&["p"][..], &["q"], &["p", "q"], &["p", "q"]]);
}

#[test]
fn the_examples_of_the_document_work() {
    let document = document();
    let examples: Vec<&str> =
        document.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(examples.len(), 2);
    // The first takes the place of the template's tables.
    let template = TEMPLATES[0].1;
    let start = template.find("[tuning]").unwrap();
    let recipe = Recipe::parse(&format!("{}{}", &template[..start], examples[0])).unwrap();
    assert_eq!(recipe.degradations[0].degradation.kind(), "jpeg");
    let at = Workplace::new();
    std::fs::write(at.path("data/dataset.toml"), examples[1]).unwrap();
    let run = at.command("train tiny.toml --data data --run a").assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(told.contains("data set: CLIC 2025 images, Unsplash licence, 3 read"), "{told}");

    // Every option of a command is one that it has.
    let readme = std::fs::read_to_string(Path::new(ROOT).join("../README.md")).unwrap();
    let mut seen = 0;
    for line in document.lines().chain(readme.lines()) {
        let Some((_, rest)) = line.split_once("tunableconv-train ") else { continue };
        let rest = rest.split(['#', '`']).next().unwrap();
        let mut words = rest.split_whitespace();
        let Some(command) =
            words.next().filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        else {
            continue;
        };
        let options: Vec<&str> = words.filter(|word| word.starts_with("--")).collect();
        if options.is_empty() {
            continue;
        }
        let help = at.succeed(&format!("{command} --help"));
        for option in options {
            assert!(
                help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n")),
                "{command} {option}"
            );
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn errors_name_the_key_and_its_line() {
    let refused = |from: &str, to: &str| {
        assert!(FULL.contains(from), "{from}");
        format!("{:#}", Recipe::parse(&FULL.replacen(from, to, 1)).unwrap_err())
    };
    for (from, to, expected) in [
        ("channels = 4", "channels = -1", "line 7: net.channels: invalid value"),
        ("\"mlp\"", "\"mpl\"", "line 10: net.phi.mode: unknown variant `mpl`"),
        ("expand = 2", "expand = true", "line 10: net.phi.expand: invalid type"),
        ("layers = 1\n", "", "line 5: net: missing field `layers`"),
        ("[0.0, 1.0]", "[0.0]", "degradations[0].degradation.sigma: invalid length 1"),
        ("sigma", "quality", "degradations[0].degradation.quality: unknown field `quality`"),
        ("\"noise\"", "\"nose\"", "degradations[0].degradation.kind: unknown variant `nose`"),
        ("nick = \"P\"\n", "", "tuning.parameters[0]: missing field `nick`"),
        ("\"uniform\"", "\"uniform\", share = 1", "batch.tunings.share: unknown field `share`"),
        ("\"hinge\"", "\"cringe\"", "line 28: discriminator.loss: unknown variant `cringe`"),
        ("beta1", "beta3", "line 34: optimiser.beta3: unknown field `beta3`"),
        ("steps = 10", "steps = \"10\"", "line 4: steps: invalid type"),
        ("seed = 1", "seed = = 1", "line 3"),
    ] {
        let error = refused(from, to);
        assert!(error.contains(expected), "{from} → {to}: {error}");
    }
}

#[test]
fn a_knob_without_effect_is_refused() {
    let all = r#"[["denoise"], ["denoise", "deblur"]]"#;
    let deblur = "parameter = \"deblur\"\ndegradation";
    assert!(RECIPE.contains(all) && RECIPE.contains(deblur));
    let denoise = RECIPE.replace(all, r#"[["denoise"]]"#);
    for text in [&denoise, &denoise.replace(deblur, "parameter = \"denoise\"\ndegradation")] {
        let error = format!("{:#}", Recipe::parse(text).unwrap_err());
        assert!(error.contains("`deblur` would have no effect"), "{error}");
    }
    let error = Recipe::parse(&RECIPE.replace("clip_norm = 1.0", "clip_norm = 5e-324"));
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("clip_norm = 5e-324, expected at least"), "{error}");
    // On a simplex a parameter may stand for leaving things as they are.
    let keep = RECIPE.replace("\"box\"", "\"simplex\"").replace("\"deblur\"", "\"keep\"");
    let start = keep.find("[[degradations]]").unwrap();
    let end = keep.find("[[degradations]]\nparameter = \"denoise\"").unwrap();
    let keep = format!("{}{}", &keep[..start], &keep[end..])
        .replace("samples = [[\"denoise\"], [\"denoise\", \"keep\"]]", "samples = [[\"denoise\"]]");
    Recipe::parse(&keep).unwrap();
}
