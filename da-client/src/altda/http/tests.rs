use std::collections::BTreeSet;
use std::io;

use axum::body::{Body, to_bytes};
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use proptest::prelude::*;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::altda::KECCAK_LIMIT;
use crate::altda::refusal::DropReason;
use crate::chain::testing::committee;
use crate::chain::view::View;
use crate::fetch::Readers;
use crate::rpc::Channels;
use crate::tokens::{TokenFile, Tokens};

/// A sidecar in a network of which nobody answers.
fn alone(change: impl FnOnce(&mut Settings)) -> Arc<AltDa> {
    let mut settings = Settings {
        gateways: Vec::new(),
        namespace: Namespace::default(),
        signer: None,
        retention: 3600,
        keccak_limit: KECCAK_LIMIT,
        generic_limit: 1 << 18,
        patience: Duration::ZERO,
        failover: Failover::Never,
        drop_status: false,
        cache_bytes: 1 << 20,
        memory_bytes: 1 << 20,
        archive: None,
    };
    change(&mut settings);
    let view = watch::Sender::new(Arc::new(View::fixed(Arc::new(committee(1)))));
    let nobody = Channels::over(|_| async {
        Err::<tokio::io::DuplexStream, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
    });
    let readers = Readers::new(view.subscribe(), nobody);
    Arc::new(AltDa::new(readers, settings, CancellationToken::new()).unwrap())
}

