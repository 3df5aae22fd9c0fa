//! The degradation chain: each link against its definition, and replays of one draw.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tunableconv_train::degrade::{
    Degradation, Draw, apply, apply_all_corners, blur, noise_for_eval,
};
use tunableconv_train::rgb::Rgb;

fn texture(width: usize, height: usize, seed: u64) -> Rgb {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data = (0..3 * width * height).map(|_| rng.random()).collect();
    Rgb::new(width, height, data)
}

fn grey(width: usize, height: usize) -> Rgb {
    Rgb::new(width, height, vec![0.5; 3 * width * height])
}

fn chain() -> Vec<Degradation> {
    vec![Degradation::Blur { sigma: [0.5, 2.5] }, Degradation::Noise { sigma: [5.0, 50.0] }]
}

fn all_masks() -> Vec<Vec<bool>> {
    (0..4).map(|m| vec![m & 1 != 0, m & 2 != 0]).collect()
}

/// The 21×21 convolution as its definition has it, in double precision.
fn blur_directly(image: &Rgb, sigma: f64) -> Vec<f64> {
    let (width, height) = (image.width as isize, image.height as isize);
    let weight =
        |dx: isize, dy: isize| (-((dx * dx + dy * dy) as f64) / (2.0 * sigma * sigma)).exp();
    let offsets = || (-10..=10).flat_map(|dy| (-10..=10).map(move |dx| (dx, dy)));
    let total: f64 = offsets().map(|(dx, dy)| weight(dx, dy)).sum();
    let mut out = Vec::new();
    for c in 0..3 {
        for y in 0..height {
            for x in 0..width {
                let sum: f64 = offsets()
                    .map(|(dx, dy)| {
                        let sx = (x + dx).clamp(0, width - 1);
                        let sy = (y + dy).clamp(0, height - 1);
                        weight(dx, dy) * f64::from(image.plane(c)[(sy * width + sx) as usize])
                    })
                    .sum();
                out.push(sum / total);
            }
        }
    }
    out
}

#[test]
fn blur_equals_the_direct_convolution() {
    // Narrower and lower than the kernel too, and a sigma the 21 taps cut off.
    for (width, height) in [(1, 1), (5, 3), (23, 14), (30, 1)] {
        let image = texture(width, height, 3);
        for sigma in [0.1, 0.4, 1.5, 4.0, 9.0] {
            let fast = blur(&image, sigma);
            let worst = fast
                .data
                .iter()
                .zip(blur_directly(&image, f64::from(sigma)))
                .map(|(&fast, exact)| (f64::from(fast) - exact).abs())
                .fold(0.0, f64::max);
            assert!(worst < 2e-6, "{width}x{height} sigma {sigma}: {worst}");
        }
    }
}

#[test]
fn zero_strength_is_the_identity() {
    let image = texture(17, 9, 1);
    assert_eq!(blur(&image, 0.0), image);
    assert_eq!(noise_for_eval(&image, 0.0, 4), image);
    let draw = Draw::fixed(&[Some(0.0), Some(0.0)], 1);
    assert_eq!(apply(&chain(), &draw, &[true, true], &image), image);
}

#[test]
fn noise_has_the_named_deviation_and_no_bias() {
    let clean = grey(256, 256);
    let noisy = noise_for_eval(&clean, 25.0, 0);
    let count = noisy.data.len() as f64;
    let noise = || noisy.data.iter().map(|&v| (f64::from(v) - 0.5) * 255.0);
    let mean = noise().sum::<f64>() / count;
    let deviation = (noise().map(|n| n * n).sum::<f64>() / count).sqrt();
    // Standard errors: 25/√196608 = 0.056 and 0.040; four of them.
    assert!(mean.abs() < 0.23, "{mean}");
    assert!((deviation - 25.0).abs() < 0.16, "{deviation}");
    // Neither channels nor neighbours share their noise.
    for lag in [1, 256, 256 * 256] {
        let n: Vec<f64> = noise().collect();
        let correlation = n.iter().zip(&n[lag..]).map(|(a, b)| a * b).sum::<f64>() / count / 625.0;
        assert!(correlation.abs() < 0.01, "lag {lag}: {correlation}");
    }
}

#[test]
fn noise_is_clipped() {
    let black = Rgb::new(32, 32, vec![0.0; 3 * 32 * 32]);
    let noisy = noise_for_eval(&black, 50.0, 0);
    assert!(noisy.data.iter().all(|v| (0.0..=1.0).contains(v)));
    let zeros = noisy.data.iter().filter(|&&v| v == 0.0).count();
    assert!((1300..1772).contains(&zeros), "about half of 3072, got {zeros}");
}

#[test]
fn evaluation_noise_is_what_the_chain_gives_for_the_image_index() {
    let clean = texture(20, 20, 2);
    let draw = Draw::fixed(&[Some(1.5), Some(25.0)], 7);
    let by_chain = apply(&chain(), &draw, &[true, true], &clean);
    assert_eq!(noise_for_eval(&blur(&clean, 1.5), 25.0, 7), by_chain);
    assert_ne!(noise_for_eval(&blur(&clean, 1.5), 25.0, 8), by_chain);
}

