//! Reading with replicas that are down, do not know, or lie.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use meridian_client::Silent;
use meridian_client::fetch::{Draw, FaultKind, ReadError, Reader, Sampled};
use meridian_client::nearest::Took;
use meridian_client::rpc::Channels;
use meridian_proofs::committee::Seat;
use meridian_proofs::ids::BlobId;
use meridian_proofs::placement;
use meridian_proofs::shape::RowIndex;

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

/// A reader to whom the first of these regions is the nearest, the next one the second, and the others are far.
fn near(network: &Network, regions: &[usize]) -> Reader {
    let reader = reader(network);
    for seat in network.committee.seats() {
        let place = network.committee.regions().iter().position(|region| region.id == seat.region).unwrap();
        let place = regions.iter().position(|near| *near == place).map_or(1_000, |place| 10 * place);
        let distance = Duration::from_millis(u64::try_from(place).unwrap());
        reader.nearest().answered(seat.address, Took::RoundTrip(distance));
    }
    reader
}

#[test]
fn a_small_blob_is_read_in_one_round_trip() {
    let network = Network::start(70_000, &[Replica::Honest; 5], &[Gateway::Down]);
    for nearest in 0..5 {
        let reader = reader(&network);
        for (place, region) in network.committee.regions().iter().enumerate() {
            // So far that nobody is late, however busy the machine is.
            let distance = Duration::from_secs(if place == nearest { 1 } else { 3 });
            for seat in network.committee.seats_of(region.id) {
                reader.nearest().answered(seat.address, Took::RoundTrip(distance));
            }
        }
        let fetched = network.block_on(reader.payload(network.blob.id(), &Silent)).unwrap();
        assert_eq!(fetched.payload, network.blob.payload());
        assert_eq!(
            (&fetched.regions[..], &fetched.faults[..]),
            (&[network.committee.regions()[nearest].id][..], &[][..])
        );
    }
    // Only probes of far regions may have asked for a row.
    assert!(network.row_calls.load(Ordering::Relaxed) <= 5);
}

#[test]
fn two_regions_that_stand_still_are_left_for_the_third() {
    use Replica::{Honest, NoRows, WrongRows};
    for second in [NoRows, WrongRows] {
        for length in [70_000, 9_000_000] {
            let network = Network::start(length, &[NoRows, second, Honest, Honest, Honest], &[Gateway::Down]);
            let read = async {
                let reader = near(&network, &[0, 1, 2]);
                tokio::time::timeout(PATIENCE, reader.payload(network.blob.id(), &Silent))
                    .await
                    .unwrap()
                    .unwrap()
            };
            let fetched = network.block_on(read);
            assert!(fetched.payload == network.blob.payload());
            let still = [0, 1].map(|place: usize| network.committee.regions()[place].id);
            assert!(fetched.faults.iter().all(|fault| still.contains(&fault.region)), "{:?}", fetched.faults);
        }
    }
}

#[test]
fn a_payload_is_given_out_in_order_or_an_error_is() {
    use Replica::{Down, Honest, Ignorant, NoRows, OtherHeader, OtherRlc, Slanderer, WrongRows};
    for others in [Honest, Down, Ignorant, NoRows, OtherHeader, OtherRlc, WrongRows, Slanderer] {
        for (honest, length) in [(0, 70_000), (2, 70_000), (1, 3 << 20), (4, 3 << 20)] {
            let mut replicas = [others; 5];
            replicas[honest] = Honest;
            let network = Network::start(length, &replicas, &[Gateway::Down]);
            for reader in [reader(&network), near(&network, &[3, honest])] {
                let pieces = async {
                    let pieces = reader.stream(network.blob.id()).try_collect::<Vec<_>>();
                    tokio::time::timeout(PATIENCE, pieces).await.unwrap().unwrap()
                };
                assert!(network.block_on(pieces).concat() == network.blob.payload(), "{others:?} {honest}");
            }
        }
    }
    let network = Network::start(3 << 20, &[WrongRows; 5], &[Gateway::Down]);
    let all =
        network.block_on(async { reader(&network).stream(network.blob.id()).collect::<Vec<_>>().await });
    assert!(matches!(&all[..], [Err(ReadError::Unavailable { have: 0, .. })]), "{all:?}");
}

