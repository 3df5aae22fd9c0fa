//! Pictures in RGB from and to every layout against the definition in f64, pixel by pixel.

use super::layouts::{check_written, pictures, weights};
use super::*;

/// What luma is made of in frames that do not say it.
const MATRIX: Matrix = Matrix::Bt2020;

/// Whether chroma has one sample for two pixels, and for two lines; `None` where there is none.
pub(super) fn halves(layout: Layout) -> Option<[bool; 2]> {
    match layout {
        Layout::I420 | Layout::Yv12 | Layout::Nv12 | Layout::Nv21 => Some([true, true]),
        Layout::Yuv422 | Layout::Nv16(_) => Some([true, false]),
        Layout::PackedYuv(pixel) => Some([pixel.is_pair, false]),
        Layout::Yuv444 | Layout::Nv24(_) => Some([false, false]),
        Layout::Grey | Layout::Packed(..) | Layout::Gbr(_) => None,
    }
}

pub(super) fn is_rgb(layout: Layout) -> bool {
    matches!(layout, Layout::Packed(..) | Layout::Gbr(_))
}

/// Indices and shares of the samples that a place between them is made of: `at` in units of samples.
fn linear(at: f64, len: usize) -> [(usize, f64); 2] {
    let at = at.clamp(0.0, (len - 1) as f64);
    let below = at.floor();
    [(below as usize, 1.0 - (at - below)), ((below as usize + 1).min(len - 1), at - below)]
}

/// Where chroma may lie.
pub(super) const SITES: [ChromaSite; 3] =
    [ChromaSite::LEFT, ChromaSite::CENTRE, ChromaSite::TOP_LEFT];

/// Normalised R, G and B of a pixel.
pub(super) fn rgb(stored: &Stored, site: ChromaSite, (x, y): (usize, usize)) -> [f64; 3] {
    let [luma, chroma] = codes(stored.format.range, stored.format.samples);
    let value = |which: usize, at, (black, span): (f64, f64)| {
        (f64::from(stored.code(which, at)) - black) / span
    };
    if is_rgb(stored.layout) {
        return [0, 1, 2].map(|which| value(which, (x, y), luma));
    }
    let y_value = value(0, (x, y), luma);
    let Some(halves) = halves(stored.layout) else { return [y_value; 3] };
    let among_samples = |pixel: usize, axis: usize| match (halves[axis], site.cosited[axis]) {
        (false, _) => pixel as f64,
        (true, true) => pixel as f64 / 2.0,
        (true, false) => (pixel as f64 - 0.5) / 2.0,
    };
    let [u, v] = [1, 2].map(|which| {
        let (width, height) = stored.size(which);
        let (columns, rows) =
            (linear(among_samples(x, 0), width), linear(among_samples(y, 1), height));
        let pairs = columns.into_iter().flat_map(|c| rows.map(|r| (c, r)));
        let parts = pairs.map(|((x, a), (y, b))| a * b * value(which, (x, y), chroma));
        parts.sum::<f64>() - 0.5
    });
    let (kr, kb) = weights(MATRIX);
    let (r, b) = (y_value + 2.0 * (1.0 - kr) * v, y_value + 2.0 * (1.0 - kb) * u);
    [r, (y_value - kr * r - kb * b) / (1.0 - kr - kb), b]
}

#[test]
fn reads_every_layout_as_rgb() {
    for ((stored, _), site) in pictures().flat_map(|it| SITES.map(|s| (it.clone(), s))) {
        let FrameFormat { width, height, .. } = stored.format;
        let mut got = vec![f32::NAN; 3 * width * height];
        stored.frame().with_matrix(MATRIX).with_chroma_site(site).unpack_rgb(&mut got);
        for (i, &got) in got.iter().enumerate() {
            let (channel, at) = (i / (width * height), i % (width * height));
            let want = rgb(&stored, site, (at % width, at / width))[channel];
            let apart = (f64::from(got) - want).abs();
            assert!(apart < 1e-5, "{:?} {:?} [{i}]: {got}, {want}", stored.format, stored.layout);
        }
    }
}

