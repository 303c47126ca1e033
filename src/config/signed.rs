//! Signatures of rules files, as minisign makes them: `FILE.minisig` beside each file.
//!
//! The signature is of the very bytes that are compiled, which are read once. Its trusted comment, which is signed too, says
//! which file it is for and which state of it: `portcullis:counter=2026112801 file=rules/shop.toml`. Without the path, from
//! the folder of the configuration, one signed file could be put in the place of another, also of one that is called the same
//! in another folder; without the counter, an old one in the place of a new one.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::digest;
use minisign_verify::{Error, PublicKey, Signature};

use super::counters::{Counters, CountersError, Remembered};
use super::reading::{Reading, fits};
use super::settings::Settings;
use crate::rules::diagnostic::{Fault, Level};

/// A public key of minisign: the second line of its `.pub` file.
#[derive(Clone, PartialEq, Eq)]
pub struct RulesKey(PublicKey);

/// The text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a public key of minisign: the 56 characters that begin with RW in its .pub file")]
pub struct NotAKey;

impl FromStr for RulesKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        if !text.starts_with("RW") || text.len() != 56 {
            return Err(NotAKey);
        }
        PublicKey::from_base64(text).map(Self).ok().ok_or(NotAKey)
    }
}

impl fmt::Debug for RulesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RulesKey")
    }
}

/// A file whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFile {
    /// The file.
    pub path: PathBuf,
    /// What it is remembered by: its path from the folder of the configuration.
    pub name: String,
    /// Its counter.
    pub counter: u64,
    /// The hash of what is in it.
    pub sha256: [u8; 32],
}

/// A file was not what it should be; what exactly, is told as a fault.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("its signature is missing or wrong, or it is older than what was in force")]
pub(super) struct NotTrusted;

/// Checks signatures while rules are read.
pub(super) struct Signatures<'a> {
    keys: &'a [RulesKey],
    base: &'a Path,
    reading: &'a Reading,
    counters: Counters,
    found: RefCell<Vec<SignedFile>>,
    faults: RefCell<Vec<Fault>>,
}

/// The setting that all of this is about.
const KEY: &str = "rules.signed_by";

impl<'a> Signatures<'a> {
    /// None if nobody asks for signatures. `base` is the folder of the configuration.
    pub(super) fn asked(
        settings: &'a Settings,
        base: &'a Path,
        reading: &'a Reading,
        remembered: &Remembered,
    ) -> Option<Self> {
        let keys = settings.rules.signed_by.as_slice();
        if keys.is_empty() {
            return None;
        }
        let mut faults = Vec::new();
        let counters = remembered.known(&settings.counters(), |path| reading.text(path)).unwrap_or_else(|error| {
            // Who only checks may not be allowed to read them; to put rules in force they are read again.
            let level = match &error {
                CountersError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Level::Warning,
                _ => Level::Fault,
            };
            faults.push(Fault::new(level, "rules.counters", error.to_string()));
            Counters::default()
        });
        Some(Self { keys, base, reading, counters, found: RefCell::default(), faults: RefCell::new(faults) })
    }

    /// Whether a file was in force under signature: it must not become something else.
    pub(super) fn knows(&self, path: &Path) -> bool {
        self.name(path).is_ok_and(|name| self.counters.knows(&name))
    }

    /// Takes a file if its signature is good and it is not outdated. Tells what is wrong else.
    pub(super) fn check(&self, path: &Path, text: &str) -> Result<(), NotTrusted> {
        match self.verify(path, text) {
            Ok(file) => {
                self.found.borrow_mut().push(file);
                Ok(())
            }
            Err(fault) => {
                self.faults.borrow_mut().push(*fault);
                Err(NotTrusted)
            }
        }
    }

