//! The real program with a store in memory, and how much memory it has.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::app::App;

/// A running guard, ended when this is dropped.
pub(super) struct Guard {
    pub(super) address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Guard {
    #[track_caller]
    pub(super) fn in_front_of(app: &App) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("portcullis.toml");
        fs::write(&config, configuration(app)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("run").arg("--config").arg(&config).current_dir(folder.path());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let started = lines.find_map(|line| started(&line.unwrap())).expect("it ended before it had started");
        // Events go on for as long as it runs; nobody reads them here.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { address: started, child, _folder: folder }
    }

    /// Bytes of memory it has now.
    pub(super) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most it ever had.
    pub(super) fn most_resident(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it no longer runs");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The address in the event that tells that it has started.
fn started(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    (event["event"] == "guard.started").then(|| event["listen"].as_str().unwrap().parse().unwrap())
}

/// Limits and tables as they are by default, but for the rates: one machine plays all the clients here.
fn configuration(app: &App) -> String {
    let app = app.address();
    format!(
        r#"version = 1
[[listen]]
address = "127.0.0.1:0"
[client]
trusted_proxies = ["127.0.0.0/8"]
idle_connection = "1h"
[upstream]
url = "http://{app}"
[session]
shield = ["sessionid"]
insecure_http_cookie = true
[store]
kind = "memory"
[limits]
client  = "1000000/1s burst 1000000"
session = "1000000/1s burst 1000000"
[[events.sink]]
type   = "stdout"
format = "json"
"#
    )
}

/// Lets this process, and those it starts, have so many files open.
#[track_caller]
pub(super) fn allow_files(files: usize) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    if soft >= files {
        return;
    }
    let this = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &this, &format!("--nofile={files}:")]).status().unwrap();
    assert!(raised.success(), "this test needs {files} open files, and the system allows fewer (ulimit -Hn)");
}
