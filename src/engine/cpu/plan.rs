//! Plan of a chain of convolutions: which rows of which edge each output row needs, in what order
//! rows are computed, and how many of each edge are kept.
//!
//! *Edge* 0 is the input, edge l + 1 the output of layer l. Rows are pulled: an output row asks for
//! the rows under its kernel, and those for theirs, each computed just before it is needed. So layer
//! l runs ahead of the output by the sum of the halos behind it, and a ring of rows per edge is
//! enough. A deep chain, whose weights do not all stay in cache, is computed in *stages*, some layers
//! each: the edges between them, the *cuts*, are kept whole.

use std::ops::Range;

use crate::frame::CHANNELS;
use crate::nn::{
    Activation, Architecture, ChainLayer, Colour, Io, Link, Mode, Output, PhiConfig, PixelSize,
    TunableConv2dConfig,
};

/// Most layers of a chain.
const MAX_LAYERS: usize = 64;

/// Most rows under a kernel: 5 taps.
const MAX_KERNEL: usize = 5;

/// A chain of convolutions, each on the output of the one before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChainSpec {
    /// Parts that an input row is stored in; each has an equal share of the channels.
    pub(crate) input_parts: usize,
    /// Width and height of the output over the input's, where the last shuffle may have made up to one group
    /// more; `None` to keep all that there is.
    pub(crate) scale: Option<usize>,
    /// First to last.
    pub(crate) layers: Vec<LayerSpec>,
}

/// One convolution: zero padding that keeps the size but for the stride, bias, leaky ReLU.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerSpec {
    /// Prefix of its tensors' names.
    pub(crate) name: String,
    /// 1, 3 or 5.
    pub(crate) kernel: usize,
    /// Input channels, after unshuffling.
    pub(crate) c_in: usize,
    /// Output channels, before shuffling.
    pub(crate) c_out: usize,
    /// Slope of leaky ReLU below zero: 0 for ReLU, 1 for none; `None` where each channel has one of its own,
    /// mixed by the tuning.
    pub(crate) slope: Option<f32>,
    /// Kernels and biases are multiplied by this, which is positive.
    pub(crate) factor: f32,
    /// What mixes its kernels.
    pub(crate) phi: PhiConfig,
    /// Pixel unshuffle by this factor before the convolution; 1 for none.
    pub(crate) unshuffle: usize,
    /// Step of the kernel: an output pixel for every so many.
    pub(crate) stride: usize,
    /// Pixel shuffle by this factor after it; 1 for none.
    pub(crate) shuffle: usize,
    /// Edges whose values are added after activation and shuffle; the sum has the size of the smallest: shuffles
    /// make up to one group more.
    pub(crate) add: [Option<usize>; 2],
    /// Columns of the convolution are computed in groups of so many, counted from the left border.
    pub(crate) column_unit: usize,
    /// Rows of it are, counted from the top.
    pub(crate) row_unit: usize,
}

impl LayerSpec {
    /// A 3×3 layer.
    pub(crate) fn new(name: impl Into<String>, c_in: usize, c_out: usize, slope: f32) -> Self {
        let name = name.into();
        Self {
            name,
            kernel: 3,
            c_in,
            c_out,
            slope: Some(slope),
            factor: 1.0,
            phi: PhiConfig { mode: Mode::Linear, expand: 1 },
            unshuffle: 1,
            stride: 1,
            shuffle: 1,
            add: [None; 2],
            column_unit: 1,
            row_unit: 1,
        }
    }

