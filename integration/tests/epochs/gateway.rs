//! The gateway's part: one log over all epochs, and no put lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use meridian_client::Silent;
use meridian_client::chain::view::Anchor;
use meridian_client::submit::{Submitter, unix_now};
use meridian_integration::network::{Name, Network, Plan, eventually, options};
use meridian_proofs::certificate::Certificate;
use meridian_proto::convert::{GatewayPhase, GatewayStatus};
use meridian_proto::error::Reason;
use tokio::task::JoinHandle;

/// Longest wait for anything that has to come.
const LIMIT: Duration = Duration::from_secs(60);

/// How long an epoch is taken after the next has begun, seconds.
const GRACE: u64 = 600;

/// Payloads with their certificates.
type Certified = Vec<(Bytes, Certificate)>;

/// Puts one small payload after the other until it is told to stop, and tries each again until it is certified.
struct Putters {
    done: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<Result<Certified>>>,
}

impl Putters {
    fn start(submitter: &Submitter, lanes: u8) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let lane = |lane| {
            let (submitter, done) = (submitter.clone(), done.clone());
            tokio::spawn(async move {
                let mut certified = Vec::new();
                for number in 0u32.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let payload = Bytes::from([&[lane; 2000][..], &number.to_be_bytes()].concat());
                    let certificate = until_certified(&submitter, &payload).await?;
                    certified.push((payload, certificate));
                }
                Ok(certified)
            })
        };
        Self { lanes: (0..lanes).map(lane).collect(), done }
    }

    async fn stop(self) -> Result<Certified> {
        self.done.store(true, Ordering::Relaxed);
        let mut certified = Vec::new();
        for lane in self.lanes {
            certified.extend(lane.await??);
        }
        Ok(certified)
    }
}

