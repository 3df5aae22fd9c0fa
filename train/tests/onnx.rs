//! Exported models, run by rten, against the net itself.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use candle_core::{Device, Module as _, Tensor};
use common::Workplace;
use prost::Message as _;
use rten::Value;
use rten_tensor::Layout as _;
use tunableconv::checkpoint::{
    Architecture, Calibration, Checkpoint, Metadata, Provenance, STATISTICS,
};
use tunableconv::frame::{
    Frame, FrameFormat, FrameMut, Plane, PlaneMut, Planes, Range, SampleFormat, Subsampling,
};
use tunableconv::net::Net;
use tunableconv::nn::{Mode, PhiConfig, TwoScaleConfig, VideoNetConfig};
use tunableconv::tuning::{Domain, Parameter, TuningSpace};
use tunableconv_train::export_onnx::{Form, model};
use tunableconv_train::onnx;

/// Largest difference of two f32 outputs near 1.
const TOLERANCE: f32 = 1e-4;

fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// A net of `p` parameters whose every tensor is noise.
fn checkpoint(p: usize, mode: Mode, expand: usize) -> Checkpoint {
    let phi = PhiConfig { mode, expand };
    let net = VideoNetConfig { channels: 5, layers: 2, phi, ..Default::default() };
    checkpoint_of(Architecture::Video(net), p)
}

/// The same of a net that works at two scales.
fn two_scales(p: usize) -> Checkpoint {
    let phi = PhiConfig { mode: Mode::Multilinear, expand: 1 };
    let (channels, inner_channels, layers_inside) = (5, 7, 1);
    let net = TwoScaleConfig { channels, inner_channels, layers_inside, phi, ..Default::default() };
    checkpoint_of(Architecture::TwoScale(net), p)
}

fn checkpoint_of(architecture: Architecture, p: usize) -> Checkpoint {
    let parameters = (0..p).map(|j| Parameter {
        name: format!("knob{j}"),
        nick: "Knob".into(),
        blurb: "Turns".into(),
        minimum: 0.0,
        maximum: 1.0,
        default: 0.0,
        objective: "turned".into(),
    });
    let metadata = Metadata {
        architecture,
        tuning: TuningSpace { domain: Domain::Box, parameters: parameters.collect() },
        provenance: Provenance { recipe: "noise".into(), ..Default::default() },
        calibration: None,
    };
    let values = metadata.tensors().into_iter().enumerate().map(|(index, spec)| {
        let count = spec.shape.iter().product();
        (spec.name, noise(index as u32, count))
    });
    Checkpoint { tensors: values.collect(), metadata }
}

/// Every kind of map from tuning to coefficients.
fn checkpoints() -> Vec<Checkpoint> {
    vec![
        checkpoint(2, Mode::Mlp, 2),
        checkpoint(3, Mode::Linear, 1),
        checkpoint(1, Mode::Multilinear, 1),
        checkpoint(3, Mode::Multilinear, 1),
        bounded(checkpoint(3, Mode::Multilinear, 1)),
        bounded(widened(checkpoint(2, Mode::Mlp, 2))),
        two_scales(2),
        bounded(two_scales(3)),
    ]
}

#[test]
fn bounds_make_a_difference() {
    let [free, bounded] = [checkpoint(2, Mode::Mlp, 2), bounded(checkpoint(2, Mode::Mlp, 2))];
    let residuals = [free, bounded].map(|checkpoint| {
        let x = Tensor::from_vec(noise(7, 6 * 64), (1, 6, 8, 8), &Device::Cpu).unwrap();
        let tuning = checkpoint.metadata.tuning.tuning(&[0.9, 0.6]).unwrap();
        let net = Net::new(&checkpoint, &Device::Cpu).unwrap();
        let residual = net.fold(&tuning).unwrap().forward(&x).unwrap();
        residual.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    });
    let apart = residuals[0].iter().zip(&residuals[1]).map(|(a, b)| (a - b).abs());
    assert!(apart.fold(0.0, f32::max) > 100.0 * TOLERANCE);
}

