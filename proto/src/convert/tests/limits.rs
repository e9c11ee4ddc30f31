//! Every limit at its edge, and the reason of every refusal.

use bytes::Bytes;
use meridian_proofs::B256;
use meridian_proofs::committee::Committee;
use meridian_proofs::header::BlobHeader;
use proptest::prelude::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::super::*;
use super::samples;
use crate::error::Class;
use crate::wire::{cosign_response, disperse_request, get_rows_response, lookup_request, put_request};
use crate::{
    MAX_CANDIDATES, MAX_ENTRIES, MAX_HELD_RANGES, MAX_LOG_PROOF, MAX_OPEN_EPOCHS, MAX_ROW_PROOF, MAX_ROWS,
    MAX_SAMPLES, wire,
};

fn any<T>(strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(&mut TestRunner::deterministic()).unwrap().current()
}

/// The field and reason of a refusal; none when the message is taken.
fn refusal<W, D: TryFrom<W, Error = WireError>>(message: W) -> Option<(&'static str, Reason)> {
    D::try_from(message).err().map(|error| {
        let api = ApiError::from(error.clone());
        assert_eq!((api.reason, api.metadata["field"].as_str()), (error.reason(), error.field));
        assert_eq!(error.in_answer().reason, Reason::AnswerInvalid);
        (error.field, error.reason())
    })
}

#[test]
fn versions() {
    for version in [0, 2, u32::MAX] {
        let start = wire::PutStart { format_version: version, ..any(samples::put_start()).into() };
        let expected = Some(("PutStart.format_version", Reason::FormatUnsupported));
        assert_eq!(refusal::<_, PutStart>(start), expected);
        let start = wire::DisperseStart { format_version: version, ..any(samples::disperse_start()).into() };
        let expected = Some(("DisperseStart.format_version", Reason::FormatUnsupported));
        assert_eq!(refusal::<_, DisperseStart>(start), expected);
        let request =
            wire::CosignRequest { format_version: version, ..any(samples::cosign_request()).into() };
        let expected = Some(("CosignRequest.format_version", Reason::FormatUnsupported));
        assert_eq!(refusal::<_, CosignRequest>(request), expected);
        let committee = wire::Committee { format_version: version, ..Default::default() };
        let expected = Some(("Committee.format_version", Reason::FormatUnsupported));
        assert_eq!(refusal::<_, Committee>(committee), expected);
    }
}

#[test]
fn puts() {
    let start = wire::PutStart::from(any(samples::put_start()));
    for (length, expected) in [
        (0, Some(Reason::EmptyPayload)),
        (1, None),
        ((1 << 27) - 1, None),
        (1 << 27, None),
        ((1 << 27) + 1, Some(Reason::PayloadTooLarge)),
        (u64::MAX, Some(Reason::PayloadTooLarge)),
    ] {
        let refused = refusal::<_, PutStart>(wire::PutStart { length, ..start.clone() });
        assert_eq!(refused, expected.map(|reason| ("PutStart.length", reason)));
    }
    assert_eq!(Reason::PayloadTooLarge.class(), Class::TooLarge);
    let zero = wire::PutStart { retention: 0, ..start.clone() };
    assert_eq!(refusal::<_, PutStart>(zero), Some(("PutStart.retention", Reason::RetentionOutOfRange)));
    for bytes in [0, 31, 33] {
        let namespace = Bytes::from(vec![0; bytes]);
        let refused = refusal::<_, PutStart>(wire::PutStart { namespace, ..start.clone() });
        assert_eq!(refused, Some(("PutStart.namespace", Reason::NamespaceInvalid)));
    }
    let root = |bytes: &[u8]| {
        let kzg_root = Bytes::copy_from_slice(bytes);
        refusal::<_, PutStart>(wire::PutStart { kzg_root, ..start.clone() })
    };
    let invalid = Some(("PutStart.kzg_root", Reason::FieldInvalid));
    for bytes in [1, 31, 33, 64] {
        assert_eq!(root(&vec![7; bytes]), invalid);
    }
    assert_eq!(root(&[0; 32]), invalid);
    assert_eq!((root(&[]), root(&[7; 32])), (None, None));
    let unbound = PutStart::try_from(wire::PutStart { kzg_root: Bytes::new(), ..start.clone() }).unwrap();
    assert_eq!(unbound.kzg_root, None);
}

