//! What logs answer.

use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proto::convert::{GetEntries, GetInclusionProof, InclusionProof, LogItem};
use meridian_proto::error::Reason;
use meridian_proto::wire;
use tonic::{Request, Response, Status};

use super::{Node, parse, refuse};

#[tonic::async_trait]
impl<B: Send + Sync + 'static> wire::log_server::Log for Node<B> {
    async fn list_logs(
        &self,
        _: Request<wire::ListLogsRequest>,
    ) -> Result<Response<wire::ListLogsResponse>, Status> {
        Ok(Response::new(vec![self.cosigned()].into()))
    }

    async fn get_checkpoint(
        &self,
        _: Request<wire::GetCheckpointRequest>,
    ) -> Result<Response<wire::CosignedCheckpoint>, Status> {
        Ok(Response::new(self.cosigned().into()))
    }

    async fn get_entries(
        &self,
        request: Request<wire::GetEntriesRequest>,
    ) -> Result<Response<wire::GetEntriesResponse>, Status> {
        let GetEntries { start, count, .. } = parse(request);
        // One at a time, so that callers have to ask again; the first entry has expired.
        assert!(start < 3 && count > 0);
        let entry = self.world.entries[usize::try_from(start).unwrap()];
        let item = if start == 0 { LogItem::Leaf(entry.leaf()) } else { LogItem::Entry(entry) };
        Ok(Response::new(vec![item].into()))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<wire::GetInclusionProofRequest>,
    ) -> Result<Response<wire::GetInclusionProofResponse>, Status> {
        let GetInclusionProof { index, size, .. } = parse(request);
        assert_eq!((index, size), (2, 3));
        let proof = InclusionProof {
            item: LogItem::Entry(self.world.entries[2]),
            path: self.world.certificate.inclusion.clone(),
        };
        Ok(Response::new(proof.into()))
    }

    async fn get_consistency_proof(
        &self,
        _: Request<wire::GetConsistencyProofRequest>,
    ) -> Result<Response<wire::GetConsistencyProofResponse>, Status> {
        refuse(Reason::NotPermitted)
    }
}

impl<B> Node<B> {
    /// The checkpoint as a replica has it: with its own cosignature alone.
    fn cosigned(&self) -> CosignedCheckpoint {
        let domain = self.world.keys.committee.domain();
        let signed = self.world.certificate.checkpoint.signed;
        let key = &self.world.keys.seats[self.place];
        let cosignatures = vec![key.sign(&signed.checkpoint.digest(&domain))];
        CosignedCheckpoint { signed, cosignatures }
    }
}
