//! What the contract refuses, each for its own reason, at every limit and on both sides of it.

use std::collections::BTreeSet;

use alloy::primitives::Address;
use alloy::sol_types::SolCall;
use meridian_proofs::checkpoint::Domain;
use meridian_proto::contract::{self, Meridian};

use crate::evm::{Artifact, Chain, Ending, nobody};
use crate::members::{self, Keys};
use crate::random::Random;
use crate::world::{self, CHAIN_ID, GRACE, NOTICE, START, owner};

/// Calls of the contract, and the errors that they ended with.
pub(crate) struct Refusals {
    artifact: Artifact,
    pub seen: BTreeSet<String>,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self { artifact: Artifact::load("Meridian"), seen: BTreeSet::new() }
    }

    /// The call is refused for this reason.
    #[track_caller]
    pub(crate) fn refused(
        &mut self,
        chain: &mut Chain,
        from: Address,
        to: Address,
        call: &impl SolCall,
        error: &str,
    ) {
        let outcome = chain.call_as(from, to, call);
        let name = self.artifact.error(&outcome);
        assert_eq!(name, error);
        self.seen.insert(name.to_owned());
    }

    /// Nothing is deployed with these arguments.
    #[track_caller]
    fn not_deployed(&mut self, owner: Address, notice: u64, grace: u64, error: &str) {
        let arguments = Meridian::constructorCall { owner, notice, grace };
        let outcome = Chain::paris(1).try_deploy(&self.artifact, &arguments);
        let name = self.artifact.error(&outcome).to_owned();
        assert_eq!(name, error);
        self.seen.insert(name);
    }
}

/// The call would be a success.
#[track_caller]
pub(crate) fn accepted(chain: &mut Chain, from: Address, to: Address, call: &impl SolCall) {
    let outcome = chain.call_as(from, to, call);
    assert!(matches!(outcome.ending, Ending::Returned(_)), "{:?}", outcome.ending);
}

type Schedule = Meridian::scheduleCommitteeCall;

/// A contract without epochs, and committees for its first.
struct Fresh {
    chain: Chain,
    contract: Address,
    domain: Domain,
    random: Random,
    keys: Keys,
}

impl Fresh {
    fn new(seed: u64) -> Self {
        let mut chain = Chain::paris(CHAIN_ID);
        chain.set_now(START);
        let contract = world::deploy(&mut chain);
        let domain = Domain { chain_id: CHAIN_ID, verifying_contract: contract };
        Self { chain, contract, domain, random: Random::new(seed), keys: Keys::default() }
    }

    /// Schedules a committee with so many seats in each region, not checked by anybody yet.
    fn call(&mut self, epoch: u64, seats: &[usize], gateways: usize) -> Schedule {
        let mut parts = members::parts(&mut self.random, &mut self.keys, self.domain, epoch, seats, gateways);
        parts.seats.sort_by_key(|seat| seat.address);
        parts.gateways.sort_by_key(|gateway| gateway.address);
        members::schedule(&parts, 0)
    }

    #[track_caller]
    fn accepted(&mut self, call: &impl SolCall) {
        accepted(&mut self.chain, owner(), self.contract, call);
    }

    #[track_caller]
    fn refused(&mut self, refusals: &mut Refusals, call: &impl SolCall, error: &str) {
        refusals.refused(&mut self.chain, owner(), self.contract, call, error);
    }

    #[track_caller]
    fn send(&mut self, call: &impl SolCall) {
        let outcome = self.chain.send(owner(), self.contract, call);
        assert!(matches!(outcome.ending, Ending::Returned(_)), "{:?}", outcome.ending);
    }