/// One whose activations are clamped to ranges that they leave.
fn bounded(mut checkpoint: Checkpoint) -> Checkpoint {
    let (data, images) = ("none".into(), 1);
    checkpoint.metadata.calibration =
        Some(Calibration { data, images, seed: 0, quantile: 1.0, bounds: true });
    for spec in checkpoint.metadata.tensors() {
        if spec.name.ends_with(".activations") {
            let count = spec.shape.iter().product::<usize>() / STATISTICS;
            let ranges = noise(spec.name.len() as u32, count).into_iter();
            let range = |v: f32| [0.1 * v - 0.05, 0.2 + 0.3 * v, 0.0];
            checkpoint.tensors.insert(spec.name, ranges.flat_map(range).collect());
        }
    }
    checkpoint
}

/// With parameters of other ranges than 0 to 1.
fn widened(mut checkpoint: Checkpoint) -> Checkpoint {
    for (index, parameter) in checkpoint.metadata.tuning.parameters.iter_mut().enumerate() {
        (parameter.minimum, parameter.maximum) = (-0.5 * index as f64, 2.0);
    }
    checkpoint
}

fn tunings(p: usize) -> [Vec<f64>; 3] {
    [
        vec![0.0; p],
        (0..p).map(|j| f64::from(u8::from(j == 0))).collect(),
        (0..p).map(|j| 0.9 - 0.3 * j as f64).collect(),
    ]
}

/// The outputs of a model.
fn run(model: &onnx::Model, inputs: Vec<Value>) -> Vec<Value> {
    let mut model = model.clone();
    spell_out_space_to_depth(model.graph.as_mut().unwrap());
    let model = rten::Model::load(model.encode_to_vec()).unwrap();
    let inputs = model.input_ids().iter().copied().zip(inputs.into_iter().map(Into::into));
    model.run(inputs.collect(), model.output_ids(), None).unwrap()
}

/// Writes SpaceToDepth of one picture, which rten lacks, as ONNX defines it: two Reshapes with a
/// Transpose between them.
fn spell_out_space_to_depth(graph: &mut onnx::Graph) {
    let Some(at) = graph.node.iter().position(|node| node.op_type == "SpaceToDepth") else {
        return;
    };
    let node = graph.node.remove(at);
    let block = node.attribute[0].i.unwrap();
    let shape =
        graph.input[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref();
    let size = |axis: usize| shape.unwrap().dim[axis].dim_value.unwrap();
    let (c, h, w) = (size(1), size(2) / block, size(3) / block);
    for (name, dims) in
        [("split", vec![1, c, h, block, w, block]), ("deep", vec![1, c * block * block, h, w])]
    {
        graph.initializer.push(onnx::Tensor {
            dims: vec![dims.len() as i64],
            data_type: 7,
            name: name.into(),
            raw_data: Some(dims.iter().flat_map(|d: &i64| d.to_le_bytes()).collect()),
            ..Default::default()
        });
    }
    let part = |op_type: &str, input: &[&str], output: &str, attribute| onnx::Node {
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: format!("{op_type} to {output}"),
        op_type: op_type.into(),
        attribute,
    };
    let axes = onnx::Attribute::ints("perm", &[0, 3, 5, 1, 2, 4]);
    let parts = [
        part("Reshape", &[&node.input[0], "split"], "in_blocks", vec![]),
        part("Transpose", &["in_blocks"], "blocks_first", vec![axes]),
        part("Reshape", &["blocks_first", "deep"], &node.output[0], vec![]),
    ];
    graph.node.splice(at..at, parts);
}

fn floats(dims: &[usize], values: &[f32]) -> Value {
    Value::from_shape(dims, values.to_vec()).unwrap()
}

fn assert_close(got: &Value, expected: &Tensor, what: &str) {
    let got = got.as_tensor_view::<f32>().unwrap();
    assert_eq!(got.shape(), expected.dims(), "{what}");
    let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let largest = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest <= TOLERANCE, "{what}: differs by {largest}");
}

