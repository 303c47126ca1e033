//! Hardening rules 1, 2 and 15: nothing ambiguous reaches the app, and what is refused is refused quietly.

use portcullis::proxy::Fault;

use crate::support::origin::Origin;
use crate::support::running::{Recorder, Running, settings};

/// Sends octets that must be answered with `status` by us, at once and for good, without a word at the app.
fn refused(octets: &str, status: u16, fault: Fault) {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings(&origin), recorder.clone());
    let mut wire = proxy.wire();
    let reply = wire.send(octets).reply();
    assert_eq!(reply.status, status, "{octets:?}");
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.text(), "");
    wire.expect_closed();
    recorder.wait(fault);
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[test]
fn h01_framing_is_never_relayed() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    let te = Fault::TransferEncoding;
    refused(&format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400, te);
    refused(&format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), 400, te);
    refused(&format!("{post}Transfer-Encoding: gzip\r\n\r\n"), 400, te);
    refused(&format!("{post}Transfer-Encoding: xchunked\r\n\r\n"), 400, te);
    refused(&format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n"), 501, Fault::UnsupportedCoding);
    refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400, te);
    refused(&format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345"), 400, Fault::ContentLength);
    refused(&format!("{post}Content-Length: +5\r\n\r\n12345"), 400, Fault::ContentLength);
}

#[test]
fn h01_framing_is_made_anew() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\nabc");
    assert_eq!(wire.reply().status, 200);
    assert_eq!(origin.wait(1).all("content-length"), ["3"]);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\n\r\n");
    assert_eq!(wire.reply().status, 200);
    let seen = origin.wait(2);
    assert_eq!((seen.all("transfer-encoding"), seen.body.as_slice()), (vec!["chunked"], b"abc".as_slice()));
}

#[test]
fn h02_octets_are_strict() {
    let line = Fault::HeaderLine;
    refused("GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", 400, line);
    refused("GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", 400, line);
    refused("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, line);
    refused("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400, line);
    refused("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, line);
    refused("GET / HTTP/1.1\r\nHost: a\r\n\n", 400, line);
    refused("GET / HTTP/1.1\nHost: a\n\n", 400, Fault::RequestLine);
    refused("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400, Fault::RequestLine);
    refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400, Fault::RequestLine);
}

#[test]
fn h02_a_broken_chunk_leaves_the_app_with_a_broken_request() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings(&origin), recorder.clone());
    for body in ["5\r\n12345\n0\r\n\r\n", "5\n12345\r\n0\r\n\r\n", "0x5\r\n12345\r\n0\r\n\r\n", "0\r\n\n"] {
        let mut wire = proxy.wire();
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        wire.send(body);
        assert_eq!(wire.reply().status, 400, "{body:?}");
        wire.expect_closed();
    }
    recorder.wait(Fault::Chunk);
    assert!(origin.seen().iter().all(|seen| !seen.whole), "{:?}", origin.seen());
}

#[test]
fn h02_a_good_request_before_a_bad_one_is_answered() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    wire.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\nGET /bad HTTP/1.1\r\nHost : a\r\n\r\n");
    assert_eq!(wire.reply().text(), "hello");
    assert_eq!(wire.reply().status, 400);
    wire.expect_closed();
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn h15_sizes_are_limited() {
    let long = "a".repeat(9 << 10);
    refused(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414, Fault::UriTooLong);
    let many = "X-A: b\r\n".repeat(100);
    refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431, Fault::HeadersTooLarge);
    let line = format!("X-A: {long}\r\n").repeat(4);
    refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n"), 431, Fault::HeadersTooLarge);
}

#[test]
fn what_is_just_within_the_limits_passes() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let many = "X-A: b\r\n".repeat(95);
    let line = format!("X-B: {}\r\n", "a".repeat(7 << 10)).repeat(4);
    let path = "a".repeat(8000 - 4);
    for request in [
        format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n"),
        format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        assert_eq!(proxy.wire().send(request).reply().status, 200);
    }
}
