//! JPEG compression against the standard's arithmetic.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tunableconv_train::degrade::{Degradation, Draw, Jpeg, apply, blur, jpeg};
use tunableconv_train::metrics;
use tunableconv_train::rgb::Rgb;

fn psnr(a: &Rgb, b: &Rgb) -> f64 {
    metrics::psnr(&a.data, &b.data, 1.0)
}

/// Table K.1 of ITU-T T.81 (1992), for luma.
const LUMA: [[u32; 8]; 8] = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
];

/// Basis function `k` of the DCT at sample `i` of 8.
fn cosine(k: usize, i: usize) -> f64 {
    let norm = if k == 0 { 0.125f64.sqrt() } else { 0.5 };
    norm * ((2 * i + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos()
}

/// What quantised DCT blocks leave of a grey image, by T.81 and IJG's scaling of the tables.
fn quantised_grey(image: &Rgb, quality: u32, phase: [usize; 2]) -> Rgb {
    let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    let table = LUMA.map(|row| row.map(|q| f64::from(((q * scale + 50) / 100).clamp(1, 255))));
    let (width, height) = (image.width, image.height);
    let mut plane = vec![0.0; width * height];
    for top in (0..height + phase[1]).step_by(8) {
        for left in (0..width + phase[0]).step_by(8) {
            let place = |i: usize, shift: usize, len: usize| i.saturating_sub(shift).min(len - 1);
            let at = |x: usize, y: usize| {
                let i = place(top + y, phase[1], height) * width + place(left + x, phase[0], width);
                (255.0 * f64::from(image.data[i])).round() - 128.0
            };
            let grid = || (0..8).flat_map(|a| (0..8).map(move |b| (a, b)));
            let mut coefficients = [[0.0; 8]; 8];
            for (v, u) in grid() {
                let sum: f64 = grid().map(|(y, x)| at(x, y) * cosine(u, x) * cosine(v, y)).sum();
                coefficients[v][u] = (sum / table[v][u]).round() * table[v][u];
            }
            for (y, x) in grid() {
                let (px, py) = (left + x, top + y);
                let inside = px >= phase[0] && py >= phase[1];
                if inside && px - phase[0] < width && py - phase[1] < height {
                    let sum: f64 =
                        grid().map(|(v, u)| coefficients[v][u] * cosine(u, x) * cosine(v, y)).sum();
                    let value = ((sum + 128.0).round().clamp(0.0, 255.0) / 255.0) as f32;
                    plane[(py - phase[1]) * width + px - phase[0]] = value;
                }
            }
        }
    }
    Rgb::new(width, height, plane.repeat(3))
}

/// Soft grey shapes with some noise.
fn grey_picture(width: usize, height: usize) -> Rgb {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let noise = Rgb::new(width, height, (0..3 * width * height).map(|_| rng.random()).collect());
    let mut plane = blur(&noise, 1.0).plane(0).to_vec();
    for (i, value) in plane.iter_mut().enumerate() {
        let step = if i % width > 2 * width / 5 { 0.35 } else { 0.0 };
        *value = 0.1 + 0.5 * *value + step;
    }
    Rgb::new(width, height, plane.repeat(3))
}

#[test]
fn jpeg_loses_what_quantised_blocks_lose() {
    let clean = grey_picture(40, 29);
    for phase in [[0, 0], [3, 13], [15, 8]] {
        let mut last = f64::INFINITY;
        for quality in [90, 50, 10] {
            let got = jpeg(&clean, quality, phase);
            let expected = quantised_grey(&clean, quality.into(), phase);
            let (loss, loss_expected) = (psnr(&clean, &got), psnr(&clean, &expected));
            // Integer transforms may round a coefficient to its other neighbour.
            let named =
                format!("{phase:?}, quality {quality}: {loss} dB, expected {loss_expected}");
            let apart = psnr(&got, &expected);
            eprintln!("{named}; apart {apart}");
            assert!(apart > loss_expected + 6.0, "{named}; apart {apart}");
            assert!((loss - loss_expected).abs() < 0.3, "{named}");
            assert!(loss < last);
            last = loss;
        }
        // Divisors of 1 leave little but the rounding of colours, which alone is 59 dB.
        assert!(psnr(&clean, &jpeg(&clean, 100, phase)) > 52.0);
        assert!(last < 32.0, "{last}");
    }
}

#[test]
fn jpeg_halves_chroma_by_means() {
    // Columns of two colours of one luma (BT.601, as JPEG has it), two rows each way.
    let (red, green) = ([0.6, 0.4, 0.5], [0.4, 0.4 + 0.2 * 0.299 / 0.587, 0.5]);
    let colour = |x: usize, c: usize| if x.is_multiple_of(2) { red[c] } else { green[c] };
    let data: Vec<f32> = (0..3)
        .flat_map(|c| (0..32 * 16).map(move |i| (i % 32, c)))
        .map(|(x, c)| colour(x, c))
        .collect();
    let out = jpeg(&Rgb::new(32, 16, data), 100, [0, 0]);
    for c in 0..3 {
        let between = (red[c] + green[c]) / 2.0;
        let worst = out.plane(c).iter().map(|v| (v - between).abs()).fold(0.0, f32::max);
        assert!(worst < 3.0 / 255.0, "channel {c}: {worst}");
    }
}

#[test]
fn the_jpeg_grid_is_drawn_from_the_seed() {
    let clean = grey_picture(32, 32);
    let chain = [Degradation::Jpeg(Jpeg { quality: [1, 100] })];
    let drawn: Vec<Rgb> = (0..40)
        .map(|seed| apply(&chain, &Draw::fixed(&[Some(20.4)], seed), &[true], &clean, None))
        .collect();
    let mut phases = std::collections::HashSet::new();
    for image in &drawn {
        let matching = (0..256).find(|i| jpeg(&clean, 20, [i % 16, i / 16]) == *image);
        phases.insert(matching.expect("one of the 256 phases"));
    }
    assert!(phases.len() > 20, "{phases:?}");
}
