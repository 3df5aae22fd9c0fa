//! Row pipeline: computes a chain of convolutions one output row at a time, so that intermediate
//! rows stay in cache.
//!
//! The output is cut into tiles, bands of rows by strips of columns; each worker takes one tile
//! after the other and recomputes the halo around it in its own line buffers. The stages of a deep chain
//! are computed one after the other, each cut into tiles of its own. Where the edges between them would take too
//! much memory, so are some rows of the output.
//!
//! Invariant: every value is computed by the same operations in the same order whatever the tiles,
//! so the output does not depend on the number of threads, bands or strips.

mod cut;
mod stored;
mod tile;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::kernels::Level;
use super::kernels::aligned::Aligned;
use super::kernels::conv_row::ConvRow;
use super::line_buffer::{Kind, LineBuffer, Lines, Values};
use super::plan::{Plan, Step, Tile};
use super::quant::EdgeQuant;
use super::rows::{RowSink, RowSource};
use super::winograd::{self, WinogradConv};
use super::workers::Workers;
use stored::Stored;
use tile::TileRun;

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

/// How a frame is cut; any cut gives the same output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tiling {
    /// Times that all stages are gone through, each for some rows of the output.
    pub(crate) rounds: usize,
    /// Of what a stage computes.
    pub(crate) bands: usize,
    /// The same.
    pub(crate) strips: usize,
}

/// What is computed before the next is begun.
struct Pass {
    /// Of so many layers.
    stage: Range<usize>,
    tiles: Vec<Tile>,
}

/// What depends on the size of the input.
struct Prepared {
    input: (usize, usize),
    /// As it was asked for.
    tiling: Option<Tiling>,
    sizes: Vec<(usize, usize)>,
    passes: Vec<Pass>,
    /// Edges between stages.
    stored: Vec<Stored>,
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
    winograd: winograd::Scratch,
}

impl Prepared {
    fn stored(&self, edge: usize) -> &Stored {
        self.stored.iter().find(|stored| stored.holds(edge)).expect("there is room for each cut")
    }
}

impl Scratch {
    fn bytes(&self) -> usize {
        self.row.bytes() + self.winograd.bytes()
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

    /// Bytes of line buffers and of the edges between stages.
    pub(crate) fn bytes(&self) -> usize {
        let Some(prepared) = &self.prepared else { return 0 };
        let of_buffers = |buffers: &Mutex<Buffers>| {
            let buffers = buffers.lock().expect("no worker has panicked");
            buffers.edges.iter().map(Lines::bytes).sum::<usize>() + buffers.scratch.bytes()
        };
        prepared.buffers.iter().map(of_buffers).sum::<usize>()
            + prepared.padding.iter().map(Values::bytes).sum::<usize>()
            + prepared.stored.iter().map(Stored::bytes).sum::<usize>()
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
        let same = |p: &Prepared| p.input == input && p.tiling == tiling;
        if self.prepared.as_ref().is_some_and(same) {
            return Ok(());
        }
        let sizes = self.plan.sizes(input)?;
        let rooms = self.rooms(&sizes);
        let passes = self.passes(&sizes, &rooms, tiling);
        let tiles: Vec<_> = passes.iter().flat_map(|pass| &pass.tiles).collect();
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
            stored: rooms.iter().map(|room| room.make(&passes)).collect(),
            padding: self
                .edges
                .iter()
                .zip(&shapes)
                .map(|(edge, [plain, components])| {
                    Values::new(edge.kind, plain.stride.max(components.stride))
                })
                .collect(),
            passes,
            sizes,
        });
        self.refresh();
        Ok(())
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
        for Pass { stage, tiles } in &prepared.passes {
            let next_tile = AtomicUsize::new(0);
            let job = |worker: usize| {
                let mut buffers = prepared.buffers[worker].lock().expect("no worker has panicked");
                let Buffers { edges: lines, scratch, next } = &mut *buffers;
                while let Some(tile) = tiles.get(next_tile.fetch_add(1, Ordering::Relaxed)) {
                    let level = *level;
                    let run =
                        TileRun { plan, level, edges, layers, prepared, stage, tile, saturation };
                    plan.steps(&prepared.sizes, stage, tile, next, |step| match step {
                        Step::Load(row) => run.load(lines, row, source),
                        Step::Compute { layer, row } => {
                            run.compute(lines, scratch, layer, row, sink);
                        }
                    });
                }
            };
            workers.run(&job);
        }
    }
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
