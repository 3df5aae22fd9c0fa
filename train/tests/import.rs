//! Nets from ONNX files: what is imported computes what PyTorch did before it wrote them, two of them make one
//! with a knob, and whatever else is refused by name.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use common::{Workplace, apart, large_pictures};
use prost::Message as _;
use prost::bytes::Bytes;
use tunableconv::checkpoint::{Architecture, Checkpoint};
use tunableconv::engine::{self, Options, Precision};
use tunableconv_train::import_dni::interpolate;
use tunableconv_train::import_onnx::import;
use tunableconv_train::onnx::{self, Attribute, Model};

/// Largest difference to PyTorch's output, of values around 1.
const TOLERANCE: f32 = 1e-5;

/// `compact_a.onnx` is of PyTorch's older exporter, `compact_b.onnx` of the one since 2.9.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx").join(name)
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn assert_same(got: &Tensor, want: &Tensor) {
    assert_eq!(got.dims(), want.dims());
    let apart = (got - want).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let apart = apart.to_scalar::<f32>().unwrap();
    assert!(apart < TOLERANCE, "{apart}");
}

#[test]
fn imported_nets_compute_what_they_did() {
    let at = Workplace::new();
    let output = |net: &str, input: &str| {
        let input = golden(input);
        let input = input.display();
        at.succeed(&format!("forward {net} --input {input} --output out.safetensors"));
        tensors(&at.path("out.safetensors")).remove("y").unwrap()
    };
    for (name, y) in [("compact_a", "a"), ("compact_b", "b")] {
        let line = format!("import-onnx {} --output {name}.safetensors", golden(name).display());
        let line = line.replace(" --output", ".onnx --output");
        let run = at.command(&line).assert().success();
        let told = String::from_utf8(run.get_output().stderr.clone()).unwrap();
        assert!(told.contains("chain ×4 in RGB, 4 layers of up to 48 channels"), "{told}");
        let want = &tensors(&golden("compact.safetensors"))[y];
        assert_same(&output(&format!("{name}.safetensors"), "compact.safetensors"), want);
    }
    let line = "import-dni compact_a.safetensors compact_b.safetensors --parameter denoise";
    at.succeed(&format!("{line} --output knob.safetensors"));
    let want = &tensors(&golden("compact.safetensors"))["mixed"];
    assert_same(&output("knob.safetensors", "compact.safetensors"), want);
    assert!(at.succeed("inspect knob.safetensors").contains("denoise"));

    let denoiser = golden("denoiser.onnx");
    at.succeed(&format!("import-onnx {} --output denoiser.safetensors", denoiser.display()));
    let got = output("denoiser.safetensors", "denoiser.safetensors");
    // The clamp at its end is that of pictures.
    assert_same(&got.clamp(0.0, 1.0).unwrap(), &tensors(&golden("denoiser.safetensors"))["y"]);
    let inspected = at.succeed("inspect denoiser.safetensors");
    assert!(inspected.contains("chain ×1 in RGB"), "{inspected}");
}

/// As ArtCNN has it: on luma, a sum around the middle, and a shuffle at the end.
#[test]
fn nets_on_luma_are_taken() {
    let at = Workplace::new();
    let golden = |name: &str| golden(name).display().to_string();
    at.succeed(&format!("import-onnx {} --output luma.safetensors", golden("luma.onnx")));
    let inspected = at.succeed("inspect luma.safetensors");
    assert!(inspected.contains("chain ×2 on luma, 6 layers"), "{inspected}");
    let input = golden("luma.safetensors");
    at.succeed(&format!("forward luma.safetensors --input {input} --output out.safetensors"));
    let got = tensors(&at.path("out.safetensors")).remove("y").unwrap();
    assert_same(&got, &tensors(Path::new(&input))["y"]);
}

