//! One way between two processes: a relay of TCP that can be far, narrow, or bad.
//!
//! What it cannot show: connections do not start slowly, and nothing is lost that would have to be sent again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
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

impl State {
    /// Good, with everything so much later in each direction.
    #[must_use]
    pub fn far(by: Duration) -> Self {
        Self { there: Flow::Late(by), back: Flow::Late(by), ..Self::default() }
    }
}

impl Flow {
    /// How much later than at once the bytes come.
    fn delay(self) -> Duration {
        if let Self::Late(by) = self { by } else { Duration::ZERO }
    }
}

/// What a way carries at most in one direction. Everything that goes there shares it.
#[derive(Debug)]
pub struct Pipe {
    /// Bytes a second.
    rate: u64,
    /// When all that was sent into it has gone through.
    free: Mutex<Instant>,
}

impl Pipe {
    /// A pipe for so many bytes a second, at least one.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free: Mutex::new(Instant::now()) }
    }

    /// Sends bytes into it, and says when the last of them has gone through.
    fn pass(&self, bytes: usize) -> Instant {
        let nanos = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000_000);
        let takes = u64::try_from(nanos / u128::from(self.rate)).unwrap_or(u64::MAX);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = (*free).max(Instant::now()) + Duration::from_nanos(takes);
        *free
    }
}

/// One direction of a wire.
#[derive(Debug, Default)]
struct Way {
    /// Bytes that it has carried.
    carried: AtomicU64,
    pipe: Option<Arc<Pipe>>,
}

/// Both directions of a wire, and where it leads.
#[derive(Debug)]
struct Line {
    to: SocketAddr,
    there: Way,
    back: Way,
}

/// A relay before one listener.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    state: watch::Sender<State>,
    line: Arc<Line>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Listens on a port of its own for who wants to go to `to`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn lay(to: SocketAddr) -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::lay_at(any, to, State::default(), [None, None]).await
    }

    /// Listens at an address for who wants to go to `to`, through pipes there and back where there are any.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn lay_at(
        at: SocketAddr,
        to: SocketAddr,
        state: State,
        [there, back]: [Option<Arc<Pipe>>; 2],
    ) -> Result<Self> {
        let listener = TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?;
        let (address, (state, seen)) = (listener.local_addr()?, watch::channel(state));
        let way = |pipe| Way { pipe, ..Way::default() };
        let line = Arc::new(Line { to, there: way(there), back: way(back) });
        let task = tokio::spawn(accept(listener, Arc::clone(&line), seen));
        Ok(Self { address, state, line, task })
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
        self.line.there.carried.load(Ordering::Relaxed)
    }

    /// Bytes that it has carried back to callers.
    #[must_use]
    pub fn carried_back(&self) -> u64 {
        self.line.back.carried.load(Ordering::Relaxed)
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

async fn accept(listener: TcpListener, line: Arc<Line>, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                match accepted {
                    Ok((caller, _)) => drop(connections.spawn(connect(caller, Arc::clone(&line), state.clone()))),
                    // No file descriptors, for example.
                    Err(_) => sleep(DRIP).await,
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(caller: TcpStream, line: Arc<Line>, state: watch::Receiver<State>) {
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
        // The caller was connected at once, here; to be connected there takes a round trip.
        sleep(begun.there.delay() + begun.back.delay()).await;
        let called = TcpStream::connect(line.to).await?;
        called.set_zero_linger()?;
        called.set_nodelay(true)?;
        let (from_caller, to_caller) = caller.into_split();
        let (from_called, to_called) = called.into_split();
        let there = carry(from_caller, to_called, state.clone(), there, &line.there);
        let back = carry(from_called, to_caller, state.clone(), back, &line.back);
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
    way: &Way,
) -> io::Result<()> {
    let (queue, mut queued) = mpsc::channel(READS);
    let (read, write) = (
        read(from, queue, way.pipe.as_deref()),
        write(&mut to, &mut queued, &mut state, &flow, &way.carried),
    );
    let carried = tokio::try_join!(read, write);
    // Of an end, too, nobody hears while nothing comes through.
    until(&mut state, |state| flow(state) != Flow::Stalled).await;
    carried?;
    to.shutdown().await
}

/// Reads ahead, so that what is late does not come at a lower rate. Notes with all bytes when they have gone through the pipe.
async fn read(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<(Instant, Bytes)>,
    pipe: Option<&Pipe>,
) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    loop {
        let count = from.read(&mut buffer).await?;
        let through = pipe.map_or_else(Instant::now, |pipe| pipe.pass(count));
        if count == 0 || queue.send((through, Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    to: &mut OwnedWriteHalf,
    queued: &mut mpsc::Receiver<(Instant, Bytes)>,
    state: &mut watch::Receiver<State>,
    flow: impl Fn(&State) -> Flow,
    carried: &AtomicU64,
) -> io::Result<()> {
    while let Some((through, mut bytes)) = queued.recv().await {
        while !bytes.is_empty() {
            let before = bytes.len();
            let now = flow(&state.borrow_and_update());
            let changed = state.changed();
            match now {
                Flow::Stalled => drop(changed.await),
                Flow::Good | Flow::Late(_) => tokio::select! {
                    () = sleep_until(through + now.delay()) => to.write_all(&std::mem::take(&mut bytes)).await?,
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
            carried.fetch_add(u64::try_from(before - bytes.len()).unwrap_or(0), Ordering::Relaxed);
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
        // What came is counted once it was written.
        while wire.carried() < 300_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!((wire.carried(), wire.carried_back()), (300_000, 0));
    }

    #[tokio::test]
    async fn to_be_connected_takes_a_round_trip_where_it_is_far() {
        let (wire, listener) = wire().await;
        wire.set(Flow::Late(SHORT), Flow::Late(SHORT));
        let begun = Instant::now();
        let (mut caller, mut called) = connect(&wire, &listener).await;
        assert!(begun.elapsed() >= 2 * SHORT);
        caller.write_all(&[1]).await.unwrap();
        called.read_u8().await.unwrap();
        called.write_all(&[2]).await.unwrap();
        caller.read_u8().await.unwrap();
        assert!(begun.elapsed() >= 4 * SHORT);
    }

    #[tokio::test]
    async fn what_goes_the_same_way_shares_a_pipe() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let pipe = Arc::new(Pipe::new(1_000_000));
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut wires = Vec::new();
        for _ in 0..2 {
            let pipes = [Some(Arc::clone(&pipe)), None];
            wires.push(Wire::lay_at(any, to, State::default(), pipes).await.unwrap());
        }
        let begun = Instant::now();
        for wire in &wires {
            let (mut caller, mut called) = connect(wire, &listener).await;
            let sent = vec![7; 150_000];
            let mut came = vec![0; 150_000];
            let (written, read) = tokio::join!(caller.write_all(&sent), called.read_exact(&mut came));
            written.and(read.map(drop)).unwrap();
            assert_eq!(came, sent);
        }
        assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
        // The other direction is another pipe, or none.
        let (mut caller, mut called) = connect(&wires[0], &listener).await;
        pipe.pass(1 << 30);
        called.write_all(&[3]).await.unwrap();
        assert_eq!(caller.read_u8().await.unwrap(), 3);
    }
}
