//! Cosignatures: whatever the holder of a gateway's key sends, a replica signs one log of it, that only grows, of rows
//! that it holds.

use std::collections::BTreeSet;

use meridian_integration::liars::crooked::now;
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, SignedCheckpoint};
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::signature::Signature;
use meridian_proto::convert::{CosignAnswer, CosignRequest};
use meridian_proto::wire;
use prost::Message;

use super::disperse::{blob, honest};
use super::draft::{Signer, draft};
use super::grpc::{End, Outcome, ask, call, frame, single};
use super::home::{Home, REPLICAS, run};
use super::input::Input;
use super::reads::held;

/// Seconds between the clock and a checkpoint, and how much of that depends on the moment.
const SKEW: u64 = 60;
const EDGE: u64 = 3;
/// Most new entries, and most that are sent although they are known.
const ENTRIES: u8 = 4;

pub fn cosign(data: &[u8]) {
    run(data, once);
}

/// Replica u8, length u8, content u8, new entries u8 (one at least, and the rows of none where the highest bit is set),
/// known entries u8, then what is changed.
async fn once(home: &Home, input: &mut Input<'_>) {
    let replica = usize::from(input.byte()) % REPLICAS;
    let (length, content, new, known) = (input.byte(), input.byte(), input.byte(), input.byte());
    let entries: Vec<LogEntry> = home.logs.borrow()[replica].entries.clone();
    let mut request = Vec::new();
    for place in 0..=new % ENTRIES {
        let blob = blob(length, content.wrapping_add(place));
        if new < 0x80 {
            honest(home, replica, &blob).await;
        }
        let time = now();
        request.push(LogEntry {
            blob_id: blob.id(),
            namespace: Namespace::default(),
            payload_hash: PayloadHash::UNBOUND,
            length: blob.header().length.get(),
            epoch: home.committee.epoch(),
            time,
            expiry: time + 3_600,
        });
    }
    let start = entries.len() - entries.len().min(usize::from(known % ENTRIES));
    request.splice(0..0, entries[start..].iter().copied());
    let message = signed(home, replica, Signer::Right, start as u64, &request, now()).encode_to_vec();
    let plain = frame(&message);
    let sent = draft(home, input, vec![message], |message, signer| sign(home, replica, message, signer));

    let outcome = call(home.replica_service(replica), "Replica/Cosign", &sent).await;
    let is_honest = new < 0x80 && sent.bytes == plain && sent.end == End::Whole;
    match outcome {
        Outcome::Answer(answer) => {
            let answer = CosignAnswer::try_from(single::<wire::CosignResponse>(&answer).await).unwrap();
            let request = sent.request::<wire::CosignRequest>().await;
            let request = request.and_then(|request| CosignRequest::try_from(request).ok());
            let request = request.unwrap_or_else(|| panic!("a bad request was answered: {sent:?}"));
            answered(home, replica, &request, answer, is_honest).await;
        }
        refused => assert!(!is_honest, "an honest request: {refused:?}"),
    }
    // A caller that went away may hear no more of what was signed.
    if sent.end == End::Stalled {
        return;
    }
    let kept = kept(home, replica).await.map(|kept| kept.signed.checkpoint);
    assert_eq!(kept, home.logs.borrow()[replica].last, "another checkpoint is kept than was cosigned");
}

fn root(range: &CompactRange, entries: &[LogEntry]) -> CompactRange {
    let mut range = range.clone();
    entries.iter().for_each(|entry| drop(range.append(entry.leaf())));
    range
}

/// A request over the entries that were cosigned before `start` and these.
fn signed(
    home: &Home,
    replica: usize,
    signer: Signer,
    start: u64,
    entries: &[LogEntry],
    timestamp: u64,
) -> wire::CosignRequest {
    let before = usize::try_from(start).unwrap_or(usize::MAX);
    let range = root(&home.logs.borrow()[replica].range(before), entries);
    let key = home.key(replica, signer);
    let checkpoint = Checkpoint {
        gateway: home.key(replica, Signer::Right).address(),
        epoch: home.committee.epoch(),
        size: start.saturating_add(entries.len() as u64),
        root: range.root(),
        timestamp,
    };
    let signed = SignedCheckpoint::sign(checkpoint, &home.domain, &key);
    CosignRequest { signed, start, entries: entries.to_vec() }.into()
}

