//! What rules cost on a benign request, how long they take to load, and the same 20 rules in the `cel` crate in the same run.
//!
//! Prints nanoseconds (the median of many rounds, one thread) and allocations.

#![expect(clippy::disallowed_methods, reason = "a bench measures the machine's time")]

use std::alloc::System;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis::clock::Timestamp;
use portcullis::rules::count::Windows;
use portcullis::rules::load::{Input, RulesText, compile};
use portcullis::rules::scheme::{Field, Phase};
use portcullis::rules::{Facts, Matched, Pack, RuleSet, Scenery, Short, Value};
use portcullis::verdict::Mode;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Conditions over the full table of fields, none of which a benign request meets; each here and in CEL.
const TWENTY: [(&str, &str); 20] = [
    (
        r#"session.authenticated && changed.country && changed.asn"#,
        r#"session_authenticated && changed_country && changed_asn"#,
    ),
    (
        r#"request.path starts_with "/admin" && client.country != "DE""#,
        r#"request_path.startsWith("/admin") && client_country != "DE""#,
    ),
    (r#"client.is_tor || client.is_anonymous"#, r#"client_is_tor || client_is_anonymous"#),
    (r#"session.age > 8h && request.method == "POST""#, r#"session_age > 28800000 && request_method == "POST""#),
    (
        r#"request.path in ["/account/password", "/account/email"] && session.since_rotation > 5m"#,
        r#"request_path in ["/account/password", "/account/email"] && session_since_rotation > 300000"#,
    ),
    (r#"changed.ua_family || changed.os"#, r#"changed_ua_family || changed_os"#),
    (r#"client.ua_major < session.bound.ua_major"#, r#"client_ua_major < bound_ua_major"#),
    (r#"request.host ends_with ".internal""#, r#"request_host.endsWith(".internal")"#),
    (r#"client.ua_family in ["curl", "wget", "python"]"#, r#"client_ua_family in ["curl", "wget", "python"]"#),
    (r#"request.size > 10000000 && !session.authenticated"#, r#"request_size > 10000000 && !session_authenticated"#),
    (r#"session.networks_seen > 4"#, r#"session_networks_seen > 4"#),
    (r#"session.devices_seen > 2 && session.authenticated"#, r#"session_devices_seen > 2 && session_authenticated"#),
    (
        r#"client.asn in [64496, 64497, 64498] && request.path starts_with "/api""#,
        r#"client_asn in [64496, 64497, 64498] && request_path.startsWith("/api")"#,
    ),
    (r#"session.idle > 30m && request.is_navigation"#, r#"session_idle > 1800000 && request_is_navigation"#),
    (r#"request.scheme == "http" && session.authenticated"#, r#"request_scheme == "http" && session_authenticated"#),
    (r#"request.content_type == "application/xml""#, r#"request_content_type == "application/xml""#),
    (r#"session.forks > 0"#, r#"session_forks > 0"#),
    (r#"client.http_version == "1.0""#, r#"client_http_version == "1.0""#),
    (r#"client.os == "linux" && session.bound.os != "linux""#, r#"client_os == "linux" && bound_os != "linux""#),
    (r#"session.since_authentication > 12h"#, r#"session_since_authentication > 43200000"#),
];

/// A benign request.
struct Benign;

impl Facts for Benign {
    fn value(&self, field: Field) -> Value<'_> {
        match field {
            Field::RequestMethod => Value::Text("GET"),
            Field::RequestPath => Value::Text("/shop/item/4711"),
            Field::RequestHost => Value::Text("shop.example.com"),
            Field::RequestScheme => Value::Text("https"),
            Field::RequestIsNavigation => Value::Bool(true),
            Field::RequestContentType => Value::Text("text/html"),
            Field::RequestSize => Value::Int(0),
            Field::ClientIp => Value::Ip([203, 0, 113, 10].into()),
            Field::ClientAsn | Field::BoundAsn => Value::Int(3320),
            Field::ClientCountry | Field::BoundCountry => Value::Short(Short::new("DE")),
            Field::ClientIsTor | Field::ClientIsAnonymous => Value::Bool(false),
            Field::ClientUaFamily | Field::BoundUaFamily => Value::Text("chrome"),
            Field::ClientUaMajor | Field::BoundUaMajor => Value::Int(150),
            Field::ClientOs | Field::BoundOs => Value::Text("windows"),
            Field::ClientHttpVersion => Value::Text("2"),
            Field::SessionAuthenticated | Field::SessionExists => Value::Bool(true),
            Field::SessionAge | Field::SessionSinceAuthentication => Value::Millis(600_000),
            Field::SessionIdle | Field::SessionSinceRotation => Value::Millis(30_000),
            Field::SessionNetworks | Field::SessionDevices => Value::Int(1),
            Field::SessionForks | Field::Signal(_) => Value::Int(0),
            Field::ChangedCountry | Field::ChangedAsn | Field::ChangedUaFamily | Field::ChangedOs => Value::Bool(false),
            _ => Value::Unknown,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_795_257_972)
    }
}

fn file(count: usize) -> String {
    let mut text = "version = 1\nname = \"bench\"\n".to_owned();
    for at in 0..count {
        let (when, _) = TWENTY[at % TWENTY.len()];
        // Every rule is another one.
        let more = if at < TWENTY.len() { String::new() } else { format!(" && request.path != \"/p{at}\"") };
        writeln!(text, "[[rule]]\nid = \"r{at}\"\nwhen = '({when}){more}'\nthen = \"observe\"").unwrap();
    }
    text
}

fn load(text: &str) -> std::sync::Arc<RuleSet> {
    let files = [RulesText { path: "bench.toml".into(), text: text.to_owned() }];
    let open = |_: &Path| Err(std::io::Error::other("no files"));
    let now = Timestamp::from_secs(1_795_257_972);
    let compiled = compile(&Input { packs: &[Vec::<Pack>::new()], files: &files, open: &open, now });
    compiled.unwrap_or_else(|faults| panic!("{faults}")).sets[0].clone()
}

fn run(set: &RuleSet, windows: &Windows) -> usize {
    let mut matched = Matched::new();
    for phase in [Phase::Client, Phase::Session] {
        set.run(phase, Scenery::Quiet, black_box(&Benign), (windows, Mode::Enforce), &mut matched);
    }
    matched.len()
}

/// The median time of one call over rounds of so many.
fn median(rounds: usize, calls: u32, mut call: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed() / calls
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn main() {
    let windows = Windows::default();
    for (count, calls) in [(20, 20_000), (1000, 500)] {
        let set = load(&file(count));
        assert_eq!(run(&set, &windows), 0, "the request is benign");
        let region = Region::new(ALLOCATOR);
        for _ in 0..1000 {
            black_box(run(&set, &windows));
        }
        let allocations = region.change().allocations;
        let time = median(101, calls, || {
            black_box(run(&set, &windows));
        });
        println!("{count} rules, benign request: {time:?}, {allocations} allocations in 1000 requests");
    }
    let text = file(500);
    let time = median(21, 1, || drop(black_box(load(&text))));
    println!("500 rules loaded (read, checked, compiled, packs too): {time:?}");
    large_set("networks", "client.ip", |at| format!("10.{}.{}.0/25", at / 250, at % 250));
    large_set("paths", "request.path", |at| format!("/shop/item/{at}"));
    in_cel();
}

/// A set of 60,000 entries that 200 rules use.
fn large_set(what: &str, field: &str, entry: impl Fn(usize) -> String) {
    let set: String = (0..60_000).map(|at| entry(at) + "\n").collect();
    let mut text = "version = 1\nname = \"bench\"\n[set]\nmany = { file = \"many.txt\" }\n".to_owned();
    for at in 0..200 {
        let when = format!("{field} in @many && client.asn == {at}");
        writeln!(text, "[[rule]]\nid = \"r{at}\"\nwhen = '{when}'\nthen = \"observe\"").unwrap();
    }
    let files = [RulesText { path: "bench.toml".into(), text }];
    let open = |_: &Path| Ok(set.clone());
    let now = Timestamp::from_secs(1_795_257_972);
    let input = Input { packs: &[Vec::<Pack>::new()], files: &files, open: &open, now };
    let load = || compile(&input).unwrap_or_else(|faults| panic!("{faults}"));
    let region = Region::new(ALLOCATOR);
    let loaded = load();
    let change = region.change();
    let (kept, passed) = ((change.bytes_allocated - change.bytes_deallocated) >> 20, change.bytes_allocated >> 20);
    let time = median(3, 1, || drop(black_box(load())));
    println!("200 rules with a set of 60,000 {what} loaded: {time:?}, {kept} MiB kept of {passed} MiB allocated");
    let (set, windows) = (&loaded.sets[0], Windows::default());
    let time = median(11, 100, || {
        black_box(run(set, &windows));
    });
    println!("200 rules with a set of 60,000 {what}, benign request: {time:?}");
}

/// The same conditions in CEL, compiled once, over a context made once: only the evaluation is measured.
fn in_cel() {
    let mut context = cel::Context::default();
    let bools =
        ["client_is_tor", "client_is_anonymous", "changed_country", "changed_asn", "changed_ua_family", "changed_os"];
    bools.iter().for_each(|name| context.add_variable_from_value(*name, false));
    for name in ["session_authenticated", "request_is_navigation"] {
        context.add_variable_from_value(name, true);
    }
    let ints = [
        ("session_age", 600_000),
        ("session_since_rotation", 30_000),
        ("session_idle", 30_000),
        ("session_since_authentication", 600_000),
        ("client_ua_major", 150),
        ("bound_ua_major", 150),
        ("request_size", 0),
        ("session_networks_seen", 1),
        ("session_devices_seen", 1),
        ("client_asn", 3320),
        ("session_forks", 0),
    ];
    ints.iter().for_each(|(name, number)| context.add_variable_from_value(*name, *number as i64));
    let texts = [
        ("request_path", "/shop/item/4711"),
        ("client_country", "DE"),
        ("request_method", "GET"),
        ("request_host", "shop.example.com"),
        ("client_ua_family", "chrome"),
        ("request_scheme", "https"),
        ("request_content_type", "text/html"),
        ("client_http_version", "2"),
        ("client_os", "windows"),
        ("bound_os", "windows"),
    ];
    texts.iter().for_each(|(name, text)| context.add_variable_from_value(*name, *text));
    let programs: Vec<cel::Program> = TWENTY.iter().map(|(_, when)| cel::Program::compile(when).expect(when)).collect();
    let run = || programs.iter().filter(|program| program.execute(&context) == Ok(cel::Value::Bool(true))).count();
    assert_eq!(run(), 0, "the request is benign in CEL too");
    let region = Region::new(ALLOCATOR);
    (0..1000).for_each(|_| {
        black_box(run());
    });
    let allocations = region.change().allocations;
    let time = median(101, 1000, || {
        black_box(run());
    });
    println!("the same 20 rules in cel: {time:?}, {allocations} allocations in 1000 requests");
}
