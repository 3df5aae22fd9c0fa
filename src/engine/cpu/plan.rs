//! Plan of a chain of convolutions: which rows of which edge each output row needs, in what order
//! rows are computed, and how many of each edge are kept.
//!
//! *Edge* 0 is the input, edge l + 1 the output of layer l. Rows are pulled: an output row asks for
//! the rows under its kernel, and those for theirs, each computed just before it is needed. So layer
//! l runs ahead of the output by the sum of the halos behind it, and a ring of rows per edge is
//! enough.

use std::ops::Range;

use crate::checkpoint::Architecture;
use crate::frame::CHANNELS;

/// Most layers of a chain.
const MAX_LAYERS: usize = 64;

/// Most rows under a kernel: 5 taps.
const MAX_KERNEL: usize = 5;

/// A chain of convolutions, each on the output of the one before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChainSpec {
    /// Parts that an input row is stored in; each has an equal share of the channels.
    pub(crate) input_parts: usize,
    /// First to last.
    pub(crate) layers: Vec<LayerSpec>,
}

/// One convolution: zero padding that keeps the size, bias, leaky ReLU.
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
    /// Slope of leaky ReLU below zero: 0 for ReLU, 1 for none.
    pub(crate) slope: f32,
    /// Pixel unshuffle by this factor before the convolution; 1 for none.
    pub(crate) unshuffle: usize,
    /// Pixel shuffle by this factor after it; 1 for none.
    pub(crate) shuffle: usize,
    /// Edge whose values are added after the activation.
    pub(crate) add: Option<usize>,
    /// Columns of the convolution are computed in groups of so many, counted from the left border.
    pub(crate) column_unit: usize,
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
            slope,
            unshuffle: 1,
            shuffle: 1,
            add: None,
            column_unit: 1,
        }
    }

    fn pad(&self) -> usize {
        self.kernel / 2
    }

    /// Rows (or columns) of the input under rows (or columns) `out` of the convolution, as far as
    /// they are inside `0..len`.
    pub(crate) fn under(&self, out: Range<usize>, len: usize) -> Range<usize> {
        let start = out.start.saturating_sub(self.pad()) * self.unshuffle;
        let end = ((out.end + self.pad()) * self.unshuffle).min(len);
        start..end
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
        let Architecture::Video(config) = architecture;
        let (c, n) = (config.channels, config.layers);
        if !c.is_multiple_of(8) {
            return Err(format!("{c} channels, expected a multiple of 8"));
        }
        if n > 32 {
            return Err(format!("{n} inner layers, expected at most 32"));
        }
        let slope = config.negative_slope;
        let mut layers = vec![LayerSpec::new("head", CHANNELS, c, slope)];
        layers.extend((0..n).map(|i| LayerSpec::new(format!("body.{i}"), c, c, slope)));
        layers.push(LayerSpec::new("tail", c, CHANNELS, 1.0));
        Ok(Self { input_parts: 3, layers })
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

    fn validate(&self) -> Result<(), String> {
        if self.layers.is_empty() || self.layers.len() > MAX_LAYERS {
            return Err(format!("{} layers, expected 1 to {MAX_LAYERS}", self.layers.len()));
        }
        if self.input_parts == 0 || !self.channels(0).is_multiple_of(self.input_parts) {
            let (channels, parts) = (self.channels(0), self.input_parts);
            return Err(format!("{channels} input channels do not fill {parts} parts"));
        }
        // Size of each edge over the input's, as a fraction.
        let mut sizes = vec![(1, 1)];
        for (index, layer) in self.layers.iter().enumerate() {
            let fail = |reason: String| Err(format!("layer `{}`: {reason}", layer.name));
            let LayerSpec { kernel, c_in, c_out, slope, unshuffle, shuffle, .. } = *layer;
            if !matches!(kernel, 1 | 3 | 5) {
                return fail(format!("kernel {kernel}, expected 1, 3 or 5"));
            }
            if unshuffle == 0 || shuffle == 0 || unshuffle.max(shuffle) > 4 {
                return fail(format!("shuffle {shuffle}, unshuffle {unshuffle}, expected 1 to 4"));
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
            if !(0.0..=1.0).contains(&slope) {
                return fail(format!("slope {slope}, expected 0 to 1"));
            }
            let (over, under) = sizes[index];
            sizes.push((over * shuffle, under * unshuffle));
            if let Some(from) = layer.add {
                let (a, b) = (sizes.get(from).copied().unwrap_or((0, 1)), sizes[index + 1]);
                let same_size = a.0 * b.1 == b.0 * a.1;
                let fits = from <= index && same_size && self.channels(from) == c_out;
                if !fits || shuffle != 1 || self.parts(from) != 1 {
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
    /// Compute this row of this layer, before shuffling.
    Compute { layer: usize, row: usize },
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    spec: ChainSpec,
    rings: Vec<usize>,
}

/// Part of the output that is computed on its own, and what it needs of each edge.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tile {
    /// Rows of the output.
    pub(crate) rows: Range<usize>,
    /// First row of each edge.
    pub(crate) first_rows: Vec<usize>,
    /// Columns of each edge.
    pub(crate) columns: Vec<Range<usize>>,
}

impl Plan {
    /// # Errors
    /// What about the chain cannot be done, naming the layer.
    pub(crate) fn new(spec: ChainSpec) -> Result<Self, String> {
        spec.validate()?;
        let mut plan = Self { rings: vec![0; spec.layers.len() + 1], spec };
        plan.rings = plan.measure_rings();
        Ok(plan)
    }

    /// The chain.
    pub(crate) fn spec(&self) -> &ChainSpec {
        &self.spec
    }

    /// Number of rows of an edge that are kept.
    pub(crate) fn ring(&self, edge: usize) -> usize {
        self.rings[edge]
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
            sizes.push((width / by * layer.shuffle, height / by * layer.shuffle));
        }
        Ok(sizes)
    }

    /// What these rows and columns of the output need; they have to be multiples of the last
    /// layer's shuffle.
    pub(crate) fn tile(
        &self,
        sizes: &[(usize, usize)],
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Tile {
        let mut tile = Tile { rows: rows.clone(), first_rows: vec![], columns: vec![] };
        let (mut at_rows, mut at_columns) = (rows, columns);
        for (layer, &(width, height)) in self.spec.layers.iter().zip(sizes).rev() {
            // Shuffled rows and columns come with the others of their group.
            let by = layer.shuffle;
            let before_shuffle = |r: &Range<usize>| r.start / by..r.end.div_ceil(by);
            let (rows, columns) = (before_shuffle(&at_rows), before_shuffle(&at_columns));
            let unit = layer.column_unit;
            let end = columns.end.next_multiple_of(unit).min(width / layer.unshuffle);
            let columns = columns.start / unit * unit..end;
            tile.first_rows.push(rows.start * by);
            tile.columns.push(columns.start * by..columns.end * by);
            (at_rows, at_columns) = (layer.under(rows, height), layer.under(columns, width));
        }
        tile.first_rows.push(at_rows.start);
        tile.columns.push(at_columns);
        tile.first_rows.reverse();
        tile.columns.reverse();
        tile
    }

    /// Takes the steps of a tile in order. `next` is scratch space, one entry per edge.
    pub(crate) fn steps(
        &self,
        sizes: &[(usize, usize)],
        tile: &Tile,
        next: &mut [usize],
        mut step: impl FnMut(Step),
    ) {
        next.copy_from_slice(&tile.first_rows);
        self.pull(sizes, next, self.edges() - 1, tile.rows.end, &mut step);
    }

    /// Computes the rows of `edge` before `end` that are not there yet.
    fn pull(
        &self,
        sizes: &[(usize, usize)],
        next: &mut [usize],
        edge: usize,
        end: usize,
        step: &mut impl FnMut(Step),
    ) {
        while next[edge] < end {
            if edge == 0 {
                step(Step::Load(next[0]));
                next[0] += 1;
                continue;
            }
            let layer = &self.spec.layers[edge - 1];
            let row = next[edge] / layer.shuffle;
            let under = layer.under(row..row + 1, sizes[edge - 1].1);
            self.pull(sizes, next, edge - 1, under.end, step);
            if let Some(from) = layer.add {
                self.pull(sizes, next, from, row + 1, step);
            }
            step(Step::Compute { layer: edge - 1, row });
            next[edge] += layer.shuffle;
        }
    }

    /// Rows of each edge from the oldest that a step still reads to the newest that is there,
    /// the most in the steps of an image far taller than all halos together.
    fn measure_rings(&self) -> Vec<usize> {
        let unit: usize = self.spec.layers.iter().map(|layer| layer.unshuffle).product();
        let halos: usize = self.spec.layers.iter().map(LayerSpec::halo).sum();
        let side = unit * (4 * halos + 16);
        let sizes = self.sizes((side, side)).expect("a multiple of every unshuffle");
        let (width, height) = sizes[self.edges() - 1];
        let tile = self.tile(&sizes, 0..height, 0..width);
        let mut there = vec![0; self.edges()];
        let mut rings: Vec<usize> = self.spec.layers.iter().map(|l| l.shuffle).collect();
        rings.insert(0, 1);
        self.steps(&sizes, &tile, &mut vec![0; self.edges()], |step| match step {
            Step::Load(row) => there[0] = row + 1,
            Step::Compute { layer, row } => {
                let spec = &self.spec.layers[layer];
                let under = spec.under(row..row + 1, sizes[layer].1);
                rings[layer] = rings[layer].max(there[layer] - under.start);
                if let Some(from) = spec.add {
                    rings[from] = rings[from].max(there[from] - row);
                }
                there[layer + 1] = (row + 1) * spec.shuffle;
            }
        });
        rings
    }
}

#[cfg(test)]
mod tests;