    /// A layer of a net.
    fn of(layer: ChainLayer, is_last: bool) -> Result<Self, String> {
        let ChainLayer { name, kernel, c_in, c_out, config, factor, link, .. } = layer;
        let channels = c_out / link.shuffle.pow(2);
        if !is_last && !channels.is_multiple_of(8) {
            return Err(format!("layer `{name}`: {channels} channels, expected a multiple of 8"));
        }
        let TunableConv2dConfig { stride, padding, dilation, groups, activation, phi, .. } = config;
        if padding != kernel / 2 || dilation != 1 || groups != 1 {
            return Err(format!("layer `{name}`: padding, dilation or groups of another kind"));
        }
        let slope = match activation {
            Activation::None => Some(1.0),
            Activation::LeakyRelu(slope) => Some(slope),
            Activation::PRelu => None,
        };
        let Link { shuffle, add } = link;
        if factor <= 0.0 {
            return Err(format!("layer `{name}`: multiplied by {factor}, expected more than 0"));
        }
        let layer = Self::new(name, c_in, c_out, 1.0);
        Ok(Self { kernel, stride, shuffle, add, factor, phi, slope, ..layer })
    }

    /// The edges that are added.
    pub(crate) fn added(&self) -> impl Iterator<Item = usize> + use<> {
        self.add.into_iter().flatten()
    }

    fn pad(&self) -> usize {
        self.kernel / 2
    }

    /// Rows (or columns) of the input under rows (or columns) `out` of the convolution, as far as
    /// they are inside `0..len`.
    pub(crate) fn under(&self, out: Range<usize>, len: usize) -> Range<usize> {
        let (first, last) = (out.start * self.stride, out.end.saturating_sub(1) * self.stride);
        let start = first.saturating_sub(self.pad()) * self.unshuffle;
        let end = ((last + self.pad() + 1) * self.unshuffle).min(len);
        start..end
    }

    /// Rows (or columns) of the convolution, before shuffling, on an input of so many.
    pub(crate) fn convolved(&self, len: usize) -> usize {
        (len / self.unshuffle).div_ceil(self.stride)
    }

    /// Rows (or columns) of the input from one of the convolution to the next.
    pub(crate) fn step(&self) -> usize {
        self.stride * self.unshuffle
    }

    /// Rows of the output that are computed together.
    pub(crate) fn group(&self) -> usize {
        self.shuffle * self.row_unit
    }

    /// Columns of the input beside the image that the kernel reads.
    pub(crate) fn halo(&self) -> usize {
        self.pad() * self.unshuffle
    }
}

impl ChainSpec {
    /// The chain of a checkpoint's net.
    ///
    /// # Errors
    /// Why this engine cannot run it.
    pub(crate) fn of(architecture: &Architecture) -> Result<Self, String> {
        let io = architecture.io();
        let Some(chain) = architecture.chain() else {
            return Err(format!("it is no chain of convolutions ({})", architecture.describe()));
        };
        let input_parts = match io {
            Io { colour: Colour::Yuv420, output: Output::Residual, scale: 1, .. } => 3,
            Io { colour: Colour::Rgb | Colour::Luma, .. } => 1,
            Io { colour, output, scale, .. } => {
                return Err(format!("{output:?} output in {colour:?}, {scale} × the size"));
            }
        };
        if chain.len() > MAX_LAYERS {
            return Err(format!("{} layers, expected at most {MAX_LAYERS}", chain.len()));
        }
        let last = chain.len() - 1;
        let layers = chain.into_iter().enumerate().map(|(at, l)| LayerSpec::of(l, at == last));
        let layers = layers.collect::<Result<_, _>>()?;
        let spec = Self { input_parts, scale: Some(io.scale), layers };
        spec.validate()?;
        Ok(spec)
    }

    /// Channels of an edge.
    pub(crate) fn channels(&self, edge: usize) -> usize {
        match edge {
            0 => self.layers[0].c_in / self.layers[0].unshuffle.pow(2),
            _ => self.layers[edge - 1].c_out / self.layers[edge - 1].shuffle.pow(2),
        }
    }

    /// Parts that a row of an edge is stored in, the channels divided between them.
    pub(crate) fn parts(&self, edge: usize) -> usize {
        match edge {
            0 => self.input_parts,
            _ if edge == self.layers.len() && self.is_video() => 3,
            _ => 1,
        }
    }

    /// Whether input and output are the six channels of a 4:2:0 frame, stored in pairs.
    pub(crate) fn is_video(&self) -> bool {
        let last = self.layers.last();
        self.input_parts == 3
            && self.channels(0) == CHANNELS
            && last.is_some_and(|last| last.c_out == CHANNELS && last.shuffle == 1)
    }

