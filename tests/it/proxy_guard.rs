//! The guard in its proxy, over sockets: what only shows where the two meet.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::StatusCode;
use portcullis::engine::{Guard, Places};
use portcullis::facts::geo::Place;
use portcullis::facts::route::{CaseSensitivity, RoutePattern};
use portcullis::layer::GuardBuilder;
use portcullis::limit::{LimitSettings, Rate};
use portcullis::proxy::{Guarded, Http2, ProxyProtocol, Settings};
use portcullis::rules::{Login, Policy, SubjectSource, Success};
use portcullis::store::memory::MemoryStore;
use portcullis::store::{Filter, Store as _};

use crate::support::origin::{Origin, held, raw};
use crate::support::running::{Running, settings, until};

type TheGuard = Arc<Guard<MemoryStore>>;

const DONE: &str = "HTTP/1.1 303 See Other\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
const WELCOME: &str = "HTTP/1.1 303 See Other\r\nLocation: /\r\nSet-Cookie: sessionid=of-alice; Path=/; HttpOnly\r\n\
                       Content-Length: 0\r\n\r\n";

/// A guard before an app whose users log in at `POST /login` and out at `POST /logout` or `GET /bye`.
fn guard(client: &str, change: impl FnOnce(&mut Policy)) -> TheGuard {
    let limits = LimitSettings { client: Rate::parse(client).unwrap(), ..LimitSettings::default() };
    let builder = GuardBuilder::in_memory().insecure_http().shield("sessionid").limits(limits);
    let mut policy = builder.policy().unwrap();
    let route = |text| RoutePattern::parse(text, CaseSensitivity::Ignore).unwrap();
    policy.logins.push(Login {
        route: route("POST /login"),
        success: Success { status: vec![StatusCode::SEE_OTHER], ..Success::default() },
        subject: SubjectSource::Form("user".into()),
    });
    policy.logouts.extend([route("POST /logout"), route("GET /bye")]);
    change(&mut policy);
    let guard = builder.build().unwrap();
    guard.replace_policy(policy);
    Arc::new(guard)
}

fn usual() -> TheGuard {
    guard("off", |_| {})
}

fn before(origin: &Origin, guard: &TheGuard) -> Running {
    with(settings(origin), guard)
}

fn with(settings: Settings, guard: &TheGuard) -> Running {
    Running::start_with(settings, Guarded::new(guard.clone()))
}

fn form(path: &str, cookie: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Logs alice in; gives her cookie.
fn log_in(origin: &Origin, proxy: &Running) -> String {
    origin.next(raw(WELCOME));
    let reply = proxy.wire().send(form("/login", "a=b", "user=alice&password=p")).reply();
    assert_eq!(reply.status, 303);
    let line = reply.header("set-cookie").unwrap();
    line.split(';').next().unwrap().to_owned()
}

fn sessions(guard: &TheGuard) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(guard.store().list(&Filter::default(), None, 1000)).unwrap().records.len()
}

/// What the app is shown of a client with this cookie.
fn jar_of(origin: &Origin, proxy: &Running, cookie: &str) -> Option<String> {
    let count = origin.seen().len();
    proxy.wire().send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")).reply();
    origin.wait(count + 1).header("cookie").map(str::to_owned)
}

/// A client that went away before the answer came used to keep its session.
#[test]
fn a_logout_counts_though_nobody_waits_for_its_answer() {
    let origin = Origin::start();
    for request in ["POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n", "GET /bye HTTP/1.1\r\nHost: a\r\n"] {
        let guard = usual();
        let proxy = before(&origin, &guard);
        let cookie = log_in(&origin, &proxy);
        assert_eq!(jar_of(&origin, &proxy, &cookie).as_deref(), Some("sessionid=of-alice"));
        proxy.wait_alone();

        let (release, act) = held(DONE);
        origin.next(act);
        let count = origin.seen().len();
        let mut wire = proxy.wire();
        wire.send(request).send(format!("Cookie: {cookie}\r\n\r\n"));
        if request.contains("Length") {
            wire.send("sure");
        }
        origin.wait(count + 1);
        drop(wire);
        proxy.wait_alone();
        assert_eq!(sessions(&guard), 1, "the app has not answered yet");
        drop(release);
        until("the end of the session", || sessions(&guard) == 0);
        assert_eq!(jar_of(&origin, &proxy, &cookie), None);
    }
}

