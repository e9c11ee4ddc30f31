//! The gateway's anchors on a real chain, and the command that deploys the contract and changes its committee.

mod command;
mod world;

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use anyhow::{Context, Result};
use meridian_client::chain::rpc::Pool;
use meridian_client::chain::sender::{CallError, Chain, Prices, Receipt, Request, Style};
use meridian_client::chain::source::CommitteeSource;
use meridian_client::chain::view::Anchor;
use meridian_integration::anvil::{Anvil, Hardfork, Options};
use meridian_integration::knobs;
use meridian_integration::network::eventually;
use meridian_node::gateway::anchor::AnchorSettings;
use meridian_proofs::committee::{Committee, CommitteeParts};
use meridian_proto::contract::Meridian;
use serde_json::{Value, json};

use world::{Anchoring, Log, SOON, World, account, anchorings, eager, first_anchor, mined, sender, sending};

fn options(hardfork: Hardfork) -> Options {
    Options { hardfork, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_of_a_committee_anchor_their_logs() -> Result<()> {
    for hardfork in Hardfork::ALL {
        let Some(world) = World::start(options(hardfork)).await? else { return Ok(()) };
        let (mut one, mut two) = (Log::new(0, 1)?, Log::new(1, 2)?);
        one.grow(&world.committee, 5)?;
        let legacy = AnchorSettings { fees: Style::Legacy, ..eager() };
        let mut first = Anchoring::start(&world, &one, 1, eager()).await?;
        let _second = Anchoring::start(&world, &two, 2, legacy).await?;
        world.until(one.address(), 5).await?;
        two.grow(&world.committee, 1)?;
        world.until(two.address(), 1).await?;
        for size in [6, 7, 64, 65] {
            let cosigned = one.grow(&world.committee, size - world.size(one.address()).await?)?;
            world.until(one.address(), size).await?;
            let anchor = world.contract.anchor_of(one.address()).await?.context("no anchor")?;
            assert_eq!(anchor.root, cosigned.signed.checkpoint.root);
        }
        assert_eq!(world.size(two.address()).await?, 1);
        assert_eq!(anchorings(&world, one.address()).await?, 5);
        assert_eq!((world.sent(1).await?, world.sent(2).await?), (5, 1));
        let report = first.until("a balance", |report| report.transaction.is_some()).await?;
        assert_eq!(report.account, Some(account(1)?));
        assert!(report.error.is_empty(), "{}", report.error);
        // Members see it as soon as its block is settled, here after two more.
        let source = world.source(2).await?;
        let mut view = source.view();
        let size = |view: &meridian_client::chain::view::View| {
            view.latest_anchor(&one.address()).map(|anchor| anchor.size)
        };
        world.chain.mine(2).await?;
        tokio::time::timeout(SOON, view.wait_for(|view| size(view) == Some(65))).await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interval_is_waited_for_and_many_entries_are_not() -> Result<()> {
    let Some(world) = World::start(Options::default()).await? else { return Ok(()) };
    let mut log = Log::new(0, 1)?;
    log.grow(&world.committee, 1)?;
    let settings = AnchorSettings { interval_s: 3_600, entries: 10, ..eager() };
    let _task = Anchoring::start(&world, &log, 1, settings).await?;
    world.until(log.address(), 1).await?;
    log.grow(&world.committee, 9)?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.size(log.address()).await?, 1);
    log.grow(&world.committee, 1)?;
    world.until(log.address(), 11).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_forked_is_refused() -> Result<()> {
    for hardfork in Hardfork::ALL {
        let Some(world) = World::start(options(hardfork)).await? else { return Ok(()) };
        let mut log = Log::new(0, 1)?;
        log.grow(&world.committee, 7)?;
        let task = Anchoring::start(&world, &log, 1, eager()).await?;
        world.until(log.address(), 7).await?;
        drop(task);
        for size in [3, 7, 20] {
            // Another history of the same gateway: shorter, of the same length, longer; every replica signs it.
            let mut fork = Log::new(0, 2)?;
            let cosigned = fork.grow(&world.committee, size)?;
            let mut task = Anchoring::start(&world, &fork, 1, eager()).await?;
            let report = task.until("the fork", |report| !report.error.is_empty()).await?;
            assert!(report.error.contains("the log has forked: the 7 entries"), "{}", report.error);
            // The contract says the same to whoever sends it anyway.
            let call = first_anchor(&world, &cosigned)?;
            let sender = sender(world.pool()?, 1, &sending(world.contract.pool()))?;
            let Err(CallError::Reverted(revert)) = sender.simulate(&call).await else { panic!("taken") };
            let expected =
                if size > 7 { revert.is::<Meridian::Inconsistent>() } else { revert.is::<Meridian::Stale>() };
            // Seconds may have passed since the first log's checkpoint: then the same size is not stale.
            assert!(expected || size == 7, "{revert}");
        }
        assert_eq!(world.size(log.address()).await?, 7);
        assert_eq!(world.sent(1).await?, 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_another_contract_or_chain_is_refused() -> Result<()> {
    for hardfork in Hardfork::ALL {
        let Some(here) = World::start(options(hardfork)).await? else { return Ok(()) };
        let there = World::start(Options { chain_id: 2_048, ..options(hardfork) }).await?;
        let there = there.context("it was there before")?;
        // The owner's first contract has the same address on both chains.
        assert_eq!(here.contract.address(), there.contract.address());
        let mut log = Log::new(0, 1)?;
        let of_here = log.grow(&here.committee, 3)?;
        let replay = sender(there.pool()?, 1, &sending(there.contract.pool()))?;
        let Err(CallError::Reverted(revert)) = replay.simulate(&first_anchor(&there, &of_here)?).await else {
            panic!("a checkpoint of another chain was taken")
        };
        assert!(revert.is::<Meridian::BadGatewaySignature>(), "{revert}");

        let mut owner = sender(here.pool()?, 0, &sending(here.contract.pool()))?;
        let deploy = meridian_node::chain_cmd::deploy(owner.address(), world::NOTICE, world::GRACE);
        let second = mined(&mut owner, deploy).await?.contract.context("no contract")?;
        let second = here.beside(second)?;
        second.schedule(&second.committee).await?;
        let replay = sender(here.pool()?, 1, &sending(here.contract.pool()))?;
        let Err(CallError::Reverted(revert)) = replay.simulate(&first_anchor(&second, &of_here)?).await
        else {
            panic!("a checkpoint of another contract was taken")
        };
        assert!(revert.is::<Meridian::BadGatewaySignature>(), "{revert}");
        // Signed for that contract it is taken.
        let of_second = log.cosigned(&second.committee, second.domain())?;
        replay.simulate(&first_anchor(&second, &of_second)?).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_loses_nothing_and_sends_nothing_twice() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let state = Some(folder.path().join("state.json"));
    let options = Options { state, ..Options::default() };
    let Some(world) = World::start(options.clone()).await? else { return Ok(()) };
    let mut log = Log::new(0, 1)?;
    log.grow(&world.committee, 2)?;
    let mut task = Anchoring::start(&world, &log, 1, eager()).await?;
    world.until(log.address(), 2).await?;

    world.chain.freeze()?;
    log.grow(&world.committee, 3)?;
    task.until("the outage", |report| !report.error.is_empty()).await?;
    world.chain.thaw()?;
    world.until(log.address(), 5).await?;
    task.until("the end of the outage", |report| report.error.is_empty()).await?;

    // Gone for a while, with its state kept.
    let options = Options { port: Some(world.chain.port()), ..options };
    let World { chain, contract, committee } = world;
    drop(chain);
    log.grow(&committee, 4)?;
    task.until("the second outage", |report| !report.error.is_empty()).await?;
    let longer = knobs::number("OUTAGE_SECONDS")?.unwrap_or(0);
    tokio::time::sleep(Duration::from_secs(longer)).await;
    let chain = Arc::new(Anvil::start(options).await?.context("it was there before")?);
    let world = World { chain, contract, committee };
    world.until(log.address(), 9).await?;
    assert_eq!(anchorings(&world, log.address()).await?, 3);
    assert_eq!(world.sent(1).await?, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_anchor_is_replaced_with_what_is_latest() -> Result<()> {
    for style in [Style::Legacy, Style::Dynamic] {
        let Some(world) = World::start(Options::default()).await? else { return Ok(()) };
        world.chain.set_automine(false).await?;
        let mut log = Log::new(0, 1)?;
        log.grow(&world.committee, 1)?;
        let settings = AnchorSettings { fees: style, ..eager() };
        let _task = Anchoring::start(&world, &log, 1, settings.clone()).await?;
        let price = |transaction: &Value| -> Option<u128> {
            let fees = ["maxFeePerGas", "gasPrice"].iter().find_map(|name| transaction.get(name)?.as_str());
            u128::from_str_radix(fees?.strip_prefix("0x")?, 16).ok()
        };
        let waiting = async || {
            let pool: Value = world.chain.ask("txpool_content", json!([])).await.ok()?;
            let of_account = pool.get("pending")?.as_object()?.values().next()?.as_object()?;
            assert_eq!(of_account.len(), 1, "{pool}");
            price(of_account.get("0")?)
        };
        let first = eventually(SOON, "a transaction that waits", &waiting).await?;
        log.grow(&world.committee, 2)?;
        let raised = async || waiting().await.filter(|price| *price * 8 >= first * 9);
        eventually(SOON, "one that pays more", raised).await?;
        // A block now and then: what is mined first may still be the older one.
        eventually(SOON, "both steps on the chain", async || {
            world.chain.mine(1).await.ok()?;
            (world.size(log.address()).await.ok()? == 3).then_some(())
        })
        .await?;
        assert_eq!(anchorings(&world, log.address()).await?, usize::try_from(world.sent(1).await?)?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_replaces_what_the_process_before_it_sent() -> Result<()> {
    let Some(world) = World::start(Options::default()).await? else { return Ok(()) };
    world.chain.set_automine(false).await?;
    let mut log = Log::new(0, 1)?;
    log.grow(&world.committee, 1)?;
    let task =
        Anchoring::start(&world, &log, 1, AnchorSettings { replace_after_s: 3_600, ..eager() }).await?;
    eventually(SOON, "a transaction that waits", async || {
        (world.contract.pool().nonce(account(1).ok()?, true).await.ok()? == 1).then_some(())
    })
    .await?;
    drop(task);
    let _task = Anchoring::start(&world, &log, 1, eager()).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.chain.set_automine(true).await?;
    world.chain.mine(1).await?;
    world.until(log.address(), 1).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((world.sent(1).await?, anchorings(&world, log.address()).await?), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_that_a_reorganisation_takes_away_is_sent_again() -> Result<()> {
    for hardfork in Hardfork::ALL {
        let Some(world) = World::start(options(hardfork)).await? else { return Ok(()) };
        let mut log = Log::new(0, 1)?;
        log.grow(&world.committee, 4)?;
        let _task = Anchoring::start(&world, &log, 1, eager()).await?;
        world.until(log.address(), 4).await?;
        let before = world.contract.anchor_of(log.address()).await?.context("no anchor")?;
        world.chain.reorg(1).await?;
        let again = eventually(SOON, "the anchor in another block", async || {
            let anchor = world.contract.anchor_of(log.address()).await.ok()??;
            (anchor.block > before.block).then_some(anchor)
        })
        .await?;
        assert_eq!((again.size, again.root), (before.size, before.root));
        assert_eq!(anchorings(&world, log.address()).await?, 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_paid_for_what_somebody_else_has_anchored() -> Result<()> {
    let Some(world) = World::start(Options::default()).await? else { return Ok(()) };
    let mut log = Log::new(0, 1)?;
    let cosigned = log.grow(&world.committee, 4)?;
    let mut other = sender(world.pool()?, 3, &sending(world.contract.pool()))?;
    mined(&mut other, first_anchor(&world, &cosigned)?).await?;
    let mut task = Anchoring::start(&world, &log, 1, eager()).await?;
    task.until("a look at the account", |report| !report.balance.is_zero()).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.sent(1).await?, 0);
    log.grow(&world.committee, 1)?;
    world.until(log.address(), 5).await?;
    assert_eq!(world.sent(1).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_funds_says_so() -> Result<()> {
    let Some(world) = World::start(Options::default()).await? else { return Ok(()) };
    let mut log = Log::new(0, 1)?;
    log.grow(&world.committee, 4)?;
    world.chain.ask::<Value>("anvil_setBalance", json!([account(1)?, "0x1"])).await?;
    let mut task = Anchoring::start(&world, &log, 1, eager()).await?;
    let report = task.until("that it is broke", |report| !report.error.is_empty()).await?;
    assert!(report.error.contains("fund"), "{}", report.error);
    world.chain.ask::<Value>("anvil_setBalance", json!([account(1)?, "0xde0b6b3a7640000"])).await?;
    world.until(log.address(), 4).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_closed_before_the_next_is_anchored() -> Result<()> {
    let Some(world) = World::start(Options::default()).await? else { return Ok(()) };
    let mut log = Log::new(0, 1)?;
    log.grow(&world.committee, 3)?;
    let next = Committee::new(CommitteeParts { epoch: 2, ..world.committee.parts().clone() })?;
    world.schedule(&next).await?;
    world.chain.increase_time(world::GRACE + 1).await?;
    world.chain.mine(1).await?;
    // The epoch before is in its grace; its closing waits.
    log.close();
    log.grow(&next, 2)?;
    let _task = Anchoring::start(&world, &log, 1, eager()).await?;
    world.until(log.address(), 5).await?;
    let source = world.source(0).await?;
    let view = Arc::clone(&source.view().borrow());
    let anchors = view.anchors.get(&log.address()).context("no anchors")?;
    let sizes: Vec<_> = anchors.iter().map(|anchor| (anchor.epoch, anchor.size)).collect();
    assert_eq!(sizes, [(1, 3), (2, 5)]);
    Ok(())
}

/// An endpoint that hides the anchor and says of every call that it will do.
struct Deceiving(Pool);

impl Chain for Deceiving {
    async fn nonce(&self, of: Address, waiting: bool) -> Result<u64, CallError> {
        self.0.nonce(of, waiting).await
    }
    async fn prices(&self) -> Result<Prices, CallError> {
        self.0.prices().await
    }
    async fn estimate(&self, _: Address, _: &Request) -> Result<u64, CallError> {
        Ok(300_000)
    }
    async fn call(&self, _: Address, _: &Request, _: Option<u64>) -> Result<Bytes, CallError> {
        Ok(Bytes::new())
    }
    async fn anchor_of(&self, _: Address, _: Address) -> Result<Option<Anchor>, CallError> {
        Ok(None)
    }
    async fn balance(&self, of: Address) -> Result<U256, CallError> {
        self.0.balance(of).await
    }
    async fn broadcast(&self, raw: Bytes) -> Result<(), CallError> {
        self.0.broadcast(raw).await
    }
    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, CallError> {
        self.0.receipt(hash).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anchors_that_are_paid_for_in_vain_become_rare() -> Result<()> {
    let Some(world) = World::start(Options::default()).await? else { return Ok(()) };
    let mut log = Log::new(0, 1)?;
    log.grow(&world.committee, 2)?;
    let deceiving = Deceiving(world.pool()?);
    let mut task = Anchoring::start_over(&world, &log, 1, eager(), deceiving).await?;
    world.until(log.address(), 2).await?;
    task.until("what was reverted", |report| report.error.contains("revert")).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let sent = world.sent(1).await?;
    // The first pause is a tenth of a second, and each is twice the one before.
    assert!((2..=8).contains(&sent), "{sent}");
    Ok(())
}
