//! The CPU engine.

pub(crate) mod kernels;
