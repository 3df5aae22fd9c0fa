//! Luma from and to every layout, and the colours that it gets back.

use super::direct::{is_rgb, rgb};
use super::layouts::{pictures, weights};
use super::*;

/// What luma is made of in frames that do not say it.
const MATRIX: Matrix = Matrix::Bt2020;

fn read(stored: &Stored, recolour: &mut Recolour) -> Vec<f32> {
    let FrameFormat { width, height, .. } = stored.format;
    let mut luma = vec![f32::NAN; width * height];
    recolour.read(&stored.frame().with_matrix(MATRIX), &mut luma);
    luma
}

fn places(stored: &Stored, which: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (columns, rows) = stored.size(which);
    (0..rows).flat_map(move |y| (0..columns).map(move |x| (x, y)))
}

#[test]
fn luma_that_stays_leaves_every_frame_what_it_is() {
    for (stored, _) in pictures() {
        let FrameFormat { width, height, .. } = stored.format;
        let mut recolour = Recolour::new([width, height], [width, height]);
        let luma = read(&stored, &mut recolour);
        for (i, got) in luma.iter().enumerate() {
            let matrix = stored.frame().planes.matrix().unwrap_or(MATRIX);
            let (kr, kb) = weights(matrix);
            let [r, g, b] = rgb(&stored, (i % width, i / width));
            let want = kr * r + (1.0 - kr - kb) * g + kb * b;
            assert!((f64::from(*got) - want).abs() < 1e-5, "{:?}: {got} {want}", stored.layout);
        }
        let mut back = Stored::new(stored.format, stored.layout, 1);
        let mut frame = back.frame_mut().with_matrix(MATRIX);
        recolour.write(&stored.frame().with_matrix(MATRIX), &luma, &mut frame).unwrap();
        for which in 0..stored.components() {
            for at in places(&stored, which) {
                let (got, want) = (back.code(which, at), stored.code(which, at));
                assert_eq!(got, want, "{:?} {:?} {which} {at:?}", stored.format, stored.layout);
            }
        }
    }
}

#[test]
fn other_luma_keeps_the_colours() {
    for (stored, _) in pictures() {
        let FrameFormat { width, height, range, samples } = stored.format;
        let mut recolour = Recolour::new([width, height], [width, height]);
        read(&stored, &mut recolour);
        let luma = vec![0.4; width * height];
        let mut changed = Stored::new(stored.format, stored.layout, 1);
        let mut frame = changed.frame_mut().with_matrix(MATRIX);
        recolour.write(&stored.frame().with_matrix(MATRIX), &luma, &mut frame).unwrap();
        if is_rgb(stored.layout) {
            // Where nothing is clipped luma is what was asked for, and differences of colours stay.
            let most = 1.0;
            let got = read(&changed, &mut recolour);
            for (i, got) in got.iter().enumerate() {
                let at = (i % width, i / width);
                let [before, after] = [&stored, &changed].map(|stored| rgb(stored, at));
                if after.iter().all(|value| (0.02..most - 0.02).contains(value)) {
                    let step = 1.0 / f64::from(1 << (samples.bits() - 2));
                    assert!((f64::from(*got) - 0.4).abs() < step, "{:?}: {got}", stored.layout);
                    let [a, b] = [before, after].map(|[r, g, b]| (r - g, b - g));
                    assert!((a.0 - b.0).abs() < step && (a.1 - b.1).abs() < step, "{a:?} {b:?}");
                }
            }
            continue;
        }
        let (black, span) = codes(range, samples)[0];
        for at in places(&stored, 0) {
            let want = (black + 0.4 * span).round_ties_even() as u16;
            assert!(changed.code(0, at).abs_diff(want) <= 1, "{:?} {at:?}", stored.layout);
        }
        for which in 1..stored.components() {
            for at in places(&stored, which) {
                assert_eq!(changed.code(which, at), stored.code(which, at), "{:?}", stored.layout);
            }
        }
    }
}

/// A colour that grows evenly from left to right, or from top to bottom, does so in the larger picture too, at the
/// places where its samples lie there.
#[test]
fn colours_of_larger_frames_lie_where_they_did() {
    for (layout, halves) in [
        (Layout::I420, [true, true]),
        (Layout::Nv21, [true, true]),
        (Layout::Yuv422, [true, false]),
        (Layout::Yuv444, [false, false]),
    ] {
        for scale in [2, 3, 4] {
            let format = FrameFormat {
                width: 40,
                height: 32,
                range: Range::Full,
                samples: SampleFormat::U12Low,
            };
            // Of sample i, in pixels: with two columns for one, beside the left; with two lines, between.
            let place = |side: usize, i: usize| match (side, halves[side]) {
                (_, false) => i as f64 + 0.5,
                (0, true) => 2.0 * i as f64 + 0.5,
                (_, true) => 2.0 * i as f64 + 1.0,
            };
            let mut input = Stored::new(format, layout, 0);
            for at in places(&input, 0) {
                input.put(0, at, 2000);
            }
            for (which, side) in [(1, 0), (2, 1)] {
                for at in places(&input, which) {
                    let i = [at.0, at.1][side];
                    input.put(which, at, (500.0 + 40.0 * place(side, i)).round() as u16);
                }
            }
            let large = FrameFormat { width: 40 * scale, height: 32 * scale, ..format };
            let mut output = Stored::new(large, layout, 1);
            let mut recolour = Recolour::new([40, 32], [40 * scale, 32 * scale]);
            let luma = vec![0.25; large.width * large.height];
            recolour.write(&input.frame(), &luma, &mut output.frame_mut()).unwrap();
            for (which, side) in [(1, 0), (2, 1)] {
                let len = [output.size(which).0, output.size(which).1][side];
                for i in len / 4..len * 3 / 4 {
                    let at = if side == 0 { (i, len / 3) } else { (len / 3, i) };
                    let want = 500.0 + 40.0 * place(side, i) / scale as f64;
                    let got = f64::from(output.code(which, at));
                    assert!(
                        (got - want).abs() < 1.2,
                        "{layout:?} ×{scale} {which} {i}: {got} {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn frames_of_other_sizes_are_refused() {
    let format = FrameFormat { width: 8, height: 4, range: Range::Full, samples: SampleFormat::U8 };
    let input = Stored::new(format, Layout::I420, 0);
    let mut output = Stored::new(format, Layout::I420, 0);
    let mut recolour = Recolour::new([8, 4], [16, 8]);
    let error = recolour.write(&input.frame(), &[0.0; 128], &mut output.frame_mut()).unwrap_err();
    assert_eq!(error.to_string(), "frame: sizes [[8, 4], [8, 4]], expected [8, 4] to [16, 8]");
}
