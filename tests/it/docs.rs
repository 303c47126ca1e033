//! What the documents say is what the code does: every example is read by the real configuration code, every table of
//! values is compared with the values, every command is one that the program knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portcullis::clock::Timestamp;
use portcullis::config::reference::{Fallback, Key, TABLES, Table};
use portcullis::config::resolve::{Input, resolve};
use portcullis::config::{Fault, Settings};
use portcullis::event::Kind;
use portcullis::history::Points;
use portcullis::limit::{LoginLimit, Rate, Spelled};
use portcullis::signal::{SignalKind, Weights};

/// 2026-11-21
const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

/// The least that runs.
const LEAST: &str = "[upstream]\nurl = \"http://127.0.0.1:8000\"\n";

/// A document: its path from the root of the repository, and its text.
struct Page {
    path: String,
    text: String,
}

fn page(path: &str) -> Page {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Page { path: path.to_owned(), text }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// README, the manual, and what is written about rules.
fn pages() -> Vec<Page> {
    let folder = fs::read_dir(root().join("src/manual")).unwrap();
    let mut names: Vec<String> = folder
        .map(|entry| format!("src/manual/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| Path::new(name).extension().is_some_and(|ending| ending == "md"))
        .collect();
    names.extend(["README.md", "CHANGELOG.md", "rules/README.md", "contrib/README.md"].map(str::to_owned));
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    names.iter().map(|name| page(name)).collect()
}

impl Page {
    /// Fenced blocks of a language, each with the line it begins on.
    fn blocks(&self, language: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let mut open: Option<(usize, String, String)> = None;
        for (at, line) in self.text.lines().enumerate() {
            let trimmed = line.trim_start();
            match (&mut open, trimmed.strip_prefix("```")) {
                (None, Some(language)) => open = Some((at + 2, language.trim().to_owned(), String::new())),
                (Some(_), Some(_)) => found.extend(open.take()),
                (Some((_, _, text)), None) => *text += &format!("{trimmed}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block does not end", self.path);
        found.into_iter().filter(|(_, of, _)| of == language).map(|(at, _, text)| (at, text)).collect()
    }

    /// Rows of tables as cells, with the heading they stand under. Heads and rules of tables are no rows.
    fn rows(&self) -> Vec<(String, Vec<String>)> {
        let mut heading = String::new();
        let mut rows = Vec::new();
        let lines: Vec<&str> = self.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if line.starts_with('#') {
                line.trim_start_matches('#').trim().clone_into(&mut heading);
            }
            let is_rule = |line: &str| line.starts_with("|-");
            let is_head = lines.get(at + 1).is_some_and(|next| is_rule(next));
            if !line.starts_with('|') || is_rule(line) || is_head {
                continue;
            }
            let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            rows.push((heading.clone(), cells));
        }
        rows
    }

    /// What stands in backticks outside of blocks.
    fn words(&self) -> Vec<String> {
        let mut in_block = false;
        let mut words = Vec::new();
        for line in self.text.lines() {
            if line.trim_start().starts_with("```") {
                in_block = !in_block;
            } else if !in_block {
                words.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
            }
        }
        words
    }
}

fn unquoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

// Examples -----------------------------------------------------------------------------------------------------------

fn faults_of(text: &str) -> Vec<Fault> {
    let input = Input { file: Some((Path::new("portcullis.toml"), text)), ..Input::default() };
    match resolve(&input, NOW) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.0,
    }
}

#[test]
fn every_example_of_rules_is_without_fault_and_every_scenario_passes() {
    use portcullis::rules::Pack;
    use portcullis::rules::load::{Input as RulesInput, RulesText, compile};
    use portcullis::scenario::Scenarios;

    let (mut rules, mut scenarios) = (0, 0);
    for page in pages() {
        let folder = tempfile::tempdir().unwrap();
        for (at, (line, example)) in page.blocks("toml rules").into_iter().enumerate() {
            let head = if example.starts_with("version") {
                String::new()
            } else {
                format!("version = 1\nname = \"doc{at}\"\n")
            };
            let files = [RulesText { path: "shop.toml".into(), text: head.clone() + &example }];
            let open = |_: &Path| Err(std::io::Error::other("no files"));
            let input = RulesInput { packs: &[vec![Pack::Baseline1]], files: &files, open: &open, now: NOW };
            compile(&input).unwrap_or_else(|faults| panic!("{}:{line}: {faults}", page.path));
            if head.is_empty() {
                fs::write(folder.path().join("shop.toml"), example).unwrap();
            }
            rules += 1;
        }
        for (line, example) in page.blocks("toml scenario") {
            let path = folder.path().join("scenarios.toml");
            fs::write(&path, example).unwrap();
            let loaded = Scenarios::load(&path, NOW).unwrap_or_else(|faults| panic!("{}:{line}: {faults}", page.path));
            for played in loaded.play().unwrap().0 {
                assert_eq!(played.failed, None, "{}:{line}: {}", page.path, played.name);
            }
            scenarios += 1;
        }
    }
    assert!(rules >= 5 && scenarios >= 1, "{rules} rules, {scenarios} scenarios");
}

#[test]
fn every_rule_of_the_baseline_is_explained() {
    let rows = page("rules/README.md").rows();
    let under = rows.iter().filter(|(heading, _)| heading == "The baseline, rule by rule");
    let told: Vec<String> = under.filter_map(|(_, cells)| Some(unquoted(cells.first()?)?.to_owned())).collect();
    let set = portcullis::rules::load::packs(&[portcullis::rules::Pack::Baseline1]);
    let there: Vec<String> =
        set.rules().iter().map(|rule| rule.name.as_str().trim_start_matches("baseline/").to_owned()).collect();
    assert_eq!(told, there);
}

#[test]
fn every_example_of_a_configuration_can_run() {
    let mut count = 0;
    for page in pages() {
        for (line, example) in page.blocks("toml") {
            let faults = faults_of(&example);
            assert!(faults.is_empty(), "{}:{line}: {faults:#?}", page.path);
            count += 1;
        }
    }
    assert!(count >= 12, "{count} examples were found");
    assert!(!faults_of("[session]\nidel = \"30m\"\n").is_empty(), "a faulty example would be noticed");
}

#[test]
fn every_command_is_one_that_the_program_knows() {
    let mut help: BTreeMap<String, String> = BTreeMap::new();
    let mut count = 0;
    for page in pages() {
        for (line, block) in page.blocks("sh") {
            let commands = block.lines().filter_map(|line| {
                line.strip_prefix("portcullis ").or_else(|| line.strip_prefix("cargo run --release -- "))
            });
            for command in commands {
                let words: Vec<&str> = command.split('#').next().unwrap().split_whitespace().collect();
                let subcommands: Vec<&str> = match words.as_slice() {
                    ["sessions", action, ..] => vec!["sessions", action],
                    ["events", action, ..] => vec!["events", action],
                    [first, ..] => vec![first],
                    [] => panic!("{}:{line}: no command", page.path),
                };
                let known = help.entry(subcommands.join(" ")).or_insert_with(|| help_of(&subcommands));
                for flag in words.iter().filter(|word| word.starts_with("--")) {
                    assert!(known.contains(flag), "{}:{line}: `{command}`: no {flag} in\n{known}", page.path);
                }
                count += 1;
            }
        }
    }
    assert!(count >= 8, "{count} commands were found");
}

/// The help of a subcommand; panics if there is none.
fn help_of(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "portcullis {}: {output:?}", words.join(" "));
    let help = String::from_utf8(output.stdout).unwrap();
    let usage = format!("Usage: portcullis {}", words.join(" "));
    assert!(help.contains(&usage), "`{usage}` is not in\n{help}");
    help
}

// Tables of settings -------------------------------------------------------------------------------------------------

/// The lines of a table of the manual.
fn lines_of(table: &Table) -> Vec<String> {
    let line = |key: &Key| {
        let fallback = match key.fallback {
            Fallback::Required => "required".to_owned(),
            Fallback::Value(value) => format!("`{value}`"),
            Fallback::Told(told) => told.to_owned(),
            Fallback::Absent => String::new(),
        };
        let cells = [format!("`{}`", key.name), key.kind.word(), fallback, key.meaning.to_owned()];
        format!("| {} |", cells.join(" | ")).replace("|  |", "| |")
    };
    table.keys.iter().map(line).collect()
}

/// With `PORTCULLIS_BLESS` set, the tables of the manual are written anew instead.
#[test]
fn every_key_is_in_the_manual_and_no_other() {
    let path = "src/manual/configuration.md";
    let page = page(path);
    let mut written = String::new();
    let (mut heading, mut told) = ("", BTreeMap::<&str, Vec<String>>::new());
    for line in page.text.lines() {
        let is_row = line.starts_with("| `") && !heading.is_empty();
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        } else if is_row {
            told.entry(heading).or_default().push(line.to_owned());
        }
        if !is_row {
            written += &format!("{line}\n");
        }
        if line.starts_with("|---|---|---|---|") {
            let table = TABLES.iter().find(|table| table.heading == heading);
            let table = table.unwrap_or_else(|| panic!("`{heading}` is no table of the configuration"));
            written.extend(lines_of(table).iter().map(|line| format!("{line}\n")));
        }
    }
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        fs::write(root().join(path), written).unwrap();
        return;
    }
    for table in TABLES {
        assert_eq!(told.remove(table.heading), Some(lines_of(table)), "under {}", table.heading);
    }
    assert_eq!(told, BTreeMap::new());
}

