//! The client library of Meridian: everything that a reader or submitter does.

pub mod rpc;
pub mod trace;
