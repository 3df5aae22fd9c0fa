//! What runs kernels: a GPU, or what stands for one in tests.

use crate::Result;

/// A place in the memory of a [`Gpu`], in bytes; 0 is nowhere.
pub type Address = u64;

/// The kernels there are, each a function of its name in a source file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// A layer in halves, summed in f32.
    ConvF16,
    /// A layer in f32.
    ConvF32,
    /// The first edge, in halves, from a frame.
    ReadVideoF16,
    /// The first edge, in f32, from a frame.
    ReadVideoF32,
    /// A frame plus a residual.
    WriteVideo,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ConvF16, Self::ConvF32, Self::ReadVideoF16, Self::ReadVideoF32, Self::WriteVideo];

    /// Name of its function.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConvF16 => "conv_f16",
            Self::ConvF32 => "conv_f32",
            Self::ReadVideoF16 => "read_video_f16",
            Self::ReadVideoF32 => "read_video_f32",
            Self::WriteVideo => "write_video",
        }
    }
}

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks, across, down and deep.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of memory that a block shares.
    pub shared_bytes: u32,
}

/// Memory, and kernels that work on it one after the other, in the order in which they are launched.
pub trait Gpu: Send {
    /// What it is, for people.
    fn name(&self) -> String;

    /// Memory for so many bytes, which are zero, at a multiple of 256.
    ///
    /// # Errors
    /// There is not so much.
    fn allocate(&mut self, bytes: usize) -> Result<Address>;

    /// Gives back what was allocated there.
    fn free(&mut self, at: Address);

    /// Copies bytes there.
    ///
    /// # Errors
    /// A failing device.
    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<()>;

    /// Copies bytes from there, when all kernels so far are done.
    ///
    /// # Errors
    /// A failing device, or kernel.
    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<()>;

    /// Launches a kernel with one argument, a structure of these bytes.
    ///
    /// # Errors
    /// A failing device.
    fn launch(&mut self, kernel: Kernel, argument: &[u8], launch: Launch) -> Result<()>;
}
