//! Settings that gateways and replicas share.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian_client::chain::rpc::{ChainError, Patience, Pool, RpcUrl};
use meridian_client::chain::settled::Settled;
use meridian_client::chain::source::Reading;
use meridian_client::tls::{ClientFiles, IdentityFiles, Pin, TrustSettings};
use meridian_proofs::Address;
use serde::{Deserialize, Serialize};

use super::documented;

documented! {
    /// Who a host is and where it keeps things.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Node {
        /// File with the host's secret key, readable by its owner only: `da-node key new`.
        pub key: PathBuf,
        /// File with the committee. Not read where `chain` says where the committee is.
        pub committee: PathBuf,
        /// File that says where endpoints of the committee are reached from this host, where that is elsewhere, as in
        /// "http://gateway.example:7700" = "http://10.0.0.7:7700". Empty: everybody is reached at the endpoint itself.
        pub routes: PathBuf,
        /// Folder of the host's store. Made when it is missing.
        pub data_dir: PathBuf,
        /// Bytes of the store's disk that stay free. With fewer, new rows and payloads are refused as overloaded; with fewer
        /// than half of it, nothing is written but deletions. Reads go on, and writes as soon as there is room again.
        pub min_free_bytes: u64,
    }
}

impl Default for Node {
    fn default() -> Self {
        Node {
            key: "/etc/meridian/key".into(),
            committee: "/etc/meridian/committee.toml".into(),
            routes: PathBuf::new(),
            data_dir: "/var/lib/meridian".into(),
            min_free_bytes: 256 << 20,
        }
    }
}

documented! {
    /// The chain that a host takes its committee from.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Chain {
        /// JSON-RPC endpoints, in the order of preference, as in ["https://rpc.example"]. Several stand in for each
        /// other, and must agree. Empty: there is no chain, and the committee is that of `node.committee`.
        pub rpc: Vec<RpcUrl>,
        /// Address of the contract.
        pub contract: Address,
        /// Number of the chain. An endpoint of another one is not used.
        pub chain_id: u64,
        /// Which blocks count: "finalized" where the chain has such a thing, or how many blocks must follow.
        pub settled: Settled,
        /// Milliseconds between two looks at the chain.
        pub poll_ms: u64,
        /// Block of the contract's deployment, or an earlier one. 0: it is looked for.
        pub from_block: u64,
    }
}

impl Default for Chain {
    fn default() -> Self {
        Chain {
            rpc: Vec::new(),
            contract: Address::ZERO,
            chain_id: 0,
            settled: Settled::Finalized,
            poll_ms: 4_000,
            from_block: 0,
        }
    }
}

impl Chain {
    /// Whether there is a chain.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.rpc.is_empty()
    }

    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// Names the setting that is missing or out of range.
    pub fn check(&self) -> Result<(), String> {
        if self.poll_ms == 0 {
            return Err("poll_ms must not be 0".to_owned());
        }
        if self.is_on() && self.contract.is_zero() {
            return Err("contract is not set, and rpc is".to_owned());
        }
        if self.is_on() && self.chain_id == 0 {
            return Err("chain_id is not set, and rpc is".to_owned());
        }
        if !self.is_on() && !self.contract.is_zero() {
            return Err("rpc is not set, and contract is".to_owned());
        }
        Ok(())
    }

    /// The endpoints.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn pool(&self) -> Result<Pool, ChainError> {
        Pool::new(&self.rpc, self.chain_id, Patience::default())
    }

    /// What is read of the chain.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let from_block = (self.from_block > 0).then_some(self.from_block);
        Reading { contract: self.contract, settled: self.settled, from_block }
    }

    /// Time between two looks at the chain.
    #[must_use]
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }
}

documented! {
    /// What a replica keeps.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Storage {
        /// Most bytes of rows on disk; beyond them new ones are refused as overloaded. 0 for no limit.
        pub max_bytes: u64,
    }
}

documented! {
    /// Where a host answers.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Listen {
        /// Address and port of gRPC. The committee's endpoint of this host must lead here.
        pub grpc: SocketAddr,
        /// Address and port of /metrics, /healthz and /status over HTTP: with the certificate of `tls` where others than this
        /// machine reach it.
        pub http: SocketAddr,
        /// Address and port of the admin service, as in "127.0.0.1:7781". Empty: there is none. Where others than this machine
        /// reach it, `tls.admin_ca` says who may call.
        pub admin: String,
        /// Whether ports that others than this machine reach may go without TLS: in a private network, or behind a proxy that
        /// speaks it. Otherwise a host without a certificate does not start on such a port.
        pub insecure: bool,
    }
}

