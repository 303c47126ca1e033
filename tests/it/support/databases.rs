//! Databases for tests: real servers, each with a folder and a port of its own, gone with the value.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::signal;
use super::stored::{free_port, skipped};

/// The password of the account that tests use.
pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// A program that is a database, and how it is asked to end.
#[derive(Clone, Copy, Debug)]
enum Program {
    Postgres,
    MariaDb,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    program: Program,
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Server {
    /// A PostgreSQL, if it is installed; skipped with a note if it is not, unless everything must be tested.
    #[track_caller]
    pub(crate) fn postgres() -> Option<Self> {
        let initdb = postgres_program("initdb").or_else(|| skipped("PostgreSQL"))?;
        let folder = folder_of("postgres");
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        let mut command = as_user("postgres", &initdb);
        command.args(["-U", "guard", "--auth=scram-sha-256", "--no-sync", "-E", "UTF8", "--no-locale"]);
        command.arg("--pwfile").arg(folder.path().join("password")).arg("-D").arg(folder.path().join("data"));
        run(command.current_dir(folder.path()));
        Some(Self::start(Program::Postgres, folder, free_port()))
    }

    /// A MariaDB, as above.
    #[track_caller]
    pub(crate) fn mariadb() -> Option<Self> {
        let install = in_path("mariadb-install-db").or_else(|| skipped("MariaDB"))?;
        in_path("mariadbd").or_else(|| skipped("MariaDB"))?;
        let folder = folder_of("mysql");
        let accounts = format!(
            "CREATE DATABASE IF NOT EXISTS guard;\n\
             CREATE USER IF NOT EXISTS 'guard'@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON guard.* TO 'guard'@'%';\n"
        );
        std::fs::write(folder.path().join("accounts.sql"), accounts).unwrap();
        let mut command = as_user("mysql", &install);
        command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        command.arg(option("--datadir", &folder.path().join("data")));
        run(command.current_dir(folder.path()));
        Some(Self::start(Program::MariaDb, folder, free_port()))
    }

    #[track_caller]
    fn start(program: Program, folder: TempDir, port: u16) -> Self {
        let child = spawn(program, folder.path(), port);
        Self { program, folder, port, child }
    }

    /// Where it is, for an account that may do everything in its database.
    pub(crate) fn url(&self) -> String {
        let port = self.port;
        match self.program {
            Program::Postgres => format!("postgres://guard:{PASSWORD}@127.0.0.1:{port}/postgres"),
            Program::MariaDb => format!("mariadb://guard:{PASSWORD}@127.0.0.1:{port}/guard"),
        }
    }

    /// Asks it to end without waiting for those who are connected, and waits.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let name = match self.program {
            Program::Postgres => "INT",
            Program::MariaDb => "TERM",
        };
        signal::send(&self.child, name);
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.program, self.folder.path(), self.port);
    }

    /// Makes it stand still: it is there, and says nothing. Only for a server that is one process.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        signal::send(&self.child, "STOP");
    }

    #[track_caller]
    pub(crate) fn thaw(&self) {
        signal::send(&self.child, "CONT");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        match self.program {
            // At once; its own processes end with it.
            Program::Postgres => signal::send(&self.child, "QUIT"),
            Program::MariaDb => drop(self.child.kill()),
        }
        drop(self.child.wait());
    }
}

#[track_caller]
fn spawn(program: Program, folder: &Path, port: u16) -> Child {
    let data = folder.join("data");
    let mut command = match program {
        Program::Postgres => {
            let mut command = as_user("postgres", &postgres_program("postgres").unwrap());
            command.arg("-D").arg(data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
            command.arg("-c").arg(option("unix_socket_directories", folder));
            // What a crash of the machine leaves is not what is tested here.
            command.args(["-c", "fsync=off", "-c", "shared_buffers=32MB"]);
            command
        }
        Program::MariaDb => {
            let mut command = as_user("mysql", &in_path("mariadbd").unwrap());
            command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-log-bin", "--skip-name-resolve"]);
            command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"]);
            command.arg(option("--datadir", &data)).arg(format!("--port={port}"));
            command.arg(option("--socket", &folder.join("socket"))).arg(option("--pid-file", &folder.join("pid")));
            command.arg(option("--init-file", &folder.join("accounts.sql")));
            command
        }
    };
    let complaints = File::options().append(true).create(true).open(folder.join("complaints.txt")).unwrap();
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Debian keeps the programs of each version apart; the newest will do.
fn postgres_program(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions
        .filter_map(|version| {
            let number: u32 = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin").join(name))).filter(|(_, program)| program.is_file())
        })
        .collect();
    found.sort();
    found.pop().map(|(_, program)| program).or_else(|| in_path(name))
}

fn id(words: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().ok().filter(|_| output.status.success())
}

/// Whom a server runs as: these refuse to run as root.
fn other_user(name: &str) -> Option<(u32, u32)> {
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let name = if id(&["-u", name]).is_some() { name } else { "nobody" };
    Some((id(&["-u", name]).unwrap(), id(&["-g", name]).unwrap()))
}

fn as_user(name: &str, program: &Path) -> Command {
    let Some((user, group)) = other_user(name) else { return Command::new(program) };
    // It becomes the program: the process that is started here is the one that is stopped here.
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups").arg(program);
    command
}

fn folder_of(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    if let Some((user, group)) = other_user(name) {
        chown(folder.path(), Some(user), Some(group)).unwrap();
    }
    folder
}
