//! Hardening rule 12 and the choice among several apps.

use std::time::Duration;

use portcullis::proxy::{Balance, Health, Location, Settings, Upstream};

use crate::support::origin::{Act, Origin, ok, raw};
use crate::support::running::{Running, settings};
use crate::support::wire::Wire;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

fn location(origin: &Origin) -> Location {
    Location::Tcp { host: origin.address().ip().to_string(), port: origin.address().port() }
}

/// Makes the proxy keep a connection to the app.
fn warm(wire: &mut Wire) {
    assert_eq!(wire.send(GET).reply().status, 200);
}

#[test]
fn h12_a_stale_connection_is_tried_again_once_for_harmless_requests() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    warm(&mut wire);
    origin.next(Act::Close);
    assert_eq!(wire.send(GET).reply().text(), "hello");
    assert_eq!(origin.wait(3).connection, 1);
    // Only once.
    origin.next(Act::Close).next(Act::Close);
    assert_eq!(wire.send(GET).reply().status, 502);
    assert_eq!(origin.wait(5).connection, 2);
}

#[test]
fn h12_a_post_is_never_repeated() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    warm(&mut wire);
    origin.next(Act::Close);
    assert_eq!(wire.send(POST).reply().status, 502);
    assert_eq!(origin.seen().len(), 2);
    // Nor a request on a new connection, nor one that was half answered.
    origin.next(Act::Close);
    assert_eq!(wire.send(GET).reply().status, 502);
    warm(&mut wire);
    origin.next(Act::ReplyAndClose(b"HTTP/1.1 20".to_vec()));
    assert_eq!(wire.send(GET).reply().status, 502);
    assert_eq!(origin.seen().len(), 5);
}

#[test]
fn h12_surplus_octets_end_a_connection() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    origin.next(raw(&format!("{twice}{twice}")));
    assert_eq!(wire.send(GET).reply().text(), "ok");
    assert_eq!(proxy.wire().send(GET).reply().text(), "hello");
    assert_eq!(origin.wait(2).connection, 1);
}

#[test]
fn h12_an_answer_before_the_end_of_the_request_ends_the_connection() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    origin.next(Act::ReplyEarly(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig".to_vec()));
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n0123456789");
    let reply = wire.reply();
    assert_eq!((reply.status, reply.text()), (413, "big"));
    origin.wait_closed(1);
    assert_eq!(proxy.wire().send(GET).reply().text(), "hello");
    assert_eq!(origin.wait(2).connection, 1);
}

#[test]
fn h12_an_app_that_wants_to_close_is_let_go() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut wire = proxy.wire();
    origin.next(raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"));
    assert_eq!(wire.send(GET).reply().text(), "ok");
    origin.next(Act::ReplyAndClose(b"HTTP/1.0 200 OK\r\n\r\nold".to_vec()));
    assert_eq!(wire.send(GET).reply().text(), "old");
    assert_eq!(wire.send(GET).reply().text(), "hello");
    assert_eq!(origin.wait(3).connection, 2);
}

#[test]
fn several_apps_take_turns_and_a_dead_one_is_passed_over() {
    let (one, two) = (Origin::start(), Origin::start());
    one.always(ok("one"));
    two.always(ok("two"));
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = Location::Tcp { host: dead.ip().to_string(), port: dead.port() };
    for balance in [Balance::RoundRobin, Balance::LeastBusy] {
        let mut settings = settings(&one);
        settings.upstream.locations = vec![location(&one), dead.clone(), location(&two)];
        settings.upstream.balance = balance;
        let proxy = Running::start(settings);
        let mut wire = proxy.wire();
        let mut answers: Vec<_> = (0..12).map(|_| wire.send(POST).reply().text().to_owned()).collect();
        answers.sort();
        answers.dedup();
        assert_eq!(answers, ["one", "two"], "{balance:?}");
    }
}

#[test]
fn a_full_app_is_passed_over_while_another_has_room() {
    let (slow, quick) = (Origin::start(), Origin::start());
    slow.always(Act::Silence);
    quick.always(ok("quick"));
    let mut settings = settings(&slow);
    settings.upstream.locations = vec![location(&slow), location(&quick)];
    settings.upstream.connections_max = 1;
    let proxy = Running::start(settings);
    let mut held = proxy.wire();
    held.send(GET);
    slow.wait_heads(1);
    for _ in 0..4 {
        assert_eq!(proxy.wire().send(GET).reply().text(), "quick");
    }
}

#[test]
fn an_app_that_says_it_is_ill_is_passed_over() {
    let (one, two) = (Origin::start(), Origin::start());
    one.always(raw("HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\noh"));
    two.always(ok("two"));
    let mut settings = settings(&one);
    settings.upstream.locations = vec![location(&one), location(&two)];
    settings.upstream.health = Some(Health { path: "/up".to_owned(), every: Duration::from_millis(20) });
    let proxy = Running::start(settings);
    one.wait(2);
    two.wait(2);
    assert!(one.seen().iter().all(|seen| seen.request_line() == "GET /up HTTP/1.1"));
    for _ in 0..4 {
        assert_eq!(proxy.wire().send(GET).reply().text(), "two");
    }
}

#[test]
fn an_app_on_a_unix_socket_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet).unwrap();
            seen.push(octet[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix").unwrap();
    });
    let origin = Origin::start();
    let mut settings = settings(&origin);
    settings.upstream.locations = vec![Location::Unix(path)];
    assert_eq!(Running::start(settings).wire().send(GET).reply().text(), "unix");
}

