//! Where the first rows of a pipeline come from and its last ones go: frames or tensors.

use std::ops::Range;
use std::sync::Mutex;

use super::kernels::{Job, Level, round_small};
use super::line_buffer::Element;
use super::quant::{INPUT_MAX, TENSOR_SCALE};
use crate::frame::{Frame, FrameWriter, Value};

/// A value of the first layer's input.
pub(crate) trait Input: Element + Value {}

impl Input for f32 {}
impl Input for i16 {}

/// Normalised.
impl Value for f32 {
    #[inline(always)]
    fn from_doubled(doubled: i32, scale: f32) -> f32 {
        doubled as f32 * scale
    }

    #[inline(always)]
    fn from_tensor(v: f32) -> Self {
        v
    }
}

/// Doubled code values above that of 0, or [`TENSOR_SCALE`] times a normalised value.
impl Value for i16 {
    #[inline(always)]
    fn from_doubled(doubled: i32, _scale: f32) -> i16 {
        doubled as i16
    }

    #[inline(always)]
    fn from_tensor(v: f32) -> Self {
        let (v, largest) = (v * TENSOR_SCALE, f32::from(INPUT_MAX));
        let v = if v > -largest { v } else { -largest };
        let v = if v < largest { v } else { largest };
        round_small(v) as i32 as i16
    }
}

/// Gives rows of the first layer's input.
pub(crate) trait RowSource: Sync {
    /// Fills the parts of a row, each `[x][channel of the part]`, with these columns.
    fn load<'a, T: Input + 'a>(
        &self,
        level: Level,
        row: usize,
        columns: Range<usize>,
        parts: impl Iterator<Item = &'a mut [T]>,
    );
}

/// Takes rows of the last layer's output.
pub(crate) trait RowSink: Sync {
    /// Takes these columns of the parts of a row. No row and column comes twice.
    fn store<'a>(
        &self,
        level: Level,
        row: usize,
        columns: Range<usize>,
        parts: impl Iterator<Item = &'a [f32]>,
    );
}

fn three<T>(mut parts: impl Iterator<Item = T>) -> [T; 3] {
    [(); 3].map(|()| parts.next().expect("frames are in three parts"))
}

impl RowSource for Frame<'_> {
    fn load<'a, T: Input + 'a>(
        &self,
        level: Level,
        row: usize,
        columns: Range<usize>,
        parts: impl Iterator<Item = &'a mut [T]>,
    ) {
        self.read_pairs(level, row, columns, three(parts));
    }
}

/// A frame to which the rows are added.
pub(crate) struct FrameSum<'a> {
    /// The frame.
    pub(crate) input: &'a Frame<'a>,
    /// Where the sum goes.
    pub(crate) output: FrameWriter<'a>,
}

impl RowSink for FrameSum<'_> {
    fn store<'a>(
        &self,
        level: Level,
        row: usize,
        columns: Range<usize>,
        parts: impl Iterator<Item = &'a [f32]>,
    ) {
        // SAFETY: the pipeline stores every row and column once, see `RowSink::store`.
        unsafe { self.output.write_pairs(level, self.input, row, columns, three(parts)) }
    }
}

/// A tensor `[C, H, W]`.
pub(crate) struct TensorSource<'a> {
    pub(crate) values: &'a [f32],
    /// Width and height.
    pub(crate) size: (usize, usize),
}

impl RowSource for TensorSource<'_> {
    fn load<'a, T: Input + 'a>(
        &self,
        level: Level,
        row: usize,
        columns: Range<usize>,
        parts: impl Iterator<Item = &'a mut [T]>,
    ) {
        let (width, height) = self.size;
        let line =
            |channel: usize| &self.values[(channel * height + row) * width..][columns.clone()];
        let mut channel = 0;
        for part in parts {
            match part.len() / columns.len() {
                2 => level.run(Interleave { lines: [line(channel), line(channel + 1)], part }),
                channels => {
                    for c in 0..channels {
                        let pixels = part.chunks_exact_mut(channels);
                        for (pixel, &v) in pixels.zip(line(channel + c)) {
                            pixel[c] = T::from_tensor(v);
                        }
                    }
                }
            }
            channel += part.len() / columns.len();
        }
    }
}

struct Interleave<'a, 'o, T> {
    lines: [&'a [f32]; 2],
    part: &'o mut [T],
}

impl<T: Input> Job for Interleave<'_, '_, T> {
    #[inline(always)]
    fn run(self) {
        let lines = self.lines[0].iter().zip(self.lines[1]);
        for (pair, (&first, &second)) in self.part.as_chunks_mut::<2>().0.iter_mut().zip(lines) {
            *pair = [T::from_tensor(first), T::from_tensor(second)];
        }
    }
}

/// A tensor `[C, H, W]` to fill.
pub(crate) struct TensorSink<'a> {
    pub(crate) values: Mutex<&'a mut [f32]>,
    /// Width and height.
    pub(crate) size: (usize, usize),
}

impl RowSink for TensorSink<'_> {
    fn store<'a>(
        &self,
        level: Level,
        row: usize,
        columns: Range<usize>,
        parts: impl Iterator<Item = &'a [f32]>,
    ) {
        let (width, height) = self.size;
        let mut values = self.values.lock().expect("no worker has panicked");
        let mut channel = 0;
        for part in parts {
            let channels = part.len() / columns.len();
            for c in 0..channels {
                let at = ((channel + c) * height + row) * width;
                let line = &mut values[at..][columns.clone()];
                match channels {
                    2 => level.run(EverySecond { pairs: &part[c..], line }),
                    _ => {
                        for (v, pixel) in line.iter_mut().zip(part.chunks_exact(channels)) {
                            *v = pixel[c];
                        }
                    }
                }
            }
            channel += channels;
        }
    }
}

struct EverySecond<'a, 'o> {
    pairs: &'a [f32],
    line: &'o mut [f32],
}

impl Job for EverySecond<'_, '_> {
    #[inline(always)]
    fn run(self) {
        for (v, pair) in self.line.iter_mut().zip(self.pairs.chunks(2)) {
            *v = pair[0];
        }
    }
}
