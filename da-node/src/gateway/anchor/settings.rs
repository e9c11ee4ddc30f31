//! What can be set of anchoring.

use std::path::PathBuf;
use std::time::Duration;

use meridian_client::chain::sender::{self, Style};
use serde::{Deserialize, Serialize};

use crate::config::documented;

/// Most gas of an anchor: that of the largest committee is below it.
const MAX_GAS: u64 = 10_000_000;

documented! {
    /// Settings of anchoring.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct AnchorSettings {
        /// File with the secret key of the account that pays, hex or a Web3 keystore, readable by its owner only. No other
        /// program may send with it. Empty: this gateway anchors nothing.
        pub key: PathBuf,
        /// File with the password of a keystore, readable by its owner only.
        pub password_file: PathBuf,
        /// Seconds between two anchors. Far below the grace of the contract.
        pub interval_s: u64,
        /// Entries that wait for an anchor before the interval is over. 0: the interval alone counts.
        pub entries: u64,
        /// "auto", "legacy" for transactions with a gas price, or "dynamic" for those of EIP-1559. Auto is dynamic where
        /// blocks have a base fee and the endpoint suggests a tip.
        pub fees: Style,
        /// Most wei for a unit of gas.
        pub max_fee_per_gas: u64,
        /// Seconds after which a transaction that is in no block is replaced by one with higher fees.
        pub replace_after_s: u64,
        /// Milliseconds between two looks for a transaction's block.
        pub poll_ms: u64,
        /// Anchors that the account must be able to pay at current prices, or it is said to be low.
        pub low_balance: u64,
    }
}

impl Default for AnchorSettings {
    fn default() -> Self {
        Self {
            key: PathBuf::new(),
            password_file: PathBuf::new(),
            interval_s: 600,
            entries: 0,
            fees: Style::Auto,
            max_fee_per_gas: 500_000_000_000,
            replace_after_s: 60,
            poll_ms: 1_000,
            low_balance: 100,
        }
    }
}

impl AnchorSettings {
    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("interval_s", self.interval_s),
            ("max_fee_per_gas", self.max_fee_per_gas),
            ("replace_after_s", self.replace_after_s),
            ("poll_ms", self.poll_ms),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} must not be 0"));
        }
        if self.key.as_os_str().is_empty() && !self.password_file.as_os_str().is_empty() {
            return Err("password_file is set, and key is not".to_owned());
        }
        Ok(())
    }

    /// Whether this gateway anchors.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.key.as_os_str().is_empty()
    }

    /// How transactions are sent on a chain.
    #[must_use]
    pub fn sending(&self, chain_id: u64) -> sender::Settings {
        sender::Settings {
            chain_id,
            style: self.fees,
            max_fee_per_gas: self.max_fee_per_gas.into(),
            max_gas: MAX_GAS,
            replace_after: Duration::from_secs(self.replace_after_s),
            poll: self.poll(),
        }
    }

    pub(super) fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_s)
    }

    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_nonsense_is_named() {
        let settings = AnchorSettings::default();
        assert_eq!(settings.check(), Ok(()));
        assert!(!settings.is_on());
        let zero = AnchorSettings { interval_s: 0, ..settings.clone() };
        assert_eq!(zero.check(), Err("interval_s must not be 0".to_owned()));
        let password = AnchorSettings { password_file: "p".into(), ..settings };
        assert!(password.check().unwrap_err().contains("password_file"));
    }
}
