//! Parts of a machine that a test has to itself (namespaces(7)): a disk with little room, a network.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::stored::skipped;

/// Set in a test that runs itself again in a network of its own.
const INSIDE: &str = "PORTCULLIS_NETWORK_OF_ITS_OWN";

/// Whoever runs this is root in there, and nobody outside sees what changes.
fn unshare(kind: &str) -> Option<Command> {
    let unshare = |kind: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", kind]);
        command
    };
    let allowed = unshare(kind).arg("true").output().is_ok_and(|output| output.status.success());
    allowed.then(|| unshare(kind)).or_else(|| skipped("the right to make namespaces (unshare --user)"))
}

/// A file system in memory with room for so much, which is gone with this value.
pub(crate) struct SmallDisk {
    holder: Child,
    /// Where it lies for its holder; others come to it by way of him.
    mounted: TempDir,
}

impl SmallDisk {
    /// With room for so many bytes and files. None where namespaces are forbidden.
    pub(crate) fn new(bytes: u64, files: u64) -> Option<Self> {
        let mounted = tempfile::tempdir().unwrap();
        let script =
            format!("mount -t tmpfs -o size={bytes},nr_inodes={files} tmpfs \"$0\" && echo mounted && exec cat");
        let mut command = unshare("--mount")?;
        command.args(["sh", "-c", &script]).arg(mounted.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n");
        Some(Self { holder, mounted })
    }

    /// Its root.
    pub(crate) fn path(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.mounted.path().strip_prefix("/").unwrap())
    }

    /// Takes all room but so many bytes and files.
    pub(crate) fn fill(&self, bytes: u64, files: u64) {
        let filling = |number: u64| self.path().join(format!("filling-{number}"));
        let mut first = File::create(filling(0)).unwrap();
        let is_full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        let mut last = 0;
        while match OpenOptions::new().write(true).create_new(true).open(filling(last + 1)) {
            Ok(_) => true,
            Err(error) if is_full(&error) => false,
            Err(error) => panic!("{error}"),
        } {
            last += 1;
        }
        for number in (1..=last).rev().take(usize::try_from(files).unwrap()) {
            fs::remove_file(filling(number)).unwrap();
        }
        while match first.write_all(&[0xaa; 4096]) {
            Ok(()) => true,
            Err(error) if is_full(&error) => false,
            Err(error) => panic!("{error}"),
        } {}
        let length = first.metadata().unwrap().len();
        first.set_len(length.saturating_sub(bytes)).unwrap();
    }

    /// Gives the room back.
    pub(crate) fn clear(&self) {
        for entry in fs::read_dir(self.path()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with("filling-") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// Runs a test, which calls this first, once more in a network of its own that has nothing but itself. Says whether this is there;
/// the one outside has nothing left to do.
pub(crate) fn in_own_network(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let Some(ip) = ip() else { return false };
    let Some(mut command) = unshare("--net") else { return false };
    command.args(["sh", "-c", "\"$0\" link set lo up && exec \"$@\""]).arg(ip).arg(env::current_exe().unwrap());
    let status = command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "{test} failed in there");
    false
}

/// The program that changes networks.
fn ip() -> Option<&'static Path> {
    let places = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].map(Path::new);
    places.into_iter().find(|path| path.exists()).or_else(|| skipped("ip (iproute2)"))
}

/// An address that is there until it is taken away: who talks to it is not told that it is gone, whatever he sends is lost.
pub(crate) struct Host(pub(crate) &'static str);

impl Host {
    /// Packets to it arrive from now on.
    pub(crate) fn appear(&self) {
        self.change("add");
    }

    /// They are lost from now on.
    pub(crate) fn vanish(&self) {
        self.change("del");
    }

    fn change(&self, how: &str) {
        let address = format!("{}/32", self.0);
        let status = Command::new(ip().unwrap()).args(["address", how, &address, "dev", "lo"]).status().unwrap();
        assert!(status.success(), "ip address {how} {address}");
    }
}