impl Default for Listen {
    fn default() -> Self {
        Listen {
            grpc: ([0, 0, 0, 0], 7700).into(),
            http: ([127, 0, 0, 1], 7780).into(),
            admin: String::new(),
            insecure: false,
        }
    }
}

impl Listen {
    /// Where the admin service answers, if there is one.
    ///
    /// # Errors
    /// When it is no address.
    pub fn admin(&self) -> Result<Option<SocketAddr>, String> {
        if self.admin.is_empty() {
            return Ok(None);
        }
        self.admin.parse().map(Some).map_err(|_| format!("admin is no address and port: {:?}", self.admin))
    }
}

documented! {
    /// TLS 1.3, of this host's ports and towards other members.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Tls {
        /// File with this host's chain of certificates in PEM. gRPC is served over TLS then. Read again when it changes.
        pub certificate: PathBuf,
        /// File with the key of the certificate in PEM, readable by its owner only. Read again when it changes.
        pub key: PathBuf,
        /// File with the authorities (PEM) of those who may call gRPC. Empty: everybody may.
        pub client_ca: PathBuf,
        /// File with the authorities (PEM) of those who may call the admin service over TLS.
        pub admin_ca: PathBuf,
        /// File with the authorities (PEM) that other members' certificates come from. Empty: those that the system trusts.
        pub ca: PathBuf,
        /// Keys that other members have, as in ["sha256/BASE64"] of the SubjectPublicKeyInfo. If there are any, nothing else
        /// about a member's certificate counts.
        pub pins: Vec<Pin>,
        /// File with the certificate (PEM) that is shown to members that ask who calls. Empty: none is.
        pub client_certificate: PathBuf,
        /// File with the key of that certificate in PEM, readable by its owner only.
        pub client_key: PathBuf,
    }
}

impl Tls {
    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// Names the setting that is missing.
    pub fn check(&self) -> Result<(), String> {
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        let pairs = [
            ("certificate", &self.certificate, "key", &self.key),
            ("client_certificate", &self.client_certificate, "client_key", &self.client_key),
        ];
        for (name, value, other_name, other) in pairs {
            match (is_set(value), is_set(other)) {
                (true, false) => return Err(format!("{other_name} is not set, and {name} is")),
                (false, true) => return Err(format!("{name} is not set, and {other_name} is")),
                _ => {}
            }
        }
        for (name, value) in [("client_ca", &self.client_ca), ("admin_ca", &self.admin_ca)] {
            if is_set(value) && !is_set(&self.certificate) {
                return Err(format!("certificate is not set, and {name} is"));
            }
        }
        Ok(())
    }

    /// The files with which this host shows who it is, if it does.
    #[must_use]
    pub fn identity(&self) -> Option<IdentityFiles> {
        Some(IdentityFiles {
            certificate: named(&self.certificate)?,
            key: named(&self.key)?,
            client_ca: named(&self.client_ca),
            admin_ca: named(&self.admin_ca),
        })
    }

    /// Whom this host trusts, and who it is to them.
    #[must_use]
    pub fn trust(&self) -> TrustSettings {
        let client = named(&self.client_certificate).zip(named(&self.client_key));
        TrustSettings {
            ca: named(&self.ca),
            pins: self.pins.clone(),
            client: client.map(|(certificate, key)| ClientFiles { certificate, key }),
        }
    }
}

