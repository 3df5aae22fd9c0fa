//! Buffers of plain numbers on cache-line boundaries.

/// Bytes of a cache line and of the longest vector.
pub(crate) const LINE_BYTES: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE_BYTES]);

mod sealed {
    pub trait Sealed: Copy + Default {}
    impl Sealed for u8 {}
    impl Sealed for i8 {}
    impl Sealed for i16 {}
    impl Sealed for f32 {}
}

/// A number for which every pattern of bits is a value, all zero bits being 0; its size divides a
/// cache line.
pub(crate) trait Number: sealed::Sealed {}
impl<T: sealed::Sealed> Number for T {}

/// A fixed number of values, aligned to a cache line.
pub(crate) struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    of: std::marker::PhantomData<T>,
}

impl<T> Aligned<T> {
    /// None.
    pub(crate) const EMPTY: Self = Self { lines: Vec::new(), len: 0, of: std::marker::PhantomData };
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<T: Number> Aligned<T> {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let bytes = len * size_of::<T>();
        let lines = vec![Line([0; LINE_BYTES]); bytes.div_ceil(LINE_BYTES)];
        Self { lines, len, of: std::marker::PhantomData }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * LINE_BYTES
    }
}

impl<T: Number> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold `len` values of T (see `zeroed`), initialised, on a boundary of
        // 64 bytes, and any bits are a T.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the lines are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
