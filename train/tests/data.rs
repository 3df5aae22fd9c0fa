//! Image folders: what is found, what is skipped, and what crops hold.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb as Pixel, RgbImage, RgbaImage};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tunableconv_train::data::{ImageFolder, Keep, list_images};
use tunableconv_train::rgb::Rgb;

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
    let folder = ImageFolder::load(&[dir.path().to_owned()], 16, Keep::Everything).unwrap();
    let names: Vec<String> =
        folder.paths().map(|p| p.strip_prefix(dir.path()).unwrap().display().to_string()).collect();
    assert_eq!(names, ["a.jpeg", "b.Jpg", "c.PNG", "sub/deep/b.webp"]);
    assert_eq!(folder.len(), 4);
    assert_eq!(folder.skipped(), 2);
    assert_eq!(folder.pieces().nth(2).unwrap(), [image]);
    assert_eq!(list_images(dir.path()).unwrap().len(), 6);
}

#[test]
fn a_file_is_read_by_content_when_its_name_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let image = coordinates(8, 8, 0);
    image.save(dir.path().join("x.png")).unwrap();
    fs::rename(dir.path().join("x.png"), dir.path().join("x.jpg")).unwrap();
    let folder = ImageFolder::load(&[dir.path().to_owned()], 1, Keep::Everything).unwrap();
    assert_eq!(folder.pieces().next().unwrap(), [image]);
}

#[test]
fn a_missing_or_useless_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    save(&good, "x.png", &coordinates(8, 8, 0));
    let useless = dir.path().join("useless");
    save(&useless, "x.png", &coordinates(7, 8, 0));
    for (second, name) in [(useless, "useless"), (dir.path().join("missing"), "missing")] {
        let error = ImageFolder::load(&[good.clone(), second], 8, Keep::Everything).unwrap_err();
        assert!(format!("{error:#}").contains(name), "{error:#}");
    }
    assert!(ImageFolder::load(&[], 8, Keep::Everything).is_err());
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
    let folder = ImageFolder::load(&[dir.path().to_owned()], 16, Keep::Everything).unwrap();
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
    let folder = ImageFolder::load(&[dir.path().to_owned()], 8, Keep::Everything).unwrap();
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
    let folder = ImageFolder::load(&[dir.path().to_owned()], 16, Keep::Everything).unwrap();
    let crops = || {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        (0..5).map(|_| folder.sample_crop(16, 2, &mut rng)).collect::<Vec<_>>()
    };
    assert_eq!(crops(), crops());
}

/// A PNG file by its chunks, with correct checksums.
fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in chunks {
        file.extend((data.len() as u32).to_be_bytes());
        let checked = [&name[..], data].concat();
        file.extend(&checked);
        // CRC-32 as PNG has it, a bit at a time.
        let crc = checked.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
        });
        file.extend((!crc).to_be_bytes());
    }
    file
}

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// Files whose headers announce far more pixels than memory holds.
fn giants() -> Vec<(&'static str, Vec<u8>)> {
    let image = coordinates(20, 20, 1);
    let side = 60_000u32.to_be_bytes();
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    let giant_png = png(&[(b"IHDR", &header), (b"IDAT", &[0x78, 0x9c, 3, 0]), (b"IEND", &[])]);
    let mut giant_jpeg = encoded(&image, ImageFormat::Jpeg);
    let frame = giant_jpeg.windows(2).position(|m| m == [0xFF, 0xC0]).unwrap();
    giant_jpeg[frame + 5..frame + 9].copy_from_slice(&[0xEA, 0x60, 0xEA, 0x60]);
    let mut giant_webp = encoded(&image, ImageFormat::WebP);
    assert_eq!(giant_webp[12..16], *b"VP8L");
    giant_webp[21..25].copy_from_slice(&0x0FFF_FFFFu32.to_le_bytes());
    vec![("giant.png", giant_png), ("giant.jpg", giant_jpeg), ("giant.webp", giant_webp)]
}

#[test]
fn broken_files_never_stop_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let image = RgbImage::from_fn(64, 48, |x, y| Pixel([(x * y) as u8, (7 * x) as u8, y as u8]));
    save(dir.path(), "good.png", &image);
    let [png, jpeg, webp] =
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP].map(|f| encoded(&image, f));
    let half = |file: &[u8]| file[..file.len() / 2].to_vec();
    let mut garbage = jpeg[..20].to_vec();
    garbage.extend((0..2000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8));
    let mut broken = vec![
        ("cut.png", half(&png)),
        ("cut.jpg", half(&jpeg)),
        ("cut.webp", half(&webp)),
        ("header.png", png[..20].to_vec()),
        ("header.jpg", jpeg[..4].to_vec()),
        ("garbage.jpg", garbage),
        ("empty.png", Vec::new()),
        ("empty.webp", Vec::new()),
        ("text.jpeg", b"Call me Ishmael.".to_vec()),
    ];
    broken.extend(giants());
    for (name, content) in &broken {
        fs::write(dir.path().join(name), content).unwrap();
    }
    fs::create_dir(dir.path().join("folder.png")).unwrap();
    let folder = ImageFolder::load(&[dir.path().to_owned()], 16, Keep::Everything).unwrap();
    assert_eq!(folder.paths().collect::<Vec<_>>(), [dir.path().join("good.png")]);
    assert_eq!(folder.skipped(), broken.len());
}

#[test]
fn a_giant_is_refused_before_it_is_allocated() {
    let peak = || -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmPeak:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), "good.png", &coordinates(20, 20, 0));
    for (name, content) in giants() {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let before = peak();
    let folder = ImageFolder::load(&[dir.path().to_owned()], 16, Keep::Everything).unwrap();
    assert_eq!((folder.len(), folder.skipped()), (1, 3));
    let (Some(before), Some(after)) = (before, peak()) else {
        eprintln!("skipped: no peak of memory without /proc");
        return;
    };
    // The giants announce 10, 10 and 0.8 GB.
    assert!(after - before < 700 << 10, "{} KiB more", after - before);
}