#[test]
fn corners_share_one_noise_sample_bit_for_bit() {
    // On flat grey the blur shows only as rounding, and nothing is clipped at sigma 10.
    let clean = grey(24, 24);
    let draw = Draw::fixed(&[Some(2.0), Some(10.0)], 99);
    let with_blur = apply(&chain(), &draw, &[true, true], &clean);
    let without = apply(&chain(), &draw, &[false, true], &clean);
    let blurred = blur(&clean, 2.0);
    let alone = noise_for_eval(&clean, 10.0, 99);
    assert_eq!(without, alone);
    assert_eq!(with_blur, noise_for_eval(&blurred, 10.0, 99));
    for ((a, b), base) in with_blur.data.iter().zip(&without.data).zip(&blurred.data) {
        assert!(((a - base) - (b - 0.5)).abs() < 2e-7);
    }
}

#[test]
fn all_corners_at_once_equal_each_on_its_own() {
    let clean = texture(40, 31, 5);
    let draw = Draw::fixed(&[Some(1.2), Some(30.0)], 11);
    let corners = apply_all_corners(&chain(), &draw, &all_masks(), &clean);
    assert_eq!(corners[0], clean);
    for (mask, corner) in all_masks().iter().zip(&corners) {
        assert_eq!(*corner, apply(&chain(), &draw, mask, &clean), "{mask:?}");
    }
    for (i, a) in corners.iter().enumerate() {
        assert!(corners[i + 1..].iter().all(|b| a != b));
    }
}

#[test]
fn an_inactive_degradation_never_applies() {
    let clean = texture(16, 16, 6);
    let draw = Draw::fixed(&[None, Some(20.0)], 3);
    let corners = apply_all_corners(&chain(), &draw, &all_masks(), &clean);
    assert_eq!(corners[0], corners[1]);
    assert_eq!(corners[2], corners[3]);
    assert_ne!(corners[0], corners[2]);
}

#[test]
fn two_noises_in_a_chain_are_independent() {
    let clean = grey(64, 64);
    let noise = Degradation::Noise { sigma: [5.0, 5.0] };
    let draw = Draw::fixed(&[Some(5.0), Some(5.0)], 3);
    let chain = [noise.clone(), noise];
    let first = apply(&chain, &draw, &[true, false], &clean);
    let second = apply(&chain, &draw, &[false, true], &clean);
    let both = apply(&chain, &draw, &[true, true], &clean);
    let power = |image: &Rgb| {
        let sum: f64 = image.data.iter().map(|&v| f64::from(v - 0.5).powi(2)).sum();
        sum / image.data.len() as f64 * 255.0 * 255.0
    };
    assert_ne!(first, second);
    assert!((power(&both) - 50.0).abs() < 4.0, "{}", power(&both));
}

#[test]
fn strengths_are_uniform_over_their_range_and_reproducible() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let draws: Vec<Draw> =
        (0..4000).map(|_| Draw::sample(&chain(), &[true, true], &mut rng)).collect();
    for (i, [low, high]) in [[0.5, 2.5], [5.0, 50.0]].into_iter().enumerate() {
        let values: Vec<f32> = draws.iter().filter_map(|d| d.strengths[i]).collect();
        assert_eq!(values.len(), 4000);
        assert!(values.iter().all(|v| (low..=high).contains(v)));
        for quarter in 0..4 {
            let from = low + (high - low) * quarter as f32 / 4.0;
            let to = from + (high - low) / 4.0;
            let count = values.iter().filter(|v| (from..to).contains(v)).count();
            assert!((850..1150).contains(&count), "{count}");
        }
    }
    // The flags change what is kept, not the random stream.
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let inactive = Draw::sample(&chain(), &[false, true], &mut rng);
    assert_eq!(inactive.strengths[0], None);
    assert_eq!(inactive.strengths[1], draws[0].strengths[1]);
    assert_eq!(inactive.seed, draws[0].seed);
}

#[test]
fn ranges_are_checked() {
    assert!(chain().iter().all(|d| d.check().is_ok()));
    for sigma in [[-1.0, 2.0], [3.0, 2.0], [0.0, f32::INFINITY], [f32::NAN, 1.0]] {
        assert!(Degradation::Blur { sigma }.check().is_err(), "{sigma:?}");
    }
}

#[test]
fn recipes_name_the_kind() {
    #[derive(serde::Deserialize, serde::Serialize, PartialEq, Debug)]
    struct Recipe {
        degradation: Vec<Degradation>,
    }
    let text = "[[degradation]]\nkind = \"blur\"\nsigma = [0.5, 2.5]\n\n\
                [[degradation]]\nkind = \"noise\"\nsigma = [5.0, 50.0]\n";
    let recipe: Recipe = toml::from_str(text).unwrap();
    assert_eq!(recipe.degradation, chain());
    let again: Recipe = toml::from_str(&toml::to_string(&recipe).unwrap()).unwrap();
    assert_eq!(again, recipe);
    let misspelt = text.replace("sigma = [5", "sigmas = [5");
    assert!(toml::from_str::<Recipe>(&misspelt).is_err());
}
