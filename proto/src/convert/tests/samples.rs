//! Arbitrary values of every domain type.

use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::checkpoint::{
    Checkpoint, CosignedCheckpoint, Dispersal, SignedCheckpoint, SignedDispersal,
};
use meridian_proofs::committee::{GatewayMember, Region, RegionId, Seat};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::log::LogEntry;
use meridian_proofs::merkle::{RangeProof, RowProof};
use meridian_proofs::rlc::RlcVector;
use meridian_proofs::shape::{PayloadLength, RowIndex};
use meridian_proofs::signature::{SecretKey, Signature};
use meridian_proofs::{Address, B256};
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::super::*;
use crate::{MAX_CLOSINGS, MAX_HELD_RANGES, MAX_ROW_PROOF, MAX_ROWS};

pub(super) fn hash() -> impl Strategy<Value = B256> {
    any::<[u8; 32]>().prop_map(B256::from)
}

pub(super) fn hashes(most: usize) -> impl Strategy<Value = Vec<B256>> {
    prop::collection::vec(hash(), 0..=most)
}

pub(super) fn address() -> impl Strategy<Value = Address> {
    any::<[u8; 20]>().prop_map(Address::from)
}

fn blob_id() -> impl Strategy<Value = BlobId> {
    hash().prop_map(BlobId)
}

fn namespace() -> impl Strategy<Value = Namespace> {
    hash().prop_map(Namespace)
}

fn length() -> impl Strategy<Value = PayloadLength> {
    prop_oneof![Just(1), Just(1_u64 << 27), 1..=1_u64 << 27].prop_map(|length| length.try_into().unwrap())
}

fn data() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 1..200).prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter)
}

fn signature() -> impl Strategy<Value = Signature> {
    (1..=u8::MAX, hash())
        .prop_map(|(key, digest)| SecretKey::from_bytes([key & 0x7f | 1; 32]).unwrap().sign(&digest))
}

pub(super) fn header() -> impl Strategy<Value = BlobHeader> {
    (length(), hash(), hash(), hash()).prop_map(|(length, row_root, rlc_root, kzg_root)| BlobHeader {
        length,
        row_root,
        rlc_root,
        kzg_root,
    })
}

pub(super) fn entry() -> impl Strategy<Value = LogEntry> {
    (blob_id(), namespace(), hash(), any::<[u64; 4]>()).prop_map(
        |(blob_id, namespace, payload, [length, epoch, time, expiry])| LogEntry {
            blob_id,
            namespace,
            payload_hash: PayloadHash(payload),
            length,
            epoch,
            time,
            expiry,
        },
    )
}

pub(super) fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    (address(), hash(), any::<[u64; 3]>(), 0_u8..8).prop_map(
        |(gateway, root, [epoch, size, timestamp], empty)| {
            let (size, root) = if empty == 0 { (0, B256::ZERO) } else { (size.max(1), root) };
            Checkpoint { gateway, epoch, size, root, timestamp }
        },
    )
}

pub(super) fn signed() -> impl Strategy<Value = SignedCheckpoint> {
    (checkpoint(), signature()).prop_map(|(checkpoint, signature)| SignedCheckpoint { checkpoint, signature })
}

pub(super) fn cosigned() -> impl Strategy<Value = CosignedCheckpoint> {
    (signed(), prop::collection::vec(signature(), 0..4))
        .prop_map(|(signed, cosignatures)| CosignedCheckpoint { signed, cosignatures })
}

pub(super) fn dispersal() -> impl Strategy<Value = SignedDispersal> {
    (address(), address(), blob_id(), any::<[u64; 2]>(), signature()).prop_map(
        |(gateway, replica, blob_id, [epoch, deadline], signature)| SignedDispersal {
            dispersal: Dispersal { gateway, replica, epoch, blob_id, deadline },
            signature,
        },
    )
}

pub(super) fn region() -> impl Strategy<Value = Region> {
    let label = prop::collection::vec(any::<char>(), 0..=16).prop_map(String::from_iter);
    (any::<u16>(), label, -90.0..=90.0, -180.0..=180.0).prop_map(|(id, label, latitude, longitude)| Region {
        id: RegionId(id),
        label,
        latitude,
        longitude,
    })
}

