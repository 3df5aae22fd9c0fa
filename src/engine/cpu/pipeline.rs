//! Row pipeline: computes a chain of convolutions one output row at a time, so that intermediate
//! rows stay in cache.
//!
//! The output is cut into tiles, bands of rows by strips of columns; each worker takes one tile
//! after the other and recomputes the halo around it in its own line buffers.
//!
//! Invariant: every value is computed by the same operations in the same order whatever the tiles,
//! so the output does not depend on the number of threads, bands or strips.

mod tile;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::kernels::Level;
use super::kernels::aligned::Aligned;
use super::kernels::conv_row::ConvRow;
use super::line_buffer::{Kind, LineBuffer, LineShape, Lines, Values};
use super::plan::{LayerSpec, Plan, Step, Tile};
use super::quant::EdgeQuant;
use super::rows::{RowSink, RowSource};
use super::winograd::{COMPONENTS, WinogradConv};
use super::workers::Workers;
use tile::{TileRun, winograd_tiles};

/// Bytes of line buffers that stay in a core's second-level cache beside the weights of a layer.
const CACHE_BYTES: usize = 1200 << 10;

/// Narrowest strip that is worth its halo, in pixels of the output edge.
const NARROWEST_STRIP: usize = 64;

/// The same in widths of the halo of the input, on both sides together.
const NARROWEST_IN_HALOS: usize = 4;

/// Pixels of a scratch row beside those of the edge: padding, the rest of a tile, and what a kernel
/// writes beyond a short row.
const SCRATCH_SLACK: usize = 24;

/// The folded convolutions of one layer, one for each row that a shuffle makes of it.
pub(crate) enum Layer {
    F32(Vec<ConvRow<f32, f32>>),
    I16(Vec<ConvRow<i16, i16>>),
    U8(Vec<ConvRow<u8, i8>>),
    Winograd(Box<WinogradConv>),
}

/// How an edge is stored.
pub(crate) struct Edge {
    pub(crate) kind: Kind,
    /// Whether rows are kept as they are.
    pub(crate) plain: bool,
    /// Whether rows are kept as the components of [`super::winograd`].
    pub(crate) components: bool,
    /// Zero point per channel, for as many pixels as are computed as one, up to a whole vector; what lies
    /// outside the image.
    pub(crate) zero: Vec<f32>,
}

/// How the output is cut; any cut gives the same output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tiling {
    pub(crate) bands: usize,
    pub(crate) strips: usize,
}

/// What depends on the size of the input.
struct Prepared {
    input: (usize, usize),
    tiling: Tiling,
    sizes: Vec<(usize, usize)>,
    tiles: Vec<Tile>,
    /// Per edge, a part of a row outside the image.
    padding: Vec<Values>,
    buffers: Vec<Mutex<Buffers>>,
}

/// What one worker works in.
struct Buffers {
    edges: Vec<Lines>,
    scratch: Scratch,
    /// Scratch space of [`Plan::steps`].
    next: Vec<usize>,
}

/// Rows on their way from or to components.
struct Scratch {
    /// Outputs `[x][channel]`, one column of padding before them.
    row: Aligned<f32>,
    /// Sums of every component `[tile][channel]`.
    sums: Aligned<f32>,
}

impl Scratch {
    fn bytes(&self) -> usize {
        self.row.bytes() + self.sums.bytes()
    }
}

/// A chain of convolutions at one tuning, ready for frames.
pub(crate) struct Pipeline {
    plan: Plan,
    level: Level,
    edges: Vec<Edge>,
    layers: Vec<Layer>,
    workers: Workers,
    prepared: Option<Prepared>,
    saturation: Saturation,
}

/// How many of the activations that were looked at are the largest that their edge can store.
#[derive(Default)]
struct Saturation {
    largest: AtomicUsize,
    all: AtomicUsize,
}

impl Pipeline {
    /// Layers that read and write the edges of `plan`.
    pub(crate) fn new(
        plan: Plan,
        level: Level,
        edges: Vec<Edge>,
        layers: Vec<Layer>,
        workers: Workers,
    ) -> Self {
        assert!(edges.len() == plan.edges() && layers.len() + 1 == edges.len());
        let saturation = Saturation::default();
        Self { plan, level, edges, layers, workers, prepared: None, saturation }
    }

    /// Layers and edges, to set their weights, scales and zero points; then call
    /// [`Pipeline::refresh`].
    pub(crate) fn layers_mut(&mut self) -> (&mut [Layer], &mut [Edge]) {
        (&mut self.layers, &mut self.edges)
    }

    /// Takes over the zero points of the edges.
    pub(crate) fn refresh(&mut self) {
        let Some(prepared) = &mut self.prepared else { return };
        for (index, (edge, padding)) in self.edges.iter().zip(&mut prepared.padding).enumerate() {
            edge.fill(padding, self.plan.spec().channels(index));
        }
    }

