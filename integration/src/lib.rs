//! Tests of Meridian across members: whole networks, lying peers, the load tool.

pub mod anvil;
pub mod browser;
pub mod children;
pub mod devnet;
pub mod folder;
pub mod golang;
pub mod kept;
pub mod keys;
pub mod knobs;
pub mod liars;
pub mod load;
pub mod metrics;
pub mod network;
pub mod oracle;
pub mod otlp;
pub mod page;
pub mod pair;
pub mod payload;
pub mod ports;
pub mod programs;
pub mod random;
pub mod raw;
pub mod recorder;
pub mod sidecar;
pub mod wires;
pub mod withholding;
