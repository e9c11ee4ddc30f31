//! Reading with replicas that are down, do not know, or lie.

use meridian_client::Silent;
use meridian_client::fetch::{FaultKind, ReadError, Reader};
use meridian_client::rpc::Channels;
use meridian_proofs::ids::BlobId;

use crate::network::{Gateway, Network, PATIENCE, Replica};

fn reader(network: &Network) -> Reader {
    Reader::new(network.committee.clone(), Channels::new())
}

#[test]
fn one_honest_region_is_enough() {
    use Replica::{Down, Honest, Ignorant, OtherHeader, OtherRlc, WrongRows};
    for others in [Down, Ignorant, OtherHeader, OtherRlc, WrongRows] {
        for honest in 0..5 {
            let mut replicas = [others; 5];
            replicas[honest] = Honest;
            let network = Network::start(70_000, &replicas, &[Gateway::Down]);
            let reader = reader(&network);
            let id = network.blob.id();
            let read = reader.payload(id, &Silent);
            let fetched =
                network.block_on(async { tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap() });
            assert_eq!(fetched.payload, network.blob.payload());
            let honest = network.committee.regions()[honest].id;
            let mut liars = fetched.faults.iter().filter(|fault| fault.kind == FaultKind::Wrong);
            assert!(liars.clone().all(|fault| fault.region != honest));
            // Those who lie about the header alone give right rows.
            if !matches!(others, OtherHeader | OtherRlc) {
                assert_eq!(fetched.regions, [honest]);
            }
            if matches!(others, Down | Ignorant) {
                assert_eq!(liars.next(), None);
            }
        }
    }
}

#[test]
fn slander_does_not_make_a_blob_unreadable() {
    let network = Network::start(70_000, &[Replica::Slanderer; 5], &[Gateway::Down]);
    let fetched = network.block_on(reader(&network).payload(network.blob.id(), &Silent)).unwrap();
    assert_eq!(fetched.payload, network.blob.payload());
}

#[test]
fn a_reader_without_a_seat_never_asks_it() {
    let mut replicas = [Replica::Down; 5];
    replicas[3] = Replica::Honest;
    let network = Network::start(70_000, &replicas, &[Gateway::Down]);
    let reader = reader(&network);
    network.block_on(async {
        let context = reader.context(network.blob.id()).await.unwrap();
        for held_only in [true, false] {
            assert!(reader.gather(&context, held_only).await.unwrap().rows.is_decodable());
        }
        let region = network.committee.regions()[3].id;
        let only = network.committee.seats_of(region).next().unwrap().address;
        let without = reader.without(only);
        match without.find(network.blob.id()).await {
            Err(ReadError::Unreachable { faults }) => assert!(faults.iter().all(|fault| fault.seat != only)),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("found where nobody was asked"),
        }
        match without.gather(&context, true).await {
            Err(ReadError::Unavailable { have: 0, need: 256, faults }) => {
                assert!(faults.iter().all(|fault| fault.kind == FaultKind::Silent && fault.seat != only));
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("rows from nowhere"),
        }
    });
}

#[test]
fn large_blobs_come_in_many_parts() {
    let mut replicas = [Replica::Honest; 5];
    replicas[0] = Replica::WrongRows;
    let network = Network::start(9_000_000, &replicas, &[Gateway::Down]);
    let fetched = network.block_on(reader(&network).payload(network.blob.id(), &Silent)).unwrap();
    assert!(fetched.payload == network.blob.payload());
}

#[test]
fn a_blob_is_unknown_only_when_enough_regions_say_so() {
    use Replica::{Down, Ignorant};
    for (replicas, unknown) in [
        ([Ignorant, Ignorant, Ignorant, Ignorant, Down], true),
        ([Ignorant, Ignorant, Ignorant, Down, Down], false),
    ] {
        let network = Network::start(100, &replicas, &[Gateway::Down]);
        let found = network.block_on(reader(&network).context(BlobId::from([3; 32])));
        match found {
            Err(ReadError::Unknown { regions: 4, expired: None }) => assert!(unknown),
            Err(ReadError::Unreachable { .. }) => assert!(!unknown),
            _ => panic!("found"),
        }
    }
}

#[test]
fn samples_are_had_although_regions_are_down_or_lie() {
    use Replica::{Down, Honest, WrongRows};
    let network = Network::start(70_000, &[Down, WrongRows, Honest, Down, WrongRows], &[Gateway::Down]);
    let sampled = network.block_on(reader(&network).sample(network.blob.id(), 40)).unwrap();
    assert_eq!((sampled.drawn.len(), sampled.verified.len()), (40, 40));
    assert_eq!(sampled.clients_fooled(), 255 / 40);
    assert!(!sampled.exact && sampled.bound_unavailable() < 1e-20);
    assert_eq!(sampled.regions.into_iter().collect::<Vec<_>>(), [network.committee.regions()[2].id]);
}
