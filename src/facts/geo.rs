//! Country and network of an address, from MaxMind DB files.
//!
//! Files come from many makers with different fields, and some are broken. Whatever a file does, the answer is a
//! [`Place`] with the rest *unknown*, and unknown never counts as a change.

use std::fmt;

use crate::net::Asn;

#[cfg(feature = "geo")]
pub use database::{GeoDatabase, GeoError};

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

#[cfg(feature = "geo")]
mod database {
    use std::fmt;
    use std::net::IpAddr;

    use maxminddb::Reader;
    use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

    use super::{Country, NetworkKind, Place};
    use crate::net::Asn;

    /// A file that is not a usable MaxMind DB.
    #[derive(Debug, thiserror::Error)]
    #[error("not a MaxMind DB file")]
    pub struct GeoError(#[from] maxminddb::MaxMindDbError);

    /// Open databases in order: what one does not know, the next may.
    #[derive(Default)]
    pub struct GeoDatabase {
        readers: Vec<Reader<Vec<u8>>>,
    }

    impl GeoDatabase {
        /// One database, from the bytes of its file.
        ///
        /// # Errors
        /// When they are not a MaxMind DB.
        pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GeoError> {
            Ok(Self { readers: vec![Reader::from_source(bytes)?] })
        }

        /// These databases, and after them the `other` ones.
        #[must_use]
        pub fn and(mut self, other: Self) -> Self {
            self.readers.extend(other.readers);
            self
        }

        /// What the databases say of an address. An IPv6 address that wraps an IPv4 one is looked up as the latter.
        ///
        /// Takes half a microsecond with two databases: ask once for a connection, not for each request.
        pub fn lookup(&self, ip: IpAddr) -> Place {
            let ip = ip.to_canonical();
            self.readers.iter().fold(Place::default(), |place, reader| {
                // An error is a broken record or an IPv6 address in a database without any.
                let row = reader.lookup(ip).and_then(|found| found.decode::<Row>()).ok().flatten();
                row.map_or(place, |row| place.or(row.0))
            })
        }

        /// The English name of the city of an address. What a file has there and is no name is none.
        pub fn city(&self, ip: IpAddr) -> Option<Box<str>> {
            /// Longer than the name of any city.
            const NAME_BYTES_MAX: usize = 200;
            let ip = ip.to_canonical();
            let path = maxminddb::path!["city", "names", "en"];
            self.readers.iter().find_map(|reader| {
                let name = reader.lookup(ip).ok()?.decode_path::<&str>(&path).ok().flatten()?;
                (name.len() <= NAME_BYTES_MAX).then(|| name.into())
            })
        }

        /// What each database calls itself, and when it was built (seconds since 1970).
        pub fn names(&self) -> impl Iterator<Item = (&str, u64)> {
            self.readers.iter().map(|reader| {
                let metadata = reader.metadata();
                (metadata.database_type.as_str(), metadata.build_epoch)
            })
        }
    }

    impl fmt::Debug for GeoDatabase {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_list().entries(self.names().map(|(name, _)| name)).finish()
        }
    }

    /// The fields of a record that we understand, in the spellings of MaxMind, DB-IP, IPinfo and `ip-location-db`. A field of
    /// another type than expected is as if it were not there.
    struct Row(Place);

