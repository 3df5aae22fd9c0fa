//! Pairs of clips: what crops hold, and what is skipped.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tunableconv::checkpoint::Checkpoint;
use tunableconv_train::condition::Condition;
use tunableconv_train::evaluate::levels::Levels;
use tunableconv_train::pairs::PairFolder;
use tunableconv_train::rgb::Rgb;
use tunableconv_train::test_set::TestSet;
use tunableconv_train::yuv::{Matrix, Range, Yuv420};

/// The planes of one frame, random within the limited range.
fn planes(width: usize, height: usize, seed: u64) -> [Vec<u8>; 3] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    [width * height, chroma, chroma]
        .map(|len| (0..len).map(|_| rng.random_range(60..190)).collect())
}

fn write(path: &Path, width: usize, height: usize, fields: &str, frames: &[[Vec<u8>; 3]]) {
    let mut file = format!("YUV4MPEG2 W{width} H{height} F25:1 {fields}\n").into_bytes();
    for planes in frames {
        file.extend(b"FRAME\n");
        planes.iter().for_each(|plane| file.extend(plane));
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, file).unwrap();
}

fn write_pair(dir: &Path, name: &str, width: usize, height: usize, seeds: std::ops::Range<u64>) {
    for (kind, offset) in [("clean", 0), ("degraded", 1000)] {
        let frames: Vec<_> =
            seeds.clone().map(|seed| planes(width, height, seed + offset)).collect();
        write(&dir.join(format!("{name}.{kind}.y4m")), width, height, "C420jpeg", &frames);
    }
}

fn whole(width: usize, height: usize, planes: &[Vec<u8>; 3], matrix: Matrix, range: Range) -> Rgb {
    let picture = Yuv420::from_bytes(width, height, [&planes[0], &planes[1], &planes[2]]);
    picture.unwrap().to_rgb(matrix, range)
}

/// `side` pixels each way from (x, y), which may lie outside; edges replicated.
fn window(image: &Rgb, x: isize, y: isize, side: usize) -> Rgb {
    let clamped = |start: isize, i: usize, len: usize| {
        (start + i as isize).clamp(0, len as isize - 1) as usize
    };
    let mut data = Vec::new();
    for c in 0..3 {
        for i in 0..side {
            let row = clamped(y, i, image.height) * image.width;
            data.extend((0..side).map(|j| image.plane(c)[row + clamped(x, j, image.width)]));
        }
    }
    Rgb::new(side, side, data)
}