/// The prefix of the keys of a table: `` `[rules.risk]` `` is `rules.risk.`.
fn prefix_of(heading: &str) -> String {
    let inside = heading.split('`').nth(1).unwrap_or_default();
    let name = inside.trim_matches(|c| c == '[' || c == ']');
    if name.is_empty() { String::new() } else { format!("{name}.") }
}

fn span(duration: Duration) -> String {
    Spelled(duration).to_string()
}

fn size(bytes: usize) -> String {
    if bytes >= 1024 && bytes.is_multiple_of(1024) { format!("{}KiB", bytes / 1024) } else { format!("{bytes}B") }
}

fn rate(rate: Option<Rate>) -> String {
    rate.map_or_else(|| "off".to_owned(), |rate| rate.to_string())
}

fn defaults() -> Settings {
    let input = Input { file: Some((Path::new("portcullis.toml"), LEAST)), ..Input::default() };
    resolve(&input, NOW).unwrap().settings
}

/// The defaults that are numbers, times, sizes and rates, as a user would write them.
fn values() -> BTreeMap<&'static str, String> {
    let Settings { name, listen, client, upstream, session, rules, limits, geo, events, .. } = defaults();
    let login = LoginLimit::default();
    let risk = rules.risk;
    BTreeMap::from([
        ("name", name),
        ("listen.address", listen[0].address.to_string()),
        ("client.header_bytes_max", size(client.header_bytes_max)),
        ("client.headers_max", client.headers_max.to_string()),
        ("client.uri_bytes_max", size(client.uri_bytes_max)),
        ("client.header_timeout", span(client.header_timeout)),
        ("client.body_timeout", span(client.body_timeout)),
        ("client.body_rate_min", size(client.body_rate_min)),
        ("client.connections_max", client.connections_max.to_string()),
        ("client.idle_connection", span(client.idle_connection)),
        ("client.tunnel_idle", span(client.tunnel_idle)),
        ("client.drain_timeout", span(client.drain_timeout)),
        ("client.http2_streams_max", client.http2_streams_max.to_string()),
        ("client.http2_glitches_max", client.http2_glitches_max.to_string()),
        ("upstream.connect_timeout", span(upstream.connect_timeout)),
        ("upstream.response_timeout", span(upstream.response_timeout)),
        ("upstream.connections_max", upstream.connections_max.to_string()),
        ("upstream.queue_timeout", span(upstream.queue_timeout)),
        ("upstream.idle_timeout", span(upstream.idle_timeout)),
        ("upstream.header_bytes_max", size(upstream.header_bytes_max)),
        ("session.cookie", session.cookie.name),
        ("session.idle", span(session.deadlines.idle)),
        ("session.absolute", span(session.deadlines.absolute)),
        ("session.rotate_every", span(session.rotate_every)),
        ("session.grace", span(session.grace)),
        ("session.quarantine_max", span(session.quarantine_max)),
        ("login.limit.per_client", rate(login.per_client)),
        ("login.limit.per_subject", rate(login.per_subject)),
        ("login.limit.delay_max", span(login.delay_max)),
        ("rules.risk.observe", risk.observe.to_string()),
        ("rules.risk.rotate", risk.rotate.to_string()),
        ("rules.risk.quarantine", risk.quarantine.to_string()),
        ("rules.risk.terminate", risk.terminate.to_string()),
        ("rules.risk.half_life", span(risk.half_life)),
        ("rules.risk.sensitive_factor", risk.sensitive_factor.to_string()),
        ("limits.client", rate(limits.client)),
        ("limits.prefix", rate(limits.prefix)),
        ("limits.session", rate(limits.session)),
        ("limits.subject", rate(limits.subject)),
        ("limits.anonymous_sessions", rate(limits.anonymous_sessions)),
        ("limits.guesses", rate(limits.guesses)),
        ("limits.keys_max", limits.keys_max.to_string()),
        ("geo.entries_max", geo.entries_max.to_string()),
        ("events.queue", events.queue.to_string()),
        ("events.repeat.window", span(events.repeat.window)),
        ("events.repeat.first", events.repeat.first.to_string()),
    ])
}

