//! Wires that are as long as ways in the world.

use std::time::Duration;

use meridian_node::devnet;

use super::{CLIENTS, Flow, Wires};

/// The places of the regions of a devnet of five.
pub const PLACES: [&str; 5] = ["na-west", "na-east", "eu-central", "ap-northeast", "ap-southeast"];

/// Time between two places, there and back.
#[must_use]
pub fn round_trip(from: usize, to: usize) -> Duration {
    devnet::round_trip(PLACES[from], PLACES[to]).unwrap_or_default()
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
    use meridian_node::devnet::{Options, Plan};

    use super::*;

    #[test]
    fn the_places_are_those_of_a_devnet() {
        assert_eq!(Plan::new(&Options::default()).unwrap().regions, PLACES);
        assert_eq!(round_trip(0, 2), Duration::from_millis(143));
    }
}
