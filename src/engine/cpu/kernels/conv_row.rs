//! One row of a convolution: rows are `[x][channel]`, and an output row is a sum over *segments*,
//! one for each kernel row and each part that an input row is stored in. Within a segment the taps
//! and channels of one output pixel are one contiguous *run*.
//!
//! P pixels × V vectors of output channels are summed in registers at once: a step loads V vectors
//! of weights and broadcasts P groups of inputs for P × V dot products.

use std::hint::black_box;

use super::Level;
use super::aligned::{Aligned, LINE_BYTES, Number};
use super::dot::Dot;
use super::lanes::{LINE, Lanes};

mod finish;
mod list;

use finish::{AddedCodes, CodesAt, Target, finish};
pub(crate) use list::{choose, f32_kernels, i16_kernels, u8_kernels};

/// Most segments of a row: a 5×5 kernel on rows in three parts.
const MAX_SEGMENTS: usize = 15;

/// Most pixels of a block whose steps are unrolled.
const SHORT_BLOCK: usize = 6;

/// Steps that follow each other without a jump.
const UNROLLED: usize = 4;

/// Vectors of output channels in a block, where there are as many left.
const VECTORS: usize = 2;

/// Type-erased work of one call; see [`ConvRow::run`].
struct Call<X, W> {
    segments: [*const X; MAX_SEGMENTS],
    segment_count: usize,
    steps: usize,
    pixel: usize,
    pixels: usize,
    /// Pixels summed at once.
    block: usize,
    weights: *const W,
    c_out: usize,
    scale: *const f32,
    bias: *const f32,
    slope: *const f32,
    target: Target,
    /// What is added to values that become codes.
    added: [Option<AddedCodes>; 2],
}

