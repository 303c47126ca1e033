//! Databases of addresses: whatever a file holds, a lookup ends soon and says the same each time. The first line says where
//! the fields stand.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use portcullis::facts::geo::{Field, Fields, GeoDatabase};

/// Larger files cost time and find nothing new.
const BYTES_MAX: usize = 64 * 1024;

const FIELDS: [Field; 6] =
    [Field::Country, Field::Asn, Field::Latitude, Field::Longitude, Field::Radius, Field::Kind];

fuzz_target!(|input: &[u8]| {
    if input.len() > BYTES_MAX {
        return;
    }
    let cut = input.iter().position(|octet| *octet == b'\n').unwrap_or(0);
    let (line, bytes) = input.split_at(cut);
    let paths = str::from_utf8(line).unwrap_or_default().split(' ');
    let fields = FIELDS.into_iter().zip(paths).fold(Fields::default(), |all, (field, path)| match path.parse() {
        Ok(path) => all.with(field, path),
        Err(_) => all,
    });
    let bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
    let Ok(database) = GeoDatabase::named("x", bytes.to_vec(), fields) else { return };
    // Those in seeds, and the ends of the tree.
    for ip in ["192.0.2.1", "81.2.69.160", "0.0.0.0", "255.255.255.255", "::", "2001:218::1", "ffff::ffff"] {
        let ip: IpAddr = ip.parse().unwrap();
        let place = database.lookup(ip);
        assert_eq!(database.lookup(ip), place);
        if let Some(at) = place.position {
            assert!(at.latitude.abs() <= 9000 && at.longitude.abs() <= 18_000 && at.radius_km > 0);
        }
        drop(database.city(ip));
    }
    assert!(database.failed().all(|(_, times)| times <= 14));
});
