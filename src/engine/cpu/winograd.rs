//! Winograd's minimal filtering F(4, 3) along rows: four neighbouring outputs of three taps with six
//! multiplications instead of twelve; and, for layers of many channels, F(2, 3) down the columns: two rows of
//! three taps with four instead of six (Winograd 1980; Lavin, Gray, CVPR 2016, for the matrices).
//!
//! Columns are grouped in *tiles* of four, counted from the left border of the image whatever part
//! of it is computed, and so are rows in pairs from the top. A row of inputs is kept as its six transformed
//! *components*, each `[tile][channel]`. One row of outputs: a component's sum over kernel rows and channels is a
//! row convolution with one tap, and the outputs are combinations of the six sums. Two rows: four rows of
//! each component are *mixed* to four others, each with a sum over channels alone, and the sums of each row's
//! components are combinations of those.

mod transforms;

use super::kernels::Level;
use super::kernels::aligned::Aligned;
use super::kernels::conv_row::{ConvRow, RowKernel, RowOut, RowShape};
pub(crate) use transforms::transform;
use transforms::{Mix, Outputs, Unmix};

/// Outputs of a tile.
pub(crate) const TILE: usize = 4;

/// Components of a tile.
pub(crate) const COMPONENTS: usize = 6;

/// Kernel taps in a row, and rows.
const TAPS: usize = 3;

/// Rows of components that are mixed for a pair of outputs, and what becomes of them.
const MIXED: usize = 4;

/// Fewest input channels of a layer for which pairs of rows are worth their mixing.
const MANY_CHANNELS: usize = 48;

/// Kernel to components.
const KERNEL: [[f32; TAPS]; COMPONENTS] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Kernel rows to those of mixed rows.
const KERNEL_ROWS: [[f32; TAPS]; MIXED] =
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

/// Rows of outputs that are computed together for so many input channels.
pub(crate) fn row_unit(c_in: usize) -> usize {
    if c_in < MANY_CHANNELS { 1 } else { 2 }
}

/// A 3×3 layer in components.
pub(crate) struct WinogradConv {
    /// Of each component, or of each mixed row of each.
    components: Vec<ConvRow<f32, f32>>,
    bias: Vec<f32>,
    /// Of leaky ReLU below zero, per output channel; 1 for none.
    slope: Vec<f32>,
    /// Lowest and highest value of each output channel, if there are any.
    bounds: Option<[Vec<f32>; 2]>,
    /// Scratch space: the weights of a component, and those of a mixed row.
    weights: [Vec<f32>; 2],
}

/// Scratch space of a row of outputs, or of a pair.
pub(crate) struct Scratch {
    /// Mixed rows `[tile][c_in]`.
    mixed: Aligned<f32>,
    /// Of each mixed row, `[tile][c_out]`.
    mixed_sums: Aligned<f32>,
    /// Of every component of every row of outputs, `[tile][c_out]`.
    sums: Aligned<f32>,
}

impl Scratch {
    /// Room for so many tiles of each of some layers.
    pub(crate) fn new<'a>(layers: impl Iterator<Item = (&'a WinogradConv, usize)> + Clone) -> Self {
        let most = |of: &dyn Fn(&WinogradConv) -> usize| {
            let values = layers.clone().map(|(conv, tiles)| of(conv) * conv.at_least(tiles));
            Aligned::zeroed(values.max().unwrap_or(0))
        };
        Self {
            mixed: most(&|conv| MIXED * conv.c_in()),
            mixed_sums: most(&|conv| MIXED * conv.c_out()),
            sums: most(&|conv| COMPONENTS * conv.rows() * conv.c_out()),
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.mixed.bytes() + self.mixed_sums.bytes() + self.sums.bytes()
    }
}

impl WinogradConv {
    /// A layer of zero weights.
    pub(crate) fn zeroed(
        kernel: RowKernel<f32, f32>,
        c_in: usize,
        c_out: usize,
        slope: f32,
    ) -> Self {
        let (components, segments) = match row_unit(c_in) {
            1 => (COMPONENTS, TAPS),
            _ => (COMPONENTS * MIXED, 1),
        };
        let shape = RowShape { segments, run: c_in, pixel: c_in, c_out };
        Self {
            components: (0..components).map(|_| ConvRow::zeroed(kernel, shape, 1.0)).collect(),
            bias: vec![0.0; c_out],
            slope: vec![slope; c_out],
            bounds: None,
            weights: [vec![0.0; c_out * TAPS * c_in], vec![0.0; c_out * c_in]],
        }
    }

