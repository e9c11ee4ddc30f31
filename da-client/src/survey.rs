//! Asks every node how it is.

use std::time::{Duration, Instant};

use futures::future::join_all;
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::Seat;
use meridian_proto::convert::{GatewayStatus, ReplicaStatus};
use meridian_proto::error::ApiError;

use crate::fetch::Reader;
use crate::nearest::Took;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// What a replica answered.
#[derive(Clone, Debug)]
pub struct SeatAnswer {
    /// Its seat.
    pub seat: Seat,
    /// Its status and how long the answer took.
    pub status: Result<(ReplicaStatus, Duration), ApiError>,
    /// The logs that it cosigns.
    pub logs: Vec<CosignedCheckpoint>,
}

impl Reader {
    /// Asks every replica for its status and its logs, all at once. In the order of regions and seat numbers.
    pub async fn survey(&self) -> Vec<SeatAnswer> {
        let committee = self.committee();
        let seats = committee.regions().iter().flat_map(|region| committee.seats_of(region.id));
        join_all(seats.map(|seat| self.survey_seat(seat))).await
    }

    /// Asks gateways for their status, all at once.
    pub async fn survey_gateways(&self, gateways: &[String]) -> Vec<Result<GatewayStatus, ApiError>> {
        join_all(
            gateways.iter().map(|gateway| async move {
                self.channels().gateway(gateway)?.within(DEADLINE).status().await
            }),
        )
        .await
    }

    async fn survey_seat(&self, seat: &Seat) -> SeatAnswer {
        // The first call pays for the connection; the second measures the round trip.
        let logs = async { self.channels().log(&seat.endpoint)?.within(DEADLINE).list().await }.await;
        let status = match &logs {
            Ok(_) => {
                let started = Instant::now();
                let call = async { self.channels().replica(&seat.endpoint)?.within(DEADLINE).status().await };
                let status = call.await;
                status.map(|status| (status, started.elapsed()))
            }
            Err(error) => Err(error.clone()),
        };
        match &status {
            Ok((_, round_trip)) => self.nearest().answered(seat.address, Took::RoundTrip(*round_trip)),
            Err(_) => self.nearest().failed(seat.address),
        }
        SeatAnswer { seat: seat.clone(), status, logs: logs.unwrap_or_default() }
    }
}
