//! What gateways answer.

use std::sync::atomic::Ordering;

use meridian_proofs::encode::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::keccak256;
use meridian_proto::convert::{GatewayPhase, GatewayStatus, GetCertificate, PutPart};
use meridian_proto::error::Reason;
use meridian_proto::wire;
use tonic::{Request, Response, Status, Streaming};

use super::{Gateway, Node, parse, refuse};

#[tonic::async_trait]
impl wire::gateway_server::Gateway for Node<Gateway> {
    async fn put(
        &self,
        request: Request<Streaming<wire::PutRequest>>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        match self.behaviour {
            Gateway::Overloaded => return refuse(Reason::MemoryBudget),
            Gateway::Forbids => return refuse(Reason::NotPermitted),
            Gateway::Refuses => return refuse(Reason::RetentionOutOfRange),
            _ => {}
        }
        let mut parts = request.into_inner();
        let mut start = None;
        let mut payload = Vec::new();
        while let Some(part) = parts.message().await? {
            match PutPart::try_from(part).unwrap() {
                PutPart::Start(first) => start = Some(first),
                PutPart::Chunk(chunk) => {
                    self.world.chunks.fetch_add(1, Ordering::Relaxed);
                    payload.extend_from_slice(&chunk);
                }
            }
        }
        let start = start.unwrap();
        if self.behaviour == Gateway::OtherBlob {
            payload[0] ^= 1;
        }
        let keys = &self.world.keys;
        let kzg_root = start.kzg_root.filter(|_| self.behaviour != Gateway::NoKzg).unwrap_or_default();
        let blob = encode::<Blake3>(&payload, kzg_root).unwrap();
        let namespace = match self.behaviour {
            Gateway::OtherNamespace => Namespace::from([9; 32]),
            _ => start.namespace,
        };
        let bound = start.bind_payload_hash || self.behaviour == Gateway::UnaskedHash;
        let hash = if bound { PayloadHash(keccak256(&payload)) } else { PayloadHash::UNBOUND };
        let retention = match self.behaviour {
            Gateway::ShortExpiry => start.retention - 3800,
            _ => start.retention,
        };
        let entries = keys.entries(blob.id(), start.length.get(), namespace, hash, retention);
        let signers = if self.behaviour == Gateway::NoQuorum { 1 } else { keys.seats.len() };
        Ok(Response::new((&keys.certify(self.place, &blob, &entries, signers)).into()))
    }

    async fn get_certificate(
        &self,
        request: Request<wire::GetCertificateRequest>,
    ) -> Result<Response<wire::GetCertificateResponse>, Status> {
        let GetCertificate { blob_id, .. } = parse(request);
        if blob_id != self.world.blob.id() && self.behaviour != Gateway::OtherBlob {
            return refuse(Reason::CertificateUnknown);
        }
        Ok(Response::new((&self.world.certificate).into()))
    }

    async fn get_committee(
        &self,
        _: Request<wire::GetCommitteeRequest>,
    ) -> Result<Response<wire::Committee>, Status> {
        Ok(Response::new(self.world.keys.committee.as_ref().into()))
    }

    async fn get_status(
        &self,
        _: Request<wire::GetGatewayStatusRequest>,
    ) -> Result<Response<wire::GatewayStatus>, Status> {
        Ok(Response::new(
            GatewayStatus {
                address: self.world.keys.gateways[self.place].address(),
                epoch: 1,
                log_size: 3,
                certified_size: 3,
                puts_in_flight: 0,
                uploads_pending: 0,
                memory_used: 0,
                memory_budget: 1 << 20,
                seats: Vec::new(),
                version: "test".to_owned(),
                anchor: None,
                phase: GatewayPhase::Working,
                closings: Vec::new(),
                now_ms: 1_700_000_000_000,
            }
            .into(),
        ))
    }
}
