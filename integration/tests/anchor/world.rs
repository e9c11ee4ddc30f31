//! A contract on a real chain, and gateways with logs of their own whose replicas are this test.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use alloy::sol_types::SolCall;
use anyhow::{Context, Result, bail};
use meridian_client::chain::contract::Contract;
use meridian_client::chain::rpc::{Patience, Pool};
use meridian_client::chain::sender::{Chain, Outcome, Receipt, Request, Sender, Settings, Style};
use meridian_client::chain::settled::Settled;
use meridian_client::chain::source::{ChainSource, CommitteeSource, Reading};
use meridian_client::chain::view::View;
use meridian_integration::anvil::{Anvil, DEV_KEYS, Options};
use meridian_integration::keys;
use meridian_integration::network::eventually;
use meridian_node::chain_cmd;
use meridian_node::clock::Clock;
use meridian_node::gateway::anchor::{self, AnchorSettings, Logbook, Report};
use meridian_node::store::log::LogStore;
use meridian_node::store::{Batch, Db, Durability, Role};
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, Domain, SignedCheckpoint};
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::signature::SecretKey;
use meridian_proto::contract::{Meridian, committee};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest wait for what should happen soon: more than the longest pause after an outage.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// Least seconds between a schedule and its epoch.
pub(crate) const NOTICE: u64 = 100;
/// Seconds of a grace.
pub(crate) const GRACE: u64 = 1_000;

/// Regions of one seat.
const REGIONS: u16 = 5;

/// A chain with the contract and its first epoch.
pub(crate) struct World {
    pub(crate) chain: Arc<Anvil>,
    pub(crate) contract: Contract,
    pub(crate) committee: Arc<Committee>,
}

impl World {
    /// Starts a chain; nothing where there is no anvil.
    pub(crate) async fn start(options: Options) -> Result<Option<Self>> {
        let id = options.chain_id;
        let Some(chain) = Anvil::start(options).await? else { return Ok(None) };
        let pool = pool(&chain.url(), id)?;
        let mut owner = sender(pool.clone(), 0, &sending(&pool))?;
        let deploy = chain_cmd::deploy(owner.address(), NOTICE, GRACE);
        let deployed = mined(&mut owner, deploy).await?;
        let contract = Contract::new(pool, deployed.contract.context("no contract")?);
        let committee = Arc::new(first_committee(contract.domain())?);
        let world = Self { chain: Arc::new(chain), contract, committee };
        world.schedule(&world.committee).await?;
        Ok(Some(world))
    }

    pub(crate) fn domain(&self) -> Domain {
        self.contract.domain()
    }

    /// The same members under another contract on the same chain, which does not know them yet.
    pub(crate) fn beside(&self, contract: Address) -> Result<Self> {
        let contract = Contract::new(self.pool()?, contract);
        let committee = Arc::new(first_committee(contract.domain())?);
        Ok(Self { chain: Arc::clone(&self.chain), contract, committee })
    }

    /// Endpoints with connections of their own.
    pub(crate) fn pool(&self) -> Result<Pool> {
        pool(&self.chain.url(), self.domain().chain_id)
    }

    /// Schedules a committee as the owner.
    pub(crate) async fn schedule(&self, committee: &Committee) -> Result<Receipt> {
        let data = committee::schedule(committee, 0)?.abi_encode().into();
        let mut owner = sender(self.contract.pool().clone(), 0, &sending(self.contract.pool()))?;
        mined(&mut owner, Request { to: Some(self.contract.address()), data }).await
    }

    /// What members know of the chain, after so many confirmations.
    pub(crate) async fn source(&self, confirmations: u64) -> Result<ChainSource> {
        let settled = Settled::Confirmations(confirmations);
        let reading = Reading { contract: self.contract.address(), settled, from_block: None };
        Ok(ChainSource::connect(self.pool()?, reading, Duration::from_millis(50)).await?)
    }

    /// Size of a gateway's anchor, as the contract has it now.
    pub(crate) async fn size(&self, gateway: Address) -> Result<u64> {
        Ok(self.contract.anchor_of(gateway).await?.map_or(0, |anchor| anchor.size))
    }

    /// Waits until a gateway's anchor has a size.
    pub(crate) async fn until(&self, gateway: Address, size: u64) -> Result<()> {
        eventually(SOON, &format!("an anchor of {size} entries"), async || {
            (self.size(gateway).await.ok()? == size).then_some(())
        })
        .await
    }

    /// Transactions of the dev key of that number in blocks.
    pub(crate) async fn sent(&self, payer: usize) -> Result<u64> {
        Ok(self.contract.pool().nonce(account(payer)?, false).await?)
    }
}

