//! Hardening rules 3, 5 to 9, 11 and 22: what is passed on, what is taken off, what is put on.

use portcullis::proxy::{Aliases, Fault, Host};

use crate::support::origin::{Act, Origin, Seen, ok, raw};
use crate::support::running::{Recorder, Running, settings};

/// Sends a GET with these lines through a proxy and returns what the app saw.
fn through(lines: &str) -> Seen {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let reply = proxy.wire().send(format!("GET / HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n")).reply();
    assert_eq!(reply.status, 200, "{lines:?}");
    origin.wait(1)
}

/// Sends a whole request that must be refused with `status` and leave the app in peace.
fn refused(request: &str, status: u16, fault: Fault) {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings(&origin), recorder.clone());
    let mut wire = proxy.wire();
    let reply = wire.send(request).reply();
    assert_eq!(reply.status, status, "{request:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{request:?}");
    recorder.wait(fault);
    assert!(origin.seen().is_empty(), "{request:?}");
}

#[test]
fn h03_there_is_one_authority() {
    let bad = |hosts: &str| refused(&format!("GET / HTTP/1.1\r\n{hosts}\r\n"), 400, Fault::Host);
    bad("");
    bad("Host: a\r\nHost: a\r\n");
    bad("Host: a\r\nHost: b\r\n");
    for host in ["", "a,b", "u@a", "a/b", "a:x", "a:99999", "a b", "[::1", "a?b"] {
        bad(&format!("Host: {host}\r\n"));
    }
    refused("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 400, Fault::Host);
    refused("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, Fault::Host);
    refused("GET http://a/ HTTP/1.1\r\n\r\n", 400, Fault::Host);
    refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, Fault::Method);
    refused("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405, Fault::Method);
    refused("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, Fault::Method);
}

#[test]
fn h03_an_absolute_target_becomes_a_path() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    wire.send("GET http://A.example:80/x?y HTTP/1.1\r\nHost: a.example:80\r\n\r\n").reply();
    let seen = origin.wait(1);
    assert_eq!((seen.request_line(), seen.header("host")), ("GET /x?y HTTP/1.1", Some("a.example:80")));
    wire.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert_eq!(origin.wait(2).request_line(), "OPTIONS * HTTP/1.1");
}

#[test]
fn h04_the_target_goes_through_byte_for_byte() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    for target in ["/a%2Fb", "/a/./b/../c", "//a///b", "/a;x=1/b", "/%00%zz", "/a\\b", "/?", "/?a=b?c/../d", "/{}|^"] {
        let count = origin.seen().len();
        proxy.wire().send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).reply();
        assert_eq!(origin.wait(count + 1).request_line(), format!("GET {target} HTTP/1.1"));
    }
}

