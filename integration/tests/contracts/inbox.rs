//! The example: an inbox that takes a batch only with a certificate, or out of an anchored log.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol;
use alloy::sol_types::{SolConstructor, SolError};
use meridian_proofs::ids::Namespace;
use meridian_proto::contract::{self, Meridian, Status};

use crate::anchors::Log;
use crate::certificates::Draft;
use crate::evm::{Artifact, Ending, Outcome, nobody};
use crate::random::Random;
use crate::world::World;

sol! {
    #[allow(missing_docs)]
    contract BatchInbox {
        struct Entry {
            bytes32 blobId; bytes32 namespace; bytes32 payloadHash;
            uint64 length; uint64 epoch; uint64 time; uint64 expiry;
        }
        constructor(address registry, address poster, bytes32 namespace, uint64 window);
        event BatchPosted(
            uint256 indexed number, bytes32 indexed blobId, uint64 length, uint64 expiry, bytes32 head
        );
        error NotThePoster();
        error NotTheNextBatch(uint256 next);
        error NotValid(uint8 status);
        error NotAnchored();
        error ForeignNamespace(bytes32 namespace);
        error ExpiresTooSoon(uint64 expiry);
        function post(uint256 number, bytes certificate, bytes members) external;
        function postAnchored(uint256 number, Entry entry, uint64 index, bytes32[] proof, address gateway) external;
        function next() external view returns (uint256);
        function head() external view returns (bytes32);
    }
}

const NAMESPACE: B256 = B256::repeat_byte(7);
const WINDOW: u64 = 7_200;

struct Inbox {
    world: World,
    random: Random,
    address: Address,
    poster: Address,
}

impl Inbox {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut world = World::new(&mut random, &[vec![1], vec![1], vec![1; 5], vec![1]]);
        let poster = nobody(8);
        let arguments = BatchInbox::constructorCall {
            registry: world.contract,
            poster,
            namespace: NAMESPACE,
            window: WINDOW,
        };
        let address = world.chain.deploy(&Artifact::load("BatchInbox"), &arguments.abi_encode());
        Self { world, random, address, poster }
    }

    /// A certificate for the inbox that expires so many seconds from now.
    fn draft(&mut self, expires_in: u64) -> Draft {
        let committee = self.world.committee(3).clone();
        let now = self.world.chain.now();
        let mut draft = Draft::valid(&mut self.random, &committee, self.world.domain, now);
        draft.entry.namespace = Namespace(NAMESPACE);
        draft.entry.expiry = now + expires_in;
        draft.entry.time = now - 1;
        draft.checkpoint.timestamp = now;
        draft
    }

    fn post(&self, number: u64, draft: &Draft) -> BatchInbox::postCall {
        BatchInbox::postCall {
            number: U256::from(number),
            certificate: draft.sign(&self.world.keys).encode().into(),
            members: self.world.members(3).into(),
        }
    }

    fn try_post(&mut self, call: &BatchInbox::postCall) -> Outcome {
        self.world.chain.call_as(self.poster, self.address, call)
    }
}

/// The call ended with this very error.
#[track_caller]
fn refused(outcome: &Outcome, error: &impl SolError) {
    assert_eq!(outcome.ending, Ending::Reverted(error.abi_encode().into()));
}