async fn ask(sidecar: &Arc<AltDa>, method: &str, path: &str, body: impl Into<Body>) -> Response {
    let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
    router(Arc::clone(sidecar)).oneshot(request).await.unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

fn keccak(input: &[u8]) -> Commitment {
    Commitment::of(Mode::Keccak, input).unwrap()
}

#[test]
fn paths_in_every_spelling_that_clients_have() {
    let commitment = keccak(b"input");
    let (full, bare) = (commitment.to_string(), commitment.to_string()[2..].to_owned());
    let put = |path: &str, method: Method| parse(&method, path).1;
    for method in [Method::POST, Method::PUT] {
        for path in ["/put", "/put/", "//put", "//put//"] {
            assert_eq!(put(path, method.clone()), Ok(Call::Put(Mode::Generic, None)), "{method} {path}");
        }
        for path in [format!("/put/{full}"), format!("/put/{bare}"), format!("//put/{full}/")] {
            assert_eq!(put(&path, method.clone()), Ok(Call::Put(Mode::Keccak, Some(commitment))), "{path}");
        }
    }
    for path in [format!("/get/{full}"), format!("/get/{bare}"), format!("/get/{}", full.to_uppercase())] {
        assert_eq!(parse(&Method::GET, &path), ("get", Ok(Call::Get(commitment))), "{path}");
        assert_eq!(parse(&Method::HEAD, &path).1, Ok(Call::Get(commitment)), "{path}");
        assert_eq!(parse(&Method::POST, &path).1, Err(Refusal::Method(READ)), "{path}");
    }
    assert_eq!(put("/put", Method::GET), Err(Refusal::Method(WRITE)));
    for path in ["/", "/get", "/get/", "/prefix/get/0x00", "/put/a/b", "/healthz", "/certificate"] {
        let (name, call) = parse(&Method::GET, path);
        if name != "put" {
            assert!(matches!(call, Err(Refusal::Invalid(_))), "{path}");
        }
    }
}

#[tokio::test]
async fn what_can_never_succeed_is_said_so_at_once() {
    let sidecar = alone(|_| ());
    let foreign = format!("/get/0x010c{}", "11".repeat(40));
    let other = keccak(b"other");
    for (method, path, body, status) in [
        ("POST", "/put".to_owned(), "", 400),
        ("POST", format!("/put/{}", keccak(b"")), "", 400),
        ("POST", format!("/put/{other}"), "input", 400),
        ("POST", "/put/0x00".to_owned(), "input", 400),
        ("POST", "/put/nothing".to_owned(), "input", 400),
        ("GET", foreign, "", 400),
        ("GET", "/get/0xzz".to_owned(), "", 400),
        ("GET", "/".to_owned(), "", 400),
        ("GET", "/put".to_owned(), "", 405),
        ("DELETE", format!("/get/{other}"), "", 405),
        ("POST", "/health".to_owned(), "", 405),
    ] {
        let response = ask(&sidecar, method, &path, body).await;
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_eq!(response.headers().contains_key(header::ALLOW), status == 405);
        assert!(text(response).await.contains("\"error\""), "{method} {path}");
    }
}

#[tokio::test]
async fn inputs_up_to_the_limit_of_their_kind() {
    let sidecar = alone(|settings| settings.generic_limit = 2000);
    for (length, is_keccak, fits) in [
        (KECCAK_LIMIT - 1, true, true),
        (KECCAK_LIMIT, true, true),
        (KECCAK_LIMIT + 1, true, false),
        (1999, false, true),
        (2000, false, true),
        (2001, false, false),
    ] {
        let input = vec![7; length];
        let path = if is_keccak { format!("/put/{}", keccak(&input)) } else { "/put".to_owned() };
        let status = ask(&sidecar, "POST", &path, input).await.status().as_u16();
        let expected = match (fits, is_keccak) {
            (false, _) => 413,
            (true, true) => 503,
            (true, false) => 429,
        };
        assert_eq!(status, expected, "{length} bytes, keccak: {is_keccak}");
    }
}

#[tokio::test]
async fn a_network_out_of_reach_is_never_an_absence() {
    for (failover, generic) in [(Failover::Never, 429), (Failover::Generic, 503)] {
        let sidecar = alone(|settings| settings.failover = failover);
        let known = keccak(b"input");
        for (method, path, status) in [
            ("POST", "/put".to_owned(), generic),
            ("POST", format!("/put/{known}"), 503),
            ("GET", format!("/get/{known}"), 503),
            ("GET", format!("/get/{}", Commitment::Generic(BlobId::default())), 503),
            ("GET", format!("/certificate/{known}"), 503),
            ("GET", "/ready".to_owned(), 503),
        ] {
            let response = ask(&sidecar, method, &path, if method == "POST" { "input" } else { "" }).await;
            assert_eq!(response.status().as_u16(), status, "{method} {path}");
            if path != "/ready" {
                assert_eq!(response.headers()[header::RETRY_AFTER], "1", "{method} {path}");
            }
        }
        for path in ["/health", "/config", "/metrics"] {
            assert_eq!(ask(&sidecar, "GET", path, "").await.status(), 200, "{path}");
        }
    }
}

#[tokio::test]
async fn drop_reasons_only_to_nodes_that_know_them() {
    let unreadable = Refusal::Dropped(DropReason::NotDecoded, "nobody can read it".to_owned());
    let foreign = format!("/get/0x0100{}", "11".repeat(40));
    for (drop_status, status) in [(true, 418), (false, 400)] {
        let sidecar = alone(|settings| settings.drop_status = drop_status);
        let response = ask(&sidecar, "GET", &foreign, "").await;
        assert_eq!(response.status().as_u16(), status);
        let body: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(body.get("StatusCode").and_then(serde_json::Value::as_u64), drop_status.then_some(1));
        assert_eq!(body.get("Msg").is_some(), drop_status);
        // A put is no derivation.
        let put = ask(&sidecar, "POST", &foreign.replace("get", "put"), "input").await;
        assert_eq!(put.status(), 400);
        let response = refuse(&unreadable, &sidecar.settings, "get", false);
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(text(response).await.contains("\"StatusCode\":4"), drop_status);
    }
}

#[test]
fn no_refusal_is_an_absence_or_sends_batchers_away_by_mistake() {
    let wait = Duration::from_millis(1500);
    let refusals = [
        Refusal::Invalid(String::new()),
        Refusal::Mismatch { stated: keccak(b"a"), computed: keccak(b"b") },
        Refusal::Dropped(DropReason::NotParsed, String::new()),
        Refusal::Dropped(DropReason::NotDecoded, String::new()),
        Refusal::Method(READ),
        Refusal::Unknown(String::new()),
        Refusal::Slow,
        Refusal::TooLarge(1),
        Refusal::Busy(String::new(), wait),
        Refusal::Unavailable(String::new()),
        Refusal::Internal("secret".to_owned()),
    ];
    let sidecar = alone(|_| ());
    for refusal in &refusals {
        let by_server = refuse(refusal, &sidecar.settings, "put", true);
        assert!(by_server.status().is_client_error(), "{refusal}");
        for call in ["put", "get"] {
            let response = refuse(refusal, &sidecar.settings, call, false);
            assert_eq!(response.status() == 404, matches!(refusal, Refusal::Unknown(_)), "{refusal}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), refusal.is_passing());
        }
    }
    let busy = refuse(&refusals[8], &sidecar.settings, "put", true);
    assert_eq!(busy.headers()[header::RETRY_AFTER], "2");
}

#[tokio::test]
async fn what_went_wrong_inside_stays_inside() {
    let sidecar = alone(|_| ());
    let response = refuse(&Refusal::Internal("secret".to_owned()), &sidecar.settings, "get", false);
    assert_eq!(response.status(), 500);
    assert!(!text(response).await.contains("secret"));
}

/// Paths near those that exist, and others.
fn paths() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("put".to_owned()),
        Just("get".to_owned()),
        Just("certificate".to_owned()),
        Just("health".to_owned()),
        Just("ready".to_owned()),
        Just("config".to_owned()),
        Just("metrics".to_owned()),
        Just(String::new()),
        Just("..".to_owned()),
        "(0x)?[0-9a-fA-F]{0,80}",
        "(0x)?00[0-9a-f]{64}",
        "(0x)?01ff[0-9a-f]{64}",
        "[!-~&&[^?#\"<>\\\\^`{|}]]{0,20}",
    ];
    let query = prop_oneof![Just(String::new()), "\\?[a-z0-9_=&]{0,40}"];
    (prop::collection::vec(part, 0..4), query)
        .prop_map(|(parts, query)| format!("/{}{query}", parts.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// An answer of a documented kind, always.
    #[test]
    fn every_request_gets_a_documented_answer(
        path in paths(),
        method in prop_oneof![
            Just("GET"), Just("HEAD"), Just("POST"), Just("PUT"), Just("DELETE"), Just("OPTIONS"), Just("BREW")
        ],
        body in prop::collection::vec(any::<u8>(), 0..300),
        is_chunked in any::<bool>(),
        drop_status in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (status, answer) = runtime.block_on(async {
            let sidecar = alone(|settings| {
                settings.drop_status = drop_status;
                settings.generic_limit = 200;
            });
            let body = if is_chunked {
                let parts = body.chunks(64).map(|part| Ok::<_, io::Error>(part.to_vec())).collect::<Vec<_>>();
                Body::from_stream(futures::stream::iter(parts))
            } else {
                Body::from(body)
            };
            let response = ask(&sidecar, method, &path, body).await;
            (response.status(), to_bytes(response.into_body(), 1 << 20).await.unwrap())
        });
        // Nobody answers here, so nothing can be put, read or certainly absent.
        let documented = BTreeSet::from([200, 400, 405, 413, 418, 429, 503]);
        prop_assert!(documented.contains(&status.as_u16()), "{} {}: {}", method, path, status);
        prop_assert_eq!(answer.is_empty(), method == "HEAD");
        let mut parts = path.split('?').next().unwrap().split('/').filter(|part| !part.is_empty());
        if status == 200 {
            prop_assert!(["health", "config", "metrics"].contains(&parts.next().unwrap()));
        }
    }
}

#[tokio::test]
async fn what_is_known_is_given_out_without_the_network() {
    let sidecar = alone(|_| ());
    let commitment = Commitment::Keccak(PayloadHash(meridian_proofs::keccak256(b"input")));
    sidecar.inputs.insert(commitment, bytes::Bytes::from_static(b"input")).await;
    let response = ask(&sidecar, "GET", &format!("/get/{commitment}?l1_inclusion_block_number=7"), "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, "input");
    let metrics = text(ask(&sidecar, "GET", "/metrics", "").await).await;
    assert!(metrics.contains("meridian_altda_reads_total{from=\"memory\"} 1"), "{metrics}");
    assert!(metrics.contains("meridian_altda_sent_bytes_total 5"), "{metrics}");
    assert!(metrics.contains("meridian_altda_cache_bytes 5"), "{metrics}");
}

#[tokio::test]
async fn puts_need_a_token_where_tokens_are_and_reads_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.toml");
    let mut tokens = Tokens::default();
    let good = tokens.add("good", vec![Namespace::default()], u64::MAX >> 1).unwrap();
    let foreign = tokens.add("foreign", vec![Namespace::from([1; 32])], u64::MAX >> 1).unwrap();
    let ended = tokens.add("ended", vec![Namespace::default()], 1).unwrap();
    tokens.save(&path).unwrap();
    let sidecar = Arc::into_inner(alone(|_| ())).unwrap();
    let sidecar = Arc::new(sidecar.with_tokens(TokenFile::open(path).unwrap()));
    let put = async |value: Option<String>| {
        let request = Request::builder().method("POST").uri("/put");
        let request =
            value.into_iter().fold(request, |request, value| request.header("authorization", value));
        let response =
            router(Arc::clone(&sidecar)).oneshot(request.body(Body::from("input")).unwrap()).await.unwrap();
        let asks = response.headers().contains_key(header::WWW_AUTHENTICATE);
        assert_eq!(asks, response.status() == StatusCode::UNAUTHORIZED);
        let status = response.status().as_u16();
        (status, text(response).await)
    };
    for (value, status, says) in [
        (None, 401, "with a token only"),
        (Some("Bearer meridian_00".to_owned()), 401, "unknown"),
        (Some(format!("Bearer {}", ended.reveal())), 401, "ended"),
        (Some(format!("Bearer {}", foreign.reveal())), 403, "not for the namespace"),
        // Let in, and nobody is there to take it.
        (Some(format!("Bearer {}", good.reveal())), 429, "UNREACHABLE"),
    ] {
        let (got, text) = put(value).await;
        assert!(got == status && text.contains(says), "{status} {says}: {got} {text}");
        for secret in [&good, &foreign, &ended] {
            assert!(!text.contains(secret.reveal()));
        }
    }
    let response = ask(&sidecar, "GET", &format!("/get/{}", keccak(b"input")), "").await;
    assert_eq!(response.status().as_u16(), 503);
    assert!(text(ask(&sidecar, "GET", "/config", "").await).await.contains("\"puts_need_token\":true"));
}
