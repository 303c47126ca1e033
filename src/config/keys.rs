//! The file with the keys: made on first run, readable by its owner alone.
//!
//! ```toml
//! version = 1
//!
//! [[key]]                       # the first is the current one
//! id = 2
//! made = 2026-11-21T10:46:12Z
//! secret = "43 characters of base64url"
//! ```
//!
//! A new key is put in front and the old ones are kept, so that what they made is still understood. A key may be taken
//! out by hand when the last session it could have made has ended.
//!
//! Several guards that share a store must all understand a key before one of them uses it. So a key can be staged first: it then
//! stands behind the current one, whose id is one less, until it is promoted.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::durable::Draft;
use super::reading::{Taken, open};
use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyError};
use crate::rules::diagnostic::Faults;
use crate::rules::page::{Reader, page};
use crate::secret::{KeyId, Keyring, MasterKey, same};

/// Keys that are kept: the current one and those before it.
pub const KEYS_MAX: usize = 8;

/// Largest file that is read: eight keys are about a thousand bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A key of the file.
#[derive(Clone, Debug)]
struct Kept {
    key: MasterKey,
    made: Timestamp,
}

/// The keys of a file, the current one first.
#[derive(Clone, Debug)]
pub struct KeyFile {
    current: Kept,
    previous: Vec<Kept>,
}

/// The keys can not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file can not be read or written.
    #[error("the key file {path} can not be {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not what it should be. It is not replaced: every session would be lost.
    #[error("the key file is damaged; put back a copy, or remove it to begin anew, which ends every session\n{0}")]
    Damaged(#[source] Faults),
    /// There is no randomness for a new key.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A key is staged, and would be passed over.
    #[error("key {0} is staged: `portcullis keygen --promote` makes it the current one")]
    Staged(u8),
    /// There is no key to be promoted.
    #[error("no key is staged: `portcullis keygen --stage` makes one that all guards can learn before it is used")]
    NothingStaged,
}

/// How a file gets another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A new one is the current one at once.
    Replace,
    /// A new one is understood, and not used yet.
    Stage,
    /// The staged one becomes the current one.
    Promote,
}

