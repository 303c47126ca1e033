//! `portcullis events tail`, `verify` and `seal-key`: the journal, for people and scripts.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis::clock::{Clock as _, SystemClock, Timestamp};
use portcullis::config::resolve::Overrides;
use portcullis::config::{Faults, Location, Request, Settings, settings_of};
use portcullis::event::encode::{Colour, Encoder, FACILITY_DEFAULT, Format as LineFormat, Message};
use portcullis::event::journal::{self, Head, Next, Position, Reader, Report, SealKey, Verifier};
use portcullis::event::{Record, Severity};
use portcullis::net::IpPrefix;
use serde_json::{Map, Value, json};

use super::events_args::LinesFormat;
use super::{ColorChoice, EventsAction, Exit, Format, JournalArgs, Streams};

/// How often it is looked whether something has come.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{} can not be read: {why}", path.display())]
    File { path: PathBuf, why: io::Error },
    #[error("{}: {why}", path.display())]
    Key { path: PathBuf, why: journal::SealKeyError },
    #[error("`{0}` is no number of an event and hash: expected 17:HASH, as a check tells the last event")]
    Head(String),
    #[error("{} has no seals: expected lines with `events.sealed` as JSON, as a sink writes them", path.display())]
    NoSeals { path: PathBuf },
    #[error("`{0}` is not of the form KEY=VALUE or KEY!=VALUE")]
    Wanted(String),
    #[error("{} is not here any more: it was put elsewhere. A new one is begun with a new journal", key.display())]
    KeyGone { key: PathBuf },
    #[error("{}: {why}. The key is still beside the journal", path.display())]
    NotKept { path: PathBuf, why: io::Error },
    #[error("no journal is kept: [events] has no `journal`; name one with --journal FILE")]
    NoJournal,
    #[error("{0}")]
    Configuration(Faults),
    #[error("{0}")]
    Streams(#[from] io::Error),
}