#[test]
fn a_login_counts_though_nobody_waits_for_its_answer_over_http2() {
    let origin = Origin::start();
    let guard = usual();
    let mut settings = settings(&origin);
    settings.listen[0].http2 = Http2::On;
    let proxy = with(settings, &guard);
    let (release, act) = held(WELCOME);
    origin.next(act);
    let client = crate::proxy_http2::Client::connect(proxy.address);
    client.starts("http://a/login", "user=alice&password=p");
    origin.wait(1);
    drop(client);
    proxy.wait_alone();
    assert_eq!(sessions(&guard), 0);
    drop(release);
    until("the session", || sessions(&guard) == 1);
}

/// The end of the guard waits for the app's answer, whether the client does or not.
#[test]
fn h24_a_drain_settles_what_nobody_waits_for() {
    let origin = Origin::start();
    let guard = usual();
    let mut proxy = before(&origin, &guard);
    let cookie = log_in(&origin, &proxy);
    let (release, act) = held(DONE);
    origin.next(act);
    let mut wire = proxy.wire();
    wire.send(form("/logout", &cookie, ""));
    origin.wait(2);
    drop(wire);
    proxy.wait_alone();
    proxy.stop();
    drop(release);
    proxy.join();
    assert_eq!(sessions(&guard), 0);
}

