//! Country and network of an address, from MaxMind DB files.
//!
//! Files come from many makers with different fields, and some are broken. Whatever a file does, the answer is a
//! [`Place`] with the rest *unknown*, and unknown never counts as a change.

use std::fmt;

use crate::net::Asn;

#[cfg(feature = "geo")]
mod database;
#[cfg(feature = "geo")]
mod fields;

#[cfg(feature = "geo")]
pub use database::{GeoDatabase, GeoError};
#[cfg(feature = "geo")]
pub use fields::{Field, FieldPath, FieldPathError, Fields};

/// A country by its two letters (ISO 3166-1), upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The country of two letters in either case.
    pub fn parse(code: &str) -> Option<Self> {
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_alphabetic).then(|| Self(code.map(|letter| letter.to_ascii_uppercase())))
    }

    /// Its two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??")
    }

    /// Its two letters as bytes.
    pub const fn bytes(self) -> [u8; 2] {
        self.0
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Country({self})")
    }
}

/// What a network is used for, as far as a list or database says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NetworkKind {
    /// Nothing is known.
    #[default]
    Unknown = 0,
    /// Homes.
    Residential = 1,
    /// A cellular network.
    Mobile = 2,
    /// An organisation.
    Corporate = 3,
    /// Servers.
    Hosting = 4,
    /// A VPN or public proxy.
    Vpn = 5,
    /// A relay that keeps the region of its users, such as iCloud Private Relay.
    Relay = 6,
    /// A Tor exit.
    Tor = 7,
    /// A gateway that inspects the TLS of an organisation.
    Sase = 8,
}

impl NetworkKind {
    const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Residential,
        Self::Mobile,
        Self::Corporate,
        Self::Hosting,
        Self::Vpn,
        Self::Relay,
        Self::Tor,
        Self::Sase,
    ];

    /// The name that rules and events use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Residential => "residential",
            Self::Mobile => "mobile",
            Self::Corporate => "corporate",
            Self::Hosting => "hosting",
            Self::Vpn => "vpn",
            Self::Relay => "relay",
            Self::Tor => "tor",
            Self::Sase => "sase",
        }
    }

    /// The kind that goes by this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of a stored number; one from a later version is unknown.
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// How much it says about who is behind an address: Tor most, then relays, gateways, VPNs, servers; what remains is how
    /// people are connected.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Residential => 1,
            Self::Corporate => 2,
            Self::Mobile => 3,
            Self::Hosting => 4,
            Self::Vpn => 5,
            Self::Sase => 6,
            Self::Relay => 7,
            Self::Tor => 8,
        }
    }

    /// Of two that are said of one address, the one that says more.
    #[must_use]
    pub const fn or_stronger(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// Whether such a network hides where its users are.
    pub const fn hides_place(self) -> bool {
        matches!(self, Self::Vpn | Self::Relay | Self::Tor | Self::Sase)
    }
}

/// Where on earth, to a kilometre, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Hundredths of a degree north.
    pub latitude: i16,
    /// Hundredths of a degree east.
    pub longitude: i16,
    /// The radius in kilometres of a circle in which the address probably is: in steps of [`Self::RADIUS_STEP_KM`].
    pub radius_km: u16,
}

impl Position {
    /// The radius that counts where none is given.
    pub const RADIUS_UNKNOWN_KM: u16 = 1000;

    /// Radii are rounded up to a multiple of this, so that they fit one byte.
    pub const RADIUS_STEP_KM: u16 = 10;

