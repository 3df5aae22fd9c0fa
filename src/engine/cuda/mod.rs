//! Chains of convolutions on NVIDIA GPUs, by kernels of their own.
//!
//! A frame's planes go there in bands of rows, `read_video` makes the net's first edge of a band, `conv` each next edge,
//! and `write_video` the band that comes back. Edges are stored pixel after pixel, in halves or in f32; sums are in f32 always. A new
//! tuning sends folded weights only.
//!
//! The kernels in `kernels/` are CUDA; the tests compile them for the CPU, too, where an emulator has the threads take
//! turns (`tests/cuda/`).

mod chain;
mod conv;
#[cfg(feature = "cuda")]
mod driver;
mod engine;
mod frames;
mod gpu;
mod weights;

pub use conv::Storage;
#[cfg(feature = "cuda")]
pub(crate) use driver::{Driver, context};
pub use engine::CudaEngine;
pub use gpu::{Address, Gpu, Kernel, Launch, Pinned};