/// Where both crops come from: frame, place of the inner pixels, orientation.
fn find(
    (clean, degraded): &(Rgb, Rgb),
    frames: &[(Rgb, Rgb)],
    halo: usize,
) -> Vec<(usize, isize, isize, u8)> {
    let side = clean.width;
    let size = side - 2 * halo;
    let mut found = Vec::new();
    for (f, (clean_frame, degraded_frame)) in frames.iter().enumerate() {
        for y in 0..=(clean_frame.height - size) as isize {
            for x in 0..=(clean_frame.width - size) as isize {
                for orientation in 0..8 {
                    let at = |frame: &Rgb| {
                        window(frame, x - halo as isize, y - halo as isize, side)
                            .dihedral(orientation)
                    };
                    if at(clean_frame) == *clean && at(degraded_frame) == *degraded {
                        found.push((f, x, y, orientation));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn crops_of_both_come_from_the_same_place_and_orientation() {
    let dir = tempfile::tempdir().unwrap();
    // Odd sides, and a second pair in a subfolder.
    let pairs = [("a", 15, 13, 0..2), ("sub/b", 12, 14, 5..6)];
    let mut frames = Vec::new();
    for (name, width, height, seeds) in pairs {
        write_pair(dir.path(), name, width, height, seeds.clone());
        for seed in seeds {
            let rgb = |seed| {
                whole(width, height, &planes(width, height, seed), Matrix::Bt601, Range::Limited)
            };
            frames.push((rgb(seed), rgb(seed + 1000)));
        }
    }
    let folder = PairFolder::load(&[dir.path().to_owned()], 8, u64::MAX).unwrap();
    assert_eq!((folder.len(), folder.skipped()), (3, 0));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // Halos that fit, are odd, and reach outside.
    for (size, halo) in [(8, 2), (8, 1), (8, 5), (6, 0)] {
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let pair = folder.sample_crop_pair(None, size, halo, &mut rng);
            assert_eq!((pair.0.width, pair.0.height), (size + 2 * halo, size + 2 * halo));
            let found = find(&pair, &frames, halo);
            let [(frame, x, y, orientation)] = found[..] else { panic!("{found:?}") };
            assert!(x % 2 == 0 && y % 2 == 0, "({x}, {y}) is between chroma samples");
            seen.insert((frame, orientation));
        }
        assert_eq!(seen.len(), 24, "every frame in every orientation");
    }
}

#[test]
fn every_even_place_is_possible() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "a", 16, 14, 0..1);
    let rgb = |seed| whole(16, 14, &planes(16, 14, seed), Matrix::Bt601, Range::Limited);
    let frames = [(rgb(0), rgb(1000))];
    let folder = PairFolder::load(&[dir.path().to_owned()], 8, u64::MAX).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let places: HashSet<_> = (0..300)
        .map(|_| find(&folder.sample_crop_pair(None, 8, 2, &mut rng), &frames, 2)[0])
        .map(|(_, x, y, _)| (x, y))
        .collect();
    let expected: HashSet<_> = [2, 4, 6].iter().flat_map(|&x| [2, 4].map(|y| (x, y))).collect();
    assert_eq!(places, expected);
}

#[test]
fn range_and_height_tell_how_colours_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let flat = |y, u, v| [vec![y; 8 * 720], vec![u; 4 * 360], vec![v; 4 * 360]];
    for (name, planes) in [("clean", flat(200, 90, 150)), ("degraded", flat(100, 128, 128))] {
        let path = dir.path().join(format!("tall.{name}.y4m"));
        write(&path, 8, 720, "C420 XCOLORRANGE=FULL", &[planes]);
    }
    let folder = PairFolder::load(&[dir.path().to_owned()], 8, u64::MAX).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (clean, degraded) = folder.sample_crop_pair(None, 8, 0, &mut rng);
    // BT.709 at full range, by hand.
    let (y, cb, cr) = (200.0 / 255.0, -38.0 / 255.0, 22.0 / 255.0);
    let expected = [y + 1.5748 * cr, y - 0.1873 * cb - 0.4681 * cr, y + 1.8556 * cb];
    for (c, expected) in expected.into_iter().enumerate() {
        assert!(clean.plane(c).iter().all(|v| (v - expected).abs() < 1e-4), "channel {c}");
    }
    assert!(degraded.data.iter().all(|v| (v - 100.0 / 255.0).abs() < 1e-6));
}

#[test]
fn the_same_seed_gives_the_same_pairs() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "a", 32, 32, 0..3);
    let folder = PairFolder::load(&[dir.path().to_owned()], 16, u64::MAX).unwrap();
    let crops = || {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        (0..5).map(|_| folder.sample_crop_pair(None, 16, 2, &mut rng)).collect::<Vec<_>>()
    };
    assert_eq!(crops(), crops());
}

#[test]
fn useless_pairs_are_skipped_and_a_useless_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    write_pair(&good, "a", 16, 16, 0..2);
    write_pair(&good, "small", 16, 6, 0..2);
    write_pair(&good, "widow", 16, 16, 0..1);
    fs::remove_file(good.join("widow.degraded.y4m")).unwrap();
    fs::write(good.join("empty.clean.y4m"), b"").unwrap();
    fs::write(good.join("empty.degraded.y4m"), b"").unwrap();
    fs::write(good.join("other.y4m"), b"no half of a pair").unwrap();
    let folder = PairFolder::load(std::slice::from_ref(&good), 8, u64::MAX).unwrap();
    assert_eq!((folder.len(), folder.skipped()), (2, 3));

    let useless = dir.path().join("useless");
    write_pair(&useless, "small", 6, 16, 0..1);
    for (second, name) in [(useless, "useless"), (dir.path().join("missing"), "missing")] {
        let error = PairFolder::load(&[good.clone(), second], 8, u64::MAX).unwrap_err();
        assert!(format!("{error:#}").contains(name), "{error:#}");
    }
    assert!(PairFolder::load(&[], 8, u64::MAX).is_err());
}

#[test]
fn the_folder_of_a_pair_says_which_parameter_is_told_its_level() {
    let levels = Levels::new(&Checkpoint::built_in().unwrap().metadata).unwrap();
    let recorded: Condition = "recorded".parse().unwrap();
    for (folder, told) in [
        ("noisy", [true, false, false]),
        ("compressed", [false, false, true]),
        // Nothing says what these are.
        ("others", [true, false, true]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_pair(dir.path(), &format!("{folder}/below/a"), 32, 32, 0..1);
        let set = TestSet::pairs(dir.path()).unwrap();
        let tuning = levels.tuning(&set.load(0).unwrap(), &recorded, 0, 1.0);
        assert_eq!(tuning, told.map(|is_told| f64::from(u8::from(is_told))), "{folder}");
    }
}