#[test]
fn many_blobs_are_read_at_once_and_come_in_their_order() {
    let network = Network::start(70_000, &[Replica::Honest; 5], &[Gateway::Down]);
    let (reader, id, unknown) = (reader(&network), network.blob.id(), BlobId::from([3; 32]));
    let ids = [id, unknown, id, id, unknown];
    for at_once in [0, 1, 3, 10] {
        let all = network.block_on(reader.payloads(ids, at_once).collect::<Vec<_>>());
        assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
        for (found, read) in all {
            match read {
                Ok(fetched) => assert!(found == id && fetched.payload == network.blob.payload()),
                // A fake replica knows one blob, and asserts that it is asked for that one's rows only.
                Err(error) => {
                    assert!(found == unknown && matches!(error, ReadError::Unknown { .. }), "{error}");
                }
            }
        }
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

/// Samples the one blob of a network, which others have found, so that the reader has measured nobody.
fn sampled(network: &Network, reader: &Reader, rows: usize) -> Sampled {
    network.block_on(async {
        let context = self::reader(network).context(network.blob.id()).await.unwrap();
        network.asked.samples.lock().unwrap().clear();
        let draw = Draw::new(network.blob.shape(), rows).unwrap();
        let sampled = tokio::time::timeout(PATIENCE, reader.sample_rows(&context, &draw));
        let sampled = sampled.await.unwrap().unwrap();
        assert_eq!(sampled.drawn, draw.rows());
        assert_eq!(sampled.verified.len(), rows, "{:?}", sampled.faults);
        sampled
    })
}

/// A reader to whom these regions are the nearest in this order, and all so far that nobody is late who answers at all.
fn patient(network: &Network, regions: &[usize]) -> Reader {
    let reader = reader(network);
    for (place, region) in network.committee.regions().iter().enumerate() {
        let rank = regions.iter().position(|near| *near == place).unwrap_or(9);
        let distance = Duration::from_millis(500 + 50 * u64::try_from(rank).unwrap());
        for seat in network.committee.seats_of(region.id) {
            reader.nearest().answered(seat.address, Took::RoundTrip(distance));
        }
    }
    reader
}

/// The seat of the replica at a place.
fn seat(network: &Network, place: usize) -> &Seat {
    network.committee.seats_of(network.committee.regions()[place].id).next().unwrap()
}

#[test]
fn samples_are_asked_of_the_nearest_copy_and_a_quarter_of_others_that_hold_them() {
    let network = Network::start(70_000, &[Replica::Honest; 5], &[Gateway::Down]);
    let (committee, blob) = (&network.committee, &network.blob);
    for nearest in 0..5 {
        for (rows, elsewhere) in [(1, 0), (2, 1), (3, 1), (4, 1), (8, 2), (16, 4), (64, 16)] {
            let sampled = sampled(&network, &patient(&network, &[nearest]), rows);
            let holds = |place: usize, row| {
                let seat = seat(&network, place);
                placement::interval(committee, seat, &blob.id(), blob.shape()).contains(row)
            };
            let asked = network.asked.samples.lock().unwrap();
            let (near, far): (Vec<_>, Vec<_>) = asked.iter().partition(|(place, _)| *place == nearest);
            // One call for what it holds, and one for what it has to rebuild.
            assert!((1..=2).contains(&near.len()), "{} calls to one replica", near.len());
            for (_, rows) in &near {
                assert!(rows.iter().all(|row| holds(nearest, *row) == holds(nearest, rows[0])));
            }
            let mut far_rows = Vec::new();
            for (place, rows) in far {
                assert!(rows.iter().all(|row| holds(*place, *row)));
                far_rows.extend(rows.iter().copied());
            }
            // The first of the draw that can be had elsewhere: a retry shows nobody others.
            let mut expected = sampled.drawn.clone();
            expected.retain(|row| (0..5).any(|place| place != nearest && holds(place, *row)));
            expected.truncate(elsewhere);
            expected.sort_unstable();
            far_rows.sort_unstable();
            assert_eq!(far_rows, expected);
            assert_eq!(near.iter().map(|(_, rows)| rows.len()).sum::<usize>(), rows - far_rows.len());
            assert_eq!(sampled.faults, []);
        }
    }
}

#[test]
fn every_row_comes_from_the_nearest_copy_that_lives_and_tells_the_truth() {
    use Replica::{Down, Ignorant, NoRows, WrongRows};
    for dead in [Down, Ignorant, NoRows, WrongRows] {
        for count in [1, 2, 4] {
            // Whoever answers a part of the draw before the nearest has is the nearest by all that is known then, and is
            // asked for the rest: that is rare.
            let of_nearest = (0..5).map(|_| rows_of_nearest(dead, count)).find(|rows| *rows >= 12);
            assert!(of_nearest.is_some(), "{dead:?} {count}");
        }
    }
}

/// Samples beside faulty replicas that seem to be the nearest, and gives for how many rows the nearest of the others was
/// asked: for everything that it was not asked for first.
fn rows_of_nearest(dead: Replica, count: usize) -> usize {
    let mut replicas = [Replica::Honest; 5];
    replicas[..count].fill(dead);
    let network = Network::start(70_000, &replicas, &[Gateway::Down]);
    let regions = network.committee.regions();
    let (faulty, nearest) = (&regions[..count], regions[count].id);
    let sampled = sampled(&network, &patient(&network, &[0, 1, 2, 3, 4]), 16);
    assert!(sampled.regions.contains(&nearest), "{dead:?} {count}: {sampled:?}");
    assert!(faulty.iter().all(|region| !sampled.regions.contains(&region.id)));
    for fault in &sampled.faults {
        assert!(faulty.iter().any(|region| region.id == fault.region), "{fault:?}");
    }
    let kinds = sampled.faults.iter().map(|fault| fault.kind);
    match dead {
        Replica::WrongRows => {
            assert!(kinds.clone().count() > 0 && kinds.clone().all(|it| it == FaultKind::Wrong));
        }
        Replica::Down => assert!(kinds.clone().all(|it| it == FaultKind::Silent)),
        _ => {}
    }
    let asked = network.asked.samples.lock().unwrap();
    asked.iter().filter(|(place, _)| *place == count).map(|(_, rows)| rows.len()).sum()
}

#[test]
fn a_draw_is_taken_up_again_as_it_was() {
    let network = Network::start(70_000, &[Replica::Honest; 5], &[Gateway::Down]);
    let shape = network.blob.shape();
    let draw = Draw::new(shape, 16).unwrap();
    assert_eq!(Draw::again(shape, draw.rows().to_vec()), Some(draw));
    let total = u32::try_from(shape.total_rows()).unwrap();
    for (rows, is_draw) in [(vec![0, total - 1], true), (vec![total], false), (vec![3, 3], false)] {
        let rows = rows.into_iter().map(RowIndex).collect();
        assert_eq!(Draw::again(shape, rows).is_some(), is_draw);
    }
}

#[test]
fn the_rlc_vector_of_a_sample_is_asked_of_one_seat() {
    let network = Network::start(70_000, &[Replica::Honest; 5], &[Gateway::Down]);
    let rlcs = || network.asked.rlcs.swap(0, Ordering::Relaxed);
    // Who knows nobody yet, and who does.
    for reader in [reader(&network), patient(&network, &[2])] {
        network.block_on(reader.sample(network.blob.id(), 16)).unwrap();
        // One more where that one is late.
        assert!((1..=2).contains(&rlcs()));
    }
    // A lie about it costs no more than asking the others.
    let network = Network::start(70_000, &[Replica::OtherRlc, Replica::Honest], &[Gateway::Down]);
    let found = network.block_on(reader(&network).find(network.blob.id())).unwrap();
    assert!(found.faults.iter().all(|fault| fault.region == network.committee.regions()[0].id));
    assert!((1..=2).contains(&network.asked.rlcs.load(Ordering::Relaxed)));
}
