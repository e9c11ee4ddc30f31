//! HTTP to one endpoint: a deadline for each call, a bound on each answer, and no address in any error.

use std::fmt;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::http::reqwest::{self, Client, Url, header, redirect};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut, TransportResult};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;
use tower::Service;

/// Most bytes of an answer: more than 10,000 logs of anchors, which is what chains cap at.
pub const MAX_ANSWER: usize = 32 << 20;

/// Address of a JSON-RPC endpoint. It may carry a key, so that only its host is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RpcUrl(Url);

/// A text is no address of an endpoint. It does not repeat the text, which may be half a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("address of a json-rpc endpoint is not of the form http://HOST:PORT/PATH or https://HOST/PATH")]
pub struct RpcUrlError;

impl FromStr for RpcUrl {
    type Err = RpcUrlError;

    fn from_str(text: &str) -> Result<Self, RpcUrlError> {
        let url = Url::parse(text).map_err(|_| RpcUrlError)?;
        let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
        if usable { Ok(Self(url)) } else { Err(RpcUrlError) }
    }
}

impl fmt::Display for RpcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for RpcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RpcUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for RpcUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// HTTP to one endpoint.
#[derive(Clone)]
pub(super) struct Http {
    client: Client,
    url: Url,
}

impl Http {
    /// HTTP with a deadline for each call, connecting and reading included.
    pub(super) fn new(url: &RpcUrl, deadline: Duration) -> Result<Self, String> {
        let client = Client::builder()
            .timeout(deadline)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| error.without_url().to_string())?;
        Ok(Self { client, url: url.0.clone() })
    }

    async fn send(self, packet: RequestPacket) -> TransportResult<ResponsePacket> {
        let body = serde_json::to_vec(&packet).map_err(TransportError::ser_err)?;
        let sent = self.client.post(self.url).header(header::CONTENT_TYPE, "application/json").body(body);
        let mut response = sent.send().await.map_err(silent)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(silent)? {
            if answer.len() + chunk.len() > MAX_ANSWER {
                let problem = format!("the answer is longer than {MAX_ANSWER} bytes");
                return Err(TransportErrorKind::custom_str(&problem));
            }
            answer.extend_from_slice(&chunk);
        }
        match serde_json::from_slice::<ResponsePacket>(&answer) {
            Ok(packet) if status.is_success() || packet.is_error() => Ok(packet),
            _ if !status.is_success() => Err(TransportErrorKind::http_error(status.as_u16(), String::new())),
            // The text may be anything, at any length.
            Err(err) => Err(TransportError::deser_err(err, String::new())),
            Ok(_) => Err(TransportErrorKind::http_error(status.as_u16(), String::new())),
        }
    }
}

/// An error of the connection, without the address, and with its causes in words.
fn silent(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    TransportErrorKind::custom_str(&text)
}

impl Service<RequestPacket> for Http {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().send(packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_of_an_address_is_shown() {
        for (text, shown) in [
            ("http://127.0.0.1:8545", "127.0.0.1:8545"),
            ("https://user:hunter2@rpc.example/v3/hunter2?key=hunter2", "rpc.example"),
            ("https://rpc.example:8443/hunter2", "rpc.example:8443"),
            ("http://[::1]:1/", "[::1]:1"),
        ] {
            let url: RpcUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
        }
        for text in ["", "hunter2", "ws://hunter2:1", "http://", "file:///hunter2", "https://:hunter2@"] {
            let error = text.parse::<RpcUrl>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
