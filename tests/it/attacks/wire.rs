//! Attacks on the wire: against the proxy as it listens, with a client that writes what it likes.

use std::time::Duration;

use portcullis::proxy::{Fault, Http2};

use crate::support::origin::{Act, Origin, Seen};
use crate::support::running::{Recorder, Running, settings};

/// What the app sees of a GET with these header lines.
fn through(lines: &str) -> Seen {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let reply = proxy.wire().send(format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n")).reply();
    assert_eq!(reply.status, 200, "{lines:?}");
    origin.wait(1)
}

/// The octets are answered with 400, the connection is closed, and the app hears nothing.
fn refused(octets: &str, fault: Fault) {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings(&origin), recorder.clone());
    let mut wire = proxy.wire();
    let reply = wire.send(octets).reply();
    assert_eq!(reply.status, 400, "{octets:?}");
    recorder.wait(fault);
    assert!(origin.seen().is_empty(), "{octets:?}");
}

#[test]
fn request_smuggling() {
    // A second request, for a server that believes the other length.
    let smuggled = "GET /admin HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    let length = smuggled.len() + 5;
    let both = format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    let post = "POST / HTTP/1.1\r\nHost: shop.example\r\n";
    refused(&format!("{post}{both}"), Fault::TransferEncoding);
    refused(&format!("{post}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{smuggled}"), Fault::ContentLength);
    refused(&format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"), Fault::TransferEncoding);
    refused(&format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"), Fault::HeaderLine);
    refused(&format!("{post}X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"), Fault::HeaderLine);
}

#[test]
fn header_nomination() {
    // An honest one takes away what it names, and nothing of ours.
    let seen = through("Connection: X-Private, close\r\nX-Private: 1\r\n");
    assert_eq!((seen.header("x-private"), seen.header("x-forwarded-for")), (None, Some("127.0.0.1")));
    for name in ["X-Forwarded-For", "Cookie", "Authorization", "Portcullis-Subject"] {
        refused(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, {name}\r\n\r\n"), Fault::Nominated);
    }
}

#[test]
fn spoofed_client_address() {
    let lies = "X-Forwarded-For: 198.51.100.1\r\nForwarded: for=198.51.100.1\r\nX-Real-IP: 198.51.100.1\r\n";
    let seen = through(lies);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert!(!seen.head.contains("198.51.100.1"), "{}", seen.head);
    // Behind a trusted proxy the address that it saw counts, whatever the client wrote further left.
    let origin = Origin::start();
    let mut settings = settings(&origin);
    settings.client.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    let proxy = Running::start(settings);
    proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1, 192.0.2.7\r\n\r\n").reply();
    assert_eq!(origin.wait(1).all("x-forwarded-for"), ["192.0.2.7"]);
}

#[test]
fn spoofed_identity_headers() {
    let names = [
        "Portcullis-Subject",
        "portcullis-ref",
        "PORTCULLIS-RISK",
        "Portcullis_Subject",
        "portcullis_authenticated_at",
    ];
    let lines: String = names.map(|name| format!("{name}: admin\r\n")).concat();
    let seen = through(&lines);
    let head = seen.head.to_ascii_lowercase();
    assert!(!head.contains("portcullis-") && !head.contains("portcullis_") && !head.contains("admin"), "{head}");
    // Nor do they slip in behind the body.
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Portcullis-Subject\r\n\r\n";
    proxy.wire().send(format!("{head}1\r\nx\r\n0\r\nPortcullis-Subject: admin\r\n\r\n")).reply();
    let body = String::from_utf8(origin.wait(1).body).unwrap();
    assert!(!body.contains("admin"), "{body}");
}

#[test]
fn host_header_attack() {
    let get = |host: &str| format!("GET / HTTP/1.1\r\n{host}\r\n");
    for host in [
        "",
        "Host: shop.example\r\nHost: evil.example\r\n",
        "Host: shop.example, evil.example\r\n",
        "Host: shop.example@evil.example\r\n",
    ] {
        refused(&get(host), Fault::Host);
    }
    refused("GET http://evil.example/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", Fault::Host);
    let seen = through("X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n");
    assert_eq!((seen.header("host"), seen.header("x-forwarded-host")), (Some("shop.example"), Some("shop.example")));
    assert!(!seen.head.contains("evil.example"), "{}", seen.head);
}

#[test]
fn slow_requests() {
    const SHORT: Duration = Duration::from_millis(150);
    let origin = Origin::start();
    let recorder = Recorder::default();
    let mut settings = settings(&origin);
    (settings.client.timeouts.header, settings.client.timeouts.body) = (SHORT, SHORT);
    let proxy = Running::start_with(settings, recorder.clone());
    // A head that never ends.
    let mut head = proxy.wire();
    assert_eq!(head.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").reply().status, 408);
    head.expect_closed();
    recorder.wait(Fault::HeaderTimeout);
    assert!(origin.seen().is_empty(), "the app is not bothered with half a head");
    // A body that never ends.
    let mut body = proxy.wire();
    body.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx");
    assert_eq!(body.reply().status, 408);
    recorder.wait(Fault::BodyTimeout);
}

#[test]
fn http_2_rapid_reset() {
    const ROUNDS: u32 = 3000;
    let origin = Origin::start();
    origin.always(Act::Silence);
    let mut settings = settings(&origin);
    settings.listen[0].http2 = Http2::On;
    let proxy = Running::start(settings);
    let mut wire = proxy.wire();
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    for stream in (0..ROUNDS).map(|number| number * 2 + 1) {
        // HEADERS for GET / at the host `a`, its stream ended; then RST_STREAM with CANCEL.
        let mut octets = vec![0, 0, 6, 1, 5];
        octets.extend(stream.to_be_bytes());
        octets.extend([0x82, 0x86, 0x84, 0x41, 0x01, b'a', 0, 0, 4, 3, 0]);
        octets.extend(stream.to_be_bytes());
        octets.extend([0, 0, 0, 8]);
        wire.send(octets);
    }
    // The connection is closed, and only a part of the requests ever reached the app.
    wire.rest();
    assert!(origin.connections() < 500, "{} requests went through", origin.connections());
}

#[test]
fn websocket_smuggling() {
    const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let smuggled = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings(&origin), recorder.clone());
    // The app declines. The proxy must not think of the rest as a tunnel.
    origin.next(Act::Silence);
    let mut wire = proxy.wire();
    assert_eq!(wire.send(format!("{ASK}{smuggled}")).reply().status, 400);
    recorder.wait(Fault::EarlyData);
    // Nothing but WebSocket can be asked for.
    let h2c = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n";
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    assert_eq!(proxy.wire().send(h2c).reply().text(), "hello");
    let seen = origin.wait(1);
    assert_eq!((seen.header("upgrade"), seen.header("http2-settings")), (None, None));
    // An agreement that nobody asked for is none.
    origin.next(Act::Reply(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_vec(),
    ));
    assert_eq!(proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 502);
    assert!(origin.seen().iter().all(|seen| !seen.request_line().contains("/admin")));
}
