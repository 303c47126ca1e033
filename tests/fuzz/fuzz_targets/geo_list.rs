//! Lists of networks: any text is a list, or faults that each point at a place in it; and an address is of the kind that its
//! lists say.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use portcullis::facts::geo::{NetworkKind, Place};
use portcullis::facts::networks::{BuiltIn, ListFormat, NetworkList, Networks};
use portcullis::net::{Asn, IpPrefix};

const ENTRIES_MAX: usize = 100;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    for format in [ListFormat::Auto, ListFormat::Plain, ListFormat::Csv, ListFormat::Asn] {
        let read = |kind| NetworkList::parse(text, kind, format, ENTRIES_MAX);
        let list = match read(NetworkKind::Relay) {
            Ok(list) => list,
            Err(faults) => {
                assert!(!faults.told.is_empty() && faults.told.len() <= 20);
                for (place, fault) in faults.told {
                    assert!(text.get(place).is_some(), "{fault}");
                }
                continue;
            }
        };
        assert!(list.len() <= ENTRIES_MAX);
        let networks = Networks::new([list, read(NetworkKind::Hosting).unwrap()], BuiltIn::Off);
        // What stands on a line by itself is in the list, and the stronger of two kinds counts.
        for line in text.lines().filter(|_| matches!(format, ListFormat::Plain)) {
            let place = |ip: IpAddr, asn| networks.refine(ip, Place { asn, ..Place::default() });
            if let Ok(prefix) = line.parse::<IpPrefix>() {
                assert_eq!(place(prefix.address(), None).kind, NetworkKind::Relay, "{line}");
            }
            if let Ok(asn) = line.parse::<Asn>()
                && line.len() > 2
            {
                assert_eq!(place(IpAddr::from([0, 0, 0, 0]), Some(asn)).kind, NetworkKind::Relay, "{line}");
            }
        }
    }
});
