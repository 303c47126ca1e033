//! `portcullis events tail`, `verify` and `seal-key`, over the journal of a running guard.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::world::{LOGGED_IN, WRONG, World};
use crate::e2e::process::Process;
use crate::support::running::until;
use crate::support::wire::Wire;

const JOURNAL: &str = "journal = { path = \"data/events.jsonl\", sync = \"0s\" }\n[[events.sink]]\ntype = \"stdout\"\n";

#[test]
fn what_was_told_is_in_the_journal_after_a_kill_and_numbers_go_on() {
    let world = World::with(JOURNAL);
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    let told = guard.process.event("session.authenticated")["seq"].as_u64().unwrap();
    // What standard output was told comes after what is on disk.
    guard.process.kill();
    let before = world.events();
    assert!(before.contains(&(told, "session.authenticated".to_owned())), "{before:?}");
    let mut guard = world.start();
    // Whoever was told of more than what is on disk does not meet the numbers again.
    let started = guard.process.event("guard.started")["seq"].as_u64().unwrap();
    assert!(started > before.last().unwrap().0 + 1000, "{started}");
    assert!(guard.process.terminate().success());
    let last = world.events().last().unwrap().0;
    let (code, out, _) = world.says(&["verify"]);
    assert!(code == 0 && out.contains("as they were written") && !out.contains("NOT"), "{out}");
    assert!(out.contains("numbers have no event"), "{out}");
    // After an end as it should be they simply go on.
    let mut guard = world.start();
    assert_eq!(guard.process.event("guard.started")["seq"].as_u64(), Some(last + 1));
    assert!(guard.process.terminate().success());
}

#[test]
fn who_has_been_refused_is_in_the_journal_if_the_rule_says_so() {
    let journal = "journal = { path = \"data/events.jsonl\", sync = \"1h\" }\n[[events.sink]]\ntype = \"stdout\"\n";
    let world = World::with(&format!("{journal}[rules]\nfiles = [\"shop.toml\"]\n"));
    let rule = "id = \"fence\"\nwhen = 'request.path == \"/admin\"'\nthen = \"deny\"\nsync = \"before-reply\"\n";
    fs::write(world.folder().join("shop.toml"), format!("version = 1\nname = \"shop\"\n[[rule]]\n{rule}")).unwrap();
    let mut guard = world.start();
    for count in 1..=20 {
        let reply = Wire::connect(guard.address).send("GET /admin HTTP/1.1\r\nHost: a\r\n\r\n").reply();
        assert_eq!(reply.status, 403);
        let text = fs::read_to_string(world.journal()).unwrap();
        assert_eq!(text.matches("\"event\":\"authz.denied\"").count(), count, "{text}");
    }
    guard.process.kill();
    // Without a journal it is said that nothing is kept.
    world.configure("[rules]\nfiles = [\"shop.toml\"]\n");
    let (code, out, _) = world.runs(&["check"]);
    assert!(code == 0 && out.contains("shop/fence: answers wait for the event of this rule"), "{code} {out}");
}

