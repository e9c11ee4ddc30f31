//! The pages of hosts and of a light client: what is documented for each path, and no fault of theirs for anything asked.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::{Method, StatusCode};
use meridian_client::light::http::router as light_router;
use meridian_node::http::{Pages, StatusSource, router as host_router, status};
use serde_json::Value;
use tokio::sync::watch;

use super::home::{Home, run, stranger};
use super::input::Input;
use super::web::{ask, request};

const STANDINGS: [&str; 6] =
    ["", "&standing=sampled", "&standing=exact", "&standing=withheld", "&standing=", "&x=1"];

pub fn pages(data: &[u8]) {
    run(data, once);
}

/// Call u8, two numbers of the call u16, a choice u8, then what is changed.
async fn once(home: &Home, input: &mut Input<'_>) {
    let (what, one, two, choice) = (input.byte() % 12, input.u16(), input.u16(), input.byte());
    let (one, two) = (wide(one), wide(two));
    let blob = home.blob(choice);
    let log = match choice {
        0xff => stranger().address(),
        _ => home.gateway.status().address,
    };
    let plain = |path: &str| (path.to_owned(), StatusCode::OK);
    let (path, wanted) = match what {
        0 | 5 => plain("/status"),
        1 | 6 => plain("/metrics"),
        2 => plain("/healthz"),
        3 => ("/".to_owned(), StatusCode::NOT_FOUND),
        4 => plain("/health"),
        7 => {
            let standing = STANDINGS[usize::from(choice) % STANDINGS.len()];
            let fits = (1..=1000).contains(&one) && !standing.ends_with("=1") && !standing.ends_with('=');
            let status = if fits { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            (format!("/blobs?limit={one}{standing}"), status)
        }
        8 => plain(&format!("/blobs?after={}", blob.id())),
        9 => plain(&format!("/blobs/{}", blob.id())),
        10 => {
            let status =
                if one > two || two - one > 100_000 { StatusCode::BAD_REQUEST } else { StatusCode::OK };
            (format!("/logs/{log}?from={one}&to={two}"), status)
        }
        _ => plain("/checkpoints"),
    };
    let router = if what < 4 { host(home, choice) } else { light_router(home.light().await) };
    let Some(asked) = request(input, Method::GET, &path, b"") else { return };
    let page = ask(router, asked.request).await;
    let got = page.status;
    // Of a log that is not followed nothing is known.
    if asked.is_plain && log != stranger().address() {
        assert_eq!(got, wanted, "{path}: {page:?}");
    }
    assert!(matches!(got.as_u16(), 200 | 400 | 404 | 405), "{}: {page:?}", asked.path);
    if got != StatusCode::OK || asked.method != Method::GET {
        return;
    }
    match what {
        1 | 2 | 4 | 6 => assert!(!page.body.is_empty()),
        _ if asked.is_plain => drop(serde_json::from_slice::<Value>(&page.body).unwrap()),
        _ => {}
    }
    if what == 7 && asked.is_plain {
        let blobs: Value = serde_json::from_slice(&page.body).unwrap();
        let listed = blobs.as_array().or_else(|| blobs["blobs"].as_array()).unwrap();
        assert!(listed.len() as u64 <= one);
    }
}

/// A small number, or where the highest bit is set a large one.
fn wide(number: u16) -> u64 {
    if number < 0x8000 { number.into() } else { u64::MAX >> (number & 63) }
}

/// The pages of the gateway, or of a replica.
fn host(home: &Home, choice: u8) -> Router {
    let gateway = status::gateway(&home.gateway.status());
    let replica = Arc::clone(&home.replicas[0]);
    let source: StatusSource = Arc::new(move || {
        let (gateway, replica) = (gateway.clone(), Arc::clone(&replica));
        Box::pin(async move {
            match choice & 1 {
                0 => gateway,
                _ => status::replica(&replica.status().await.unwrap()),
            }
        })
    });
    let shown = OnceLock::new();
    let _ = shown.set(source);
    let registry = home.telemetry().registry.clone();
    host_router(Pages { registry, serving: watch::channel(true).1, status: Arc::new(shown) })
}
