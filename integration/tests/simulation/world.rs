//! What all hosts of a simulated network share, and how they run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use meridian_client::chain::view::View;
use meridian_integration::keys;
use meridian_node::clock::Clock;
use meridian_node::config::host::Server as ServerSettings;
use meridian_node::gateway::{self, Gateway};
use meridian_node::log_service::LogService;
use meridian_node::replica::{self, Replica};
use meridian_node::server::Server;
use meridian_proofs::Address;
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proofs::log::LogEntry;
use meridian_proto::MAX_MESSAGE;
use meridian_proto::convert::LogItem;
use meridian_proto::wire::gateway_server::GatewayServer;
use meridian_proto::wire::log_server::LogServer;
use meridian_proto::wire::replica_server::ReplicaServer;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::load::Put;
use crate::net::{PORT, channels, incoming};
use crate::oracle::Oracle;
use crate::tap::Tap;

/// Regions, of one seat each.
pub(crate) const REPLICAS: u16 = 5;

/// Clients that put and read.
pub(crate) const CLIENTS: usize = 2;

/// When every simulation begins, unix seconds: far from any machine's clock, so that whoever looks at that is caught.
const BEGINNING: u64 = 4_102_444_800;

/// Bytes for puts in flight: room for a dozen of the longest, so that a few that leak are seen.
const GATEWAY_MEMORY: u64 = 8 << 20;

/// Time between two looks at a host.
const LOOK: Duration = Duration::from_millis(250);

/// Where everything is in memory, on most machines.
const MEMORY: &str = "/dev/shm";

/// Simulated time since the beginning, on a host.
pub(crate) fn sim_time() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// Simulated unix seconds, on a host.
pub(crate) fn now() -> u64 {
    BEGINNING + sim_time().as_secs()
}

/// A simulated host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Replica(u16),
    Gateway,
    Client(usize),
}

impl Host {
    /// Replicas and gateway.
    pub(crate) fn members() -> impl Iterator<Item = Self> + Clone {
        (0..REPLICAS).map(Self::Replica).chain([Self::Gateway])
    }

    pub(crate) fn clients() -> impl Iterator<Item = Self> + Clone {
        (0..CLIENTS).map(Self::Client)
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Replica(place) => format!("replica-{place}"),
            Self::Gateway => "gateway".to_owned(),
            Self::Client(number) => format!("client-{number}"),
        }
    }

    pub(crate) fn endpoint(self) -> String {
        format!("http://{}:{PORT}", self.name())
    }

    fn address(self) -> Result<Address> {
        Ok(keys::secret(&self.name())?.address())
    }
}

/// What a host was seen to do last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vitals {
    /// Tasks that live on its runtime.
    pub(crate) tasks: usize,
    /// Bytes that its budgets have given out.
    pub(crate) memory: u64,
    /// Work that it knows of and has not done: blobs or entries.
    pub(crate) left: u64,
    /// Of a gateway: replicas that are connected and have cosigned the whole log.
    pub(crate) current: u16,
}

/// What is known of a network.
pub(crate) struct State {
    pub(crate) oracle: Oracle,
    /// Of hosts that are up and were looked at since their start.
    pub(crate) vitals: BTreeMap<Host, Vitals>,
    pub(crate) puts: Vec<Put>,
    pub(crate) underway: usize,
    pub(crate) reads: u64,
    fault: Option<anyhow::Error>,
}

/// What the hosts of one network share.
pub(crate) struct World {
    pub(crate) committee: Arc<Committee>,
    pub(crate) view: watch::Sender<Arc<View>>,
    folder: TempDir,
    clocks: BTreeMap<Host, (Clock, u64)>,
    state: Mutex<State>,
    quiet: AtomicBool,
}

/// A put that is underway.
pub(crate) struct Underway<'a>(&'a World);

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.state().underway -= 1;
    }
}

