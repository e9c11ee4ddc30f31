//! Uploads: a replica says that it has rows only where all of them are the blob's, and are there to be read.

use bytes::Bytes;
use meridian_integration::liars::crooked::{Crooked, now};
use meridian_proofs::B256;
use meridian_proofs::checkpoint::SignedDispersal;
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::rlc::RlcVector;
use meridian_proofs::row_proof::BlobContext;
use meridian_proto::convert::{DisperseOutcome, DispersePart, DisperseStart, RangeStart};
use meridian_proto::wire;
use prost::Message;

use super::draft::{Signer, draft};
use super::grpc::{End, Outcome, Sent, call, decode, frame, single};
use super::home::{Home, REPLICAS, run};
use super::input::{Input, noise};
use super::reads::{held, own_rows, rows};

const LENGTHS: [usize; 6] = [700, 1, 1024, 1025, 4000, 9000];
/// How far ahead a permission may reach, and how much of that depends on the moment.
const AHEAD: u64 = 60;
const EDGE: u64 = 3;

pub fn disperse(data: &[u8]) {
    run(data, once);
}

/// Replica u8, length u8, content u8, bytes of a message of rows u8, then what is changed.
async fn once(home: &Home, input: &mut Input<'_>) {
    let replica = usize::from(input.byte()) % REPLICAS;
    let (length, content) = (input.byte(), input.byte());
    // Every replica has those that are there from the beginning.
    let blob = if content == 0xff { home.blob(length).blob.clone() } else { blob(length, content) };
    let piece = usize::from(input.byte()) * 16;
    let messages = upload(home, replica, &blob, piece);
    let sent = draft(home, input, messages, |message, signer| sign(home, replica, message, signer));

    let start = permitted(home, replica, &sent).await;
    let before = match &start {
        Some(start) => held(home, replica, start.header.id()).await,
        None => None,
    };
    let outcome = call(home.replica_service(replica), "Replica/Disperse", &sent).await;
    let Some(start) = start else {
        assert!(!matches!(outcome, Outcome::Answer(_)), "nobody permitted this: {sent:?}");
        return;
    };
    let id = start.header.id();
    let whole = whole(home, replica, &start, &sent).await;
    match outcome {
        Outcome::Answer(answer) => {
            let answer: wire::DisperseResponse = single(&answer).await;
            let outcome = DisperseOutcome::try_from(answer).unwrap();
            // What is there needs not be read again.
            assert_eq!(outcome == DisperseOutcome::Held, before.is_some(), "{outcome:?}");
            assert!(before.is_some() || whole.is_some(), "rows that are not the blob's: {sent:?}");
            assert_eq!(held(home, replica, id).await, Some(start.header));
            if let Some((context, sent)) = whole {
                for (range, bytes) in own_rows(home, replica, id, &start.header).into_iter().zip(sent) {
                    assert_eq!(rows(home, replica, &context, range, true).await, Some(bytes));
                }
            }
        }
        refused => {
            let in_time = !is_at_an_edge(&start) && sent.end != End::Stalled;
            assert!(!in_time || (before.is_none() && whole.is_none()), "a good upload: {refused:?}");
            assert_eq!(held(home, replica, id).await, before);
        }
    }
}

/// A blob of inputs.
pub fn blob(length: u8, content: u8) -> EncodedBlob {
    let length = LENGTHS[usize::from(length) % LENGTHS.len()];
    encode(&noise(2_000 + u64::from(content), length), B256::ZERO).unwrap()
}

/// The messages of an honest upload.
pub fn upload(home: &Home, replica: usize, blob: &EncodedBlob, piece: usize) -> Vec<Vec<u8>> {
    let log = Crooked::new(home.key(replica, Signer::Right), home.committee.clone());
    let seat = home.seat(replica);
    let start = DisperseStart { dispersal: log.permit(blob, seat, |_| {}), header: *blob.header() };
    let upload = log.upload(blob, seat);
    let mut parts = vec![DispersePart::Start(start), DispersePart::Rlc(upload.rlc)];
    for (range, proof, rows) in upload.ranges {
        parts.push(DispersePart::Range(RangeStart { start: range.start(), count: range.count(), proof }));
        let piece = if piece == 0 { rows.len() } else { piece.max(rows.len() / 32) };
        parts.extend(rows.chunks(piece).map(|rows| DispersePart::Rows(Bytes::copy_from_slice(rows))));
    }
    parts.into_iter().map(|part| wire::DisperseRequest::from(part).encode_to_vec()).collect()
}

