//! The highest counter of every signed rules file that was in force: what is older must not come back.
//!
//! | Line | Holds |
//! |---|---|
//! | first | `portcullis rules counters 1` |
//! | one for each file | its counter, SHA-256 of its content in hex, its path; sorted by path |
//! | last | `sum` and SHA-256 of all lines before it |
//!
//! The file is read before rules are put in force, and written when nothing else can keep them from it. It is never made anew by
//! itself: damaged, it is a fault, since a guard without it would take any old file that was ever signed. A guard that runs
//! remembers the counters besides, so that neither the file's removal nor an old copy of it makes it forget.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use super::durable::Draft;
use super::signed::SignedFile;
use super::{FILE_BYTES_MAX, Rulebook, Settings, read_text};
use crate::entropy::{Entropy, EntropyError};

/// The counters of all files, by the path of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, Last>);

/// What was in force last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    counter: u64,
    sha256: [u8; 32],
}

/// A file may not be put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outdated {
    /// It is older than what was.
    #[error("its counter is {counter}, and {seen} was in force")]
    Older {
        /// Its counter.
        counter: u64,
        /// The highest one.
        seen: u64,
    },
    /// Another content had its counter.
    #[error("another content with the counter {0} was in force")]
    Other(u64),
}

impl Outdated {
    /// The counter that a new signature has to be above.
    pub const fn seen(self) -> u64 {
        match self {
            Self::Older { seen, .. } => seen,
            Self::Other(seen) => seen,
        }
    }
}

/// The counters can not be kept.
#[derive(Debug, thiserror::Error)]
pub enum CountersError {
    /// The file can not be read or written.
    #[error("the counters of signed rules in {path} can not be {action}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error(
        "the counters of signed rules in {0} are damaged; put back a copy, or remove the file and start the guard anew, after \
         which any rules file that was ever signed is taken"
    )]
    Damaged(PathBuf),
    /// The file was there while the guard ran, and is not any more.
    #[error(
        "the counters of signed rules in {0} are gone; put back a copy, or start the guard anew, after which any rules file \
         that was ever signed is taken"
    )]
    Gone(PathBuf),
    /// A file became outdated after it was read.
    #[error("{path} is not put in force: {why}")]
    Outdated {
        /// The rules file.
        path: PathBuf,
        /// Why.
        why: Outdated,
    },
    /// There is no randomness for the name of a draft.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

const HEAD: &str = "portcullis rules counters 1\n";

impl Counters {
    /// Reads what [`render`](Self::render) wrote; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let lines = text.strip_prefix(HEAD)?.lines().take_while(|line| !line.starts_with("sum "));
        let entries = lines.map(|line| {
            let (counter, rest) = line.split_once(' ')?;
            let (sha256, path) = rest.split_once(' ')?;
            Some((path.to_owned(), Last { counter: counter.parse().ok()?, sha256: from_hex(sha256)? }))
        });
        let counters = Self(entries.collect::<Option<_>>()?);
        // Whatever is wrong, missing or twice, the text is not what would be written.
        (counters.render() == text).then_some(counters)
    }

    /// The text of the file.
    pub fn render(&self) -> String {
        let mut text = HEAD.to_owned();
        for (path, Last { counter, sha256 }) in &self.0 {
            text.push_str(&format!("{counter} {} {path}\n", hex(sha256)));
        }
        let sum = hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        text.push_str(&format!("sum {sum}\n"));
        text
    }

    /// Whether a file may be put in force.
    ///
    /// # Errors
    /// When a newer one was, or another one with its counter.
    pub fn check(&self, file: &SignedFile) -> Result<(), Outdated> {
        match self.0.get(&file.name) {
            Some(last) if file.counter < last.counter => {
                Err(Outdated::Older { counter: file.counter, seen: last.counter })
            }
            Some(last) if file.counter == last.counter && file.sha256 != last.sha256 => {
                Err(Outdated::Other(last.counter))
            }
            _ => Ok(()),
        }
    }

    /// Takes note of files that are in force.
    #[must_use]
    pub fn raised(&self, files: &[SignedFile]) -> Self {
        let mut raised = self.clone();
        for SignedFile { name, counter, sha256, .. } in files {
            raised.0.insert(name.clone(), Last { counter: *counter, sha256: *sha256 });
        }
        raised
    }

    /// What is known of either: of each file the higher counter.
    fn with(mut self, other: &Self) -> Self {
        for (name, last) in &other.0 {
            let known = self.0.entry(name.clone()).or_insert(*last);
            if known.counter <= last.counter {
                *known = *last;
            }
        }
        self
    }

    /// The files that were in force, each with its counter.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, last)| (name.as_str(), last.counter))
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes().as_chunks::<2>();
    let (pairs, []) = digits else { return None };
    let each = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(each).collect();
    bytes?.try_into().ok()
}

