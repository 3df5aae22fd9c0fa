//! The row kernels as a benchmark sees them.

use super::Level;
use super::aligned::{Aligned, Number};
use super::conv_row::{self, ConvRow, RowKernel, RowOut, RowShape};

/// A row kernel at one level with rows to work on.
pub struct RowProbe {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Name of the CPU level it needs.
    pub level: &'static str,
    /// Type of inputs and sums.
    pub precision: &'static str,
    /// Multiplications and additions of one `run`.
    pub operations: usize,
    run: Box<dyn FnMut()>,
    peak: Box<dyn Fn(usize) -> Option<usize>>,
}

/// Channels in and out, and pixels in a row: a layer of the shipped net at 1280 × 720.
const CHANNELS: usize = 32;
const PIXELS: usize = 644;

impl RowProbe {
    /// Every kernel that this machine has, on a row of 3×3 taps from 32 to 32 channels.
    pub fn all() -> Vec<Self> {
        let level = Level::detected();
        let f32s = conv_row::f32_kernels(level).into_iter().map(|kernel| probe("f32", kernel));
        let i16s = conv_row::i16_kernels(level).into_iter().map(|kernel| probe("i16", kernel));
        let u8s = conv_row::u8_kernels(level).into_iter().map(|kernel| probe("u8", kernel));
        f32s.chain(i16s).chain(u8s).collect()
    }

    /// Computes the row.
    pub fn run(&mut self) {
        (self.run)();
    }

    /// Does this many steps in registers, the most that the CPU can do; returns the number of
    /// multiplications and additions. `None` for kernels that have no instruction to do both.
    pub fn peak(&self, steps: usize) -> Option<usize> {
        (self.peak)(steps)
    }
}

fn probe<X: Number + 'static, W: Number + 'static>(
    precision: &'static str,
    kernel: RowKernel<X, W>,
) -> RowProbe {
    let shape = RowShape { segments: 3, run: 3 * CHANNELS, pixel: CHANNELS, c_out: CHANNELS };
    let conv = ConvRow::<X, W>::zeroed(kernel, shape, 0.1);
    let rows = [(); 3].map(|()| Aligned::<X>::zeroed(shape.reach(PIXELS)));
    let zero = Aligned::<f32>::zeroed(CHANNELS);
    let mut floats = Aligned::<f32>::zeroed(PIXELS * CHANNELS);
    let mut bytes = Aligned::<u8>::zeroed(PIXELS * CHANNELS);
    let mut words = Aligned::<i16>::zeroed(PIXELS * CHANNELS);
    let run = move || {
        let segments = [&*rows[0], &rows[1], &rows[2]];
        let out = match precision {
            "f32" => RowOut::F32 { to: &mut floats, add: [None; 2] },
            "i16" => RowOut::I16 { to: &mut words, zero: &zero, low: 0, high: 255, add: [None; 2] },
            _ => RowOut::U8 { to: &mut bytes, zero: &zero, add: [None; 2] },
        };
        conv.run(&segments, PIXELS, out);
    };
    RowProbe {
        kernel: kernel.name,
        level: kernel.level().name(),
        precision,
        operations: 2 * PIXELS * CHANNELS * shape.segments * shape.run,
        run: Box::new(run),
        peak: Box::new(move |steps| kernel.peak(steps)),
    }
}