#[test]
fn h05_hop_by_hop_headers_end_here() {
    let seen = through(
        "Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nTE: gzip\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-End: 1\r\n",
    );
    for name in ["connection", "x-hop", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-end"), Some("1"));
}

#[test]
fn h05_no_end_to_end_header_can_be_nominated() {
    for name in ["Cookie", "Host", "Authorization", "Content-Length", "X-Forwarded-For", "Portcullis-Subject"] {
        refused(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {name}\r\n\r\n"), 400, Fault::Nominated);
    }
}

#[test]
fn h05_responses_are_cleaned_too() {
    let origin = Origin::start();
    origin.next(raw(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: x\r\nX-End: 1\r\nPortcullis-Session: login\r\n\
         Content-Length: 0\r\n\r\n",
    ));
    let reply = Running::in_front_of(&origin).wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert_eq!((reply.header("x-hop"), reply.header("keep-alive"), reply.header("x-end")), (None, None, Some("1")));
    assert_eq!(reply.header("portcullis-session"), None);
}

#[test]
fn h06_forwarding_headers_are_ours_alone() {
    let seen = through(
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
         X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\
         True-Client-IP: 1.2.3.4\r\nCF-Connecting-IP: 1.2.3.4\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n\
         Client-Cert: :AA==:\r\nVia: 1.0 other\r\n",
    );
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("example.com"));
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;host=example.com;proto=http"));
    assert_eq!(seen.all("via"), ["1.0 other", "1.1 portcullis"]);
    for name in [
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-real-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "x-original-url",
        "x-rewrite-url",
        "client-cert",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[test]
fn h06_a_trusted_proxy_is_believed() {
    let origin = Origin::start();
    let mut settings = settings(&origin);
    settings.client.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    let proxy = Running::start(settings);
    let lines = "X-Forwarded-For: 6.6.6.6, 192.0.2.7, 127.0.0.9\r\nX-Forwarded-Proto: https\r\n";
    proxy.wire().send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).reply();
    let seen = origin.wait(1);
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(seen.header("forwarded"), Some("for=192.0.2.7;host=a;proto=https"));
}

#[test]
fn h07_names_that_servers_fold_are_dropped_or_refused() {
    let seen = through("X_Forwarded_For: 1.2.3.4\r\nPortcullis_Subject: admin\r\nX.Y: 1\r\nX-Good: 1\r\n");
    assert_eq!(
        (seen.header("x_forwarded_for"), seen.header("portcullis_subject"), seen.header("x.y")),
        (None, None, None)
    );
    assert_eq!(seen.header("x-good"), Some("1"));
    let origin = Origin::start();
    let recorder = Recorder::default();
    let mut settings = settings(&origin);
    settings.client.aliases = Aliases::Reject;
    let proxy = Running::start_with(settings, recorder.clone());
    assert_eq!(proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\nX_A: 1\r\n\r\n").reply().status, 400);
    recorder.wait(Fault::HeaderName);
    assert!(origin.seen().is_empty());
}

#[test]
fn h08_identity_headers_are_ours_alone() {
    let seen = through("Portcullis-Subject: admin\r\nportcullis-ref: x\r\nPORTCULLIS-RISK: low\r\n");
    assert!(!seen.head.to_ascii_lowercase().contains("portcullis-"), "{}", seen.head);
}

#[test]
fn h09_trailers_stay_trailers_and_forbidden_ones_are_dropped() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    let names = "X-Sum, Cookie, Portcullis-Subject, X-Forwarded-For, Content-Length, X_Under";
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: {names}\r\n\r\n3\r\nabc\r\n0\r\n\
         X-Sum: 1\r\nCookie: a=b\r\nPortcullis-Subject: admin\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 3\r\n\
         X_Under: 1\r\n\r\n"
    ));
    assert_eq!(wire.reply().status, 200);
    let seen = origin.wait(1);
    assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), "abc--trailers--\r\nx-sum: 1\r\n");
    assert_eq!((seen.header("cookie"), seen.header("x-sum")), (None, None));
}

#[test]
fn h09_response_trailers_reach_a_client_that_asked_for_them() {
    let origin = Origin::start();
    origin.always(raw(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Set-Cookie\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\
         Set-Cookie: a=b\r\n\r\n",
    ));
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n");
    let rest = String::from_utf8(wire.rest()).unwrap();
    assert!(rest.ends_with("3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"), "{rest}");
    let seen = origin.wait(1);
    assert_eq!((seen.header("te"), seen.header("connection")), (Some("trailers"), Some("te")));
}

#[test]
fn h11_what_is_not_http_is_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 099 Hm\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "HELO\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: Set-Cookie\r\nContent-Length: 0\r\n\r\n",
    ] {
        let origin = Origin::start();
        origin.next(raw(answer));
        let recorder = Recorder::default();
        let proxy = Running::start_with(settings(&origin), recorder.clone());
        let mut wire = proxy.wire();
        assert_eq!(wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 502, "{answer:?}");
        recorder.wait(Fault::Response);
        // Nothing of it is left on a kept connection.
        assert_eq!(wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().text(), "hello");
        assert_eq!(origin.wait(2).connection, 1, "{answer:?}");
    }
}

#[test]
fn h11_truncation_stays_visible() {
    let origin = Origin::start();
    for (answer, marker) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "short"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", "5\r\nshort\r\n"),
    ] {
        origin.next(Act::ReplyAndClose(answer.as_bytes().to_vec()));
        let proxy = Running::in_front_of(&origin);
        let mut wire = proxy.wire();
        let rest = String::from_utf8(wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").rest()).unwrap();
        assert!(rest.ends_with(marker), "{rest}");
    }
}

