//! Pages over HTTP/1.1, and strangers that wear them out.

use std::io::Result;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use meridian_client::guard::pages::{Count, Ended};
use meridian_client::guard::{Cut, Limits, Refusal, pages};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// More than what a connection that is not read holds.
const LONG: usize = 64 << 20;

const SETTINGS: pages::Settings = pages::Settings {
    limits: Limits { connections: 8, per_address: 4, stall: Duration::from_secs(60) },
    head: Duration::from_secs(60),
};

type Seen = Arc<Mutex<Vec<Ended>>>;

async fn start(
    settings: pages::Settings,
) -> Result<(SocketAddr, CancellationToken, JoinHandle<Result<()>>, Seen)> {
    let router = Router::new()
        .route("/", get(async || "here\n"))
        .route("/long", get(async || vec![b'a'; LONG]))
        .route(
            "/slow",
            get(async || {
                tokio::time::sleep(Duration::from_millis(200)).await;
                "late\n"
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, stop) = (listener.local_addr()?, CancellationToken::new());
    let seen = Seen::default();
    let counted = Arc::clone(&seen);
    let count: Count =
        Arc::new(move |ended| counted.lock().unwrap_or_else(PoisonError::into_inner).push(ended));
    let served = pages::serve(listener, None, router, settings, count, stop.clone());
    Ok((address, stop, tokio::spawn(served), seen))
}

async fn connect(last: u8, to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, last], 0).into())?;
    socket.connect(to).await
}

/// Reads to the end; a reset is one too.
async fn ended(mut stream: TcpStream) -> usize {
    let (mut read, mut buffer) = (0, vec![0; 64 << 10]);
    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
        read += bytes;
    }
    read
}

async fn page(last: u8, to: SocketAddr, path: &str) -> Result<String> {
    let mut stream = connect(last, to).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test]
async fn an_address_has_its_share_and_strangers_that_do_nothing_give_way() {
    let (address, stop, running, seen) = start(SETTINGS).await.unwrap();
    let mut held = Vec::new();
    for last in [2, 2, 2, 2, 3, 3, 3, 3] {
        held.push(connect(last, address).await.unwrap());
    }
    assert_eq!(ended(connect(2, address).await.unwrap()).await, 0, "a fifth is closed at once");
    assert!(page(4, address, "/").await.unwrap().ends_with("here\n"));
    stop.cancel();
    drop(held);
    running.await.unwrap().unwrap();
    assert_eq!(*seen.lock().unwrap(), [Ended::Refused(Refusal::Address), Ended::Cut(Cut::Displaced)]);
}

#[tokio::test]
async fn heads_that_do_not_end_are_cut_off() {
    let (address, ..) = start(pages::Settings { head: Duration::from_millis(50), ..SETTINGS }).await.unwrap();
    for begin in ["", "GET / HTTP/1.1\r\nx: "] {
        let mut stream = connect(2, address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        ended(stream).await;
    }
    let mut long = connect(2, address).await.unwrap();
    let _ = long.write_all(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "v".repeat(20 << 10)).as_bytes()).await;
    let mut answer = vec![0; 12];
    if long.read_exact(&mut answer).await.is_ok() {
        assert_eq!(answer, b"HTTP/1.1 431");
    }
    assert!(page(2, address, "/").await.unwrap().ends_with("here\n"));
}

#[tokio::test]
async fn who_takes_no_answer_is_cut_off() {
    let limits = Limits { stall: Duration::from_millis(100), ..SETTINGS.limits };
    let (address, _, _, seen) = start(pages::Settings { limits, ..SETTINGS }).await.unwrap();
    let mut stream = connect(2, address).await.unwrap();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert!(ended(stream).await < LONG);
    assert_eq!(*seen.lock().unwrap(), [Ended::Cut(Cut::Stalled)]);
    assert!(page(2, address, "/long").await.unwrap().len() > LONG, "who takes it gets all of it");
}

#[tokio::test]
async fn what_has_begun_is_finished_at_a_stop() {
    let (address, stop, running, _) = start(SETTINGS).await.unwrap();
    let idle = connect(2, address).await.unwrap();
    let asked = tokio::spawn(async move { page(3, address, "/slow").await.unwrap() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    assert!(asked.await.unwrap().ends_with("late\n"));
    drop(idle);
    running.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
