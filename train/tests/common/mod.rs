//! A tiny recipe and tiny image folders.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use assert_cmd::Command;
use image::RgbImage;
use image::imageops::{FilterType, resize};
use tunableconv::checkpoint::Checkpoint;
use tunableconv::engine::{self, Options, Precision};
use tunableconv::frame::{FrameFormat, Range, SampleFormat};
use tunableconv::picture::Picture;
use tunableconv_train::rgb::Rgb;
use tunableconv_train::yuv::{Matrix, Yuv420};

pub const RECIPE: &str = r#"
name = "tiny"
seed = 3
steps = 12

[net]
net = "video"
channels = 4
layers = 1
negative_slope = 0.1
phi = { mode = "mlp", expand = 2 }

[tuning]
domain = "box"
parameters = [
  { name = "denoise", nick = "Denoise", blurb = "Noise", minimum = 0.0, maximum = 1.0, default = 1.0, objective = "no noise" },
  { name = "deblur", nick = "Deblur", blurb = "Blur", minimum = 0.0, maximum = 1.0, default = 0.0, objective = "no blur" },
]

[[degradations]]
parameter = "deblur"
degradation = { kind = "blur", sigma = [0.0, 2.0] }

[[degradations]]
parameter = "denoise"
degradation = { kind = "noise", sigma = [0.0, 50.0] }

[batch]
crop = 16
halo = 4
micro_batches = 2
samples = [["denoise"], ["denoise", "deblur"]]
tunings = { kind = "corner-boosted", share = 0.5 }

[optimiser]
learning_rate = 1e-3
final_learning_rate = 1e-5
warmup_steps = 2
beta1 = 0.9
beta2 = 0.99
clip_norm = 1.0
ema_decay = 0.9
"#;

/// A folder with a recipe, a folder of images, and room for runs.
pub struct Workplace {
    dir: tempfile::TempDir,
}

impl Workplace {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let workplace = Self { dir };
        std::fs::create_dir(workplace.path("data")).unwrap();
        std::fs::write(workplace.path("tiny.toml"), RECIPE).unwrap();
        for index in 0..3 {
            let name = format!("data/{index}.png");
            picture(40 + 6 * index, 36, index).save(workplace.path(&name)).unwrap();
        }
        workplace
    }

    /// With a folder of more images, of which some are set aside for validation.
    pub fn with_many() -> Self {
        let at = Self::new();
        std::fs::create_dir(at.path("many")).unwrap();
        for index in 0..21 {
            picture(48, 40, index).save(at.path(&format!("many/{index:02}.png"))).unwrap();
        }
        at
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command line, run in the folder.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::cargo_bin("tunableconv-train").unwrap();
        command.current_dir(self.dir.path()).args(line.split_whitespace());
        command
    }

    /// Runs a command that must succeed; returns what it printed.
    pub fn succeed(&self, line: &str) -> String {
        let output = self.command(line).assert().success().get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail; returns the last line it complained with.
    pub fn fail(&self, line: &str) -> String {
        let output = self.command(line).assert().failure().get_output().clone();
        assert_ne!(output.status.code(), Some(101), "{line}: panicked");
        String::from_utf8(output.stderr).unwrap().trim().into()
    }

    /// Starts a run into `run` with this command line, and returns it once it has saved a state.
    pub fn begin_run(&self, run: &str, line: &str) -> Child {
        let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_tunableconv-train"))
            .current_dir(self.dir.path())
            .args(line.split_whitespace())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while !self.path(&format!("{run}/state.safetensors")).exists() {
            assert!(process.try_wait().unwrap().is_none(), "the run ended before it saved");
            std::thread::yield_now();
        }
        process
    }

    /// Starts a run into `run` with this command line, and kills it once it has saved a state.
    pub fn kill_run(&self, run: &str, line: &str) {
        let mut process = self.begin_run(run, line);
        process.kill().unwrap();
        assert!(!process.wait().unwrap().success(), "the run was over before it could be killed");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}

/// Coloured squares: edges and flats.
pub fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let cell = (x / 7 + 3 * (y / 5) + seed).wrapping_mul(2_654_435_761);
        image::Rgb([(cell >> 8) as u8, (cell >> 16) as u8, (cell >> 24) as u8])
    })
}

/// A folder `large` of pictures that still have edges when they are made so many times smaller.
pub fn large_pictures(at: &Workplace, scale: u32) {
    std::fs::create_dir_all(at.path("large")).unwrap();
    for seed in 0..3 {
        let side = 96 * scale;
        let picture = resize(&picture(96, 96, seed), side, side, FilterType::Nearest);
        picture.save(at.path(&format!("large/{seed}.png"))).unwrap();
    }
}

pub fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// Whole frames in int8 and in f32, at most and in the mean apart, in code values.
pub fn apart(checkpoint: &Checkpoint) -> (u8, f64) {
    let (width, height) = (96, 64);
    let image = Rgb::from_image(&picture(width, height, 7));
    let mut yuv = Yuv420::from_rgb(&image, Matrix::Bt601, Range::Limited);
    yuv.round_to_8bit();
    let format = FrameFormat {
        width: width as usize,
        height: height as usize,
        range: Range::Limited,
        samples: SampleFormat::U8,
    };
    let input = Picture::new(format, yuv.to_bytes()).unwrap();
    let made = [Precision::F32, Precision::Int8].map(|precision| {
        let options = Options { precision, ..Options::default() };
        let mut engine = engine::open(checkpoint, &options).unwrap();
        let (width, height) = engine.output_size(format.width, format.height);
        let mut output = Picture::grey(FrameFormat { width, height, ..format }).unwrap();
        engine.process(&input.frame(), &mut output.frame_mut()).unwrap();
        output.planes().concat()
    });
    assert!(made[0] != made[1], "the two are one");
    let apart: Vec<u8> = made[0].iter().zip(&made[1]).map(|(a, b)| a.abs_diff(*b)).collect();
    let mean = apart.iter().map(|v| f64::from(*v)).sum::<f64>() / apart.len() as f64;
    (apart.into_iter().max().unwrap_or_default(), mean)
}
