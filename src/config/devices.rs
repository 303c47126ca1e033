//! The file in which what is known of devices outlives a restart, beside the sessions. It is sealed by the guard.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Settings;
use super::durable::Draft;
use super::reading::{Taken, open};
use crate::engine::SEALED_DEVICES_BYTES_MAX;
use crate::entropy::{Entropy, random};

/// Where it is kept.
#[derive(Clone, Debug)]
pub struct DeviceFile(PathBuf);

impl DeviceFile {
    /// The one that belongs to the sessions of these settings; none if those are in memory.
    pub fn of(settings: &Settings) -> Option<Self> {
        settings.store.kind.folder().map(|folder| Self(folder.join("devices")))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What is in it; none if it is not there.
    ///
    /// # Errors
    /// When it can not be read, or is longer than one ever is.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match open(&self.0, Taken::Plain) {
            Ok((_, file)) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        let max = u64::try_from(SEALED_DEVICES_BYTES_MAX).unwrap_or(u64::MAX);
        file.take(max.saturating_add(1)).read_to_end(&mut content)?;
        if content.len() > SEALED_DEVICES_BYTES_MAX {
            return Err(io::Error::other("it is too long"));
        }
        Ok(Some(content))
    }

    /// Puts it aside, in the place of one that was put aside before: it is not to be lost if the keys were the wrong ones.
    ///
    /// # Errors
    /// When it can not be renamed.
    pub fn put_aside(&self) -> io::Result<()> {
        std::fs::rename(&self.0, self.aside())
    }

    /// Where it is put aside.
    pub fn aside(&self) -> PathBuf {
        self.0.with_file_name("devices.unread")
    }

    /// Removes it, if it is there, and one that was put aside.
    ///
    /// # Errors
    /// When it can not be removed.
    pub fn remove(&self) -> io::Result<()> {
        for path in [&self.0, &self.aside()] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts this in its place, readable by its owner alone: wholly or not at all.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn write(&self, sealed: &[u8], entropy: &dyn Entropy) -> io::Result<()> {
        let number = random(entropy).map_err(io::Error::other)?;
        Draft::write(&self.0, sealed, u64::from_be_bytes(number))?.replace()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::entropy::InsecureSeededEntropy;

    #[test]
    fn it_is_there_as_a_whole_and_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let file = DeviceFile(folder.path().join("data/devices"));
        assert_eq!(file.read().unwrap(), None);
        let entropy = InsecureSeededEntropy::new(1);
        for content in ["first", "second"] {
            file.write(content.as_bytes(), &entropy).unwrap();
            assert_eq!(file.read().unwrap().unwrap(), content.as_bytes());
        }
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 1, "no draft is left");
        fs::write(file.path(), vec![0; SEALED_DEVICES_BYTES_MAX + 1]).unwrap();
        assert!(file.read().is_err());
        file.put_aside().unwrap();
        assert_eq!(file.read().unwrap(), None);
        assert!(file.aside().exists());
        file.write(b"third", &entropy).unwrap();
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 0);
    }
}
