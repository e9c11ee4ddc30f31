use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use meridian_proto::error::{ApiError, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Wire;
use tonic_health::pb::health_client::HealthClient;

use super::*;

async fn start(settings: Settings) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let server = Server::new(settings).unwrap();
    let running = tokio::spawn(server.serve(listener, async {
        let _ = stopped.await;
    }));
    (address, stop, running)
}

async fn channel(address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await
}

async fn connect(address: SocketAddr) -> HealthClient<Channel> {
    HealthClient::new(channel(address).await.unwrap())
}

fn whole() -> HealthCheckRequest {
    HealthCheckRequest { service: String::new() }
}

#[tokio::test]
async fn health_turns_before_the_server_stops() {
    let (address, stop, running) = start(Settings::default()).await;
    let mut client = connect(address).await;
    assert_eq!(client.check(whole()).await.unwrap().into_inner().status(), Wire::Serving);

    let mut seen = client.watch(whole()).await.unwrap().into_inner();
    assert_eq!(seen.message().await.unwrap().unwrap().status(), Wire::Serving);
    stop.send(()).unwrap();
    assert_eq!(seen.message().await.unwrap().unwrap().status(), Wire::NotServing);
    // The watcher is let go, so that it does not hold the stop back.
    assert!(seen.message().await.unwrap().is_none());
    running.await.unwrap().unwrap();
    assert!(channel(address).await.is_err());
}

/// A connection from an address of the loopback network that speaks no HTTP/2 by itself.
async fn raw(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Reads to the end; a reset is one too.
async fn ended(mut stream: TcpStream) {
    let mut buffer = vec![0; 4096];
    while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
}

/// An HTTP/2 connection of which every frame can be chosen.
async fn speak(to: SocketAddr, window: u32) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(to).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (sender, connection) =
        builder.initial_window_size(window).handshake::<_, Bytes>(stream).await.unwrap();
    (sender.ready().await.unwrap(), tokio::spawn(connection))
}

