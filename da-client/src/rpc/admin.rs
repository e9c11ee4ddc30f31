//! Calls to the admin service of a host.

use meridian_proto::error::ApiError;
use meridian_proto::wire;
use meridian_proto::wire::admin_client::AdminClient;
use tonic::transport::Channel;

use super::{DEADLINE, failure, traced, within};

/// Orders to one host.
#[derive(Clone, Debug)]
pub struct AdminRpc {
    client: AdminClient<Channel>,
}

impl AdminRpc {
    pub(super) fn new(channel: Channel) -> Self {
        Self { client: AdminClient::new(channel) }
    }

    /// Has the host finish what has begun, and end.
    ///
    /// # Errors
    ///
    /// The host's refusal, or that it is out of reach.
    pub async fn drain(&self) -> Result<(), ApiError> {
        let mut client = self.client.clone();
        let call = async { client.drain(traced(wire::DrainRequest {})).await.map_err(|it| failure(&it)) };
        within(DEADLINE, call).await.map(drop)
    }

    /// Has a replica check everything on disk. Says whether a check goes on, after which this one begins.
    ///
    /// # Errors
    ///
    /// The host's refusal, or that it is out of reach.
    pub async fn scrub(&self) -> Result<bool, ApiError> {
        let mut client = self.client.clone();
        let call = async { client.scrub(traced(wire::ScrubRequest {})).await.map_err(|it| failure(&it)) };
        within(DEADLINE, call).await.map(|answer| answer.into_inner().waits)
    }

    /// Has a replica try all repairs at once.
    ///
    /// # Errors
    ///
    /// The host's refusal, or that it is out of reach.
    pub async fn repair(&self) -> Result<(), ApiError> {
        let mut client = self.client.clone();
        let call = async { client.repair(traced(wire::RepairRequest {})).await.map_err(|it| failure(&it)) };
        within(DEADLINE, call).await.map(drop)
    }

    /// Has the host log other lines. Says what it logged until now.
    ///
    /// # Errors
    ///
    /// The host's refusal, or that it is out of reach.
    pub async fn set_log_filter(&self, filter: &str) -> Result<String, ApiError> {
        let (mut client, filter) = (self.client.clone(), filter.to_owned());
        let call = async {
            let request = traced(wire::SetLogFilterRequest { filter });
            client.set_log_filter(request).await.map_err(|it| failure(&it))
        };
        within(DEADLINE, call).await.map(|answer| answer.into_inner().before)
    }
}
