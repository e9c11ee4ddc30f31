//! Reads: exactly what was put, whole and proved, or a refusal.

use bytes::Bytes;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Committee;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::keccak256;
use meridian_proofs::placement;
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::shape::RowRange;
use meridian_proto::convert::{
    Candidate, GatewayStatus, GetCertificate, GetRows, GetSamples, HeldRows, Lookup, LookupKey,
    ReplicaStatus, RowsPart, Sample,
};
use meridian_proto::wire;
use prost::Message;

use super::draft::draft;
use super::grpc::{Outcome, Sent, ask, call, decode, single};
use super::home::{Blob, Home, REPLICAS, run};
use super::input::Input;

pub fn reads(data: &[u8]) {
    run(data, once);
}

/// Call u8, replica u8, blob u8, two numbers of the call u8, then what is changed.
async fn once(home: &Home, input: &mut Input<'_>) {
    let (what, replica) = (input.byte() % 7, usize::from(input.byte()) % REPLICAS);
    let (blob, one, two) = (home.blob(input.byte()), input.byte(), input.byte());
    match what {
        0 => get_rows(home, input, replica, blob, one, two).await,
        1 => get_samples(home, input, replica, blob, one, two).await,
        2 => lookup(home, input, replica, blob, one, two).await,
        3 => get_certificate(home, input, blob, one).await,
        _ => statuses(home, input, replica, what).await,
    }
}

fn id(blob: &Blob) -> Bytes {
    Bytes::copy_from_slice(blob.id().as_bytes())
}

/// What is sent in place of one message.
fn changed(home: &Home, input: &mut Input<'_>, message: &impl Message) -> Sent {
    draft(home, input, vec![message.encode_to_vec()], |_, _| {})
}

async fn get_rows(home: &Home, input: &mut Input<'_>, replica: usize, blob: &Blob, start: u8, count: u8) {
    let shape = blob.blob.shape();
    let (k, total) = (shape.data_rows() as u32, shape.total_rows() as u32);
    let start = [0, 1, k - 1, k, total - 1, total][usize::from(start) % 6];
    let left = total.saturating_sub(start);
    let held_only = count & 1 != 0;
    let count = [1, k, left, left + 1, 2, 0][usize::from(count / 2) % 6];
    let sent = changed(home, input, &wire::GetRowsRequest { blob_id: id(blob), start, count, held_only });
    let outcome = call(home.replica_service(replica), "Replica/GetRows", &sent).await;

    let request: Option<wire::GetRowsRequest> = sent.request().await;
    let wanted = request.and_then(|request| GetRows::try_from(request).ok()).and_then(|asked| {
        let blob = home.by_id(asked.blob_id)?;
        Some((blob, blob.blob.shape().range(asked.start, asked.count)?, asked.held_only))
    });
    if let (Outcome::Refused(_), Some((blob, range, true))) = (&outcome, &wanted) {
        let own = own_rows(home, replica, blob.id(), blob.blob.header());
        assert!(!own.iter().any(|own| own.contains_range(range)), "rows that it holds are refused");
        return;
    }
    if let Some(((blob, range, _), answer)) = outcome.judged(wanted, &sent) {
        assert_eq!(verified(&blob.context, range, &answer).await, blob.blob.rows(range));
    }
}

/// The rows of an answer, each of which has to be the blob's.
async fn verified(context: &BlobContext, range: RowRange, answer: &[Bytes]) -> Bytes {
    let mut parts = Vec::new();
    for message in answer {
        let part: wire::GetRowsResponse = decode(message).await.unwrap();
        parts.push(RowsPart::try_from(part).unwrap());
    }
    let mut parts = parts.into_iter();
    let Some(RowsPart::Proof(proof)) = parts.next() else { panic!("the proof comes first") };
    let rows: Vec<Bytes> = parts
        .map(|part| match part {
            RowsPart::Rows(rows) => rows,
            RowsPart::Proof(_) => panic!("the proof comes once"),
        })
        .collect();
    context.check_range(range, rows.concat().into(), &proof).unwrap().rows().clone()
}

