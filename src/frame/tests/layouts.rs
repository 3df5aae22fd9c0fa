//! Rows of frames of every layout against the definition in f64, pixel by pixel.

use std::ops::Range as Columns;

use super::*;

const SIZES: [(usize, usize); 8] =
    [(1, 1), (1, 2), (2, 1), (3, 5), (33, 17), (70, 6), (64, 2), (193, 3)];

/// How far from a tie the code is certain, of one of so many bits.
fn tie(bits: u32) -> f64 {
    1e-3 * f64::from(1 << bits.saturating_sub(11))
}

const YUV_PIXELS: [(YuvPixel, usize); 6] = [
    (YuvPixel { bytes: 4, y: 0, u: 1, v: 3, is_pair: true }, 1),
    (YuvPixel { bytes: 4, y: 1, u: 2, v: 0, is_pair: true }, 1),
    (YuvPixel { bytes: 4, y: 1, u: 2, v: 3, is_pair: false }, 1),
    (YuvPixel { bytes: 3, y: 0, u: 1, v: 2, is_pair: false }, 1),
    (YuvPixel { bytes: 8, y: 0, u: 2, v: 6, is_pair: true }, 2),
    (YuvPixel { bytes: 8, y: 2, u: 4, v: 6, is_pair: false }, 2),
];

const PIXELS: [RgbPixel; 5] = [
    RgbPixel { bytes: 3, r: 0, g: 1, b: 2 },
    RgbPixel { bytes: 3, r: 2, g: 1, b: 0 },
    RgbPixel { bytes: 4, r: 0, g: 1, b: 2 },
    RgbPixel { bytes: 4, r: 2, g: 1, b: 0 },
    RgbPixel { bytes: 4, r: 1, g: 2, b: 3 },
];

const MATRICES: [(Matrix, f64, f64); 5] = [
    (Matrix::Bt601, 0.299, 0.114),
    (Matrix::Bt709, 0.2126, 0.0722),
    (Matrix::Bt2020, 0.2627, 0.0593),
    (Matrix::Smpte240m, 0.212, 0.087),
    (Matrix::Fcc, 0.30, 0.11),
];

/// Every layout with every matrix or sample format it can have.
fn kinds() -> Vec<(Layout, SampleFormat)> {
    let samples = || SAMPLES.into_iter().chain([SampleFormat::U16]);
    let yuv = [
        Layout::Yuv422,
        Layout::Yuv444,
        Layout::Nv16(false),
        Layout::Nv16(true),
        Layout::Nv24(false),
        Layout::Grey,
        Layout::I420,
        Layout::Nv21,
    ];
    let mut kinds: Vec<_> = yuv
        .into_iter()
        .flat_map(|layout| samples().map(move |samples| (layout, samples)))
        .collect();
    for (pixel, bytes) in YUV_PIXELS {
        let samples = samples().filter(|samples| samples.bytes() == bytes);
        kinds.extend(samples.map(|samples| (Layout::PackedYuv(pixel), samples)));
    }
    let wide = RgbPixel { bytes: 8, r: 2, g: 4, b: 6 };
    for samples in samples().skip(1) {
        kinds.push((Layout::Packed(wide, Matrix::Bt709), samples));
        kinds.push((Layout::Gbr(Matrix::Bt2020), samples));
    }
    for (index, (matrix, ..)) in MATRICES.into_iter().enumerate() {
        kinds.push((Layout::Packed(PIXELS[index], matrix), SampleFormat::U8));
        kinds.push((Layout::Packed(PIXELS[(index + 2) % 5], matrix), SampleFormat::U8));
        kinds.push((Layout::Gbr(matrix), SampleFormat::U8));
    }
    kinds
}

/// Noise of every kind, size and range; the number tells how far its rows are padded.
pub(super) fn pictures() -> impl Iterator<Item = (Stored, usize)> {
    let sizes = SIZES.into_iter().flat_map(|size| RANGES.map(|range| (size, range)));
    sizes.flat_map(|((width, height), range)| {
        kinds().into_iter().enumerate().map(move |(index, (layout, samples))| {
            let format = FrameFormat { width, height, range, samples };
            (Stored::noise(format, layout, index % 4, index % 2 == 0), index % 4)
        })
    })
}

