//! What can be set of who may put.

use std::path::PathBuf;
use std::time::Duration;

use meridian_proofs::Address;
use serde::{Deserialize, Serialize};

use crate::config::documented;

/// Longest time that a signature may hold, so that what is remembered of it has an end.
const MOST_WINDOW: u64 = 86_400;
/// Longest difference of clocks.
const MOST_SKEW: u64 = 3_600;

documented! {
    /// Settings of who may put.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct AccessSettings {
        /// File with the namespaces, who may put under each, and how much: `da namespace` makes it. It is read again when
        /// it changes. Empty: anybody may put, under any namespace.
        pub namespaces: PathBuf,
        /// Address of the registry on the chain that says who may put under namespaces that the file lists without an
        /// owner. Zero: there is none.
        pub registry: Address,
        /// Seconds that the deadline of a signed put may lie ahead.
        pub window_s: u64,
        /// Seconds by which the clock of a signer may differ from this host's.
        pub skew_s: u64,
        /// Milliseconds between two looks at whether the file has changed.
        pub reload_ms: u64,
        /// Signed puts of one namespace that are remembered until they have expired, so that none is taken twice. More
        /// in that time are refused as overloaded.
        pub remembered: usize,
    }
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            namespaces: PathBuf::new(),
            registry: Address::ZERO,
            window_s: 300,
            skew_s: 60,
            reload_ms: 1_000,
            remembered: 65_536,
        }
    }
}

impl AccessSettings {
    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=MOST_WINDOW).contains(&self.window_s) {
            return Err(format!("window_s must be within 1 to {MOST_WINDOW}"));
        }
        if self.skew_s > MOST_SKEW {
            return Err(format!("skew_s must be at most {MOST_SKEW}"));
        }
        if self.lets_anybody_put() && !self.registry.is_zero() {
            return Err("registry is set, and namespaces is not: list what the registry speaks of".to_owned());
        }
        if self.reload_ms == 0 {
            return Err("reload_ms must not be 0".to_owned());
        }
        if self.remembered == 0 {
            return Err("remembered must not be 0".to_owned());
        }
        Ok(())
    }

    /// Whether nobody is asked who puts.
    #[must_use]
    pub fn lets_anybody_put(&self) -> bool {
        self.namespaces.as_os_str().is_empty()
    }

    pub(super) fn reload(&self) -> Duration {
        Duration::from_millis(self.reload_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_settings() {
        let with = |change: fn(&mut AccessSettings)| {
            let mut settings = AccessSettings::default();
            change(&mut settings);
            settings.check().is_ok()
        };
        assert!(with(|_| ()));
        assert!(with(|it| it.window_s = 1) && with(|it| it.window_s = MOST_WINDOW));
        assert!(!with(|it| it.window_s = 0) && !with(|it| it.window_s = MOST_WINDOW + 1));
        assert!(with(|it| it.skew_s = 0) && with(|it| it.skew_s = MOST_SKEW));
        assert!(!with(|it| it.skew_s = MOST_SKEW + 1));
        assert!(!with(|it| it.reload_ms = 0) && !with(|it| it.remembered = 0));
    }
}
