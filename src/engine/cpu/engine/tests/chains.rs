//! Chains of every kind of layer against a convolution written out.

use super::*;
use crate::engine::cpu::plan::LayerSpec;

/// A chain of other layers than a video net's, on tensors.
struct Chain {
    spec: ChainSpec,
    checkpoint: Checkpoint,
}

impl Chain {
    fn new(layers: Vec<LayerSpec>, seed: u64) -> Self {
        let spec = ChainSpec { input_parts: 1, scale: None, layers };
        let mut random = Random(seed);
        let mut tensors = BTreeMap::new();
        for layer in &spec.layers {
            let fan_in = layer.c_in * layer.kernel * layer.kernel;
            let (weights, bias) = (layer.c_out * fan_in, layer.c_out);
            let mut insert = |suffix: &str, len: usize, largest: f32| {
                // Banks of two kernels, mixed by the tuning itself.
                tensors.insert(format!("{}.{suffix}", layer.name), random.values(2 * len, largest));
            };
            insert("weight", weights, (2.0 / fan_in as f32).sqrt());
            insert("bias", bias, 0.3);
            if layer.slope.is_none() {
                insert("slope", bias, 1.5);
            }
        }
        Self { spec, checkpoint: Checkpoint { metadata: metadata(video(8, 1)), tensors } }
    }

    /// Cut at these edges.
    fn engine(&self, cuts: &[usize], threads: usize, level: Level) -> CpuEngine {
        let spec = self.spec.clone();
        let banks = SharedBanks::of_chain(&self.checkpoint, &spec).unwrap();
        let (of, precision) = ((spec, cuts), Precision::F32);
        CpuEngine::of_chain(&self.checkpoint, of, banks, precision, threads, level).unwrap()
    }

    /// The chain by its definition, in f64.
    fn reference(&self, x: &[f32], size: (usize, usize), omega: [f32; 2]) -> Vec<f64> {
        let mut edges = vec![(x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), size)];
        for layer in &self.spec.layers {
            let folded = |suffix: &str| -> Vec<f64> {
                let bank = &self.checkpoint.tensors[&format!("{}.{suffix}", layer.name)];
                let (a, b) = bank.split_at(bank.len() / 2);
                let mix = |(a, b): (&f32, &f32)| {
                    f64::from(omega[0]) * f64::from(*a) + f64::from(omega[1]) * f64::from(*b)
                };
                a.iter().zip(b).map(mix).collect()
            };
            let (x, size) = edges.last().unwrap();
            let (x, size) = unshuffled(x, *size, layer.unshuffle);
            let slopes = match layer.slope {
                Some(slope) => vec![slope.into(); layer.c_out],
                None => folded("slope"),
            };
            let of_channels = [&folded("bias")[..], &slopes];
            let (y, size) = convolved(&x, size, layer, &folded("weight"), of_channels);
            let (mut y, mut size) = shuffled(&y, size, layer.shuffle);
            for from in layer.added() {
                let (added, of_added) = &edges[from];
                let cropped = (size.0.min(of_added.0), size.1.min(of_added.1));
                y = crop(&y, size, cropped);
                let added = crop(added, *of_added, cropped);
                y.iter_mut().zip(added).for_each(|(y, x)| *y += x);
                size = cropped;
            }
            edges.push((y, size));
        }
        edges.pop().unwrap().0
    }
}

type Map = (Vec<f64>, (usize, usize));

fn convolved(
    x: &[f64],
    (width, height): (usize, usize),
    layer: &LayerSpec,
    weights: &[f64],
    [bias, slopes]: [&[f64]; 2],
) -> Map {
    let LayerSpec { kernel: k, c_in, c_out, stride, factor, .. } = *layer;
    let (w, h) = (width.div_ceil(stride), height.div_ceil(stride));
    let mut y = vec![0.0; c_out * w * h];
    for (at, y) in y.iter_mut().enumerate() {
        let (o, row, column) = (at / (w * h), at / w % h * stride, at % w * stride);
        let mut sum = bias[o];
        for i in 0..c_in {
            for (tap_row, tap) in (0..k).flat_map(|r| (0..k).map(move |c| (r, c))) {
                let (r, c) =
                    ((row + tap_row).wrapping_sub(k / 2), (column + tap).wrapping_sub(k / 2));
                if r < height && c < width {
                    let weight = weights[((o * c_in + i) * k + tap_row) * k + tap];
                    sum += weight * x[(i * height + r) * width + c];
                }
            }
        }
        *y = f64::from(factor) * if sum < 0.0 { sum * slopes[o] } else { sum };
    }
    (y, (w, h))
}

/// The upper left of a map.
fn crop(y: &[f64], (width, height): (usize, usize), to: (usize, usize)) -> Vec<f64> {
    let rows = y.chunks_exact(width).enumerate().filter(|(row, _)| row % height < to.1);
    rows.flat_map(|(_, row)| row[..to.0].to_vec()).collect()
}

