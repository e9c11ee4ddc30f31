//! Calls against real servers in this process that answer early, wrongly, too much or not at all.

mod server;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::checkpoint::{Checkpoint, Dispersal, Domain, SignedCheckpoint, SignedDispersal};
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::{BlobId, Namespace};
use meridian_proofs::shape::RowIndex;
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{Address, B256};
use meridian_proto::convert::PutStart;
use meridian_proto::error::{ApiError, Class, Reason};
use meridian_proto::wire;

use self::server::{Behaviour, Server};
use super::*;

/// Times that a race is given a chance to be lost.
const ROUNDS: usize = 20;

fn blob() -> EncodedBlob<Blake3> {
    encode(&[7; 300_000], B256::ZERO).unwrap()
}

fn key() -> SecretKey {
    SecretKey::from_bytes([3; 32]).unwrap()
}

const DOMAIN: Domain = Domain { chain_id: 1, verifying_contract: Address::ZERO };

fn permission(blob_id: BlobId) -> SignedDispersal {
    let dispersal =
        Dispersal { gateway: key().address(), replica: Address::ZERO, epoch: 1, blob_id, deadline: 60 };
    SignedDispersal::sign(dispersal, &DOMAIN, &key())
}

fn upload(blob: &EncodedBlob<Blake3>) -> Upload {
    let all = blob.shape().all();
    let halves = [(0, all.count() / 2 + 1), (all.count() / 2 + 1, all.count() / 2 - 1)];
    let range = |(start, count)| {
        let range = blob.shape().range(start, count).unwrap();
        (range, blob.range_proof(range), blob.rows(range))
    };
    Upload { rlc: blob.rlc().to_bytes().into(), ranges: halves.map(range).into() }
}

fn put_start(length: usize) -> PutStart {
    PutStart {
        namespace: Namespace::default(),
        length: u64::try_from(length).unwrap().try_into().unwrap(),
        retention: 60,
        bind_payload_hash: false,
        expected_blob_id: None,
        kzg_root: None,
        authorization: None,
    }
}

fn reason<T: core::fmt::Debug>(result: Result<T, ApiError>) -> Reason {
    result.unwrap_err().reason
}