pub(super) fn seat() -> impl Strategy<Value = Seat> {
    (any::<[u16; 2]>(), address(), text()).prop_map(|([region, number], address, endpoint)| Seat {
        region: RegionId(region),
        number,
        address,
        endpoint,
    })
}

pub(super) fn gateway_member() -> impl Strategy<Value = GatewayMember> {
    (address(), text(), any::<[u64; 2]>()).prop_map(
        |(address, endpoint, [max_bytes, max_entries_per_hour])| GatewayMember {
            address,
            endpoint,
            max_bytes,
            max_entries_per_hour,
        },
    )
}

/// A root that binds: anything but zero.
fn kzg_root() -> impl Strategy<Value = B256> {
    hash().prop_filter("binds", |root| *root != B256::ZERO)
}

pub(super) fn put_start() -> impl Strategy<Value = PutStart> {
    let hashes = (prop::option::of(blob_id()), prop::option::of(kzg_root()));
    let authorization = prop::option::of(put_authorization());
    (namespace(), length(), 1..=u64::MAX, any::<bool>(), hashes, authorization).prop_map(
        |(namespace, length, retention, bind_payload_hash, (expected_blob_id, kzg_root), authorization)| {
            PutStart {
                namespace,
                length,
                retention,
                bind_payload_hash,
                expected_blob_id,
                kzg_root,
                authorization,
            }
        },
    )
}

pub(super) fn put_authorization() -> impl Strategy<Value = PutAuthorization> {
    (address(), hash(), hash(), any::<u64>(), signature()).prop_map(
        |(gateway, payload, nonce, deadline, signature)| PutAuthorization {
            gateway,
            payload_hash: PayloadHash(payload),
            nonce,
            deadline,
            signature,
        },
    )
}

pub(super) fn put_part() -> impl Strategy<Value = PutPart> {
    prop_oneof![put_start().prop_map(PutPart::Start), data().prop_map(PutPart::Chunk)]
}

pub(super) fn get_certificate() -> impl Strategy<Value = GetCertificate> {
    (blob_id(), prop::option::of(namespace()))
        .prop_map(|(blob_id, namespace)| GetCertificate { blob_id, namespace })
}

pub(super) fn seat_health() -> impl Strategy<Value = SeatHealth> {
    (address(), any::<[bool; 2]>(), any::<[u64; 2]>(), text()).prop_map(
        |(address, [connected, in_quorum], [cosigned_size, micros], last_error)| SeatHealth {
            address,
            connected,
            in_quorum,
            cosigned_size,
            round_trip: Duration::from_micros(micros),
            last_error,
        },
    )
}

fn epochs() -> impl Strategy<Value = (GatewayPhase, Vec<EpochClosing>)> {
    let phase = prop_oneof![
        Just(GatewayPhase::Working),
        Just(GatewayPhase::Closing),
        Just(GatewayPhase::Waiting),
        Just(GatewayPhase::Retired),
    ];
    let closing = any::<(u64, u64, bool)>();
    let closing = closing.prop_map(|(epoch, size, anchored)| EpochClosing { epoch, size, anchored });
    (phase, prop::collection::vec(closing, 0..=MAX_CLOSINGS))
}

pub(super) fn gateway_status() -> impl Strategy<Value = GatewayStatus> {
    let seats = prop::collection::vec(seat_health(), 0..3);
    let anchor = prop::option::of(anchor_status());
    (address(), any::<[u64; 8]>(), seats, text(), anchor, epochs()).prop_map(
        |(address, numbers, seats, version, anchor, (phase, closings))| {
            let [
                epoch,
                log_size,
                certified_size,
                puts_in_flight,
                uploads_pending,
                memory_used,
                memory_budget,
                now_ms,
            ] = numbers;
            GatewayStatus {
                address,
                epoch,
                log_size,
                certified_size,
                puts_in_flight,
                uploads_pending,
                memory_used,
                memory_budget,
                seats,
                version,
                anchor,
                phase,
                closings,
                now_ms,
            }
        },
    )
}

