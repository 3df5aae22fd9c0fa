//! Which device an engine runs on.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use super::Precision;
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

/// Where an engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the CPU.
    Cpu,
    /// On the CUDA device of this ordinal, which has answered.
    Cuda(usize),
}

impl DeviceChoice {
    /// Where an engine in that precision runs, and why `auto` has not chosen CUDA, if that is to be said; `probe` says
    /// what is wrong with a CUDA device.
    ///
    /// # Errors
    /// [`Error::Device`] when CUDA was asked for and is not built in or does not answer.
    pub(super) fn place(
        self,
        precision: Precision,
        probe: impl FnOnce(usize) -> Result<(), String>,
    ) -> Result<(Place, String)> {
        match self {
            // It is only there.
            DeviceChoice::Auto if precision == Precision::Int8 => Ok((Place::Cpu, String::new())),
            DeviceChoice::Cpu => Ok((Place::Cpu, String::new())),
            DeviceChoice::Cuda(ordinal) => match probe(ordinal) {
                Ok(()) => Ok((Place::Cuda(ordinal), String::new())),
                Err(reason) => Err(Error::Device { device: self.to_string(), reason }),
            },
            DeviceChoice::Auto => Ok(match probe(0) {
                Ok(()) => (Place::Cuda(0), String::new()),
                Err(reason) => (Place::Cpu, format!("no CUDA: {reason}")),
            }),
        }
    }

    /// The device for candle itself; the CPU if it is not said to be CUDA.
    ///
    /// # Errors
    /// [`Error::Device`] when candle has no CUDA here, or the device does not answer.
    pub fn for_candle(self) -> Result<Device> {
        let DeviceChoice::Cuda(ordinal) = self else { return Ok(Device::Cpu) };
        let failed = |reason| Error::Device { device: self.to_string(), reason };
        probe(ordinal).map_err(failed)?;
        Device::new_cuda(ordinal).map_err(|error| failed(candle_reason(&error)))
    }
}

/// Why candle cannot use a device that the driver has.
pub(super) fn candle_reason(error: &candle_core::Error) -> String {
    if cfg!(feature = "candle-cuda") {
        return format!("candle reports: {error}");
    }
    "candle has no CUDA in this build (Cargo feature `candle-cuda`)".into()
}

/// Whether a CUDA device is there.
///
/// # Errors
/// Why not.
pub(super) fn probe(ordinal: usize) -> Result<(), String> {
    #[cfg(feature = "cuda")]
    return super::cuda::context(ordinal).map(|_| ());
    #[cfg(not(feature = "cuda"))]
    Err(format!("this build has no CUDA, nor device {ordinal} (Cargo feature `cuda`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_and_precision_are_chosen_together() {
        use DeviceChoice::{Auto, Cpu, Cuda};
        use Precision::{F16, F32, Int8};
        let answers = |_| Ok(());
        let place = |choice: DeviceChoice, precision| choice.place(precision, answers).unwrap().0;
        for precision in [Precision::Auto, F16, F32] {
            assert_eq!(place(Auto, precision), Place::Cuda(0));
        }
        assert_eq!(place(Auto, Int8), Place::Cpu);
        assert_eq!(place(Cpu, F32), Place::Cpu);
        assert_eq!(place(Cuda(3), Int8), Place::Cuda(3));

        let fails = |ordinal| Err(format!("{ordinal} is away"));
        let (place, note) = Auto.place(F32, fails).unwrap();
        assert_eq!((place, note.as_str()), (Place::Cpu, "no CUDA: 0 is away"));
        let told = Cuda(2).place(F32, fails).unwrap_err().to_string();
        assert_eq!(told, "device cuda:2: 2 is away");
        assert!(Cpu.place(F32, fails).unwrap().1.is_empty());
        assert!(Auto.place(Int8, fails).unwrap().1.is_empty());
    }
}
