//! The EVM chain: which committee is current, and how far each log is anchored (protocol sections 4, 5.6, 5.7, 15).

pub mod anchored;
pub mod contract;
mod history;
pub mod namespaces;
pub mod rpc;
pub mod sender;
pub mod settled;
pub mod source;
pub mod view;

#[cfg(test)]
pub(crate) mod testing;
