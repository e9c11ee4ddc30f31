//! Calls to the log service of a gateway or replica.

use std::time::Duration;

use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::{Address, B256};
use meridian_proto::MAX_MESSAGE;
use meridian_proto::convert::{
    ConsistencyProof, GetConsistencyProof, GetEntries, GetInclusionProof, InclusionProof, LogItem,
};
use meridian_proto::error::{ApiError, Reason};
use meridian_proto::wire;
use meridian_proto::wire::log_client::LogClient;
use tonic::transport::Channel;

use super::{DEADLINE, answer, bad_answer, traced};

/// Calls to the logs of one node.
#[derive(Clone, Debug)]
pub struct LogRpc {
    client: LogClient<Channel>,
    deadline: Duration,
}

impl LogRpc {
    pub(super) fn new(channel: Channel) -> Self {
        let client = LogClient::new(channel)
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

    /// The latest checkpoint of every log that the node knows, ascending by gateway. No signature is checked.
    ///
    /// # Errors
    ///
    /// The node's refusal, or that it is out of reach.
    pub async fn list(&self) -> Result<Vec<CosignedCheckpoint>, ApiError> {
        answer(self.deadline, self.client.clone().list_logs(traced(wire::ListLogsRequest {}))).await
    }

    /// The latest checkpoint of a log, or none when the node is certain that it has no such log.
    ///
    /// No signature is checked.
    ///
    /// # Errors
    ///
    /// The node's refusal, or that it is out of reach.
    pub async fn checkpoint(&self, gateway: Address) -> Result<Option<CosignedCheckpoint>, ApiError> {
        let request = traced(wire::GetCheckpointRequest::from(gateway));
        let found: Result<CosignedCheckpoint, _> =
            answer(self.deadline, self.client.clone().get_checkpoint(request)).await;
        match found {
            Ok(found) if found.signed.checkpoint.gateway == gateway => Ok(Some(found)),
            Ok(_) => Err(bad_answer("the checkpoint is of another gateway's log")),
            Err(error) if error.reason == Reason::LogUnknown => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Consecutive items of a log: `count` of them, fewer at its end. Nothing proves them.
    ///
    /// # Errors
    ///
    /// The node's refusal, or that it is out of reach.
    pub async fn entries(&self, gateway: Address, start: u64, count: u64) -> Result<Vec<LogItem>, ApiError> {
        let request = traced(GetEntries { gateway, start, count }.into());
        let items: Vec<LogItem> = answer(self.deadline, self.client.clone().get_entries(request)).await?;
        if u64::try_from(items.len()).is_ok_and(|found| found <= count) {
            return Ok(items);
        }
        Err(bad_answer(format!("{} items came for {count}", items.len())))
    }

    /// The entry at an index and its audit path under a size. The path is not checked.
    ///
    /// # Errors
    ///
    /// The node's refusal, or that it is out of reach.
    pub async fn inclusion(
        &self,
        gateway: Address,
        index: u64,
        size: u64,
    ) -> Result<InclusionProof, ApiError> {
        let request = traced(GetInclusionProof { gateway, index, size }.into());
        answer(self.deadline, self.client.clone().get_inclusion_proof(request)).await
    }

    /// The consistency proof from one size to another. It is not checked.
    ///
    /// # Errors
    ///
    /// The node's refusal, or that it is out of reach.
    pub async fn consistency(
        &self,
        gateway: Address,
        old_size: u64,
        new_size: u64,
    ) -> Result<Vec<B256>, ApiError> {
        let request = traced(GetConsistencyProof { gateway, old_size, new_size }.into());
        let proof: ConsistencyProof =
            answer(self.deadline, self.client.clone().get_consistency_proof(request)).await?;
        Ok(proof.0)
    }
}
