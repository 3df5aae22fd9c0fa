//! Each kind of degradation against its definition, computed another way.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tunableconv_train::degrade::{
    Camera, ChromaNoise, Degradation, Draw, Filter, MotionBlur, PoissonGaussian, apply, blur,
    downscale, jpeg, motion_blur,
};
use tunableconv_train::metrics;
use tunableconv_train::rgb::Rgb;

fn texture(width: usize, height: usize, seed: u64) -> Rgb {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data = (0..3 * width * height).map(|_| rng.random()).collect();
    Rgb::new(width, height, data)
}

fn flat(width: usize, height: usize, value: f32) -> Rgb {
    Rgb::new(width, height, vec![value; 3 * width * height])
}

fn run(kind: Degradation, strength: f32, seed: u64, clean: &Rgb) -> Rgb {
    apply(&[kind], &Draw::fixed(&[Some(strength)], seed), &[true], clean, None)
}

fn psnr(a: &Rgb, b: &Rgb) -> f64 {
    metrics::psnr(&a.data, &b.data, 1.0)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean product of values `lag` apart.
fn moment(values: &[f64], lag: usize) -> f64 {
    mean(&values.iter().zip(&values[lag..]).map(|(a, b)| a * b).collect::<Vec<_>>())
}

#[test]
fn shot_and_read_noise_have_the_variance_of_their_formula() {
    let (gain, sigma) = (0.004, 6.0);
    let kind =
        || Degradation::PoissonGaussian(PoissonGaussian { gain: [0.0, 1.0], sigma: [sigma; 2] });
    for level in [0.25, 0.5, 0.75] {
        let noisy = run(kind(), gain, 3, &flat(128, 128, level));
        let noise: Vec<f64> = noisy.data.iter().map(|v| f64::from(v - level)).collect();
        let expected = f64::from(gain * level + (sigma / 255.0).powi(2));
        // Relative standard error of a variance: √(2/n) = 0.64 %; of the mean: σ/√n. Four of them.
        assert!((moment(&noise, 0) / expected - 1.0).abs() < 0.026, "{level}");
        assert!(mean(&noise).abs() < 4.0 * (expected / noise.len() as f64).sqrt(), "{level}");
        for lag in [1, 128, 128 * 128] {
            assert!(moment(&noise, lag).abs() < 0.02 * expected, "{level}, lag {lag}");
        }
    }
    // Black has read noise alone, half of it clipped away.
    let black = run(kind(), gain, 3, &flat(64, 64, 0.0));
    let zeros = black.data.iter().filter(|&&v| v == 0.0).count() as f64 / black.data.len() as f64;
    assert!((zeros - 0.5).abs() < 0.02, "{zeros}");
}

#[test]
fn read_noise_is_drawn_from_its_range_without_shot_noise_too() {
    let kind =
        || Degradation::PoissonGaussian(PoissonGaussian { gain: [0.0; 2], sigma: [2.0, 20.0] });
    let deviations: Vec<f64> = (0..200)
        .map(|seed| {
            let noisy = run(kind(), 0.0, seed, &flat(24, 24, 0.5));
            let noise: Vec<f64> = noisy.data.iter().map(|v| f64::from(v - 0.5)).collect();
            255.0 * moment(&noise, 0).sqrt()
        })
        .collect();
    assert!(deviations.iter().all(|d| (1.8..22.0).contains(d)));
    for (low, high) in [(0.0, 6.5), (6.5, 11.0), (11.0, 15.5), (15.5, 22.0)] {
        let count = deviations.iter().filter(|d| (low..high).contains(*d)).count();
        assert!((25..75).contains(&count), "{count} of 200 in {low}..{high}");
    }
}

/// BT.709 luma, Cb and Cr of every pixel, from −0.5 to 0.5 for chroma.
fn ycbcr(image: &Rgb) -> [Vec<f64>; 3] {
    let pixels: Vec<[f64; 3]> = (0..image.width * image.height)
        .map(|i| {
            let [r, g, b] = [0, 1, 2].map(|c| f64::from(image.plane(c)[i]));
            let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
            [y, (b - y) / 1.8556, (r - y) / 1.5748]
        })
        .collect();
    [0, 1, 2].map(|c| pixels.iter().map(|p| p[c]).collect())
}

#[test]
fn chroma_noise_leaves_luma_and_spreads_over_its_radius() {
    let side = 192;
    for radius in [0.0, 1.0, 2.0] {
        let kind =
            Degradation::ChromaNoise(ChromaNoise { sigma: [0.0, 30.0], radius: [radius; 2] });
        let [y, cb, cr] = ycbcr(&run(kind, 12.0, 5, &flat(side, side, 0.5)));
        assert!(y.iter().all(|y| (y - 0.5).abs() < 1e-6), "radius {radius}");
        let power = (12.0f64 / 255.0).powi(2);
        // The blotches leave about n / 4πr² independent values, if any.
        let area = (4.0 * std::f64::consts::PI * f64::from(radius * radius)).max(1.0);
        let error = 4.0 * (2.0 * area / y.len() as f64).sqrt();
        for chroma in [&cb, &cr] {
            assert!((moment(chroma, 0) / power - 1.0).abs() < error, "radius {radius}");
            // White noise through a Gaussian of deviation r: correlation exp(−d²/4r²).
            for distance in [1, 2, 4] {
                let expected = if radius > 0.0 {
                    (-f64::from(distance * distance) / f64::from(4.0 * radius * radius)).exp()
                } else {
                    0.0
                };
                for lag in [distance as usize, distance as usize * side] {
                    let got = moment(chroma, lag) / power;
                    assert!((got - expected).abs() < error, "radius {radius}, {lag}: {got}");
                }
            }
        }
        let product: Vec<f64> = cb.iter().zip(&cr).map(|(b, r)| b * r).collect();
        assert!(mean(&product).abs() < error * power, "radius {radius}");
    }
}

#[test]
fn chroma_noise_is_as_strong_at_the_edges() {
    let kind = || Degradation::ChromaNoise(ChromaNoise { sigma: [0.0, 30.0], radius: [2.0; 2] });
    let corner: Vec<f64> =
        (0..2000).map(|seed| ycbcr(&run(kind(), 12.0, seed, &flat(3, 3, 0.5)))[1][0]).collect();
    let power = moment(&corner, 0) * (255.0f64 / 12.0).powi(2);
    // Four standard errors of √(2/2000).
    assert!((power - 1.0).abs() < 0.127, "{power}");
}

/// The mean of the image along the path, interpolated bilinearly, at a thousand points.
fn motion_directly(image: &Rgb, length: f64, angle: f64) -> Vec<f64> {
    let (width, height) = (image.width as isize, image.height as isize);
    let points = 1000;
    let mut out = Vec::new();
    for c in 0..3 {
        let at = |x: isize, y: isize| {
            let index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1);
            f64::from(image.plane(c)[index as usize])
        };
        for y in 0..height {
            for x in 0..width {
                let sum: f64 = (0..points)
                    .map(|point| {
                        let t = length * ((f64::from(point) + 0.5) / f64::from(points) - 0.5);
                        let (px, py) = (x as f64 + t * angle.cos(), y as f64 + t * angle.sin());
                        let (fx, fy) = (px - px.floor(), py - py.floor());
                        let (ix, iy) = (px.floor() as isize, py.floor() as isize);
                        (1.0 - fy) * ((1.0 - fx) * at(ix, iy) + fx * at(ix + 1, iy))
                            + fy * ((1.0 - fx) * at(ix, iy + 1) + fx * at(ix + 1, iy + 1))
                    })
                    .sum();
                out.push(sum / f64::from(points));
            }
        }
    }
    out
}

