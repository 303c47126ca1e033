//! A guard with sinks is killed again and again, whatever it is doing: who is told of events over the network has all that was kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use portcullis::entropy::{InsecureSeededEntropy, random};
use serde_json::Value;

use super::sinks::message;
use super::world::{LOGGED_IN, World};
use crate::support::origin::{Origin, raw};
use crate::support::receivers::Receiver;
use crate::support::running::until;

const ROUNDS: u64 = 12;

/// Requests with ids that nobody was given, each of which is told, until nobody answers any more or it is enough.
fn guesses(address: SocketAddr) {
    let guess = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: portcullis={}\r\n\r\n", "A".repeat(65));
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let mut answer = [0; 4096];
    let mut asks = || stream.write_all(guess.as_bytes()).is_ok() && stream.read(&mut answer).is_ok_and(|read| read > 0);
    for _ in 0..300 {
        if !asks() {
            return;
        }
    }
}

#[test]
fn what_is_kept_over_kills_comes_to_every_receiver_under_one_id() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (siem, hook) = (Receiver::stream(listener, None), Origin::start());
    hook.always(raw("HTTP/1.1 204 No Content\r\n\r\n"));
    world.configure(&format!(
        "journal = {{ path = \"data/events.jsonl\", sync = \"0s\" }}\n[[events.sink]]\ntype = \"stdout\"\n\
         [[events.sink]]\nname = \"siem\"\ntype = \"syslog\"\naddress = \"tcp://{address}\"\n\
         [[events.sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://{}/\"\nallow_private = true\n\
         secret_env = \"HOOK_SECRET\"\n",
        hook.address()
    ));
    world.without_limits();
    let start = || world.start_with("HOOK_SECRET", "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    let dice = InsecureSeededEntropy::new(8);
    let roll = |sides: u64| u64::from_be_bytes(random(&dice).unwrap()) % sides;
    for _ in 0..ROUNDS {
        let mut guard = start();
        for _ in 0..roll(4) {
            assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
        }
        let client = thread::spawn({
            let address = guard.address;
            move || guesses(address)
        });
        // Some moment later, whatever it is doing then.
        let had = hook.seen().len();
        let more = had + usize::try_from(roll(60)).unwrap();
        until("it is at work", || hook.seen().len() >= more);
        guard.process.kill();
        client.join().unwrap();
    }
    let mut guard = start();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    let last = guard.process.event("session.authenticated")["seq"].as_u64().unwrap();
    let journal = || -> BTreeSet<u64> {
        let text = fs::read_to_string(world.journal()).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect()
    };
    let came_to_siem = || -> BTreeMap<u64, BTreeSet<String>> {
        let mut came: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        for event in siem.all().iter().map(|line| message(line)) {
            came.entry(event["seq"].as_u64().unwrap()).or_default().insert(event.to_string());
        }
        came
    };
    let came_to_hook = || -> BTreeMap<u64, BTreeSet<String>> {
        let mut came: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        for seen in hook.seen().iter().filter(|seen| seen.whole) {
            let body: Value = serde_json::from_slice(&seen.body).unwrap();
            let id = seen.header("webhook-id").unwrap().to_owned();
            came.entry(body["data"]["seq"].as_u64().unwrap()).or_default().insert(id);
        }
        came
    };
    let has_last = |came: BTreeMap<u64, BTreeSet<String>>| came.contains_key(&last);
    until("the last login at both", || has_last(came_to_siem()) && has_last(came_to_hook()));
    assert!(guard.process.terminate().success());
    let kept: BTreeSet<u64> = journal().into_iter().filter(|seq| *seq <= last).collect();
    assert!(kept.len() > 200, "{}", kept.len());
    for came in [came_to_siem(), came_to_hook()] {
        let missing: Vec<_> = kept.iter().filter(|seq| !came.contains_key(seq)).collect();
        assert!(missing.is_empty(), "{missing:?} of {}", kept.len());
        let odd: Vec<_> = came.iter().filter(|(_, names)| names.len() != 1).collect();
        assert!(odd.is_empty(), "{odd:?}");
    }
    let (code, out, _) = world.says(&["verify"]);
    assert!(code == 0 && !out.contains("NOT"), "{out}");
}