/// Signs a checkpoint again, over the entries that come with it where that is to fit.
fn sign(home: &Home, replica: usize, message: &mut Vec<u8>, signer: Signer) {
    let Ok(mut request) = wire::CosignRequest::decode(&message[..]) else { return };
    let Some(checkpoint) = request.signed.as_ref().and_then(|signed| signed.checkpoint.clone()) else {
        return;
    };
    if signer == Signer::Fitting {
        let entries: Result<Vec<LogEntry>, _> =
            request.entries.iter().cloned().map(TryInto::try_into).collect();
        let Ok(entries) = entries else { return };
        *message =
            signed(home, replica, signer, request.start, &entries, checkpoint.timestamp).encode_to_vec();
        return;
    }
    let Ok(mut checkpoint) = Checkpoint::try_from(checkpoint) else { return };
    let key = home.key(replica, signer);
    if signer != Signer::Right {
        checkpoint.gateway = key.address();
    }
    request.signed = Some(SignedCheckpoint::sign(checkpoint, &home.domain, &key).into());
    *message = request.encode_to_vec();
}

/// Whether protocol section 5.4 allows an answer.
async fn answered(
    home: &Home,
    replica: usize,
    request: &CosignRequest,
    answer: CosignAnswer,
    is_honest: bool,
) {
    let checkpoint = request.signed.checkpoint;
    request.signed.verify(&home.domain).expect("the gateway's signature");
    let speaker = home.key(replica, Signer::Right).address();
    assert_eq!(checkpoint.gateway, speaker, "nobody else has signed anything");
    match answer {
        CosignAnswer::EntriesFrom(size) => {
            assert!(!is_honest, "other entries are asked for than those that are missing");
            assert_eq!(size, home.logs.borrow()[replica].entries.len() as u64);
        }
        CosignAnswer::Cosignature(signature) => {
            let signer = signature.recover(&checkpoint.digest(&home.domain)).unwrap();
            assert_eq!(signer, home.seat(replica).address);
            cosigned(home, replica, request).await;
        }
    }
}

/// Adds to the log what was cosigned, which has to go on from there.
async fn cosigned(home: &Home, replica: usize, request: &CosignRequest) {
    let checkpoint = request.signed.checkpoint;
    let (entries, range, last) = {
        let logs = home.logs.borrow();
        let log = &logs[replica];
        (log.entries.clone(), log.range(usize::MAX), log.last)
    };
    if last == Some(checkpoint) {
        return;
    }
    assert!(checkpoint.timestamp.abs_diff(now()) < SKEW + EDGE, "a checkpoint of another time");
    if let Some(last) = last {
        assert!(checkpoint.size >= last.size && checkpoint.timestamp >= last.timestamp, "the log goes back");
    }
    assert_eq!(checkpoint.epoch, home.committee.epoch());
    let known = entries.len() - usize::try_from(request.start).unwrap();
    let (repeated, new) = request.entries.split_at(known);
    assert_eq!(repeated, &entries[entries.len() - known..], "another entry than was cosigned");
    let range = root(&range, new);
    assert_eq!((range.size(), range.root()), (checkpoint.size, checkpoint.root), "another log than was sent");

    let mut earliest = entries.last().map_or(0, |entry| entry.time);
    let mut seen = BTreeSet::new();
    for entry in new {
        assert_eq!(entry.epoch, checkpoint.epoch);
        assert!((earliest..=checkpoint.timestamp).contains(&entry.time), "time falls");
        assert!(home.committee.allows_retention(entry.time, entry.expiry));
        earliest = entry.time;
        if entry.expiry > now() && seen.insert(entry.blob_id) {
            let header = held(home, replica, entry.blob_id).await.expect("the rows of what is cosigned");
            assert_eq!(header.length.get(), entry.length);
        }
    }
    home.logs.borrow_mut()[replica].add(new, checkpoint);
}

/// The checkpoint that a replica shows, with its own cosignature.
async fn kept(home: &Home, replica: usize) -> Option<CosignedCheckpoint> {
    let gateway = home.key(replica, Signer::Right).address();
    let request = wire::GetCheckpointRequest::from(gateway);
    let answer = ask(home.log_service(replica), "Log/GetCheckpoint", &request).await.ok()?;
    let kept = CosignedCheckpoint::try_from(single::<wire::CosignedCheckpoint>(&answer).await).unwrap();
    let signers = kept.signers(&home.domain).unwrap();
    let [_]: &[Signature; 1] = kept.cosignatures[..].try_into().unwrap();
    assert_eq!(signers, [home.seat(replica).address]);
    Some(kept)
}