/// Every sample of a frame that a picture in RGB becomes: which, where, and its code, not rounded.
fn written(
    stored: &Stored,
    site: ChromaSite,
    picture: &[f32],
) -> Vec<(usize, (usize, usize), f64)> {
    let FrameFormat { width, height, range, samples } = stored.format;
    let [luma, chroma] = codes(range, samples);
    let of_pixel = |x: isize, y: isize| -> [f64; 3] {
        let inside = |at: isize, len: usize| at.clamp(0, len as isize - 1) as usize;
        let at = inside(y, height) * width + inside(x, width);
        let [r, g, b] = [0, 1, 2].map(|c| f64::from(picture[c * width * height + at]));
        if is_rgb(stored.layout) {
            return [r, g, b];
        }
        let (kr, kb) = weights(MATRIX);
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        [y, (b - y) / (2.0 * (1.0 - kb)) + 0.5, (r - y) / (2.0 * (1.0 - kr)) + 0.5]
    };
    let halves = halves(stored.layout).unwrap_or_default();
    let mut written = vec![];
    for which in 0..stored.components() {
        let is_chroma = which > 0 && !is_rgb(stored.layout);
        let (black, span) = if is_chroma { chroma } else { luma };
        let [half_width, half_height] = if is_chroma { halves } else { [false; 2] };
        // Pixels that a sample is made of, from its own on, with their shares.
        let parts_of = |half: bool, cosited: bool| -> &[(isize, f64)] {
            match (half, cosited) {
                (false, _) => &[(0, 1.0)],
                (true, true) => &[(-1, 0.25), (0, 0.5), (1, 0.25)],
                (true, false) => &[(0, 0.5), (1, 0.5)],
            }
        };
        let columns = parts_of(half_width, site.cosited[0]);
        let rows = parts_of(half_height, site.cosited[1]);
        let (columns_in, rows_in) = stored.size(which);
        for (x, y) in (0..rows_in).flat_map(|y| (0..columns_in).map(move |x| (x, y))) {
            let of = |at: usize, half: bool| if half { 2 * at as isize } else { at as isize };
            let (first_x, first_y) = (of(x, half_width), of(y, half_height));
            let pairs = columns.iter().flat_map(|c| rows.iter().map(move |r| (c, r)));
            let parts =
                pairs.map(|((dx, a), (dy, b))| a * b * of_pixel(first_x + dx, first_y + dy)[which]);
            written.push((which, (x, y), parts.sum::<f64>() * span + black));
        }
    }
    written
}

#[test]
fn writes_rgb_into_every_layout_and_nothing_else() {
    for ((before, _), site) in pictures().flat_map(|it| SITES.map(|s| (it.clone(), s))) {
        let FrameFormat { width, height, .. } = before.format;
        let mut noise = Noise(7 + (width * height) as u64);
        let picture: Vec<f32> =
            (0..3 * width * height).map(|_| noise.below(1300) as f32 / 1000.0 - 0.15).collect();
        let mut got = before.clone();
        let input = Stored::noise(before.format, before.layout, 2, false);
        let mut frame = got.frame_mut().with_matrix(MATRIX).with_chroma_site(site);
        frame.pack_rgb(&input.frame(), &picture);
        let what = format!("{:?} {:?} {site:?}", before.format, before.layout);
        let mut without_others = before.clone();
        without_others.bytes.fill(0);
        let mut before = before;
        for ((_, from), (_, to)) in input.other_bytes().into_iter().zip(before.other_bytes()) {
            before.bytes[to] = input.bytes[from];
        }
        check_written(&without_others, &before, &got, &written(&before, site, &picture), &what);
    }
}

