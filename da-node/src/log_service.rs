//! The Log service of a node, over the logs in its store.

use meridian_proofs::Address;
use meridian_proto::convert::{
    ConsistencyProof, GetConsistencyProof, GetEntries, GetInclusionProof, InclusionProof,
};
use meridian_proto::error::{ApiError, Reason};
use meridian_proto::wire;
use tonic::{Request, Response, Status};

use crate::cpu;
use crate::store::log::LogStore;

/// Serves the logs of a store, each up to its latest checkpoint.
#[derive(Clone, Debug)]
pub struct LogService {
    logs: LogStore,
}

impl LogService {
    /// Serves the logs of a store.
    #[must_use]
    pub fn new(logs: LogStore) -> Self {
        Self { logs }
    }

    /// Reads off the async threads.
    async fn read<Q, A, W>(
        &self,
        request: Q,
        answer: impl FnOnce(&LogStore, Q) -> Result<A, ApiError> + Send + 'static,
    ) -> Result<Response<W>, Status>
    where
        Q: Send + 'static,
        A: Send + 'static,
        W: From<A>,
    {
        let logs = self.logs.clone();
        let answer = cpu::blocking(move || answer(&logs, request)).await?;
        Ok(Response::new(answer.into()))
    }
}

#[tonic::async_trait]
impl wire::log_server::Log for LogService {
    async fn list_logs(
        &self,
        _request: Request<wire::ListLogsRequest>,
    ) -> Result<Response<wire::ListLogsResponse>, Status> {
        self.read((), |logs, ()| Ok(logs.checkpoints()?)).await
    }

    async fn get_checkpoint(
        &self,
        request: Request<wire::GetCheckpointRequest>,
    ) -> Result<Response<wire::CosignedCheckpoint>, Status> {
        let gateway = Address::try_from(request.into_inner())?;
        self.read(gateway, |logs, gateway| logs.checkpoint(&gateway)?.ok_or_else(|| unknown(&gateway))).await
    }

    async fn get_entries(
        &self,
        request: Request<wire::GetEntriesRequest>,
    ) -> Result<Response<wire::GetEntriesResponse>, Status> {
        self.read(
            GetEntries::try_from(request.into_inner())?,
            |logs, GetEntries { gateway, start, count }| {
                let size = size(logs, &gateway)?;
                if start > size {
                    return Err(outside(format!("the log has {size} entries, none from {start} on")));
                }
                let end = start.saturating_add(count).min(size);
                Ok(logs.items(&gateway, start, end)?)
            },
        )
        .await
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<wire::GetInclusionProofRequest>,
    ) -> Result<Response<wire::GetInclusionProofResponse>, Status> {
        let request = GetInclusionProof::try_from(request.into_inner())?;
        self.read(request, |logs, GetInclusionProof { gateway, index, size: at }| {
            let size = size(logs, &gateway)?;
            if at > size || index >= at {
                return Err(outside(format!("the log has {size} entries: no proof of {index} under {at}")));
            }
            let item = logs.item(&gateway, index)?;
            Ok(InclusionProof { item, path: logs.inclusion(&gateway, index, at)? })
        })
        .await
    }

    async fn get_consistency_proof(
        &self,
        request: Request<wire::GetConsistencyProofRequest>,
    ) -> Result<Response<wire::GetConsistencyProofResponse>, Status> {
        let request = GetConsistencyProof::try_from(request.into_inner())?;
        self.read(request, |logs, GetConsistencyProof { gateway, old_size, new_size }| {
            let size = size(logs, &gateway)?;
            if new_size > size || old_size > new_size {
                let text = format!("the log has {size} entries: no proof from {old_size} to {new_size}");
                return Err(outside(text));
            }
            Ok(ConsistencyProof(logs.consistency(&gateway, old_size, new_size)?))
        })
        .await
    }
}

/// Entries under the latest checkpoint or anchor of a log.
fn size(logs: &LogStore, gateway: &Address) -> Result<u64, ApiError> {
    logs.served_size(gateway)?.ok_or_else(|| unknown(gateway))
}

fn unknown(gateway: &Address) -> ApiError {
    ApiError::new(Reason::LogUnknown, format!("no log of {gateway} here"))
}

fn outside(text: String) -> ApiError {
    ApiError::new(Reason::RangeInvalid, text)
}