/// `[C, H·r, W·r]` to `[C·r², H, W]`.
fn unshuffled(x: &[f64], (width, height): (usize, usize), by: usize) -> Map {
    let (w, h) = (width / by, height / by);
    let channels = x.len() / (width * height) * by * by;
    let value = |at: usize| {
        let (c, row, column) = (at / (w * h), at / w % h, at % w);
        let (sub_row, sub_column) = (c / by % by, c % by);
        x[(c / (by * by) * height + row * by + sub_row) * width + column * by + sub_column]
    };
    ((0..channels * w * h).map(value).collect(), (w, h))
}

/// `[C·r², H, W]` to `[C, H·r, W·r]`.
fn shuffled(x: &[f64], (width, height): (usize, usize), by: usize) -> Map {
    let (w, h) = (width * by, height * by);
    let channels = x.len() / (width * height * by * by);
    let value = |at: usize| {
        let (c, row, column) = (at / (w * h), at / w % h, at % w);
        let from = (c * by + row % by) * by + column % by;
        x[(from * height + row / by) * width + column / by]
    };
    ((0..channels * w * h).map(value).collect(), (w, h))
}

fn conv(name: &str, kernel: usize, c_in: usize, c_out: usize, slope: f32) -> LayerSpec {
    LayerSpec { kernel, ..LayerSpec::new(name, c_in, c_out, slope) }
}

/// Chains that use everything a plan knows.
fn chains() -> Vec<(&'static str, Vec<LayerSpec>)> {
    let add = |from: usize, layer: LayerSpec| LayerSpec { add: [Some(from), None], ..layer };
    let both = |from: [usize; 2], layer: LayerSpec| LayerSpec { add: from.map(Some), ..layer };
    let prelu = |layer: LayerSpec| LayerSpec { slope: None, ..layer };
    let scaled = |factor: f32, layer: LayerSpec| LayerSpec { factor, ..layer };
    let shuffle = |by: usize, layer: LayerSpec| LayerSpec { shuffle: by, ..layer };
    let unshuffle = |by: usize, layer: LayerSpec| LayerSpec { unshuffle: by, ..layer };
    let stride = |by: usize, layer: LayerSpec| LayerSpec { stride: by, ..layer };
    vec![
        ("1×1", vec![conv("a", 1, 3, 5, 1.0)]),
        ("5×5, ReLU", vec![conv("a", 5, 3, 8, 0.0), conv("b", 5, 8, 7, 0.2)]),
        (
            "1×1 between 3×3",
            vec![conv("a", 3, 4, 16, 0.1), conv("b", 1, 16, 24, 0.0), conv("c", 3, 24, 8, 1.0)],
        ),
        ("adds the input", vec![conv("a", 3, 8, 16, 0.1), add(0, conv("b", 3, 16, 8, 1.0))]),
        (
            "EDSR ×2: two residual blocks, a long skip, a shuffle",
            vec![
                conv("head", 3, 3, 16, 1.0),
                conv("b0.a", 3, 16, 16, 0.0),
                add(1, conv("b0.b", 3, 16, 16, 1.0)),
                conv("b1.a", 3, 16, 16, 0.0),
                add(3, conv("b1.b", 3, 16, 16, 1.0)),
                add(1, conv("body", 3, 16, 16, 1.0)),
                shuffle(2, conv("up", 3, 16, 64, 1.0)),
                conv("tail", 3, 16, 3, 1.0),
            ],
        ),
        (
            "EDSR ×4: scaled residuals, the last of them added to the first layer's output too",
            vec![
                conv("head", 3, 3, 16, 0.0),
                conv("b0.a", 3, 16, 16, 0.0),
                add(1, scaled(0.1, conv("b0.b", 3, 16, 16, 1.0))),
                conv("b1.a", 3, 16, 16, 0.0),
                both([3, 1], scaled(0.25, conv("b1.b", 3, 16, 16, 1.0))),
                shuffle(2, conv("up0", 3, 16, 64, 1.0)),
                shuffle(2, conv("up1", 3, 16, 64, 1.0)),
                conv("tail", 3, 16, 3, 1.0),
            ],
        ),
        (
            "many channels: pairs of rows, a block, a long skip, one row after them",
            vec![
                conv("head", 3, 3, 48, 0.1),
                conv("b0.a", 3, 48, 56, 0.0),
                add(1, conv("b0.b", 3, 56, 48, 1.0)),
                both([1, 3], prelu(conv("body", 3, 48, 48, 1.0))),
                shuffle(2, conv("up", 3, 48, 32, 1.0)),
                conv("last", 3, 8, 8, 1.0),
            ],
        ),
        (
            "slopes for each channel, before a shuffle too",
            vec![
                prelu(conv("a", 3, 3, 16, 1.0)),
                prelu(conv("b", 3, 16, 16, 1.0)),
                prelu(add(1, conv("c", 1, 16, 16, 1.0))),
                prelu(scaled(0.5, shuffle(2, conv("d", 3, 16, 12, 1.0)))),
            ],
        ),
        (
            "two sums at another size",
            vec![
                conv("a", 3, 3, 8, 0.1),
                conv("b", 3, 8, 8, 0.1),
                stride(2, conv("c", 3, 8, 16, 0.1)),
                both([1, 2], shuffle(2, scaled(0.5, conv("d", 3, 16, 32, 0.1)))),
            ],
        ),
        ("×3", vec![conv("a", 3, 3, 8, 0.1), shuffle(3, conv("b", 3, 8, 27, 1.0))]),
        (
            "half size inside",
            vec![
                unshuffle(2, conv("a", 3, 12, 16, 0.1)),
                conv("b", 3, 16, 16, 0.1),
                shuffle(2, conv("c", 3, 16, 12, 1.0)),
            ],
        ),
        (
            "half size inside, added",
            vec![
                conv("a", 3, 3, 8, 0.1),
                unshuffle(2, conv("b", 3, 32, 16, 0.1)),
                shuffle(2, conv("c", 3, 16, 32, 0.0)),
                add(1, conv("d", 5, 8, 8, 1.0)),
            ],
        ),
        ("every second pixel", vec![stride(2, conv("a", 3, 3, 8, 0.1)), conv("b", 3, 8, 3, 1.0)]),
        ("every third pixel", vec![stride(3, conv("a", 5, 3, 8, 0.1))]),
        (
            "two scales: a skip around a stride and a shuffle",
            vec![
                conv("head", 3, 3, 16, 0.1),
                stride(2, conv("down", 3, 16, 24, 0.1)),
                conv("inside", 3, 24, 24, 0.1),
                add(1, shuffle(2, conv("up", 1, 24, 64, 1.0))),
                conv("after", 3, 16, 16, 0.1),
                conv("tail", 3, 16, 3, 1.0),
            ],
        ),
        (
            "three scales, the last of them the output",
            vec![
                conv("a", 3, 4, 8, 0.1),
                stride(2, conv("b", 3, 8, 16, 0.1)),
                stride(2, conv("c", 5, 16, 16, 0.1)),
                add(2, shuffle(2, conv("d", 3, 16, 64, 1.0))),
                add(1, shuffle(2, conv("e", 1, 16, 32, 1.0))),
                add(0, conv("f", 1, 8, 4, 1.0)),
            ],
        ),
        ("sums of edges that odd pictures have of two sizes", odd_sums(16)),
        ("the same of many channels", odd_sums(48)),
        (
            "a shuffle at the end, cropped",
            vec![
                stride(2, conv("a", 3, 4, 16, 0.1)),
                add(0, shuffle(2, conv("b", 3, 16, 16, 1.0))),
            ],
        ),
    ]
}

