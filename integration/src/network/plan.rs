//! What a network is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use meridian_node::{gateway, replica};
use meridian_proofs::Address;
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};

use super::{Member, Name};
use crate::liars::{GatewayLie, ReplicaLie};
use crate::recorder::Recorder;

/// Where the regions of a test network lie.
const PLACES: [(&str, f64, f64); 5] = [
    ("na-west", 37.8, -122.4),
    ("na-east", 39.0, -77.5),
    ("eu-central", 50.1, 8.7),
    ("ap-northeast", 35.7, 139.7),
    ("ap-southeast", 1.35, 103.8),
];

/// What a network is made of.
pub struct Plan {
    /// Number of regions.
    pub regions: u16,
    /// Seats in each region.
    pub seats: u16,
    /// Gateways that run.
    pub gateways: usize,
    /// Gateways that have a key and a place in the committee, and do not run.
    pub vacant_gateways: usize,
    /// Replicas that have a key and no seat in the first epoch, and do not run: their places are after the others'.
    pub later_replicas: usize,
    /// Gateways that have a key and no place in the committee of the first epoch, and do not run.
    pub later_gateways: usize,
    /// Complete regions of a certificate, where it is not the default.
    pub min_copies: Option<u16>,
    /// Shortest and longest retention in seconds.
    pub retention: (u64, u64),
    /// Most bytes of rows that a replica keeps for each gateway.
    pub max_bytes: u64,
    /// Most entries of each gateway in an hour.
    pub max_entries_per_hour: u64,
    /// Replicas that lie, by their place: region after region, seat after seat.
    pub replica_lies: BTreeMap<usize, Arc<dyn ReplicaLie>>,
    /// Gateways that lie to clients, by their place.
    pub gateway_lies: BTreeMap<usize, Arc<dyn GatewayLie>>,
    /// Chain id of all signatures.
    pub chain_id: u64,
    /// What stands in front of every member, and keeps what is sent to it.
    pub recorder: Option<Recorder>,
    /// Settings of every replica.
    pub replica: replica::Settings,
    /// Settings of every gateway.
    pub gateway: gateway::Settings,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            regions: 5,
            seats: 1,
            gateways: 1,
            vacant_gateways: 0,
            later_replicas: 0,
            later_gateways: 0,
            min_copies: None,
            retention: (3_600, 30 * 86_400),
            max_bytes: 1 << 40,
            max_entries_per_hour: 1_000_000,
            replica_lies: BTreeMap::new(),
            gateway_lies: BTreeMap::new(),
            chain_id: 0,
            recorder: None,
            replica: replica::Settings::default(),
            gateway: gateway::Settings::default(),
        }
    }
}

impl Plan {
    /// The default network with one lying replica, in the first region.
    #[must_use]
    pub fn with_replica_lie(lie: impl ReplicaLie) -> Self {
        Self { replica_lies: BTreeMap::from([(0, Arc::new(lie) as Arc<dyn ReplicaLie>)]), ..Self::default() }
    }
}

pub(super) fn committee(plan: &Plan, members: &BTreeMap<Name, Member>) -> Result<Committee> {
    let region = |number: u16| -> Region {
        let (label, latitude, longitude) = PLACES[usize::from(number) % PLACES.len()];
        let lap = usize::from(number) / PLACES.len();
        let label = if lap == 0 { label.to_owned() } else { format!("{label}-{lap}") };
        Region { id: RegionId(number + 1), label, latitude, longitude }
    };
    let (mut seats, mut gateways) = (Vec::new(), Vec::new());
    for member in members.values() {
        let (address, endpoint) = (member.address, member.endpoint.clone());
        match member.name {
            Name::Replica(place) if place >= usize::from(plan.regions * plan.seats) => {}
            Name::Gateway(place) if place >= plan.gateways + plan.vacant_gateways => {}
            Name::Replica(place) => {
                let place = u16::try_from(place)?;
                let (region, number) = (RegionId(place / plan.seats + 1), place % plan.seats);
                seats.push(Seat { region, number, address, endpoint });
            }
            Name::Gateway(_) => gateways.push(GatewayMember {
                address,
                endpoint,
                max_bytes: plan.max_bytes,
                max_entries_per_hour: plan.max_entries_per_hour,
            }),
        }
    }
    Ok(Committee::new(CommitteeParts {
        chain_id: plan.chain_id,
        verifying_contract: Address::ZERO,
        epoch: 1,
        min_copies: plan.min_copies.unwrap_or_else(|| Committee::default_min_copies(plan.regions)),
        min_retention: plan.retention.0,
        max_retention: plan.retention.1,
        regions: (0..plan.regions).map(region).collect(),
        seats,
        gateways,
    })?)
}
