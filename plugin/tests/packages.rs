//! What the project names, `make setup` installs: every element, program and introspection file in
//! pipelines, documents, demonstration and tests is in a package of the Makefile's `PACKAGES`, or in
//! one that such a package depends on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gst::prelude::*;
use gstreamer as gst;

/// Folders and files that are looked at, from the top of the project.
const PLACES: [&str; 8] = [
    "README.md",
    "Makefile",
    "docs",
    "pipelines",
    "plugin/examples",
    "plugin/tests",
    "plugin/src/tunableconvfilter/mod.rs",
    "train/src/make_pairs/encoder.rs",
];

/// Programs that are named without GStreamer's ending.
const PROGRAMS: [&str; 3] = ["python3", "ffmpeg", "ffprobe"];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Paths and texts of the files in [`PLACES`].
fn texts() -> Vec<(PathBuf, String)> {
    fn collect(path: &Path, texts: &mut Vec<(PathBuf, String)>) {
        if path.is_dir() {
            let mut entries: Vec<_> =
                fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
            entries.sort();
            entries.iter().for_each(|entry| collect(entry, texts));
        } else if let Ok(text) = fs::read_to_string(path) {
            texts.push((path.to_owned(), text));
        }
    }
    let mut texts = vec![];
    PLACES.iter().for_each(|place| collect(&top().join(place), &mut texts));
    texts.retain(|(path, _)| path.file_name() != Path::new(file!()).file_name());
    texts
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
}

/// Elements of the pieces of pipelines in a line: `! element …`, and what a piece starts with that
/// goes on with ` ! `.
fn elements(line: &str) -> Vec<&str> {
    let line = line.trim().trim_end_matches('\\');
    let line = line.strip_prefix("//!").unwrap_or(line).trim_start();
    let is_chain = |at: usize| {
        let (before, after) = (&line[..at], &line[at + 1..]);
        (before.is_empty() || before.ends_with([' ', '"'])) && after.starts_with(' ')
    };
    let links: Vec<usize> =
        line.match_indices('!').map(|(at, _)| at).filter(|&at| is_chain(at)).collect();
    let Some(&first) = links.first() else { return vec![] };
    let head = &line[..first];
    let head = head.rsplit(['"', '\'', '`', '(', '|']).next().unwrap_or(head);
    let head =
        [":=", "-1.0 "].iter().fold(head, |head, start| head.rsplit(start).next().unwrap_or(head));
    let mut words = head.split_whitespace().filter(|word| !word.starts_with('-'));
    let tails = links.iter().filter_map(|&at| line[at + 1..].split_whitespace().next());
    let tails = tails.map(|word| word.trim_end_matches(['"', '\'', '`', ',', ')', ';', '}']));
    words.next().into_iter().chain(tails).filter(|word| is_name(word)).collect()
}

/// Strings after a prefix, up to the quote.
fn quoted<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix)
        .filter_map(move |(at, _)| text[at + prefix.len()..].split('"').next())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
        .map(|word| word.trim_end_matches('.'))
}

/// The standard output of a command that succeeds.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8(output.stdout).unwrap()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// The package that a file belongs to.
fn owner(path: &Path) -> Result<String, String> {
    // Some programs are links to those of a version, and /lib may be one to /usr/lib.
    let path = path.canonicalize().map_err(|error| error.to_string())?;
    let path = path.to_str().unwrap();
    let listed = output("dpkg", &["-S", path])
        .or_else(|_| output("dpkg", &["-S", path.strip_prefix("/usr").unwrap_or(path)]))?;
    let line = listed.lines().find(|line| !line.starts_with("diversion")).unwrap_or_default();
    let package = line.split([':', ',']).next().unwrap_or_default();
    Ok(package.to_owned())
}

/// Names of packages in a field of dpkg's, without versions and architectures.
fn names(field: &str) -> impl Iterator<Item = String> {
    field.split([',', '|']).filter_map(|name| {
        let name = name.split_whitespace().next()?.split(':').next()?;
        Some(name.to_owned())
    })
}

/// The Makefile's packages and what they depend on.
fn installed_by_setup() -> BTreeSet<String> {
    let makefile = fs::read_to_string(top().join("Makefile")).unwrap().replace("\\\n", " ");
    let line = makefile.lines().find_map(|line| line.strip_prefix("PACKAGES =")).unwrap();
    let format = "-f=${Package}\t${Pre-Depends}, ${Depends}\t${Provides}\n";
    let listed = output("dpkg-query", &["-W", format]).unwrap();
    let mut depends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in listed.lines() {
        let mut fields = package.split('\t');
        let name = fields.next().unwrap();
        let needs: Vec<String> = names(fields.next().unwrap()).collect();
        for provided in names(fields.next().unwrap_or_default()) {
            depends.entry(provided).or_default().push(name.into());
        }
        depends.entry(name.into()).or_default().extend(needs);
    }
    let mut found = BTreeSet::new();
    let mut next: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    while let Some(package) = next.pop() {
        if found.insert(package.clone()) {
            next.extend(depends.get(&package).cloned().unwrap_or_default());
        }
    }
    found
}

