//! The replica's part: seats that pass on, and seats that are removed.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use meridian_client::chain::view::Anchor;
use meridian_client::submit::unix_now;
use meridian_integration::network::{Name, Network, Plan, eventually};
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Seat;
use meridian_proofs::placement::interval;
use meridian_proto::convert::ReplicaStatus;

/// Longest wait for anything that has to come.
const LIMIT: Duration = Duration::from_secs(60);

async fn status(network: &Network, place: usize) -> Option<ReplicaStatus> {
    network.channels().replica(network.endpoint(Name::Replica(place)).ok()?).ok()?.status().await.ok()
}

/// Puts until it is certified: an epoch change may come between.
async fn put(network: &Network, payload: Vec<u8>) -> Result<Certificate> {
    let payload = Bytes::from(payload);
    eventually(LIMIT, "a certificate", async || network.put(payload.clone()).await.ok()).await
}

fn anchor(network: &Network, certificate: &Certificate) {
    let checkpoint = certificate.checkpoint.signed.checkpoint;
    network.anchor(Anchor {
        gateway: checkpoint.gateway,
        epoch: checkpoint.epoch,
        size: checkpoint.size,
        root: checkpoint.root,
        timestamp: checkpoint.timestamp,
        block: 1,
    });
}

/// Whether a replica has all rows of a seat of the first epoch on disk.
async fn holds(network: &Network, place: usize, seat: &Seat, certificate: &Certificate) -> Result<bool> {
    let (id, shape) = (certificate.id(), certificate.header.shape());
    let rpc = network.channels().replica(network.endpoint(Name::Replica(place))?)?;
    for range in interval(network.committee(), seat, &id, shape).ranges() {
        if rpc.rows(id, *range, shape.row_bytes(), true).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_passes_on_fills_itself_without_its_old_holder() -> Result<()> {
    let mut network = Network::start(Plan { later_replicas: 1, ..Plan::default() }).await?;
    let mut certified = Vec::new();
    for number in 0..6_u8 {
        certified.push(put(&network, vec![number; 40_000]).await?);
    }
    let old = network.seat(0)?.clone();
    let heir = network.seated(5, old.region, old.number)?;
    let activation = unix_now() + 2;
    let second = network.committee_of(2, |parts| {
        parts.seats.retain(|seat| seat.address != old.address);
        parts.seats.push(heir.clone());
    })?;
    network.schedule(second.clone(), activation, 600)?;
    eventually(LIMIT, "the activation", async || (unix_now() >= activation).then_some(())).await?;
    network.kill(Name::Replica(0)).await?;
    network.restart(Name::Replica(5)).await?;
    anchor(&network, certified.last().context("a certificate")?);
    eventually(LIMIT, "a seat that filled itself", async || {
        let status = status(&network, 5).await?;
        let has_rows = status.blobs >= 6 && status.repair_left == 0 && status.logs_behind == 0;
        (has_rows && status.seated_epochs == [2]).then_some(())
    })
    .await?;
    for certificate in &certified {
        assert!(holds(&network, 5, &old, certificate).await?);
    }
    // It signs in its epoch, over the entries of the one before.
    eventually(LIMIT, "a cosignature of the new holder", async || {
        let certificate = network.put(Bytes::from(vec![99; 5_000])).await.ok()?;
        let id = certificate.id();
        let gateway = network.channels().gateway(network.endpoint(Name::Gateway(0)).ok()?).ok()?;
        let fuller = gateway.certificate(id, None).await.ok()?;
        fuller.verify(&second).ok()?;
        let signers = fuller.checkpoint.signers(&second.domain()).ok()?;
        signers.contains(&heir.address).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_seat_serves_what_it_has() -> Result<()> {
    let network = Network::start(Plan { min_copies: Some(3), ..Plan::default() }).await?;
    let certificate = put(&network, vec![7; 40_000]).await?;
    let removed = network.seat(4)?.clone();
    eventually(LIMIT, "all rows", async || {
        holds(&network, 4, &removed, &certificate).await.ok()?.then_some(())
    })
    .await?;
    let second = network.committee_of(2, |parts| {
        parts.seats.retain(|seat| seat.address != removed.address);
        parts.regions.retain(|region| region.id != removed.region);
    })?;
    let activation = unix_now() + 1;
    network.schedule(second, activation, 2)?;
    eventually(LIMIT, "an entry of the next epoch", async || {
        let certificate = network.put(Bytes::from(vec![8; 5_000])).await.ok()?;
        (certificate.entry.epoch == 2).then_some(())
    })
    .await?;
    eventually(LIMIT, "the end of the first epoch", async || (unix_now() > activation + 2).then_some(()))
        .await?;
    let status = status(&network, 4).await.context("the status of a removed seat")?;
    assert_eq!((status.epoch, status.region, status.seated_epochs.len()), (2, removed.region, 0));
    assert!(holds(&network, 4, &removed, &certificate).await?);
    let log = network.channels().log(network.endpoint(Name::Replica(4))?)?;
    let gateway = certificate.checkpoint.signed.checkpoint.gateway;
    assert!(log.checkpoint(gateway).await?.is_some());
    assert_eq!(log.entries(gateway, 0, 1).await?.len(), 1);
    Ok(())
}
