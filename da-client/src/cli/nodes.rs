//! `da regions` and `da status`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Printed;
use super::exit::Problem;
use super::report::{GatewayReport, LogSize, RegionReport, RegionsReport, ReplicaReport, StatusReport};
use super::session::{Session, label};
use super::text::{known, micros, table};
use crate::submit::unix_now;

/// Shows the regions, nearest first.
pub(crate) async fn regions(session: &Session) -> Result<Printed, Problem> {
    let reader = session.reader().await?;
    let committee = reader.committee();
    let answers = reader.survey().await;
    let mut regions = Vec::new();
    for id in reader.nearest().regions(committee, 0, |_| Duration::ZERO) {
        let seats = || answers.iter().filter(|answer| answer.seat.region == id);
        let round_trips = seats().filter_map(|answer| answer.status.as_ref().ok().map(|(_, trip)| *trip));
        let mut logs = BTreeMap::new();
        for checkpoint in seats().flat_map(|answer| &answer.logs) {
            let size = logs.entry(checkpoint.signed.checkpoint.gateway).or_insert(0);
            *size = checkpoint.signed.checkpoint.size.max(*size);
        }
        regions.push(RegionReport {
            id: id.0,
            label: label(committee, id),
            round_trip_us: round_trips.min().map(micros),
            reachable: seats().filter(|answer| answer.status.is_ok()).count(),
            seats: seats().count(),
            quorum: committee.quorum(id),
            logs: logs.into_iter().map(|(log, size)| LogSize { log: log.to_string(), size }).collect(),
        });
    }
    let report = RegionsReport { epoch: committee.epoch(), min_copies: committee.min_copies(), regions };
    let rows = report.regions.iter().map(|region| {
        let logs = region.logs.iter().map(|log| format!("{} entries in {}", log.size, log.log));
        vec![
            region.label.clone(),
            region.round_trip_us.map_or_else(|| "out of reach".to_owned(), |trip| format!("{trip} us")),
            format!("{} of {}", region.reachable, region.seats),
            logs.collect::<Vec<_>>().join("\n"),
        ]
    });
    let text = table(&["region", "round trip", "seats", "logs"], rows);
    Printed::new(&report, text)
}

/// Shows what gateways and replicas are doing.
pub(crate) async fn status(session: &Session) -> Result<Printed, Problem> {
    let readers = session.readers().await?;
    let (view, reader) = (readers.view(), readers.current());
    let committee = reader.committee();
    let endpoints = session.gateways(committee);
    let (answers, gateways) = tokio::join!(reader.survey(), reader.survey_gateways(&endpoints));
    let gateways = endpoints
        .into_iter()
        .zip(gateways)
        .map(|(endpoint, answer)| {
            let (status, error) = split(answer);
            let status = status.as_ref();
            let member = || committee.gateways().iter().find(|member| member.endpoint == endpoint);
            let address =
                status.map(|status| status.address).or_else(|| member().map(|member| member.address));
            let anchor = address.and_then(|address| view.latest_anchor(&address));
            let certified = status.map(|status| status.certified_size);
            GatewayReport {
                reachable: status.is_some(),
                anchored_size: anchor.map(|anchor| anchor.size),
                anchored_epoch: anchor.map(|anchor| anchor.epoch),
                anchored_block: anchor.map(|anchor| anchor.block),
                anchor_age_s: anchor.map(|anchor| unix_now().saturating_sub(anchor.timestamp)),
                anchor_waiting: view
                    .head
                    .and(certified)
                    .map(|certified| certified.saturating_sub(anchor.map_or(0, |anchor| anchor.size))),
                address: status.map(|status| status.address.to_string()),
                log_size: status.map(|status| status.log_size),
                certified_size: status.map(|status| status.certified_size),
                puts_in_flight: status.map(|status| status.puts_in_flight),
                uploads_pending: status.map(|status| status.uploads_pending),
                version: status.map(|status| status.version.clone()),
                endpoint,
                error,
            }
        })
        .collect();
    let replicas = answers
        .into_iter()
        .map(|answer| {
            let (status, error) = split(answer.status);
            let (status, round_trip) = status.unzip();
            let status = status.as_ref();
            ReplicaReport {
                address: answer.seat.address.to_string(),
                region: label(committee, answer.seat.region),
                seat: answer.seat.number,
                endpoint: answer.seat.endpoint,
                reachable: status.is_some(),
                round_trip_us: round_trip.map(micros),
                blobs: status.map(|status| status.blobs),
                row_bytes: status.map(|status| status.row_bytes),
                max_bytes: status.map(|status| status.max_bytes),
                logs: status.map(|status| status.logs),
                version: status.map(|status| status.version.clone()),
                error,
            }
        })
        .collect();
    let report = StatusReport {
        epoch: committee.epoch(),
        committee: committee.fingerprint().to_string(),
        block: view.head.map(|head| head.number),
        block_timestamp: view.head.map(|head| head.timestamp),
        gateways,
        replicas,
    };
    let text = text(&report);
    Printed::new(&report, text)
}

fn split<T, E: ToString>(answer: Result<T, E>) -> (Option<T>, Option<String>) {
    match answer {
        Ok(status) => (Some(status), None),
        Err(error) => (None, Some(error.to_string())),
    }
}

/// The last anchor of a gateway, its age, and what waits for the next.
fn anchor(gateway: &GatewayReport) -> String {
    let waiting = gateway.anchor_waiting.map(|entries| format!(", {entries} wait"));
    match (gateway.anchored_size, gateway.anchor_age_s) {
        (Some(size), Some(age)) => format!("{size} entries, {age} s ago{}", waiting.unwrap_or_default()),
        _ => waiting.map_or_else(|| known::<u64>(None), |waiting| format!("none{waiting}")),
    }
}

fn text(report: &StatusReport) -> String {
    let gateways = report.gateways.iter().map(|gateway| {
        vec![
            gateway.endpoint.clone(),
            gateway.error.clone().unwrap_or_else(|| "up".to_owned()),
            known(gateway.log_size),
            known(gateway.certified_size),
            known(gateway.puts_in_flight),
            known(gateway.uploads_pending),
            anchor(gateway),
        ]
    });
    let replicas = report.replicas.iter().map(|replica| {
        vec![
            format!("{}-{}", replica.region, replica.seat),
            replica.endpoint.clone(),
            replica.error.clone().unwrap_or_else(|| "up".to_owned()),
            replica.round_trip_us.map_or_else(|| known::<u64>(None), |trip| format!("{trip} us")),
            known(replica.blobs),
            known(replica.row_bytes),
            known(replica.logs),
        ]
    });
    format!(
        "committee {} of epoch {}\n{}\n{}",
        report.committee,
        report.epoch,
        table(&["gateway", "state", "entries", "certified", "puts", "uploads", "last anchor"], gateways),
        table(&["replica", "endpoint", "state", "round trip", "blobs", "bytes", "logs"], replicas)
    )
}