#[test]
fn make_setup_installs_what_is_named() {
    if let Err(reason) = output("dpkg", &["--version"]) {
        println!("skipped: {reason}");
        return;
    }
    common::init();
    let packages = installed_by_setup();
    let ours =
        gst::ElementFactory::find("tunableconvfilter").unwrap().plugin().unwrap().plugin_name();
    // What, and where it is named, by file.
    let mut needed: BTreeMap<PathBuf, (String, PathBuf)> = BTreeMap::new();
    let mut problems = BTreeSet::new();
    let mut count = 0;
    for (place, text) in texts() {
        let in_lines = text.lines().flat_map(elements);
        let made = ["ElementFactory::make(\"", "ElementFactory::find(\""];
        let made = made.iter().flat_map(|prefix| quoted(&text, prefix));
        for name in in_lines.chain(made) {
            if name.starts_with("tunableconv") {
                continue;
            }
            count += 1;
            let plugin = gst::ElementFactory::find(name).and_then(|factory| factory.plugin());
            match plugin {
                None => drop(problems.insert(format!("no element {name} ({})", place.display()))),
                Some(plugin) if plugin.plugin_name() == ours => {}
                Some(plugin) => {
                    let file = plugin.filename().unwrap();
                    needed.entry(file).or_insert_with(|| (name.to_owned(), place.clone()));
                }
            }
        }
        let is_program = |word: &&str| {
            (word.starts_with("gst-") || word.starts_with("ges-")) && word.ends_with("-1.0")
                || PROGRAMS.contains(word)
        };
        for name in words(&text).filter(is_program) {
            let file = Path::new("/usr/bin").join(name);
            needed.entry(file).or_insert_with(|| (name.to_owned(), place.clone()));
        }
        for name in quoted(&text, "gi.require_version(\"") {
            let file = format!("/usr/lib/x86_64-linux-gnu/girepository-1.0/{name}-1.0.typelib");
            needed.entry(file.into()).or_insert_with(|| (name.to_owned(), place.clone()));
        }
    }
    for (file, (name, place)) in &needed {
        let place = place.display();
        match owner(file) {
            Ok(package) if packages.contains(&package) => {}
            Ok(package) => drop(problems.insert(format!("{name} ({place}) is in {package}"))),
            Err(reason) => drop(problems.insert(format!("{name} ({place}): {reason}"))),
        }
    }
    assert!(problems.is_empty(), "not installed by `make setup`:\n{problems:#?}");
    assert!(count > 50 && needed.len() > 10, "{count} elements, {} files", needed.len());
}

#[test]
fn messages_name_the_package_that_holds_the_element() {
    if let Err(reason) = output("dpkg", &["--version"]) {
        println!("skipped: {reason}");
        return;
    }
    common::init();
    let text = fs::read_to_string(top().join("plugin/examples/demo/pipelines.rs")).unwrap();
    let pairs: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("(\"")?.strip_suffix("\"),")?.split_once("\", \"")
        })
        .collect();
    assert!(pairs.len() >= 7, "{pairs:?}");
    for (element, package) in pairs {
        let plugin = gst::ElementFactory::find(element).and_then(|factory| factory.plugin());
        let file = plugin.unwrap_or_else(|| panic!("no element {element}")).filename().unwrap();
        assert_eq!(owner(&file).as_deref(), Ok(package), "{element}");
    }
}

#[test]
fn elements_are_found_in_all_kinds_of_text() {
    for (line, expected) in [
        (
            "gst-launch-1.0 -m v4l2src ! queue leaky=downstream ! fakesink",
            &["v4l2src", "queue", "fakesink"][..],
        ),
        ("    ! h264parse ! mux. filesrc location=x", &["h264parse"]),
        (
            "\"filesrc name=source ! decodebin ! video/x-raw ! x264enc\"",
            &["filesrc", "decodebin", "x264enc"],
        ),
        ("compositor name=sides ! video/x-raw,format=I420 ! queue \\", &["compositor", "queue"]),
        ("split. ! queue ! textoverlay text=noisy ! sides.sink_0 \\", &["queue", "textoverlay"]),
        ("//! gst-launch-1.0 videotestsrc ! {} ! $SINK", &["videotestsrc"]),
        ("assert!(! line.is_empty())", &[]),
        ("if a != b { println!(\"x\") }", &[]),
        ("![A picture](x.png)", &[]),
        (": \"${SINK:=videoconvert ! autovideosink}\"", &["videoconvert", "autovideosink"]),
    ] {
        assert_eq!(elements(line), expected, "{line}");
    }
}