fn anchor_status() -> impl Strategy<Value = AnchorStatus> {
    let transaction = prop::option::of(hash());
    (any::<[u64; 4]>(), transaction, text()).prop_map(|(numbers, transaction, last_error)| {
        let [size, epoch, timestamp, block] = numbers;
        AnchorStatus { size, epoch, timestamp, block, transaction, last_error }
    })
}

pub(super) fn disperse_start() -> impl Strategy<Value = DisperseStart> {
    (dispersal(), header()).prop_map(|(dispersal, header)| DisperseStart { dispersal, header })
}

fn rows() -> impl Strategy<Value = (u32, u32)> {
    (0..MAX_ROWS).prop_flat_map(|start| (Just(start), 1..=MAX_ROWS - start))
}

fn range_proof() -> impl Strategy<Value = RangeProof> {
    hashes(MAX_ROW_PROOF).prop_map(RangeProof)
}

pub(super) fn range_start() -> impl Strategy<Value = RangeStart> {
    (rows(), range_proof()).prop_map(|((start, count), proof)| RangeStart { start, count, proof })
}

pub(super) fn disperse_part() -> impl Strategy<Value = DispersePart> {
    prop_oneof![
        disperse_start().prop_map(DispersePart::Start),
        data().prop_map(DispersePart::Rlc),
        range_start().prop_map(DispersePart::Range),
        data().prop_map(DispersePart::Rows),
    ]
}

pub(super) fn disperse_outcome() -> impl Strategy<Value = DisperseOutcome> {
    prop_oneof![Just(DisperseOutcome::Stored), Just(DisperseOutcome::Held)]
}

pub(super) fn cosign_request() -> impl Strategy<Value = CosignRequest> {
    (signed(), prop::collection::vec(entry(), 0..4), any::<u32>(), hash()).prop_map(
        |(mut signed, entries, start, root)| {
            let start = u64::from(start);
            signed.checkpoint.size = start + u64::try_from(entries.len()).unwrap();
            signed.checkpoint.root = if signed.checkpoint.size == 0 { B256::ZERO } else { root };
            CosignRequest { signed, start, entries }
        },
    )
}

pub(super) fn cosign_answer() -> impl Strategy<Value = CosignAnswer> {
    prop_oneof![
        signature().prop_map(CosignAnswer::Cosignature),
        any::<u64>().prop_map(CosignAnswer::EntriesFrom)
    ]
}

pub(super) fn get_rows() -> impl Strategy<Value = GetRows> {
    (blob_id(), rows(), any::<bool>()).prop_map(|(blob_id, (start, count), held_only)| GetRows {
        blob_id,
        start,
        count,
        held_only,
    })
}

pub(super) fn rows_part() -> impl Strategy<Value = RowsPart> {
    prop_oneof![range_proof().prop_map(RowsPart::Proof), data().prop_map(RowsPart::Rows)]
}

pub(super) fn get_samples() -> impl Strategy<Value = GetSamples> {
    let indices = subsequence((0..MAX_ROWS).step_by(111).collect::<Vec<_>>(), 1..=256).prop_shuffle();
    (blob_id(), indices).prop_map(|(blob_id, indices)| GetSamples {
        blob_id,
        indices: indices.into_iter().map(RowIndex).collect(),
    })
}

pub(super) fn sample() -> impl Strategy<Value = Sample> {
    (0..MAX_ROWS, data(), hashes(MAX_ROW_PROOF)).prop_map(|(index, row, path)| Sample {
        index: RowIndex(index),
        row,
        path: RowProof(path),
    })
}

pub(super) fn lookup() -> impl Strategy<Value = Lookup> {
    let payload = hash().prop_filter("bound", |hash| !hash.is_zero()).prop_map(PayloadHash);
    let key = prop_oneof![blob_id().prop_map(LookupKey::Blob), payload.prop_map(LookupKey::Payload)];
    (key, any::<bool>(), 0..=1_u32 << 20).prop_map(|(key, include_rlc, max_row_bytes)| Lookup {
        key,
        include_rlc,
        max_row_bytes,
    })
}

