//! Puts a host together: key, committee, store, room, servers; and takes it apart again.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use futures::future::BoxFuture;
use meridian_client::chain::namespaces::Namespaces;
use meridian_client::chain::rpc::Pool;
use meridian_client::chain::source::{ChainSource, CommitteeSource, FixedSource};
use meridian_client::chain::view::View;
use meridian_client::rpc::Channels;
use meridian_client::tls::Acceptor;
use meridian_proofs::Address;
use meridian_proofs::committee::Committee;
use meridian_proofs::signature::SecretKey;
use meridian_proto::MAX_MESSAGE;
use meridian_proto::wire::admin_server::AdminServer;
use meridian_proto::wire::gateway_server::GatewayServer;
use meridian_proto::wire::log_server::LogServer;
use meridian_proto::wire::replica_server::ReplicaServer;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::config::host::{
    Chain, Listen, Log, Node, Server as ServerSettings, Telemetry as TelemetrySettings, Tls,
};
use crate::config::roles::{GatewayConfig, ReplicaConfig};
use crate::gateway::access::AccessSettings;
use crate::gateway::anchor::AnchorSettings;
use crate::gateway::{self, Gateway};
use crate::http::{self, Pages, StatusSource, status};
use crate::log_service::LogService;
use crate::replica::{self, Replica};
use crate::server::tls::{self, Acceptors};
use crate::server::{Server, stop_signal};
use crate::{admin, committee_cmd, cpu, disk, key, metrics, telemetry};

/// How often the age of what is known of the chain is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// How often the room on the disk is looked at.
const LOOK_AT_DISK_EVERY: Duration = Duration::from_secs(5);

/// Milliseconds that calls of the admin service have at the end.
const ADMIN_DRAIN_MS: u64 = 1_000;

/// What every host has.
struct Common {
    node: Node,
    chain: Chain,
    listen: Listen,
    tls: Tls,
    server: ServerSettings,
    log: Log,
    telemetry: TelemetrySettings,
}

/// What a host is given to work with.
struct Means {
    data_dir: PathBuf,
    view: watch::Receiver<Arc<View>>,
    key: SecretKey,
    channels: Channels,
}

/// Waits until a host is a member of the committee of any epoch. A file names it at once, or never; of the chain it may
/// come with a later epoch.
async fn membership(
    role: &str,
    view: &watch::Receiver<Arc<View>>,
    address: &Address,
    is_member: impl Fn(&Committee) -> bool,
) -> Result<()> {
    let knows = |view: &Arc<View>| view.epochs.terms().iter().any(|term| is_member(&term.committee));
    if knows(&view.borrow()) {
        return Ok(());
    }
    ensure!(view.borrow().head.is_some(), "{address} is not a {role} of the committee");
    tracing::warn!(role, %address, "waiting for an epoch of the chain in which this host is a member");
    view.clone().wait_for(knows).await.context("the chain is not read any more")?;
    Ok(())
}

/// What a host does.
struct Room {
    services: Box<dyn FnOnce(Server) -> Server + Send>,
    status: StatusSource,
    shutdown: BoxFuture<'static, ()>,
    /// The replica, where it is one.
    replica: Option<Arc<Replica>>,
    /// Ends when a write has failed, so that only another start can tell what is on disk.
    broken: BoxFuture<'static, ()>,
}

/// Runs a gateway until it is told to stop.
///
/// # Errors
/// When it cannot be started or its servers fail.
pub async fn gateway(config: GatewayConfig, lock: Option<PathBuf>) -> Result<()> {
    let GatewayConfig { node, chain, listen, tls, server, log, telemetry, gateway: settings, access, anchor } =
        config;
    let anchoring = Anchoring::new(anchor, &chain)?;
    let registry = registry(&access, &chain)?;
    let is_public = access.lets_anybody_put() && !listen.grpc.ip().is_loopback();
    let settings = gateway::Settings { min_free_bytes: node.min_free_bytes, access, ..settings };
    let common = Common { node, chain, listen, tls, server, log, telemetry };
    let is_member = |committee: &Committee, address: &Address| committee.gateway(address).is_some();
    host("gateway", common, lock, is_member, async move |means: Means| {
        if is_public {
            tracing::warn!(
                "whoever reaches this gateway may put, and as much as fits: access.namespaces is not set"
            );
        }
        gateway_room(settings, anchoring, registry, means)
    })
    .await
}