impl KeyFile {
    /// A file of one new key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(entropy: &dyn Entropy, now: Timestamp) -> Result<Self, EntropyError> {
        let current = Kept { key: MasterKey::generate(KeyId(1), entropy)?, made: now };
        Ok(Self { current, previous: Vec::new() })
    }

    /// Reads what [`render`](Self::render) wrote.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(name: &str, text: &str) -> Result<Self, Faults> {
        let mut keys = Vec::new();
        let notes = page(name, text, Path::new(""), |reader| {
            if let Some(version) = reader.value("version")
                && version.whole::<u64>(0..=u64::MAX).is_some_and(|version| version != 1)
            {
                version.fault("this program reads version 1 of the file", None);
            }
            let Some(value) = reader.value("key") else {
                reader.missing("key", "a key file has at least one [[key]]");
                return;
            };
            let read = value.list("a list of tables, [[key]]", |value| value.table(kept)?);
            keys = read.unwrap_or_default();
            if keys.is_empty() || keys.len() > KEYS_MAX {
                value.fault(&format!("expected 1 to {KEYS_MAX} keys"), None);
            }
            let mut ids: Vec<KeyId> = keys.iter().map(|kept| kept.key.id()).collect();
            ids.sort_unstable();
            ids.dedup();
            if ids.len() != keys.len() {
                value.fault("two keys have the same id", None);
            }
        });
        let mut keys = keys.into_iter();
        match keys.next() {
            Some(current) if notes.faults.is_empty() => Ok(Self { current, previous: keys.collect() }),
            _ => Err(hidden(notes.faults)),
        }
    }

    /// The text of the file.
    pub fn render(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        text.push_str(HEAD);
        for Kept { key, made } in self.all() {
            let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(key.expose()));
            for part in [
                "\n[[key]]\nid = ",
                &key.id().0.to_string(),
                "\nmade = ",
                &made.to_string(),
                "\nsecret = \"",
                &secret,
                "\"\n",
            ] {
                text.push_str(part);
            }
        }
        text
    }

    /// The same after a turn; the oldest key is left out when there are too many.
    ///
    /// # Errors
    /// When there is no randomness, a key is staged or none is.
    pub fn turned(&self, turn: Turn, entropy: &dyn Entropy, now: Timestamp) -> Result<Self, KeyFileError> {
        let staged = self.staged();
        let mut keys: Vec<Kept> = self.all().cloned().collect();
        match (turn, staged) {
            (Turn::Promote, None) => return Err(KeyFileError::NothingStaged),
            (Turn::Promote, Some(_)) => keys.swap(0, 1),
            (Turn::Replace | Turn::Stage, Some(id)) => return Err(KeyFileError::Staged(id.0)),
            (Turn::Replace | Turn::Stage, None) => {
                keys.truncate(KEYS_MAX - 1);
                let id = next_id(self.current.key.id(), &keys);
                let place = usize::from(turn == Turn::Stage);
                keys.insert(place, Kept { key: MasterKey::generate(id, entropy)?, made: now });
            }
        }
        let mut keys = keys.into_iter();
        let current = keys.next().unwrap_or_else(|| self.current.clone());
        Ok(Self { current, previous: keys.collect() })
    }

    /// The key that is understood and not used yet: the one behind the current one, if it was made after it.
    pub fn staged(&self) -> Option<KeyId> {
        let next = self.previous.first()?.key.id();
        let others = self.previous.get(1..).unwrap_or_default();
        (next == next_id(self.current.key.id(), others)).then_some(next)
    }

    /// The keys for use.
    pub fn keyring(&self) -> Keyring {
        let previous: Vec<MasterKey> = self.previous.iter().map(|kept| kept.key.clone()).collect();
        Keyring::new(&self.current.key, &previous)
    }

    /// The id of the current key.
    pub const fn current(&self) -> KeyId {
        self.current.key.id()
    }

    /// The ids of all other keys, the newest first.
    pub fn previous(&self) -> Vec<KeyId> {
        self.previous.iter().map(|kept| kept.key.id()).collect()
    }

    /// Which keys of another file are not in this one, by their ids: one of the same id that is another key is none.
    pub fn lacks(&self, other: &Self) -> Vec<KeyId> {
        let has = |wanted: &MasterKey| {
            let is_it = |own: &MasterKey| own.id() == wanted.id() && same(own.expose(), wanted.expose());
            self.all().any(|kept| is_it(&kept.key))
        };
        other.all().filter(|kept| !has(&kept.key)).map(|kept| kept.key.id()).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Kept> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

const HEAD: &str = "\
# The keys of Portcullis. Keep this file secret, and keep a copy of it: without it every session is lost.
# The first key is the current one. `portcullis keygen` puts a new one in front; the others are kept so that what
# they made is still understood. With `--stage` the new one stands behind it, until `--promote`.
version = 1
";

/// The faults without the text they are about: it may be a key.
fn hidden(mut faults: Vec<super::Fault>) -> Faults {
    for spot in faults.iter_mut().filter_map(|fault| fault.spot.as_mut()) {
        spot.text = "".into();
        spot.source_line = "".into();
    }
    Faults::sorted(faults)
}

fn kept(reader: &Reader<'_>) -> Option<Kept> {
    let (id, made, secret) = (reader.value("id"), reader.value("made"), reader.value("secret"));
    for (there, key) in [(id.is_some(), "id"), (made.is_some(), "made"), (secret.is_some(), "secret")] {
        if !there {
            reader.missing(key, "a key has id, made and secret");
        }
    }
    let id = id.and_then(|value| value.whole::<u8>(1..=255));
    let made = made.and_then(|value| value.date());
    let secret = secret.and_then(|value| {
        value.parsed("the secret in quotes", |text| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok().map(Zeroizing::new);
            let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.as_slice().try_into().ok());
            bytes.ok_or("expected 43 characters of base64url")
        })
    });
    Some(Kept { key: MasterKey::new(KeyId(id?), secret?), made: made? })
}

