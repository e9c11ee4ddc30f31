//! The `da` command and the library behind it, against servers of this process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod auditing;
mod command;
mod docs;
mod json;
mod kzg;
mod network;
mod offline;
mod online;
mod reading;
