//! Events with the programs that others run, with the files in `contrib`.

mod ban;
mod collect;
mod journal;
#[cfg(any(feature = "kafka", feature = "nats"))]
mod stream;
mod watch;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use super::world::{WRONG, World};
use crate::support::running::until;
use crate::support::stored::skipped;

/// Where `tests/install` takes programs apart that are better not installed.
fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/unpacked/usr")
}

/// A program of the system, if it is there; those of operators stand where not every PATH leads.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = ["bin", "sbin"].map(|folder| unpacked().join(folder));
    let folders = own.into_iter().chain(std::env::split_paths(&path)).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.exists()).or_else(|| skipped(name))
}

/// The Python that has what `tests/install` fetched, with that module.
pub(super) fn python(module: &str) -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/.env/bin/python");
    let has = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if has.is_ok_and(|done| done.status.success()) { Some(python) } else { skipped(module) }
}

/// What a command says that must end well.
#[track_caller]
fn says(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out
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

#[test]
fn a_file_that_was_renamed_is_begun_anew_at_a_hangup_though_nothing_happens() {
    let world =
        World::with("[[events.sink]]\ntype = \"stdout\"\n[[events.sink]]\ntype = \"file\"\npath = \"events.jsonl\"\n");
    let mut guard = world.start();
    let file = world.folder().join("events.jsonl");
    until("the file is there", || file.exists());
    fs::rename(&file, world.folder().join("events.jsonl.1")).unwrap();
    guard.process.hang_up();
    until("there is a new one", || file.exists());
    assert!(guard.process.terminate().success());
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
    let log = folder.join("events.jsonl").display().to_string();
    let collected = folder.join("collected.jsonl").display().to_string();
    let replaced = [
        ("/var/log/portcullis/events.jsonl", log.as_str()),
        ("/var/log/portcullis/collected.jsonl", collected.as_str()),
        ("    compress\n    delaycompress\n", ""),
    ];
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
