//! A replica that takes every blob and gives no row of any while it withholds. Many of them share what they do.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meridian_proto::error::{ApiError, Reason};
use meridian_proto::wire::{
    GetRowsRequest, GetSamplesRequest, GetSamplesResponse, LookupRequest, LookupResponse,
};
use tonic::Status;

use super::{ReplicaLie, RowParts, Truth};

/// What is withheld.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Withheld {
    /// Nothing.
    #[default]
    Nothing,
    /// Rows and samples.
    Rows,
    /// Those, and what blobs there are.
    Everything,
}

/// Withholds, and notes which rows were asked for as samples.
#[derive(Debug, Default)]
pub struct Withholder(Mutex<(Withheld, BTreeSet<u32>)>);

impl Withholder {
    fn state(&self) -> MutexGuard<'_, (Withheld, BTreeSet<u32>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Withholds this from now on.
    pub fn turn(&self, withheld: Withheld) {
        self.state().0 = withheld;
    }

    /// The rows that were asked for as samples since the last look.
    pub fn asked(&self) -> BTreeSet<u32> {
        std::mem::take(&mut self.state().1)
    }

    fn refuse(&self, what: Withheld) -> Result<(), Status> {
        if self.state().0 >= what {
            return Err(ApiError::new(Reason::RebuildFailed, "too few rows are within reach").into());
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl ReplicaLie for Withholder {
    async fn rows(&self, truth: &Truth, request: GetRowsRequest) -> Result<RowParts, Status> {
        self.refuse(Withheld::Rows)?;
        Ok(super::parts(truth.rows(request).await?))
    }

    async fn samples(&self, truth: &Truth, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        self.state().1.extend(&request.indices);
        self.refuse(Withheld::Rows)?;
        truth.samples(request).await
    }

    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        self.refuse(Withheld::Everything)?;
        truth.lookup(LookupRequest { max_row_bytes: 0, ..request }).await
    }
}
