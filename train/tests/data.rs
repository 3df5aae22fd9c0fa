//! Image folders: what is found, what is skipped, and what crops hold.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use image::{Rgb as Pixel, RgbImage};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tunableconv_train::data::{ImageFolder, list_images};

/// Red tells the column, green the row, blue the image.
fn coordinates(width: u32, height: u32, blue: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Pixel([x as u8, y as u8, blue]))
}

fn save(dir: &Path, name: &str, image: &RgbImage) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

#[test]
fn every_format_is_found_in_sorted_order_and_the_rest_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let image = coordinates(20, 16, 0);
    save(dir.path(), "c.PNG", &image);
    save(dir.path(), "a.jpeg", &image);
    save(dir.path(), "sub/deep/b.webp", &image);
    save(dir.path(), "b.Jpg", &image);
    save(dir.path(), "small.png", &coordinates(20, 15, 0));
    fs::write(dir.path().join("broken.png"), b"not a picture").unwrap();
    fs::write(dir.path().join("notes.txt"), b"not even meant to be one").unwrap();
    let folder = ImageFolder::load(&[dir.path().to_owned()], 16).unwrap();
    let names: Vec<String> = folder
        .paths()
        .iter()
        .map(|p| p.strip_prefix(dir.path()).unwrap().display().to_string())
        .collect();
    assert_eq!(names, ["a.jpeg", "b.Jpg", "c.PNG", "sub/deep/b.webp"]);
    assert_eq!(folder.len(), 4);
    assert_eq!(folder.skipped(), 2);
    assert_eq!(folder.images()[2], image);
    assert_eq!(list_images(dir.path()).unwrap().len(), 6);
}

#[test]
fn a_file_is_read_by_content_when_its_name_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let image = coordinates(8, 8, 0);
    image.save(dir.path().join("x.png")).unwrap();
    fs::rename(dir.path().join("x.png"), dir.path().join("x.jpg")).unwrap();
    let folder = ImageFolder::load(&[dir.path().to_owned()], 1).unwrap();
    assert_eq!(folder.images()[0], image);
}

#[test]
fn a_missing_or_useless_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    save(&good, "x.png", &coordinates(8, 8, 0));
    let useless = dir.path().join("useless");
    save(&useless, "x.png", &coordinates(7, 8, 0));
    for (second, name) in [(useless, "useless"), (dir.path().join("missing"), "missing")] {
        let error = ImageFolder::load(&[good.clone(), second], 8).unwrap_err();
        assert!(format!("{error:#}").contains(name), "{error:#}");
    }
    assert!(ImageFolder::load(&[], 8).is_err());
}

#[cfg(unix)]
#[test]
fn a_link_back_to_the_folder_is_followed_once() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), "x.png", &coordinates(8, 8, 0));
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
    assert_eq!(list_images(dir.path()).unwrap().len(), 1);
}

#[test]
fn crops_are_connected_windows_in_all_orientations_of_all_images() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..3 {
        save(dir.path(), &format!("{i}.png"), &coordinates(40, 30, i));
    }
    let folder = ImageFolder::load(&[dir.path().to_owned()], 16).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut orientations = HashSet::new();
    let mut images = HashSet::new();
    let mut corners = HashSet::new();
    for _ in 0..2000 {
        let crop = folder.sample_crop(8, 3, &mut rng).to_image();
        assert_eq!(crop.dimensions(), (14, 14));
        let at = |x, y| crop.get_pixel(x, y).0.map(i32::from);
        let [x0, y0, blue] = at(0, 0);
        let across = [at(1, 0)[0] - x0, at(1, 0)[1] - y0];
        let down = [at(0, 1)[0] - x0, at(0, 1)[1] - y0];
        for y in 0..14 {
            for x in 0..14 {
                let (i, j) = (x as i32, y as i32);
                let expected =
                    [x0 + i * across[0] + j * down[0], y0 + i * across[1] + j * down[1], blue];
                assert_eq!(at(x, y), expected);
            }
        }
        orientations.insert((across, down));
        images.insert(blue);
        corners.insert((x0.min(at(13, 13)[0]), y0.min(at(13, 13)[1])));
    }
    assert_eq!(orientations.len(), 8);
    assert_eq!(images.len(), 3);
    // Every position is possible, the outermost included.
    for corner in [(0, 0), (26, 16), (0, 16), (26, 0)] {
        assert!(corners.contains(&corner), "{corner:?}");
    }
}

#[test]
fn an_image_too_small_for_the_halo_is_replicated_outside() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), "x.png", &coordinates(8, 8, 1));
    let folder = ImageFolder::load(&[dir.path().to_owned()], 8).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    // Only one position is possible, so turning back by hand must give one of eight views.
    for _ in 0..20 {
        let crop = folder.sample_crop(8, 2, &mut rng);
        assert_eq!((crop.width, crop.height), (12, 12));
        let upright = (0..8).any(|i| {
            let view = crop.clone().dihedral(i).to_image();
            view.enumerate_pixels().all(|(x, y, pixel)| {
                let clamped = |v: u32| v.saturating_sub(2).min(7) as u8;
                pixel.0 == [clamped(x), clamped(y), 1]
            })
        });
        assert!(upright);
    }
}

#[test]
fn the_same_seed_gives_the_same_crops() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), "x.png", &coordinates(50, 50, 0));
    let folder = ImageFolder::load(&[dir.path().to_owned()], 16).unwrap();
    let crops = || {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        (0..5).map(|_| folder.sample_crop(16, 2, &mut rng)).collect::<Vec<_>>()
    };
    assert_eq!(crops(), crops());
}
