//! Small files that are on the disk as a whole or not at all: written beside their place first, and only for their owner.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file that is written, and not in its place yet. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Draft {
    draft: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// Writes what is to stand at `target`; the folder is made if it is not there. `number` tells drafts apart.
    pub(super) fn write(target: &Path, content: &[u8], number: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder(target))?;
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{number:016x}.new"));
        let draft = Self { draft: target.with_file_name(name), target: target.to_owned() };
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.draft)?;
        out.write_all(content)?;
        out.sync_all()?;
        Ok(draft)
    }

    /// Puts it in its place, where there must be no file yet.
    pub(super) fn place(self) -> io::Result<()> {
        // A link fails where a rename would replace.
        fs::hard_link(&self.draft, &self.target)?;
        fs::File::open(folder(&self.target))?.sync_all()
    }

    /// Puts it in its place, instead of the file that is there: a reader finds the old one or the new one, never half of it.
    pub(super) fn replace(self) -> io::Result<()> {
        fs::rename(&self.draft, &self.target)?;
        fs::File::open(folder(&self.target))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It has served, or is of no use; if it can not be removed it is only a copy more.
        drop(fs::remove_file(&self.draft));
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
