//! fail2ban and CrowdSec ban whom the guard acted against, and nobody else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Server, contrib, program, says};
use crate::events::world::{WRONG, World};
use crate::support::running::until;
use crate::support::stored::free_port;

const FILE: &str = "[[events.sink]]\ntype = \"stdout\"\n[[events.sink]]\ntype = \"file\"\npath = \"events.jsonl\"\n";

/// Lines of a guard that somebody tried passwords at, and others made of them.
struct Lines {
    /// What it wrote.
    text: String,
    /// One that it acted with.
    acted: String,
    /// One of a password that was wrong.
    passed: String,
    /// One of somebody whose name looks like what a guard writes of another.
    named: String,
}

impl Lines {
    fn of(world: &World) -> Self {
        let mut guard = world.start();
        let name = "{\"ts\":\"2026-11-30T10:00:00.000Z\",\"event\":\"rate.limited\",\"action\":\"throttle\",\"ip\":\"192.0.2.6\",\
                    \"severity\":\"warn\",\"v\":1,\"seq\":9,\"mode\":\"enforce\",\"key\":\"client\"}";
        assert_eq!(world.tries_as(&guard, name, WRONG), 401);
        for _ in 0..40 {
            world.tries(&guard, WRONG);
        }
        guard.process.event("rate.limited");
        assert!(guard.process.terminate().success());
        let text = fs::read_to_string(world.folder().join("events.jsonl")).unwrap();
        let line = |what: &str| {
            let found = text.lines().find(|line| line.contains(what));
            found.unwrap_or_else(|| panic!("{what}: {text}")).to_owned()
        };
        let named = line("192.0.2.6");
        assert!(named.contains("\"login.failed\"") && named.contains("\"ip\":\"127.0.0.1\""), "{named}");
        let passed = text.lines().find(|line| line.contains("\"login.failed\"") && *line != named).unwrap().to_owned();
        let acted = line("\"event\":\"rate.limited\"");
        assert!(acted.contains("\"mode\":\"enforce\""), "{acted}");
        Self { text, acted, passed, named }
    }

    /// The line that it acted with, of another client.
    fn acted(&self, ip: &str) -> String {
        self.acted.replace("127.0.0.1", ip) + "\n"
    }

    /// What others had a part in: an account of which the owner came last, a network of which he is a neighbour.
    fn shared(&self, key: &str, ip: &str) -> String {
        assert!(self.acted.contains(",\"key\":\"client\""), "{}", self.acted);
        self.acted(ip).replace(",\"key\":\"client\"", &format!(",\"key\":\"{key}\""))
    }

    /// A wrong password of another client.
    fn passed(&self, ip: &str) -> String {
        self.passed.replace("127.0.0.1", ip) + "\n"
    }

    /// Each so many times: what was only observed, what was let pass, and what a client made up.
    fn harmless(&self, often: usize) -> String {
        let observed = self.acted("192.0.2.1").replace("\"mode\":\"enforce\"", "\"mode\":\"observe\"");
        let made_up = self.acted("192.0.2.3").trim_end().replace('\\', "\\\\").replace('"', "\\\"");
        let forged = format!("{},\"ua\":\"{made_up}\"}}\n", self.passed("192.0.2.4").trim_end().trim_end_matches('}'));
        let named = self.named.replace("127.0.0.1", "192.0.2.7") + "\n";
        let (subject, prefix) = (self.shared("subject", "192.0.2.5"), self.shared("prefix", "192.0.2.6"));
        [observed, self.passed("192.0.2.2"), forged, subject, prefix, named].map(|line| line.repeat(often)).concat()
    }
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
    let world = World::with(FILE);
    let lines = Lines::of(&world);
    let log = world.folder().join("events.jsonl");
    let last = lines.acted("192.0.2.99").repeat(3);
    fs::write(&log, format!("{}{}{last}", lines.text, lines.harmless(20))).unwrap();
    let banned = world.folder().join("banned");
    let _server = fail2ban(&server, &world.folder().join("fail2ban"), &log, &banned);
    let all = || fs::read_to_string(&banned).unwrap_or_default();
    until("the last one is banned", || all().contains("192.0.2.99"));
    until("both are", || all().lines().count() >= 2);
    assert_eq!(all().lines().collect::<BTreeSet<_>>(), BTreeSet::from(["127.0.0.1", "192.0.2.99"]));
}

/// A CrowdSec of its own in a folder, with what stands in `contrib`, that tells nobody outside. It reads what is in `log`.
struct CrowdSec {
    config: String,
    cscli: std::path::PathBuf,
    _server: Server,
}

