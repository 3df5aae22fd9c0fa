//! One tile of a frame: its rows are loaded, computed, padded, stored.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::stored::Added;
use super::{Edge, Layer, Prepared, Saturation, Scratch};
use crate::engine::cpu::kernels::aligned::Number;
use crate::engine::cpu::kernels::conv_row::{ConvRow, RowOut};
use crate::engine::cpu::kernels::{Job, Level};
use crate::engine::cpu::line_buffer::{Element, Kind, LineBuffer, LineShape, Lines};
use crate::engine::cpu::plan::{Plan, Tile};
use crate::engine::cpu::rows::{Input, RowSink, RowSource};
use crate::engine::cpu::winograd::{self, COMPONENTS, TILE, WinogradConv};

/// Segments under a kernel, see [`crate::engine::cpu::plan::ChainSpec`].
const MAX_SEGMENTS: usize = 15;

/// Every row of so many is looked at for saturated activations.
const LOOKED_AT: usize = 16;

/// Tiles of four columns that these columns are in.
pub(super) fn winograd_tiles(columns: &Range<usize>) -> Range<usize> {
    columns.start / TILE..columns.end.div_ceil(TILE)
}

/// One tile on its way.
pub(super) struct TileRun<'a> {
    pub(super) plan: &'a Plan,
    pub(super) level: Level,
    pub(super) edges: &'a [Edge],
    pub(super) layers: &'a [Layer],
    pub(super) prepared: &'a Prepared,
    /// Layers of it.
    pub(super) stage: &'a Range<usize>,
    pub(super) tile: &'a Tile,
    pub(super) saturation: &'a Saturation,
}

