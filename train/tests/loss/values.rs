//! Values against hand-made numbers and plain loops.

use candle_core::Tensor;
use tunableconv_train::loss::features::{FeatureNet, SharedFeatures};
use tunableconv_train::loss::perceptual::{
    Lpips, feature_loss, gram, relative_feature_loss, relative_matrix_loss, style_loss,
};
use tunableconv_train::loss::{colour, pixel, ssim};
use tunableconv_train::yuv::{Matrix, Range, Yuv420};

use super::naive::{self, Map};
use super::{CPU, picture, similar, tiny_heads, tiny_squeezenet, tiny_vgg, uniform, values};

fn map(x: &Tensor, sample: usize) -> Map {
    let x = x.get(sample).unwrap();
    let (c, h, w) = x.dims3().unwrap();
    Map { c, h, w, data: values(&x) }
}

fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let scale = expected.abs().max(1.0);
        assert!((got - expected).abs() < tolerance * scale, "{got} {expected}");
    }
}

#[test]
fn pixel_losses_of_known_differences() {
    let x = Tensor::new(&[[[[1.0, 4.0, 2.0], [1.0, 1.0, 1.0]]]], &CPU).unwrap();
    let y = Tensor::new(&[[[[1.0, 1.0, 6.0], [1.0, 1.0, 1.0]]]], &CPU).unwrap();
    let one = |loss: candle_core::Result<Tensor>| values(&loss.unwrap())[0];
    assert_close(&[one(pixel::l1(&x, &y))], &[7.0 / 6.0], 1e-12);
    assert_close(&[one(pixel::l2(&x, &y))], &[25.0 / 6.0], 1e-12);
    let charbonnier = (4.0 * 0.5 + 9.25f64.sqrt() + 16.25f64.sqrt()) / 6.0;
    assert_close(&[one(pixel::charbonnier(&x, &y, 0.5))], &[charbonnier], 1e-12);
    // Down 0, 3, 1; across 3, 2, 0, 0.
    assert_close(&[one(pixel::total_variation(&x))], &[4.0 / 3.0 + 5.0 / 4.0], 1e-12);
    assert_eq!(one(pixel::total_variation(&picture(&[1, 1, 1, 1], 1))), 0.0);
    for epsilon in [0.0, -1.0, f64::NAN] {
        let error = pixel::charbonnier(&x, &y, epsilon).unwrap_err().to_string();
        assert!(error.contains("epsilon"), "{error}");
    }
}

#[test]
fn ssim_is_its_definition() {
    let x = picture(&[2, 2, 14, 12], 1);
    let y = similar(&x, 2);
    let expected: Vec<f64> = (0..2)
        .map(|n| {
            let plane = |t: &Tensor, c| map(&t.narrow(1, c, 1).unwrap(), n);
            (0..2).map(|c| naive::similarity(&plane(&x, c), &plane(&y, c)).0 / 2.0).sum()
        })
        .collect();
    assert_close(&values(&ssim::ssim(&x, &y).unwrap()), &expected, 1e-12);
    assert!(expected.iter().all(|v| (0.3..0.99).contains(v)), "{expected:?}");
    assert_close(&values(&ssim::ssim(&x, &x).unwrap()), &[1.0, 1.0], 1e-12);
}

#[test]
fn ms_ssim_takes_the_scales_that_fit() {
    let weights = [0.0448, 0.2856, 0.3001];
    for (h, w, scales) in [(11, 21, 1), (23, 30, 2), (46, 44, 3)] {
        let x = picture(&[1, 1, h, w], 1);
        let y = similar(&x, 2);
        // The five published exponents sum to 1.0001.
        let share = weights[..scales].iter().sum::<f64>() / 1.0001;
        let (mut a, mut b) = (map(&x, 0), map(&y, 0));
        let mut expected = 1.0;
        for (scale, weight) in weights[..scales].iter().enumerate() {
            let (whole, structure) = naive::similarity(&a, &b);
            let factor = if scale + 1 == scales { whole } else { structure };
            expected *= f64::powf(factor, weight / share);
            (a, b) = (naive::halve(&a), naive::halve(&b));
        }
        assert_close(&values(&ssim::ms_ssim(&x, &y).unwrap()), &[expected], 1e-12);
        assert_close(&values(&ssim::ms_ssim(&x, &x).unwrap()), &[1.0], 1e-12);
    }
}

#[test]
fn similarity_refuses_what_no_window_fits() {
    let x = picture(&[1, 1, 10, 30], 1);
    for result in [ssim::ssim(&x, &x), ssim::ms_ssim(&x, &x)] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("at least 11×11 pixels, got 30×10"), "{error}");
    }
    let error = ssim::ssim(&x, &picture(&[1, 1, 30, 10], 1)).unwrap_err().to_string();
    assert!(error.contains("different shapes"), "{error}");
}

