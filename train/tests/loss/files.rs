//! Weight files: what is read, and what is refused with the file's and the tensor's name.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use tunableconv_train::loss::features::FeatureNet;
use tunableconv_train::loss::perceptual::Lpips;

use super::{CPU, Tensors, picture, tiny_heads, tiny_squeezenet, tiny_vgg, uniform, values};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, tensors: &Tensors, input: Option<&str>) -> PathBuf {
        let path = self.0.path().join(name);
        let metadata = input.map(|input| HashMap::from([("input".into(), input.into())]));
        safetensors::serialize_to_file(tensors, metadata, &path).unwrap();
        path
    }
}

/// What loading a VGG-19 with one changed tensor complains about.
fn complaint(change: impl Fn(&mut Tensors), input: Option<&str>) -> String {
    let mut tensors = tiny_vgg();
    change(&mut tensors);
    let folder = Folder::new();
    let path = folder.write("net.safetensors", &tensors, input);
    let error = FeatureNet::load(&path, &CPU).err().unwrap().to_string();
    assert!(error.contains("net.safetensors"), "{error}");
    error
}

#[test]
fn fp16_weights_are_read_as_f32() {
    let folder = Folder::new();
    for (tensors, name) in [(tiny_vgg(), "VGG-19"), (tiny_squeezenet(), "SqueezeNet 1.1")] {
        let to = |tensors: &Tensors, dtype| -> Tensors {
            let convert =
                |(name, t): (&String, &Tensor)| (name.clone(), t.to_dtype(dtype).unwrap());
            tensors.iter().map(convert).collect()
        };
        let half = to(&tensors, DType::F16);
        let path = folder.write("half.safetensors", &half, None);
        let net = FeatureNet::load(&path, &CPU).unwrap();
        assert_eq!(net.layout(), name);
        let same = FeatureNet::from_tensors(to(&half, DType::F32)).unwrap();
        let x = picture(&[1, 3, 20, 20], 1).to_dtype(DType::F32).unwrap();
        let pairs = net.features(&x).unwrap().into_iter().zip(same.features(&x).unwrap());
        for (a, b) in pairs {
            let flat = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(a), flat(b));
        }
    }
}

#[test]
fn the_files_metadata_decide_how_the_input_is_normalised() {
    let folder = Folder::new();
    let x = picture(&[1, 3, 8, 8], 1).to_dtype(DType::F32).unwrap();
    let first = |input: Option<&str>, rgb: &Tensor| {
        let path = folder.write("net.safetensors", &tiny_vgg(), input);
        let net = FeatureNet::load(&path, &CPU).unwrap();
        values(&net.features(rgb).unwrap()[0].to_dtype(DType::F64).unwrap())
    };
    assert_eq!(first(None, &x), first(Some("RGB in [0,1]"), &x));
    // Where 255 v − m = (w − mean) / deviation, both nets see the same.
    let per_channel = |v: [f32; 3]| Tensor::new(&v, &CPU).unwrap().reshape((1, 3, 1, 1)).unwrap();
    let moved = (&x * 255.0).unwrap().broadcast_sub(&per_channel([123.68, 116.779, 103.939]));
    let moved = moved.unwrap().broadcast_mul(&per_channel([0.229, 0.224, 0.225])).unwrap();
    let moved = moved.broadcast_add(&per_channel([0.485, 0.456, 0.406])).unwrap();
    let oxford = first(Some("RGB in [0,255], minus mean"), &x);
    assert!(oxford.iter().any(|v| *v > 1.0));
    for (a, b) in oxford.iter().zip(first(None, &moved)) {
        assert!((a - b).abs() < 1e-3, "{a} {b}");
    }
}

#[test]
fn wrong_files_are_refused() {
    let none = |_: &mut Tensors| ();
    let error = complaint(none, Some("BGR in [0,1024]"));
    assert!(error.contains("[0,1024]") && error.contains("[0,255]"), "{error}");

    let remove = |t: &mut Tensors| drop(t.remove("features.16.weight"));
    let error = complaint(remove, None);
    assert!(error.contains("no tensor features.16.weight"), "{error}");
    assert!(error.contains("[any, 3, 3, 3]"), "{error}");

    let reshape = |t: &mut Tensors| {
        t.insert("features.7.bias".into(), uniform(&[2], 0.0..1.0, 1));
    };
    let error = complaint(reshape, None);
    assert!(error.contains("features.7.bias has shape [2], expected [4]"), "{error}");

    let break_value = |t: &mut Tensors| {
        let nan = Tensor::full(f64::NAN, t["features.7.bias"].shape(), &CPU).unwrap();
        t.insert("features.7.bias".into(), nan);
    };
    let error = complaint(break_value, None);
    assert!(error.contains("features.7.bias has values that are not finite"), "{error}");

    let error = complaint(|t| *t = tiny_heads(), None);
    assert!(error.contains("neither SqueezeNet 1.1"), "{error}");

    let folder = Folder::new();
    let path = folder.0.path().join("text.safetensors");
    std::fs::write(&path, "these are not weights").unwrap();
    let error = FeatureNet::load(&path, &CPU).err().unwrap().to_string();
    assert!(error.contains("text.safetensors is not a safetensors file"), "{error}");
    let error = FeatureNet::load(&folder.0.path().join("gone"), &CPU).err().unwrap();
    assert!(error.to_string().contains("cannot read"), "{error}");
}

#[test]
fn lpips_needs_its_net_and_all_heads() {
    let folder = Folder::new();
    let squeezenet = folder.write("squeeze.safetensors", &tiny_squeezenet(), None);
    let heads = folder.write("heads.safetensors", &tiny_heads(), None);
    assert!(Lpips::load(&squeezenet, &heads, &CPU).is_ok());

    let mut tensors = tiny_heads();
    tensors.insert("lin3.weight".into(), uniform(&[1, 9, 1, 1], 0.0..1.0, 1));
    let wrong = folder.write("wrong.safetensors", &tensors, None);
    let error = Lpips::load(&squeezenet, &wrong, &CPU).err().unwrap().to_string();
    assert!(error.contains("wrong.safetensors"), "{error}");
    assert!(error.contains("lin3.weight has shape [1, 9, 1, 1], expected [1, 8, 1, 1]"), "{error}");

    let vgg = folder.write("vgg.safetensors", &tiny_vgg(), None);
    let error = Lpips::load(&vgg, &heads, &CPU).err().unwrap().to_string();
    assert!(error.contains("vgg.safetensors: LPIPS needs SqueezeNet 1.1"), "{error}");
}