#[test]
fn imported_nets_run_in_int8_once_they_are_calibrated() {
    let at = Workplace::new();
    for (name, scale) in [("luma", 2), ("compact_a", 4), ("denoiser", 1)] {
        large_pictures(&at, scale);
        let file = golden(name).with_extension("onnx");
        at.succeed(&format!("import-onnx {} --output {name}.safetensors", file.display()));
        let path = at.path(&format!("{name}.safetensors"));
        let error = engine::open(
            &Checkpoint::read(&path).unwrap(),
            &Options { precision: Precision::Int8, ..Options::default() },
        );
        let error = error.err().unwrap().to_string();
        assert!(error.contains("calibrate"), "{error}");
        let line = format!("calibrate {name}.safetensors --data large --quantile 1");
        if name == "denoiser" {
            let error = at.fail(&line);
            assert!(error.contains("the net adds its input or to its output"), "{error}");
            continue;
        }
        at.succeed(&line);
        let checkpoint = Checkpoint::read(&path).unwrap();
        let (most, mean) = apart(&checkpoint);
        println!("{name}: int8 and f32 are at most {most} codes apart, {mean:.3} in the mean");
        assert!(mean < 0.1 && most < 5, "{name}: {most} {mean}");
    }
}

#[test]
fn a_knob_between_unlike_nets_is_refused() {
    let at = Workplace::new();
    for name in ["compact_a", "denoiser"] {
        let file = golden(name).with_extension("onnx");
        at.succeed(&format!("import-onnx {} --output {name}.safetensors", file.display()));
    }
    let error = at.fail(
        "import-dni compact_a.safetensors denoiser.safetensors --parameter x --output y.safetensors",
    );
    assert!(error.contains("nets of other shapes: chain ×4") && error.contains("; chain ×1"));
    let same = "import-dni compact_a.safetensors compact_a.safetensors";
    let error = at.fail(&format!("{same} --parameter Strength --output y.safetensors"));
    assert!(error.contains("Strength") && error.contains("lower-case"), "{error}");
    let error = at.fail(&format!("{same} --parameter x --output compact_a.safetensors"));
    assert!(error.contains("is an input"), "{error}");
    at.succeed("train tiny.toml --data data --run tiny");
    let tiny = "tiny/checkpoint.safetensors";
    let error = at.fail(&format!("import-dni {tiny} {tiny} --parameter x --output y.safetensors"));
    assert!(error.contains("layer `head` has not a kernel for each corner"), "{error}");
    assert!(!at.path("y.safetensors").exists());
}

#[test]
fn a_second_knob_is_put_beside_the_first() {
    let net = |seed: f32| {
        let mut net = import("a", model("denoiser.onnx").encode_to_vec().into()).unwrap();
        net.tensors.values_mut().flatten().for_each(|value| *value += seed);
        net
    };
    let nets = [net(0.0), net(0.1), net(0.2), net(0.3)];
    let pair = |a, b, name| interpolate([("a", a), ("b", b)], name).unwrap();
    let [low, high] = [pair(&nets[0], &nets[1], "x"), pair(&nets[2], &nets[3], "x")];
    let both = pair(&low, &high, "y");
    assert_eq!(both.metadata.tuning.names(), "x, y");
    for (corner, net) in nets.iter().enumerate() {
        for (name, values) in &net.tensors {
            let bank = &both.tensors[name];
            assert_eq!(bank.len(), 4 * values.len());
            assert_eq!(bank[corner * values.len()..][..values.len()], **values, "{name}");
        }
    }
}

fn model(name: &str) -> Model {
    Model::decode(&std::fs::read(golden(name)).unwrap()[..]).unwrap()
}

