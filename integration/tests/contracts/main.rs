//! The contracts against the Rust that says the same, on an EVM at the level of the merge.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod anchor;
mod anchors;
mod calldata;
mod certificates;
mod committees;
mod differential;
mod evm;
mod gas;
mod gas_limits;
mod inbox;
mod kzg;
mod logs;
mod members;
mod mutate;
mod namespaces;
mod oracle;
mod refusals;
mod world;

use meridian_integration::random;