#[test]
fn signatures_of_puts_have_one_spelling() {
    let good = wire::PutAuthorization::from(any(samples::put_authorization()));
    let start = wire::PutStart { authorization: None, ..any(samples::put_start()).into() };
    let refused = |signature: Vec<u8>| {
        let authorization = Some(wire::PutAuthorization { signature: signature.into(), ..good.clone() });
        refusal::<_, PutStart>(wire::PutStart { authorization, ..start.clone() })
    };
    let signature = good.signature.to_vec();
    assert_eq!(refused(signature.clone()), None);
    let invalid = |reason| Some(("PutAuthorization.signature", reason));
    for length in [0, 64, 66] {
        let mut other = signature.clone();
        other.resize(length, 27);
        assert_eq!(refused(other).map(|(field, _)| field), Some("PutAuthorization.signature"), "{length}");
    }
    for v in [0, 1, 26, 29, 255] {
        let mut other = signature.clone();
        other[64] = v;
        assert_eq!(refused(other), invalid(Reason::SignatureInvalid), "{v}");
    }
    let mut high = signature;
    high[32..64].fill(0xff);
    assert_eq!(refused(high), invalid(Reason::SignatureInvalid));
    let named = |authorization: wire::PutAuthorization| {
        refusal::<_, PutStart>(wire::PutStart { authorization: Some(authorization), ..start.clone() })
    };
    for length in [0, 31, 33] {
        let bytes = Bytes::from(vec![7; length]);
        let nonce = named(wire::PutAuthorization { nonce: bytes.clone(), ..good.clone() });
        assert_eq!(nonce, Some(("PutAuthorization.nonce", Reason::FieldInvalid)));
        let hash = named(wire::PutAuthorization { payload_hash: bytes, ..good.clone() });
        assert_eq!(hash, Some(("PutAuthorization.payload_hash", Reason::FieldInvalid)));
    }
    for length in [0, 19, 21] {
        let gateway = named(wire::PutAuthorization { gateway: vec![7; length].into(), ..good.clone() });
        assert_eq!(gateway, Some(("PutAuthorization.gateway", Reason::FieldInvalid)));
    }
}

#[test]
fn chunks() {
    let sizes = [
        (0, Some(Reason::StreamInvalid)),
        (1, None),
        (MAX_CHUNK - 1, None),
        (MAX_CHUNK, None),
        (MAX_CHUNK + 1, Some(Reason::MessageTooLarge)),
    ];
    for (size, expected) in sizes {
        let bytes = Bytes::from(vec![7; size]);
        let named = |field| expected.map(|reason| (field, reason));
        let put = wire::PutRequest { part: Some(put_request::Part::Chunk(bytes.clone())) };
        assert_eq!(refusal::<_, PutPart>(put), named("PutRequest.chunk"));
        let rows = wire::DisperseRequest { part: Some(disperse_request::Part::Rows(bytes.clone())) };
        assert_eq!(refusal::<_, DispersePart>(rows), named("DisperseRequest.rows"));
        let rlc = wire::DisperseRequest { part: Some(disperse_request::Part::Rlc(bytes.clone())) };
        assert_eq!(refusal::<_, DispersePart>(rlc), named("DisperseRequest.rlc"));
        let rows = wire::GetRowsResponse { part: Some(get_rows_response::Part::Rows(bytes.clone())) };
        assert_eq!(refusal::<_, RowsPart>(rows), named("GetRowsResponse.rows"));
        let sample = wire::Sample { row: bytes, ..Default::default() };
        assert_eq!(refusal::<_, Sample>(sample), named("Sample.row"));
    }
}

#[test]
fn headers() {
    let header = wire::BlobHeader::from(any(samples::header()));
    for (codec, expected) in [(0, true), (1, false), (2, true), (257, true), (u32::MAX, true)] {
        let refused = refusal::<_, BlobHeader>(wire::BlobHeader { codec, ..header.clone() });
        assert_eq!(refused, expected.then_some(("BlobHeader.codec", Reason::HeaderInvalid)));
    }
    for (length, expected) in [(0, true), (1, false), (1 << 27, false), ((1 << 27) + 1, true)] {
        let refused = refusal::<_, BlobHeader>(wire::BlobHeader { length, ..header.clone() });
        assert_eq!(refused, expected.then_some(("BlobHeader.length", Reason::HeaderInvalid)));
    }
}