/// A committee of five regions with one seat each and two gateways.
fn first_committee(domain: Domain) -> Result<Committee> {
    let address = |word: String| keys::secret(&word).map(|key| key.address());
    let mut parts = CommitteeParts {
        chain_id: domain.chain_id,
        verifying_contract: domain.verifying_contract,
        epoch: 1,
        min_copies: Committee::default_min_copies(REGIONS),
        min_retention: 60,
        max_retention: 86_400,
        regions: Vec::new(),
        seats: Vec::new(),
        gateways: Vec::new(),
    };
    for number in 1..=REGIONS {
        let (id, label) = (RegionId(number), format!("r{number}"));
        parts.regions.push(Region { id, label, latitude: 1.5, longitude: f64::from(number) });
        let (address, endpoint) = (address(replica(number))?, format!("http://127.0.0.1:{number}"));
        parts.seats.push(Seat { region: id, number: 0, address, endpoint });
    }
    for number in 0..2 {
        parts.gateways.push(GatewayMember {
            address: address(gateway(number))?,
            endpoint: format!("http://127.0.0.1:{}", 100 + number),
            max_bytes: 1 << 40,
            max_entries_per_hour: 1_000,
        });
    }
    Ok(Committee::new(parts)?)
}

fn replica(number: u16) -> String {
    format!("anchor replica {number}")
}

fn gateway(number: usize) -> String {
    format!("anchor gateway {number}")
}

/// A gateway's log, and what its task is given of it.
pub(crate) struct Log {
    pub(crate) key: SecretKey,
    pub(crate) certified: watch::Sender<Option<Arc<CosignedCheckpoint>>>,
    closings: watch::Sender<Vec<CosignedCheckpoint>>,
    db: Db,
    store: LogStore,
    range: CompactRange,
    /// Makes entries of this log differ from those of another.
    flavour: u8,
    _dir: TempDir,
}

impl Log {
    pub(crate) fn new(number: usize, flavour: u8) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let db = Db::open(dir.path(), Role::Gateway, &LogStore::COLUMNS)?;
        Ok(Self {
            key: keys::secret(&gateway(number))?,
            certified: watch::Sender::default(),
            closings: watch::Sender::default(),
            store: LogStore::new(db.clone()),
            db,
            range: CompactRange::empty(),
            flavour,
            _dir: dir,
        })
    }

    pub(crate) fn address(&self) -> Address {
        self.key.address()
    }

    /// Appends entries and has all replicas of a committee cosign them, in the committee's epoch.
    pub(crate) fn grow(&mut self, committee: &Committee, count: u64) -> Result<CosignedCheckpoint> {
        let now = Clock::system().now();
        let mut blob = [self.flavour; 32];
        let entries: Vec<LogEntry> = (0..count)
            .map(|place| {
                blob[..8].copy_from_slice(&(self.range.size() + place).to_be_bytes());
                LogEntry {
                    blob_id: blob.into(),
                    namespace: [1; 32].into(),
                    payload_hash: [0; 32].into(),
                    length: 1,
                    epoch: committee.epoch(),
                    time: now,
                    expiry: now + 3_600,
                }
            })
            .collect();
        let mut batch = Batch::new();
        self.store.append(&mut batch, &self.key.address(), &mut self.range, &entries);
        self.db.commit(batch, Durability::Relaxed)?;
        let cosigned = self.cosigned(committee, committee.domain())?;
        self.certified.send_replace(Some(Arc::new(cosigned.clone())));
        Ok(cosigned)
    }

    /// The log as it is under everybody's signatures, for a domain.
    pub(crate) fn cosigned(&self, committee: &Committee, domain: Domain) -> Result<CosignedCheckpoint> {
        let checkpoint = Checkpoint {
            gateway: self.address(),
            epoch: committee.epoch(),
            size: self.range.size(),
            root: self.range.root(),
            timestamp: Clock::system().now(),
        };
        let signed = SignedCheckpoint::sign(checkpoint, &domain, &self.key);
        let mut cosigned = CosignedCheckpoint { signed, cosignatures: Vec::new() };
        for number in 1..=REGIONS {
            let cosignature = keys::secret(&replica(number))?.sign(&checkpoint.digest(&domain));
            cosigned.insert(&domain, cosignature)?;
        }
        Ok(cosigned)
    }

    /// Closes an epoch with the latest checkpoint.
    pub(crate) fn close(&self) {
        let latest = self.certified.borrow().as_deref().cloned();
        self.closings.send_modify(|closings| closings.extend(latest));
    }

    fn book(&self, view: watch::Receiver<Arc<View>>) -> Logbook {
        let closings = self.closings.subscribe();
        Logbook {
            gateway: self.address(),
            log: self.store.clone(),
            certified: self.certified.subscribe(),
            closings: Arc::new(move || Ok(closings.borrow().clone())),
            view,
            clock: Clock::system(),
        }
    }
}

