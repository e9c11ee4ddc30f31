//! A replica whose disk was put back to an older state, as from a backup, signs nothing that contradicts what it signed since,
//! however its gateway tries; and it goes on with the log that the others know.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_client::submit::unix_now;
use meridian_integration::folder::copy;
use meridian_integration::network::{Name, Network, Plan, eventually, options};
use meridian_integration::{keys, payload};
use meridian_proofs::checkpoint::{Checkpoint, SignedCheckpoint};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proto::convert::{CosignAnswer, LogItem};
use meridian_proto::error::Reason;

const GATEWAY: Name = Name::Gateway(0);
/// How long the gateway tries: longer than a replica needs to hear what it has signed.
const TRIES: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// A log in which other entries follow on the first `common`, with a checkpoint by its gateway over all of it.
fn fork(
    network: &Network,
    truth: &[LogEntry],
    common: usize,
    size: usize,
) -> Result<(SignedCheckpoint, Vec<LogEntry>)> {
    let (key, now) = (keys::secret(&GATEWAY.key_word())?, unix_now());
    let mut entries = truth[..common].to_vec();
    while entries.len() < size {
        // Of a blob that every copy has.
        let expiry = now + 3_600 + u64::try_from(entries.len())?;
        entries.push(LogEntry { time: now, expiry, ..truth[0] });
    }
    let mut range = CompactRange::empty();
    entries.iter().for_each(|entry| drop(range.append(entry.leaf())));
    let committee = network.committee();
    let checkpoint = Checkpoint {
        gateway: key.address(),
        epoch: committee.epoch(),
        size: range.size(),
        root: range.root(),
        timestamp: now,
    };
    Ok((SignedCheckpoint::sign(checkpoint, &committee.domain(), &key), entries))
}

/// Puts something and waits until the replicas at these places have signed for it.
async fn put_until_signed(network: &Network, seed: u64, places: &[usize]) -> Result<()> {
    let receipt = eventually(PATIENCE, "a certificate", async || {
        network.submitter().put(payload::noise(3_000, seed), &options(), &Silent).await.ok()
    })
    .await?;
    let gateway = network.channels().gateway(network.endpoint(GATEWAY)?)?;
    let wanted: Vec<_> =
        places.iter().map(|place| network.address(Name::Replica(*place))).collect::<Result<_>>()?;
    eventually(PATIENCE, "cosignatures of all", async || {
        let fuller = gateway.certificate(receipt.certificate.id(), None).await.ok()?;
        let signers = fuller.verify(network.committee()).ok()?.signers;
        wanted.iter().all(|address| signers.contains(address)).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_an_older_disk_signs_no_fork() -> Result<()> {
    let mut network = Network::start(Plan::default()).await?;
    let all = [0, 1, 2, 3, 4];
    for seed in 0..3 {
        put_until_signed(&network, seed, &all).await?;
    }
    let backup = tempfile::tempdir()?;
    for place in all {
        network.stop(Name::Replica(place)).await?;
        copy(&network.folder(Name::Replica(place)), &backup.path().join(place.to_string()), &|_| false)?;
        network.restart(Name::Replica(place)).await?;
    }
    let old = 3;
    for seed in 10..13 {
        put_until_signed(&network, seed, &all).await?;
    }
    let sets: [&[usize]; 10] = [&[0], &[1], &[2], &[3], &[4], &[0, 1], &[1, 2], &[2, 3], &[3, 4], &[4, 0]];
    for (round, set) in sets.into_iter().enumerate() {
        let address = network.address(GATEWAY)?;
        let log = network.channels().log(network.endpoint(GATEWAY)?)?;
        let size = log.checkpoint(address).await?.context("a checkpoint")?.signed.checkpoint.size;
        let items = log.entries(address, 0, size).await?;
        let truth: Vec<LogEntry> = items
            .into_iter()
            .map(|item| match item {
                LogItem::Entry(entry) => Ok(entry),
                LogItem::Leaf(leaf) => anyhow::bail!("an entry is gone: {leaf}"),
            })
            .collect::<Result<_>>()?;
        // From here on the gateway is whoever has its key.
        network.stop(GATEWAY).await?;
        for place in set {
            network.stop(Name::Replica(*place)).await?;
            let folder = network.folder(Name::Replica(*place));
            fs::remove_dir_all(&folder)?;
            copy(&backup.path().join(place.to_string()), &folder, &|_| false)?;
        }
        for place in set {
            network.restart(Name::Replica(*place)).await?;
        }
        let end = Instant::now() + TRIES;
        let mut last = None;
        while Instant::now() < end {
            for size in [old, old + 1, truth.len(), truth.len() + 1] {
                let (signed, entries) = fork(&network, &truth, old.min(size) - 1, size)?;
                for place in set {
                    let replica = network.channels().replica(&network.seat(*place)?.endpoint)?;
                    for start in [0, old - 1] {
                        let answer = replica.cosign(&signed, u64::try_from(start)?, &entries[start..]).await;
                        ensure!(
                            !matches!(answer, Ok(CosignAnswer::Cosignature(_))),
                            "{set:?}: replica {place} signed a fork of size {size}"
                        );
                        last = answer.err();
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // By now it knows what it signed, and says so.
        let last = last.context("no refusal")?;
        ensure!(matches!(last.reason, Reason::LogFork | Reason::LogRollback), "{set:?}: {last:?}");
        network.restart(GATEWAY).await?;
        put_until_signed(&network, 100 + u64::try_from(round)?, &all).await?;
    }
    Ok(())
}
