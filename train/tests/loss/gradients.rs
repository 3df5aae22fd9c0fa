//! Every loss against central differences in f64.

use candle_core::{DType, Result, Tensor, Var};
use tunableconv::nn::TensorSpec;
use tunableconv_train::loss::adversarial::{
    AdversarialKind, Discriminator, DiscriminatorConfig, discriminator_loss, generator_loss,
};
use tunableconv_train::loss::features::FeatureNet;
use tunableconv_train::loss::perceptual::{
    Lpips, feature_loss, gram, matrix_loss, relative_feature_loss, relative_matrix_loss,
};
use tunableconv_train::loss::{colour, pixel, ssim};
use tunableconv_train::yuv::Matrix;

use super::{
    CPU, Tensors, picture, similar, tiny_heads, tiny_squeezenet, tiny_vgg, uniform, values,
};

const STEP: f64 = 1e-6;

/// Largest error of a derivative, relative to the largest derivative of its input.
const TOLERANCE: f64 = 1e-5;

/// Derivatives checked per input; larger ones are sampled evenly.
const CHECKED: usize = 150;

type Loss<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Checks the gradients of all inputs, through a weighted sum that tells outputs apart.
fn check(name: &str, inputs: &[Tensor], loss: Loss) {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let total = |tensors: &[Tensor]| {
        let outputs = loss(tensors).unwrap();
        let weights = uniform(outputs.dims(), 0.5..1.5, 77);
        (outputs * weights).unwrap().sum_all().unwrap()
    };
    let grads = total(&tensors).backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let got = values(grads.get(var).unwrap());
        let largest = got.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        assert!(largest > 0.0, "{name}: input {i} has no gradient");
        let at = values(var);
        for j in (0..at.len()).step_by(at.len().div_ceil(CHECKED)) {
            let moved = |step: f64| {
                let mut moved = at.clone();
                moved[j] += step;
                let mut inputs = inputs.to_vec();
                inputs[i] = Tensor::from_vec(moved, var.shape(), &CPU).unwrap();
                total(&inputs).to_scalar::<f64>().unwrap()
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let error = (got[j] - expected).abs() / largest;
            assert!(error < TOLERANCE, "{name}: input {i}[{j}]: {} {expected}", got[j]);
        }
    }
}

/// Checks gradients, and that a sample's value is the same without the others.
fn check_per_sample(name: &str, inputs: &[Tensor], loss: Loss) {
    check(name, inputs, loss);
    let n = inputs[0].dim(0).unwrap();
    let together = loss(inputs).unwrap();
    assert_eq!(together.dims(), [n], "{name}");
    for (i, expected) in values(&together).into_iter().enumerate() {
        let one: Vec<Tensor> = inputs.iter().map(|x| x.narrow(0, i, 1).unwrap()).collect();
        let alone = values(&loss(&one).unwrap())[0];
        assert!((alone - expected).abs() < 1e-12 * expected.abs(), "{name}: {alone} {expected}");
    }
}

/// Checks the same, and that values in f32 agree.
fn check_in_f32(name: &str, inputs: &[Tensor], loss: Loss) {
    check_per_sample(name, inputs, loss);
    let singles: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
    let singles = loss(&singles).unwrap();
    assert_eq!(singles.dtype(), DType::F32, "{name}");
    let singles = values(&singles.to_dtype(DType::F64).unwrap());
    for (got, expected) in singles.iter().zip(values(&loss(inputs).unwrap())) {
        assert!((got - expected).abs() < 1e-4 * expected.abs(), "{name}: {got} {expected}");
    }
}

fn pair(shape: &[usize]) -> [Tensor; 2] {
    let x = picture(shape, 1);
    [x.clone(), similar(&x, 2)]
}

#[test]
fn of_pixel_losses() {
    let xy = pair(&[2, 3, 5, 7]);
    check_in_f32("l1", &xy, &|t| pixel::l1(&t[0], &t[1]));
    check_in_f32("l2", &xy, &|t| pixel::l2(&t[0], &t[1]));
    for epsilon in [1e-3, 0.3] {
        check_in_f32("charbonnier", &xy, &|t| pixel::charbonnier(&t[0], &t[1], epsilon));
    }
    check_in_f32("total variation", &xy[..1], &|t| pixel::total_variation(&t[0]));
    let line = [picture(&[2, 3, 1, 7], 3)];
    check_in_f32("total variation", &line, &|t| pixel::total_variation(&t[0]));
}

#[test]
fn of_pixel_losses_vanish_between_equal_values() {
    let x = Var::from_tensor(&Tensor::full(0.25, (2, 1, 3, 3), &CPU).unwrap()).unwrap();
    let y = x.as_tensor().detach();
    for loss in [
        pixel::l1(&x, &y),
        pixel::l2(&x, &y),
        pixel::charbonnier(&x, &y, 1e-6),
        pixel::total_variation(&x),
    ] {
        let grads = loss.unwrap().sum_all().unwrap().backward().unwrap();
        assert!(values(grads.get(&x).unwrap()).iter().all(|g| *g == 0.0));
    }
}

#[test]
fn of_structural_similarity() {
    check_in_f32("ssim", &pair(&[2, 2, 13, 12]), &|t| ssim::ssim(&t[0], &t[1]));
    for shape in [[2, 2, 11, 17], [2, 1, 25, 23], [1, 1, 45, 47]] {
        check_in_f32("ms_ssim", &pair(&shape), &|t| ssim::ms_ssim(&t[0], &t[1]));
    }
}

#[test]
fn of_opposite_structures_are_finite() {
    let x = Var::from_tensor(&picture(&[1, 1, 24, 24], 1)).unwrap();
    let opposite = x.detach().affine(-1.0, 1.0).unwrap();
    let score = ssim::ms_ssim(&x, &opposite).unwrap();
    assert!((0.0..0.01).contains(&values(&score)[0]), "{score}");
    let grads = score.backward().unwrap();
    assert!(values(grads.get(&x).unwrap()).iter().all(|g| g.is_finite()));
}

