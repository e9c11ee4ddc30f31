//! Requests over HTTP without a connection.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tower::ServiceExt;

use super::input::{Input, noise};

/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most bytes of an answer.
const MOST: usize = 16 << 20;
/// Most changes of a path.
const CHANGES: u8 = 4;

/// A request, and whether it is as it should be.
pub struct Asked {
    pub request: Request<Body>,
    pub method: Method,
    pub path: String,
    pub is_plain: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Page {
    pub status: StatusCode,
    pub body: Bytes,
}

/// The request that an input makes of this one; nothing where it cannot be said in HTTP.
///
/// Method u8, changes of the path u8 (each: what u8, where u8, byte u8), header u8, how the body ends u8, its pieces u8.
pub fn request(input: &mut Input<'_>, method: Method, path: &str, body: &[u8]) -> Option<Asked> {
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS];
    let other = match usize::from(input.byte()) {
        0 => method.clone(),
        choice => methods.get(choice % 7).cloned().unwrap_or_else(|| Method::from_bytes(b"BREW").unwrap()),
    };
    let mut text = path.as_bytes().to_vec();
    for _ in 0..input.byte() % CHANGES {
        let (what, at, byte) = (input.byte(), usize::from(input.byte()), input.byte());
        let at = at % (text.len() + 1);
        match what % 6 {
            0 => text.insert(at, byte),
            1 => text.truncate(at),
            2 => text.insert(at, b'/'),
            3 => text.extend(b"?limit=1"),
            4 => text.splice(at..at, *b"%2F").for_each(drop),
            _ => {
                if let Some(old) = text.get_mut(at) {
                    *old ^= byte;
                }
            }
        }
    }
    let uri = Uri::try_from(text).ok()?;
    let (head, end, piece) = (input.byte(), input.byte(), usize::from(input.byte()));
    let pieces = body.chunks(if piece == 0 { usize::MAX } else { piece.max(body.len() / 64) });
    let pieces: Vec<io::Result<Bytes>> = pieces.map(Bytes::copy_from_slice).map(Ok).collect();
    let tail = (end != 0).then(|| Err(io::Error::other("broken")));
    let is_path = uri == *path;
    let path = uri.path().to_owned();
    let mut request = Request::new(Body::from_stream(stream::iter(pieces).chain(stream::iter(tail))));
    (*request.method_mut(), *request.uri_mut()) = (other.clone(), uri);
    let text = match head {
        0 => None,
        1 => Some((header::CONTENT_LENGTH, body.len().to_string().into_bytes())),
        2 => Some((header::CONTENT_LENGTH, u64::from(u32::MAX).to_string().into_bytes())),
        3 => Some((header::CONTENT_LENGTH, b"0".to_vec())),
        4 => Some((header::AUTHORIZATION, b"Bearer nobody".to_vec())),
        5 => Some((header::RANGE, b"bytes=1-2".to_vec())),
        6 => Some((header::CONTENT_ENCODING, b"gzip".to_vec())),
        byte => Some((header::HeaderName::from_static("traceparent"), noise(byte.into(), 55))),
    };
    if let Some((name, Ok(value))) = text.map(|(name, value)| (name, HeaderValue::from_bytes(&value))) {
        request.headers_mut().insert(name, value);
    }
    let is_plain = other == method && is_path && head < 2 && end == 0;
    Some(Asked { request, method: other, path, is_plain })
}

/// What a router answers.
pub async fn ask(router: Router, request: Request<Body>) -> Page {
    let work = async {
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        Page { status, body: to_bytes(response.into_body(), MOST).await.unwrap() }
    };
    tokio::time::timeout(PATIENCE, work).await.expect("an answer in time")
}