pub(super) fn weights(matrix: Matrix) -> (f64, f64) {
    MATRICES.iter().find(|entry| entry.0 == matrix).map(|&(_, kr, kb)| (kr, kb)).unwrap()
}

/// Normalised Y, U and V of a pixel, or of the one nearest to it.
fn yuv(stored: &Stored, x: usize, y: usize) -> [f64; 3] {
    let FrameFormat { width, height, range, samples } = stored.format;
    let (x, y) = (x.min(width - 1), y.min(height - 1));
    let [luma, chroma] = codes(range, samples);
    let value = |which: usize, at: (usize, usize), (black, span): (f64, f64)| {
        (f64::from(stored.code(which, at)) - black) / span
    };
    let at = match stored.layout {
        Layout::Grey => return [value(0, (x, y), luma), 0.5, 0.5],
        Layout::Packed(_, matrix) | Layout::Gbr(matrix) => {
            let (kr, kb) = weights(matrix);
            let [r, g, b] = [0, 1, 2].map(|which| value(which, (x, y), luma));
            let y = kr * r + (1.0 - kr - kb) * g + kb * b;
            return [y, (b - y) / (2.0 * (1.0 - kb)) + 0.5, (r - y) / (2.0 * (1.0 - kr)) + 0.5];
        }
        Layout::Yuv444 | Layout::Nv24(_) => (x, y),
        Layout::Yuv422 | Layout::Nv16(_) => (x / 2, y),
        Layout::PackedYuv(pixel) => (if pixel.is_pair { x / 2 } else { x }, y),
        Layout::I420 | Layout::Yv12 | Layout::Nv12 | Layout::Nv21 => (x / 2, y / 2),
    };
    [value(0, (x, y), luma), value(1, at, chroma), value(2, at, chroma)]
}

/// What is to be read, as three rows of pairs of each row of the net.
fn read_plainly(stored: &Stored) -> [Vec<f64>; 3] {
    let (half_width, half_height) = stored.format.half_size();
    let mut parts = [vec![], vec![], vec![]];
    for (row, column) in (0..half_height).flat_map(|r| (0..half_width).map(move |c| (r, c))) {
        let block =
            [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(x, y)| yuv(stored, 2 * column + x, 2 * row + y));
        parts[0].extend([block[0][0], block[1][0]]);
        parts[1].extend([block[2][0], block[3][0]]);
        parts[2].extend([1, 2].map(|which| block.iter().map(|v| v[which]).sum::<f64>() / 4.0));
    }
    parts
}

#[test]
fn reads_every_layout() {
    for (stored, _) in pictures() {
        let what = format!("{:?} {:?}", stored.format, stored.layout);
        let want = read_plainly(&stored);
        let whole = [0, stored.format.half_size().0];
        let (floats, words) = (
            read::<f32>(&stored, Level::Scalar, &whole),
            read::<i16>(&stored, Level::Scalar, &whole),
        );
        let in_codes = stored.frame().is_in_codes();
        for (part, want) in want.iter().enumerate() {
            let (_, span) = codes(stored.format.range, stored.format.samples)[part / 2];
            for (i, &want) in want.iter().enumerate() {
                let (float, word) = (f64::from(floats[part][i]), f64::from(words[part][i]));
                assert!((float - want).abs() <= 1e-6, "{what} {part} [{i}]: {float}, {want}");
                let (unit, most) = if in_codes { (2.0 * span, 1e-3) } else { (4096.0, 0.5 + 1e-2) };
                assert!((word - unit * want).abs() <= most, "{what} {part} [{i}]: {word}, {want}");
            }
        }
        for level in levels() {
            for pieces in cuts(whole[1]) {
                let name = level.name();
                let bits = |parts: &[Vec<f32>; 3]| {
                    parts.clone().map(|part| part.into_iter().map(f32::to_bits).collect::<Vec<_>>())
                };
                assert_eq!(bits(&read(&stored, level, &pieces)), bits(&floats), "{what} {name}");
                assert_eq!(read::<i16>(&stored, level, &pieces), words, "{what} {name}");
            }
        }
    }
}

