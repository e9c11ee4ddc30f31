//! A chain that is left running to play with.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use alloy::hex;
use anyhow::Result;
use meridian_integration::anvil;
use tokio::time::sleep;

use super::Mode;
use super::chain::{INBOX, L1_CHAIN, L2_CHAIN};
use super::follow::Follow;
use super::load::{Load, Rate};
use super::node::Node;
use super::stack::Stack;

/// Pause between two lines about the nodes.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// The account that is shown: it has ether on both chains.
const SHOWN: usize = 1;

/// Says where everything is, and how far the nodes are, until a process ends or this program is interrupted.
///
/// # Errors
/// When a process has ended, or the nodes have different blocks.
pub(crate) async fn leave(
    stack: &mut Stack,
    mode: Mode,
    rate: Option<Rate>,
    logs: &Path,
) -> Result<Infallible> {
    show(stack, mode, logs)?;
    let nodes = stack.nodes();
    let mut follow = Follow::new(nodes.clone());
    let mut load = Load::new()?;
    let load = async {
        if let Some(rate) = rate {
            load.run(&nodes[0], rate, None).await?;
        }
        std::future::pending().await
    };
    tokio::select! {
        failed = follow.run(stack) => failed,
        failed = say(&nodes) => failed,
        failed = load => failed,
    }
}

fn show(stack: &Stack, mode: Mode, logs: &Path) -> Result<()> {
    let [first, second] = stack.nodes();
    let [first_sidecar, second_sidecar] = stack.sidecars();
    println!("\nL1, anvil, chain {L1_CHAIN}                 {}", stack.l1_url());
    println!("L2, chain {L2_CHAIN}, {mode} commitments");
    println!("  first op-geth, which makes blocks     {}", first.l2_url);
    println!("  its op-node                           {}", first.rollup_url);
    println!("  second op-geth, which derives them    {}", second.l2_url);
    println!("  its op-node                           {}", second.rollup_url);
    println!("  commitments on L1 are sent to         {INBOX}");
    println!("Meridian");
    println!("  sidecar of the first node             {first_sidecar}");
    println!("  sidecar of the second node            {second_sidecar}");
    println!("  gateway                               {}", stack.devnet.gateways().join(" "));
    println!("  committee                             {}", stack.devnet.committee_file().display());
    println!("  for `da-node devnet kill --dir`       {}", stack.devnet.folder().display());
    println!("logs                                    {}", logs.display());
    println!("an account with ether on both chains    {}", anvil::account(SHOWN)?);
    println!("its key, known to everybody             {}", hex::encode_prefixed(anvil::DEV_KEYS[SHOWN]));
    println!("\nuntil Ctrl-C; how far the nodes are:");
    Ok(())
}

async fn say(nodes: &[Node; 2]) -> Result<Infallible> {
    loop {
        let [first, second] = [nodes[0].heads().await?, nodes[1].heads().await?];
        println!("  first: unsafe {}, safe {}; second: safe {}", first.newest, first.safe, second.safe);
        sleep(SAY_EVERY).await;
    }
}
