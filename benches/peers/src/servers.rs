//! Real servers, each with a folder and a port of its own, gone with the value.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const PASSWORD: &str = "correct-horse-battery";

/// How often a server is asked whether it is there, and the pause in between.
const TRIES: usize = 500;
const PAUSE: Duration = Duration::from_millis(20);

pub struct Server {
    child: Child,
    ends_by: Signal,
    pub port: u16,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        if kill(pid, self.ends_by).is_ok() {
            drop(self.child.wait());
        }
    }
}

/// A Redis that keeps nothing on disk; none if it is not installed.
pub fn redis() -> Option<Server> {
    Command::new("redis-server").arg("--version").output().ok()?;
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server { child: command.spawn().unwrap(), ends_by: Signal::SIGTERM, port, _folder: folder };
    wait_for(|| {
        let mut answer = [0; 5];
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    });
    Some(server)
}

/// A PostgreSQL that does not wait for its disk; none if it is not installed.
pub fn postgres() -> Option<Server> {
    let (initdb, postgres) = (postgres_program("initdb")?, postgres_program("postgres")?);
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let (path, account) = (folder.path(), account());
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    if let Some((user, group)) = account {
        chown(path, Some(user), Some(group)).unwrap();
    }
    std::fs::write(path.join("password"), PASSWORD).unwrap();
    let mut command = program(&initdb, account);
    command.args(["-U", "guard", "--auth=scram-sha-256", "--no-sync", "-E", "UTF8", "--no-locale"]);
    command.arg("--pwfile").arg(path.join("password")).arg("-D").arg(path.join("data"));
    let output = command.current_dir(path).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut command = program(&postgres, account);
    command.arg("-D").arg(path.join("data")).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    command.arg("-c").arg(format!("unix_socket_directories={}", path.display()));
    command.args(["-c", "fsync=off", "-c", "shared_buffers=32MB"]);
    let complaints = path.join("complaints.txt");
    command.current_dir(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&complaints).unwrap());
    let server = Server { child: command.spawn().unwrap(), ends_by: Signal::SIGQUIT, port, _folder: folder };
    wait_for(|| Ok(std::fs::read_to_string(&complaints)?.contains("ready to accept connections")));
    Some(server)
}

pub fn redis_url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

pub fn postgres_url(port: u16) -> String {
    format!("postgres://guard:{PASSWORD}@127.0.0.1:{port}/postgres")
}

fn wait_for(is_there: impl Fn() -> std::io::Result<bool>) {
    for _ in 0..TRIES {
        if is_there().unwrap_or(false) {
            return;
        }
        sleep(PAUSE);
    }
    panic!("a server did not start");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Debian keeps the programs of each version apart; the newest will do.
fn postgres_program(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut found: Vec<_> = versions
        .filter_map(|version| {
            let number: u32 = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin").join(name))).filter(|(_, program)| program.is_file())
        })
        .collect();
    found.sort();
    found.pop().map(|(_, program)| program)
}

/// Whom PostgreSQL runs as where this program is root: it refuses to be.
fn account() -> Option<(u32, u32)> {
    let id = |words: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(words).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    (id(&["-u"]) == Some(0)).then(|| (id(&["-u", "postgres"]).unwrap(), id(&["-g", "postgres"]).unwrap()))
}

/// A program as another user. It becomes the program: the process that is started here is the one that is stopped here.
fn program(path: &PathBuf, account: Option<(u32, u32)>) -> Command {
    let Some((user, group)) = account else { return Command::new(path) };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups").arg(path);
    command
}