#[test]
fn chroma_of_grey_is_exactly_neutral() {
    for (stored, _) in pictures().filter(|(stored, _)| stored.layout == Layout::Grey) {
        let pieces = [0, stored.format.half_size().0];
        for level in levels() {
            let [_, _, chroma] = read::<f32>(&stored, level, &pieces);
            assert!(chroma.iter().all(|&v| v == 0.5), "{:?}", stored.format);
        }
    }
}

/// Byte, component and value in codes, before it is rounded, of every sample that writing these
/// columns of a row changes.
fn written_plainly(
    input: &Stored,
    output: &Stored,
    row: usize,
    columns: Columns<usize>,
    residual: &Residual,
    smoothing: f64,
) -> Vec<(usize, (usize, usize), f64)> {
    let FrameFormat { range, samples, .. } = input.format;
    let [(_, luma), (_, chroma)] = codes(range, samples);
    let mut written = vec![];
    for which in 0..output.components() {
        let (width, height) = output.size(which);
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            // Samples of the component in a block.
            let across = if which > 0 && width < input.format.width { 1 } else { 2 };
            let down = if which > 0 && height < input.format.height { 1 } else { 2 };
            let column = x / across;
            if y / down != row || !columns.contains(&column) {
                continue;
            }
            let [top, bottom, pair] = residual.parts(row, column..column + 1);
            let of_luma = f64::from([top, bottom][y % 2][x % 2]);
            let (px, py) = (if across == 1 { 2 * x } else { x }, if down == 1 { 2 * y } else { y });
            let here = yuv(input, px, py);
            let block = [(0, 0), (1, 0), (0, 1), (1, 1)]
                .map(|(x, y)| yuv(input, 2 * column + x, 2 * row + y));
            let [u, v] = [1, 2].map(|c| {
                let mean = block.iter().map(|v| v[c]).sum::<f64>() / 4.0;
                f64::from(pair[c - 1]) - smoothing * (here[c] - mean)
            });
            let added = match input.layout {
                Layout::Packed(_, matrix) | Layout::Gbr(matrix) => {
                    let (kr, kb) = weights(matrix);
                    let (r, b) = (2.0 * (1.0 - kr) * v, 2.0 * (1.0 - kb) * u);
                    let g = -(kr * r + kb * b) / (1.0 - kr - kb);
                    (of_luma + [r, g, b][which]) * luma
                }
                _ => [of_luma * luma, u * chroma, v * chroma][which],
            };
            let code = f64::from(input.code(which, (x, y)));
            written.push((which, (x, y), code + added));
        }
    }
    written
}

/// Checks what writing did to `before`; no other byte may differ.
pub(super) fn check_written(
    input: &Stored,
    before: &Stored,
    got: &Stored,
    written: &[(usize, (usize, usize), f64)],
    what: &str,
) {
    let (bytes, bits) = (input.format.samples.bytes(), input.format.samples.bits());
    let most = f64::from((1u32 << bits) - 1);
    let mut rest = got.clone();
    for &(which, at, value) in written {
        let (code, value) = (got.code(which, at), value.clamp(0.0, most));
        let apart = (f64::from(code) - value).abs();
        assert!(apart <= 0.5 + tie(bits), "{what}, {which} at {at:?}: {code}, {value}");
        rest.put_into(input, which, at, code);
        let place = rest.at(which, at)..rest.at(which, at) + bytes;
        assert!(rest.bytes[place.clone()] == got.bytes[place.clone()], "{what}: bits of no code");
        rest.bytes[place.clone()].copy_from_slice(&before.bytes[place]);
    }
    let changed: Vec<usize> = {
        let bytes = rest.bytes.iter().zip(&before.bytes).enumerate();
        bytes.filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect()
    };
    assert!(changed.is_empty(), "{what}: bytes {changed:?}");
}

