//! Ways between regions that take as long as they do in the world, on one machine.
//!
//! Before each member stands a relay for each place that it is called from: who is at that place reaches the member through
//! it, as late as the place is far. The committee, on a chain too, leads to the relays of the place where clients are, and
//! members elsewhere have a file of routes to those of their own (`node.routes`). All relays are in the process that looks
//! after the devnet, and end with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use meridian_proofs::committee::Committee;
use serde::{Deserialize, Serialize};

use super::plan::{Member, Options, Plan, scheme, write};
use super::regions::{self, round_trip};
use super::relay::{Pipe, State, Wire};
use crate::run::raise_open_files;

/// Bytes a second in a megabit.
const MEGABIT: u64 = 125_000;

/// How far the regions of a devnet are from each other. Kept in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WanPlan {
    /// Where the clients are.
    pub from: String,
    /// Megabits a second that a way between two places carries, in each direction; no limit, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mbps: Option<u32>,
}

impl WanPlan {
    pub(super) fn new(options: &Options, labels: &[String]) -> Result<Self> {
        let from = options.wan_from.as_ref().or(labels.first()).context("a devnet has a region")?.clone();
        ensure!(
            round_trip(&from, &from).is_some(),
            "--wan-from: unknown place {from:?}; known are: {}",
            regions::known()
        );
        ensure!(options.wan_mbps != Some(0), "--wan-mbps must be at least 1");
        Ok(Self { from, mbps: options.wan_mbps })
    }

    /// Where clients are, and how to be one elsewhere.
    pub(super) fn tell(&self, dir: &Path, plan: &Plan) -> String {
        let limit = self.mbps.map_or_else(String::new, |mbps| format!(", {mbps} Mbit/s between regions"));
        format!(
            "  clients are in {}{limit}; to be in PLACE ({}), type this instead of the exports below:\n    \
             unset MERIDIAN_GATEWAY MERIDIAN_CHAIN MERIDIAN_CONTRACT MERIDIAN_SETTLED\n    \
             export MERIDIAN_COMMITTEE={}/committee-from-PLACE.toml XDG_CACHE_HOME={}/cache-PLACE\n",
            self.from,
            plan.places().join(", "),
            dir.display(),
            dir.display()
        )
    }
}

impl Plan {
    /// The places that members are called from: the regions, and where clients are. None where nothing is far.
    pub(super) fn places(&self) -> Vec<&str> {
        let Some(wan) = &self.wan else { return Vec::new() };
        let mut places: Vec<&str> = self.regions.iter().map(String::as_str).collect();
        if !places.contains(&&*wan.from) {
            places.push(&wan.from);
        }
        places
    }
}

/// Where a member is reached from a place, both by their numbers. These ports follow that of the chain, also where there is
/// no chain.
fn door(plan: &Plan, members: usize, place: usize, member: usize) -> SocketAddr {
    plan.at(2 * members + 1 + place * members + member)
}

/// The endpoint at a relay.
fn address(plan: &Plan, door: SocketAddr) -> String {
    format!("{}://{door}", scheme(plan.tls))
}

/// The place of the clients, by its number.
fn clients(plan: &Plan) -> Option<usize> {
    let from = &plan.wan.as_ref()?.from;
    plan.places().iter().position(|place| place == from)
}

/// The endpoint at which clients reach a member.
pub(super) fn endpoint(plan: &Plan, members: usize, number: usize, member: &Member) -> String {
    let place = clients(plan);
    place.map_or_else(|| member.endpoint(), |place| address(plan, door(plan, members, place, number)))
}

fn routes_path(dir: &Path, place: &str) -> PathBuf {
    dir.join(format!("routes-{place}.toml"))
}

fn committee_path_from(dir: &Path, place: &str) -> PathBuf {
    dir.join(format!("committee-from-{place}.toml"))
}