    /// An epoch with such an activation is cancelled while more than the grace is left, to the second. It is taken back.
    #[track_caller]
    fn cancelled_while_more_than_the_grace_is_left(
        &mut self,
        refusals: &mut Refusals,
        call: &Schedule,
        activation: u64,
    ) {
        self.send(&with(call, |call| call.activation = activation));
        let cancel = Meridian::cancelCommitteeCall { epoch: call.epoch };
        for now in [activation - GRACE, activation - GRACE + 1, activation - 1, activation, u64::MAX] {
            self.chain.set_now(now);
            self.refused(refusals, &cancel, "TooLateToCancel");
        }
        for now in [activation - GRACE - 2, activation - GRACE - 1] {
            self.chain.set_now(now);
            self.accepted(&cancel);
        }
        self.send(&cancel);
    }
}

/// A valid call with a change.
fn with(call: &Schedule, change: impl FnOnce(&mut Schedule)) -> Schedule {
    let mut call = call.clone();
    change(&mut call);
    call
}

fn lists(refusals: &mut Refusals) {
    let fresh = &mut Fresh::new(50);
    // Numbers of regions, seats and gateways.
    for (seats, gateways, error) in [
        (vec![], 1, Some("NoRegions")),
        (vec![1; 1], 0, None),
        (vec![1; 30], 1, None),
        (vec![1; 31], 1, None),
        (vec![1; 32], 1, Some("TooManyRegions")),
        (vec![31], 1, None),
        (vec![32], 1, None),
        (vec![33], 1, Some("TooManySeatsInRegion")),
        (vec![1, 33, 2], 1, Some("TooManySeatsInRegion")),
        (vec![32, 32, 32, 32, 32, 32, 32, 31], 1, None),
        (vec![32; 8], 1, None),
        (vec![32, 32, 32, 32, 32, 32, 32, 32, 1], 1, Some("TooManySeats")),
        (vec![1, 0, 1], 1, Some("RegionWithoutSeats")),
        (vec![0], 1, Some("RegionWithoutSeats")),
        (vec![1], 63, None),
        (vec![1], 64, None),
        (vec![1], 65, Some("TooManyGateways")),
    ] {
        let call = fresh.call(1, &seats, gateways);
        match error {
            None => fresh.accepted(&call),
            Some(error) => fresh.refused(refusals, &call, error),
        }
    }
    // Orders, duplicates, strangers.
    let call = fresh.call(1, &[2, 1, 3], 3);
    fresh.accepted(&call);
    let same_region = |call: &mut Schedule| {
        // The next free number of the first seat's region.
        let region = call.seats[0].region;
        let place = call.seats.iter().rposition(|seat| seat.region == region).unwrap();
        (0, place)
    };
    let cases: [(&str, Schedule); 15] = [
        ("RegionZero", with(&call, |call| call.regions[0].id = 0)),
        ("RegionsNotAscending", with(&call, |call| call.regions.swap(0, 1))),
        ("RegionsNotAscending", with(&call, |call| call.regions[1].id = call.regions[0].id)),
        ("RegionsNotAscending", with(&call, |call| call.regions[2].id = call.regions[0].id)),
        ("SeatsNotAscending", with(&call, |call| call.seats.swap(0, 1))),
        ("SeatsNotAscending", with(&call, |call| call.seats.swap(4, 5))),
        ("SeatsNotAscending", with(&call, |call| call.seats[3].signer = call.seats[2].signer)),
        ("UnknownRegion", with(&call, |call| call.seats[5].region = call.regions[2].id + 1)),
        ("UnknownRegion", with(&call, |call| call.seats[0].region = 0)),
        ("GatewaysNotAscending", with(&call, |call| call.gateways.swap(1, 2))),
        ("GatewaysNotAscending", with(&call, |call| call.gateways[1].signer = call.gateways[0].signer)),
        ("ZeroAddress", with(&call, |call| call.seats[0].signer = Address::ZERO)),
        ("ZeroAddress", with(&call, |call| call.gateways[0].signer = Address::ZERO)),
        ("AlreadyMember", with(&call, |call| call.gateways[0].signer = call.seats[0].signer)),
        ("AlreadyMember", with(&call, |call| call.gateways[2].signer = call.seats[5].signer)),
    ];
    for (error, call) in &cases {
        // A stolen address must keep the gateways in order to be the only fault.
        let mut call = call.clone();
        if *error == "AlreadyMember" {
            call.gateways.sort_by_key(|gateway| gateway.signer);
        }
        fresh.refused(refusals, &call, error);
    }
    // Each gateway in the place of each seat, before, among and behind the others.
    for seat in 0..call.seats.len() {
        let taken = with(&call, |call| {
            call.gateways[1].signer = call.seats[seat].signer;
            call.gateways.sort_by_key(|gateway| gateway.signer);
        });
        fresh.refused(refusals, &taken, "AlreadyMember");
    }
    let taken = with(&call, |call| {
        let (one, other) = same_region(call);
        let number = call.seats[one].number;
        if one == other {
            // A region of one seat: the second joins it.
            call.seats[1].region = call.seats[0].region;
            call.seats[1].number = number;
        } else {
            call.seats[other].number = number;
        }
    });
    fresh.refused(refusals, &taken, "SeatNumberTaken");
    for number in [0, 1, 254, 255] {
        let call = fresh.call(1, &[1, 1], 0);
        fresh.accepted(&with(&call, |call| call.seats.iter_mut().for_each(|seat| seat.number = number)));
    }
}

