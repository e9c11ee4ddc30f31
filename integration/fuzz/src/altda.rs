//! The DA server of OP Stack clients: it gives out what has the commitment that was asked for, and nothing that a caller
//! does is its own fault.

use axum::http::{Method, StatusCode};
use meridian_client::altda::commitment::{Commitment, Mode};
use meridian_client::altda::http::router;
use meridian_proofs::certificate::Certificate;

use super::home::{Home, run};
use super::input::{Input, noise};
use super::web::{Page, ask, request};

const LENGTHS: [usize; 6] = [700, 1, 1024, 1025, 4000, 9000];
const PAGES: [&str; 5] = ["/health", "/ready", "/config", "/metrics", "/"];

pub fn altda(data: &[u8]) {
    run(data, once);
}

/// Call u8, length u8, content u8, then what is changed.
async fn once(home: &Home, input: &mut Input<'_>) {
    let (what, length, content) = (input.byte() % 8, input.byte(), input.byte());
    let body = noise(4_000 + u64::from(content), LENGTHS[usize::from(length) % LENGTHS.len()]);
    let blob = home.blob(length);
    let known = blob.blob.payload();
    let commit = |mode, input: &[u8]| Commitment::of(mode, input).unwrap();
    let text = |commitment: Commitment| match content & 1 {
        0 => commitment.to_string(),
        _ => hex::encode_upper(commitment.encode()),
    };
    let mode = if content & 2 == 0 { Mode::Generic } else { Mode::Keccak };
    let has = mode == Mode::Generic || blob.certificate.entry.payload_hash.is_bound();
    let found = if has { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let get = |call: &str, commitment| format!("/{call}/{}", text(commitment));
    let (method, path, body, status) = match what {
        0 => (Method::POST, "/put".to_owned(), body, StatusCode::OK),
        1 => (Method::POST, get("put", commit(mode, &body)), body, StatusCode::OK),
        2 => (Method::GET, get("get", commit(mode, &known)), Vec::new(), found),
        3 => (Method::GET, get("certificate", commit(mode, &known)), Vec::new(), found),
        // Of another input, and of none.
        4 => (Method::PUT, get("put", commit(mode, &known)), body, StatusCode::BAD_REQUEST),
        5 => {
            let nobody = noise(5_000 + u64::from(content), 700);
            (Method::GET, get("get", commit(mode, &nobody)), Vec::new(), StatusCode::NOT_FOUND)
        }
        6 => (Method::POST, "/put".to_owned(), Vec::new(), StatusCode::BAD_REQUEST),
        _ => {
            let page = PAGES[usize::from(content) % PAGES.len()];
            let status = if page == "/" { StatusCode::BAD_REQUEST } else { StatusCode::OK };
            (Method::GET, page.to_owned(), Vec::new(), status)
        }
    };
    let Some(asked) = request(input, method, &path, &body) else { return };
    let page = ask(router(home.altda()), asked.request).await;
    let Page { status: got, body: answer } = &page;
    if asked.is_plain {
        assert_eq!(*got, status, "{path}: {page:?}");
    }
    // Nobody here is ever busy or out of reach.
    assert!(matches!(got.as_u16(), 200 | 400 | 404 | 405 | 413), "{}: {page:?}", asked.path);
    let mut parts = asked.path.split('/').filter(|part| !part.is_empty());
    let (call, named) = (parts.next(), parts.next().map(str::parse::<Commitment>));
    if *got != StatusCode::OK {
        let of = matches!(call, Some("get" | "certificate")) && matches!(named, Some(Ok(_)));
        assert!(
            *got != StatusCode::NOT_FOUND || of,
            "{}: an input that nobody asked for is gone",
            asked.path
        );
        return;
    }
    if asked.method == Method::HEAD {
        return;
    }
    match (call, named) {
        (Some("put"), None) => {
            assert_eq!(answer[..], commit(Mode::Generic, &body).encode());
        }
        (Some("put"), Some(named)) => {
            let named = named.unwrap();
            assert_eq!(named, commit(named.mode(), &body));
            assert_eq!(answer[..], named.encode());
        }
        (Some("get"), Some(named)) => {
            let named = named.unwrap();
            assert_eq!(named, commit(named.mode(), answer));
        }
        (Some("certificate"), Some(named)) => {
            let certificate = Certificate::decode(answer).unwrap();
            certificate.verify(&home.committee).unwrap();
            match named.unwrap() {
                Commitment::Generic(id) => assert_eq!(certificate.id(), id),
                Commitment::Keccak(hash) => assert_eq!(certificate.entry.payload_hash, hash),
            }
        }
        (Some("health" | "ready" | "config" | "metrics"), None) => {}
        other => panic!("{other:?} was answered"),
    }
    if call == Some("config") {
        serde_json::from_slice::<serde_json::Value>(answer).unwrap();
    }
}
