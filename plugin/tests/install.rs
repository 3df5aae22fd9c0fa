//! What `make install` lays down, and that a Debian package has the same.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{LIBRARY, Model};
use tempfile::TempDir;

const METAINFO: &str = "io.github.tunableconv.tunableconv.metainfo.xml";

const PRESETS: [&str; 2] = ["TunableConv-broadcast.prs", "TunableConvFilter.prs"];

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Files below a folder, by their paths in it.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    fn collect(folder: &Path, top: &Path, files: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, top, files);
            } else {
                files.insert(path.strip_prefix(top).unwrap().to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(folder, folder, &mut found);
    found
}

/// What is to be in these folders for plugins and for data.
fn expected(plugins: &str, data: &str) -> BTreeSet<PathBuf> {
    let presets = PRESETS.map(|name| format!("{data}/gstreamer-1.0/presets/{name}"));
    let others = [format!("{plugins}/{LIBRARY}"), format!("{data}/metainfo/{METAINFO}")];
    let models = ["broadcast-hq", "style", "upscale2x"]
        .map(|name| format!("{data}/tunableconv/models/{name}.safetensors"));
    let paths = presets.into_iter().chain(others).chain(models);
    paths.map(|path| path.trim_start_matches('/').into()).collect()
}

/// A target folder with the library that belongs to this test.
fn built() -> TempDir {
    let target = tempfile::tempdir().unwrap();
    let release = target.path().join("release");
    fs::create_dir(&release).unwrap();
    symlink(common::library(), release.join(LIBRARY)).unwrap();
    target
}

/// `make`, which takes what is built and puts it below a folder.
fn make(goal: &str, target: &TempDir, below: &TempDir, variables: &[&str]) -> Command {
    let mut make = Command::new("make");
    make.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("CARGO_TARGET_DIR", target.path())
        // Variables of a `make test` that runs this.
        .env_remove("MAKEFLAGS")
        .args([goal, "CARGO=true"])
        .arg(format!("DESTDIR={}", below.path().display()))
        .args(variables);
    make
}

#[test]
fn everything_goes_where_gstreamer_looks_and_away_again() {
    let variable = |name: &str| {
        let argument = format!("--variable={name}");
        let text = output(Command::new("pkg-config").args([&argument, "gstreamer-1.0"]));
        text.trim().to_owned()
    };
    let (plugins, data) = (variable("pluginsdir"), variable("datadir"));
    let (target, below) = (built(), tempfile::tempdir().unwrap());
    output(&mut make("install", &target, &below, &[]));
    assert_eq!(files(below.path()), expected(&plugins, &data));

    let at = |folder: &str| below.path().join(folder.trim_start_matches('/'));
    let found = output(
        Model::new()
            .command("gst-inspect-1.0")
            .arg("tunableconv-broadcast")
            .env("GST_PLUGIN_PATH", at(&plugins))
            .env("GST_PRESET_PATH", at(&format!("{data}/gstreamer-1.0/presets"))),
    );
    assert!(found.contains(at(&plugins).join(LIBRARY).to_str().unwrap()), "{found}");
    assert!(found.contains("dim-room-webcam"), "{found}");

    output(&mut make("uninstall", &target, &below, &[]));
    assert_eq!(files(below.path()), BTreeSet::new());
}

#[test]
fn other_folders_can_be_named() {
    for (variables, plugins, data) in [
        (&["prefix=/opt/a", "libdir=/opt/a/lib64"][..], "/opt/a/lib64", "/opt/a/share"),
        (&["libdir=/usr/lib64", "datadir=/data"], "/usr/lib64", "/data"),
    ] {
        let (target, below) = (built(), tempfile::tempdir().unwrap());
        output(&mut make("install", &target, &below, variables));
        assert_eq!(files(below.path()), expected(&format!("{plugins}/gstreamer-1.0"), data));
        output(&mut make("uninstall", &target, &below, variables));
        assert_eq!(files(below.path()), BTreeSet::new());
    }
}

#[test]
fn the_debian_package_has_what_make_install_lays_down() {
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(plugin.join("Cargo.toml")).unwrap();
    let assets = manifest.split_once("\nassets = [\n").unwrap().1.split_once("\n]").unwrap().0;
    let mut packaged = BTreeSet::new();
    for asset in assets.lines() {
        let quoted: Vec<&str> = asset.split('"').collect();
        let (source, place) = (quoted[1], Path::new(quoted[3]));
        if place.starts_with("usr/share/doc") {
            assert!(plugin.join(source).is_file(), "{asset}");
            continue;
        }
        // All files of a folder that end like this, or one that is built. That one is told by its
        // name, by which cargo-deb knows what to strip and to look for dependencies in.
        if let Some((sources, ending)) = source.split_once('*') {
            let names = files(&plugin.join(sources)).into_iter();
            let names = names.filter(|name| name.to_str().unwrap().ends_with(ending));
            packaged.extend(names.map(|name| place.join(name)));
        } else {
            packaged.insert(place.to_owned());
        }
    }
    assert_eq!(packaged, expected("usr/lib/gstreamer-1.0", "usr/share"));
}

#[test]
fn the_metainfo_has_the_name_of_its_component() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(METAINFO);
    let text = fs::read_to_string(path).unwrap();
    let id = METAINFO.strip_suffix(".metainfo.xml").unwrap();
    assert!(text.contains(&format!("<id>{id}</id>")), "{text}");
    let license = env!("CARGO_PKG_LICENSE");
    assert!(text.contains(&format!("<project_license>{license}</project_license>")), "{text}");
}
