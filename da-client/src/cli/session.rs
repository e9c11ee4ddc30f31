//! What the commands that need the network share: committee, gateways, connections.

use std::sync::{Arc, OnceLock};

use meridian_proofs::committee::{Committee, RegionId};

use super::args::Global;
use super::exit::Problem;
use crate::committee_source::{self, CommitteeFault};
use crate::fetch::Reader;
use crate::rpc::Channels;

/// One run of the program.
pub(crate) struct Session {
    global: Global,
    channels: Channels,
    committee: OnceLock<Arc<Committee>>,
}

impl Session {
    /// A session that has not connected to anybody.
    pub(crate) fn new(global: Global) -> Self {
        Self { global, channels: Channels::default(), committee: OnceLock::new() }
    }

    /// Whether an object is printed instead of a text.
    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// The connections.
    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }

    /// The committee, when it was needed already.
    pub(crate) fn known_committee(&self) -> Option<&Committee> {
        self.committee.get().map(Arc::as_ref)
    }

    /// The committee: from the file that was named, or the pinned one.
    pub(crate) async fn committee(&self) -> Result<Arc<Committee>, Problem> {
        if let Some(committee) = self.committee.get() {
            return Ok(committee.clone());
        }
        let committee = match &self.global.committee {
            Some(path) => committee_source::load(path)?,
            None => {
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
                pinned.committee
            }
        };
        Ok(self.committee.get_or_init(|| Arc::new(committee)).clone())
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

    /// The gateways that were named, or those of the committee.
    pub(crate) fn gateways(&self, committee: &Committee) -> Vec<String> {
        if self.global.gateway.is_empty() {
            committee.gateways().iter().map(|gateway| gateway.endpoint.clone()).collect()
        } else {
            self.global.gateway.clone()
        }
    }

    /// A reader of the committee's replicas.
    pub(crate) async fn reader(&self) -> Result<Reader, Problem> {
        Ok(Reader::new(self.committee().await?, self.channels.clone()))
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