/// A gateway's task. Ends when it is dropped.
pub(crate) struct Anchoring {
    pub(crate) report: watch::Receiver<Report>,
    task: JoinHandle<()>,
    _source: ChainSource,
}

impl Anchoring {
    /// Anchors a log at the expense of the dev key of that number.
    pub(crate) async fn start(
        world: &World,
        log: &Log,
        payer: usize,
        settings: AnchorSettings,
    ) -> Result<Self> {
        Self::start_over(world, log, payer, settings, world.pool()?).await
    }

    /// The same over another chain than its own endpoints show.
    pub(crate) async fn start_over<C: Chain + 'static>(
        world: &World,
        log: &Log,
        payer: usize,
        settings: AnchorSettings,
        chain: C,
    ) -> Result<Self> {
        let source = world.source(0).await?;
        let (sender, report) = watch::channel(Report::default());
        let key = SecretKey::from_bytes(*DEV_KEYS.get(payer).context("ten dev keys")?)?;
        let (domain, book) = (world.domain(), log.book(source.view()));
        let task = tokio::spawn(anchor::run(settings, chain, key, domain, book, sender));
        Ok(Self { report, task, _source: source })
    }

    /// Waits until the report says something.
    pub(crate) async fn until(&mut self, what: &str, holds: impl FnMut(&Report) -> bool) -> Result<Report> {
        let report = tokio::time::timeout(SOON, self.report.wait_for(holds)).await;
        Ok(report.with_context(|| format!("not reported: {what}"))??.clone())
    }
}

impl Drop for Anchoring {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Settings that anchor as soon as there is an entry.
pub(crate) fn eager() -> AnchorSettings {
    AnchorSettings { interval_s: 1, entries: 1, replace_after_s: 1, poll_ms: 50, ..AnchorSettings::default() }
}

fn pool(url: &str, chain_id: u64) -> Result<Pool> {
    let patience = Patience { deadline: Duration::from_secs(2), rounds: 1, pause: Duration::from_millis(10) };
    Ok(Pool::new(&[url.parse()?], chain_id, patience)?)
}

pub(crate) fn sending(pool: &Pool) -> Settings {
    Settings {
        chain_id: pool.chain_id(),
        style: Style::Auto,
        max_fee_per_gas: 1_000_000_000_000,
        max_gas: 15_000_000,
        replace_after: Duration::from_secs(5),
        poll: Duration::from_millis(50),
    }
}

pub(crate) fn sender(pool: Pool, payer: usize, settings: &Settings) -> Result<Sender<Pool>> {
    let key = SecretKey::from_bytes(*DEV_KEYS.get(payer).context("ten dev keys")?)?;
    Ok(Sender::new(pool, key, settings.clone()))
}

pub(crate) fn account(payer: usize) -> Result<Address> {
    meridian_integration::anvil::account(payer)
}

/// Sends a transaction and expects it in a block.
pub(crate) async fn mined(sender: &mut Sender<Pool>, request: Request) -> Result<Receipt> {
    match sender.send_until_mined(&request, SOON, |_| {}).await? {
        Outcome::Mined(receipt) => Ok(receipt),
        other => bail!("not mined: {other:?}"),
    }
}

/// A call that anchors a checkpoint as the first of its log, whatever the contract says to it.
pub(crate) fn first_anchor(world: &World, cosigned: &CosignedCheckpoint) -> Result<Request> {
    let checkpoint = cosigned.signed.checkpoint;
    let cosignatures = cosigned.cosignatures.iter().flat_map(|cosignature| *cosignature.as_bytes());
    let signatures: Vec<u8> =
        cosigned.signed.signature.as_bytes().iter().copied().chain(cosignatures).collect();
    let call = Meridian::anchorCall {
        checkpoint: (&checkpoint).into(),
        signatures: signatures.into(),
        members: world.committee.members()?.into(),
        consistency: Vec::<B256>::new(),
    };
    Ok(Request { to: Some(world.contract.address()), data: call.abi_encode().into() })
}

/// How often a gateway's log was anchored, by the contract's events.
pub(crate) async fn anchorings(world: &World, gateway: Address) -> Result<usize> {
    use alloy::providers::Provider;
    use alloy::rpc::types::Filter;
    use alloy::sol_types::SolEvent;
    let filter = Filter::new()
        .address(world.contract.address())
        .event_signature(Meridian::Anchored::SIGNATURE_HASH)
        .topic1(gateway.into_word())
        .from_block(0);
    Ok(world.chain.provider().get_logs(&filter).await?.len())
}
