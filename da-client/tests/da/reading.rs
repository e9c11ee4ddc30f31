//! Reading with replicas that are down, do not know, or lie.

use std::time::Duration;

use meridian_client::Silent;
use meridian_client::fetch::{FaultKind, ReadError, Reader};
use meridian_client::nearest::Took;
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
fn a_region_that_stands_still_is_left_and_not_asked_first_again() {
    use Replica::{Honest, NoRows};
    for still in 0..5 {
        let mut replicas = [Honest; 5];
        replicas[still] = NoRows;
        let network = Network::start(70_000, &replicas, &[Gateway::Down]);
        let (reader, id) = (reader(&network), network.blob.id());
        let still = network.committee.regions()[still].id;
        let seat = network.committee.seats_of(still).next().unwrap().address;
        network.block_on(async {
            // It seems to be the nearest by far.
            for other in network.committee.seats() {
                let distance = if other.address == seat { Duration::ZERO } else { Duration::from_secs(5) };
                reader.nearest().answered(other.address, Took::RoundTrip(distance));
            }
            let fetched = reader.payload(id, &Silent).await.unwrap();
            assert_eq!(fetched.payload, network.blob.payload());
            assert!(!fetched.regions.contains(&still));
            let order = reader.nearest().regions(&network.committee, 70_000, |_| Duration::ZERO);
            assert_ne!(order[0], still);
            assert_eq!(order[0], fetched.regions[0]);
        });
    }
}

#[test]
fn a_range_is_had_from_just_the_rows_that_cover_it() {
    use Replica::{Down, Honest, Ignorant, NoRows, OtherHeader, OtherRlc, Slanderer, WrongRows};
    // 256 rows of 320 bytes.
    let length = 70_000;
    for others in [Honest, Down, Ignorant, NoRows, OtherHeader, OtherRlc, WrongRows] {
        for honest in [1, 3] {
            let mut replicas = [others; 5];
            replicas[honest] = Honest;
            let network = Network::start(length, &replicas, &[Gateway::Down]);
            let (reader, id, payload) = (reader(&network), network.blob.id(), network.blob.payload());
            network.block_on(async {
                for range in [0..1, 319..321, 33_000..34_000, 69_999..70_000] {
                    let read = tokio::time::timeout(PATIENCE, reader.range(id, range.clone(), &Silent));
                    let read = read.await.unwrap().unwrap();
                    let (start, end) =
                        (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
                    assert_eq!(read.bytes, payload[start..end]);
                    // With the padding's rows, of which there are 38 at most.
                    assert!(read.row_bytes < 45 * 320, "{range:?}: {}", read.row_bytes);
                }
                let whole = reader.range(id, 0..70_000, &Silent).await.unwrap();
                assert_eq!(whole.bytes, payload);
            });
        }
    }
    let network = Network::start(length, &[Honest; 5], &[Gateway::Down]);
    let (reader, id) = (reader(&network), network.blob.id());
    for (start, end) in [(0, 0), (5, 4), (0, 70_001), (70_000, 70_001), (u64::MAX, u64::MAX)] {
        let error = network.block_on(reader.range(id, start..end, &Silent)).unwrap_err();
        assert_eq!(error, ReadError::Range { start, end, length: 70_000 });
    }
    // Whoever says that it is no codeword makes a reader look at all of it.
    let network = Network::start(length, &[Slanderer; 5], &[Gateway::Down]);
    let read = network.block_on(self::reader(&network).range(network.blob.id(), 9..10, &Silent)).unwrap();
    assert_eq!((read.bytes, read.row_bytes), (network.blob.payload().slice(9..10), 256 * 320));
    let network = Network::start(length, &[WrongRows; 5], &[Gateway::Down]);
    match network.block_on(self::reader(&network).range(network.blob.id(), 9..10, &Silent)) {
        Err(ReadError::Unavailable { faults, .. }) => {
            assert!(faults.iter().all(|fault| fault.kind == FaultKind::Wrong));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_range_whose_rows_nobody_gives_is_cut_from_the_whole() {
    // In several parts, which are checked while the first one is given up.
    let network = Network::start(3 << 20, &[Replica::NotTheFirst; 5], &[Gateway::Down]);
    let (reader, id, payload) = (reader(&network), network.blob.id(), network.blob.payload());
    network.block_on(async {
        for _ in 0..5 {
            let read = tokio::time::timeout(PATIENCE, reader.range(id, 0..3_000_000, &Silent));
            assert_eq!(read.await.unwrap().unwrap().bytes, payload[..3_000_000]);
        }
    });
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
