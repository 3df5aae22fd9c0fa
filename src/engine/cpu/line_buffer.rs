//! Line buffers: the rows of every edge that one worker keeps.

use super::kernels::aligned::{Aligned, Number};

/// Pixels beside a row's own that a kernel may write or read: it computes at least as many as it
/// has registers for.
pub(crate) const SLACK: usize = 16;

/// How the values of an edge are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    F32,
    /// Integers from `low` to `high`.
    I16 {
        low: i16,
        high: i16,
    },
    U8,
}

impl Kind {
    /// Bytes of a value.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::I16 { .. } => 2,
            Self::U8 => 1,
        }
    }
}

/// Sizes of an edge's line buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineShape {
    /// Parts of a row.
    pub(crate) parts: usize,
    /// Channels of a part.
    pub(crate) channels: usize,
    /// Rows that are kept.
    pub(crate) ring: usize,
    /// Pixels of padding on either side.
    pub(crate) margin: usize,
    /// Values from one part of a row to the next.
    pub(crate) stride: usize,
}

impl LineShape {
    /// Of rows that are not kept.
    pub(crate) const NONE: Self = Self { parts: 1, channels: 1, ring: 0, margin: 0, stride: 0 };

    /// For rows of up to `width` pixels, computed or consumed in groups of `group`.
    pub(crate) fn new(
        (parts, channels): (usize, usize),
        ring: usize,
        margin: usize,
        width: usize,
        group: usize,
    ) -> Self {
        let pixels = width + 2 * margin + SLACK * group;
        // A whole number of cache lines of any type.
        Self { parts, channels, ring, margin, stride: (pixels * channels).next_multiple_of(64) }
    }

    /// Values of all rows.
    pub(crate) fn len(&self) -> usize {
        self.ring * self.parts * self.stride
    }

    fn at(&self, row: usize, part: usize) -> usize {
        (row % self.ring * self.parts + part) * self.stride
    }
}

/// Values of one of the types.
pub(crate) enum Values {
    F32(Aligned<f32>),
    I16(Aligned<i16>),
    U8(Aligned<u8>),
}

impl Values {
    /// `len` zeros.
    pub(crate) fn new(kind: Kind, len: usize) -> Self {
        match kind {
            Kind::F32 => Self::F32(Aligned::zeroed(len)),
            Kind::I16 { .. } => Self::I16(Aligned::zeroed(len)),
            Kind::U8 => Self::U8(Aligned::zeroed(len)),
        }
    }

    /// Whether they are bytes.
    pub(crate) fn is_bytes(&self) -> bool {
        matches!(self, Self::U8(_))
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => values.bytes(),
            Self::I16(values) => values.bytes(),
            Self::U8(values) => values.bytes(),
        }
    }
}

/// A type of [`Values`].
pub(crate) trait Element: Number {
    /// The values, if they are of this type.
    fn of(values: &Values) -> Option<&[Self]>;
    /// As [`Element::of`].
    fn of_mut(values: &mut Values) -> Option<&mut [Self]>;
}

macro_rules! element {
    ($type:ty, $variant:ident) => {
        impl Element for $type {
            fn of(values: &Values) -> Option<&[Self]> {
                if let Values::$variant(values) = values { Some(values) } else { None }
            }

            fn of_mut(values: &mut Values) -> Option<&mut [Self]> {
                if let Values::$variant(values) = values { Some(values) } else { None }
            }
        }
    };
}

element!(f32, F32);
element!(i16, I16);
element!(u8, U8);

/// The rows of one edge, one way or both.
pub(crate) struct Lines {
    /// As they are.
    pub(crate) plain: LineBuffer,
    /// As components of [`super::winograd`].
    pub(crate) components: LineBuffer,
}

impl Lines {
    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.plain.bytes() + self.components.bytes()
    }
}

/// Rows of one edge.
pub(crate) struct LineBuffer {
    pub(crate) shape: LineShape,
    values: Values,
}

impl LineBuffer {
    /// Rows of zeros.
    pub(crate) fn new(kind: Kind, shape: LineShape) -> Self {
        Self { shape, values: Values::new(kind, shape.len()) }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.values.bytes()
    }

    /// Whether values are bytes.
    pub(crate) fn is_bytes(&self) -> bool {
        self.values.is_bytes()
    }

    /// One part of a row, margins included.
    ///
    /// # Panics
    /// If the values are of another type.
    pub(crate) fn part<T: Element>(&self, row: usize, part: usize) -> &[T] {
        let values = T::of(&self.values).expect("the plan knows the type");
        &values[self.shape.at(row, part)..][..self.shape.stride]
    }

    /// All parts of a row, one after the other.
    ///
    /// # Panics
    /// If the values are of another type.
    pub(crate) fn row_mut<T: Element>(&mut self, row: usize) -> &mut [T] {
        let (at, len) = (self.shape.at(row, 0), self.shape.parts * self.shape.stride);
        let values = T::of_mut(&mut self.values).expect("the plan knows the type");
        &mut values[at..][..len]
    }

    /// Writes the padding on both sides of a row of `width` pixels; `padding` is a part of nothing
    /// but padding.
    pub(crate) fn pad<T: Element>(&mut self, row: usize, width: usize, padding: &[T]) {
        let LineShape { margin, channels, stride, .. } = self.shape;
        let (len, right) = (margin * channels, (margin + width) * channels);
        for part in self.row_mut::<T>(row).chunks_exact_mut(stride) {
            part[..len].copy_from_slice(&padding[..len]);
            part[right..][..len].copy_from_slice(&padding[..len]);
        }
    }
}
