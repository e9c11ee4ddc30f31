//! A whole network in one process: each member with a runtime, a folder and a port of its own.

mod epochs;
mod member;
mod plan;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use meridian_client::chain::view::View;
use meridian_client::fetch::Reader;
use meridian_client::rpc::Channels;
use meridian_client::submit::{PutOptions, Submitter};
use meridian_node::{gateway, replica};
use meridian_proofs::Address;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::{Committee, Seat};
use meridian_proofs::ids::Namespace;
use meridian_proto::convert::GatewayPhase;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

pub use member::Name;
use member::{Member, Role, Spec, start};
pub use plan::Plan;
use plan::committee;

use crate::liars::{self, Truth};
use crate::{keys, ports};

/// Longest time that a member may take to stop when it is killed.
const KILL: Duration = Duration::from_secs(10);

/// Longest time until gateways and replicas know each other.
const SETTLE: Duration = Duration::from_secs(30);

/// A running network.
pub struct Network {
    committee: Arc<Committee>,
    view: watch::Sender<Arc<View>>,
    channels: Channels,
    members: BTreeMap<Name, Member>,
    settings: (replica::Settings, gateway::Settings),
    dir: TempDir,
}

impl Network {
    /// Starts a network, replicas first.
    ///
    /// # Errors
    /// When a member does not start.
    pub async fn start(plan: Plan) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut members = BTreeMap::new();
        let (mut listeners, mut fronts) = (BTreeMap::new(), BTreeMap::new());
        let replicas = usize::from(plan.regions) * usize::from(plan.seats);
        let founders = plan.gateways + plan.vacant_gateways;
        let names = (0..replicas + plan.later_replicas)
            .map(Name::Replica)
            .chain((0..founders + plan.later_gateways).map(Name::Gateway));
        for name in names {
            let listener = ports::listener()?;
            let listen = listener.local_addr()?;
            let lies = match name {
                Name::Replica(place) => plan.replica_lies.contains_key(&place),
                Name::Gateway(place) => plan.gateway_lies.contains_key(&place),
            };
            let mut endpoint = format!("http://{listen}");
            if lies || plan.recorder.is_some() {
                let front = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
                endpoint = format!("http://{}", front.local_addr()?);
                fronts.insert(name, front);
            }
            let address = keys::secret(&name.key_word())?.address();
            members
                .insert(name, Member { name, address, listen, endpoint, running: None, lies, front: None });
            listeners.insert(name, listener);
        }
        let committee = Arc::new(committee(&plan, &members)?);
        std::fs::write(dir.path().join("committee.toml"), toml::to_string(&*committee)?)?;
        let settings = (plan.replica, plan.gateway);
        let view = watch::Sender::new(Arc::new(View::fixed(Arc::clone(&committee))));
        let mut network = Self { committee, view, channels: Channels::new(), members, settings, dir };
        for (name, front) in fronts {
            let member = network.member_mut(name)?;
            let honest = format!("http://{}", member.listen);
            let truth = Truth::at(honest.clone(), network.committee.domain())?;
            let front = match (&plan.recorder, name) {
                (Some(recorder), _) => recorder.serve(front, name, honest)?,
                (None, Name::Replica(place)) => {
                    liars::serve_replica(front, truth, Arc::clone(&plan.replica_lies[&place]))
                }
                (None, Name::Gateway(place)) => {
                    liars::serve_gateway(front, truth, Arc::clone(&plan.gateway_lies[&place]))
                }
            };
            network.member_mut(name)?.front = Some(front);
        }
        for (name, listener) in listeners {
            let runs = match name {
                Name::Replica(place) => place < replicas,
                Name::Gateway(place) => place < plan.gateways,
            };
            if runs {
                network.run(name, listener).await?;
            }
        }
        network.settle().await?;
        Ok(network)
    }

    /// What members and clients know of epochs and anchors: tests change it as a chain would.
    #[must_use]
    pub fn view(&self) -> &watch::Sender<Arc<View>> {
        &self.view
    }

    /// The committee of the first epoch.
    #[must_use]
    pub fn committee(&self) -> &Arc<Committee> {
        &self.committee
    }

    /// The committee's file.
    #[must_use]
    pub fn committee_file(&self) -> PathBuf {
        self.dir.path().join("committee.toml")
    }

    /// Connections that tests share.
    #[must_use]
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Where a member is to be reached.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn endpoint(&self, name: Name) -> Result<&str> {
        Ok(&self.member(name)?.endpoint)
    }

    /// Where a member answers itself, with nobody in front of it.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn direct(&self, name: Name) -> Result<String> {
        Ok(format!("http://{}", self.member(name)?.listen))
    }

    /// The address of a member's key.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn address(&self, name: Name) -> Result<Address> {
        Ok(self.member(name)?.address)
    }

    /// The seat of the replica at a place.
    ///
    /// # Errors
    /// When there is no such replica.
    pub fn seat(&self, place: usize) -> Result<&Seat> {
        self.committee.seat(&self.address(Name::Replica(place))?).context("a replica without a seat")
    }

    /// The folder of a member.
    #[must_use]
    pub fn folder(&self, name: Name) -> PathBuf {
        self.dir.path().join(name.folder())
    }

    /// The replica at a place itself, to be asked without a connection. Whoever keeps it keeps its store open.
    ///
    /// # Errors
    /// When it does not run.
    pub fn replica(&self, place: usize) -> Result<Arc<replica::Replica>> {
        let running = self.member(Name::Replica(place))?.running.as_ref();
        match running.map(|running| &running.role) {
            Some(Role::Replica(replica)) => replica.upgrade().context("it is stopping"),
            _ => bail!("replica {place} does not run"),
        }
    }

    /// The gateway at a place itself, as [`Network::replica`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn gateway(&self, place: usize) -> Result<Arc<gateway::Gateway>> {
        let running = self.member(Name::Gateway(place))?.running.as_ref();
        match running.map(|running| &running.role) {
            Some(Role::Gateway(gateway)) => gateway.upgrade().context("it is stopping"),
            _ => bail!("gateway {place} does not run"),
        }
    }

    /// Endpoints of all gateways, those that do not run included.
    #[must_use]
    pub fn gateways(&self) -> Vec<String> {
        let gateways = self.members.values().filter(|m| matches!(m.name, Name::Gateway(_)));
        gateways.map(|m| m.endpoint.clone()).collect()
    }

    /// A client that puts through all gateways, in their order.
    #[must_use]
    pub fn submitter(&self) -> Submitter {
        self.submitter_to(self.gateways())
    }

    /// A client that puts through these gateways.
    #[must_use]
    pub fn submitter_to(&self, gateways: Vec<String>) -> Submitter {
        Submitter::new(self.view.subscribe(), self.channels.clone(), gateways)
    }

    /// A client that reads, with nothing measured yet.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.committee), self.channels.clone())
    }

    /// Puts a payload for an hour and gives back the certificate.
    ///
    /// # Errors
    /// When the put fails.
    pub async fn put(&self, payload: Bytes) -> Result<meridian_proofs::certificate::Certificate> {
        Ok(self.submitter().put(payload, &options(), &meridian_client::Silent).await?.certificate)
    }

    /// Stops a member at once: its connections break, and what it had not synced is its own loss.
    ///
    /// # Errors
    /// When there is no such member, or it is not running.
    pub async fn kill(&mut self, name: Name) -> Result<()> {
        let running = self.member_mut(name)?.running.take().context("not running")?;
        spawn_blocking(move || running.runtime.shutdown_timeout(KILL)).await?;
        Ok(())
    }

    /// Stops a member as SIGTERM does.
    ///
    /// # Errors
    /// When there is no such member, or it does not stop cleanly.
    pub async fn stop(&mut self, name: Name) -> Result<()> {
        let mut running = self.member_mut(name)?.running.take().context("not running")?;
        drop(running.stop.take());
        let outcome = running.server.await?;
        spawn_blocking(move || running.runtime.shutdown_timeout(KILL)).await?;
        outcome
    }

    /// Starts a member that was stopped or killed, on its folder and port.
    ///
    /// # Errors
    /// When it runs already or does not start.
    pub async fn restart(&mut self, name: Name) -> Result<()> {
        let member = self.member(name)?;
        ensure!(member.running.is_none(), "{name:?} is running");
        let listener = TcpListener::bind(member.listen)?;
        self.run(name, listener).await?;
        self.settle().await
    }

    /// Waits until every running gateway has heard of every running replica that does not lie.
    async fn settle(&self) -> Result<()> {
        let running = self.members.values().filter(|member| member.running.is_some());
        let (replicas, gateways): (Vec<_>, Vec<_>) =
            running.partition(|m| matches!(m.name, Name::Replica(_)));
        let honest: Vec<Address> = replicas.iter().filter(|m| !m.lies).map(|m| m.address).collect();
        for gateway in gateways {
            let rpc = self.channels.gateway(&format!("http://{}", gateway.listen))?;
            eventually(SETTLE, "a gateway that is connected to every replica", async || {
                let status = rpc.status().await.ok()?;
                if status.phase == GatewayPhase::Waiting {
                    return Some(());
                }
                let seats = status.seats;
                let connected =
                    |who: &Address| seats.iter().any(|seat| seat.address == *who && seat.connected);
                honest.iter().all(connected).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    fn member(&self, name: Name) -> Result<&Member> {
        self.members.get(&name).with_context(|| format!("no member {name:?}"))
    }

    fn member_mut(&mut self, name: Name) -> Result<&mut Member> {
        self.members.get_mut(&name).with_context(|| format!("no member {name:?}"))
    }

    async fn run(&mut self, name: Name, listener: TcpListener) -> Result<()> {
        let folder = self.folder(name);
        std::fs::create_dir_all(&folder)?;
        let (replica, gateway) = self.settings.clone();
        let spec = Spec { name, folder, view: self.view.subscribe(), replica, gateway };
        let running = spawn_blocking(move || start(&spec, listener)).await??;
        self.member_mut(name)?.running = Some(running);
        Ok(())
    }
}

impl Drop for Network {
    /// Waits for every member: a store that is still in use when the process ends takes locks that are gone.
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            for member in self.members.values_mut() {
                if let Some(front) = member.front.take() {
                    front.abort();
                }
                if let Some(running) = member.running.take() {
                    scope.spawn(move || running.runtime.shutdown_timeout(KILL));
                }
            }
        });
    }
}

