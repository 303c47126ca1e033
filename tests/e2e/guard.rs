//! Starts, ends and restarts the real program in front of an app.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use serde_json::Value;
use tempfile::TempDir;

use super::app::App;
use super::process::Process;

/// The guard's cookie on plain http.
pub(super) const COOKIE: &str = "portcullis";

/// How quickly tags age, so that no story has to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As shipped: a tag lives two minutes, a superseded one a minute more.
    Normal,
    /// Every answer offers a successor; a superseded tag is served for a minute.
    RotatesAlways,
    /// Every answer offers a successor, and a superseded tag is stale at once.
    StaleAtOnce,
}

/// A running guard with its own store, which outlives a restart.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) address: SocketAddr,
    process: Process,
    config: PathBuf,
    folder: TempDir,
}

impl Guard {
    /// Starts the guard in front of an app.
    #[track_caller]
    pub(super) fn in_front_of(app: &App, pace: Pace) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("portcullis.toml");
        fs::write(&config, configuration(app, pace)).unwrap();
        let (process, address) = start(&folder, &config);
        Self { address, process, config, folder }
    }

    /// Ends it without a warning and starts it again over the same store.
    #[track_caller]
    pub(super) fn crash_and_restart(&mut self) {
        self.process.kill();
        (self.process, self.address) = start(&self.folder, &self.config);
    }

    /// Ends it as an operator does.
    #[track_caller]
    pub(super) fn stop(&mut self) -> ExitStatus {
        self.process.terminate()
    }

    /// Ends all sessions of a subject, as an operator does.
    #[track_caller]
    pub(super) fn revokes_sessions_of(&self, subject: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["sessions", "revoke", "--subject", subject, "--yes"]).current_dir(self.folder.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 session ended"), "{said} {output:?}");
    }

    /// Waits for an event of this name.
    #[track_caller]
    pub(super) fn event(&mut self, name: &str) -> Value {
        self.process.line(name, |line| event(line).filter(|event| event["event"] == name))
    }

    /// Names of all events written so far.
    pub(super) fn events(&mut self) -> Vec<String> {
        let events = self.process.lines().iter().filter_map(|line| event(line));
        events.filter_map(|event| event["event"].as_str().map(str::to_owned)).collect()
    }

    /// Everything written so far, to look for secrets in.
    pub(super) fn output(&mut self) -> String {
        self.process.lines().join("\n")
    }
}

#[track_caller]
fn start(folder: &TempDir, config: &PathBuf) -> (Process, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("run").arg("--config").arg(config).current_dir(folder.path());
    let mut process = Process::start(&mut command, folder.path().join("complaints.txt"));
    let listen = process.line("guard.started", |line| {
        event(line).filter(|event| event["event"] == "guard.started").map(|event| event["listen"].clone())
    });
    let listen = listen.as_str().map(|listen| listen.split(',').next().unwrap_or(listen).trim().to_owned());
    let address = listen.as_deref().and_then(|listen| listen.trim_start_matches("http://").parse().ok());
    (process, address.expect("guard.started names the address that it listens on"))
}

fn event(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

fn configuration(app: &App, pace: Pace) -> String {
    let pace = match pace {
        Pace::Normal => "",
        Pace::RotatesAlways => "rotate_every = \"1ms\"\ngrace = \"60s\"",
        Pace::StaleAtOnce => "rotate_every = \"1ms\"\ngrace = \"1ms\"",
    };
    let url = app.url();
    let (cookie, login, logout) = (app.kind.cookie, app.kind.login, app.kind.logout);
    format!(
        r#"version = 1
[[listen]]
address = "127.0.0.1:0"
[upstream]
url = "{url}"
[session]
shield = ["{cookie}"]
insecure_http_cookie = true
{pace}
[store]
kind = "embedded"
path = "store"
[keys]
file = "keys.toml"
[[login]]
route   = "POST {login}"
success = {{ status = [302], location_not = "{login}*" }}
subject = "form:username"
limit   = {{ per_client = "100/1m burst 100", per_subject = "100/1m burst 100" }}
[[logout]]
route = "POST {logout}"
[limits]
client  = "5000/1s"
session = "5000/1s"
[[events.sink]]
type   = "stdout"
format = "json"
"#
    )
}