/// Rows as an honest reader has them from a replica.
pub async fn rows(
    home: &Home,
    replica: usize,
    context: &BlobContext,
    range: RowRange,
    held_only: bool,
) -> Option<Bytes> {
    let (start, count) = (range.start(), range.count());
    let blob_id = Bytes::copy_from_slice(context.id().as_bytes());
    let request = wire::GetRowsRequest { blob_id, start, count, held_only };
    let answer = ask(home.replica_service(replica), "Replica/GetRows", &request).await.ok()?;
    Some(verified(context, range, &answer).await)
}

/// The rows of a blob that a replica has to hold.
pub fn own_rows(home: &Home, replica: usize, id: BlobId, header: &BlobHeader) -> Vec<RowRange> {
    placement::interval(&home.committee, home.seat(replica), &id, header.shape()).ranges().to_vec()
}

/// The header of a blob whose rows a replica holds, all of which have been looked at.
pub async fn held(home: &Home, replica: usize, id: BlobId) -> Option<BlobHeader> {
    let request = Lookup { key: LookupKey::Blob(id), include_rlc: true, max_row_bytes: 0 };
    let answer = ask(home.replica_service(replica), "Replica/Lookup", &wire::LookupRequest::from(request))
        .await
        .ok()?;
    let answer: wire::LookupResponse = single(&answer).await;
    let [Candidate { header, rlc: Some(rlc), .. }] = &Vec::<Candidate>::try_from(answer).unwrap()[..] else {
        panic!("one candidate for an id");
    };
    let context = BlobContext::new(id, *header, rlc.clone()).expect("the header and RLC vector of the blob");
    for range in own_rows(home, replica, id, header) {
        rows(home, replica, &context, range, true).await?;
    }
    Some(*header)
}

async fn get_samples(home: &Home, input: &mut Input<'_>, replica: usize, blob: &Blob, first: u8, count: u8) {
    let total = blob.blob.shape().total_rows() as u32;
    let step = 1 + u32::from(first) / 8;
    // One past the end, and one twice.
    let indices =
        (0..=u32::from(count)).map(|place| (u32::from(first) + place * step) % (total + 1)).collect();
    let sent = changed(home, input, &wire::GetSamplesRequest { blob_id: id(blob), indices });
    let outcome = call(home.replica_service(replica), "Replica/GetSamples", &sent).await;

    let request: Option<wire::GetSamplesRequest> = sent.request().await;
    let wanted = request.and_then(|request| GetSamples::try_from(request).ok()).and_then(|asked| {
        let blob = home.by_id(asked.blob_id)?;
        let total = blob.blob.shape().total_rows();
        asked.indices.iter().all(|index| (index.0 as usize) < total).then_some((blob, asked.indices))
    });
    if let Some(((blob, indices), answer)) = outcome.judged(wanted, &sent) {
        let answer: wire::GetSamplesResponse = single(&answer).await;
        let samples = Vec::<Sample>::try_from(answer).unwrap();
        assert_eq!(samples.iter().map(|sample| sample.index).collect::<Vec<_>>(), indices);
        for Sample { index, row, path } in samples {
            assert_eq!(row, blob.blob.row(index));
            blob.context.check_row(index, row, &path).unwrap();
        }
    }
}

