//! `portcullis run`, the real program: what happens to it while it runs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::e2e::process::Process;
use crate::support::origin::{Act, Origin, held, raw};
use crate::support::running::until;
use crate::support::wire::Wire;

/// A running program with its own folder.
struct Program {
    process: Process,
    address: SocketAddr,
    config: PathBuf,
    _folder: TempDir,
}

impl Program {
    /// Starts it in front of an app, with as many file descriptors as it is given.
    fn start(origin: &Origin, more: &str, files_max: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("portcullis.toml");
        fs::write(&config, configuration(origin, more)).unwrap();
        let program = env!("CARGO_BIN_EXE_portcullis");
        let mut command = match files_max {
            None => Command::new(program),
            Some(max) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {max} && exec \"$0\" \"$@\""), program]);
                shell
            }
        };
        command.arg("run").arg("--config").arg(&config).current_dir(folder.path());
        let mut process = Process::start(&mut command, folder.path().join("complaints.txt"));
        let started = process.event("guard.started");
        let address = started["listen"].as_str().unwrap().parse().unwrap();
        Self { process, address, config, _folder: folder }
    }

    fn wire(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// Puts another file in the place of the configuration, at once and whole, and says so.
    fn reconfigure(&self, text: &str) {
        let new = self.config.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.config).unwrap();
        self.process.hang_up();
    }
}