/// A value in one spelling: `60s` is `1m`.
fn plain(value: &str) -> String {
    match portcullis::limit::parse_duration(value) {
        Ok(duration) => span(duration),
        Err(_) => value.to_owned(),
    }
}

/// The defaults that a page tells, by key.
fn told(rows: &[(String, Vec<String>)], key: impl Fn(&str, &str) -> String, column: usize) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (heading, cells) in rows {
        let (Some(name), Some(default)) = (cells.first().and_then(|cell| unquoted(cell)), cells.get(column)) else {
            continue;
        };
        if let Some(value) = unquoted(default) {
            let before = all.insert(key(heading, name), plain(value));
            assert_eq!(before, None, "{name} is told twice");
        }
    }
    all
}

#[test]
fn the_defaults_of_the_manual_are_those_of_the_code() {
    let values = values();
    let configuration = page("src/manual/configuration.md").rows();
    let wide: Vec<_> = configuration.into_iter().filter(|(_, cells)| cells.len() == 4).collect();
    let reference = told(&wide, |heading, name| prefix_of(heading) + name, 2);
    let reasons: Vec<_> = page("src/manual/defaults.md").rows();
    let keyed: Vec<_> = reasons.into_iter().filter(|(heading, _)| heading != "Limits that cannot be set").collect();
    let reasons = told(&keyed, |_, name| name.to_owned(), 1);
    for (key, value) in &values {
        let value = plain(value);
        assert_eq!(reasons.get(*key), Some(&value), "{key} in defaults.md");
        if *key != "listen.address" {
            assert_eq!(reference.get(*key), Some(&value), "{key} in configuration.md");
        }
    }
    // What both pages tell they tell alike.
    for (key, value) in &reference {
        let other = reasons.get(key);
        assert!(other.is_none_or(|other| other == value), "{key}: {value} and {other:?}");
    }
    // A default in the reference has a reason.
    let without: Vec<&String> =
        reference.keys().filter(|key| !reasons.contains_key(*key) && *key != "version").collect();
    assert_eq!(without, Vec::<&String>::new());
}