/// What a guard that runs knows of the counters, whatever becomes of their file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    counters: Counters,
    /// Where the file was seen or written.
    file: Option<PathBuf>,
}

impl Remembered {
    /// The counters that count: the higher ones of the file and of what is remembered. `text` reads the file.
    pub(super) fn known(
        &self,
        path: &Path,
        text: impl FnOnce(&Path) -> io::Result<String>,
    ) -> Result<Counters, CountersError> {
        Ok(self.on_disk(path, text)?.unwrap_or_default().with(&self.counters))
    }

    /// What the file says. None if it is not there, and never was.
    fn on_disk(
        &self,
        path: &Path,
        text: impl FnOnce(&Path) -> io::Result<String>,
    ) -> Result<Option<Counters>, CountersError> {
        match text(path) {
            Ok(text) => Counters::parse(&text).map(Some).ok_or_else(|| CountersError::Damaged(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.file.as_deref() == Some(path) {
                true => Err(CountersError::Gone(path.to_owned())),
                false => Ok(None),
            },
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(CountersError::Damaged(path.to_owned())),
            Err(source) => Err(CountersError::Io { path: path.to_owned(), action: "read", source }),
        }
    }
}

/// Counters that are not in their place yet: what can fail for want of space or rights has been done.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    path: PathBuf,
    remembered: Remembered,
    /// None if the file says what it should, or is not needed.
    draft: Option<Draft>,
}

/// Makes the counters of these rules ready, before they are put in force.
///
/// # Errors
/// When the counters can not be read or written, or when a file is outdated.
pub fn prepare(
    settings: &Settings,
    rules: &Rulebook,
    remembered: &Remembered,
    entropy: &dyn Entropy,
) -> Result<Pending, CountersError> {
    let path = settings.counters();
    if settings.rules.signed_by.is_empty() {
        // Who asks for signatures later has not forgotten what was in force before.
        return Ok(Pending { path, remembered: remembered.clone(), draft: None });
    }
    let on_disk = remembered.on_disk(&path, read_text)?;
    let known = on_disk.clone().unwrap_or_default().with(&remembered.counters);
    for file in rules.signed() {
        known.check(file).map_err(|why| CountersError::Outdated { path: file.path.clone(), why })?;
    }
    let counters = known.raised(rules.signed());
    let remembered = |file| Remembered { counters: counters.clone(), file };
    if on_disk.as_ref() == Some(&counters) {
        return Ok(Pending { remembered: remembered(Some(path.clone())), path, draft: None });
    }
    if on_disk.is_none() && counters == Counters::default() {
        return Ok(Pending { remembered: remembered(None), path, draft: None });
    }
    let failed = |source| CountersError::Io { path: path.clone(), action: "written", source };
    let text = counters.render();
    if text.len() > FILE_BYTES_MAX {
        return Err(failed(io::Error::other("there are too many files to keep in mind")));
    }
    let number = u64::from_be_bytes(crate::entropy::random(entropy)?);
    let draft = Draft::write(&path, text.as_bytes(), number).map_err(failed)?;
    Ok(Pending { remembered: remembered(Some(path.clone())), path, draft: Some(draft) })
}

/// Whether the file was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was written.
    Written,
    /// It is as it was.
    AsItWas,
}

