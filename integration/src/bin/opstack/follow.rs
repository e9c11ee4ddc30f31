//! Follows both nodes: how far they are, and whether they have the same blocks.

use std::convert::Infallible;
use std::time::Duration;

use alloy::primitives::B256;
use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

use super::node::{Heads, Node};
use super::stack::Stack;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was seen of both nodes.
pub(crate) struct Follow {
    nodes: [Node; 2],
    /// Hashes of the blocks that both had in common when the second had them as safe, from the genesis on.
    common: Vec<B256>,
    /// The safe head of the second.
    safe: u64,
    /// When the safe head of the second moved.
    moved: Vec<Instant>,
}

impl Follow {
    /// Follows these two.
    pub(crate) fn new(nodes: [Node; 2]) -> Self {
        Self { nodes, common: Vec::new(), safe: 0, moved: Vec::new() }
    }

    /// Looks again and again, at the processes, too, until something is wrong.
    ///
    /// # Errors
    /// When a process has ended, a node does not answer, or their blocks differ.
    pub(crate) async fn run(&mut self, stack: &mut Stack) -> Result<Infallible> {
        loop {
            stack.check()?;
            self.look().await?;
            sleep(LOOK_EVERY).await;
        }
    }

    /// Compares the blocks that have become safe on the second node since the last look; how far both are.
    ///
    /// # Errors
    /// When a node does not answer, or their blocks differ.
    pub(crate) async fn look(&mut self) -> Result<[Heads; 2]> {
        let before = self.safe;
        // The second first, so that the first is never behind.
        let second = self.nodes[1].heads().await?;
        let first = self.nodes[0].heads().await?;
        if second.safe > before {
            self.moved.push(Instant::now());
        }
        ensure!(second.safe >= before, "the safe head went back from {before} to {}", second.safe);
        for number in u64::try_from(self.common.len())?..=second.safe {
            let hash = self.same(number).await?;
            self.common.push(hash);
        }
        self.safe = second.safe;
        Ok([first, second])
    }

    /// The hash that a block has on both nodes.
    async fn same(&self, number: u64) -> Result<B256> {
        let [first, second] = [self.nodes[0].hash(number).await?, self.nodes[1].hash(number).await?];
        ensure!(first == second, "block {number} is {first} on the first node and {second} on the second");
        Ok(first)
    }

    /// Compares every block once more, with the other node and with what it was before; how many there are.
    ///
    /// # Errors
    /// When one differs.
    pub(crate) async fn compare_all(&self) -> Result<usize> {
        for (number, before) in (0..).zip(&self.common) {
            let now = self.same(number).await?;
            ensure!(now == *before, "block {number} was {before} and is {now}");
        }
        Ok(self.common.len())
    }

    /// The longest time for which the second node's safe head stood still.
    pub(crate) fn longest_pause(&self) -> Duration {
        let pauses = self.moved.windows(2).map(|pair| pair[1] - pair[0]);
        pauses.max().unwrap_or_default()
    }

    /// From that moment until the second node's safe head moved next.
    pub(crate) fn next_move(&self, after: Instant) -> Option<Duration> {
        self.moved.iter().find(|&&moved| moved > after).map(|&moved| moved - after)
    }
}
