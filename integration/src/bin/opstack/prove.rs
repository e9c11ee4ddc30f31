//! Load and faults on a chain, and what must hold afterwards.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use super::Mode;
use super::faults;
use super::follow::Follow;
use super::inbox;
use super::load::{Load, Rate};
use super::measured::Measured;
use super::node::{Node, until};
use super::report::Outcome;
use super::stack::Stack;

/// Time in which the load must be in blocks.
const INCLUDED_WITHIN: Duration = Duration::from_secs(30);
/// Time in which all blocks of the load must be safe on the second node.
const SAFE_WITHIN: Duration = Duration::from_secs(180);

/// Runs load and faults for that time.
///
/// # Errors
/// When a process ends, the second node does not come to the same blocks, or something that was put cannot be read.
pub(crate) async fn prove(
    stack: &mut Stack,
    mode: Mode,
    rate: Option<Rate>,
    time: Duration,
) -> Result<Outcome> {
    let nodes = stack.nodes();
    let mut follow = Follow::new(nodes.clone());
    let mut load = Load::new()?;
    println!("   load and faults for {} s", time.as_secs());
    let devnet = Arc::clone(&stack.devnet);
    let under_load = async {
        let load = async {
            if let Some(rate) = rate {
                load.run(&nodes[0], rate, Some(time)).await?;
            }
            Ok(())
        };
        tokio::try_join!(faults::inject(&devnet, time), load)
    };
    let (faults, ()) = tokio::select! {
        done = under_load => done?,
        failed = follow.run(stack) => match failed? {},
    };

    let ended = Instant::now();
    let at_end = nodes[0].heads().await?;
    println!("   the load has ended; waiting until all of it is safe on the second node");
    let all_safe = all_safe(&load, &nodes);
    tokio::select! {
        done = all_safe => done?,
        failed = follow.run(stack) => match failed? {},
    }
    let caught_up = ended.elapsed();
    let heads = follow.look().await?;

    println!("   comparing all blocks, and reading back every commitment on L1");
    let measured = [Measured::of(stack.sidecars()[0]).await?, Measured::of(stack.sidecars()[1]).await?];
    let compared = follow.compare_all().await?;
    let included = load.included(&nodes[1], heads[1].safe).await?;
    ensure!(included == load.sent(), "{included} of {} transactions are safe", load.sent());
    let posted = inbox::read_back(&stack.l1, stack.anchor.number, stack.sidecars()).await?;
    stack.check()?;
    Ok(Outcome {
        mode,
        heads,
        at_end,
        caught_up,
        compared,
        transactions: included,
        posted,
        measured,
        moved_on: faults.gateway.and_then(|(_, back)| follow.next_move(back)),
        longest_pause: follow.longest_pause(),
        faults,
    })
}

/// Waits until all of the load is in blocks of the first node, and then until the second has these as safe.
async fn all_safe(load: &Load, nodes: &[Node; 2]) -> Result<()> {
    let last = until("all of the load is in blocks", INCLUDED_WITHIN, async || {
        let newest = nodes[0].heads().await?.newest;
        Ok((load.included(&nodes[0], newest).await? == load.sent()).then_some(newest))
    })
    .await?;
    until(&format!("block {last} is safe on the second node"), SAFE_WITHIN, async || {
        Ok((nodes[1].heads().await?.safe >= last).then_some(()))
    })
    .await
}
