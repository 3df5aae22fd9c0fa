//! Values that published code gives, recorded by `tests/data/references.py`, which names the
//! versions: scikit-image, pytorch-msssim, lpips, and VGG-19 by PyTorch.

use std::env;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use image::RgbImage;
use tunableconv_train::loss::features::FeatureNet;
use tunableconv_train::loss::perceptual::{Lpips, feature_loss, gram, style_loss};
use tunableconv_train::loss::ssim;

use super::{CPU, values};

struct Reference {
    file: &'static str,
    ssim: f64,
    ms_ssim: f64,
    lpips: f64,
    vgg_features: f64,
    vgg_style: f64,
}

const REFERENCES: [Reference; 2] = [
    Reference {
        file: "houses.png",
        ssim: 0.602_537_973_511_395_6,
        ms_ssim: 0.907_318_999_248_300_5,
        lpips: 0.050_872_062_907_615_92,
        vgg_features: 29_263.608_432_304_918,
        vgg_style: 1_963_763_756.516_704_8,
    },
    Reference {
        file: "glass.png",
        ssim: 0.644_868_592_443_685_2,
        ms_ssim: 0.915_605_045_176_029_4,
        lpips: 0.139_691_777_597_950_82,
        vgg_features: 26_472.185_082_666_423,
        vgg_style: 1_317_644_731.855_682_6,
    },
];

/// Both pictures and, as a degradation that any program can reproduce exactly, themselves shifted
/// left by a pixel and quantised to steps of 24 code values: `[2, 3, 192, 192]`, f64.
fn pairs() -> (Tensor, Tensor) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let images = REFERENCES.map(|r| image::open(dir.join(r.file)).unwrap().into_rgb8());
    let degraded = images.each_ref().map(|image| {
        RgbImage::from_fn(image.width(), image.height(), |x, y| {
            let source = image.get_pixel((x + 1).min(image.width() - 1), y);
            image::Rgb(source.0.map(|v| v / 24 * 24 + 12))
        })
    });
    (tensor(&images), tensor(&degraded))
}

fn tensor(images: &[RgbImage]) -> Tensor {
    let (width, height) = images[0].dimensions();
    let bytes: Vec<u8> = images.iter().flat_map(|image| image.as_raw().clone()).collect();
    let shape = (images.len(), height as usize, width as usize, 3);
    let bytes = Tensor::from_vec(bytes, shape, &CPU).unwrap().to_dtype(DType::F64).unwrap();
    (bytes / 255.0).unwrap().permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
}

/// Compares, in the order of the references, and prints what was seen.
fn compare(name: &str, got: &Tensor, expected: impl Fn(&Reference) -> f64, tolerance: f64) {
    let got = values(&got.to_dtype(DType::F64).unwrap());
    for (got, reference) in got.iter().zip(&REFERENCES) {
        let expected = expected(reference);
        let error = (got / expected - 1.0).abs();
        println!("{name} {}: {got:.9}, reference {expected:.9}", reference.file);
        assert!(error < tolerance, "{name} {}: {got} {expected}", reference.file);
    }
}

#[test]
fn similarity_is_that_of_scikit_image_and_pytorch_msssim() {
    let (x, y) = pairs();
    compare("ssim", &ssim::ssim(&x, &y).unwrap(), |r| r.ssim, 1e-9);
    compare("ms_ssim", &ssim::ms_ssim(&x, &y).unwrap(), |r| r.ms_ssim, 1e-9);
    let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    let (x, y) = (single(&x), single(&y));
    compare("ssim in f32", &ssim::ssim(&x, &y).unwrap(), |r| r.ssim, 1e-4);
    compare("ms_ssim in f32", &ssim::ms_ssim(&x, &y).unwrap(), |r| r.ms_ssim, 1e-4);
}

/// Where the weights of the feature nets lie; this project carries none.
fn weights() -> Option<PathBuf> {
    let folder = env::var_os("TUNABLECONV_WEIGHTS").map(PathBuf::from);
    if folder.is_none() {
        println!("not run: TUNABLECONV_WEIGHTS names no folder of weights");
    }
    folder
}

#[test]
fn lpips_is_the_published_one() {
    let Some(folder) = weights() else { return };
    let squeezenet = folder.join("squeezenet1_1.safetensors");
    let heads = folder.join("lpips_v0.1_squeeze_lin.safetensors");
    let lpips = Lpips::load(&squeezenet, &heads, &CPU).unwrap();
    let (x, y) = pairs();
    let single = |t: Tensor| t.to_dtype(DType::F32).unwrap();
    let distance = lpips.distance(&single(x), &single(y)).unwrap();
    compare("lpips", &distance, |r| r.lpips, 1e-4);
}

#[test]
fn vgg_is_that_of_pytorch() {
    let Some(folder) = weights() else { return };
    let path = folder.join("vgg19_relu4_1_fp16.safetensors");
    let net = FeatureNet::load(&path, &CPU).unwrap();
    let (x, y) = pairs();
    let features = |t: Tensor| net.features(&t.to_dtype(DType::F32).unwrap()).unwrap();
    let (x, y) = (features(x), features(y));
    compare("vgg features", &feature_loss(&x, &y).unwrap(), |r| r.vgg_features, 1e-4);
    let grams: Vec<Tensor> = y.iter().map(|f| gram(f).unwrap()).collect();
    compare("vgg style", &style_loss(&x, &grams).unwrap(), |r| r.vgg_style, 1e-4);
}
