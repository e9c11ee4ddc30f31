use alloy_primitives::keccak256;
use proptest::prelude::*;

use super::*;

const DOMAIN: Domain = Domain { chain_id: 1, verifying_contract: Address::repeat_byte(0xcc) };

fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes([byte; 32]).unwrap()
}

fn authorization() -> Authorization {
    Authorization {
        gateway: key(1).address(),
        namespace: Namespace::from([2; 32]),
        payload_hash: PayloadHash(B256::repeat_byte(3)),
        length: 4,
        retention: 5,
        kzg_root: B256::repeat_byte(6),
        bind_payload_hash: false,
        nonce: B256::repeat_byte(7),
        deadline: 8,
    }
}

fn word(number: u64) -> [u8; 32] {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}

fn padded(address: Address) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].copy_from_slice(address.as_slice());
    word
}

/// EIP-712 by hand: 0x1901, domain separator, struct hash.
fn by_hand(domain: &Domain, authorization: &Authorization) -> B256 {
    let separator = [
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)").0,
        keccak256("Meridian").0,
        keccak256("1").0,
        word(domain.chain_id),
        padded(domain.verifying_contract),
    ];
    let of_type = "Put(address gateway,bytes32 namespace,bytes32 payloadHash,uint64 length,uint64 retention,\
                   bytes32 kzgRoot,bool bindPayloadHash,bytes32 nonce,uint64 deadline)";
    let hash = [
        keccak256(of_type).0,
        padded(authorization.gateway),
        authorization.namespace.0.0,
        authorization.payload_hash.0.0,
        word(authorization.length),
        word(authorization.retention),
        authorization.kzg_root.0,
        word(authorization.bind_payload_hash.into()),
        authorization.nonce.0,
        word(authorization.deadline),
    ];
    let parts = [keccak256(separator.concat()).0, keccak256(hash.concat()).0];
    keccak256([[0x19, 0x01].as_slice(), parts.concat().as_slice()].concat())
}

#[test]
fn an_authorization_stands_for_its_domain_and_fields_only() {
    let signed = SignedAuthorization::sign(authorization(), &DOMAIN, &key(9));
    assert_eq!(signed.signer(&DOMAIN), Ok(key(9).address()));
    for other in [Domain { chain_id: 2, ..DOMAIN }, Domain { verifying_contract: Address::ZERO, ..DOMAIN }] {
        assert_ne!(signed.signer(&other), Ok(key(9).address()), "replay under another chain or contract");
    }
    let changes: [fn(&mut Authorization); 9] = [
        |it| it.gateway = Address::ZERO,
        |it| it.namespace = Namespace::from([0; 32]),
        |it| it.payload_hash = PayloadHash::UNBOUND,
        |it| it.length += 1,
        |it| it.retention += 1,
        |it| it.kzg_root = B256::ZERO,
        |it| it.bind_payload_hash = true,
        |it| it.nonce = B256::ZERO,
        |it| it.deadline += 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = signed;
        change(&mut other.authorization);
        assert_ne!(other.signer(&DOMAIN), Ok(key(9).address()), "field {number}");
    }
}

proptest! {
    #[test]
    fn digests_are_eip_712(
        chain_id: u64, a: [u8; 20], b: [u8; 20], hashes: [[u8; 32]; 4], bind: bool, n: [u64; 3],
    ) {
        let domain = Domain { chain_id, verifying_contract: Address::from(b) };
        let [namespace, payload, kzg_root, nonce] = hashes;
        let authorization = Authorization {
            gateway: Address::from(a),
            namespace: Namespace::from(namespace),
            payload_hash: PayloadHash(B256::from(payload)),
            length: n[0],
            retention: n[1],
            kzg_root: B256::from(kzg_root),
            bind_payload_hash: bind,
            nonce: B256::from(nonce),
            deadline: n[2],
        };
        prop_assert_eq!(authorization.digest(&domain), by_hand(&domain, &authorization));
    }
}
