//! How a frame is cut into passes and tiles, and what those need room for.

use std::ops::Range;

use super::stored::Stored;
use super::tile::winograd_tiles;
use super::{Edge, Layer, Pass, Pipeline, Scratch, Tiling};
use crate::engine::cpu::kernels::aligned::Aligned;
use crate::engine::cpu::line_buffer::{Kind, LineShape, SLACK};
use crate::engine::cpu::plan::{LayerSpec, Tile};
use crate::engine::cpu::winograd::{self, COMPONENTS};

/// Bytes of line buffers that stay in a core's second-level cache beside the weights of a layer.
const CACHE_BYTES: usize = 1200 << 10;

/// Most bytes of the edges between stages: those of EDSR on 1280×720.
const STORED_BYTES: usize = 768 << 20;

/// Narrowest strip that is worth its halo, in pixels of the output edge.
const NARROWEST_STRIP: usize = 64;

/// The same in widths of the halo of the input, on both sides together.
const NARROWEST_IN_HALOS: usize = 4;

/// Pixels of a scratch row beside those of the edge: padding, the rest of a tile, and what a kernel
/// writes beyond a short row.
const SCRATCH_SLACK: usize = 24;

/// Room for edges between stages, one after the other.
pub(super) struct Room {
    shape: (Kind, (usize, usize), usize),
    /// Columns that may be read beyond the last.
    slack: usize,
    edges: Vec<usize>,
    /// The stage that is the last to read the last of them.
    free_after: usize,
}

impl Room {
    fn bytes(&self) -> usize {
        let (kind, (width, height), channels) = self.shape;
        width * height * channels * kind.bytes()
    }

    /// For as many rows as passes fill at once.
    pub(super) fn make(&self, passes: &[Pass]) -> Stored {
        let (kind, (width, _), channels) = self.shape;
        let rows = passes.iter().filter(|pass| self.edges.contains(&pass.stage.end)).map(|pass| {
            let rows = || pass.tiles.iter().map(|tile| &tile.rows);
            let first = rows().map(|rows| rows.start).min().unwrap_or(0);
            rows().map(|rows| rows.end).max().unwrap_or(0) - first
        });
        Stored::new(kind, &self.edges, rows.max().unwrap_or(0), (width, self.slack, channels))
    }
}

impl Pipeline {
    /// All stages for some rows of the output, then for the next.
    pub(super) fn passes(
        &self,
        sizes: &[(usize, usize)],
        rooms: &[Room],
        tiling: Option<Tiling>,
    ) -> Vec<Pass> {
        let plan = &self.plan;
        let layers = 0..self.layers.len();
        let (width, height) = sizes[layers.end];
        let group = plan.spec().layers[layers.end - 1].group();
        let bytes: usize = rooms.iter().map(Room::bytes).sum();
        let rounds = tiling.map_or(bytes.div_ceil(STORED_BYTES), |tiling| tiling.rounds);
        let mut passes = vec![];
        for rows in cut(0..height, rounds, group) {
            let whole = plan.tile(sizes, &layers, rows, 0..width);
            for stage in plan.stages() {
                let last = &plan.spec().layers[stage.end - 1];
                let (width, height) = sizes[stage.end];
                let rows = whole.first_rows[stage.end]..whole.ends[stage.end].min(height);
                let Tiling { bands, strips, .. } =
                    tiling.unwrap_or_else(|| self.tiling(sizes, stage, rounds));
                let mut tiles = vec![];
                for rows in cut(rows, bands, last.group()) {
                    for columns in cut(0..width, strips, last.shuffle * last.column_unit) {
                        tiles.push(plan.tile(sizes, stage, rows.clone(), columns));
                    }
                }
                passes.push(Pass { stage: stage.clone(), tiles });
            }
        }
        passes
    }

    /// What the edges between stages are kept in, of which not all are needed at once.
    pub(super) fn rooms(&self, sizes: &[(usize, usize)]) -> Vec<Room> {
        let (plan, spec) = (&self.plan, self.plan.spec());
        let mut rooms: Vec<Room> = vec![];
        for (index, stage) in plan.stages().iter().enumerate() {
            let edge = stage.end;
            if !plan.is_cut(edge) {
                continue;
            }
            let reads = |stage: &Range<usize>| {
                let mut layers = spec.layers[stage.clone()].iter();
                stage.start == edge || layers.any(|layer| layer.added().any(|from| from == edge))
            };
            let free_after = plan.stages().iter().rposition(reads).unwrap_or(index);
            // As much is read of what is added as a kernel computes at once.
            let adders = spec.layers.iter().filter(|layer| layer.add.contains(&Some(edge)));
            let slack = SLACK * adders.map(|layer| layer.shuffle).max().unwrap_or(0);
            let shape = (self.edges[edge].kind, sizes[edge], spec.channels(edge));
            let fits = |room: &&mut Room| room.shape == shape && room.free_after < index;
            match rooms.iter_mut().find(fits) {
                Some(room) => {
                    room.edges.push(edge);
                    room.slack = room.slack.max(slack);
                    room.free_after = free_after;
                }
                None => rooms.push(Room { shape, slack, edges: vec![edge], free_after }),
            }
        }
        rooms
    }

