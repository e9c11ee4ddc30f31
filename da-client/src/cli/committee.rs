//! `da committee`.

use meridian_proofs::committee::epochs::{EpochState, Term};
use meridian_proofs::keccak256;

use super::Printed;
use super::exit::Problem;
use super::report::{CommitteeReport, EpochReport};
use super::session::Session;
use super::text::table;
use crate::submit::unix_now;
use crate::time::utc;

/// Shows the epochs, the latest first.
pub(crate) async fn run(session: &Session) -> Result<Printed, Problem> {
    let view = session.view().await?;
    let view = view.borrow().clone();
    let now = unix_now();
    let current = view.epochs.current(now).committee.epoch();
    let epoch = |term: &Term| {
        let committee = &term.committee;
        let state = match view.epochs.state(committee.epoch(), now) {
            _ if committee.epoch() == current => "current",
            EpochState::Open => "grace",
            EpochState::NotYet => "scheduled",
            EpochState::Closed | EpochState::Unknown => "closed",
        };
        EpochReport {
            epoch: committee.epoch(),
            state: state.to_owned(),
            activation: view.head.map(|_| term.activation),
            closes: term.closes,
            fingerprint: committee.fingerprint().to_string(),
            members: committee.members().ok().map(|members| keccak256(members).to_string()),
            regions: committee.regions().len(),
            seats: committee.seats().len(),
            gateways: committee.gateways().len(),
            min_copies: committee.min_copies(),
        }
    };
    let domain = view.epochs.latest().committee.domain();
    let report = CommitteeReport {
        chain_id: domain.chain_id,
        contract: domain.verifying_contract.to_string(),
        block: view.head.map(|head| head.number),
        block_timestamp: view.head.map(|head| head.timestamp),
        epochs: view.epochs.terms().iter().rev().map(epoch).collect(),
    };
    let rows = report.epochs.iter().map(|epoch| {
        let time = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), utc);
        vec![
            epoch.epoch.to_string(),
            epoch.state.clone(),
            time(epoch.activation),
            time(epoch.closes),
            format!("{} of {}", epoch.min_copies, epoch.regions),
            epoch.seats.to_string(),
            epoch.gateways.to_string(),
            epoch.fingerprint.clone(),
        ]
    });
    let head = ["epoch", "state", "begins", "closes", "copies", "seats", "gateways", "fingerprint"];
    let text = table(&head, rows);
    Printed::new(&report, text)
}