/// The id behind the current one that no kept key has. Ids come round after 255 rotations.
fn next_id(current: KeyId, kept: &[Kept]) -> KeyId {
    let mut id = current;
    loop {
        id = KeyId(id.0.checked_add(1).unwrap_or(1));
        if kept.iter().all(|kept| kept.key.id() != id) {
            return id;
        }
    }
}

/// Whether there was a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There was.
    Read,
    /// It was made.
    Made,
}

/// The keys of the file, which is made if it is not there.
///
/// # Errors
/// When it can not be read or made. A damaged file is never replaced.
pub fn load_or_make(path: &Path, entropy: &dyn Entropy, now: Timestamp) -> Result<(KeyFile, Origin), KeyFileError> {
    match read(path) {
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        other => return other.map(|file| (file, Origin::Read)),
    }
    let file = KeyFile::generate(entropy, now)?;
    match write(path, &file, entropy, Place::New) {
        Ok(()) => Ok((file, Origin::Made)),
        // Another process was faster: its keys are the ones.
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            read(path).map(|file| (file, Origin::Read))
        }
        Err(error) => Err(error),
    }
}

/// Gives the file another key.
///
/// # Errors
/// When it can not be read or written, or the turn can not be; it is then as it was.
pub fn turn(path: &Path, turn: Turn, entropy: &dyn Entropy, now: Timestamp) -> Result<KeyFile, KeyFileError> {
    let file = read(path)?.turned(turn, entropy, now)?;
    write(path, &file, entropy, Place::Replace)?;
    Ok(file)
}

/// Reads the file.
///
/// # Errors
/// When it is not there, can not be read, or is damaged.
pub fn read(path: &Path) -> Result<KeyFile, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), action: "read", source };
    let (_, file) = open(path, Taken::Plain).map_err(failed)?;
    let mut text = Zeroizing::new(String::new());
    io::Read::read_to_string(&mut io::Read::take(file, FILE_BYTES_MAX), &mut text).map_err(failed)?;
    KeyFile::parse(&path.to_string_lossy(), &text).map_err(KeyFileError::Damaged)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// There must be no file yet.
    New,
    /// The file is replaced.
    Replace,
}