#[test]
fn a_journal_is_shown_by_what_is_asked_for() {
    let world = World::with(JOURNAL);
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, WRONG), 401);
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    guard.process.event("session.authenticated");
    assert!(guard.process.terminate().success());
    let shown = |words: &[&str]| {
        let (code, out, err) = world.says(&[&["tail"], words].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
        out
    };
    let all = world.events();
    assert_eq!(shown(&["-n", "2"]).lines().count(), 2);
    assert_eq!(shown(&["--from", "1"]).lines().count(), all.len());
    for (format, begins, has) in [
        ("ecs", "{\"@timestamp\":", "\"ecs\":{\"version\":"),
        ("ocsf", "{", "\"class_uid\":"),
        ("cef", "CEF:0|", "|session.authenticated|"),
        ("syslog", "<", "session.authenticated"),
    ] {
        let lines = shown(&["--event", "session.authenticated", "--format", format]);
        assert!(lines.lines().count() == 1 && lines.starts_with(begins) && lines.contains(has), "{format}: {lines}");
    }
    let kinds = |words: &[&str]| -> Vec<String> {
        let lines = shown(&[words, &["--format", "json"]].concat());
        let kind = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().to_owned();
        lines.lines().map(kind).collect()
    };
    assert_eq!(kinds(&["--event", "login.failed"]), ["login.failed"]);
    assert_eq!(kinds(&["--event", "session."]), ["session.created", "session.authenticated"]);
    assert_eq!(kinds(&["--where", "subject=alice", "--event", "session."]).len(), 2);
    assert_eq!(kinds(&["--where", "subject=bob"]), [] as [String; 0]);
    let of_alice = kinds(&["--where", "subject=alice"]).len();
    assert_eq!(kinds(&["--where", "subject!=alice", "--from", "1"]).len() + of_alice, all.len());
    let near = kinds(&["--where", "ip=127.0.0.0/8", "--from", "1"]);
    assert_eq!(near, kinds(&["--where", "ip=127.*", "--from", "1"]));
    assert!(!near.is_empty() && kinds(&["--where", "ip=192.0.2.0/24", "--from", "1"]).is_empty());
    assert_eq!(kinds(&["--where", "ip!=127.0.0.0/8", "--from", "1"]).len() + near.len(), all.len());
    assert_eq!(kinds(&["--where", "subject=al*", "--event", "session.", "--since", "5m"]).len(), 2);
    assert_eq!(kinds(&["--until", "2026-01-01T00:00:00Z"]), [] as [String; 0]);
    assert!(kinds(&["--min", "warn"]).contains(&"guard.started".to_owned()));
    assert!(!kinds(&["--min", "warn"]).contains(&"session.created".to_owned()));
    let human = shown(&["--event", "session.authenticated"]);
    assert!(human.contains("session.authenticated") && human.contains("subject=\"alice\"") && !human.contains('\x1b'));
    assert!(shown(&["--color", "always"]).contains('\x1b'));
    // A mistake says what to do.
    let (code, _, err) = world.says(&["tail", "--where", "alice"]);
    assert!(code == 2 && err.contains("KEY=VALUE"), "{err}");
    let (code, _, err) = world.says(&["tail", "--since", "yesterday"]);
    assert!(code == 2 && err.contains("2026-11-21T10:00:00Z"), "{err}");
    let (code, _, err) = world.says(&["tail", "--journal", "none.jsonl"]);
    assert!(code == 1 && err.contains("none.jsonl can not be read"), "{err}");
    let (code, _, err) = World::with("").says(&["verify"]);
    assert!(code == 1 && err.contains("no journal is kept"), "{err}");
}

#[test]
fn those_that_come_are_shown_while_they_come() {
    let world = World::with(JOURNAL);
    let guard = world.start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["events", "tail", "--follow", "-n", "0", "--format", "json"]).current_dir(world.folder());
    let tail = RefCell::new(Process::start(&mut command, world.folder().join("tail.txt")));
    // It may begin late; and after a few attempts they are refused, which is told too.
    until("an event that came later", || {
        world.logs_in(&guard, WRONG);
        tail.borrow_mut().lines().iter().any(|line| line.contains("\"event\":"))
    });
    let mut tail = tail.into_inner();
    assert!(!tail.lines().iter().any(|line| line.contains("guard.started")));
    tail.kill();
}

