//! One way between two processes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes that are read at once, and how many such reads may be on their way: a wire holds up to 4 MiB in each direction.
const READ: usize = 64 << 10;
const READS: usize = 64;

/// How often a slow wire lets something through.
const DRIP: Duration = Duration::from_millis(50);

/// What a wire does with the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// Carries them.
    #[default]
    Good,
    /// Holds them until it is good again. Nobody is told: connections stay open, also when the other side has gone.
    Stalled,
    /// Carries them so much later.
    Late(Duration),
    /// Carries at most so many bytes a second.
    Slow(usize),
}

/// What a wire does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// With what the caller sends.
    pub there: Flow,
    /// With what the caller is sent.
    pub back: Flow,
    /// Whether new connections are reset.
    pub refuses: bool,
    /// How often all connections were reset.
    cuts: u64,
    /// How often all connections were forgotten.
    forgets: u64,
}

/// Bytes that went from callers, and to them.
#[derive(Default)]
struct Carried {
    there: AtomicU64,
    back: AtomicU64,
}

/// A relay before one listener.
pub struct Wire {
    address: SocketAddr,
    state: watch::Sender<State>,
    carried: Arc<Carried>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Listens on a port of its own for who wants to go to `to`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn lay(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, (state, seen)) = (listener.local_addr()?, watch::channel(State::default()));
        let carried = Arc::<Carried>::default();
        let task = tokio::spawn(accept(listener, to, seen, Arc::clone(&carried)));
        Ok(Self { address, state, carried, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes both directions.
    pub fn set(&self, there: Flow, back: Flow) {
        self.state.send_modify(|state| (state.there, state.back) = (there, back));
    }

    /// Resets what is connected.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Resets what is connected and whoever connects, until it is mended.
    pub fn sever(&self) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.refuses = true;
        });
    }

    /// Forgets what is connected, as a router does that starts again: both sides have an open connection on which nothing
    /// ever comes any more. New connections are good.
    pub fn forget(&self) {
        self.state.send_modify(|state| state.forgets += 1);
    }

    /// Makes it good again. What was cut or forgotten stays so.
    pub fn mend(&self) {
        self.state.send_modify(|state| {
            *state = State { cuts: state.cuts, forgets: state.forgets, ..State::default() };
        });
    }

    /// Bytes that it has carried from callers.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.carried.there.load(Ordering::Relaxed)
    }

    /// Bytes that it has carried to callers.
    #[must_use]
    pub fn brought(&self) -> u64 {
        self.carried.back.load(Ordering::Relaxed)
    }

    /// What it does.
    #[must_use]
    pub fn state(&self) -> State {
        *self.state.borrow()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, state: watch::Receiver<State>, carried: Arc<Carried>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                match accepted {
                    Ok((caller, _)) => drop(connections.spawn(connect(caller, to, state.clone(), Arc::clone(&carried)))),
                    // No file descriptors, for example.
                    Err(_) => sleep(DRIP).await,
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(caller: TcpStream, to: SocketAddr, state: watch::Receiver<State>, carried: Arc<Carried>) {
    let begun = *state.borrow();
    // However it ends, it ends with a reset: an orderly end is passed on by the direction that sees it.
    let _ = caller.set_zero_linger();
    let _ = caller.set_nodelay(true);
    if begun.refuses {
        return;
    }
    let is_forgotten = |state: &State| state.forgets != begun.forgets;
    let there = |state: &State| if is_forgotten(state) { Flow::Stalled } else { state.there };
    let back = |state: &State| if is_forgotten(state) { Flow::Stalled } else { state.back };
    let connection = async {
        until(&mut state.clone(), |state| there(state) != Flow::Stalled).await;
        let called = TcpStream::connect(to).await?;
        called.set_zero_linger()?;
        called.set_nodelay(true)?;
        let (from_caller, to_caller) = caller.into_split();
        let (from_called, to_called) = called.into_split();
        let there = carry(from_caller, to_called, state.clone(), there, &carried.there);
        let back = carry(from_called, to_caller, state.clone(), back, &carried.back);
        tokio::try_join!(there, back)
    };
    let mut seen = state.clone();
    tokio::select! {
        _ = connection => {}
        () = until(&mut seen, |state| state.cuts != begun.cuts) => {}
    }
}

async fn until(state: &mut watch::Receiver<State>, holds: impl Fn(&State) -> bool) {
    if state.wait_for(|state| holds(state)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Carries one direction of a connection to its end, with or without an error.
async fn carry(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    flow: impl Fn(&State) -> Flow,
    counter: &AtomicU64,
) -> io::Result<()> {
    let (queue, mut queued) = mpsc::channel(READS);
    let carried =
        tokio::try_join!(read(from, queue), write(&mut to, &mut queued, &mut state, &flow, counter));
    // Of an end, too, nobody hears while nothing comes through.
    until(&mut state, |state| flow(state) != Flow::Stalled).await;
    carried?;
    to.shutdown().await
}

/// Reads ahead, so that what is late does not come at a lower rate.
async fn read(mut from: OwnedReadHalf, queue: mpsc::Sender<(Instant, Bytes)>) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 || queue.send((Instant::now(), Bytes::copy_from_slice(&buffer[..count]))).await.is_err()
        {
            return Ok(());
        }
    }
}

async fn write(
    to: &mut OwnedWriteHalf,
    queued: &mut mpsc::Receiver<(Instant, Bytes)>,
    state: &mut watch::Receiver<State>,
    flow: impl Fn(&State) -> Flow,
    counter: &AtomicU64,
) -> io::Result<()> {
    while let Some((read, mut bytes)) = queued.recv().await {
        while !bytes.is_empty() {
            let before = bytes.len();
            let now = flow(&state.borrow_and_update());
            let changed = state.changed();
            match now {
                Flow::Good => to.write_all(&std::mem::take(&mut bytes)).await?,
                Flow::Stalled => drop(changed.await),
                Flow::Late(by) => tokio::select! {
                    () = sleep_until(read + by) => to.write_all(&std::mem::take(&mut bytes)).await?,
                    _ = changed => {}
                },
                Flow::Slow(rate) => {
                    let part = (rate / 20).clamp(1, bytes.len());
                    to.write_all(&bytes.split_to(part)).await?;
                    tokio::select! {
                        () = sleep(DRIP) => {}
                        _ = changed => {}
                    }
                }
            }
            counter.fetch_add(u64::try_from(before - bytes.len()).unwrap_or(0), Ordering::Relaxed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wire() -> (Wire, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (Wire::lay(listener.local_addr().unwrap()).await.unwrap(), listener)
    }

    /// Both ends of a new connection.
    async fn connect(wire: &Wire, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let caller = TcpStream::connect(wire.address()).await.unwrap();
        (caller, listener.accept().await.unwrap().0)
    }

    /// A pair of connected streams with a wire between them.
    async fn pair() -> (Wire, TcpStream, TcpStream) {
        let (wire, listener) = wire().await;
        let (caller, called) = connect(&wire, &listener).await;
        (wire, caller, called)
    }

    const SHORT: Duration = Duration::from_millis(200);

    async fn is_silent(stream: &mut TcpStream) -> bool {
        tokio::time::timeout(SHORT, stream.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn what_is_stalled_comes_later_and_what_is_forgotten_does_not() {
        let (wire, listener) = wire().await;
        let (mut caller, mut called) = connect(&wire, &listener).await;
        caller.write_all(&[1]).await.unwrap();
        assert_eq!(called.read_u8().await.unwrap(), 1);
        wire.set(Flow::Stalled, Flow::Good);
        caller.write_all(&[2]).await.unwrap();
        called.write_all(&[9]).await.unwrap();
        assert!(is_silent(&mut called).await);
        assert_eq!(caller.read_u8().await.unwrap(), 9);
        assert_eq!((wire.carried(), wire.brought()), (1, 1));
        wire.mend();
        assert_eq!(called.read_u8().await.unwrap(), 2);
        wire.forget();
        caller.write_all(&[3]).await.unwrap();
        wire.mend();
        assert!(is_silent(&mut called).await && is_silent(&mut caller).await);
        drop(caller);
        assert!(is_silent(&mut called).await, "nobody tells it that the caller has gone");
        // New connections are good.
        let (mut caller, mut called) = connect(&wire, &listener).await;
        caller.write_all(&[7]).await.unwrap();
        assert_eq!(called.read_u8().await.unwrap(), 7);
    }

    #[tokio::test]
    async fn ends_are_passed_on_and_cuts_are_resets() {
        let (wire, mut caller, mut called) = pair().await;
        caller.shutdown().await.unwrap();
        assert_eq!(called.read(&mut [0; 8]).await.unwrap(), 0);
        called.write_all(&[5]).await.unwrap();
        assert_eq!(caller.read_u8().await.unwrap(), 5);
        wire.cut();
        assert!(caller.read_u8().await.is_err());
        let (wire, caller, mut called) = pair().await;
        wire.set(Flow::Stalled, Flow::Stalled);
        drop(caller);
        assert!(is_silent(&mut called).await, "the news is stalled, too");
        wire.sever();
        assert!(called.read_u8().await.is_err());
        let mut other = TcpStream::connect(wire.address()).await.unwrap();
        assert!(other.read_u8().await.is_err(), "who connects is reset");
    }

    #[tokio::test]
    async fn slow_and_late_wires_carry_everything() {
        let (wire, mut caller, mut called) = pair().await;
        let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        wire.set(Flow::Late(SHORT), Flow::Good);
        let begun = Instant::now();
        caller.write_all(&sent[..100_000]).await.unwrap();
        let mut came = vec![0; 100_000];
        called.read_exact(&mut came).await.unwrap();
        assert!(begun.elapsed() >= SHORT && came == sent[..100_000]);
        wire.set(Flow::Slow(1_000_000), Flow::Good);
        let begun = Instant::now();
        let mut came = vec![0; 200_000];
        let (written, read) = tokio::join!(caller.write_all(&sent[100_000..]), called.read_exact(&mut came));
        written.and(read.map(drop)).unwrap();
        assert!(begun.elapsed() >= 3 * DRIP && came == sent[100_000..]);
    }
}