fn fields(refusals: &mut Refusals) {
    let fresh = &mut Fresh::new(51);
    let call = fresh.call(1, &[1, 1, 1], 2);
    let text = |len: usize| "x".repeat(len);
    for (len, fits) in [(0, false), (1, true), (63, true), (64, true), (65, false)] {
        let call = with(&call, |call| call.regions[2].label = text(len));
        if fits { fresh.accepted(&call) } else { fresh.refused(refusals, &call, "LabelLength") }
    }
    for (len, fits) in [(0, false), (1, true), (255, true), (256, true), (257, false)] {
        for call in [
            with(&call, |call| call.seats[2].endpoint = text(len)),
            with(&call, |call| call.gateways[1].endpoint = text(len)),
        ] {
            if fits { fresh.accepted(&call) } else { fresh.refused(refusals, &call, "EndpointLength") }
        }
    }
    for (limit, error) in [(90_000_000, "LatitudeOutOfRange"), (180_000_000, "LongitudeOutOfRange")] {
        let put = |value: i32| {
            with(&call, |call| {
                let region = &mut call.regions[1];
                if limit == 90_000_000 { region.latitude = value } else { region.longitude = value }
            })
        };
        for value in [-limit, 1 - limit, 0, limit - 1, limit] {
            fresh.accepted(&put(value));
        }
        for value in [i32::MIN, -limit - 1, limit + 1, i32::MAX] {
            fresh.refused(refusals, &put(value), error);
        }
    }
    let most = i64::MAX.unsigned_abs();
    for (quota, fits) in [(0, true), (most - 1, true), (most, true), (most + 1, false), (u64::MAX, false)] {
        for call in [
            with(&call, |call| call.gateways[0].maxBytes = quota),
            with(&call, |call| call.gateways[1].maxEntriesPerHour = quota),
        ] {
            if fits { fresh.accepted(&call) } else { fresh.refused(refusals, &call, "QuotaOutOfRange") }
        }
    }
    for (copies, fits) in
        [(0, false), (1, true), (2, true), (3, true), (4, false), (259, false), (u16::MAX, false)]
    {
        let call = with(&call, |call| call.terms.minCopies = copies);
        if fits { fresh.accepted(&call) } else { fresh.refused(refusals, &call, "MinCopiesOutOfRange") }
    }
    const TEN_YEARS: u64 = 315_360_000;
    for (min, max, error) in [
        (0, 1, Some("MinRetentionZero")),
        (1, 1, None),
        (2, 1, Some("RetentionLimitsCrossed")),
        (2, 2, None),
        (2, 3, None),
        (1, TEN_YEARS - 1, None),
        (TEN_YEARS, TEN_YEARS, None),
        (1, TEN_YEARS + 1, Some("MaxRetentionTooLong")),
        (1, u64::MAX, Some("MaxRetentionTooLong")),
    ] {
        let terms = contract::Terms { minCopies: 1, minRetention: min, maxRetention: max };
        let call = with(&call, |call| call.terms = terms);
        match error {
            None => fresh.accepted(&call),
            Some(error) => fresh.refused(refusals, &call, error),
        }
    }
}