async fn until_certified(submitter: &Submitter, payload: &Bytes) -> Result<Certificate> {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        match submitter.put(payload.clone(), &options(), &Silent).await {
            Ok(receipt) => return Ok(receipt.certificate),
            Err(error) if tokio::time::Instant::now() > deadline => bail!("not certified: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn status(network: &Network, place: usize) -> Result<GatewayStatus> {
    Ok(network.channels().gateway(network.endpoint(Name::Gateway(place))?)?.status().await?)
}

/// Waits until a gateway is in an epoch.
async fn in_epoch(network: &Network, place: usize, epoch: u64, phase: GatewayPhase) -> Result<()> {
    eventually(LIMIT, "a gateway in the next epoch", async || {
        let status = status(network, place).await.ok()?;
        (status.epoch == epoch && status.phase == phase).then_some(())
    })
    .await
}

/// Waits until a gateway has appended some more entries.
async fn some_more(network: &Network, place: usize, more: u64) -> Result<()> {
    let before = status(network, place).await?.log_size;
    eventually(LIMIT, "more entries", async || {
        (status(network, place).await.ok()?.log_size >= before + more).then_some(())
    })
    .await
}

/// Checks each certificate under the committee of its epoch, also as the gateway builds it anew, and gives the epochs
/// that occur.
async fn check(network: &Network, certified: &[(Bytes, Certificate)]) -> Result<BTreeSet<u64>> {
    let epochs = network.view().borrow().epochs.clone();
    let mut seen = BTreeSet::new();
    let mut places = BTreeSet::new();
    for (_, certificate) in certified {
        let checkpoint = certificate.checkpoint.signed.checkpoint;
        let committee = epochs.committee(certificate.entry.epoch).context("an epoch")?;
        certificate.verify(committee)?;
        let gateway = committee.gateway(&checkpoint.gateway).context("a gateway")?;
        let rpc = network.channels().gateway(&gateway.endpoint)?;
        rpc.certificate(certificate.id(), None).await?.verify(committee)?;
        ensure!(places.insert((checkpoint.gateway, certificate.index)), "two blobs at one index");
        seen.insert(certificate.entry.epoch);
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_go_on_over_an_epoch_change() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let putters = Putters::start(&network.submitter(), 3);
    some_more(&network, 0, 5).await?;
    network.schedule(network.committee_of(2, |_| {})?, unix_now() + 2, GRACE)?;
    in_epoch(&network, 0, 2, GatewayPhase::Working).await?;
    some_more(&network, 0, 5).await?;
    let certified = putters.stop().await?;
    assert_eq!(check(&network, &certified).await?, BTreeSet::from([1, 2]));
    let status = status(&network, 0).await?;
    assert!(status.log_size >= u64::try_from(certified.len())?);
    // The log goes on: what is of the first epoch stands before what is of the second.
    let [closing] = status.closings[..] else { bail!("{:?}", status.closings) };
    assert_eq!(closing.epoch, 1);
    for (_, certificate) in &certified {
        assert_eq!(certificate.entry.epoch == 1, certificate.index < closing.size);
    }
    // Every replica went along: none waits for an anchor.
    assert!(status.seats.iter().all(|seat| seat.connected));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_replaced_by_another() -> Result<()> {
    let mut network = Network::start(Plan { later_gateways: 1, ..Plan::default() }).await?;
    let putters = Putters::start(&network.submitter(), 2);
    some_more(&network, 0, 3).await?;
    let successor = network.appointed(1)?;
    let second = network.committee_of(2, |parts| parts.gateways = vec![successor])?;
    network.schedule(second, unix_now() + 4, GRACE)?;
    network.restart(Name::Gateway(1)).await?;
    assert_eq!(status(&network, 1).await?.phase, GatewayPhase::Waiting);
    in_epoch(&network, 1, 2, GatewayPhase::Working).await?;
    some_more(&network, 1, 3).await?;
    let certified = putters.stop().await?;
    assert_eq!(check(&network, &certified).await?, BTreeSet::from([1, 2]));
    in_epoch(&network, 0, 2, GatewayPhase::Waiting).await?;
    // Who asks the old one alone is told to go elsewhere.
    let old = network.channels().gateway(network.endpoint(Name::Gateway(0))?)?;
    let start = meridian_proto::convert::PutStart {
        namespace: options().namespace,
        length: 1u64.try_into()?,
        retention: options().retention,
        bind_payload_hash: false,
        expected_blob_id: None,
        kzg_root: None,
        authorization: None,
    };
    let refused = old.put(start, Bytes::from_static(b"a")).await.err().context("a put after the end")?;
    assert_eq!(refused.reason, Reason::LogRetired);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_at_the_change_goes_on_after_it() -> Result<()> {
    let mut network = Network::start(Plan::default()).await?;
    let putters = Putters::start(&network.submitter(), 2);
    some_more(&network, 0, 5).await?;
    let activation = unix_now() + 2;
    network.schedule(network.committee_of(2, |_| {})?, activation, GRACE)?;
    while unix_now() < activation {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    network.kill(Name::Gateway(0)).await?;
    network.restart(Name::Gateway(0)).await?;
    in_epoch(&network, 0, 2, GatewayPhase::Working).await?;
    some_more(&network, 0, 5).await?;
    let certified = putters.stop().await?;
    assert_eq!(check(&network, &certified).await?, BTreeSet::from([1, 2]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_missed_its_anchor_is_retired_and_clients_go_elsewhere() -> Result<()> {
    let network = Network::start(Plan { gateways: 2, ..Plan::default() }).await?;
    let both: Vec<Certificate> = {
        let mut both = Vec::new();
        for place in 0..2 {
            let one = network.submitter_to(vec![network.endpoint(Name::Gateway(place))?.to_owned()]);
            both.push(until_certified(&one, &Bytes::from(vec![7; 3000 + place])).await?);
        }
        both
    };
    let activation = unix_now() + 1;
    network.schedule(network.committee_of(2, |_| {})?, activation, 3)?;
    for place in 0..2 {
        in_epoch(&network, place, 2, GatewayPhase::Working).await?;
    }
    let closing = both[1].checkpoint.signed.checkpoint;
    network.anchor(Anchor {
        gateway: closing.gateway,
        epoch: closing.epoch,
        size: closing.size,
        root: closing.root,
        timestamp: closing.timestamp,
        block: 1,
    });
    network.settled(activation + 3);
    eventually(LIMIT, "a retired gateway", async || {
        (status(&network, 0).await.ok()?.phase == GatewayPhase::Retired).then_some(())
    })
    .await?;
    let payload = Bytes::from(vec![9; 3000]);
    let certificate = until_certified(&network.submitter(), &payload).await?;
    assert_eq!(certificate.checkpoint.signed.checkpoint.gateway, network.address(Name::Gateway(1))?);
    assert_eq!(certificate.entry.epoch, 2);
    Ok(())
}
