//! Every conversion, from domain to domain and from whatever a stranger may send.

mod lengths;
mod limits;
mod members;
mod samples;

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::wire;
use meridian_proofs::Address;
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, SignedCheckpoint, SignedDispersal};
use meridian_proofs::committee::{GatewayMember, Region, Seat};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::log::LogEntry;

/// What holds for a domain type and its message.
fn check<W, D>(domain: &D, flips: &[(prop::sample::Index, u8)]) -> Result<(), TestCaseError>
where
    D: TryFrom<W, Error = WireError> + Clone + PartialEq + core::fmt::Debug,
    W: From<D> + Message + Default + Clone + PartialEq + core::fmt::Debug,
{
    let message = W::from(domain.clone());
    let mut encoded = message.encode_to_vec();
    let decoded = W::decode(encoded.as_slice()).unwrap();
    prop_assert_eq!(&decoded, &message);
    prop_assert_eq!(&D::try_from(decoded), &Ok(domain.clone()));

    for (place, flip) in flips {
        let place = if encoded.is_empty() { break } else { place.index(encoded.len()) };
        encoded[place] ^= flip;
        let Ok(damaged) = W::decode(encoded.as_slice()) else { continue };
        // Whatever is taken has one spelling only.
        if let Ok(taken) = D::try_from(damaged.clone()) {
            prop_assert_eq!(W::from(taken), damaged);
        }
    }
    Ok(())
}

macro_rules! conversions {
    ($($name:ident: $wire:ident => $domain:ty = $strategy:expr,)*) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
            $(
                #[test]
                fn $name(
                    domain in $strategy,
                    flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=u8::MAX), 0..8),
                ) {
                    check::<wire::$wire, $domain>(&domain, &flips)?;
                }
            )*

            #[test]
            fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..512)) {
                $(
                    if let Ok(message) = wire::$wire::decode(noise.as_slice()) {
                        let _ = <$domain>::try_from(message);
                    }
                )*
            }
        }

        /// One rich message of every type, encoded, with what refuses it.
        fn messages() -> Vec<lengths::Subject> {
            vec![$(lengths::Subject::new::<wire::$wire, $domain>(stringify!($wire), $strategy),)*]
        }
    };
}

conversions! {
    header: BlobHeader => BlobHeader = samples::header(),
    entry: LogEntry => LogEntry = samples::entry(),
    checkpoint: Checkpoint => Checkpoint = samples::checkpoint(),
    signed: SignedCheckpoint => SignedCheckpoint = samples::signed(),
    cosigned: CosignedCheckpoint => CosignedCheckpoint = samples::cosigned(),
    dispersal: Dispersal => SignedDispersal = samples::dispersal(),
    region: Region => Region = samples::region(),
    seat: Seat => Seat = samples::seat(),
    gateway_member: GatewayMember => GatewayMember = samples::gateway_member(),
    put_start: PutStart => PutStart = samples::put_start(),
    put_authorization: PutAuthorization => PutAuthorization = samples::put_authorization(),
    put_part: PutRequest => PutPart = samples::put_part(),
    get_certificate: GetCertificateRequest => GetCertificate = samples::get_certificate(),
    gateway_status: GatewayStatus => GatewayStatus = samples::gateway_status(),
    seat_health: SeatHealth => SeatHealth = samples::seat_health(),
    disperse_start: DisperseStart => DisperseStart = samples::disperse_start(),
    disperse_part: DisperseRequest => DispersePart = samples::disperse_part(),
    disperse_outcome: DisperseResponse => DisperseOutcome = samples::disperse_outcome(),
    range_start: RangeStart => RangeStart = samples::range_start(),
    cosign_request: CosignRequest => CosignRequest = samples::cosign_request(),
    cosign_answer: CosignResponse => CosignAnswer = samples::cosign_answer(),
    get_rows: GetRowsRequest => GetRows = samples::get_rows(),
    rows_part: GetRowsResponse => RowsPart = samples::rows_part(),
    get_samples: GetSamplesRequest => GetSamples = samples::get_samples(),
    sample: Sample => Sample = samples::sample(),
    sample_list: GetSamplesResponse => Vec<Sample> = prop::collection::vec(samples::sample(), 0..4),
    lookup: LookupRequest => Lookup = samples::lookup(),
    held_rows: HeldRows => HeldRows = samples::held_rows(),
    candidate: Candidate => Candidate = samples::candidate(),
    candidate_list: LookupResponse => Vec<Candidate> = prop::collection::vec(samples::candidate(), 1..3),
    entry_ref: EntryRef => EntryRef = samples::entry_ref(),
    replica_status: ReplicaStatus => ReplicaStatus = samples::replica_status(),
    log_list: ListLogsResponse => Vec<CosignedCheckpoint> = samples::log_list(),
    get_checkpoint: GetCheckpointRequest => Address = samples::address(),
    get_entries: GetEntriesRequest => GetEntries = samples::get_entries(),
    log_item: LogItem => LogItem = samples::log_item(),
    log_items: GetEntriesResponse => Vec<LogItem> = prop::collection::vec(samples::log_item(), 0..5),
    get_inclusion: GetInclusionProofRequest => GetInclusionProof = samples::get_inclusion(),
    inclusion: GetInclusionProofResponse => InclusionProof = samples::inclusion(),
    get_consistency: GetConsistencyProofRequest => GetConsistencyProof = samples::get_consistency(),
    consistency: GetConsistencyProofResponse => ConsistencyProof = samples::hashes(65).prop_map(ConsistencyProof),
}
