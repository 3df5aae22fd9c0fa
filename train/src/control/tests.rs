use candle_core::Module as _;
use tunableconv::checkpoint::{Architecture, Metadata, Provenance};

use super::*;

/// Two layers on luma, the second one added to the input.
fn net() -> Architecture {
    serde_json::from_value(serde_json::json!({
        "net": "plain", "colour": "luma", "scale": 1, "residual": true,
        "phi": { "mode": "multilinear", "expand": 1 },
        "layers": [
            { "name": "a", "kernel": 3, "channels": 5, "activation": { "leaky-relu": 0.1 } },
            { "name": "b", "kernel": 3, "channels": 5, "activation": "none", "add": [1] },
            { "name": "c", "kernel": 3, "channels": 1, "activation": "none" },
        ],
    }))
    .unwrap()
}

fn tuning() -> TuningSpace {
    let parameter = |name: &str| {
        serde_json::json!({
            "name": name, "nick": name, "blurb": "", "minimum": 0.0, "maximum": 1.0, "default": 0.0,
            "objective": "",
        })
    };
    let space =
        serde_json::json!({ "domain": "box", "parameters": [parameter("n"), parameter("m")] });
    serde_json::from_value(space).unwrap()
}

fn control(difference: Difference) -> Control {
    Control { difference, layers: Layers::All, base: None, frozen: false }
}

/// Random tensors for everything that is trained.
fn parts(control: &Control) -> HashMap<String, Tensor> {
    let specs = control.trained(&net(), &tuning());
    let random = |spec: TensorSpec| {
        let tensor = Tensor::randn(0f64, 1.0, spec.shape.as_slice(), &Device::Cpu).unwrap();
        (spec.name, tensor)
    };
    specs.into_iter().map(random).collect()
}

/// `[corners, C_out, rest]` of a layer.
fn bank(tensors: &HashMap<String, Tensor>, layer: &str) -> Vec<Vec<Vec<f64>>> {
    let weight = tensors[&format!("{layer}.weight")].squeeze(0).unwrap();
    let (corners, channels) = (weight.dims()[0], weight.dims()[1]);
    weight.reshape((corners, channels, ())).unwrap().to_vec3().unwrap()
}

const ALL: [Difference; 5] = [
    Difference::None,
    Difference::Kernels,
    Difference::LowRank(2),
    Difference::Gains,
    Difference::Scales,
];

#[test]
fn what_comes_out_is_the_bank_of_the_net_and_begins_without_a_difference() {
    for difference in ALL {
        let control = control(difference);
        control.validate(&net(), &tuning()).unwrap();
        let mut parts = parts(&control);
        let specs = control.trained(&net(), &tuning());
        for spec in specs.iter().filter(|spec| spec.init == tunableconv::nn::Init::Constant(0.0)) {
            let zeros = parts[&spec.name].zeros_like().unwrap();
            parts.insert(spec.name.clone(), zeros);
        }
        let tensors = control.net(&net(), &tuning(), &parts).unwrap();
        let expected = net().tensors(2);
        assert_eq!(tensors.len(), expected.len(), "{difference:?}");
        for spec in expected {
            assert_eq!(tensors[&spec.name].dims(), spec.shape, "{difference:?} {}", spec.name);
        }
        let corners = bank(&tensors, "b");
        assert!(corners.iter().all(|kernel| *kernel == corners[0]), "{difference:?}");
    }
}

#[test]
fn differences_are_what_they_say_and_nothing_at_the_base() {
    for difference in ALL {
        let control = Control { base: Some(vec![0.0, 1.0]), ..control(difference) };
        let tensors = control.net(&net(), &tuning(), &parts(&control)).unwrap();
        let corners = bank(&tensors, "b");
        // The corner (0, 1) is number 2.
        let k = &corners[2];
        let bias: Vec<Vec<f64>> = tensors["b.bias"].squeeze(0).unwrap().to_vec2().unwrap();
        for (corner, other) in corners.iter().enumerate().filter(|(corner, _)| *corner != 2) {
            let d: Vec<Vec<f64>> = other
                .iter()
                .zip(k)
                .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect())
                .collect();
            let ratios = |row: usize| d[row].iter().zip(&k[row]).map(|(d, k)| d / k);
            let is_scaled = (0..5).all(|row| {
                let first = ratios(row).next().unwrap();
                ratios(row).all(|ratio| (ratio - first).abs() < 1e-9 * (1.0 + first.abs()))
            });
            let is_nothing = d.iter().flatten().all(|d| *d == 0.0);
            assert_eq!(is_nothing, difference == Difference::None, "{difference:?} {corner}");
            let scales = matches!(difference, Difference::Gains | Difference::Scales);
            assert_eq!(is_scaled, scales || is_nothing, "{difference:?} {corner}");
            let of_bias = |row: usize| bias[corner][row] / bias[2][row];
            let with_kernel = (of_bias(0) - 1.0 - ratios(0).next().unwrap()).abs() < 1e-9;
            let expected = matches!(difference, Difference::Gains | Difference::None);
            assert_eq!(with_kernel, expected, "{difference:?} {corner}");
            let expected = match difference {
                Difference::None => 0,
                Difference::LowRank(rank) => rank,
                _ => 5,
            };
            assert_eq!(rank(d), expected, "{difference:?} {corner}");
        }
    }
}

