//! Receivers that misbehave, over real sockets: nothing is lost for the others, requests are served, memory stays small, and
//! whoever comes to his senses has everything. What a receiver over TLS can not prove is not sent to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::sinks::message;
use super::world::{LOGGED_IN, World};
use crate::support::origin::{Act, Origin, Seen, raw};
use crate::support::receivers::{self, Receiver};
use crate::support::running::until;
use crate::support::wire::Wire;

const JOURNAL: &str = "journal = { path = \"data/events.jsonl\", sync = \"0s\" }\n[[events.sink]]\ntype = \"stdout\"\n";
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// What a guard may have in memory while its receivers do what they like: it has some 40 MB without any, and one answer that
/// was read to its end would be more than this.
const MEMORY_MAX_KIB: u64 = 200 * 1024;

fn bad(name: &str, kind: &str, at: SocketAddr) -> String {
    format!(
        "[[events.sink]]\nname = \"{name}\"\ntype = \"{kind}\"\nurl = \"http://{at}/{name}\"\nallow_private = true\ntimeout = \"1s\"\n{}",
        if kind == "webhook" { "secret_env = \"HOOK_SECRET\"\n" } else { "" }
    )
}

/// Somebody who answers each request with octets that never end.
fn endless(begin: &'static str, chunk: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut asked = [0; 1024];
                let begun = stream.read(&mut asked).is_ok() && stream.write_all(begin.as_bytes()).is_ok();
                let many = chunk.repeat(64 * 1024 / chunk.len());
                while begun && stream.write_all(&many).is_ok() {}
            });
        }
    });
    address
}

/// Kilobytes that a process has in memory.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// The events in a request to a webhook, to Loki or to a collector: their numbers, and by what name each is known there.
fn events_in(kind: &str, request: &Seen) -> Vec<(u64, String)> {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let line = |text: &Value| -> Value { serde_json::from_str(text.as_str().unwrap()).unwrap() };
    let named = |event: Value| (event["seq"].as_u64().unwrap(), event["ts"].to_string());
    match kind {
        "webhook" => vec![(body["data"]["seq"].as_u64().unwrap(), request.header("webhook-id").unwrap().to_owned())],
        "loki" => {
            let streams = body["streams"].as_array().unwrap().iter();
            let values = streams.flat_map(|stream| stream["values"].as_array().unwrap());
            values.map(|value| named(line(&value[1]))).collect()
        }
        _ => {
            let logs = body["resourceLogs"].as_array().unwrap().iter();
            let records = logs.flat_map(|of| of["scopeLogs"][0]["logRecords"].as_array().unwrap());
            records.map(|record| named(line(&record["body"]["stringValue"]))).collect()
        }
    }
}

/// All that came to a receiver as a whole, by number: under which names.
fn came_to(kind: &str, origin: &Origin) -> BTreeMap<u64, BTreeSet<String>> {
    let mut names: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for (seq, name) in origin.seen().iter().filter(|seen| seen.whole).flat_map(|seen| events_in(kind, seen)) {
        names.entry(seq).or_default().insert(name);
    }
    names
}

/// The sinks that such events are told about.
fn told_of(receiver: &Receiver, kind: &str) -> BTreeSet<String> {
    let messages = receiver.all();
    let events = messages.iter().filter(|message| message.contains(&format!("\"event\":\"{kind}\"")));
    let parsed = events.map(|line| message(line));
    parsed.map(|event| event[if kind == "dependency.failed" { "fault" } else { "which" }].to_string()).collect()
}

