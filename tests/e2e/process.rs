//! A child process that a test talks to by its standard output, and that never outlives the test.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::signal;

/// How long a process may take to say what a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// What it writes to standard error, shown when it disappoints.
    complaints: PathBuf,
}

impl Process {
    /// Starts a program; its standard input stays open for as long as this value lives.
    #[track_caller]
    pub(crate) fn start(command: &mut Command, complaints: PathBuf) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&complaints).unwrap());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).all(|line| send.send(line).is_ok()));
        Self { child, lines, seen: Vec::new(), complaints }
    }

    /// The first line, among those written so far or later, of which `wanted` makes something.
    #[track_caller]
    pub(crate) fn line<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        if let Some(found) = self.seen.iter().find_map(|line| wanted(line)) {
            return found;
        }
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let found = wanted(&line);
                    self.seen.push(line);
                    if let Some(found) = found {
                        return found;
                    }
                }
                Err(error) => self.disappoint(what, error),
            }
        }
    }

    /// The first event of that name, as a sink writes it to standard output in JSON.
    #[track_caller]
    pub(crate) fn event(&mut self, name: &str) -> Value {
        self.line(name, |line| serde_json::from_str::<Value>(line).ok().filter(|event| event["event"] == name))
    }

    /// Every line written so far.
    pub(crate) fn lines(&mut self) -> &[String] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// By what number the system knows it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has complained of so far.
    pub(crate) fn complaints(&self) -> String {
        fs::read_to_string(&self.complaints).unwrap_or_default()
    }

    /// Asks it to read its configuration again (SIGHUP).
    #[track_caller]
    pub(crate) fn hang_up(&self) {
        signal::send(&self.child, "HUP");
    }

    /// Makes it stand still (SIGSTOP): it is there, and says nothing.
    #[cfg(feature = "redis")]
    #[track_caller]
    pub(crate) fn freeze(&self) {
        signal::send(&self.child, "STOP");
    }

    /// Lets it go on (SIGCONT).
    #[cfg(feature = "redis")]
    #[track_caller]
    pub(crate) fn thaw(&self) {
        signal::send(&self.child, "CONT");
    }

    /// Asks it to end, as an operator would (SIGTERM).
    #[track_caller]
    pub(crate) fn ask_to_end(&self) {
        signal::send(&self.child, "TERM");
    }

    /// Asks it to end, as an operator would (SIGTERM), and waits.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => self.disappoint("its end", RecvTimeoutError::Timeout),
            }
        }
    }

    /// Ends it at once (SIGKILL): no drain, no last write.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[track_caller]
    fn disappoint(&self, what: &str, error: RecvTimeoutError) -> ! {
        let complaints = self.complaints();
        panic!("waited for {what}: {error}\nit said:\n{}\nand complained:\n{complaints}", self.seen.join("\n"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