/// Gives what is no sample of the columns' pixels in a row of the net what the input has there.
fn copy_others(output: &mut Stored, input: &Stored, row: usize, columns: &Columns<usize>) {
    let others = input.other_bytes().into_iter().zip(output.other_bytes());
    for (((x, y), from), (_, to)) in others {
        if y / 2 == row && columns.contains(&(x / 2)) {
            output.bytes[to] = input.bytes[from];
        }
    }
}

#[test]
fn writes_every_layout_and_nothing_else() {
    let cases = pictures().flat_map(|(input, padding)| {
        [0.0, 0.75].map(|smoothing| (input.clone(), padding, smoothing))
    });
    for (input, padding, smoothing) in cases {
        let residual = residuals(&input.format, 9);
        let empty = Stored::new(input.format, input.layout, 3 - padding);
        let (half_width, half_height) = input.format.half_size();
        let (mut before, mut written) = (empty.clone(), vec![]);
        for row in 0..half_height {
            let (all, of) = (0..half_width, f64::from(smoothing));
            written.extend(written_plainly(&input, &empty, row, all.clone(), &residual, of));
            copy_others(&mut before, &input, row, &all);
        }
        let samples: usize =
            (0..empty.components()).map(|w| empty.size(w).0 * empty.size(w).1).sum();
        assert_eq!(written.len(), samples);
        let mut first: Option<Stored> = None;
        for level in levels() {
            for pieces in cuts(half_width) {
                let mut got = empty.clone();
                got.write(level, &input, &pieces, &residual, smoothing);
                let what = format!(
                    "{:?} {:?}, smoothing {smoothing}, {}",
                    input.format,
                    input.layout,
                    level.name()
                );
                // The rest is the first one's, bit for bit.
                match &first {
                    Some(first) => assert!(got == *first, "{what}, pieces {pieces:?}"),
                    None => check_written(&input, &before, &got, &written, &what),
                }
                first.get_or_insert(got);
            }
        }
    }
}

#[test]
fn writes_no_other_columns_or_rows() {
    for (input, padding) in pictures() {
        let residual = residuals(&input.format, 4);
        let empty = Stored::new(input.format, input.layout, padding + 1);
        let (half_width, half_height) = input.format.half_size();
        for (row, first) in
            [(0, 0), (half_height / 2, half_width / 3), (half_height - 1, half_width / 2)]
        {
            let columns = first..half_width.min(first + 1 + half_width / 2);
            let written = written_plainly(&input, &empty, row, columns.clone(), &residual, 0.5);
            let mut before = empty.clone();
            copy_others(&mut before, &input, row, &columns);
            for level in levels() {
                let mut got = empty.clone();
                let parts = residual.parts(row, columns.clone());
                // SAFETY: a single call.
                unsafe {
                    let (mut frame, columns) = (got.frame_mut(), columns.clone());
                    frame.writer(0.5).write_pairs(level, &input.frame(), row, columns, parts);
                }
                let what = format!("{:?} {:?}, row {row}, {columns:?}", input.format, input.layout);
                check_written(&input, &before, &got, &written, &what);
            }
        }
    }
}

#[test]
fn a_zero_residual_copies_every_layout() {
    for (mut input, padding) in pictures() {
        if matches!(input.format.samples, SampleFormat::U10Low | SampleFormat::U12Low) {
            input = Stored::noise(input.format, input.layout, padding, false);
        }
        for zero in [0.0, -0.0] {
            let residual = Residual::new(&input.format, || zero);
            for level in levels() {
                let mut output = Stored::new(input.format, input.layout, padding);
                output.write(level, &input, &[0, input.format.half_size().0], &residual, 0.0);
                assert!(output == input, "{:?} {:?}", input.format, input.layout);
            }
        }
    }
}

