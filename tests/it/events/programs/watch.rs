//! What watches the guard: Prometheus with the alerts and the dashboard, rules of Sigma and Wazuh, and systemd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use portcullis::event::Kind;
use serde_json::Value;

use super::{Server, contrib, events, program, python, says};
use crate::events::world::{LOGGED_IN, WRONG, World};
use crate::support::running::until;
use crate::support::stored::free_port;
use crate::support::wire::Wire;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every query of the dashboard, as it is asked for all guards and some seconds.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&contrib("grafana/portcullis.json", &[])).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    let filled =
        |query: &str| query.replace("$instance", ".*").replace("$__rate_interval", "5s").replace("$__range", "10s");
    queries.map(filled).collect()
}

#[test]
fn alerts_and_the_dashboard_ask_for_figures_that_there_are() {
    let metrics = fs::read_to_string(root().join("src/manual/howto.md")).unwrap();
    let text = contrib("prometheus/portcullis.rules.yml", &[]) + &queries().join("\n");
    let names: BTreeSet<_> = text
        .split(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'))
        .filter(|word| word.starts_with("portcullis_"))
        .map(|word| word.trim_end_matches("_bucket"))
        .collect();
    assert!(names.len() >= 15, "{names:?}");
    for name in names {
        assert!(metrics.contains(&format!("| `{name}` |")), "{name} is no metric");
    }
    let said = text.split("kind=").skip(1).map(|rest| rest.trim_start_matches('~').split('"').nth(1).unwrap());
    let kinds: BTreeSet<&str> = said.flat_map(|kinds| kinds.split('|')).collect();
    assert!(kinds.len() >= 60, "{kinds:?}");
    for kind in kinds {
        assert!(Kind::ALL.iter().any(|known| known.as_str() == kind), "{kind} is no event");
    }
}

#[test]
fn alerts_are_raised_for_what_they_say_and_not_for_something_like_it() {
    let Some(promtool) = program("promtool") else { return };
    let folder = root().join("contrib/prometheus");
    says(Command::new(&promtool).args(["check", "rules", "--lint-fatal"]).arg(folder.join("portcullis.rules.yml")));
    says(Command::new(&promtool).args(["test", "rules"]).arg(folder.join("portcullis.tests.yml")));
    let (rules, tests) =
        ["rules", "tests"].map(|file| contrib(&format!("prometheus/portcullis.{file}.yml"), &[])).into();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        // Once for what it is raised for, and once for what it is not.
        assert!(tests.matches(&format!("alertname: {alert}")).count() >= 2, "{alert} has no test");
    }
}

#[test]
fn alerts_page_for_every_event_that_should_wake_somebody() {
    // Told better by another figure than by the count of the event.
    let others = BTreeMap::from([
        ("events.dropped", "portcullis_events_dropped_total"),
        ("policy.reload_failed", "portcullis_policy_stale"),
        ("dependency.failed", "portcullis:dependency_failed:besides_app"),
    ]);
    let text = contrib("prometheus/portcullis.rules.yml", &[]);
    // What an alert asks for, and its severity. What stands behind that is not looked at.
    let rules: Vec<(&str, &str)> = text
        .split("\n      - alert: ")
        .skip(1)
        .map(|rule| rule.split_once(" labels: { severity: ").unwrap())
        .map(|(asks, rest)| (asks, rest.split(' ').next().unwrap()))
        .collect();
    for kind in waking() {
        let count = format!("portcullis_events_total{{kind=\"{kind}\"}}");
        let figure = others.get(kind).copied().unwrap_or(&count);
        let pages = rules.iter().any(|(asks, severity)| *severity == "page" && asks.contains(figure));
        assert!(pages, "no alert pages for {kind}: {rules:?}");
    }
}

/// A Prometheus that asks a guard every second.
struct Prometheus {
    address: SocketAddr,
    _server: Server,
}