    /// Most columns of an edge, and most of its tiles of four.
    fn width(&self, edge: usize, tiles: &[&Tile]) -> (usize, usize) {
        let columns = || tiles.iter().map(|tile| &tile.columns[edge]);
        let width = columns().map(Range::len).max().unwrap_or(0);
        (width, columns().map(|columns| winograd_tiles(columns).len()).max().unwrap_or(0))
    }

    pub(super) fn scratch(&self, tiles: &[&Tile]) -> Scratch {
        let mut row = 0;
        for (edge, layer) in (1..).zip(&self.layers) {
            let (width, _) = self.width(edge, tiles);
            let channels = self.plan.spec().channels(edge);
            if !self.edges[edge].plain {
                let slack = SCRATCH_SLACK * self.plan.spec().layers[edge - 1].shuffle;
                row = row.max((width + slack) * channels);
            }
            if matches!(layer, Layer::Winograd(_)) {
                row = row.max((width + SCRATCH_SLACK) * channels);
            }
        }
        let layers = (1..).zip(&self.layers).filter_map(|(edge, layer)| match layer {
            Layer::Winograd(conv) => Some((&**conv, self.width(edge, tiles).1)),
            Layer::F32(_) | Layer::I16(_) | Layer::U8(_) => None,
        });
        Scratch { row: Aligned::zeroed(row), winograd: winograd::Scratch::new(layers) }
    }

    /// Of the plain rows of an edge, and of the components.
    pub(super) fn line_shapes(&self, edge: usize, tiles: &[&Tile]) -> [LineShape; 2] {
        let Edge { plain, components, .. } = self.edges[edge];
        let plain = if plain { self.plain_shape(edge, tiles) } else { LineShape::NONE };
        if !components {
            return [plain, LineShape::NONE];
        }
        let (_, width) = self.width(edge + 1, tiles);
        let parts = (COMPONENTS, self.plan.spec().channels(edge));
        [plain, LineShape::new(parts, self.plan.window(edge), 0, width, 1)]
    }

    fn plain_shape(&self, edge: usize, tiles: &[&Tile]) -> LineShape {
        let spec = self.plan.spec();
        // Components are made of what is stored, and so is what is added.
        let ring = match self.plan.is_cut(edge) && self.edges[edge].components {
            true => spec.layers[edge - 1].group(),
            false => self.plan.ring(edge),
        };
        let parts = spec.parts(edge);
        let (width, _) = self.width(edge, tiles);
        let margin = spec.layers.get(edge).map_or(0, LayerSpec::halo);
        let consumer = spec.layers.get(edge).map_or(1, LayerSpec::step);
        let producer = edge.checked_sub(1).map_or(1, |layer| spec.layers[layer].shuffle);
        let adders = spec.layers.iter().filter(|layer| layer.add.contains(&Some(edge)));
        let group = adders.map(|layer| layer.shuffle).fold(consumer.max(producer), usize::max);
        let channels = (parts, spec.channels(edge) / parts);
        LineShape::new(channels, ring, margin, width, group)
    }

    fn tiling(&self, sizes: &[(usize, usize)], stage: &Range<usize>, rounds: usize) -> Tiling {
        let (width, height) = sizes[stage.end];
        let whole = self.plan.tile(sizes, stage, 0..height, 0..width);
        let bytes_of = |edge: usize| {
            let values: usize = self.line_shapes(edge, &[&whole]).iter().map(LineShape::len).sum();
            values * self.edges[edge].kind.bytes()
        };
        let scratch = self.scratch(&[&whole]);
        let bytes = (stage.start..=stage.end).map(bytes_of).sum::<usize>() + scratch.bytes();
        // What a single pixel in the middle needs.
        let shuffle = self.plan.spec().layers[stage.end - 1].shuffle;
        let middle = width / 2 / shuffle * shuffle;
        let pixel = self.plan.tile(sizes, stage, 0..1, middle..middle + 1);
        let halo = pixel.columns[stage.start].len() * width / sizes[stage.start].0;
        let narrowest = NARROWEST_STRIP.max(NARROWEST_IN_HALOS * halo);
        let strips = bytes.div_ceil(CACHE_BYTES).min(width / narrowest).max(1);
        let threads = self.workers.count();
        let bands = if strips.is_multiple_of(threads) { 1 } else { threads };
        Tiling { rounds, bands, strips }
    }
}

/// A range in up to `count` runs of whole units, of about the same length.
fn cut(range: Range<usize>, count: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let units = range.len().div_ceil(unit);
    let count = count.clamp(1, units.max(1));
    let at = move |i: usize| (range.start + units * i / count * unit).min(range.end);
    (0..count).map(move |i| at(i)..at(i + 1))
}
