//! Takes the body of a put, within limits of length, time and memory.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::refusal::Refusal;

/// Memory is given out in pieces of so many bytes.
const PIECE: usize = 1 << 10;
/// Longest time for a body, and between two parts of it.
const WHOLE: Duration = Duration::from_secs(60);
const PART: Duration = Duration::from_secs(10);
/// Most bytes of a body over the limit that are read away, and the longest time for that: whoever is still writing does not
/// see an answer on a connection that is cut.
const DRAIN_BYTES: usize = 8 << 20;
const DRAIN: Duration = Duration::from_secs(2);

/// A body that was read, and the memory that it takes.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) input: Bytes,
    pub(super) permit: OwnedSemaphorePermit,
}

/// Memory for bodies.
pub(super) fn budget(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes.div_ceil(PIECE).min(Semaphore::MAX_PERMITS)))
}

fn pieces(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX)
}

/// Reads a body of at most `limit` bytes, as there is memory for it, for which it waits up to a deadline.
pub(super) async fn read(
    headers: &HeaderMap,
    body: axum::body::Body,
    limit: usize,
    memory: &Arc<Semaphore>,
    deadline: Instant,
) -> Result<Body, Refusal> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mut parts = body.into_data_stream();
    if announced.is_some_and(|length| length > limit) {
        drain(&mut parts).await;
        return Err(Refusal::TooLarge(limit));
    }
    let mut permit = reserve(memory, announced.unwrap_or(0), deadline).await?;
    let mut input = BytesMut::with_capacity(announced.unwrap_or(0));
    let whole = Instant::now() + WHOLE;
    loop {
        let next = timeout_at(whole.min(Instant::now() + PART), parts.next());
        let part = match next.await {
            Err(_) => return Err(Refusal::Slow),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(Refusal::Invalid(format!("the body broke off: {error}")));
            }
            Ok(Some(Ok(part))) => part,
        };
        if part.len() > limit - input.len() {
            drain(&mut parts).await;
            return Err(Refusal::TooLarge(limit));
        }
        let needed = pieces(input.len() + part.len());
        let held = u32::try_from(permit.num_permits()).unwrap_or(u32::MAX);
        if needed > held {
            let missing = usize::try_from(needed - held).unwrap_or(usize::MAX).saturating_mul(PIECE);
            permit.merge(reserve(memory, missing, deadline).await?);
        }
        input.extend_from_slice(&part);
    }
    Ok(Body { input: input.freeze(), permit })
}

/// Memory for so many bytes.
async fn reserve(
    memory: &Arc<Semaphore>,
    bytes: usize,
    deadline: Instant,
) -> Result<OwnedSemaphorePermit, Refusal> {
    match timeout_at(deadline, Arc::clone(memory).acquire_many_owned(pieces(bytes))).await {
        Ok(permit) => permit.map_err(|closed| Refusal::Internal(closed.to_string())),
        Err(_) => {
            let message = "the inputs on their way take all memory that they may".to_owned();
            Err(Refusal::Busy(message, Duration::from_secs(1)))
        }
    }
}

/// Reads a body away that nobody wants.
pub(super) async fn discard(body: axum::body::Body) {
    drain(&mut body.into_data_stream()).await;
}

async fn drain(parts: &mut axum::body::BodyDataStream) {
    let deadline = Instant::now() + DRAIN;
    let mut left = DRAIN_BYTES;
    while let Ok(Some(Ok(part))) = timeout_at(deadline, parts.next()).await {
        match left.checked_sub(part.len()) {
            Some(rest) => left = rest,
            None => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body as Source;
    use axum::http::HeaderValue;
    use futures::stream;

    use super::*;

    const LIMIT: usize = 3 * PIECE;

    fn in_time() -> Instant {
        Instant::now() + PART
    }

    fn announcing(length: usize) -> HeaderMap {
        [(CONTENT_LENGTH, HeaderValue::from(length))].into_iter().collect()
    }

    fn chunked(length: usize) -> Source {
        let parts = vec![7u8; length].chunks(100).map(<[u8]>::to_vec).collect::<Vec<_>>();
        Source::from_stream(stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>)))
    }

    #[tokio::test]
    async fn the_limit_holds_for_announced_and_other_bodies() {
        let memory = budget(2 * LIMIT);
        for length in [0, 1, LIMIT - 1, LIMIT] {
            for headers in [announcing(length), HeaderMap::new()] {
                let body = read(&headers, chunked(length), LIMIT, &memory, in_time()).await.unwrap();
                assert_eq!(body.input.len(), length);
                assert_eq!(memory.available_permits() + length.div_ceil(PIECE), 2 * LIMIT / PIECE);
            }
        }
        for headers in [announcing(LIMIT + 1), HeaderMap::new(), announcing(usize::MAX)] {
            let refusal = read(&headers, chunked(LIMIT + 1), LIMIT, &memory, in_time()).await.unwrap_err();
            assert_eq!(refusal, Refusal::TooLarge(LIMIT));
        }
        assert_eq!(memory.available_permits(), 2 * LIMIT / PIECE);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_wait_for_memory_and_stalled_ones_give_it_back() {
        let memory = budget(LIMIT);
        let first = read(&announcing(LIMIT), chunked(LIMIT), LIMIT, &memory, in_time()).await.unwrap();
        let busy = read(&announcing(1), chunked(1), LIMIT, &memory, in_time()).await.unwrap_err();
        assert!(matches!(busy, Refusal::Busy(..)));
        drop(first);
        let stalled = Source::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let slow = read(&HeaderMap::new(), stalled, LIMIT, &memory, in_time()).await.unwrap_err();
        assert_eq!(slow, Refusal::Slow);
        read(&HeaderMap::new(), chunked(LIMIT), LIMIT, &memory, in_time()).await.unwrap();
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_input() {
        let memory = budget(LIMIT);
        let parts = [Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("gone"))];
        let broken = Source::from_stream(stream::iter(parts));
        let refusal = read(&HeaderMap::new(), broken, LIMIT, &memory, in_time()).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Invalid(_)));
    }
}
