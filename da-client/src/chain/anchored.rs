//! Which transaction anchored an entry first.

use alloy::primitives::{Address, B256};
use alloy::providers::RootProvider;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use meridian_proto::contract::Meridian;

use super::contract::Contract;
use super::history::{CAP, logs};
use super::rpc::Fault;
use super::settled::Block;
use super::source::SourceError;
use super::view::Anchor;

/// How many seconds a checkpoint may be ahead of its block: the contract's limit.
const AHEAD: u64 = 60;

/// An anchor, and the transaction that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchored {
    /// The anchor.
    pub anchor: Anchor,
    /// Hash of the transaction.
    pub transaction: B256,
    /// Unix seconds of its block.
    pub block_timestamp: u64,
}

/// An entry whose anchor is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sought {
    /// Whose log it is in.
    pub gateway: Address,
    /// Its place there.
    pub index: u64,
    /// When it was made, unix seconds: no block that is more than a minute older has its anchor.
    pub time: u64,
    /// The last block that is looked at.
    pub last: u64,
}

impl Contract {
    /// The first anchor of a log that covers an entry, as two endpoints tell it, or the only one that answers.
    ///
    /// That its root does cover the entry is for a proof to say.
    ///
    /// # Errors
    /// No endpoint answers, or they contradict each other.
    pub async fn first_anchor(&self, sought: Sought) -> Result<Option<Anchored>, SourceError> {
        let contract = self.address();
        let search = |provider: RootProvider| async move { search(&provider, contract, sought).await };
        let found = self.pool().agreed(search).await?;
        let disputed = || {
            let Sought { gateway, index, .. } = sought;
            SourceError::Disputed(format!("they have different first anchors of entry {index} of {gateway}"))
        };
        found.ok_or_else(disputed)
    }
}

async fn search(
    provider: &RootProvider,
    contract: Address,
    sought: Sought,
) -> Result<Option<Anchored>, Fault> {
    let Sought { gateway, index, time, last } = sought;
    block_at(provider, last).await?;
    let (mut next, mut span) = (first_since(provider, time.saturating_sub(AHEAD), last).await?, CAP);
    while next <= last {
        let end = next.saturating_add(span - 1).min(last);
        let filter = Filter::new()
            .address(contract)
            .event_signature(Meridian::Anchored::SIGNATURE_HASH)
            .topic1(gateway.into_word());
        let Some(logs) = logs(provider, filter, next, end, &mut span).await? else { continue };
        for log in logs {
            let is_asked =
                log.address() == contract && log.block_number.is_some_and(|it| (next..=end).contains(&it));
            let (anchor, transaction) = read(&log).filter(|_| is_asked && !log.removed).ok_or_else(odd)?;
            if anchor.gateway != gateway {
                return Err(odd());
            }
            if anchor.size > index {
                let block_timestamp = block_at(provider, anchor.block).await?.timestamp();
                return Ok(Some(Anchored { anchor, transaction, block_timestamp }));
            }
        }
        next = end.saturating_add(1);
    }
    Ok(None)
}