impl Pending {
    /// Keeps them, and tells what is to be remembered from now on.
    ///
    /// # Errors
    /// When the file can not be replaced.
    pub fn keep(self) -> Result<(Kept, Remembered), CountersError> {
        let Self { path, remembered, draft } = self;
        let Some(draft) = draft else { return Ok((Kept::AsItWas, remembered)) };
        draft.replace().map_err(|source| CountersError::Io { path, action: "written", source })?;
        Ok((Kept::Written, remembered))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, counter: u64, byte: u8) -> SignedFile {
        SignedFile { path: name.into(), name: name.to_owned(), counter, sha256: [byte; 32] }
    }

    #[test]
    fn only_a_higher_counter_or_the_same_content_may_follow() {
        let counters = Counters::default().raised(&[file("a", 5, 1), file("b", 1, 1)]);
        let check = |file: &SignedFile, expected| assert_eq!(counters.check(file), expected, "{file:?}");
        check(&file("a", 5, 1), Ok(()));
        check(&file("a", 6, 1), Ok(()));
        check(&file("a", u64::MAX, 2), Ok(()));
        check(&file("c", 0, 9), Ok(()));
        check(&file("a", 4, 1), Err(Outdated::Older { counter: 4, seen: 5 }));
        check(&file("a", 5, 2), Err(Outdated::Other(5)));
    }

    #[test]
    fn of_two_that_know_a_file_the_one_with_the_higher_counter_is_believed() {
        let of = |files: &[SignedFile]| Counters::default().raised(files);
        let disk = of(&[file("a", 5, 1), file("b", 9, 1), file("c", 1, 1)]);
        let memory = of(&[file("a", 7, 2), file("b", 8, 2), file("d", 1, 2)]);
        let both = of(&[file("a", 7, 2), file("b", 9, 1), file("c", 1, 1), file("d", 1, 2)]);
        assert_eq!(disk.clone().with(&memory), both);
        assert_eq!(memory.with(&disk), both);
    }

    #[test]
    fn a_text_has_one_spelling() {
        let text = Counters::default().raised(&[file("rules/a b.toml", 20_261_128, 0xab), file("z", 0, 1)]).render();
        let hash = "ab".repeat(32);
        assert!(text.starts_with(&format!("{HEAD}20261128 {hash} rules/a b.toml\n0 ")), "{text}");
        for (from, to) in
            [("20261128", "020261128"), ("20261128", "+20261128"), ("ab", "AB"), ("\n", "\r\n"), ("1\n", "2\n")]
        {
            assert!(Counters::parse(&text.replacen(from, to, 1)).is_none(), "{from} {to}");
        }
        assert!(Counters::parse("").is_none() && Counters::parse(HEAD).is_none());
        assert!(Counters::parse(&format!("{text}\n")).is_none());
    }

    proptest! {
        #[test]
        fn counters_are_read_back_and_no_damage_goes_unnoticed(
            files in prop::collection::vec(("[a-z/. ]{1,20}", any::<u64>(), any::<u8>()), 0..8),
            at in any::<prop::sample::Index>(),
            with in any::<u8>(),
        ) {
            let files: Vec<_> = files.iter().map(|(name, counter, byte)| file(name, *counter, *byte)).collect();
            let counters = Counters::default().raised(&files);
            let text = counters.render();
            prop_assert_eq!(Counters::parse(&text), Some(counters));
            let mut damaged = text.clone().into_bytes();
            let at = at.index(damaged.len());
            damaged[at] = with;
            if let Ok(damaged) = String::from_utf8(damaged) {
                prop_assert!(damaged == text || Counters::parse(&damaged).is_none(), "{damaged}");
            }
            prop_assert!(text.get(..at).is_none_or(|cut| Counters::parse(cut).is_none()));
        }
    }
}
