//! Regions that a devnet can have.

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
