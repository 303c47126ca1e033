//! What a client says of itself: user agent, languages, client hints. Whatever it is, it is read the same way each time and
//! goes with itself.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portcullis::facts::geo::Place;
use portcullis::facts::order::HeaderOrder;
use portcullis::facts::seen::SeenHeaders;
use portcullis::facts::user_agent::{Family, UserAgent, UserAgentCache};
use portcullis::fingerprint::drift::drift;
use portcullis::fingerprint::{Fingerprint, Wire};

const NAMES: [&str; 9] = [
    "user-agent",
    "accept-language",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-ch-ua-platform-version",
    "sec-ch-ua-full-version-list",
    "sec-ch-ua-model",
    "sec-ch-ua-arch",
];

static CACHE: LazyLock<UserAgentCache> = LazyLock::new(|| UserAgentCache::new([7; 16]));

fuzz_target!(|input: &[u8]| {
    let agent = UserAgent::parse(input);
    assert_eq!(UserAgent::parse(input), agent);
    assert!(agent.is_same_program(&agent));
    assert_eq!(Family::from_number(agent.family.number()), agent.family);

    let mut headers = HeaderMap::new();
    for (name, value) in NAMES.iter().zip(input.split(|octet| *octet == b'\n')) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let observe = || {
        let seen = SeenHeaders::of(&headers);
        Fingerprint::observe(&seen, Wire { order: HeaderOrder::of(&headers), ..Wire::default() }, ip, Place::default(), &CACHE)
    };
    // The second time the user agent comes out of the cache.
    let (first, second) = (observe(), observe());
    assert_eq!(first, second);
    assert!(drift(&first, &second).is_none());
});