#[test]
fn feature_nets_equal_plain_loops() {
    // Odd and even sides at every pooling, the least sides that fit, and larger ones.
    for (h, w) in [(17, 18), (31, 26), (21, 35)] {
        let x = picture(&[2, 3, h, w], 1);
        for (tensors, net) in [
            (tiny_vgg(), naive::vgg as fn(&super::Tensors, &Map) -> Vec<Map>),
            (tiny_squeezenet(), naive::squeezenet),
        ] {
            let features = FeatureNet::from_tensors(tensors.clone()).unwrap();
            let taps = features.features(&x).unwrap();
            let expected: Vec<_> = (0..2).map(|n| net(&tensors, &map(&x, n))).collect();
            assert_eq!(taps.len(), expected[0].len());
            assert_eq!(taps.len(), features.taps().len());
            for (i, tap) in taps.iter().enumerate() {
                let Map { c, h, w, .. } = expected[0][i];
                assert_eq!(tap.dims(), [2, c, h, w]);
                assert_eq!(features.widths()[i], c);
                for (n, maps) in expected.iter().enumerate() {
                    assert_close(&values(&tap.get(n).unwrap()), &maps[i].data, 1e-12);
                }
            }
        }
    }
}

#[test]
fn feature_nets_refuse_pictures_that_shrink_to_nothing() {
    for (tensors, least) in [(tiny_vgg(), 8), (tiny_squeezenet(), 17)] {
        let net = FeatureNet::from_tensors(tensors).unwrap();
        assert!(net.features(&picture(&[1, 3, least, least], 1)).is_ok());
        let error = net.features(&picture(&[1, 3, least, least - 1], 1)).unwrap_err();
        assert!(error.to_string().contains("max pooling"), "{error}");
    }
}

#[test]
fn feature_and_style_distances_equal_plain_loops() {
    let features = |seed| {
        [uniform(&[2, 3, 4, 5], -1.0..1.0, seed), uniform(&[2, 2, 3, 2], -1.0..1.0, seed + 1)]
    };
    let (x, y) = (features(1), features(3));
    let (mut content, mut style) = ([0.0; 2], [0.0; 2]);
    for (x, y) in x.iter().zip(&y) {
        for n in 0..2 {
            let (x, y) = (map(x, n), map(y, n));
            let (size, len) = (x.h * x.w, x.data.len() as f64);
            let squares = x.data.iter().zip(&y.data).map(|(a, b)| (a - b).powi(2));
            content[n] += squares.sum::<f64>() / len / 2.0;
            let product = |m: &Map, i: usize, j: usize| {
                let plane = |c: usize| &m.data[c * size..][..size];
                plane(i).iter().zip(plane(j)).map(|(a, b)| a * b).sum::<f64>() / len
            };
            for (i, j) in (0..x.c).flat_map(|i| (0..x.c).map(move |j| (i, j))) {
                style[n] += (product(&x, i, j) - product(&y, i, j)).powi(2) / 2.0;
            }
        }
    }
    assert_close(&values(&feature_loss(&x, &y).unwrap()), &content, 1e-12);
    let grams: Vec<Tensor> = y.iter().map(|f| gram(f).unwrap()).collect();
    assert_close(&values(&style_loss(&x, &grams).unwrap()), &style, 1e-12);
    // One style for all samples.
    let first: Vec<Tensor> = grams.iter().map(|g| g.narrow(0, 0, 1).unwrap()).collect();
    assert_close(&values(&style_loss(&x, &first).unwrap())[..1], &style[..1], 1e-12);

    assert!(feature_loss(&x, &y[..1]).is_err());
    assert!(feature_loss(&[], &[]).is_err());
}

#[test]
fn relative_distances_are_in_units_of_what_the_target_differs_from_nothing() {
    let x = [uniform(&[2, 3, 4, 5], -1.0..1.0, 1), uniform(&[2, 2, 3, 2], -1.0..1.0, 2)];
    let y = [uniform(&[2, 3, 4, 5], -1.0..1.0, 3), uniform(&[2, 2, 3, 2], -1.0..1.0, 4)];
    let nothing: Vec<Tensor> = y.iter().map(|y| y.zeros_like().unwrap()).collect();
    let grams: Vec<Tensor> = y.iter().map(|f| gram(f).unwrap()).collect();
    assert_close(&values(&relative_feature_loss(&nothing, &y).unwrap()), &[1.0; 2], 1e-12);
    let relative_style_loss = |x: &[Tensor], targets: &[Tensor]| {
        let grams: Vec<Tensor> = x.iter().map(|f| gram(f).unwrap()).collect();
        relative_matrix_loss(&grams, targets)
    };
    assert_close(&values(&relative_style_loss(&nothing, &grams).unwrap()), &[1.0; 2], 1e-12);
    let (mut content, mut style) = ([0.0; 2], [0.0; 2]);
    for tap in 0..2 {
        let one = |t: &[Tensor]| vec![t[tap].clone()];
        let of = |loss: Tensor, unit: Tensor, sum: &mut [f64; 2]| {
            let parts = values(&loss).into_iter().zip(values(&unit));
            parts.zip(sum).for_each(|((loss, unit), sum)| *sum += loss / unit / 2.0);
        };
        let unit = feature_loss(&one(&nothing), &one(&y)).unwrap();
        of(feature_loss(&one(&x), &one(&y)).unwrap(), unit, &mut content);
        let unit = style_loss(&one(&nothing), &one(&grams)).unwrap();
        of(style_loss(&one(&x), &one(&grams)).unwrap(), unit, &mut style);
    }
    assert_close(&values(&relative_feature_loss(&x, &y).unwrap()), &content, 1e-12);
    assert_close(&values(&relative_style_loss(&x, &grams).unwrap()), &style, 1e-12);
    // Of one style for all samples, and of a target without any.
    let first: Vec<Tensor> = grams.iter().map(|g| g.narrow(0, 0, 1).unwrap()).collect();
    assert_close(&values(&relative_style_loss(&x, &first).unwrap())[..1], &style[..1], 1e-12);
    assert!(values(&relative_feature_loss(&nothing, &nothing).unwrap()).iter().all(|v| *v == 0.0));
}

