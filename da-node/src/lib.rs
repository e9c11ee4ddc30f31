//! The programs of Meridian's hosts: gateway, replica and a whole network on a laptop.

pub mod admin;
pub mod admin_cmd;
pub mod chain_cmd;
pub mod cli;
pub mod clock;
pub mod committee_cmd;
pub mod config;
pub mod cpu;
pub mod devnet;
pub mod disk;
pub mod docs_cmd;
pub mod doctor;
pub mod gateway;
pub mod http;
pub mod log_service;
pub mod memory;
pub mod metrics;
pub mod points;
pub mod probe;
pub mod replica;
pub mod run;
pub mod server;
pub mod store;
pub mod telemetry;
#[cfg(test)]
mod test_docs;
pub mod upkeep_cmd;

pub use meridian_client::key;
