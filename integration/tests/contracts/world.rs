//! A contract with epochs: the first is closed, the second in its grace, the third current, the fourth not yet active.

use std::sync::Arc;

use alloy::primitives::Address;
use alloy::sol_types::SolConstructor;
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::committee::epochs::{Epochs, Term};
use meridian_proofs::committee::{Committee, CommitteeParts};
use meridian_proto::contract::Meridian;
use revm::primitives::hardfork::SpecId;

use crate::evm::{Artifact, Chain, Ending, nobody};
use crate::members::{self, Keys};
use crate::random::Random;

/// Chain id of these tests unless they are about it.
pub(crate) const CHAIN_ID: u64 = 31337;
/// Seconds before an epoch begins.
pub(crate) const NOTICE: u64 = 100;
/// Seconds after an epoch in which it is still open.
pub(crate) const GRACE: u64 = 1_000;
/// When the contract is deployed.
pub(crate) const START: u64 = 1_800_000_000;

/// When the transactions of the four epochs run, and what activation they ask for.
const SCHEDULE: [(u64, u64); 4] =
    [(START, 0), (START + 1, START + 1_200), (START + 1_300, START + 2_500), (START + 2_600, START + 4_000)];
/// When the tests look.
const NOW: u64 = START + 3_000;

/// A deployed contract and all that it knows.
pub(crate) struct World {
    pub chain: Chain,
    pub contract: Address,
    pub domain: Domain,
    pub keys: Keys,
    pub epochs: Epochs,
}

/// Who owns the contracts of these tests.
pub(crate) fn owner() -> Address {
    nobody(0xacce55)
}

/// Deploys the contract.
pub(crate) fn deploy(chain: &mut Chain) -> Address {
    let arguments = Meridian::constructorCall { owner: owner(), notice: NOTICE, grace: GRACE };
    chain.deploy(&Artifact::load("Meridian"), &arguments.abi_encode())
}

impl World {
    /// Deploys and schedules committees with so many seats in each region.
    pub(crate) fn new(random: &mut Random, shapes: &[Vec<usize>]) -> Self {
        Self::with(random, shapes, |_| ())
    }

    /// The same on a chain of another level.
    pub(crate) fn at(spec: SpecId, random: &mut Random, shapes: &[Vec<usize>]) -> Self {
        Self::on(Chain::new(spec, CHAIN_ID), random, shapes, &|_| ())
    }

    /// The same, with committees that are changed before they are scheduled.
    pub(crate) fn with(
        random: &mut Random,
        shapes: &[Vec<usize>],
        change: impl Fn(&mut CommitteeParts),
    ) -> Self {
        Self::on(Chain::paris(CHAIN_ID), random, shapes, &change)
    }

    fn on(
        mut chain: Chain,
        random: &mut Random,
        shapes: &[Vec<usize>],
        change: &dyn Fn(&mut CommitteeParts),
    ) -> Self {
        chain.set_now(START);
        let contract = deploy(&mut chain);
        let domain = Domain { chain_id: CHAIN_ID, verifying_contract: contract };
        let mut keys = Keys::default();
        let mut terms: Vec<Term> = Vec::new();
        for ((epoch, seats), (at, activation)) in (1..).zip(shapes).zip(SCHEDULE) {
            chain.set_now(at);
            let gateways = 1 + random.place(3);
            let mut parts = members::parts(random, &mut keys, domain, epoch, seats, gateways);
            change(&mut parts);
            let committee = Committee::new(parts).unwrap();
            let outcome = chain.send(owner(), contract, &members::schedule(committee.parts(), activation));
            assert!(matches!(outcome.ending, Ending::Returned(_)), "{:?}", outcome.ending);
            let activation = if activation == 0 { START } else { activation };
            if let Some(before) = terms.last_mut() {
                before.closes = Some(activation + GRACE);
            }
            terms.push(Term { committee: Arc::new(committee), activation, closes: None });
        }
        chain.set_now(NOW);
        Self { chain, contract, domain, keys, epochs: Epochs::new(terms).unwrap() }
    }

    pub(crate) fn committee(&self, epoch: u64) -> &Arc<Committee> {
        self.epochs.committee(epoch).unwrap()
    }

    /// The packed members of an epoch, none where it does not exist.
    pub(crate) fn members(&self, epoch: u64) -> Vec<u8> {
        self.epochs.committee(epoch).map_or_else(Vec::new, |committee| committee.members().unwrap())
    }
}
