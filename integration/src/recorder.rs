//! Stands in front of members, passes every call on, and keeps what was sent: whoever listens on the way could do so, and
//! send it again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Version};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::TryStreamExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::{Body as _, Service};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};

use crate::network::Name;

/// A call that somebody made.
#[derive(Clone, Debug)]
pub struct Call {
    /// To whom.
    pub to: Name,
    /// As in `meridian.da.v1.Replica/Cosign`.
    pub method: String,
    headers: HeaderMap,
    /// Messages with their lengths, as gRPC frames them.
    body: Vec<u8>,
}

/// Everything that was sent to the members of a network.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Call>>>);

impl Recorder {
    /// The calls so far, in the order in which they began.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The methods that were called.
    #[must_use]
    pub fn methods(&self) -> BTreeSet<String> {
        self.calls().into_iter().map(|call| call.method).collect()
    }

    /// Stands in front of a member until the task is aborted.
    ///
    /// # Errors
    /// When the endpoint is not an address.
    pub fn serve(&self, listener: TcpListener, member: Name, endpoint: String) -> Result<JoinHandle<()>> {
        let channel = Endpoint::from_shared(endpoint)?.tcp_nodelay(true).connect_lazy();
        let routes = Routes::from(Router::new().fallback(pass).with_state(Tap {
            recorder: self.clone(),
            member,
            channel,
        }));
        Ok(tokio::spawn(async move {
            let server = Server::builder().tcp_nodelay(true).add_routes(routes);
            if let Err(error) = server.serve_with_incoming(TcpListenerStream::new(listener)).await {
                tracing::warn!(%error, "a recorder stopped");
            }
        }))
    }

    fn begin(&self, to: Name, request: &Request) -> usize {
        let call = Call {
            to,
            method: request.uri().path().trim_start_matches('/').to_owned(),
            headers: request.headers().clone(),
            body: Vec::new(),
        };
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(call);
        calls.len() - 1
    }

    fn add(&self, place: usize, bytes: &[u8]) {
        if let Some(call) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(place) {
            call.body.extend_from_slice(bytes);
        }
    }
}

impl Call {
    /// Sends it again over another connection, all at once, and gives what comes of it.
    ///
    /// # Errors
    /// What the member refuses, or that it cannot be reached.
    pub async fn replay(&self, channel: &mut Channel) -> Result<Bytes, Status> {
        let mut request = Request::new(Body::from(self.body.clone()));
        *request.uri_mut() = format!("/{}", self.method).parse().map_err(|_| Status::internal("no path"))?;
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        let response = forward(channel, request).await?;
        if let Some(status) = Status::from_header_map(response.headers()) {
            return if status.code() == Code::Ok { Ok(Bytes::new()) } else { Err(status) };
        }
        let mut body = std::pin::pin!(response.into_body());
        let mut bytes = Vec::new();
        while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
            match frame?.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let status = Status::from_header_map(&trailers);
                    let status = status.unwrap_or_else(|| Status::unknown("an answer without a status"));
                    return if status.code() == Code::Ok { Ok(bytes.into()) } else { Err(status) };
                }
            }
        }
        Err(Status::unknown("an answer without a status"))
    }
}

/// What stands in front of one member.
#[derive(Clone)]
struct Tap {
    recorder: Recorder,
    member: Name,
    channel: Channel,
}

/// Passes a call on, and keeps its messages as they come by.
async fn pass(State(mut tap): State<Tap>, request: Request) -> Response {
    let place = tap.recorder.begin(tap.member, &request);
    let recorder = tap.recorder;
    let request = request.map(|body| {
        Body::from_stream(body.into_data_stream().inspect_ok(move |bytes| recorder.add(place, bytes)))
    });
    match forward(&mut tap.channel, request).await {
        Ok(response) => response.map(Body::new),
        Err(status) => status.into_http::<Body>().into_response(),
    }
}

async fn forward(channel: &mut Channel, request: Request) -> Result<Response<tonic::body::Body>, Status> {
    let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(unavailable)?;
    channel.call(request.map(tonic::body::Body::new)).await.map_err(unavailable)
}
