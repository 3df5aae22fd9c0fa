//! Tunable convolutions for video: nets whose trade-off is a knob at run time.
//!
//! A *tunable* net mixes its kernels by the same parameters ω that mixed its losses in training
//! (Maggioni et al., CVPR 2023). At a fixed tuning it folds into an ordinary net of the same size,
//! so that the knob costs nothing per pixel.
//!
//! Two straight lines run through the crate:
//! - a frame: [`frame`] → [`engine`] → kernels → [`frame`];
//! - a tuning: [`tuning`] → [`engine::Engine::set_tuning`] → [`net::Net::fold`].
//!
//! | module | job |
//! |---|---|
//! | [`tuning`] | parameters, their domain, validated tunings |
//! | [`frame`] | strided YUV and RGB frames from and to tensors |
//! | [`picture`] | a 4:2:0 picture that owns its planes |
//! | [`checkpoint`] | the file format: read, validate, write |
//! | [`noise_level`] | how noisy a frame is |
//! | [`resample`] | planes of another size |
//! | [`nn`] | tunable layers and the nets made of them |
//! | [`net`] | a loaded checkpoint: kernel banks, shared by engines |
//! | [`engine`] | runs a net on frames |

pub mod atomic_file;
pub mod checkpoint;
pub mod engine;
mod error;
pub mod frame;
pub mod net;
pub mod nn;
pub mod noise_level;
pub mod picture;
mod ranges;
pub mod resample;
pub mod tuning;

pub use error::{Error, Result};
