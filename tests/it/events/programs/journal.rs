//! journald takes what the guard sends.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Server, program, says};
use crate::events::world::{LOGGED_IN, WRONG, World};
use crate::support::running::until;
use crate::support::stored::skipped;

/// The real one, with `/run` of its own: that of the machine is left alone, and so are its logs. Gives the folder.
fn journald(folder: &Path) -> Option<(PathBuf, Server)> {
    let places = ["/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald"].map(Path::new);
    let journald = places.into_iter().find(|path| path.exists()).or_else(|| skipped("systemd-journald"))?;
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    (is_root && Path::new("/etc/machine-id").exists()).then_some(()).or_else(|| skipped("root, for journald"))?;
    let run = folder.join("run");
    for inside in ["systemd/journal", "log/journal"] {
        fs::create_dir_all(run.join(inside)).unwrap();
    }
    let script = "mount --bind \"$0\" /run && mount -t tmpfs tmpfs /var/log && exec \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&run).arg(journald);
    let log = fs::File::create(folder.join("journald.log")).unwrap();
    let server = Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    until("journald listens", || run.join("systemd/journal/socket").exists());
    Some((run, server))
}

#[test]
fn journald_takes_events_with_their_fields() {
    let Some(journalctl) = program("journalctl") else { return };
    let world = World::new();
    let Some((run, _server)) = journald(world.folder()) else { return };
    world.configure(&format!(
        "journal = {{ path = \"data/events.jsonl\", sync = \"0s\" }}\n[[events.sink]]\ntype = \"stdout\"\n\
         [[events.sink]]\ntype = \"journald\"\npath = \"{}\"\n",
        run.join("systemd/journal/socket").display()
    ));
    let mut guard = world.start();
    assert_eq!(world.logs_in(&guard, WRONG), 401);
    assert_eq!(world.logs_in(&guard, LOGGED_IN), 303);
    let told = guard.process.event("session.authenticated");
    assert!(guard.process.terminate().success());
    let of_machine = fs::read_dir(run.join("log/journal")).unwrap().next().unwrap().unwrap().path();
    let ask = |field: &str| {
        let mut command = Command::new(&journalctl);
        command.arg("-D").arg(&of_machine).args([
            "-o",
            "json",
            "--no-pager",
            "-q",
            "SYSLOG_IDENTIFIER=portcullis",
            field,
        ]);
        let text = says(&mut command);
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    until("the last word", || !ask("PORTCULLIS_EVENT=guard.stopped").is_empty());
    let [login] = <[Value; 1]>::try_from(ask("PORTCULLIS_EVENT=session.authenticated")).unwrap();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    assert_eq!(login["PORTCULLIS_SEQ"], text(&told["seq"]));
    assert_eq!((&login["PORTCULLIS_REF"], &login["PORTCULLIS_SESSION"]), (&told["ref"], &told["session"]));
    assert_eq!((&login["PRIORITY"], &login["PORTCULLIS_ACTION"]), (&"6".into(), &"allow".into()));
    let line: Value = serde_json::from_str(login["MESSAGE"].as_str().unwrap()).unwrap();
    assert_eq!((&line["event"], &line["subject"]), (&told["event"], &"alice".into()));
    // One is found by any of these, and nothing is there twice.
    assert_eq!(ask(&format!("PORTCULLIS_SEQ={}", told["seq"])).len(), 1);
    assert_eq!(ask("PORTCULLIS_EVENT=login.failed")[0]["PRIORITY"], "4");
}
