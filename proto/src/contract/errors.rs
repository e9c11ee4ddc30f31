//! Why the contracts refuse a call.

use core::fmt::Debug;

use alloy_sol_types::SolInterface;

use super::Meridian::MeridianErrors;
use super::namespaces::NamespaceRegistry::NamespaceRegistryErrors;

/// What the bytes of a revert say, if they are an error of one of the contracts: its name, its arguments, and what helps
/// where something does.
#[must_use]
pub fn describe(data: &[u8]) -> Option<String> {
    of_the_network(data).or_else(|| of_the_registry(data))
}

/// The struct that an error's variant is around, and which has its name.
fn told(error: &impl Debug) -> String {
    let told = format!("{error:?}");
    match told.split_once('(') {
        Some((_, rest)) => rest.strip_suffix(')').unwrap_or(rest).to_owned(),
        None => told,
    }
}

fn of_the_registry(data: &[u8]) -> Option<String> {
    use NamespaceRegistryErrors as E;
    let error = E::abi_decode_validate(data).ok()?;
    let name = told(&error);
    let help = match &error {
        E::AlreadyCreated(_) => "you have made it before: choose another salt for another one",
        E::NotTheOwner(_) => "only its owner may do this: use the owner's key",
        E::NotOffered(_) => "its owner has to offer it to you first",
        E::NobodyMayWrite(_) => "the zero address is nobody's",
    };
    Some(format!("{name}: {help}"))
}

fn of_the_network(data: &[u8]) -> Option<String> {
    use MeridianErrors as E;
    let error = E::abi_decode_validate(data).ok()?;
    let name = told(&error);
    let help = match &error {
        E::OwnableUnauthorizedAccount(_) => "only the contract's owner may do this: use the owner's key",
        E::LatestEpochNotActive(_) => {
            "one epoch is scheduled already: wait until it begins, or cancel it while more than the grace is left"
        }
        E::ActivationTooEarly(_) => "choose a later activation, or 0 for the earliest",
        E::NotTheNextEpoch(_) => "give the committee the number of the next epoch",
        E::TooLateToCancel(_) => {
            "an epoch can be cancelled only while more than the grace is left until it begins: \
             schedule the next one when it has begun"
        }
        E::EpochUnknown(_) => "the epoch is not scheduled, or has not begun",
        E::EpochClosed(_) => "the epoch's grace is over",
        E::WrongMembers(_) => {
            "the members are not those of the epoch: read the committee from the chain again"
        }
        E::FromTheFuture(_) => "the checkpoint is more than a minute ahead of the chain: check the clocks",
        E::Inconsistent(_) => "the log does not go on from what is anchored: it has forked",
        E::Stale(_) => "as much or more is anchored already",
        _ => return Some(name),
    };
    Some(format!("{name}: {help}"))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256, U256};
    use alloy_sol_types::SolError;

    use super::super::Meridian;
    use super::super::namespaces::NamespaceRegistry;
    use super::*;

    #[test]
    fn errors_are_told_with_their_arguments() {
        let stale = Meridian::Stale { size: 7, timestamp: 9 }.abi_encode();
        let told = describe(&stale).unwrap();
        assert_eq!(told, "Stale { size: 7, timestamp: 9 }: as much or more is anchored already");
        let taken = Meridian::SeatNumberTaken { region: 3, number: 1 }.abi_encode();
        assert_eq!(describe(&taken).unwrap(), "SeatNumberTaken { region: 3, number: 1 }");
        let early = Meridian::ActivationTooEarly { activation: 1, earliest: U256::MAX }.abi_encode();
        assert!(describe(&early).unwrap().contains("later activation"));
        let owner = Meridian::OwnableUnauthorizedAccount { account: Address::ZERO }.abi_encode();
        assert!(describe(&owner).unwrap().contains("owner's key"));
        assert!(describe(&Meridian::NoQuorum {}.abi_encode()).unwrap().starts_with("NoQuorum"));
        let namespace = B256::repeat_byte(1);
        let taken = NamespaceRegistry::AlreadyCreated { namespace }.abi_encode();
        assert!(describe(&taken).unwrap().starts_with("AlreadyCreated { namespace: 0x0101"));
        assert!(describe(&taken).unwrap().ends_with("another one"));
    }

    #[test]
    fn other_bytes_are_no_error_of_the_contract() {
        let stale = Meridian::Stale { size: 7, timestamp: 9 }.abi_encode();
        assert_eq!(describe(&[]), None);
        assert_eq!(describe(&stale[..stale.len() - 1]), None);
        assert_eq!(describe(&[1, 2, 3, 4]), None);
    }
}
