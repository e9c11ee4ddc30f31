//! Stores of every format that was ever written, as this program finds them.
//!
//! `testdata/store-N` is what a replica and a gateway wrote in format N, and `expected.json` what is in there. These
//! folders are kept for ever and never written again. Whoever raises [`FORMAT_VERSION`] makes the next one with
//! `REGENERATE=1 cargo test --release -p meridian-integration --test formats`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use meridian_client::Silent;
use meridian_client::fetch::ReadError;
use meridian_client::submit::PutOptions;
use meridian_integration::folder::copy;
use meridian_integration::network::{eventually, options};
use meridian_integration::pair::Pair;
use meridian_integration::payload;
use meridian_node::store::FORMAT_VERSION;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::MAX_RETENTION;
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::log::{verify_consistency, verify_inclusion};
use meridian_proofs::{B256, keccak256};
use meridian_proto::Reason;
use meridian_proto::convert::{EntryRef, LogItem, LookupKey};
use serde::{Deserialize, Serialize};

const EXPECTED: &str = "expected.json";

/// What must be found in a store.
#[derive(Serialize, Deserialize)]
struct Expected {
    /// Blobs that are there until the entries of their certificates expire.
    kept: Vec<Blob>,
    /// Blobs that were there and had expired.
    expired: Vec<Blob>,
}

#[derive(Serialize, Deserialize)]
struct Blob {
    /// In hex.
    certificate: String,
    /// Of the payload, whether the entry has it or not.
    payload_hash: B256,
}

impl Blob {
    fn of(certificate: &Certificate, payload: &[u8]) -> Self {
        Self { certificate: hex::encode(certificate.encode()), payload_hash: keccak256(payload) }
    }

    fn certificate(&self) -> Result<Certificate> {
        Ok(Certificate::decode(&hex::decode(&self.certificate)?)?)
    }
}

fn folder(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/store-{version}"))
}

