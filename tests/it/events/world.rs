//! A guard as a program, before an app where one can log in.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::e2e::process::Process;
use crate::support::origin::{Origin, raw};
use crate::support::wire::Wire;

/// The folder of a guard, and the app behind it.
pub(super) struct World {
    origin: Origin,
    folder: TempDir,
}

/// A guard that runs.
pub(super) struct Guard {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
}

const LOGIN: &str = "POST /login?next=of-the-query HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                     Content-Length: 34\r\n\r\nuser=alice&password=of-the-password";
pub(super) const LOGGED_IN: &str = "HTTP/1.1 303 See Other\r\nLocation: /\r\nSet-Cookie: sessionid=of-alice; HttpOnly; SameSite=Lax\r\n\
                         Content-Length: 0\r\n\r\n";
pub(super) const WRONG: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

impl World {
    /// Without a configuration.
    pub(super) fn new() -> Self {
        Self { origin: Origin::start(), folder: tempfile::tempdir().unwrap() }
    }

    /// With this in `[events]`.
    pub(super) fn with(events: &str) -> Self {
        let world = Self::new();
        world.configure(events);
        world
    }

    /// What stands in `[events]`.
    pub(super) fn configure(&self, events: &str) {
        self.configure_with("off", events);
    }

    /// The same with an address for operators.
    pub(super) fn configure_with(&self, admin: &str, events: &str) {
        let app = self.origin.address();
        let config = format!(
            r#"version = 1
[[listen]]
address = "127.0.0.1:0"
[upstream]
url = "http://{app}"
[session]
shield = ["sessionid"]
insecure_http_cookie = true
[[login]]
route = "POST /login"
subject = "form:user"
success = {{ status = 303, location = "/" }}
[store]
kind = "memory"
[keys]
file = "keys.toml"
[admin]
address = "{admin}"
[events]
# Each one is told, however many come.
repeat = {{ window = "0s" }}
{events}"#
        );
        fs::write(self.folder().join("portcullis.toml"), config).unwrap();
    }

    /// Takes the limits off what was configured: so much comes from one client.
    pub(super) fn without_limits(&self) {
        let path = self.folder().join("portcullis.toml");
        let subject = "subject = \"form:user\"\n";
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replacen(subject, &format!("{subject}limit = \"off\"\n"), 1);
        fs::write(path, format!("{text}\n[limits]\nclient = \"off\"\nguesses = \"off\"\n")).unwrap();
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn start(&self) -> Guard {
        self.start_with("PORTCULLIS_NOTHING", "")
    }

    /// With something in its environment.
    pub(super) fn start_with(&self, variable: &str, value: &str) -> Guard {
        self.start_with_all(&[(variable, value)])
    }

    /// The same with several.
    pub(super) fn start_with_all(&self, environment: &[(&str, &str)]) -> Guard {
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().copied());
        let mut process = Process::start(&mut command, self.folder().join("complaints.txt"));
        let address = process.event("guard.started")["listen"].as_str().unwrap().parse().unwrap();
        Guard { process, address }
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.folder().join("data/events.jsonl")
    }

    /// `portcullis events`: exit code, standard output and error.
    pub(super) fn says(&self, words: &[&str]) -> (i32, String, String) {
        self.runs(&[&["events"], words].concat())
    }

    /// The program with these words, in the folder.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(words).current_dir(self.folder());
        command
    }

    /// Any command.
    pub(super) fn runs(&self, words: &[&str]) -> (i32, String, String) {
        let output = self.command(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// What is in the journal, by number and kind.
    pub(super) fn events(&self) -> Vec<(u64, String)> {
        let (code, out, err) = self.says(&["tail", "-n", "1000", "--format", "json"]);
        assert_eq!((code, err.as_str()), (0, ""));
        let event = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let of = |event: Value| (event["seq"].as_u64().unwrap(), event["event"].as_str().unwrap().to_owned());
        out.lines().map(event).map(of).collect()
    }

    /// What no event may show: of the request, of the app, and of the cookie that the client was given.
    pub(super) fn secrets(&self) -> Vec<String> {
        ["of-the-password", "of-the-query", "of-alice"].map(str::to_owned).to_vec()
    }

    /// Tries to, with that answer of the app; gives the status and the value of the cookie that came with it.
    pub(super) fn tries(&self, guard: &Guard, answer: &str) -> (u16, Option<String>) {
        self.tries_at(guard.address, answer)
    }

    /// The same at the guard of that address.
    pub(super) fn tries_at(&self, guard: SocketAddr, answer: &str) -> (u16, Option<String>) {
        self.origin.next(raw(answer));
        let reply = Wire::connect(guard).send(LOGIN).reply();
        let cookie = reply.all("set-cookie").into_iter().find_map(|line| {
            let value = line.split(';').next()?.split_once('=')?.1;
            (value.len() > 40).then(|| value.to_owned())
        });
        (reply.status, cookie)
    }

    /// Tries to under that name, and by a program that calls itself so, with that answer of the app; gives the status.
    pub(super) fn tries_as(&self, guard: &Guard, name: &str, answer: &str) -> u16 {
        self.origin.next(raw(answer));
        let agent = name;
        let name: String = name.bytes().map(|octet| format!("%{octet:02X}")).collect();
        let form = format!("user={name}&password=of-the-password");
        let head = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        let request = format!("{head}User-Agent: {agent}\r\nContent-Length: {}\r\n\r\n{form}", form.len());
        Wire::connect(guard.address).send(request).reply().status
    }

    pub(super) fn logs_in(&self, guard: &Guard, answer: &str) -> u16 {
        self.tries(guard, answer).0
    }
}
