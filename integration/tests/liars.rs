//! Members that lie: every answer to a client is right or a clear error, and the liar is named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use meridian_client::Silent;
use meridian_client::fetch::{Fault, Reader};
use meridian_client::nearest::Took;
use meridian_client::rpc::{CosignAnswer, DisperseOutcome};
use meridian_client::submit::{Failure, PutError};
use meridian_integration::keys;
use meridian_integration::liars::bad_cosigner::BadCosigner;
use meridian_integration::liars::crooked::{Attempt, Crooked};
use meridian_integration::liars::denier::Denier;
use meridian_integration::liars::empty_claims::EmptyClaims;
use meridian_integration::liars::false_alarm::FalseAlarm;
use meridian_integration::liars::false_certificate::{False, FalseCertificate};
use meridian_integration::liars::flood::Flood;
use meridian_integration::liars::half_stream::HalfStream;
use meridian_integration::liars::misplaced::Misplaced;
use meridian_integration::liars::other_blob::OtherBlob;
use meridian_integration::liars::silent::Silent as SilentReplica;
use meridian_integration::liars::wrong_lengths::WrongLengths;
use meridian_integration::liars::wrong_proofs::WrongProofs;
use meridian_integration::liars::wrong_rlc::WrongRlc;
use meridian_integration::liars::wrong_rows::WrongRows;
use meridian_integration::liars::{
    GatewayLie, ReplicaLie, foreign_epoch, forker, roller_back, rows_never_sent, skipper, stranger,
    wrong_expiry, wrong_time,
};
use meridian_integration::network::{Name, Network, Plan, options};
use meridian_integration::payload;
use meridian_proofs::B256;
use meridian_proofs::committee::Seat;
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::hash::Blake3;
use meridian_proofs::log::LogEntry;
use meridian_proto::{Class, Reason};

/// Longest time that a read may take with one liar in the network.
const READ: Duration = Duration::from_secs(30);

/// How far the replica that lies seems to be, and how far the others, so that a slow machine does not let them be asked first.
const NEAR: Duration = Duration::from_millis(400);
const FAR: Duration = Duration::from_secs(4);

/// A reader to whom the replica that lies is the nearest, so that every call of a read is made to it first.
fn reader_beside(network: &Network) -> Result<Reader> {
    let (reader, liar) = (network.reader(), network.address(Name::Replica(0))?);
    for seat in network.committee().seats() {
        let distance = if seat.address == liar { NEAR } else { FAR };
        reader.nearest().answered(seat.address, Took::RoundTrip(distance));
    }
    Ok(reader)
}

/// Who was found at fault by each call of a read: by finding the blob, reading all of it, a part of it, and sampling it.
#[derive(Default)]
struct Faults {
    found: Vec<Fault>,
    whole: Vec<Fault>,
    range: Vec<Fault>,
    sampled: Vec<Fault>,
}