/// What says on the chain who may put, if anything does.
fn registry(access: &AccessSettings, chain: &Chain) -> Result<Option<Namespaces>> {
    if access.registry.is_zero() {
        return Ok(None);
    }
    ensure!(chain.is_on(), "access.registry is set, and [chain] says no rpc and contract");
    Ok(Some(Namespaces::new(chain.pool()?, access.registry)))
}

/// Runs a replica until it is told to stop.
///
/// # Errors
/// When it cannot be started or its servers fail.
pub async fn replica(config: ReplicaConfig, lock: Option<PathBuf>) -> Result<()> {
    let ReplicaConfig { node, chain, listen, tls, server, log, telemetry, storage, replica } = config;
    let settings =
        replica::Settings { max_bytes: storage.max_bytes, min_free_bytes: node.min_free_bytes, ..replica };
    let common = Common { node, chain, listen, tls, server, log, telemetry };
    let is_member = |committee: &Committee, address: &Address| committee.seat(address).is_some();
    host("replica", common, lock, is_member, async move |means: Means| replica_room(settings, means).await)
        .await
}

async fn host(
    role: &'static str,
    common: Common,
    lock: Option<PathBuf>,
    is_member: impl Fn(&Committee, &Address) -> bool,
    open: impl AsyncFnOnce(Means) -> Result<Room>,
) -> Result<()> {
    #[cfg(feature = "points")]
    crate::points::arm();
    raise_open_files();
    let signal = stop_signal()?;
    let drain = CancellationToken::new();
    let drained = drain.clone();
    let mut stop = Box::pin(async move {
        tokio::select! {
            why = signal => why,
            () = unlocked(lock) => "the devnet has gone",
            () = drained.cancelled() => "drained by its admin",
        }
    });
    tls::check(&common.listen, &common.tls)?;
    let key = key::load(&common.node.key)?;
    let committee =
        if common.chain.is_on() { None } else { Some(committee_cmd::load(&common.node.committee)?) };
    let channels = channels(&common.node.routes)?.trusting(tls::trust(&common.tls)?);
    let address = key.address();
    let telemetry =
        telemetry::init(&common.log, &common.telemetry, &format!("meridian-{role}"), &address.to_string())?;
    let acceptors = Acceptors::new(&common.listen, &common.tls)?;
    let grpc = bind(common.listen.grpc).await?;
    let http = bind(common.listen.http).await?;
    let admin_at = common.listen.admin().map_err(anyhow::Error::msg)?;
    let admin = match admin_at {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let data_dir = common.node.data_dir;
    std::fs::create_dir_all(&data_dir)
        .with_context(|| format!("cannot make folder {}", data_dir.display()))?;
    let (serving, seen) = watch::channel(false);
    let status = Arc::new(OnceLock::new());
    let pages = Pages { registry: telemetry.registry.clone(), serving: seen, status: Arc::clone(&status) };
    let (stop_http, stopped) = watch::channel(false);
    let stop_admin = watch::Sender::new(false);
    let pages = tokio::spawn(http::serve(http, acceptors.pages, pages, stopped));
    // Until the chain has answered once nobody knows who is a member.
    let member = async {
        let source = source(committee, &common.chain).await?;
        let view = source.view();
        membership(role, &view, &address, |committee| is_member(committee, &address)).await?;
        anyhow::Ok((source, view))
    };
    let (_source, view) = tokio::select! {
        member = member => member?,
        why = &mut stop => {
            tracing::info!(why, "stopped before this host was a member");
            return Ok(());
        }
    };
    let measured = measure_disk(data_dir.clone(), common.node.min_free_bytes);
    let fingerprint = view.borrow().epochs.current(Clock::system().now()).committee.fingerprint();
    let is_secured = acceptors.grpc.is_some();
    let room = open(Means { data_dir, view, key, channels }).await?;

    let _ = status.set(room.status);
    serving.send_replace(true);
    tracing::info!(
        role,
        %address,
        %fingerprint,
        grpc = %common.listen.grpc,
        tls = is_secured,
        http = %common.listen.http,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    let orders = admin::Service { drain, log: telemetry.log.clone(), replica: room.replica };
    let admin = admin.map(|listener| {
        tokio::spawn(serve_admin(
            listener,
            acceptors.admin,
            orders,
            common.server.clone(),
            stop_admin.subscribe(),
        ))
    });
    let server = (room.services)(Server::new(common.server)?.secured(acceptors.grpc));
    let (broken, mut is_broken) = (room.broken, false);
    let outcome = server
        .serve(grpc, async {
            let why = tokio::select! {
                why = &mut stop => why,
                () = broken => {
                    is_broken = true;
                    "the store failed: starting again from what is on disk"
                }
            };
            tracing::info!(why, "stopping");
            serving.send_replace(false);
        })
        .await;
    stop_admin.send_replace(true);
    if let Some(admin) = admin {
        admin.await.context("the admin server broke")??;
    }
    room.shutdown.await;
    drop(measured);
    stop_http.send_replace(true);
    let pages = pages.await.context("the http server broke")?;
    tracing::info!("stopped");
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await.context("telemetry broke")?;
    // Whoever asked it to stop meanwhile is heard.
    if is_broken && (&mut stop).now_or_never().is_none() {
        return Err(start_again());
    }
    outcome.and(pages)
}

/// Serves orders until it is told to stop.
async fn serve_admin(
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    orders: admin::Service,
    settings: ServerSettings,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    // Who drains a host is answered before it ends, and nobody else is waited for.
    let settings = ServerSettings { lame_duck_ms: 0, drain_ms: ADMIN_DRAIN_MS, ..settings };
    let server = Server::new(settings)?.with(AdminServer::new(orders)).secured(acceptor);
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    server.serve(listener, stopped).await
}

/// Connections that go where a file says, if there is one.
pub(crate) fn channels(routes: &Path) -> Result<Channels> {
    if routes.as_os_str().is_empty() {
        return Ok(Channels::new());
    }
    let read =
        || -> Result<Channels> { Ok(Channels::routed(toml::from_str(&std::fs::read_to_string(routes)?)?)?) };
    read().with_context(|| format!("node.routes: cannot use {}", routes.display()))
}

/// Each segment of a store is an open file: as many as the system allows.
pub(crate) fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// Puts this program, started anew, in the place of this process. Comes back only when that fails.
fn start_again() -> anyhow::Error {
    let error = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec();
    anyhow::Error::new(error).context("cannot start again")
}

/// Where the committee comes from: a file, or else the chain.
async fn source(committee: Option<Committee>, chain: &Chain) -> Result<Arc<dyn CommitteeSource>> {
    if let Some(committee) = committee {
        return Ok(Arc::new(FixedSource::new(Arc::new(committee))));
    }
    let source = ChainSource::connect(chain.pool()?, chain.reading(), chain.poll()).await;
    let source = Arc::new(source.context("cannot read the chain: check [chain]")?);
    tokio::spawn(measure(Arc::downgrade(&source)));
    Ok(source)
}

/// Measures the room on the disk until it is dropped.
fn measure_disk(data_dir: PathBuf, min_free: u64) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let metrics = metrics::get();
        metrics.store_min_free.record(min_free, &[]);
        loop {
            let folder = data_dir.clone();
            match cpu::blocking(move || disk::space(&folder)).await {
                Ok(space) => metrics.store_free.record(space.free, &[]),
                Err(error) => tracing::debug!(%error, "the system does not tell how much room is free"),
            }
            tokio::time::sleep(LOOK_AT_DISK_EVERY).await;
        }
    }))
}