#[test]
fn motion_blur_is_the_mean_along_its_path() {
    for (width, height) in [(9, 7), (1, 1), (3, 12)] {
        let image = texture(width, height, 8);
        for length in [0.3, 1.0, 2.0, 5.7, 16.0] {
            for angle in [0.0, 0.4, std::f32::consts::FRAC_PI_2, 2.5, 3.1] {
                let fast = motion_blur(&image, length, angle);
                let worst = fast
                    .data
                    .iter()
                    .zip(motion_directly(&image, length.into(), angle.into()))
                    .map(|(&fast, exact)| (f64::from(fast) - exact).abs())
                    .fold(0.0, f64::max);
                assert!(worst < 5e-3, "{width}x{height}, {length} at {angle}: {worst}");
            }
        }
    }
}

#[test]
fn motion_blur_moves_energy_along_its_angle_and_loses_none() {
    let mut impulse = flat(41, 41, 0.0);
    for c in 0..3 {
        impulse.data[c * 41 * 41 + 20 * 41 + 20] = 1.0;
    }
    for angle in [0.0f32, 0.5, 1.2, 2.0, 3.0] {
        let length = 13.5f32;
        let kernel = motion_blur(&impulse, length, angle);
        let (cos, sin) = (f64::from(angle).cos(), f64::from(angle).sin());
        let [mut sum, mut along, mut across] = [0.0; 3];
        for (i, &weight) in kernel.plane(0).iter().enumerate() {
            let (x, y) = ((i % 41) as f64 - 20.0, (i / 41) as f64 - 20.0);
            sum += f64::from(weight);
            along += f64::from(weight) * (x * cos + y * sin).powi(2);
            across += f64::from(weight) * (y * cos - x * sin).powi(2);
        }
        assert!((sum - 1.0).abs() < 1e-6, "{angle}: {sum}");
        // A line has variance L²/12; interpolation between two pixels adds at most 1/4.
        let line = f64::from(length * length) / 12.0;
        assert!((line - 0.01..line + 0.26).contains(&along), "{angle}: {along}");
        assert!((-1e-9..0.26).contains(&across), "{angle}: {across}");
    }
}

