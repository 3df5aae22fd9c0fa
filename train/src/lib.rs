//! Training and evaluation of tunable video filters.
//!
//! A training step: [`data`] → [`degrade`] → [`yuv`] → [`objective`] → [`batch`] → [`trainer`] →
//! [`optimiser`]; what decides it is the [`recipe`], what remains of it the [`run_dir`].

pub mod batch;
pub mod calibrate;
pub mod data;
pub mod degrade;
pub mod evaluate;
pub mod export_onnx;
pub mod forward;
pub mod freeze;
pub mod inspect;
pub mod loss;
pub mod metrics;
pub mod objective;
pub mod onnx;
pub mod optimiser;
pub mod recipe;
pub mod rgb;
pub mod run_dir;
pub mod sheet;
pub mod sweep;
pub mod trainer;
pub mod video;
pub mod yuv;