/// A file, if one is named.
fn named(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

documented! {
    /// Limits of the gRPC server.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Server {
        /// Most connections at a time, and no more than half of the files that the process may open. One that comes beyond them
        /// takes the place of another that is idle, or of an address that has more; else it is closed at once.
        pub max_connections: usize,
        /// Most connections at a time of one IPv4 address or IPv6 /64; more are closed at once.
        pub max_connections_per_address: usize,
        /// Most calls at a time; more are refused as overloaded. Health is told beyond them.
        pub max_requests: usize,
        /// Most calls at a time of one address.
        pub max_requests_per_address: usize,
        /// Bytes of answers that one address may leave untaken; beyond them no answer to it goes on, and no call of it is taken.
        pub max_unread_bytes_per_address: usize,
        /// Calls a second of one address, twice as many after a pause; a new connection counts as ten. 0 for no limit.
        pub requests_per_second: u32,
        /// HTTP/2 frames a second of one address that ask for nothing, as pings and resets; who sends more is cut off. 0 for no
        /// limit.
        pub control_frames_per_second: u32,
        /// Most calls at a time on one connection.
        pub max_concurrent_streams: u32,
        /// Bytes of one call that a peer may send ahead of being read.
        pub stream_window_bytes: u32,
        /// Bytes of one connection that a peer may send ahead of being read.
        pub connection_window_bytes: u32,
        /// Most bytes of a request's headers.
        pub max_header_bytes: u32,
        /// Milliseconds that a new connection has until it begins to speak HTTP/2.
        pub greeting_ms: u64,
        /// Milliseconds for which the body of a call may stop, and for which its answer may not be taken.
        pub stall_ms: u64,
        /// Milliseconds after its last call in which a connection is closed.
        pub idle_ms: u64,
        /// Milliseconds after which a connection is asked to close, so that its peer looks up the address anew; a call that is
        /// made at that moment may have to be made again. 0: as long as it is used.
        pub max_connection_age_ms: u64,
        /// Milliseconds for calls that are in work then.
        pub connection_grace_ms: u64,
        /// Milliseconds between turning NOT_SERVING and taking no more requests, at a stop.
        pub lame_duck_ms: u64,
        /// Milliseconds that a stop waits for requests in flight.
        pub drain_ms: u64,
    }
}

impl Default for Server {
    fn default() -> Self {
        Server {
            max_connections: 4096,
            max_connections_per_address: 128,
            max_requests: 4096,
            max_requests_per_address: 1024,
            max_unread_bytes_per_address: 32 << 20,
            requests_per_second: 5_000,
            control_frames_per_second: 2_000,
            max_concurrent_streams: 256,
            stream_window_bytes: 2 << 20,
            connection_window_bytes: 8 << 20,
            max_header_bytes: 16 << 10,
            greeting_ms: 10_000,
            stall_ms: 30_000,
            idle_ms: 300_000,
            max_connection_age_ms: 0,
            connection_grace_ms: 600_000,
            lame_duck_ms: 300,
            drain_ms: 15_000,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

documented! {
    /// The log, on standard error.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Log {
        /// "text" or "json". Both carry the trace id of the request.
        pub format: LogFormat,
        /// Which lines: a level, or levels by module as in "info,meridian_node::replica=debug".
        pub filter: String,
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Text, filter: "info".into() }
    }
}

documented! {
    /// OpenTelemetry.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Telemetry {
        /// Where traces and metrics go over OTLP gRPC, as in "http://127.0.0.1:4317". Empty: nowhere.
        pub otlp_endpoint: String,
        /// Part of the traces that is sent, 0 to 1; the same traces on every host.
        pub sample_ratio: f64,
        /// Milliseconds between two exports of metrics.
        pub metrics_interval_ms: u64,
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry { otlp_endpoint: String::new(), sample_ratio: 1.0, metrics_interval_ms: 10_000 }
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Checks the sections that every host has.
///
/// # Errors
/// Says which setting is wrong.
pub fn check(server: &Server, log: &Log, telemetry: &Telemetry) -> Result<(), String> {
    // RFC 9113 section 6.9.1: a window is at most 2^31 - 1; less than the protocol's own first one gains nothing.
    let window = |name, value: u32| match value {
        65_535..=0x7fff_ffff => Ok(()),
        _ => Err(format!("server.{name} is not between 65535 and 2147483647")),
    };
    window("stream_window_bytes", server.stream_window_bytes)?;
    window("connection_window_bytes", server.connection_window_bytes)?;
    for (name, value) in [
        ("max_connections", wide(server.max_connections)),
        ("max_connections_per_address", wide(server.max_connections_per_address)),
        ("max_requests", wide(server.max_requests)),
        ("max_requests_per_address", wide(server.max_requests_per_address)),
        ("max_unread_bytes_per_address", wide(server.max_unread_bytes_per_address)),
        ("max_concurrent_streams", server.max_concurrent_streams.into()),
        ("max_header_bytes", server.max_header_bytes.into()),
        ("greeting_ms", server.greeting_ms),
        ("stall_ms", server.stall_ms),
        ("idle_ms", server.idle_ms),
    ] {
        if value == 0 {
            return Err(format!("server.{name} is 0"));
        }
    }
    if !(0.0..=1.0).contains(&telemetry.sample_ratio) {
        return Err("telemetry.sample_ratio is not between 0 and 1".into());
    }
    if telemetry.metrics_interval_ms == 0 {
        return Err("telemetry.metrics_interval_ms is 0".into());
    }
    tracing_subscriber::EnvFilter::try_new(&log.filter).map_err(|e| format!("log.filter: {e}"))?;
    Ok(())
}