#[test]
fn random_motion_goes_in_all_directions() {
    let mut impulse = flat(31, 31, 0.0);
    impulse.data[15 * 31 + 15] = 1.0;
    let mut quadrants = [0; 4];
    for seed in 0..400 {
        let kernel =
            run(Degradation::MotionBlur(MotionBlur { length: [0.0, 20.0] }), 12.0, seed, &impulse);
        let [mut xx, mut xy, mut yy] = [0.0; 3];
        for (i, &weight) in kernel.plane(0).iter().enumerate() {
            let (x, y) = ((i % 31) as f32 - 15.0, (i / 31) as f32 - 15.0);
            xx += weight * x * x;
            xy += weight * x * y;
            yy += weight * y * y;
        }
        quadrants[usize::from(xy > 0.0) + 2 * usize::from(xx > yy)] += 1;
    }
    // 100 each is expected, with a deviation of 8.7.
    assert!(quadrants.iter().all(|count| (60..140).contains(count)), "{quadrants:?}");
}

type Float = image::ImageBuffer<image::Rgb<f32>, Vec<f32>>;

fn interleaved(image: &Rgb) -> Float {
    Float::from_fn(image.width as u32, image.height as u32, |x, y| {
        let i = y as usize * image.width + x as usize;
        image::Rgb([0, 1, 2].map(|c| image.plane(c)[i]))
    })
}

#[test]
fn scaling_agrees_with_another_resampler_inside() {
    // Overshoots would be clipped at different moments.
    let mut clean = texture(60, 48, 2);
    clean.data.iter_mut().for_each(|v| *v = 0.35 + 0.3 * *v);
    let cubic = image::imageops::FilterType::CatmullRom;
    let area_of_2 = |image: &Float| {
        Float::from_fn(30, 24, |x, y| {
            let at = |dx, dy| image.get_pixel(2 * x + dx, 2 * y + dy).0;
            let block = [at(0, 0), at(1, 0), at(0, 1), at(1, 1)];
            image::Rgb([0, 1, 2].map(|c| block.iter().map(|p| p[c]).sum::<f32>() / 4.0))
        })
    };
    let input = interleaved(&clean);
    for (factor, filter, small) in [
        (2.0, Filter::Area, area_of_2(&input)),
        (2.0, Filter::Bicubic, image::imageops::resize(&input, 30, 24, cubic)),
        (2.4, Filter::Bicubic, image::imageops::resize(&input, 25, 20, cubic)),
    ] {
        let expected = image::imageops::resize(&small, 60, 48, cubic);
        let got = interleaved(&downscale(&clean, factor, filter));
        // Edges are treated differently.
        let margin = 15;
        let mut worst = 0.0f32;
        for y in margin..48 - margin {
            for x in margin..60 - margin {
                for c in 0..3 {
                    let (a, b) = (got.get_pixel(x, y).0[c], expected.get_pixel(x, y).0[c]);
                    worst = worst.max((a - b).abs());
                }
            }
        }
        assert!(worst < 2e-5, "{factor} {filter:?}: {worst}");
    }
}

#[test]
fn scaling_keeps_the_mean_and_loses_detail() {
    let clean = texture(53, 40, 6);
    for filter in [Filter::Area, Filter::Bicubic] {
        let mut last = f64::INFINITY;
        for factor in [1.3, 2.0, 3.1, 4.0] {
            let small = downscale(&clean, factor, filter);
            for c in 0..3 {
                let mean = |image: &Rgb| {
                    mean(&image.plane(c).iter().map(|&v| v.into()).collect::<Vec<f64>>())
                };
                let shift = mean(&small) - mean(&clean);
                assert!(shift.abs() < 0.01, "{filter:?} {factor}: {shift}");
            }
            let now = psnr(&clean, &small);
            assert!(now < last, "{filter:?} {factor}: {now} dB after {last}");
            last = now;
        }
    }
}