/// Where a row goes.
pub(crate) enum RowOut<'a> {
    /// `[x][c_out]`, to which the values of other such rows may be added.
    F32 { to: &'a mut [f32], add: [Option<&'a [f32]>; 2] },
    /// Channels 0 and 1, 2 and 3, 4 and 5: three rows `[x][2]`.
    Pairs([&'a mut [f32]; 3]),
    /// `[x][c_out]`: the value plus the zero point of its channel, rounded to even at halves,
    /// from `low` to `high`; what other such rows stand for may be added before.
    I16 { to: &'a mut [i16], zero: &'a [f32], low: i16, high: i16, add: [Option<Codes<'a>>; 2] },
    /// `[x][c_out]`: the same from 0 to 255.
    U8 { to: &'a mut [u8], zero: &'a [f32], add: [Option<Codes<'a>>; 2] },
}

/// Codes `[x][c_out]` of values, see [`ConvRow::added`].
#[derive(Clone, Copy)]
pub(crate) enum Codes<'a> {
    I16(&'a [i16]),
    U8(&'a [u8]),
}

impl Codes<'_> {
    fn len(&self) -> usize {
        match self {
            Self::I16(codes) => codes.len(),
            Self::U8(codes) => codes.len(),
        }
    }
}

/// How codes that are added to a row are read, per output channel up to a whole vector.
pub(crate) struct Added {
    /// What makes codes centred: the code of zero, negated.
    pub(crate) offset: Aligned<f32>,
    /// What a step is worth, in units of the row's values.
    pub(crate) step: Aligned<f32>,
}

/// A kernel for inputs X and weights W.
pub(crate) struct RowKernel<X, W> {
    /// Name, for people.
    pub(crate) name: &'static str,
    /// Output channels of a vector.
    pub(crate) lanes: usize,
    /// Inputs of a step; divides the run.
    pub(crate) group: usize,
    /// Fewest pixels computed at once: a shorter row is computed as if it were as long.
    pub(crate) pixels: usize,
    /// Numbers of pixels that can be computed at once, most first.
    blocks: &'static [usize],
    level: Level,
    call: unsafe fn(&Call<X, W>),
    peak: Option<unsafe fn(usize)>,
}

impl<X, W> RowKernel<X, W> {
    /// Level it needs.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Does as many steps with operands that stay in registers, to measure what the CPU can reach;
    /// returns the number of multiplications and additions. `None` where a product and its sum are
    /// several instructions, whose products of the same operands need be computed only once.
    pub(crate) fn peak(&self, steps: usize) -> Option<usize> {
        assert!(self.level.is_available());
        let peak = self.peak?;
        // SAFETY: the CPU has the level.
        unsafe { peak(steps) }
        Some(2 * steps * self.blocks[0] * VECTORS * self.lanes * self.group)
    }

    /// Pixels to compute at once so that a row of `pixels` has the fewest computed twice.
    fn block(&self, pixels: usize) -> usize {
        let blocks = self.blocks.iter().copied().filter(|&block| block <= pixels);
        blocks.min_by_key(|&block| pixels.next_multiple_of(block)).unwrap_or(self.pixels)
    }
}

impl<X, W> Clone for RowKernel<X, W> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<X, W> Copy for RowKernel<X, W> {}

/// Folded weights in a kernel's order, and what is done to its sums: `v = sum · scale + bias`, then
/// `v · slope` where `v` is negative; rows of f32 may then have others added, and be clamped.
///
/// Weights are `[block][segment][step][channel][input of the step]`; a block is two vectors of
/// channels as long as there are two, then one. Lanes without a channel have zero weights.
pub(crate) struct ConvRow<X, W> {
    pub(crate) kernel: RowKernel<X, W>,
    pub(crate) weights: Aligned<W>,
    /// Per output channel, up to a whole vector; not used for f32.
    pub(crate) scale: Aligned<f32>,
    /// Per output channel, up to a whole vector.
    pub(crate) bias: Aligned<f32>,
    /// Per output channel, up to a whole vector; 1 for no activation.
    pub(crate) slope: Aligned<f32>,
    /// Lowest and highest value of f32 per output channel, up to a whole vector, if there are any.
    bounds: Option<[Aligned<f32>; 2]>,
    /// Of what is added to integer rows, one for each.
    pub(crate) added: [Added; 2],
    pub(crate) shape: RowShape,
}

/// Sizes of one row convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RowShape {
    /// Kernel rows × parts.
    pub(crate) segments: usize,
    /// Taps × channels in a segment.
    pub(crate) run: usize,
    /// Values from one output pixel's run to the next one's.
    pub(crate) pixel: usize,
    /// Output channels.
    pub(crate) c_out: usize,
}

impl RowShape {
    /// Values of a segment that are read for so many pixels.
    pub(crate) fn reach(&self, pixels: usize) -> usize {
        (pixels - 1) * self.pixel + self.run
    }
}

/// First channel and channels of each block, for vectors of so many lanes.
pub(crate) fn blocks(c_out: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = next;
        let vectors = if first + lanes < c_out { VECTORS } else { 1 };
        next += vectors * lanes;
        (first < c_out).then_some((first, vectors * lanes))
    })
}

impl<X: Number, W: Number> ConvRow<X, W> {
    /// Weights of zero for a row of this shape.
    ///
    /// # Panics
    /// If the kernel's group does not divide the run.
    pub(crate) fn zeroed(kernel: RowKernel<X, W>, shape: RowShape, slope: f32) -> Self {
        assert!(shape.run.is_multiple_of(kernel.group) && shape.segments <= MAX_SEGMENTS);
        let channels = shape.c_out.next_multiple_of(kernel.lanes);
        let mut slopes = Aligned::zeroed(channels);
        slopes.fill(slope);
        Self {
            kernel,
            weights: Aligned::zeroed(channels * shape.segments * shape.run),
            scale: Aligned::zeroed(channels),
            bias: Aligned::zeroed(channels),
            slope: slopes,
            bounds: None,
            added: [(); 2].map(|()| Added {
                offset: Aligned::zeroed(channels),
                step: Aligned::zeroed(channels),
            }),
            shape,
        }
    }

    /// Lowest and highest value of each output channel, to be set.
    pub(crate) fn bounds_mut(&mut self) -> [&mut [f32]; 2] {
        let channels = self.bias.len();
        let zeros = || [Aligned::zeroed(channels), Aligned::zeroed(channels)];
        self.bounds.get_or_insert_with(zeros).each_mut().map(|values| &mut values[..])
    }

    /// Takes weights laid out `[c_out][segment][run]`.
    ///
    /// # Panics
    /// If there are not as many.
    pub(crate) fn set_weights(&mut self, weights: &[W]) {
        let (len, group) = (self.shape.segments * self.shape.run, self.kernel.group);
        assert_eq!(weights.len(), self.shape.c_out * len);
        for (first, channels) in blocks(self.shape.c_out, self.kernel.lanes) {
            let block = &mut self.weights[first * len..][..channels * len];
            for (lane, weights) in weights[first * len..].chunks(len).take(channels).enumerate() {
                let steps = block.chunks_exact_mut(channels * group);
                for (step, weights) in steps.zip(weights.chunks_exact(group)) {
                    step[lane * group..][..group].copy_from_slice(weights);
                }
            }
        }
    }

    /// Computes `pixels` pixels, at least as many as [`RowKernel::pixels`]. Segment s starts at
    /// the first tap of the first pixel.
    ///
    /// # Panics
    /// If a slice is too short.
    pub(crate) fn run(&self, segments: &[&[X]], pixels: usize, out: RowOut<'_>) {
        let RowShape { run, pixel, c_out, .. } = self.shape;
        assert!(self.kernel.level.is_available());
        assert_eq!(segments.len(), self.shape.segments);
        assert!(pixels >= self.kernel.pixels);
        let reach = self.shape.reach(pixels);
        let mut pointers = [std::ptr::null(); MAX_SEGMENTS];
        for (pointer, segment) in pointers.iter_mut().zip(segments) {
            assert!(segment.len() >= reach, "segment of {}, need {reach}", segment.len());
            *pointer = segment.as_ptr();
        }
        let channels = c_out.next_multiple_of(self.kernel.lanes);
        assert_eq!(self.weights.len(), channels * segments.len() * run);
        assert!([&self.scale, &self.bias, &self.slope].iter().all(|of| of.len() >= channels));
        let values = pixels * c_out;
        let mut added = [None; 2];
        let target = match out {
            RowOut::F32 { to, add } => {
                assert!(to.len() >= values && add.iter().flatten().all(|add| add.len() >= values));
                let bounds = self.bounds.as_ref().map(|bounds| {
                    bounds.each_ref().map(|values| {
                        assert!(values.len() >= channels);
                        values.as_ptr()
                    })
                });
                Target::F32 {
                    to: to.as_mut_ptr(),
                    bounds,
                    add: add.map(|add| add.map(<[f32]>::as_ptr)),
                }
            }
            RowOut::Pairs(rows) => {
                assert!(c_out == 6 && rows.iter().all(|row| row.len() >= 2 * pixels));
                Target::Pairs(rows.map(<[f32]>::as_mut_ptr))
            }
            RowOut::I16 { to, zero, low, high, add } => {
                assert!(to.len() >= values && zero.len() >= channels);
                let (low, high) = (f32::from(low), f32::from(high));
                added = self.added_codes(add, values);
                Target::I16 { to: to.as_mut_ptr(), zero: zero.as_ptr(), low, high }
            }
            RowOut::U8 { to, zero, add } => {
                assert!(to.len() >= values && zero.len() >= channels);
                added = self.added_codes(add, values);
                Target::U8 { to: to.as_mut_ptr(), zero: zero.as_ptr() }
            }
        };
        let call = Call {
            segments: pointers,
            segment_count: segments.len(),
            steps: run / self.kernel.group,
            pixel,
            pixels,
            block: self.kernel.block(pixels),
            weights: self.weights.as_ptr(),
            c_out,
            scale: self.scale.as_ptr(),
            bias: self.bias.as_ptr(),
            slope: self.slope.as_ptr(),
            target,
            added,
        };
        // SAFETY: the CPU has the level, every segment holds the last pixel's run, weights and
        // epilogue cover all channels, and the target all pixels: all checked above.
        unsafe { (self.kernel.call)(&call) }
    }

    fn added_codes(&self, added: [Option<Codes<'_>>; 2], values: usize) -> [Option<AddedCodes>; 2] {
        let channels = self.shape.c_out.next_multiple_of(self.kernel.lanes);
        let mut all = added.into_iter().zip(&self.added).map(|(codes, Added { offset, step })| {
            let codes = codes?;
            assert!(codes.len() >= values && offset.len() >= channels && step.len() >= channels);
            let codes = match codes {
                Codes::I16(codes) => CodesAt::I16(codes.as_ptr()),
                Codes::U8(codes) => CodesAt::U8(codes.as_ptr()),
            };
            Some(AddedCodes { codes, offset: offset.as_ptr(), step: step.as_ptr() })
        });
        [(); 2].map(|()| all.next().flatten())
    }
}

/// All output channels of all pixels.
///
/// # Safety
/// As checked by [`ConvRow::run`]; the caller enables the features of D's level.
#[inline(always)]
unsafe fn conv_row<D: Dot, const P: usize>(call: &Call<D::X, D::W>) {
    // SAFETY: passed on.
    unsafe {
        match call.pixel {
            // Known distances become offsets in the instructions.
            2 => conv_row_of::<D, P, 2>(call),
            32 => conv_row_of::<D, P, 32>(call),
            64 => conv_row_of::<D, P, 64>(call),
            _ => conv_row_of::<D, P, 0>(call),
        }
    }
}

/// `PIXEL` is `call.pixel`, or 0 for any.
///
/// # Safety
/// As [`conv_row`].
#[inline(always)]
unsafe fn conv_row_of<D: Dot, const P: usize, const PIXEL: usize>(call: &Call<D::X, D::W>) {
    for (channel, channels) in blocks(call.c_out, D::Float::LEN) {
        let first = channel * call.segment_count * call.steps * D::GROUP;
        // SAFETY: the block's channels are among those that weights and epilogue cover.
        unsafe {
            let weights = call.weights.add(first);
            if channels > D::Float::LEN {
                block::<D, P, VECTORS, PIXEL>(call, weights, channel);
            } else {
                block::<D, P, 1, PIXEL>(call, weights, channel);
            }
        }
    }
}

/// V vectors of output channels from `channel` on, of all pixels.
///
/// # Safety
/// As [`conv_row`]; `weights` are those of the block.
#[inline(always)]
unsafe fn block<D: Dot, const P: usize, const V: usize, const PIXEL: usize>(
    call: &Call<D::X, D::W>,
    weights: *const D::W,
    channel: usize,
) {
    let pixel = if PIXEL == 0 { call.pixel } else { PIXEL };
    let vector = D::Float::LEN * D::GROUP;
    let mut begin = 0;
    while begin < call.pixels {
        // The last pixels are computed twice rather than beyond the row.
        let first = begin.min(call.pixels - P);
        begin += P;
        // SAFETY: pixels `first..first + P` are in the row.
        unsafe {
            // Iterators over these spill them.
            let mut sums = [[D::zero(); V]; P];
            let mut w = weights;
            for segment in &call.segments[..call.segment_count] {
                let mut x = segment.add(first * pixel);
                macro_rules! step {
                    () => {
                        let mut operands = [D::weights(w); V];
                        for v in 1..V {
                            operands[v] = D::weights(w.add(v * vector));
                        }
                        for p in 0..P {
                            let input = D::broadcast(x.add(p * pixel));
                            for v in 0..V {
                                sums[p][v] = D::dot(sums[p][v], input, operands[v]);
                            }
                        }
                        x = x.add(D::GROUP);
                        w = w.add(V * vector);
                    };
                }
                // Where a step is few instructions, those of the loop itself count.
                let unrolled = if P <= SHORT_BLOCK { call.steps / UNROLLED } else { 0 };
                for _ in 0..unrolled {
                    for _ in 0..UNROLLED {
                        step!();
                    }
                }
                for _ in UNROLLED * unrolled..call.steps {
                    step!();
                }
            }
            // Through memory, where the loops below may index them: the sums stay in registers.
            let mut floats = [[D::Float::splat(0.0); V]; P];
            for p in 0..P {
                for v in 0..V {
                    floats[p][v] = D::to_float(sums[p][v]);
                }
            }
            finish::<D, P, V>(call, &floats, first, channel);
        }
    }
}

/// The dot products of so many steps, without loads.
///
/// # Safety
/// The caller enables the features of D's level.
#[inline(always)]
unsafe fn peak<D: Dot, const P: usize>(steps: usize) {
    let (inputs, weights) = ([D::X::default(); LINE], [D::W::default(); LINE_BYTES]);
    // SAFETY: a line holds the inputs of a step, and its bytes are at least as many weights.
    unsafe {
        let mut sums = [[D::zero(); VECTORS]; P];
        let x = D::broadcast(black_box(inputs.as_ptr()));
        let w = D::weights(black_box(weights.as_ptr()));
        for _ in 0..steps {
            for of_pixel in &mut sums {
                for sum in of_pixel {
                    *sum = D::dot(*sum, x, w);
                }
            }
        }
        black_box(&sums);
    }
}

#[cfg(test)]
mod tests;
