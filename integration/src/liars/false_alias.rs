//! A replica that names another blob for every payload hash.

use bytes::Bytes;
use meridian_proofs::ids::BlobId;
use meridian_proto::wire::lookup_request::Key;
use meridian_proto::wire::{LookupRequest, LookupResponse};
use tonic::Status;

use super::{ReplicaLie, Truth};

/// Answers for a payload hash what it knows of a blob, all of which is true but that the blob has the hash.
#[derive(Clone, Copy, Debug)]
pub struct FalseAlias(pub BlobId);

#[tonic::async_trait]
impl ReplicaLie for FalseAlias {
    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        let key = match request.key {
            Some(Key::PayloadHash(_)) => Some(Key::BlobId(Bytes::copy_from_slice(self.0.as_bytes()))),
            key => key,
        };
        truth.lookup(LookupRequest { key, ..request }).await
    }
}
