//! Noticing that a file changed.
//!
//! The files are looked at every [`POLL_EVERY`]; polling is right for editors, git, mounted volumes and network drives
//! alike, where notification is not. A change counts only when two looks in a row find the same content, so that a file
//! is not read while it is being written. SIGHUP does not wait: the caller just loads.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;

/// How often the files are to be looked at.
pub const POLL_EVERY: Duration = Duration::from_secs(2);

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing new.
    None,
    /// Something, but perhaps not all of it yet: look again.
    Settling,
    /// The files changed and are at rest: load them.
    Changed,
}

/// Watches some files.
#[derive(Debug)]
pub struct Watcher {
    paths: Vec<PathBuf>,
    seen: BTreeMap<PathBuf, Seen>,
    settled: Settled,
}

impl Watcher {
    /// A watcher that takes the files (a name may have a `*`) as they are now for known.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let mut watcher = Self { paths, seen: BTreeMap::new(), settled: Settled::default() };
        watcher.settled = Settled { known: watcher.print(), candidate: None };
        watcher
    }

    /// Looks at the files. Blocks for as long as reading those that changed takes.
    pub fn look(&mut self) -> Change {
        let print = self.print();
        self.settled.see(print)
    }

    /// Takes the files as they are now for known, perhaps others than before: after loading them.
    pub fn restart(&mut self, paths: Vec<PathBuf>) {
        *self = Self::new(paths);
    }

    fn print(&mut self) -> Print {
        let mut all = digest::Context::new(&digest::SHA256);
        let named = self.paths.iter().flat_map(|path| super::rulebook::matches(path).unwrap_or_default());
        for path in &named.collect::<Vec<_>>() {
            let seen = Seen::look(path, self.seen.get(path));
            all.update(path.as_os_str().as_encoded_bytes());
            all.update(&[0]);
            all.update(&seen.content);
            self.seen.insert(path.clone(), seen);
        }
        let mut print = [0; 32];
        print.copy_from_slice(all.finish().as_ref());
        Print(print)
    }
}

/// The hash of what is in the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Print([u8; 32]);

/// The part without files.
#[derive(Clone, Copy, Debug, Default)]
struct Settled {
    known: Print,
    candidate: Option<Print>,
}

impl Settled {
    fn see(&mut self, print: Print) -> Change {
        if print == self.known {
            self.candidate = None;
            return Change::None;
        }
        if self.candidate == Some(print) {
            *self = Self { known: print, candidate: None };
            return Change::Changed;
        }
        self.candidate = Some(print);
        Change::Settling
    }
}

/// A file as it was seen last: read again only if it looks different from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    outside: Option<Outside>,
    content: [u8; 32],
}

/// What can be told without reading: device, inode, length, and both times to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outside {
    file: (u64, u64),
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn look(path: &Path, before: Option<&Self>) -> Self {
        // Through links: a ConfigMap is replaced by pointing a link elsewhere.
        let outside = fs::metadata(path).ok().map(|data| Outside {
            file: (data.dev(), data.ino()),
            length: data.len(),
            written: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        });
        match before {
            Some(before) if outside.is_some() && before.outside == outside => *before,
            _ => Self { outside, content: content(path).unwrap_or_default() },
        }
    }
}

fn content(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = fs::File::open(path)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_is_seen_twice() {
        let print = |byte| Print([byte; 32]);
        let mut settled = Settled { known: print(1), candidate: None };
        let seen = [1, 2, 3, 3, 3, 4, 3, 4, 4].map(|byte| settled.see(print(byte)));
        let expected = [0, 1, 1, 2, 0, 1, 0, 1, 2].map(|n: usize| [Change::None, Change::Settling, Change::Changed][n]);
        assert_eq!(seen, expected);
    }

    #[test]
    fn files_are_watched_through_every_way_of_changing_them() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a"), folder.path().join("link"));
        fs::write(&file, "one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut watcher = Watcher::new(vec![link.clone(), folder.path().join("absent")]);
        let mut settle = |what: &str| {
            assert_eq!(watcher.look(), Change::Settling, "{what}");
            assert_eq!(watcher.look(), Change::Changed, "{what}");
            assert_eq!(watcher.look(), Change::None, "{what}");
        };
        fs::write(&file, "longer").unwrap();
        settle("written");
        let other = folder.path().join("b");
        fs::write(&other, "renamed").unwrap();
        fs::rename(&other, &file).unwrap();
        settle("renamed over");
        fs::write(&other, "elsewhere").unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        settle("link moved");
        fs::remove_file(&other).unwrap();
        settle("removed");
        fs::write(folder.path().join("absent"), "").unwrap();
        settle("an empty file is not an absent one");
    }

    #[test]
    fn touching_a_file_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "one").unwrap();
        let mut watcher = Watcher::new(vec![file.clone()]);
        fs::write(&file, "one").unwrap();
        assert_eq!(watcher.look(), Change::None);
    }
}