fn epochs(refusals: &mut Refusals) {
    let fresh = &mut Fresh::new(52);
    let contract = fresh.contract;
    let first = fresh.call(1, &[1; 5], 1);
    for epoch in [0, 2, u64::MAX] {
        fresh.refused(refusals, &with(&first, |call| call.epoch = epoch), "NotTheNextEpoch");
    }
    // The first needs no notice.
    for (activation, error) in [
        (1, Some("ActivationTooEarly")),
        (START - 1, Some("ActivationTooEarly")),
        (START, None),
        (START + 1, None),
        (u64::MAX - GRACE - 1, None),
        (u64::MAX - GRACE, Some("ActivationOutOfRange")),
        (u64::MAX, Some("ActivationOutOfRange")),
    ] {
        let call = with(&first, |call| call.activation = activation);
        match error {
            None => fresh.accepted(&call),
            Some(error) => fresh.refused(refusals, &call, error),
        }
    }
    fresh.refused(refusals, &Meridian::cancelCommitteeCall { epoch: 0 }, "NotTheLatestEpoch");
    fresh.refused(refusals, &Meridian::cancelCommitteeCall { epoch: 1 }, "NotTheLatestEpoch");
    fresh.cancelled_while_more_than_the_grace_is_left(refusals, &first, START + 5 * GRACE);
    fresh.cancelled_while_more_than_the_grace_is_left(refusals, &first, u64::MAX - GRACE - 1);
    fresh.chain.set_now(START);
    fresh.send(&with(&first, |call| call.activation = START + 50));
    fresh.refused(refusals, &Meridian::cancelCommitteeCall { epoch: 1 }, "TooLateToCancel");
    fresh.refused(refusals, &first, "NotTheNextEpoch");
    let second = fresh.call(2, &[2; 5], 1);
    fresh.chain.set_now(START + 49);
    fresh.refused(refusals, &second, "LatestEpochNotActive");
    fresh.chain.set_now(START + 50);
    fresh.refused(refusals, &Meridian::cancelCommitteeCall { epoch: 1 }, "TooLateToCancel");
    fresh.accepted(&second);
    // Only the owner, for anything.
    for from in [Address::ZERO, nobody(5)] {
        let chain = &mut fresh.chain;
        refusals.refused(chain, from, contract, &second, "OwnableUnauthorizedAccount");
        let cancel = Meridian::cancelCommitteeCall { epoch: 1 };
        refusals.refused(chain, from, contract, &cancel, "OwnableUnauthorizedAccount");
        let pass = Meridian::passSeatCall {
            epoch: 2,
            members: Vec::new().into(),
            from: nobody(1),
            to: nobody(2),
            endpoint: "x".into(),
            activation: 0,
        };
        refusals.refused(chain, from, contract, &pass, "OwnableUnauthorizedAccount");
    }
    // The notice from now, and the grace after the epoch before, whichever is later.
    let begun = START + 50;
    for (now, earliest) in [
        (begun, begun + GRACE),
        (begun + GRACE - NOTICE - 1, begun + GRACE),
        (begun + GRACE - NOTICE, begun + GRACE),
        (begun + GRACE - NOTICE + 1, begun + GRACE + 1),
        (begun + 9_999, begun + 9_999 + NOTICE),
    ] {
        fresh.chain.set_now(now);
        let at = |activation| with(&second, |call| call.activation = activation);
        fresh.refused(refusals, &at(1), "ActivationTooEarly");
        fresh.refused(refusals, &at(earliest - 1), "ActivationTooEarly");
        fresh.accepted(&at(earliest));
        fresh.accepted(&at(earliest + 1));
        let outcome = fresh.chain.call_as(owner(), contract, &at(0));
        let event: Meridian::CommitteeScheduled = outcome.event();
        assert_eq!((event.epoch, event.activation), (2, earliest));
    }
    fresh.cancelled_while_more_than_the_grace_is_left(refusals, &second, begun + 50_000);
    fresh.cancelled_while_more_than_the_grace_is_left(refusals, &second, u64::MAX - GRACE - 1);
    // As soon as allowed is too soon for a way back, where the notice is not above the grace.
    fresh.chain.set_now(begun);
    fresh.send(&second);
    fresh.refused(refusals, &Meridian::cancelCommitteeCall { epoch: 2 }, "TooLateToCancel");
    fresh.refused(refusals, &Meridian::cancelCommitteeCall { epoch: 1 }, "NotTheLatestEpoch");
    fresh.refused(refusals, &Meridian::cancelCommitteeCall { epoch: 3 }, "NotTheLatestEpoch");
    let third = fresh.call(3, &[1], 0);
    fresh.refused(refusals, &third, "LatestEpochNotActive");
}