#[test]
fn a_reload_takes_effect_without_losing_a_connection() {
    let (one, two) = (Origin::start(), Origin::start());
    one.always(ok("one"));
    two.always(ok("two"));
    let proxy = Running::in_front_of(&one);
    let mut wire = proxy.wire();
    assert_eq!(wire.send(GET).reply().text(), "one");
    proxy.reload(settings(&two)).unwrap();
    assert_eq!(wire.send(GET).reply().text(), "two");
    let mut wrong = settings(&two);
    wrong.upstream.locations.clear();
    assert!(proxy.reload(wrong).is_err());
    assert_eq!(wire.send(GET).reply().text(), "two");
}

#[test]
fn a_taken_port_is_a_sentence() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let mut settings = settings(&origin);
    settings.listen = vec![portcullis::proxy::Listen::plain(proxy.address)];
    let error = portcullis::proxy::Proxy::bind(settings.clone(), portcullis::proxy::Off).unwrap_err();
    assert!(error.to_string().ends_with("is taken: another program, or another Portcullis, listens there"), "{error}");
    settings.listen = vec![portcullis::proxy::Listen::plain(origin.address())];
    assert!(portcullis::proxy::Proxy::bind(settings, portcullis::proxy::Off).is_err());
}

#[test]
fn a_socket_can_be_handed_in() {
    let origin = Origin::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = settings(&origin);
    settings.listen[0].source = portcullis::proxy::Source::Handed(std::sync::Arc::new(listener));
    let proxy = Running::start(settings);
    assert_eq!(proxy.address, address);
    assert_eq!(proxy.wire().send(GET).reply().text(), "hello");
}

#[test]
fn what_became_of_requests_to_the_app_is_counted() {
    let origin = Origin::start();
    let proxy = Running::in_front_of(&origin);
    let answer = |status: &str| raw(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
    origin.next(answer("200 OK")).next(answer("404 Not Found")).next(answer("503 Busy"));
    let mut wire = proxy.wire();
    for status in [200, 404, 503] {
        assert_eq!(wire.send(POST).reply().status, status);
    }
    let impatient = settings(&origin);
    let upstream = Upstream { response_timeout: Duration::from_millis(300), ..impatient.upstream.clone() };
    proxy.reload(Settings { upstream, ..impatient }).unwrap();
    origin.next(Act::Silence);
    assert_eq!(wire.send(POST).reply().status, 504);
    origin.next(raw("nonsense\r\n\r\n"));
    assert_eq!(wire.send(POST).reply().status, 502);
    let figures = proxy.exchanges();
    let told = |all: &[(&'static str, u64)]| all.iter().filter(|(_, count)| *count > 0).copied().collect::<Vec<_>>();
    assert_eq!(told(&figures.answers), [("2xx", 1), ("4xx", 1), ("5xx", 1)]);
    assert_eq!(told(&figures.failures), [("app_silent", 1), ("response", 1)]);
    assert_eq!(figures.waits.buckets.iter().sum::<u64>(), 3);
    assert!(figures.waits.sum > Duration::ZERO);
}