#[test]
fn a_constant_image_stays_constant_without_noise() {
    let clean = flat(37, 26, 120.0 / 255.0);
    let near = |image: &Rgb, value: f32, tolerance: f32| {
        image.data.iter().all(|v| (v - value).abs() <= tolerance)
    };
    for image in [
        blur(&clean, 1.7),
        motion_blur(&clean, 9.3, 0.7),
        downscale(&clean, 2.7, Filter::Area),
        downscale(&clean, 2.7, Filter::Bicubic),
    ] {
        assert!(near(&image, 120.0 / 255.0, 1e-6));
    }
    // The mean of a block is quantised too: constant, but not the same constant.
    for quality in [5, 50, 95] {
        let image = jpeg(&clean, quality, [3, 9]);
        assert!(near(&image, image.data[0], 0.0), "{quality}");
    }
}

/// Noise on a grey, by luma and by the difference of blue to it.
fn camera_noise(value: f32, [smoothing, sharpening]: [f32; 2]) -> [Vec<f64>; 2] {
    let kind = Degradation::Camera(Camera {
        gain: [0.0, 1.0],
        sigma: [1.0; 2],
        smoothing: [smoothing; 2],
        sharpening: [sharpening; 2],
    });
    let clean = flat(128, 128, value);
    let noisy = run(kind, 0.004, 5, &clean);
    let pixels = noisy.plane(0).iter().zip(noisy.plane(1)).zip(noisy.plane(2));
    let luma = |r: f32, g: f32, b: f32| f64::from(0.2126 * r + 0.7152 * g + 0.0722 * b);
    let luma: Vec<f64> = pixels.clone().map(|((r, g), b)| luma(*r, *g, *b)).collect();
    let blue = pixels.zip(&luma).map(|((_, b), y)| f64::from(*b) - y).collect();
    [luma.iter().map(|y| y - f64::from(value)).collect(), blue]
}

#[test]
fn a_camera_makes_noise_that_is_correlated_and_follows_the_signal() {
    let strength = |noise: &[f64]| (moment(noise, 0) - mean(noise).powi(2)).sqrt();
    let along = |noise: &[f64]| moment(noise, 1) / moment(noise, 0);
    let [luma, blue] = camera_noise(0.5, [0.0, 0.0]);
    // Interpolation shares sites between neighbours; blue has one site in four.
    assert!((0.4..0.8).contains(&along(&luma)), "{}", along(&luma));
    assert!(along(&blue) > 0.4, "{}", along(&blue));
    assert!(strength(&blue) > strength(&luma), "{} {}", strength(&blue), strength(&luma));
    assert!(mean(&luma).abs() < 0.1 * strength(&luma), "{}", mean(&luma));
    // Light of value² has a deviation of √gain · value, which the gamma halves over the value: the
    // same at every grey but for read noise, which weighs in the dark.
    let [dark, _] = camera_noise(0.15, [0.0, 0.0]);
    let [bright, _] = camera_noise(0.8, [0.0, 0.0]);
    assert!((strength(&bright) / strength(&luma) - 1.0).abs() < 0.1);
    let ratio = strength(&dark) / strength(&luma);
    assert!((1.03..1.2).contains(&ratio), "{ratio}");
    // Processing.
    let [smooth_luma, smooth_blue] = camera_noise(0.5, [2.0, 0.0]);
    assert!(along(&smooth_blue) > 0.8 && strength(&smooth_blue) < 0.5 * strength(&blue));
    assert!((strength(&smooth_luma) / strength(&luma) - 1.0).abs() < 0.05);
    let [sharp, _] = camera_noise(0.5, [0.0, 1.0]);
    assert!(strength(&sharp) > 1.2 * strength(&luma));
}

#[test]
fn a_camera_without_noise_changes_nothing() {
    let clean = texture(40, 31, 2);
    let kind = |sigma: f32| {
        Degradation::Camera(Camera {
            gain: [0.0; 2],
            sigma: [sigma; 2],
            smoothing: [2.0; 2],
            sharpening: [1.0; 2],
        })
    };
    assert_eq!(run(kind(0.0), 0.0, 1, &clean), clean);
    let read = run(kind(2.0), 0.0, 1, &clean);
    assert!(read != clean && psnr(&read, &clean) > 20.0);
    for (width, height) in [(1, 1), (1, 7), (2, 1)] {
        let tiny = texture(width, height, 3);
        assert_eq!(run(kind(2.0), 0.01, 1, &tiny).data.len(), tiny.data.len());
    }
}