/// Measures how old what is known of the chain is, as long as somebody needs it.
async fn measure(source: Weak<ChainSource>) {
    while let Some(source) = source.upgrade() {
        let metrics = metrics::get();
        metrics.chain_age.record(source.health().age().as_secs(), &[]);
        if let Some(head) = source.view().borrow().head {
            metrics.chain_block.record(head.number, &[]);
        }
        drop(source);
        tokio::time::sleep(MEASURE_EVERY).await;
    }
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Waits until no other process holds a lock on the file; for ever when there is no file to look at.
async fn unlocked(path: Option<PathBuf>) {
    let Some(path) = path else { return std::future::pending().await };
    let (done, waited) = oneshot::channel();
    // A thread of its own: a pool of the runtime would wait for it at the end.
    std::thread::spawn(move || {
        let _ = done.send(wait_for_lock(&path));
    });
    if !matches!(waited.await, Ok(Ok(()))) {
        std::future::pending::<()>().await;
    }
}

fn wait_for_lock(path: &Path) -> std::io::Result<()> {
    File::open(path)?.lock_shared()
}

/// What a gateway anchors with.
struct Anchoring {
    settings: AnchorSettings,
    pool: Pool,
    account: SecretKey,
}

impl Anchoring {
    /// Reads the account's key. Nothing when this gateway does not anchor.
    fn new(settings: AnchorSettings, chain: &Chain) -> Result<Option<Self>> {
        if !settings.is_on() {
            return Ok(None);
        }
        ensure!(chain.is_on(), "anchor.key is set, and [chain] says no rpc and contract");
        let password_file =
            (!settings.password_file.as_os_str().is_empty()).then_some(&*settings.password_file);
        let account = key::load_account(&settings.key, password_file)?;
        Ok(Some(Self { pool: chain.pool()?, settings, account }))
    }
}

fn gateway_room(
    settings: gateway::Settings,
    anchoring: Option<Anchoring>,
    registry: Option<Namespaces>,
    means: Means,
) -> Result<Room> {
    let Means { data_dir, view, key, channels } = means;
    let gateway = Gateway::open(settings, &data_dir, view, key, &channels)?;
    if let Some(Anchoring { settings, pool, account }) = anchoring {
        gateway.anchor(settings, pool, account);
    }
    if let Some(registry) = registry {
        gateway.ask_registry(registry);
    }
    let (served, seen, stopped) = (Arc::clone(&gateway), Arc::clone(&gateway), Arc::clone(&gateway));
    Ok(Room {
        services: Box::new(move |server| {
            let logs = LogServer::new(LogService::new(served.log_store().clone()));
            let gateway = GatewayServer::new(gateway::Service(served));
            server
                .with(gateway.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
                .with(logs.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
        }),
        status: Arc::new(move || {
            let status = seen.status();
            Box::pin(async move { status::gateway(&status) })
        }),
        shutdown: Box::pin(async move { stopped.shutdown().await }),
        replica: None,
        broken: Box::pin(async move { gateway.broken().await }),
    })
}

async fn replica_room(settings: replica::Settings, means: Means) -> Result<Room> {
    let Means { data_dir, view, key, channels } = means;
    let replica = Replica::open(settings, &data_dir, view, key, channels).await?;
    let (served, seen, stopped) = (Arc::clone(&replica), Arc::clone(&replica), Arc::clone(&replica));
    Ok(Room {
        services: Box::new(move |server| {
            let logs = LogServer::new(LogService::new(served.logs().clone()));
            let replica = ReplicaServer::new(replica::Service(served));
            server
                .with(replica.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
                .with(logs.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
        }),
        status: Arc::new(move || {
            let replica = Arc::clone(&seen);
            Box::pin(async move {
                match replica.status().await {
                    Ok(status) => status::replica(&status),
                    Err(error) => serde_json::json!({ "role": "replica", "error": error.reason.as_str() }),
                }
            })
        }),
        shutdown: Box::pin(async move { stopped.shutdown().await }),
        replica: Some(Arc::clone(&replica)),
        broken: Box::pin(async move { replica.broken().await }),
    })
}
