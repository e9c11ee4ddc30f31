//! The registry of namespaces, compared step by step with a model of it.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol_types::{SolError, SolValue};
use meridian_proto::contract::namespaces::NamespaceRegistry as Registry;

use crate::evm::{Artifact, Chain, Ending, Outcome, nobody};
use crate::random::Random;

/// Somebody's namespace.
#[derive(Clone, Default)]
struct Record {
    owner: Address,
    offered: Address,
    writers: BTreeSet<Address>,
}

struct Both {
    chain: Chain,
    registry: Address,
    model: BTreeMap<B256, Record>,
}

#[track_caller]
fn refused(outcome: &Outcome, error: &impl SolError) {
    assert_eq!(outcome.ending, Ending::Reverted(error.abi_encode().into()));
}

impl Both {
    fn new() -> Self {
        let mut chain = Chain::paris(2048);
        let registry = chain.deploy(&Artifact::load("NamespaceRegistry"), &[]);
        Self { chain, registry, model: BTreeMap::new() }
    }

    fn namespace(&self, creator: Address, salt: B256) -> B256 {
        keccak256((self.registry, creator, salt).abi_encode())
    }

    fn record(&self, namespace: B256) -> Record {
        self.model.get(&namespace).cloned().unwrap_or_default()
    }

    fn create(&mut self, caller: Address, salt: B256) {
        let namespace = self.namespace(caller, salt);
        let outcome = self.chain.send(caller, self.registry, &Registry::createCall { salt });
        if self.model.contains_key(&namespace) {
            return refused(&outcome, &Registry::AlreadyCreated { namespace });
        }
        assert_eq!(outcome.returned::<Registry::createCall>(), namespace);
        let event: Registry::NamespaceCreated = outcome.event();
        assert_eq!((event.namespace, event.owner), (namespace, caller));
        self.model.insert(namespace, Record { owner: caller, ..Record::default() });
    }

    /// Whether the owner called; asserts the refusal if not.
    fn owned(&self, outcome: &Outcome, caller: Address, namespace: B256) -> bool {
        let owner = self.record(namespace).owner;
        if caller != owner {
            refused(outcome, &Registry::NotTheOwner { namespace, owner });
        }
        caller == owner
    }

    fn offer(&mut self, caller: Address, namespace: B256, to: Address) {
        let outcome = self.chain.send(caller, self.registry, &Registry::offerCall { namespace, to });
        if self.owned(&outcome, caller, namespace) {
            let event: Registry::NamespaceOffered = outcome.event();
            assert_eq!((event.namespace, event.to), (namespace, to));
            self.model.entry(namespace).or_default().offered = to;
        }
    }

    fn accept(&mut self, caller: Address, namespace: B256) {
        let outcome = self.chain.send(caller, self.registry, &Registry::acceptCall { namespace });
        let Record { owner, offered, .. } = self.record(namespace);
        if caller != offered {
            return refused(&outcome, &Registry::NotOffered { namespace, offered });
        }
        let event: Registry::NamespaceTransferred = outcome.event();
        assert_eq!((event.namespace, event.from, event.to), (namespace, owner, caller));
        self.model.insert(namespace, Record { owner: caller, ..Record::default() });
    }

    fn allow(&mut self, caller: Address, namespace: B256, writer: Address) {
        let outcome = self.chain.send(caller, self.registry, &Registry::allowCall { namespace, writer });
        if self.owned(&outcome, caller, namespace) {
            if writer == Address::ZERO {
                return refused(&outcome, &Registry::NobodyMayWrite {});
            }
            let event: Registry::WriterAllowed = outcome.event();
            assert_eq!((event.namespace, event.writer), (namespace, writer));
            self.model.entry(namespace).or_default().writers.insert(writer);
        }
    }

    fn deny(&mut self, caller: Address, namespace: B256, writer: Address) {
        let outcome = self.chain.send(caller, self.registry, &Registry::denyCall { namespace, writer });
        if self.owned(&outcome, caller, namespace) {
            let event: Registry::WriterDenied = outcome.event();
            assert_eq!((event.namespace, event.writer), (namespace, writer));
            self.model.entry(namespace).or_default().writers.remove(&writer);
        }
    }

    /// The contract says of a namespace what the model says.
    fn agree(&mut self, namespace: B256, people: &[Address]) {
        let Record { owner, offered, writers } = self.record(namespace);
        let registry = self.registry;
        let asked = self.chain.call(registry, &Registry::ownerOfCall { namespace });
        assert_eq!(asked.returned::<Registry::ownerOfCall>(), owner);
        let asked = self.chain.call(registry, &Registry::offeredToCall { namespace });
        assert_eq!(asked.returned::<Registry::offeredToCall>(), offered);
        for writer in people.iter().copied() {
            let may = writer != Address::ZERO && (writer == owner || writers.contains(&writer));
            let asked = self.chain.call(registry, &Registry::mayWriteCall { namespace, writer });
            assert_eq!(asked.returned::<Registry::mayWriteCall>(), may, "{writer} in {namespace}");
        }
    }
}

#[test]
fn the_registry_does_what_the_model_does() {
    let both = &mut Both::new();
    let random = &mut Random::new(90);
    let people: Vec<Address> = (101..=104).map(nobody).collect();
    let asked: Vec<Address> = people.iter().copied().chain([Address::ZERO]).collect();
    let salts = [B256::ZERO, B256::repeat_byte(1)];
    let mut known: Vec<B256> =
        people.iter().flat_map(|who| salts.map(|salt| both.namespace(*who, salt))).collect();
    known.push(B256::repeat_byte(9));
    let mut changed = 0;
    for _ in 0..600 {
        let (caller, other) = (*random.pick(&people), *random.pick(&asked));
        let namespace = *random.pick(&known);
        let before = both.model.len();
        match random.below(6) {
            0 => both.create(caller, *random.pick(&salts)),
            1 => both.offer(caller, namespace, other),
            2 => both.accept(caller, namespace),
            3 => both.deny(caller, namespace, other),
            _ => both.allow(caller, namespace, other),
        }
        changed += usize::from(both.model.len() > before);
        both.agree(namespace, &asked);
    }
    assert_eq!(changed, 8, "every namespace was made, and none twice");
}

#[test]
fn a_transfer_takes_writers_with_it_and_nothing_brings_them_back() {
    let both = &mut Both::new();
    let [old, new, writer] = [101, 102, 103].map(nobody);
    let people = [old, new, writer];
    both.create(old, B256::ZERO);
    let namespace = both.namespace(old, B256::ZERO);
    both.allow(old, namespace, writer);
    both.agree(namespace, &people);
    both.offer(old, namespace, new);
    // Until it is accepted, nothing changes; an offer can be taken back.
    both.agree(namespace, &people);
    both.offer(old, namespace, Address::ZERO);
    both.accept(new, namespace);
    both.offer(old, namespace, new);
    both.accept(new, namespace);
    assert!(both.record(namespace).writers.is_empty());
    both.agree(namespace, &people);
    both.offer(new, namespace, old);
    both.accept(old, namespace);
    both.agree(namespace, &people);
}
