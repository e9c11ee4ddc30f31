//! Whether a put and a read would find enough members now.

use std::time::Duration;

use futures::future::join;
use meridian_proofs::committee::RegionId;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::fetch::Reader;

/// How long what was found is told again: whoever looks often asks the network no more often.
const KEEP: Duration = Duration::from_secs(2);

/// What was last found.
#[derive(Default)]
pub(super) struct Readiness(Mutex<Option<(Instant, Report)>>);

/// What `/ready` says.
#[derive(Clone, Serialize, Debug)]
pub(super) struct Report {
    /// Whether a gateway and enough regions answer.
    pub(super) ready: bool,
    /// Regions in which enough replicas answer, and how many of them a certificate needs.
    regions_answering: usize,
    regions_needed: usize,
    gateways: Vec<GatewayState>,
    regions: Vec<RegionState>,
}

#[derive(Clone, Serialize, Debug)]
struct GatewayState {
    endpoint: String,
    answers: bool,
}

#[derive(Clone, Serialize, Debug)]
struct RegionState {
    label: String,
    seats: usize,
    answering: usize,
}

impl Readiness {
    /// Asks every gateway and replica, if nobody has just now.
    pub(super) async fn report(&self, reader: &Reader, gateways: &[String]) -> Report {
        let mut last = self.0.lock().await;
        if let Some((_, report)) = last.as_ref().filter(|(at, _)| at.elapsed() < KEEP) {
            return report.clone();
        }
        let report = ask(reader, gateways).await;
        *last = Some((Instant::now(), report.clone()));
        report
    }
}

async fn ask(reader: &Reader, gateways: &[String]) -> Report {
    let (answers, seats) = join(reader.survey_gateways(gateways), reader.survey()).await;
    let gateways: Vec<GatewayState> = gateways
        .iter()
        .zip(&answers)
        .map(|(endpoint, answer)| GatewayState { endpoint: endpoint.clone(), answers: answer.is_ok() })
        .collect();
    let committee = reader.committee();
    let answering = |region: RegionId| {
        seats.iter().filter(|answer| answer.seat.region == region && answer.status.is_ok()).count()
    };
    let regions_answering = committee
        .regions()
        .iter()
        .filter(|region| {
            let quorum = committee.quorum(region.id);
            quorum > 0 && answering(region.id) >= quorum
        })
        .count();
    let regions = committee.regions().iter().map(|region| RegionState {
        label: region.label.clone(),
        seats: committee.seats_of(region.id).count(),
        answering: answering(region.id),
    });
    let regions_needed = committee.min_copies();
    Report {
        ready: regions_answering >= regions_needed && gateways.iter().any(|gateway| gateway.answers),
        regions_answering,
        regions_needed,
        gateways,
        regions: regions.collect(),
    }
}
