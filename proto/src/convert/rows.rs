//! Reads from a replica: rows, samples and lookups.

use std::collections::HashSet;

use bytes::Bytes;
use meridian_proofs::Address;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::log::LogEntry;
use meridian_proofs::merkle::{RangeProof, RowProof};
use meridian_proofs::rlc::RlcVector;
use meridian_proofs::shape::RowIndex;

use super::committee::list;
use super::replica::row_range;
use super::{WireError, WireProblem, address, at_most, bytes, chunk, hash, hashes, required};
use crate::error::Reason;
use crate::wire::{get_rows_response, lookup_request};
use crate::{MAX_CANDIDATES, MAX_CHUNK, MAX_HELD_RANGES, MAX_ROW_PROOF, MAX_ROWS, MAX_SAMPLES, wire};

/// Bytes of one value of the RLC vector.
const RLC_VALUE: usize = 16;

/// Asks for consecutive rows. Whether the blob has them remains to be checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetRows {
    /// Which blob.
    pub blob_id: BlobId,
    /// Index of the first row.
    pub start: u32,
    /// Number of rows, at least 1.
    pub count: u32,
    /// Answer only from rows on disk.
    pub held_only: bool,
}

/// A message of an answer with consecutive rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowsPart {
    /// The first message.
    Proof(RangeProof),
    /// Next bytes of the rows: 1 to [`MAX_CHUNK`](crate::MAX_CHUNK).
    Rows(Bytes),
}

/// Asks for single rows. Whether the blob has them remains to be checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetSamples {
    /// Which blob.
    pub blob_id: BlobId,
    /// Distinct rows, 1 to [`MAX_SAMPLES`].
    pub indices: Vec<RowIndex>,
}

/// One row with its proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Which row.
    pub index: RowIndex,
    /// Its bytes.
    pub row: Bytes,
    /// Siblings from leaf to root.
    pub path: RowProof,
}

/// What a blob is looked up by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LookupKey {
    /// Its id.
    Blob(BlobId),
    /// keccak256 of its payload, not zero.
    Payload(PayloadHash),
}

/// Asks for a blob's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lookup {
    /// Which blob.
    pub key: LookupKey,
    /// Whether the answer shall carry RLC vectors.
    pub include_rlc: bool,
    /// Most bytes of rows that the answer shall carry, at most [`MAX_CHUNK`].
    pub max_row_bytes: u32,
}

/// A blob that a replica knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its header. That it has the id remains to be checked.
    pub header: BlobHeader,
    /// Its RLC vector, of the right length; that it has the header's root remains to be checked.
    pub rlc: Option<RlcVector>,
    /// Its cosigned entries, the latest first.
    pub entries: Vec<EntryRef>,
    /// Whether there is proof that the blob is not a codeword.
    pub inconsistent: bool,
    /// The first rows that the replica holds, if they were asked for.
    pub rows: Vec<HeldRows>,
}

/// Consecutive rows and their proof, which remains to be checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldRows {
    /// Index of the first row.
    pub start: u32,
    /// Number of rows, at least 1.
    pub count: u32,
    /// Proof of the range.
    pub proof: RangeProof,
    /// Their bytes: in a [`Candidate`] as many as the rows of its blob have.
    pub rows: Bytes,
}

/// Where an entry stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryRef {
    /// Gateway whose log it is.
    pub gateway: Address,
    /// Index in that log.
    pub index: u64,
    /// The entry.
    pub entry: LogEntry,
}

impl TryFrom<wire::GetRowsRequest> for GetRows {
    type Error = WireError;

    fn try_from(request: wire::GetRowsRequest) -> Result<Self, WireError> {
        row_range("GetRowsRequest.start", "GetRowsRequest.count", request.start, request.count)?;
        Ok(Self {
            blob_id: hash("GetRowsRequest.blob_id", &request.blob_id)?,
            start: request.start,
            count: request.count,
            held_only: request.held_only,
        })
    }
}

impl From<GetRows> for wire::GetRowsRequest {
    fn from(request: GetRows) -> Self {
        Self {
            blob_id: bytes(request.blob_id.as_bytes()),
            start: request.start,
            count: request.count,
            held_only: request.held_only,
        }
    }
}

impl TryFrom<wire::GetRowsResponse> for RowsPart {
    type Error = WireError;

    fn try_from(response: wire::GetRowsResponse) -> Result<Self, WireError> {
        match required("GetRowsResponse.part", response.part)? {
            get_rows_response::Part::Proof(proof) => {
                let siblings = hashes("RangeProof.siblings", &proof.siblings, MAX_ROW_PROOF)?;
                Ok(Self::Proof(RangeProof(siblings)))
            }
            get_rows_response::Part::Rows(bytes) => chunk("GetRowsResponse.rows", bytes).map(Self::Rows),
        }
    }
}

