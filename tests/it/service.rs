//! `portcullis run` as a service manager runs it: sockets handed in, what it says of its state, and signals.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::origin::Origin;
use crate::support::signal;
use crate::support::wire::Wire;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the program if the test fails.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Started {
    fn signal(&self, name: &str) {
        signal::send(&self.0, name);
    }

    /// The address in its first event.
    fn address(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], "guard.started");
        event["listen"].as_str().unwrap().to_owned()
    }
}

/// A configuration in front of an app, with everything below one folder.
fn configuration(folder: &Path, origin: &Origin) -> String {
    let path = folder.join("portcullis.toml");
    let text = format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream]\nurl = \"http://{}\"\n[admin]\naddress = \"off\"\n\
         [session]\nshield = [\"sid\"]\n",
        origin.address()
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs the program with a socket as its file 3, as systemd does.
fn with_socket(socket: OwnedFd, config: &str) -> Command {
    let mut command = Command::new("sh");
    // LISTEN_PID is the process itself, so only a shell that becomes the program can say it without unsafe code.
    let become_it = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" run --config \"$1\"";
    command.args(["-c", become_it, env!("CARGO_BIN_EXE_portcullis"), config]);
    command.stdin(Stdio::from(socket)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_socket_from_the_service_manager_is_served() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let config = configuration(folder.path(), &origin);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // This waits in the queue of the socket until there is somebody to serve it.
    let mut early = Wire::connect(address);
    early.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut guard = Started(with_socket(socket.into(), &config).spawn().unwrap());
    assert_eq!(guard.address(), address.to_string());
    assert_eq!(early.reply().text(), "hello");
}

/// A socket of another kind was left out, and the next one took its place.
#[test]
fn a_socket_that_is_not_for_tcp_is_told() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let config = configuration(folder.path(), &origin);
    let socket = UnixListener::bind(folder.path().join("http.sock")).unwrap();
    let output = with_socket(socket.into(), &config).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("a socket handed over by systemd is not one for TCP"), "{told}");
}

#[test]
fn the_service_manager_is_told_of_every_state() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let config = configuration(folder.path(), &origin);
    let ear = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    ear.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut buffer = [0; 512];
        let length = ear.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end().to_owned()
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["run", "--config", &config]).env("NOTIFY_SOCKET", folder.path().join("notify"));
    let log = folder.path().join("events.jsonl");
    command.stdin(Stdio::null()).stdout(File::create(&log).unwrap()).stderr(Stdio::null());
    let mut guard = Started(command.spawn().unwrap());
    assert_eq!(heard(), "READY=1");

    let told = |name: &str| fs::read_to_string(&log).unwrap().matches(&format!("\"event\":\"{name}\"")).count();
    guard.signal("HUP");
    let reloading = heard();
    let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{reloading:?}"));
    assert!(at.parse::<u64>().is_ok_and(|at| at > 0), "{at}");
    assert_eq!(heard(), "READY=1");

    // A file that can not run: the old one stays in force, and the guard is ready all the same.
    fs::write(&config, "[session]\nidle = 1\n").unwrap();
    guard.signal("HUP");
    assert!(heard().starts_with("RELOADING=1"));
    assert_eq!(heard(), "READY=1");

    guard.signal("TERM");
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(guard.0.wait().unwrap().code(), Some(0));
    assert!(told("policy.reloaded") >= 1 && told("policy.reload_failed") >= 1, "{}", fs::read_to_string(&log).unwrap());
}
