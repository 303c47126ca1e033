//! Noticing that a file changed.
//!
//! The files are looked at every [`POLL_EVERY`]; polling is right for editors, git, mounted volumes and network drives
//! alike, where notification is not. A change counts only when two looks in a row find the same content, so that a file
//! is not read while it is being written. SIGHUP does not wait: the caller just loads.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;

use super::FILE_BYTES_MAX;
use super::reading::{Taken, open};

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

/// The files that something was made of, as they were when they were read.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// What was named: files, and patterns with a `*`.
    named: BTreeMap<PathBuf, Named>,
    /// The files that were found under these names.
    seen: BTreeMap<PathBuf, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Named {
    extent: Extent,
    /// Whether the folder of a pattern could be read.
    is_listed: bool,
}

/// How much of a file counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// As much as is read of a text.
    Text,
    /// All of it.
    Whole,
}

impl Watched {
    /// Looks at a file that is used after this: what happens to it from here on is a change.
    pub fn before_use(&mut self, path: &Path) {
        self.seen.remove(path);
        self.note(path, Extent::Whole, Seen::look(path, Extent::Whole, None));
    }

    /// A file was read, and was like this.
    pub(super) fn note(&mut self, path: &Path, extent: Extent, seen: Seen) {
        self.named.insert(path.to_owned(), Named { extent, is_listed: true });
        let first = self.seen.entry(path.to_owned()).or_insert(seen);
        if first.content != seen.content {
            // It was read twice and is not what it was: whatever it is now is to be loaded again.
            first.content = Content::Torn;
        }
    }

    /// The files of a pattern were listed.
    pub(super) fn note_listing(&mut self, pattern: &Path, is_listed: bool) {
        self.named.insert(pattern.to_owned(), Named { extent: Extent::Text, is_listed });
    }

    /// The same files as they are now.
    fn again(&self) -> Self {
        let mut now = Self::default();
        for (name, Named { extent, .. }) in &self.named {
            let files = super::reading::matches(name);
            now.named.insert(name.clone(), Named { extent: *extent, is_listed: files.is_ok() });
            for path in files.unwrap_or_default() {
                if let Entry::Vacant(place) = now.seen.entry(path) {
                    let seen = Seen::look(place.key(), *extent, self.seen.get(place.key()));
                    place.insert(seen);
                }
            }
        }
        now
    }

    fn print(&self) -> Print {
        let mut all = digest::Context::new(&digest::SHA256);
        for (name, named) in &self.named {
            all.update(name.as_os_str().as_encoded_bytes());
            all.update(&[0, u8::from(named.is_listed)]);
        }
        for (path, seen) in &self.seen {
            all.update(path.as_os_str().as_encoded_bytes());
            all.update(&[0]);
            match &seen.content {
                Content::Nothing => all.update(&[0]),
                Content::Torn => all.update(&[1]),
                Content::Hash(hash) => {
                    all.update(&[2]);
                    all.update(hash);
                }
            }
        }
        let mut print = [0; 32];
        print.copy_from_slice(all.finish().as_ref());
        Print(print)
    }
}

/// Watches some files.
#[derive(Debug)]
pub struct Watcher {
    watched: Watched,
    settled: Settled,
}

impl Watcher {
    /// A watcher that takes the files as they were read for known: one that has changed since is noticed.
    pub fn new(watched: Watched) -> Self {
        let settled = Settled { known: watched.print(), candidate: None };
        Self { watched, settled }
    }

    /// Looks at the files. Blocks for as long as reading those that changed takes.
    pub fn look(&mut self) -> Change {
        self.watched = self.watched.again();
        self.settled.see(self.watched.print())
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

/// A file as it was seen last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    outside: Option<Outside>,
    content: Content,
    /// How often in a row it was read and looked the same from outside.
    calm: u8,
}

/// From so many looks on it is read again only if it looks different from outside. Two writes within one tick of the file
/// system's clock, some milliseconds, look the same; two looks are further apart.
const CALM: u8 = 2;

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// It is not there, can not be read, or is a pipe or the like, which gives what it has only once.
    Nothing,
    /// It was read twice, with two results.
    Torn,
    Hash([u8; 32]),
}