impl From<RowsPart> for wire::GetRowsResponse {
    fn from(part: RowsPart) -> Self {
        Self {
            part: Some(match part {
                RowsPart::Proof(proof) => get_rows_response::Part::Proof(wire::RangeProof {
                    siblings: proof.0.iter().map(bytes).collect(),
                }),
                RowsPart::Rows(bytes) => get_rows_response::Part::Rows(bytes),
            }),
        }
    }
}

impl TryFrom<wire::GetSamplesRequest> for GetSamples {
    type Error = WireError;

    fn try_from(request: wire::GetSamplesRequest) -> Result<Self, WireError> {
        const FIELD: &str = "GetSamplesRequest.indices";
        at_most(FIELD, request.indices.len(), MAX_SAMPLES)?;
        if request.indices.is_empty() {
            return Err(WireError::value(FIELD, "is empty"));
        }
        if let Some(index) = request.indices.iter().find(|index| **index >= MAX_ROWS) {
            let text = format!("no blob has a row {index}");
            return Err(WireError::refused(FIELD, Reason::RangeInvalid, text));
        }
        let mut seen = HashSet::new();
        if let Some(index) = request.indices.iter().find(|index| !seen.insert(**index)) {
            return Err(WireError::value(FIELD, format!("row {index} is asked for twice")));
        }
        Ok(Self {
            blob_id: hash("GetSamplesRequest.blob_id", &request.blob_id)?,
            indices: request.indices.into_iter().map(RowIndex).collect(),
        })
    }
}

impl From<GetSamples> for wire::GetSamplesRequest {
    fn from(request: GetSamples) -> Self {
        Self {
            blob_id: bytes(request.blob_id.as_bytes()),
            indices: request.indices.iter().map(|index| index.0).collect(),
        }
    }
}

impl TryFrom<wire::Sample> for Sample {
    type Error = WireError;

    fn try_from(sample: wire::Sample) -> Result<Self, WireError> {
        if sample.index >= MAX_ROWS {
            return Err(WireError::value("Sample.index", format!("no blob has a row {}", sample.index)));
        }
        Ok(Self {
            index: RowIndex(sample.index),
            row: chunk("Sample.row", sample.row)?,
            path: RowProof(hashes("Sample.path", &sample.path, MAX_ROW_PROOF)?),
        })
    }
}

impl From<Sample> for wire::Sample {
    fn from(sample: Sample) -> Self {
        Self { index: sample.index.0, row: sample.row, path: sample.path.0.iter().map(bytes).collect() }
    }
}

impl TryFrom<wire::GetSamplesResponse> for Vec<Sample> {
    type Error = WireError;

    fn try_from(response: wire::GetSamplesResponse) -> Result<Self, WireError> {
        at_most("GetSamplesResponse.samples", response.samples.len(), MAX_SAMPLES)?;
        list(response.samples)
    }
}

impl From<Vec<Sample>> for wire::GetSamplesResponse {
    fn from(samples: Vec<Sample>) -> Self {
        Self { samples: samples.into_iter().map(Into::into).collect() }
    }
}

impl TryFrom<wire::LookupRequest> for Lookup {
    type Error = WireError;

    fn try_from(request: wire::LookupRequest) -> Result<Self, WireError> {
        let key = match required("LookupRequest.key", request.key)? {
            lookup_request::Key::BlobId(id) => LookupKey::Blob(hash("LookupRequest.blob_id", &id)?),
            lookup_request::Key::PayloadHash(payload) => {
                let payload: PayloadHash = hash("LookupRequest.payload_hash", &payload)?;
                if !payload.is_bound() {
                    return Err(WireError::value("LookupRequest.payload_hash", "is zero, which is no hash"));
                }
                LookupKey::Payload(payload)
            }
        };
        let max_row_bytes = request.max_row_bytes;
        if usize::try_from(max_row_bytes).map_or(true, |bytes| bytes > MAX_CHUNK) {
            let field = "LookupRequest.max_row_bytes";
            let text = format!("asks for {max_row_bytes} bytes of rows, the limit is {MAX_CHUNK}");
            return Err(WireError::refused(field, Reason::MessageTooLarge, text));
        }
        Ok(Self { key, include_rlc: request.include_rlc, max_row_bytes })
    }
}

impl From<Lookup> for wire::LookupRequest {
    fn from(lookup: Lookup) -> Self {
        let key = match lookup.key {
            LookupKey::Blob(id) => lookup_request::Key::BlobId(bytes(id.as_bytes())),
            LookupKey::Payload(payload) => lookup_request::Key::PayloadHash(bytes(payload.as_bytes())),
        };
        let Lookup { include_rlc, max_row_bytes, .. } = lookup;
        Self { key: Some(key), include_rlc, max_row_bytes }
    }
}