#[test]
fn rows_and_samples() {
    let request = wire::GetRowsRequest::from(any(samples::get_rows()));
    let (start, count) = ("GetRowsRequest.start", "GetRowsRequest.count");
    for (first, number, expected) in [
        (0, 0, Some(count)),
        (0, 1, None),
        (0, MAX_ROWS, None),
        (0, MAX_ROWS + 1, Some(count)),
        (1, MAX_ROWS, Some(count)),
        (MAX_ROWS - 1, 1, None),
        (MAX_ROWS, 1, Some(start)),
        (u32::MAX, u32::MAX, Some(start)),
    ] {
        let message = wire::GetRowsRequest { start: first, count: number, ..request.clone() };
        assert_eq!(refusal::<_, GetRows>(message), expected.map(|field| (field, Reason::RangeInvalid)));
    }

    let request = wire::GetSamplesRequest::from(any(samples::get_samples()));
    let most = u32::try_from(MAX_SAMPLES).unwrap();
    for (indices, expected) in [
        (vec![], Some(Reason::FieldInvalid)),
        (vec![5], None),
        (vec![5, 6, 5], Some(Reason::FieldInvalid)),
        (vec![MAX_ROWS - 1], None),
        (vec![MAX_ROWS], Some(Reason::RangeInvalid)),
        ((0..most).collect(), None),
        ((0..=most).collect(), Some(Reason::TooManyItems)),
    ] {
        let message = wire::GetSamplesRequest { indices, ..request.clone() };
        let expected = expected.map(|reason| ("GetSamplesRequest.indices", reason));
        assert_eq!(refusal::<_, GetSamples>(message), expected);
    }
    assert_eq!(Reason::TooManyItems.class(), Class::TooLarge);
}

#[test]
fn lists() {
    let hash = Bytes::from(vec![0; 32]);
    for (count, fits) in [(MAX_ROW_PROOF - 1, true), (MAX_ROW_PROOF, true), (MAX_ROW_PROOF + 1, false)] {
        let siblings = vec![hash.clone(); count];
        let proof = wire::RangeProof { siblings: siblings.clone() };
        let part = wire::GetRowsResponse { part: Some(get_rows_response::Part::Proof(proof)) };
        let expected = (!fits).then_some(("RangeProof.siblings", Reason::TooManyItems));
        assert_eq!(refusal::<_, RowsPart>(part), expected);
        let range = wire::RangeStart { start: 0, count: 1, proof: siblings };
        let expected = (!fits).then_some(("RangeStart.proof", Reason::TooManyItems));
        assert_eq!(refusal::<_, RangeStart>(range), expected);
    }
    for (count, fits) in [(MAX_LOG_PROOF, true), (MAX_LOG_PROOF + 1, false)] {
        let proof = wire::GetConsistencyProofResponse { path: vec![hash.clone(); count] };
        let expected = (!fits).then_some(("GetConsistencyProofResponse.path", Reason::TooManyItems));
        assert_eq!(refusal::<_, ConsistencyProof>(proof), expected);
    }
    for (count, fits) in [(MAX_CANDIDATES, true), (MAX_CANDIDATES + 1, false)] {
        let candidate = wire::Candidate::from(any(samples::candidate()));
        let list = wire::LookupResponse { candidates: vec![candidate.clone(); count] };
        let expected = (!fits).then_some(("LookupResponse.candidates", Reason::TooManyItems));
        assert_eq!(refusal::<_, Vec<Candidate>>(list), expected);
        let entries = vec![any(samples::entry_ref()).into(); count];
        let candidate = wire::Candidate { entries, ..candidate };
        let expected = (!fits).then_some(("Candidate.entries", Reason::TooManyItems));
        assert_eq!(refusal::<_, Candidate>(candidate), expected);
    }
    for (bytes, fits) in [((1 << 20) - 1, true), (1 << 20, true), ((1 << 20) + 1, false), (u32::MAX, false)] {
        let message = wire::LookupRequest { max_row_bytes: bytes, ..any(samples::lookup()).into() };
        let expected = (!fits).then_some(("LookupRequest.max_row_bytes", Reason::MessageTooLarge));
        assert_eq!(refusal::<_, Lookup>(message), expected);
    }
    let candidate = Candidate { rows: Vec::new(), ..any(samples::candidate()) };
    let shape = candidate.header.shape();
    let (row, total) = (shape.row_bytes(), u32::try_from(shape.total_rows()).unwrap());
    let held =
        |start, count, bytes| wire::HeldRows { start, count, proof: Vec::new(), rows: vec![1; bytes].into() };
    for (rows, expected) in [
        (vec![held(total - 1, 1, row); MAX_HELD_RANGES], None),
        (vec![held(0, 1, row); MAX_HELD_RANGES + 1], Some(("Candidate.rows", Reason::TooManyItems))),
        (vec![held(total - 1, 2, 2 * row)], Some(("HeldRows.count", Reason::RangeInvalid))),
        (vec![held(0, 2, 2 * row - 1)], Some(("HeldRows.rows", Reason::FieldInvalid))),
        (vec![held(0, 2, 2 * row + 1)], Some(("HeldRows.rows", Reason::FieldInvalid))),
    ] {
        let message = wire::Candidate { rows, ..candidate.clone().into() };
        assert_eq!(refusal::<_, Candidate>(message), expected);
    }
    let none = wire::LookupResponse { candidates: Vec::new() };
    let expected = Some(("LookupResponse.candidates", Reason::FieldInvalid));
    assert_eq!(refusal::<_, Vec<Candidate>>(none), expected);
}

