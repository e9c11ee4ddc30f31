//! rlc
