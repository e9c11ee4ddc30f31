//! Blobs of an epoch that is over, anchored and not.

use anyhow::{Context, Result, ensure};
use meridian_client::audit::{Outcome, SeatAudit};
use meridian_client::chain::view::Anchor;
use meridian_client::submit::unix_now;
use meridian_integration::network::{Name, Network, Plan, eventually};
use meridian_integration::payload;
use meridian_proofs::certificate::Certificate;

use super::{LIMIT, audited, scope};

async fn put(network: &Network, seed: u64) -> Result<Certificate> {
    eventually(LIMIT, "a certificate", async || network.put(payload::noise(20_000, seed)).await.ok()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_over_is_audited_with_its_own_committee() -> Result<()> {
    let mut network = Network::start(Plan { later_replicas: 1, ..Plan::default() }).await?;
    let first = put(&network, 0).await?;
    for seed in 1..3 {
        put(&network, seed).await?;
    }
    // The second epoch has one replica more, in the first region.
    let old = network.seat(0)?.clone();
    let other = network.seated(5, old.region, old.number + 1)?;
    let committee = network.committee_of(2, |parts| parts.seats.push(other.clone()))?;
    let activation = unix_now() + 1;
    network.schedule(committee, activation, 600)?;
    network.restart(Name::Replica(5)).await?;
    let certificate = eventually(LIMIT, "a put of the second epoch", async || {
        let certificate = network.put(payload::noise(20_000, unix_now())).await.ok()?;
        (certificate.entry.epoch == 2).then_some(certificate)
    })
    .await?;
    // What its gateway has of an entry of the first epoch by now is the closing.
    let rpc = network.channels().gateway(network.endpoint(Name::Gateway(0))?)?;
    let closing = rpc.certificate(first.id(), None).await?.checkpoint.signed.checkpoint;
    let checkpoint = certificate.checkpoint.signed.checkpoint;

    let mut last = None;
    let equal = eventually(LIMIT, "equal copies", async || {
        let audit = last.insert(audited(&network, scope(true)).await.ok()?);
        let is_new = |seat: &SeatAudit| seat.seat.address == other.address;
        let is_done = audit.seats.iter().all(|seat| is_new(seat) || seat.cosigned == seat.entries);
        (is_done && audit.outcome() == Outcome::Identical).then_some(())
    });
    let equal = equal.await;
    let audit = last.context("an audit")?;
    equal.with_context(|| format!("{}: {:?}", audit.verdict(), audit.seats))?;
    let of_epoch = |epoch| audit.blobs.iter().filter(|blob| blob.epoch == epoch).count();
    ensure!(of_epoch(1) >= 3 && of_epoch(2) >= 1, "{:?}", audit.blobs);
    assert_eq!(audit.unanchored(), audit.blobs.len());
    for seat in &audit.seats {
        // Each owes the entries of the epochs in which it has the seat, and cosigned them; a new one begins with that when
        // the closing of the epoch before it is anchored.
        let is_new = seat.seat.address == other.address;
        let owed = if is_new { of_epoch(2) } else { of_epoch(1) + of_epoch(2) };
        assert_eq!((seat.entries, seat.cosigned), (owed, if is_new { 0 } else { owed }), "{seat:?}");
    }

    // Under an anchor of the closing, the entries of the first epoch are anchored.
    network.anchor(Anchor {
        gateway: checkpoint.gateway,
        epoch: 1,
        size: closing.size,
        root: closing.root,
        timestamp: closing.timestamp,
        block: 7,
    });
    network.settled(unix_now());
    let audit = audited(&network, scope(false)).await?;
    assert_eq!(audit.outcome(), Outcome::Identical, "{}", audit.verdict());
    assert_eq!(audit.unanchored(), of_epoch(2));
    for blob in &audit.blobs {
        assert_eq!(blob.entries[0].is_anchored, blob.epoch == 1);
    }
    // An anchor that is of another log makes everybody who serves this one a liar.
    network.anchor(Anchor {
        gateway: checkpoint.gateway,
        epoch: 2,
        size: checkpoint.size,
        root: closing.root,
        timestamp: checkpoint.timestamp,
        block: 8,
    });
    let audit = audited(&network, scope(false)).await?;
    assert_eq!((audit.outcome(), audit.blobs.len()), (Outcome::Faulty, 0));
    ensure!(
        audit.logs[0].problems.iter().any(|problem| problem.contains("nobody serves")),
        "{:?}",
        audit.logs
    );
    Ok(())
}
