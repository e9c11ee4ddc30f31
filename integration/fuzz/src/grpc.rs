//! Calls of a service without a connection: gRPC's frames in any shape, and the answers that there may be.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, header};
use bytes::Bytes;
use futures::{StreamExt, stream};
use meridian_proto::codec::WireCodec;
use meridian_proto::{ApiError, Class, MAX_MESSAGE, Reason};
use prost::{Message, Name};
use tonic::codec::{Codec, Streaming};
use tonic::codegen::{Body as _, Service};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Longest time for an answer to a caller that waits for it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a caller stays that sends nothing more.
const STAY: Duration = Duration::from_millis(20);
/// Bytes before each message: a flag, and its length.
const HEAD: usize = 5;

/// How a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Whole,
    /// The connection breaks.
    Broken,
    /// Nothing more comes, and then the caller goes away.
    Stalled,
}

/// The body of a call.
#[derive(Debug)]
pub struct Sent {
    pub bytes: Vec<u8>,
    /// Bytes of each of HTTP's frames.
    pub piece: usize,
    pub end: End,
}

/// What came of a call.
#[derive(Debug)]
pub enum Outcome {
    Answer(Vec<Bytes>),
    Refused(ApiError),
    /// Refused by the transport, before there was a message.
    Unframed(Status),
    /// Nobody waited for it.
    Gone,
}

impl Outcome {
    /// The answer to what is to be answered; nothing where a refusal is due, and there is one.
    pub fn judged<T>(self, wanted: Option<T>, sent: &Sent) -> Option<(T, Vec<Bytes>)> {
        match (self, wanted) {
            (Self::Answer(answer), Some(wanted)) => Some((wanted, answer)),
            (Self::Answer(_), None) => panic!("a bad call was answered: {sent:?}"),
            (refused, Some(_)) => panic!("a good call: {refused:?}"),
            (_, None) => None,
        }
    }
}

/// The one message of an answer.
pub async fn single<M: Message + Name + Default + 'static>(answer: &[Bytes]) -> M {
    let [message] = answer else { panic!("{} messages instead of one", answer.len()) };
    decode(message).await.expect("a message of the answer's type")
}

/// A call of one message as it should be, and its answer.
pub async fn ask<S, M>(service: S, method: &str, message: &M) -> Result<Vec<Bytes>, ApiError>
where
    S: Service<Request<Body>, Response = Response<tonic::body::Body>, Error = Infallible>,
    M: Message,
{
    let bytes = frame(&message.encode_to_vec());
    match call(service, method, &Sent { bytes, piece: usize::MAX, end: End::Whole }).await {
        Outcome::Answer(answer) => Ok(answer),
        Outcome::Refused(error) => Err(error),
        other => panic!("{method}: {other:?}"),
    }
}

/// A message as gRPC frames it.
pub fn frame(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

impl Sent {
    /// The messages, where there is nothing else.
    pub fn messages(&self) -> Option<Vec<&[u8]>> {
        let (messages, is_all) = self.frames();
        (is_all && self.end == End::Whole).then_some(messages)
    }

    /// The messages up to what is none, and whether that is the end.
    pub fn frames(&self) -> (Vec<&[u8]>, bool) {
        let (mut rest, mut messages) = (&self.bytes[..], Vec::new());
        while let Some((head, behind)) = rest.split_at_checked(HEAD) {
            let length = usize::try_from(u32::from_be_bytes(head[1..].try_into().unwrap())).unwrap();
            match behind.split_at_checked(length) {
                Some((message, behind)) if head[0] == 0 && length <= MAX_MESSAGE => {
                    messages.push(message);
                    rest = behind;
                }
                // A head without a byte of its message is an end like any other to the transport.
                None if head[0] == 0 && length <= MAX_MESSAGE && behind.is_empty() => {
                    return (messages, true);
                }
                _ => break,
            }
        }
        (messages, rest.is_empty())
    }

    /// The messages as what they are to be, where each is one.
    pub async fn read<M: Message + Name + Default + 'static>(&self) -> Option<Vec<M>> {
        let mut read = Vec::new();
        for message in self.messages()? {
            read.push(decode(message).await?);
        }
        Some(read)
    }

    /// The request of a call that takes one: whatever follows has to be a message too.
    pub async fn request<M: Message + Name + Default + 'static>(&self) -> Option<M> {
        self.read().await?.into_iter().next()
    }

    fn body(&self) -> Body {
        let pieces: Vec<_> =
            self.bytes.chunks(self.piece.max(1)).map(Bytes::copy_from_slice).map(Ok).collect();
        let pieces = stream::iter(pieces);
        match self.end {
            End::Whole => Body::from_stream(pieces),
            End::Broken => Body::from_stream(pieces.chain(stream::iter([Err(io::Error::other("broken"))]))),
            End::Stalled => Body::from_stream(pieces.chain(stream::pending::<Result<_, io::Error>>())),
        }
    }
}