    /// Rows of the input from one at which a row of every edge begins to the next.
    fn common_start(&self) -> usize {
        let mut size = PixelSize::INPUT;
        PixelSize::common_start(self.layers.iter().map(|layer| {
            let convolved = size.convolved(layer.step());
            size = convolved.shuffled(layer.shuffle);
            convolved
        }))
    }

    fn validate(&self) -> Result<(), String> {
        if self.layers.is_empty() || self.layers.len() > MAX_LAYERS {
            return Err(format!("{} layers, expected 1 to {MAX_LAYERS}", self.layers.len()));
        }
        if self.input_parts == 0 || !self.channels(0).is_multiple_of(self.input_parts) {
            let (channels, parts) = (self.channels(0), self.input_parts);
            return Err(format!("{channels} input channels do not fill {parts} parts"));
        }
        let mut sizes = vec![PixelSize::INPUT];
        for (index, layer) in self.layers.iter().enumerate() {
            let fail = |reason: String| Err(format!("layer `{}`: {reason}", layer.name));
            let LayerSpec { kernel, c_in, c_out, slope, unshuffle, stride, shuffle, .. } = *layer;
            if !matches!(kernel, 1 | 3 | 5) {
                return fail(format!("kernel {kernel}, expected 1, 3 or 5"));
            }
            if unshuffle == 0 || shuffle == 0 || unshuffle.max(shuffle) > 4 {
                return fail(format!("shuffle {shuffle}, unshuffle {unshuffle}, expected 1 to 4"));
            }
            if stride == 0 || stride > kernel {
                return fail(format!("stride {stride}, expected 1 to {kernel}"));
            }
            let rows = kernel * unshuffle * self.parts(index);
            if rows > 3 * MAX_KERNEL {
                return fail(format!("{rows} row parts under the kernel, expected at most 15"));
            }
            if c_in == 0 || c_in != self.channels(index) * unshuffle * unshuffle {
                return fail(format!("{c_in} input channels on {}", self.channels(index)));
            }
            if c_out == 0 || !c_out.is_multiple_of(shuffle * shuffle) {
                return fail(format!("{c_out} output channels, shuffled by {shuffle}"));
            }
            if let Some(slope) = slope.filter(|slope| !(0.0..=1.0).contains(slope)) {
                return fail(format!("slope {slope}, expected 0 to 1"));
            }
            sizes.push(sizes[index].convolved(layer.step()).shuffled(shuffle));
            for from in layer.added() {
                let same_size = sizes.get(from) == Some(&sizes[index + 1]);
                let same_channels =
                    from <= index && self.channels(from) == self.channels(index + 1);
                let in_parts = self.parts(from) != 1 || self.parts(index + 1) != 1;
                if !same_size || !same_channels || in_parts {
                    return fail(format!("cannot add edge {from}, of another shape"));
                }
            }
        }
        Ok(())
    }
}

/// One step of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Load this row of the input.
    Load(usize),
    /// Compute this row of this layer, before shuffling, and those that are computed with it.
    Compute { layer: usize, row: usize },
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    spec: ChainSpec,
    /// Layers of each stage.
    stages: Vec<Range<usize>>,
    /// Rows of each edge that are kept.
    rings: Vec<usize>,
    /// Those of them that the next layer needs.
    windows: Vec<usize>,
}

/// Part of an edge that is computed on its own, and what it needs of those before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tile {
    /// Rows of that edge.
    pub(crate) rows: Range<usize>,
    /// First row of each edge.
    pub(crate) first_rows: Vec<usize>,
    /// Where the rows of each edge end.
    pub(crate) ends: Vec<usize>,
    /// Columns of each edge.
    pub(crate) columns: Vec<Range<usize>>,
}

impl Tile {
    /// Takes in rows and columns of an edge.
    fn need(&mut self, edge: usize, rows: Range<usize>, columns: Range<usize>) {
        self.first_rows[edge] = self.first_rows[edge].min(rows.start);
        self.ends[edge] = self.ends[edge].max(rows.end);
        let all = &mut self.columns[edge];
        *all = match Range::is_empty(all) {
            true => columns,
            false => all.start.min(columns.start)..all.end.max(columns.end),
        };
    }
}