#[test]
fn a_batch_needs_a_valid_certificate() {
    let inbox = &mut Inbox::new(80);
    let mut head = B256::ZERO;
    for number in 0..3 {
        let draft = inbox.draft(WINDOW);
        let call = inbox.post(number, &draft);
        let outcome = inbox.world.chain.send(inbox.poster, inbox.address, &call);
        let event: BatchInbox::BatchPosted = outcome.event();
        head = keccak256([head, draft.header.id().0].concat());
        assert_eq!(event.number, U256::from(number));
        assert_eq!(event.blobId, draft.header.id().0);
        assert_eq!((event.length, event.expiry), (draft.header.length.get(), draft.entry.expiry));
        assert_eq!(event.head, head);
        assert_eq!(
            inbox
                .world
                .chain
                .call(inbox.address, &BatchInbox::headCall {})
                .returned::<BatchInbox::headCall>(),
            head
        );
        // The same again is not the next one.
        let next = U256::from(number + 1);
        refused(&inbox.try_post(&call), &BatchInbox::NotTheNextBatch { next });
    }
    let draft = inbox.draft(WINDOW);
    let call = inbox.post(3, &draft);
    let strangers = inbox.world.chain.call_as(nobody(9), inbox.address, &call);
    refused(&strangers, &BatchInbox::NotThePoster {});
    let call = inbox.post(4, &draft);
    refused(&inbox.try_post(&call), &BatchInbox::NotTheNextBatch { next: U256::from(3) });
    let soon = inbox.draft(WINDOW - 1);
    let call = inbox.post(3, &soon);
    let status = Status::ExpiresTooSoon as u8;
    refused(&inbox.try_post(&call), &BatchInbox::NotValid { status });
    let mut few = draft.clone();
    few.cosigners.clear();
    let call = inbox.post(3, &few);
    refused(&inbox.try_post(&call), &BatchInbox::NotValid { status: Status::NoQuorum as u8 });
    let mut call = inbox.post(3, &draft);
    call.certificate = b"no certificate".as_slice().into();
    refused(&inbox.try_post(&call), &BatchInbox::NotValid { status: Status::Malformed as u8 });
    let mut foreign = draft;
    foreign.entry.namespace = Namespace(B256::repeat_byte(8));
    let call = inbox.post(3, &foreign);
    refused(&inbox.try_post(&call), &BatchInbox::ForeignNamespace { namespace: B256::repeat_byte(8) });
}

#[test]
fn a_batch_of_a_closed_epoch_needs_an_anchored_entry() {
    let inbox = &mut Inbox::new(81);
    let log = Log::new(&inbox.world, 3, 12);
    let gateway = log.checkpoint.gateway;
    let entry = &log.entries[4];
    let contract::LogEntry { blobId, namespace, payloadHash, length, epoch, time, expiry } = entry.into();
    let call = BatchInbox::postAnchoredCall {
        number: U256::ZERO,
        entry: BatchInbox::Entry { blobId, namespace, payloadHash, length, epoch, time, expiry },
        index: 4,
        proof: log.nodes.inclusion(4, 12),
        gateway,
    };
    let send = |inbox: &mut Inbox, call: &BatchInbox::postAnchoredCall| {
        inbox.world.chain.call_as(inbox.poster, inbox.address, call)
    };
    refused(&send(inbox, &call), &BatchInbox::NotAnchored {});
    let anchor = log.anchor(&inbox.world, &mut inbox.random);
    inbox.world.chain.send(gateway, inbox.world.contract, &anchor).event::<Meridian::Anchored>();

    // The epoch is closed, and the certificate with it; the entry is not.
    let draft = inbox.draft(80_000);
    let post = inbox.post(0, &draft);
    inbox.world.chain.set_now(entry.expiry - WINDOW);
    refused(&inbox.try_post(&post), &BatchInbox::NotValid { status: Status::EpochClosed as u8 });
    let outcome = inbox.world.chain.send(inbox.poster, inbox.address, &call);
    assert_eq!(outcome.event::<BatchInbox::BatchPosted>().blobId, entry.blob_id.0);
    let call = BatchInbox::postAnchoredCall { number: U256::ONE, ..call };
    inbox.world.chain.set_now(entry.expiry - WINDOW + 1);
    refused(&send(inbox, &call), &BatchInbox::ExpiresTooSoon { expiry: entry.expiry });
    inbox.world.chain.set_now(entry.expiry - WINDOW);
    let mut foreign = call.clone();
    foreign.entry.namespace = B256::ZERO;
    refused(&send(inbox, &foreign), &BatchInbox::ForeignNamespace { namespace: B256::ZERO });
    let mut other = call;
    other.entry.length += 1;
    refused(&send(inbox, &other), &BatchInbox::NotAnchored {});
}