/// A shuffle makes one row and column more than the odd picture has, which the sums that follow leave out.
fn odd_sums(channels: usize) -> Vec<LayerSpec> {
    let conv = |name: &str, c_out| conv(name, 3, channels, c_out, 0.5);
    let both = |from: [usize; 2], layer: LayerSpec| LayerSpec { add: from.map(Some), ..layer };
    vec![
        LayerSpec { c_in: 3, ..conv("a", channels) },
        LayerSpec { stride: 2, ..conv("b", channels) },
        LayerSpec { shuffle: 2, ..conv("c", 4 * channels) },
        both([3, 1], conv("d", channels)),
        both([4, 3], conv("e", channels)),
        both([3, 5], conv("f", channels)),
        conv("g", 3),
    ]
}

#[test]
fn chains_of_every_layer_are_what_they_are_defined_as() {
    for (name, layers) in chains() {
        let chain = Chain::new(layers, 17);
        let unit: usize = chain.spec.layers.iter().map(|l| l.unshuffle).product();
        // Everywhere, but the input is not kept to be added.
        let kept = chain.spec.layers.iter().all(|layer| layer.added().all(|from| from > 0));
        let cuts: Vec<_> = (1..chain.spec.layers.len()).filter(|_| kept).collect();
        for (width, height) in [(1, 1), (2, 5), (9, 4), (37, 21)] {
            let size = (width * unit, height * unit);
            let sizes = Plan::new(chain.spec.clone(), &[]).unwrap().sizes(size).unwrap();
            let x = Random(2).values(chain.spec.channels(0) * size.0 * size.1, 1.0);
            let want = chain.reference(&x, size, [0.75, 0.25]);
            for level in levels() {
                for (cuts, threads, tiling) in [
                    (&[][..], 1, None),
                    (&cuts, 2, None),
                    (&[], 3, Some((1, 2, 3))),
                    (&cuts, 1, Some((2, 9, 9))),
                ] {
                    let mut engine = chain.engine(cuts, threads, level);
                    tune(&mut engine, [0.75, 0.25]);
                    let tiling =
                        tiling.map(|(rounds, bands, strips)| Tiling { rounds, bands, strips });
                    let mut got = vec![f32::NAN; want.len()];
                    let out = (&mut got[..], *sizes.last().unwrap());
                    engine.run_tensor((&x, size), out, tiling).unwrap();
                    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                        let error = (f64::from(*got) - want).abs();
                        assert!(
                            error <= 1e-4 * want.abs().max(1.0),
                            "{name}, {}, {size:?}, {threads} threads, {tiling:?}: \
                             [{at}] is {got}, want {want}",
                            level.name()
                        );
                    }
                }
            }
        }
    }
}
