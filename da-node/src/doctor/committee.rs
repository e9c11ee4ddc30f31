//! Who is a member, by the file or by the chain, and whether this host is.

use std::sync::Arc;
use std::time::Duration;

use meridian_client::chain::source::{self, SourceError};
use meridian_client::chain::view::View;
use meridian_proofs::Address;
use meridian_proofs::committee::Committee;

use super::{Finding, Subject};
use crate::committee_cmd;
use crate::store::Role;

/// Longest that the chain is read for.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// What the file or the chain says of committees.
pub(super) async fn look(subject: &Subject) -> (Option<View>, Finding) {
    if subject.chain.is_on() {
        return match read(subject).await {
            Ok(view) => {
                let block = view.head.map_or(0, |head| head.number);
                let epochs = view.epochs.terms().len();
                let said = format!("read up to settled block {block} of chain {}", subject.chain.chain_id);
                (Some(view), Finding::ok("chain", format!("{said}: {epochs} epochs")))
            }
            Err(said) => {
                let advice =
                    "check chain.rpc, chain.contract and chain.chain_id, and whether the endpoints answer";
                (None, Finding::problem("chain", said, advice))
            }
        };
    }
    match committee_cmd::load(&subject.node.committee) {
        Ok(committee) => {
            let said = describe(&committee);
            (Some(View::fixed(Arc::new(committee))), Finding::ok("committee", said))
        }
        Err(error) => {
            let advice = "put the network's committee file there (node.committee); `da-node committee check` looks at one";
            (None, Finding::problem("committee", format!("{error:#}"), advice))
        }
    }
}

async fn read(subject: &Subject) -> Result<View, String> {
    let pool = subject.chain.pool().map_err(|error| error.to_string())?;
    let reading = source::read(pool, subject.chain.reading());
    let read = tokio::time::timeout(READ_WITHIN, reading).await;
    let read = read.map_err(|_| format!("not read within {} s", READ_WITHIN.as_secs()))?;
    read.map_err(|error: SourceError| error.to_string())
}

fn describe(committee: &Committee) -> String {
    format!(
        "epoch {} with {} regions, {} seats and {} gateways, fingerprint {}",
        committee.epoch(),
        committee.regions().len(),
        committee.seats().len(),
        committee.gateways().len(),
        committee.fingerprint()
    )
}

/// Whether the host's key is that of a member.
pub(super) fn membership(subject: &Subject, view: &View, address: &Address, now: u64) -> Finding {
    const CHECK: &str = "membership";
    let is_member = |committee: &Committee| match subject.role {
        Role::Gateway => committee.gateway(address).is_some(),
        Role::Replica => committee.seat(address).is_some(),
    };
    let role = super::name(subject.role);
    let current = &view.epochs.current(now).committee;
    let epoch = current.epoch();
    if is_member(current) {
        let place = current.seat(address).and_then(|seat| {
            let region = current.region(seat.region)?;
            Some(format!(", seat {} of region {}", seat.number, region.label))
        });
        return Finding::ok(CHECK, format!("a {role} of epoch {epoch}{}", place.unwrap_or_default()));
    }
    let others = view.epochs.terms().iter().map(|term| &term.committee).filter(|it| is_member(it));
    let others: Vec<u64> = others.map(|committee| committee.epoch()).collect();
    match (others.iter().find(|other| **other > epoch), others.last()) {
        (Some(later), _) => {
            let said = format!("{address} is a {role} from epoch {later} on, and epoch {epoch} is current");
            Finding::warning(CHECK, said, "start the host: it waits until that epoch begins")
        }
        (None, Some(last)) => {
            let said = format!("{address} was a {role} up to epoch {last}, and epoch {epoch} is current");
            let advice = "let it run until what it owes has expired, or have it scheduled again";
            Finding::warning(CHECK, said, advice)
        }
        (None, None) => {
            let other = current.gateway(address).map(|_| "gateway");
            let other = other.or(current.seat(address).map(|_| "replica"));
            let also = other.map_or_else(String::new, |other| format!(", but a {other} of epoch {epoch}"));
            let said = format!("{address} is not a {role} of any epoch{also}");
            let advice =
                "compare the key (node.key) with the committee, or have this address put into the next epoch";
            Finding::problem(CHECK, said, advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::committee::epochs::{Epochs, Term};

    use super::*;
    use crate::config::roles::{GatewayConfig, ReplicaConfig};
    use crate::doctor::Verdict;
    use crate::gateway::testing::committee;

    fn subject(role: Role) -> Subject {
        match role {
            Role::Gateway => GatewayConfig::default().into(),
            Role::Replica => ReplicaConfig::default().into(),
        }
    }

    #[test]
    fn members_are_known_by_key_and_role() {
        let committee = Arc::new(committee(5, 1, 4));
        let view = View::fixed(Arc::clone(&committee));
        let (seat, gateway) = (committee.seats()[0].address, committee.gateways()[0].address);
        let stranger = Address::ZERO;
        for (role, address, verdict, says) in [
            (Role::Replica, seat, Verdict::Ok, "seat 0 of region"),
            (Role::Gateway, gateway, Verdict::Ok, "a gateway of epoch 1"),
            (Role::Gateway, seat, Verdict::Problem, "but a replica of epoch 1"),
            (Role::Replica, gateway, Verdict::Problem, "but a gateway of epoch 1"),
            (Role::Replica, stranger, Verdict::Problem, "not a replica of any epoch"),
        ] {
            let finding = membership(&subject(role), &view, &address, 0);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.measured.contains(says), "{finding:?}");
        }
    }

    #[test]
    fn those_who_come_or_left_are_told_so() {
        let first = committee(5, 1, 4);
        let seat = first.seats()[0].address;
        let mut parts = first.parts().clone();
        parts.epoch = 2;
        parts.seats[0].address = Address::from([7; 20]);
        let second = Committee::new(parts).unwrap();
        let new = Address::from([7; 20]);
        let terms = vec![
            Term { committee: Arc::new(first), activation: 100, closes: Some(1_200) },
            Term { committee: Arc::new(second), activation: 1_000, closes: None },
        ];
        let fixed = View::fixed(Arc::clone(&terms[0].committee));
        let view = View { epochs: Epochs::new(terms).unwrap(), ..fixed };
        for (address, now, verdict, says) in [
            (seat, 999, Verdict::Ok, "epoch 1"),
            (new, 999, Verdict::Warning, "from epoch 2 on"),
            (seat, 1_000, Verdict::Warning, "up to epoch 1"),
            (new, 1_000, Verdict::Ok, "epoch 2"),
        ] {
            let finding = membership(&subject(Role::Replica), &view, &address, now);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.measured.contains(says), "{finding:?}");
        }
    }
}