fn configuration(origin: &Origin, more: &str) -> String {
    let app = origin.address();
    format!(
        r#"version = 1
[[listen]]
address = "127.0.0.1:0"
[upstream]
url = "http://{app}"
[session]
shield = ["sessionid"]
insecure_http_cookie = true
[store]
kind = "memory"
[keys]
file = "keys.toml"
[admin]
address = "off"
[[events.sink]]
type   = "stdout"
format = "json"
{more}"#
    )
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// Is served or not, by a setting.
const ALIAS: &str = "GET / HTTP/1.1\r\nHost: a\r\nX_Real_IP: 1\r\n\r\n";
const REJECT: &str = "[client]\nunderscore_headers = \"reject\"\n";

#[test]
fn a_hangup_reloads_without_losing_a_request_and_a_faulty_file_changes_nothing() {
    let origin = Origin::start();
    let mut program = Program::start(&origin, "", None);
    let (mut kept, mut in_flight) = (program.wire(), program.wire());
    assert_eq!(kept.send(ALIAS).reply().status, 200);
    let (release, act) = held("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    origin.next(act);
    in_flight.send(GET);
    origin.wait(2);

    program.reconfigure(&configuration(&origin, REJECT));
    program.process.event("policy.reloaded");
    assert_eq!(kept.send(ALIAS).reply().status, 400, "the connection goes on under the new settings");
    drop(release);
    assert_eq!(in_flight.reply().text(), "late");
    assert_eq!(in_flight.send(GET).reply().status, 200);

    program.reconfigure(&configuration(&origin, "[client]\nunderscore_headers = \"perhaps\"\n"));
    program.process.event("policy.reload_failed");
    assert_eq!(kept.send(ALIAS).reply().status, 400, "the settings before the faulty ones stay");
    assert_eq!(kept.send(GET).reply().status, 200);
    drop((kept, in_flight));
    assert!(program.process.terminate().success());
}

#[test]
fn settings_that_count_from_the_next_start_are_named_when_they_change() {
    let origin = Origin::start();
    let mut program = Program::start(&origin, "", None);
    program.reconfigure(&configuration(&origin, "[events.privacy]\nip = \"truncate\"\n"));
    let told = program.process.event("config.needs_restart");
    assert_eq!(told["sections"], "events");
    program.process.event("policy.reloaded");
}

#[test]
fn the_program_ends_with_the_code_that_scripts_wait_for() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], config: &str| {
        fs::write(folder.path().join("portcullis.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let output = command.args(arguments).current_dir(folder.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let good = configuration(&origin, "");
    assert_eq!(run(&["check"], &good).0, 0);
    assert_eq!(run(&["version"], &good).0, 0);
    assert_eq!(run(&["run", "--no-such-thing"], &good).0, 2);
    assert_eq!(run(&[], &good).0, 2);
    let (code, said) = run(&["run"], &configuration(&origin, "[session]\nidel = \"5m\"\n"));
    assert_eq!(code, 64, "{said}");
    let (code, said) = run(&["check"], &configuration(&origin, "[clint]\n"));
    assert!(code == 64 && said.contains("client"), "{code} {said}");
    // A second instance.
    let port = origin.address().port();
    let (code, said) = run(&["run"], &good.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1));
    assert!(code == 1 && said.contains("listens there"), "{code} {said}");
}

#[test]
fn h24_a_second_signal_ends_it_at_once() {
    let origin = Origin::start();
    origin.next(Act::Silence);
    let mut program = Program::start(&origin, "", None);
    let mut waiting = program.wire();
    waiting.send(GET);
    origin.wait_heads(1);
    program.process.ask_to_end();
    // The drain waits for the request, half a minute; nobody is let in meanwhile.
    until("a closed port", || std::net::TcpStream::connect(program.address).is_err());
    let status = program.process.terminate();
    assert!(!status.success(), "what was in hand was lost");
    waiting.expect_closed();
}

#[test]
fn h24_it_goes_on_accepting_after_the_system_had_no_descriptors() {
    let origin = Origin::start();
    let program = Program::start(&origin, "", Some(64));
    let crowd: Vec<Wire> = (0..100).map(|_| program.wire()).collect();
    until("a system without descriptors", || program.process.complaints().contains("accepting rests"));
    drop(crowd);
    assert_eq!(program.wire().send(GET).reply().status, 200);
}

/// The program with the configuration that stands in a folder, which may have run there before.
fn start_in(folder: &Path) -> (Process, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("run").current_dir(folder);
    let mut process = Process::start(&mut command, folder.join("complaints.txt"));
    let started = process.event("guard.started");
    (process, started["listen"].as_str().unwrap().parse().unwrap())
}

/// Keys were taken out of the file while it was down, and the sessions on disk are those of before.
#[test]
fn keys_that_were_burnt_log_everybody_out_whose_session_is_on_disk() {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let more =
        "[[login]]\nroute = \"POST /login\"\nsubject = \"form:user\"\nsuccess = { status = 303, location = \"/\" }\n";
    let text = configuration(&origin, more).replace("kind = \"memory\"", "path = \"data\"");
    fs::write(folder.path().join("portcullis.toml"), text).unwrap();
    let start = || start_in(folder.path());
    // What the app is told of whoever shows this cookie.
    let subject = |address, cookie: &str| {
        let reply =
            Wire::connect(address).send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")).reply();
        assert_eq!(reply.status, 200);
        origin.seen().last().unwrap().header("portcullis-subject").map(str::to_owned)
    };
    let (mut process, address) = start();
    origin.next(raw("HTTP/1.1 303 See Other\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"));
    let form = "user=alice&password=x";
    let head = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded";
    let reply = Wire::connect(address).send(format!("{head}\r\nContent-Length: {}\r\n\r\n{form}", form.len())).reply();
    let cookie = reply.all("set-cookie").concat();
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(subject(address, cookie).as_deref(), Some("alice"));
    assert!(process.terminate().success());
    let (mut process, address) = start();
    assert_eq!(subject(address, cookie).as_deref(), Some("alice"));
    assert!(process.terminate().success());
    fs::remove_file(folder.path().join("keys.toml")).unwrap();
    let (mut process, address) = start();
    assert_eq!(subject(address, cookie), None);
    assert_eq!(process.event("dependency.failed")["what"], "store");
    assert!(process.terminate().success());
}

/// Alice has logged in from her browser. After a restart guesses from elsewhere do not lock her out, as they do a stranger.
#[test]
fn known_devices_are_kept_over_a_restart() {
    let origin = Origin::start();
    origin.always(raw("HTTP/1.1 303 See Other\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"));
    let folder = tempfile::tempdir().unwrap();
    let more = "[client]\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
                [[login]]\nroute = \"POST /login\"\nsubject = \"form:user\"\nsuccess = { status = 303, location = \"/\" }\n\
                limit = { per_subject = \"2/10m burst 2\" }\n";
    let text = configuration(&origin, more).replace("kind = \"memory\"", "path = \"data\"");
    fs::write(folder.path().join("portcullis.toml"), text).unwrap();
    let start = || start_in(folder.path());
    let logs_in = |to: SocketAddr, from: &str, with: &str| {
        let (form, host) = ("user=alice&password=x", "Host: a\r\nContent-Type: application/x-www-form-urlencoded");
        let head = format!("X-Forwarded-For: {from}\r\nUser-Agent: {with}\r\nContent-Length: {}", form.len());
        Wire::connect(to).send(format!("POST /login HTTP/1.1\r\n{host}\r\n{head}\r\n\r\n{form}")).reply().status
    };
    let (mut process, address) = start();
    assert_eq!(logs_in(address, "203.0.113.7", "Browser/1.0"), 303);
    assert!(process.terminate().success());
    let kept = fs::read(folder.path().join("data/devices")).unwrap();
    assert!(!kept.windows(5).any(|part| part == b"alice"));

    let attacked = |address| {
        origin.always(raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        let guesses =
            (0..5).map(|guess| logs_in(address, &format!("198.51.100.{guess}"), "curl/8")).collect::<Vec<_>>();
        assert_eq!(guesses.last(), Some(&429), "{guesses:?}");
        logs_in(address, "203.0.113.7", "Browser/1.0")
    };
    let (mut process, address) = start();
    assert_eq!(attacked(address), 200, "she is let through to the app");
    assert!(process.terminate().success());
    // What can not be opened is told, and she is a stranger.
    fs::write(folder.path().join("data/devices"), "something else").unwrap();
    let (mut process, address) = start();
    assert_eq!(attacked(address), 429);
    assert!(process.complaints().contains("they are learned anew"), "{}", process.complaints());
    assert!(process.terminate().success());
    assert_eq!(fs::read(folder.path().join("data/devices.unread")).unwrap(), b"something else", "it is not lost");
    // Where nothing is to be remembered nothing is kept.
    let text = fs::read_to_string(folder.path().join("portcullis.toml")).unwrap();
    let text = text.replace("[session]", "[session]\nremember_devices = false");
    fs::write(folder.path().join("portcullis.toml"), text).unwrap();
    fs::write(folder.path().join("data/devices"), &kept).unwrap();
    let (mut process, address) = start();
    assert_eq!(attacked(address), 429);
    assert!(process.terminate().success());
    assert!(!folder.path().join("data/devices").exists() && !folder.path().join("data/devices.unread").exists());
}
