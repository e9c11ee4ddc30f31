//! Epochs and anchors of a network, as a chain would tell of them.

use std::sync::Arc;

use anyhow::{Context, Result};
use meridian_client::chain::view::{Anchor, Head, View};
use meridian_proofs::committee::epochs::{Epochs, Term};
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, RegionId, Seat};

use super::{Member, Name, Network};

impl Network {
    /// Makes the committee of another epoch, out of that of the first.
    ///
    /// # Errors
    /// When it is no committee.
    pub fn committee_of(
        &self,
        epoch: u64,
        change: impl FnOnce(&mut CommitteeParts),
    ) -> Result<Arc<Committee>> {
        let mut parts = CommitteeParts { epoch, ..self.committee.parts().clone() };
        change(&mut parts);
        Ok(Arc::new(Committee::new(parts)?))
    }

    /// A replica in a seat.
    ///
    /// # Errors
    /// When there is no such replica.
    pub fn seated(&self, place: usize, region: RegionId, number: u16) -> Result<Seat> {
        let Member { address, endpoint, .. } = self.member(Name::Replica(place))?;
        Ok(Seat { region, number, address: *address, endpoint: endpoint.clone() })
    }

    /// A gateway in the committee, with the quotas of the first of the first epoch.
    ///
    /// # Errors
    /// When there is no such gateway.
    pub fn appointed(&self, place: usize) -> Result<GatewayMember> {
        let Member { address, endpoint, .. } = self.member(Name::Gateway(place))?;
        let first = self.committee.gateways().first().context("no gateway in the first epoch")?;
        Ok(GatewayMember { address: *address, endpoint: endpoint.clone(), ..first.clone() })
    }

    /// Lets everybody know of the next epoch: it begins at a time, and the one before closes `grace` seconds later.
    ///
    /// # Errors
    /// When it does not follow the epochs that there are.
    pub fn schedule(&self, committee: Arc<Committee>, activation: u64, grace: u64) -> Result<()> {
        let mut view = View::clone(&self.view.borrow());
        let mut terms = view.epochs.terms().to_vec();
        if let Some(last) = terms.last_mut() {
            last.closes = Some(activation + grace);
        }
        terms.push(Term { committee, activation, closes: None });
        view.epochs = Epochs::new(terms)?;
        self.view.send_replace(Arc::new(view));
        Ok(())
    }

    /// Lets everybody know of an anchor.
    pub fn anchor(&self, anchor: Anchor) {
        self.view.send_modify(|view| {
            let anchors = Arc::make_mut(view).anchors.entry(anchor.gateway).or_default();
            anchors.retain(|earlier| earlier.epoch != anchor.epoch);
            anchors.push(anchor);
        });
    }

    /// Lets everybody know how far the chain is, unix seconds.
    pub fn settled(&self, timestamp: u64) {
        let head = Some(Head { number: timestamp, timestamp });
        self.view.send_modify(|view| Arc::make_mut(view).head = head);
    }
}
