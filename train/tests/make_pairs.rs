//! Pairs of clips made of photographs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{Workplace, picture};
use tunableconv_train::pairs::PairFolder;

/// With a folder `large` of two images that have room for a view, and one that has not.
fn workplace() -> Workplace {
    let at = Workplace::new();
    fs::create_dir(at.path("large")).unwrap();
    for (name, size) in [("a", (300, 270)), ("b", (256, 256)), ("small", (255, 300))] {
        picture(size.0, size.1, 1).save(at.path(&format!("large/{name}.png"))).unwrap();
    }
    fs::write(at.path("large/dataset.toml"), "name = \"Squares\"\nlicence = \"CC0\"\n").unwrap();
    at
}

fn files(at: &Workplace, folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(at.path(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn photographs_become_pairs_with_and_without_noise() {
    let at = workplace();
    // Every codec, in both kinds.
    at.succeed("make-pairs large --out pairs --clips 24");
    let names: BTreeSet<String> = &files(&at, "pairs/noisy") | &files(&at, "pairs/compressed");
    assert_eq!(names.len(), 48, "{names:?}");
    for codec in ["h264", "mpeg2", "vp8", "av1"] {
        assert!(names.iter().any(|name| name.contains(codec)), "{codec}: {names:?}");
    }
    let pairs = PairFolder::load(&[at.path("pairs")], 256, u64::MAX).unwrap();
    assert_eq!((pairs.clips(), pairs.skipped()), (24, 0));
    assert_eq!(pairs.len(), 4 * 24);
    assert_eq!(pairs.frames_in(Some("compressed")).len(), 4 * 8);
    let set = &pairs.sets()[0];
    assert_eq!(
        (set.name.as_str(), set.licence.as_str()),
        ("Squares, moving, noisy and encoded", "CC0")
    );
    // An encoder changes every frame, but leaves its picture.
    for index in 0..pairs.len() {
        let (clean, degraded) = pairs.whole(index);
        let squares = clean.data.iter().zip(&degraded.data).map(|(a, b)| (a - b).powi(2));
        let error = (squares.sum::<f32>() / clean.data.len() as f32).sqrt();
        assert!(error > 1e-3 && error < 0.25, "{index}: {error}");
    }
}

#[test]
fn what_is_there_is_not_made_again() {
    let at = workplace();
    at.succeed("make-pairs large --out one --clips 5");
    at.succeed("make-pairs large --out two --clips 2");
    let kept = "two/noisy/".to_owned() + files(&at, "two/noisy").first().unwrap();
    let before = fs::metadata(at.path(&kept)).unwrap().modified().unwrap();
    // As if killed between the clips of a pair.
    let halved = "two/noisy/".to_owned() + files(&at, "two/noisy").last().unwrap();
    assert!(halved.ends_with(".degraded.y4m"), "{halved}");
    fs::remove_file(at.path(&halved)).unwrap();
    at.succeed("make-pairs large --out two --clips 5");
    assert_eq!(fs::metadata(at.path(&kept)).unwrap().modified().unwrap(), before);
    for folder in ["noisy", "compressed"] {
        let [one, two] = ["one", "two"].map(|out| files(&at, &format!("{out}/{folder}")));
        assert_eq!(one, two);
        for name in one {
            let [one, two] = ["one", "two"].map(|out| at.read(&format!("{out}/{folder}/{name}")));
            assert!(one == two, "{name}");
        }
    }
}

#[test]
fn a_photograph_that_is_broken_is_left_out() {
    let at = workplace();
    // Its header is whole.
    let whole = at.read("large/a.png");
    fs::write(at.path("large/a.png"), &whole[..whole.len() / 2]).unwrap();
    let run = at.command("make-pairs large --out pairs --clips 6").assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(told.contains("warning: no pairs/") && told.contains("large/a.png"), "{told}");
    let made = files(&at, "pairs/noisy").len() + files(&at, "pairs/compressed").len();
    assert!((2..12).contains(&made), "{made}");
    fs::write(at.path("large/b.png"), &at.read("large/b.png")[..2000]).unwrap();
    let error = at.fail("make-pairs large --out none --clips 2");
    assert!(error.contains("none of the photographs can be read"), "{error}");
}

#[test]
fn what_a_set_is_called_stays_as_it_was_edited() {
    let at = workplace();
    fs::write(at.path("large/dataset.toml"), "name = \"Cafe\u{301}\"\nlicence = \"CC0\"\n")
        .unwrap();
    at.succeed("make-pairs large --out pairs --clips 1");
    let text = String::from_utf8(at.read("pairs/dataset.toml")).unwrap();
    let read: toml::Table = text.parse().unwrap();
    assert_eq!(read["name"].as_str().unwrap(), "Cafe\u{301}, moving, noisy and encoded");
    fs::write(at.path("pairs/dataset.toml"), "name = \"Mine\"\nlicence = \"CC0\"\n").unwrap();
    let run = at.command("make-pairs large --out pairs --clips 2").assert().success();
    let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
    assert!(told.contains("pairs/dataset.toml is left as it is"), "{told}");
    assert!(at.read("pairs/dataset.toml").starts_with(b"name = \"Mine\""));
}

#[test]
fn what_cannot_be_made_is_told() {
    let at = workplace();
    let error = at.fail("make-pairs data --out pairs");
    assert!(error.contains("no image of at least 256x256 pixels"), "{error}");
    assert!(!at.path("pairs").exists());
    fs::write(at.path("file"), "").unwrap();
    let error = at.fail("make-pairs large --out file --clips 1");
    assert!(error.contains("file/noisy"), "{error}");
    // Without GStreamer's tools.
    let output = at.command("make-pairs large --out p --clips 1").env("PATH", "").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && error.contains("apt install gstreamer1.0-tools"),
        "{error}"
    );
}
