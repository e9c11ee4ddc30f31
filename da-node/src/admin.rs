//! The Admin service: what only those who run a host may ask of it.

use std::sync::Arc;

use meridian_proto::error::{ApiError, Reason};
use meridian_proto::wire;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::replica::Replica;
use crate::telemetry::LogFilter;

/// Longest filter of log lines.
const MAX_FILTER: usize = 1024;

/// Serves the orders to a host.
#[derive(Clone)]
pub struct Service {
    /// Told when the host is to end.
    pub drain: CancellationToken,
    /// What is logged.
    pub log: LogFilter,
    /// The replica, on hosts of replicas.
    pub replica: Option<Arc<Replica>>,
}

impl Service {
    fn replica(&self) -> Result<&Arc<Replica>, Status> {
        self.replica.as_ref().ok_or_else(|| Status::unimplemented("a gateway has no rows to check or repair"))
    }
}

#[tonic::async_trait]
impl wire::admin_server::Admin for Service {
    async fn drain(&self, _: Request<wire::DrainRequest>) -> Result<Response<wire::DrainResponse>, Status> {
        tracing::warn!("told to finish what has begun, and to end");
        self.drain.cancel();
        Ok(Response::new(wire::DrainResponse {}))
    }

    async fn scrub(&self, _: Request<wire::ScrubRequest>) -> Result<Response<wire::ScrubResponse>, Status> {
        let waits = self.replica()?.scrub_now().await;
        tracing::warn!(waits, "told to check everything on disk");
        Ok(Response::new(wire::ScrubResponse { waits }))
    }

    async fn repair(
        &self,
        _: Request<wire::RepairRequest>,
    ) -> Result<Response<wire::RepairResponse>, Status> {
        self.replica()?.repair_now();
        tracing::warn!("told to repair at once");
        Ok(Response::new(wire::RepairResponse {}))
    }

    async fn set_log_filter(
        &self,
        request: Request<wire::SetLogFilterRequest>,
    ) -> Result<Response<wire::SetLogFilterResponse>, Status> {
        let filter = request.into_inner().filter;
        if filter.len() > MAX_FILTER {
            let message = format!("the filter has {} bytes, over the limit of {MAX_FILTER}", filter.len());
            return Err(ApiError::new(Reason::MessageTooLarge, message).with("limit", MAX_FILTER).into());
        }
        let before = self.log.set(&filter).map_err(|error| {
            ApiError::new(Reason::FieldInvalid, format!("no filter of log lines: {error:#}"))
                .with("field", "filter")
        })?;
        tracing::warn!(filter, before, "told to log other lines");
        Ok(Response::new(wire::SetLogFilterResponse { before }))
    }
}
