//! Edges between stages, kept whole.

use std::ops::Range;
use std::sync::{RwLock, RwLockReadGuard};

use crate::engine::cpu::kernels::conv_row::Codes;
use crate::engine::cpu::line_buffer::{Element, Kind, LineBuffer, Values};
use crate::engine::cpu::winograd::TILE;

/// Columns of zeros left of a row.
const MARGIN: usize = 1;

/// Columns of zeros right of it: the rest of a tile of [`super::winograd`], and one more.
const SLACK: usize = TILE;

/// Rows `[x][channel]` of edges of one shape, with zeros on both sides. Each has a lock of its own: those that
/// several workers write at once they write in other columns, and none is read before its stage is done, so that
/// nobody waits for long.
pub(super) struct Stored {
    rows: Vec<RwLock<Values>>,
    /// Columns and channels of them.
    shape: (usize, usize),
    /// Which are kept here, one after the other.
    edges: Vec<usize>,
}

impl Stored {
    /// Room for so many rows of `(width, slack, channels)`, of which the last take the place of the first.
    pub(super) fn new(
        kind: Kind,
        edges: &[usize],
        rows: usize,
        (width, slack, channels): (usize, usize, usize),
    ) -> Self {
        let columns = MARGIN + width + slack.max(SLACK);
        let row = |_| RwLock::new(Values::new(kind, columns * channels));
        let rows = (0..rows).map(row).collect();
        Self { rows, shape: (width, channels), edges: edges.to_vec() }
    }

    /// Whether an edge is kept here.
    pub(super) fn holds(&self, edge: usize) -> bool {
        self.edges.contains(&edge)
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |row: &RwLock<Values>| row.read().expect("no worker has panicked").bytes();
        self.rows.iter().map(bytes).sum()
    }

    /// Takes some columns of a row.
    pub(super) fn store<T: Element>(&self, row: usize, columns: Range<usize>, values: &[T]) {
        let mut to = self.row(row).write().expect("no worker has panicked");
        let to = T::of_mut(&mut to).expect("the plan knows the type");
        let (start, end) = (self.at(columns.start), self.at(columns.end));
        to[start..end].copy_from_slice(values);
    }

    /// Lets whole tiles of a row be written from a column on, as far as the tile that the last column is in.
    pub(super) fn store_tiles(
        &self,
        row: usize,
        columns: Range<usize>,
        write: impl FnOnce(&mut [f32]),
    ) {
        let mut to = self.row(row).write().expect("no worker has panicked");
        let to = f32::of_mut(&mut to).expect("tiles are of f32");
        let (width, end) = (self.shape.0, columns.end.next_multiple_of(TILE));
        write(&mut to[self.at(columns.start)..self.at(end)]);
        if end > width {
            to[self.at(width)..self.at(end)].fill(0.0);
        }
    }

    /// A row from a column on.
    pub(super) fn read(&self, row: usize, column: usize) -> Added<'_> {
        let row = self.row(row).read().expect("no worker has panicked");
        Added::Stored { row, at: self.at(column) }
    }

    /// A row from the column left of one on.
    pub(super) fn read_left_of(&self, row: usize, column: usize) -> Added<'_> {
        let row = self.row(row).read().expect("no worker has panicked");
        Added::Stored { row, at: self.at(column) - self.shape.1 }
    }

    /// Where a column begins.
    fn at(&self, column: usize) -> usize {
        (MARGIN + column) * self.shape.1
    }

    fn row(&self, row: usize) -> &RwLock<Values> {
        &self.rows[row % self.rows.len()]
    }
}

/// The values of a row from somewhere on, wherever they are.
pub(super) enum Added<'a> {
    Line { line: &'a LineBuffer, row: usize, at: usize },
    Stored { row: RwLockReadGuard<'a, Values>, at: usize },
}

impl Added<'_> {
    /// # Panics
    /// If they are of another type.
    pub(super) fn values<T: Element>(&self) -> &[T] {
        match self {
            Self::Line { line, row, at } => &line.part(*row, 0)[*at..],
            Self::Stored { row, at } => &T::of(row).expect("the plan knows the type")[*at..],
        }
    }

    /// # Panics
    /// If they are no integers.
    pub(super) fn codes(&self) -> Codes<'_> {
        let is_bytes = match self {
            Self::Line { line, .. } => line.is_bytes(),
            Self::Stored { row, .. } => row.is_bytes(),
        };
        if is_bytes { Codes::U8(self.values()) } else { Codes::I16(self.values()) }
    }
}
