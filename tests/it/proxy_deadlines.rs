//! Hardening rules 16 and 24: nothing waits for ever, and the end of a proxy is orderly.

use std::time::Duration;

use portcullis::proxy::Fault;
use tokio::time::Instant;

use crate::support::origin::{Act, Origin, ok};
use crate::support::running::{Recorder, Running, settings};

const SHORT: Duration = Duration::from_millis(150);

#[test]
fn h16_an_unfinished_head_is_408() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let mut settings = settings(&origin);
    settings.client.timeouts.header = SHORT;
    let proxy = Running::start_with(settings, recorder.clone());
    let mut wire = proxy.wire();
    assert_eq!(wire.send("GET / HTTP/1.1\r\nHost: ").reply().status, 408);
    wire.expect_closed();
    // Also when the head comes drop by drop, and behind an answered request.
    let mut wire = proxy.wire();
    assert_eq!(wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
    for octet in "GET / HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaa".chars() {
        wire.send(octet.to_string());
        std::thread::sleep(SHORT / 20);
    }
    assert_eq!(wire.reply().status, 408);
    recorder.wait(Fault::HeaderTimeout);
}

#[test]
fn h16_an_idle_connection_is_closed_without_a_word() {
    let origin = Origin::start();
    let mut settings = settings(&origin);
    settings.client.timeouts.idle = SHORT;
    let proxy = Running::start(settings);
    proxy.wire().expect_closed();
    let mut wire = proxy.wire();
    assert_eq!(wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
    wire.expect_closed();
}

#[test]
fn h16_a_silent_body_is_408() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let mut settings = settings(&origin);
    settings.client.timeouts.body = SHORT;
    let proxy = Running::start_with(settings, recorder.clone());
    let mut wire = proxy.wire();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    assert_eq!(wire.reply().status, 408);
    wire.expect_closed();
    recorder.wait(Fault::BodyTimeout);
    assert!(!origin.wait(1).whole);
}

#[test]
fn h16_a_body_that_trickles_is_408() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let mut settings = settings(&origin);
    settings.client.limits.body_rate_min = 1000;
    settings.client.limits.body_rate_grace = SHORT;
    let proxy = Running::start_with(settings, recorder.clone());
    let mut wire = proxy.wire();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    for _ in 0..40 {
        wire.send("x");
        std::thread::sleep(SHORT / 15);
    }
    assert_eq!(wire.reply().status, 408);
    recorder.wait(Fault::BodyTimeout);
}

#[test]
fn h16_a_silent_answer_is_cut_but_an_event_stream_may_be_silent() {
    let origin = Origin::start();
    let mut settings = settings(&origin);
    settings.upstream.response_timeout = SHORT * 3;
    let proxy = Running::start(settings);
    let act = |kind: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 10\r\n\r\n12345");
        let silence = || Vec::new();
        Act::Slowly(vec![head.into_bytes(), silence(), silence(), silence(), silence(), b"67890".to_vec()], SHORT)
    };
    origin.next(act("text/plain"));
    let rest = String::from_utf8(proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").rest()).unwrap();
    assert!(rest.ends_with("12345"), "{rest}");
    origin.next(act("text/event-stream; charset=utf-8"));
    assert_eq!(proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().text(), "1234567890");
}

#[test]
fn h16_a_client_that_does_not_read_is_cut() {
    let origin = Origin::start();
    origin.always(ok(&"x".repeat(32 << 20)));
    let recorder = Recorder::default();
    let mut settings = settings(&origin);
    settings.client.timeouts.body = SHORT;
    let proxy = Running::start_with(settings, recorder.clone());
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    recorder.wait(Fault::WriteTimeout);
    origin.wait_closed(1);
}

#[test]
fn h16_an_app_that_says_nothing_is_504() {
    let origin = Origin::start();
    origin.next(Act::Silence);
    let mut settings = settings(&origin);
    settings.upstream.response_timeout = SHORT;
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings, recorder.clone());
    let mut wire = proxy.wire();
    let reply = wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert_eq!(reply.status, 504);
    assert_eq!(recorder.all(), [Fault::AppSilent]);
    assert_eq!(reply.header("proxy-status"), Some("portcullis; error=http_response_timeout"));
    // The client's connection is still good, the app's is not used again.
    assert_eq!(wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
    assert_eq!(origin.wait(2).connection, 1);
}

#[test]
fn h16_a_full_app_is_503() {
    let origin = Origin::start();
    origin.next(Act::Silence);
    let mut settings = settings(&origin);
    settings.upstream.connections_max = 1;
    settings.upstream.queue_timeout = SHORT;
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings, recorder.clone());
    let mut first = proxy.wire();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait(1);
    let reply = proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("proxy-status"), Some("portcullis; error=connection_limit_reached"));
    assert_eq!(recorder.all(), [Fault::AppFull]);
    // A client that goes away gives its place back.
    drop(first);
    origin.wait_closed(1);
    assert_eq!(proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
}

#[test]
fn h18_too_many_connections_are_closed_unread() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let mut settings = settings(&origin);
    settings.client.limits.connections_max = 1;
    let proxy = Running::start_with(settings, recorder.clone());
    let mut first = proxy.wire();
    assert_eq!(first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
    proxy.wire().expect_closed();
    recorder.wait(Fault::ConnectionsFull);
    drop(first);
}

#[test]
fn h24_a_drain_finishes_what_is_in_hand() {
    let origin = Origin::start();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate".to_vec();
    origin.next(Act::Slowly(vec![answer], SHORT));
    let mut proxy = Running::in_front_of(&origin);
    let (mut idle, mut busy) = (proxy.wire(), proxy.wire());
    assert_eq!(idle.send("").finish().rest(), b"");
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait(1);
    proxy.stop();
    let reply = busy.reply();
    assert_eq!((reply.text(), reply.header("connection")), ("late", Some("close")));
    busy.expect_closed();
    proxy.join();
}

#[test]
fn h24_a_drain_ends_at_its_deadline() {
    let origin = Origin::start();
    origin.next(Act::Silence);
    let mut settings = settings(&origin);
    settings.client.timeouts.drain = SHORT;
    let proxy = Running::start(settings);
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait(1);
    let begun = Instant::now();
    proxy.join();
    assert!(begun.elapsed() >= SHORT && begun.elapsed() < Duration::from_secs(5));
    wire.expect_closed();
}
