//! What configurations of nets have in common, checked: sizes that no real net has are refused.

use super::phi::{Mode, PhiConfig};
use crate::{Error, Result};

pub(super) fn check_channels(name: &str, channels: usize) -> Result<()> {
    match channels {
        1..=512 => Ok(()),
        _ => Err(Error::Config(format!("{name} = {channels}, expected 1 to 512"))),
    }
}

pub(super) fn check_layers(name: &str, layers: usize) -> Result<()> {
    match layers {
        0..=64 => Ok(()),
        _ => Err(Error::Config(format!("{name} = {layers}, expected at most 64"))),
    }
}

pub(super) fn check_slope(slope: f32) -> Result<()> {
    if slope > 0.0 && slope < 1.0 {
        return Ok(());
    }
    Err(Error::Config(format!("negative_slope = {slope}, expected 0 < x < 1")))
}

pub(super) fn check_phi(phi: PhiConfig) -> Result<()> {
    let expand = if phi.mode == Mode::Multilinear { 1..=1 } else { 1..=16 };
    if expand.contains(&phi.expand) {
        return Ok(());
    }
    Err(Error::Config(format!("phi.expand = {}, expected {expand:?}", phi.expand)))
}
