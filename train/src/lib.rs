//! Training and evaluation of tunable video filters.
//!
//! A training step: [`data`] → [`degrade`] → [`yuv`] → [`corner_targets`] → [`batch`] → [`trainer`] →
//! [`multi_loss`] → [`optimiser`]; what decides it is the [`recipe`], what is measured meanwhile is
//! [`validation`], and what remains the [`run_dir`].

pub mod adversary;
pub mod batch;
pub mod calibrate;
pub mod chart;
pub mod clip;
pub mod collapse;
pub mod compare;
pub mod condition;
pub mod content;
pub mod control;
pub mod corner_targets;
pub mod data;
pub mod dead_leaves;
pub mod degrade;
pub mod encoder;
pub mod evaluate;
pub mod export_onnx;
pub mod forward;
pub mod freeze;
pub mod import_dni;
pub mod import_mindspore;
pub mod import_onnx;
pub mod inspect;
pub mod loss;
pub mod make_pairs;
pub mod metrics;
pub mod mindspore;
pub mod multi_loss;
pub mod onnx;
pub mod optimiser;
pub mod pairs;
pub mod quantised;
pub mod real_video;
pub mod recipe;
pub mod rgb;
pub mod run_dir;
pub mod score;
pub mod sheet;
pub mod sweep;
pub mod terminal;
pub mod test_set;
pub mod trainer;
pub mod tunings;
pub mod validation;
pub mod video;
pub mod view;
pub mod yuv;