impl Prometheus {
    fn start(program: &Path, folder: &Path, guard: u16, token: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        let rules = root().join("contrib/prometheus/portcullis.rules.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [\"{}\"]\n\
             scrape_configs:\n  - job_name: portcullis\n    authorization: {{ credentials_file: \"{}\" }}\n\
             \x20   static_configs: [{{ targets: [\"127.0.0.1:{guard}\"] }}]\n",
            rules.display(),
            token.display(),
        );
        let at = |name: &str| folder.join(name).display().to_string();
        fs::write(at("prometheus.yml"), config).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", at("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", at("data")));
        command.arg("--web.listen-address=127.0.0.1:0");
        let server = Server(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let address = || {
            let log = fs::read_to_string(at("log")).unwrap();
            let (_, behind) = log.split_once("msg=\"Listening on\" address=")?;
            behind.split_whitespace().next()?.parse().ok()
        };
        until("Prometheus listens", || address().is_some());
        Self { address: address().unwrap(), _server: server }
    }

    /// What it answers, as far as it is well.
    fn asked(&self, path: &str) -> Value {
        let request = format!("GET /api/v1/{path} HTTP/1.1\r\nHost: prometheus\r\nConnection: close\r\n\r\n");
        let reply = Wire::connect(self.address).send(request).reply();
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        assert!(reply.status == 503 || answer["status"] == "success", "{path}: {}", reply.text());
        answer["data"].clone()
    }

    /// How many series there are.
    fn series(&self, query: &str) -> usize {
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        self.asked(&format!("query?query={query}"))["result"].as_array().map_or(0, Vec::len)
    }
}

#[test]
fn prometheus_reads_the_figures_and_answers_what_the_dashboard_asks() {
    let Some(program) = program("prometheus") else { return };
    let port = free_port();
    let world = World::new();
    let hook = free_port();
    world.configure_with(
        &format!("127.0.0.1:{port}"),
        &format!(
            "journal = {{ path = \"data/events.jsonl\" }}\n[[events.sink]]\ntype = \"stdout\"\n\
             [[events.sink]]\nname = \"away\"\ntype = \"syslog\"\naddress = \"tcp://127.0.0.1:{hook}\"\n"
        ),
    );
    let mut guard = world.start();
    let token = world.folder().join("portcullis-data/admin.token");
    until("the guard has a token", || token.exists());
    let prometheus = Prometheus::start(&program, &world.folder().join("prometheus"), port, &token);
    until("the guard is up", || prometheus.series("up{job=\"portcullis\"} == 1") == 1);
    // Figures that do not move are no rates.
    assert_eq!(world.logs_in(&guard, WRONG), 401);
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    // What did not happen has no series; each query is understood.
    let queries = queries();
    let answered = || queries.iter().filter(|query| prometheus.series(query) > 0).count();
    until("most queries have an answer", || answered() * 4 >= queries.len() * 3);
    let health = |rule: &Value| (rule["name"].as_str().unwrap().to_owned(), rule["health"] == "ok");
    let rules = || -> BTreeMap<String, bool> {
        let groups = prometheus.asked("rules")["groups"].clone();
        groups
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|group| group["rules"].as_array().unwrap())
            .map(health)
            .collect()
    };
    until("all alerts were weighed", || !rules().is_empty() && rules().values().all(|is_well| *is_well));
    assert!(guard.process.terminate().success());
}

/// Lines of golden events, and others made of them that only those rules find which count.
fn sigma_events(folder: &Path) -> std::path::PathBuf {
    let golden = fs::read_to_string(root().join("tests/data/events.jsonl")).unwrap();
    let of = |kind: &str| events(&golden).into_iter().find(|event| event["event"] == kind).unwrap();
    let mut more = Vec::new();
    let mut add = |kind: &str, set: &[(&str, Value)]| {
        let mut event = of(kind);
        set.iter().for_each(|(key, value)| event[key] = value.clone());
        more.push(event.to_string());
    };
    let time = |second: u32| Value::from(format!("2026-11-22T10:{:02}:{:02}.000Z", second / 60, second % 60));
    for at in 0..10 {
        add("login.failed", &[("ip", "192.0.2.50".into()), ("subject", "alice".into()), ("ts", time(at * 50))]);
        // One a minute and a half, and from ten addresses.
        add("login.failed", &[("ip", "192.0.2.51".into()), ("subject", "alice".into()), ("ts", time(at * 90))]);
        add(
            "login.failed",
            &[("ip", format!("192.0.2.{}", 60 + at).into()), ("subject", "alice".into()), ("ts", time(at))],
        );
    }
    for at in 0..5 {
        add(
            "login.failed",
            &[("ip", "192.0.2.52".into()), ("subject", format!("u{at}").into()), ("ts", time(at * 500))],
        );
    }
    for at in 0..4 {
        add(
            "login.failed",
            &[("ip", "192.0.2.53".into()), ("subject", format!("u{at}").into()), ("ts", time(at * 500))],
        );
    }
    for count in [19, 20] {
        add("events.repeated", &[("of", "login.failed".into()), ("count", count.into())]);
    }
    let path = folder.join("events.jsonl");
    fs::write(&path, golden + &more.join("\n") + "\n").unwrap();
    path
}

