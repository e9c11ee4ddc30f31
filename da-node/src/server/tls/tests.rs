//! Servers and clients in this process, with certificates that are right and wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use meridian_client::rpc::Channels;
use meridian_client::submit::unix_now;
use meridian_client::tls::{IdentityFiles, Pin, TrustSettings};
use meridian_proto::error::{ApiError, Class, Reason};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::host::Server as Settings;
use crate::devnet::authority::{Authority, Wanted, kept_key, replace};
use crate::server::Server;

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A folder with certificates.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The authority of that name, whose certificate is in `NAME.pem`.
    fn authority(&self, name: &str) -> Authority {
        let key = kept_key(&self.path(&format!("{name}-key.pem"))).unwrap().key;
        let authority = Authority::new(name, key, now(), 10).unwrap();
        replace(&self.path(&format!("{name}.pem")), &authority.pem().unwrap()).unwrap();
        authority
    }

    fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.path(&format!("{name}.pem")), self.path(&format!("{name}-key.pem")))
    }

    /// A certificate in `NAME.pem` and its key in `NAME-key.pem`.
    fn issue(&self, authority: &str, name: &str, names: &[&str], from: i64, days: i64) {
        let (certificate, key) = self.files(name);
        let key = kept_key(&key).unwrap().key;
        let wanted = Wanted { name, names, now: from, days };
        replace(&certificate, &self.authority(authority).issue(&wanted, &key).unwrap()).unwrap();
    }

    /// Settings of a host that has the certificate of that name.
    fn settings(&self, name: &str) -> Tls {
        let (certificate, key) = self.files(name);
        Tls { certificate, key, ..Tls::default() }
    }

    fn trust(&self, authority: &str) -> Trust {
        trust_in(TrustSettings {
            ca: Some(self.path(&format!("{authority}.pem"))),
            ..TrustSettings::default()
        })
    }

    fn pin(&self, name: &str) -> Pin {
        Pin::of(&CertificateDer::from_pem_file(self.files(name).0).unwrap()).unwrap()
    }
}

fn trust_in(settings: TrustSettings) -> Trust {
    Trust::new(settings).unwrap()
}

fn now() -> i64 {
    i64::try_from(unix_now()).unwrap()
}

fn local() -> Listen {
    Listen { grpc: ([127, 0, 0, 1], 0).into(), ..Listen::default() }
}

/// A server without services of its own.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<()>>,
}

impl Running {
    async fn start(tls: &Tls) -> Self {
        Self::start_with(Settings::default(), tls).await
    }

    async fn start_with(settings: Settings, tls: &Tls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptors = Acceptors::new(&local(), tls).unwrap();
        let server = Server::new(settings).unwrap().secured(acceptors.grpc);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(listener, async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), task }
    }

    fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// What a call comes to. There is no such service, so that nobody who is there knows it.
async fn call(channels: &Channels, endpoint: &str) -> ApiError {
    channels.replica(endpoint).unwrap().status().await.unwrap_err()
}

async fn assert_reached(trust: &Trust, endpoint: &str) {
    let error = call(&Channels::new().trusting(trust.clone()), endpoint).await;
    assert_eq!(error.reason, Reason::FormatUnsupported, "{error}");
}

/// The message of a connection that does not come about.
async fn refused(trust: &Trust, endpoint: &str) -> String {
    let error = call(&Channels::new().trusting(trust.clone()), endpoint).await;
    assert_eq!((error.reason, error.class()), (Reason::Unreachable, Class::Unavailable), "{error}");
    assert!(error.is_retryable());
    error.message
}

/// Whether somebody was told why there is no connection. A call that comes after its end hears only that it broke.
fn tells(said: &str, why: &str) -> bool {
    said.contains(why) || said.contains("broken pipe")
}

