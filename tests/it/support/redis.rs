//! A real Redis server of a test's own, or one of Valkey, ended when it is dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::store::kv::{RedisStore, Settings};
use portcullis::store::row::Rows;
use tempfile::TempDir;
use tokio::time::{Duration, Instant};

use super::stored::{PATIENCE, free_port, skipped};
use crate::e2e::process::Process;

/// A running server.
pub(crate) struct Redis {
    program: PathBuf,
    folder: TempDir,
    words: Vec<String>,
    /// How `redis-cli` and the store reach it.
    pub(crate) cli: Vec<String>,
    pub(crate) url: String,
    process: Option<Process>,
}

/// Whether there is a server to test with; must be if everything must be tested.
pub(crate) fn is_installed() -> bool {
    if Command::new("redis-server").arg("--version").output().is_ok() {
        return true;
    }
    skipped::<()>("redis-server").is_some()
}

impl Redis {
    /// A server on a socket in a folder of its own, which keeps what it was told before it answers; none if it is not installed.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("--appendonly yes --appendfsync always")
    }

    pub(crate) fn start_with(words: &str) -> Option<Self> {
        is_installed().then(|| Self::start_on_socket("redis-server".into(), words))
    }

    /// The same of Valkey: of the system, or where `tests/install` puts it.
    pub(crate) fn start_valkey(words: &str) -> Option<Self> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/valkey/usr/bin/valkey-server");
        let runs = |program: &PathBuf| Command::new(program).arg("--version").output().is_ok();
        let program = [PathBuf::from("valkey-server"), own].into_iter().find(runs).or_else(|| skipped("Valkey"))?;
        Some(Self::start_on_socket(program, words))
    }

    fn start_on_socket(program: PathBuf, words: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket").display().to_string();
        let url = format!("redis+unix://{socket}");
        let words = format!("--port 0 --unixsocket {socket} {words}");
        Self::run(program, folder, &words, vec!["-s".into(), socket], url)
    }

    /// A server on a port of its own; Redis must be installed.
    pub(crate) fn start_on_port(words: &str) -> Self {
        let port = free_port();
        let words = format!("--port {port} --bind 127.0.0.1 {words}");
        let cli = vec!["-p".into(), port.to_string()];
        let url = format!("redis://127.0.0.1:{port}");
        Self::run("redis-server".into(), tempfile::tempdir().unwrap(), &words, cli, url)
    }

    /// A sentinel; Redis must be installed. It writes what it learns into its file.
    pub(crate) fn start_sentinel(file: &Path) -> Self {
        let port = free_port();
        let words = format!("{} --sentinel --port {port} --bind 127.0.0.1", file.display());
        let cli = vec!["-p".into(), port.to_string()];
        Self::run("redis-server".into(), tempfile::tempdir().unwrap(), &words, cli, String::new())
    }

    fn run(program: PathBuf, folder: TempDir, words: &str, cli: Vec<String>, url: String) -> Self {
        let words = words.split(' ').map(str::to_owned).collect();
        let mut server = Self { program, folder, words, cli, url, process: None };
        server.start_again();
        server
    }

    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(&self.words).arg("--dir").arg(self.folder.path());
        let is_sentinel = self.words.iter().any(|word| word == "--sentinel");
        if !is_sentinel {
            command.args(["--save", ""]);
        }
        let ready = if is_sentinel { "Sentinel ID is" } else { "eady to accept connections" };
        let mut process = Process::start(&mut command, self.folder.path().join("complaints.txt"));
        process.line("readiness", |line| line.contains(ready).then_some(()));
        self.process = Some(process);
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Makes it stand still.
    pub(crate) fn freeze(&self) {
        self.process.as_ref().unwrap().freeze();
    }

    pub(crate) fn thaw(&self) {
        self.process.as_ref().unwrap().thaw();
    }

    /// What the server answers to a command.
    #[track_caller]
    pub(crate) fn ask(&self, words: &str) -> String {
        let output = Command::new("redis-cli").args(&self.cli).args(words.split(' ')).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// What a script on the server answers.
    #[track_caller]
    pub(crate) fn ask_script(&self, script: &str) -> String {
        let output = Command::new("redis-cli").args(&self.cli).args(["EVAL", script, "0"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Waits until the answer to a command is like this.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str, part: &str) {
        until(&format!("`{words}` to say {part}"), || self.ask(words).contains(part));
    }

    pub(crate) fn port(&self) -> &str {
        &self.cli[1]
    }

    /// A store with keys of this prefix.
    pub(crate) async fn store(&self, prefix: &str, rows: Rows) -> RedisStore {
        let settings = Settings { timeout: Duration::from_secs(20), prefix: prefix.to_owned(), ..Settings::default() };
        RedisStore::connect(&self.url, settings, rows).await.unwrap()
    }
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what}");
    }
}

/// A primary, its replica, and a sentinel that puts the replica in the place of a primary that is gone.
pub(crate) struct Watched {
    pub(crate) primary: Redis,
    pub(crate) replica: Redis,
    sentinel: Redis,
    _folder: TempDir,
}

impl Watched {
    /// Redis must be installed.
    pub(crate) fn start() -> Self {
        let primary = Redis::start_on_port("--appendonly no --repl-diskless-sync-delay 0");
        let replica = Redis::start_on_port(&format!("--appendonly no --replicaof 127.0.0.1 {}", primary.port()));
        replica.wait_for("INFO replication", "master_link_status:up");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        let port = primary.port();
        let text = format!(
            "sentinel monitor shop 127.0.0.1 {port} 1\nsentinel down-after-milliseconds shop 300\nsentinel failover-timeout shop 2000\n"
        );
        std::fs::write(&file, text).unwrap();
        let sentinel = Redis::start_sentinel(&file);
        sentinel.wait_for("SENTINEL REPLICAS shop", replica.port());
        Self { primary, replica, sentinel, _folder: folder }
    }

    /// Where the primary is asked for. The first sentinel it names is not there.
    pub(crate) fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/shop", free_port(), self.sentinel.port())
    }

    /// Waits until the replica is the primary, and starts one that follows it.
    pub(crate) fn give_the_next_primary_a_replica(&mut self) {
        self.replica.wait_for("ROLE", "master");
        let words = format!("--appendonly no --replicaof 127.0.0.1 {}", self.replica.port());
        let next = Redis::start_on_port(&words);
        next.wait_for("INFO replication", "master_link_status:up");
        self.primary = std::mem::replace(&mut self.replica, next);
    }

    /// Waits until the replica has what the primary has.
    pub(crate) fn wait_until_alike(&self) {
        assert_eq!(self.primary.ask("WAIT 1 10000"), "1");
        self.replica.wait_for("DBSIZE", &self.primary.ask("DBSIZE"));
    }
}