/// The file of routes of a member that does not reach the others where clients do.
pub(super) fn routes_of(dir: &Path, plan: &Plan, member: &Member) -> Option<PathBuf> {
    let (wan, region) = (plan.wan.as_ref()?, plan.regions.get(member.region)?);
    (wan.from != *region).then(|| routes_path(dir, region))
}

/// Writes the committee as it is seen from each place, and the routes from each to the others' relays. Gives the committee as
/// clients see it.
pub(super) fn prepare(
    dir: &Path,
    plan: &Plan,
    members: &[Member],
    committee: Committee,
) -> Result<Committee> {
    let Some(from) = clients(plan) else { return Ok(committee) };
    let seen_from = |place: usize| {
        let mut parts = committee.parts().clone();
        let seats = parts.seats.iter_mut().map(|seat| &mut seat.endpoint);
        for endpoint in seats.chain(parts.gateways.iter_mut().map(|gateway| &mut gateway.endpoint)) {
            let member = members.iter().position(|member| member.endpoint() == *endpoint);
            let door = door(plan, members.len(), place, member.context("a member")?);
            *endpoint = address(plan, door);
        }
        Committee::new(parts).context("these members are no committee")
    };
    for (place, label) in plan.places().into_iter().enumerate() {
        let seen = toml::to_string(&seen_from(place)?).context("cannot spell the committee")?;
        write(&committee_path_from(dir, label), &seen)?;
        let routes: BTreeMap<String, String> = (0..members.len())
            .map(|member| {
                let at = |place| address(plan, door(plan, members.len(), place, member));
                (at(from), at(place))
            })
            .collect();
        if place != from {
            write(&routes_path(dir, label), &toml::to_string(&routes).context("cannot spell the routes")?)?;
        }
    }
    seen_from(from)
}

/// The relays of a devnet, until this is dropped.
pub(super) struct Ways {
    _wires: Vec<Wire>,
}

impl Ways {
    /// Lays them: none where nothing is far.
    ///
    /// # Errors
    /// When one of their ports is taken.
    pub(super) async fn lay(plan: &Plan, members: &[Member]) -> Result<Self> {
        let Some(wan) = &plan.wan else { return Ok(Self { _wires: Vec::new() }) };
        // Every connection is two, in this one process.
        raise_open_files();
        let places = plan.places();
        let mut pipes = BTreeMap::new();
        let mut pipe = |from: usize, to: usize| {
            let rate = u64::from(wan.mbps.filter(|_| from != to)?) * MEGABIT;
            Some(Arc::clone(pipes.entry((from, to)).or_insert_with(|| Arc::new(Pipe::new(rate)))))
        };
        let mut wires = Vec::with_capacity(places.len() * members.len());
        for (from, label) in places.iter().enumerate() {
            for (number, member) in members.iter().enumerate() {
                let to = plan.regions.get(member.region).context("a member is in a region")?;
                let time = round_trip(label, to).context("a place that is known")?;
                let pipes = [pipe(from, member.region), pipe(member.region, from)];
                let at = door(plan, members.len(), from, number);
                wires.push(Wire::lay_at(at, member.grpc, State::far(time / 2), pipes).await?);
            }
        }
        Ok(Self { _wires: wires })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};
    use std::fs;

    use super::*;
    use crate::config::roles::{GatewayConfig, ReplicaConfig};
    use crate::devnet::chain::Kind;
    use crate::{committee_cmd, config};

    fn options() -> Options {
        Options { wan: true, ..Options::default() }
    }

    /// Seats and gateways as a committee file has them.
    fn endpoints(path: &Path) -> Vec<String> {
        let committee = committee_cmd::load(path).unwrap();
        let gateways = committee.gateways().iter().map(|gateway| gateway.endpoint.clone());
        gateways.chain(committee.seats().iter().map(|seat| seat.endpoint.clone())).collect()
    }

