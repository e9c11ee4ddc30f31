//! Calls to a replica.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use meridian_proofs::checkpoint::{SignedCheckpoint, SignedDispersal};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::BlobId;
use meridian_proofs::log::LogEntry;
use meridian_proofs::merkle::RangeProof;
use meridian_proofs::shape::{RowIndex, RowRange};
use meridian_proto::convert::{
    Candidate, CosignAnswer, CosignRequest, DisperseOutcome, DispersePart, DisperseStart, GetRows,
    GetSamples, Lookup, LookupKey, RangeStart, ReplicaStatus, RowsPart, Sample,
};
use meridian_proto::error::ApiError;
use meridian_proto::wire;
use meridian_proto::wire::replica_client::ReplicaClient;
use meridian_proto::{MAX_MESSAGE, MAX_ROW_PROOF, MAX_SAMPLES};
use tonic::Streaming;
use tonic::transport::Channel;

use super::{DEADLINE, answer, bad_answer, chunks, failure, traced, within};

/// Bytes that one sample's proof and numbers take in a message, at most.
const SAMPLE_OVERHEAD: usize = MAX_ROW_PROOF * 34 + 32;

/// What is sent to a replica after the permission and the header.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The RLC vector, 16 bytes for each data row.
    pub rlc: Bytes,
    /// The replica's rows, range by range, each with its proof.
    pub ranges: Vec<(RowRange, RangeProof, Bytes)>,
}

impl Upload {
    /// The messages of the upload. Row bytes are sliced, not copied.
    fn parts(self, start: DisperseStart) -> impl Iterator<Item = DispersePart> + Send {
        let ranges = self.ranges.into_iter().flat_map(|(range, proof, rows)| {
            let opening = RangeStart { start: range.start(), count: range.count(), proof };
            std::iter::once(DispersePart::Range(opening)).chain(chunks(rows).map(DispersePart::Rows))
        });
        [DispersePart::Start(start), DispersePart::Rlc(self.rlc)].into_iter().chain(ranges)
    }
}

/// Calls to one replica.
#[derive(Clone, Debug)]
pub struct ReplicaRpc {
    client: ReplicaClient<Channel>,
    deadline: Duration,
}

impl ReplicaRpc {
    pub(super) fn new(channel: Channel) -> Self {
        let client = ReplicaClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Self { client, deadline: DEADLINE }
    }

    /// Gives every call at most this time.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Uploads a replica's rows of one blob.
    ///
    /// Sending stops when the replica answers, also in the middle of the rows.
    ///
    /// # Errors
    ///
    /// The replica's refusal, or that it is out of reach.
    pub async fn disperse(
        &self,
        dispersal: SignedDispersal,
        header: BlobHeader,
        upload: Upload,
    ) -> Result<DisperseOutcome, ApiError> {
        let parts = upload.parts(DisperseStart { dispersal, header });
        let request = traced(stream::iter(parts.map(wire::DisperseRequest::from)));
        answer(self.deadline, self.client.clone().disperse(request)).await
    }

    /// Asks for a cosignature. Whose it is remains to be checked.
    ///
    /// `entries` are those of the log from `start` to the checkpoint's size.
    ///
    /// # Errors
    ///
    /// The replica's refusal, or that it is out of reach.
    pub async fn cosign(
        &self,
        signed: &SignedCheckpoint,
        start: u64,
        entries: &[LogEntry],
    ) -> Result<CosignAnswer, ApiError> {
        let request = traced(CosignRequest { signed: *signed, start, entries: entries.to_vec() }.into());
        answer(self.deadline, self.client.clone().cosign(request)).await
    }

    /// Consecutive rows and their proof, which remains to be checked.
    ///
    /// The rows are exactly `range.count() * row_bytes` bytes; no more is ever read.
    ///
    /// # Errors
    ///
    /// The replica's refusal, that it is out of reach, or that its answer is too short or too long.
    pub async fn rows(
        &self,
        blob_id: BlobId,
        range: RowRange,
        row_bytes: usize,
        held_only: bool,
    ) -> Result<(Bytes, RangeProof), ApiError> {
        self.rows_once_begun(blob_id, range, row_bytes, held_only, || ()).await
    }

