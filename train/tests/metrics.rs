//! PSNR against hand-computed values, SSIM against its definition.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tunableconv_train::metrics::{Scores, psnr, psnr_uv, ssim};
use tunableconv_train::yuv::Yuv420;

fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| (rng.random::<f32>() * 255.0).round()).collect()
}

fn picture(width: usize, height: usize, seed: u64) -> Yuv420 {
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    Yuv420 {
        width,
        height,
        y: noise(width * height, seed),
        u: noise(chroma, seed + 1),
        v: noise(chroma, seed + 2),
    }
}

/// Every window by its definition: weighted moments about the window's own means.
fn ssim_directly(a: &[f32], b: &[f32], width: usize, height: usize) -> f64 {
    let weight = |i: usize, j: usize| {
        let (dy, dx) = (i as f64 - 5.0, j as f64 - 5.0);
        (-(dx * dx + dy * dy) / 4.5).exp()
    };
    let cells = || (0..11).flat_map(|i| (0..11).map(move |j| (i, j)));
    let total: f64 = cells().map(|(i, j)| weight(i, j)).sum();
    let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
    let mut sum = 0.0;
    for y in 0..height - 10 {
        for x in 0..width - 10 {
            let at = |p: &[f32], i: usize, j: usize| f64::from(p[(y + i) * width + x + j]);
            let mean = |f: &dyn Fn(usize, usize) -> f64| {
                cells().map(|(i, j)| weight(i, j) * f(i, j)).sum::<f64>() / total
            };
            let ma = mean(&|i, j| at(a, i, j));
            let mb = mean(&|i, j| at(b, i, j));
            let va = mean(&|i, j| (at(a, i, j) - ma).powi(2));
            let vb = mean(&|i, j| (at(b, i, j) - mb).powi(2));
            let cov = mean(&|i, j| (at(a, i, j) - ma) * (at(b, i, j) - mb));
            sum += (2.0 * ma * mb + c1) * (2.0 * cov + c2)
                / ((ma * ma + mb * mb + c1) * (va + vb + c2));
        }
    }
    sum / ((width - 10) * (height - 10)) as f64
}

#[test]
fn psnr_of_a_known_error() {
    // Mean squared error (9 + 16 + 0 + 0) / 4 = 6.25.
    let value = psnr(&[3.0, 0.0, 7.0, 9.0], &[0.0, 4.0, 7.0, 9.0], 255.0);
    assert!((value - 10.0 * (255.0f64 * 255.0 / 6.25).log10()).abs() < 1e-12);
    assert!((psnr(&[0.1], &[0.0], 1.0) - 20.0).abs() < 1e-6);
    assert_eq!(psnr(&[5.0], &[5.0], 255.0), f64::INFINITY);
}

#[test]
fn chroma_planes_are_scored_together() {
    let a = picture(8, 6, 1);
    let mut b = a.clone();
    for v in &mut b.v {
        *v += 2.0;
    }
    // U is exact, V is off by 2: the mean squared error over both is 2.
    let expected = 10.0 * (255.0f64 * 255.0 / 2.0).log10();
    assert!((psnr_uv(&a, &b) - expected).abs() < 1e-9);
}

#[test]
fn ssim_equals_its_definition() {
    for (width, height) in [(11, 11), (19, 12), (13, 30)] {
        let a = noise(width * height, 1);
        // Correlated with a, so that the score is far from 0 and from 1.
        let b: Vec<f32> =
            a.iter().zip(noise(width * height, 2)).map(|(a, n)| 0.7 * a + 0.3 * n).collect();
        let got = ssim(&a, &b, width, height, 255.0).unwrap();
        let expected = ssim_directly(&a, &b, width, height);
        assert!((got - expected).abs() < 1e-9, "{got} {expected}");
        assert!((0.3..0.99).contains(&got), "{got}");
    }
}

#[test]
fn ssim_of_identical_planes_is_one() {
    let a = noise(20 * 15, 4);
    assert!((ssim(&a, &a, 20, 15, 255.0).unwrap() - 1.0).abs() < 1e-12);
}

#[test]
fn ssim_refuses_what_no_window_fits() {
    let error = ssim(&[0.0; 100], &[0.0; 100], 10, 10, 255.0).unwrap_err();
    assert!(error.to_string().contains("10x10"), "{error}");
}

#[test]
fn scores_take_each_number_from_its_plane() {
    let (a, b) = (picture(17, 13, 1), picture(17, 13, 9));
    let scores = Scores::of(&a, &b).unwrap();
    assert_eq!(scores.psnr_y, psnr(&a.y, &b.y, 255.0));
    assert_eq!(scores.psnr_uv, psnr_uv(&a, &b));
    assert_eq!(scores.ssim_y, ssim(&a.y, &b.y, 17, 13, 255.0).unwrap());
    assert!(serde_json::to_string(&scores).unwrap().contains("\"psnr_y\":"));
    assert!(Scores::of(&a, &picture(13, 17, 9)).is_err());
}
