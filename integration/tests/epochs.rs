//! Epochs that change under a network at work.

#[path = "epochs/gateway.rs"]
mod gateway;
#[path = "epochs/replica.rs"]
mod replica;
