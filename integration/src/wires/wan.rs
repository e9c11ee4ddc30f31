//! How far regions of the world are from each other.

use std::time::Duration;

use super::{CLIENTS, Flow, Wires};

/// The places of the regions of a devnet of five.
pub const PLACES: [&str; 5] = ["na-west", "na-east", "eu-central", "ap-northeast", "ap-southeast"];

/// Round trips in milliseconds between and within the places, in their order: medians between us-west-2 (Oregon),
/// us-east-1 (N. Virginia), eu-central-1 (Frankfurt), ap-northeast-1 (Tokyo) and ap-southeast-1 (Singapore) as published by
/// cloudping.co in 2025, rounded.
const ROUND_TRIPS: [[u64; 5]; 5] = [
    [3, 64, 143, 98, 161],
    [64, 5, 93, 150, 219],
    [143, 93, 4, 227, 161],
    [98, 150, 227, 3, 71],
    [161, 219, 161, 71, 4],
];

/// Time between two places, there and back.
#[must_use]
pub fn round_trip(from: usize, to: usize) -> Duration {
    Duration::from_millis(ROUND_TRIPS[from][to])
}

impl Wires {
    /// Makes every way as long as it is in the world, with the clients at one of the places, and gateways at the second.
    pub fn spread(&self, clients: usize) {
        let place = |end: &str| {
            let region = PLACES.iter().position(|place| end.starts_with(place));
            region.unwrap_or(if end == CLIENTS { clients } else { 1 })
        };
        for (from, to, wire) in self.ends() {
            let way = Flow::Late(round_trip(place(from), place(to)) / 2);
            wire.set(way, way);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_as_long_in_both_directions() {
        for from in 0..PLACES.len() {
            for to in 0..PLACES.len() {
                assert_eq!(round_trip(from, to), round_trip(to, from));
                assert!(from == to || round_trip(from, to) > 10 * round_trip(from, from));
            }
        }
    }
}
