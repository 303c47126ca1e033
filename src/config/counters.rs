//! The highest counter of every signed rules file that was in force: what is older must not come back.
//!
//! | Line | Holds |
//! |---|---|
//! | first | `portcullis rules counters 1` |
//! | one for each file | its counter, SHA-256 of its content in hex, its path; sorted by path |
//! | last | `sum` and SHA-256 of all lines before it |
//!
//! The file is written after rules were put in force, and read before any are. It is never made anew by itself: damaged, it
//! is a fault, since a guard without it would take any old file that was ever signed.

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
        "the counters of signed rules in {0} are damaged; put back a copy, or remove the file to begin anew, after which any \
         rules file that was ever signed is taken"
    )]
    Damaged(PathBuf),
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

/// Reads a file with `text`. One that is not there is one without counters.
pub(super) fn read(path: &Path, text: impl FnOnce(&Path) -> io::Result<String>) -> Result<Counters, CountersError> {
    match text(path) {
        Ok(text) => Counters::parse(&text).ok_or_else(|| CountersError::Damaged(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Counters::default()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(CountersError::Damaged(path.to_owned())),
        Err(source) => Err(CountersError::Io { path: path.to_owned(), action: "read", source }),
    }
}

/// Counters that are written and not in their place yet: what can fail for want of space or rights has been done.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    path: PathBuf,
    draft: Draft,
}

/// Makes the counters of these rules ready, before they are put in force; none if there is nothing new.
///
/// # Errors
/// When the counters can not be read or written, or when a file is outdated.
pub fn prepare(settings: &Settings, rules: &Rulebook, entropy: &dyn Entropy) -> Result<Option<Pending>, CountersError> {
    let files = rules.signed();
    if files.is_empty() {
        return Ok(None);
    }
    let path = settings.counters();
    let known = read(&path, read_text)?;
    for file in files {
        known.check(file).map_err(|why| CountersError::Outdated { path: file.path.clone(), why })?;
    }
    let raised = known.raised(files);
    if raised == known {
        return Ok(None);
    }
    let failed = |source| CountersError::Io { path: path.clone(), action: "written", source };
    let text = raised.render();
    if text.len() > FILE_BYTES_MAX {
        return Err(failed(io::Error::other("there are too many files to keep in mind")));
    }
    let number = u64::from_be_bytes(crate::entropy::random(entropy)?);
    let draft = Draft::write(&path, text.as_bytes(), number).map_err(failed)?;
    Ok(Some(Pending { path, draft }))
}

impl Pending {
    /// Keeps them, now that the rules are in force.
    ///
    /// # Errors
    /// When that fails: the rules are in force all the same, and those before them could come back.
    pub fn keep(self) -> Result<(), CountersError> {
        let Self { path, draft } = self;
        draft.replace().map_err(|source| CountersError::Io { path, action: "written", source })
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
