//! Events with the programs that others run: rsyslog, fail2ban and logrotate, with the files in `contrib`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use portcullis::event::Kind;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

use super::world::{Guard, LOGGED_IN, WRONG, World};
use crate::support::running::until;
use crate::support::stored::skipped;

/// A program of the system, if it is there; those of operators stand where not every PATH leads.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.exists()).or_else(|| skipped(name))
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A file of `contrib`, with some of it replaced; each must be there.
fn contrib(file: &str, replaced: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(file);
    let mut text = fs::read_to_string(path).unwrap();
    for (from, to) in replaced {
        assert!(text.contains(from), "{file} has no {from}");
        text = text.replace(from, to);
    }
    text
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// An authority, and a certificate of it for both sides.
fn certificates(folder: &Path) {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    for (name, text) in [("ca.pem", ca.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
        fs::write(folder.join(name), text).unwrap();
    }
}

#[test]
fn rsyslog_takes_events_over_tcp_and_tls_and_writes_down_what_the_guard_wrote() {
    let Some(rsyslogd) = program("rsyslogd") else { return };
    let world = World::new();
    let folder = world.folder().join("rsyslog");
    fs::create_dir(&folder).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    certificates(&folder);
    let (tcp, tls) = (at("tcp.port"), at("tls.port"));
    let config = contrib(
        "rsyslog/portcullis.conf",
        &[
            ("/etc/rsyslog.d/ca.pem", &at("ca.pem")),
            ("/etc/rsyslog.d/cert.pem", &at("cert.pem")),
            ("/etc/rsyslog.d/key.pem", &at("key.pem")),
            ("port=\"5514\"", &format!("port=\"0\" listenPortFileName=\"{tcp}\"")),
            ("port=\"6514\"", &format!("address=\"127.0.0.1\" port=\"0\" listenPortFileName=\"{tls}\"")),
            ("/var/log/portcullis/collected.jsonl", &at("collected.jsonl")),
        ],
    );
    fs::write(at("rsyslog.conf"), format!("global(workDirectory=\"{}\")\n{config}", folder.display())).unwrap();
    let mut command = Command::new(rsyslogd);
    command.args(["-n", "-f", &at("rsyslog.conf"), "-i", &at("pid")]);
    let log = fs::File::create(at("log")).unwrap();
    let _server = Server(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let port = |file: &str| fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u16>().ok());
    until("rsyslog listens", || port(&tcp).is_some() && port(&tls).is_some());
    let (tcp, tls) = (port(&tcp).unwrap(), port(&tls).unwrap());
    world.configure(&format!(
        r#"journal = {{ path = "data/events.jsonl", sync = "0s" }}
[[events.sink]]
type = "stdout"
[[events.sink]]
name = "plain"
type = "syslog"
address = "tcp://127.0.0.1:{tcp}"
[[events.sink]]
name = "over-tls"
type = "syslog"
address = "tls://localhost:{tls}"
ca = "{ca}"
cert = "{cert}"
key = "{key}"
# One that shows no certificate.
[[events.sink]]
name = "stranger"
type = "syslog"
address = "tls://localhost:{tls}"
ca = "{ca}"
format = "ecs"
"#,
        ca = at("ca.pem"),
        cert = at("cert.pem"),
        key = at("key.pem"),
    ));
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, WRONG), 401);
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    assert!(guard.process.terminate().success());
    // Whole lines: rsyslog may be writing one.
    let text = || fs::read_to_string(at("collected.jsonl")).unwrap_or_default();
    let collected = || events(text().rsplit_once('\n').map_or("", |(lines, _)| lines));
    let ends = || collected().iter().filter(|event| event["event"] == "guard.stopped").count();
    until("both sinks have told the end", || ends() == 2);
    // What came is what the journal has, over each way.
    let journal = fs::read_to_string(world.journal()).unwrap();
    for event in events(&journal) {
        let of = |found: &&Value| found["seq"] == event["seq"] && found["event"] == event["event"];
        assert!(collected().iter().filter(of).count() >= 2, "{event}");
    }
    // What the stranger sent did not.
    let complaints = || fs::read_to_string(at("log")).unwrap();
    until("rsyslog has turned the stranger away", || complaints().contains("certificate"));
    assert!(collected().iter().all(|event| event["@timestamp"].is_null()), "{:?}", collected());
}

/// Wrong passwords, until the guard has had enough.
fn guesses(world: &World, guard: &mut Guard) {
    for _ in 0..40 {
        world.tries(guard, WRONG);
    }
    guard.process.event("rate.limited");
}

