//! The files of a journal, and those beside it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::line::Line;
use crate::clock::Timestamp;

/// Digits of the number that a file is put aside under.
const DIGITS: usize = 20;

/// A file of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The number of its first event; none of a file that is empty.
    pub(super) first: Option<u64>,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// The path of a file beside the journal.
pub(super) fn beside(journal: &Path, suffix: &str) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Where a file is put aside whose first event has that number.
pub(super) fn aside(journal: &Path, first: u64) -> PathBuf {
    beside(journal, &format!("{first:0DIGITS$}"))
}

/// The folder that a file is in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The files that were put aside, oldest first.
pub(super) fn closed(journal: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    let name = journal.file_name().unwrap_or_default().to_string_lossy();
    let first_of = |file: &OsStr| {
        let digits = file.to_str()?.strip_prefix(&*name)?.strip_prefix('.')?;
        (digits.len() == DIGITS).then(|| digits.parse::<u64>().ok()).flatten()
    };
    for entry in fs::read_dir(folder(journal))? {
        let entry = entry?;
        if let Some(first) = first_of(&entry.file_name()) {
            match entry.metadata() {
                Ok(about) => found.push(Segment { first: Some(first), path: entry.path(), bytes: about.len() }),
                // It was forgotten just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    found.sort_unstable_by_key(|segment| segment.first);
    Ok(found)
}

/// Takes the second name away from the newest file, if somebody was interrupted when it was to be put aside.
pub(super) fn untangle(journal: &Path, closed: &mut Vec<Segment>) -> io::Result<()> {
    let newest = fs::metadata(journal)?;
    let identity = |found: &fs::Metadata| (found.dev(), found.ino());
    if let Some(last) = closed.last()
        && identity(&fs::metadata(&last.path)?) == identity(&newest)
    {
        fs::remove_file(&last.path)?;
        closed.pop();
    }
    Ok(())
}

/// All files, oldest first: the last one is written to, if it is there.
pub(super) fn all(journal: &Path) -> io::Result<Vec<Segment>> {
    loop {
        let before = closed(journal)?;
        let newest = match File::open(journal) {
            Ok(file) => {
                let bytes = file.metadata()?.len();
                Some(Segment { first: first_line(&file)?.map(|(seq, _)| seq), path: journal.to_owned(), bytes })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        // The newest one may have been put aside between two looks.
        let after = closed(journal)?;
        if after.last().map(|last| &last.path) == before.last().map(|last| &last.path) {
            // One that is just being put aside has two names.
            let last = after.last().and_then(|last| last.first);
            let newest = newest.filter(|newest| newest.first.is_none() || newest.first != last);
            return Ok(after.into_iter().chain(newest).collect());
        }
    }
}

/// The files of a journal, oldest first; of a path that is no journal, that alone. What was put aside goes sooner or later, perhaps
/// before it is read.
///
/// # Errors
/// When there is no such file, or the folder can not be read.
pub fn files(journal: &Path) -> io::Result<Vec<PathBuf>> {
    // A pipe can be read once.
    if fs::metadata(journal).is_ok_and(|about| !about.is_file()) {
        return Ok(vec![journal.to_owned()]);
    }
    let all = all(journal)?;
    if all.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(all.into_iter().map(|segment| segment.path).collect())
}

/// The numbers of the first events of all files, oldest first.
///
/// # Errors
/// When the folder can not be read.
pub fn firsts(journal: &Path) -> io::Result<Vec<u64>> {
    Ok(all(journal)?.into_iter().filter_map(|segment| segment.first).collect())
}

/// The number and time of the first event of a file.
pub(super) fn first_line(file: &File) -> io::Result<Option<(u64, Option<Timestamp>)>> {
    let mut line = Vec::new();
    let limit = u64::try_from(super::LINE_BYTES_MAX).unwrap_or(u64::MAX);
    BufReader::new(io::Read::take(file, limit)).read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").unwrap_or_default();
    Ok(Line::parse(line).map(|line| (line.seq, line.ts())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_order_and_others_are_none_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("events.jsonl");
        assert_eq!(all(&journal).unwrap(), []);
        for (name, text) in [
            ("events.jsonl", "{\"ts\":1,\"seq\":30}\n"),
            ("events.jsonl.00000000000000000020", "ab"),
            ("events.jsonl.00000000000000000003", "a"),
            ("events.jsonl.1", ""),
            ("events.jsonl.0000000000000000002x", ""),
            ("other.jsonl.00000000000000000001", ""),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let found: Vec<_> = all(&journal).unwrap().into_iter().map(|segment| (segment.first, segment.bytes)).collect();
        assert_eq!(found, [(Some(3), 1), (Some(20), 2), (Some(30), 18)]);
        assert_eq!(aside(&journal, 20), all(&journal).unwrap()[1].path);
    }
}
