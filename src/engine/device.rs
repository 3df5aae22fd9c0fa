//! Which device an engine runs on.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::{Error, Result};

/// The device asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// CUDA when it is built in and a device answers, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this ordinal.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let ordinal = |digits: &str| digits.parse().ok();
        match text {
            "auto" => Some(DeviceChoice::Auto),
            "cpu" => Some(DeviceChoice::Cpu),
            "cuda" => Some(DeviceChoice::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(ordinal).map(DeviceChoice::Cuda),
        }
        .ok_or_else(|| Error::Device {
            device: format!("`{text}`"),
            reason: "expected auto, cpu, cuda or cuda:N".into(),
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// A device that answered.
pub struct OpenedDevice {
    /// The device.
    pub device: Device,
    /// Why `auto` did not choose CUDA; empty when there is nothing to say.
    pub note: String,
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Device`] when CUDA was asked for and is not built in or does not answer.
    pub fn open(self) -> Result<OpenedDevice> {
        match self {
            DeviceChoice::Cpu => Ok(OpenedDevice { device: Device::Cpu, note: String::new() }),
            DeviceChoice::Cuda(ordinal) => {
                let opened = open_cuda(ordinal);
                opened
                    .map(|device| OpenedDevice { device, note: String::new() })
                    .map_err(|reason| Error::Device { device: self.to_string(), reason })
            }
            DeviceChoice::Auto => Ok(match open_cuda(0) {
                Ok(device) => OpenedDevice { device, note: String::new() },
                Err(reason) => {
                    OpenedDevice { device: Device::Cpu, note: format!("no CUDA: {reason}") }
                }
            }),
        }
    }
}

fn open_cuda(ordinal: usize) -> Result<Device, String> {
    if !cfg!(feature = "cuda") {
        return Err("this build has no CUDA support (Cargo feature `cuda`)".into());
    }
    // The CUDA bindings panic when the driver library itself is missing.
    match std::panic::catch_unwind(|| Device::new_cuda(ordinal)) {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(e)) => Err(format!("the driver reports: {e}")),
        Err(_) => Err("the CUDA driver library cannot be loaded".into()),
    }
}