/// Uploads a blob as a gateway does.
pub async fn honest(home: &Home, replica: usize, blob: &EncodedBlob) {
    let bytes = upload(home, replica, blob, 0).iter().flat_map(|message| frame(message)).collect();
    let sent = Sent { bytes, piece: usize::MAX, end: End::Whole };
    let outcome = call(home.replica_service(replica), "Replica/Disperse", &sent).await;
    assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
}

/// Signs a permission again, over the header that comes with it where that is to fit.
fn sign(home: &Home, replica: usize, message: &mut Vec<u8>, signer: Signer) {
    let Ok(request) = wire::DisperseRequest::decode(&message[..]) else { return };
    let Ok(DispersePart::Start(mut start)) = DispersePart::try_from(request) else { return };
    let key = home.key(replica, signer);
    let mut dispersal = start.dispersal.dispersal;
    if signer == Signer::Fitting {
        (dispersal.blob_id, dispersal.gateway) = (start.header.id(), key.address());
    }
    if matches!(signer, Signer::Stranger | Signer::Other) {
        dispersal.gateway = key.address();
    }
    start.dispersal = SignedDispersal::sign(dispersal, &home.domain, &key);
    *message = wire::DisperseRequest::from(DispersePart::Start(start)).encode_to_vec();
}

fn is_at_an_edge(start: &DisperseStart) -> bool {
    let (deadline, now) = (start.dispersal.dispersal.deadline, now());
    [now, now + AHEAD].iter().any(|edge| deadline.abs_diff(*edge) < EDGE)
}

/// What a gateway of the committee permits this replica now, by the first message.
async fn permitted(home: &Home, replica: usize, sent: &Sent) -> Option<DisperseStart> {
    let first: wire::DisperseRequest = decode(sent.frames().0.first()?).await?;
    let DispersePart::Start(start) = DispersePart::try_from(first).ok()? else { return None };
    let (dispersal, now) = (&start.dispersal.dispersal, now());
    start.dispersal.verify(&home.domain).ok()?;
    home.committee.gateway(&dispersal.gateway)?;
    let is_meant = dispersal.replica == home.seat(replica).address
        && dispersal.epoch == home.committee.epoch()
        && dispersal.blob_id == start.header.id();
    let is_now = (now.saturating_sub(EDGE)..=now + AHEAD + EDGE).contains(&dispersal.deadline);
    (is_meant && is_now).then_some(start)
}

/// The rows of each range, where exactly the seat's were sent, and nothing after them.
async fn whole(
    home: &Home,
    replica: usize,
    start: &DisperseStart,
    sent: &Sent,
) -> Option<(BlobContext, Vec<Bytes>)> {
    let header: &BlobHeader = &start.header;
    let parts = sent.read::<wire::DisperseRequest>().await?;
    let mut parts = parts.into_iter().skip(1).map(|part| DispersePart::try_from(part).ok());
    let DispersePart::Rlc(rlc) = parts.next()?? else { return None };
    let context = BlobContext::new(header.id(), *header, RlcVector::from_bytes(&rlc).ok()?).ok()?;
    let mut all = Vec::new();
    for range in own_rows(home, replica, header.id(), header) {
        let DispersePart::Range(opened) = parts.next()?? else { return None };
        if (opened.start, opened.count) != (range.start(), range.count()) {
            return None;
        }
        let (mut rows, expected) = (Vec::new(), range.count() as usize * header.shape().row_bytes());
        while rows.len() < expected {
            let DispersePart::Rows(more) = parts.next()?? else { return None };
            rows.extend_from_slice(&more);
        }
        all.push(context.check_range(range, rows.into(), &opened.proof).ok()?.rows().clone());
    }
    parts.next().is_none().then_some((context, all))
}
