//! The whole path: a batch in, a certificate out, read back, sampled, enumerated.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use meridian_client::Silent;
use meridian_client::fetch::ReadError;
use meridian_client::submit::PutOptions;
use meridian_integration::network::{Name, Network, Plan, eventually, options};
use meridian_integration::payload;
use meridian_node::replica;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::encode::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::log::{verify_consistency, verify_inclusion};
use meridian_proofs::{B256, keccak256};
use meridian_proto::Reason;
use meridian_proto::convert::{LogItem, LookupKey};

fn id_of(payload: &[u8]) -> Result<BlobId> {
    Ok(encode::<Blake3>(payload, B256::ZERO)?.id())
}

#[tokio::test(flavor = "multi_thread")]
async fn real_batches_go_in_and_come_back() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let reader = network.reader();
    let batches = payload::batches()?;
    assert!(!batches.is_empty());
    for (name, batch) in batches {
        let receipt = network.submitter().put(batch.clone(), &options(), &Silent).await?;
        let certificate = Certificate::decode(&receipt.certificate.encode())?;
        assert_eq!(certificate.id(), id_of(&batch)?, "{name}");
        let verified = certificate.verify(network.committee())?;
        assert!(verified.complete.len() >= network.committee().min_copies(), "{name}");

        let fetched = reader.payload(certificate.id(), &Silent).await?;
        assert!(fetched.payload == batch, "{name} came back different");
        assert!(fetched.faults.is_empty(), "{name}: {:?}", fetched.faults);

        let sampled = reader.sample(certificate.id(), 16).await?;
        assert_eq!(sampled.drawn.len(), 16, "{name}");
        assert_eq!(sampled.verified.len(), 16, "{name}: {:?}", sampled.faults);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_region_gets_every_blob() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let certificate = network.put(payload::noise(40_000, 1)).await?;
    let id = certificate.id();
    let gateway = network.channels().gateway(network.endpoint(Name::Gateway(0))?)?;
    let full = eventually(Duration::from_secs(20), "a certificate with all five regions", async || {
        let fuller = gateway.certificate(id, None).await.ok()?;
        let verified = fuller.verify(network.committee()).ok()?;
        (verified.complete.len() == 5).then_some(fuller)
    })
    .await?;
    assert_eq!(full.entry, certificate.entry);
    // Each region alone rebuilds the payload: five readers, each with all other regions cut off, is what `processes`
    // does; here every replica shows that it holds its own interval.
    for place in 0..5 {
        let seat = network.seat(place)?;
        let shape = full.header.shape();
        let interval = meridian_proofs::placement::interval(network.committee(), seat, &id, shape);
        let replica = network.channels().replica(&seat.endpoint)?;
        for range in interval.ranges() {
            replica.rows(id, *range, shape.row_bytes(), true).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_put_gives_the_same_entry() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let batch = payload::noise(30_000, 2);
    let first = network.put(batch.clone()).await?;
    let again = network.put(batch.clone()).await?;
    assert_eq!((again.index, &again.entry), (first.index, &first.entry));

    let other = PutOptions { namespace: Namespace::from([7; 32]), ..options() };
    let elsewhere = network.submitter().put(batch.clone(), &other, &Silent).await?.certificate;
    assert_eq!(elsewhere.id(), first.id());
    assert_ne!(elsewhere.index, first.index);
    assert_eq!(elsewhere.entry.namespace, other.namespace);

    let longer = PutOptions { retention: 2 * 86_400, ..options() };
    let later = network.submitter().put(batch.clone(), &longer, &Silent).await?.certificate;
    assert_ne!(later.index, first.index);
    assert!(later.entry.expiry >= first.entry.expiry + 86_400);

    let hashed = PutOptions { bind_payload_hash: true, ..options() };
    let bound = network.submitter().put(batch.clone(), &hashed, &Silent).await?.certificate;
    assert_eq!(bound.entry.payload_hash, PayloadHash(keccak256(&batch)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_race_with_one_payload_get_one_entry() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let batch = payload::noise(120_000, 3);
    let submitter = network.submitter();
    let options = options();
    let puts = (0..6).map(|_| submitter.put(batch.clone(), &options, &Silent));
    let receipts = futures::future::try_join_all(puts).await?;
    for receipt in &receipts {
        assert_eq!(receipt.certificate.index, receipts[0].certificate.index);
    }
    let status = network.channels().gateway(network.endpoint(Name::Gateway(0))?)?.status().await?;
    assert_eq!(status.log_size, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_found_by_the_hash_of_its_payload() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let batch = payload::noise(9_000, 4);
    let hashed = PutOptions { bind_payload_hash: true, ..options() };
    let certificate = network.submitter().put(batch.clone(), &hashed, &Silent).await?.certificate;
    let fetched = network.reader().payload_by_hash(PayloadHash(keccak256(&batch)), &Silent).await?;
    assert_eq!(fetched.id, certificate.id());
    assert!(fetched.payload == batch);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_put_is_unknown_and_what_is_out_of_reach_is_not() -> Result<()> {
    let mut network = Network::start(Plan::default()).await?;
    let never = id_of(b"never put")?;
    match network.reader().payload(never, &Silent).await {
        Err(error @ ReadError::Unknown { .. }) => assert_eq!(error.reason(), Reason::BlobUnknown),
        other => panic!("not unknown: {other:?}"),
    }
    for place in 0..2 {
        network.kill(Name::Replica(place)).await?;
    }
    // Three of five regions know nothing of it; the other two might.
    let error =
        network.reader().payload(never, &Silent).await.err().context("found a blob that was never put")?;
    assert_eq!(error.reason().class(), meridian_proto::Class::Unavailable, "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_pass_over_a_gateway_that_is_gone() -> Result<()> {
    let mut network = Network::start(Plan { gateways: 2, ..Plan::default() }).await?;
    let batch = payload::noise(50_000, 5);
    let before = network.put(batch.clone()).await?;
    assert_eq!(before.checkpoint.signed.checkpoint.gateway, network.address(Name::Gateway(0))?);

    network.kill(Name::Gateway(0)).await?;
    let receipt = network.submitter().put(batch.clone(), &options(), &Silent).await?;
    let after = receipt.certificate;
    assert_eq!(after.checkpoint.signed.checkpoint.gateway, network.address(Name::Gateway(1))?);
    assert_eq!(receipt.failed.len(), 1, "{:?}", receipt.failed);
    assert_eq!(after.id(), before.id());
    // The second gateway's entry found the rows where the first one's upload had left them.
    assert_eq!(network.reader().payload(after.id(), &Silent).await?.payload, batch);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_vanishes_takes_nothing_with_it() -> Result<()> {
    let mut network = Network::start(Plan::default()).await?;
    let payloads: Vec<Bytes> = (0..5).map(|seed| payload::noise(5_000, 100 + seed)).collect();
    let mut certificates = Vec::new();
    for payload in &payloads {
        certificates.push(network.put(payload.clone()).await?);
    }
    let gateway = network.address(Name::Gateway(0))?;
    network.kill(Name::Gateway(0)).await?;

    // A replica that cosigned the last certificate knows the whole log.
    let last = certificates.last().context("five certificates")?;
    let signer = last.verify(network.committee())?.signers[0];
    let seat = network.committee().seat(&signer).context("a signer with a seat")?;
    let log = network.channels().log(&seat.endpoint)?;
    let listed = log.list().await?;
    assert!(listed.iter().any(|cosigned| cosigned.signed.checkpoint.gateway == gateway));
    let cosigned = log.checkpoint(gateway).await?.context("a checkpoint of the log")?;
    cosigned.signed.verify(&network.committee().domain())?;
    let checkpoint = cosigned.signed.checkpoint;
    assert_eq!(checkpoint.size, 5);

    let items = log.entries(gateway, 0, 5).await?;
    assert_eq!(items.len(), 5);
    for (index, item) in items.iter().enumerate() {
        let LogItem::Entry(entry) = item else { panic!("entry {index} is gone") };
        assert_eq!(entry, &certificates[index].entry);
        let index = u64::try_from(index)?;
        let proof = log.inclusion(gateway, index, 5).await?;
        verify_inclusion(entry.leaf(), index, 5, &proof.path, &checkpoint.root)?;
    }
    for old in 1..=5 {
        let proof = log.consistency(gateway, old, 5).await?;
        let mut range = meridian_proofs::log::CompactRange::empty();
        for certificate in &certificates[..usize::try_from(old)?] {
            range.append(certificate.entry.leaf());
        }
        verify_consistency(old, &range.root(), 5, &checkpoint.root, &proof)?;
    }

    let reader = network.reader();
    for (payload, certificate) in payloads.iter().zip(&certificates) {
        assert_eq!(&reader.payload(certificate.id(), &Silent).await?.payload, payload);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_answers_for_any_row() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let payload = payload::noise(20_000, 6);
    let certificate = network.put(payload.clone()).await?;
    let (id, shape) = (certificate.id(), certificate.header.shape());
    let context = network.reader().context(id).await?;
    let signer = certificate.verify(network.committee())?.signers[0];
    let seat = network.committee().seat(&signer).context("a signer with a seat")?;
    let replica = network.channels().replica(&seat.endpoint)?;
    let (rows, proof) = replica.rows(id, shape.all(), shape.row_bytes(), false).await?;
    let verified = context.check_range(shape.all(), rows, &proof)?;
    assert!(verified.rows().starts_with(&payload));
    ensure!(
        replica.rows(id, shape.all(), shape.row_bytes(), true).await.is_err(),
        "a replica claims to hold what it was never given"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_down_catches_up_and_cosigns_again() -> Result<()> {
    let mut network = Network::start(Plan::default()).await?;
    network.put(payload::noise(10_000, 7)).await?;
    let absent = Name::Replica(4);
    network.kill(absent).await?;
    let missed = network.put(payload::noise(80_000, 8)).await?;
    let address = network.address(absent)?;
    assert!(!missed.verify(network.committee())?.signers.contains(&address));

    network.restart(absent).await?;
    let gateway = network.channels().gateway(network.endpoint(Name::Gateway(0))?)?;
    eventually(Duration::from_secs(30), "a cosignature of the replica that was down", async || {
        let fuller = gateway.certificate(missed.id(), None).await.ok()?;
        fuller.verify(network.committee()).ok()?.signers.contains(&address).then_some(())
    })
    .await?;
    let lookup = network.channels().replica(&network.seat(4)?.endpoint)?;
    let found = lookup.lookup(LookupKey::Blob(missed.id()), false).await?;
    assert_eq!(found.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_regions_down_stop_puts_and_not_reads() -> Result<()> {
    let mut network = Network::start(Plan::default()).await?;
    let payload = payload::noise(60_000, 9);
    let certificate = network.put(payload.clone()).await?;
    for place in [0, 3] {
        network.kill(Name::Replica(place)).await?;
    }
    let gateway = network.channels().gateway(network.endpoint(Name::Gateway(0))?)?;
    let (fresh, options) = (payload::noise(60_000, 10), options());
    let start = meridian_proto::convert::PutStart {
        namespace: options.namespace,
        length: meridian_proofs::shape::PayloadLength::try_from(fresh.len() as u64)?,
        retention: options.retention,
        bind_payload_hash: false,
        expected_blob_id: None,
        kzg_root: None,
        authorization: None,
    };
    let error = gateway.put(start, fresh).await.err().context("a certificate with three regions of five")?;
    assert_eq!(error.reason, Reason::QuorumUnreachable, "{error}");
    let missing = error.metadata.get("missing_regions").context("names the missing regions")?;
    assert!(missing.contains("na-west") && missing.contains("ap-northeast"), "{missing}");
    assert!(!missing.contains("eu-central"), "{missing}");
    assert_eq!(network.reader().payload(certificate.id(), &Silent).await?.payload, payload);

    network.restart(Name::Replica(0)).await?;
    network.put(payload::noise(60_000, 10)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_restarts_keeps_its_log() -> Result<()> {
    let mut network = Network::start(Plan::default()).await?;
    let before = network.put(payload::noise(70_000, 11)).await?;
    network.kill(Name::Gateway(0)).await?;
    network.restart(Name::Gateway(0)).await?;
    let gateway = network.channels().gateway(network.endpoint(Name::Gateway(0))?)?;
    let again = gateway.certificate(before.id(), None).await?;
    assert_eq!((again.index, again.entry), (before.index, before.entry));
    let after = network.put(payload::noise(70_000, 12)).await?;
    assert_eq!(after.index, before.index + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn four_seats_in_a_region_bear_one_that_is_down() -> Result<()> {
    let plan = Plan { regions: 2, seats: 4, ..Plan::default() };
    let mut network = Network::start(plan).await?;
    let payload = payload::noise(100_000, 13);
    network.kill(Name::Replica(1)).await?;
    network.kill(Name::Replica(6)).await?;
    let certificate = network.put(payload.clone()).await?;
    assert_eq!(certificate.verify(network.committee())?.complete.len(), 2);
    assert_eq!(network.reader().payload(certificate.id(), &Silent).await?.payload, payload);
    Ok(())
}

/// Nobody reads what has expired, everybody is told when, and what is put again is there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_goes_when_it_has_expired_for_certain() -> Result<()> {
    let (expiry_grace_seconds, sweep_seconds) = (5, 1);
    let replica = replica::Settings {
        expiry_grace_seconds,
        sweep_seconds,
        unsigned_seconds: expiry_grace_seconds,
        ..Default::default()
    };
    let network = Network::start(Plan { retention: (3, 60), replica, ..Plan::default() }).await?;
    let (reader, submitter) = (network.reader(), network.submitter());
    let (short, long) = (payload::noise(40_000, 1), payload::noise(40_000, 2));
    let brief = PutOptions { retention: 3, bind_payload_hash: true, ..options() };
    let expiring = submitter.put(short.clone(), &brief, &Silent).await?.certificate;
    let kept = PutOptions { retention: 60, ..options() };
    let kept = submitter.put(long.clone(), &kept, &Silent).await?.certificate;
    assert!(reader.payload(expiring.id(), &Silent).await?.payload == short);
    tokio::time::sleep(Duration::from_secs(10)).await;
    // Without a chain a quorum's checkpoints tell the time: nothing goes before the next one.
    assert!(reader.payload(expiring.id(), &Silent).await?.payload == short);
    network.submitter().put(payload::noise(100, 3), &brief, &Silent).await?;
    let gone = eventually(Duration::from_secs(30), "a date", async || {
        let error = reader.payload(expiring.id(), &Silent).await.err()?;
        matches!(error, ReadError::Unknown { expired: Some(_), .. }).then_some(error)
    })
    .await?;
    assert_eq!(gone.reason(), Reason::BlobExpired);
    let ReadError::Unknown { expired, .. } = gone else { unreachable!() };
    assert_eq!(expired, Some(expiring.entry.expiry));
    assert!(reader.payload(kept.id(), &Silent).await?.payload == long);
    let again = submitter.put(short.clone(), &brief, &Silent).await?.certificate;
    assert_eq!(again.id(), expiring.id());
    ensure!(again.entry.expiry > expiring.entry.expiry, "an entry that has expired was given again");
    assert!(reader.payload(again.id(), &Silent).await?.payload == short);
    Ok(())
}
