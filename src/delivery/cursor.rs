//! How far a sink is in the journal: a small file that is replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::event::journal::Position;

/// Where a sink is in the journal can not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The system says no.
    #[error("{}: {why}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        why: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{}: it should tell how far this sink is in the journal, and does not; remove it to go on with the next event, and use `portcullis events replay` for those before",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// How far a sink is in the journal.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    at: Position,
    /// It moved on since it was written.
    is_ahead: bool,
}

/// Where the cursor of a sink stands.
pub(super) fn path_of(journal: &Path, sink: &str) -> PathBuf {
    let mut name = journal.file_name().unwrap_or_default().to_owned();
    name.push(format!(".cursor-{sink}"));
    journal.with_file_name(name)
}

impl Cursor {
    /// Where it was; a new one is at `new`, and is written down at once.
    pub(super) fn open(path: PathBuf, new: Position) -> Result<Self, CursorError> {
        let failed = |why| CursorError::Io { path: path.clone(), why };
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(at) => Ok(Self { path, at, is_ahead: false }),
                Err(_) => Err(CursorError::Damaged { path }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut cursor = Self { path: path.clone(), at: new, is_ahead: true };
                cursor.save().map_err(failed)?;
                // The name too: without it the sink would be new once more after a crash, and what was between skipped.
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
                tracing::info!(cursor = %path.display(), "a sink is new, and begins with the next event");
                Ok(cursor)
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) const fn at(&self) -> Position {
        self.at
    }

    pub(super) const fn move_to(&mut self, at: Position) {
        self.at = at;
        self.is_ahead = true;
    }

    /// Whether it moved on since it was written.
    pub(super) const fn is_ahead(&self) -> bool {
        self.is_ahead
    }

    /// Writes it down, so that it outlives a crash.
    pub(super) fn save(&mut self) -> io::Result<()> {
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let mut text = serde_json::to_vec(&self.at).map_err(io::Error::other)?;
        text.push(b'\n');
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.is_ahead = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_where_it_was_written_down_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_of(&folder.path().join("events.jsonl"), "siem");
        assert_eq!(path.file_name().unwrap(), "events.jsonl.cursor-siem");
        let open = || Cursor::open(path.clone(), Position::of(7)).unwrap();
        let mut cursor = open();
        assert_eq!((cursor.at(), cursor.is_ahead()), (Position::of(7), false));
        cursor.move_to(Position { seq: 9, file: 1, offset: 400 });
        assert!(cursor.is_ahead());
        assert_eq!(open().at(), Position::of(7), "a crash goes back to it");
        cursor.save().unwrap();
        assert_eq!(open().at(), cursor.at());
        fs::write(&path, "what").unwrap();
        assert!(matches!(Cursor::open(path.clone(), Position::of(7)), Err(CursorError::Damaged { .. })));
    }
}
