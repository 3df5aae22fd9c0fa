//! Nets and windows by plain loops over single samples.

use super::{Tensors, values};

/// `[C, H, W]`.
#[derive(Clone)]
pub struct Map {
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub data: Vec<f64>,
}

impl Map {
    pub fn from_fn(
        (c, h, w): (usize, usize, usize),
        f: impl Fn(usize, usize, usize) -> f64,
    ) -> Self {
        let f = &f;
        let columns = |i: usize, y: usize| (0..w).map(move |x| f(i, y, x));
        let data = (0..c).flat_map(|i| (0..h).flat_map(move |y| columns(i, y))).collect();
        Self { c, h, w, data }
    }

    pub fn at(&self, c: usize, y: usize, x: usize) -> f64 {
        self.data[(c * self.h + y) * self.w + x]
    }

    fn concat(mut self, other: Self) -> Self {
        self.c += other.c;
        self.data.extend(other.data);
        self
    }
}

/// Cross-correlation with zero padding; weight `[C_out, C_in, K, K]`, bias `[C_out]`.
pub fn conv(x: &Map, weight: &[f64], bias: &[f64], k: usize, stride: usize, pad: usize) -> Map {
    let out = |len: usize| (len + 2 * pad - k) / stride + 1;
    Map::from_fn((bias.len(), out(x.h), out(x.w)), |o, y, column| {
        let mut sum = bias[o];
        for i in 0..x.c {
            for ky in 0..k {
                for kx in 0..k {
                    let (sy, sx) = (y * stride + ky, column * stride + kx);
                    if (pad..x.h + pad).contains(&sy) && (pad..x.w + pad).contains(&sx) {
                        let tap = ((o * x.c + i) * k + ky) * k + kx;
                        sum += weight[tap] * x.at(i, sy - pad, sx - pad);
                    }
                }
            }
        }
        sum
    })
}

fn conv_relu(t: &Tensors, name: &str, x: &Map, stride: usize, pad: usize) -> Map {
    let weight = &t[&format!("{name}.weight")];
    let bias = values(&t[&format!("{name}.bias")]);
    let k = weight.dims()[3];
    let mut out = conv(x, &values(weight), &bias, k, stride, pad);
    out.data.iter_mut().for_each(|v| *v = v.max(0.0));
    out
}

/// Maxima of `k × k` windows at stride 2, as far as they lie inside; as many as start inside if
/// `ceil`, else only whole ones.
fn pool(x: &Map, k: usize, ceil: bool) -> Map {
    let out = |len: usize| match ceil {
        true => len.saturating_sub(k).div_ceil(2) + 1,
        false => (len - k) / 2 + 1,
    };
    Map::from_fn((x.c, out(x.h), out(x.w)), |c, y, column| {
        let mut largest = f64::NEG_INFINITY;
        for sy in (2 * y..2 * y + k).filter(|sy| *sy < x.h) {
            for sx in (2 * column..2 * column + k).filter(|sx| *sx < x.w) {
                largest = largest.max(x.at(c, sy, sx));
            }
        }
        largest
    })
}

/// RGB in 0 to 1 less ImageNet's mean, over its standard deviation.
fn imagenet(x: &Map) -> Map {
    let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    Map::from_fn((3, x.h, x.w), |c, y, column| (x.at(c, y, column) - mean[c]) / deviation[c])
}

/// relu1_1, relu2_1, relu3_1, relu4_1.
pub fn vgg(t: &Tensors, rgb: &Map) -> Vec<Map> {
    let layer = |x: &Map, index: usize| conv_relu(t, &format!("features.{index}"), x, 1, 1);
    let relu1_1 = layer(&imagenet(rgb), 0);
    let relu2_1 = layer(&pool(&layer(&relu1_1, 2), 2, false), 5);
    let relu3_1 = layer(&pool(&layer(&relu2_1, 7), 2, false), 10);
    let relu3_4 = layer(&layer(&layer(&relu3_1, 12), 14), 16);
    let relu4_1 = layer(&pool(&relu3_4, 2, false), 19);
    vec![relu1_1, relu2_1, relu3_1, relu4_1]
}

