//! The guard in its proxy, over sockets: what only shows where the two meet.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use portcullis::engine::Guard;
use portcullis::facts::route::{CaseSensitivity, RoutePattern};
use portcullis::layer::GuardBuilder;
use portcullis::limit::{LimitSettings, Rate};
use portcullis::proxy::{Guarded, Http2, Settings};
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