#[test]
fn entries_of_a_cosign_request_reach_the_checkpoint() {
    let entry = wire::LogEntry::from(any(samples::entry()));
    let request = |start: u64, size: u64, count: usize| {
        let mut signed = wire::SignedCheckpoint::from(any(samples::signed()));
        let checkpoint = signed.checkpoint.as_mut().unwrap();
        (checkpoint.size, checkpoint.root) =
            (size, bytes(if size == 0 { B256::ZERO } else { [1; 32].into() }));
        let entries = vec![entry.clone(); count];
        wire::CosignRequest { format_version: 1, signed: Some(signed), start, entries }
    };
    let gap = Some(("CosignRequest.entries", Reason::LogGap));
    assert_eq!(refusal::<_, CosignRequest>(request(0, 0, 0)), None);
    assert_eq!(refusal::<_, CosignRequest>(request(5, 8, 3)), None);
    assert_eq!(refusal::<_, CosignRequest>(request(5, 8, 2)), gap);
    assert_eq!(refusal::<_, CosignRequest>(request(5, 8, 4)), gap);
    assert_eq!(refusal::<_, CosignRequest>(request(9, 8, 0)), gap);
    assert_eq!(refusal::<_, CosignRequest>(request(u64::MAX, 1, 2)), gap);
    assert_eq!(refusal::<_, CosignRequest>(request(0, 4096, MAX_ENTRIES)), None);
    let many = Some(("CosignRequest.entries", Reason::TooManyItems));
    assert_eq!(refusal::<_, CosignRequest>(request(0, 4097, MAX_ENTRIES + 1)), many);
}

#[test]
fn log_requests() {
    let entries = wire::GetEntriesRequest::from(any(samples::get_entries()));
    for (start, count, expected) in [
        (0, 0, Some(("GetEntriesRequest.count", Reason::RangeInvalid))),
        (0, 4096, None),
        (0, 4097, Some(("GetEntriesRequest.count", Reason::TooManyItems))),
        (u64::MAX - 1, 1, None),
        (u64::MAX, 1, Some(("GetEntriesRequest.start", Reason::RangeInvalid))),
    ] {
        let message = wire::GetEntriesRequest { start, count, ..entries.clone() };
        assert_eq!(refusal::<_, GetEntries>(message), expected);
    }
    let inclusion = wire::GetInclusionProofRequest::from(any(samples::get_inclusion()));
    for (index, size, expected) in [(0, 0, true), (0, 1, false), (7, 7, true), (6, 7, false)] {
        let message = wire::GetInclusionProofRequest { index, size, ..inclusion.clone() };
        let expected = expected.then_some(("GetInclusionProofRequest.index", Reason::RangeInvalid));
        assert_eq!(refusal::<_, GetInclusionProof>(message), expected);
    }
    let consistency = wire::GetConsistencyProofRequest::from(any(samples::get_consistency()));
    for (old_size, new_size, expected) in [(0, 0, false), (7, 7, false), (8, 7, true)] {
        let message = wire::GetConsistencyProofRequest { old_size, new_size, ..consistency.clone() };
        let expected = expected.then_some(("GetConsistencyProofRequest.old_size", Reason::RangeInvalid));
        assert_eq!(refusal::<_, GetConsistencyProof>(message), expected);
    }
}

