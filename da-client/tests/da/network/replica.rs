//! What replicas answer.

use std::pin::Pin;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use meridian_proofs::placement;
use meridian_proto::convert::{
    Candidate, EntryRef, GetRows, GetSamples, HeldRows, Lookup, LookupKey, ReplicaStatus, RowsPart, Sample,
};
use meridian_proto::error::Reason;
use meridian_proto::wire;
use tonic::{Request, Response, Status, Streaming};

use super::{Node, Replica, parse, refuse};

/// Some rows with one wrong byte, for those who lie.
fn spoil(rows: &Bytes, lie: bool) -> Bytes {
    let mut rows = rows.to_vec();
    if lie {
        rows[5] ^= 1;
    }
    rows.into()
}

impl Node<Replica> {
    /// Rows that come with a lookup.
    fn first_rows(&self, most: u32) -> Vec<HeldRows> {
        let (blob, keys) = (&self.world.blob, &self.world.keys);
        let seat = keys.committee.seat(&keys.seats[self.place].address()).unwrap();
        let interval = placement::interval(&keys.committee, seat, &blob.id(), blob.shape());
        let mut left = most / u32::try_from(blob.shape().row_bytes()).unwrap();
        let mut held = Vec::new();
        for range in interval.ranges() {
            let Some(range) = blob.shape().range(range.start(), range.count().min(left)) else { continue };
            left -= range.count();
            let rows = spoil(&blob.rows(range), self.behaviour == Replica::WrongRows);
            let (start, count, proof) = (range.start(), range.count(), blob.range_proof(range));
            if self.behaviour != Replica::NoRows && (self.behaviour != Replica::NotTheFirst || start > 0) {
                held.push(HeldRows { start, count, proof, rows });
            }
        }
        held
    }
}

#[tonic::async_trait]
impl wire::replica_server::Replica for Node<Replica> {
    async fn disperse(
        &self,
        _: Request<Streaming<wire::DisperseRequest>>,
    ) -> Result<Response<wire::DisperseResponse>, Status> {
        refuse(Reason::NotPermitted)
    }

    async fn cosign(
        &self,
        _: Request<wire::CosignRequest>,
    ) -> Result<Response<wire::CosignResponse>, Status> {
        refuse(Reason::NotPermitted)
    }

    type GetRowsStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<wire::GetRowsResponse, Status>> + Send>>;

    async fn get_rows(
        &self,
        request: Request<wire::GetRowsRequest>,
    ) -> Result<Response<Self::GetRowsStream>, Status> {
        let GetRows { blob_id, start, count, held_only } = parse(request);
        self.world.row_calls.fetch_add(1, Ordering::Relaxed);
        if self.behaviour == Replica::Ignorant {
            return refuse(Reason::BlobUnknown);
        }
        if self.behaviour == Replica::NoRows {
            std::future::pending::<()>().await;
        }
        let blob = &self.world.blob;
        assert_eq!(blob_id, blob.id());
        if self.behaviour == Replica::NotTheFirst && start == 0 {
            return refuse(Reason::RowsMissing);
        }
        let range = blob.shape().range(start, count).unwrap();
        let keys = &self.world.keys;
        let seat = keys.committee.seat(&keys.seats[self.place].address()).unwrap();
        let interval = placement::interval(&keys.committee, seat, &blob.id(), blob.shape());
        if held_only && !interval.ranges().iter().any(|held| held.contains_range(&range)) {
            return refuse(Reason::RowsMissing);
        }
        let rows = spoil(&blob.rows(range), self.behaviour == Replica::WrongRows);
        let parts = std::iter::once(RowsPart::Proof(blob.range_proof(range)))
            .chain(rows.chunks(1 << 20).map(|rows| RowsPart::Rows(Bytes::copy_from_slice(rows))));
        let parts: Vec<_> = parts.map(|part| Ok(part.into())).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn get_samples(
        &self,
        request: Request<wire::GetSamplesRequest>,
    ) -> Result<Response<wire::GetSamplesResponse>, Status> {
        let GetSamples { indices, .. } = parse(request);
        let blob = &self.world.blob;
        self.world.asked.samples.lock().unwrap().push((self.place, indices.clone()));
        match self.behaviour {
            Replica::NoRows => std::future::pending().await,
            Replica::Ignorant => return refuse(Reason::BlobUnknown),
            _ => {}
        }
        let samples: Vec<Sample> = indices
            .into_iter()
            .map(|index| Sample {
                index,
                row: spoil(&blob.row(index), self.behaviour == Replica::WrongRows),
                path: blob.row_proof(index),
            })
            .collect();
        Ok(Response::new(samples.into()))
    }

    async fn lookup(
        &self,
        request: Request<wire::LookupRequest>,
    ) -> Result<Response<wire::LookupResponse>, Status> {
        let Lookup { key, include_rlc, max_row_bytes } = parse(request);
        let world = &self.world;
        world.asked.rlcs.fetch_add(usize::from(include_rlc), Ordering::Relaxed);
        let known = match key {
            LookupKey::Blob(id) => id == world.blob.id(),
            LookupKey::Payload(hash) => {
                hash == world.entries[2].payload_hash || self.behaviour == Replica::Misnamer
            }
        };
        if !known || self.behaviour == Replica::Ignorant {
            return refuse(Reason::BlobUnknown);
        }
        let header = if self.behaviour == Replica::OtherHeader { &world.other } else { &world.blob };
        let rlc = if self.behaviour == Replica::OtherRlc { &world.other } else { header };
        let gateway = world.certificate.checkpoint.signed.checkpoint.gateway;
        let candidate = Candidate {
            header: *header.header(),
            rlc: include_rlc.then(|| rlc.rlc().clone()),
            entries: vec![EntryRef { gateway, index: 2, entry: world.entries[2] }],
            inconsistent: self.behaviour == Replica::Slanderer,
            rows: self.first_rows(max_row_bytes),
        };
        Ok(Response::new(vec![candidate].into()))
    }

    async fn get_status(
        &self,
        _: Request<wire::GetReplicaStatusRequest>,
    ) -> Result<Response<wire::ReplicaStatus>, Status> {
        let address = self.world.keys.seats[self.place].address();
        let seat = self.world.keys.committee.seat(&address).unwrap();
        Ok(Response::new(
            ReplicaStatus {
                address,
                region: seat.region,
                seat: seat.number,
                epoch: 1,
                blobs: 1,
                row_bytes: 4096,
                max_bytes: 0,
                logs: 1,
                version: "test".to_owned(),
                seated_epochs: vec![1],
                logs_behind: 0,
                repair_left: 0,
                quarantined: 0,
                scrubbed_at: 0,
                store_failed: false,
                now_ms: 1_700_000_000_000,
            }
            .into(),
        ))
    }
}
