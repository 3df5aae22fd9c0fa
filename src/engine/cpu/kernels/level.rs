//! CPU level: which instruction set the kernels may use.

use once_cell::sync::Lazy;

/// Environment variable that lowers the level to one of [`Level::ALL`] by name.
const VARIABLE: &str = "TUNABLECONV_CPU";

/// Instruction sets with kernels of their own, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Whatever the build's target has.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL, beside AVX2 and FMA.
    Avx512,
    /// Beside AVX-512, its dot products of 8-bit and 16-bit integers.
    Avx512Vnni,
}

impl Level {
    /// Every level, lowest first.
    pub(crate) const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Avx512Vnni];

    /// Name, as the environment variable spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
        }
    }

    /// Highest level this machine has.
    pub(crate) fn detected() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return match avx512 {
                true if is_x86_feature_detected!("avx512vnni") => Self::Avx512Vnni,
                true => Self::Avx512,
                false => Self::Avx2,
            };
        }
        Self::Scalar
    }

    /// Level in use: the detected one, or a lower one that the environment asks for.
    pub(crate) fn current() -> Self {
        static LEVEL: Lazy<Level> = Lazy::new(|| {
            let asked = std::env::var(VARIABLE).ok();
            Level::detected().lowered_to(asked.as_deref())
        });
        *LEVEL
    }

    fn lowered_to(self, asked: Option<&str>) -> Self {
        let Some(asked) = asked else { return self };
        match Self::ALL.into_iter().find(|level| level.name() == asked) {
            Some(level) => self.min(level),
            None => {
                let names = Level::ALL.map(Level::name).join(", ");
                tracing::warn!("{VARIABLE}={asked} ignored: expected one of {names}");
                self
            }
        }
    }
}

/// Work in plain Rust that is compiled once for every level; its `run` is to be
/// `#[inline(always)]`.
pub(crate) trait Job {
    fn run(self);
}

impl Level {
    /// Runs the job compiled for this level.
    ///
    /// # Panics
    /// If the CPU lacks the level.
    pub(crate) fn run(self, job: impl Job) {
        assert!(self <= Self::detected(), "the CPU lacks {}", self.name());
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the level.
            Self::Avx512 | Self::Avx512Vnni => unsafe { run_avx512(job) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the level.
            Self::Avx2 => unsafe { run_avx2(job) },
            _ => job.run(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512(job: impl Job) {
    job.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2(job: impl Job) {
    job.run();
}

/// Name of the CPU level in use, as `TUNABLECONV_CPU` spells it.
pub fn level_name() -> &'static str {
    Level::current().name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_only_lowers() {
        for level in Level::ALL {
            assert_eq!(level.lowered_to(None), level);
            assert_eq!(level.lowered_to(Some("neon")), level);
            assert_eq!(level.lowered_to(Some("avx512vnni")), level);
            assert_eq!(level.lowered_to(Some("scalar")), Level::Scalar);
        }
        assert_eq!(Level::Avx512.lowered_to(Some("avx2")), Level::Avx2);
        assert!(Level::current() <= Level::detected());
    }
}