    fn verify(&self, path: &Path, text: &str) -> Result<SignedFile, Box<Fault>> {
        let beside = beside(path);
        let (shown, shown_beside) = (path.display(), beside.display());
        let named = self.name(path).map_err(|why| {
            Box::new(Fault::new(Level::Fault, KEY, format!("no signature can be made for {shown}: {why}")))
        })?;
        let fault = |message: String, above: Option<u64>| {
            Box::new(Fault::new(Level::Fault, KEY, message).with_help(Some(command(path, &named, above))))
        };
        let written = self.reading.text(&beside).map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => fault(format!("{shown} is not signed: there is no {shown_beside}"), None),
            _ => fault(format!("{shown_beside} can not be read: {why}"), None),
        })?;
        let signature = Signature::decode(&written)
            .map_err(|why| fault(format!("{shown_beside} is no signature of minisign: {}", worded(&why)), None))?;
        self.by_a_key(text, &signature).map_err(|why| {
            let message = match why {
                Error::UnexpectedKeyId => format!("{shown} is signed with a key that is not listed"),
                Error::UnexpectedAlgorithm => format!("{shown_beside} is a signature of an old kind (legacy)"),
                _ => format!("{shown} is not what was signed: the file or {shown_beside} was changed"),
            };
            fault(message, None)
        })?;
        let comment = signature.trusted_comment();
        let Some((counter, name)) = comment_of(comment) else {
            let message = format!("the trusted comment of {shown_beside} does not say which state of the file this is");
            return Err(fault(message, None));
        };
        if name != named {
            return Err(fault(format!("{shown_beside} was made for {name}, and stands beside {named}"), None));
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        let file = SignedFile { path: path.to_owned(), name: named.clone(), counter, sha256 };
        match self.counters.check(&file) {
            Ok(()) => Ok(file),
            Err(why) => Err(fault(format!("{shown} is outdated: {why}"), Some(why.seen()))),
        }
    }

    /// Whether one of the keys made the signature. If none did, the error that says most.
    fn by_a_key(&self, text: &str, signature: &Signature) -> Result<(), Error> {
        let mut wrong = Error::UnexpectedKeyId;
        for RulesKey(key) in self.keys {
            match key.verify(text.as_bytes(), signature, false) {
                Ok(()) => return Ok(()),
                Err(Error::UnexpectedKeyId) => {}
                Err(other) => wrong = other,
            }
        }
        Err(wrong)
    }

    /// A file that was in force and is gone took its rules with it, as an older state of it would: a fault, as long as the
    /// patterns would match it.
    pub(super) fn note_gone(&self, patterns: &[PathBuf], there: &[PathBuf]) {
        let there: Vec<String> = there.iter().filter_map(|path| self.name(path).ok()).collect();
        for (name, counter) in self.counters.files().filter(|(name, _)| !there.iter().any(|other| other == name)) {
            let path = self.base.join(name);
            let is_meant = patterns.iter().any(|pattern| {
                let same_folder = self.name(pattern).ok().map(|name| PathBuf::from(name).parent().map(Path::to_owned))
                    == Some(Path::new(name).parent().map(Path::to_owned));
                same_folder && fits(pattern, &path)
            });
            if is_meant {
                let message = format!("{} was in force with the counter {counter}, and is gone", path.display());
                let help = "put it back; to be rid of its rules, sign one without any in its place";
                self.faults.borrow_mut().push(Fault::new(Level::Fault, KEY, message).with_help(Some(help.to_owned())));
            }
        }
    }

    /// What a file is signed and remembered by.
    fn name(&self, path: &Path) -> io::Result<String> {
        let base = if self.base.as_os_str().is_empty() { Path::new(".") } else { self.base };
        let (base, path) = (std::path::absolute(base)?, std::path::absolute(path)?);
        let path = straight(path.strip_prefix(base).unwrap_or(&path));
        let name = path.to_str().filter(|name| !name.contains(['\n', '\r']));
        name.map(str::to_owned).ok_or_else(|| io::Error::other("its name is no plain text"))
    }

    /// What is wrong so far.
    pub(super) fn take_faults(&self) -> Vec<Fault> {
        std::mem::take(&mut *self.faults.borrow_mut())
    }

    /// The files that were taken, each once.
    pub(super) fn into_files(self) -> Vec<SignedFile> {
        let mut files = self.found.into_inner();
        files.sort_by(|a, b| (&a.name, a.counter).cmp(&(&b.name, b.counter)));
        files.dedup_by(|later, first| later.name == first.name && later.counter == first.counter);
        files
    }
}