fn seats(refusals: &mut Refusals) {
    let fresh = &mut Fresh::new(53);
    let first = fresh.call(1, &[3, 1, 4], 2);
    fresh.send(&first);
    let parts = crate::committees::parts_of(&first, fresh.domain);
    let members = meridian_proofs::committee::Committee::new(parts).unwrap().members().unwrap();
    let pass = Meridian::passSeatCall {
        epoch: 2,
        members: members.clone().into(),
        from: first.seats[3].signer,
        to: nobody(77),
        endpoint: "http://new:1".into(),
        activation: 0,
    };
    fresh.accepted(&pass);
    type Pass = Meridian::passSeatCall;
    for (len, fits) in [(0, false), (1, true), (256, true), (257, false)] {
        let call = Pass { endpoint: "x".repeat(len), ..pass.clone() };
        if fits { fresh.accepted(&call) } else { fresh.refused(refusals, &call, "EndpointLength") }
    }
    let cases = [
        ("NotTheNextEpoch", Pass { epoch: 1, ..pass.clone() }),
        ("NotTheNextEpoch", Pass { epoch: 3, ..pass.clone() }),
        ("ActivationTooEarly", Pass { activation: START + GRACE - 1, ..pass.clone() }),
        ("ZeroAddress", Pass { to: Address::ZERO, ..pass.clone() }),
        ("AlreadyMember", Pass { to: pass.from, ..pass.clone() }),
        ("AlreadyMember", Pass { to: first.seats[0].signer, ..pass.clone() }),
        ("AlreadyMember", Pass { to: first.seats[7].signer, ..pass.clone() }),
        ("AlreadyMember", Pass { to: first.gateways[0].signer, ..pass.clone() }),
        ("AlreadyMember", Pass { to: first.gateways[1].signer, ..pass.clone() }),
        ("NotASeat", Pass { from: nobody(9), ..pass.clone() }),
        ("NotASeat", Pass { from: first.gateways[1].signer, ..pass.clone() }),
        ("NotASeat", Pass { from: Address::ZERO, ..pass.clone() }),
        ("WrongMembers", Pass { members: Vec::new().into(), ..pass.clone() }),
        ("WrongMembers", Pass { members: members[..members.len() - 1].to_vec().into(), ..pass.clone() }),
        ("WrongMembers", Pass { members: [members.as_slice(), &[0]].concat().into(), ..pass.clone() }),
        ("WrongMembers", Pass { members: vec![0; 10_000].into(), ..pass.clone() }),
    ];
    for (error, call) in &cases {
        fresh.refused(refusals, call, error);
    }
    fresh.send(&pass);
    // One is scheduled ahead already; its members are not those of the first.
    let again = Pass { epoch: 3, from: nobody(77), to: nobody(78), ..pass };
    fresh.refused(refusals, &again, "WrongMembers");
}

