//! Degrading Y4M clips: the definition, the header, and broken files.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use tunableconv_train::condition::Condition;
use tunableconv_train::degrade::{blur, noise_for_eval};
use tunableconv_train::video::degrade_y4m;
use tunableconv_train::yuv::{Matrix, Range, Yuv420};

const WIDTH: usize = 7;
const HEIGHT: usize = 5;
const LUMA: usize = WIDTH * HEIGHT;
const CHROMA: usize = 4 * 3;
const FRAME: usize = LUMA + 2 * CHROMA;

fn both() -> Condition {
    Condition::blur_and_noise(1.0, 20.0)
}

fn pixels(frame: usize) -> Vec<u8> {
    (0..FRAME).map(|i| (40 + (i * 7 + frame * 31) % 150) as u8).collect()
}

fn clip(header: &str, frames: usize) -> Vec<u8> {
    let mut bytes = format!("YUV4MPEG2 {header}\n").into_bytes();
    for frame in 0..frames {
        bytes.extend(if frame == 1 { &b"FRAME Ip\n"[..] } else { b"FRAME\n" });
        bytes.extend(pixels(frame));
    }
    bytes
}

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new(bytes: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("in.y4m"), bytes).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, seed: u64, matrix: Matrix) -> anyhow::Result<usize> {
        degrade_y4m(&self.path("in.y4m"), &self.path("out.y4m"), &both(), seed, matrix)
    }

    /// Runs into an error, which it returns, and checks that nothing but the input is left.
    fn error(&self) -> String {
        let error = self.run(0, Matrix::Bt601).unwrap_err();
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 1);
        format!("{error:#}")
    }
}

fn expected_frame(frame: usize, seed: u64, matrix: Matrix, range: Range) -> Vec<u8> {
    let bytes = pixels(frame);
    let (y, uv) = bytes.split_at(LUMA);
    let (u, v) = uv.split_at(CHROMA);
    let clean = Yuv420::from_bytes(WIDTH, HEIGHT, [y, u, v]).unwrap().to_rgb(matrix, range);
    let noisy = noise_for_eval(&blur(&clean, 1.0), 20.0, seed);
    Yuv420::from_rgb(&noisy, matrix, range).to_bytes().concat()
}

fn frames_of(path: &Path, header: &str) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let mut rest = bytes
        .strip_prefix(format!("YUV4MPEG2 {header}\n").as_bytes())
        .expect("the header is carried over");
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let tag: &[u8] = if frames.len() == 1 { b"FRAME Ip\n" } else { b"FRAME\n" };
        rest = rest.strip_prefix(tag).expect("frame parameters are carried over");
        frames.push(rest[..FRAME].to_vec());
        rest = &rest[FRAME..];
    }
    frames
}

#[test]
fn every_frame_takes_the_rgb_path_with_its_own_seed() {
    let header = "W7 H5 F30000:1001 Ip A64:45 C420mpeg2 XYSCSS=420MPEG2";
    for matrix in [Matrix::Bt601, Matrix::Bt709] {
        let case = Case::new(&clip(header, 5));
        assert_eq!(case.run(0, matrix).unwrap(), 5);
        for (i, frame) in frames_of(&case.path("out.y4m"), header).iter().enumerate() {
            let expected = expected_frame(i, i as u64, matrix, Range::Limited);
            assert_eq!(*frame, expected, "frame {i}");
        }
    }
}

#[test]
fn the_seed_and_the_range_of_the_header_count() {
    let header = "W7 H5 F25:1 Ip A1:1 C420jpeg XCOLORRANGE=FULL";
    let case = Case::new(&clip(header, 2));
    case.run(3, Matrix::Bt601).unwrap();
    let seed = 3u64.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let expected = expected_frame(1, seed, Matrix::Bt601, Range::Full);
    assert_eq!(frames_of(&case.path("out.y4m"), header)[1], expected);
}

#[test]
fn other_colour_spaces_are_named() {
    for space in ["C444", "C420p10", "Cmono", "C411"] {
        let error = Case::new(&clip(&format!("W7 H5 F25:1 {space}"), 1)).error();
        assert!(error.contains(&format!("{space} is not")), "{error}");
        assert!(error.contains("in.y4m"), "{error}");
    }
    for header in ["W7 H5 F25:1 C420paldv", "W7 H5 F25:1 C420", "W7 H5 F25:1"] {
        let case = Case::new(&clip(header, 1));
        assert_eq!(case.run(0, Matrix::Bt601).unwrap(), 1, "{header}");
    }
}

#[test]
fn a_cut_clip_names_the_frame_and_leaves_nothing() {
    let bytes = clip("W7 H5 F25:1 C420", 4);
    // Within the pixels, within the frame header, and right after it.
    for missing in [1, FRAME, FRAME + 3] {
        let error = Case::new(&bytes[..bytes.len() - missing]).error();
        assert!(error.contains("frame 3"), "{error}");
        assert!(error.contains("cut short"), "{error}");
    }
}

#[test]
fn broken_headers_are_errors() {
    for bytes in [
        &b""[..],
        b"RIFF and so on\n",
        b"YUV4MPEG2 W7 H5 F25:1 C420",
        b"YUV4MPEG2 F25:1 C420\n",
        b"YUV4MPEG2 W99999999999 H99999999999 C420\n",
        b"YUV4MPEG2 W4000000000 H4000000000 C420\n",
        b"YUV4MPEG2 W7 H5 F25:1 C420\n",
    ] {
        let error = Case::new(bytes).error();
        assert!(error.contains("in.y4m"), "{error}");
    }
    let mut bytes = clip("W7 H5 F25:1 C420", 2);
    let second = bytes.len() - FRAME - b"FRAME Ip\n".len();
    bytes[second] = b'X';
    let error = Case::new(&bytes).error();
    assert!(error.contains("frame 1"), "{error}");
}

#[test]
fn bad_strengths_are_refused() {
    let case = Case::new(&clip("W7 H5 F25:1 C420", 1));
    let negative = Condition::blur_and_noise(1.0, -1.0);
    let (input, output) = (case.path("in.y4m"), case.path("out.y4m"));
    let error = degrade_y4m(&input, &output, &negative, 0, Matrix::Bt601).unwrap_err();
    assert!(format!("{error:#}").contains("noise: sigma = -1, expected 0 to 1000"), "{error:#}");
}
