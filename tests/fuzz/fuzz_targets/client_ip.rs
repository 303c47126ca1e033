//! `X-Forwarded-For` and `Forwarded`: nobody but a trusted proxy moves the address, and what a client writes to the left of
//! our proxy's own element moves nothing. Each line of the input is a header; a line of `Forwarded` is tried alone too.
#![no_main]

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portcullis::facts::client_ip::{
    Element, HOPS_MAX, Node, Source, UntrustedForwarding, forwarded_value, resolve, stated_host, stated_scheme,
    untrusted_forwarding,
};
use portcullis::net::{IpPrefix, PrefixSet, canonical};
use portcullis_fuzz::{headers, lines};

const XFF: &str = "x-forwarded-for";
const OURS: &str = "198.51.100.1";

fuzz_target!(|input: &[u8]| {
    let trusted: PrefixSet =
        ["10.0.0.0/8", "2001:db8::/32"].into_iter().map(|text| text.parse::<IpPrefix>().unwrap()).collect();
    let (proxy, stranger): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "203.0.113.9".parse().unwrap());
    let headers = headers(input);

    let outside = resolve(stranger, &headers, &trusted);
    assert_eq!((outside.ip, outside.source, outside.junk), (stranger, Source::Peer, None));
    assert_eq!((stated_host(stranger, &headers, &trusted), stated_scheme(stranger, &headers, &trusted)), (None, None));
    assert_eq!(untrusted_forwarding(proxy, &headers, &trusted), UntrustedForwarding::No);

    let found = resolve(proxy, &headers, &trusted);
    assert_eq!(found.ip, canonical(found.ip));
    assert!(found.source != Source::Peer || found.ip == proxy);
    stated_scheme(proxy, &headers, &trusted);
    stated_host(proxy, &headers, &trusted);
    let expected = leftmost_trusted_word(&headers, &trusted);
    match expected {
        Some(ip) => assert_eq!((found.ip, found.source), (ip, Source::XForwardedFor)),
        None => assert_ne!(found.source, Source::XForwardedFor),
    }

    for line in lines(input) {
        element(line);
        behind_our_proxy(line, proxy, &trusted);
    }
});

/// The walk once more, written apart: none if there is nothing to walk or junk on the way.
fn leftmost_trusted_word(headers: &HeaderMap, trusted: &PrefixSet) -> Option<IpAddr> {
    let all = headers.get_all(XFF).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    if all.is_empty() {
        return None;
    }
    let all = all.join(&b',');
    let mut words: Vec<&[u8]> = all.split(|octet| *octet == b',').collect();
    let mut ip = None;
    for _ in 0..HOPS_MAX {
        let Some(word) = words.pop() else { return ip };
        let read: IpAddr = canonical(str::from_utf8(word).ok()?.trim_matches([' ', '\t']).parse().ok()?);
        ip = Some(read);
        if !trusted.contains(read) {
            return ip;
        }
    }
    ip.filter(|_| words.is_empty())
}

/// What is read is written so that it is read again.
fn element(line: &[u8]) {
    let Ok(read) = Element::parse(line) else { return };
    let written = forwarded_value(&read);
    let node = Some(read.node.unwrap_or(Node::Unknown));
    assert_eq!(Element::parse(written.as_bytes()), Ok(Element { node, ..read }), "{written:?}");
}

fn behind_our_proxy(line: &[u8], proxy: IpAddr, trusted: &PrefixSet) {
    let ours: IpAddr = OURS.parse().unwrap();
    for (name, element) in [(XFF, OURS), ("forwarded", "for=198.51.100.1;host=\"a,b\"")] {
        let Ok(value) = HeaderValue::from_bytes(&[line, b",", element.as_bytes()].concat()) else { return };
        let headers: HeaderMap = [(http::HeaderName::from_static(name), value)].into_iter().collect();
        assert_eq!(resolve(proxy, &headers, trusted).ip, ours, "{name}");
    }
}
