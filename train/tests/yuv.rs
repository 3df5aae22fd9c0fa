//! Colour conversion against hand-computed code values, and the layout a 4:2:0 net sees.

use tunableconv::frame::{Frame, FrameFormat, Plane, Planes, SampleFormat, Subsampling};
use tunableconv_train::rgb::Rgb;
use tunableconv_train::yuv::{Matrix, Range, Yuv420};

/// Odd sides on purpose.
const WIDTH: usize = 5;
const HEIGHT: usize = 3;

fn flat(colour: [f32; 3]) -> Rgb {
    let data = colour.iter().flat_map(|&v| [v; WIDTH * HEIGHT]).collect();
    Rgb::new(WIDTH, HEIGHT, data)
}

/// A picture with `value(row, column)` as luma, and flat chroma.
fn picture(width: usize, height: usize, value: impl Fn(usize, usize) -> f32) -> Yuv420 {
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    Yuv420 {
        width,
        height,
        y: (0..height)
            .flat_map(|r| (0..width).map(move |c| (r, c)))
            .map(|(r, c)| value(r, c))
            .collect(),
        u: (0..chroma).map(|i| 100.0 + i as f32).collect(),
        v: (0..chroma).map(|i| 200.0 - i as f32).collect(),
    }
}

#[test]
fn known_colours_have_their_code_values() {
    use Matrix::{Bt601, Bt709};
    use Range::{Full, Limited};
    const WHITE: [f32; 3] = [1.0; 3];
    const BLACK: [f32; 3] = [0.0; 3];
    const RED: [f32; 3] = [1.0, 0.0, 0.0];
    const GREEN: [f32; 3] = [0.0, 1.0, 0.0];
    const BLUE: [f32; 3] = [0.0, 0.0, 1.0];
    for (colour, matrix, range, expected) in [
        (WHITE, Bt601, Limited, [235, 128, 128]),
        (BLACK, Bt601, Limited, [16, 128, 128]),
        (RED, Bt601, Limited, [81, 90, 240]),
        (GREEN, Bt601, Limited, [145, 54, 34]),
        (BLUE, Bt601, Limited, [41, 240, 110]),
        (WHITE, Bt709, Limited, [235, 128, 128]),
        (RED, Bt709, Limited, [63, 102, 240]),
        (GREEN, Bt709, Limited, [173, 42, 26]),
        (BLUE, Bt709, Limited, [32, 240, 118]),
        (WHITE, Bt601, Full, [255, 128, 128]),
        (BLACK, Bt601, Full, [0, 128, 128]),
        // Full-range chroma of pure red is 255.5, which the clamp brings to 255.
        (RED, Bt601, Full, [76, 85, 255]),
    ] {
        let planes = Yuv420::from_rgb(&flat(colour), matrix, range).to_bytes();
        assert_eq!(planes[0], [expected[0]; WIDTH * HEIGHT], "{colour:?}");
        assert_eq!(planes[1], [expected[1]; 6], "{colour:?} {matrix:?} {range:?}");
        assert_eq!(planes[2], [expected[2]; 6], "{colour:?} {matrix:?} {range:?}");
    }
}

#[test]
fn nothing_is_rounded_unless_asked() {
    let grey = flat([0.5; 3]);
    let mut yuv = Yuv420::from_rgb(&grey, Matrix::Bt601, Range::Limited);
    assert!((yuv.y[0] - 125.5).abs() < 1e-4, "{}", yuv.y[0]);
    yuv.y[0] = -3.0;
    yuv.y[1] = 300.0;
    yuv.y[2] = 77.4;
    yuv.round_to_8bit();
    assert_eq!(yuv.y[..3], [0.0, 255.0, 77.0]);
}

#[test]
fn flat_colours_survive_the_round_trip() {
    for matrix in [Matrix::Bt601, Matrix::Bt709] {
        for range in [Range::Limited, Range::Full] {
            let rgb = flat([0.9, 0.2, 0.4]);
            let back = Yuv420::from_rgb(&rgb, matrix, range).to_rgb(matrix, range);
            for (a, b) in rgb.data.iter().zip(&back.data) {
                assert!((a - b).abs() < 1e-5, "{matrix:?} {range:?}: {a} {b}");
            }
        }
    }
}

#[test]
fn impossible_code_values_are_clipped() {
    let mut yuv = picture(2, 2, |_, _| 235.0);
    yuv.v = vec![240.0];
    let rgb = yuv.to_rgb(Matrix::Bt601, Range::Limited);
    assert!(rgb.data.iter().all(|v| (0.0..=1.0).contains(v)));
    assert_eq!(rgb.plane(0), [1.0; 4]);
}