pub(super) fn entry_ref() -> impl Strategy<Value = EntryRef> {
    (address(), any::<u64>(), entry()).prop_map(|(gateway, index, entry)| EntryRef { gateway, index, entry })
}

pub(super) fn held_rows() -> impl Strategy<Value = HeldRows> {
    (0..MAX_ROWS, data(), hashes(MAX_ROW_PROOF)).prop_map(|(start, rows, proof)| HeldRows {
        start,
        count: 1,
        proof: RangeProof(proof),
        rows,
    })
}

pub(super) fn candidate() -> impl Strategy<Value = Candidate> {
    let small_header = (header(), 1..=20_000_u64)
        .prop_map(|(header, length)| BlobHeader { length: length.try_into().unwrap(), ..header });
    let entries = prop::collection::vec(entry_ref(), 0..3);
    let rows = prop::collection::vec((held_rows(), 0..8_u32), 0..=MAX_HELD_RANGES);
    (small_header, any::<[bool; 2]>(), any::<u8>(), entries, rows).prop_map(
        |(header, [with_rlc, inconsistent], fill, entries, rows)| {
            let shape = header.shape();
            let rlc = vec![fill; 16 * shape.data_rows()];
            let rlc = with_rlc.then(|| RlcVector::from_bytes(&rlc).unwrap());
            let held = |(held, more): (HeldRows, u32)| {
                let start = held.start % u32::try_from(shape.total_rows() - 8).unwrap();
                let count = 1 + more;
                let rows = vec![fill; shape.row_bytes() * usize::try_from(count).unwrap()].into();
                HeldRows { start, count, rows, ..held }
            };
            let rows = rows.into_iter().map(held).collect();
            Candidate { header, rlc, entries, inconsistent, rows }
        },
    )
}

pub(super) fn replica_status() -> impl Strategy<Value = ReplicaStatus> {
    let epochs = prop::collection::vec(any::<u64>(), 0..=crate::MAX_OPEN_EPOCHS);
    (address(), any::<[u16; 2]>(), any::<[u64; 10]>(), text(), epochs, any::<bool>()).prop_map(
        |(
            address,
            [region, seat],
            [
                epoch,
                blobs,
                row_bytes,
                max_bytes,
                logs,
                logs_behind,
                repair_left,
                quarantined,
                scrubbed_at,
                now_ms,
            ],
            version,
            seated_epochs,
            store_failed,
        )| ReplicaStatus {
            address,
            region: RegionId(region),
            seat,
            epoch,
            blobs,
            row_bytes,
            max_bytes,
            logs,
            version,
            seated_epochs,
            logs_behind,
            repair_left,
            quarantined,
            scrubbed_at,
            store_failed,
            now_ms,
        },
    )
}

pub(super) fn log_list() -> impl Strategy<Value = Vec<CosignedCheckpoint>> {
    prop::collection::vec(cosigned(), 0..4).prop_map(|mut list| {
        list.sort_by_key(|cosigned| cosigned.signed.checkpoint.gateway);
        list
    })
}

pub(super) fn get_entries() -> impl Strategy<Value = GetEntries> {
    (address(), 0..=u64::MAX - 4096, 1..=4096_u64).prop_map(|(gateway, start, count)| GetEntries {
        gateway,
        start,
        count,
    })
}

pub(super) fn log_item() -> impl Strategy<Value = LogItem> {
    prop_oneof![entry().prop_map(LogItem::Entry), hash().prop_map(LogItem::Leaf)]
}

pub(super) fn get_inclusion() -> impl Strategy<Value = GetInclusionProof> {
    (address(), 1..=u64::MAX).prop_flat_map(|(gateway, size)| {
        (0..size).prop_map(move |index| GetInclusionProof { gateway, index, size })
    })
}

pub(super) fn inclusion() -> impl Strategy<Value = InclusionProof> {
    (log_item(), hashes(64)).prop_map(|(item, path)| InclusionProof { item, path })
}

pub(super) fn get_consistency() -> impl Strategy<Value = GetConsistencyProof> {
    (address(), any::<u64>()).prop_flat_map(|(gateway, new_size)| {
        (0..=new_size).prop_map(move |old_size| GetConsistencyProof { gateway, old_size, new_size })
    })
}