#[tokio::test]
async fn a_server_must_be_who_is_called() {
    let folder = Folder::new();
    folder.issue("ca", "right", &NAMES, now(), 10);
    folder.authority("other");
    let server = Running::start(&folder.settings("right")).await;
    let (at, port) = (server.endpoint(), server.address.port());
    assert_reached(&folder.trust("ca"), &at).await;
    assert_reached(&folder.trust("ca"), &format!("https://localhost:{port}")).await;
    let said = refused(&folder.trust("other"), &at).await;
    assert!(said.contains("nobody who is trusted has issued") && said.contains("--ca"), "{said}");

    for (name, names, from, days, expected) in [
        ("elsewhere", &["elsewhere.example"][..], now(), 10, "is for another name"),
        ("expired", &NAMES, now() - 20 * 86_400, 10, "has expired"),
        ("early", &NAMES, now() + 10 * 86_400, 10, "is not valid yet"),
    ] {
        folder.issue("ca", name, names, from, days);
        let server = Running::start(&folder.settings(name)).await;
        let said = refused(&folder.trust("ca"), &server.endpoint()).await;
        assert!(said.contains(expected), "{name}: {said}");
        // Nothing but the key counts when it is pinned.
        let pins = vec![folder.pin("right"), folder.pin(name)];
        assert_reached(&trust_in(TrustSettings { pins, ..TrustSettings::default() }), &server.endpoint())
            .await;
        server.stop().await;
    }
    let pins = vec![folder.pin("expired")];
    let ca = Some(folder.path("ca.pem"));
    let said = refused(&trust_in(TrustSettings { pins, ca, ..TrustSettings::default() }), &at).await;
    assert!(said.contains(&folder.pin("right").to_string()) && said.contains("not pinned"), "{said}");
    server.stop().await;
}