#[test]
fn grey_alpha_and_sixteen_bit_images_are_usable() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    image::GrayImage::from_pixel(8, 8, image::Luma([77])).save(at("grey.png")).unwrap();
    image::GrayImage::from_pixel(8, 8, image::Luma([77])).save(at("grey.jpg")).unwrap();
    image::RgbaImage::from_pixel(8, 8, image::Rgba([1, 2, 3, 9])).save(at("alpha.webp")).unwrap();
    let deep = image::Rgb([257u16 * 5, 257 * 6 + 1, 65535]);
    image::ImageBuffer::<_, Vec<u16>>::from_pixel(8, 8, deep).save(at("deep.png")).unwrap();
    let folder = ImageFolder::load(&[dir.path().to_owned()], 8, Keep::Everything).unwrap();
    assert_eq!(folder.skipped(), 0);
    let first: Vec<[u8; 3]> = folder.pieces().map(|pieces| pieces[0].get_pixel(3, 3).0).collect();
    assert_eq!(first, [[0; 3], [5, 6, 255], [77; 3], [77; 3]]);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_opened_is_skipped() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let dir = tempfile::tempdir().unwrap();
    let image = coordinates(8, 8, 0);
    save(dir.path(), "good.png", &image);
    save(dir.path(), "locked.png", &image);
    save(dir.path(), "locked/inside.png", &image);
    symlink(dir.path().join("nowhere"), dir.path().join("dangling.png")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(dir.path().join("pipe.png")).status();
    let pipe = pipe.is_ok_and(|status| status.success());
    let lock = |mode| {
        for name in ["locked.png", "locked"] {
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    lock(0o000);
    let open = fs::read_dir(dir.path().join("locked")).is_ok();
    let folder = ImageFolder::load(&[dir.path().to_owned()], 8, Keep::Everything);
    lock(0o755);
    let folder = folder.unwrap();
    if open {
        eprintln!("not run: permissions mean nothing to this user");
    }
    if !pipe {
        eprintln!("skipped: no mkfifo");
    }
    assert_eq!(folder.len(), if open { 3 } else { 1 });
    assert_eq!(folder.skipped(), 1 + usize::from(pipe) + usize::from(!open));
}

#[test]
fn images_that_do_not_fit_are_kept_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), "large.png", &coordinates(256, 256, 1));
    save(dir.path(), "small.png", &coordinates(30, 20, 2));
    let load = |bytes| {
        let keep = Keep::Within { bytes, span: 24 };
        ImageFolder::load(&[dir.path().to_owned()], 20, keep)
    };
    let folder = load(30_000).unwrap();
    let pieces: Vec<_> = folder.pieces().collect();
    let bytes = |images: &[RgbImage]| images.iter().map(|i| i.as_raw().len()).sum::<usize>();
    let kept = pieces.iter().map(|images| bytes(images)).sum::<usize>();
    assert!(kept <= 30_000, "{kept}");
    assert_eq!(pieces[1], [coordinates(30, 20, 2)]);
    assert!((folder.kept() - kept as f64 / 3.0 / f64::from(256 * 256 + 600)).abs() < 1e-9);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..200 {
        let crop = folder.sample_crop(20, 2, &mut rng).to_image();
        assert_eq!(crop.dimensions(), (24, 24));
        let blues: HashSet<u8> = crop.pixels().map(|pixel| pixel.0[2]).collect();
        assert_eq!(blues.len(), 1);
    }
    assert_eq!(load(200_000).unwrap().kept(), 1.0);
    let error = load(3000).unwrap_err().to_string();
    assert!(error.contains("crop of 24x24"), "{error}");
    let keep = Keep::Middle { side: 25 };
    let middles = ImageFolder::load(&[dir.path().to_owned()], 20, keep).unwrap();
    let sizes: Vec<_> = middles.pieces().map(|pieces| pieces[0].dimensions()).collect();
    assert_eq!(sizes, [(24, 24), (24, 20)]);
    assert_eq!(middles.middle(0, 25), load(200_000).unwrap().middle(0, 25));
}

#[test]
fn a_picture_is_seen_upright_and_without_what_is_transparent() {
    let dir = tempfile::tempdir().unwrap();
    let image = coordinates(30, 20, 0);
    let mut jpeg = Cursor::new(vec![]);
    image.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    // Exif with one entry: orientation 6, the top of the picture is at its right.
    let exif =
        b"\xFF\xE1\0\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    fs::write(dir.path().join("turned.jpg"), [&jpeg[..2], exif, &jpeg[2..]].concat()).unwrap();
    fs::write(dir.path().join("upright.jpg"), &jpeg).unwrap();
    let load = |name: &str| Rgb::load(&dir.path().join(name)).unwrap().to_image();
    assert_eq!(load("turned.jpg"), image::imageops::rotate90(&load("upright.jpg")));
    assert_eq!(load("upright.jpg").dimensions(), (30, 20));

    let alpha =
        RgbaImage::from_fn(9, 9, |x, _| image::Rgba([200, 100, 50, [0, 51, 255][x as usize % 3]]));
    alpha.save(dir.path().join("alpha.png")).unwrap();
    let seen = load("alpha.png");
    let row: Vec<_> = (0..3).map(|x| seen.get_pixel(x, 4).0).collect();
    assert_eq!(row, [[0; 3], [40, 20, 10], [200, 100, 50]]);
}
