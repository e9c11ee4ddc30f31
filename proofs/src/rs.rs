//! rs
