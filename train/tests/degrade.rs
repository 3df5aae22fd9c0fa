//! The degradation chain: each link against its definition, and replays of one draw.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};
use tunableconv_train::degrade::{
    Blur, Camera, ChromaNoise, Degradation, Downscale, Draw, Filter, Jpeg, MotionBlur, Noise,
    PoissonGaussian, apply, apply_all_corners, blur, downscale, noise_for_eval,
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
    vec![
        Degradation::Blur(Blur { sigma: [0.5, 2.5] }),
        Degradation::Noise(Noise { sigma: [5.0, 50.0] }),
    ]
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
    assert_eq!(apply(&chain(), &draw, &[true, true], &image, None), image);
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
    let by_chain = apply(&chain(), &draw, &[true, true], &clean, None);
    assert_eq!(noise_for_eval(&blur(&clean, 1.5), 25.0, 7), by_chain);
    assert_ne!(noise_for_eval(&blur(&clean, 1.5), 25.0, 8), by_chain);
}

#[test]
fn corners_share_one_noise_sample_bit_for_bit() {
    // On flat grey the blur shows only as rounding, and nothing is clipped at sigma 10.
    let clean = grey(24, 24);
    let draw = Draw::fixed(&[Some(2.0), Some(10.0)], 99);
    let with_blur = apply(&chain(), &draw, &[true, true], &clean, None);
    let without = apply(&chain(), &draw, &[false, true], &clean, None);
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
    let corners = apply_all_corners(&chain(), &draw, &all_masks(), &clean, None);
    assert_eq!(corners[0], clean);
    for (mask, corner) in all_masks().iter().zip(&corners) {
        assert_eq!(*corner, apply(&chain(), &draw, mask, &clean, None), "{mask:?}");
    }
    for (i, a) in corners.iter().enumerate() {
        assert!(corners[i + 1..].iter().all(|b| a != b));
    }
}

#[test]
fn an_inactive_degradation_never_applies() {
    let clean = texture(16, 16, 6);
    let draw = Draw::fixed(&[None, Some(20.0)], 3);
    let corners = apply_all_corners(&chain(), &draw, &all_masks(), &clean, None);
    assert_eq!(corners[0], corners[1]);
    assert_eq!(corners[2], corners[3]);
    assert_ne!(corners[0], corners[2]);
}

#[test]
fn two_noises_in_a_chain_are_independent() {
    let clean = grey(64, 64);
    let noise = Degradation::Noise(Noise { sigma: [5.0, 5.0] });
    let draw = Draw::fixed(&[Some(5.0), Some(5.0)], 3);
    let chain = [noise.clone(), noise];
    let first = apply(&chain, &draw, &[true, false], &clean, None);
    let second = apply(&chain, &draw, &[false, true], &clean, None);
    let both = apply(&chain, &draw, &[true, true], &clean, None);
    let power = |image: &Rgb| {
        let sum: f64 = image.data.iter().map(|&v| f64::from(v - 0.5).powi(2)).sum();
        sum / image.data.len() as f64 * 255.0 * 255.0
    };
    assert_ne!(first, second);
    assert!((power(&both) - 50.0).abs() < 4.0, "{}", power(&both));
}

#[test]
fn every_noise_of_a_chain_has_a_sample_of_its_own() {
    let shot = Degradation::PoissonGaussian(PoissonGaussian { gain: [0.0, 1.0], sigma: [0.0; 2] });
    let chroma = Degradation::ChromaNoise(ChromaNoise { sigma: [0.0, 9.0], radius: [0.0; 2] });
    let noise = Degradation::Noise(Noise { sigma: [0.0, 9.0] });
    let chain = [noise, shot.clone(), chroma.clone(), shot, chroma];
    let draw = Draw::fixed(&[9.0, 0.003, 9.0, 0.003, 9.0].map(Some), 4);
    let noises: Vec<Vec<f32>> = (0..5)
        .map(|i| {
            let keep: Vec<bool> = (0..5).map(|j| i == j).collect();
            let noisy = apply(&chain, &draw, &keep, &grey(64, 64), None);
            noisy.data.iter().map(|v| v - 0.5).collect()
        })
        .collect();
    let product = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    for (i, a) in noises.iter().enumerate() {
        for b in &noises[i + 1..] {
            let correlation = product(a, b) / (product(a, a) * product(b, b)).sqrt();
            // Chroma noise has two independent values in three: 4/√(2 · 4096).
            assert!(correlation.abs() < 0.045, "{i}: {correlation}");
        }
    }
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
fn a_seed_means_the_same_noise_wherever_it_stands() {
    // What checkpoints' recipes rest on: the order of the draws, and the stream of each noise.
    let noise = Degradation::Noise(Noise { sigma: [0.0, 50.0] });
    let chain = [noise.clone(), Degradation::Blur(Blur { sigma: [0.5, 2.5] }), noise];
    let draw = Draw::sample(&chain, &[true; 3], &mut ChaCha8Rng::seed_from_u64(8));
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let strengths = [(0.0, 50.0), (0.5, 2.0), (0.0, 50.0)]
        .map(|(low, span): (f32, f32)| low + span * rng.random::<f32>());
    assert_eq!(draw, Draw::fixed(&strengths.map(Some), rng.random()));

    let field = |stream| -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(draw.seed);
        rng.set_stream(stream);
        StandardNormal.sample_iter(&mut rng).take(3 * 20 * 10).collect()
    };
    let add = |image: &Rgb, field: Vec<f32>, sigma: f32| {
        let noisy = |(v, n): (&f32, f32)| (v + sigma / 255.0 * n).clamp(0.0, 1.0);
        Rgb::new(20, 10, image.data.iter().zip(field).map(noisy).collect())
    };
    let clean = texture(20, 10, 4);
    let first = blur(&add(&clean, field(0), strengths[0]), strengths[1]);
    let expected = add(&first, field(1), strengths[2]);
    assert_eq!(apply(&chain, &draw, &[true; 3], &clean, None), expected);
    // A noise left out keeps its stream.
    let expected = add(&blur(&clean, strengths[1]), field(1), strengths[2]);
    assert_eq!(apply(&chain, &draw, &[false, true, true], &clean, None), expected);
}