impl Faults {
    fn by_call(&self) -> [(&'static str, &[Fault]); 4] {
        let Self { found, whole, range, sampled } = self;
        [("find", found), ("whole", whole), ("range", range), ("sample", sampled)]
    }
}

/// Reads and samples a network of five regions, one of which lies, and gives back who was found at fault.
async fn read_beside(lie: Arc<dyn ReplicaLie>) -> Result<(Network, Faults)> {
    let plan = Plan { replica_lies: BTreeMap::from([(0, lie)]), ..Plan::default() };
    let network = Network::start(plan).await?;
    let mut faults = Faults::default();
    // Each blob has its data rows in another region, so that the liar is asked for parity and for data.
    for seed in 0..4 {
        let payload = payload::noise(20_000 + usize::try_from(seed)?, seed);
        let certificate = network.put(payload.clone()).await?;
        let reader = reader_beside(&network)?;
        let found = tokio::time::timeout(READ, reader.find(certificate.id())).await??;
        ensure!(found.context.id() == certificate.id(), "another blob was found");
        faults.found.extend(found.faults);
        let reader = reader_beside(&network)?;
        let fetched = tokio::time::timeout(READ, reader.payload(certificate.id(), &Silent)).await??;
        ensure!(fetched.payload == payload, "a lie was returned");
        faults.whole.extend(fetched.faults);
        let reader = reader_beside(&network)?;
        let range =
            tokio::time::timeout(READ, reader.range(certificate.id(), 5_000..6_000, &Silent)).await??;
        ensure!(range.bytes == payload.slice(5_000..6_000), "a lie was returned in a range");
        faults.range.extend(range.faults);
        let reader = reader_beside(&network)?;
        let pieces =
            tokio::time::timeout(READ, reader.stream(certificate.id()).try_collect::<Vec<_>>()).await??;
        ensure!(pieces.concat() == payload, "a lie was given out");
        // So many that the liar is asked for some of them: it holds a quarter of the rows.
        let sampled = tokio::time::timeout(READ, reader.sample(certificate.id(), 60)).await??;
        ensure!(
            sampled.verified.len() == 60,
            "{} of 60 samples: {:?}",
            sampled.verified.len(),
            sampled.faults
        );
        faults.sampled.extend(sampled.faults);
    }
    let liar = network.address(Name::Replica(0))?;
    for (call, faults) in faults.by_call() {
        for fault in faults {
            ensure!(fault.seat == liar, "{fault:?} of {call} is put down to an honest replica");
        }
    }
    Ok((network, faults))
}

/// The lie is noticed by each of these calls, and named.
macro_rules! wrong_answers {
    ($($name:ident: $lie:expr, noticed by $($call:ident),+;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            let (_network, faults) = read_beside(Arc::new($lie)).await?;
            $(ensure!(!faults.$call.is_empty(), concat!("the lie was never noticed by ", stringify!($call)));)+
            Ok(())
        }
    )*};
}

wrong_answers! {
    wrong_rows: WrongRows, noticed by whole, range, sampled;
    wrong_proofs: WrongProofs::Flipped, noticed by whole, range, sampled;
    short_proofs: WrongProofs::Short, noticed by whole, range, sampled;
    long_proofs: WrongProofs::Long, noticed by whole, range, sampled;
    proofs_in_another_order: WrongProofs::Reversed, noticed by whole, range, sampled;
    rows_in_the_place_of_others: Misplaced, noticed by whole, range, sampled;
    half_a_stream: HalfStream::Ends, noticed by whole, range, sampled;
    a_stream_that_breaks: HalfStream::Breaks, noticed by whole, range, sampled;
    one_row_more: Flood::OneMore, noticed by whole, range, sampled;
    // What it sends instead of a lookup is so much that others have answered before.
    rows_without_end: Flood::Endless, noticed by range, sampled;
    fields_too_long: WrongLengths::Long, noticed by found, whole, range, sampled;
    fields_too_short: WrongLengths::Short, noticed by found, whole, range, sampled;
    fields_that_are_absent: WrongLengths::Absent, noticed by found, whole, range, sampled;
    wrong_rlc_vectors: WrongRlc, noticed by found, whole, range, sampled;
    a_replica_that_knows_no_blob: Denier::Unknown, noticed by found, whole, range, sampled;
    a_replica_to_whom_all_has_expired: Denier::Expired, noticed by found, whole, range, sampled;
    a_replica_that_is_busy_for_ever: Denier::Overloaded, noticed by found, whole, range, sampled;
    a_replica_that_speaks_nonsense: Denier::Nonsense, noticed by found, whole, range, sampled;
}

macro_rules! slow_answers {
    ($($name:ident: $lie:expr,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            read_beside(Arc::new($lie)).await?;
            Ok(())
        }
    )*};
}

// Whoever is silent may simply never be waited for: there must be an answer, and nobody honest may be blamed. Who says of a
// good blob that it is none has made others look closer, and nothing else.
slow_answers! {
    a_stream_that_stalls: HalfStream::Stalls,
    silence_about_rows: SilentReplica::Rows,
    silence_about_everything: SilentReplica::Everything,
    a_false_alarm: FalseAlarm,
}

