//! Why the contract refuses a call.

use alloy_sol_types::SolInterface;

use super::Meridian::MeridianErrors;

/// What the bytes of a revert say, if they are an error of the contract: its name, its arguments, and what helps where
/// something does.
#[must_use]
pub fn describe(data: &[u8]) -> Option<String> {
    use MeridianErrors as E;
    let error = E::abi_decode_validate(data).ok()?;
    let name = format!("{error:?}");
    // An enum's variant around the struct of the same name.
    let name = name.split_once('(').map_or(&*name, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
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
        _ => return Some(name.to_owned()),
    };
    Some(format!("{name}: {help}"))
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, U256};
    use alloy_sol_types::SolError;

    use super::super::Meridian;
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
    }

    #[test]
    fn other_bytes_are_no_error_of_the_contract() {
        let stale = Meridian::Stale { size: 7, timestamp: 9 }.abi_encode();
        assert_eq!(describe(&[]), None);
        assert_eq!(describe(&stale[..stale.len() - 1]), None);
        assert_eq!(describe(&[1, 2, 3, 4]), None);
    }
}