impl Plan {
    /// A chain that is cut at these edges, in order; what is added across a cut has to be one.
    ///
    /// # Errors
    /// What about the chain cannot be done, naming the layer.
    ///
    /// # Panics
    /// If it is not.
    pub(crate) fn new(spec: ChainSpec, cuts: &[usize]) -> Result<Self, String> {
        spec.validate()?;
        let none = vec![0; spec.layers.len() + 1];
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([spec.layers.len()]);
        let stages = starts.zip(ends).map(|(start, end)| start..end).collect();
        let mut plan = Self { stages, rings: none.clone(), windows: none, spec };
        for stage in &plan.stages {
            let mut added = plan.spec.layers[stage.clone()].iter().flat_map(LayerSpec::added);
            assert!(added.all(|from| from >= stage.start || plan.is_cut(from)), "{cuts:?}");
        }
        (plan.rings, plan.windows) = plan.measure_rings();
        Ok(plan)
    }

    /// Layers of each stage.
    pub(crate) fn stages(&self) -> &[Range<usize>] {
        &self.stages
    }

    /// Whether an edge is between two stages.
    pub(crate) fn is_cut(&self, edge: usize) -> bool {
        self.stages.iter().any(|stage| stage.start == edge && edge > 0)
    }

    /// The chain.
    pub(crate) fn spec(&self) -> &ChainSpec {
        &self.spec
    }

    /// Number of rows of an edge that are kept.
    pub(crate) fn ring(&self, edge: usize) -> usize {
        self.rings[edge]
    }

    /// Number of rows of an edge that the next layer needs.
    pub(crate) fn window(&self, edge: usize) -> usize {
        self.windows[edge]
    }

    /// Number of edges.
    pub(crate) fn edges(&self) -> usize {
        self.rings.len()
    }

    /// Width and height of every edge for an input of this size.
    ///
    /// # Errors
    /// A layer that cannot unshuffle its input.
    pub(crate) fn sizes(&self, input: (usize, usize)) -> Result<Vec<(usize, usize)>, String> {
        let mut sizes = vec![input];
        for (index, layer) in self.spec.layers.iter().enumerate() {
            let ((width, height), by) = (sizes[index], layer.unshuffle);
            if !width.is_multiple_of(by) || !height.is_multiple_of(by) {
                let name = &layer.name;
                return Err(format!("layer `{name}` cannot unshuffle {width}×{height} by {by}"));
            }
            let shuffled = |len: usize| layer.convolved(len) * layer.shuffle;
            let size = (shuffled(width), shuffled(height));
            let cropped = layer.added().map(|from| sizes[from]);
            sizes.push(cropped.fold(size, |(w, h), (width, height)| (w.min(width), h.min(height))));
        }
        if let (Some(scale), Some(last)) = (self.spec.scale, sizes.last_mut()) {
            *last = (last.0.min(scale * input.0), last.1.min(scale * input.1));
        }
        Ok(sizes)
    }

