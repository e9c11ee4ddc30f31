//! What the commands that need the network share: committees, gateways, connections.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use meridian_proofs::committee::{Committee, RegionId};
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use super::args::Global;
use super::exit::{Exit, Problem};
use crate::chain::contract::Contract;
use crate::chain::rpc::{Patience, Pool, RpcUrl};
use crate::chain::source::{self, ChainSource, CommitteeSource, FixedSource, Reading};
use crate::chain::view::View;
use crate::committee_source::{self, CommitteeFault};
use crate::fetch::{Reader, Readers};
use crate::nearest::{self, Nearest};
use crate::rpc::Channels;
use crate::submit::unix_now;

/// Time between two looks at the chain.
const POLL: Duration = Duration::from_secs(4);

/// One run of the program.
pub(crate) struct Session {
    global: Global,
    channels: Channels,
    nearest: Arc<Nearest>,
    contract: OnceCell<Option<Contract>>,
    view: OnceCell<watch::Sender<Arc<View>>>,
    committee: OnceLock<Arc<Committee>>,
}

impl Session {
    /// A session that has not connected to anybody.
    pub(crate) fn new(global: Global) -> Result<Self, Problem> {
        let trust = global.trust.trust().map_err(|error| {
            let next = "check --ca, --client-certificate and --client-key, or MERIDIAN_CA";
            Problem::new(Exit::Local, "TLS", error, next)
        })?;
        let nearest = nearest::kept_path()
            .map_or_else(|| Nearest::at(global.near), |path| Nearest::load(&path, global.near));
        Ok(Self {
            global,
            channels: Channels::new().trusting(trust),
            nearest: Arc::new(nearest),
            contract: OnceCell::new(),
            view: OnceCell::new(),
            committee: OnceLock::new(),
        })
    }

    /// Whether an object is printed instead of a text.
    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// What is known of distances.
    pub(crate) fn nearest(&self) -> Arc<Nearest> {
        Arc::clone(&self.nearest)
    }

    /// The connections.
    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Has files of whom to trust read again when they change, for commands that run on.
    pub(crate) fn keep_looking(&self) {
        tokio::spawn(self.channels.trust().clone().keep_looking(drop));
    }

    /// The committee, when it was needed already.
    pub(crate) fn known_committee(&self) -> Option<&Committee> {
        self.committee.get().map(Arc::as_ref)
    }

    /// The contract, where a chain was named.
    pub(crate) async fn contract(&self) -> Result<Option<&Contract>, Problem> {
        let contract = self.contract.get_or_try_init(|| async {
            let Global { chain, contract, chain_id, .. } = &self.global;
            if chain.is_empty() {
                return match contract {
                    None => Ok(None),
                    Some(_) => {
                        Err(Problem::usage("a contract is named, and no chain", "name one with --chain"))
                    }
                };
            }
            if self.global.committee.is_some() {
                let message = "a committee file and a chain are named";
                return Err(Problem::usage(message, "leave out --committee or --chain"));
            }
            let advice = "name the contract with --contract";
            let contract =
                contract.ok_or_else(|| Problem::usage("a chain is named, and no contract", advice))?;
            let urls: Vec<RpcUrl> = chain
                .iter()
                .map(|url| url.parse())
                .collect::<Result<_, _>>()
                .map_err(|error| Problem::usage(error, "check --chain"))?;
            let pool = match chain_id {
                Some(id) => Pool::new(&urls, *id, Patience::default())?,
                None => Pool::discover(&urls, Patience::default()).await?,
            };
            Ok(Some(Contract::new(pool, contract)))
        });
        Ok(contract.await?.as_ref())
    }

    /// What keeps the view up to date: the chain, read again and again, or a committee that never changes.
    pub(crate) async fn source(&self) -> Result<Box<dyn CommitteeSource>, Problem> {
        Ok(match self.contract().await? {
            Some(contract) => {
                let source = ChainSource::connect(contract.pool().clone(), self.reading(contract), POLL);
                Box::new(source.await?)
            }
            None => Box::new(FixedSource::new(self.committee().await?)),
        })
    }