/// The first block that is not older than a time, or the one after the last.
async fn first_since(provider: &RootProvider, time: u64, last: u64) -> Result<u64, Fault> {
    let (mut low, mut high) = (0, last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if block_at(provider, middle).await?.timestamp() < time {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

async fn block_at(provider: &RootProvider, number: u64) -> Result<Block, Fault> {
    let block = Block::at(provider, number).await?;
    block.ok_or_else(|| Fault::Behind(format!("it lacks block {number}")))
}

/// An anchor as an event tells of it.
fn read(log: &Log) -> Option<(Anchor, B256)> {
    let (block, transaction) = (log.block_number?, log.transaction_hash?);
    let event = Meridian::Anchored::decode_raw_log_validate(log.topics(), &log.data().data).ok()?;
    let Meridian::Anchored { gateway, epoch, size, root, timestamp, .. } = event;
    Some((Anchor { gateway, epoch, size, root, timestamp, block }, transaction))
}

fn odd() -> Fault {
    Fault::wrong("a log that was not asked for")
}

#[cfg(test)]
mod tests {
    use alloy::primitives::keccak256;

    use super::super::rpc::ChainError;
    use super::super::testing::{CONTRACT, Chain, Endpoint, GATEWAY, Manner, committee, pool, transaction};
    use super::*;

    fn chain() -> Chain {
        let mut chain = Chain::new();
        chain.schedule(&committee(1), 1002);
        // Blocks 3 to 7, of which two have no anchor, and one has two.
        chain.anchor(1, 10);
        chain.mine(2);
        chain.anchor(1, 20);
        chain.emit_again(&super::super::testing::anchored(1, 21));
        chain.anchor(1, 30);
        chain.emit_again(&Meridian::Anchored {
            gateway: Address::ZERO,
            ..super::super::testing::anchored(1, 99)
        });
        chain
    }

    async fn open(change: impl FnOnce(&mut Chain)) -> Endpoint {
        let mut chain = chain();
        change(&mut chain);
        Endpoint::open(chain).await
    }

    async fn first(
        endpoints: &[&Endpoint],
        index: u64,
        time: u64,
        last: u64,
    ) -> Result<Option<Anchored>, SourceError> {
        let contract = Contract::new(pool(endpoints), CONTRACT);
        contract.first_anchor(Sought { gateway: GATEWAY, index, time, last }).await
    }

    #[tokio::test]
    async fn the_first_anchor_that_covers_an_entry_is_found_whatever_an_answer_may_hold() {
        for cap in [(10_000, 10_000), (2, 10_000), (10_000, 1), (1, 2)] {
            let endpoint = open(|chain| chain.cap = cap).await;
            for (index, expected) in [
                (0, Some((10, 3))),
                (9, Some((10, 3))),
                (10, Some((20, 6))),
                (20, Some((21, 6))),
                (29, Some((30, 7))),
                (30, None),
            ] {
                let found = first(&[&endpoint], index, 0, 7).await;
                // Two anchors of one block do not fit an answer of one.
                if cap.1 == 1 && index >= 10 {
                    assert!(found.is_err(), "{found:?}");
                    continue;
                }
                let found = found.unwrap();
                assert_eq!(
                    found.map(|found| (found.anchor.size, found.anchor.block)),
                    expected,
                    "{cap:?} {index}"
                );
                if let Some(found) = found {
                    let Anchored { anchor, transaction: hash, block_timestamp } = found;
                    assert_eq!((hash, block_timestamp), (transaction(anchor.block), 1000 + anchor.block));
                    assert_eq!(
                        (anchor.gateway, anchor.root),
                        (GATEWAY, keccak256(anchor.size.to_be_bytes()))
                    );
                }
            }
        }
    }

    #[tokio::test]
    async fn blocks_before_the_entry_and_after_the_last_one_are_not_looked_at() {
        let endpoint = Endpoint::open(chain()).await;
        let size = |found: Option<Anchored>| found.map(|found| found.anchor.size);
        // Block 4 is the first that is at most a minute older.
        assert_eq!(size(first(&[&endpoint], 0, 1004 + AHEAD, 7).await.unwrap()), Some(20));
        assert_eq!(size(first(&[&endpoint], 0, 1003 + AHEAD, 7).await.unwrap()), Some(10));
        assert_eq!(size(first(&[&endpoint], 0, 1008 + AHEAD, 7).await.unwrap()), None);
        assert_eq!(size(first(&[&endpoint], 10, 0, 5).await.unwrap()), None);
        let behind = first(&[&endpoint], 10, 0, 8).await;
        assert!(matches!(behind, Err(SourceError::Chain(ChainError::Unavailable(_)))), "{behind:?}");
    }

    #[tokio::test]
    async fn of_three_endpoints_two_are_believed_and_of_two_none() {
        let (one, two, other) = (
            Endpoint::open(chain()).await,
            Endpoint::open(chain()).await,
            Endpoint::open(Chain::new()).await,
        );
        other.change(|chain| chain.mine(6));
        let found = first(&[&other, &one, &two], 0, 0, 7).await.unwrap();
        assert_eq!(found.map(|found| found.anchor.block), Some(3));
        let disputed = first(&[&other, &one], 0, 0, 7).await;
        assert!(matches!(disputed, Err(SourceError::Disputed(_))), "{disputed:?}");
        other.behave(Manner::Error(-32000, "no"));
        assert!(first(&[&other, &one], 0, 0, 7).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn an_event_that_is_called_off_is_no_anchor() {
        let endpoint = open(|chain| chain.calls_off = true).await;
        let refused = first(&[&endpoint], 21, 0, 7).await;
        assert!(matches!(refused, Err(SourceError::Chain(ChainError::Unavailable(_)))), "{refused:?}");
    }
}