    /// Bytes of line buffers.
    pub(crate) fn bytes(&self) -> usize {
        let Some(prepared) = &self.prepared else { return 0 };
        let of_buffers = |buffers: &Mutex<Buffers>| {
            let buffers = buffers.lock().expect("no worker has panicked");
            buffers.edges.iter().map(Lines::bytes).sum::<usize>() + buffers.scratch.bytes()
        };
        prepared.buffers.iter().map(of_buffers).sum::<usize>()
            + prepared.padding.iter().map(Values::bytes).sum::<usize>()
    }

    /// Share of integer activations in the last frame that are the largest that can be stored; only
    /// some rows are looked at.
    pub(crate) fn saturation(&self) -> f64 {
        let Saturation { largest, all } = &self.saturation;
        largest.load(Ordering::Relaxed) as f64 / all.load(Ordering::Relaxed).max(1) as f64
    }

    /// Makes tiles and line buffers for inputs of this size, cut as asked or, by default, so that
    /// line buffers stay in cache and all threads have work.
    ///
    /// # Errors
    /// A size that the chain cannot process.
    pub(crate) fn prepare(
        &mut self,
        input: (usize, usize),
        tiling: Option<Tiling>,
    ) -> Result<(), String> {
        let same = |p: &Prepared| p.input == input && tiling.is_none_or(|t| t == p.tiling);
        if self.prepared.as_ref().is_some_and(same) {
            return Ok(());
        }
        let sizes = self.plan.sizes(input)?;
        let output = sizes[sizes.len() - 1];
        let tiling = tiling.unwrap_or_else(|| self.tiling(&sizes, output));
        let shuffle = self.plan.spec().layers.last().map_or(1, |layer| layer.shuffle);
        let mut tiles = vec![];
        for rows in cut(output.1, tiling.bands, shuffle) {
            for columns in cut(output.0, tiling.strips, shuffle) {
                tiles.push(self.plan.tile(&sizes, rows.clone(), columns));
            }
        }
        let shapes: Vec<_> = (0..self.edges.len()).map(|e| self.line_shapes(e, &tiles)).collect();
        let buffers = || {
            let edges = self.edges.iter().zip(&shapes);
            let edges = edges.map(|(edge, shapes)| {
                let [plain, components] = shapes.map(|shape| LineBuffer::new(edge.kind, shape));
                Lines { plain, components }
            });
            let edges = edges.collect();
            let scratch = self.scratch(&tiles);
            Mutex::new(Buffers { edges, scratch, next: vec![0; shapes.len()] })
        };
        self.prepared = Some(Prepared {
            input,
            tiling,
            buffers: (0..self.workers.count()).map(|_| buffers()).collect(),
            padding: self
                .edges
                .iter()
                .zip(&shapes)
                .map(|(edge, [plain, components])| {
                    Values::new(edge.kind, plain.stride.max(components.stride))
                })
                .collect(),
            tiles,
            sizes,
        });
        self.refresh();
        Ok(())
    }

    /// Most columns of an edge, and most of its tiles of four.
    fn width(&self, edge: usize, tiles: &[Tile]) -> (usize, usize) {
        let columns = || tiles.iter().map(|tile| &tile.columns[edge]);
        let width = columns().map(Range::len).max().unwrap_or(0);
        (width, columns().map(|columns| winograd_tiles(columns).len()).max().unwrap_or(0))
    }

    fn scratch(&self, tiles: &[Tile]) -> Scratch {
        let (mut row, mut sums) = (0, 0);
        for (edge, layer) in (1..).zip(&self.layers) {
            let (width, in_tiles) = self.width(edge, tiles);
            let channels = self.plan.spec().channels(edge);
            if !self.edges[edge].plain {
                let slack = SCRATCH_SLACK * self.plan.spec().layers[edge - 1].shuffle;
                row = row.max((width + slack) * channels);
            }
            let least_tiles = match layer {
                Layer::Winograd(conv) => conv.least_tiles(),
                Layer::F32(_) | Layer::I16(_) | Layer::U8(_) => continue,
            };
            row = row.max((width + SCRATCH_SLACK) * channels);
            sums = sums.max(COMPONENTS * in_tiles.max(least_tiles) * channels);
        }
        Scratch { row: Aligned::zeroed(row), sums: Aligned::zeroed(sums) }
    }

    /// Of the plain rows of an edge, and of the components.
    fn line_shapes(&self, edge: usize, tiles: &[Tile]) -> [LineShape; 2] {
        let Edge { plain, components, .. } = self.edges[edge];
        let plain = if plain { self.plain_shape(edge, tiles) } else { LineShape::NONE };
        if !components {
            return [plain, LineShape::NONE];
        }
        let (_, width) = self.width(edge + 1, tiles);
        let parts = (COMPONENTS, self.plan.spec().channels(edge));
        [plain, LineShape::new(parts, self.plan.window(edge), 0, width, 1)]
    }

