//! What it costs to know where an address is: a database with country, operator and position, a list of 50,000 networks, and
//! what a connection remembers.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use portcullis::clock::{Clock, ManualClock, Timestamp};
use portcullis::engine::{Guard, Places};
use portcullis::facts::geo::{GeoDatabase, NetworkKind, Place};
use portcullis::facts::networks::{BuiltIn, ListFormat, NetworkList, Networks};
use portcullis::store::memory::MemoryStore;

use super::support::guard;

/// Networks of the list.
const LISTED: u32 = 50_000;
/// Addresses that are asked for, in turn: more than the processor keeps at hand.
const ADDRESSES: usize = 1 << 16;
/// Rounds of all of them. The machine is shared: the best is what the code costs.
const ROUNDS: usize = 20;

pub(crate) fn places() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::EPOCH));
    let (guard, _writer) = guard(&clock, MemoryStore::new(NonZeroUsize::MIN));
    let addresses = addresses();
    let list = list();
    let begin = Instant::now();
    let networks = || NetworkList::parse(&list, NetworkKind::Hosting, ListFormat::Auto, 1_000_000).unwrap();
    let lists = Networks::new([networks()], BuiltIn::On);
    let took = begin.elapsed();
    println!("a list of {LISTED} networks is read and sorted in {:.1} ms", took.as_secs_f64() * 1000.0);
    let database = GeoDatabase::from_bytes(database()).unwrap();
    assert!(database.lookup(addresses[0]).position.is_some_and(|at| at.radius_km == 20));
    println!("| where an address is, ns | |\n|---|---|");
    let row = |what: &str, places: Places| {
        guard.replace_places(places);
        println!("| {what} | {:.0} |", time(&guard, &addresses));
    };
    row("nothing is known", Places::unknown());
    row("a list", Places::new(move |ip| lists.refine(ip, Place::default())));
    let lists = Networks::new([networks()], BuiltIn::On);
    let (first, both) = (GeoDatabase::from_bytes(self::database()).unwrap(), database);
    row("country, operator and position", Places::new(move |ip| first.lookup(ip)));
    row("that and the list", Places::new(move |ip| lists.refine(ip, both.lookup(ip))));
    println!("| the same connection again | {:.1} |\n", time_again(&guard, addresses[0]));
}

/// Nanoseconds for each address.
fn time(guard: &Guard<MemoryStore>, addresses: &[IpAddr]) -> f64 {
    best(addresses.len(), || {
        for ip in addresses {
            black_box(guard.locate(black_box(*ip), None));
        }
    })
}

/// Nanoseconds for each request after the first of a connection.
fn time_again(guard: &Guard<MemoryStore>, ip: IpAddr) -> f64 {
    let mut known = guard.locate(ip, None);
    best(ADDRESSES, || {
        for _ in 0..ADDRESSES {
            known = guard.locate(black_box(ip), black_box(Some(known)));
        }
    })
}

fn best(count: usize, mut round: impl FnMut()) -> f64 {
    let each = |_| {
        let begin = Instant::now();
        round();
        begin.elapsed().as_nanos() as f64 / count as f64
    };
    (0..ROUNDS).map(each).fold(f64::MAX, f64::min)
}

/// Addresses all over the world, the same at every run.
fn addresses() -> Vec<IpAddr> {
    let each = |at: usize| IpAddr::V4(Ipv4Addr::from_bits(scattered(u32::try_from(at).unwrap())));
    (0..ADDRESSES).map(each).collect()
}

fn scattered(at: u32) -> u32 {
    at.wrapping_mul(0x9e37_79b9) ^ at.wrapping_mul(0x85eb_ca6b).rotate_left(13)
}

fn list() -> String {
    let mut text = String::new();
    for at in 0..LISTED {
        writeln!(text, "{}/24", Ipv4Addr::from_bits(scattered(at) & 0xffff_ff00)).unwrap();
    }
    text
}

/// A database with a record for each /16, of a thousand different ones.
fn database() -> Vec<u8> {
    const DEPTH: u32 = 16;
    const RECORDS: u32 = 1000;
    let nodes = (1_u32 << DEPTH) - 1;
    let (mut data, mut offsets) = (Vec::new(), Vec::new());
    for at in 0..RECORDS {
        offsets.push(u32::try_from(data.len()).unwrap());
        data.extend(record(at));
    }
    let mut bytes = Vec::new();
    for node in 0..nodes {
        for child in [2 * node + 1, 2 * node + 2] {
            let leaf = child.checked_sub(nodes).map(|leaf| offsets[(leaf % RECORDS) as usize]);
            bytes.extend(leaf.map_or(child, |offset| nodes + 16 + offset).to_be_bytes());
        }
    }
    bytes.extend([0; 16]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com\xe9");
    for (name, value) in [
        ("binary_format_major_version", vec![0xa1, 2]),
        ("binary_format_minor_version", vec![0xa0]),
        ("build_epoch", vec![0x01, 0x02, 1]),
        ("database_type", text("Test")),
        ("description", vec![0xe0]),
        ("ip_version", vec![0xa1, 4]),
        ("languages", vec![0x00, 0x04]),
        ("node_count", [vec![0xc4], nodes.to_be_bytes().to_vec()].concat()),
        ("record_size", vec![0xa1, 32]),
    ] {
        bytes.extend([text(name), value].concat());
    }
    bytes
}

/// As MaxMind's have it, with names that nobody asks for.
fn record(at: u32) -> Vec<u8> {
    let double = |number: f64| [vec![0x68], number.to_be_bytes().to_vec()].concat();
    let map = |entries: &[(&str, Vec<u8>)]| {
        let each = entries.iter().flat_map(|(name, value)| [text(name), value.clone()]);
        std::iter::once(vec![0xe0 | u8::try_from(entries.len()).unwrap()]).chain(each).collect::<Vec<_>>().concat()
    };
    let names = map(&[("de", text("Musterstadt")), ("en", text("Sampletown")), ("fr", text("Exempleville"))]);
    let place = map(&[
        ("accuracy_radius", vec![0xa1, 20]),
        ("latitude", double(f64::from(at % 90) + 0.5)),
        ("longitude", double(f64::from(at % 180) + 0.5)),
        ("time_zone", text("Europe/Berlin")),
    ]);
    map(&[
        ("autonomous_system_number", [vec![0xc4], (64_500 + at).to_be_bytes().to_vec()].concat()),
        ("city", map(&[("names", names.clone())])),
        ("continent", map(&[("code", text("EU")), ("names", names.clone())])),
        ("country", map(&[("iso_code", text("DE")), ("names", names)])),
        ("location", place),
        ("postal", map(&[("code", text("10115"))])),
    ])
}

fn text(text: &str) -> Vec<u8> {
    [&[0x40 | u8::try_from(text.len()).ok().filter(|length| *length < 29).unwrap()], text.as_bytes()].concat()
}
