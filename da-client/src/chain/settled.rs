//! When a block counts: nothing is acted on before it is unlikely enough to be taken back.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::{B256, U64};
use alloy::providers::{Provider, RootProvider};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::rpc::Fault;

/// Which block is the latest that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Settled {
    /// The one that the chain itself calls finalized.
    #[default]
    Finalized,
    /// The one with this many blocks after it.
    Confirmations(u64),
}

/// A text is neither `finalized` nor a number.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0:?} is neither \"finalized\" nor a number of confirmations")]
pub struct SettledError(String);

impl FromStr for Settled {
    type Err = SettledError;

    fn from_str(text: &str) -> Result<Self, SettledError> {
        match text {
            "finalized" => Ok(Self::Finalized),
            digits => digits.parse().map(Self::Confirmations).map_err(|_| SettledError(text.to_owned())),
        }
    }
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finalized => f.write_str("finalized"),
            Self::Confirmations(blocks) => blocks.fmt(f),
        }
    }
}

impl Serialize for Settled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Settled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(blocks) => Ok(Self::Confirmations(blocks)),
            Either::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// A block as far as it matters. Chains differ in what else they put into one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Block {
    number: U64,
    pub(crate) hash: B256,
    timestamp: U64,
}

impl Block {
    pub(crate) fn number(&self) -> u64 {
        self.number.to()
    }

    /// Unix seconds.
    pub(crate) fn timestamp(&self) -> u64 {
        self.timestamp.to()
    }

    /// A block by its number, if the endpoint has it.
    pub(crate) async fn at(provider: &RootProvider, number: u64) -> Result<Option<Self>, Fault> {
        let block = Self::tagged(provider, &format!("{number:#x}")).await?;
        match block {
            Some(block) if block.number() != number => {
                Err(Fault::wrong(format!("block {} instead of {number}", block.number())))
            }
            block => Ok(block),
        }
    }

    /// The latest block.
    pub(crate) async fn latest(provider: &RootProvider) -> Result<Self, Fault> {
        Self::tagged(provider, "latest").await?.ok_or_else(|| Fault::Wrong("no latest block".to_owned()))
    }

    async fn tagged(provider: &RootProvider, tag: &str) -> Result<Option<Self>, Fault> {
        Ok(provider.raw_request("eth_getBlockByNumber".into(), (tag, false)).await?)
    }
}

impl Settled {
    /// The latest block that counts, as an endpoint sees it.
    pub(crate) async fn block(self, provider: &RootProvider) -> Result<Block, Fault> {
        let behind = |what: &str| Fault::Behind(what.to_owned());
        match self {
            Self::Finalized => {
                let block = Block::tagged(provider, "finalized").await?;
                block.ok_or_else(|| behind("it has no finalized block"))
            }
            Self::Confirmations(blocks) => {
                let latest = Block::latest(provider).await?;
                let Some(number) = latest.number().checked_sub(blocks) else {
                    return Err(behind("no block has the confirmations yet"));
                };
                if blocks == 0 {
                    return Ok(latest);
                }
                Block::at(provider, number).await?.ok_or_else(|| behind("it lacks a block below its latest"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, settled) in [
            ("finalized", Settled::Finalized),
            ("0", Settled::Confirmations(0)),
            ("64", Settled::Confirmations(64)),
            ("18446744073709551615", Settled::Confirmations(u64::MAX)),
        ] {
            assert_eq!(text.parse(), Ok(settled));
            assert_eq!(settled.to_string(), text);
        }
        for text in ["", "latest", "-1", "18446744073709551616", "Finalized"] {
            assert!(text.parse::<Settled>().is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Settled>("12").unwrap(), Settled::Confirmations(12));
        assert_eq!(serde_json::from_str::<Settled>("\"12\"").unwrap(), Settled::Confirmations(12));
        assert_eq!(serde_json::to_string(&Settled::Finalized).unwrap(), "\"finalized\"");
    }
}
