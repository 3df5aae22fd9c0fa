use super::*;
use candle_core::{Device, Var};

const DEV: Device = Device::Cpu;

/// Values in -1..1 that no two positions share.
fn noise(shape: &[usize], seed: u64) -> Tensor {
    let len: usize = shape.iter().product();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let data: Vec<f64> = (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect();
    Tensor::from_vec(data, shape, &DEV).unwrap()
}

struct Case {
    x: [usize; 4],
    weight: [usize; 5],
    geometry: ConvGeometry,
    activation: Activation,
}

fn case(x: [usize; 4], weight: [usize; 5], steps: [usize; 4], slope: Option<f32>) -> Case {
    let [stride, padding, dilation, groups] = steps;
    Case {
        x,
        weight,
        geometry: ConvGeometry { stride, padding, dilation, groups },
        activation: slope.map_or(Activation::None, Activation::LeakyRelu),
    }
}

fn cases() -> Vec<Case> {
    vec![
        case([2, 3, 5, 4], [1, 2, 3, 3, 3], [1, 1, 1, 1], None),
        case([2, 3, 5, 4], [2, 2, 3, 3, 3], [1, 1, 1, 1], Some(0.2)),
        case([4, 4, 6, 7], [2, 4, 2, 3, 3], [2, 1, 1, 2], Some(0.1)),
        case([1, 2, 7, 6], [1, 2, 2, 3, 3], [1, 2, 2, 1], None),
        case([2, 2, 5, 6], [1, 3, 2, 2, 2], [1, 0, 1, 1], Some(0.3)),
        case([2, 2, 6, 5], [2, 3, 2, 2, 2], [2, 1, 2, 1], None),
        case([2, 3, 4, 3], [1, 2, 3, 1, 1], [1, 0, 1, 1], Some(0.2)),
        case([1, 2, 6, 5], [1, 2, 2, 5, 5], [1, 2, 1, 1], None),
        case([1, 2, 6, 7], [1, 2, 2, 5, 5], [3, 4, 1, 1], None),
        case([2, 3, 4, 5], [2, 3, 1, 3, 3], [1, 1, 1, 3], Some(0.2)),
        case([1, 2, 5, 6], [1, 2, 2, 3, 2], [1, 1, 1, 1], None),
        case([1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 2, 1, 1], None),
        case([2, 2, 7, 9], [2, 3, 2, 3, 3], [2, 1, 1, 1], Some(0.1)),
        case([1, 2, 9, 9], [1, 2, 2, 9, 9], [1, 4, 1, 1], None),
        case([2, 3, 8, 7], [2, 3, 1, 7, 7], [1, 3, 1, 3], Some(0.1)),
    ]
}

/// `Σ conv2d(..) * mask`, whose gradients are checked.
fn loss(c: &Case, x: &Tensor, w: &Tensor, b: &Tensor) -> Tensor {
    let y = conv2d(x, w, Some(b), c.geometry, c.activation).unwrap();
    let mask = noise(y.dims(), 4);
    (y * mask).unwrap().sum_all().unwrap()
}

#[test]
fn gradients_match_finite_differences() {
    for (i, c) in cases().iter().enumerate() {
        let bias_shape = [c.weight[0], c.weight[1]];
        let vars = [
            Var::from_tensor(&noise(&c.x, 1)).unwrap(),
            Var::from_tensor(&noise(&c.weight, 2)).unwrap(),
            Var::from_tensor(&noise(&bias_shape, 3)).unwrap(),
        ];
        let grads = loss(c, &vars[0], &vars[1], &vars[2]).backward().unwrap();
        for (v, var) in vars.iter().enumerate() {
            let got = grads.get(var).unwrap().flatten_all().unwrap();
            let got = got.to_vec1::<f64>().unwrap();
            let at = var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let value = |j: usize, step: f64| {
                let mut moved = at.clone();
                moved[j] += step;
                let moved = Tensor::from_vec(moved, var.shape(), &DEV).unwrap();
                let mut operands: Vec<Tensor> =
                    vars.iter().map(|v| v.as_tensor().clone()).collect();
                operands[v] = moved;
                let loss = loss(c, &operands[0], &operands[1], &operands[2]);
                loss.to_scalar::<f64>().unwrap()
            };
            // Small, so that no output crosses the kink of the activation.
            let step = 1e-6;
            for (j, &got) in got.iter().enumerate() {
                let want = (value(j, step) - value(j, -step)) / (2.0 * step);
                assert!((got - want).abs() < 1e-7, "case {i} operand {v} [{j}]: {got} {want}");
            }
        }
    }
}

#[test]
fn f32_agrees_with_f64() {
    for (i, c) in cases().iter().enumerate() {
        let run = |dtype| {
            let var = |shape: &[usize], seed| {
                Var::from_tensor(&noise(shape, seed).to_dtype(dtype).unwrap()).unwrap()
            };
            let vars = [var(&c.x, 1), var(&c.weight, 2), var(&[c.weight[0], c.weight[1]], 3)];
            let [x, w, b] = &vars;
            let y = conv2d(x, w, Some(b), c.geometry, c.activation).unwrap();
            let mask = noise(y.dims(), 4).to_dtype(dtype).unwrap();
            let grads = (&y * mask).unwrap().sum_all().unwrap().backward().unwrap();
            let mut all = vec![y];
            all.extend(vars.iter().map(|var| grads.get(var).unwrap().clone()));
            all
        };
        for (operand, (got, want)) in run(DType::F32).iter().zip(run(DType::F64)).enumerate() {
            let error = (got.to_dtype(DType::F64).unwrap() - want).unwrap().abs().unwrap();
            let error = error.flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
            assert!(error < 2e-5, "case {i}, tensor {operand}: {error}");
        }
    }
}

#[test]
fn agrees_with_candle() {
    for (i, c) in cases().iter().enumerate() {
        let (x, w) = (noise(&c.x, 1), noise(&c.weight, 2));
        let b = noise(&[c.weight[0], c.weight[1]], 3);
        for bias in [None, Some(&b)] {
            let got = conv2d(&x, &w, bias, c.geometry, c.activation).unwrap();
            let slope = c.activation.slope().unwrap();
            let want = by_candle(&x, &w, bias, c.geometry, slope).unwrap();
            assert_eq!(got.dims(), want.dims());
            let error = (got - want).unwrap().abs().unwrap().max_all().unwrap();
            assert!(error.to_scalar::<f64>().unwrap() < 1e-12, "case {i}");
        }
    }
}

#[test]
fn takes_views() {
    for dtype in [DType::F32, DType::F64] {
        let view = |shape: &[usize], seed| {
            let mut wide = shape.to_vec();
            wide.reverse();
            wide[0] += 1;
            let wide = noise(&wide, seed).to_dtype(dtype).unwrap();
            let axes: Vec<usize> = (0..shape.len()).rev().collect();
            let narrow = wide.narrow(0, 1, shape[shape.len() - 1]).unwrap();
            (narrow.permute(axes.clone()).unwrap(), narrow)
        };
        let (x, _) = view(&[2, 3, 5, 4], 1);
        let (w, _) = view(&[2, 2, 3, 3, 3], 2);
        let b = noise(&[3, 2], 3).to_dtype(dtype).unwrap().narrow(0, 1, 2).unwrap();
        // A contiguous view that starts inside its storage.
        let tail = noise(&[3, 3, 5, 4], 5).to_dtype(dtype).unwrap();
        let tail = tail.narrow(0, 1, 2).unwrap();
        for x in [x, tail] {
            let (xv, wv) = (Var::from_tensor(&x).unwrap(), Var::from_tensor(&w).unwrap());
            let copy = |t: &Tensor| t.force_contiguous().unwrap();
            let g = ConvGeometry { padding: 1, ..Default::default() };
            let y = conv2d(&x, &w, Some(&b), g, Activation::None).unwrap();
            let same = conv2d(&copy(&x), &copy(&w), Some(&copy(&b)), g, Activation::None).unwrap();
            let z = conv2d(&xv, &wv, Some(&b), g, Activation::None).unwrap();
            for other in [&same, &z] {
                let bits = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
                assert_eq!(
                    bits(&y).to_vec1::<f64>().unwrap(),
                    bits(other).to_vec1::<f64>().unwrap()
                );
            }
            // The gradient that arrives is a broadcast view here.
            let grads = z.sum_all().unwrap().backward().unwrap();
            assert_eq!(grads.get(&xv).unwrap().dims(), x.dims());
        }
    }
}

#[test]
fn constants_get_no_gradient() {
    let x = noise(&[1, 2, 4, 4], 1);
    let w = Var::from_tensor(&noise(&[1, 2, 2, 3, 3], 2)).unwrap();
    let y = conv2d(&x, &w, None, ConvGeometry::default(), Activation::None).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&w).is_some());
    assert!(grads.get(&x).is_none());
}

