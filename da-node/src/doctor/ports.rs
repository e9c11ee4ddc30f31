//! The host's ports: free, taken by this very host, or by somebody else.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use meridian_client::rpc::Channels;
use meridian_client::tls::{self, Trust};
use meridian_proofs::Address;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Finding, Subject, peers};
use crate::store::Role;

/// Longest wait for whoever has a port.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Longest page that is looked at.
const MAX_PAGE: usize = 1 << 20;

/// Who has a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// It is free.
    Nobody,
    /// The host with this key.
    Ours,
    /// A host that has not begun to serve.
    Starting,
    /// A host with another key.
    Other(Address),
    /// Something that is no such host.
    Foreign,
    /// It is free, and this machine or user may not listen there.
    Refused(String),
}

/// Who has the port of gRPC.
pub(super) async fn grpc(subject: &Subject, ours: Option<&Trust>, own: Option<Address>) -> Holder {
    let address = subject.listen.grpc;
    if let Some(holder) = vacant(address).await {
        return holder;
    }
    let (scheme, channels) = match ours {
        Some(ours) => ("https", Channels::new().trusting(ours.clone())),
        None => ("http", Channels::new()),
    };
    let endpoint = format!("{scheme}://{}", reached_at(address));
    let other = match subject.role {
        Role::Gateway => Role::Replica,
        Role::Replica => Role::Gateway,
    };
    for role in [subject.role, other] {
        if let Ok(answer) = peers::status(role, &channels, &endpoint).await {
            return whose(answer.address, own);
        }
    }
    Holder::Foreign
}

/// Who has the port of the HTTP pages.
pub(super) async fn http(address: SocketAddr, ours: Option<&Trust>, own: Option<Address>) -> Holder {
    if let Some(holder) = vacant(address).await {
        return holder;
    }
    // Pages that only this machine reaches come without TLS.
    let ours = ours.filter(|_| !address.ip().to_canonical().is_loopback());
    let page = tokio::time::timeout(ANSWER_WITHIN, page(reached_at(address), ours)).await;
    let Some((status, page)) = page.ok().flatten() else { return Holder::Foreign };
    match page["address"].as_str().and_then(|address| address.parse().ok()) {
        Some(address) => whose(address, own),
        None if status == StatusCode::SERVICE_UNAVAILABLE && page["phase"] == "starting" => Holder::Starting,
        None => Holder::Foreign,
    }
}

fn whose(address: Address, own: Option<Address>) -> Holder {
    if Some(address) == own { Holder::Ours } else { Holder::Other(address) }
}

/// Asks for `/status`.
async fn page(address: SocketAddr, ours: Option<&Trust>) -> Option<(StatusCode, Value)> {
    match ours {
        Some(ours) => ask(tls::pages(address, ours).await.ok()?, address).await,
        None => ask(TcpStream::connect(address).await.ok()?, address).await,
    }
}

async fn ask<S>(stream: S, address: SocketAddr) -> Option<(StatusCode, Value)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let talk = async {
        let request = Request::get("/status").header("host", address.to_string()).body(Body::empty()).ok()?;
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = axum::body::to_bytes(Body::new(body), MAX_PAGE).await.ok()?;
        Some((head.status, serde_json::from_slice(&body).ok()?))
    };
    tokio::pin!(talk, connection);
    tokio::select! {
        page = &mut talk => page,
        // The other side may close after its answer, before all of it is read.
        _ = &mut connection => talk.await,
    }
}

/// Who has the port, where nobody answers.
async fn vacant(address: SocketAddr) -> Option<Holder> {
    // Asked before it is tried: a host that starts this moment may want the port.
    let connected = tokio::time::timeout(ANSWER_WITHIN, TcpStream::connect(reached_at(address))).await;
    if matches!(connected, Ok(Ok(_))) {
        return None;
    }
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => Some(Holder::Nobody),
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        Err(error) => Some(Holder::Refused(error.to_string())),
    }
}

/// Where a host that listens there is reached from this machine.
fn reached_at(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        }
    }
    address
}

/// What that means.
pub(super) fn judge(check: &'static str, setting: &str, address: SocketAddr, holder: &Holder) -> Finding {
    let elsewhere = format!("stop the other program, or give this host another port ({setting})");
    match holder {
        Holder::Nobody => Finding::ok(check, format!("{address} is free: this host does not run")),
        Holder::Ours => Finding::ok(check, format!("{address} is answered by this host")),
        Holder::Starting => {
            let advice =
                "it waits for the chain, or for an epoch in which it is a member: its log says which";
            Finding::warning(check, format!("{address} is answered by a host that is starting"), advice)
        }
        Holder::Other(other) => {
            Finding::problem(check, format!("{address} is answered by another host, {other}"), &elsewhere)
        }
        Holder::Foreign => {
            Finding::problem(check, format!("{address} is taken by another program"), &elsewhere)
        }
        Holder::Refused(said) => {
            let advice =
                format!("give an address of this machine and a port that its user may have ({setting})");
            Finding::problem(check, format!("cannot listen on {address}: {said}"), &advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn only_free_ports_and_our_own_are_fine() {
        let address: SocketAddr = ([127, 0, 0, 1], 7).into();
        for (holder, verdict) in [
            (Holder::Nobody, Verdict::Ok),
            (Holder::Ours, Verdict::Ok),
            (Holder::Starting, Verdict::Warning),
            (Holder::Other(Address::ZERO), Verdict::Problem),
            (Holder::Foreign, Verdict::Problem),
            (Holder::Refused("not permitted".into()), Verdict::Problem),
        ] {
            let finding = judge("grpc-port", "listen.grpc", address, &holder);
            assert_eq!((finding.verdict, finding.advice.is_some()), (verdict, verdict != Verdict::Ok));
        }
    }

    #[test]
    fn hosts_that_listen_everywhere_are_reached_here() {
        let at = |text: &str| reached_at(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:7700"), "127.0.0.1:7700");
        assert_eq!(at("[::]:7700"), "[::1]:7700");
        assert_eq!(at("10.1.2.3:7700"), "10.1.2.3:7700");
    }

    #[tokio::test]
    async fn whoever_has_the_http_port_is_told_apart() {
        use std::sync::{Arc, OnceLock};

        use tokio::net::TcpListener;
        use tokio::sync::watch;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let own = Address::from([1; 20]);
        let status = Arc::new(OnceLock::<crate::http::StatusSource>::new());
        let (_serving, seen) = watch::channel(false);
        let pages = crate::http::Pages {
            registry: prometheus::Registry::new(),
            serving: seen,
            status: Arc::clone(&status),
        };
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(crate::http::serve(listener, None, pages, stopped));
        assert_eq!(http(address, None, Some(own)).await, Holder::Starting);
        let page = serde_json::json!({ "address": own.to_string() });
        let page: crate::http::StatusSource = Arc::new(move || {
            let page = page.clone();
            Box::pin(async move { page })
        });
        assert!(status.set(page).is_ok());
        assert_eq!(http(address, None, Some(own)).await, Holder::Ours);
        assert_eq!(http(address, None, None).await, Holder::Other(own));
        stop.send_replace(true);
        server.await.unwrap().unwrap();
        assert_eq!(http(address, None, Some(own)).await, Holder::Nobody);

        // One that takes connections and says nothing of sense.
        let listener = TcpListener::bind(address).await.unwrap();
        let mute = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 hello\r\n").await.unwrap();
            }
        });
        assert_eq!(http(address, None, Some(own)).await, Holder::Foreign);
        mute.abort();
    }
}