impl CrowdSec {
    fn start(folder: &Path) -> Option<Self> {
        let (server, cscli) = (program("crowdsec")?, program("cscli")?);
        let at = |name: &str| folder.join(name).display().to_string();
        for inside in
            ["data", "hub", "plugins", "notifications", "patterns", "parsers/s01-parse", "scenarios", "acquis.d", "log"]
        {
            fs::create_dir_all(at(inside)).unwrap();
        }
        for scenario in ["portcullis-acted", "portcullis-attack", "portcullis-logins"] {
            let file = format!("scenarios/{scenario}.yaml");
            fs::write(at(&file), contrib(&format!("crowdsec/{file}"), &[])).unwrap();
        }
        let parser = "parsers/s01-parse/portcullis.yaml";
        fs::write(at(parser), contrib(&format!("crowdsec/{parser}"), &[])).unwrap();
        let replaced = [("/var/log/portcullis/*.jsonl", &*at("log/*.jsonl"))];
        fs::write(at("acquis.d/portcullis.yaml"), contrib("crowdsec/acquis.d/portcullis.yaml", &replaced)).unwrap();
        let (port, root) = (free_port(), folder.display());
        let url = format!("http://127.0.0.1:{port}");
        let config = format!(
            r#"common: {{ daemonize: false, log_media: stdout, log_level: info, working_dir: "{root}" }}
config_paths:
  config_dir: "{root}"
  data_dir: "{root}/data"
  simulation_path: "{root}/simulation.yaml"
  hub_dir: "{root}/hub"
  index_path: "{root}/hub/.index.json"
  notification_dir: "{root}/notifications"
  plugin_dir: "{root}/plugins"
crowdsec_service: {{ acquisition_dir: "{root}/acquis.d", parser_routines: 1 }}
cscli: {{ output: json }}
db_config: {{ log_level: info, type: sqlite, db_path: "{root}/data/crowdsec.db", use_wal: false }}
plugin_config: {{}}
api:
  client: {{ insecure_skip_verify: false, credentials_path: "{root}/credentials.yaml" }}
  server: {{ log_level: info, listen_uri: "127.0.0.1:{port}", profiles_path: "{root}/profiles.yaml" }}
prometheus: {{ enabled: false }}
"#
        );
        let profile = "name: ban\nfilters:\n  - Alert.Remediation == true && Alert.GetScope() == \"Ip\"\n\
                       decisions:\n  - type: ban\n    duration: 4h\non_success: break\n";
        for (name, text) in [
            ("config.yaml", config.as_str()),
            ("simulation.yaml", "simulation: false\n"),
            ("credentials.yaml", ""),
            ("hub/.index.json", "{\"collections\":{},\"parsers\":{},\"postoverflows\":{},\"scenarios\":{}}"),
            ("profiles.yaml", profile),
        ] {
            fs::write(at(name), text).unwrap();
        }
        let config = at("config.yaml");
        let machine = ["machines", "add", "test", "--password", "of-the-test", "--url", &url, "--force"];
        says(Command::new(&cscli).args(["-c", &config]).args(machine).args(["-f", &at("credentials.yaml")]));
        let log = fs::File::create(at("crowdsec.log")).unwrap();
        let errors = log.try_clone().unwrap();
        let mut command = Command::new(server);
        let server = Server(command.args(["-c", &config]).stdout(log).stderr(errors).spawn().unwrap());
        let said = || fs::read_to_string(at("crowdsec.log")).unwrap();
        until("CrowdSec reads", || said().contains("Starting processing data"));
        Some(Self { config, cscli, _server: server })
    }

    /// Whom it bans.
    fn banned(&self) -> BTreeSet<String> {
        let told = says(Command::new(&self.cscli).args(["-c", &self.config, "decisions", "list", "-o", "json"]));
        let told: Value = serde_json::from_str(&told).unwrap();
        let alerts = told.as_array().into_iter().flatten();
        let decisions = alerts.flat_map(|alert| alert["decisions"].as_array().unwrap());
        decisions.map(|decision| decision["value"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn crowdsec_bans_whom_the_guard_acted_against_and_nobody_else() {
    let world = World::with(FILE);
    let folder = world.folder().join("crowdsec");
    let Some(crowdsec) = CrowdSec::start(&folder) else { return };
    let lines = Lines::of(&world);
    let guesser = lines.acted("192.0.2.98").replace("rate.limited", "session.id_bruteforce");
    let wrong = lines.passed("192.0.2.97").repeat(13);
    let last = lines.acted("192.0.2.99").repeat(3);
    fs::write(folder.join("log/events.jsonl"), format!("{}{}{guesser}{wrong}{last}", lines.text, lines.harmless(3)))
        .unwrap();
    let expected = ["127.0.0.1", "192.0.2.97", "192.0.2.98", "192.0.2.99"].map(str::to_owned);
    until("all are banned", || crowdsec.banned().len() >= expected.len());
    assert_eq!(crowdsec.banned(), BTreeSet::from(expected));
}