#[test]
fn receivers_that_misbehave_cost_the_others_nothing_and_get_everything_in_the_end() {
    let world = World::new();
    let [fails, nonsense, mute, closes, drips] = [(); 5].map(|()| Origin::start());
    fails.always(raw("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"));
    nonsense.always(Act::ReplyAndClose(b"\x00\xff\x13HTTP?\r\n\x1b[31m\r\n\r\n".repeat(50)));
    mute.always(Act::Silence);
    closes.always(Act::Close);
    // Slow, and not too slow.
    let drops = NO_CONTENT.as_bytes().chunks(7).map(<[u8]>::to_vec).collect();
    drips.always(Act::Slowly(drops, Duration::from_millis(30)));
    let body = endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n");
    let head = endless("HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n");
    let healthy = TcpListener::bind("127.0.0.1:0").unwrap();
    let siem = format!(
        "[[events.sink]]\nname = \"siem\"\ntype = \"syslog\"\naddress = \"tcp://{}\"\n",
        healthy.local_addr().unwrap()
    );
    let siem = (siem, Receiver::stream(healthy, None));
    world.configure(&format!(
        "{JOURNAL}{}{}{}{}{}{}{}{}",
        bad("fails", "webhook", fails.address()),
        bad("nonsense", "loki", nonsense.address()),
        bad("mute", "otlp", mute.address()),
        bad("closes", "webhook", closes.address()),
        bad("drips", "loki", drips.address()),
        bad("endless-body", "otlp", body),
        bad("endless-head", "loki", head),
        siem.0
    ));
    world.without_limits();
    let mut guard = world.start_with("HOOK_SECRET", "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    let process = guard.process.id();
    // What comes behind a head that says 200 is not waited for: it was taken.
    let names = ["fails", "nonsense", "mute", "closes", "endless-head"];
    let is_told = |kind: &str, names: &[&str]| {
        let told = told_of(&siem.1, kind);
        names.iter().all(|name| told.iter().any(|told| told.contains(name)))
    };
    // While each of them fails, people log in, and whoever is well is told at once.
    let mut logins = 0;
    while !is_told("dependency.failed", &names) {
        assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
        logins += 1;
        assert!(memory(process) < MEMORY_MAX_KIB, "{} KiB", memory(process));
        let came = || siem.1.all().iter().filter(|line| line.contains("session.authenticated")).count() >= logins;
        until("the login at whoever is well", came);
        assert!(logins < 10_000, "{:?}", told_of(&siem.1, "dependency.failed"));
    }
    // They come to their senses, all but those that can not.
    for origin in [&fails, &nonsense, &mute, &closes] {
        origin.always(raw(NO_CONTENT));
    }
    until("all of them at work again", || is_told("dependency.restored", &names[..4]));
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    assert!(memory(process) < MEMORY_MAX_KIB, "{} KiB", memory(process));
    let journal = || fs::read_to_string(world.journal()).unwrap();
    let last =
        || journal().lines().last().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].clone()).unwrap();
    let last = last().as_u64().unwrap();
    let receivers = [("webhook", &fails), ("loki", &nonsense), ("otlp", &mute), ("webhook", &closes), ("loki", &drips)];
    let has_last =
        |kind: &str, origin: &Origin| came_to(kind, origin).last_key_value().is_some_and(|(seq, _)| *seq >= last);
    until("the last event at all of them", || receivers.iter().all(|(kind, origin)| has_last(kind, origin)));
    assert!(guard.process.terminate().success());

    let journal = journal();
    let all: BTreeSet<u64> =
        journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect();
    for (at, (kind, origin)) in receivers.into_iter().enumerate() {
        // At least once, and under one name each time.
        let came = came_to(kind, origin);
        assert!(came.values().all(|names| names.len() == 1), "{at}: {came:?}");
        // What is told at the very end may come with the next start.
        let missing: Vec<_> = all.iter().filter(|seq| **seq <= last && !came.contains_key(seq)).collect();
        assert!(missing.is_empty(), "{at}: {missing:?}");
    }
    assert!(fails.seen().len() > came_to("webhook", &fails).len(), "what failed was sent again");
}

