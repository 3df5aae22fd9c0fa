//! CPU level: which instruction set the kernels may use.

use once_cell::sync::Lazy;

/// Environment variable that lowers the level to one of [`Level::ALL`] by name.
const VARIABLE: &str = "TUNABLECONV_CPU";

/// Instruction sets with kernels of their own, lowest first. A CPU may lack one in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Whatever the build's target has.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-VNNI, beside AVX2 and FMA: dot products of 8-bit and 16-bit integers.
    AvxVnni,
    /// AVX-512 F, BW, DQ and VL, beside AVX2 and FMA.
    Avx512,
    /// Beside AVX-512, its dot products of 8-bit and 16-bit integers.
    Avx512Vnni,
}

impl Level {
    /// Every level, lowest first.
    pub(crate) const ALL: [Self; 5] =
        [Self::Scalar, Self::Avx2, Self::AvxVnni, Self::Avx512, Self::Avx512Vnni];

    /// Name, as the environment variable spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
        }
    }

    /// Whether this machine has the level.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::AvxVnni => Self::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            Self::Avx512Vnni => {
                Self::Avx512.is_available() && is_x86_feature_detected!("avx512vnni")
            }
        }
    }

    /// Whether this machine has the level.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn is_available(self) -> bool {
        self == Self::Scalar
    }

    /// Whether there is an instruction for dot products of 8-bit integers up to this level.
    pub(crate) fn multiplies_bytes(self) -> bool {
        self.multiplies_bytes_of(Self::is_available)
    }

    /// As [`Level::multiplies_bytes`], on a CPU with these levels.
    fn multiplies_bytes_of(self, is_available: impl Fn(Self) -> bool) -> bool {
        let with_dot_products = [Self::AvxVnni, Self::Avx512Vnni];
        with_dot_products.into_iter().any(|level| level <= self && is_available(level))
    }

    /// Highest available level up to this one.
    fn or_lower(self) -> Self {
        let mut lower = Self::ALL.into_iter().rev().filter(|level| *level <= self);
        lower.find(|level| level.is_available()).unwrap_or(Self::Scalar)
    }

    /// Highest level this machine has.
    pub(crate) fn detected() -> Self {
        Self::Avx512Vnni.or_lower()
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
            Some(level) => self.min(level.or_lower()),
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
        assert!(self.is_available(), "the CPU lacks {}", self.name());
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the level.
            Self::Avx512 | Self::Avx512Vnni => unsafe { run_avx512(job) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has the level.
            Self::Avx2 | Self::AvxVnni => unsafe { run_avx2(job) },
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
    fn environment_only_lowers_to_what_there_is() {
        let available = || Level::ALL.into_iter().filter(|level| level.is_available());
        for level in available() {
            assert_eq!(level.lowered_to(None), level);
            assert_eq!(level.lowered_to(Some("neon")), level);
            assert_eq!(level.lowered_to(Some("avx512vnni")), level);
            assert_eq!(level.lowered_to(Some("scalar")), Level::Scalar);
            for asked in Level::ALL {
                let lowered = level.lowered_to(Some(asked.name()));
                assert!(lowered <= level && lowered <= asked && lowered.is_available());
                let skipped = available().filter(|other| (lowered..=asked).contains(other));
                assert!(skipped.filter(|other| *other <= level).eq([lowered]), "{asked:?}");
            }
        }
        assert_eq!(available().next_back(), Some(Level::detected()));
        // What is of no level is no level, however it is spelt.
        assert_eq!(Level::detected().lowered_to(Some("avx512fp16")), Level::detected());
        assert!(Level::current() <= Level::detected());
    }

    #[test]
    fn bytes_are_multiplied_where_the_cpu_can_and_the_level_lets_it() {
        use Level::{Avx2, Avx512, Avx512Vnni, AvxVnni, Scalar};
        // CPUs, and the levels of theirs up to which there is no such instruction.
        let cpus: [(&str, &[Level], &[Level]); 6] = [
            ("Nehalem, or no x86", &[Scalar], &Level::ALL),
            ("Haswell", &[Scalar, Avx2], &Level::ALL),
            ("Alder Lake", &[Scalar, Avx2, AvxVnni], &[Scalar, Avx2]),
            ("Skylake-X", &[Scalar, Avx2, Avx512], &Level::ALL),
            ("Ice Lake", &[Scalar, Avx2, Avx512, Avx512Vnni], &[Scalar, Avx2, AvxVnni, Avx512]),
            ("Sapphire Rapids", &Level::ALL, &[Scalar, Avx2]),
        ];
        for (cpu, has, without) in cpus {
            for level in Level::ALL {
                let can = level.multiplies_bytes_of(|level| has.contains(&level));
                assert_eq!(can, !without.contains(&level), "{cpu}, {level:?}");
            }
        }
    }
}
