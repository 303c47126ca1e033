//! Programs that are started, asked for their CPU time, and ended by their own number.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ticks of `/proc/PID/stat` per second: what Linux shows to programs, whatever the kernel counts with.
const TICKS_PER_SECOND: u64 = 100;

/// How long a program may take to start, or to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running program, ended when it is dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        // Ours ends when its standard input does, so it never outlives this program.
        let child = command.stdin(Stdio::piped()).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")) }
    }

    /// The first line it prints.
    pub(crate) fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// CPU time of it and of its children so far.
    pub(crate) fn cpu(&self) -> Duration {
        let all: Vec<Stat> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Stat::read)
            .collect();
        let mut family = vec![self.child.id()];
        let mut ticks = 0;
        while let Some(pid) = family.pop() {
            family.extend(all.iter().filter(|stat| stat.parent == pid).map(|stat| stat.pid));
            ticks += all.iter().filter(|stat| stat.pid == pid).map(|stat| stat.ticks).sum::<u64>();
        }
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // A killed nginx would leave its workers behind; asked to end, it takes them along.
        drop(Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status());
        if wait(&mut self.child).is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn wait(child: &mut Child) -> Option<()> {
    until(PATIENCE, || child.try_wait().ok().flatten().map(drop))
}

/// Asks again and again until there is an answer, or until patience is at its end.
pub(crate) fn until<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if begin.elapsed() > patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is wanted of `/proc/PID/stat`.
struct Stat {
    pid: u32,
    parent: u32,
    /// User and system time, its own and that of children it has waited for.
    ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold spaces and brackets; the fields behind the last bracket count from 3.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = (14..=17).map(|field| fields.get(field - 3)?.parse::<u64>().ok()).sum::<Option<u64>>()?;
        Some(Self { pid, parent: fields.get(1)?.parse().ok()?, ticks })
    }
}