/// What can be told without reading: device, inode, length, and both times to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outside {
    file: (u64, u64),
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Outside {
    fn of(data: &fs::Metadata) -> Self {
        Self {
            file: (data.dev(), data.ino()),
            length: data.len(),
            written: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

/// More than is read of a text: that it is too large is to be seen.
const TEXT_BYTES: u64 = FILE_BYTES_MAX as u64 + 1;

impl Seen {
    /// What is seen of nothing.
    const NOTHING: Self = Self { outside: None, content: Content::Nothing, calm: 0 };

    /// Reads a text, and looks at the file that it is read from.
    pub(super) fn read(path: &Path, taken: Taken) -> (Self, io::Result<String>) {
        let (data, file) = match open(path, taken) {
            Ok(opened) => opened,
            Err(error) => return (Self::NOTHING, Err(error)),
        };
        let mut bytes = Vec::new();
        if let Err(error) = file.take(TEXT_BYTES).read_to_end(&mut bytes) {
            return (Self::NOTHING, Err(error));
        }
        let content = match data.is_file() {
            true => Content::hash(digest::digest(&digest::SHA256, &bytes).as_ref()),
            false => Content::Nothing,
        };
        let seen = Self { outside: Some(Outside::of(&data)), content, calm: 0 };
        if bytes.len() > FILE_BYTES_MAX {
            return (seen, Err(io::Error::other("it is larger than 1 MiB")));
        }
        (seen, String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    fn look(path: &Path, extent: Extent, before: Option<&Self>) -> Self {
        // Through links: a ConfigMap is replaced by pointing a link elsewhere.
        let Ok(data) = fs::metadata(path) else { return Self::NOTHING };
        let outside = Some(Outside::of(&data));
        let calm = match before {
            Some(before) if before.outside == outside && before.calm >= CALM => return *before,
            Some(before) if before.outside == outside => before.calm.saturating_add(1),
            _ => 0,
        };
        let content = match data.is_file() {
            true => content(path, extent).unwrap_or(Content::Nothing),
            false => Content::Nothing,
        };
        Self { outside, content, calm }
    }
}

impl Content {
    fn hash(hash: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(hash);
        Self::Hash(out)
    }
}

fn content(path: &Path, extent: Extent) -> io::Result<Content> {
    let most = match extent {
        Extent::Text => TEXT_BYTES,
        Extent::Whole => u64::MAX,
    };
    let mut file = open(path, Taken::Plain)?.1.take(most);
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(Content::hash(hash.finish().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that were looked at just now.
    fn watched(paths: &[&Path]) -> Watched {
        let mut watched = Watched::default();
        paths.iter().for_each(|path| watched.before_use(path));
        watched
    }

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
        let mut watcher = Watcher::new(watched(&[&link, &folder.path().join("absent")]));
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
        let mut watcher = Watcher::new(watched(&[&file]));
        for _ in 0..5 {
            fs::write(&file, "one").unwrap();
            assert_eq!(watcher.look(), Change::None);
        }
    }

    /// A write within the same tick of the file system's clock, and of the same length, looked like no write.
    #[test]
    fn a_change_right_after_a_look_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        for round in 0..50 {
            fs::write(&file, "one").unwrap();
            let mut watcher = Watcher::new(watched(&[&file]));
            fs::write(&file, "two").unwrap();
            let seen = [watcher.look(), watcher.look()];
            assert_eq!(seen, [Change::Settling, Change::Changed], "round {round}");
        }
    }

    #[test]
    fn a_file_that_was_read_twice_with_two_results_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let mut watched = Watched::default();
        for text in ["one", "two", "one"] {
            fs::write(&file, text).unwrap();
            let (seen, read) = Seen::read(&file, Taken::Plain);
            assert_eq!(read.unwrap(), text);
            watched.note(&file, Extent::Text, seen);
        }
        let mut watcher = Watcher::new(watched);
        assert_eq!([watcher.look(), watcher.look()], [Change::Settling, Change::Changed]);
    }
}
