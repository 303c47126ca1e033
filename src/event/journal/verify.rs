//! Checking a journal: what was changed in it, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::line::{Head, Line};
use super::read::{Read, read_line};
use super::seal::{STEPS_MAX, Seal, SealKey, State};
use super::segments::{self, beside};

/// Findings that are told; of more it is told how many.
pub const FINDINGS_MAX: usize = 1000;
/// How often the files are looked for again, if a guard puts one aside meanwhile.
const LOOKS_MAX: usize = 16;

/// Something that is not as it was written, or of which that can not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which file.
    pub file: PathBuf,
    /// In which line of it, from 1; 0 if it is none.
    pub line: u64,
    /// Which event, if there is a number.
    pub seq: Option<u64>,
    /// What.
    pub fault: Fault,
}

/// What is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The line is none of a journal.
    NoLine,
    /// The file ends within a line: the guard that wrote it was interrupted, or somebody has cut it.
    Half,
    /// These events are missing before it.
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// It stands behind a later one, or is there twice.
    OutOfOrder,
    /// Its hash is not that of itself and what stands before it: it was changed, or the line before it and its hash.
    Changed,
    /// It has no hash, and nothing can be told of it and of those behind it that have none.
    Unchained,
    /// A seal says that the chain was another one: everything before may have been written anew.
    WrongSeal,
    /// These seals are missing before it.
    MissingSeals {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A seal begins with it, and there are events before it that are under none.
    Unsealed,
    /// The key does not fit the seal: it is not the first key of this journal, or the seal is not its guard's.
    UnknownSeal,
    /// There is no seal at all, though there is a key.
    NoSeal,
    /// The guard has made more seals than there are: the end was cut off.
    LostSeals {
        /// Up to which number.
        to: u64,
    },
    /// A head that was written down elsewhere is not in the journal: the line has another hash.
    WrongHead,
    /// A head that was written down elsewhere is of an event that is not there: the end was cut off.
    NoHead,
    /// A head that was written down elsewhere is of an event that is not kept any more, and could not be checked.
    OldHead,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLine => f.write_str("is no line of a journal"),
            Self::Half => f.write_str("ends in the middle"),
            Self::Missing { from, to } if from == to => write!(f, "event {from} is missing before it"),
            Self::Missing { from, to } => write!(f, "events {from} to {to} are missing before it"),
            Self::OutOfOrder => f.write_str("stands behind a later event, or is there twice"),
            Self::Changed => f.write_str("was changed, or the line before it was and its hash with it"),
            Self::Unchained => f.write_str("has no hash: of it and of those behind it without one nothing can be told"),
            Self::WrongSeal => f.write_str("seals another chain: what stands before it may have been written anew"),
            Self::MissingSeals { from, to } if from == to => write!(f, "seal {from} is missing before it"),
            Self::MissingSeals { from, to } => write!(f, "seals {from} to {to} are missing before it"),
            Self::Unsealed => f.write_str("is where the first seal begins: no seal is over what stands before it"),
            Self::UnknownSeal => f.write_str("is a seal that this key did not make"),
            Self::NoSeal => {
                f.write_str("is the last one, and there is no seal: that it was written by the guard can not be told")
            }
            Self::LostSeals { to } => {
                write!(f, "is the last one, and the guard has made seals up to {to}: the end was cut off")
            }
            Self::WrongHead => f.write_str("has another hash than the one that was written down"),
            Self::NoHead => f.write_str("is not there, and was when its hash was written down: the end was cut off"),
            Self::OldHead => f.write_str("is not kept any more: the hash that was written down could not be checked"),
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many files.
    pub files: u64,
    /// How many events.
    pub events: u64,
    /// The first of them; what was before it is not kept.
    pub first: Option<u64>,
    /// The last of them and its hash: to be written down elsewhere.
    pub last: Option<(u64, Option<Head>)>,
    /// Numbers that no event has, or whose events were never on disk: the chain goes on over them.
    pub unused: u64,
    /// Seals that were checked with a key.
    pub seals: u64,
    /// Up to which event there is a seal.
    pub sealed_to: Option<u64>,
    /// What is not as it was written, in order.
    pub findings: Vec<Finding>,
    /// More than [`FINDINGS_MAX`].
    pub more: u64,
}

impl Report {
    /// Whether everything is as it was written, as far as that can be told.
    pub const fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX { self.findings.push(finding) } else { self.more += 1 }
    }
}