fn post(path: &str) -> http::request::Builder {
    http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

const CHECK: &str = "/grpc.health.v1.Health/Check";
const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// An empty message, as gRPC frames it.
const EMPTY: Bytes = Bytes::from_static(&[0; 5]);

/// The status that an answer has, in its headers or its trailers.
async fn code(answer: h2::client::ResponseFuture) -> Code {
    let answer = answer.await.unwrap();
    let of = |headers: &http::HeaderMap| headers.get("grpc-status").map(|s| Code::from_bytes(s.as_bytes()));
    if let Some(code) = of(answer.headers()) {
        return code;
    }
    let mut body = answer.into_body();
    while let Some(bytes) = body.data().await {
        let length = bytes.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    of(&body.trailers().await.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn an_address_has_its_share_of_connections() {
    let settings = Settings { max_connections_per_address: 2, ..Settings::default() };
    let (address, stop, running) = start(settings).await;
    let own = [raw([127, 0, 0, 2], address).await, raw([127, 0, 0, 2], address).await];
    ended(raw([127, 0, 0, 2], address).await).await;
    let mut other = connect(address).await;
    other.check(whole()).await.unwrap();
    drop(own);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn strangers_that_do_nothing_keep_nobody_out() {
    let settings = Settings { max_connections: 4, ..Settings::default() };
    let (address, stop, running) = start(settings).await;
    let mut idle = Vec::new();
    for last in [2, 2, 3, 3] {
        idle.push(raw([127, 0, 0, last], address).await);
    }
    let mut client = connect(address).await;
    client.check(whole()).await.unwrap();
    // One of them had to go for it.
    let (first, ..) = futures::future::select_all(idle.into_iter().map(|s| Box::pin(ended(s)))).await;
    assert_eq!(first, ());
    client.check(whole()).await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_does_not_begin_to_speak_is_cut_off() {
    let settings = Settings { greeting_ms: 50, ..Settings::default() };
    let (address, _stop, _running) = start(settings).await;
    ended(raw([127, 0, 0, 1], address).await).await;
    let mut half = raw([127, 0, 0, 1], address).await;
    half.write_all(b"PRI * HTTP/2.0").await.unwrap();
    ended(half).await;
    connect(address).await.check(whole()).await.unwrap();
}

#[tokio::test]
async fn who_pings_too_often_is_cut_off() {
    let settings = Settings { control_frames_per_second: 50, ..Settings::default() };
    let (address, _stop, _running) = start(settings).await;
    let mut stream = raw([127, 0, 0, 2], address).await;
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat();
    bytes.extend(ping.repeat(1000));
    let _ = stream.write_all(&bytes).await;
    ended(stream).await;
    connect(address).await.check(whole()).await.unwrap();
}

#[tokio::test]
async fn a_call_whose_body_does_not_come_is_refused() {
    let settings = Settings { stall_ms: 50, ..Settings::default() };
    let (address, _stop, _running) = start(settings).await;
    let (mut sender, _connection) = speak(address, 65_535).await;
    let (answer, mut body) = sender.send_request(post(CHECK).body(()).unwrap(), false).unwrap();
    body.send_data(Bytes::from_static(&[0, 0]), false).unwrap();
    assert_eq!(code(answer).await, Code::Unavailable);
    connect(address).await.check(whole()).await.unwrap();
}

#[tokio::test]
async fn who_takes_no_answer_is_cut_off() {
    let settings = Settings { stall_ms: 50, ..Settings::default() };
    let (address, _stop, _running) = start(settings).await;
    // It reads the connection, and gives the stream no window.
    let (mut sender, connection) = speak(address, 0).await;
    let (answer, mut body) = sender.send_request(post(CHECK).body(()).unwrap(), false).unwrap();
    body.send_data(EMPTY, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let _ = connection.await.unwrap();
    connect(address).await.check(whole()).await.unwrap();
}

#[tokio::test]
async fn compressed_messages_and_others_that_are_none_are_refused() {
    let (address, _stop, _running) = start(Settings::default()).await;
    let (mut sender, _connection) = speak(address, 65_535).await;
    for (encoding, message, expected) in [
        ("gzip", &[0, 0, 0, 0, 0][..], Code::Unimplemented),
        ("identity", &[1, 0, 0, 0, 0], Code::Internal),
        ("identity", &[0, 0xff, 0xff, 0xff, 0xff], Code::OutOfRange),
        ("identity", &[7, 0, 0, 0, 0], Code::Internal),
        ("identity", &[0, 0, 0, 0, 0, 9], Code::Internal),
        ("identity", &[0, 0, 0, 0, 0], Code::Ok),
    ] {
        let request = post(CHECK).header("grpc-encoding", encoding).body(()).unwrap();
        let (answer, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(Bytes::copy_from_slice(message), true).unwrap();
        assert_eq!(code(answer).await, expected, "{encoding} {message:?}");
    }
}

#[tokio::test]
async fn idle_connections_close_and_clients_open_others() {
    let settings = Settings { idle_ms: 50, ..Settings::default() };
    let (address, stop, running) = start(settings).await;
    let (_sender, connection) = speak(address, 65_535).await;
    connection.await.unwrap().unwrap();
    let mut client = connect(address).await;
    for pause in [0, 200, 200] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        client.check(whole()).await.unwrap();
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn old_connections_end_with_their_calls_and_clients_open_others() {
    let settings = Settings { max_connection_age_ms: 20, ..Settings::default() };
    let (address, stop, running) = start(settings).await;
    let mut client = connect(address).await;
    // A call that is in work when its connection has become old goes on on it.
    let mut watched = client.clone().watch(whole()).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), Wire::Serving);
    for _ in 0..200 {
        // A call that is made at the very moment is given back without having been sent.
        if let Err(status) = client.check(whole()).await {
            assert_eq!(status.code(), Code::Cancelled);
            client.check(whole()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.send(()).unwrap();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), Wire::NotServing);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    // Twenty are saved up, and the connection costs ten.
    let settings = Settings { requests_per_second: 10, ..Settings::default() };
    let (address, _stop, _running) = start(settings).await;
    let mut client = connect(address).await;
    let mut refused = None;
    for _ in 0..1_000 {
        if let Err(status) = client.check(whole()).await {
            refused = Some(ApiError::from_status(&status));
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.reason, Reason::TooManyRequests);
    assert!(refused.retry_after.unwrap() > Duration::ZERO);
}

#[tokio::test]
async fn health_is_told_when_everything_else_is_refused() {
    let settings = Settings { max_requests: 1, ..Settings::default() };
    let (address, _stop, _running) = start(settings).await;
    let (mut sender, _connection) = speak(address, 65_535).await;
    let (_held, _open) = sender.send_request(post(REFLECT).body(()).unwrap(), false).unwrap();
    let (answer, _body) = sender.send_request(post(REFLECT).body(()).unwrap(), false).unwrap();
    assert_eq!(code(answer).await, Code::ResourceExhausted);
    connect(address).await.check(whole()).await.unwrap();
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() {
    let (address, stop, running) = start(Settings::default()).await;
    let mut client = connect(address).await;
    let with_header = |bytes: usize| {
        let mut request = tonic::Request::new(whole());
        request.metadata_mut().insert("x", "v".repeat(bytes).parse().unwrap());
        request
    };
    client.check(with_header(8 << 10)).await.unwrap();
    assert!(client.check(with_header(17 << 10)).await.is_err());
    client.check(whole()).await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let (address, stop, running) = start(Settings::default()).await;
    let channel = channel(address).await.unwrap();
    let mut client = meridian_proto::wire::gateway_client::GatewayClient::new(channel);
    let answer = client.get_committee(meridian_proto::wire::GetCommitteeRequest {}).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
