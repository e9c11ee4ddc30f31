//! Keeps a server open to everybody: how many connections there may be, of whom, and how long each may stand still.
//!
//! The listeners of nodes, of light clients and of sidecars all use it. A connection takes its place before a byte of it is
//! read. Nobody waits for a place: whoever has its share is closed at once, and where all places are taken somebody else
//! gives way, idle ones first, and those of whoever has most.

pub mod origin;
pub mod pages;
pub mod patient;
pub mod places;

use std::time::Duration;

pub use origin::Origin;
pub use patient::Patient;
pub use places::{Place, Places};

/// How many connections there may be, and how long they may stand still.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections at a time.
    pub connections: usize,
    /// Most connections at a time of one IPv4 address or IPv6 /64.
    pub per_address: usize,
    /// How long a peer may take nothing of what waits for it.
    pub stall: Duration,
}

/// Why a connection was closed as soon as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Its address has as many as it may have.
    Address,
    /// All places are taken by connections that are in use, none of them of somebody who has more.
    Full,
}

impl Refusal {
    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Full => "full",
        }
    }
}

/// Why a connection was cut, or asked to close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// It gave its place to another.
    Displaced,
    /// The peer took nothing of what waited for it.
    Stalled,
    /// It did not begin to speak in time.
    Silent,
    /// Nothing was asked on it for long.
    Idle,
    /// It was open for long: the peer opens another one.
    Old,
    /// It was busy with frames that ask for nothing.
    Frames,
}

impl Cut {
    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Displaced => "displaced",
            Self::Stalled => "stalled",
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::Old => "old",
            Self::Frames => "frames",
        }
    }
}