/// By elimination.
fn rank(mut rows: Vec<Vec<f64>>) -> usize {
    let (mut rank, columns) = (0, rows[0].len());
    for column in 0..columns {
        let largest =
            |a: &usize, b: &usize| rows[*a][column].abs().total_cmp(&rows[*b][column].abs());
        let Some(pivot) = (rank..rows.len()).max_by(largest) else { break };
        if rows[pivot][column].abs() < 1e-9 {
            continue;
        }
        rows.swap(rank, pivot);
        let pivot = rows[rank].clone();
        for row in &mut rows[rank + 1..] {
            let factor = row[column] / pivot[column];
            row.iter_mut().zip(&pivot).for_each(|(value, pivot)| *value -= factor * pivot);
        }
        rank += 1;
    }
    rank
}

#[test]
fn only_the_layers_that_are_named_differ() {
    let differing = |layers| {
        let control = Control { layers, ..control(Difference::Kernels) };
        let tensors = control.net(&net(), &tuning(), &parts(&control)).unwrap();
        ["a", "b", "c"].map(|layer| {
            let corners = bank(&tensors, layer);
            corners[0] != corners[3]
        })
    };
    assert_eq!(differing(Layers::All), [true, true, true]);
    assert_eq!(differing(Layers::Last), [false, false, true]);
    assert_eq!(differing(Layers::Branches), [false, true, true]);
}

#[test]
fn layers_without_a_kernel_for_each_corner_are_left_as_they_are() {
    let net: Architecture = serde_json::from_value(serde_json::json!({
        "net": "video", "channels": 4, "layers": 1, "negative_slope": 0.1,
        "phi": { "mode": "multilinear", "expand": 1 },
    }))
    .unwrap();
    let mut control = control(Difference::Kernels);
    control.validate(&net, &tuning()).unwrap();
    let trained = control.trained(&net, &tuning());
    let parts: HashMap<String, Tensor> =
        trained.into_iter().map(|spec| (spec.name, random(&spec.shape))).collect();
    let tensors = control.net(&net, &tuning(), &parts).unwrap();
    assert_eq!(tensors.len(), net.tensors(2).len());
    assert_eq!(values(&tensors["tail.weight"]), values(&parts["tail.weight"]));
    assert_eq!(tensors["tail.weight"].dims()[1], 2);
    assert_eq!(tensors["head.weight"].dims()[1], 4);

    let start = Checkpoint {
        metadata: metadata(&net),
        tensors: tensors.iter().map(|(name, tensor)| (name.clone(), values(tensor))).collect(),
    };
    let slots = control.start(&start, &net, &tuning()).unwrap();
    assert_eq!(slots["tail.weight"].value, start.tensors["tail.weight"]);
    assert!(slots.contains_key("head.weight.shared") && !slots.contains_key("head.weight"));
    (control.base, control.frozen) = (Some(vec![0.0, 0.0]), true);
    let told = control.validate(&net, &tuning()).unwrap_err().to_string();
    assert!(told.contains("layer `tail`"), "{told}");
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |change: &dyn Fn(&mut Control, &mut Architecture)| {
        let (mut control, mut net) = (control(Difference::Kernels), net());
        change(&mut control, &mut net);
        control.validate(&net, &tuning()).unwrap_err().to_string()
    };
    assert!(refused(&|c, _| c.base = Some(vec![0.5, 0.0])).contains("expected a corner"));
    assert!(refused(&|c, _| c.base = Some(vec![0.0])).contains("expected a corner"));
    assert!(
        refused(&|c, _| {
            *c = Control { frozen: true, ..control(Difference::Gains) };
        })
        .contains("expected a base")
    );
    assert!(refused(&|c, _| c.difference = Difference::LowRank(0)).contains("rank 0"));
    let nothing = refused(&|c, _| {
        *c = Control { base: Some(vec![0.0; 2]), frozen: true, ..control(Difference::None) };
    });
    assert!(nothing.contains("nothing to train"));
    let phi = refused(&|_, net| {
        let Architecture::Plain(plain) = net else { unreachable!() };
        plain.phi.mode = Mode::Mlp;
    });
    assert!(phi.contains("no layer has a kernel for each corner"), "{phi}");
    let slopes = refused(&|_, net| {
        let Architecture::Plain(plain) = net else { unreachable!() };
        plain.layers[0].activation = Activation::PRelu;
    });
    assert!(slopes.contains("layer `a` has slopes"), "{slopes}");
}