    /// A position in degrees; none if there is no such place on earth.
    pub fn new(latitude: f64, longitude: f64, radius_km: Option<u16>) -> Option<Self> {
        let hundredths = |degrees: f64, most: f64| {
            let fits = degrees.is_finite() && degrees.abs() <= most;
            #[expect(clippy::cast_possible_truncation, reason = "at most 18000")]
            fits.then(|| (degrees * 100.0).round() as i16)
        };
        Some(Self {
            latitude: hundredths(latitude, 90.0)?,
            longitude: hundredths(longitude, 180.0)?,
            radius_km: radius_km
                .unwrap_or(Self::RADIUS_UNKNOWN_KM)
                .div_ceil(Self::RADIUS_STEP_KM)
                .min(u8::MAX.into())
                .saturating_mul(Self::RADIUS_STEP_KM),
        })
    }

    /// The way along the surface of the earth, in kilometres, from centre to centre.
    pub fn kilometres_to(self, other: Self) -> f64 {
        /// Twice its mean radius (IUGG).
        const EARTH_DIAMETER_KM: f64 = 12_742.0;
        let radians = |hundredths: i16| (f64::from(hundredths) / 100.0).to_radians();
        let (north, other_north) = (radians(self.latitude), radians(other.latitude));
        let half = |angle: f64| (angle / 2.0).sin().powi(2);
        let east = radians(other.longitude) - radians(self.longitude);
        let haversine = half(other_north - north) + north.cos() * other_north.cos() * half(east);
        EARTH_DIAMETER_KM * haversine.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// Where an address is. Everything may be unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The country.
    pub country: Option<Country>,
    /// The network.
    pub asn: Option<Asn>,
    /// What the network is used for.
    pub kind: NetworkKind,
    /// Where on earth.
    pub position: Option<Position>,
}

impl Place {
    /// This place, with what it does not know taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            country: self.country.or(other.country),
            asn: self.asn.or(other.asn),
            kind: if self.kind == NetworkKind::Unknown { other.kind } else { self.kind },
            position: self.position.or(other.position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_two_letters() {
        let parse = |code| Country::parse(code).map(|country| country.to_string());
        assert_eq!(parse("de").as_deref(), Some("DE"));
        for wrong in ["", "D", "DEU", "D1", "ß"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ways_on_earth() {
        let at = |latitude, longitude| Position::new(latitude, longitude, Some(10)).unwrap();
        let (berlin, tokyo) = (at(52.52, 13.40), at(35.69, 139.69));
        let way = berlin.kilometres_to(tokyo);
        assert!((8900.0..8940.0).contains(&way), "{way}");
        assert_eq!(berlin.kilometres_to(berlin), 0.0);
        let round = at(0.0, -180.0).kilometres_to(at(0.0, 0.0));
        assert!((20_010.0..20_020.0).contains(&round), "{round}");
        for (latitude, longitude) in [(90.1, 0.0), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert_eq!(Position::new(latitude, longitude, None), None);
        }
        for (given, kept) in [(None, Position::RADIUS_UNKNOWN_KM), (Some(0), 0), (Some(1), 10), (Some(9999), 2550)] {
            assert_eq!(Position::new(0.0, 0.0, given).unwrap().radius_km, kept);
        }
    }

    #[test]
    fn kinds_come_back_from_name_and_number() {
        let ranks: std::collections::BTreeSet<u8> = NetworkKind::ALL.into_iter().map(NetworkKind::rank).collect();
        assert_eq!(ranks.len(), NetworkKind::ALL.len(), "of two kinds one always says more");
        for (number, kind) in (0..).zip(NetworkKind::ALL) {
            assert_eq!((kind as u8, NetworkKind::from_number(number)), (number, kind));
            assert_eq!(NetworkKind::parse(kind.name()), Some(kind));
        }
        assert_eq!((NetworkKind::from_number(99), NetworkKind::parse("x")), (NetworkKind::Unknown, None));
    }

    #[test]
    fn unknown_parts_are_taken_from_the_next() {
        let first = Place { asn: Some(Asn(1)), ..Place::default() };
        let second = Place { asn: Some(Asn(2)), country: Country::parse("DE"), kind: NetworkKind::Vpn, position: None };
        assert_eq!(first.or(second), Place { asn: Some(Asn(1)), ..second });
    }
}