#[test]
fn h11_everything_before_a_truncation_arrives() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    for length in [1, 5_000, 20_000, 300_000, 3_000_000] {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", length + 1).into_bytes();
        let head = answer.len();
        answer.resize(head + length, b'x');
        origin.next(Act::ReplyAndClose(answer));
        let mut wire = proxy.wire();
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.head();
        assert_eq!(wire.rest().len(), length);
    }
}

#[test]
fn h11_informational_answers_do_not_confuse() {
    let origin = Origin::start();
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    origin.next(raw(hint)).next(raw(hint));
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    let reply = wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert_eq!((reply.status, reply.text()), (200, "ok"));
    let reply = wire.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").reply();
    assert_eq!((reply.status, reply.text()), (200, "ok"));
}

#[test]
fn answers_without_a_body_keep_their_length() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    origin.next(raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"));
    let head = wire.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").head();
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    for answer in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"] {
        origin.next(raw(answer));
        let head = wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").head();
        assert!(answer.contains(&head.status.to_string()));
        assert_eq!(head.all("transfer-encoding"), Vec::<&str>::new());
    }
    assert_eq!(wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().text(), "hello");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_old_client_gets_an_old_answer() {
    let origin = Origin::start();
    origin.next(raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    let rest = String::from_utf8(wire.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").rest()).unwrap();
    assert!(rest.starts_with("HTTP/1.0 200 OK\r\n") && rest.ends_with("\r\n\r\nabc"), "{rest}");
    assert_eq!(origin.wait(1).all("via"), ["1.0 portcullis"]);
}

#[test]
fn an_expectation_is_met_when_the_body_is_wanted() {
    let origin = Origin::start();
    origin.next(ok("thanks"));
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(wire.head().status, 100);
    assert_eq!(wire.send("abc").reply().text(), "thanks");
    let seen = origin.wait(1);
    assert_eq!((seen.header("expect"), seen.body.as_slice()), (None, b"abc".as_slice()));
    refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: x\r\n\r\n", 417, Fault::Expectation);
}

#[test]
fn cookies_reach_the_app_in_one_line() {
    let seen = through("Cookie: a=1\r\nX: y\r\nCookie: b=2; c=3\r\n");
    assert_eq!(seen.header("cookie"), Some("a=1; b=2; c=3"));
}

#[test]
fn max_forwards_is_counted_down() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    let reply = wire.send("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n").reply();
    assert_eq!(reply.status, 200);
    assert!(reply.header("allow").is_some());
    wire.send("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n").reply();
    assert_eq!(origin.wait(1).header("max-forwards"), Some("4"));
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n").reply();
    assert_eq!(origin.wait(2).header("max-forwards"), Some("0"));
}

#[test]
fn a_loop_is_broken() {
    refused("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 x, 1.1 Portcullis\r\n\r\n", 508, Fault::Loop);
}

#[test]
fn the_host_can_be_replaced() {
    let origin = Origin::start();
    let mut settings = settings(&origin);
    settings.upstream.host = Host::Fixed("app.internal".to_owned());
    Running::start(settings).wire().send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").reply();
    let seen = origin.wait(1);
    assert_eq!((seen.header("host"), seen.header("x-forwarded-host")), (Some("app.internal"), Some("shop.example")));
}

#[test]
fn h22_a_refusal_reflects_nothing() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let request = "GET /secret-path?q=secret HTTP/1.1\r\nHost: a\r\nHost: secret-host\r\nX: secret\r\n";
    for (accept, kind) in [("text/html", "text/html; charset=utf-8"), ("*/*", "application/problem+json")] {
        let reply = proxy.wire().send(format!("{request}Accept: {accept}\r\n\r\n")).reply();
        assert_eq!((reply.status, reply.header("content-type")), (400, Some(kind)));
        assert_eq!(reply.header("proxy-status"), Some("portcullis; error=http_request_error"));
        assert!(reply.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(!reply.head.contains("secret") && !reply.text().contains("secret"));
    }
}
