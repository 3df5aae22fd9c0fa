//! Winograd's minimal filtering F(4, 3) along rows: four neighbouring outputs of three taps with six
//! multiplications instead of twelve (Winograd 1980; Lavin, Gray, CVPR 2016, for the matrices).
//!
//! Columns are grouped in *tiles* of four, counted from the left border of the image whatever part
//! of it is computed. A row of inputs is kept as its six transformed *components*, each
//! `[tile][channel]`; a component's sum over kernel rows and channels is a row convolution with one
//! tap; the outputs are combinations of the six sums.

use super::kernels::conv_row::{ConvRow, RowKernel, RowOut, RowShape};
use super::kernels::{Job, Level};

/// Outputs of a tile.
pub(crate) const TILE: usize = 4;

/// Components of a tile.
pub(crate) const COMPONENTS: usize = 6;

/// Kernel taps in a row, and rows.
const TAPS: usize = 3;

/// Kernel to components.
const KERNEL: [[f32; TAPS]; COMPONENTS] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// A 3×3 layer in components.
pub(crate) struct WinogradConv {
    components: [ConvRow<f32, f32>; COMPONENTS],
    bias: Vec<f32>,
    /// Of leaky ReLU below zero, per output channel; 1 for none.
    slope: Vec<f32>,
    /// Lowest and highest value of each output channel, if there are any.
    bounds: Option<[Vec<f32>; 2]>,
    /// Scratch space: the weights of a component.
    weights: Vec<f32>,
}

impl WinogradConv {
    /// A layer of zero weights.
    pub(crate) fn zeroed(
        kernel: RowKernel<f32, f32>,
        c_in: usize,
        c_out: usize,
        slope: f32,
    ) -> Self {
        let shape = RowShape { segments: TAPS, run: c_in, pixel: c_in, c_out };
        Self {
            components: [(); COMPONENTS].map(|()| ConvRow::zeroed(kernel, shape, 1.0)),
            bias: vec![0.0; c_out],
            slope: vec![slope; c_out],
            bounds: None,
            weights: vec![0.0; c_out * TAPS * c_in],
        }
    }

    /// Takes weights `[c_out][kernel row][tap][c_in]`.
    pub(crate) fn set(&mut self, weights: &[f32], bias: &[f32]) {
        let c_in = self.components[0].shape.run;
        self.bias.copy_from_slice(bias);
        for (component, factors) in self.components.iter_mut().zip(&KERNEL) {
            let rows = self.weights.chunks_exact_mut(c_in).zip(weights.chunks_exact(TAPS * c_in));
            for (row, taps) in rows {
                let (first, rest) = taps.split_at(c_in);
                let (second, third) = rest.split_at(c_in);
                for (c, w) in row.iter_mut().enumerate() {
                    *w = factors[0] * first[c] + factors[1] * second[c] + factors[2] * third[c];
                }
            }
            component.set_weights(&self.weights);
        }
    }

    /// Slope of each output channel, to be set.
    pub(crate) fn slope_mut(&mut self) -> &mut [f32] {
        &mut self.slope
    }

    /// Lowest and highest value of each output channel, to be set.
    pub(crate) fn bounds_mut(&mut self) -> [&mut [f32]; 2] {
        let c_out = self.bias.len();
        let zeros = || [vec![0.0; c_out], vec![0.0; c_out]];
        self.bounds.get_or_insert_with(zeros).each_mut().map(Vec::as_mut_slice)
    }

    /// Output channels.
    pub(crate) fn c_out(&self) -> usize {
        self.bias.len()
    }

    /// Fewest tiles that [`WinogradConv::sums`] computes.
    pub(crate) fn least_tiles(&self) -> usize {
        self.components[0].kernel.pixels
    }

    /// The sums of one component, `[tile][c_out]`; `rows` are that component of three input rows.
    pub(crate) fn sums(
        &self,
        component: usize,
        rows: &[&[f32]; TAPS],
        tiles: usize,
        to: &mut [f32],
    ) {
        let tiles = tiles.max(self.least_tiles());
        self.components[component].run(rows, tiles, RowOut::F32 { to, add: [None; 2] });
    }