#[test]
fn a_folded_tensor_model_is_the_folded_net() {
    for checkpoint in checkpoints() {
        let net = Net::new(&checkpoint, &Device::Cpu).unwrap();
        let space = &checkpoint.metadata.tuning;
        for values in tunings(space.len()) {
            let tuning = space.tuning(&values).unwrap();
            for (form, dims) in
                [(Form::Tensor(None), [2, 6, 7, 9]), (Form::Tensor(Some((11, 4))), [1, 6, 4, 11])]
            {
                let x = noise(7, dims.iter().product());
                let exported = model(&checkpoint, Some(&tuning), form).unwrap();
                let y = run(&exported, vec![floats(&dims, &x)]);
                let x = Tensor::from_vec(x, dims.to_vec(), &Device::Cpu).unwrap();
                let residual = net.fold(&tuning).unwrap().forward(&x).unwrap();
                assert_close(&y[0], &(&x + residual).unwrap(), &format!("{values:?} {form:?}"));
            }
        }
    }
}

#[test]
fn a_tunable_tensor_model_is_the_net_folded_at_its_second_input() {
    for checkpoint in checkpoints() {
        let net = Net::new(&checkpoint, &Device::Cpu).unwrap();
        let space = &checkpoint.metadata.tuning;
        let dims = [1, 6, 6, 8];
        let x = noise(8, dims.iter().product());
        let exported = model(&checkpoint, None, Form::Tensor(None)).unwrap();
        for values in tunings(space.len()) {
            let tuning = space.tuning(&values).unwrap();
            let omega = floats(&[1, space.len()], tuning.values());
            let y = run(&exported, vec![floats(&dims, &x), omega]);
            let x = Tensor::from_slice(&x, &dims, &Device::Cpu).unwrap();
            let residual = net.fold(&tuning).unwrap().forward(&x).unwrap();
            assert_close(&y[0], &(&x + residual).unwrap(), &format!("{values:?}"));
        }
    }
}

#[test]
fn a_planes_model_filters_code_values_as_the_frame_does() {
    let checkpoint = checkpoint(2, Mode::Mlp, 2);
    let net = Net::new(&checkpoint, &Device::Cpu).unwrap();
    let tuning = checkpoint.metadata.tuning.tuning(&[0.2, 0.1]).unwrap();
    let (width, height) = (18, 10);
    let area = width * height;
    // All code values, the extremes more often.
    let bytes = |seed, count| {
        noise(seed, count).into_iter().map(|v| (v * 300.0 + 128.0) as u8).collect::<Vec<u8>>()
    };
    let planes = [bytes(1, area), bytes(2, area / 4), bytes(3, area / 4)];
    for range in [Range::Limited, Range::Full] {
        let expected = filtered(
            &net,
            &tuning,
            FrameFormat { width, height, range, samples: SampleFormat::U8 },
            &planes,
        );
        assert_ne!(expected, planes);
        for folded in [true, false] {
            let form = Form::Planes { size: (width, height), range };
            let exported = model(&checkpoint, folded.then_some(&tuning), form).unwrap();
            let dims = |index| {
                if index == 0 { [1, 1, height, width] } else { [1, 1, height / 2, width / 2] }
            };
            let mut inputs: Vec<Value> = (planes.iter().enumerate())
                .map(|(index, plane)| Value::from_shape(dims(index), plane.clone()).unwrap())
                .collect();
            if !folded {
                inputs.push(floats(&[1, 2], tuning.values()));
            }
            let outputs = run(&exported, inputs);
            assert_eq!(outputs.len(), 3);
            for (index, output) in outputs.iter().enumerate() {
                let view = output.as_tensor_view::<u8>().unwrap();
                assert_eq!(view.shape(), dims(index));
                // Sums of another order may fall on the other side of a half.
                let apart = view.iter().zip(&expected[index]).map(|(a, b)| a.abs_diff(*b));
                let apart: Vec<u8> = apart.filter(|d| *d > 0).collect();
                let what = format!("{range:?}, folded {folded}, plane {index}: {apart:?}");
                assert!(apart.len() <= 1 && apart.iter().all(|d| *d == 1), "{what}");
            }
        }
    }
}

