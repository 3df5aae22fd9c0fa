//! Edges between stages, kept whole.

use std::ops::Range;
use std::sync::{RwLock, RwLockReadGuard};

use crate::engine::cpu::kernels::conv_row::Codes;
use crate::engine::cpu::line_buffer::{Element, Kind, LineBuffer, Values};

/// Rows `[x][channel]` of edges of one shape. Each has a lock of its own: those that are written by several workers at
/// once are written in other columns, and none is read before its stage is done, so that nobody waits for long.
pub(super) struct Stored {
    rows: Vec<RwLock<Values>>,
    channels: usize,
    /// Which are kept here, one after the other.
    edges: Vec<usize>,
}

impl Stored {
    /// Room for so many rows of `(width, channels)`, of which the last take the place of the first.
    pub(super) fn new(
        kind: Kind,
        edges: &[usize],
        rows: usize,
        (width, channels): (usize, usize),
    ) -> Self {
        let row = |_| RwLock::new(Values::new(kind, width * channels));
        Self { rows: (0..rows).map(row).collect(), channels, edges: edges.to_vec() }
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
        to[columns.start * self.channels..columns.end * self.channels].copy_from_slice(values);
    }

    /// A row from a column on.
    pub(super) fn read(&self, row: usize, column: usize) -> Added<'_> {
        let row = self.row(row).read().expect("no worker has panicked");
        Added::Stored { row, at: column * self.channels }
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
