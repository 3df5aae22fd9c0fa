//! What runs kernels: a GPU, or what stands for one in tests.

use std::ops::Range;
use std::ptr::NonNull;

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

/// Memory of the host that a [`Gpu`] copies from and to by itself, while the host goes on.
#[derive(Debug)]
pub struct Pinned {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is memory like any other, and its owner's alone.
unsafe impl Send for Pinned {}

impl Default for Pinned {
    /// None of it.
    fn default() -> Self {
        Self { at: NonNull::dangling(), bytes: 0 }
    }
}

impl Pinned {
    /// What a [`Gpu`] has allocated.
    ///
    /// # Safety
    /// So many bytes lie there, which are nobody else's until they are given back.
    #[must_use]
    pub unsafe fn new(at: NonNull<u8>, bytes: usize) -> Self {
        Self { at, bytes }
    }

    /// Where it begins.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// Bytes of it.
    ///
    /// # Safety
    /// What is being fetched is elsewhere.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub unsafe fn part(&self, part: Range<usize>) -> &[u8] {
        assert!(part.start <= part.end && part.end <= self.bytes);
        // SAFETY: inside, as `new` was told.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().add(part.start), part.len()) }
    }

    /// The same, to be written.
    ///
    /// # Safety
    /// What is being sent and fetched is elsewhere.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub unsafe fn part_mut(&mut self, part: Range<usize>) -> &mut [u8] {
        assert!(part.start <= part.end && part.end <= self.bytes);
        // SAFETY: inside, as `new` was told.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr().add(part.start), part.len()) }
    }
}

/// Memory, and kernels that work on it one after the other, in the order in which they are launched.
///
/// Pinned bytes are copied beside them: a kernel sees what was sent before it was launched, and what is fetched is
/// what the kernels before made.
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

    /// Memory of the host for so many bytes, which are zero.
    ///
    /// # Errors
    /// There is not so much.
    fn pin(&mut self, bytes: usize) -> Result<Pinned>;

    /// Gives it back.
    fn unpin(&mut self, memory: Pinned);

    /// Copies bytes there, between kernels.
    ///
    /// # Errors
    /// A failing device.
    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<()>;

    /// Copies bytes from there, when all kernels so far are done.
    ///
    /// # Errors
    /// A failing device, or kernel.
    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<()>;

    /// Begins to copy a part of `from` to `to`, where no kernel that is running reads, for those that are launched
    /// later; until they are done that part must not change.
    ///
    /// # Errors
    /// A failing device.
    fn send(&mut self, to: Address, from: &Pinned, part: Range<usize>) -> Result<()>;

    /// Begins to copy what the kernels so far make at `from` to a part of `to`, which is there after
    /// [`Gpu::wait`].
    ///
    /// # Errors
    /// A failing device.
    fn fetch(&mut self, from: Address, to: &mut Pinned, part: Range<usize>) -> Result<()>;

    /// Waits for the first of what is being fetched.
    ///
    /// # Errors
    /// A failing device, or kernel.
    fn wait(&mut self) -> Result<()>;

    /// Waits for all that was begun, and forgets what was being fetched.
    fn settle(&mut self);

    /// Launches a kernel with one argument, a structure of these bytes.
    ///
    /// # Errors
    /// A failing device.
    fn launch(&mut self, kernel: Kernel, argument: &[u8], launch: Launch) -> Result<()>;
}
