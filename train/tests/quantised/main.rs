//! The differentiable int8 arithmetic against the engine's, and its gradients against those of
//! ordinary tensor operations.

#![allow(clippy::unwrap_used, reason = "tests")]

mod gradients;
mod nets;
mod training;
mod values;
