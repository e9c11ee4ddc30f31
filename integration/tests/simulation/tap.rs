//! Stands before a replica and shows the oracle every checkpoint that it is asked to cosign, and every cosignature.

use std::sync::Arc;

use meridian_node::replica::Service;
use meridian_proofs::Address;
use meridian_proto::convert::{CosignAnswer, CosignRequest};
use meridian_proto::wire::replica_server::Replica;
use meridian_proto::wire::{self, CosignResponse, DisperseRequest, DisperseResponse, ReplicaStatus};
use tonic::{Request, Response, Status, Streaming};

use crate::world::World;

/// A replica's service that is listened to.
pub(crate) struct Tap {
    pub(crate) service: Service,
    pub(crate) address: Address,
    pub(crate) world: Arc<World>,
}

#[tonic::async_trait]
impl Replica for Tap {
    type GetRowsStream = <Service as Replica>::GetRowsStream;

    async fn disperse(
        &self,
        request: Request<Streaming<DisperseRequest>>,
    ) -> Result<Response<DisperseResponse>, Status> {
        self.service.disperse(request).await
    }

    async fn cosign(
        &self,
        request: Request<wire::CosignRequest>,
    ) -> Result<Response<CosignResponse>, Status> {
        let asked = CosignRequest::try_from(request.get_ref().clone()).map(|asked| asked.signed);
        if let Ok(signed) = &asked {
            self.world.judge(|oracle| oracle.signed(signed));
        }
        let answer = self.service.cosign(request).await?;
        if let (Ok(signed), Ok(CosignAnswer::Cosignature(cosignature))) =
            (asked, CosignAnswer::try_from(answer.get_ref().clone()))
        {
            self.world.judge(|oracle| oracle.cosigned(self.address, &signed, &cosignature));
        }
        Ok(answer)
    }

    async fn get_rows(
        &self,
        request: Request<wire::GetRowsRequest>,
    ) -> Result<Response<Self::GetRowsStream>, Status> {
        self.service.get_rows(request).await
    }

    async fn get_samples(
        &self,
        request: Request<wire::GetSamplesRequest>,
    ) -> Result<Response<wire::GetSamplesResponse>, Status> {
        self.service.get_samples(request).await
    }

    async fn lookup(
        &self,
        request: Request<wire::LookupRequest>,
    ) -> Result<Response<wire::LookupResponse>, Status> {
        self.service.lookup(request).await
    }

    async fn get_status(
        &self,
        request: Request<wire::GetReplicaStatusRequest>,
    ) -> Result<Response<ReplicaStatus>, Status> {
        self.service.get_status(request).await
    }
}
