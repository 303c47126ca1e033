//! The directory: which files are in it, and how one is written so that it is there wholly or not at all.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::OpenError;
use crate::session::id::SessionDigest;

/// Version of the layout.
const FORMAT: u64 = 1;
/// Whoever holds a lock on this file has the store open. In it stands what the directory is.
const LOCK: &str = "lock";
/// What stands in front of the format there.
const NAME: &str = "portcullis sessions ";
const JOURNAL: &str = "journal";
const SESSIONS: &str = "sessions";
/// What the name of a file that is being written ends in.
const UNFINISHED: &str = ".new";

/// What a store of files does with its directory. Tests have one of their own that fails.
pub(super) trait Files: Send + 'static {
    /// The journal as it is, finished or not.
    fn read_journal(&mut self) -> io::Result<Vec<u8>>;

    /// Writes the journal; it is safe when this returns.
    fn write_journal(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Empties the journal. After a crash it may be there again.
    fn end_journal(&mut self) -> io::Result<()>;

    /// Puts a row in the place of the one of that session. It is safe after [`sync`](Self::sync).
    fn put(&mut self, digest: &SessionDigest, row: &[u8]) -> io::Result<()>;

    /// Removes the row of a session, if it is there. It is safe after [`sync`](Self::sync).
    fn remove(&mut self, digest: &SessionDigest) -> io::Result<()>;

    /// Makes safe what was put and removed of sessions whose digests begin with this byte.
    fn sync(&mut self, first: u8) -> io::Result<()>;

    /// Gives every row to `take`: what is named like one, under the digest that its name says, or none of it if it stands
    /// in another session's place.
    fn read_rows(&self, take: &mut dyn FnMut(SessionDigest, Option<Vec<u8>>)) -> io::Result<()>;
}

/// A directory of sessions, locked.
#[derive(Debug)]
pub(super) struct Directory {
    sessions: PathBuf,
    journal: File,
    /// Held as long as this lives.
    _lock: File,
}

impl Directory {
    /// Opens a directory, which is made if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source: io::Error| OpenError::Io { path: path.to_owned(), source: source.into() };
        make_directory(path).map_err(failed)?;
        let mut lock = open_file(&path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        identify(path, &mut lock)?;
        let sessions = path.join(SESSIONS);
        let prepare = || {
            make_directory(&sessions)?;
            for first in 0..=u8::MAX {
                make_directory(&sessions.join(hex(&[first])))?;
            }
            let journal = open_file(&path.join(JOURNAL))?;
            // What was made must also be found after the power went.
            File::open(&sessions)?.sync_all()?;
            File::open(path)?.sync_all()?;
            Ok(journal)
        };
        let journal = prepare().map_err(failed)?;
        Ok(Self { sessions, journal, _lock: lock })
    }

    /// Where the row of a session is.
    fn place(&self, digest: &SessionDigest) -> PathBuf {
        let name = hex(&digest.0);
        let mut place = self.folder(digest.0.first().copied().unwrap_or(0));
        place.push(name);
        place
    }

    fn folder(&self, first: u8) -> PathBuf {
        self.sessions.join(hex(&[first]))
    }
}

impl Files for Directory {
    fn read_journal(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.journal.seek(SeekFrom::Start(0))?;
        self.journal.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.journal.set_len(0)?;
        self.journal.seek(SeekFrom::Start(0))?;
        self.journal.write_all(bytes)?;
        self.journal.sync_data()
    }

    fn end_journal(&mut self) -> io::Result<()> {
        self.journal.set_len(0)
    }

    fn put(&mut self, digest: &SessionDigest, row: &[u8]) -> io::Result<()> {
        let place = self.place(digest);
        let mut unfinished = place.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let mut file = open_file(Path::new(&unfinished))?;
        file.set_len(0)?;
        file.write_all(row)?;
        file.sync_data()?;
        drop(file);
        std::fs::rename(unfinished, place)
    }

    fn remove(&mut self, digest: &SessionDigest) -> io::Result<()> {
        forget(&self.place(digest))
    }

    fn sync(&mut self, first: u8) -> io::Result<()> {
        File::open(self.folder(first))?.sync_all()
    }

    fn read_rows(&self, take: &mut dyn FnMut(SessionDigest, Option<Vec<u8>>)) -> io::Result<()> {
        for first in 0..=u8::MAX {
            for entry in std::fs::read_dir(self.folder(first))? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) else {
                    continue;
                };
                match (parse_hex(name), name.strip_suffix(UNFINISHED).and_then(parse_hex)) {
                    (Some(digest), _) if digest.0.first() == Some(&first) => {
                        take(digest, Some(std::fs::read(entry.path())?));
                    }
                    (Some(digest), _) => take(digest, None),
                    // A crash came before it got its name.
                    (None, Some(_)) => forget(&entry.path())?,
                    // Somebody else's.
                    (None, None) => {}
                }
            }
        }
        Ok(())
    }
}

/// Checks that a directory is one of ours, and writes down what it is if it is new.
fn identify(path: &Path, lock: &mut File) -> Result<(), OpenError> {
    let failed = |source: io::Error| OpenError::Io { path: path.to_owned(), source: source.into() };
    let mut text = Vec::new();
    // What is longer than the longest line of ours is not ours.
    lock.take(64).read_to_end(&mut text).map_err(failed)?;
    if text.is_empty() {
        // Ours are made after this line is written, so these are somebody else's.
        if [JOURNAL, SESSIONS].iter().any(|name| path.join(name).exists()) {
            return Err(OpenError::Foreign { path: path.to_owned() });
        }
        return lock.write_all(format!("{NAME}{FORMAT}\n").as_bytes()).and_then(|()| lock.sync_all()).map_err(failed);
    }
    let format = std::str::from_utf8(&text).ok().and_then(|text| text.trim_end().strip_prefix(NAME)?.parse().ok());
    match format {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(OpenError::Newer { path: path.to_owned(), found }),
        None => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Opens a file of ours, which is made if it is not there, for its owner alone.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn forget(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// The digest that 64 digits name, as [`hex`] writes them.
fn parse_hex(name: &str) -> Option<SessionDigest> {
    let mut digest = [0; 32];
    let (pairs, rest) = name.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16).filter(|_| !digit.is_ascii_uppercase())?;
            *byte = (*byte << 4) | u8::try_from(value).ok()?;
        }
    }
    Some(SessionDigest(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let digest = SessionDigest(crate::secret::sha256(b"a session"));
        let name = hex(&digest.0);
        assert_eq!(parse_hex(&name), Some(digest));
        for other in
            [name.split_at(1).1, &format!("{name}0"), &name.to_uppercase(), &format!("{name}.new"), "", "README"]
        {
            assert_eq!(parse_hex(other), None, "{other}");
        }
    }
}
