use alloy_primitives::keccak256;
use proptest::prelude::*;

use super::*;

const DOMAIN: Domain = Domain { chain_id: 1, verifying_contract: Address::repeat_byte(0xcc) };

fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes([byte; 32]).unwrap()
}

fn checkpoint() -> Checkpoint {
    Checkpoint { gateway: key(1).address(), epoch: 2, size: 3, root: B256::repeat_byte(4), timestamp: 5 }
}

fn dispersal() -> Dispersal {
    Dispersal {
        gateway: key(1).address(),
        replica: key(2).address(),
        epoch: 3,
        blob_id: BlobId::from([4; 32]),
        deadline: 5,
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
fn by_hand(domain: &Domain, of_type: &str, fields: &[[u8; 32]]) -> B256 {
    let separator = [
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)").0,
        keccak256("Meridian").0,
        keccak256("1").0,
        word(domain.chain_id),
        padded(domain.verifying_contract),
    ];
    let hash = [[keccak256(of_type).0].as_slice(), fields].concat();
    keccak256(
        [
            [0x19, 0x01].as_slice(),
            keccak256(separator.concat()).as_slice(),
            keccak256(hash.concat()).as_slice(),
        ]
        .concat(),
    )
}

#[test]
fn conflicts_are_different_roots_of_one_size() {
    let (a, mut b) = (checkpoint(), checkpoint());
    assert!(!is_conflict(&a, &b));
    b.timestamp += 1;
    assert!(!is_conflict(&a, &b), "the same state, signed later");
    b.root = B256::ZERO;
    assert!(is_conflict(&a, &b));
    assert!(!is_conflict(&a, &Checkpoint { size: 4, ..b }));
    assert!(!is_conflict(&a, &Checkpoint { gateway: key(2).address(), ..b }));
}

#[test]
fn a_statement_stands_for_its_gateway_domain_and_fields_only() {
    let signed = SignedCheckpoint::sign(checkpoint(), &DOMAIN, &key(1));
    assert_eq!(signed.verify(&DOMAIN), Ok(()));
    let expected = key(1).address();
    let stranger = SignedCheckpoint::sign(checkpoint(), &DOMAIN, &key(2));
    let error = StatementError::WrongSigner { expected, signer: key(2).address() };
    assert_eq!(stranger.verify(&DOMAIN), Err(error));

    for other in [Domain { chain_id: 2, ..DOMAIN }, Domain { verifying_contract: Address::ZERO, ..DOMAIN }] {
        assert!(signed.verify(&other).is_err(), "replay under another chain or contract");
    }
    let changes: [fn(&mut Checkpoint); 5] = [
        |checkpoint| checkpoint.gateway = Address::ZERO,
        |checkpoint| checkpoint.epoch += 1,
        |checkpoint| checkpoint.size += 1,
        |checkpoint| checkpoint.root = B256::ZERO,
        |checkpoint| checkpoint.timestamp += 1,
    ];
    for change in changes {
        let mut other = signed;
        change(&mut other.checkpoint);
        assert!(other.verify(&DOMAIN).is_err());
    }

    let signed = SignedDispersal::sign(dispersal(), &DOMAIN, &key(1));
    assert_eq!(signed.verify(&DOMAIN), Ok(()));
    assert!(SignedDispersal::sign(dispersal(), &DOMAIN, &key(2)).verify(&DOMAIN).is_err());
    assert!(signed.verify(&Domain { chain_id: 2, ..DOMAIN }).is_err());
    let changes: [fn(&mut Dispersal); 5] = [
        |dispersal| dispersal.gateway = Address::ZERO,
        |dispersal| dispersal.replica = Address::ZERO,
        |dispersal| dispersal.epoch += 1,
        |dispersal| dispersal.blob_id = BlobId::default(),
        |dispersal| dispersal.deadline += 1,
    ];
    for change in changes {
        let mut other = signed;
        change(&mut other.dispersal);
        assert!(other.verify(&DOMAIN).is_err());
    }
}

#[test]
fn cosignatures_ascend_and_do_not_repeat() {
    let signed = SignedCheckpoint::sign(checkpoint(), &DOMAIN, &key(1));
    let mut cosigned = CosignedCheckpoint { signed, cosignatures: Vec::new() };
    assert_eq!(cosigned.signers(&DOMAIN), Ok(Vec::new()));
    let digest = checkpoint().digest(&DOMAIN);
    let mut expected: Vec<Address> = Vec::new();
    for byte in 2..9 {
        assert_eq!(cosigned.insert(&DOMAIN, key(byte).sign(&digest)), Ok(key(byte).address()));
        expected.push(key(byte).address());
        expected.sort();
        assert_eq!(cosigned.signers(&DOMAIN).as_ref(), Ok(&expected));
    }
    let duplicate = cosigned.insert(&DOMAIN, key(2).sign(&digest));
    assert_eq!(duplicate, Err(CosignatureError::Duplicate(key(2).address())));
    assert_eq!(cosigned.cosignatures.len(), 7);

    let mut twice = cosigned.clone();
    twice.cosignatures.insert(3, twice.cosignatures[3]);
    assert_eq!(twice.signers(&DOMAIN), Err(CosignatureError::NotAscending(4)));
    assert!(twice.insert(&DOMAIN, key(9).sign(&digest)).is_err());
    let mut reordered = cosigned;
    reordered.cosignatures.swap(0, 1);
    assert_eq!(reordered.signers(&DOMAIN), Err(CosignatureError::NotAscending(1)));
}

proptest! {
    #[test]
    fn digests_are_eip_712(chain_id: u64, a: [u8; 20], b: [u8; 20], hash: [u8; 32], n: [u64; 3]) {
        let domain = Domain { chain_id, verifying_contract: Address::from(b) };
        let (gateway, replica) = (Address::from(a), Address::from(b));
        let checkpoint =
            Checkpoint { gateway, epoch: n[0], size: n[1], root: B256::from(hash), timestamp: n[2] };
        prop_assert_eq!(checkpoint.digest(&domain), by_hand(
            &domain,
            "Checkpoint(address gateway,uint64 epoch,uint64 size,bytes32 root,uint64 timestamp)",
            &[padded(gateway), word(n[0]), word(n[1]), hash, word(n[2])],
        ));
        let dispersal = Dispersal { gateway, replica, epoch: n[0], blob_id: BlobId::from(hash), deadline: n[1] };
        prop_assert_eq!(dispersal.digest(&domain), by_hand(
            &domain,
            "Dispersal(address gateway,address replica,uint64 epoch,bytes32 blobId,uint64 deadline)",
            &[padded(gateway), padded(replica), word(n[0]), hash, word(n[1])],
        ));
    }
}