#[tokio::test(flavor = "multi_thread")]
async fn another_blobs_rows() -> Result<()> {
    for headers in [false, true] {
        let lie = Arc::new(OtherBlob::new(headers));
        let plan = Plan {
            replica_lies: BTreeMap::from([(0, Arc::clone(&lie) as Arc<dyn ReplicaLie>)]),
            ..Plan::default()
        };
        let network = Network::start(plan).await?;
        let other = network.put(payload::noise(20_000, 1)).await?;
        let payload = payload::noise(20_000, 2);
        let certificate = network.put(payload.clone()).await?;
        lie.choose(other.id().as_bytes());
        let reader = network.reader();
        let fetched = tokio::time::timeout(READ, reader.payload(certificate.id(), &Silent)).await??;
        assert!(fetched.payload == payload);
        let sampled = tokio::time::timeout(READ, reader.sample(certificate.id(), 64)).await??;
        assert_eq!(sampled.verified.len(), 64);
        let liar = network.address(Name::Replica(0))?;
        for fault in fetched.faults.iter().chain(&sampled.faults) {
            assert_eq!(fault.seat, liar, "{fault:?}");
        }
    }
    Ok(())
}

/// Puts beside one lying replica and gives back whether its cosignature counts.
async fn put_beside(lie: Arc<dyn ReplicaLie>) -> Result<bool> {
    let plan = Plan { replica_lies: BTreeMap::from([(0, lie)]), ..Plan::default() };
    let network = Network::start(plan).await?;
    let payload = payload::noise(30_000, 3);
    let certificate = tokio::time::timeout(READ, network.put(payload.clone())).await??;
    let verified = certificate.verify(network.committee())?;
    ensure!(verified.complete.len() >= 4, "a certificate of {} regions", verified.complete.len());
    let fetched = tokio::time::timeout(READ, network.reader().payload(certificate.id(), &Silent)).await??;
    ensure!(fetched.payload == payload, "a lie was returned");
    Ok(verified.signers.contains(&network.address(Name::Replica(0))?))
}

macro_rules! bad_cosigners {
    ($($name:ident: $lie:expr,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            ensure!(!put_beside(Arc::new($lie)).await?, "a bad cosignature counts");
            Ok(())
        }
    )*};
}

