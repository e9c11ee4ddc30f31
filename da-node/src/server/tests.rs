use std::net::SocketAddr;

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

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let settings = Settings { max_connections: 1, ..Settings::default() };
    let (address, stop, running) = start(settings).await;
    let mut first = connect(address).await;
    first.check(whole()).await.unwrap();
    let mut second = connect(address).await;
    let waiting = tokio::spawn(async move { second.check(whole()).await });
    first.check(whole()).await.unwrap();
    assert!(!waiting.is_finished());
    drop(first);
    waiting.await.unwrap().unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
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
