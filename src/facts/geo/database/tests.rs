//! Good databases, odd ones and broken ones.

use super::*;
use crate::facts::geo::Position;
use std::path::PathBuf;

#[test]
fn bytes_that_are_no_database_are_an_error() {
    for bytes in [&b""[..], b"\xab\xcd\xefMaxMind.com", &[0; 4096], b"\xab\xcd\xefMaxMind.com\xe9\xff\xff\xff\xff"] {
        assert!(GeoDatabase::from_bytes(bytes.to_vec()).is_err());
    }
    assert_eq!(GeoDatabase::default().lookup(IpAddr::from([192, 0, 2, 1])), Place::default());
}

/// A value as a database holds it.
enum Wire {
    Text(&'static str),
    Double(f64),
    Float(f32),
    Unsigned(u128),
    /// An unsigned number of this type.
    Typed(u8, u8),
    Signed(i32),
    Bool(bool),
    Bytes(&'static [u8]),
    List(Vec<Self>),
    Map(Vec<(&'static str, Self)>),
}

fn head(kind: u8, size: usize) -> Vec<u8> {
    let size = u8::try_from(size).ok().filter(|size| *size < 29).unwrap();
    if kind < 8 { vec![kind << 5 | size] } else { vec![size, kind - 7] }
}

impl Wire {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => [head(2, text.len()), text.as_bytes().to_vec()].concat(),
            Self::Double(number) => [head(3, 8), number.to_be_bytes().to_vec()].concat(),
            Self::Float(number) => [head(15, 4), number.to_be_bytes().to_vec()].concat(),
            // The narrowest type that holds it.
            Self::Unsigned(number) => {
                let bytes: Vec<u8> = number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
                let kind = match bytes.len() {
                    0..=2 => 5,
                    3..=4 => 6,
                    5..=8 => 9,
                    _ => 10,
                };
                [head(kind, bytes.len()), bytes].concat()
            }
            Self::Typed(kind, number) => [head(*kind, 1), vec![*number]].concat(),
            Self::Signed(number) => [head(8, 4), number.to_be_bytes().to_vec()].concat(),
            Self::Bool(is_set) => head(14, usize::from(*is_set)),
            Self::Bytes(bytes) => [head(4, bytes.len()), bytes.to_vec()].concat(),
            Self::List(entries) => std::iter::once(head(11, entries.len()))
                .chain(entries.iter().map(Self::bytes))
                .collect::<Vec<_>>()
                .concat(),
            Self::Map(entries) => {
                let each = entries.iter().flat_map(|(name, value)| [Self::Text(name).bytes(), value.bytes()]);
                std::iter::once(head(7, entries.len())).chain(each).collect::<Vec<_>>().concat()
            }
        }
    }
}

/// A database that has this record for every address.
fn database(record: &[u8]) -> Vec<u8> {
    // One node, of which both sides lead to it.
    let tree = [[0, 0, 17].repeat(2), vec![0; 16]].concat();
    let metadata = Wire::Map(vec![
        ("binary_format_major_version", Wire::Unsigned(2)),
        ("binary_format_minor_version", Wire::Unsigned(0)),
        ("build_epoch", Wire::Typed(9, 1)),
        ("database_type", Wire::Text("Test")),
        ("description", Wire::Map(Vec::new())),
        ("ip_version", Wire::Unsigned(4)),
        ("languages", Wire::List(Vec::new())),
        ("node_count", Wire::Typed(6, 1)),
        ("record_size", Wire::Unsigned(24)),
    ]);
    [tree, record.to_vec(), b"\xab\xcd\xefMaxMind.com".to_vec(), metadata.bytes()].concat()
}

const SOMEBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// What a database says that has this record, with these paths for some fields.
fn read(record: Vec<(&'static str, Wire)>, fields: &[(Field, &str)]) -> Place {
    let fields = fields.iter().fold(Fields::default(), |all, (field, path)| all.with(*field, path.parse().unwrap()));
    let database = GeoDatabase::named("x", database(&Wire::Map(record).bytes()), fields).unwrap();
    let place = database.lookup(SOMEBODY);
    assert!(database.failed().all(|(_, times)| times == 0));
    place
}

fn at(latitude: f64, longitude: f64, radius_km: u16) -> Option<Position> {
    Some(Position::new(latitude, longitude, Some(radius_km)).unwrap())
}

#[test]
fn a_number_may_be_of_any_type() {
    let numbers = |latitude, longitude, radius, asn| {
        read(vec![("latitude", latitude), ("longitude", longitude), ("accuracy_radius", radius), ("asn", asn)], &[])
    };
    let expected = Place { asn: Some(Asn(64_500)), position: at(52.0, -13.0, 20), ..Place::default() };
    let doubles = || (Wire::Double(52.0), Wire::Double(-13.0));
    let (north, east) = doubles();
    assert_eq!(numbers(north, east, Wire::Unsigned(20), Wire::Unsigned(64_500)), expected);
    assert_eq!(numbers(Wire::Float(52.0), Wire::Float(-13.0), Wire::Float(19.5), Wire::Double(64_500.0)), expected);
    assert_eq!(numbers(Wire::Signed(52), Wire::Signed(-13), Wire::Signed(20), Wire::Signed(64_500)), expected);
    assert_eq!(numbers(Wire::Text("52.00"), Wire::Text("-13"), Wire::Text("20"), Wire::Text("AS64500")), expected);
    let (north, east) = doubles();
    let large = Wire::Unsigned(u128::from(u32::MAX));
    assert_eq!(numbers(north, east, large, Wire::Text("64500")).position, at(52.0, -13.0, u16::MAX));
    for odd in [
        Wire::Bytes(b"52"),
        Wire::Bool(true),
        Wire::Unsigned(u128::MAX),
        Wire::Unsigned(1 << 40),
        Wire::Signed(-1),
        Wire::Double(f64::NAN),
        Wire::Float(f32::INFINITY),
        Wire::Text("inf"),
        Wire::Text("1e3"),
        Wire::Text(""),
        Wire::List(vec![Wire::Unsigned(5)]),
        Wire::Map(vec![("latitude", Wire::Unsigned(5))]),
    ] {
        let place = read(vec![("asn", odd), ("lat", Wire::Unsigned(1)), ("lon", Wire::Unsigned(1))], &[]);
        assert_eq!((place.asn, place.position), (None, Position::new(1.0, 1.0, None)));
    }
}

#[test]
fn a_position_is_two_numbers_on_earth() {
    let position = |record| read(record, &[]).position;
    assert_eq!(position(vec![("lat", Wire::Double(1.0))]), None);
    assert_eq!(position(vec![("lat", Wire::Double(91.0)), ("lng", Wire::Double(1.0))]), None);
    assert_eq!(position(vec![("lat", Wire::Double(0.0)), ("lng", Wire::Double(0.0))]), None, "the sea is nowhere");
    let radius =
        |radius| position(vec![("lat", Wire::Double(1.0)), ("lng", Wire::Double(2.0)), ("accuracy_radius", radius)]);
    let unknown = Position::new(1.0, 2.0, None);
    assert_eq!([radius(Wire::Unsigned(0)), radius(Wire::Signed(-5)), radius(Wire::Text("far"))], [unknown; 3]);
    let inner = Wire::Map(vec![("latitude", Wire::Double(1.0)), ("longitude", Wire::Double(2.0))]);
    assert_eq!(position(vec![("location", inner)]), unknown);
    assert_eq!(position(vec![("location", Wire::Text("Berlin")), ("loc", Wire::List(Vec::new()))]), None);
}

#[test]
fn a_field_stands_where_it_is_said_to_and_nowhere_else() {
    let record = || {
        let number = Wire::List(vec![Wire::Map(vec![("number", Wire::Unsigned(64_501))])]);
        vec![
            ("asn", Wire::Unsigned(64_500)),
            ("as", number),
            ("country", Wire::Map(vec![("code", Wire::Text("se")), ("iso_code", Wire::Text("NO"))])),
            ("loc", Wire::Map(vec![("lat", Wire::Float(1.5)), ("lon", Wire::Text("2.5")), ("r", Wire::Unsigned(7))])),
            ("use", Wire::Text("Cellular")),
            ("is_anonymous_vpn", Wire::Bool(true)),
        ]
    };
    let own = [
        (Field::Country, "country.code"),
        (Field::Asn, "as.0.number"),
        (Field::Latitude, "loc.lat"),
        (Field::Longitude, "loc.lon"),
        (Field::Radius, "loc.r"),
        (Field::Kind, "use"),
    ];
    let expected = Place {
        country: Country::parse("SE"),
        asn: Some(Asn(64_501)),
        kind: NetworkKind::Mobile,
        position: at(1.5, 2.5, 7),
    };
    assert_eq!(read(record(), &own), expected);
    // One field alone: the others stay where they are.
    let vpn = Place { country: Country::parse("NO"), asn: Some(Asn(64_501)), kind: NetworkKind::Vpn, position: None };
    assert_eq!(read(record(), &[(Field::Asn, "as.0.number")]), vpn);
    for nowhere in ["as.1.number", "as.number", "asn.0", "as.0.number.x", "gone"] {
        assert_eq!(read(record(), &[(Field::Asn, nowhere)]).asn, None, "{nowhere}");
    }
}

#[test]
fn what_a_network_is_used_for_comes_from_flags_and_words() {
    let kind = |record| read(record, &[]).kind;
    let traits = |record| kind(vec![("traits", Wire::Map(record))]);
    assert_eq!(kind(vec![("connection_type", Wire::Text("Cellular"))]), NetworkKind::Mobile);
    let both = vec![("connection_type", Wire::Text("Cable/DSL")), ("user_type", Wire::Text("business"))];
    assert_eq!(traits(both), NetworkKind::Corporate);
    let server = vec![("user_type", Wire::Text("hosting")), ("connection_type", Wire::Text("Corporate"))];
    assert_eq!(traits(server), NetworkKind::Hosting);
    assert_eq!(kind(vec![("vpn", Wire::Text("true")), ("hosting", Wire::Bool(true))]), NetworkKind::Vpn);
    assert_eq!(kind(vec![("tor", Wire::Bool(true)), ("relay", Wire::Bool(true))]), NetworkKind::Tor);
    assert_eq!(kind(vec![("vpn", Wire::Bool(false)), ("tor", Wire::Text(""))]), NetworkKind::Unknown);
}

/// A map with one name again and again, each time with a pointer to the same map, and so on: 65,536 values that cost nothing
/// in the file and lead to as many large ones.
#[test]
fn a_record_that_leads_round_in_circles_is_read_once() {
    let large =
        [head(7, 1), Wire::Text("x").bytes(), vec![0x5f, 0x00, 0x7f, 0xff], vec![b'a'; 65_821 + 32_767]].concat();
    let mut record = vec![0xfe, 0x0f, 0xff];
    for _ in 0..(285 + 0x0fff) {
        record.extend([Wire::Text("traits").bytes(), vec![0x38, 0, 1, 0, 0]].concat());
    }
    record.resize(0x1_0000, 0);
    record.extend(large);
    let database = GeoDatabase::from_bytes(database(&record)).unwrap();
    for _ in 0..200 {
        assert_eq!(database.lookup(SOMEBODY), Place::default());
    }
    // A map that is its own first value.
    let own = [head(7, 1), Wire::Text("traits").bytes(), vec![0x20, 0]].concat();
    assert_eq!(GeoDatabase::from_bytes(self::database(&own)).unwrap().lookup(SOMEBODY), Place::default());
}

/// It answered "unknown" and nobody was told: rules on countries just stopped to match.
#[test]
fn a_database_that_fails_is_told_once() {
    use std::sync::mpsc::channel;
    let (tell, told) = channel();
    let broken = GeoDatabase::named("broken.mmdb", database(&[0x5f, 0xff]), Fields::default()).unwrap();
    let good = database(&Wire::Map(vec![("country", Wire::Text("DE"))]).bytes());
    let all = broken.and(GeoDatabase::named("good.mmdb", good, Fields::default()).unwrap());
    let all = all.telling(move |name, why| tell.send((name.to_owned(), why.to_string())).unwrap());
    for _ in 0..5 {
        assert_eq!(all.lookup(SOMEBODY).country, Country::parse("DE"), "the next database is asked all the same");
    }
    // No record, and no records of IPv6: that is no failure.
    assert_eq!(all.lookup("2001:db8::1".parse().unwrap()), Place::default());
    assert_eq!(all.failed().collect::<Vec<_>>(), [("broken.mmdb", 5), ("good.mmdb", 0)]);
    let told: Vec<_> = told.try_iter().collect();
    assert!(matches!(&told[..], [(name, why)] if name == "broken.mmdb" && !why.is_empty()), "{told:?}");
}

/// The test databases beside the checkout or beside the folder it lies in, or nothing with a note.
fn files() -> Vec<(PathBuf, Vec<u8>)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["..", "../.."].map(|up| root.join(up).join("shared/data/mmdb"));
    let Some(entries) = folders.iter().find_map(|folder| std::fs::read_dir(folder).ok()) else {
        println!("skipped: {} is not there", folders[0].display());
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "mmdb"));
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
fn reads_countries_networks_positions_and_their_use() {
    let (Some(city), Some(asn), Some(anonymous)) =
        (open("GeoIP2-City-Test.mmdb"), open("GeoLite2-ASN-Test.mmdb"), open("GeoIP2-Anonymous-IP-Test.mmdb"))
    else {
        return;
    };
    let all = city.and(asn).and(anonymous);
    let check = |ip: &str, country: Option<&str>, asn: Option<u32>, kind, position| {
        let expected = Place { country: country.and_then(Country::parse), asn: asn.map(Asn), kind, position };
        assert_eq!(all.lookup(ip.parse().unwrap()), expected, "{ip}");
    };
    // This one is flagged as everything there is: the most telling flag wins.
    check("81.2.69.160", Some("GB"), None, NetworkKind::Tor, at(51.5142, -0.0931, 100));
    check("1.2.0.1", None, None, NetworkKind::Vpn, None);
    check("::ffff:89.160.20.128", Some("SE"), Some(29518), NetworkKind::Unknown, at(58.4167, 15.6167, 76));
    check("1.128.0.1", None, Some(1221), NetworkKind::Unknown, None);
    check("65.0.0.1", None, None, NetworkKind::Tor, None);
    check("192.0.2.1", None, None, NetworkKind::Unknown, None);
    assert_eq!(all.names().count(), 3);
    assert_eq!(all.city("89.160.20.128".parse().unwrap()).as_deref(), Some("Link\u{f6}ping"));
}

#[test]
fn reads_what_the_other_databases_of_maxmind_say_of_networks() {
    let check = |name: &str, cases: &[(&str, NetworkKind)]| {
        let Some(database) = open(name) else { return };
        for (ip, kind) in cases {
            assert_eq!(database.lookup(ip.parse().unwrap()).kind, *kind, "{name}: {ip}");
        }
        assert!(database.failed().all(|(_, times)| times == 0), "{name}");
    };
    use NetworkKind::{Corporate, Hosting, Mobile, Residential, Unknown, Vpn};
    check(
        "GeoIP2-Connection-Type-Test.mmdb",
        &[("1.0.0.1", Residential), ("80.214.0.1", Mobile), ("201.243.200.1", Corporate)],
    );
    check("GeoIP-Anonymous-Plus-Test.mmdb", &[("1.2.0.1", Vpn), ("9.9.9.9", Unknown)]);
    check(
        "GeoIP2-Enterprise-Test.mmdb",
        &[
            ("74.209.24.0", Residential),
            ("214.214.214.222", Corporate),
            ("214.214.214.220", Hosting),
            ("1.124.213.1", Mobile),
        ],
    );
    // Its records hold no flags: that there is one says it, if its maker is sure enough.
    check(
        "GeoIP-Residential-Proxy-Test.mmdb",
        &[("1.2.0.4", Vpn), ("2001:480:725b:17e::1", Vpn), ("21.4.181.221", Unknown), ("9.9.9.9", Unknown)],
    );
    let Some(enterprise) = open("GeoIP2-Enterprise-Test.mmdb") else { return };
    let place = enterprise.lookup("74.209.24.0".parse().unwrap());
    assert_eq!((place.asn, place.position), (Some(Asn(14671)), at(42.3478, -73.5549, 27)));
}

#[test]
fn broken_databases_answer_unknown() {
    for (path, bytes) in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match GeoDatabase::from_bytes(bytes) {
            Ok(database) if name.contains("-test-broken-") => assert_eq!(ask_everything(&database), 0, "{name}"),
            Ok(database) => {
                let known = ask_everything(&database);
                let failed: u64 = database.failed().map(|(_, times)| times).sum();
                let is_broken = name.contains("roken") || name.contains("Invalid");
                assert!(failed == 0 || is_broken, "{name}: {failed} lookups failed");
                println!("{name}: {known} known, {failed} failed");
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