#[tokio::test]
async fn who_vouches_for_itself_is_pinned_or_refused() {
    let folder = Folder::new();
    folder.authority("ca");
    folder.authority("self");
    let server = Running::start(&folder.settings("self")).await;
    let said = refused(&folder.trust("ca"), &server.endpoint()).await;
    assert!(said.contains("pin its key"), "{said}");
    let pins = vec![folder.pin("self")];
    assert_reached(&trust_in(TrustSettings { pins, ..TrustSettings::default() }), &server.endpoint()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_route_leads_to_who_is_called() {
    let folder = Folder::new();
    folder.issue("ca", "right", &["gateway.example"], now(), 10);
    let server = Running::start(&folder.settings("right")).await;
    let (called, other) = ("https://gateway.example:1".to_owned(), "https://other.example:1".to_owned());
    let routes = [&called, &other].map(|endpoint| (endpoint.clone(), server.endpoint()));
    let channels = Channels::routed(routes.into()).unwrap().trusting(folder.trust("ca"));
    assert_eq!(call(&channels, &called).await.reason, Reason::FormatUnsupported);
    let error = call(&channels, &other).await;
    assert!(error.message.contains("other.example"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn plain_text_and_tls_know_each_other() {
    let folder = Folder::new();
    folder.issue("ca", "right", &NAMES, now(), 10);
    let (secured, plain) =
        (Running::start(&folder.settings("right")).await, Running::start(&Tls::default()).await);
    let trust = folder.trust("ca");
    let said = refused(&trust, &format!("http://{}", secured.address)).await;
    assert!(tells(&said, "speaks tls: name it with https://"), "{said}");
    let said = refused(&trust, &plain.endpoint()).await;
    assert!(tells(&said, "speaks no tls: name it with http://"), "{said}");
    assert_reached(&trust, &format!("http://{}", plain.address)).await;
    assert_reached(&trust, &secured.endpoint()).await;
    secured.stop().await;
    plain.stop().await;
}

#[tokio::test]
async fn callers_say_who_they_are_where_that_is_asked_for() {
    let folder = Folder::new();
    folder.issue("ca", "right", &NAMES, now(), 10);
    folder.issue("clients", "client", &["client"], now(), 10);
    folder.issue("strangers", "stranger", &["client"], now(), 10);
    folder.issue("clients", "late", &["client"], now() - 20 * 86_400, 10);
    let tls = Tls { client_ca: folder.path("clients.pem"), ..folder.settings("right") };
    let server = Running::start(&tls).await;
    let as_client = |name: &str| {
        let (client_certificate, client_key) = folder.files(name);
        trust_in(Tls { ca: folder.path("ca.pem"), client_certificate, client_key, ..Tls::default() }.trust())
    };
    assert_reached(&as_client("client"), &server.endpoint()).await;
    let said = refused(&folder.trust("ca"), &server.endpoint()).await;
    assert!(tells(&said, "asks who calls"), "{said}");
    for name in ["stranger", "late"] {
        let said = refused(&as_client(name), &server.endpoint()).await;
        assert!(tells(&said, "refuses the client certificate"), "{name}: {said}");
    }
    // Resumed sessions are those of somebody who was let in.
    let channels = Channels::new().trusting(as_client("client"));
    for _ in 0..3 {
        assert_eq!(call(&channels, &server.endpoint()).await.reason, Reason::FormatUnsupported);
    }
    server.stop().await;
}

/// A handshake of another client, with these versions and protocols.
async fn other_client(
    folder: &Folder,
    address: SocketAddr,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> std::io::Result<(Option<ProtocolVersion>, Option<Vec<u8>>)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    // What the server thinks of it comes after the client's part is done: settings of HTTP/2, or an alert.
    stream.read_u8().await?;
    let connection = stream.get_ref().1;
    Ok((connection.protocol_version(), connection.alpn_protocol().map(<[u8]>::to_vec)))
}

#[tokio::test]
async fn only_tls_1_3_and_http_2_are_spoken() {
    let folder = Folder::new();
    folder.issue("ca", "right", &NAMES, now(), 10);
    let server = Running::start(&folder.settings("right")).await;
    let both: &[_] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let fine = other_client(&folder, server.address, both, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(fine, (Some(ProtocolVersion::TLSv1_3), Some(b"h2".to_vec())));
    assert!(other_client(&folder, server.address, &both[..1], &["h2"]).await.is_ok());
    assert!(other_client(&folder, server.address, &both[1..], &["h2"]).await.is_err());
    assert!(other_client(&folder, server.address, both, &["http/1.1"]).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn handshakes_that_do_not_end_hold_up_nobody() {
    crate::run::raise_open_files();
    let folder = Folder::new();
    folder.issue("ca", "right", &NAMES, now(), 10);
    // All of them come from one address.
    let settings =
        Settings { max_connections_per_address: 1024, requests_per_second: 1_000_000, ..Settings::default() };
    let server = Running::start_with(settings, &folder.settings("right")).await;
    let trust = folder.trust("ca");
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    for _ in 0..3 {
        assert_reached(&trust, &server.endpoint()).await;
    }
    drop(silent);
    server.stop().await;
}

/// A server's identity that tells what happens.
fn observed(files: IdentityFiles) -> (Identity, Arc<Mutex<Vec<Event>>>) {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let told = Arc::clone(&events);
    let identity = Identity::new(files, Arc::new(move |event| told.lock().unwrap().push(event))).unwrap();
    (identity, events)
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_its_time() {
    let folder = Folder::new();
    folder.issue("ca", "right", &NAMES, now(), 10);
    let (identity, events) = observed(folder.settings("right").identity().unwrap());
    let acceptor = identity.acceptor(Purpose::Grpc);
    let (_silent, stream) = tokio::io::duplex(64);
    assert!(acceptor.handshake(stream).await.is_none());
    let (gone, stream) = tokio::io::duplex(64);
    drop(gone);
    assert!(acceptor.handshake(stream).await.is_none());
    let (mut talking, stream) = tokio::io::duplex(4096);
    tokio::io::AsyncWriteExt::write_all(&mut talking, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(acceptor.handshake(stream).await.is_none());
    // Nobody may call a service that has no callers.
    let (_caller, stream) = tokio::io::duplex(64);
    assert!(identity.acceptor(Purpose::Admin).handshake(stream).await.is_none());
    let seen = events.lock().unwrap();
    let ends: Vec<_> = seen.iter().filter(|event| matches!(event, Event::Handshake(_))).copied().collect();
    assert_eq!(ends, ["timeout", "closed", "no_tls"].map(Event::Handshake));
}

/// Waits for an event; the files are looked at every other second.
async fn until(events: &Mutex<Vec<Event>>, wanted: Event) {
    let seen = async {
        while !events.lock().unwrap().contains(&wanted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_used_and_a_broken_one_is_not() {
    let folder = Folder::new();
    for name in ["first", "second"] {
        folder.issue("ca", name, &NAMES, now(), 10);
    }
    folder.issue("ca", "expired", &NAMES, now() - 20 * 86_400, 10);
    let put = |name: &str| {
        let ((certificate, key), (used, used_key)) = (folder.files(name), folder.files("used"));
        fs::copy(key, used_key).unwrap();
        fs::copy(certificate, used).unwrap();
    };
    put("first");
    let (identity, events) = observed(folder.settings("used").identity().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let server = Server::new(Settings::default()).unwrap().secured(Some(identity.acceptor(Purpose::Grpc)));
    let running = tokio::spawn(server.serve(listener, std::future::pending()));
    let pinned = |name| trust_in(TrustSettings { pins: vec![folder.pin(name)], ..TrustSettings::default() });
    let open = Channels::new().trusting(pinned("first"));
    assert_eq!(call(&open, &endpoint).await.reason, Reason::FormatUnsupported);

    fs::write(folder.files("used").0, "no certificate").unwrap();
    until(&events, Event::Changed(false)).await;
    assert_reached(&pinned("first"), &endpoint).await;
    events.lock().unwrap().clear();
    put("expired");
    until(&events, Event::Changed(false)).await;
    assert_reached(&pinned("first"), &endpoint).await;

    put("second");
    until(&events, Event::Changed(true)).await;
    assert_reached(&pinned("second"), &endpoint).await;
    assert!(refused(&pinned("first"), &endpoint).await.contains("not pinned"));
    // What is open stays open.
    assert_eq!(call(&open, &endpoint).await.reason, Reason::FormatUnsupported);
    let days = events.lock().unwrap().iter().rev().find_map(|event| match event {
        Event::DaysLeft(days) => Some(*days),
        _ => None,
    });
    assert!(days.is_some_and(|days| days > 9.0 && days < 10.1), "{days:?}");
    running.abort();
}

#[tokio::test]
async fn whom_to_trust_is_read_again() {
    let folder = Folder::new();
    folder.issue("ca", "right", &NAMES, now(), 10);
    folder.authority("other");
    let server = Running::start(&folder.settings("right")).await;
    fs::copy(folder.path("other.pem"), folder.path("used.pem")).unwrap();
    let trust = folder.trust("used");
    refused(&trust, &server.endpoint()).await;
    fs::copy(folder.path("ca.pem"), folder.path("used.pem")).unwrap();
    assert!(!trust.look().unwrap());
    assert!(trust.look().unwrap());
    assert_reached(&trust, &server.endpoint()).await;
    fs::write(folder.path("used.pem"), "").unwrap();
    assert!(!trust.look().unwrap());
    assert!(trust.look().is_err());
    assert_reached(&trust, &server.endpoint()).await;
    server.stop().await;
}

#[test]
fn ports_that_others_reach_have_a_certificate() {
    let (near, far): (SocketAddr, SocketAddr) = (([127, 0, 0, 1], 1).into(), ([10, 0, 0, 1], 1).into());
    let mapped = "[::ffff:127.0.0.1]:1".parse().unwrap();
    let certified = Tls { certificate: "c".into(), key: "k".into(), ..Tls::default() };
    let listen = |grpc, http, insecure, admin: &str| Listen { grpc, http, insecure, admin: admin.to_owned() };
    for (listen, tls, fine) in [
        (listen(near, near, false, ""), &Tls::default(), true),
        (listen(mapped, "[::1]:1".parse().unwrap(), false, ""), &Tls::default(), true),
        (listen(far, near, false, ""), &Tls::default(), false),
        (listen(near, far, false, ""), &Tls::default(), false),
        (listen("[::]:1".parse().unwrap(), near, false, ""), &Tls::default(), false),
        (listen(far, far, true, ""), &Tls::default(), true),
        (listen(far, far, false, ""), &certified, true),
        (listen(near, near, false, "127.0.0.1:2"), &Tls::default(), true),
        (listen(near, near, true, "10.0.0.1:2"), &Tls::default(), false),
        (listen(near, near, true, "10.0.0.1:2"), &certified, false),
        (listen(near, near, false, "10.0.0.1:2"), &Tls { admin_ca: "a".into(), ..certified.clone() }, true),
    ] {
        assert_eq!(check(&listen, tls).is_ok(), fine, "{listen:?} {tls:?}");
    }
    assert!(Listen { admin: "here".into(), ..Listen::default() }.admin().is_err());
}

#[tokio::test]
async fn files_that_are_of_no_use_are_named() {
    let folder = Folder::new();
    folder.issue("ca", "one", &NAMES, now(), 10);
    folder.issue("ca", "two", &NAMES, now(), 10);
    let said = |tls: &Tls| format!("{:#}", Acceptors::new(&local(), tls).err().unwrap());
    let crossed = Tls { key: folder.files("two").1, ..folder.settings("one") };
    assert!(said(&crossed).contains("two-key.pem: not the key of the certificate"), "{}", said(&crossed));
    let missing = Tls { client_ca: folder.path("none.pem"), ..folder.settings("one") };
    assert!(said(&missing).contains("none.pem"), "{}", said(&missing));
    open_to_all(&folder.files("one").1);
    assert!(said(&folder.settings("one")).contains("can be read by others (mode 0644)"));
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}