/// A fail2ban of its own in a folder, with the filter and the jail of `contrib`; it writes down whom it bans.
fn fail2ban(server: &Path, folder: &Path, log: &Path, banned: &Path) -> Server {
    let at = |name: &str| folder.join(name);
    for inside in ["filter.d", "action.d"] {
        fs::create_dir_all(at(inside)).unwrap();
    }
    fs::write(at("filter.d/portcullis.conf"), contrib("fail2ban/filter.d/portcullis.conf", &[])).unwrap();
    let replaced = [
        ("/var/log/portcullis/events.jsonl", log.to_str().unwrap()),
        ("backend  = auto", "backend  = polling\naction = note"),
    ];
    let jail = contrib("fail2ban/jail.d/portcullis.conf", &replaced);
    fs::write(at("jail.conf"), format!("[DEFAULT]\nignoreself = false\nignoreip =\n{jail}")).unwrap();
    fs::write(at("action.d/note.conf"), format!("[Definition]\nactionban = echo <ip> >>{}\n", banned.display()))
        .unwrap();
    let inside = folder.display();
    let settings = format!(
        "[Definition]\nloglevel = INFO\nlogtarget = {inside}/log\nsyslogsocket = auto\nsocket = {inside}/sock\n\
         pidfile = {inside}/pid\ndbfile = None\ndbpurgeage = 1d\ndbmaxmatches = 10\nallowipv6 = auto\n"
    );
    fs::write(at("fail2ban.conf"), settings).unwrap();
    let mut command = Command::new(server);
    command.arg("-f").arg("-c").arg(folder).arg("-s").arg(at("sock")).arg("-p").arg(at("pid")).arg("start");
    Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[test]
fn fail2ban_bans_whom_the_guard_acted_against_and_nobody_else() {
    let Some(server) = program("fail2ban-server") else { return };
    let world =
        World::with("[[events.sink]]\ntype = \"stdout\"\n[[events.sink]]\ntype = \"file\"\npath = \"events.jsonl\"\n");
    let mut guard = world.start();
    guesses(&world, &mut guard);
    assert!(guard.process.terminate().success());
    let log = world.folder().join("events.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let line = |what: &str| text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {text}"));
    let acted = line("\"rate.limited\"");
    assert!(acted.contains("\"mode\":\"enforce\""), "{acted}");
    // What was only observed, what was let pass, and what a client made up.
    let observed = acted.replace("\"mode\":\"enforce\"", "\"mode\":\"observe\"").replace("127.0.0.1", "192.0.2.1");
    let passed = line("\"login.failed\"").replace("127.0.0.1", "192.0.2.2");
    let made_up = acted.replace("127.0.0.1", "192.0.2.3").replace('\\', "\\\\").replace('"', "\\\"");
    let forged = format!("{},\"ua\":\"{made_up}\"}}", passed.replace("192.0.2.2", "192.0.2.4").trim_end_matches('}'));
    let last = acted.replace("127.0.0.1", "192.0.2.99");
    let more = [observed, passed, forged].map(|line| format!("{line}\n").repeat(20)).concat();
    fs::write(&log, format!("{text}{more}{}", format!("{last}\n").repeat(3))).unwrap();
    let banned = world.folder().join("banned");
    let _server = fail2ban(&server, &world.folder().join("fail2ban"), &log, &banned);
    let all = || fs::read_to_string(&banned).unwrap_or_default();
    until("the last one is banned", || all().contains("192.0.2.99"));
    until("both are", || all().lines().count() >= 2);
    assert_eq!(all().lines().collect::<BTreeSet<_>>(), BTreeSet::from(["127.0.0.1", "192.0.2.99"]));
}

/// Is set when this goes out of scope, however that happens.
struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn logrotate_loses_no_line_of_a_guard_at_work() {
    const ROUNDS: usize = 5;
    let Some(logrotate) = program("logrotate") else { return };
    let world = World::with(
        "[[events.sink]]\ntype = \"stdout\"\n[[events.sink]]\ntype = \"file\"\npath = \"log/events.jsonl\"\n",
    );
    let folder = world.folder().join("log");
    fs::create_dir(&folder).unwrap();
    let mut guard = world.start();
    let config = world.folder().join("logrotate");
    let glob = format!("{}/*.jsonl", folder.display());
    let replaced = [("/var/log/portcullis/*.jsonl", glob.as_str()), ("    compress\n    delaycompress\n", "")];
    fs::write(&config, contrib("logrotate/portcullis", &replaced)).unwrap();
    let lines = || fs::read_to_string(folder.join("events.jsonl")).map_or(0, |text| text.lines().count());
    let (address, is_done) = (guard.address, AtomicBool::new(false));
    thread::scope(|scope| {
        // Lines come while files are renamed.
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                world.tries_at(address, WRONG);
            }
        });
        let _end = Set(&is_done);
        for round in 0..ROUNDS {
            until("the file has lines", || lines() > 20);
            let mut command = Command::new(&logrotate);
            command.args(["--force", "--state"]).arg(world.folder().join("state")).arg(&config);
            let output = command.output().unwrap();
            assert!(output.status.success(), "round {round}: {output:?}");
        }
    });
    world.tries(&guard, WRONG);
    assert!(guard.process.terminate().success());
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), ROUNDS + 1, "{files:?}");
    let all: Vec<_> = files.iter().flat_map(|file| events(&fs::read_to_string(file).unwrap())).collect();
    let seqs: BTreeSet<_> = all.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs.len(), all.len(), "none twice");
    let last = *seqs.last().unwrap();
    assert_eq!(seqs, (1..=last).collect::<BTreeSet<_>>(), "none is missing");
    assert_eq!(guard.process.event("guard.stopped")["seq"], last);
}

#[test]
fn alerts_ask_for_figures_that_there_are() {
    let metrics = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/manual/howto.md")).unwrap();
    let rules = contrib("prometheus/portcullis.rules.yml", &[]);
    let names: BTreeSet<_> = rules
        .split(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'))
        .filter(|word| word.starts_with("portcullis_"))
        .collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        assert!(metrics.contains(&format!("| `{name}` |")), "{name} is no metric");
    }
    let kinds = rules.split("kind=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    for kind in kinds {
        assert!(Kind::ALL.iter().any(|known| known.as_str() == kind), "{kind} is no event");
    }
}