#[test]
fn chroma_is_the_mean_of_its_block_with_replicated_edges() {
    // Blue only, 3×1: columns 0 and 1 share a block, column 2 stands for its own neighbour.
    let mut data = vec![0.0; 9];
    data[6..].copy_from_slice(&[1.0, 0.0, 0.5]);
    let yuv = Yuv420::from_rgb(&Rgb::new(3, 1, data), Matrix::Bt601, Range::Limited);
    assert_eq!(yuv.u.len(), 2);
    for u in &yuv.u {
        assert!((u - (128.0 + 0.5 * 112.0)).abs() < 1e-4, "{:?}", yuv.u);
    }
}

/// Of an odd side chroma has half a sample more than luma: it is not spread over the whole for that.
#[test]
fn chroma_of_odd_pictures_stays_in_its_place_when_they_are_enlarged() {
    let chroma: Vec<f32> = (0..9).map(|i| 100.0 + 40.0 * (i % 3) as f32).collect();
    let (u, v) = (chroma.clone(), chroma);
    let small = Yuv420 { width: 5, height: 5, y: vec![90.0; 25], u, v };
    let large = small.enlarged(2);
    assert_eq!((large.width, large.u.len()), (10, 25));
    // Sample j lies a quarter of a small one before, or after, the middle of one.
    for (j, want) in [(1, 110.0), (2, 130.0), (3, 150.0)] {
        assert!((large.u[5 + j] - want).abs() < 4.0, "{j}: {}", large.u[5 + j]);
    }
}

#[test]
fn bytes_round_trip_and_wrong_sizes_are_refused() {
    let yuv = picture(5, 3, |r, c| (10 * r + c) as f32);
    let planes = yuv.to_bytes();
    let planes = [&planes[0][..], &planes[1][..], &planes[2][..]];
    assert_eq!(Yuv420::from_bytes(5, 3, planes).unwrap(), yuv);
    let error = Yuv420::from_bytes(5, 3, [planes[0], &planes[1][1..], planes[2]]).unwrap_err();
    assert!(error.to_string().contains("U plane"), "{error}");
    assert!(Yuv420::from_bytes(0, 3, [&[], &[], &[]]).is_err());
}

#[test]
fn normalised_channels_are_the_four_phases_and_chroma() {
    let yuv = picture(3, 3, |r, c| 16.0 + 219.0 * (10 * r + c) as f32 / 100.0);
    let channels = yuv.normalised(Range::Limited);
    assert_eq!(channels.len(), 6 * 2 * 2);
    // Row and column 3 repeat row and column 2.
    let expected = [[0, 2, 20, 22], [1, 2, 21, 22], [10, 12, 20, 22], [11, 12, 21, 22]];
    for (channel, expected) in channels.chunks(4).zip(expected) {
        for (got, expected) in channel.iter().zip(expected) {
            assert!((got * 100.0 - expected as f32).abs() < 1e-4, "{channel:?}");
        }
    }
    assert!((channels[16] - ((100.0 - 128.0) / 224.0 + 0.5)).abs() < 1e-6);
    assert!((channels[23] - ((197.0 - 128.0) / 224.0 + 0.5)).abs() < 1e-6);
    let full = yuv.normalised(Range::Full);
    assert_eq!(full[0], 16.0 / 255.0);
    assert!((full[16] - ((100.0 - 128.0) / 255.0 + 0.5)).abs() < 1e-6);
}

#[test]
fn normalising_is_what_the_element_does_at_even_and_odd_sizes() {
    for (width, height) in [(4, 2), (5, 3), (1, 1), (2, 7)] {
        let yuv = picture(width, height, |r, c| (16 + 11 * r + c) as f32);
        for range in [Range::Limited, Range::Full] {
            let channels = yuv.normalised(range);
            let [y, u, v] = yuv.to_bytes();
            let plane = |data, stride_bytes| Plane { data, stride_bytes };
            let half_width = width.div_ceil(2);
            let planes = Planes::Planar {
                y: plane(&y, width),
                u: plane(&u, half_width),
                v: plane(&v, half_width),
                subsampling: Subsampling::Yuv420,
            };
            let format = FrameFormat { width, height, range, samples: SampleFormat::U8 };
            let frame = Frame::new(format, planes).unwrap();
            let mut unpacked = vec![0.0; channels.len()];
            frame.unpack(&mut unpacked);
            for (got, expected) in channels.iter().zip(&unpacked) {
                // Dividing and multiplying by the inverse round differently.
                assert!((got - expected).abs() < 1e-6, "{width}x{height} {range:?}");
            }
        }
    }
}

#[test]
fn names_in_recipes_are_lowercase() {
    #[derive(serde::Deserialize)]
    struct Recipe {
        matrix: Matrix,
        range: Range,
    }
    let recipe: Recipe = toml::from_str("matrix = \"bt709\"\nrange = \"full\"").unwrap();
    assert_eq!(recipe.matrix, Matrix::Bt709);
    assert_eq!(recipe.range, Range::Full);
}
