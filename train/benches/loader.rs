//! What feeds the trainer: each degradation on one crop, and the batch of a step.

use std::path::Path;

use image::RgbImage;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tunableconv_train::batch::{self, Pictures};
use tunableconv_train::data::{ImageFolder, Keep};
use tunableconv_train::degrade::{
    Blur, Camera, ChromaNoise, Degradation, Downscale, Draw, Filter, Jpeg, MotionBlur, Noise,
    PoissonGaussian, apply,
};
use tunableconv_train::recipe::Recipe;
use tunableconv_train::rgb::Rgb;

fn main() {
    divan::main();
}

/// Side of a crop with its halo, in pixels.
const SIDE: usize = 80;

/// Coloured squares with some noise on them.
fn picture(side: u32, seed: u64) -> RgbImage {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    RgbImage::from_fn(side, side, |x, y| {
        let cell = (x / 7 + 3 * (y / 5)).wrapping_mul(2_654_435_761);
        let [red, green, blue, _] = cell.to_be_bytes();
        image::Rgb([red, green, blue].map(|v| v / 2 + rng.random_range(0..64)))
    })
}

/// Each kind at a strength in the middle of what recipes use.
const KINDS: [(&str, Degradation, f32); 10] = [
    ("blur", Degradation::Blur(Blur { sigma: [0.0; 2] }), 1.0),
    ("noise", Degradation::Noise(Noise { sigma: [0.0; 2] }), 25.0),
    (
        "poisson-gaussian",
        Degradation::PoissonGaussian(PoissonGaussian { gain: [0.0; 2], sigma: [5.0; 2] }),
        0.01,
    ),
    (
        "chroma-noise",
        Degradation::ChromaNoise(ChromaNoise { sigma: [0.0; 2], radius: [1.5; 2] }),
        10.0,
    ),
    (
        "camera",
        Degradation::Camera(Camera {
            gain: [0.0; 2],
            sigma: [3.0; 2],
            smoothing: [1.5; 2],
            sharpening: [0.5; 2],
        }),
        0.01,
    ),
    ("motion-blur", Degradation::MotionBlur(MotionBlur { length: [0.0; 2] }), 8.0),
    ("area", Degradation::Downscale(Downscale { factor: [1.0; 2], filter: Filter::Area }), 2.0),
    (
        "bicubic",
        Degradation::Downscale(Downscale { factor: [1.0; 2], filter: Filter::Bicubic }),
        2.0,
    ),
    ("jpeg", Degradation::Jpeg(Jpeg { quality: [1, 100] }), 50.0),
    ("recorded", Degradation::RECORDED, 1.0),
];

/// One degradation of one crop.
#[divan::bench(args = KINDS.map(|(name, ..)| name))]
fn degrade(bencher: divan::Bencher, name: &str) {
    let (_, kind, strength) =
        KINDS.into_iter().find(|kind| kind.0 == name).expect("a name of the list");
    let clean = Rgb::from_image(&picture(SIDE as u32, 0));
    let chain = [kind];
    let mut seed = 0;
    bencher.bench_local(|| {
        seed += 1;
        let draw = Draw::fixed(&[Some(strength)], seed);
        apply(&chain, &draw, &[true], &clean, Some(&clean))
    });
}

/// The batch of one step of the shipped recipe, on the one thread that makes it.
#[divan::bench]
fn shipped_batch(bencher: divan::Bencher) {
    let recipe =
        Recipe::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/broadcast.toml"))
            .expect("the shipped recipe");
    let dir = tempfile::tempdir().expect("a folder for pictures");
    for seed in 0..8 {
        picture(512, seed).save(dir.path().join(format!("{seed}.png"))).expect("room on the disk");
    }
    let images = ImageFolder::load(&[dir.path().to_owned()], recipe.batch.crop, Keep::Everything)
        .expect("pictures");
    let pictures = Pictures { images, pairs: None };
    let mut step = 0;
    bencher.bench_local(|| {
        step += 1;
        batch::make(&recipe, &pictures, step)
    });
}
