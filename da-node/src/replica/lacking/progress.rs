//! How far a log's entries are dealt with for a seat: what is left, and when its turn is.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use meridian_proto::error::{ApiError, Reason};
use tokio::time::Instant;

use crate::replica::fill::{LONGEST_WAIT, TICK};

/// How long one block may take before it is the next one's turn.
const BLOCK: Duration = Duration::from_secs(60);
/// Longest time between two searches for entries that nobody who answered has.
const LONGEST_SEARCH: Duration = Duration::from_secs(3600);

/// What came of a look at a block.
pub(super) struct Looked {
    /// Entries whose rows could not be had, or for which there was no time.
    pub(super) failed: u64,
    /// Entries that nobody who answered has.
    pub(super) missing: u64,
    /// How many entries were found with others until then, of all blocks.
    pub(super) found: u64,
    /// Index of the first entry for which there was no time.
    pub(super) untried: Option<u64>,
}

/// The time that a block has before it is the next one's turn.
pub(super) struct Turn {
    ends: Instant,
    /// Index of the first entry for which there was no time.
    untried: OnceLock<u64>,
}

impl Turn {
    pub(super) fn begin() -> Self {
        Self { ends: Instant::now() + BLOCK, untried: OnceLock::new() }
    }

    /// Whether there is time for one more entry. They ask in their order: whichever is the first keeps its place.
    pub(super) fn check(&self, index: u64) -> Result<(), ApiError> {
        if Instant::now() < self.ends {
            return Ok(());
        }
        self.untried.get_or_init(|| index);
        Err(ApiError::new(Reason::Timeout, "it is another block's turn"))
    }

    pub(super) fn untried(self) -> Option<u64> {
        self.untried.into_inner()
    }
}

/// How far the entries of a log are dealt with.
#[derive(Debug)]
pub(super) struct Progress {
    /// All entries below were looked at.
    pub(super) seen: u64,
    /// How many there are from there on.
    pub(super) unseen: u64,
    /// Blocks in which something is left, by their first entry.
    open: BTreeMap<u64, Open>,
}

/// A block of entries to which this replica has to come back.
#[derive(Debug)]
struct Open {
    end: u64,
    /// Entries whose rows are not here, or that nobody had.
    left: u64,
    wait: Duration,
    again: Instant,
    /// [`Looked::found`].
    found: u64,
    /// [`Looked::untried`].
    untried: Option<u64>,
}

impl Progress {
    /// Everything below is dealt with.
    pub(super) fn from(seen: u64) -> Self {
        Self { seen, unseen: 0, open: BTreeMap::new() }
    }

    pub(super) fn left(&self) -> u64 {
        self.unseen + self.open.values().map(|open| open.left).sum::<u64>()
    }

    /// Blocks whose time has come, or of which another seat may have found entries.
    pub(super) fn due(&self, found: u64) -> Vec<(u64, u64)> {
        let now = Instant::now();
        let due = self.open.iter().filter(|(_, open)| open.again <= now || open.found != found);
        due.map(|(start, open)| (*start, open.end)).collect()
    }

    /// The time of every block has come.
    pub(super) fn hurry(&mut self) {
        let now = Instant::now();
        self.open.values_mut().for_each(|open| open.again = now);
    }

    /// The entry of a block with which its next turn begins.
    pub(super) fn next_in(&self, start: u64) -> u64 {
        self.open.get(&start).and_then(|open| open.untried).unwrap_or(start)
    }

    /// Notes how many rows of a block could not be had, and how many entries nobody who answered has: whoever has them
    /// may be away, so they are looked for again, ever less often, until the epoch's last entry has expired for certain.
    pub(super) fn note(&mut self, (start, end): (u64, u64), looked: &Looked) {
        let Looked { failed, missing, found, untried } = *looked;
        let before = self.open.remove(&start);
        if failed + missing > 0 {
            let longest = if failed > 0 { LONGEST_WAIT } else { LONGEST_SEARCH };
            // Whoever got further goes on.
            let fruitless = before.filter(|open| open.left <= failed + missing);
            let wait = fruitless.map_or(TICK, |open| open.wait.saturating_mul(2).min(longest));
            let again = Instant::now() + wait;
            self.open.insert(start, Open { end, left: failed + missing, wait, again, found, untried });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hurry_makes_every_block_due_once() {
        let failed = Looked { failed: 1, missing: 0, found: 0, untried: None };
        let mut progress = Progress::from(0);
        for block in [(0, 10), (10, 20)] {
            progress.note(block, &failed);
            progress.note(block, &failed);
        }
        assert!(progress.due(0).is_empty());
        progress.hurry();
        assert_eq!(progress.due(0), [(0, 10), (10, 20)]);
        progress.note((0, 10), &failed);
        assert_eq!(progress.due(0), [(10, 20)]);
        tokio::time::advance(LONGEST_WAIT).await;
        assert_eq!(progress.due(0), [(0, 10), (10, 20)]);
    }
}