/// As published: SRVGGNetCompact of 64 channels with 16 and 32 layers, ×4.
#[test]
fn nets_of_published_shapes_are_taken() {
    for layers in [16, 32] {
        let mut model = model("compact_a.onnx");
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.clear();
        graph
            .node
            .retain(|node| ["Constant", "Resize", "Add", "DepthToSpace"].contains(&&*node.op_type));
        let mut nodes = vec![];
        let mut x = graph.input[0].name.clone();
        let mut tensor = |name: String, dims: Vec<i64>| {
            let len = dims.iter().product::<i64>() as usize;
            let float_data = (0..len).map(|i| (i % 17) as f32 * 1e-3).collect();
            let tensor = onnx::Tensor {
                dims,
                data_type: onnx::FLOAT,
                float_data,
                name,
                ..Default::default()
            };
            graph.initializer.push(tensor);
        };
        for layer in 0..=layers + 1 {
            let (c_in, c_out) = match layer {
                0 => (3, 64),
                _ if layer > layers => (64, 48),
                _ => (64, 64),
            };
            let [weight, bias, slope] =
                ["weight", "bias", "slope"].map(|kind| format!("body.{}.{kind}", 2 * layer));
            tensor(weight.clone(), vec![c_out, c_in, 3, 3]);
            tensor(bias.clone(), vec![c_out]);
            let node = |op: &str, input: Vec<String>, output: String| onnx::Node {
                input,
                output: vec![output],
                op_type: op.into(),
                attribute: vec![Attribute::ints("pads", &[1; 4])],
                ..Default::default()
            };
            nodes.push(node("Conv", vec![x, weight, bias], format!("y{layer}")));
            x = format!("y{layer}");
            if layer <= layers {
                tensor(slope.clone(), vec![c_out, 1, 1]);
                nodes.push(node("PRelu", vec![x, slope], format!("z{layer}")));
                x = format!("z{layer}");
            }
        }
        for node in &mut graph.node {
            if node.op_type == "DepthToSpace" {
                node.input[0].clone_from(&x);
            }
        }
        nodes.append(&mut graph.node);
        graph.node = nodes;
        let net = import("published", model.encode_to_vec().into()).unwrap();
        let Architecture::Plain(config) = &net.metadata.architecture else { panic!("a chain") };
        assert_eq!((config.layers.len(), config.scale, config.residual), (layers + 2, 4, true));
        let bytes = net.to_bytes("memory").unwrap();
        assert_eq!(Checkpoint::from_bytes("memory", &bytes).unwrap(), net);
    }
}

/// The first activation reads its layer under another name, and a sum reads the layer itself.
fn read_twice(graph: &mut onnx::Graph) {
    let activation = graph.node.iter().position(|node| node.op_type == "PRelu").unwrap();
    let layer = graph.node[activation].input[0].clone();
    let output = graph.node[activation].output[0].clone();
    graph.node[activation].input[0] = "same".into();
    graph.node[activation].output[0] = "activated".into();
    let node = |op: &str, input: &[&str], output: &str| onnx::Node {
        input: input.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        op_type: op.into(),
        ..Default::default()
    };
    graph.node.insert(activation + 1, node("Add", &["activated", &layer], &output));
    graph.node.insert(activation, node("Identity", &[&layer], "same"));
}