    /// Takes weights `[c_out][kernel row][tap][c_in]`.
    pub(crate) fn set(&mut self, weights: &[f32], bias: &[f32]) {
        let c_in = self.c_in();
        let of_component = self.components.len() / COMPONENTS;
        self.bias.copy_from_slice(bias);
        let [of_rows, of_mixed] = &mut self.weights;
        for (components, factors) in self.components.chunks_exact_mut(of_component).zip(&KERNEL) {
            combine(weights, c_in, factors, of_rows);
            if let [component] = components {
                component.set_weights(of_rows);
                continue;
            }
            for (component, factors) in components.iter_mut().zip(&KERNEL_ROWS) {
                combine(of_rows, c_in, factors, of_mixed);
                component.set_weights(of_mixed);
            }
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

    /// Rows of outputs that are computed together.
    fn rows(&self) -> usize {
        row_unit(self.c_in())
    }

    /// Input channels.
    fn c_in(&self) -> usize {
        self.components[0].shape.run
    }

    /// Output channels.
    pub(crate) fn c_out(&self) -> usize {
        self.bias.len()
    }

    /// Tiles that are computed for so many.
    fn at_least(&self, tiles: usize) -> usize {
        tiles.max(self.components[0].kernel.pixels)
    }

    /// The sums of one component; `rows` are that component of the input rows under the first row of outputs and
    /// the next, if that is computed with it.
    pub(crate) fn sums(
        &self,
        level: Level,
        component: usize,
        rows: &[&[f32]; MIXED],
        tiles: usize,
        scratch: &mut Scratch,
    ) {
        let tiles = self.at_least(tiles);
        let (len, sums_len) = (tiles * self.c_in(), tiles * self.c_out());
        let Scratch { mixed, mixed_sums, sums } = scratch;
        let sums = &mut sums[component * self.rows() * sums_len..][..self.rows() * sums_len];
        if self.rows() == 1 {
            let to = RowOut::F32 { to: sums, add: [None; 2] };
            return self.components[component].run(&rows[..TAPS], tiles, to);
        }
        let mixed = &mut mixed[..MIXED * len];
        let mixed_sums = &mut mixed_sums[..MIXED * sums_len];
        level.run(Mix { rows: rows.map(|row| &row[..len]), to: mixed });
        let convs = &self.components[component * MIXED..][..MIXED];
        let mixed = mixed.chunks_exact(len).zip(mixed_sums.chunks_exact_mut(sums_len));
        for (conv, (mixed, to)) in convs.iter().zip(mixed) {
            conv.run(&[mixed], tiles, RowOut::F32 { to, add: [None; 2] });
        }
        level.run(Unmix { mixed: mixed_sums, to: sums });
    }

    /// Outputs `[x][c_out]` of whole tiles of a row, the first or the second of those that are computed together,
    /// from the sums, with bias and activation, plus what is in `add`, clamped.
    pub(crate) fn outputs(
        &self,
        level: Level,
        scratch: &Scratch,
        row: usize,
        add: [Option<&[f32]>; 2],
        out: &mut [f32],
    ) {
        let Self { bias, slope, bounds, .. } = self;
        let len = self.at_least(out.len() / (TILE * bias.len())) * bias.len();
        let (sums, stride) = (&scratch.sums[row * len..], self.rows() * len);
        level.run(Outputs { bias, slope, bounds: bounds.as_ref(), sums, stride, add, out });
    }
}

/// Weights `[c_out][row or tap][.., c_in]`, three of them combined to one.
fn combine(weights: &[f32], c_in: usize, factors: &[f32; TAPS], to: &mut [f32]) {
    for (to, of) in to.chunks_exact_mut(c_in).zip(weights.chunks_exact(TAPS * c_in)) {
        let (first, rest) = of.split_at(c_in);
        let (second, third) = rest.split_at(c_in);
        for (c, w) in to.iter_mut().enumerate() {
            *w = factors[0] * first[c] + factors[1] * second[c] + factors[2] * third[c];
        }
    }
}