#[test]
fn the_limits_that_cannot_be_set_are_those_of_the_code() {
    use portcullis::session::{carried, cookie, data, id, jar, record, tag};
    use portcullis::{config, engine, facts, history, limit, store};
    let page = page("src/manual/defaults.md");
    let rows = page.rows();
    let told: BTreeMap<&str, &str> = rows
        .iter()
        .filter(|(heading, _)| heading == "Limits that cannot be set")
        .filter_map(|(_, cells)| Some((cells.first()?.as_str(), cells.get(1)?.split('`').nth(1)?)))
        .collect();
    let hours = |span: Duration| usize::try_from(span.as_secs() / 3600).unwrap();
    let values = [
        ("session id", id::ID_BYTES),
        ("tag", tag::TAG_BYTES),
        ("superseded tags kept", tag::SUPERSEDED_MAX),
        ("stale tags remembered", hours(tag::FORK_WINDOW)),
        ("contexts of a session", history::CONTEXTS_MAX),
        ("interleaving of devices", usize::try_from(history::INTERLEAVE_WINDOW.as_secs() / 60).unwrap()),
        ("login body looked at", engine::PEEK_BYTES_MAX / 1024),
        ("login bodies looked at, all together", portcullis::proxy::Limits::default().peeked_bytes_max >> 20),
        ("subject", record::SUBJECT_BYTES_MAX),
        ("known devices", limit::KNOWN_DEVICES_MAX),
        ("names that a client fails with", engine::NAMES_MAX),
        ("events of the whole site that are too many", usize::try_from(engine::TREND_LEAST).unwrap()),
        ("streams of a session", engine::streams::STREAMS_PER_SESSION_MAX),
        ("cookies of a request", cookie::COOKIE_PAIRS_MAX),
        ("cookies of a request, octets", cookie::COOKIE_BYTES_MAX / 1024),
        ("cookies in a jar", jar::JAR_COOKIES_MAX),
        ("jar", jar::JAR_BYTES_MAX / 1024),
        ("forwarding chain", facts::client_ip::HOPS_MAX),
        ("user agent looked at", facts::user_agent::USER_AGENT_BYTES_MAX),
        ("user agents cached", facts::user_agent::USER_AGENTS_MAX),
        ("sessions in a store", store::SESSIONS_MAX_DEFAULT.get()),
        ("key of an app's value", data::KEY_BYTES_MAX),
        ("data compressed from", data::COMPRESSED_FROM_BYTES),
        ("messages that wait", portcullis::layer::MESSAGES_MAX),
        ("cookies that carry the state of a session", cookie::CARRIED_COOKIES_MAX.into()),
        ("state of a session in cookies", carried::CARRIED_BYTES_FILLED_MAX),
        ("age of a state in cookies", hours(carried::CARRIED_AGE_MAX)),
        (
            "clocks of guards whose sessions are in cookies",
            usize::try_from(carried::CLOCKS_APART_MAX.as_secs() / 60).unwrap(),
        ),
        ("turn to change a session that is in cookies", usize::try_from(store::sealed::TURN_MAX.as_secs()).unwrap()),
        ("requests that go on without their clients, in an app", portcullis::layer::LEFT_MAX),
        ("keys told to other guards at once", limit::DUE_MAX),
        #[cfg(feature = "tower-sessions")]
        ("store of tower-sessions waited for", usize::try_from(store::tower::ANSWER_MAX.as_secs()).unwrap()),
        ("limits told to other guards", usize::try_from(engine::LIMITS_EVERY.as_millis()).unwrap()),
        ("numbers in a shared store", store::debts::KEYS_MAX),
        ("lease of a cache", usize::try_from(store::leases::LEASE.as_millis()).unwrap()),
        ("keys in the key file", config::keys::KEYS_MAX),
        ("events that wait for a full disk", portcullis::event::journal::WAITING_BYTES_MAX >> 20),
        ("awaited events of one source in a minute", usize::try_from(portcullis::event::queue::AWAITED_FIRST).unwrap()),
        ("wait of an answer for its event", usize::try_from(engine::EVENT_WAIT_MAX.as_secs()).unwrap()),
        ("line of a journal", portcullis::event::journal::LINE_BYTES_MAX >> 20),
        ("failures of a sink until it is told", usize::try_from(portcullis::delivery::FAILURES_TOLD).unwrap()),
        ("events refused in turn", usize::try_from(portcullis::delivery::REFUSALS_MAX).unwrap()),
        ("configuration file", config::FILE_BYTES_MAX >> 20),
    ];
    for (name, value) in values {
        assert_eq!(told.get(name), Some(&value.to_string().as_str()), "{name}");
    }
    let policy = defaults().policy(1, &config::Rulebook::packs_of(&defaults())).unwrap();
    assert_eq!(told.get("last use written"), Some(&policy.session.touch_every.as_secs().to_string().as_str()));
    assert_eq!(told.get("tombstones"), Some(&hours(policy.session.tombstones).to_string().as_str()));
}

