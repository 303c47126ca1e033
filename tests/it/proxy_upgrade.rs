//! Hardening rule 10: WebSockets and nothing else, and only when both sides agree.

use std::time::Duration;

use portcullis::proxy::Fault;
use tokio::time::Instant;

use crate::support::origin::{Act, Origin, raw};
use crate::support::running::{Recorder, Running, settings};
use crate::support::wire::PATIENCE;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn echo() -> Act {
    Act::Echo(AGREE.as_bytes().to_vec())
}

#[test]
fn h10_a_websocket_becomes_a_tunnel() {
    let origin = Origin::start();
    origin.next(echo());
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    let reply = wire.send(ASK).head();
    assert_eq!((reply.status, reply.header("upgrade")), (101, Some("websocket")));
    assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let until = Instant::now() + PATIENCE;
    for frame in [b"\x81\x05hello".to_vec(), vec![0; 100_000], b"\r\n\r\n\0GET".to_vec()] {
        wire.send(&frame);
        assert!(wire.exactly(frame.len(), until) == frame);
    }
    wire.finish().expect_closed();
    let seen = origin.wait(1);
    assert_eq!((seen.header("upgrade"), seen.header("connection")), (Some("websocket"), Some("upgrade")));
    origin.wait_closed(1);
}

#[test]
fn h10_what_the_app_says_with_its_agreement_is_not_lost() {
    let origin = Origin::start();
    origin.next(Act::Echo(format!("{AGREE}\u{1}early").into_bytes()));
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    assert_eq!(wire.send(ASK).head().status, 101);
    assert_eq!(wire.exactly(6, Instant::now() + PATIENCE), b"\x01early");
}

#[test]
fn h10_nothing_is_tunnelled_before_the_app_agreed() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings(&origin), recorder.clone());
    // The app declines: HTTP goes on.
    let mut wire = proxy.wire();
    assert_eq!(wire.send(ASK).reply().text(), "hello");
    assert_eq!(wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().text(), "hello");
    // Octets behind the head are refused, whatever the app would have said.
    origin.next(Act::Silence);
    let mut wire = proxy.wire();
    assert_eq!(wire.send(format!("{ASK}\u{1}early")).reply().status, 400);
    wire.expect_closed();
    recorder.wait(Fault::EarlyData);
}

#[test]
fn h10_other_upgrades_are_ignored_and_wrong_ones_refused() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n");
    assert_eq!(wire.reply().text(), "hello");
    let seen = origin.wait(1);
    assert_eq!((seen.header("upgrade"), seen.header("http2-settings"), seen.header("connection")), (None, None, None));
    let version = wire.send(ASK.replace(": 13", ": 8")).reply();
    assert_eq!((version.status, version.header("sec-websocket-version")), (426, Some("13")));
    for wrong in [ASK.replace("GET", "POST"), ASK.replace("dGhl", "dGhl!"), ASK.replace("Connection: Upgrade", "X: y")]
    {
        assert_eq!(proxy.wire().send(wrong).reply().status, 400);
    }
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn h10_an_agreement_that_does_not_match_is_502() {
    for answer in [
        AGREE.replace("s3pP", "s3pQ"),
        AGREE.replace("Upgrade: websocket", "Upgrade: h2c"),
        AGREE.replace("Sec-WebSocket-Accept", "X"),
    ] {
        let origin = Origin::start();
        origin.next(raw(&answer));
        let proxy = Running::in_front_of(&origin);
        let reply = proxy.wire().send(ASK).reply();
        assert_eq!(reply.header("proxy-status"), Some("portcullis; error=http_upgrade_failed"), "{answer}");
        assert_eq!(reply.status, 502);
    }
}

#[test]
fn h16_a_silent_tunnel_ends() {
    let origin = Origin::start();
    origin.next(echo());
    let mut settings = settings(&origin);
    settings.client.timeouts.tunnel_idle = Duration::from_millis(100);
    let proxy = Running::start(settings);
    let mut wire = proxy.wire();
    assert_eq!(wire.send(ASK).head().status, 101);
    wire.expect_closed();
    origin.wait_closed(1);
}

#[test]
fn h24_a_drain_closes_tunnels() {
    let origin = Origin::start();
    origin.next(echo());
    let mut settings = settings(&origin);
    settings.client.timeouts.drain = Duration::from_millis(300);
    let mut proxy = Running::start(settings);
    let mut wire = proxy.wire();
    assert_eq!(wire.send(ASK).head().status, 101);
    let mut says = |text: &str| {
        wire.send(text);
        wire.exactly(text.len(), Instant::now() + PATIENCE)
    };
    assert_eq!(says("x"), b"x");
    proxy.stop();
    assert_eq!(says("farewell"), b"farewell", "until the deadline it goes on");
    proxy.join();
    wire.expect_closed();
}