/// The frame `planes` filtered by the net, through this project's own conversion.
fn filtered(
    net: &Net,
    tuning: &tunableconv::tuning::Tuning,
    format: FrameFormat,
    planes: &[Vec<u8>; 3],
) -> [Vec<u8>; 3] {
    let (width, half) = (format.width, format.half_size());
    let plane = |index: usize, stride_bytes| Plane { data: &planes[index], stride_bytes };
    let (y, u, v) = (plane(0, width), plane(1, half.0), plane(2, half.0));
    let subsampling = Subsampling::Yuv420;
    let input = Frame::new(format, Planes::Planar { y, u, v, subsampling }).unwrap();
    let mut x = vec![0.0; 6 * half.0 * half.1];
    input.unpack(&mut x);
    let x = Tensor::from_vec(x, (1, 6, half.1, half.0), &Device::Cpu).unwrap();
    let residual = net.fold(tuning).unwrap().forward(&x).unwrap();
    let residual = residual.flatten_all().unwrap().to_vec1::<f32>().unwrap();

    let mut filtered = planes.clone();
    let [y, u, v] = &mut filtered;
    let plane = |data, stride_bytes| PlaneMut { data, stride_bytes };
    let (y, u, v) = (plane(y, width), plane(u, half.0), plane(v, half.0));
    let mut output = FrameMut::new(format, Planes::Planar { y, u, v, subsampling }).unwrap();
    output.pack_sum(&input, &residual, 0.0).unwrap();
    filtered
}

#[test]
fn the_command_writes_a_model_that_says_what_it_is() {
    let at = Workplace::new();
    checkpoint(2, Mode::Mlp, 2).write(&at.path("c.safetensors")).unwrap();
    let read = |line: &str| {
        at.succeed(&format!("export-onnx c.safetensors --out m.onnx {line}"));
        onnx::Model::decode(at.read("m.onnx").as_slice()).unwrap()
    };
    let names = |list: &[onnx::ValueInfo]| -> Vec<String> {
        list.iter().map(|value| value.name.clone()).collect()
    };
    let says = |model: &onnx::Model, key: &str| -> Option<String> {
        model.metadata_props.iter().find(|e| e.key == key).map(|e| e.value.clone())
    };

    let tunable = read("");
    let graph = tunable.graph.as_ref().unwrap();
    assert_eq!(
        (names(&graph.input), names(&graph.output)),
        (vec!["x".into(), "tuning".into()], vec!["y".into()])
    );
    assert!(says(&tunable, "parameter.knob1").unwrap().starts_with("0..1 (default 0)"));
    assert!(says(&tunable, "provenance").unwrap().contains(r#""recipe":"noise""#));
    assert_eq!(says(&tunable, "tuning"), None);

    let folded = read("--tuning knob1=0.5 --planes 8x6 --range full");
    let graph = folded.graph.as_ref().unwrap();
    assert_eq!(names(&graph.input), ["luma", "u", "v"]);
    assert_eq!(names(&graph.output), ["luma_out", "u_out", "v_out"]);
    assert_eq!(says(&folded, "tuning").unwrap(), "knob0=0,knob1=0.5");
    assert_eq!(says(&folded, "range").unwrap(), "full");
}

#[test]
fn the_command_refuses_what_it_cannot_export() {
    let at = Workplace::new();
    checkpoint(2, Mode::Mlp, 2).write(&at.path("c.safetensors")).unwrap();
    let before = common::entries(&at.path("."));
    let export = |rest: &str| {
        let error = at.fail(&format!("export-onnx c.safetensors --out m.onnx {rest}"));
        assert_eq!(common::entries(&at.path(".")), before, "{rest} left a file");
        error
    };
    assert!(export("--planes 7x6").contains("7x6"));
    assert!(export("--planes 8x5").contains("even"));
    assert!(export("--planes 0x6").contains("0x6"));
    assert!(export("--tensor 9999x4").contains("9999x4"));
    assert!(export("--tensor 12").contains("WIDTHxHEIGHT"));
    assert!(export("--tensor 4x4 --planes 4x4").contains("--planes"));
    assert!(export("--range full").contains("--planes"));
    assert!(export("--range studio --planes 4x4").contains("limited or full"));
    assert!(export("--tuning knob9=1").contains("no parameter `knob9`"));
    assert!(export("--tuning knob0=2").contains("knob0"));
    assert!(at.fail("export-onnx none.safetensors --out m.onnx").contains("none.safetensors"));
    assert!(at.fail("export-onnx c.safetensors --out no/m.onnx").contains("no/m.onnx"));
}
