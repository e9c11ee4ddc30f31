//! This host's clock beside those of others.

use std::time::Duration;

use meridian_client::chain::contract::Contract;

use super::Finding;
use crate::clock::Clock;
use crate::config::host::Chain;

/// Milliseconds beyond which a clock is worth a look. Checkpoints and permissions are refused at 60 s.
const ODD: u64 = 2_000;
/// Milliseconds beyond which the host's work is soon refused by others.
const WRONG: u64 = 20_000;
/// Seconds that the latest block may be ahead of us: proposers have some leeway.
const BLOCK_AHEAD: u64 = 15;
/// Seconds that it may be ahead before our clock is wrong for certain: the contract allows no more.
const BLOCK_FAR_AHEAD: u64 = 60;
/// Seconds without a block after which something is odd.
const BLOCK_OLD: u64 = 900;
/// Longest wait for the chain.
const READ_WITHIN: Duration = Duration::from_secs(30);

const NTP: &str = "set the clock of this machine by NTP, and keep it so (chrony, systemd-timesyncd)";

/// How far another clock is ahead of ours, and how much of that may be the way of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offset {
    milliseconds: i64,
    doubt: u64,
}

impl Offset {
    /// Another's clock, as it was read between `before` on ours and a round trip later. All in milliseconds.
    pub(super) fn new(theirs: u64, before: u64, round_trip: u64) -> Self {
        let doubt = round_trip / 2;
        let wide = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Self { milliseconds: wide(theirs).saturating_sub(wide(before.saturating_add(doubt))), doubt }
    }

    /// By how much it is off for certain.
    fn certain(self) -> u64 {
        self.milliseconds.unsigned_abs().saturating_sub(self.doubt)
    }
}

/// Our clock among those of the other members: one of them that is wrong changes nothing.
pub(super) fn among_peers(offsets: &[Offset]) -> Finding {
    const CHECK: &str = "clock";
    let mut sorted = offsets.to_vec();
    sorted.sort_by_key(|offset| offset.milliseconds);
    let Some(median) = sorted.get(sorted.len() / 2) else {
        let advice = "look at the clock yourself, as with `timedatectl`; ask again when other members answer";
        return Finding::warning(CHECK, "no other member tells its clock", advice);
    };
    let way = if median.milliseconds >= 0 { "behind" } else { "ahead of" };
    let off = median.milliseconds.unsigned_abs();
    let said =
        format!("{off} ms {way} the median of {} members, give or take {} ms", sorted.len(), median.doubt);
    match median.certain() {
        certain if certain > WRONG => Finding::problem(CHECK, said, NTP),
        certain if certain > ODD => Finding::warning(CHECK, said, NTP),
        _ => Finding::ok(CHECK, said),
    }
}

/// Our clock beside the latest block.
pub(super) async fn chain(chain: &Chain) -> Finding {
    let read = async {
        let pool = chain.pool().map_err(|error| error.to_string())?;
        let block = Contract::new(pool, chain.contract).latest_block().await;
        block.map(|block| block.timestamp).map_err(|error| error.to_string())
    };
    match tokio::time::timeout(READ_WITHIN, read).await {
        Ok(Ok(timestamp)) => beside_block(Clock::system().now(), timestamp),
        Ok(Err(said)) => out_of_reach(&said),
        Err(_) => out_of_reach(&format!("no answer within {} s", READ_WITHIN.as_secs())),
    }
}

const CHAIN: &str = "chain-clock";

fn out_of_reach(said: &str) -> Finding {
    Finding::problem(CHAIN, format!("the latest block is not to be had: {said}"), "check chain.rpc")
}

fn beside_block(now: u64, block: u64) -> Finding {
    if let Some(ahead) = block.checked_sub(now).filter(|ahead| *ahead > 0) {
        let said = format!("the latest block is {ahead} s ahead of this clock");
        return match ahead {
            ahead if ahead > BLOCK_FAR_AHEAD => Finding::problem(CHAIN, said, NTP),
            ahead if ahead > BLOCK_AHEAD => Finding::warning(CHAIN, said, NTP),
            _ => Finding::ok(CHAIN, said),
        };
    }
    let age = now.saturating_sub(block);
    let said = format!("the latest block is {age} s old");
    if age > BLOCK_OLD {
        let advice =
            "the chain makes no blocks, its endpoints lag, or this clock is ahead: compare it with others";
        return Finding::warning(CHAIN, said, advice);
    }
    Finding::ok(CHAIN, said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn an_offset_leaves_out_what_the_way_may_have_taken() {
        let same = Offset::new(1_050, 1_000, 100);
        assert_eq!(same, Offset { milliseconds: 0, doubt: 50 });
        assert_eq!(Offset::new(11_050, 1_000, 100).certain(), 9_950);
        assert_eq!(Offset::new(1, 10_000, 0), Offset { milliseconds: -9_999, doubt: 0 });
        assert_eq!(Offset::new(u64::MAX, 0, 0).milliseconds, i64::MAX);
    }

    #[test]
    fn the_median_is_judged() {
        let at = |milliseconds| Offset { milliseconds, doubt: 10 };
        for (median, verdict) in [
            (0, Verdict::Ok),
            (2_010, Verdict::Ok),
            (2_011, Verdict::Warning),
            (-2_010, Verdict::Ok),
            (-2_011, Verdict::Warning),
            (20_010, Verdict::Warning),
            (20_011, Verdict::Problem),
            (-20_011, Verdict::Problem),
        ] {
            assert_eq!(among_peers(&[at(median)]).verdict, verdict, "{median}");
            // Those who are far off are outvoted.
            let three = [at(median), at(900_000), at(-900_000)];
            assert_eq!(among_peers(&three).verdict, verdict, "{median}");
        }
        assert_eq!(among_peers(&[]).verdict, Verdict::Warning);
    }

    #[test]
    fn blocks_tell_the_time_too() {
        for (now, block, verdict) in [
            (1_000, 1_000, Verdict::Ok),
            (1_000, 1_015, Verdict::Ok),
            (1_000, 1_016, Verdict::Warning),
            (1_000, 1_060, Verdict::Warning),
            (1_000, 1_061, Verdict::Problem),
            (2_000, 1_100, Verdict::Ok),
            (2_000, 1_099, Verdict::Warning),
        ] {
            assert_eq!(beside_block(now, block).verdict, verdict, "{now} {block}");
        }
    }
}