#[tokio::test]
async fn an_upload_arrives_whole_and_in_order() {
    let blob = blob();
    let server = Server::start(Behaviour::Store);
    let outcome = server.replica().disperse(permission(blob.id()), *blob.header(), upload(&blob)).await;
    assert_eq!(outcome, Ok(DisperseOutcome::Stored));
    let sent = upload(&blob);
    let received = server.received();
    assert_eq!(received.start.unwrap().header, *blob.header());
    assert_eq!(received.start.unwrap().dispersal, permission(blob.id()));
    assert_eq!(received.rlc, sent.rlc);
    let ranges: Vec<_> = sent.ranges.iter().map(|(range, ..)| (range.start(), range.count())).collect();
    let proofs: Vec<_> = sent.ranges.iter().map(|(_, proof, _)| proof.clone()).collect();
    assert_eq!(received.ranges.iter().map(|range| (range.start, range.count)).collect::<Vec<_>>(), ranges);
    assert_eq!(received.ranges.iter().map(|range| range.proof.clone()).collect::<Vec<_>>(), proofs);
    let rows: Vec<Bytes> = sent.ranges.into_iter().map(|(.., rows)| rows).collect();
    assert_eq!(received.rows, rows.concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_end_of_an_upload_is_heard() {
    let blob = blob();
    let large = || {
        let mut upload = upload(&blob);
        upload.ranges[0].2 = Bytes::from(vec![0; 64 << 20]);
        upload
    };
    let held_server = Server::start(Behaviour::Held);
    let refusing_server = Server::start(Behaviour::Refuse(Reason::NotAGateway));
    // One connection for all rounds: what was sent in vain must not eat up its window.
    let (held, refusing) = (held_server.replica(), refusing_server.replica());
    for _ in 0..ROUNDS {
        let outcome = held.disperse(permission(blob.id()), *blob.header(), large()).await;
        assert_eq!(outcome, Ok(DisperseOutcome::Held));
        let outcome = refusing.disperse(permission(blob.id()), *blob.header(), large()).await;
        assert_eq!(reason(outcome), Reason::NotAGateway);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_before_the_end_of_a_put_is_heard() {
    let payload = Bytes::from(vec![0; 100 << 20]);
    for after in [1, 3, 40] {
        let server = Server::start(Behaviour::RefusePut(Reason::MemoryBudget, after));
        let gateway = server.gateway();
        for _ in 0..ROUNDS {
            let error = gateway.put(put_start(payload.len()), payload.clone()).await.unwrap_err();
            assert_eq!((error.reason, error.class()), (Reason::MemoryBudget, Class::Overloaded));
            assert_eq!(error.retry_after, Some(Duration::from_millis(250)));
        }
    }
}

#[tokio::test]
async fn rows_are_read_to_the_byte() {
    let blob = blob();
    let range = blob.shape().range(5, 900).unwrap();
    let row_bytes = blob.shape().row_bytes();
    let rows = blob.rows(range);
    let proof = wire::RangeProof {
        siblings: blob
            .range_proof(range)
            .0
            .iter()
            .map(|hash| Bytes::copy_from_slice(hash.as_slice()))
            .collect(),
    };
    let server =
        Server::start(Behaviour::Rows(proof.clone(), vec![rows.slice(..70_000), rows.slice(70_000..)]));
    let answer = server.replica().rows(blob.id(), range, row_bytes, true).await;
    assert_eq!(answer, Ok((rows.clone(), blob.range_proof(range))));

    let cut = rows.slice(..rows.len() - 1);
    let one_more = vec![rows.clone(), Bytes::from_static(b"x")];
    for wrong in [vec![], vec![cut], one_more, vec![rows.clone(), rows.clone()], vec![Bytes::new()]] {
        let server = Server::start(Behaviour::Rows(proof.clone(), wrong));
        let answer = server.replica().rows(blob.id(), range, row_bytes, true).await;
        assert_eq!(reason(answer), Reason::AnswerInvalid);
    }
    for wrong in [Behaviour::NoProof, Behaviour::TwoProofs, Behaviour::Nothing, Behaviour::Flood] {
        let server = Server::start(wrong);
        let answer = server.replica().rows(blob.id(), range, row_bytes, true).await;
        assert_eq!(reason(answer), Reason::AnswerInvalid);
    }
    let server = Server::start(Behaviour::BreakOff(Reason::RebuildFailed));
    let answer = server.replica().rows(blob.id(), range, row_bytes, true).await;
    assert_eq!(reason(answer), Reason::RebuildFailed);
}

#[tokio::test]
async fn samples_are_those_that_were_asked_for() {
    let blob = blob();
    let row_bytes = blob.shape().row_bytes();
    let indices = [9, 0, 4095].map(RowIndex);
    let server = Server::start(Behaviour::Samples(blob.clone(), |samples| samples));
    let samples = server.replica().samples(blob.id(), &indices, row_bytes).await.unwrap();
    assert_eq!(samples.iter().map(|sample| sample.index).collect::<Vec<_>>(), indices);
    assert!(samples.iter().all(|sample| sample.row == blob.row(sample.index)));

    let lies: [fn(Vec<wire::Sample>) -> Vec<wire::Sample>; 6] = [
        |mut samples| {
            samples[0].row = Bytes::from(vec![0; 5 << 20]);
            samples
        },
        |mut samples| {
            samples.reverse();
            samples
        },
        |samples| samples[1..].to_vec(),
        |samples| [samples.clone(), samples].concat(),
        |mut samples| {
            samples[2].row = samples[2].row.slice(1..);
            samples
        },
        |_| Vec::new(),
    ];
    for lie in lies {
        let server = Server::start(Behaviour::Samples(blob.clone(), lie));
        let answer = server.replica().samples(blob.id(), &indices, row_bytes).await;
        assert_eq!(reason(answer), Reason::AnswerInvalid);
    }
}

#[tokio::test]
async fn the_most_and_largest_samples_fit_messages() {
    let (largest_row, id) = (16_384, blob().id());
    let server = Server::start(Behaviour::LargeSamples(largest_row));
    for (count, calls) in [(1, 1), (236, 1), (256, 2), (1000, 5)] {
        let before = server.sample_calls();
        let indices: Vec<RowIndex> = (0..count).map(RowIndex).collect();
        let samples = server.replica().samples(id, &indices, largest_row).await.unwrap();
        assert_eq!(samples.iter().map(|sample| sample.index).collect::<Vec<_>>(), indices);
        assert_eq!(server.sample_calls() - before, calls);
    }
    let server = Server::start(Behaviour::LargeSamples(64));
    let indices: Vec<RowIndex> = (0..257).map(RowIndex).collect();
    assert_eq!(server.replica().samples(id, &indices, 64).await.unwrap().len(), 257);
    assert_eq!(server.sample_calls(), 2);
}

#[tokio::test]
async fn a_log_that_is_unknown_is_none_and_another_is_wrong() {
    let server = Server::start(Behaviour::Refuse(Reason::LogUnknown));
    assert_eq!(server.log().checkpoint(key().address()).await, Ok(None));
    let server = Server::start(Behaviour::Refuse(Reason::StoreDamaged));
    assert_eq!(reason(server.log().checkpoint(key().address()).await), Reason::StoreDamaged);

    let checkpoint =
        Checkpoint { gateway: key().address(), epoch: 1, size: 0, root: B256::ZERO, timestamp: 5 };
    let signed = SignedCheckpoint::sign(checkpoint, &DOMAIN, &key());
    let server = Server::start(Behaviour::Checkpoint(signed));
    let found = server.log().checkpoint(key().address()).await.unwrap().unwrap();
    assert_eq!(found.signed, signed);
    let other = server.log().checkpoint(Address::repeat_byte(1)).await;
    assert_eq!(reason(other), Reason::AnswerInvalid);
}

#[tokio::test]
async fn a_route_leads_elsewhere_and_only_from_its_endpoint() {
    let server = Server::start(Behaviour::Refuse(Reason::LogUnknown));
    let (known, other) = ("http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2");
    let routes = HashMap::from([(known.clone(), format!("http://{}", server.address()))]);
    let channels = Channels::routed(routes).unwrap();
    assert_eq!(channels.log(&known).unwrap().checkpoint(key().address()).await, Ok(None));
    let gone = channels.log(other).unwrap().checkpoint(key().address()).await;
    assert_eq!(reason(gone), Reason::Unreachable);
    for route in [(known.clone(), "127.0.0.1:7"), ("nowhere".to_owned(), other)] {
        let refused = Channels::routed(HashMap::from([(route.0, route.1.to_owned())]));
        assert_eq!(refused.unwrap_err().reason, Reason::FieldInvalid);
    }
}

#[tokio::test]
async fn silence_and_absence_are_unreachable() {
    let server = Server::start(Behaviour::Silence);
    let hurried = server.replica().within(Duration::from_millis(20));
    assert_eq!(reason(hurried.status().await), Reason::Unreachable);
    let blob = blob();
    let answer = hurried.rows(blob.id(), blob.shape().all(), blob.shape().row_bytes(), true).await;
    assert_eq!(reason(answer), Reason::Unreachable);

    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    assert_eq!(reason(Channels::new().replica(&endpoint).unwrap().status().await), Reason::Unreachable);
}

#[tokio::test]
async fn a_server_that_goes_away_is_unreachable_and_found_again() {
    let server = Server::start(Behaviour::Silence);
    let (address, replica) = (server.address(), server.replica());
    let (answer, ()) = tokio::join!(replica.status(), async {
        server.called().await;
        server.stop().await;
    });
    assert_eq!(reason(answer), Reason::Unreachable);
    let _again = Server::start_at(address, Behaviour::Store);
    assert_eq!(replica.status().await.unwrap().version, "test");
}

#[tokio::test]
async fn connections_may_be_of_another_kind_than_tcp() {
    let server = Server::start(Behaviour::Store);
    let address = server.address();
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let channels = Channels::over(move |uri| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            match uri.host() {
                Some("replica") => tokio::net::TcpStream::connect(address).await,
                _ => Err(io::Error::other("nobody there")),
            }
        }
    });
    let replica = channels.replica("http://replica:7").unwrap();
    assert_eq!(replica.status().await.unwrap().version, "test");
    assert_eq!(replica.status().await.unwrap().version, "test");
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    let nobody = channels.replica("http://nobody:7").unwrap();
    assert_eq!(reason(nobody.status().await), Reason::Unreachable);
    assert_eq!(opened.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn endpoints_are_http_or_https() {
    let channels = Channels::new();
    for right in ["http://host:1", "https://host:1", "https://[::1]:1", "https://10.0.0.1:65535"] {
        assert!(channels.replica(right).is_ok(), "{right}");
    }
    for wrong in
        ["", "localhost:1", "/path", "ftp://host:1", "httpss://host:1", "https://", "http://", "http://a b"]
    {
        assert_eq!(reason(channels.replica(wrong).map(drop)), Reason::FieldInvalid, "{wrong}");
    }
}

#[test]
fn chunks_are_slices_of_the_whole() {
    for length in [0, 1, UPLOAD_CHUNK - 1, UPLOAD_CHUNK, UPLOAD_CHUNK + 1, 3 * UPLOAD_CHUNK] {
        let whole = Bytes::from(vec![1; length]);
        let parts: Vec<Bytes> = chunks(whole.clone()).collect();
        assert_eq!(parts.len(), length.div_ceil(UPLOAD_CHUNK));
        assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= UPLOAD_CHUNK));
        assert_eq!(parts.concat(), whole);
        assert!(parts.first().is_none_or(|part| part.as_ptr() == whole.as_ptr()));
    }
}

#[tokio::test]
async fn calls_carry_the_trace() {
    use opentelemetry::trace::{TraceContextExt, TracerProvider};
    use tracing::Instrument;
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::layer::SubscriberExt;

    let server = Server::start(Behaviour::Store);
    let tracer = opentelemetry_sdk::trace::SdkTracerProvider::default().tracer("test");
    let subscriber = tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
    let _guard = tracing::subscriber::set_default(subscriber);
    let span = tracing::info_span!("read");
    let trace = span.context().span().span_context().trace_id();
    server.replica().status().instrument(span).await.unwrap();
    assert_eq!(server.trace().unwrap(), trace);
}
