//! Sessions that their clients carry: the program keeps none, and remembers which have ended.

use std::fs;
use std::process::Command;

use crate::several_nodes::{Browser, Node, Nodes, of_two_who_change_one_id_one_does, they_know_the_same_sessions};
use crate::support::origin::raw;
use crate::support::redis::Redis;
use crate::support::running::until;

/// The cookies in which the state is carried over plain http.
const PARTS: [&str; 3] = ["portcullis-1", "portcullis-2", "portcullis-3"];

fn carries(browser: &Browser) -> Vec<&'static str> {
    PARTS.into_iter().filter(|name| browser.cookies.contains_key(*name)).collect()
}

/// An answer that sets a cookie of so many characters, which the browser never sees.
fn keeps(name: &str, length: usize) -> String {
    let value = "x".repeat(length);
    format!("HTTP/1.1 200 OK\r\nSet-Cookie: {name}={value}\r\nContent-Length: 2\r\n\r\nok")
}

fn before_kept_in_one_file() -> Nodes {
    Nodes::before("kind = \"sealed\"".to_owned(), "")
}

#[test]
fn a_guard_that_was_killed_goes_on_with_the_sessions_that_clients_carry() {
    let nodes = before_kept_in_one_file();
    let mut node = nodes.start();
    let (mut alice, mut bob) = (Browser::at("203.0.113.7"), Browser::at("203.0.113.8"));
    assert_eq!(alice.logs_in(&nodes, node.address, "alice"), 303);
    assert_eq!(bob.logs_in(&nodes, node.address, "bob"), 303);
    assert_eq!(carries(&alice), ["portcullis-1"]);
    assert!(alice.is_known(&nodes, node.address), "and the app sees nothing of what is carried");
    let text = format!("{:?}", alice.cookies);
    assert!(!text.contains("of-alice") && !text.contains("sessionid"), "{text}");
    let stolen = bob.clone();
    bob.asks(node.address, "POST /logout", "");
    assert_eq!(carries(&bob), [""; 0], "a logout takes them away");
    node.process.kill();
    let node = nodes.start();
    assert!(alice.is_known(&nodes, node.address), "nobody is logged out");
    assert!(!stolen.clone().is_known(&nodes, node.address), "nobody who was comes back");
    assert!(!stolen.clone().is_known(&nodes, node.address));
}

#[test]
fn replayed_session_state() {
    let nodes = before_kept_in_one_file();
    let mut node = nodes.start();
    let mut alice = Browser::at("203.0.113.7");
    alice.logs_in(&nodes, node.address, "alice");
    let old = alice.clone();
    alice.logs_in(&nodes, node.address, "alice");
    assert!(alice.is_known(&nodes, node.address) && !old.clone().is_known(&nodes, node.address));
    node.process.kill();
    let node = nodes.start();
    assert!(!old.clone().is_known(&nodes, node.address) && alice.is_known(&nodes, node.address));
    // Neither do parts of two sessions make one.
    let mut mixed = alice.clone();
    mixed.cookies.insert("portcullis-1".to_owned(), old.cookies["portcullis-1"].clone());
    let mut node = killed_and_started(&nodes, node);
    assert!(!mixed.is_known(&nodes, node.address));
    assert_eq!(node.process.event("cookie.tampered")["fault"], "the state of a session does not open");
    assert!(alice.is_known(&nodes, node.address));
}

/// One that knows nothing.
fn killed_and_started(nodes: &Nodes, mut node: Node) -> Node {
    node.process.kill();
    nodes.start()
}

