//! The inner loops of the codec, for what the processor offers.
//!
//! Every kernel is written once, generic over [`Vector`], and instantiated for each [`Level`]; `Level::Scalar` is the
//! twin that tests compare the others with. This module and those below it are the only ones with `unsafe`: raw
//! pointers, so that column strips of the same rows can be worked on side by side, and the processor's instructions.
#![allow(unsafe_code)]

pub(crate) mod vector;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

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

    /// The highest level of this processor.
    pub(crate) fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::Scalar)
    }

    /// Whether this processor has the level: kernels assert it before they use its instructions.
    pub(crate) fn is_available(self) -> bool {
        Self::available().contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_the_best_is_available() {
        let levels = Level::available();
        assert_eq!(levels[0], Level::Scalar);
        assert!(levels.is_sorted());
        assert_eq!(levels.last(), Some(&Level::best()));
        assert!(levels.iter().all(|level| level.is_available()));
    }
}