    /// The same, unless the program is stopped before there is one.
    pub(crate) async fn source_until(
        &self,
        stop: &CancellationToken,
    ) -> Result<Box<dyn CommitteeSource>, Problem> {
        tokio::select! {
            source = self.source() => source,
            () = stop.cancelled() => {
                let message = "stopped before the committee was known";
                Err(Problem::new(Exit::Unavailable, "CHAIN_UNAVAILABLE", message, "check --chain"))
            }
        }
    }

    fn reading(&self, contract: &Contract) -> Reading {
        Reading {
            contract: contract.address(),
            settled: self.global.settled,
            from_block: self.global.from_block,
        }
    }

    /// What is known of the epochs: from the chain, the file that was named, or the pinned committee.
    pub(crate) async fn view(&self) -> Result<watch::Receiver<Arc<View>>, Problem> {
        let view = self.view.get_or_try_init(|| async {
            let view = match self.contract().await? {
                Some(contract) => source::read(contract.pool().clone(), self.reading(contract)).await?,
                None => View::fixed(self.file_or_pin().await?),
            };
            let current = Arc::clone(&view.epochs.current(unix_now()).committee);
            self.committee.get_or_init(|| current);
            Ok::<_, Problem>(watch::Sender::new(Arc::new(view)))
        });
        Ok(view.await?.subscribe())
    }

    /// The current committee.
    pub(crate) async fn committee(&self) -> Result<Arc<Committee>, Problem> {
        let view = self.view().await?;
        let committee = Arc::clone(&view.borrow().epochs.current(unix_now()).committee);
        Ok(committee)
    }

    async fn file_or_pin(&self) -> Result<Arc<Committee>, Problem> {
        if let Some(path) = &self.global.committee {
            return Ok(Arc::new(committee_source::load(path)?));
        }
        let path = committee_source::pin_path().ok_or(CommitteeFault::Nowhere)?;
        let pinned = committee_source::pinned(&path, &self.global.gateway, &self.channels).await?;
        if let Some(gateway) = pinned.taken_from {
            eprintln!(
                "da: warning: committee {} of {gateway} is trusted from now on and pinned in {}; \
                 compare the fingerprint with what its operators publish",
                pinned.committee.fingerprint(),
                path.display()
            );
        }
        Ok(Arc::new(pinned.committee))
    }

    /// The committee from a file or pin, without any network.
    pub(crate) fn committee_offline(&self) -> Result<Arc<Committee>, Problem> {
        let path = match &self.global.committee {
            Some(path) => path.clone(),
            None => {
                committee_source::pin_path().filter(|path| path.exists()).ok_or(CommitteeFault::Nowhere)?
            }
        };
        let committee = committee_source::load(&path)?;
        Ok(self.committee.get_or_init(|| Arc::new(committee)).clone())
    }

    /// The gateways that were named.
    pub(crate) fn named_gateways(&self) -> &[String] {
        &self.global.gateway
    }

    /// The gateways that were named, or those of the committee.
    pub(crate) fn gateways(&self, committee: &Committee) -> Vec<String> {
        if self.global.gateway.is_empty() {
            committee.gateways().iter().map(|gateway| gateway.endpoint.clone()).collect()
        } else {
            self.global.gateway.clone()
        }
    }

    /// A reader of the current committee's replicas.
    pub(crate) async fn reader(&self) -> Result<Reader, Problem> {
        Ok(self.readers().await?.current())
    }

    /// Readers of the replicas of all epochs.
    pub(crate) async fn readers(&self) -> Result<Readers, Problem> {
        let readers = Readers::new(self.view().await?, self.channels.clone());
        Ok(readers.measuring(Arc::clone(&self.nearest)))
    }

    /// Keeps what was measured for the next run. Without that it only begins slower.
    pub(crate) fn keep_measurements(&self) {
        if let Some(path) = nearest::kept_path()
            && self.nearest.is_measured()
            && let Err(error) = self.nearest.save(&path)
        {
            tracing::debug!(path = %path.display(), %error, "measurements cannot be kept");
        }
    }
}

/// The label of a region.
pub(crate) fn label(committee: &Committee, region: RegionId) -> String {
    committee.region(region).map_or_else(|| region.to_string(), |region| region.label.clone())
}

/// The labels of regions.
pub(crate) fn labels<'a>(
    committee: &Committee,
    regions: impl IntoIterator<Item = &'a RegionId>,
) -> Vec<String> {
    regions.into_iter().map(|region| label(committee, *region)).collect()
}
