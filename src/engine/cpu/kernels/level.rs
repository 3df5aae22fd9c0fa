//! CPU level: which instruction set the kernels may use.

use once_cell::sync::Lazy;

/// Environment variable that lowers the level: `scalar`, `avx2` or `avx512`.
const VARIABLE: &str = "TUNABLECONV_CPU";

/// Instruction sets with kernels of their own, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Whatever the build's target has.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, beside AVX2 and FMA.
    Avx512,
}

impl Level {
    /// Every level, lowest first.
    pub(crate) const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// Name, as the environment variable spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Highest level this machine has.
    pub(crate) fn detected() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            return Self::Avx2;
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
                tracing::warn!("{VARIABLE}={asked} ignored: expected scalar, avx2 or avx512");
                self
            }
        }
    }
}

/// Name of the CPU level in use: `scalar`, `avx2` or `avx512`.
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
            assert_eq!(level.lowered_to(Some("avx512")), level);
            assert_eq!(level.lowered_to(Some("scalar")), Level::Scalar);
        }
        assert_eq!(Level::Avx512.lowered_to(Some("avx2")), Level::Avx2);
        assert!(Level::current() <= Level::detected());
    }
}
