//! One member: a runtime, a folder and a port of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use anyhow::Result;
use meridian_client::chain::view::View;
use meridian_client::rpc::Channels;
use meridian_node::config::host::Server as ServerSettings;
use meridian_node::log_service::LogService;
use meridian_node::server::Server;
use meridian_node::{gateway, replica};
use meridian_proofs::Address;
use meridian_proto::MAX_MESSAGE;
use meridian_proto::wire::gateway_server::GatewayServer;
use meridian_proto::wire::log_server::LogServer;
use meridian_proto::wire::replica_server::ReplicaServer;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::keys;

/// Who a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// The replica at a place.
    Replica(usize),
    /// The gateway at a place.
    Gateway(usize),
}

impl Name {
    /// The word that the member's key is made from.
    #[must_use]
    pub fn key_word(self) -> String {
        match self {
            Self::Replica(place) => format!("replica {place}"),
            Self::Gateway(place) => format!("gateway {place}"),
        }
    }

    pub(super) fn folder(self) -> String {
        self.key_word().replace(' ', "-")
    }
}

pub(super) struct Member {
    pub(super) name: Name,
    pub(super) address: Address,
    /// Where the honest server listens.
    pub(super) listen: SocketAddr,
    /// Where everybody else looks for it: the same, or what stands in front of it.
    pub(super) endpoint: String,
    pub(super) running: Option<Running>,
    /// Whether what stands in front of it lies.
    pub(super) lies: bool,
    pub(super) front: Option<JoinHandle<()>>,
}

pub(super) struct Running {
    pub(super) runtime: Runtime,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) server: JoinHandle<Result<()>>,
    pub(super) role: Role,
}

/// What a member runs as, without which nothing of it goes on.
pub(super) enum Role {
    Replica(Weak<replica::Replica>),
    Gateway(Weak<gateway::Gateway>),
}

pub(super) struct Spec {
    pub(super) name: Name,
    pub(super) folder: PathBuf,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) replica: replica::Settings,
    pub(super) gateway: gateway::Settings,
}

pub(super) fn start(spec: &Spec, listener: TcpListener) -> Result<Running> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(spec.name.folder())
        .enable_all()
        .build()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (server, role) = runtime.block_on(serve(spec, listener, stopped))?;
    Ok(Running { runtime, stop: Some(stop), server, role })
}

async fn serve(
    spec: &Spec,
    listener: TcpListener,
    stopped: oneshot::Receiver<()>,
) -> Result<(JoinHandle<Result<()>>, Role)> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let key = keys::secret(&spec.name.key_word())?;
    let (folder, view) = (Path::new(&spec.folder), spec.view.clone());
    let settings = ServerSettings { lame_duck_ms: 0, drain_ms: 5_000, ..ServerSettings::default() };
    let server = Server::new(settings)?;
    let stop = async {
        let _ = stopped.await;
    };
    match spec.name {
        Name::Replica(_) => {
            let replica =
                replica::Replica::open(spec.replica.clone(), folder, view, key, Channels::new()).await?;
            let service = ReplicaServer::new(replica::Service(Arc::clone(&replica)));
            let service =
                service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
            let server = server.with(service).with(LogServer::new(LogService::new(replica.logs().clone())));
            let role = Role::Replica(Arc::downgrade(&replica));
            let serving = tokio::spawn(async move {
                server.serve(listener, stop).await?;
                replica.shutdown().await;
                Ok(())
            });
            Ok((serving, role))
        }
        Name::Gateway(_) => {
            let gateway = gateway::Gateway::open(spec.gateway.clone(), folder, view, key, &Channels::new())?;
            let service = GatewayServer::new(gateway::Service(Arc::clone(&gateway)));
            let service =
                service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
            let server =
                server.with(service).with(LogServer::new(LogService::new(gateway.log_store().clone())));
            let role = Role::Gateway(Arc::downgrade(&gateway));
            let serving = tokio::spawn(async move {
                server.serve(listener, stop).await?;
                gateway.shutdown().await;
                Ok(())
            });
            Ok((serving, role))
        }
    }
}