#[test]
fn a_picture_goes_through_the_net_once_however_many_losses_look_at_it() {
    let net = FeatureNet::from_tensors(tiny_vgg()).unwrap();
    let (x, y) = (picture(&[2, 3, 9, 11], 1), picture(&[2, 3, 9, 11], 2));
    let shared = SharedFeatures::new(&net);
    let mut asked = 0;
    // Deeper the second time, and back, in another order.
    for taps in [&[1][..], &[0, 3], &[2, 0]] {
        for picture in [&x, &y] {
            let ask = |picture: &Tensor| {
                asked += 1;
                Ok(picture.clone())
            };
            let all = net.features(picture).unwrap();
            let seen = shared.at(picture, taps, ask).unwrap();
            assert_eq!(seen.len(), taps.len());
            for (tap, seen) in taps.iter().zip(seen) {
                assert_eq!(values(&seen), values(&all[*tap]));
            }
        }
    }
    assert_eq!(asked, 2);

    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(net.select(&[]).unwrap(), [0, 1, 2, 3]);
    assert_eq!(net.select(&names(&["relu3_1", "relu1_1"])).unwrap(), [2, 0]);
    let error = net.select(&names(&["relu3_1", "fire5"])).unwrap_err().to_string();
    assert!(error.contains("`fire5` in VGG-19") && error.contains("relu4_1"), "{error}");
}

#[test]
fn lpips_equals_plain_loops() {
    let tensors = tiny_squeezenet();
    let net = FeatureNet::from_tensors(tensors.clone()).unwrap();
    let lpips = Lpips::from_tensors(net, tiny_heads()).unwrap();
    let x = picture(&[2, 3, 20, 33], 1);
    let y = similar(&x, 2);
    let expected: Vec<f64> = (0..2)
        .map(|n| {
            let features = |t: &Tensor| naive::squeezenet(&tensors, &map(t, n));
            naive::lpips(&features(&x), &features(&y), &tiny_heads())
        })
        .collect();
    assert!(expected.iter().all(|v| *v > 0.01), "{expected:?}");
    assert_close(&values(&lpips.distance(&x, &y).unwrap()), &expected, 1e-12);
    assert_eq!(values(&lpips.distance(&x, &x).unwrap()), [0.0, 0.0]);
}

#[test]
fn colour_is_that_of_the_pictures() {
    let (width, height) = (6, 4);
    let code_values = |len, seed| -> Vec<f32> {
        // In gamut for both matrices: the pictures' conversion clips.
        values(&uniform(&[len], 100.0..150.0, seed)).iter().map(|v| *v as f32).collect()
    };
    let cases = [(Matrix::Bt601, Range::Limited), (Matrix::Bt709, Range::Full)];
    let pictures: Vec<Yuv420> = (0..2)
        .map(|n| Yuv420 {
            width,
            height,
            y: code_values(24, n),
            u: code_values(6, 10 + n),
            v: code_values(6, 20 + n),
        })
        .collect();
    let planes: Vec<f32> =
        pictures.iter().zip(cases).flat_map(|(picture, (_, r))| picture.normalised(r)).collect();
    let planes = Tensor::from_vec(planes, (2, 6, 2, 3), &CPU).unwrap();
    let rgb = colour::rgb(&planes, &cases.map(|(matrix, _)| matrix)).unwrap();
    let luma = colour::luma(&planes).unwrap();
    assert_eq!(rgb.dims(), [2, 3, height, width]);
    assert_eq!(luma.dims(), [2, 1, height, width]);
    for (n, (picture, (matrix, range))) in pictures.iter().zip(cases).enumerate() {
        let flat = |t: &Tensor| t.get(n).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (got, expected) in flat(&rgb).iter().zip(&picture.to_rgb(matrix, range).data) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
        let (black, span) = range.luma(8);
        for (got, code) in flat(&luma).iter().zip(&picture.y) {
            assert!((got - (code - black) / span).abs() < 1e-6, "{got} {code}");
        }
    }
    assert!(colour::rgb(&planes, &[Matrix::Bt601]).is_err());
    assert!(colour::luma(&planes.narrow(1, 0, 5).unwrap()).is_err());
}