    #[test]
    fn every_place_has_a_way_of_its_own_to_every_member() {
        let dir = tempfile::tempdir().unwrap();
        let asked = Options { gateways: Some(2), wan_from: Some("eu-central".into()), ..options() };
        let plan = Plan::prepare(dir.path(), &asked).unwrap();
        let members = plan.members(dir.path());
        let regions: Vec<usize> = members.iter().map(|member| member.region).collect();
        assert_eq!(regions, [0, 1, 0, 1, 2, 3, 4], "gateways are in the regions in turn");
        let mut doors = BTreeSet::new();
        let seen = endpoints(&dir.path().join("committee.toml"));
        for place in &plan.regions {
            let from = endpoints(&committee_path_from(dir.path(), place));
            assert_eq!(from.len(), members.len());
            assert!(from.iter().all(|endpoint| doors.insert(endpoint.clone())), "{place} shares a relay");
            assert_eq!(seen == from, place == "eu-central");
            let path = routes_path(dir.path(), place);
            assert_eq!(path.exists(), place != "eu-central", "{place}");
            if path.exists() {
                let routes: HashMap<String, String> =
                    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
                let there: Vec<&String> = seen.iter().map(|endpoint| &routes[endpoint]).collect();
                assert_eq!(there, from.iter().collect::<Vec<_>>());
            }
        }
        assert!(members.iter().all(|member| !doors.contains(&member.endpoint())));
        for member in &members {
            let file = member.config();
            let node = if member.role == "gateway" {
                config::load::<GatewayConfig>(Some(&file), &[]).unwrap().node
            } else {
                config::load::<ReplicaConfig>(Some(&file), &[]).unwrap().node
            };
            let routes = routes_of(dir.path(), &plan, member).unwrap_or_default();
            assert_eq!(node.routes, routes, "{}", member.name);
            assert!(routes.as_os_str().is_empty() || routes.exists());
        }
        // In the committee they ascend by address.
        assert!(seen.contains(&endpoint(&plan, members.len(), 0, &members[0])));
    }

    #[test]
    fn a_folder_keeps_its_distances() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::prepare(dir.path(), &Options { wan_mbps: Some(500), ..options() }).unwrap();
        assert_eq!(plan.wan, Some(WanPlan { from: "na-west".into(), mbps: Some(500) }));
        for again in [Options::default(), options(), Options { wan_mbps: Some(500), ..options() }] {
            assert_eq!(Plan::prepare(dir.path(), &again).unwrap(), plan);
        }
        let refused = |dir: &Path, options: &Options| Plan::prepare(dir, options).unwrap_err().to_string();
        let said = refused(dir.path(), &Options { wan_from: Some("eu-west".into()), ..options() });
        assert!(said.contains("has --wan-from na-west, not eu-west"), "{said}");
        let said = refused(dir.path(), &Options { wan_mbps: Some(5), ..options() });
        assert!(said.contains("has --wan-mbps 500, not 5"), "{said}");
        let near = tempfile::tempdir().unwrap();
        Plan::prepare(near.path(), &Options::default()).unwrap();
        let said = refused(near.path(), &options());
        assert!(said.contains("has --wan off, not on"), "{said}");
    }

    #[test]
    fn clients_may_be_where_no_region_is_and_nowhere_else() {
        let plan = Plan::new(&Options { wan_from: Some("sa-east".into()), ..options() }).unwrap();
        assert_eq!(plan.places().len(), 6);
        assert!(Plan::new(&Options { wan_mbps: Some(0), ..options() }).is_err());
        let error = Plan::new(&Options { wan_from: Some("mars".into()), ..options() }).unwrap_err();
        assert!(error.to_string().contains("me-central"), "{error}");
        // Six members, two ports each, one of the chain, and five relays each.
        for (port, fine) in [(65_493, true), (65_494, false)] {
            for chain in [None, Some(Kind::Anvil)] {
                let options = Options { base_port: Some(port), chain, ..options() };
                assert_eq!(Plan::new(&options).is_ok(), fine, "{port}");
            }
        }
    }
}
