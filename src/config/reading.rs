//! Reading files so that a later change of them is noticed: whatever is read is kept in mind as it was, and what is only
//! used later is looked at first. Between a look and the use a file may change, and that is then seen as a change.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::reload::{Extent, Seen, Watched};

/// Files that one pattern of `[rules] files` may match.
const FILES_MAX: usize = 1000;

/// Which files are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Files alone: what is found in a folder may have been put there to make us wait.
    Plain,
    /// Pipes and the like too, which somebody named by hand.
    Any,
}

/// Reads files, and keeps in mind what they were like.
#[derive(Debug, Default)]
pub(super) struct Reading(RefCell<Watched>);

impl Reading {
    /// As [`read_text`].
    pub(super) fn text(&self, path: &Path) -> io::Result<String> {
        self.text_of(path, Taken::Plain)
    }

    /// A text from a file that is taken.
    pub(super) fn text_of(&self, path: &Path, taken: Taken) -> io::Result<String> {
        let (seen, text) = Seen::read(path, taken);
        self.0.borrow_mut().note(path, Extent::Text, seen);
        text
    }

    /// As [`matches`].
    pub(super) fn matches(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let found = matches(pattern);
        self.0.borrow_mut().note_listing(pattern, found.is_ok());
        found
    }

    /// Looks at a file that is used after this.
    pub(super) fn before_use(&self, path: &Path) {
        self.0.borrow_mut().before_use(path);
    }

    pub(super) fn into_watched(self) -> Watched {
        self.0.into_inner()
    }
}

/// Reads a file of text. One that is larger than [`FILE_BYTES_MAX`](super::FILE_BYTES_MAX) is a fault, and not cut: what is
/// cut off a set would be in no rule. So is a pipe or a device: whoever can put one into a folder could make us wait for ever.
///
/// # Errors
/// When it can not be read, is no plain file, is too large, or is no text.
pub fn read_text(path: &Path) -> io::Result<String> {
    Seen::read(path, Taken::Plain).1
}

/// As [`read_text`], for what somebody named by hand and may wait for: a pipe will do, such as `<(git show main:shop.toml)`.
///
/// # Errors
/// When it can not be read, is too large, or is no text.
pub fn read_named(path: &Path) -> io::Result<String> {
    Seen::read(path, Taken::Any).1
}

/// Reads a plain file as it is.
///
/// # Errors
/// When it can not be read or is no plain file.
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let _length = open(path, Taken::Plain)?.1.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file to be read. If only plain files are taken, nothing else is even opened, and no pipe is waited for.
pub(super) fn open(path: &Path, taken: Taken) -> io::Result<(fs::Metadata, fs::File)> {
    if taken == Taken::Any {
        let file = fs::File::open(path)?;
        return Ok((file.metadata()?, file));
    }
    let plain = |data: fs::Metadata| match data.is_file() || data.is_dir() {
        // A folder says for itself that it can not be read.
        true => Ok(data),
        false => Err(io::Error::other("it is no plain file")),
    };
    let _looked_at = plain(fs::metadata(path)?)?;
    // It may have become another one meanwhile.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    Ok((plain(file.metadata()?)?, file))
}

/// The files that a path with `*` in its last part matches, sorted. A path without one is itself, whether it is there or not.
///
/// # Errors
/// When the folder can not be read, also because it is not there: a misspelt one, or one whose disk went away, would take all
/// rules with it.
pub(super) fn matches(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder_has = pattern.parent().is_some_and(|folder| folder.to_string_lossy().contains('*'));
    if folder_has || name.matches('*').count() > 1 {
        return Err(io::Error::other("one `*` in the name of the file is read, and none in folders"));
    }
    if !name.contains('*') {
        return Ok(vec![pattern.to_owned()]);
    }
    let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // A link that leads nowhere is a file that can not be read, and not one that is not there.
        if fits(pattern, &path) && !path.is_dir() {
            if files.len() >= FILES_MAX {
                return Err(io::Error::other(format!("more than {FILES_MAX} files match")));
            }
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether the name of a path fits that of a pattern.
pub(super) fn fits(pattern: &Path, path: &Path) -> bool {
    let of = |path: &'_ Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let (pattern, name) = (of(pattern), of(path));
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let is_long_enough = name.len() >= head.len() + tail.len();
    // What editors leave beside a file begins with a dot, and signatures are no rules.
    let is_beside = name.starts_with('.') || name.ends_with(".minisig");
    is_long_enough && name.starts_with(head) && name.ends_with(tail) && !is_beside
}