/// The path without ways there and back: a set is one file, whichever folder's rules name it.
fn straight(path: &Path) -> PathBuf {
    let mut straight = PathBuf::new();
    for part in path.components() {
        let is_back = part == Component::ParentDir;
        if is_back && matches!(straight.components().next_back(), Some(Component::Normal(_))) {
            straight.pop();
        } else {
            straight.push(part);
        }
    }
    straight
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
}

/// `portcullis:counter=N file=NAME`, in that spelling alone.
fn comment_of(comment: &str) -> Option<(u64, &str)> {
    let (number, name) = comment.strip_prefix("portcullis:counter=")?.split_once(" file=")?;
    let counter: u64 = number.parse().ok()?;
    (counter.to_string() == number).then_some((counter, name))
}

/// The command that makes a signature.
fn command(path: &Path, name: &str, above: Option<u64>) -> String {
    let number = match above {
        Some(seen) => format!("a whole number above {seen}"),
        None => "a whole number that grows with every state of the file, such as 2026112801".to_owned(),
    };
    let comment = format!("portcullis:counter=N file={name}");
    format!("minisign -Sm {} -t {}, where N is {number}", quoted(&path.to_string_lossy(), ""), quoted(&comment, "\""))
}

/// A word for the shell: with these quotes if it is plain.
fn quoted(word: &str, quotes: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=".contains(c) || (c == ' ' && !quotes.is_empty());
    if word.chars().all(is_plain) {
        format!("{quotes}{word}{quotes}")
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn worded(error: &Error) -> &'static str {
    match error {
        Error::UnsupportedAlgorithm => "its kind is not known",
        _ => "it is incomplete or damaged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_has_one_spelling() {
        let check = |text: &str, expected: Option<(u64, &str)>| assert_eq!(comment_of(text), expected, "{text}");
        check("portcullis:counter=1 file=rules/shop.toml", Some((1, "rules/shop.toml")));
        check("portcullis:counter=0 file=a file=b c.toml", Some((0, "a file=b c.toml")));
        check("portcullis:counter=18446744073709551615 file=a", Some((u64::MAX, "a")));
        for bad in [
            "",
            "timestamp:1763722800\tfile:shop.toml\thashed",
            "portcullis:counter=1",
            "portcullis:counter= file=a",
            "portcullis:counter=01 file=a",
            "portcullis:counter=+1 file=a",
            "portcullis:counter=-1 file=a",
            "portcullis:counter=18446744073709551616 file=a",
            "portcullis:counter=1  file=a",
            " portcullis:counter=1 file=a",
            "Portcullis:counter=1 file=a",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn the_command_is_one_that_a_shell_understands() {
        let check = |path: &str, expected: &str| {
            let command = command(&Path::new("/etc").join(path), path, Some(4));
            assert_eq!(command, format!("minisign -Sm {expected}, where N is a whole number above 4"));
        };
        check("rules/shop.toml", "/etc/rules/shop.toml -t \"portcullis:counter=N file=rules/shop.toml\"");
        check("my rules/$a.toml", "'/etc/my rules/$a.toml' -t 'portcullis:counter=N file=my rules/$a.toml'");
        check("it's.toml", "'/etc/it'\\''s.toml' -t 'portcullis:counter=N file=it'\\''s.toml'");
    }

    #[test]
    fn a_file_has_one_name_whichever_way_it_is_reached() {
        let check = |path: &str, expected: &str| assert_eq!(straight(Path::new(path)), Path::new(expected), "{path}");
        check("rules/shop.toml", "rules/shop.toml");
        check("rules/eu/../us/./office.txt", "rules/us/office.txt");
        check("rules/../office.txt", "office.txt");
        check("../lists/../../office.txt", "../../office.txt");
        check("/srv/rules/../office.txt", "/srv/office.txt");
    }

    #[test]
    fn a_key_is_the_second_line_of_its_file() {
        let key = "RWQBAgMEBQYHCAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
        assert!(key.parse::<RulesKey>().is_ok());
        let cut = key.get(..55).unwrap_or_default();
        let short = format!("untrusted comment: minisign public key\n{key}");
        for bad in
            ["", "RW", cut, &format!("{key}A"), &key.replace("RWQ", "RWR!"), &short, &key.replacen("RW", "AA", 1)]
        {
            assert_eq!(bad.parse::<RulesKey>(), Err(NotAKey), "{bad}");
        }
    }
}