#[test]
fn residuals_that_are_no_number_are_black_and_vast_ones_are_clamped() {
    for (input, _) in pictures().filter(|(input, _)| input.format.width < 40) {
        let most = ((1u32 << input.format.samples.bits()) - 1) as u16;
        for (luma, code) in [(1e9, most), (-1e9, 0), (f32::INFINITY, most), (f32::NAN, 0)] {
            let mut residual = Residual::new(&input.format, || luma);
            if input.frame().planes.is_rgb() {
                residual.parts[2].fill(0.0);
            }
            for level in levels() {
                let mut output = Stored::new(input.format, input.layout, 1);
                output.write(level, &input, &[0, input.format.half_size().0], &residual, 0.0);
                for which in 0..output.components() {
                    let (width, height) = output.size(which);
                    let mut at = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
                    assert!(
                        at.all(|at| output.code(which, at) == code),
                        "{luma} {:?}",
                        input.layout
                    );
                }
            }
        }
    }
}

#[test]
fn every_layout_goes_to_itself_or_to_another_order_of_420() {
    let orders = ORDERS.map(|order| (order, SampleFormat::U8));
    let kinds = kinds().into_iter().filter(|kind| kind.1 == SampleFormat::U8);
    let layouts: Vec<Layout> = kinds.chain(orders).map(|kind| kind.0).collect();
    let format = FrameFormat { width: 5, height: 3, range: Range::Full, samples: SampleFormat::U8 };
    for &from in &layouts {
        for &to in &layouts {
            let input = Stored::noise(format, from, 0, false);
            let mut output = Stored::new(format, to, 0);
            let before = output.clone();
            let result = output.frame_mut().pack_sum(&input.frame(), &[0.0; 6 * 3 * 2], 0.0);
            let is_order = |layout| ORDERS.contains(&layout);
            assert_eq!(
                result.is_ok(),
                from == to || is_order(from) && is_order(to),
                "{from:?} {to:?}"
            );
            if let Err(error) = result {
                assert!(matches!(error, Error::Frame(_)), "{error}");
                assert!(output == before);
            }
        }
    }
    let message = |from, to| {
        let (input, mut output) = (Stored::new(format, from, 0), Stored::new(format, to, 0));
        output.frame_mut().check_same_format(&input.frame()).unwrap_err().to_string()
    };
    assert_eq!(
        message(Layout::Nv12, Layout::Yuv444),
        "frame: output is 4:4:4, expected the input's 4:2:0"
    );
    assert_eq!(
        message(Layout::Gbr(Matrix::Bt709), Layout::Packed(PIXELS[3], Matrix::Bt601)),
        "frame: output is RGB in pixels of 4 bytes with R, G, B at 2, 1, 0 (Bt601), expected the \
         input's RGB in planes (Bt709)"
    );
}