    /// Outputs `[x][c_out]` of whole tiles from the components' sums, `stride` apart, with bias and
    /// activation, plus what is in `add`, clamped.
    pub(crate) fn outputs(
        &self,
        level: Level,
        sums: &[f32],
        stride: usize,
        add: [Option<&[f32]>; 2],
        out: &mut [f32],
    ) {
        let Self { bias, slope, bounds, .. } = self;
        level.run(Outputs { bias, slope, bounds: bounds.as_ref(), sums, stride, add, out });
    }
}

struct Outputs<'a> {
    bias: &'a [f32],
    slope: &'a [f32],
    bounds: Option<&'a [Vec<f32>; 2]>,
    sums: &'a [f32],
    stride: usize,
    add: [Option<&'a [f32]>; 2],
    out: &'a mut [f32],
}

impl Job for Outputs<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { bias, slope, bounds, sums, stride, add, out } = self;
        let channels = bias.len();
        let slope = &slope[..channels];
        for (tile, out) in out.chunks_exact_mut(TILE * channels).enumerate() {
            let of = |component: usize| &sums[component * stride + tile * channels..][..channels];
            let [m0, m1, m2, m3, m4, m5] = [of(0), of(1), of(2), of(3), of(4), of(5)];
            let (upper, lower) = out.split_at_mut(2 * channels);
            let (y0, y1) = upper.split_at_mut(channels);
            let (y2, y3) = lower.split_at_mut(channels);
            for c in 0..channels {
                let (even, odd) = (m1[c] + m2[c], m1[c] - m2[c]);
                let (even2, odd2) = (m3[c] + m4[c], m3[c] - m4[c]);
                let leaky = |v: f32| if v < 0.0 { v * slope[c] } else { v };
                y0[c] = leaky(m0[c] + even + even2 + bias[c]);
                y1[c] = leaky(odd + 2.0 * odd2 + bias[c]);
                y2[c] = leaky(even + 4.0 * even2 + bias[c]);
                y3[c] = leaky(odd + 8.0 * odd2 + m5[c] + bias[c]);
            }
            for add in add.into_iter().flatten() {
                let add = &add[tile * TILE * channels..];
                out.iter_mut().zip(add).for_each(|(out, add)| *out += add);
            }
            let Some([low, high]) = bounds else { continue };
            for out in out.chunks_exact_mut(channels) {
                for ((v, low), high) in out.iter_mut().zip(low).zip(high) {
                    *v = if *v > *low { *v } else { *low };
                    *v = if *v < *high { *v } else { *high };
                }
            }
        }
    }
}

/// Transforms a row of inputs `[x][channel]` to components, `stride` apart. `row` starts one column
/// left of the first tile and ends one column right of the last.
pub(crate) fn transform(level: Level, row: &[f32], channels: usize, stride: usize, to: &mut [f32]) {
    level.run(Transform { row, channels, stride, to });
}

struct Transform<'a> {
    row: &'a [f32],
    channels: usize,
    stride: usize,
    to: &'a mut [f32],
}

impl Job for Transform<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { row, channels, stride, to } = self;
        let tiles = (row.len() / channels - 2) / TILE;
        let [v0, v1, v2, v3, v4, v5] = {
            let mut parts = to.chunks_exact_mut(stride);
            [(); COMPONENTS].map(|()| parts.next().expect("one part per component"))
        };
        for tile in 0..tiles {
            let at = tile * channels..(tile + 1) * channels;
            let [v0, v1, v2] = [&mut v0[at.clone()], &mut v1[at.clone()], &mut v2[at.clone()]];
            let [v3, v4, v5] = [&mut v3[at.clone()], &mut v4[at.clone()], &mut v5[at.clone()]];
            let of = |x: usize| &row[(tile * TILE + x) * channels..][..channels];
            let [d0, d1, d2, d3, d4, d5] = [of(0), of(1), of(2), of(3), of(4), of(5)];
            for c in 0..channels {
                let (even, odd) = (d4[c] - 4.0 * d2[c], d3[c] - 4.0 * d1[c]);
                let (even2, odd2) = (d4[c] - d2[c], 2.0 * (d3[c] - d1[c]));
                v0[c] = 4.0 * d0[c] - 5.0 * d2[c] + d4[c];
                v1[c] = even + odd;
                v2[c] = even - odd;
                v3[c] = even2 + odd2;
                v4[c] = even2 - odd2;
                v5[c] = 4.0 * d1[c] - 5.0 * d3[c] + d5[c];
            }
        }
    }
}
