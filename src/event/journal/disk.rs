//! What the journal asks of the disk, so that tests can have a disk that fails.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::segments::{beside, folder};
use crate::event::sink::write_counted;

/// A disk.
pub(super) trait Disk: Send {
    /// Appends, and tells how far it came.
    fn write(&self, file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
        write_counted(file, bytes)
    }

    /// Waits until what was written is on it.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Takes away what is behind so many bytes.
    fn cut(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    /// Gives a file another name, where there must be none, and puts a new one in its place, which is there at every moment.
    fn turn(&self, path: &Path, aside: &Path) -> io::Result<File> {
        let new = beside(path, "new");
        let file = own(OpenOptions::new().read(true).append(true).create(true), &new)?;
        file.set_len(0)?;
        fs::hard_link(path, aside)?;
        if let Err(error) = fs::rename(&new, path) {
            // So that it can be tried again.
            fs::remove_file(aside)?;
            return Err(error);
        }
        Ok(file)
    }

    /// Waits until the names of the files beside one are on it.
    fn sync_names(&self, path: &Path) -> io::Result<()> {
        File::open(folder(path))?.sync_all()
    }

    /// Puts a file in the place of another one, as a whole. Nobody else writes beside the journal while it is locked.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let new = beside(path, "new");
        let mut file = own(OpenOptions::new().write(true).create(true).truncate(true), &new)?;
        write_counted(&mut file, content).1?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        self.sync_names(path)
    }
}

/// The one of the system.
pub(super) struct Os;

impl Disk for Os {}

/// Opens a file that only its owner may read.
pub(super) fn own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = options.mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}
