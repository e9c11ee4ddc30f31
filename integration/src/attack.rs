//! Strangers that wear a server out: bounded in time and number, and on the loopback network alone.
//!
//! Each knows the protocol well enough to be taken seriously up to the point at which it misbehaves. They write their own
//! frames, since no HTTP/2 library lets one do what they do.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use meridian_proofs::Address;
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::ids::BlobId;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

mod big_headers;
mod certificate_storm;
mod compressed;
mod empty_data;
mod endless;
mod idle;
mod lengths;
mod ping_flood;
mod put_and_abort;
mod rapid_reset;
mod settings_flood;
mod signature_storm;
mod slow_body;
mod slow_handshake;
mod slow_headers;
mod unread;
mod wire;

/// Pause before another connection.
const PAUSE: Duration = Duration::from_millis(10);

/// Whom an attack is for, and from where to when.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// The server's gRPC.
    pub grpc: SocketAddr,
    /// The server's HTTP pages.
    pub http: SocketAddr,
    /// The attacker's address on the loopback network; those beside it in the third byte are its own too.
    pub from: Ipv4Addr,
    /// When it ends.
    pub until: Instant,
    /// A blob that the server has.
    pub blob: BlobId,
    /// A gateway of the committee.
    pub gateway: Address,
    /// The server, where it is a replica, or else any.
    pub replica: Address,
    /// What signatures are made for.
    pub domain: Domain,
    /// The epoch.
    pub epoch: u64,
}

/// An attack, which tells how often it did what it does.
pub type Attack = fn(Aim) -> BoxFuture<'static, u64>;

/// Every attack, by name.
pub const ALL: &[(&str, Attack)] = &[
    ("rapid reset", |aim| Box::pin(rapid_reset::run(aim))),
    ("empty data frames", |aim| Box::pin(empty_data::run(aim))),
    ("ping flood", |aim| Box::pin(ping_flood::run(aim))),
    ("settings flood", |aim| Box::pin(settings_flood::run(aim))),
    ("slow handshake", |aim| Box::pin(slow_handshake::run(aim))),
    ("slow headers", |aim| Box::pin(slow_headers::run(aim))),
    ("slow body", |aim| Box::pin(slow_body::run(aim))),
    ("unread answers", |aim| Box::pin(unread::run(aim))),
    ("big headers", |aim| Box::pin(big_headers::run(aim))),
    ("idle connections", |aim| Box::pin(idle::run(aim))),
    ("endless stream", |aim| Box::pin(endless::run(aim))),
    ("compressed messages", |aim| Box::pin(compressed::run(aim))),
    ("wrong lengths", |aim| Box::pin(lengths::run(aim))),
    ("put and abort", |aim| Box::pin(put_and_abort::run(aim))),
    ("certificate storm", |aim| Box::pin(certificate_storm::run(aim))),
    ("signature storm", |aim| Box::pin(signature_storm::run(aim))),
];

impl Aim {
    /// Another address of the same attacker.
    fn beside(self, number: u8) -> Self {
        let [a, b, _, d] = self.from.octets();
        Self { from: Ipv4Addr::new(a, b, number, d), ..self }
    }
}

/// How often an attacker did what it does.
#[derive(Clone, Debug, Default)]
struct Done(Arc<AtomicU64>);

impl Done {
    fn add(&self, times: u64) {
        self.0.fetch_add(times, Ordering::Relaxed);
    }
}

/// Does something again and again until it is over, each time it breaks off on another connection.
async fn again<F>(aim: Aim, mut once: impl FnMut(Done) -> F) -> u64
where
    F: Future<Output = io::Result<()>>,
{
    let done = Done::default();
    while Instant::now() < aim.until {
        // That a connection is cut is what it is about.
        let _ = timeout_at(aim.until, once(done.clone())).await;
        sleep(PAUSE).await;
    }
    done.0.load(Ordering::Relaxed)
}

/// Several at the same time.
async fn crowd<F>(count: usize, one: impl Fn(usize) -> F) -> u64
where
    F: Future<Output = u64> + Send + 'static,
{
    let mut all = JoinSet::new();
    for number in 0..count {
        all.spawn(one(number));
    }
    all.join_all().await.into_iter().sum()
}