#[test]
fn rules_of_sigma_find_what_they_are_for_and_nothing_else() {
    let Some(python) = python("sigma") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.arg(root().join("tests/e2e/sigma/check.py")).arg(root().join("contrib/sigma"));
    let found: BTreeMap<String, Vec<String>> =
        serde_json::from_str(&says(command.arg(sigma_events(folder.path())))).unwrap();
    // Named after the event, unless it is for more than that.
    let other = BTreeMap::from([
        ("portcullis_events_lost.yml", vec!["events.dropped", "events.gap"]),
        ("portcullis_login_after_failures.yml", vec!["session.authenticated"]),
        ("portcullis_login_failed_storm.yml", vec!["events.repeated"]),
        ("portcullis_login_failed.yml#portcullis_login_failed_by_ip", vec!["192.0.2.50"]),
        ("portcullis_login_failed.yml#portcullis_login_failed_many_subjects", vec!["192.0.2.52"]),
    ]);
    for (rule, kinds) in &found {
        let kinds: BTreeSet<&str> = kinds.iter().map(String::as_str).collect();
        let name = rule.rsplit('#').next().unwrap().trim_start_matches("portcullis_").trim_end_matches(".yml");
        let expected = other.get(rule.as_str()).cloned();
        let own = || Kind::ALL.iter().map(|kind| kind.as_str()).find(|kind| kind.replace('.', "_") == name);
        let expected = expected.unwrap_or_else(|| vec![own().unwrap_or_else(|| panic!("{rule} is for what?"))]);
        assert_eq!(kinds, expected.into_iter().collect(), "{rule}");
    }
    assert!(found.len() > 20, "{found:?}");
}

/// What `contrib/README.md` wants to be woken for.
fn waking() -> Vec<&'static str> {
    let readme = contrib("README.md", &[]);
    let table = readme.split_once("| Event | Means | Do |").unwrap().1;
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| "));
    let named = rows.flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2));
    // A name that is mistyped must not go unnoticed.
    let known = |name: &str| name.parse::<Kind>().unwrap_or_else(|_| panic!("{name} is no event")).as_str();
    let kinds: Vec<_> = named.map(known).collect();
    assert!(kinds.len() >= 10, "{kinds:?}");
    kinds
}

#[test]
fn rules_of_wazuh_are_whole_and_have_every_event_that_should_wake_somebody() {
    let waking = waking();
    let Some(python) = python("sigma") else { return };
    let mut command = Command::new(python);
    command.arg(root().join("tests/e2e/wazuh/check.py")).arg(root().join("contrib/wazuh/portcullis_rules.xml"));
    let found: BTreeMap<String, u8> =
        serde_json::from_str(&says(command.arg(root().join("tests/data/events.jsonl")))).unwrap();
    assert_eq!(found.len(), Kind::ALL.len(), "{found:?}");
    for kind in waking {
        assert!(found[kind] >= 12, "{kind}");
    }
}

#[test]
fn the_service_of_systemd_is_confined_as_it_says() {
    let Some(analyze) = program("systemd-analyze") else { return };
    let unit = root().join("contrib/systemd/portcullis.service");
    let says =
        says(Command::new(analyze).args(["security", "--offline=true", "--threshold=11", "--no-pager"]).arg(&unit));
    assert!(says.contains("Overall exposure level for portcullis.service: "), "{says}");
}