/// Whoever has started the guard reads neither its standard output nor its complaints.
#[test]
fn what_nobody_reads_of_a_guard_holds_up_nothing_else() {
    let world = World::new();
    let healthy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = healthy.local_addr().unwrap();
    let siem = Receiver::stream(healthy, None);
    world.configure(&format!(
        "{JOURNAL}[[events.sink]]\nname = \"siem\"\ntype = \"syslog\"\naddress = \"tcp://{address}\"\n"
    ));
    world.without_limits();
    let mut command = world.command(&["run"]);
    command.env("PORTCULLIS_LOG", "trace").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut guard = Unread(command.spawn().unwrap());
    let started = message(&siem.with("\"event\":\"guard.started\""));
    let address = started["listen"].as_str().unwrap().parse().unwrap();
    // Each is told as an id that nobody was given.
    let guess = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: portcullis={}\r\n\r\n", "A".repeat(65));
    let mut wire = Wire::connect(address);
    let is_told = || siem.all().iter().any(|line| line.contains("\"event\":\"dependency.failed\""));
    let mut guesses = 0;
    while !is_told() {
        assert!(wire.send(&guess).reply().status > 0);
        guesses += 1;
        assert!(guesses < 50_000, "nobody notices");
    }
    let told = message(&siem.with("\"event\":\"dependency.failed\""));
    assert!(told["fault"].as_str().unwrap().starts_with("stdout: nobody reads"), "{told}");
    assert_eq!(world.tries_at(address, LOGGED_IN).0, 303);
    siem.with("session.authenticated");
    let journal = fs::read_to_string(world.journal()).unwrap();
    assert!(journal.contains("session.authenticated"));
    assert!(memory(guard.0.id()) < MEMORY_MAX_KIB);
    // Somebody reads again, and is told what is missing.
    let lines = BufReader::new(guard.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let is_gap = |line: &String| line.contains("\"event\":\"events.gap\"") && line.contains("\"sink\":\"stdout\"");
    let (found, gap) = std::sync::mpsc::channel();
    thread::spawn(move || lines.filter(is_gap).for_each(|line| drop(found.send(line))));
    until("what is missing", || {
        Wire::connect(address).send(&guess).reply();
        gap.try_recv().is_ok()
    });
}

/// Ended with the test.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

// ---- receivers over TLS --------------------------------------------------------------------------------------------

/// A receiver over HTTPS that takes everything.
fn https(config: Arc<ServerConfig>) -> (u16, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (config, count) = (config.clone(), count.clone());
            thread::spawn(move || {
                let mut stream: StreamOwned<_, TcpStream> =
                    StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                let mut asked = Vec::new();
                let mut octet = [0];
                while !asked.ends_with(b"\r\n\r\n") {
                    if stream.read_exact(&mut octet).is_err() {
                        return;
                    }
                    asked.extend(octet);
                }
                let head = String::from_utf8(asked).unwrap().to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
                let mut body = vec![0; length.trim().parse().unwrap()];
                if stream.read_exact(&mut body).is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                    drop(stream.write_all(NO_CONTENT.as_bytes()));
                    drop(stream.flush());
                }
            });
        }
    });
    (port, asked)
}

#[test]
fn what_a_receiver_can_not_prove_is_not_sent_to_it() {
    let world = World::new();
    let (ours, config) = receivers::tls(world.folder());
    let elsewhere = world.folder().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let (others, _) = receivers::tls(&elsewhere);
    let (port, asked) = https(config);
    let sink = |name: &str, host: &str, ca: &str| {
        format!(
            "[[events.sink]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"https://{host}:{port}/\"\nallow_private = true\n\
             secret_env = \"HOOK_SECRET\"\n{ca}"
        )
    };
    let ca = |file: &std::path::Path| format!("ca = \"{}\"\n", file.display());
    let fingerprint = |file: &std::path::Path| format!("fingerprint = [\"{}\"]\n", receivers::fingerprint(file));
    world.configure(&format!(
        "{JOURNAL}{}{}{}{}{}{}",
        // Neither its name nor who signed it is asked then.
        sink("known", "127.0.0.1", &fingerprint(&ours)),
        sink("unknown", "localhost", &fingerprint(&others)),
        sink("good", "localhost", &ca(&ours)),
        sink("name", "127.0.0.1", &ca(&ours)),
        sink("authority", "localhost", &ca(&others)),
        sink("nobody", "localhost", ""),
    ));
    let tries = |name: &str| {
        let mut command = world.command(&["events", "test-sink", name]);
        let output = command.env("HOOK_SECRET", "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.success(), text)
    };
    for name in ["name", "authority", "nobody", "unknown"] {
        let (is_good, said) = tries(name);
        assert!(!is_good && said.contains("certificate"), "{name}: {said}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "not an octet of an event was sent");
    for (nth, name) in ["good", "known"].into_iter().enumerate() {
        let (is_good, said) = tries(name);
        assert!(is_good && asked.load(Ordering::SeqCst) > nth, "{said}");
    }
}