#[test]
fn a_change_of_the_journal_is_told_with_its_place() {
    let world = World::with(JOURNAL);
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    guard.process.event("session.authenticated");
    assert!(guard.process.terminate().success());
    let (_, out, _) = world.says(&["verify"]);
    let head = out.lines().find_map(|line| line.strip_prefix("head: ")).unwrap().to_owned();
    assert_eq!(world.says(&["verify", "--head", &head]).0, 0);
    let text = fs::read_to_string(world.journal()).unwrap();

    fs::write(world.journal(), text.replace("alice", "mallory")).unwrap();
    let (code, out, _) = world.says(&["verify"]);
    assert_eq!(code, 3);
    assert!(out.contains("events.jsonl:") && out.contains("was changed") && out.contains("NOT as they were"), "{out}");
    let (code, out, _) = world.says(&["verify", "--format", "json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report["whole"].as_bool()), (3, Some(false)));
    assert!(report["findings"][0]["fault"].as_str().unwrap().contains("was changed"));

    let lines: Vec<_> = text.split_inclusive('\n').collect();
    fs::write(world.journal(), lines[..lines.len() - 2].concat()).unwrap();
    let (code, out, _) = world.says(&["verify", "--head", &head]);
    assert!(code == 3 && out.contains("the end was cut off"), "{out}");
    // By the seals that came to a sink, too: with the state of the next one gone nothing else tells.
    let lines_of_others = [b"of another program: \xff\xfe\n", guard.process.lines().join("\n").as_bytes()].concat();
    fs::write(world.folder().join("siem.log"), lines_of_others).unwrap();
    fs::write(world.journal(), &text).unwrap();
    let by_seals = || world.says(&["verify", "--seals", "siem.log"]);
    assert_eq!(by_seals().0, 0);
    fs::write(world.journal(), lines[..3].concat()).unwrap();
    fs::remove_file(world.journal().with_extension("jsonl.seal")).unwrap();
    assert_eq!(world.says(&["verify"]).0, 0, "this is what it can not tell");
    let (code, out, _) = by_seals();
    assert!(code == 3 && out.contains("the end was cut off"), "{out}");
    fs::write(world.folder().join("siem.log"), "nothing\n").unwrap();
    let (code, _, err) = by_seals();
    assert!(code == 1 && err.contains("siem.log has no seals"), "{err}");
    let (code, _, err) = world.says(&["verify", "--head", "last"]);
    assert!(code == 2 && err.contains("17:HASH"), "{err}");
}

#[test]
fn the_key_of_seals_is_put_elsewhere_and_checks_them() {
    let world = World::with(JOURNAL);
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    guard.process.event("session.authenticated");
    // Shown as often as one likes, until it is said that it is kept.
    let (code, key, err) = world.says(&["seal-key"]);
    assert!(code == 0 && key.starts_with("portcullis-seal-1:0:") && err.contains("--forget"), "{err}");
    assert_eq!(world.says(&["seal-key"]).1, key);
    let file = world.folder().join("elsewhere.key");
    fs::write(&file, "mine").unwrap();
    let to = |file: &Path| world.says(&["seal-key", "--to", file.to_str().unwrap()]);
    let (code, _, err) = to(&file);
    assert!(code == 1 && err.contains("still beside the journal"), "{err}");
    fs::remove_file(&file).unwrap();
    assert_eq!(to(&file).0, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), key);
    assert!(guard.process.terminate().success());
    let check = |file: &Path| world.says(&["verify", "--key", file.to_str().unwrap()]);
    let (code, out, _) = check(&file);
    assert!(code == 0 && out.contains(" seals)"), "{out}");
    let (code, _, err) = world.says(&["seal-key", "--forget"]);
    assert!(code == 1 && err.contains("not here any more"), "{err}");
    let other = file.with_extension("other");
    fs::write(&other, "no key").unwrap();
    let (code, _, err) = check(&other);
    assert!(code == 1 && err.contains("no key of seals"), "{err}");
    let (start, end) = key.trim_end().split_at(key.trim_end().len() - 1);
    fs::write(&other, format!("{start}{}", if end == "0" { "1" } else { "0" })).unwrap();
    let (code, out, _) = check(&other);
    assert!(code == 3 && out.contains("this key did not make"), "{out}");
    // The key that is on the machine is another one by now, and no part of what is told.
    let told = fs::read_to_string(world.journal()).unwrap();
    assert!(!told.contains(key.trim().rsplit(':').next().unwrap()));
}