// Rules and events ---------------------------------------------------------------------------------------------------

#[test]
fn the_weights_of_the_baseline_are_those_of_the_code() {
    let page = page("rules/README.md");
    let rows = page.rows();
    let of_heading = rows.iter().filter(|(heading, _)| heading == "Weights of the baseline");
    let told: Vec<(&str, &str)> =
        of_heading.filter_map(|(_, cells)| Some((unquoted(cells.first()?)?, cells.get(2)?.as_str()))).collect();
    let weights = Weights::default();
    let expected: [(&str, Points); 48] = [
        ("device.family", weights.family),
        ("device.os", weights.os),
        ("device.desktop_site", weights.desktop_site),
        ("device.version", weights.version),
        ("device.version", weights.version_up),
        ("device.language", weights.language),
        ("device.language", weights.language_list),
        ("device.hints", weights.hint_platform),
        ("device.hints", weights.hint_version),
        ("device.hints", weights.hint_mobile),
        ("device.hints", weights.hint_exact),
        ("device.hints", weights.hint_exact_up),
        ("device.hints", weights.hint_machine),
        ("device.tls", weights.tls),
        ("device.tls", weights.gateway),
        ("device.http2", weights.http2),
        ("device.order", weights.order),
        ("device.tls_soft", weights.tls_soft),
        ("device.syn", weights.syn),
        ("network.relay", weights.relay),
        ("network.line", weights.line),
        ("network.asn", weights.asn),
        ("network.country", weights.country),
        ("network.travel", weights.travel),
        ("network.hosting", weights.hosting),
        ("network.vpn", weights.vpn),
        ("network.tor", weights.tor),
        ("interaction", weights.interaction),
        ("interaction.far", weights.interaction),
        ("concurrency", weights.concurrency),
        ("concurrency.devices", weights.concurrency),
        ("login.contradiction", weights.login_contradiction),
        ("login.hosting", weights.login_hosting),
        ("id.stale_device", weights.stale_device),
        ("id.stale", weights.stale_asn),
        ("id.stale", weights.stale_prefix),
        ("id.stale", weights.stale_same),
        ("id.fork", weights.fork),
        ("id.fork", weights.fork_again),
        ("signal.id.forged", weights.forged),
        ("signal.id.never_issued", weights.never_issued),
        ("signal.id.planted", weights.planted),
        ("signal.id.planted", weights.planted_at_login),
        ("signal.id.guessing", weights.guessing),
        ("signal.protocol.cookie", weights.cookie_ambiguous),
        ("signal.protocol.cookie", weights.cookie_look_alike),
        ("signal.protocol.cookie", weights.cookie_odd),
        ("signal.protocol.cookie", weights.cookie_unbound),
    ];
    let expected: Vec<(&str, String)> = expected.iter().map(|(name, points)| (*name, points.to_string())).collect();
    let told: Vec<(&str, String)> = told.iter().map(|(name, points)| (*name, (*points).to_owned())).collect();
    assert_eq!(told, expected);
    for (name, _) in told {
        let name = name.strip_prefix("signal.").unwrap_or(name);
        assert!(SignalKind::ALL.iter().any(|kind| kind.name() == name), "there is no signal {name}");
    }
}