/// A residual block between two layers.
fn block(channels: usize) -> Architecture {
    let layer = |name: &str, channels: usize, slope: f64| {
        serde_json::json!({
            "name": name, "kernel": 3, "channels": channels, "activation": { "leaky-relu": slope },
        })
    };
    let mut closing = layer("close", 4, 1.0);
    closing["add"] = serde_json::json!([1]);
    serde_json::from_value(serde_json::json!({
        "net": "plain", "colour": "luma", "scale": 1, "residual": true,
        "phi": { "mode": "multilinear", "expand": 1 },
        "layers": [layer("head", 4, 0.1), layer("open", channels, 0.1), closing, layer("tail", 1, 1.0)],
    }))
    .unwrap()
}

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 0.5, shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// What a net of these banks makes of `x` at a tuning.
fn output(
    net: &Architecture,
    tensors: HashMap<String, Tensor>,
    omega: [f32; 2],
    x: &Tensor,
) -> Vec<f32> {
    let metadata = metadata(net);
    let net = Net::from_tensors(metadata, tensors, &Device::Cpu).unwrap();
    let omega = Tensor::new(&[omega], &Device::Cpu).unwrap();
    values(&net.model().fold(&omega).unwrap().forward(x).unwrap())
}

fn metadata(net: &Architecture) -> Metadata {
    let provenance = Provenance::default();
    Metadata { architecture: net.clone(), tuning: tuning(), provenance, calibration: None }
}

#[test]
fn a_second_branch_takes_the_place_of_the_first_as_its_gains_say() {
    let (narrow, wide) = (block(4), block(8));
    let base = Some(vec![0.0, 1.0]);
    let control = Control { base, frozen: true, ..control(Difference::Branch) };
    control.validate(&wide, &tuning()).unwrap();
    let first: HashMap<String, Tensor> =
        narrow.tensors(2).into_iter().map(|s| (s.name, random(&s.shape))).collect();
    let start = Checkpoint {
        metadata: metadata(&narrow),
        tensors: first.iter().map(|(name, tensor)| (name.clone(), values(tensor))).collect(),
    };
    let trained = control.trained(&wide, &tuning());
    assert!(trained.iter().all(|spec| !spec.name.contains("head") && !spec.name.contains("tail")));
    let mut parts: HashMap<String, Tensor> =
        trained.into_iter().map(|s| (s.name, random(&s.shape))).collect();
    let gains = parts["close.difference.gains"].ones_like().unwrap();
    parts.insert("close.difference.gains".into(), gains);
    for (name, k) in control.start(&start, &wide, &tuning()).unwrap() {
        parts.insert(name, Tensor::from_vec(k.value, k.shape, &Device::Cpu).unwrap());
    }
    let both = control.net(&wide, &tuning(), &parts).unwrap();

    // The second branch alone, in the frozen net.
    let every = |tensor: &Tensor| {
        let shape = [&[1, 4], &tensor.dims()[1..]].concat();
        tensor.unsqueeze(1).unwrap().broadcast_as(shape).unwrap().contiguous().unwrap()
    };
    let mut second = HashMap::new();
    for name in ["head.weight", "head.bias", "tail.weight", "tail.bias"] {
        second.insert(name.to_owned(), every(&parts[&shared(name)]));
    }
    for part in ["weight", "bias"] {
        for layer in ["open", "close"] {
            let own = every(&parts[&format!("{layer}.difference.{part}")]);
            second.insert(format!("{layer}.{part}"), own);
        }
    }
    let x = random(&[1, 1, 9, 10]);
    let near = |a: Vec<f32>, b: Vec<f32>| {
        let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
        a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * largest)
    };
    let made = |omega| output(&wide, both.clone(), omega, &x);
    let alone = output(&narrow, second, [1.0, 1.0], &x);
    assert!(near(made([0.0, 1.0]), output(&narrow, first.clone(), [0.0, 1.0], &x)));
    assert!(near(made([1.0, 1.0]), alone.clone()));
    // Coupled by halves: the block and what follows it are linear in both.
    let halves: Vec<f32> =
        made([0.0, 1.0]).iter().zip(&alone).map(|(a, b)| 0.5 * (a + b)).collect();
    assert!(near(made([0.5, 1.0]), halves));

    let refused = |net: &Architecture, control: &Control| {
        control.validate(net, &tuning()).unwrap_err().to_string()
    };
    assert!(refused(&block(7), &control).contains("layer `open` has 7 channels"));
    assert!(refused(&net(), &control).contains("no residual blocks"));
    assert!(refused(&wide, &Control { frozen: false, ..control }).contains("frozen"));
}
