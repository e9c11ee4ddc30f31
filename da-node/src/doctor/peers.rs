//! The other members: who answers, as whom, and what their clocks say.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use meridian_client::rpc::Channels;
use meridian_proofs::Address;
use meridian_proofs::committee::{Committee, RegionId};
use meridian_proto::error::ApiError;

use super::Finding;
use super::clock::Offset;
use super::ports::Holder;
use crate::clock::Clock;
use crate::store::Role;

/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Members that are asked at a time.
const AT_A_TIME: usize = 256;

/// A member of the committee.
pub(super) struct Peer {
    /// The address in the committee.
    pub(super) address: Address,
    /// The region of its seat; nothing for a gateway.
    region: Option<RegionId>,
    endpoint: String,
    answer: Result<Answer, ApiError>,
}

/// What a host says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// The address of its key.
    pub(super) address: Address,
    /// Its clock; nothing from an older program.
    offset: Option<Offset>,
}

impl Peer {
    /// Whether it answers, and with the key that the committee says.
    fn is_there(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| answer.address == self.address)
    }

    fn why(&self) -> String {
        match &self.answer {
            Ok(answer) => format!("{} is answered by another key, {}", self.endpoint, answer.address),
            Err(error) => format!("{}: {}", self.endpoint, error.message),
        }
    }
}

/// Asks every member of a committee.
pub(super) async fn ask(committee: &Committee, channels: &Channels) -> Vec<Peer> {
    let gateways =
        committee.gateways().iter().map(|it| (Role::Gateway, it.address, None, it.endpoint.clone()));
    let seats =
        committee.seats().iter().map(|it| (Role::Replica, it.address, Some(it.region), it.endpoint.clone()));
    let asked = gateways.chain(seats).map(|(role, address, region, endpoint)| async move {
        let answer = status(role, channels, &endpoint).await;
        Peer { address, region, endpoint, answer }
    });
    stream::iter(asked.collect::<Vec<_>>()).buffered(AT_A_TIME).collect().await
}

/// Asks one host who it is and what its clock says.
pub(super) async fn status(role: Role, channels: &Channels, endpoint: &str) -> Result<Answer, ApiError> {
    let call = async || match role {
        Role::Gateway => {
            let status = channels.gateway(endpoint)?.within(ANSWER_WITHIN).status().await?;
            Ok::<_, ApiError>((status.address, status.now_ms))
        }
        Role::Replica => {
            let status = channels.replica(endpoint)?.within(ANSWER_WITHIN).status().await?;
            Ok((status.address, status.now_ms))
        }
    };
    // The first call pays for the connection.
    call().await?;
    let (before, begun) = (Clock::system().now_ms(), Instant::now());
    let (address, theirs) = call().await?;
    let round_trip = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let offset = (theirs != 0).then(|| Offset::new(theirs, before, round_trip));
    Ok(Answer { address, offset })
}

/// What clocks say.
pub(super) fn offsets(peers: &[Peer]) -> Vec<Offset> {
    peers.iter().filter_map(|peer| peer.answer.as_ref().ok()?.offset).collect()
}

/// Whether this very host answers where the committee says that it does, and nobody else with its key.
pub(super) fn own(role: Role, peers: &[Peer], address: Option<Address>, here: &Holder) -> Option<Finding> {
    const CHECK: &str = "endpoint";
    let own = peers
        .iter()
        .find(|peer| Some(peer.address) == address && peer.region.is_some() == (role == Role::Replica))?;
    Some(match (own.is_there(), here) {
        (true, Holder::Ours) => Finding::ok(CHECK, format!("the committee's {} leads here", own.endpoint)),
        (true, _) => {
            let said =
                format!("a host with this key answers at {}, and not on this host's port", own.endpoint);
            let advice = "never run two hosts with one key: stop one of them, or correct listen.grpc";
            Finding::problem(CHECK, said, advice)
        }
        (false, Holder::Ours) => {
            let advice =
                "look at the name, the port and the firewall in between: others reach this host there";
            Finding::problem(CHECK, own.why(), advice)
        }
        (false, _) => {
            Finding::ok(CHECK, format!("{} is not answered while this host does not run", own.endpoint))
        }
    })
}

/// Whether gateways are in reach.
pub(super) fn gateways(role: Role, peers: &[Peer]) -> Finding {
    const CHECK: &str = "gateways";
    let gateways: Vec<&Peer> = peers.iter().filter(|peer| peer.region.is_none()).collect();
    if gateways.is_empty() {
        return Finding::ok(CHECK, "there is no other gateway");
    }
    let away: Vec<String> = gateways.iter().filter(|it| !it.is_there()).map(|it| it.why()).collect();
    let there = gateways.len() - away.len();
    let said = format!("{there} of {} answer{}", gateways.len(), list(&away));
    match (away.is_empty(), there) {
        (true, _) => Finding::ok(CHECK, said),
        (false, 0) if role == Role::Replica => {
            let advice =
                "nothing can be put: start a gateway, or look at the network between it and this host";
            Finding::problem(CHECK, said, advice)
        }
        (false, _) => Finding::warning(CHECK, said, "ask the operators of those that do not answer"),
    }
}