impl TileRun<'_> {
    /// Loads a row of the input, or of the edge that the stage before has made.
    pub(super) fn load(&self, lines: &mut [Lines], row: usize, source: &impl RowSource) {
        let edge = self.stage.start;
        let Lines { plain, components } = &mut lines[edge];
        match self.edges[edge].kind {
            Kind::F32 if edge == 0 => self.load_input::<f32>(plain, row, source),
            _ if edge == 0 => self.load_input::<i16>(plain, row, source),
            Kind::F32 if self.edges[edge].components => self.load_components(components, row),
            Kind::F32 => self.load_stored::<f32>(plain, row),
            Kind::I16 { .. } => self.load_stored::<i16>(plain, row),
            Kind::U8 => self.load_stored::<u8>(plain, row),
        }
    }

    fn load_input<T: Input>(&self, line: &mut LineBuffer, row: usize, source: &impl RowSource) {
        let columns = self.tile.columns[0].clone();
        let LineShape { channels, margin, stride, .. } = line.shape;
        let inside = margin * channels..(margin + columns.len()) * channels;
        let parts = line.row_mut::<T>(row).chunks_exact_mut(stride);
        source.load(self.level, row, columns, parts.map(|part| &mut part[inside.clone()]));
        self.pad::<T>(line, 0, row);
    }

    fn load_stored<T: Element>(&self, line: &mut LineBuffer, row: usize) {
        let (edge, LineShape { channels, margin, .. }) = (self.stage.start, line.shape);
        let (columns, stored) = (&self.tile.columns[edge], self.prepared.stored(edge));
        let from = stored.read(row, columns.start);
        let to = &mut line.row_mut::<T>(row)[margin * channels..][..columns.len() * channels];
        to.copy_from_slice(&from.values()[..to.len()]);
        self.pad::<T>(line, edge, row);
    }

    fn load_components(&self, line: &mut LineBuffer, row: usize) {
        let (edge, LineShape { channels, stride, .. }) = (self.stage.start, line.shape);
        let tiles = winograd_tiles(&self.tile.columns[edge + 1]);
        let from = self.prepared.stored(edge).read_left_of(row, tiles.start * TILE);
        let from = &from.values()[..(tiles.len() * TILE + 2) * channels];
        winograd::transform(self.level, from, channels, stride, line.row_mut(row));
    }

    pub(super) fn compute(
        &self,
        lines: &mut [Lines],
        scratch: &mut Scratch,
        layer: usize,
        row: usize,
        sink: &impl RowSink,
    ) {
        match &self.layers[layer] {
            Layer::F32(convs) => self.compute_as(lines, scratch, layer, row, convs),
            Layer::I16(convs) => self.compute_as(lines, scratch, layer, row, convs),
            Layer::U8(convs) => self.compute_as(lines, scratch, layer, row, convs),
            Layer::Winograd(conv) => {
                self.compute_winograd(lines, scratch, layer, row, conv);
                if self.plan.is_cut(layer + 1) {
                    return;
                }
            }
        }
        if layer + 1 == self.stage.end {
            let (line, spec) = (&lines[layer + 1].plain, &self.plan.spec().layers[layer]);
            let first = row * spec.shuffle;
            let end = (first + spec.group()).min(self.prepared.sizes[layer + 1].1);
            (first..end).for_each(|row| self.hand_on(line, row, sink));
        }
    }

    /// Gives a row to the sink, or to the stages behind.
    fn hand_on(&self, line: &LineBuffer, row: usize, sink: &impl RowSink) {
        let edge = self.stage.end;
        let columns = self.tile.columns[edge].clone();
        let LineShape { parts, margin, channels, .. } = line.shape;
        if edge == self.layers.len() {
            let width = columns.len() * channels;
            let parts = (0..parts).map(|part| &line.part::<f32>(row, part)[..width]);
            return sink.store(self.level, row, columns, parts);
        }
        let stored = self.prepared.stored(edge);
        let inside = margin * channels..(margin + columns.len()) * channels;
        match self.edges[edge].kind {
            Kind::F32 => stored.store(row, columns, &line.part::<f32>(row, 0)[inside]),
            Kind::I16 { .. } => stored.store(row, columns, &line.part::<i16>(row, 0)[inside]),
            Kind::U8 => stored.store(row, columns, &line.part::<u8>(row, 0)[inside]),
        }
    }

    fn compute_as<X: Element, W: Number>(
        &self,
        lines: &mut [Lines],
        scratch: &mut Scratch,
        layer: usize,
        row: usize,
        convs: &[ConvRow<X, W>],
    ) {
        let spec = &self.plan.spec().layers[layer];
        let (before, after) = lines.split_at_mut(layer + 1);
        let (input, Lines { plain: output, components }) = (&before[layer].plain, &mut after[0]);
        let in_columns = &self.tile.columns[layer];
        let out_columns = &self.tile.columns[layer + 1];
        // Of the convolution, before shuffling.
        let first = out_columns.start / spec.shuffle;
        let width = out_columns.len().div_ceil(spec.shuffle);

        let padding = X::of(&self.prepared.padding[layer]).expect("the plan knows the type");
        let height = self.prepared.sizes[layer].1;
        // Both at the border, or the halo apart, or more where others need more.
        let left = (first * spec.step() - in_columns.start) * input.shape.channels;
        let mut segments: [&[X]; MAX_SEGMENTS] = [&[]; MAX_SEGMENTS];
        let mut count = 0;
        for tap_row in 0..spec.kernel * spec.unshuffle {
            // Below zero for rows above the image.
            let row = (row * spec.step() + tap_row).checked_sub(spec.halo());
            for part in 0..input.shape.parts {
                segments[count] = match row.filter(|&row| row < height) {
                    Some(row) => &input.part::<X>(row, part)[left..],
                    None => &padding[left..],
                };
                count += 1;
            }
        }

        let edge = &self.edges[layer + 1];
        let LineShape { margin, channels, stride, .. } = output.shape;
        let start = margin * channels;
        for (sub_row, conv) in convs.iter().enumerate() {
            let pixels = width.max(conv.kernel.pixels);
            let segments = &segments[..count];
            let row = row * spec.shuffle + sub_row;
            let added = spec.add.map(|from| self.added(before, from?, row, out_columns));
            let added = added.each_ref().map(Option::as_ref);
            let add = || added.map(|added| added.map(Added::values));
            let codes = || added.map(|added| added.map(Added::codes));
            match edge.kind {
                Kind::F32 if !edge.plain => {
                    let channels = self.plan.spec().channels(layer + 1);
                    let to = &mut scratch.row[channels..];
                    conv.run(segments, pixels, RowOut::F32 { to, add: add() });
                    self.to_components(&mut scratch.row, components, layer + 1, row);
                }
                Kind::F32 if output.shape.parts == 3 => {
                    let (top, rest) = output.row_mut::<f32>(row).split_at_mut(stride);
                    let (bottom, chroma) = rest.split_at_mut(stride);
                    conv.run(segments, pixels, RowOut::Pairs([top, bottom, chroma]));
                    self.pad::<f32>(output, layer + 1, row);
                }
                Kind::F32 => {
                    let to = &mut output.row_mut::<f32>(row)[start..];
                    conv.run(segments, pixels, RowOut::F32 { to, add: add() });
                    self.pad::<f32>(output, layer + 1, row);
                    self.both(output, components, layer + 1, row);
                }
                Kind::I16 { low, high } => {
                    let to = &mut output.row_mut::<i16>(row)[start..];
                    let (zero, add) = (&edge.zero, codes());
                    conv.run(segments, pixels, RowOut::I16 { to, zero, low, high, add });
                    self.look(row, &to[..width * channels], high);
                    self.pad::<i16>(output, layer + 1, row);
                }
                Kind::U8 => {
                    let to = &mut output.row_mut::<u8>(row)[start..];
                    let (zero, add) = (&edge.zero, codes());
                    conv.run(segments, pixels, RowOut::U8 { to, zero, add });
                    self.look(row, &to[..width * channels], u8::MAX);
                    self.pad::<u8>(output, layer + 1, row);
                }
            }
        }
    }

    fn compute_winograd(
        &self,
        lines: &mut [Lines],
        scratch: &mut Scratch,
        layer: usize,
        row: usize,
        conv: &WinogradConv,
    ) {
        let spec = &self.plan.spec().layers[layer];
        let (before, after) = lines.split_at_mut(layer + 1);
        let input = &before[layer].components;
        let Lines { plain: output, components } = &mut after[0];
        let padding = f32::of(&self.prepared.padding[layer]).expect("the plan knows the type");
        let height = self.prepared.sizes[layer].1;
        let columns = &self.tile.columns[layer + 1];
        let tiles = winograd_tiles(columns).len();
        let channels = conv.c_out();
        for component in 0..COMPONENTS {
            let rows = [0, 1, 2, 3].map(|tap_row| match (row + tap_row).checked_sub(1) {
                Some(row) if row < height => input.part::<f32>(row, component),
                _ => padding,
            });
            conv.sums(self.level, component, &rows, tiles, &mut scratch.winograd);
        }
        // A sum may leave out the last row.
        let end = self.prepared.sizes[layer + 1].1.min(row + spec.row_unit);
        for (in_group, row) in (row..end).enumerate() {
            let added = spec.add.map(|from| self.added(before, from?, row, columns));
            let add = added.each_ref().map(|added| added.as_ref().map(Added::values));
            let whole = TILE * tiles * channels;
            if layer + 1 == self.stage.end && self.plan.is_cut(layer + 1) {
                let write = |to: &mut [f32]| {
                    conv.outputs(self.level, &scratch.winograd, in_group, add, to);
                };
                self.prepared.stored(layer + 1).store_tiles(row, columns.clone(), write);
            } else if !self.edges[layer + 1].plain {
                let to = &mut scratch.row[channels..][..whole];
                conv.outputs(self.level, &scratch.winograd, in_group, add, to);
                self.to_components(&mut scratch.row, components, layer + 1, row);
            } else {
                let start = output.shape.margin * channels;
                let to = &mut output.row_mut::<f32>(row)[start..][..whole];
                conv.outputs(self.level, &scratch.winograd, in_group, add, to);
                self.pad::<f32>(output, layer + 1, row);
                self.both(output, components, layer + 1, row);
            }
        }
    }

    /// The row of an edge that is added to one of another, from the first of its columns on; none beyond
    /// the last row, which only a shuffle computes.
    fn added<'l>(
        &'l self,
        lines: &'l [Lines],
        from: usize,
        row: usize,
        columns: &Range<usize>,
    ) -> Option<Added<'l>> {
        let is_there = row < self.prepared.sizes[from].1;
        is_there.then(|| {
            if self.plan.is_cut(from) {
                return self.prepared.stored(from).read(row, columns.start);
            }
            let line = &lines[from].plain;
            let skipped = line.shape.margin + columns.start - self.tile.columns[from].start;
            Added::Line { line, row, at: skipped * line.shape.channels }
        })
    }

    /// Transforms a padded row of an edge whose components the stage needs as well.
    fn both(&self, plain: &mut LineBuffer, components: &mut LineBuffer, edge: usize, row: usize) {
        if self.edges[edge].components && edge < self.stage.end {
            let LineShape { margin, channels, .. } = plain.shape;
            let from = &mut plain.row_mut(row)[(margin - 1) * channels..];
            self.to_components(from, components, edge, row);
        }
    }

    /// Transforms a row of an edge, from the column before the first on, to its components.
    fn to_components(&self, from: &mut [f32], line: &mut LineBuffer, edge: usize, row: usize) {
        let LineShape { channels, stride, .. } = line.shape;
        let columns = &self.tile.columns[edge];
        let tiles = winograd_tiles(&self.tile.columns[edge + 1]);
        let first = tiles.start * TILE - columns.start;
        let end = tiles.end * TILE + 2 - columns.start;
        from[..channels].fill(0.0);
        if end > columns.len() + 1 {
            from[(columns.len() + 1) * channels..end * channels].fill(0.0);
        }
        let from = &from[first * channels..end * channels];
        winograd::transform(self.level, from, channels, stride, line.row_mut(row));
    }

    /// Counts the values of a row that are the largest, now and then.
    fn look<T: Copy + PartialEq>(&self, row: usize, values: &[T], largest: T) {
        if row.is_multiple_of(LOOKED_AT) {
            let mut count = 0;
            self.level.run(Count { values, largest, count: &mut count });
            self.saturation.largest.fetch_add(count, Ordering::Relaxed);
            self.saturation.all.fetch_add(values.len(), Ordering::Relaxed);
        }
    }

    /// Pads a row of an edge.
    fn pad<T: Element>(&self, line: &mut LineBuffer, edge: usize, row: usize) {
        let padding = T::of(&self.prepared.padding[edge]).expect("the plan knows the type");
        line.pad(row, self.tile.columns[edge].len(), padding);
    }
}

/// Counts values.
struct Count<'a, T> {
    values: &'a [T],
    largest: T,
    count: &'a mut usize,
}

impl<T: Copy + PartialEq> Job for Count<'_, T> {
    #[inline(always)]
    fn run(self) {
        // Short sums stay in narrow lanes.
        for values in self.values.chunks(128) {
            let count: u8 = values.iter().map(|&value| u8::from(value == self.largest)).sum();
            *self.count += usize::from(count);
        }
    }
}