/// Every kind but the recorded one, and a strength of each.
fn every_kind() -> Vec<(Degradation, f32)> {
    vec![
        (Degradation::MotionBlur(MotionBlur { length: [0.0, 9.0] }), 7.3),
        (Degradation::Blur(Blur { sigma: [0.0, 2.0] }), 0.8),
        (Degradation::Downscale(Downscale { factor: [1.0, 3.0], filter: Filter::Area }), 2.2),
        (
            Degradation::PoissonGaussian(PoissonGaussian { gain: [0.0, 0.01], sigma: [1.0, 5.0] }),
            0.004,
        ),
        (Degradation::ChromaNoise(ChromaNoise { sigma: [0.0, 9.0], radius: [0.0, 2.0] }), 6.0),
        (Degradation::Noise(Noise { sigma: [0.0, 9.0] }), 4.0),
        (Degradation::Jpeg(Jpeg { quality: [20, 90] }), 60.0),
        (
            Degradation::Camera(Camera {
                gain: [0.0, 0.02],
                sigma: [0.0, 4.0],
                smoothing: [0.0, 2.0],
                sharpening: [0.0, 1.0],
            }),
            0.01,
        ),
    ]
}

#[test]
fn no_kind_is_left_out_of_these_tests() {
    let mut tested: Vec<_> = every_kind().iter().map(|(kind, _)| kind.kind()).collect();
    tested.push(Degradation::RECORDED.kind());
    tested.sort_unstable();
    let mut all: Vec<_> = Degradation::KINDS.iter().map(|(kind, _)| *kind).collect();
    all.sort_unstable();
    assert_eq!(tested, all);
}

fn twin(clean: &Rgb) -> Rgb {
    blur(clean, 1.1)
}

#[test]
fn every_kind_is_fixed_by_its_draw_and_does_nothing_when_off() {
    let clean = texture(21, 18, 12);
    for (kind, strength) in every_kind() {
        let run = |strength, seed| {
            let draw = Draw::fixed(&[strength], seed);
            apply(std::slice::from_ref(&kind), &draw, &[true], &clean, None)
        };
        let image = run(Some(strength), 5);
        assert_eq!((image.width, image.height, image.data.len()), (21, 18, clean.data.len()));
        assert_ne!(image, clean, "{kind:?}");
        assert_eq!(image, run(Some(strength), 5), "{kind:?}");
        assert!(image.data.iter().all(|v| (-1e-6..=1.0 + 1e-6).contains(v)), "{kind:?}");
        assert_eq!(run(None, 5), clean, "{kind:?}");
        let blind = matches!(kind, Degradation::Blur(_) | Degradation::Downscale(_));
        assert_eq!(image == run(Some(strength), 6), blind, "the seed matters: {kind:?}");
    }
}

#[test]
fn the_least_strength_is_the_identity() {
    let clean = texture(14, 19, 2);
    let none = [
        Degradation::MotionBlur(MotionBlur { length: [0.0; 2] }),
        Degradation::Blur(Blur { sigma: [0.0; 2] }),
        Degradation::Downscale(Downscale { factor: [1.0; 2], filter: Filter::Bicubic }),
        Degradation::Downscale(Downscale { factor: [1.0; 2], filter: Filter::Area }),
        Degradation::PoissonGaussian(PoissonGaussian { gain: [0.0; 2], sigma: [0.0; 2] }),
        Degradation::ChromaNoise(ChromaNoise { sigma: [0.0; 2], radius: [0.0, 2.0] }),
        Degradation::Noise(Noise { sigma: [0.0; 2] }),
    ];
    let draw = Draw::sample(&none, &[true; 7], &mut ChaCha8Rng::seed_from_u64(1));
    assert!(draw.strengths.iter().all(Option::is_some));
    assert_eq!(apply(&none, &draw, &[true; 7], &clean, None), clean);
}

