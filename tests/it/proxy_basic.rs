//! The plain way of a request: in over HTTP/1.1, out over HTTP/1.1, and back.

use portcullis::proxy::{Fault, Location};

use crate::support::origin::{Act, Origin, ok};
use crate::support::running::{Recorder, Running, settings};

#[test]
fn a_request_reaches_the_app_and_its_answer_the_client() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    for round in 0..3 {
        wire.send("GET /a//b/../c?x=%2F&y HTTP/1.1\r\nHost: example.com\r\nX-Mine: 1\r\n\r\n");
        let reply = wire.reply();
        assert_eq!((reply.status, reply.text()), (200, "hello"));
        let seen = origin.wait(round + 1);
        assert_eq!(seen.request_line(), "GET /a//b/../c?x=%2F&y HTTP/1.1");
        assert_eq!(seen.header("host"), Some("example.com"));
        assert_eq!(seen.header("x-mine"), Some("1"));
    }
    assert_eq!(origin.connections(), 1, "the connection to the app is kept");
}

#[test]
fn bodies_go_both_ways_in_either_framing() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    origin.next(ok("one"));
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345");
    assert_eq!(wire.reply().text(), "one");
    assert_eq!(origin.wait(1).body, b"12345");

    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n";
    origin.next(Act::Reply(chunked.to_vec()));
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(wire.reply().text(), "two");
    let seen = origin.wait(2);
    assert_eq!(seen.body, b"abcde");
    assert_eq!(seen.all("content-length"), Vec::<&str>::new());
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_large_body_arrives_whole() {
    let origin = Origin::start();
    let text = "0123456789abcdef".repeat(256 << 10);
    origin.next(ok(&text));
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
    assert!(wire.reply().text() == text);
    assert!(origin.wait(1).body == text.as_bytes());
}

#[test]
fn an_app_that_is_not_there_is_a_quiet_502() {
    let origin = Origin::start();
    let mut settings = settings(&origin);
    // A port that was free a moment ago and that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    settings.upstream.locations = vec![Location::Tcp { host: free.ip().to_string(), port: free.port() }];
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings.clone(), recorder.clone());
    let reply = proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert_eq!(reply.status, 502);
    assert_eq!(reply.header("proxy-status"), Some("portcullis; error=connection_refused"));
    assert_eq!(recorder.all(), [Fault::AppUnreachable]);
    // A name that no resolver knows (RFC 6761).
    settings.upstream.locations = vec![Location::Tcp { host: "app.invalid".to_owned(), port: free.port() }];
    let lost = Running::start(settings).wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert_eq!((lost.status, lost.header("proxy-status")), (502, Some("portcullis; error=dns_error")));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert!(!reply.text().contains("127.0.0.1"));
}
