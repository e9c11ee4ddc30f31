//! A stranger who poses as a gateway.

use meridian_proofs::checkpoint::{Checkpoint, Domain, SignedCheckpoint};
use meridian_proofs::log::LogEntry;
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{Address, B256};
use meridian_proto::Reason;

use super::crooked::{Attempt, Crooked};

/// Requests of a gateway that is not in the committee, and in the name of one that is, also with its own signatures
/// from another chain or contract.
#[must_use]
pub fn attempts(log: &Crooked, next: &LogEntry, stranger: &SecretKey, gateway: &SecretKey) -> Vec<Attempt> {
    let honest = log.honest(*next);
    let domain = log.committee().domain();
    let signed = |whose: Address, domain: &Domain, by: &SecretKey| {
        SignedCheckpoint::sign(Checkpoint { gateway: whose, ..honest.signed.checkpoint }, domain, by)
    };
    let other_chain = Domain { chain_id: domain.chain_id + 1, ..domain };
    let other_contract = Domain { verifying_contract: Address::from([9; 20]), ..domain };
    let posing = |what, refused, signed| Attempt { what, refused, signed, ..honest.clone() };
    let mut rooted = honest.signed;
    rooted.checkpoint.root = B256::from([1; 32]);
    vec![
        posing(
            "a gateway without membership",
            Reason::NotAGateway,
            signed(stranger.address(), &domain, stranger),
        ),
        posing(
            "a member's name under a stranger's signature",
            Reason::SignatureInvalid,
            signed(gateway.address(), &domain, stranger),
        ),
        posing(
            "a signature from another chain",
            Reason::SignatureInvalid,
            signed(gateway.address(), &other_chain, gateway),
        ),
        posing(
            "a signature from another contract",
            Reason::SignatureInvalid,
            signed(gateway.address(), &other_contract, gateway),
        ),
        posing("a signature of another checkpoint", Reason::SignatureInvalid, rooted),
    ]
}