/// What a seal says in a line that a sink has written: the number of the last event that it is for, and the hash of that. The event
/// stands there as JSON of the guard's own, whatever is before it. None if it is no seal.
pub fn sealed_head(line: &str) -> Option<(u64, Head)> {
    memchr::memmem::find(line.as_bytes(), b"\"events.sealed\"")?;
    let event: serde_json::Value = serde_json::from_str(line.get(line.find("{\"ts\":")?..)?).ok()?;
    let is_seal = event.get("event")?.as_str()? == "events.sealed";
    is_seal.then_some((event.get("head_seq")?.as_u64()?, event.get("head")?.as_str()?.parse().ok()?))
}

/// Checks a journal.
#[derive(Debug)]
pub struct Verifier {
    journal: PathBuf,
    key: Option<SealKey>,
    /// How far a key may still be followed.
    steps_left: u64,
    /// By number, for there may be a year of seals.
    heads: BTreeMap<u64, Vec<Known>>,
    next_seal: Option<u64>,
}

/// A head that was written down elsewhere.
#[derive(Debug)]
struct Known {
    head: Head,
    by: By,
    is_checked: bool,
}

/// How it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Somebody asks for it.
    Asking,
    /// A seal told it, which may be older than what is kept.
    Seal,
}

/// What is known of the lines before.
#[derive(Default)]
struct Before {
    /// The number of the next one.
    next: Option<u64>,
    head: Option<Head>,
}

impl Verifier {
    /// A check of the chain.
    pub fn new(journal: impl Into<PathBuf>) -> Self {
        Self { journal: journal.into(), key: None, steps_left: STEPS_MAX, heads: BTreeMap::new(), next_seal: None }
    }

    /// Of seals too, with the first key of the journal.
    #[must_use]
    pub fn with_key(mut self, key: SealKey) -> Self {
        self.key = Some(key);
        self
    }

    /// And that the event of that number has the hash that was written down elsewhere.
    #[must_use]
    pub fn with_head(self, seq: u64, head: Head) -> Self {
        self.knows(seq, head, By::Asking)
    }

    /// The same of what a seal told that was kept elsewhere ([`sealed_head`]): of events that are not kept any more nothing is said.
    #[must_use]
    pub fn with_seal(self, seq: u64, head: Head) -> Self {
        self.knows(seq, head, By::Seal)
    }

    fn knows(mut self, seq: u64, head: Head, by: By) -> Self {
        self.heads.entry(seq).or_default().push(Known { head, by, is_checked: false });
        self
    }

    /// Reads all of it. A guard may write it at the same time.
    ///
    /// # Errors
    /// When it can not be read, or is not there.
    pub fn run(mut self) -> io::Result<Report> {
        let mut report = Report::default();
        let mut before = Before::default();
        let has_key = self.key.is_some();
        // Before the last seal is looked for: the guard may make another one meanwhile, but takes none back.
        let made = State::read(&self.journal).ok().flatten().map(|state| state.key.number());
        let all = self.open()?;
        let newest = all.len().saturating_sub(1);
        for (at, (path, file)) in all.into_iter().enumerate() {
            report.files += 1;
            self.file(&path, file, at == newest, &mut before, &mut report)?;
        }
        let last = report.last.map(|(last, _)| last);
        let of_last = |fault| Finding { file: self.journal.clone(), line: 0, seq: last, fault };
        if has_key && report.sealed_to.is_none() {
            report.add(of_last(Fault::NoSeal));
        }
        if let Some(to) = made.and_then(|made| made.checked_sub(1))
            && self.next_seal.unwrap_or(0) <= to
        {
            report.add(of_last(Fault::LostSeals { to }));
        }
        let first = report.first.unwrap_or(1);
        for (seq, known) in self.heads.iter().flat_map(|(seq, all)| all.iter().map(move |known| (seq, known))) {
            let fault = match (known.is_checked, *seq < first, known.by) {
                (true, ..) | (false, true, By::Seal) => continue,
                (false, true, By::Asking) => Fault::OldHead,
                (false, false, _) => Fault::NoHead,
            };
            report.add(Finding { file: self.journal.clone(), line: 0, seq: Some(*seq), fault });
        }
        Ok(report)
    }