    impl<'de> Deserialize<'de> for Row {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(RowVisitor)
        }
    }

    struct RowVisitor;

    impl<'de> Visitor<'de> for RowVisitor {
        type Value = Row;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a record")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
            let mut place = Place::default();
            while let Some(key) = map.next_key::<&str>()? {
                match key {
                    "country" | "country_code" => {
                        place.country = place.country.or(map.next_value::<Value>()?.country())
                    }
                    "autonomous_system_number" | "asn" | "as_number" => {
                        place.asn = place.asn.or(map.next_value::<Value>()?.asn())
                    }
                    "is_tor_exit_node" => flag(&mut place, &map.next_value()?, NetworkKind::Tor),
                    "is_anonymous_vpn" | "is_public_proxy" | "is_residential_proxy" => {
                        flag(&mut place, &map.next_value()?, NetworkKind::Vpn);
                    }
                    "is_hosting_provider" => flag(&mut place, &map.next_value()?, NetworkKind::Hosting),
                    _ => {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
            }
            Ok(Row(place))
        }
    }

    /// Several flags may be set: Tor says more than VPN, and VPN more than hosting.
    fn flag(place: &mut Place, value: &Value<'_>, kind: NetworkKind) {
        let rank = |kind| match kind {
            NetworkKind::Tor => 3,
            NetworkKind::Vpn => 2,
            NetworkKind::Hosting => 1,
            _ => 0,
        };
        if matches!(value, Value::True) && rank(kind) > rank(place.kind) {
            place.kind = kind;
        }
    }

    /// A value of any type, as far as it can be one of ours.
    enum Value<'de> {
        Text(&'de str),
        Number(u32),
        True,
        Useless,
    }

    impl Value<'_> {
        fn country(&self) -> Option<Country> {
            match self {
                Value::Text(code) => Country::parse(code),
                _ => None,
            }
        }

        fn asn(&self) -> Option<Asn> {
            let number = match self {
                Value::Number(number) => Asn(*number),
                Value::Text(text) => text.parse().ok()?,
                _ => return None,
            };
            // Several makers write 0 for "none".
            (number != Asn(0)).then_some(number)
        }
    }

    impl<'de> Deserialize<'de> for Value<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(ValueVisitor)
        }
    }

    struct ValueVisitor;

    impl<'de> Visitor<'de> for ValueVisitor {
        type Value = Value<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value<'de>, E> {
            Ok(if value { Value::True } else { Value::Useless })
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value<'de>, E> {
            Ok(u32::try_from(value).map_or(Value::Useless, Value::Number))
        }

        fn visit_u32<E: de::Error>(self, value: u32) -> Result<Value<'de>, E> {
            Ok(Value::Number(value))
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value<'de>, E> {
            Ok(u32::try_from(value).map_or(Value::Useless, Value::Number))
        }

        fn visit_u128<E: de::Error>(self, _: u128) -> Result<Value<'de>, E> {
            Ok(Value::Useless)
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value<'de>, E> {
            Ok(Value::Useless)
        }

        fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Value<'de>, E> {
            Ok(Value::Useless)
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<Value<'de>, E> {
            Ok(Value::Useless)
        }

        fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Value<'de>, E> {
            Ok(Value::Text(text))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Value::Useless)
        }

        /// MaxMind's own `country` is a map with the letters in `iso_code`.
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
            let mut code = Value::Useless;
            while let Some(key) = map.next_key::<&str>()? {
                if key == "iso_code" {
                    // Read as plain text, so that maps inside maps can not make this recurse.
                    code = Value::Text(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(code)
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

#[cfg(test)]
#[cfg(feature = "geo")]
mod database_tests {
    use super::*;
    use std::net::IpAddr;
    use std::path::PathBuf;

    #[test]
    fn bytes_that_are_no_database_are_an_error() {
        for bytes in [&b""[..], b"\xab\xcd\xefMaxMind.com", &[0; 4096], b"\xab\xcd\xefMaxMind.com\xe9\xff\xff\xff\xff"]
        {
            assert!(GeoDatabase::from_bytes(bytes.to_vec()).is_err());
        }
        assert_eq!(GeoDatabase::default().lookup(IpAddr::from([192, 0, 2, 1])), Place::default());
    }

    /// The test databases beside the checkout, or nothing with a note.
    fn files() -> Vec<(PathBuf, Vec<u8>)> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/mmdb");
        let Ok(entries) = std::fs::read_dir(&folder) else {
            println!("skipped: {} is not there", folder.display());
            return Vec::new();
        };
        let paths =
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "mmdb"));
        let mut files: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        files.sort();
        files
    }

    fn open(name: &str) -> Option<GeoDatabase> {
        let (_, bytes) = files().into_iter().find(|(path, _)| path.ends_with(name))?;
        Some(GeoDatabase::from_bytes(bytes).unwrap())
    }

    const ADDRESSES: [&str; 12] = [
        "81.2.69.160",
        "89.160.20.128",
        "1.128.0.1",
        "12.81.92.1",
        "1.124.213.1",
        "65.0.0.1",
        "::",
        "2001:218::1",
        "2a02:cf40::1",
        "::ffff:81.2.69.160",
        "255.255.255.255",
        "0.0.0.0",
    ];

    fn ask_everything(database: &GeoDatabase) -> usize {
        let found = ADDRESSES.iter().map(|ip| database.lookup(ip.parse().unwrap()));
        found.filter(|place| *place != Place::default()).count()
    }

    #[test]
    fn reads_countries_networks_and_their_use() {
        let (Some(city), Some(asn), Some(anonymous)) =
            (open("GeoIP2-City-Test.mmdb"), open("GeoLite2-ASN-Test.mmdb"), open("GeoIP2-Anonymous-IP-Test.mmdb"))
        else {
            return;
        };
        let all = city.and(asn).and(anonymous);
        let check = |ip: &str, country: Option<&str>, asn: Option<u32>, kind| {
            let expected = Place { country: country.and_then(Country::parse), asn: asn.map(Asn), kind, position: None };
            assert_eq!(all.lookup(ip.parse().unwrap()), expected, "{ip}");
        };
        // This one is flagged as everything there is: the most telling flag wins.
        check("81.2.69.160", Some("GB"), None, NetworkKind::Tor);
        check("1.2.0.1", None, None, NetworkKind::Vpn);
        check("::ffff:89.160.20.128", Some("SE"), Some(29518), NetworkKind::Unknown);
        check("1.128.0.1", None, Some(1221), NetworkKind::Unknown);
        check("65.0.0.1", None, None, NetworkKind::Tor);
        check("192.0.2.1", None, None, NetworkKind::Unknown);
        assert_eq!(all.names().count(), 3);
    }

    #[test]
    fn broken_databases_answer_unknown() {
        for (path, bytes) in files() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match GeoDatabase::from_bytes(bytes) {
                Ok(database) if name.contains("-test-broken-") => assert_eq!(ask_everything(&database), 0, "{name}"),
                Ok(database) => {
                    ask_everything(&database);
                }
                // Only those made to be broken may be refused.
                Err(error) => assert!(name.contains("roken") || name.contains("Invalid"), "{name}: {error:?}"),
            }
        }
    }

    #[test]
    fn changed_bytes_never_panic() {
        use crate::entropy::{InsecureSeededEntropy, random};
        let entropy = InsecureSeededEntropy::new(11);
        for (_, bytes) in files().into_iter().filter(|(_, bytes)| bytes.len() < 6000) {
            for _ in 0..200 {
                let mut changed = bytes.clone();
                for _ in 0..4 {
                    let [a, b, value, many] = random::<4>(&entropy).unwrap();
                    let at = usize::from(u16::from_be_bytes([a, b])) % changed.len();
                    changed[at] = value;
                    if many < 8 {
                        changed.truncate(at);
                        break;
                    }
                }
                if let Ok(database) = GeoDatabase::from_bytes(changed) {
                    ask_everything(&database);
                }
            }
        }
    }
}