bad_cosigners! {
    a_foreign_cosignature: BadCosigner::Foreign,
    a_cosignature_of_another_digest: BadCosigner::OtherDigest,
    a_garbage_cosignature: BadCosigner::Garbage,
    a_high_s_cosignature: BadCosigner::HighS,
    a_cosignature_with_a_wrong_v: BadCosigner::WrongV,
    a_short_cosignature: BadCosigner::Short,
    an_answer_without_an_answer: BadCosigner::Empty,
    a_demand_for_entries_from_beyond: BadCosigner::EntriesFromBeyond,
    silence_about_writes: SilentReplica::Writes,
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_claimed_and_thrown_away() -> Result<()> {
    for held in [false, true] {
        let key = Name::Replica(0).key_word();
        put_beside(Arc::new(EmptyClaims { key, held })).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_hands_out_false_certificates() -> Result<()> {
    let lie = Arc::new(FalseCertificate::default());
    let plan = Plan {
        gateways: 2,
        gateway_lies: BTreeMap::from([(0, Arc::clone(&lie) as Arc<dyn GatewayLie>)]),
        ..Plan::default()
    };
    let network = Network::start(plan).await?;
    let liar = network.endpoint(Name::Gateway(0))?.to_owned();
    let honest = network.endpoint(Name::Gateway(1))?.to_owned();
    network.submitter_to(vec![liar.clone()]).put(payload::noise(1_000, 0), &options(), &Silent).await?;

    for kind in False::ALL {
        lie.turn(kind);
        let payload = payload::noise(2_000, kind as u64);
        let alone = network.submitter_to(vec![liar.clone()]);
        match alone.put(payload.clone(), &options(), &Silent).await {
            Err(PutError::Failed(attempts)) => {
                let failure = &attempts.last().context("an attempt")?.failure;
                ensure!(
                    !matches!(failure, Failure::Call(e) if e.class() == Class::Unavailable),
                    "{kind:?}: {failure}"
                );
            }
            other => panic!("{kind:?}: {other:?}"),
        }
        // With an honest gateway behind it, the client passes on.
        let both = network.submitter_to(vec![liar.clone(), honest.clone()]);
        let receipt = both.put(payload, &options(), &Silent).await?;
        assert_eq!(receipt.gateway, honest, "{kind:?}");
        receipt.certificate.verify(network.committee())?;
    }
    Ok(())
}

/// A network with a gateway's key and no gateway behind it, and a log of two honest entries on every replica.
async fn crooked() -> Result<(Network, Crooked, Vec<EncodedBlob>)> {
    let network = Network::start(Plan { gateways: 0, vacant_gateways: 2, ..Plan::default() }).await?;
    let key = keys::secret(&Name::Gateway(0).key_word())?;
    let mut log = Crooked::new(key, Arc::clone(network.committee()));
    let mut blobs = Vec::new();
    for seed in 0..3 {
        let blob = encode::<Blake3>(&payload::noise(3_000, seed), B256::ZERO)?;
        for seat in network.committee().seats() {
            let outcome = log.disperse(network.channels(), &blob, seat).await?;
            assert_eq!(outcome, DisperseOutcome::Stored);
        }
        if blobs.len() < 2 {
            let entry = log.entry(&blob);
            for seat in network.committee().seats() {
                cosigned(&log, &network, seat, &log.honest(entry)).await?;
            }
            log.entries.push(entry);
        }
        blobs.push(blob);
    }
    Ok((network, log, blobs))
}

async fn cosigned(log: &Crooked, network: &Network, seat: &Seat, request: &Attempt) -> Result<()> {
    let answer = log.ask(network.channels(), seat, request).await?;
    let CosignAnswer::Cosignature(signature) = answer else { anyhow::bail!("asked for entries") };
    let digest = request.signed.checkpoint.digest(&network.committee().domain());
    ensure!(signature.recover(&digest)? == seat.address, "somebody else's signature");
    Ok(())
}

/// Every attempt is refused with its reason, and the honest request is taken afterwards as if nothing had been.
async fn all_refused(attempts: impl FnOnce(&Crooked, &LogEntry) -> Result<Vec<Attempt>>) -> Result<()> {
    let (network, log, blobs) = crooked().await?;
    let next = log.entry(&blobs[2]);
    let seat = network.seat(0)?;
    for attempt in attempts(&log, &next)? {
        match log.ask(network.channels(), seat, &attempt).await {
            Err(error) => assert_eq!(error.reason, attempt.refused, "{}: {error}", attempt.what),
            Ok(answer) => panic!("{}: answered {answer:?}", attempt.what),
        }
    }
    cosigned(&log, &network, seat, &log.honest(next)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_forks() -> Result<()> {
    all_refused(|log, next| Ok(forker::attempts(log, next))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_rolls_back() -> Result<()> {
    all_refused(|log, _| Ok(roller_back::attempts(log))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_skips() -> Result<()> {
    all_refused(|log, next| Ok(skipper::attempts(log, next))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_signs_for_another_epoch() -> Result<()> {
    all_refused(|log, next| Ok(foreign_epoch::attempts(log, next))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stamps_an_expiry_of_its_own() -> Result<()> {
    all_refused(|log, next| Ok(wrong_expiry::attempts(log, next))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_a_wrong_clock() -> Result<()> {
    all_refused(|log, next| Ok(wrong_time::attempts(log, next))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_poses_as_a_gateway() -> Result<()> {
    let stranger = keys::secret("a stranger with a key")?;
    let gateway = keys::secret(&Name::Gateway(1).key_word())?;
    all_refused(|log, next| Ok(stranger::attempts(log, next, &stranger, &gateway))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosignature_for_rows_never_sent() -> Result<()> {
    let never_sent = encode::<Blake3>(&payload::noise(3_000, 99), B256::ZERO)?;
    all_refused(|log, next| Ok(rows_never_sent::attempts(log, next, &never_sent))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_was_cosigned_gets_the_same_signature_again() -> Result<()> {
    let (network, log, blobs) = crooked().await?;
    let seat = network.seat(0)?;
    let honest = log.honest(log.entry(&blobs[2]));
    let first = log.ask(network.channels(), seat, &honest).await?;
    assert_eq!(log.ask(network.channels(), seat, &honest).await?, first);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_not_what_they_say() -> Result<()> {
    let (network, log, blobs) = crooked().await?;
    let (seat, elsewhere) = (network.seat(0)?, network.seat(1)?);
    let replica = network.channels().replica(&seat.endpoint)?;
    let blob = encode::<Blake3>(&payload::noise(3_000, 50), B256::ZERO)?;
    let good = || log.upload(&blob, seat);
    let permit = || log.permit(&blob, seat, |_| {});

    let refused = async |what: &str, permit, header, upload, reason| -> Result<()> {
        let error = replica
            .disperse(permit, header, upload)
            .await
            .err()
            .with_context(|| format!("{what} was taken"))?;
        ensure!(error.reason == reason, "{what}: {error} instead of {reason}");
        Ok(())
    };
    let spoil = |change: fn(&mut meridian_proofs::checkpoint::Dispersal)| log.permit(&blob, seat, change);
    let header = *blob.header();
    refused(
        "another replica's permit",
        log.permit(&blob, elsewhere, |_| {}),
        header,
        good(),
        Reason::WrongReplica,
    )
    .await?;
    refused("another epoch", spoil(|d| d.epoch += 1), header, good(), Reason::WrongEpoch).await?;
    refused("an old permit", spoil(|d| d.deadline -= 40), header, good(), Reason::DeadlineOutOfRange).await?;
    refused(
        "a permit for years",
        spoil(|d| d.deadline += 1 << 30),
        header,
        good(),
        Reason::DeadlineOutOfRange,
    )
    .await?;
    refused(
        "a permit for ever",
        spoil(|d| d.deadline = u64::MAX),
        header,
        good(),
        Reason::DeadlineOutOfRange,
    )
    .await?;
    refused("another blob's header", permit(), *blobs[0].header(), good(), Reason::HeaderInvalid).await?;
    let mut stranger = permit();
    stranger.signature = keys::secret("a stranger with a key")?.sign(&B256::ZERO);
    refused("a stranger's permit", stranger, header, good(), Reason::SignatureInvalid).await?;

    let mut upload = good();
    upload.rlc = blobs[0].rlc().to_bytes().into();
    refused("another blob's RLC vector", permit(), header, upload, Reason::RlcMismatch).await?;
    let mut upload = good();
    upload.rlc = upload.rlc.slice(16..);
    refused("a short RLC vector", permit(), header, upload, Reason::RlcMismatch).await?;
    let mut upload = good();
    upload.rlc = [upload.rlc.as_ref(), &[0; 16]].concat().into();
    refused("a long RLC vector", permit(), header, upload, Reason::RlcMismatch).await?;
    let mut upload = good();
    upload.ranges[0].2 = meridian_integration::liars::wrong_rows::flipped(&upload.ranges[0].2);
    refused("a wrong row", permit(), header, upload, Reason::RowProofInvalid).await?;
    let mut upload = good();
    upload.ranges[0].2 = log.upload(&blobs[0], seat).ranges[0].2.clone();
    refused("another blob's rows", permit(), header, upload, Reason::RowProofInvalid).await?;
    refused("another seat's rows", permit(), header, log.upload(&blob, elsewhere), Reason::PlacementMismatch)
        .await?;
    let mut upload = good();
    upload.ranges.push(upload.ranges[0].clone());
    refused("rows twice", permit(), header, upload, Reason::LengthMismatch).await?;

    // After all of this the honest upload is taken, and a replay of it changes nothing.
    assert_eq!(replica.disperse(permit(), header, good()).await?, DisperseOutcome::Stored);
    assert_eq!(replica.disperse(permit(), header, good()).await?, DisperseOutcome::Held);
    Ok(())
}