    /// All files, open, as they are at one moment.
    fn open(&self) -> io::Result<Vec<(PathBuf, File)>> {
        for _ in 0..LOOKS_MAX {
            let all = segments::all(&self.journal)?;
            if all.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such journal"));
            }
            let opened: io::Result<Vec<_>> =
                all.iter().map(|segment| Ok((segment.path.clone(), File::open(&segment.path)?))).collect();
            let firsts = |all: &[segments::Segment]| all.iter().map(|segment| segment.first).collect::<Vec<_>>();
            match opened {
                Ok(opened) if firsts(&segments::all(&self.journal)?) == firsts(&all) => return Ok(opened),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Err(io::Error::new(io::ErrorKind::WouldBlock, "its files change too fast: try again"))
    }

    fn file(
        &mut self,
        path: &Path,
        file: File,
        is_newest: bool,
        before: &mut Before,
        report: &mut Report,
    ) -> io::Result<()> {
        let mut file = BufReader::with_capacity(256 * 1024, file);
        let mut text = Vec::new();
        for number in 1.. {
            let found = |seq, fault| Finding { file: path.to_owned(), line: number, seq, fault };
            match read_line(&mut file, &mut text)? {
                Read::End => break,
                Read::Half => {
                    // What a guard is about to write is no half line.
                    if !is_newest || !self.is_written() {
                        report.add(found(None, Fault::Half));
                    }
                    break;
                }
                Read::TooLong(_) => report.add(found(None, Fault::NoLine)),
                Read::Line(_) => match Line::parse(&text) {
                    Some(line) => self.line(&line, before, report, |fault| found(Some(line.seq), fault)),
                    None => report.add(found(None, Fault::NoLine)),
                },
            }
        }
        Ok(())
    }

    /// Whether a guard has the journal open now.
    fn is_written(&self) -> bool {
        File::open(beside(&self.journal, "lock")).is_ok_and(|lock| lock.try_lock_shared().is_err())
    }

    fn line(&mut self, line: &Line<'_>, before: &mut Before, report: &mut Report, found: impl Fn(Fault) -> Finding) {
        report.events += 1;
        let expected = before.next.unwrap_or(line.seq);
        if line.seq < expected {
            return report.add(found(Fault::OutOfOrder));
        }
        // The hash before it: as it was seen, or as it says it itself. The first line of all has none.
        let prev = before.head.or(line.prev).or((line.seq == 1).then_some(Head::FIRST));
        let fits = prev.zip(line.head).map(|(prev, head)| prev.with(line.body) == head);
        if line.seq > expected && fits == Some(true) {
            report.unused += line.seq - expected;
        } else if line.seq > expected {
            report.add(found(Fault::Missing { from: expected, to: line.seq - 1 }));
        } else if fits == Some(false) {
            report.add(found(Fault::Changed));
        }
        if line.head.is_none() && (before.head.is_some() || before.next.is_none()) {
            report.add(found(Fault::Unchained));
        }
        for known in self.heads.get_mut(&line.seq).into_iter().flatten() {
            known.is_checked = true;
            if line.head != Some(known.head) {
                report.add(found(Fault::WrongHead));
            }
        }
        if let Some(seal) = line.head.and_then(|_| Seal::of(line.body)) {
            self.seal(line.seq, &seal, before, report, &found);
        }
        report.first = report.first.or(Some(line.seq));
        report.last = Some((line.seq, line.head));
        // It is gone on from what the line says: of one change there is one finding.
        *before = Before { next: Some(line.seq + 1), head: line.head };
    }

    fn seal(&mut self, seq: u64, seal: &Seal, before: &Before, report: &mut Report, found: &impl Fn(Fault) -> Finding) {
        let span = &seal.span;
        // Of what is not there nothing more is known.
        let is_known = before.next == Some(seq);
        if span.head_seq.saturating_add(1) != seq || is_known && before.head != Some(span.head) {
            report.add(found(Fault::WrongSeal));
        }
        let first = report.first.unwrap_or(seq);
        let expected = self.next_seal.or((first == 1).then_some(0));
        match expected {
            Some(next) if seal.number > next => {
                report.add(found(Fault::MissingSeals { from: next, to: seal.number - 1 }));
            }
            Some(next) if seal.number < next => report.add(found(Fault::WrongSeal)),
            // The first one that is kept may begin before what is kept, and not behind it.
            _ if self.next_seal.is_none() && span.from_seq > first => report.add(found(Fault::Unsealed)),
            _ => {}
        }
        self.next_seal = Some(seal.number.saturating_add(1));
        report.sealed_to = Some(span.head_seq);
        let Some(key) = &self.key else { return };
        report.seals += 1;
        let steps = seal.number.checked_sub(key.number()).filter(|steps| *steps <= self.steps_left);
        match steps.and_then(|_| key.at(seal.number)) {
            Some(of_seal) if of_seal.made(seal) => {
                self.steps_left -= steps.unwrap_or(0);
                self.key = Some(of_seal.next());
            }
            _ => {
                // Each attempt costs as much, whoever made it up.
                self.steps_left -= steps.unwrap_or(0);
                report.add(found(Fault::UnknownSeal));
            }
        }
    }
}
