//! The inner loops of the codec, for what the processor offers.
//!
//! A kernel is written once, generic over [`Vector`], and instantiated for each [`Level`]; only [`combine`] goes a way
//! of its own at each. `Level::Scalar` is the twin that tests compare the others with. This module and those below it
//! are the only ones with `unsafe`: raw pointers, so that column strips of the same rows can be worked on side by side,
//! and the processor's instructions.
#![allow(unsafe_code)]

pub(crate) mod combine;
pub(crate) mod extend;
mod plane;
pub(crate) mod recover;
pub(crate) mod sha256;
mod tower;
mod transform;
pub(crate) mod vector;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;
#[cfg(target_arch = "x86_64")]
pub(crate) mod xof;

use std::sync::LazyLock;

/// Environment variable with the name of a level: no higher one is used. Results are the same at every level.
const LEVEL_VARIABLE: &str = "MERIDIAN_SIMD";

/// What the processor offers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// Nothing beyond the language.
    Scalar,
    /// 32-byte vectors, maps of nibbles by shuffles.
    Avx2,
    /// 64-byte vectors, maps of bytes by one instruction: AVX-512 F, BW, VL, VBMI and GFNI.
    Gfni,
}

impl Level {
    /// The levels of this processor, lowest first.
    pub(crate) fn available() -> &'static [Self] {
        const ALL: [Level; 3] = [Level::Scalar, Level::Avx2, Level::Gfni];
        &ALL[..Self::count()]
    }

    #[cfg(target_arch = "x86_64")]
    fn count() -> usize {
        use std::arch::is_x86_feature_detected as has;
        if !has!("avx2") {
            return 1;
        }
        let gfni =
            has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vbmi") && has!("gfni");
        if gfni { 3 } else { 2 }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn count() -> usize {
        1
    }

    /// The level to use: the highest of this processor, or the highest that [`LEVEL_VARIABLE`] allows.
    pub(crate) fn best() -> Self {
        static BEST: LazyLock<Level> =
            LazyLock::new(|| Level::up_to(std::env::var(LEVEL_VARIABLE).ok().as_deref()));
        *BEST
    }

    /// The level to use, where it is not the highest of this processor because [`LEVEL_VARIABLE`] says so.
    pub(crate) fn held() -> Option<Self> {
        let best = Self::best();
        (Self::available().last() != Some(&best)).then_some(best)
    }

    /// The highest level of this processor that is no higher than the one with this name, if a level has it.
    fn up_to(name: Option<&str>) -> Self {
        let highest = Self::available().last().copied().unwrap_or(Self::Scalar);
        let named = Self::available().iter().find(|level| Some(level.name()) == name);
        named.copied().unwrap_or(highest)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Gfni => "gfni",
        }
    }

    /// Whether this processor has the level: kernels assert it before they use its instructions.
    pub(crate) fn is_available(self) -> bool {
        Self::available().contains(&self)
    }
}

/// Name of the instructions that the codec uses on this processor: `scalar`, `avx2` or `gfni`.
///
/// The environment variable `MERIDIAN_SIMD`, read once, holds our kernels to a lower level, for measurements and
/// comparisons. What crates choose for themselves stays: at `scalar` the Reed-Solomon crate's own vectors serve, and
/// SHA-256 has its instructions at every level.
#[must_use]
pub fn simd_level() -> &'static str {
    Level::best().name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_the_best_is_available() {
        let levels = Level::available();
        assert_eq!(levels[0], Level::Scalar);
        assert!(levels.is_sorted());
        assert_eq!(levels.last(), Some(&Level::up_to(None)));
        assert_eq!(levels.last(), Some(&Level::up_to(Some("sse9"))));
        assert!(levels.contains(&Level::best()) && simd_level() == Level::best().name());
        assert!(levels.iter().all(|level| Level::up_to(Some(level.name())) == *level));
        assert!(levels.iter().all(|level| level.is_available()));
    }
}