/// Whether as many regions as a certificate needs are in reach, this host's own counted.
pub(super) fn regions(role: Role, committee: &Committee, peers: &[Peer], own: Option<Address>) -> Finding {
    const CHECK: &str = "regions";
    let own = own.filter(|_| role == Role::Replica);
    let there = |address: &Address| {
        own.as_ref() == Some(address) || peers.iter().any(|it| it.address == *address && it.is_there())
    };
    let complete = committee.regions().iter().filter(|region| {
        committee.seats_of(region.id).filter(|seat| there(&seat.address)).count()
            >= committee.quorum(region.id)
    });
    let complete = complete.count();
    let away = peers.iter().filter(|peer| peer.region.is_some() && !peer.is_there());
    let away: Vec<String> = away.map(Peer::why).collect();
    let (all, needed) = (committee.regions().len(), committee.min_copies());
    let said = format!("{complete} of {all} complete, {needed} needed{}", list(&away));
    if complete < needed {
        let advice =
            "no certificate comes about: look at the network between this host and those that do not answer";
        return Finding::problem(CHECK, said, advice);
    }
    if away.is_empty() {
        return Finding::ok(CHECK, said);
    }
    Finding::warning(CHECK, said, "ask the operators of those that do not answer")
}

/// The first few of those who are away.
fn list(away: &[String]) -> String {
    const SHOWN: usize = 5;
    if away.is_empty() {
        return String::new();
    }
    let more = away.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!(" ({}{more})", away[..away.len().min(SHOWN)].join("; "))
}

#[cfg(test)]
mod tests {
    use meridian_proto::error::Reason;

    use super::*;
    use crate::doctor::Verdict;
    use crate::gateway::testing::committee;

    /// The members, of which some answer: gateways first, then seats.
    fn peers(committee: &Committee, answers: impl Fn(usize) -> Option<Address>) -> Vec<Peer> {
        let gateways = committee.gateways().iter().map(|it| (it.address, None));
        let seats = committee.seats().iter().map(|it| (it.address, Some(it.region)));
        let peer = |(place, (address, region)): (usize, (Address, Option<RegionId>))| Peer {
            address,
            region,
            endpoint: format!("http://host-{place}"),
            answer: match answers(place) {
                Some(other) if other.is_zero() => Ok(Answer { address, offset: None }),
                Some(other) => Ok(Answer { address: other, offset: None }),
                None => Err(ApiError::new(Reason::Unreachable, "no answer")),
            },
        };
        gateways.chain(seats).enumerate().map(peer).collect()
    }

    const ITSELF: Option<Address> = Some(Address::ZERO);

    #[test]
    fn a_certificate_needs_so_many_regions_in_reach() {
        let committee = committee(5, 1, 4);
        for (away, verdict) in [(0, Verdict::Ok), (1, Verdict::Warning), (2, Verdict::Problem)] {
            // Seats come after the one gateway.
            let seen = peers(&committee, |place| if (1..=away).contains(&place) { None } else { ITSELF });
            let finding = regions(Role::Gateway, &committee, &seen, Some(committee.gateways()[0].address));
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(
                finding.measured.contains(&format!("{} of 5 complete, 4 needed", 5 - away)),
                "{finding:?}"
            );
        }
        // A replica counts itself, whether it answers or not.
        let own = committee.seats()[0].address;
        let seen = peers(&committee, |place| if place == 2 { None } else { ITSELF });
        let others: Vec<_> = seen.into_iter().filter(|it| it.address != own).collect();
        assert_eq!(regions(Role::Replica, &committee, &others, Some(own)).verdict, Verdict::Warning);
        // Somebody else at a seat's endpoint is not the seat.
        let stranger = Address::from([9; 20]);
        let seen = peers(&committee, |place| if place == 1 { Some(stranger) } else { ITSELF });
        let finding = regions(Role::Gateway, &committee, &seen, None);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.measured.contains("answered by another key"), "{finding:?}");
    }

    #[test]
    fn a_replica_needs_a_gateway() {
        let committee = committee(5, 1, 4);
        let (there, away) = (peers(&committee, |_| ITSELF), peers(&committee, |_| None));
        assert_eq!(gateways(Role::Replica, &there).verdict, Verdict::Ok);
        assert_eq!(gateways(Role::Replica, &away).verdict, Verdict::Problem);
        assert_eq!(gateways(Role::Gateway, &away).verdict, Verdict::Warning);
        assert_eq!(gateways(Role::Gateway, &[]).verdict, Verdict::Ok);
    }

    #[test]
    fn a_host_is_where_the_committee_says_and_nowhere_else() {
        let committee = committee(5, 1, 4);
        let address = Some(committee.seats()[0].address);
        let (there, away) = (peers(&committee, |_| ITSELF), peers(&committee, |_| None));
        for (seen, here, verdict) in [
            (&there, Holder::Ours, Verdict::Ok),
            (&there, Holder::Nobody, Verdict::Problem),
            (&away, Holder::Ours, Verdict::Problem),
            (&away, Holder::Nobody, Verdict::Ok),
        ] {
            assert_eq!(own(Role::Replica, seen, address, &here).unwrap().verdict, verdict);
        }
        assert_eq!(own(Role::Replica, &there, None, &Holder::Ours), None);
        assert_eq!(own(Role::Gateway, &there, address, &Holder::Ours), None);
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..7).map(|number| number.to_string()).collect();
        assert_eq!(list(&names[..5]), " (0; 1; 2; 3; 4)");
        assert_eq!(list(&names), " (0; 1; 2; 3; 4; and 2 more)");
        assert_eq!(list(&[]), "");
    }
}
