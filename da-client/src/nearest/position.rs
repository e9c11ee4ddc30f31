//! Places on the map, and how long light takes between them.

use std::str::FromStr;
use std::time::Duration;

use meridian_proofs::committee::Region;

/// Mean radius of the earth.
const EARTH_KM: f64 = 6_371.0;
/// What light does in fibre, there and back, over ways that are not straight: 200,000 km/s, and 1.4 times the distance.
const KM_A_SECOND: f64 = 200_000.0 / 2.0 / 1.4;

/// A place, in degrees.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Position {
    /// Degrees north, -90 to 90.
    latitude: f64,
    /// Degrees east, -180 to 180.
    longitude: f64,
}

impl Position {
    /// A place, if there is one.
    #[must_use]
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let is_place = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        is_place.then_some(Self { latitude, longitude })
    }

    /// The place of a region.
    #[must_use]
    pub fn of(region: &Region) -> Self {
        Self { latitude: region.latitude, longitude: region.longitude }
    }

    /// About how long a round trip takes between two places: a guess for where nothing was measured.
    #[must_use]
    pub fn round_trip(&self, other: &Self) -> Duration {
        Duration::from_secs_f64(self.kilometres(other) / KM_A_SECOND)
    }

    /// Along a great circle (haversine formula).
    fn kilometres(&self, other: &Self) -> f64 {
        let haversine = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
        let north = haversine(other.latitude - self.latitude);
        let east = haversine(other.longitude - self.longitude);
        let cosines = self.latitude.to_radians().cos() * other.latitude.to_radians().cos();
        2.0 * EARTH_KM * (north + cosines * east).clamp(0.0, 1.0).sqrt().asin()
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .split_once(',')
            .and_then(|(north, east)| Some((north.trim().parse().ok()?, east.trim().parse().ok()?)));
        let position = numbers.and_then(|(north, east)| Self::new(north, east));
        position.ok_or_else(|| "not LATITUDE,LONGITUDE in degrees north and east, like 50.1,8.7".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_map() {
        let place = |north, east| Position::new(north, east).unwrap();
        let (frankfurt, tokyo, ashburn) = (place(50.1, 8.7), place(35.7, 139.7), place(39.0, -77.5));
        for (from, to, km) in
            [(frankfurt, tokyo, 9_350.0), (frankfurt, ashburn, 6_550.0), (tokyo, tokyo, 0.0)]
        {
            assert!((from.kilometres(&to) - km).abs() < 60.0, "{}", from.kilometres(&to));
            assert!((from.kilometres(&to) - to.kilometres(&from)).abs() < 1e-6);
        }
        // Across the date line, and from pole to pole.
        assert!(place(0.0, 179.0).kilometres(&place(0.0, -179.0)) < 230.0);
        let half = place(90.0, 0.0).kilometres(&place(-90.0, 50.0));
        assert!((half - std::f64::consts::PI * EARTH_KM).abs() < 1.0);
        let light = frankfurt.round_trip(&ashburn).as_millis();
        assert!((85..100).contains(&light), "{light} ms");
    }

    #[test]
    fn a_position_is_two_numbers_of_degrees() {
        assert_eq!("50.1, -8.7".parse(), Ok(Position::new(50.1, -8.7).unwrap()));
        assert_eq!("-90,180".parse(), Ok(Position::new(-90.0, 180.0).unwrap()));
        for wrong in ["", "1", "90.1,0", "0,-180.5", "NaN,0", "inf,0", "1,2,3", "north,east"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }
}