#[test]
fn values_with_one_spelling() {
    for outcome in [0, 3, -1, i32::MAX] {
        let expected = Some(("DisperseResponse.outcome", Reason::FieldInvalid));
        assert_eq!(refusal::<_, DisperseOutcome>(wire::DisperseResponse { outcome }), expected);
    }
    let zero = lookup_request::Key::PayloadHash(Bytes::from(vec![0; 32]));
    let lookup = wire::LookupRequest { key: Some(zero), include_rlc: false, max_row_bytes: 0 };
    assert_eq!(refusal::<_, Lookup>(lookup), Some(("LookupRequest.payload_hash", Reason::FieldInvalid)));
    let empty =
        wire::Checkpoint { size: 0, root: Bytes::from(vec![1; 32]), ..any(samples::checkpoint()).into() };
    let expected = Some(("Checkpoint.root", Reason::FieldInvalid));
    assert_eq!(refusal::<_, meridian_proofs::checkpoint::Checkpoint>(empty), expected);
    for id in [65_536, u32::MAX] {
        let region = wire::Region { id, ..any(samples::region()).into() };
        let expected = Some(("Region.id", Reason::FieldInvalid));
        assert_eq!(refusal::<_, meridian_proofs::committee::Region>(region), expected);
    }
    let mut logs = any(samples::log_list().prop_filter("two", |logs| logs.len() > 1));
    logs.reverse();
    let expected = Some(("ListLogsResponse.checkpoints", Reason::FieldInvalid));
    let list = wire::ListLogsResponse::from(logs);
    assert_eq!(refusal::<_, Vec<meridian_proofs::checkpoint::CosignedCheckpoint>>(list), expected);
}

#[test]
fn signatures_have_one_spelling() {
    let wire::CosignResponse { answer: Some(cosign_response::Answer::Cosignature(valid)) } =
        wire::CosignResponse::from(any(samples::cosign_answer()
            .prop_filter("signature", |answer| matches!(answer, CosignAnswer::Cosignature(_)))))
    else {
        panic!("no cosignature");
    };
    let answer = |bytes: Vec<u8>| wire::CosignResponse {
        answer: Some(cosign_response::Answer::Cosignature(bytes.into())),
    };
    assert_eq!(refusal::<_, CosignAnswer>(answer(valid.to_vec())), None);
    let mut wrong_v = valid.to_vec();
    wrong_v[64] -= 27;
    let mut high_s = valid.to_vec();
    high_s[32] = 0xf0;
    for spelling in [wrong_v, high_s] {
        let expected = Some(("CosignResponse.cosignature", Reason::SignatureInvalid));
        assert_eq!(refusal::<_, CosignAnswer>(answer(spelling)), expected);
    }
}

#[test]
fn texts() {
    for (length, fits) in [(511, true), (512, true), (513, false)] {
        let status =
            wire::ReplicaStatus { version: "v".repeat(length), ..any(samples::replica_status()).into() };
        let expected = (!fits).then_some(("ReplicaStatus.version", Reason::TooManyItems));
        assert_eq!(refusal::<_, ReplicaStatus>(status), expected);
    }
    let mut health = any(samples::seat_health());
    health.last_error = "ß".repeat(400);
    assert_eq!(wire::SeatHealth::from(health).last_error, "ß".repeat(256));
}

#[test]
fn open_epochs() {
    for (epochs, fits) in [(MAX_OPEN_EPOCHS - 1, true), (MAX_OPEN_EPOCHS, true), (MAX_OPEN_EPOCHS + 1, false)]
    {
        let status = any(samples::replica_status()).into();
        let status = wire::ReplicaStatus { seated_epochs: vec![1; epochs], ..status };
        let expected = (!fits).then_some(("ReplicaStatus.seated_epochs", Reason::TooManyItems));
        assert_eq!(refusal::<_, ReplicaStatus>(status), expected);
    }
}
