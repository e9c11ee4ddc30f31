//! Each kind of liar that concerns reads gets the right name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use meridian_client::audit::{Audit, CopyState, Outcome, RegionState, Sighting};
use meridian_client::fetch::FaultKind;
use meridian_integration::liars::ReplicaLie;
use meridian_integration::liars::empty_claims::EmptyClaims;
use meridian_integration::liars::flood::Flood;
use meridian_integration::liars::half_stream::HalfStream;
use meridian_integration::liars::hidden_entries::HiddenEntries;
use meridian_integration::liars::other_blob::OtherBlob;
use meridian_integration::liars::silent::Silent as SilentReplica;
use meridian_integration::liars::wrong_lengths::WrongLengths;
use meridian_integration::liars::wrong_proofs::WrongProofs;
use meridian_integration::liars::wrong_rlc::WrongRlc;
use meridian_integration::liars::wrong_rows::WrongRows;
use meridian_integration::network::{Name, Network, Plan, eventually};
use meridian_integration::payload;
use meridian_proofs::keccak256;

use super::{LIMIT, audited, held, scope};

/// A network with a liar in the first region and some blobs.
async fn beside(lie: Arc<dyn ReplicaLie>) -> Result<Network> {
    let network =
        Network::start(Plan { replica_lies: BTreeMap::from([(0, lie)]), ..Plan::default() }).await?;
    // Each blob has its data rows in another region, so that the liar is asked for parity and for data.
    for seed in 0..4 {
        network.put(payload::noise(20_000 + usize::try_from(seed)?, seed)).await?;
    }
    held(&network, 1..5, 4).await?;
    // Who has cosigned all of it is asked for it first. A liar that answers nothing never is, and is not waited for long.
    let liar = network.channels().log(&network.seat(0)?.endpoint)?.within(Duration::from_secs(1));
    let log = network.address(Name::Gateway(0))?;
    let cosigned = eventually(Duration::from_secs(5), "a liar that has cosigned everything", async || {
        let cosigned = liar.checkpoint(log).await.ok()??;
        (cosigned.signed.checkpoint.size == 4).then_some(())
    });
    drop(cosigned.await);
    Ok(network)
}

/// Puts every fault down to the liar, and to nobody else; the other regions are complete.
fn named(network: &Network, audit: &Audit) -> Result<Vec<Sighting>> {
    let seat = network.seat(0)?;
    ensure!(!audit.faults.is_empty(), "the lie was never noticed");
    for seen in &audit.faults {
        ensure!((seen.fault.seat, seen.fault.region) == (seat.address, seat.region), "{seen:?}");
    }
    for region in &audit.regions {
        let is_of_liar = region.region.id == seat.region;
        ensure!((region.state != RegionState::Complete) == is_of_liar, "{region:?}");
        ensure!(is_of_liar || (region.blobs, region.complete) == (4, 4), "{region:?}");
    }
    let verdict = audit.verdict();
    ensure!(verdict.contains(&seat.address.to_string()) && verdict.contains("na-west"), "{verdict}");
    Ok(audit.faults.clone())
}

macro_rules! liars {
    ($($name:ident: $lie:expr => $kind:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            let network = beside(Arc::new($lie)).await?;
            for is_deep in [true, false] {
                let audit = audited(&network, scope(is_deep)).await?;
                let faults = named(&network, &audit)?;
                ensure!(faults.iter().all(|seen| seen.fault.kind == FaultKind::$kind), "{faults:?}");
                let expected =
                    if FaultKind::$kind == FaultKind::Silent { Outcome::Unavailable } else { Outcome::Faulty };
                ensure!(audit.outcome() == expected, "{:?}", audit.outcome());
            }
            Ok(())
        }
    )*};
}