impl TryFrom<wire::EntryRef> for EntryRef {
    type Error = WireError;

    fn try_from(entry: wire::EntryRef) -> Result<Self, WireError> {
        Ok(Self {
            gateway: address("EntryRef.gateway", &entry.gateway)?,
            index: entry.index,
            entry: required("EntryRef.entry", entry.entry)?.try_into()?,
        })
    }
}

impl From<EntryRef> for wire::EntryRef {
    fn from(entry: EntryRef) -> Self {
        Self { gateway: bytes(entry.gateway), index: entry.index, entry: Some(entry.entry.into()) }
    }
}

impl TryFrom<wire::Candidate> for Candidate {
    type Error = WireError;

    fn try_from(candidate: wire::Candidate) -> Result<Self, WireError> {
        at_most("Candidate.entries", candidate.entries.len(), MAX_CANDIDATES)?;
        let header: BlobHeader = required("Candidate.header", candidate.header)?.try_into()?;
        let rlc = if candidate.rlc.is_empty() { None } else { Some(rlc_vector(&header, &candidate.rlc)?) };
        at_most("Candidate.rows", candidate.rows.len(), MAX_HELD_RANGES)?;
        let rows: Vec<HeldRows> = list(candidate.rows)?;
        rows.iter().try_for_each(|rows| fits(&header, rows))?;
        let (entries, inconsistent) = (list(candidate.entries)?, candidate.inconsistent);
        Ok(Self { header, rlc, entries, inconsistent, rows })
    }
}

impl From<Candidate> for wire::Candidate {
    fn from(candidate: Candidate) -> Self {
        Self {
            header: Some(candidate.header.into()),
            rlc: candidate.rlc.map(|rlc| rlc.to_bytes().into()).unwrap_or_default(),
            entries: candidate.entries.into_iter().map(Into::into).collect(),
            inconsistent: candidate.inconsistent,
            rows: candidate.rows.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::HeldRows> for HeldRows {
    type Error = WireError;

    fn try_from(held: wire::HeldRows) -> Result<Self, WireError> {
        row_range("HeldRows.start", "HeldRows.count", held.start, held.count)?;
        Ok(Self {
            start: held.start,
            count: held.count,
            proof: RangeProof(hashes("HeldRows.proof", &held.proof, MAX_ROW_PROOF)?),
            rows: chunk("HeldRows.rows", held.rows)?,
        })
    }
}

impl From<HeldRows> for wire::HeldRows {
    fn from(held: HeldRows) -> Self {
        let proof = held.proof.0.iter().map(bytes).collect();
        Self { start: held.start, count: held.count, proof, rows: held.rows }
    }
}

impl TryFrom<wire::LookupResponse> for Vec<Candidate> {
    type Error = WireError;

    fn try_from(response: wire::LookupResponse) -> Result<Self, WireError> {
        const FIELD: &str = "LookupResponse.candidates";
        at_most(FIELD, response.candidates.len(), MAX_CANDIDATES)?;
        if response.candidates.is_empty() {
            return Err(WireError { field: FIELD, problem: WireProblem::Missing });
        }
        list(response.candidates)
    }
}

impl From<Vec<Candidate>> for wire::LookupResponse {
    fn from(candidates: Vec<Candidate>) -> Self {
        Self { candidates: candidates.into_iter().map(Into::into).collect() }
    }
}

/// Whether a blob with this header has such rows, of this length.
fn fits(header: &BlobHeader, held: &HeldRows) -> Result<(), WireError> {
    let shape = header.shape();
    let Some(range) = shape.range(held.start, held.count) else {
        let text = format!("the blob has {} rows", shape.total_rows());
        return Err(WireError::refused("HeldRows.count", Reason::RangeInvalid, text));
    };
    let expected = range.indices().count() * shape.row_bytes();
    if held.rows.len() == expected {
        return Ok(());
    }
    let problem = WireProblem::Length { expected, found: held.rows.len() };
    Err(WireError { field: "HeldRows.rows", problem })
}

/// The RLC vector of a blob with this header, of exactly the length that follows from it.
fn rlc_vector(header: &BlobHeader, bytes: &[u8]) -> Result<RlcVector, WireError> {
    const FIELD: &str = "Candidate.rlc";
    let expected = header.shape().data_rows() * RLC_VALUE;
    if bytes.len() != expected {
        return Err(WireError {
            field: FIELD,
            problem: WireProblem::Length { expected, found: bytes.len() },
        });
    }
    RlcVector::from_bytes(bytes).map_err(|error| WireError::value(FIELD, error.to_string()))
}