    /// What these rows and columns of the edge behind some layers need of the edges before, cuts aside that
    /// are added; they have to be multiples of the last layer's shuffle.
    pub(crate) fn tile(
        &self,
        sizes: &[(usize, usize)],
        layers: &Range<usize>,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Tile {
        let edges = self.edges();
        let mut tile = Tile {
            rows: rows.clone(),
            first_rows: vec![usize::MAX; edges],
            ends: vec![0; edges],
            columns: vec![0..0; edges],
        };
        tile.need(layers.end, rows, columns);
        for edge in layers.clone().rev() {
            let layer = &self.spec.layers[edge];
            // Rows and columns come with the others of their group.
            let (by, (width, height)) = (layer.shuffle, sizes[edge]);
            let whole = |range: Range<usize>, unit: usize, len: usize| {
                let end = range.end.div_ceil(by).next_multiple_of(unit).min(layer.convolved(len));
                range.start / by / unit * unit..end
            };
            let rows = tile.first_rows[edge + 1]..tile.ends[edge + 1];
            let rows = whole(rows, layer.row_unit, height);
            let convolved = whole(tile.columns[edge + 1].clone(), layer.column_unit, width);
            let shuffled = convolved.start * by..(convolved.end * by).min(sizes[edge + 1].0);
            (tile.first_rows[edge + 1], tile.ends[edge + 1]) = (rows.start * by, rows.end * by);
            tile.columns[edge + 1] = shuffled.clone();
            for from in layer.added().filter(|&from| from >= layers.start) {
                let end = (rows.end * by).min(sizes[from].1);
                tile.need(from, rows.start * by..end, shuffled.clone());
            }
            tile.need(edge, layer.under(rows, height), layer.under(convolved, width));
        }
        tile
    }

    /// Takes the steps of a stage's tile in order. `next` is scratch space, one entry per edge.
    pub(crate) fn steps(
        &self,
        sizes: &[(usize, usize)],
        stage: &Range<usize>,
        tile: &Tile,
        next: &mut [usize],
        mut step: impl FnMut(Step),
    ) {
        next.copy_from_slice(&tile.first_rows);
        self.pull((sizes, stage), next, (stage.end, tile.rows.end), &mut step);
    }

    /// Computes the rows of an edge before `end` that are not there yet.
    fn pull(
        &self,
        of: (&[(usize, usize)], &Range<usize>),
        next: &mut [usize],
        (edge, end): (usize, usize),
        step: &mut impl FnMut(Step),
    ) {
        let (sizes, stage) = of;
        while edge == stage.start && next[edge] < end {
            step(Step::Load(next[edge]));
            next[edge] += 1;
        }
        while next[edge] < end {
            let layer = &self.spec.layers[edge - 1];
            let row = next[edge] / layer.shuffle;
            let under = layer.under(row..row + layer.row_unit, sizes[edge - 1].1);
            self.pull(of, next, (edge - 1, under.end), step);
            for from in layer.added().filter(|&from| !self.is_cut(from)) {
                let end = (next[edge] + layer.group()).min(sizes[from].1);
                self.pull(of, next, (from, end), step);
            }
            step(Step::Compute { layer: edge - 1, row });
            next[edge] += layer.group();
        }
    }

    /// Rows of each edge from the oldest that a step still reads to the newest that is there,
    /// the most in the steps of an image far taller than all halos together; and those of the steps of the
    /// next layer.
    fn measure_rings(&self) -> (Vec<usize>, Vec<usize>) {
        let unit = self.spec.common_start();
        let halos: usize = self.spec.layers.iter().map(LayerSpec::halo).sum();
        let side = unit * (4 * halos + 16);
        let sizes = self.sizes((side, side)).expect("a multiple of every unshuffle");
        let mut rings: Vec<usize> = self.spec.layers.iter().map(LayerSpec::group).collect();
        rings.insert(0, 1);
        let mut windows = rings.clone();
        for stage in &self.stages {
            let (width, height) = sizes[stage.end];
            let tile = self.tile(&sizes, stage, 0..height, 0..width);
            let mut there = tile.first_rows.clone();
            self.steps(&sizes, stage, &tile, &mut vec![0; self.edges()], |step| match step {
                Step::Load(row) => there[stage.start] = row + 1,
                Step::Compute { layer, row } => {
                    let spec = &self.spec.layers[layer];
                    let under = spec.under(row..row + spec.row_unit, sizes[layer].1);
                    windows[layer] = windows[layer].max(there[layer] - under.start);
                    for from in spec.added().filter(|&from| !self.is_cut(from)) {
                        rings[from] = rings[from].max(there[from] - row * spec.shuffle);
                    }
                    there[layer + 1] = row * spec.shuffle + spec.group();
                }
            });
        }
        for (ring, window) in rings.iter_mut().zip(&windows) {
            *ring = (*ring).max(*window);
        }
        (rings, windows)
    }
}

#[cfg(test)]
mod tests;