#[test]
fn of_gram_matrices() {
    check("gram", &[uniform(&[2, 3, 4, 5], -1.0..1.0, 1)], &|t| gram(&t[0]));
}

type StyleLoss = fn(&[Tensor], &[Tensor]) -> Result<Tensor>;

/// Distances of features, in content and in style.
fn check_features(name: &str, tensors: Tensors, shape: &[usize]) {
    let net = FeatureNet::from_tensors(tensors).unwrap();
    let xy = pair(shape);
    for (tap, features) in net.features(&xy[0]).unwrap().iter().enumerate() {
        assert!(values(features).iter().any(|v| *v > 0.0), "{name}: tap {tap} is dead");
    }
    check_per_sample(name, &xy, &|t| feature_loss(&net.features(&t[0])?, &net.features(&t[1])?));
    check_per_sample(&format!("{name}, relative"), &xy, &|t| {
        relative_feature_loss(&net.features(&t[0])?, &net.features(&t[1])?)
    });
    for (which, loss) in [("style", matrix_loss as StyleLoss), ("relative", relative_matrix_loss)] {
        check_per_sample(&format!("{name}, {which} style"), &xy, &|t| {
            let targets: Result<Vec<_>> = net.features(&t[1])?.iter().map(gram).collect();
            let grams: Result<Vec<_>> = net.features(&t[0])?.iter().map(gram).collect();
            loss(&grams?, &targets?)
        });
    }
}

#[test]
fn through_vgg() {
    check_features("vgg", tiny_vgg(), &[2, 3, 9, 11]);
}

#[test]
fn through_squeezenet() {
    check_features("squeezenet", tiny_squeezenet(), &[2, 3, 19, 18]);
}

#[test]
fn of_lpips() {
    let net = FeatureNet::from_tensors(tiny_squeezenet()).unwrap();
    let lpips = Lpips::from_tensors(net, tiny_heads()).unwrap();
    check_per_sample("lpips", &pair(&[2, 3, 18, 23]), &|t| lpips.distance(&t[0], &t[1]));
}

#[test]
fn of_lpips_are_finite_where_features_are_zero() {
    for dtype in [DType::F32, DType::F64] {
        let convert = |(name, tensor): (String, Tensor)| {
            let dead = name.starts_with("features.12.expand");
            let tensor = if dead { (tensor.abs().unwrap() * -1.0).unwrap() } else { tensor };
            (name, tensor.to_dtype(dtype).unwrap())
        };
        let net: Tensors = tiny_squeezenet().into_iter().map(convert).collect();
        let heads: Tensors = tiny_heads().into_iter().map(convert).collect();
        let net = FeatureNet::from_tensors(net).unwrap();
        let [x, y] = pair(&[1, 3, 18, 23]).map(|t| t.to_dtype(dtype).unwrap());
        let x = Var::from_tensor(&x).unwrap();
        let last = net.features(&x).unwrap().pop().unwrap().to_dtype(DType::F64).unwrap();
        assert!(values(&last).iter().all(|v| *v == 0.0));
        let lpips = Lpips::from_tensors(net, heads).unwrap();
        let grads = lpips.distance(&x, &y).unwrap().backward().unwrap();
        let grads = grads.get(&x).unwrap().to_dtype(DType::F64).unwrap();
        assert!(values(&grads).iter().all(|g| g.is_finite()));
    }
}

#[test]
fn of_both_games() {
    let logits = |seed| uniform(&[3, 1, 2, 3], -2.0..2.0, seed);
    let (real, fake) = (logits(1), logits(2));
    for kind in [AdversarialKind::Hinge, AdversarialKind::Relativistic] {
        let both = [real.clone(), fake.clone()];
        check("discriminator", &both, &|t| discriminator_loss(kind, &t[0], &t[1]));
        check("generator", &both[1..], &|t| generator_loss(kind, &real, &t[0]));
    }
}

#[test]
fn through_the_discriminator() {
    let config = DiscriminatorConfig { channels: 2, layers: 2 };
    let specs = config.tensors();
    let mut inputs = vec![picture(&[2, 3, 14, 17], 1), picture(&[2, 3, 14, 17], 2)];
    let weight = |(i, s): (usize, &TensorSpec)| uniform(&s.shape, -0.5..0.5, 10 + i as u64);
    inputs.extend(specs.iter().enumerate().map(weight));
    for kind in [AdversarialKind::Hinge, AdversarialKind::Relativistic] {
        check("discriminator", &inputs, &|t| {
            let named = specs.iter().zip(&t[2..]).map(|(s, t)| (s.name.clone(), t.clone()));
            let net = Discriminator::from_tensors(&config, &named.collect()).unwrap();
            // The real logits are added because the last bias cancels in a relativistic loss.
            let real = net.forward(&t[0])?;
            let loss = discriminator_loss(kind, &real, &net.forward(&t[1])?)?;
            loss + real.flatten_from(1)?.mean(1)?
        });
    }
}

#[test]
fn of_colour_conversion() {
    let planes = [uniform(&[2, 6, 3, 2], 0.0..1.0, 1)];
    let matrices = [Matrix::Bt709, Matrix::Bt601];
    check("rgb", &planes, &|t| colour::rgb(&t[0], &matrices));
    let luma = [planes[0].narrow(1, 0, 4).unwrap().contiguous().unwrap()];
    let chroma = planes[0].narrow(1, 4, 2).unwrap();
    check("luma", &luma, &|t| colour::luma(&Tensor::cat(&[&t[0], &chroma], 1)?));
}
