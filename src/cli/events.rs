//! `portcullis events`: what operators say of events, and how often each signal was right by that.
//!
//! Labels stand beside the events, in a file of their own that only grows: the last word on an event counts.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use portcullis::clock::{Clock as _, SystemClock};
use portcullis::event::journal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{EventsAction, EventsArgs, Exit, Format, Label, Streams, sinks};

/// Bytes of the longest line that is read. An event has some thousand.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{} can not be {doing}: {why}", path.display())]
    File { path: PathBuf, doing: &'static str, why: io::Error },
    #[error("{} has no event {seq}", file.display())]
    Unknown { file: PathBuf, seq: u64 },
    #[error("event {seq} ({event}) accuses nobody: there is nothing to be right or wrong about")]
    NoAccusation { seq: u64, event: String },
    #[error("{0}")]
    Streams(#[from] io::Error),
}

/// What somebody said of an event, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Said {
    seq: u64,
    /// Of the event: numbers begin anew with each start of the guard.
    ts: String,
    event: String,
    label: Label,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    at: String,
}

/// What is read of an event.
#[derive(Clone, Debug, Deserialize)]
struct Told {
    ts: String,
    event: String,
    seq: u64,
    #[serde(rename = "ref")]
    reference: Option<String>,
    #[serde(default)]
    reasons: BTreeMap<String, f64>,
}

pub(super) fn run(args: &EventsArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let done = match &args.action {
        EventsAction::Label { events, seq, label, why } => label_events(events, seq, *label, why.as_deref(), streams),
        EventsAction::Precision { events, format } => precision(events, *format, streams),
        EventsAction::TestSink { name, config } => return sinks::test(config.as_ref(), name, streams),
        EventsAction::Replay { sink, from, to, config } => {
            return sinks::replay(config.as_ref(), sink, (*from, *to), streams);
        }
        EventsAction::Tail { .. } | EventsAction::Verify { .. } | EventsAction::SealKey { .. } => {
            return super::journal::run(&args.action, streams);
        }
    };
    match done {
        Ok(()) => Ok(Exit::Done),
        Err(Failure::Streams(error)) => Err(error),
        Err(failure) => {
            writeln!(streams.err, "portcullis: {failure}")?;
            Ok(Exit::Runtime)
        }
    }
}

/// The labels of a file of events.
fn labels_of(events: &Path) -> PathBuf {
    let mut name = events.to_owned().into_os_string();
    name.push(".labels");
    name.into()
}