#[test]
fn any_part_of_a_long_chain_replays_as_if_the_rest_had_never_been_drawn() {
    let (mut chain, mut strengths): (Vec<_>, Vec<_>) = every_kind().into_iter().unzip();
    chain.insert(0, Degradation::RECORDED);
    strengths.insert(0, 1.0);
    let strengths: Vec<Option<f32>> = strengths.into_iter().map(Some).collect();
    let (clean, all) = (texture(20, 16, 9), vec![true; chain.len()]);
    let recorded = twin(&clean);
    let masks: Vec<Vec<bool>> = (0..1 << chain.len())
        .map(|mask: usize| (0..chain.len()).map(|i| mask >> i & 1 == 1).collect())
        .collect();
    let draw = Draw::fixed(&strengths, 77);
    let corners = apply_all_corners(&chain, &draw, &masks, &clean, Some(&recorded));
    for (mask, corner) in masks.iter().zip(&corners) {
        let part: Vec<_> =
            strengths.iter().zip(mask).map(|(s, keep)| s.filter(|_| *keep)).collect();
        let part = Draw::fixed(&part, 77);
        assert_eq!(*corner, apply(&chain, &part, &all, &clean, Some(&recorded)), "{mask:?}");
    }
    for (i, corner) in corners.iter().enumerate() {
        assert!(corners[i + 1..].iter().all(|other| other != corner), "{:?}", masks[i]);
    }
}

#[test]
fn shot_noise_replays_its_sample_at_the_strength_of_the_image_below() {
    let noise =
        Degradation::PoissonGaussian(PoissonGaussian { gain: [0.0, 1.0], sigma: [3.0, 3.0] });
    let chain = [Degradation::Blur(Blur { sigma: [0.0, 9.0] }), noise];
    // Nothing is clipped: five deviations at most.
    let mut clean = texture(32, 32, 20);
    clean.data.iter_mut().for_each(|v| *v = 0.35 + 0.3 * *v);
    let (sigma, gain) = (1.5, 1e-3);
    let draw = Draw::fixed(&[Some(sigma), Some(gain)], 31);
    let normals = |base: &Rgb, noisy: &Rgb| -> Vec<f32> {
        let deviation = |x: f32| (gain * x + (3.0f32 / 255.0).powi(2)).sqrt();
        base.data.iter().zip(&noisy.data).map(|(&x, &y)| (y - x) / deviation(x)).collect()
    };
    let sharp = normals(&clean, &apply(&chain, &draw, &[false, true], &clean, None));
    let blurred = normals(&blur(&clean, sigma), &apply(&chain, &draw, &[true, true], &clean, None));
    assert!(sharp.iter().zip(&blurred).all(|(a, b)| (a - b).abs() < 1e-4));
    assert!(sharp.iter().any(|n| n.abs() > 1.0));
}

#[test]
fn links_run_in_the_order_given() {
    let clean = texture(24, 20, 7);
    let half = Degradation::Downscale(Downscale { factor: [1.0, 4.0], filter: Filter::Bicubic });
    let soft = Degradation::Blur(Blur { sigma: [0.0, 2.0] });
    let run = |chain: &[Degradation], strengths: [f32; 2]| {
        apply(chain, &Draw::fixed(&strengths.map(Some), 0), &[true, true], &clean, None)
    };
    let first_half = run(&[half.clone(), soft.clone()], [2.0, 1.3]);
    let first_soft = run(&[soft, half], [1.3, 2.0]);
    assert_eq!(first_half, blur(&downscale(&clean, 2.0, Filter::Bicubic), 1.3));
    assert_eq!(first_soft, downscale(&blur(&clean, 1.3), 2.0, Filter::Bicubic));
    assert_ne!(first_half, first_soft);
}

#[test]
fn a_recorded_twin_replaces_the_clean_image_where_it_is_kept() {
    let (clean, chain) = (
        texture(16, 12, 3),
        [Degradation::RECORDED, Degradation::Noise(Noise { sigma: [0.0, 9.0] })],
    );
    let twin = twin(&clean);
    let draw = Draw::fixed(&[Some(1.0), Some(8.0)], 6);
    let corners = apply_all_corners(&chain, &draw, &all_masks(), &clean, Some(&twin));
    let expected = [
        clean.clone(),
        twin.clone(),
        noise_for_eval(&clean, 8.0, 6),
        noise_for_eval(&twin, 8.0, 6),
    ];
    assert_eq!(corners, expected);
    // An ordinary sample has no twin, and takes as much from the generator.
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let with = Draw::sample(&chain, &[true, true], &mut rng);
    let without = Draw::sample(&chain, &[false, true], &mut ChaCha8Rng::seed_from_u64(2));
    assert_eq!((with.strengths[1], with.seed), (without.strengths[1], without.seed));
    let ordinary = apply(&chain, &without, &[true, true], &clean, None);
    assert_eq!(
        ordinary,
        apply(
            &chain[1..],
            &Draw::fixed(&[without.strengths[1]], without.seed),
            &[true],
            &clean,
            None
        )
    );
}

#[test]
#[should_panic(expected = "needs the degraded twin")]
fn a_recorded_link_without_its_twin_is_no_clean_image() {
    let draw = Draw::fixed(&[Some(1.0)], 0);
    let _ = apply(&[Degradation::RECORDED], &draw, &[true], &grey(4, 4), None);
}