/// One change each.
#[test]
fn what_is_no_such_chain_is_refused_by_name() {
    let refused = |name: &str, change: &dyn Fn(&mut onnx::Graph), reason: &str| {
        let mut model = model(name);
        change(model.graph.as_mut().unwrap());
        let error = import("net.onnx", model.encode_to_vec().into()).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("net.onnx: ") && error.contains(reason), "{error}: {reason}");
    };
    let node = |graph: &mut onnx::Graph, op: &str, change: &dyn Fn(&mut onnx::Node)| {
        change(graph.node.iter_mut().find(|node| node.op_type == op).unwrap());
    };
    let set = |attribute: Attribute| {
        move |node: &mut onnx::Node| {
            node.attribute.retain(|other| other.name != attribute.name);
            node.attribute.push(attribute.clone());
        }
    };
    let of = |op: &'static str, attribute: Attribute| {
        move |graph: &mut onnx::Graph| node(graph, op, &set(attribute.clone()))
    };
    let (a, d) = ("compact_a.onnx", "denoiser.onnx");
    refused(a, &|g| node(g, "PRelu", &|n| n.op_type = "Sigmoid".into()), "(Sigmoid): not taken");
    refused(a, &read_twice, "is read elsewhere as well");
    refused(a, &of("Conv", Attribute::ints("strides", &[2, 2])), "expected stride 1");
    refused(a, &of("Conv", Attribute::ints("dilations", &[2, 2])), "expected no dilation");
    refused(a, &of("Conv", Attribute::ints("pads", &[0; 4])), "expected as much padding");
    refused(a, &of("Conv", Attribute::int("group", 3)), "3 groups, expected 1");
    refused(a, &of("DepthToSpace", Attribute::int("blocksize", 5)), "5 of 48 channels");
    refused(a, &of("DepthToSpace", Attribute::int("blocksize", 2)), "the net is ×2");
    refused(a, &of("Resize", Attribute::string("mode", "linear")), "expected nearest");
    let placed = Attribute::string("coordinate_transformation_mode", "align_corners");
    refused(a, &of("Resize", placed), "does not repeat pixels");
    refused(
        a,
        &|g| {
            node(g, "Add", &|n| {
                n.input.truncate(1);
                n.input.extend_from_within(..)
            })
        },
        "the net is no chain",
    );
    refused(
        a,
        &|g| node(g, "PRelu", &|n| n.input[1] = "gone".into()),
        "its input `gone` is not known",
    );
    refused(a, &|g| g.node.truncate(0), "the output of the graph");
    refused(a, &|g| g.input.clear(), "other than one input");
    refused(a, &|g| g.output.clear(), "other than one output");
    refused(
        a,
        &|g| g.initializer[0].dims = vec![8, 3, 3, 5],
        "tensor `body.0.weight`: [8, 3, 3, 5]",
    );
    refused(a, &|g| g.initializer[0].dims[0] = i64::MAX, "tensor `body.0.weight`");
    refused(a, &|g| g.initializer[0].dims[0] = -8, "tensor `body.0.weight`: its shape");
    refused(a, &|g| g.initializer[0].data_type = 10, "tensor `body.0.weight`: element type 10");
    refused(a, &|g| g.initializer[0].data_location = 1, "in another file");
    refused(
        a,
        &|g| g.initializer[0].raw_data = Some(Bytes::from(vec![0xff; 8 * 27 * 4])),
        "tensor `body.0.weight`: holds NaN",
    );
    refused(
        d,
        &|g| {
            node(g, "Mul", &|n| {
                n.input.truncate(1);
                n.input.extend_from_within(..)
            })
        },
        "expected a constant",
    );
    refused(d, &|g| node(g, "Relu", &|n| n.input[0] = "input".into()), "the net is no chain");
    let slope = |graph: &mut onnx::Graph, dims: Vec<i64>| {
        let name = graph.node.iter().find(|node| node.op_type == "PRelu").unwrap().input[1].clone();
        graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap().dims = dims;
    };
    refused(a, &|g| slope(g, vec![8]), "slopes [8], expected [C, 1, 1]");
    refused(d, &|g| node(g, "Clip", &|n| n.input.truncate(2)), "max None, expected 1");
    refused(d, &|g| node(g, "LeakyRelu", &|n| n.op_type = "Clip".into()), "before the end");
    refused(d, &|g| node(g, "LeakyRelu", &|n| n.attribute[0].f = Some(-1.0)), "slope -1");
}

#[test]
fn damaged_files_are_refused_or_read_but_never_panic() {
    let file = std::fs::read(golden("compact_a.onnx")).unwrap();
    for len in (0..file.len()).step_by(13) {
        let cut = import("cut.onnx", Bytes::copy_from_slice(&file[..len]));
        let error = format!("{:#}", cut.unwrap_err());
        assert!(error.contains("cut.onnx"), "{error}");
    }
    let mut read = 0;
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1 << (at % 8);
        // A weight that is another number is still a net.
        read += usize::from(import("flipped.onnx", damaged.into()).is_ok());
    }
    assert!(read > file.len() / 2 && read < file.len(), "{read} of {}", file.len());
}