/// Locks, what programs said, and options that no program reads.
fn is_left_out(name: &str) -> bool {
    name == "LOCK" || name.starts_with("LOG") || name.starts_with("OPTIONS") || name.ends_with(".out")
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_of_every_format_hold_what_was_put_into_them() -> Result<()> {
    let newest = folder(FORMAT_VERSION);
    if !newest.exists() && std::env::var_os("REGENERATE").is_some() {
        write(&newest).await?;
    }
    ensure!(newest.is_dir(), "there is no store of format {FORMAT_VERSION}: run with REGENERATE=1");
    // Formats 1 and 2 were never released.
    for version in 3..=FORMAT_VERSION {
        check(&folder(version)).await.with_context(|| format!("a store of format {version}"))?;
    }
    Ok(())
}

async fn check(fixture: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    copy(fixture, dir.path(), &is_left_out)?;
    let Expected { kept, expired } = serde_json::from_slice(&fs::read(dir.path().join(EXPECTED))?)?;
    ensure!(!kept.is_empty() && !expired.is_empty(), "nothing is expected");
    let pair = Pair::start(dir.path(), &[], None).await?;
    let (reader, channels) = (pair.reader(), pair.channels());
    let (replica, gateway) = (channels.replica(pair.replica())?, channels.gateway(pair.gateway())?);
    let address = pair.committee().gateways()[0].address;

    for blob in &kept {
        let certificate = blob.certificate()?;
        let (id, shape) = (certificate.id(), certificate.header.shape());
        certificate.verify(pair.committee())?;
        let fetched = reader.payload(id, &Silent).await?;
        ensure!(keccak256(&fetched.payload) == blob.payload_hash, "the payload of {id} is another");
        // Every row from disk: none may be computed from others.
        let (rows, proof) = replica.rows(id, shape.all(), shape.row_bytes(), true).await?;
        reader.context(id).await?.check_range(shape.all(), rows, &proof)?;
        let Certificate { entry, index, .. } = certificate;
        let named = EntryRef { gateway: address, index, entry };
        let mut keys = vec![LookupKey::Blob(id)];
        keys.extend(entry.payload_hash.is_bound().then_some(LookupKey::Payload(entry.payload_hash)));
        for key in keys {
            let found = replica.lookup(key, true).await?;
            ensure!(found.len() == 1 && found[0].entries.contains(&named), "{key:?}: {found:?}");
        }
        let again = gateway.certificate(id, Some(entry.namespace)).await?;
        again.verify(pair.committee())?;
        ensure!((again.index, again.entry) == (index, entry), "the gateway has another entry of {id}");
    }
    for blob in &expired {
        let certificate = blob.certificate()?;
        match reader.payload(certificate.id(), &Silent).await {
            Err(ReadError::Unknown { expired: Some(at), .. }) => assert_eq!(at, certificate.entry.expiry),
            other => panic!("not expired: {other:?}"),
        }
        let refused = replica.lookup(LookupKey::Payload(PayloadHash(blob.payload_hash)), false).await;
        assert_eq!(refused.err().map(|error| error.reason), Some(Reason::BlobExpired));
    }

    let certificates = kept.iter().chain(&expired).map(Blob::certificate).collect::<Result<Vec<_>>>()?;
    let last = certificates.iter().map(|it| it.checkpoint.signed.checkpoint).max_by_key(|it| it.size);
    let last = last.context("checkpoints")?;
    for host in [pair.replica(), pair.gateway()] {
        let log = channels.log(host)?;
        let items = log.entries(address, 0, last.size).await?;
        ensure!(items.len() == certificates.len(), "{host} has {} entries", items.len());
        for Certificate { index, entry, checkpoint, .. } in &certificates {
            let leaf = match &items[usize::try_from(*index)?] {
                LogItem::Entry(found) => found.leaf(),
                LogItem::Leaf(leaf) => *leaf,
            };
            ensure!(leaf == entry.leaf(), "{host} has another entry {index}");
            let checkpoint = &checkpoint.signed.checkpoint;
            let proof = log.inclusion(address, *index, checkpoint.size).await?;
            verify_inclusion(leaf, *index, checkpoint.size, &proof.path, &checkpoint.root)?;
        }
        let cosigned = log.checkpoint(address).await?.context("a checkpoint")?;
        cosigned.signed.verify(&pair.committee().domain())?;
        let latest = &cosigned.signed.checkpoint;
        ensure!((latest.size, latest.root) == (last.size, last.root), "{host} has another log");
        ensure!(cosigned.cosignatures.len() == 1, "{host} has lost the cosignature");
    }

    // The log goes on where it was.
    let more = pair.submitter().put(payload::noise(10_000, 99), &options(), &Silent).await?.certificate;
    assert_eq!(more.index, last.size);
    let new = &more.checkpoint.signed.checkpoint;
    for host in [pair.replica(), pair.gateway()] {
        let proof = channels.log(host)?.consistency(address, last.size, new.size).await?;
        verify_consistency(last.size, &last.root, new.size, &new.root, &proof)?;
    }
    pair.stop()
}

/// Makes the stores of a new format.
async fn write(to: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    Pair::prepare(dir.path())?;
    let soon = [
        ("MERIDIAN_REPLICA__UNSIGNED_SECONDS", "3"),
        ("MERIDIAN_REPLICA__EXPIRY_GRACE_SECONDS", "3"),
        ("MERIDIAN_REPLICA__SWEEP_SECONDS", "1"),
    ];
    let pair = Pair::start(dir.path(), &soon, None).await?;
    let (submitter, reader) = (pair.submitter(), pair.reader());
    let put = async |payload: Bytes, options: PutOptions| {
        let receipt = submitter.put(payload.clone(), &options, &Silent).await?;
        anyhow::Ok((Blob::of(&receipt.certificate, &payload), receipt.certificate))
    };
    let kept = || PutOptions { retention: MAX_RETENTION, ..options() };
    let brief = PutOptions { retention: 1, bind_payload_hash: true, ..options() };
    let (gone, certificate) = put(payload::noise(500, 1), brief).await?;
    let mut blobs = Vec::new();
    for (length, seed, bound) in [(1, 2, false), (9_000, 3, true), (20_000, 4, false)] {
        let namespace = Namespace::from([u8::try_from(seed)?; 32]);
        let options = PutOptions { bind_payload_hash: bound, namespace, ..kept() };
        blobs.push(put(payload::noise(length, seed), options).await?.0);
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    // A blob goes when a later checkpoint tells the time.
    blobs.push(put(payload::noise(40, 5), kept()).await?.0);
    eventually(Duration::from_secs(30), "a blob that has expired", async || {
        let error = reader.payload(certificate.id(), &Silent).await.err()?;
        matches!(error, ReadError::Unknown { expired: Some(_), .. }).then_some(())
    })
    .await?;
    pair.stop()?;
    // Opening writes what is in the log into files of their own.
    Pair::start(dir.path(), &soon, None).await?.stop()?;
    let expected = Expected { kept: blobs, expired: vec![gone] };
    fs::write(dir.path().join(EXPECTED), serde_json::to_string_pretty(&expected)? + "\n")?;
    copy(dir.path(), to, &is_left_out)
}
