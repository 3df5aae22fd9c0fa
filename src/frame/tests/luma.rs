//! Luma from and to every layout, and the colours that it gets back.

use super::direct::{SITES, halves, is_rgb, rgb};
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
            let [r, g, b] = rgb(&stored, ChromaSite::LEFT, (i % width, i / width));
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
                let [before, after] =
                    [&stored, &changed].map(|stored| rgb(stored, ChromaSite::LEFT, at));
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

/// A colour that grows evenly from left to right, or from top to bottom, does so in the other picture too, at the
/// places where its samples lie there; one engine takes frames of one layout after the other.
#[test]
fn colours_lie_where_they_did_whatever_the_size_and_the_layout() {
    let layouts = [Layout::I420, Layout::Nv21, Layout::Yuv422, Layout::Yuv444];
    for (size, scale) in [([40, 32], 1), ([40, 32], 2), ([41, 33], 2), ([40, 31], 3), ([40, 32], 4)]
    {
        let mut recolour = Recolour::new(size, size.map(|side| scale * side));
        let pairs = layouts.into_iter().flat_map(|from| layouts.map(|to| (from, to)));
        for ((from, to), site) in pairs.flat_map(|pair| SITES.map(|site| (pair, site))) {
            check_places(&mut recolour, size, scale, (from, to), site);
        }
    }
}

fn check_places(
    recolour: &mut Recolour,
    [width, height]: [usize; 2],
    scale: usize,
    (from, to): (Layout, Layout),
    site: ChromaSite,
) {
    let (range, samples) = (Range::Full, SampleFormat::U12Low);
    let format = FrameFormat { width, height, range, samples };
    // Of sample i, in pixels from the left, or from the top.
    let place = |layout: Layout, side: usize, i: usize| {
        let half = halves(layout).expect("it has chroma")[side];
        match (half, site.cosited[side]) {
            (false, _) => i as f64 + 0.5,
            (true, true) => 2.0 * i as f64 + 0.5,
            (true, false) => 2.0 * i as f64 + 1.0,
        }
    };
    let mut input = Stored::new(format, from, 0);
    for at in places(&input, 0) {
        input.put(0, at, 2000);
    }
    for (which, side) in [(1, 0), (2, 1)] {
        for at in places(&input, which) {
            let i = [at.0, at.1][side];
            input.put(which, at, (500.0 + 40.0 * place(from, side, i)).round() as u16);
        }
    }
    let large = FrameFormat { width: width * scale, height: height * scale, ..format };
    let mut output = Stored::new(large, to, 1);
    let luma = vec![0.25; large.width * large.height];
    let frame = input.frame().with_chroma_site(site);
    let mut written = output.frame_mut().with_chroma_site(site);
    recolour.write(&frame, &luma, &mut written).unwrap();
    for (which, side) in [(1, 0), (2, 1)] {
        let len = [output.size(which).0, output.size(which).1][side];
        for i in len / 4..len * 3 / 4 {
            let at = if side == 0 { (i, len / 3) } else { (len / 3, i) };
            let want = 500.0 + 40.0 * place(to, side, i) / scale as f64;
            let got = f64::from(output.code(which, at));
            let what = format!("{from:?} to {to:?} {site:?} ×{scale} {which} {i}");
            assert!((got - want).abs() < 1.2, "{what}: {got} {want}");
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