#[test]
fn refuses_what_does_not_fit() {
    let plain = [1, 0, 1, 1];
    type Wrong = ([usize; 4], [usize; 5], [usize; 4], &'static str);
    let wrong: [Wrong; 9] = [
        ([3, 2, 5, 5], [2, 2, 2, 3, 3], plain, "divides the 3 samples"),
        ([2, 2, 5, 5], [1, 2, 3, 3, 3], plain, "2 input channels"),
        ([2, 2, 2, 5], [1, 2, 2, 3, 3], plain, "height of at least 3"),
        ([2, 2, 5, 4], [1, 2, 2, 3, 3], [1, 0, 2, 1], "width of at least 5"),
        ([2, 2, 5, 5], [1, 2, 2, 3, 3], [0, 0, 1, 1], "stride"),
        ([2, 2, 5, 5], [1, 2, 2, 3, 3], [1, 0, 0, 1], "dilation"),
        ([2, 2, 5, 5], [1, 2, 2, 3, 3], [1, 0, 1, 0], "groups"),
        ([2, 3, 5, 5], [1, 2, 1, 3, 3], [1, 0, 1, 2], "groups that divide"),
        ([2, 0, 5, 5], [1, 2, 0, 3, 3], plain, "no empty dimension"),
    ];
    for (x, w, steps, part) in wrong {
        let c = case(x, w, steps, None);
        let (x, w) = (noise(&x, 1), noise(&w, 2));
        let error = conv2d(&x, &w, None, c.geometry, c.activation).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let (x, w) = (noise(&[1, 2, 5, 5], 1), noise(&[1, 3, 2, 3, 3], 2));
    let run = |x: &Tensor, w: &Tensor, b: Option<&Tensor>, activation| {
        let result = conv2d(x, w, b, ConvGeometry::default(), activation);
        result.unwrap_err().to_string()
    };
    let none = Activation::None;
    assert!(run(&x.get(0).unwrap(), &w, None, none).contains("[N, C_in, H, W]"));
    assert!(run(&x, &w.get(0).unwrap(), None, none).contains("expected weights [B"));
    assert!(run(&x, &w, Some(&noise(&[3], 1)), none).contains("[1, 3]"));
    assert!(run(&x, &w, None, Activation::LeakyRelu(-0.1)).contains("slope"));
    assert!(run(&x, &w, None, Activation::LeakyRelu(f32::NAN)).contains("slope"));
    let f32s = w.to_dtype(DType::F32).unwrap();
    assert!(run(&x, &f32s, None, none).contains("F64"));
    let half = |t: &Tensor| t.to_dtype(DType::BF16).unwrap();
    assert!(run(&half(&x), &half(&w), None, none).contains("f32 or f64"));
}