fn write(path: &Path, file: &KeyFile, entropy: &dyn Entropy, place: Place) -> Result<(), KeyFileError> {
    let number = u64::from_be_bytes(crate::entropy::random(entropy)?);
    let written = Draft::write(path, file.render().as_bytes(), number).and_then(|draft| match place {
        Place::New => draft.place(),
        Place::Replace => draft.replace(),
    });
    written.map_err(|source| KeyFileError::Io { path: path.to_owned(), action: "written", source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::entropy::{InsecureSeededEntropy, OsEntropy};
    use crate::secret::Purpose;

    const NOW: Timestamp = Timestamp::from_secs(1_795_257_972);

    fn ids(file: &KeyFile) -> (u8, Vec<u8>) {
        (file.current().0, file.previous().iter().map(|id| id.0).collect())
    }

    #[test]
    fn a_ring_tells_which_keys_of_another_it_lacks() {
        let made = |seed| KeyFile::generate(&InsecureSeededEntropy::new(seed), Timestamp::EPOCH).unwrap();
        let (one, other) = (made(1), made(2));
        let rotated = one.turned(Turn::Replace, &InsecureSeededEntropy::new(3), Timestamp::EPOCH).unwrap();
        assert_eq!(rotated.lacks(&one), []);
        assert_eq!(one.lacks(&rotated), [KeyId(2)]);
        assert_eq!(one.lacks(&other), [KeyId(1)], "the id is the same, the key is not");
    }

    #[test]
    fn a_file_is_read_back_as_it_was_written() {
        let entropy = InsecureSeededEntropy::new(1);
        let mut file = KeyFile::generate(&entropy, NOW).unwrap();
        for _ in 0..20 {
            let read = KeyFile::parse("keys.toml", &file.render()).unwrap();
            assert_eq!(read.render(), file.render());
            let mac = file.keyring().mac(Purpose::Tag, &[b"x"]);
            file = file.turned(Turn::Replace, &entropy, NOW).unwrap();
            assert_eq!(file.keyring().mac_by(mac.0, Purpose::Tag, &[b"x"]), Some(mac.1));
        }
        assert_eq!(ids(&file), (21, vec![20, 19, 18, 17, 16, 15, 14]));
    }

    #[test]
    fn a_key_is_understood_before_it_is_used() {
        let entropy = InsecureSeededEntropy::new(1);
        let mut file = KeyFile::generate(&entropy, NOW).unwrap();
        for id in 1..=254 {
            let refused = file.turned(Turn::Promote, &entropy, NOW);
            assert!(matches!(refused, Err(KeyFileError::NothingStaged)), "{refused:?}");
            let staged = file.turned(Turn::Stage, &entropy, NOW).unwrap();
            assert_eq!((staged.current(), staged.staged()), (KeyId(id), Some(KeyId(id + 1))));
            for turn in [Turn::Stage, Turn::Replace] {
                let refused = staged.turned(turn, &entropy, NOW);
                assert!(matches!(refused, Err(KeyFileError::Staged(staged)) if staged == id + 1), "{refused:?}");
            }
            let staged = KeyFile::parse("keys.toml", &staged.render()).unwrap();
            let promoted = staged.turned(Turn::Promote, &entropy, NOW).unwrap();
            assert_eq!((promoted.current(), promoted.staged()), (KeyId(id + 1), None));
            // What one makes, the other understands, both before and after.
            for (maker, reader) in [(&file, &staged), (&staged, &promoted), (&promoted, &staged)] {
                let (key, mac) = maker.keyring().mac(Purpose::Tag, &[b"x"]);
                assert_eq!(reader.keyring().mac_by(key, Purpose::Tag, &[b"x"]), Some(mac));
            }
            file = promoted;
        }
        assert_eq!(ids(&file), (255, vec![254, 253, 252, 251, 250, 249, 248]));
        assert_eq!(file.turned(Turn::Stage, &entropy, NOW).unwrap().staged(), Some(KeyId(1)));
    }

    #[test]
    fn ids_come_round_and_never_meet_one_that_is_kept() {
        let kept = |id| Kept { key: MasterKey::new(KeyId(id), [id; 32]), made: NOW };
        assert_eq!(next_id(KeyId(255), &[kept(255), kept(1), kept(2)]), KeyId(3));
    }

    #[test]
    fn a_first_run_makes_a_file_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/keys.toml");
        let (made, origin) = load_or_make(&path, &OsEntropy, NOW).unwrap();
        assert_eq!(origin, Origin::Made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let (read, origin) = load_or_make(&path, &OsEntropy, NOW).unwrap();
        assert_eq!((read.render(), origin), (made.render(), Origin::Read));
        assert_eq!(ids(&turn(&path, Turn::Replace, &OsEntropy, NOW).unwrap()), (2, vec![1]));
        assert_eq!(ids(&super::read(&path).unwrap()), (2, vec![1]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn who_comes_second_gets_the_keys_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let texts: Vec<_> = std::thread::scope(|scope| {
            let makers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| load_or_make(&path, &OsEntropy, NOW).unwrap().0)).collect();
            makers.into_iter().map(|maker| maker.join().unwrap().render()).collect()
        });
        assert!(texts.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_damaged_file_is_neither_replaced_nor_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let good = KeyFile::generate(&InsecureSeededEntropy::new(1), NOW).unwrap().render().to_string();
        let (_, secret) = good.split_once("secret = \"").unwrap();
        let secret: String = secret.chars().skip(4).take(26).collect();
        let again = good.split_once("\n[[key]]").unwrap().1;
        let damaged = [
            String::new(),
            "key = []".to_owned(),
            good.replace("version = 1", "version = 2"),
            good.replace("id = 1", "id = 0"),
            good.replace("id = 1", "name = 1"),
            good.replace("secret = \"", "secret = \"A"),
            good.replace("secret = \"", "secret = "),
            format!("{good}\n[[key]]{again}"),
        ];
        for text in damaged {
            fs::write(&path, &text).unwrap();
            let error = load_or_make(&path, &OsEntropy, NOW).unwrap_err();
            assert!(matches!(error, KeyFileError::Damaged(_)), "{text}");
            assert!(!error.to_string().contains(&secret), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