#[test]
fn planes_of_every_layout_are_measured() {
    let enough = vec![0u8; 1000];
    let whole = Plane { data: &enough, stride_bytes: 100 };
    let format = FrameFormat { width: 5, height: 3, range: Range::Full, samples: SampleFormat::U8 };
    let yuv = |y, u, v, subsampling| Planes::Planar { y, u, v, subsampling };
    let (yuv422, yuv444) = (Subsampling::Yuv422, Subsampling::Yuv444);
    let matrix = Matrix::Bt709;
    let packed = |pixels, pixel| Planes::PackedRgb { pixels, pixel, matrix };
    let gbr = |r, g, b| Planes::PlanarRgb { r, g, b, matrix };
    type Make<'m, 'p> = &'m dyn Fn(Plane<'p>) -> Planes<Plane<'p>>;
    // Name, bytes in a row, and how the planes are made with this one.
    let pairs = |uv, subsampling| Planes::SemiPlanar { y: whole, uv, v_first: true, subsampling };
    let yuy2 = |pixels| Planes::PackedYuv { pixels, pixel: YUV_PIXELS[0].0 };
    let ayuv = |pixels| Planes::PackedYuv { pixels, pixel: YUV_PIXELS[2].0 };
    let planes: [(&str, usize, Make<'_, '_>); 16] = [
        ("plane Y ", 5, &|y| yuv(y, whole, whole, yuv422)),
        ("plane U ", 3, &|u| yuv(whole, u, whole, yuv422)),
        ("plane V ", 3, &|v| yuv(whole, whole, v, yuv422)),
        ("plane Y ", 5, &|y| yuv(y, whole, whole, yuv444)),
        ("plane U ", 5, &|u| yuv(whole, u, whole, yuv444)),
        ("plane V ", 5, &|v| yuv(whole, whole, v, yuv444)),
        ("plane UV ", 6, &|uv| pairs(uv, yuv422)),
        ("plane UV ", 10, &|uv| pairs(uv, yuv444)),
        ("plane YUV ", 12, &yuy2),
        ("plane YUV ", 20, &ayuv),
        ("plane Y ", 5, &|y| Planes::Grey { y }),
        ("plane RGB ", 15, &|pixels| packed(pixels, PIXELS[0])),
        ("plane RGB ", 20, &|pixels| packed(pixels, PIXELS[2])),
        ("plane R ", 5, &|r| gbr(r, whole, whole)),
        ("plane G ", 5, &|g| gbr(whole, g, whole)),
        ("plane B ", 5, &|b| gbr(whole, whole, b)),
    ];
    for (name, width, make) in planes {
        for stride_bytes in [width, width + 3] {
            let len = 2 * stride_bytes + width;
            Frame::new(format, make(Plane { data: &enough[..len], stride_bytes })).unwrap();
            let short = Plane { data: &enough[..len - 1], stride_bytes };
            let error = Frame::new(format, make(short)).unwrap_err().to_string();
            let (got, want) = (format!("{name}has {} bytes", len - 1), format!("{width} bytes"));
            assert!(error.contains(&got) && error.ends_with(&want), "{error}");
        }
        for stride_bytes in [width - 1, usize::MAX] {
            let error =
                Frame::new(format, make(Plane { data: &enough, stride_bytes })).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
    let packed_yuv = |bytes, [y, u, v]: [usize; 3], is_pair| {
        let pixel = YuvPixel { bytes, y, u, v, is_pair };
        Planes::PackedYuv { pixels: whole, pixel }
    };
    let of_rgb = |bytes, [r, g, b]: [usize; 3]| packed(whole, RgbPixel { bytes, r, g, b });
    let bytes_and_words = [SampleFormat::U8, SampleFormat::U10High];
    for (samples, planes, why) in [
        (0, of_rgb(2, [0, 1, 1]), "[0, 1, 1] of a pixel, expected different samples of 1 below 2"),
        (0, of_rgb(3, [0, 1, 3]), "[0, 1, 3] of a pixel, expected different samples of 1 below 3"),
        (0, of_rgb(4, [1, 0, 1]), "[1, 0, 1] of a pixel, expected different samples of 1 below 4"),
        (0, of_rgb(9, [0, 1, 2]), "9 bytes, expected at most 8 in samples of 1"),
        (1, of_rgb(7, [0, 2, 4]), "7 bytes, expected at most 8 in samples of 2"),
        (1, of_rgb(8, [0, 2, 5]), "[0, 2, 5] of a pixel, expected different samples of 2 below 8"),
        (
            0,
            packed_yuv(4, [0, 1, 1], false),
            "Y, U, V at bytes [0, 1, 1] of a pixel, expected \
                                              different samples of 1 below 4",
        ),
        (
            0,
            packed_yuv(4, [0, 1, 2], true),
            "Y, U, V at bytes [0, 2, 1, 2] of a pixel, expected \
                                             different samples of 1 below 4",
        ),
        (
            0,
            packed_yuv(4, [2, 1, 3], true),
            "Y, U, V at bytes [2, 4, 1, 3] of a pixel, expected \
                                             different samples of 1 below 4",
        ),
    ] {
        let format = FrameFormat { samples: bytes_and_words[samples], ..format };
        let error = Frame::new(format, planes).unwrap_err();
        assert!(error.to_string().ends_with(why), "{error}");
    }
}
