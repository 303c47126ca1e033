//! Receivers that are gone without a word: no packet comes back and nobody closes anything (half-open, RFC 9293, 3.5.1).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener};

use serde_json::Value;

use super::sinks::message;
use super::world::{LOGGED_IN, World};
use crate::support::namespace::{Host, in_own_network};
use crate::support::receivers::Receiver;
use crate::support::running::until;

const HOST: Host = Host("192.0.2.1");

/// Octets that were sent to that address and of which it has not said that they arrived.
fn on_their_way(to: SocketAddr) -> u64 {
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let port = format!(":{:04X}", to.port());
    let ours = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // The other end's address and port, the state (1 is established), octets that wait to be confirmed and to be read.
    let waiting =
        ours.filter(|row| row[2].ends_with(&port) && row[3] == "01").map(|row| row[4].split_once(':').unwrap().0);
    waiting.map(|octets| u64::from_str_radix(octets, 16).unwrap()).sum()
}

/// What came, by number: each event once, however often it was sent.
fn came(receiver: &Receiver) -> BTreeMap<u64, Value> {
    let mut events = BTreeMap::new();
    for event in receiver.all().iter().map(|line| message(line)) {
        let before = events.insert(event["seq"].as_u64().unwrap(), event.clone());
        assert!(before.is_none_or(|before| before == event), "{event} is another one than before");
    }
    events
}

#[test]
fn what_a_receiver_that_is_gone_without_a_word_was_sent_is_sent_again() {
    if !in_own_network("events::half_open::what_a_receiver_that_is_gone_without_a_word_was_sent_is_sent_again") {
        return;
    }
    HOST.appear();
    let listener = TcpListener::bind((HOST.0, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let siem = Receiver::stream(listener, None);
    let world = World::with(&format!(
        "journal = {{ path = \"data/events.jsonl\", sync = \"0s\" }}\n[[events.sink]]\ntype = \"stdout\"\n\
         [[events.sink]]\nname = \"siem\"\ntype = \"syslog\"\naddress = \"tcp://{address}\"\n"
    ));
    let mut guard = world.start();
    let logins = || came(&siem).values().filter(|event| event["event"] == "session.authenticated").count();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    until("the first login", || logins() == 1);

    // Its machine has lost its power, and knows of no connection when it is back.
    until("all of it confirmed", || on_their_way(address) == 0);
    HOST.vanish();
    siem.forget();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    until("something on its way to nobody", || on_their_way(address) > 0);
    assert_eq!(logins(), 1);
    HOST.appear();
    until("the login that it was not there for", || logins() == 2);

    // Its network is cut, and nothing tells so: neither is it known here, nor there.
    until("all of it confirmed", || on_their_way(address) == 0);
    HOST.vanish();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    let failed = guard.process.event("dependency.failed");
    assert!(failed["fault"].as_str().unwrap().starts_with("siem: "), "{failed}");
    // People log in, and who else is told of events is told.
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    assert_eq!(logins(), 2);
    HOST.appear();
    guard.process.event("dependency.restored");
    until("what it was not there for", || logins() == 4);
    assert!(guard.process.terminate().success());
    until("the last word", || came(&siem).values().any(|event| event["event"] == "guard.stopped"));
    let journal = fs::read_to_string(world.journal()).unwrap();
    let seq = |line: &str| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap();
    assert_eq!(came(&siem).into_keys().collect::<BTreeSet<_>>(), journal.lines().map(seq).collect());
}
