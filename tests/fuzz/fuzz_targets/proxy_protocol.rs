//! The PROXY header: octets that come later never change an answer, and a header is used to its last octet and no further.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::connection::proxy_protocol::{Parsed, V2_BYTES_MAX, parse};
use portcullis::net::canonical;

/// Prefixes that are tried one by one; beyond them it goes on in larger steps.
const SINGLY: usize = 300;

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    let mut known = None;
    let steps = (0..input.len().min(SINGLY)).chain((SINGLY..input.len()).step_by(97)).chain([input.len()]);
    for cut in steps {
        let answer = parse(&input[..cut]);
        match known {
            Some(known) => assert_eq!(answer, known, "at {cut}"),
            None if answer != Ok(Parsed::Incomplete) => known = Some(answer),
            None => assert!(cut < V2_BYTES_MAX, "no header is awaited beyond its limit"),
        }
    }
    assert_eq!(known.unwrap_or(Ok(Parsed::Incomplete)), whole);
    if let Ok(Parsed::Complete { used, endpoints }) = whole {
        assert!(used <= input.len() && used <= V2_BYTES_MAX);
        assert_eq!(parse(&input[..used]), whole);
        assert_eq!(parse(&input[..used - 1]), Ok(Parsed::Incomplete));
        for end in endpoints.iter().flat_map(|ends| [ends.source.ip(), ends.destination.ip()]) {
            assert_eq!(end, canonical(end));
        }
    }
});
