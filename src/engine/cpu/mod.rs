//! The CPU engine.

#[doc(hidden)]
mod bank;
mod engine;
pub mod kernels;
mod line_buffer;
mod pipeline;
mod plan;
mod quant;
mod quantiser;
mod rows;
mod stages;
mod winograd;
mod workers;

pub(crate) use bank::SharedBanks;
pub use engine::CpuEngine;
pub use quant::InputScale;
pub use quantiser::{Finish, QuantisedLayer, Quantiser};
