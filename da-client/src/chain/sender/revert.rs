//! Why a call reverted.

use std::fmt;

use alloy::primitives::{Bytes, hex};
use alloy::sol_types::{Panic, Revert as Message, SolError};
use meridian_proto::contract::errors;

/// Most characters of a message that are shown.
const MOST: usize = 300;

/// What a call that reverted left behind: the selector of an error and its arguments, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revert(pub Bytes);

impl Revert {
    /// Whether it is this error.
    #[must_use]
    pub fn is<E: SolError>(&self) -> bool {
        self.0.starts_with(&E::SELECTOR)
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = &self.0;
        if data.is_empty() {
            return f.write_str("the call reverts without a reason");
        }
        if let Some(error) = errors::describe(data) {
            return write!(f, "the contract refuses: {error}");
        }
        if let Ok(message) = Message::abi_decode(data) {
            let text: String = message.reason.chars().filter(|c| !c.is_control()).take(MOST).collect();
            return write!(f, "the call reverts: {text}");
        }
        if let Ok(panic) = Panic::abi_decode(data) {
            return write!(f, "the call reverts: {panic}");
        }
        write!(f, "the call reverts with {}", hex::encode_prefixed(&data[..data.len().min(68)]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn solidity_own_errors_are_decoded() {
        let revert = Revert(Message { reason: "no\nmoney".to_owned() }.abi_encode().into());
        assert_eq!(revert.to_string(), "the call reverts: nomoney");
        assert!(revert.is::<Message>() && !revert.is::<Panic>());
        assert!(Revert::default().to_string().contains("without a reason"));
        assert!(Revert(vec![1, 2, 3, 4].into()).to_string().ends_with("0x01020304"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown(bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in 0u8..3) {
            let head: &[u8] = match kind { 0 => &Message::SELECTOR, 1 => &Panic::SELECTOR, _ => &[] };
            let text = Revert([head, &bytes].concat().into()).to_string();
            prop_assert!(text.len() < 4 * MOST + 100 && !text.contains('\n'));
        }
    }
}