    fn plain_shape(&self, edge: usize, tiles: &[Tile]) -> LineShape {
        let spec = self.plan.spec();
        let (parts, ring) = (spec.parts(edge), self.plan.ring(edge));
        let (width, _) = self.width(edge, tiles);
        let margin = spec.layers.get(edge).map_or(0, LayerSpec::halo);
        let consumer = spec.layers.get(edge).map_or(1, LayerSpec::step);
        let producer = edge.checked_sub(1).map_or(1, |layer| spec.layers[layer].shuffle);
        let adders = spec.layers.iter().filter(|layer| layer.add.contains(&Some(edge)));
        let group = adders.map(|layer| layer.shuffle).fold(consumer.max(producer), usize::max);
        let channels = (parts, spec.channels(edge) / parts);
        LineShape::new(channels, ring, margin, width, group)
    }

    fn tiling(&self, sizes: &[(usize, usize)], output: (usize, usize)) -> Tiling {
        let whole = self.plan.tile(sizes, 0..output.1, 0..output.0);
        let whole = std::slice::from_ref(&whole);
        let bytes_of = |edge: usize| {
            let values: usize = self.line_shapes(edge, whole).iter().map(LineShape::len).sum();
            values * self.edges[edge].kind.bytes()
        };
        let scratch = self.scratch(whole);
        let bytes = (0..self.edges.len()).map(bytes_of).sum::<usize>() + scratch.bytes();
        // What a single pixel in the middle needs.
        let shuffle = self.plan.spec().layers.last().map_or(1, |layer| layer.shuffle);
        let middle = output.0 / 2 / shuffle * shuffle;
        let pixel = self.plan.tile(sizes, 0..1, middle..middle + 1);
        let halo = pixel.columns[0].len() * output.0 / sizes[0].0;
        let narrowest = NARROWEST_STRIP.max(NARROWEST_IN_HALOS * halo);
        let strips = bytes.div_ceil(CACHE_BYTES).min(output.0 / narrowest).max(1);
        let threads = self.workers.count();
        let bands = if strips.is_multiple_of(threads) { 1 } else { threads };
        Tiling { bands: bands.min(output.1), strips }
    }

    /// Computes the whole output.
    ///
    /// # Panics
    /// Without [`Pipeline::prepare`].
    pub(crate) fn run(&mut self, source: &impl RowSource, sink: &impl RowSink) {
        let Self { plan, level, edges, layers, workers, prepared, saturation } = self;
        *saturation = Saturation::default();
        let saturation = &*saturation;
        let prepared = prepared.as_ref().expect("prepared before the first frame");
        let next_tile = AtomicUsize::new(0);
        let job = |worker: usize| {
            let mut buffers = prepared.buffers[worker].lock().expect("no worker has panicked");
            let Buffers { edges: lines, scratch, next } = &mut *buffers;
            while let Some(tile) = prepared.tiles.get(next_tile.fetch_add(1, Ordering::Relaxed)) {
                let run =
                    TileRun { plan, level: *level, edges, layers, prepared, tile, saturation };
                plan.steps(&prepared.sizes, tile, next, |step| match step {
                    Step::Load(row) => run.load(lines, row, source),
                    Step::Compute { layer, row } => run.compute(lines, scratch, layer, row, sink),
                });
            }
        };
        workers.run(&job);
    }
}

/// `0..len` in up to `count` runs of whole units, of about the same length.
fn cut(len: usize, count: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let units = len.div_ceil(unit);
    let count = count.clamp(1, units.max(1));
    (0..count).map(move |i| units * i / count * unit..(units * (i + 1) / count * unit).min(len))
}

impl Edge {
    /// Takes over the codes of zero, if there are any.
    pub(crate) fn set_zero(&mut self, quant: Option<&EdgeQuant>) {
        if let Some(quant) = quant {
            let zeros = quant.zero.iter().cycle();
            self.zero.iter_mut().zip(zeros).for_each(|(to, zero)| *to = *zero);
        }
    }

    /// Fills a part of a row of so many channels with what lies outside the image.
    fn fill(&self, padding: &mut Values, channels: usize) {
        // The parts of an input have no zero points, so that any cut of them will do.
        let zeros = self.zero[..channels].iter().cycle();
        match padding {
            Values::F32(values) => values.fill(0.0),
            Values::I16(values) => values.iter_mut().zip(zeros).for_each(|(v, z)| *v = *z as i16),
            Values::U8(values) => values.iter_mut().zip(zeros).for_each(|(v, z)| *v = *z as u8),
        }
    }
}