pub(super) fn run(action: &EventsAction, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let done = match action {
        EventsAction::Tail { .. } => tail(action, streams),
        EventsAction::Verify { journal, key, heads, seals, format } => {
            path_of(journal).and_then(|path| verify(&path, key.as_deref(), (heads, seals), *format, streams))
        }
        EventsAction::SealKey { journal, to, forget } => {
            path_of(journal).and_then(|path| seal_key(&path, to.as_deref(), *forget, streams))
        }
        _ => Ok(Exit::Usage),
    };
    match done {
        Ok(exit) => Ok(exit),
        // Whoever has read enough closes the pipe.
        Err(Failure::Streams(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(Failure::Streams(error)) => Err(error),
        Err(Failure::Configuration(faults)) => {
            write!(streams.err, "{faults}")?;
            Ok(Exit::BadConfiguration)
        }
        Err(failure) => {
            writeln!(streams.err, "portcullis: {failure}")?;
            Ok(match failure {
                Failure::Head(_) | Failure::Wanted(_) => Exit::Usage,
                _ => Exit::Runtime,
            })
        }
    }
}

fn path_of(args: &JournalArgs) -> Result<PathBuf, Failure> {
    if let Some(path) = &args.journal {
        return Ok(path.clone());
    }
    let settings = settings(args.config.as_ref()).map_err(Failure::Configuration)?;
    settings.events.journal.map(|journal| journal.path).ok_or(Failure::NoJournal)
}

/// The settings of a configuration. Which app is guarded makes no difference here, and may be said to `run` alone.
pub(super) fn settings(config: Option<&PathBuf>) -> Result<Settings, Faults> {
    let overrides = Overrides { upstream: Some(Location::Unix(PathBuf::from("app.sock"))), ..Overrides::default() };
    let request = Request { file: config.cloned(), preset: None, overrides };
    settings_of(&request, SystemClock::new().now())
}

// ---- tail ----------------------------------------------------------------------------------------------------------

/// Which events are shown.
struct Wanted {
    min: Option<Severity>,
    kinds: Vec<String>,
    values: Vec<Asked>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Wanted {
    fn is_all(&self) -> bool {
        let is_timed = self.since.is_some() || self.until.is_some();
        self.min.is_none() && self.kinds.is_empty() && self.values.is_empty() && !is_timed
    }

    fn has(&self, line: &[u8]) -> bool {
        if self.is_all() {
            return true;
        }
        let Ok(event) = serde_json::from_slice::<Map<String, Value>>(line) else { return false };
        let word = |key| event.get(key).and_then(Value::as_str);
        let is_kind = |kind: &String| {
            word("event").is_some_and(|name| name == kind || kind.ends_with('.') && name.starts_with(kind))
        };
        let ts = || word("ts").and_then(|ts| ts.parse::<Timestamp>().ok());
        let severity = || word("severity").and_then(|word| word.parse::<Severity>().ok());
        self.since.is_none_or(|since| ts().is_some_and(|ts| ts >= since))
            && self.until.is_none_or(|until| ts().is_some_and(|ts| ts <= until))
            && self.min.is_none_or(|min| severity().is_some_and(|severity| severity >= min))
            && (self.kinds.is_empty() || self.kinds.iter().any(is_kind))
            && self.values.iter().all(|asked| asked.is_so(&event))
    }
}

/// What is asked of a value of an event.
struct Asked {
    key: String,
    is_wanted: bool,
    value: Form,
}

/// What a value is to be.
enum Form {
    Text(String),
    /// It begins so.
    Begin(String),
    /// An address of this network.
    Network(IpPrefix),
}

impl Asked {
    /// Reads `ip=203.0.113.0/24` or `ua!=Fire*`.
    fn parse(text: &str) -> Option<Self> {
        let (key, value) = text.split_once('=')?;
        let (key, is_wanted) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
        let network = || value.contains('/').then(|| value.parse().ok()).flatten();
        let value = match value.strip_suffix('*') {
            Some(begin) => Form::Begin(begin.to_owned()),
            None => network().map_or_else(|| Form::Text(value.to_owned()), Form::Network),
        };
        Some(Self { key: key.to_owned(), is_wanted, value })
    }

    fn is_so(&self, event: &Map<String, Value>) -> bool {
        // One level deep there are names with dots in them: `reasons.network.asn`.
        let inner = || self.key.split_once('.').and_then(|(key, inner)| event.get(key)?.get(inner));
        let is = match event.get(&self.key).or_else(inner) {
            Some(Value::String(text)) => self.value.is(text),
            Some(other) => serde_json::to_string(other).is_ok_and(|text| self.value.is(&text)),
            None => false,
        };
        is == self.is_wanted
    }
}

impl Form {
    fn is(&self, text: &str) -> bool {
        match self {
            Self::Text(value) => text == value,
            Self::Begin(begin) => text.starts_with(begin.as_str()),
            // What is no address may be written as it was asked for: a route, a prefix.
            Self::Network(network) => text.parse().is_ok_and(|ip| network.contains(ip)) || text == network.to_string(),
        }
    }
}

fn tail(action: &EventsAction, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let EventsAction::Tail { journal, lines, from, since, until, follow, min, kinds, wanted, format, color } = action
    else {
        return Ok(Exit::Usage);
    };
    let asked = |text: &String| Asked::parse(text).ok_or_else(|| Failure::Wanted(text.clone()));
    let values = wanted.iter().map(asked).collect::<Result<_, _>>()?;
    let wanted = Wanted { min: *min, kinds: kinds.clone(), values, since: *since, until: *until };
    let path = path_of(journal)?;
    let failed = |why| Failure::File { path: path.clone(), why };
    let colour = match color {
        ColorChoice::Auto if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() => Colour::Always,
        ColorChoice::Always => Colour::Always,
        ColorChoice::Auto | ColorChoice::Never => Colour::Never,
    };
    let encoder = encoder_of(*format, colour);
    let mut reader = match from {
        Some(seq) => Reader::new(&path, Position::of(*seq)),
        // Of a time all of it is wanted, and shown as it is found.
        None if since.is_some() || until.is_some() => {
            fs::metadata(&path).map_err(failed)?;
            Reader::oldest(&path).map_err(failed)?
        }
        None => {
            let (last, at) = last_of(&path, *lines, &wanted).map_err(failed)?;
            for line in last {
                show(&line, encoder.as_ref(), streams)?;
            }
            Reader::new(&path, at)
        }
    };
    let mut line = Vec::new();
    loop {
        match reader.next(&mut line).map_err(failed)? {
            Next::Line(_) if wanted.has(&line) => show(&line, encoder.as_ref(), streams)?,
            Next::Line(_) => {}
            Next::Gap(from, to) => writeln!(streams.err, "portcullis: events {from} to {to} are not kept")?,
            Next::End if *follow => {
                streams.out.flush()?;
                std::thread::sleep(LOOK_EVERY);
            }
            Next::End => return Ok(Exit::Done),
        }
    }
}

/// What makes lines of events; none where they are shown as they stand in the journal.
fn encoder_of(format: LinesFormat, colour: Colour) -> Option<Encoder> {
    let format = match format {
        LinesFormat::Json => return None,
        LinesFormat::Human => LineFormat::Human(colour),
        LinesFormat::Ecs => LineFormat::Ecs,
        LinesFormat::Ocsf => LineFormat::Ocsf,
        LinesFormat::Cef => LineFormat::Cef,
        LinesFormat::Syslog => LineFormat::Syslog { facility: FACILITY_DEFAULT, message: Message::Json },
    };
    // What the journal hides stays as it is hidden there.
    Some(Encoder::new(format))
}

/// The last lines that are wanted, and the place behind them. It is read from the newest file back.
fn last_of(path: &Path, lines: usize, wanted: &Wanted) -> io::Result<(VecDeque<Vec<u8>>, Position)> {
    let firsts = journal::firsts(path)?;
    if firsts.is_empty() && !path.exists() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (mut found, mut end) = (VecDeque::new(), None);
    let mut line = Vec::new();
    let mut until = u64::MAX;
    for first in firsts.iter().rev() {
        let mut reader = Reader::new(path, Position::of(*first));
        let mut here = VecDeque::new();
        while reader.position().seq < until
            && let next @ (Next::Line(_) | Next::Gap(..)) = reader.next(&mut line)?
        {
            if matches!(next, Next::Line(seq) if seq < until) && wanted.has(&line) {
                here.push_back(line.clone());
            }
            if here.len() + found.len() > lines {
                here.pop_front();
            }
        }
        end = end.or(Some(reader.position()));
        here.append(&mut found);
        found = here;
        until = *first;
        if found.len() >= lines {
            break;
        }
    }
    Ok((found, end.unwrap_or(Position::of(1))))
}

fn show(line: &[u8], encoder: Option<&Encoder>, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let mut text = Vec::new();
    match (encoder, Record::read(line)) {
        (Some(encoder), Ok(record)) => encoder.encode(&record, &mut text),
        (None, _) => text.extend(line.iter().chain(b"\n")),
        // One of a newer version, or what is none. It must not write to the terminal what it likes.
        (Some(_), Err(_)) => {
            let shown = String::from_utf8_lossy(line);
            let plain = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
            text.extend(shown.chars().map(plain).collect::<String>().bytes().chain(*b"\n"));
        }
    }
    Ok(streams.out.write_all(&text)?)
}

// ---- verify --------------------------------------------------------------------------------------------------------

fn verify(
    path: &Path,
    key: Option<&Path>,
    (heads, seals): (&[String], &[PathBuf]),
    format: Format,
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let mut verifier = Verifier::new(path);
    if let Some(file) = key {
        let text = fs::read_to_string(file).map_err(|why| Failure::File { path: file.to_owned(), why })?;
        let key: SealKey = text.parse().map_err(|why| Failure::Key { path: file.to_owned(), why })?;
        verifier = verifier.with_key(key);
    }
    for text in heads {
        let parse = || {
            let (seq, head) = text.split_once(':')?;
            Some((seq.parse::<u64>().ok()?, head.parse::<Head>().ok()?))
        };
        let (seq, head) = parse().ok_or_else(|| Failure::Head(text.clone()))?;
        verifier = verifier.with_head(seq, head);
    }
    for file in seals {
        verifier = with_seals(verifier, file)?;
    }
    let report = verifier.run().map_err(|why| Failure::File { path: path.to_owned(), why })?;
    match format {
        Format::Json => writeln!(streams.out, "{}", as_json(&report))?,
        Format::Human => tell(path, &report, key.is_some(), streams)?,
    }
    Ok(if report.is_whole() { Exit::Done } else { Exit::Findings })
}

/// What seals tell that a sink has written down elsewhere.
fn with_seals(mut verifier: Verifier, file: &Path) -> Result<Verifier, Failure> {
    let failed = |why| Failure::File { path: file.to_owned(), why };
    let mut found = 0_u64;
    // Others may write there too, and not in UTF-8.
    for line in BufReader::new(fs::File::open(file).map_err(failed)?).split(b'\n') {
        let line = line.map_err(failed)?;
        if let Some((seq, head)) = journal::sealed_head(&String::from_utf8_lossy(&line)) {
            verifier = verifier.with_seal(seq, head);
            found += 1;
        }
    }
    if found == 0 { Err(Failure::NoSeals { path: file.to_owned() }) } else { Ok(verifier) }
}

fn tell(path: &Path, report: &Report, has_key: bool, streams: &mut Streams<'_>) -> io::Result<()> {
    for finding in &report.findings {
        let event = finding.seq.map_or_else(|| "this line".to_owned(), |seq| format!("event {seq}"));
        let line = if finding.line > 0 { format!(":{}", finding.line) } else { String::new() };
        writeln!(streams.out, "{}{line}: {event} {}", finding.file.display(), finding.fault)?;
    }
    if report.more > 0 {
        writeln!(streams.out, "and {} findings more", report.more)?;
    }
    let Report { files, events, first, last, seals, unused, sealed_to, .. } = report;
    let (Some(first), Some((last, head))) = (first, last) else {
        return writeln!(streams.out, "{}: no events", path.display());
    };
    let sealed = if has_key { format!(", {seals} seals") } else { String::new() };
    let verdict = if report.is_whole() { "as they were written" } else { "NOT as they were written" };
    writeln!(
        streams.out,
        "{}: events {first} to {last} ({events} in {files} files{sealed}) {verdict}",
        path.display()
    )?;
    if *unused > 0 {
        writeln!(
            streams.out,
            "{unused} numbers have no event, and the chain goes on over them: crashes, or a full disk"
        )?;
    }
    if let Some(sealed) = sealed_to.filter(|sealed| sealed < last) {
        writeln!(streams.out, "sealed up to {sealed}; who has the machine now can change what is behind it")?;
    }
    match head {
        Some(head) => writeln!(streams.out, "head: {last}:{head}"),
        None => Ok(()),
    }
}

fn as_json(report: &Report) -> Value {
    let finding = |finding: &journal::Finding| {
        json!({
            "file": finding.file.display().to_string(),
            "line": finding.line,
            "seq": finding.seq,
            "fault": finding.fault.to_string(),
        })
    };
    let head = report.last.and_then(|(_, head)| head);
    json!({
        "whole": report.is_whole(),
        "files": report.files,
        "events": report.events,
        "first": report.first,
        "last": report.last.map(|(seq, _)| seq),
        "head": head.map(|head| head.to_string()),
        "unused": report.unused,
        "sealed_to": report.sealed_to,
        "seals": report.seals,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "more": report.more,
    })
}

// ---- seal-key ------------------------------------------------------------------------------------------------------

fn seal_key(path: &Path, to: Option<&Path>, forget: bool, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let file = journal::first_key_of(path);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::KeyGone { key: file }),
        Err(why) => return Err(Failure::File { path: file, why }),
    };
    if let Some(to) = to {
        keep(to, &text).map_err(|why| Failure::NotKept { path: to.to_owned(), why })?;
    } else if !forget {
        write!(streams.out, "{text}")?;
        writeln!(
            streams.err,
            "Keep this key where the guard is not: `portcullis events verify --key` needs it. Then: portcullis events seal-key --forget"
        )?;
        return Ok(Exit::Done);
    }
    let gone = fs::remove_file(&file).and_then(|()| fs::File::open(folder(&file))?.sync_all());
    gone.map_err(|why| Failure::File { path: file, why })?;
    writeln!(streams.err, "The first key is not beside the journal any more.")?;
    Ok(Exit::Done)
}

/// Writes a key to a new file, and makes sure that it is there.
fn keep(to: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::File::open(folder(to))?.sync_all()?;
    let is_there = fs::read_to_string(to)? == text;
    if is_there { Ok(()) } else { Err(io::Error::other("it is not what was written")) }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
