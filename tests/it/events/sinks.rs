//! Events on their way to other programs: over every transport, over kills, and with nothing in them that is secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::programs::python;
use super::world::{LOGGED_IN, WRONG, World};
use crate::support::origin::{Origin, Seen, raw};
use crate::support::receivers::{self, Receiver};
use crate::support::running::until;
use crate::support::wire::Wire;

const JOURNAL: &str = "journal = { path = \"data/events.jsonl\", sync = \"0s\" }\n";
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

fn http() -> Origin {
    let origin = Origin::start();
    origin.always(raw(NO_CONTENT));
    origin
}

fn parsed(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

/// The message of a syslog line, behind its header of eight words or more.
pub(super) fn message(line: &str) -> Value {
    parsed(&line.as_bytes()[line.find("] {").unwrap() + 2..])
}

/// One of each kind.
pub(super) struct Receivers {
    udp: Receiver,
    tcp: Receiver,
    tls: Receiver,
    local: Receiver,
    journald: Receiver,
    hook: Origin,
    loki: Origin,
    otlp: Origin,
    /// Sinks that send to them.
    pub(super) sinks: String,
}

/// What the collector wants to be shown.
pub(super) const TOKEN: &str = "of-the-collector";

impl Receivers {
    pub(super) fn listen(folder: &Path) -> Self {
        let (udp_at, udp) = Receiver::udp();
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (tcp_at, tls_at) = (listen(), listen());
        let (tcp_port, tls_port) = (tcp_at.local_addr().unwrap().port(), tls_at.local_addr().unwrap().port());
        let (ca, config) = receivers::tls(folder);
        let (hook, loki, otlp) = (http(), http(), http());
        let (hook_at, loki_at, otlp_at) = (hook.address(), loki.address(), otlp.address());
        fs::write(folder.join("token"), format!("Bearer {TOKEN}\n")).unwrap();
        let ca = ca.display();
        let syslog =
            |name: &str, rest: &str| format!("[[events.sink]]\nname = \"{name}\"\ntype = \"syslog\"\n{rest}\n");
        let http =
            |kind: &str, rest: &str| format!("[[events.sink]]\ntype = \"{kind}\"\nallow_private = true\n{rest}\n");
        let sinks = [
            "[[events.sink]]\ntype = \"stdout\"\n".to_owned(),
            syslog("udp", &format!("address = \"udp://{udp_at}\"")),
            syslog("tcp", &format!("address = \"tcp://127.0.0.1:{tcp_port}\"\nfacility = \"local3\"")),
            syslog("tls", &format!("address = \"tls://localhost:{tls_port}\"\nca = \"{ca}\"\nformat = \"cef\"")),
            syslog("local", "address = \"unix:log\"\nprivacy = { ip = \"truncate\", subject = \"hmac\" }"),
            "[[events.sink]]\ntype = \"journald\"\npath = \"journald\"\n".to_owned(),
            http(
                "webhook",
                &format!("url = \"http://{hook_at}/hook\"\nsecret_env = \"HOOK_SECRET\"\nkinds = \"session.*\""),
            ),
            http("loki", &format!("url = \"http://{loki_at}\"\nlabels = [\"env=test\"]\ntenant = \"shop\"")),
            http("otlp", &format!("url = \"http://{otlp_at}\"\nauth_file = \"token\"")),
        ];
        let (tcp, tls) = (Receiver::stream(tcp_at, None), Receiver::stream(tls_at, Some(config)));
        let (local, journald) = (Receiver::local(&folder.join("log")), Receiver::local(&folder.join("journald")));
        Self { udp, tcp, tls, local, journald, hook, loki, otlp, sinks: sinks.concat() }
    }

    /// All that came to any of them, with the heads of requests; but for the line in which the collector is shown what
    /// it wants.
    pub(super) fn everything(&self) -> Vec<String> {
        let is_told = |line: &&str| !line.eq_ignore_ascii_case(&format!("authorization: Bearer {TOKEN}"));
        let streams = [&self.udp, &self.tcp, &self.tls, &self.local, &self.journald].map(Receiver::all).concat();
        let [hook, loki, mut otlp] = [&self.hook, &self.loki, &self.otlp].map(Origin::seen);
        for request in &mut otlp {
            request.head = request.head.lines().filter(is_told).collect::<Vec<_>>().join("\n");
        }
        let requests = [hook, loki, otlp].concat();
        let texts = requests.into_iter().flat_map(|seen| [seen.head, String::from_utf8(seen.body).unwrap()]);
        streams.into_iter().chain(texts).collect()
    }

    fn have_lines(&self, told: &Value) {
        let wanted = "session.authenticated";
        for (receiver, priority) in [(&self.udp, "<86>1 "), (&self.tcp, "<158>1 ")] {
            let line = receiver.with(wanted);
            assert!(line.starts_with(priority), "{line}");
            assert_eq!((&message(&line)["seq"], &message(&line)["subject"]), (&told["seq"], &"alice".into()));
        }
        let line = self.tls.with(wanted);
        assert!(line.contains("] CEF:0|") && line.contains("suser=alice"), "{line}");
        let hidden = message(&self.local.with(wanted));
        assert_eq!(hidden["ip"], "127.0.0.0");
        assert!(!hidden["subject"].as_str().unwrap().contains("alice"), "{hidden}");
        let fields = self.journald.with(wanted);
        let seq = format!("PORTCULLIS_SEQ={}", told["seq"]);
        for field in ["SYSLOG_IDENTIFIER=portcullis", "PORTCULLIS_EVENT=session.authenticated", "PRIORITY=6", &seq] {
            assert!(fields.lines().any(|line| line == field), "{field}: {fields}");
        }
        // At the end all of it was delivered, the last word too.
        for receiver in [&self.tcp, &self.tls, &self.local, &self.journald] {
            receiver.with("guard.stopped");
        }
        until("farewells", || [&self.tcp, &self.tls].iter().all(|receiver| receiver.farewells() == 1));
    }
}

#[test]
fn a_login_is_told_over_every_transport_and_no_secret_with_it() {
    let world = World::new();
    let receivers = Receivers::listen(world.folder());
    world.configure(&format!("{JOURNAL}{}", receivers.sinks));
    let key = [7; 32];
    let secret = format!("whsec_{}", STANDARD.encode(key));
    let mut guard = world.start_with("HOOK_SECRET", &secret);
    assert_eq!(world.logs_in(&guard, WRONG), 401);
    let (status, cookie) = world.tries(&guard, LOGGED_IN);
    assert_eq!(status, 303);
    let told = guard.process.event("session.authenticated");
    assert!(guard.process.terminate().success());
    receivers.have_lines(&told);
    hook_is_signed(&receivers.hook, &hmac::Key::new(hmac::HMAC_SHA256, &key));
    loki_has_labels(&receivers.loki);
    otlp_has_records(&receivers.otlp, &told);
    // The id and the tag: neither is told, together or alone.
    let cookie = cookie.expect("a cookie of the guard");
    let (id, tag) = cookie.split_once('.').unwrap();
    let secrets = world.secrets();
    let everything = receivers.everything();
    for secret in secrets.iter().map(String::as_str).chain([secret.as_str(), TOKEN, id, tag]) {
        assert!(everything.iter().all(|text| !text.contains(secret)), "{secret}");
    }
}

fn hook_is_signed(hook: &Origin, key: &hmac::Key) {
    let requests = hook.seen();
    let mut kinds = BTreeSet::new();
    for request in &requests {
        let header = |name| request.header(name).unwrap().to_owned();
        let (id, at, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
        let signed = [format!("{id}.{at}.").as_bytes(), &request.body].concat();
        let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        hmac::verify(key, &signed, &signature).unwrap();
        let body = parsed(&request.body);
        assert_eq!((&body["type"], &body["timestamp"]), (&body["data"]["event"], &body["data"]["ts"]));
        kinds.insert(body["type"].as_str().unwrap().to_owned());
        assert!(request.request_line().starts_with("POST /hook "), "{}", request.request_line());
    }
    assert!(kinds.contains("session.authenticated"), "{kinds:?}");
    // What the stream tells of itself comes too.
    assert!(kinds.iter().all(|kind| kind.starts_with("session.") || kind == "events.sealed"), "{kinds:?}");
}

/// The reference library of Standard Webhooks takes what the sink sends.
#[test]
fn a_webhook_is_verified_by_the_library_of_those_who_wrote_the_standard() {
    let Some(python) = python("standardwebhooks") else { return };
    let world = World::new();
    let hook = http();
    let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
    fs::write(world.folder().join("secret"), &secret).unwrap();
    world.configure(&format!(
        "{JOURNAL}[[events.sink]]\ntype = \"stdout\"\n[[events.sink]]\ntype = \"webhook\"\nurl = \"http://{}/hook\"\n\
         secret_file = \"secret\"\nallow_private = true\n",
        hook.address()
    ));
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, WRONG), 401);
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    assert!(guard.process.terminate().success());
    let line = |request: &Seen| {
        let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers: BTreeMap<_, _> = headers.map(|name| (name, request.header(name).unwrap())).into();
        json!({ "headers": headers, "body": std::str::from_utf8(&request.body).unwrap() }).to_string()
    };
    let lines: Vec<String> = hook.seen().iter().map(line).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/webhook/verify.py");
    let verify = |secret: &str, text: &str| {
        let requests = world.folder().join("requests");
        fs::write(&requests, text).unwrap();
        let requests = fs::File::open(&requests).unwrap();
        let output = Command::new(&python).arg(&script).arg(secret).stdin(requests).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let text = lines.join("\n");
    assert_eq!(verify(&secret, &text), (true, format!("verified {}\n", lines.len())));
    assert!(lines.len() >= 4, "{text}");
    assert!(!verify(&format!("whsec_{}", STANDARD.encode([8; 32])), &text).0);
    assert!(!verify(&secret, &text.replacen("login.failed", "login.fooled", 1)).0);
}

/// A collector has what the journal has, as the types of the OpenTelemetry project read it.
#[test]
fn a_request_of_otlp_is_read_by_the_types_of_those_who_wrote_it() {
    let Some(python) = python("opentelemetry.proto") else { return };
    let world = World::new();
    let collector = http();
    world.configure(&format!(
        "{JOURNAL}[[events.sink]]\ntype = \"stdout\"\n[[events.sink]]\ntype = \"otlp\"\nurl = \"http://{}\"\n\
         allow_private = true\n",
        collector.address()
    ));
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, WRONG), 401);
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    assert!(guard.process.terminate().success());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/otlp/read.py");
    let read = |text: &str| {
        let requests = world.folder().join("requests");
        fs::write(&requests, text).unwrap();
        let output = Command::new(&python).arg(&script).stdin(fs::File::open(&requests).unwrap()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let records: Vec<Value> = text.lines().map(|line| parsed(line.as_bytes())).collect();
        (output.status.success(), records, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let bodies: Vec<_> = collector.seen().iter().map(|seen| String::from_utf8(seen.body.clone()).unwrap()).collect();
    let text = bodies.join("\n");
    let (is_good, records, said) = read(&text);
    assert!(is_good, "{said}");
    let journal = fs::read_to_string(world.journal()).unwrap();
    let told: Vec<Value> = journal.lines().map(|line| parsed(line.as_bytes())).collect();
    assert!(told.len() >= 5, "{told:?}");
    assert_eq!(records.len(), told.len());
    for (record, event) in records.iter().zip(&told) {
        assert_eq!((&record["name"], &record["severity_text"]), (&event["event"], &event["severity"]));
        assert_eq!(parsed(record["body"].as_str().unwrap().as_bytes())["seq"], event["seq"]);
        let attributes = &record["attributes"];
        assert_eq!(
            (&attributes["portcullis.seq"], &attributes["portcullis.action"]),
            (&event["seq"], &event["action"])
        );
        assert_eq!(attributes["client.address"], event["ip"], "{record}");
        assert_eq!((&attributes["session.id"], &attributes["user.name"]), (&event["session"], &event["subject"]));
        assert_eq!(record["resource"]["service.name"], "portcullis");
        assert_eq!(record["nanos"][0], record["nanos"][1]);
        assert!(record["nanos"][0].as_u64().unwrap() > 1_700_000_000_000_000_000, "{record}");
    }
    let severity = |kind: &str| records.iter().find(|record| record["name"] == kind).unwrap()["severity"].clone();
    assert_eq!(
        (severity("session.authenticated"), severity("login.failed")),
        ("SEVERITY_NUMBER_INFO".into(), "SEVERITY_NUMBER_WARN".into())
    );
    // What reads them finds faults.
    for (right, wrong) in
        [("\"eventName\"", "\"event_nam\""), ("\"severityNumber\":", "\"severityNumber\":1.5e99,\"x\":")]
    {
        assert!(text.contains(right) && !read(&text.replacen(right, wrong, 1)).0, "{wrong}");
    }
    let traced = text.replacen("\"eventName\"", "\"traceId\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"eventName\"", 1);
    assert_eq!(read(&traced).1[0]["trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(!read(&traced.replacen("4bf92f", "4bf9", 1)).0, "an identifier that is too short");
}

fn loki_has_labels(loki: &Origin) {
    let requests = loki.seen();
    assert!(requests.iter().all(|request| request.request_line().starts_with("POST /loki/api/v1/push ")));
    assert!(requests.iter().all(|request| request.header("x-scope-orgid") == Some("shop")));
    let bodies: Vec<_> = requests.iter().map(|request| parsed(&request.body)).collect();
    let streams = bodies.iter().flat_map(|body| body["streams"].as_array().unwrap());
    let stream = streams.into_iter().find(|stream| stream["stream"]["event"] == "session.authenticated").unwrap();
    assert_eq!((&stream["stream"]["env"], &stream["stream"]["action"]), (&"test".into(), &"allow".into()));
    let (nanos, line) = (stream["values"][0][0].as_str().unwrap(), stream["values"][0][1].as_str().unwrap());
    assert_eq!(parsed(line.as_bytes())["event"], "session.authenticated");
    assert!(nanos.len() == 19 && nanos.ends_with("000000"), "{nanos}");
}

fn otlp_has_records(otlp: &Origin, told: &Value) {
    let requests = otlp.seen();
    assert!(requests.iter().all(|request| request.request_line().starts_with("POST /v1/logs ")));
    assert!(requests.iter().all(|request| request.header("authorization") == Some(format!("Bearer {TOKEN}").as_str())));
    let bodies: Vec<_> = requests.iter().map(|request| parsed(&request.body)).collect();
    let records: Vec<_> = bodies
        .iter()
        .flat_map(|body| body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap())
        .collect();
    let record = records.iter().find(|record| record["eventName"] == "session.authenticated").unwrap();
    let attributes = record["attributes"].as_array().unwrap();
    let has = |key: &str, value: Value| attributes.iter().any(|pair| pair["key"] == key && pair["value"] == value);
    assert!(has("user.name", serde_json::json!({ "stringValue": "alice" })), "{record}");
    assert!(has("client.address", serde_json::json!({ "stringValue": "127.0.0.1" })), "{record}");
    assert!(has("portcullis.seq", serde_json::json!({ "intValue": told["seq"].to_string() })), "{record}");
    assert_eq!(record["severityNumber"], 9);
}

#[test]
fn what_was_on_disk_before_a_kill_reaches_a_receiver_that_was_away() {
    let world = World::new();
    // Held, so that nobody else gets the port, and not listened on yet.
    let place = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    place.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = place.local_addr().unwrap().as_socket().unwrap();
    world.configure(&format!(
        "{JOURNAL}[[events.sink]]\ntype = \"stdout\"\n[[events.sink]]\nname = \"siem\"\ntype = \"syslog\"\naddress = \"tcp://{address}\"\n"
    ));
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    let told = guard.process.event("session.authenticated")["seq"].as_u64().unwrap();
    guard.process.kill();
    let mut guard = world.start();
    place.listen(16).unwrap();
    let siem = Receiver::stream(place.into(), None);
    let line = siem.with("session.authenticated");
    assert_eq!(message(&line)["seq"].as_u64(), Some(told));
    siem.with("guard.started");
    assert!(guard.process.terminate().success());
    siem.with("guard.stopped");
    // The numbers that the kill left out are no events that it missed.
    let all = siem.all();
    assert!(all.iter().all(|line| !line.contains("\"sink\":\"siem\"")), "{all:?}");
    let seqs: Vec<_> = all.iter().map(|line| message(line)["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
}

#[test]
fn a_receiver_that_closes_gets_again_what_it_may_have_lost() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    world.configure(&format!(
        "{JOURNAL}[[events.sink]]\ntype = \"stdout\"\n[[events.sink]]\ntype = \"syslog\"\naddress = \"tcp://{address}\"\n"
    ));
    let mut guard = world.start();
    // It takes a connection and what comes on it, and is gone without a word.
    let (first, _) = listener.accept().unwrap();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    let told = guard.process.event("session.authenticated")["seq"].as_u64().unwrap();
    until("the first connection has something", || first.peek(&mut [0; 16]).is_ok_and(|count| count > 0));
    drop(first);
    let receiver = Receiver::stream(listener, None);
    assert_eq!(message(&receiver.with("session.authenticated"))["seq"].as_u64(), Some(told));
    assert!(guard.process.terminate().success());
}

#[test]
fn a_secret_that_is_not_there_is_told_at_the_start() {
    let world = World::new();
    world.configure(&format!(
        "{JOURNAL}[[events.sink]]\ntype = \"webhook\"\nurl = \"https://hooks.example.net/\"\nsecret_env = \"PORTCULLIS_NO_SUCH_VARIABLE\"\n"
    ));
    let (code, _, err) = world.runs(&["run"]);
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("the sink `webhook`: the environment variable PORTCULLIS_NO_SUCH_VARIABLE is not set"),
        "{err}"
    );
    world.configure(&format!(
        "{JOURNAL}[[events.sink]]\ntype = \"webhook\"\nurl = \"https://hooks.example.net/\"\nsecret_file = \"secret\"\n"
    ));
    fs::write(world.folder().join("secret"), "hunter2").unwrap();
    let (code, _, err) = world.runs(&["run"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("the sink `webhook`: expected \"whsec_\"") && !err.contains("hunter2"), "{err}");
}

/// Two fences, of which one is worth an alert.
const FENCES: &str = r#"version = 1
name = "shop"
[[rule]]
id = "trap"
when = 'request.path == "/trap"'
then = "deny"
tags = ["alert", "T1595.003"]
[[rule]]
id = "fence"
when = 'request.path == "/fence"'
then = "deny"
tags = ["quiet"]
"#;

/// One that writes a file, one that reads the journal, and one that asks for nothing and hides more.
fn sinks_that_choose(siem: std::net::SocketAddr) -> String {
    format!(
        r#"{JOURNAL}[[events.sink]]
type = "stdout"
[[events.sink]]
name = "alerts"
type = "file"
path = "alerts.jsonl"
tags = ["pager", "alert"]
[[events.sink]]
name = "siem"
type = "syslog"
address = "tcp://{siem}"
tags = "alert"
privacy = {{ ip = "pseudonym" }}
[[events.sink]]
name = "hidden"
type = "file"
path = "hidden.jsonl"
privacy = {{ ip = "pseudonym", subject = "hmac" }}
[rules]
files = ["shop.toml"]
[client]
trusted_proxies = ["127.0.0.0/8"]
"#
    )
}

#[test]
fn a_sink_is_given_the_tags_it_asks_for_and_pseudonyms() {
    const NEAR: &str = "203.0.113.9";
    const FAR: &str = "198.51.100.7";
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    fs::write(world.folder().join("shop.toml"), FENCES).unwrap();
    world.configure(&sinks_that_choose(listener.local_addr().unwrap()));
    let siem = Receiver::stream(listener, None);
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    for (path, from) in [("/trap", NEAR), ("/fence", NEAR), ("/trap", NEAR), ("/trap", FAR)] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\n\r\n");
        assert_eq!(Wire::connect(guard.address).send(request).reply().status, 403, "{path}");
    }
    assert!(guard.process.terminate().success());
    let written = |file: &str| fs::read_to_string(world.folder().join(file)).unwrap();
    let denied = |text: &str| -> Vec<Value> {
        text.lines().map(|line| parsed(line.as_bytes())).filter(|event| event["event"] == "authz.denied").collect()
    };
    let column =
        |events: &[Value], key: &str| -> Vec<Value> { events.iter().map(|event| event[key].clone()).collect() };
    let all = denied(&written("data/events.jsonl"));
    let tags = column(&all, "tags");
    assert_eq!(tags, ["alert T1595.003", "quiet", "alert T1595.003", "alert T1595.003"]);
    let alerts = [&all[..1], &all[2..]].concat();
    // Of a file and of the journal the same come, but for what the stream tells of itself.
    let came = written("alerts.jsonl");
    assert_eq!(column(&denied(&came), "seq"), column(&alerts, "seq"));
    assert_eq!(column(&denied(&came), "ip"), [NEAR, NEAR, FAR]);
    until("the alerts at the receiver", || siem.all().iter().filter(|line| line.contains("authz.denied")).count() >= 3);
    let sent: Vec<Value> = siem.all().iter().map(|line| message(line)).collect();
    let is_meant =
        |event: &Value| event["event"] == "authz.denied" || event["event"].as_str().unwrap().starts_with("events.");
    assert!(came.lines().all(|line| is_meant(&parsed(line.as_bytes()))), "{came}");
    assert!(sent.iter().all(is_meant), "{sent:?}");
    let sent: Vec<Value> = sent.into_iter().filter(|event| event["event"] == "authz.denied").collect();
    assert_eq!(column(&sent, "seq"), column(&alerts, "seq"));
    // One address has one pseudonym, whoever is told of it, and another address another.
    let hidden = written("hidden.jsonl");
    assert!(hidden.contains("session.authenticated"), "{hidden}");
    let shown = column(&denied(&hidden), "ip");
    let [near, fence, again, far] = &shown[..] else { panic!("{hidden}") };
    assert_eq!([fence, again], [near, near]);
    assert_ne!(near, far);
    assert_eq!(column(&sent, "ip"), [near.clone(), again.clone(), far.clone()]);
    let is_pseudonym = |text: &str| text.split_once('-').is_some_and(|(_, hash)| hash.len() == 16);
    assert!([near, far].iter().all(|ip| is_pseudonym(ip.as_str().unwrap())), "{near} {far}");
    for secret in [NEAR, FAR, "alice"] {
        assert!(!hidden.contains(secret), "{secret} in {hidden}");
    }
    assert!(sent.iter().all(|event| ![NEAR, FAR].iter().any(|ip| event.to_string().contains(ip))), "{sent:?}");
}

#[test]
fn a_sink_is_tried_by_hand() {
    let world = World::new();
    let hook = http();
    let hook_at = hook.address();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp_at = listener.local_addr().unwrap();
    let tcp = Receiver::stream(listener, None);
    fs::write(world.folder().join("secret"), format!("whsec_{}", STANDARD.encode([7; 32]))).unwrap();
    world.configure(&format!(
        r#"{JOURNAL}[[events.sink]]
type = "stdout"
[[events.sink]]
type = "file"
path = "events.log"
format = "human"
[[events.sink]]
name = "on-call"
type = "webhook"
url = "http://{hook_at}/"
secret_file = "secret"
allow_private = true
min = "critical"
[[events.sink]]
type = "syslog"
address = "tcp://{tcp_at}"
"#
    ));
    let word = |out: &str| out.rsplit('"').nth(1).unwrap().to_owned();
    // Whatever it asks for otherwise, it gets this one.
    let (code, out, err) = world.says(&["test-sink", "on-call"]);
    assert!(code == 0 && out.starts_with("on-call: 204 No Content. Look for \""), "{out}{err}");
    let body = parsed(&hook.seen()[0].body);
    assert_eq!((&body["type"], body["data"]["word"].as_str()), (&"events.test".into(), Some(word(&out).as_str())));
    let (code, out, err) = world.says(&["test-sink", "syslog"]);
    assert!(code == 0 && out.contains("the connection stayed open"), "{out}{err}");
    assert_eq!(message(&tcp.with(&word(&out)))["sink"], "syslog");
    let (_, out, _) = world.says(&["test-sink", "stdout"]);
    assert!(out.lines().next().unwrap().contains("\"event\":\"events.test\""), "{out}");
    let (_, out, _) = world.says(&["test-sink", "file"]);
    let file = fs::read_to_string(world.folder().join("events.log")).unwrap();
    assert!(file.contains(&word(&out)) && out.contains("events.log"), "{out}");
    let (code, _, err) = world.says(&["test-sink", "pager"]);
    assert!(code == 2 && err.contains("there is no sink `pager`") && err.contains("`on-call`"), "{err}");
    hook.always(raw("HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\n\r\nwho are u"));
    let (code, _, err) = world.says(&["test-sink", "on-call"]);
    assert!(code == 1 && err.contains("did not take it: 401 Unauthorized: who are u"), "{err}");
}

#[test]
fn every_kind_of_sink_can_be_tried_by_hand() {
    let world = World::new();
    let receivers = Receivers::listen(world.folder());
    world.configure(&format!("{JOURNAL}{}", receivers.sinks));
    let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
    // One of them shows hashes, under the keys that a guard makes at its first start.
    assert!(world.start_with("HOOK_SECRET", &secret).process.terminate().success());
    for name in ["udp", "tcp", "tls", "local", "journald", "webhook", "loki", "otlp"] {
        let output = world.command(&["events", "test-sink", name]).env("HOOK_SECRET", &secret).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && out.starts_with(&format!("{name}: ")), "{name}: {out}{err}");
        let word = out.rsplit('"').nth(1).unwrap();
        until(&format!("the word at {name}"), || receivers.everything().iter().any(|text| text.contains(word)));
    }
}

#[test]
fn events_of_the_journal_are_sent_to_a_sink_again() {
    let world = World::new();
    let otlp = http();
    let otlp_at = otlp.address();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp_at = listener.local_addr().unwrap();
    let tcp = Receiver::stream(listener, None);
    world.configure(&format!(
        r#"{JOURNAL}[[events.sink]]
type = "stdout"
[[events.sink]]
type = "otlp"
url = "http://{otlp_at}"
allow_private = true
kinds = ["session.*"]
batch = 1
[[events.sink]]
type = "syslog"
address = "tcp://{tcp_at}"
"#
    ));
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    let told = guard.process.event("session.authenticated")["seq"].as_u64().unwrap();
    assert!(guard.process.terminate().success());
    let before = otlp.seen().len();
    let (code, out, err) = world.says(&["replay", "--sink", "otlp", "--from", "1"]);
    assert!(code == 0 && out.starts_with("otlp: ") && out.contains("events were sent, the last one is"), "{out}{err}");
    let again = otlp.seen().split_off(before);
    let kinds: Vec<_> = again
        .iter()
        .map(|seen| parsed(&seen.body)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["eventName"].clone())
        .collect();
    assert!(kinds.contains(&"session.authenticated".into()) && !kinds.contains(&"guard.started".into()), "{kinds:?}");
    let range = ["replay", "--sink", "syslog", "--from", &told.to_string(), "--to", &told.to_string()];
    let (code, out, err) = world.says(&range);
    assert!(code == 0 && out == format!("syslog: 1 events were sent, the last one is {told}\n"), "{out}{err}");
    let came = || tcp.all().iter().filter(|line| line.contains("session.authenticated")).count();
    until("it comes for the second time", || came() == 2);
    otlp.always(raw("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
    let (code, out, _) = world.says(&["replay", "--sink", "otlp", "--from", &told.to_string()]);
    assert!(code == 3 && out.contains(&format!("event {told} was refused: 400 Bad Request")), "{code} {out}");
    let (code, _, err) = world.says(&["replay", "--sink", "stdout", "--from", "1"]);
    assert!(code == 2 && err.contains("`stdout` does not read the journal"), "{err}");
}