impl World {
    /// A network of which nothing runs yet. Each member's clock is ahead by the seconds that `skew` gives it.
    pub(crate) fn new(mut skew: impl FnMut() -> u64) -> Result<Arc<Self>> {
        let committee = Arc::new(committee()?);
        let folder = match Path::new(MEMORY) {
            memory if memory.is_dir() => tempfile::tempdir_in(memory)?,
            _ => tempfile::tempdir()?,
        };
        let clocks = Host::members().map(|host| {
            let ahead = skew();
            (host, (Clock::manual(BEGINNING + ahead), ahead))
        });
        let state = State {
            oracle: Oracle::new(Arc::clone(&committee)),
            vitals: BTreeMap::new(),
            puts: Vec::new(),
            underway: 0,
            reads: 0,
            fault: None,
        };
        Ok(Arc::new(Self {
            view: watch::Sender::new(Arc::new(View::fixed(Arc::clone(&committee)))),
            committee,
            folder,
            clocks: clocks.collect(),
            state: Mutex::new(state),
            quiet: AtomicBool::new(true),
        }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the clocks of all members.
    pub(crate) fn set_clocks(&self, elapsed: Duration) {
        for (clock, ahead) in self.clocks.values() {
            clock.set(BEGINNING + elapsed.as_secs() + ahead);
        }
    }

    /// Has clients begin nothing any more, or begin again.
    pub(crate) fn be_quiet(&self, quiet: bool) {
        self.quiet.store(quiet, Ordering::Relaxed);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    pub(crate) fn put_begins(&self) -> Underway<'_> {
        self.state().underway += 1;
        Underway(self)
    }

    /// Lets the oracle look at something.
    pub(crate) fn judge(&self, look: impl FnOnce(&mut Oracle) -> Result<()>) {
        let verdict = look(&mut self.state().oracle);
        if let Err(fault) = verdict {
            self.fail(fault);
        }
    }

    /// The simulation ends with the first fault.
    pub(crate) fn fail(&self, fault: anyhow::Error) {
        self.state().fault.get_or_insert(fault);
    }

    pub(crate) fn fault(&self) -> Option<anyhow::Error> {
        self.state().fault.take()
    }

    fn folder(&self, host: Host) -> Result<PathBuf> {
        let folder = self.folder.path().join(host.name());
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn clock(&self, host: Host) -> Result<Clock> {
        Ok(self.clocks.get(&host).context("a host without a clock")?.0.clone())
    }
}

fn committee() -> Result<Committee> {
    let region = |place: u16| Region {
        id: RegionId(place + 1),
        label: format!("region-{place}"),
        latitude: 0.0,
        longitude: f64::from(place) * 30.0,
    };
    let seat = |place: u16| -> Result<Seat> {
        let host = Host::Replica(place);
        Ok(Seat {
            region: RegionId(place + 1),
            number: 0,
            address: host.address()?,
            endpoint: host.endpoint(),
        })
    };
    let gateway = GatewayMember {
        address: Host::Gateway.address()?,
        endpoint: Host::Gateway.endpoint(),
        max_bytes: 1 << 40,
        max_entries_per_hour: 1_000_000,
    };
    Ok(Committee::new(CommitteeParts {
        chain_id: 0,
        verifying_contract: Address::ZERO,
        epoch: 1,
        min_copies: Committee::default_min_copies(REPLICAS),
        min_retention: 3_600,
        max_retention: 86_400,
        regions: (0..REPLICAS).map(region).collect(),
        seats: (0..REPLICAS).map(seat).collect::<Result<_>>()?,
        gateways: vec![gateway],
    })?)
}

fn server() -> Result<Server> {
    Server::new(ServerSettings::default())
}

/// A replica, from its start until it is crashed.
pub(crate) async fn run_replica(world: Arc<World>, place: u16) -> turmoil::Result {
    let host = Host::Replica(place);
    let settings = replica::Settings { cpu_threads: 1, ..replica::Settings::default() };
    let (folder, key, clock) = (world.folder(host)?, keys::secret(&host.name())?, world.clock(host)?);
    let view = world.view.subscribe();
    let replica = Replica::open_with(settings, &folder, view, key, channels(), clock).await?;
    let service = replica::Service(Arc::clone(&replica));
    let tap = ReplicaServer::new(Tap { service, address: host.address()?, world: Arc::clone(&world) });
    let tap = tap.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let server = server()?.with(tap).with(LogServer::new(LogService::new(replica.logs().clone())));
    let incoming = incoming().await?;
    tokio::spawn(watch_replica(world, host, replica));
    Ok(server.serve_incoming(incoming, std::future::pending()).await?)
}

async fn watch_replica(world: Arc<World>, host: Host, replica: Arc<Replica>) {
    loop {
        match replica.status().await {
            Ok(status) => {
                let vitals = Vitals {
                    tasks: Handle::current().metrics().num_alive_tasks(),
                    memory: replica.memory_used(),
                    left: status.repair_left + status.logs_behind + status.quarantined,
                    current: 0,
                };
                world.state().vitals.insert(host, vitals);
            }
            Err(error) => world.fail(error.into()),
        }
        sleep(LOOK).await;
    }
}

/// The gateway, from its start until it is crashed.
pub(crate) async fn run_gateway(world: Arc<World>) -> turmoil::Result {
    let host = Host::Gateway;
    let settings = gateway::Settings { memory_bytes: GATEWAY_MEMORY, ..gateway::Settings::default() };
    let (folder, key, clock) = (world.folder(host)?, keys::secret(&host.name())?, world.clock(host)?);
    let view = world.view.subscribe();
    let gateway = Gateway::open_with(settings, &folder, view, key, &channels(), clock)?;
    let service = GatewayServer::new(gateway::Service(Arc::clone(&gateway)));
    let service = service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let server = server()?.with(service).with(LogServer::new(LogService::new(gateway.log_store().clone())));
    let incoming = incoming().await?;
    tokio::spawn(watch_gateway(world, gateway));
    Ok(server.serve_incoming(incoming, std::future::pending()).await?)
}

async fn watch_gateway(world: Arc<World>, gateway: Arc<Gateway>) {
    loop {
        let status = gateway.status();
        let is_current = |seat: &&_| is_current(seat, status.log_size);
        let vitals = Vitals {
            tasks: Handle::current().metrics().num_alive_tasks(),
            memory: status.memory_used,
            left: status.uploads_pending + status.puts_in_flight,
            current: u16::try_from(status.seats.iter().filter(is_current).count()).unwrap_or(u16::MAX),
        };
        world.state().vitals.insert(Host::Gateway, vitals);
        // An entry is looked at once it is on disk: nothing that is written to it may ever be another.
        let known = world.state().oracle.log.size();
        let (log, size, address) = (gateway.log_store().clone(), status.log_size, status.address);
        let entries = tokio::task::spawn_blocking(move || -> Result<Vec<LogEntry>> {
            let items = log.items(&address, known, size.max(known))?;
            items.into_iter().map(|item| entry(&item).context("an entry is gone")).collect()
        });
        match entries.await {
            Ok(Ok(entries)) => world.judge(|oracle| oracle.appended(&entries)),
            Ok(Err(error)) => world.fail(error),
            Err(error) => world.fail(error.into()),
        }
        sleep(LOOK).await;
    }
}

fn is_current(seat: &meridian_proto::convert::SeatHealth, size: u64) -> bool {
    seat.connected && seat.cosigned_size == size
}

fn entry(item: &LogItem) -> Option<LogEntry> {
    match item {
        LogItem::Entry(entry) => Some(*entry),
        LogItem::Leaf(_) => None,
    }
}