async fn lookup(home: &Home, input: &mut Input<'_>, replica: usize, blob: &Blob, by: u8, most: u8) {
    let key = match by & 1 {
        0 => LookupKey::Blob(blob.id()),
        _ => LookupKey::Payload(PayloadHash(keccak256(blob.blob.payload()))),
    };
    let max_row_bytes = [0, 1, 64, 700, 4096, 1 << 20][usize::from(most) % 6];
    let request = Lookup { key, include_rlc: by & 2 == 0, max_row_bytes };
    let sent = changed(home, input, &wire::LookupRequest::from(request));
    let outcome = call(home.replica_service(replica), "Replica/Lookup", &sent).await;

    let request: Option<wire::LookupRequest> = sent.request().await;
    let wanted = request.and_then(|request| Lookup::try_from(request).ok()).and_then(|asked| {
        let blob = home.blobs.iter().find(|blob| match asked.key {
            LookupKey::Blob(id) => blob.id() == id,
            LookupKey::Payload(hash) => blob.certificate.entry.payload_hash == hash,
        });
        Some((blob?, asked))
    });
    if let Some(((blob, asked), answer)) = outcome.judged(wanted, &sent) {
        let answer: wire::LookupResponse = single(&answer).await;
        let candidates = Vec::<Candidate>::try_from(answer).unwrap();
        let [candidate] = &candidates[..] else { panic!("one blob has this id, and one this payload") };
        assert_eq!((candidate.header, candidate.inconsistent), (*blob.blob.header(), false));
        assert_eq!(candidate.rlc.as_ref(), asked.include_rlc.then_some(blob.blob.rlc()));
        assert!(candidate.entries.iter().any(|found| found.entry == blob.certificate.entry));
        assert!(candidate.entries.iter().all(|found| found.entry.blob_id == blob.id()));
        let mut bytes = 0;
        for HeldRows { start, count, proof, rows } in candidate.rows.clone() {
            bytes += rows.len();
            let range = blob.blob.shape().range(start, count).unwrap();
            assert_eq!(rows, blob.blob.rows(range));
            blob.context.check_range(range, rows, &proof).unwrap();
        }
        assert!(bytes <= asked.max_row_bytes as usize);
    }
}

async fn get_certificate(home: &Home, input: &mut Input<'_>, blob: &Blob, under: u8) {
    let namespace = if under & 1 == 0 { Bytes::new() } else { vec![under >> 1; 32].into() };
    let sent = changed(home, input, &wire::GetCertificateRequest { blob_id: id(blob), namespace });
    let outcome = call(home.gateway_service(), "Gateway/GetCertificate", &sent).await;

    let request: Option<wire::GetCertificateRequest> = sent.request().await;
    let wanted = request.and_then(|request| GetCertificate::try_from(request).ok()).and_then(|asked| {
        let blob = home.by_id(asked.blob_id)?;
        asked.namespace.is_none_or(|namespace| namespace == blob.certificate.entry.namespace).then_some(blob)
    });
    if let Some((blob, answer)) = outcome.judged(wanted, &sent) {
        let answer: wire::GetCertificateResponse = single(&answer).await;
        let certificate = Certificate::decode(&answer.certificate).unwrap();
        certificate.verify(&home.committee).unwrap();
        assert_eq!((certificate.index, certificate.entry), (blob.certificate.index, blob.certificate.entry));
    }
}

/// What hosts say of themselves, and whom they work with.
async fn statuses(home: &Home, input: &mut Input<'_>, replica: usize, what: u8) {
    // None of these requests says anything.
    let sent = changed(home, input, &wire::GetCommitteeRequest {});
    let outcome = match what {
        4 => call(home.gateway_service(), "Gateway/GetCommittee", &sent).await,
        5 => call(home.gateway_service(), "Gateway/GetStatus", &sent).await,
        _ => call(home.replica_service(replica), "Replica/GetStatus", &sent).await,
    };
    let request: Option<wire::GetCommitteeRequest> = sent.request().await;
    let Some((_, answer)) = outcome.judged(request, &sent) else { return };
    match what {
        4 => {
            let committee: wire::Committee = single(&answer).await;
            assert_eq!(Committee::try_from(committee).unwrap(), *home.committee);
        }
        5 => {
            let status = GatewayStatus::try_from(single::<wire::GatewayStatus>(&answer).await).unwrap();
            assert!(status.certified_size <= status.log_size && status.memory_used <= status.memory_budget);
            assert_eq!(status.puts_in_flight, 0);
        }
        _ => {
            let status = ReplicaStatus::try_from(single::<wire::ReplicaStatus>(&answer).await).unwrap();
            assert_eq!(status.address, home.seat(replica).address);
            assert_eq!((status.quarantined, status.store_failed), (0, false));
            assert!(status.blobs >= home.blobs.len() as u64);
        }
    }
}
