//! A layer of a chain as its kernel has it, see `kernels/conv.cuh`.

use half::f16;

use super::gpu::{Address, Kernel, Launch};

/// Columns and rows that a block of threads computes.
const TILE: usize = 16;

/// Output channels that a block of threads computes.
const OUTPUTS: usize = 32;

/// Channels of an edge are as many as fill this.
const CHANNELS: usize = 8;

/// What numbers are stored as between layers; they are summed in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// 16 bits.
    F16,
    /// 32 bits.
    F32,
}

impl Storage {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Puts the bytes of numbers into `to`, which has room for them.
    pub(super) fn encode(self, values: impl Iterator<Item = f32>, to: &mut [u8]) {
        for (to, value) in to.chunks_exact_mut(self.bytes()).zip(values) {
            match self {
                Self::F16 => to.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                Self::F32 => to.copy_from_slice(&value.to_le_bytes()),
            }
        }
    }

    fn kernel(self) -> Kernel {
        match self {
            Self::F16 => Kernel::ConvF16,
            Self::F32 => Kernel::ConvF32,
        }
    }

    /// Input channels that are in shared memory at a time, and numbers from one pixel's to the next.
    fn chunk(self) -> (usize, usize) {
        match self {
            Self::F16 => (16, 16 + 8),
            Self::F32 => (8, 8 + 1),
        }
    }

    fn threads(self) -> usize {
        match self {
            Self::F16 => 4 * 32,
            Self::F32 => TILE * TILE,
        }
    }
}

/// Numbers of a pixel of an edge with so many channels.
pub(super) fn stored(channels: usize) -> usize {
    channels.next_multiple_of(CHANNELS)
}

/// What a layer is, whatever its weights and the frame's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) c_in: usize,
    pub(super) c_out: usize,
    pub(super) shuffle: usize,
}

impl Shape {
    /// Blocks of output channels.
    fn groups(&self) -> usize {
        self.c_out.div_ceil(OUTPUTS)
    }

    /// Numbers for each output channel, padded.
    pub(super) fn padded_outputs(&self) -> usize {
        self.groups() * OUTPUTS
    }

    /// Rows (or columns) of the convolution on so many, before shuffling.
    pub(super) fn convolved(&self, len: usize) -> usize {
        len.div_ceil(self.stride)
    }

    /// Weights that its kernel reads, with those that fill its blocks.
    pub(super) fn weights(&self, storage: Storage) -> usize {
        self.padded_outputs() * self.chunks(storage) * storage.chunk().0 * self.kernel * self.kernel
    }

    /// Puts weights `[c_out, c_in, K, K]` into `to` in the order of the kernel: for each block of outputs and each chunk
    /// of inputs `[tap][output][input]` in halves, `[tap][input][output]` in f32.
    pub(super) fn pack(&self, storage: Storage, weights: &[f32], to: &mut [u8]) {
        let (chunk, taps) = (storage.chunk().0, self.kernel * self.kernel);
        let at = |group: usize, part: usize, tap: usize, output: usize, input: usize| {
            let (output, input) = (group * OUTPUTS + output, part * chunk + input);
            let is_there = output < self.c_out && input < self.c_in;
            if is_there { weights[(output * self.c_in + input) * taps + tap] } else { 0.0 }
        };
        let block = OUTPUTS * chunk;
        let bytes = block * storage.bytes();
        for (index, to) in to.chunks_exact_mut(bytes).enumerate() {
            let (tap, part) = (index % taps, index / taps);
            let (part, group) = (part % self.chunks(storage), part / self.chunks(storage));
            let values = (0..block).map(|i| match storage {
                Storage::F16 => at(group, part, tap, i / chunk, i % chunk),
                Storage::F32 => at(group, part, tap, i % OUTPUTS, i / OUTPUTS),
            });
            storage.encode(values, to);
        }
    }

    /// How the kernel is launched for a convolution of this size.
    pub(super) fn launch(
        &self,
        storage: Storage,
        (width, height): (usize, usize),
    ) -> (Kernel, Launch) {
        let (chunk, pixel) = storage.chunk();
        let side = (TILE - 1) * self.stride + self.kernel;
        let weights = self.kernel * self.kernel * OUTPUTS;
        // In halves outputs lie as far apart as pixels do.
        let weights = weights * if storage == Storage::F16 { pixel } else { chunk };
        let shared = (side * side * pixel + weights) * storage.bytes();
        let grid = [width.div_ceil(TILE), height.div_ceil(TILE), self.groups()];
        let launch = Launch {
            grid: grid.map(|len| len as u32),
            threads: storage.threads() as u32,
            shared_bytes: shared as u32,
        };
        (storage.kernel(), launch)
    }

    /// Parts that the input channels are read in.
    pub(super) fn chunks(&self, storage: Storage) -> usize {
        self.c_in.div_ceil(storage.chunk().0)
    }
}

/// The argument of the kernels, as they have it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conv {
    pub(super) input: Address,
    pub(super) weights: Address,
    pub(super) bias: Address,
    pub(super) slope: Address,
    pub(super) low: Address,
    pub(super) high: Address,
    pub(super) add: [Address; 2],
    pub(super) output: Address,
    pub(super) in_width: i32,
    pub(super) in_height: i32,
    pub(super) in_channels: i32,
    pub(super) chunks: i32,
    pub(super) kernel: i32,
    pub(super) stride: i32,
    pub(super) width: i32,
    pub(super) height: i32,
    pub(super) c_out: i32,
    pub(super) shuffle: i32,
    pub(super) out_width: i32,
    pub(super) out_height: i32,
    pub(super) out_channels: i32,
    pub(super) add_width: [i32; 2],
    pub(super) is_float: i32,
}

const _: () = assert!(size_of::<Conv>() == 136);

/// The bytes of a kernel's argument.
pub(super) fn bytes_of<T: Copy>(argument: &T) -> &[u8] {
    // SAFETY: both arguments are `repr(C)` of numbers without padding between or behind them, as their sizes say.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(argument).cast(), size_of::<T>()) }
}