    /// Like [`Self::rows`]; `begun` is called when the answer begins.
    pub(crate) async fn rows_once_begun(
        &self,
        blob_id: BlobId,
        range: RowRange,
        row_bytes: usize,
        held_only: bool,
        begun: impl FnOnce(),
    ) -> Result<(Bytes, RangeProof), ApiError> {
        let expected = usize::try_from(range.count()).ok().and_then(|count| count.checked_mul(row_bytes));
        let expected = expected.ok_or_else(|| ApiError::internal("rows do not fit memory"))?;
        let request = GetRows { blob_id, start: range.start(), count: range.count(), held_only };
        within(self.deadline, async {
            let call = self.client.clone().get_rows(traced(request.into())).await;
            let mut parts = call.map_err(|status| failure(&status))?.into_inner();
            let Some(RowsPart::Proof(proof)) = next(&mut parts).await? else {
                return Err(bad_answer("the answer does not begin with a proof"));
            };
            begun();
            let rows = collect(&mut parts, expected).await?;
            Ok((rows, proof))
        })
        .await
    }

    /// Single rows and their proofs, which remain to be checked: one for each index, in the same order.
    ///
    /// # Errors
    ///
    /// The replica's refusal, that it is out of reach, or that its answer is not what was asked for.
    pub async fn samples(
        &self,
        blob_id: BlobId,
        indices: &[RowIndex],
        row_bytes: usize,
    ) -> Result<Vec<Sample>, ApiError> {
        let per_call = (MAX_MESSAGE / row_bytes.saturating_add(SAMPLE_OVERHEAD)).clamp(1, MAX_SAMPLES);
        let mut samples = Vec::with_capacity(indices.len());
        for indices in indices.chunks(per_call) {
            let request = traced(GetSamples { blob_id, indices: indices.to_vec() }.into());
            let part: Vec<Sample> = answer(self.deadline, self.client.clone().get_samples(request)).await?;
            let fits = part.len() == indices.len()
                && part.iter().zip(indices).all(|(sample, index)| sample.index == *index);
            if !fits {
                return Err(bad_answer("the samples are not those that were asked for"));
            }
            if let Some(sample) = part.iter().find(|sample| sample.row.len() != row_bytes) {
                let found = sample.row.len();
                return Err(bad_answer(format!("a row is {found} bytes instead of {row_bytes}")));
            }
            samples.extend(part);
        }
        Ok(samples)
    }

    /// What the replica knows of a blob. Nothing of it is checked.
    ///
    /// # Errors
    ///
    /// The replica's refusal, or that it is out of reach.
    pub async fn lookup(&self, key: LookupKey, include_rlc: bool) -> Result<Vec<Candidate>, ApiError> {
        self.lookup_with_rows(Lookup { key, include_rlc, max_row_bytes: 0 }).await
    }

    /// The same, and the first rows that the replica holds: no more bytes of them than were asked for. Nothing of it is
    /// checked.
    ///
    /// # Errors
    ///
    /// As [`Self::lookup`].
    pub async fn lookup_with_rows(&self, lookup: Lookup) -> Result<Vec<Candidate>, ApiError> {
        let request = traced(lookup.into());
        let candidates: Vec<Candidate> = answer(self.deadline, self.client.clone().lookup(request)).await?;
        let rows: usize = candidates.iter().flat_map(|it| &it.rows).map(|held| held.rows.len()).sum();
        if u32::try_from(rows).map_or(true, |rows| rows > lookup.max_row_bytes) {
            return Err(bad_answer(format!("{rows} bytes of rows came where {} may", lookup.max_row_bytes)));
        }
        Ok(candidates)
    }

    /// What the replica holds and does.
    ///
    /// # Errors
    ///
    /// The replica's refusal, or that it is out of reach.
    pub async fn status(&self) -> Result<ReplicaStatus, ApiError> {
        let request = traced(wire::GetReplicaStatusRequest {});
        answer(self.deadline, self.client.clone().get_status(request)).await
    }
}

/// The next message of an answer with rows.
async fn next(parts: &mut Streaming<wire::GetRowsResponse>) -> Result<Option<RowsPart>, ApiError> {
    let message = parts.message().await.map_err(|status| failure(&status))?;
    message.map(RowsPart::try_from).transpose().map_err(|error| error.in_answer())
}

/// Exactly `expected` bytes of rows, then the end of the stream.
async fn collect(parts: &mut Streaming<wire::GetRowsResponse>, expected: usize) -> Result<Bytes, ApiError> {
    let mut rows = BytesMut::new();
    while let Some(part) = next(parts).await? {
        let RowsPart::Rows(bytes) = part else {
            return Err(bad_answer("the answer has a second proof"));
        };
        if bytes.len() > expected - rows.len() {
            return Err(bad_answer(format!("more than {expected} bytes of rows came")));
        }
        rows.reserve(expected - rows.len());
        rows.extend_from_slice(&bytes);
    }
    if rows.len() != expected {
        return Err(bad_answer(format!("{} bytes of rows came instead of {expected}", rows.len())));
    }
    Ok(rows.freeze())
}