#[test]
fn rgb_comes_back_as_it_was_and_so_does_one_colour_in_all_layouts() {
    for (stored, _) in pictures() {
        let FrameFormat { width, height, .. } = stored.format;
        let mut picture = vec![0.0; 3 * width * height];
        let mut one_colour = stored.clone();
        if !is_rgb(stored.layout) {
            for which in 0..stored.components() {
                let (columns, rows) = stored.size(which);
                let code =
                    stored.code(which, (0, 0)) / 3 + (1 << (stored.format.samples.bits() - 2));
                for (x, y) in (0..rows).flat_map(|y| (0..columns).map(move |x| (x, y))) {
                    one_colour.put(which, (x, y), code);
                }
            }
        }
        one_colour.frame().with_matrix(MATRIX).unpack_rgb(&mut picture);
        let mut back = Stored::new(stored.format, stored.layout, 1);
        back.frame_mut().with_matrix(MATRIX).pack_rgb(&one_colour.frame(), &picture);
        for which in 0..stored.components() {
            let (columns, rows) = stored.size(which);
            for at in (0..rows).flat_map(|y| (0..columns).map(move |x| (x, y))) {
                let (got, want) = (back.code(which, at), one_colour.code(which, at));
                assert_eq!(got, want, "{:?} {:?} {which} {at:?}", stored.format, stored.layout);
            }
        }
    }
}

#[test]
fn larger_frames_have_the_alpha_of_the_pixels_that_they_were() {
    let format = FrameFormat { width: 3, height: 2, range: Range::Full, samples: SampleFormat::U8 };
    let pixel = RgbPixel { bytes: 4, r: 0, g: 1, b: 2 };
    let input = Stored::noise(format, Layout::Packed(pixel, Matrix::Bt709), 1, false);
    let larger = FrameFormat { width: 6, height: 4, ..format };
    let mut output = Stored::new(larger, Layout::Packed(pixel, Matrix::Bt709), 3);
    output.frame_mut().pack_rgb(&input.frame(), &[0.5; 3 * 24]);
    for (x, y) in (0..4).flat_map(|y| (0..6).map(move |x| (x, y))) {
        let [got, want] = [(&output, (x, y)), (&input, (x / 2, y / 2))]
            .map(|(stored, at)| stored.bytes[stored.at(0, at) + 3]);
        assert_eq!(got, want, "{x} {y}");
    }
}

#[test]
fn larger_pictures_are_bicubic_and_one_colour_stays_what_it_is() {
    let format = FrameFormat { width: 5, height: 4, range: Range::Full, samples: SampleFormat::U8 };
    let layout = Layout::Gbr(Matrix::Bt709);
    let mut input = Stored::new(format, layout, 1);
    let codes = [20, 40, 90, 200, 180];
    for at in (0..4).flat_map(|y| (0..5).map(move |x| (x, y))) {
        input.put(0, at, codes[at.0]);
        input.put(1, at, 77);
        input.put(2, at, 40 * at.1 as u16);
    }
    let larger = FrameFormat { width: 10, height: 8, ..format };
    let mut output = Stored::new(larger, layout, 2);
    let mut rescale = Rescale::new([5, 4], [10, 8]);
    rescale.run(&input.frame(), &mut output.frame_mut()).unwrap();
    // A quarter before a sample 128 times the weights are −3, 29, 111, −9 (Keys); see `resample`.
    let before =
        |a: f64, b: f64, c: f64, d: f64| (-3.0 * a + 29.0 * b + 111.0 * c - 9.0 * d) / 128.0;
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| f64::from(codes[i]));
    for y in 0..8 {
        assert_eq!(f64::from(output.code(0, (4, y))), before(a, b, c, d).round());
        assert_eq!(f64::from(output.code(0, (3, y))), before(d, c, b, a).round());
        assert!((0..10).all(|x| output.code(1, (x, y)) == 77));
    }
    // From top to bottom evenly where no edge is near.
    assert_eq!([3, 4].map(|y| output.code(2, (0, y))), [50, 70]);
    let error = rescale.run(&output.frame(), &mut input.frame_mut()).unwrap_err().to_string();
    assert_eq!(error, "frame: sizes [[10, 8], [5, 4]], expected [5, 4] to [10, 8]");
}

#[test]
fn what_is_no_number_is_black_and_what_is_too_bright_white() {
    let format =
        FrameFormat { width: 3, height: 1, range: Range::Full, samples: SampleFormat::U10Low };
    let mut stored = Stored::new(format, Layout::Gbr(Matrix::Bt709), 0);
    let input = stored.clone();
    let picture = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].repeat(3);
    stored.frame_mut().pack_rgb(&input.frame(), &picture);
    for which in 0..3 {
        assert_eq!([0, 1, 2].map(|x| stored.code(which, (x, 0))), [0, 1023, 0]);
    }
}