/// How tests put when nothing else matters: for an hour, under the zero namespace.
#[must_use]
pub fn options() -> PutOptions {
    PutOptions {
        namespace: Namespace::default(),
        retention: 3_600,
        bind_payload_hash: false,
        expected: None,
        kzg_root: None,
    }
}

/// Waits until every region has a blob, and gives the certificate of the same entry that says so, with who cosigned it.
///
/// # Errors
/// When that takes longer than `limit`, or the gateway has another entry.
pub async fn complete(
    committee: &Committee,
    channels: &Channels,
    before: &Certificate,
    limit: Duration,
) -> Result<(Certificate, Vec<Address>)> {
    let gateway = before.checkpoint.signed.checkpoint.gateway;
    let gateway = committee.gateway(&gateway).context("a gateway of the committee")?;
    let rpc = channels.gateway(&gateway.endpoint)?;
    let what = format!("a certificate of {} by {} with all regions", before.id(), gateway.endpoint);
    let (fuller, signers) = eventually(limit, &what, async || {
        let fuller = rpc.certificate(before.id(), Some(before.entry.namespace)).await.ok()?;
        let verified = fuller.verify(committee).ok()?;
        (verified.complete.len() == committee.regions().len()).then_some((fuller, verified.signers))
    })
    .await?;
    let is_same = (fuller.index, fuller.entry) == (before.index, before.entry);
    ensure!(is_same, "the gateway has {fuller:?}, and gave {before:?} before");
    Ok((fuller, signers))
}

/// Waits until a condition holds, looking every few milliseconds.
///
/// # Errors
/// When it does not hold within `limit`.
pub async fn eventually<F, T>(limit: Duration, what: &str, mut holds: F) -> Result<T>
where
    F: AsyncFnMut() -> Option<T>,
{
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(value) = holds().await {
            return Ok(value);
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("not within {limit:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Network, Plan};

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_of_a_network_outlives_it() {
        let network = Network::start(Plan::default()).await.unwrap();
        let committee = Arc::clone(network.committee());
        assert!(Arc::strong_count(&committee) > 3);
        drop(network);
        assert_eq!(Arc::strong_count(&committee), 1);
    }
}