#[test]
fn a_request_that_broke_off_is_not_waited_for() {
    let origin = Origin::start();
    let guard = usual();
    let proxy = before(&origin, &guard);
    let cookie = log_in(&origin, &proxy);
    let mut wire = proxy.wire();
    wire.send(format!("POST /save HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n"));
    wire.send("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    drop(wire);
    assert!(!origin.wait(2).whole, "what the client did not finish must not look finished to the app");
    origin.wait_closed(1);
}

/// The body of a login used to be waited for before anything else was looked at.
#[test]
fn h18_who_is_over_the_limit_is_not_waited_for() {
    let origin = Origin::start();
    let guard = guard("2/1h", |_| {});
    let proxy = before(&origin, &guard);
    // Each counts once, whether its body is looked at or not.
    log_in(&origin, &proxy);
    assert_eq!(proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
    let reply = proxy.wire().send("POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n").reply();
    assert_eq!(reply.status, 429);
}

#[test]
fn h18_a_login_for_which_there_is_no_room_is_503_and_an_honest_form_still_passes() {
    let origin = Origin::start();
    let mut settings = settings(&origin);
    settings.client.limits.peeked_bytes_max = 1000;
    let proxy = with(settings, &usual());
    let long = format!("user=alice&password={}", "p".repeat(4000));
    let reply = proxy.wire().send(form("/login", "a=b", &long)).reply();
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    log_in(&origin, &proxy);
    assert_eq!(origin.seen().len(), 1);
}

/// The guard did not see the `Upgrade` that the proxy had taken off.
#[test]
fn a_refused_websocket_carries_no_successor() {
    let origin = Origin::start();
    let guard = guard("off", |policy| policy.session.rotate_every = Duration::ZERO);
    let proxy = before(&origin, &guard);
    let cookie = log_in(&origin, &proxy);
    let asked = |more: &str| {
        origin.next(raw("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"));
        let reply = proxy.wire().send(format!("GET /ws HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n{more}\r\n")).reply();
        assert_eq!(reply.status, 403);
        reply.header("set-cookie").is_some()
    };
    let handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert!(!asked(handshake));
    assert!(asked(""), "an ordinary request with the same answer is offered one");
    let seen = origin.seen().into_iter().find(|seen| seen.header("upgrade").is_some()).unwrap();
    assert_eq!((seen.header("upgrade"), seen.header("connection")), (Some("websocket"), Some("upgrade")));
}

/// Databases that know nothing, and how often they were asked.
fn counted(asked: &Arc<AtomicUsize>) -> Places {
    let asked = asked.clone();
    Places::new(move |_| {
        asked.fetch_add(1, SeqCst);
        Place::default()
    })
}

const THRICE: [&str; 3] = ["203.0.113.7"; 3];

/// Databases were asked for every request, though nobody moves on an open connection.
#[test]
fn the_databases_are_asked_once_for_a_connection() {
    let origin = Origin::start();
    let trusting = || {
        let mut settings = settings(&origin);
        settings.client.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        settings
    };
    let mut spoken_for = trusting();
    spoken_for.listen[0].proxy_protocol = ProxyProtocol::Required;
    // How the client comes, what stands before its first request, whom each request is for, how often is asked.
    let cases = [
        ("directly", settings(&origin), "", [""; 3], 1),
        ("behind a balancer", spoken_for, "PROXY TCP4 203.0.113.7 192.0.2.9 5000 443\r\n", [""; 3], 1),
        ("behind a proxy", trusting(), "", THRICE, 1),
        ("several behind a proxy", trusting(), "", ["203.0.113.7", "203.0.113.7", "203.0.113.8"], 2),
    ];
    for (how, settings, before, clients, expected) in cases {
        let guard = usual();
        let asked = Arc::new(AtomicUsize::new(0));
        guard.replace_places(counted(&asked));
        let proxy = with(settings, &guard);
        let mut wire = proxy.wire();
        wire.send(before);
        let mut ask = |client: &str| {
            let said = if client.is_empty() { String::new() } else { format!("X-Forwarded-For: {client}\r\n") };
            assert_eq!(wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{said}\r\n")).reply().status, 200, "{how}");
        };
        clients.iter().for_each(|client| ask(client));
        assert_eq!(asked.load(SeqCst), expected, "{how}");
        // Others: the open connection is to be seen with them at once, and again only once.
        let others = Arc::new(AtomicUsize::new(0));
        guard.replace_places(counted(&others));
        (0..3).for_each(|_| ask(clients[2]));
        assert_eq!((asked.load(SeqCst), others.load(SeqCst)), (expected, 1), "{how}");
    }
}

/// Of a login the guard looks twice: before it waits for the body, and with it.
#[test]
fn the_databases_are_asked_once_for_a_login_and_for_many_streams() {
    let origin = Origin::start();
    let guard = usual();
    let asked = Arc::new(AtomicUsize::new(0));
    guard.replace_places(counted(&asked));
    let mut settings = settings(&origin);
    settings.listen[0].http2 = Http2::On;
    let proxy = with(settings, &guard);
    let client = crate::proxy_http2::Client::connect(proxy.address);
    for count in 1..=3 {
        client.starts("http://a/login", "user=alice&password=p");
        origin.wait(count);
    }
    assert_eq!(asked.load(SeqCst), 1);
}

/// What a host remembers of one address says nothing of another.
#[test]
fn a_place_is_that_of_its_address_and_of_its_databases() {
    let guard = usual();
    let asked = Arc::new(AtomicUsize::new(0));
    guard.replace_places(counted(&asked));
    let [one, other]: [IpAddr; 2] = ["203.0.113.7", "203.0.113.8"].map(|ip| ip.parse().unwrap());
    let known = guard.locate(one, None);
    assert_eq!((guard.locate(one, Some(known)), asked.load(SeqCst)), (known, 1));
    assert_ne!(guard.locate(other, Some(known)), known);
    guard.replace_places(counted(&asked));
    assert_ne!(guard.locate(one, Some(known)), known);
    assert_eq!(asked.load(SeqCst), 3);
}
