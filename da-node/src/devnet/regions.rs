//! Regions that a devnet can have, and how far they are from each other.

use std::time::Duration;

/// A place on the map: label, degrees north, degrees east.
pub(super) type Place = (&'static str, f64, f64);

/// In the order in which a number of regions takes them: the first five are on three continents.
pub(super) const PLACES: [Place; 12] = [
    ("na-west", 45.6, -121.2),
    ("na-east", 39.0, -77.5),
    ("eu-central", 50.1, 8.7),
    ("ap-northeast", 35.7, 139.7),
    ("ap-southeast", 1.35, 103.8),
    ("eu-west", 53.3, -6.3),
    ("sa-east", -23.5, -46.6),
    ("ap-south", 19.1, 72.9),
    ("oc-southeast", -33.9, 151.2),
    ("af-south", -33.9, 18.4),
    ("me-central", 25.2, 55.3),
    ("eu-north", 59.3, 18.1),
];

/// Round trips in milliseconds between each place and those before it, and within it: medians between the regions of AWS
/// there as published by cloudping.co in 2025, rounded, of both directions the mean. In the order of the places us-west-2
/// (Oregon), us-east-1 (N. Virginia), eu-central-1 (Frankfurt), ap-northeast-1 (Tokyo), ap-southeast-1 (Singapore),
/// eu-west-1 (Dublin), sa-east-1 (São Paulo), ap-south-1 (Mumbai), ap-southeast-2 (Sydney), af-south-1 (Cape Town),
/// me-central-1 (UAE) and eu-north-1 (Stockholm).
const ROUND_TRIPS: [&[u64]; PLACES.len()] = [
    &[3],
    &[64, 6],
    &[143, 93, 4],
    &[98, 150, 227, 3],
    &[161, 219, 161, 71, 4],
    &[118, 70, 27, 202, 179, 3],
    &[175, 115, 205, 259, 328, 178, 3],
    &[222, 191, 129, 134, 64, 126, 301, 3],
    &[141, 200, 251, 106, 95, 256, 312, 155, 4],
    &[274, 227, 155, 357, 315, 159, 338, 273, 409, 4],
    &[257, 194, 116, 170, 91, 131, 306, 31, 181, 285, 3],
    &[155, 112, 23, 247, 181, 40, 223, 149, 271, 174, 136, 3],
];

/// Time from one place to another and back, the same in both directions. Nothing where one of them is not known.
#[must_use]
pub fn round_trip(from: &str, to: &str) -> Option<Duration> {
    let index = |label| PLACES.iter().position(|place| place.0 == label);
    let (from, to) = (index(from)?, index(to)?);
    let time = ROUND_TRIPS.get(from.max(to))?.get(from.min(to))?;
    Some(Duration::from_millis(*time))
}

/// The labels of all places, for messages.
pub(super) fn known() -> String {
    PLACES.map(|place| place.0).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_far_from_every_other() {
        for (number, (from, north, _)) in PLACES.into_iter().enumerate() {
            assert_eq!(ROUND_TRIPS[number].len(), number + 1, "{from}");
            assert!((-90.0..=90.0).contains(&north));
            for (to, ..) in PLACES {
                let there = round_trip(from, to).unwrap();
                assert_eq!(there, round_trip(to, from).unwrap());
                assert!(from == to || there > 3 * round_trip(from, from).unwrap(), "{from} {to}");
            }
        }
        assert_eq!(round_trip("na-west", "mars"), None);
        assert_eq!(round_trip("af-south", "oc-southeast"), Some(Duration::from_millis(409)));
    }

    /// Light in glass takes 5 µs for a kilometre, and no cable is shorter than the way over the ground.
    #[test]
    fn nothing_is_faster_than_light() {
        for (from, north, east) in PLACES {
            for (to, other_north, other_east) in PLACES {
                let (a, b) = (north.to_radians(), other_north.to_radians());
                let turn = (east - other_east).to_radians();
                let angle = (a.sin() * b.sin() + a.cos() * b.cos() * turn.cos()).clamp(-1.0, 1.0).acos();
                let light = 2.0 * angle * 6_371.0 * 5e-6;
                assert!(round_trip(from, to).unwrap().as_secs_f64() > light, "{from} {to}: {light}");
            }
        }
    }
}