/// The first parts of the names of events.
fn families() -> BTreeSet<&'static str> {
    Kind::ALL.iter().filter_map(|kind| kind.as_str().split('.').next()).collect()
}

#[test]
fn every_event_that_is_named_exists() {
    let families = families();
    let mut keys: BTreeSet<String> = BTreeSet::new();
    for table in TABLES {
        keys.extend(table.keys.iter().map(|key| table.path_of(key)));
    }
    let mut count = 0;
    for page in pages() {
        for word in page.words() {
            let is_name =
                word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._".contains(&byte));
            let Some((family, _)) = word.split_once('.').filter(|_| is_name) else { continue };
            let is_field = portcullis::rules::scheme::Field::parse(&word, &[]).is_some();
            let is_signal = SignalKind::ALL.iter().any(|kind| kind.name() == word);
            let is_known = keys.contains(&word) || is_field || is_signal;
            if !families.contains(family) || is_known || FILES.contains(&word.as_str()) {
                continue;
            }
            assert!(word.parse::<Kind>().is_ok(), "{}: there is no event `{word}`", page.path);
            count += 1;
        }
    }
    assert!(count >= 40, "{count} events were found");
}

/// Words that look like the name of an event and are files.
const FILES: &[&str] = &["admin.sock", "admin.token", "events.jsonl"];

