//! An unchanged Express app behind the guard: the attacks that `bare` shows to work on it fail here.

use std::io::ErrorKind;
use std::time::Duration;

use super::app::{App, EXPRESS};
use super::guard::{COOKIE, Guard, Pace};
use super::stories::{
    ALICE, all_tabs_at_once, fixation_works, late_save_revives, ordinary_visit, sign_out, signed_in, user, user_if_any,
};
use crate::support::browser::{Browser, Client};
use crate::support::http::Connection;

#[test]
fn express_works_unchanged_behind_the_guard() {
    let Some(app) = App::shared(&EXPRESS) else { return };
    let guard = Guard::in_front_of(app, Pace::Normal);
    let browser = ordinary_visit(app, guard.address);
    assert_eq!(browser.cookie(app.kind.cookie), None, "the browser never sees the app's session");
}

#[test]
fn fixation_of_an_express_session_fails() {
    let Some(app) = App::shared(&EXPRESS) else { return };
    let guard = Guard::in_front_of(app, Pace::Normal);
    assert!(!fixation_works(app, guard.address, app.kind.cookie));
    assert!(!fixation_works(app, guard.address, COOKIE));
}

#[test]
fn a_late_save_revives_nothing_behind_the_guard() {
    let Some(app) = App::shared(&EXPRESS) else { return };
    let guard = Guard::in_front_of(app, Pace::RotatesAlways);
    assert!(!late_save_revives(app, guard.address));
}

#[test]
fn a_stolen_express_jar_is_of_no_use_to_another_client() {
    let Some(app) = App::shared(&EXPRESS) else { return };
    let mut guard = Guard::in_front_of(app, Pace::Normal);
    let mut alice = signed_in(app, guard.address, Client::chrome());
    assert_eq!(user_if_any(app, &mut alice.stolen_by(Client::script())), None);
    guard.event("session.hijack_suspected");
    assert_eq!(user(app, &mut alice).as_deref(), Some(ALICE));
}

#[test]
fn no_express_request_fails_while_tags_rotate() {
    let Some(app) = App::shared(&EXPRESS) else { return };
    let guard = Guard::in_front_of(app, Pace::RotatesAlways);
    let alice = signed_in(app, guard.address, Client::chrome());
    let answers = all_tabs_at_once(app, &alice, 8, 25);
    assert!(answers.iter().all(|answer| *answer == (200, true)), "{answers:?}");
}

#[test]
fn logout_cuts_event_streams_and_web_sockets() {
    let Some(app) = App::shared(&EXPRESS) else { return };
    let guard = Guard::in_front_of(app, Pace::Normal);
    let mut alice = signed_in(app, guard.address, Client::chrome());
    let mut events = event_stream(&alice);
    let mut socket = web_socket(&alice);
    alice.post("/say", &[("text", "still here")]).expect_status(200);
    read_until(&mut events, "data: still here");

    sign_out(app, &mut alice);
    assert!(is_cut(&mut events), "the event stream lives on");
    assert!(is_cut(&mut socket), "the socket lives on");
}

#[test]
fn event_streams_and_web_sockets_of_the_bare_app_outlive_the_logout() {
    let Some(app) = App::shared(&EXPRESS) else { return };
    let mut alice = signed_in(app, app.address(), Client::chrome());
    let mut events = event_stream(&alice);
    let mut socket = web_socket(&alice);
    sign_out(app, &mut alice);
    alice.post("/say", &[("text", "still here")]).expect_status(200);
    read_until(&mut events, "data: still here");
    // A text frame of one octet, under a mask of zeros, comes back unmasked.
    socket.send_octets(&[0x81, 0x81, 0, 0, 0, 0, b'x']).unwrap();
    assert_eq!(socket.exactly(3).unwrap(), [0x81, 1, b'x']);
}

#[track_caller]
fn event_stream(browser: &Browser) -> Connection {
    let (response, mut connection) = browser.open("/events", "");
    assert_eq!(response.status, 200);
    read_until(&mut connection, "data: hello alice");
    connection
}

/// Opens `/socket` and reads its greeting.
#[track_caller]
fn web_socket(browser: &Browser) -> Connection {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: c29tZSBub25jZSBoZXJlIQ==\r\n";
    let (response, mut connection) = browser.open("/socket", upgrade);
    assert_eq!(response.status, 101, "{response:?}");
    let greeting = b"hello alice";
    let frame = connection.exactly(2 + greeting.len()).unwrap();
    assert_eq!(frame.strip_prefix(&[0x81, 11]), Some(&greeting[..]));
    connection
}

/// Reads lines, chunk sizes among them, until one is this.
#[track_caller]
fn read_until(connection: &mut Connection, wanted: &str) {
    while connection.line().unwrap() != wanted {}
}

/// Whether the connection ends within a second.
fn is_cut(connection: &mut Connection) -> bool {
    connection.wait_at_most(Duration::from_secs(1));
    loop {
        if let Err(error) = connection.exactly(1) {
            return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        }
    }
}