/// A message, where the bytes are one of this protocol's.
pub async fn decode<M: Message + Name + Default + 'static>(message: &[u8]) -> Option<M> {
    let body = tonic::body::Body::new(Body::from(frame(message)));
    let decoder = WireCodec::<(), M>::default().decoder();
    Streaming::new_request(decoder, body, None, Some(MAX_MESSAGE)).message().await.ok()?
}

/// Calls a method of a service.
pub async fn call<S>(mut service: S, method: &str, sent: &Sent) -> Outcome
where
    S: Service<Request<Body>, Response = Response<tonic::body::Body>, Error = Infallible>,
{
    let request = Request::post(format!("/meridian.da.v1.{method}"));
    let request = request.header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers");
    let request = request.body(sent.body()).unwrap();
    let work = async {
        std::future::poll_fn(|context| service.poll_ready(context)).await.unwrap();
        read(service.call(request).await.unwrap()).await
    };
    let patience = if sent.end == End::Stalled { STAY } else { PATIENCE };
    let Ok((messages, status)) = tokio::time::timeout(patience, work).await else {
        assert!(sent.end == End::Stalled, "{method}: no answer");
        return Outcome::Gone;
    };
    if status.code() == Code::Ok {
        return Outcome::Answer(messages);
    }
    match classified(&status) {
        Some(error) => Outcome::Refused(error),
        None => {
            // What is no message yet is the transport's to refuse, and so is what a host does not do.
            let is_no_message = sent.messages().is_none_or(|all| all.is_empty());
            assert!(is_no_message || status.code() == Code::Unimplemented, "{method}: {status:?}");
            Outcome::Unframed(status)
        }
    }
}

async fn read(response: Response<tonic::body::Body>) -> (Vec<Bytes>, Status) {
    assert_eq!(response.status(), 200, "gRPC says it in the trailers");
    let status = |headers: &HeaderMap| Status::from_header_map(headers);
    let mut last = status(response.headers());
    let (mut body, mut bytes) = (std::pin::pin!(response.into_body()), Vec::new());
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        match frame.unwrap().into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => last = status(&frame.into_trailers().unwrap()),
        }
    }
    let answer = Sent { bytes, piece: 0, end: End::Whole };
    let messages = answer.messages().expect("whole messages");
    (messages.into_iter().map(Bytes::copy_from_slice).collect(), last.expect("a status"))
}

/// What an error of protocol section 9 says; nothing where it is none. A fault of the node's own is a bug.
fn classified(status: &Status) -> Option<ApiError> {
    let info = status.get_details_error_info()?;
    assert_eq!(info.domain, "meridian", "{status:?}");
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == info.reason);
    let reason = reason.unwrap_or_else(|| panic!("an unknown reason: {status:?}"));
    assert_eq!(reason.class().code(), status.code(), "{status:?}");
    assert!(reason.class() != Class::Internal, "{status:?}");
    let error = ApiError::from_status(status);
    assert!(
        error.class() != Class::Overloaded || error.retry_after.is_some(),
        "no word on when to come back"
    );
    Some(error)
}