#[test]
fn every_test_that_progress_names_exists() {
    let mut sources = String::new();
    for folder in ["src", "tests/it", "tests/e2e"] {
        read_all(&root().join(folder), &mut sources);
    }
    let mut count = 0;
    for word in page("src/manual/progress.md").words() {
        let is_test = word.matches('_').count() >= 1
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_test || SETTINGS.contains(&word.as_str()) {
            continue;
        }
        assert!(sources.contains(&format!("fn {word}(")), "there is no test `{word}`");
        count += 1;
    }
    assert!(count >= 100, "{count} tests were found");
}

#[test]
fn every_story_of_djangos_documentation_is_in_the_table() {
    let stories = fs::read_to_string(root().join("tests/it/sessions/django.rs")).unwrap();
    let stories: BTreeSet<&str> = stories
        .lines()
        .filter_map(|line| line.strip_prefix("async fn django_"))
        .filter_map(|rest| rest.split('(').next())
        .collect();
    let page = page("src/manual/sessions.md");
    let words = page.words();
    let told: BTreeSet<&str> = words.iter().filter_map(|word| word.strip_prefix("django_")).collect();
    assert_eq!(told, stories);
}

/// Words of progress that are settings.
const SETTINGS: &[&str] = &["adopt_until", "per_subject_max", "rotate_every", "sd_notify"];

fn read_all(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("node_modules") && !path.ends_with("unpacked") {
                read_all(&path, into);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_module_is_in_the_table_of_rows() {
    let page = page("src/manual/architecture.md");
    let rows = page.rows();
    let told: BTreeSet<&str> = rows
        .iter()
        .filter(|(heading, _)| heading == "Modules and rows")
        .filter_map(|(_, cells)| cells.get(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let there: BTreeSet<String> = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().trim_end_matches(".rs").to_owned())
        .filter(|name| !["lib", "main", "cli"].contains(&name.as_str()))
        .collect();
    assert_eq!(told, there.iter().map(String::as_str).collect());
}