fn label_events(
    events: &Path,
    seqs: &[u64],
    label: Label,
    why: Option<&str>,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    // Of several runs of the guard in one file the last is meant.
    let mut found: HashMap<u64, Told> = HashMap::new();
    for told in told(events)? {
        if seqs.contains(&told.seq) {
            found.insert(told.seq, told);
        }
    }
    let mut lines = String::new();
    let at = SystemClock::new().now().to_string();
    for seq in seqs {
        let Some(told) = found.get(seq) else {
            return Err(Failure::Unknown { file: events.to_owned(), seq: *seq });
        };
        if told.reasons.is_empty() {
            return Err(Failure::NoAccusation { seq: *seq, event: told.event.clone() });
        }
        let Told { ts, event, reference, .. } = told.clone();
        let said = Said { seq: *seq, ts, event, label, reference, why: why.map(str::to_owned), at: at.clone() };
        lines += &serde_json::to_string(&said).map_err(io::Error::other)?;
        lines.push('\n');
    }
    let path = labels_of(events);
    let written = fs::OpenOptions::new().create(true).append(true).open(&path).and_then(|mut file| {
        file.write_all(lines.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|why| Failure::File { path: path.clone(), doing: "written", why })?;
    let word = if label == Label::True { "thefts" } else { "false alarms" };
    writeln!(streams.out, "{} labelled as {word} in {}", seqs.len(), path.display())?;
    Ok(())
}

/// The events of a file, or of a journal with what was put aside of it.
fn told(events: &Path) -> Result<Vec<Told>, Failure> {
    let fault = |why| Failure::File { path: events.to_owned(), doing: "read", why };
    let mut all = Vec::new();
    for file in journal::files(events).map_err(fault)? {
        match read::<Told>(&file) {
            Ok(told) => all.extend(told),
            // It was too old, and went while the others were read.
            Err(Failure::File { why, .. }) if why.kind() == io::ErrorKind::NotFound && file != events => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(all)
}

/// The lines of a file that are of one kind; others are left out. A file may have a line torn by a crash.
fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>, Failure> {
    let fault = |why| Failure::File { path: path.to_owned(), doing: "read", why };
    let mut reader = BufReader::new(fs::File::open(path).map_err(fault)?);
    let (mut all, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(fault)? == 0 {
            return Ok(all);
        }
        all.extend(serde_json::from_slice::<T>(&line).ok());
    }
}

/// What was said last of each event; of a file that nobody has labelled, nothing.
fn said(path: &Path) -> Result<Vec<Said>, Failure> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut last: BTreeMap<(u64, String), Said> = BTreeMap::new();
    for said in read::<Said>(path)? {
        last.insert((said.seq, said.ts.clone()), said);
    }
    Ok(last.into_values().collect())
}

/// What is known of the sessions in a file of labels: whether they were stolen.
pub(super) fn sessions(path: &Path) -> Result<HashMap<String, Label>, String> {
    if !path.exists() {
        return Err(format!("there is no {}", path.display()));
    }
    let all = said(path).map_err(|failure| failure.to_string())?;
    Ok(all.into_iter().filter_map(|said| Some((said.reference?, said.label))).collect())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    thefts: usize,
    false_alarms: usize,
    unlabelled: usize,
}

impl Counted {
    /// The share of labelled events that were thefts.
    #[expect(clippy::cast_precision_loss, reason = "counts of events")]
    fn precision(self) -> Option<f64> {
        let labelled = self.thefts + self.false_alarms;
        (labelled > 0).then(|| self.thefts as f64 / labelled as f64)
    }
}

/// How often each signal was right. A session that raises one again and again counts once for each of its labels.
fn precision(events: &Path, format: Format, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let labels: HashMap<(u64, String), Label> =
        said(&labels_of(events))?.into_iter().map(|said| ((said.seq, said.ts), said.label)).collect();
    let mut signals: BTreeMap<String, Counted> = BTreeMap::new();
    for told in told(events)? {
        let label = labels.get(&(told.seq, told.ts));
        for (signal, _) in told.reasons.into_iter().filter(|(_, points)| *points > 0.0) {
            let counted = signals.entry(signal).or_default();
            match label {
                Some(Label::True) => counted.thefts += 1,
                Some(Label::False) => counted.false_alarms += 1,
                None => counted.unlabelled += 1,
            }
        }
    }
    match format {
        Format::Human => {
            let width = signals.keys().map(String::len).chain(["signal".len()]).max().unwrap_or(0);
            writeln!(streams.out, "{:width$}  thefts  false alarms  unlabelled  precision", "signal")?;
            for (signal, counted) in &signals {
                let precision = counted.precision().map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
                let Counted { thefts, false_alarms, unlabelled } = counted;
                writeln!(
                    streams.out,
                    "{signal:width$}  {thefts:6}  {false_alarms:12}  {unlabelled:10}  {precision:>9}"
                )?;
            }
        }
        Format::Json => {
            let each = |(signal, counted): (&String, &Counted)| -> Value {
                json!({
                    "signal": signal, "thefts": counted.thefts, "false_alarms": counted.false_alarms,
                    "unlabelled": counted.unlabelled, "precision": counted.precision(),
                })
            };
            writeln!(streams.out, "{:#}", signals.iter().map(each).collect::<Value>())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::say;
    use super::*;

    const EVENTS: &str = concat!(
        r#"{"ts":"2026-11-21T10:00:00.000Z","event":"session.hijack_suspected","seq":4,"ref":"aa","reasons":{"device.tls":45,"network.asn":10}}"#,
        "\n",
        r#"{"ts":"2026-11-21T10:01:00.000Z","event":"session.hijack_suspected","seq":5,"ref":"bb","reasons":{"network.asn":10,"shop/far":0}}"#,
        "\n",
        r#"{"ts":"2026-11-21T10:02:00.000Z","event":"session.hijack_suspected","seq":6,"ref":"cc","reasons":{"device.tls":45}}"#,
        "\n{\"torn\n",
        r#"{"ts":"2026-11-21T10:03:00.000Z","event":"session.created","seq":7,"ref":"dd"}"#,
        "\n",
    );

    fn folder() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, EVENTS).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (folder, path)
    }

    #[test]
    fn labels_tell_how_often_each_signal_was_right() {
        let (_folder, file) = folder();
        let label = |words: &[&str]| say(&[&["events", "label", "--events", &file], words].concat());
        let (exit, out, err) = label(&["4", "true"]);
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        assert!(out.starts_with("1 labelled as thefts in "), "{out}");
        assert_eq!(label(&["5", "6", "false", "--why", "the travelling salesman"]).0, Exit::Done);
        let table = || say(&["events", "precision", "--events", &file]).1;
        let expected = "signal       thefts  false alarms  unlabelled  precision\n\
                        device.tls        1             1           0       50 %\n\
                        network.asn       1             1           0       50 %\n";
        assert_eq!(table(), expected);
        // The last word counts.
        assert_eq!(label(&["6", "true"]).0, Exit::Done);
        assert!(table().contains("device.tls        2             0           0      100 %"), "{}", table());
        let told: Value =
            serde_json::from_str(&say(&["events", "precision", "--events", &file, "--format", "json"]).1).unwrap();
        assert_eq!(
            told[0],
            json!({"signal": "device.tls", "thefts": 2, "false_alarms": 0, "unlabelled": 0, "precision": 1.0})
        );
        let sessions = sessions(&labels_of(Path::new(&file))).unwrap();
        assert_eq!((sessions.len(), sessions.get("bb")), (3, Some(&Label::False)));
    }

    #[test]
    fn what_a_journal_has_put_aside_is_read_too() {
        let (_folder, file) = folder();
        fs::rename(&file, format!("{file}.00000000000000000004")).unwrap();
        let newer = "{\"ts\":\"2026-11-21T11:00:00.000Z\",\"event\":\"session.hijack_suspected\",\"seq\":9,\"reasons\":{\"device.tls\":45}}\n";
        fs::write(&file, newer).unwrap();
        let (exit, _, err) = say(&["events", "label", "--events", &file, "4", "9", "true"]);
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        let table = say(&["events", "precision", "--events", &file]).1;
        assert!(table.contains("device.tls        2             0           1      100 %"), "{table}");
    }

    #[test]
    fn what_can_not_be_labelled_is_told_and_nothing_is_written() {
        let (_folder, file) = folder();
        let label = |words: &[&str]| say(&[&["events", "label", "--events", &file], words].concat());
        let (exit, _, err) = label(&["4", "9", "true"]);
        assert_eq!(exit, Exit::Runtime);
        assert!(err.contains("has no event 9"), "{err}");
        let (exit, _, err) = label(&["7", "false"]);
        assert_eq!(exit, Exit::Runtime);
        assert!(err.contains("event 7 (session.created) accuses nobody"), "{err}");
        assert!(!labels_of(Path::new(&file)).exists());
        assert_eq!(label(&["4", "perhaps"]).0, Exit::Usage);
        let (exit, _, err) = say(&["events", "precision", "--events", "there-is-none.jsonl"]);
        assert_eq!(exit, Exit::Runtime);
        assert!(err.contains("can not be read"), "{err}");
        // Before anybody has labelled anything, all are unlabelled.
        assert!(
            say(&["events", "precision", "--events", &file])
                .1
                .contains("device.tls        0             0           2          -")
        );
    }
}