fn ownership(refusals: &mut Refusals) {
    mod ownable {
        alloy::sol! {
            function transferOwnership(address next) external;
            function acceptOwnership() external;
            function renounceOwnership() external;
            function owner() external view returns (address);
            function pendingOwner() external view returns (address);
        }
    }
    use ownable::{
        acceptOwnershipCall, ownerCall, pendingOwnerCall, renounceOwnershipCall, transferOwnershipCall,
    };
    let fresh = &mut Fresh::new(54);
    let (contract, next) = (fresh.contract, nobody(6));
    let chain = &mut fresh.chain;
    let stranger = "OwnableUnauthorizedAccount";
    refusals.refused(chain, next, contract, &transferOwnershipCall { next }, stranger);
    refusals.refused(chain, next, contract, &acceptOwnershipCall {}, stranger);
    refusals.refused(chain, next, contract, &renounceOwnershipCall {}, stranger);
    refusals.refused(chain, owner(), contract, &renounceOwnershipCall {}, "OwnershipIsKept");
    chain.send(owner(), contract, &transferOwnershipCall { next });
    assert_eq!(chain.call(contract, &pendingOwnerCall {}).returned::<ownerCall>(), next);
    assert_eq!(chain.call(contract, &ownerCall {}).returned::<ownerCall>(), owner());
    // Until the next one takes it, the owner is who it was.
    let call = fresh.call(1, &[1], 0);
    let chain = &mut fresh.chain;
    refusals.refused(chain, next, contract, &call, stranger);
    accepted(chain, owner(), contract, &call);
    refusals.refused(chain, owner(), contract, &acceptOwnershipCall {}, stranger);
    chain.send(next, contract, &acceptOwnershipCall {});
    assert_eq!(chain.call(contract, &ownerCall {}).returned::<ownerCall>(), next);
    refusals.refused(chain, owner(), contract, &call, stranger);
    accepted(chain, next, contract, &call);
}

fn deployment(refusals: &mut Refusals) {
    const TEN_YEARS: u64 = 315_360_000;
    for (notice, grace) in [(0, 1), (TEN_YEARS - 1, TEN_YEARS - 1), (TEN_YEARS, TEN_YEARS)] {
        let mut chain = Chain::paris(1);
        let arguments = Meridian::constructorCall { owner: owner(), notice, grace };
        let outcome = chain.try_deploy(&refusals.artifact, &arguments);
        assert!(matches!(outcome.ending, Ending::Returned(_)), "{:?}", outcome.ending);
    }
    refusals.not_deployed(owner(), TEN_YEARS + 1, 1, "NoticeTooLong");
    refusals.not_deployed(owner(), u64::MAX, 1, "NoticeTooLong");
    refusals.not_deployed(owner(), 0, 0, "GraceOutOfRange");
    refusals.not_deployed(owner(), 0, TEN_YEARS + 1, "GraceOutOfRange");
    refusals.not_deployed(Address::ZERO, 0, 1, "OwnableInvalidOwner");
}

#[test]
fn every_error_is_reached_by_what_it_is_for() {
    let refusals = &mut Refusals::new();
    deployment(refusals);
    ownership(refusals);
    lists(refusals);
    fields(refusals);
    epochs(refusals);
    seats(refusals);
    crate::anchor::refusals(refusals);
    let all: BTreeSet<String> = Artifact::load("Meridian").errors().map(str::to_owned).collect();
    assert_eq!(refusals.seen, all);
}