/// The seven features that LPIPS compares.
pub fn squeezenet(t: &Tensors, rgb: &Map) -> Vec<Map> {
    let fire = |x: &Map, index: usize| {
        let part =
            |name: &str, x: &Map, pad| conv_relu(t, &format!("features.{index}.{name}"), x, 1, pad);
        let x = part("squeeze", x, 0);
        part("expand1x1", &x, 0).concat(part("expand3x3", &x, 1))
    };
    let relu1 = conv_relu(t, "features.0", &imagenet(rgb), 2, 0);
    let fire4 = fire(&fire(&pool(&relu1, 3, true), 3), 4);
    let fire7 = fire(&fire(&pool(&fire4, 3, true), 6), 7);
    let fire9 = fire(&pool(&fire7, 3, true), 9);
    let fire10 = fire(&fire9, 10);
    let fire11 = fire(&fire10, 11);
    let fire12 = fire(&fire11, 12);
    vec![relu1, fire4, fire7, fire9, fire10, fire11, fire12]
}

/// The published recipe: unit length, squared difference, head, mean over pixels, sum over taps.
pub fn lpips(x: &[Map], y: &[Map], heads: &Tensors) -> f64 {
    let mut sum = 0.0;
    for (tap, (x, y)) in x.iter().zip(y).enumerate() {
        let head = values(&heads[&format!("lin{tap}.weight")]);
        let mut distance = 0.0;
        for row in 0..x.h {
            for column in 0..x.w {
                let length = |f: &Map| {
                    (0..f.c).map(|c| f.at(c, row, column).powi(2)).sum::<f64>().sqrt() + 1e-10
                };
                let (lx, ly) = (length(x), length(y));
                for (c, weight) in head.iter().enumerate() {
                    let difference = x.at(c, row, column) / lx - y.at(c, row, column) / ly;
                    distance += weight * difference.powi(2);
                }
            }
        }
        sum += distance / (x.h * x.w) as f64;
    }
    sum
}

/// Means over all 11×11 windows inside of SSIM and of its contrast and structure terms.
pub fn similarity(x: &Map, y: &Map) -> (f64, f64) {
    let weight = |i: usize, j: usize| {
        let (dy, dx) = (i as f64 - 5.0, j as f64 - 5.0);
        (-(dx * dx + dy * dy) / 4.5).exp()
    };
    let cells = || (0..11).flat_map(|i| (0..11).map(move |j| (i, j)));
    let total: f64 = cells().map(|(i, j)| weight(i, j)).sum();
    let (c1, c2) = (1e-4, 9e-4);
    let (mut whole, mut structures) = (0.0, 0.0);
    for top in 0..x.h - 10 {
        for left in 0..x.w - 10 {
            let mean = |f: &dyn Fn(f64, f64) -> f64| {
                let value = |i, j| f(x.at(0, top + i, left + j), y.at(0, top + i, left + j));
                cells().map(|(i, j)| weight(i, j) * value(i, j)).sum::<f64>() / total
            };
            let (mx, my) = (mean(&|a, _| a), mean(&|_, b| b));
            let variances = mean(&|a, b| (a - mx).powi(2) + (b - my).powi(2));
            let covariance = mean(&|a, b| (a - mx) * (b - my));
            let structure = (2.0 * covariance + c2) / (variances + c2);
            structures += structure;
            whole += structure * (2.0 * mx * my + c1) / (mx * mx + my * my + c1);
        }
    }
    let windows = ((x.h - 10) * (x.w - 10)) as f64;
    (whole / windows, structures / windows)
}

/// Means of whole 2×2 blocks.
pub fn halve(x: &Map) -> Map {
    Map::from_fn((x.c, x.h / 2, x.w / 2), |c, y, column| {
        let (y, column) = (2 * y, 2 * column);
        let upper = x.at(c, y, column) + x.at(c, y, column + 1);
        (upper + x.at(c, y + 1, column) + x.at(c, y + 1, column + 1)) / 4.0
    })
}
