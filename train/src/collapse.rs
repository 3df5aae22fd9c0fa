//! Over-parameterisation: more weights in training than in the net.
//!
//! Every kernel of a bank is trained as `k = d + A B` with `d` `[C_out, C_in, K, K]`, `A`
//! `[C_out, M]` and `B` `[M, C_in, K, K]`: a K×K convolution to M channels and a 1×1 back, beside a
//! direct one, linear all through (Bhardwaj et al., "Collapsible Linear Blocks for Super-Efficient
//! Super Resolution", MLSys 2022). The product is taken before kernels are mixed, so a step costs
//! little more, and what is exported is the small net.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor};
use tunableconv::nn::{Init, TensorSpec};

use crate::optimiser::Slot;
use crate::recipe::Overparameterise;

/// The product starts small beside the direct kernel.
const GAIN: f64 = 0.3;

/// The tensors to train for a net of `specs`.
pub fn trained_tensors(specs: &[TensorSpec], config: Option<Overparameterise>) -> Vec<TensorSpec> {
    let mut trained = specs.to_vec();
    for spec in specs {
        let (Some(config), Some([kernels, c_out, rest])) = (config, bank_sizes(&spec.shape)) else {
            continue;
        };
        let m = config.channels;
        let Init::Uniform(bound) = spec.init else { continue };
        // The variance of a sum of m products of two uniform values.
        let (a, b) = (GAIN * (3.0 / m as f64).sqrt(), bound);
        trained.push(TensorSpec::new(first(&spec.name), &[kernels, m, rest], Init::Uniform(b)));
        trained.push(TensorSpec::new(second(&spec.name), &[kernels, c_out, m], Init::Uniform(a)));
    }
    trained
}

/// The tensors of the net from those that are trained; differentiable.
///
/// # Errors
/// Shapes other than those of [`trained_tensors`].
pub fn collapse(trained: &HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    let mut collapsed = HashMap::new();
    for (name, direct) in trained {
        if name.ends_with(FIRST) || name.ends_with(SECOND) {
            continue;
        }
        let tensor = match (trained.get(&first(name)), trained.get(&second(name))) {
            (Some(b), Some(a)) => (direct + a.matmul(b)?.reshape(direct.shape())?)?,
            _ => direct.clone(),
        };
        collapsed.insert(name.clone(), tensor);
    }
    Ok(collapsed)
}

const FIRST: &str = ".first";

const SECOND: &str = ".second";

fn first(name: &str) -> String {
    format!("{name}{FIRST}")
}

fn second(name: &str) -> String {
    format!("{name}{SECOND}")
}

/// Of a bank `[1, P, C_out, C_in, K, K]`, or kernels `[P, C_out, C_in, K, K]`, with K > 1: P, `C_out` and `C_in` K².
fn bank_sizes(shape: &[usize]) -> Option<[usize; 3]> {
    match *shape {
        [1, kernels, c_out, c_in, k_h, k_w] | [kernels, c_out, c_in, k_h, k_w] if k_h * k_w > 1 => {
            Some([kernels, c_out, c_in * k_h * k_w])
        }
        _ => None,
    }
}

/// Makes the kernels `name` the direct ones, whose product is 0.
pub fn only_direct(slots: &mut BTreeMap<String, Slot>, name: &str) {
    if let Some(slot) = slots.get_mut(&second(name)) {
        *slot = Slot::new(slot.shape.clone(), vec![0.0; slot.value.len()]);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_collapsed_kernel_is_the_two_convolutions_and_the_direct_one() {
        let random = |shape: &[usize]| Tensor::randn(0f64, 1.0, shape, &Device::Cpu).unwrap();
        let spec = TensorSpec::new("l.weight", &[1, 2, 4, 3, 3, 3], Init::Uniform(0.1));
        let bias = TensorSpec::new("l.bias", &[1, 2, 4], Init::Constant(0.0));
        let specs = [spec, bias];
        let config = Some(Overparameterise { channels: 5 });
        assert_eq!(trained_tensors(&specs, None), specs);
        let wide = trained_tensors(&specs, config);
        assert_eq!(wide.len(), 4);
        let trained: HashMap<String, Tensor> =
            wide.iter().map(|spec| (spec.name.clone(), random(&spec.shape))).collect();
        let collapsed = collapse(&trained).unwrap();
        assert_eq!(collapsed.len(), 2);

        let x = random(&[1, 3, 6, 7]);
        let kernel = |t: &Tensor| t.get(0).unwrap().get(1).unwrap();
        let run = |x: &Tensor, w: &Tensor| x.conv2d(w, w.dim(3).unwrap() / 2, 1, 1, 1).unwrap();
        let whole = run(&x, &kernel(&collapsed["l.weight"]));
        let b = trained["l.weight.first"].get(1).unwrap().reshape((5, 3, 3, 3)).unwrap();
        let a = trained["l.weight.second"].get(1).unwrap().reshape((4, 5, 1, 1)).unwrap();
        let parts = (run(&x, &kernel(&trained["l.weight"])) + run(&run(&x, &b), &a)).unwrap();
        let difference = (whole - parts).unwrap().abs().unwrap().max_all().unwrap();
        assert!(difference.to_scalar::<f64>().unwrap() < 1e-12);
    }
}