liars! {
    wrong_rows: WrongRows => Wrong,
    wrong_proofs: WrongProofs::Flipped => Wrong,
    short_proofs: WrongProofs::Short => Wrong,
    long_proofs: WrongProofs::Long => Wrong,
    proofs_in_another_order: WrongProofs::Reversed => Wrong,
    half_a_stream: HalfStream::Ends => Wrong,
    one_row_more: Flood::OneMore => Wrong,
    rows_without_end: Flood::Endless => Wrong,
    fields_too_long: WrongLengths::Long => Wrong,
    fields_too_short: WrongLengths::Short => Wrong,
    fields_that_are_absent: WrongLengths::Absent => Wrong,
    wrong_rlc_vectors: WrongRlc => Wrong,
    entries_of_another_log: HiddenEntries::Others => Wrong,
    no_entries: HiddenEntries::Nothing => Wrong,
    a_stream_that_breaks: HalfStream::Breaks => Silent,
    a_stream_that_stalls: HalfStream::Stalls => Silent,
    silence_about_rows: SilentReplica::Rows => Silent,
    silence_about_everything: SilentReplica::Everything => Silent,
    rows_that_were_thrown_away: EmptyClaims { key: Name::Replica(0).key_word(), held: false } => Missing,
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_are_hidden_are_found_elsewhere() -> Result<()> {
    let network = beside(Arc::new(HiddenEntries::Hashes)).await?;
    let audit = audited(&network, scope(false)).await?;
    let faults = named(&network, &audit)?;
    ensure!(
        faults.iter().all(|seen| seen.fault.kind == FaultKind::Missing && seen.blob.is_none()),
        "{faults:?}"
    );
    assert_eq!((audit.blobs.len(), audit.logs[0].entries, audit.logs[0].hidden), (4, 4, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_blobs_rows() -> Result<()> {
    for headers in [false, true] {
        let lie = Arc::new(OtherBlob::new(headers));
        let network = beside(Arc::clone(&lie) as Arc<dyn ReplicaLie>).await?;
        let before = audited(&network, scope(true)).await?;
        assert_eq!(before.outcome(), Outcome::Identical, "{}", before.verdict());
        lie.choose(before.blobs[0].id.as_bytes());
        let audit = audited(&network, scope(true)).await?;
        let faults = named(&network, &audit)?;
        // It may not have such rows of the other one either.
        ensure!(faults.iter().all(|seen| seen.fault.kind != FaultKind::Silent), "{faults:?}");
        // About the one that it chose it tells the truth.
        ensure!(faults.iter().all(|seen| seen.blob != Some(before.blobs[0].id)), "{faults:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_replica_and_one_of_four_that_lies() -> Result<()> {
    // Four seats in each of two regions: one liar and one that is gone.
    let lie: Arc<dyn ReplicaLie> = Arc::new(WrongRows);
    let plan = Plan { regions: 2, seats: 4, replica_lies: BTreeMap::from([(1, lie)]), ..Plan::default() };
    let mut network = Network::start(plan).await?;
    let payload = payload::noise(300_000, 9);
    let certificate = network.put(payload.clone()).await?;
    let rpc = network.channels().gateway(network.endpoint(Name::Gateway(0))?)?;
    eventually(LIMIT, "everybody's cosignature", async || {
        let fuller = rpc.certificate(certificate.id(), None).await.ok()?;
        (fuller.checkpoint.cosignatures.len() == 8).then_some(())
    })
    .await?;
    network.kill(Name::Replica(6)).await?;
    let audit = audited(&network, scope(true)).await?;
    assert_eq!(audit.outcome(), Outcome::Faulty);
    let (liar, dead) = (network.seat(1)?.address, network.seat(6)?.address);
    for seen in &audit.faults {
        let expected = if seen.fault.seat == liar { FaultKind::Wrong } else { FaultKind::Silent };
        ensure!([liar, dead].contains(&seen.fault.seat) && seen.fault.kind == expected, "{seen:?}");
    }
    // Both regions give the payload all the same, each alone.
    let blob = &audit.blobs[0];
    assert_eq!((blob.id, blob.copies.len()), (certificate.id(), 2));
    for copy in &blob.copies {
        assert_eq!(copy.state, CopyState::Complete);
        assert_eq!(copy.payload_hash.map(|hash| hash.0), Some(keccak256(&payload)));
    }
    for seat in &audit.seats {
        let rows = seat.rows;
        ensure!(rows.asked() > 0, "{seat:?}");
        let expected = match seat.seat.address {
            address if address == liar => rows.wrong,
            address if address == dead => rows.silent,
            _ => rows.right,
        };
        ensure!(expected == rows.asked(), "{seat:?}");
        assert_eq!((seat.entries, seat.cosigned), (1, 1), "{seat:?}");
    }
    ensure!(audit.regions.iter().all(|region| region.state == RegionState::Faulty), "{:?}", audit.regions);
    Ok(())
}