#[test]
fn a_state_grows_into_more_cookies_and_shrinks_again() {
    let nodes = before_kept_in_one_file();
    let node = nodes.start();
    let mut alice = Browser::at("203.0.113.7");
    alice.logs_in(&nodes, node.address, "alice");
    nodes.origin.next(raw(&keeps("sessionid", 3500)));
    alice.fetches(node.address, "/large");
    assert_eq!(carries(&alice), ["portcullis-1", "portcullis-2"]);
    let node = killed_and_started(&nodes, node);
    nodes.origin.always(raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    alice.fetches(node.address, "/");
    assert_eq!(nodes.last_cookie().unwrap().len(), "sessionid=".len() + 3500);
    nodes.origin.next(raw(&keeps("sessionid", 5)));
    alice.fetches(node.address, "/small");
    assert_eq!(carries(&alice), ["portcullis-1"], "what is not needed is taken away");
    let node = killed_and_started(&nodes, node);
    alice.fetches(node.address, "/");
    assert_eq!(nodes.last_cookie().as_deref(), Some("sessionid=xxxxx"));
}

#[test]
fn an_app_neither_sees_nor_sets_what_is_carried() {
    let nodes = before_kept_in_one_file();
    let mut node = nodes.start();
    let mut alice = Browser::at("203.0.113.7");
    alice.logs_in(&nodes, node.address, "alice");
    let carried = alice.cookies["portcullis-1"].clone();
    nodes.origin.next(raw("HTTP/1.1 200 OK\r\nSet-Cookie: portcullis-1=mine\r\nContent-Length: 2\r\n\r\nok"));
    alice.cookies.insert("theme".to_owned(), "dark".to_owned());
    alice.fetches(node.address, "/");
    assert_eq!(nodes.last_cookie().as_deref(), Some("theme=dark; sessionid=of-alice"));
    assert_eq!(alice.cookies["portcullis-1"], carried);
    assert_eq!(node.process.event("header.spoofed")["header"], "set-cookie");
}

/// A client is told that what it did was not kept, and the operator why.
#[test]
fn what_does_not_fit_into_cookies_is_refused() {
    let nodes = before_kept_in_one_file();
    let mut node = nodes.start();
    let mut alice = Browser::at("203.0.113.7");
    alice.logs_in(&nodes, node.address, "alice");
    let lines: String =
        (0..3).map(|nth| format!("Set-Cookie: sessionid={}; Path=/{nth}\r\n", "x".repeat(3500))).collect();
    nodes.origin.next(raw(&format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok")));
    assert_eq!(alice.fetches(node.address, "/large").status, 503);
    let failed = node.process.event("dependency.failed");
    assert!(failed["fault"].as_str().unwrap().contains("too large for this store"), "{failed}");
    assert!(alice.is_known(&nodes, node.address), "what was there before is there still");
}

#[test]
fn an_operator_ends_sessions_that_the_guard_has_never_seen() {
    let nodes = before_kept_in_one_file();
    let node = nodes.start();
    let (mut alice, mut bob) = (Browser::at("203.0.113.7"), Browser::at("203.0.113.8"));
    alice.logs_in(&nodes, node.address, "alice");
    bob.logs_in(&nodes, node.address, "bob");
    let reference = nodes.origin.seen().last().unwrap().header("portcullis-ref").map(str::to_owned);
    assert_eq!(reference, None, "a login has none yet");
    bob.fetches(node.address, "/");
    let reference = nodes.origin.seen().last().unwrap().header("portcullis-ref").unwrap().to_owned();
    let config = nodes.folder.path().join("portcullis.toml");
    let text = fs::read_to_string(&config).unwrap().replace("\"off\"\n[[events", "\"unix:admin.sock\"\n[[events");
    fs::write(&config, text).unwrap();
    let mut node = killed_and_started(&nodes, node);
    let at = format!("unix:{}", nodes.folder.path().join("admin.sock").display());
    let revoke = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["sessions", "revoke", "--admin", &at]).args(words).current_dir(nodes.folder.path());
        let output = command.output().unwrap();
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let told = "0 sessions ended, and those that the guard has not seen\n".to_owned();
    let (is_done, err) = revoke(&[&reference]);
    assert!(!is_done && err.contains("end all sessions of its subject"), "{err}");
    assert_eq!(revoke(&["--subject", "alice"]), (true, told.clone()));
    assert!(!alice.is_known(&nodes, node.address) && bob.is_known(&nodes, node.address));
    let used = node.process.event("session.use_after_expire");
    assert_eq!((used["ended"].as_str(), used["subject"].as_str()), (Some("revoked"), Some("alice")), "{used}");
    let node = killed_and_started(&nodes, node);
    assert_eq!(revoke(&["--all", "--yes"]), (true, told));
    assert!(!bob.is_known(&nodes, node.address));
    assert_eq!(bob.logs_in(&nodes, node.address, "bob"), 303);
    assert!(bob.is_known(&nodes, node.address), "who signs in again is in");
}

#[test]
fn two_guards_remember_together_in_redis_which_sessions_have_ended() {
    let Some(redis) = Redis::start() else { return };
    let nodes = Nodes::before(format!("kind = \"sealed\"\nended = \"redis\"\nurl = \"{}\"", redis.url), "");
    let (one, other) = (nodes.start(), nodes.start());
    they_know_the_same_sessions(&nodes, [&one, &other]);
    of_two_who_change_one_id_one_does(&nodes, [one.address, other.address]);
}

/// Without it nobody knows who was logged out: sessions are refused, strangers are served.
#[test]
fn while_it_can_not_be_asked_what_has_ended_sessions_are_refused() {
    let Some(redis) = Redis::start() else { return };
    let nodes = Nodes::before(format!("kind = \"sealed\"\nended = \"redis\"\nurl = \"{}\"", redis.url), "");
    let node = nodes.start();
    let mut alice = Browser::at("203.0.113.7");
    alice.logs_in(&nodes, node.address, "alice");
    drop(redis);
    until("the loss of the store", || alice.clone().fetches(node.address, "/").status == 503);
    assert_eq!(Browser::at("203.0.113.9").fetches(node.address, "/").status, 200);
}

#[test]
fn ends_are_remembered_in_a_database_too() {
    let nodes = Nodes::before("kind = \"sealed\"\nended = \"sqlite\"".to_owned(), "");
    let node = nodes.start();
    let (mut alice, mut bob) = (Browser::at("203.0.113.7"), Browser::at("203.0.113.8"));
    alice.logs_in(&nodes, node.address, "alice");
    bob.logs_in(&nodes, node.address, "bob");
    let stolen = bob.clone();
    bob.asks(node.address, "POST /logout", "");
    let node = killed_and_started(&nodes, node);
    assert!(alice.is_known(&nodes, node.address) && !stolen.clone().is_known(&nodes, node.address));
}

/// A new key is used for what clients carry from then on; and when the old one is taken out, who has not signed in since is out:
/// whoever has that key may have made his session.
#[test]
fn keys_are_replaced_and_taken_out() {
    let nodes = before_kept_in_one_file();
    let mut node = nodes.start();
    let (mut alice, mut bob) = (Browser::at("203.0.113.7"), Browser::at("203.0.113.8"));
    alice.logs_in(&nodes, node.address, "alice");
    bob.logs_in(&nodes, node.address, "bob");
    let before = alice.clone();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    assert!(command.arg("keygen").current_dir(nodes.folder.path()).output().unwrap().status.success());
    node.reload();
    for browser in [&mut alice, &mut bob] {
        assert!(browser.is_known(&nodes, node.address));
    }
    assert_ne!(alice.cookies["portcullis-1"], before.cookies["portcullis-1"], "sealed again");
    nodes.origin.next(raw("HTTP/1.1 200 OK\r\nPortcullis-Session: reauthenticated\r\nContent-Length: 0\r\n\r\n"));
    bob.fetches(node.address, "/password");
    let file = nodes.folder.path().join("keys.toml");
    let keys = fs::read_to_string(&file).unwrap();
    let (second, _) = keys.match_indices("[[key]]").nth(1).unwrap();
    fs::write(&file, keys.split_at(second).0).unwrap();
    node.reload();
    assert!(!alice.clone().is_known(&nodes, node.address));
    assert!(bob.is_known(&nodes, node.address));
    let node = killed_and_started(&nodes, node);
    assert!(!alice.is_known(&nodes, node.address) && bob.is_known(&nodes, node.address));
}

/// What a cache keeps carries nobody's session: the next answer does.
#[test]
fn an_answer_that_a_cache_may_keep_carries_no_state() {
    let nodes = before_kept_in_one_file();
    let node = nodes.start();
    let mut alice = Browser::at("203.0.113.7");
    alice.logs_in(&nodes, node.address, "alice");
    let before = alice.clone();
    nodes.origin.next(raw("HTTP/1.1 200 OK\r\nPortcullis-Session: expire; in=3600\r\nContent-Length: 0\r\n\r\n"));
    alice.fetches(node.address, "/changes");
    assert_ne!(alice.cookies, before.cookies);
    // A client that carries an older state would be given the newer one.
    let mut late = before.clone();
    for head in ["200 OK\r\nCache-Control: public, max-age=60", "304 Not Modified\r\nETag: \"1\""] {
        nodes.origin.next(raw(&format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n")));
        let reply = late.fetches(node.address, "/picture");
        assert_eq!(reply.all("set-cookie"), Vec::<&str>::new(), "{}", reply.head);
    }
    nodes.origin.next(raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let reply = late.fetches(node.address, "/page");
    assert_ne!(late.cookies["portcullis-1"], before.cookies["portcullis-1"]);
    assert!(reply.header("cache-control").unwrap().contains("no-store"), "{}", reply.head);
}
