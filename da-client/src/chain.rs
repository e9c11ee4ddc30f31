//! The EVM chain: which committee is current, and how far each log is anchored (protocol sections 4, 5.6, 5.7).

pub mod source;
pub mod view;
