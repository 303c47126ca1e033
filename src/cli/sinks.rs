//! `portcullis events test-sink` and `events replay`: sinks by hand.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use portcullis::clock::{Clock, SystemClock};
use portcullis::config::{EventSink, Faults, SecretError, Settings, SinkTarget, keys};
use portcullis::delivery::{Hand, ReplayError, StartError};
use portcullis::entropy::{Entropy as _, EntropyError, OsEntropy};
use portcullis::event::encode::{IpPrivacy, Privacy, SubjectPrivacy};
use portcullis::event::sink::{FileSink, Sink as _};
use portcullis::event::{Record, Scene, kinds};
use portcullis::secret::{KeyId, Keyring, MasterKey};
use portcullis::verdict::Text;

use super::journal::settings;
use super::{Exit, Streams};

/// Why nothing was done, or not all.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Configuration(Faults),
    #[error("there is no sink `{name}`; the configuration has {has}")]
    NoSink { name: String, has: String },
    #[error("`{0}` does not read the journal: it is written to while the guard runs, and nothing is sent to it again")]
    Local(String),
    #[error("no journal is kept: [events] has no `journal`")]
    NoJournal,
    #[error("names and addresses are shown as hashes, and the keys for that can not be read: {0}")]
    Keys(keys::KeyFileError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error("the sink `{name}` did not take it: {why}")]
    NotTaken { name: String, why: String },
    #[error("the sink `{name}`: {why}")]
    Replay { name: String, why: ReplayError },
    #[error("{0}")]
    Streams(#[from] io::Error),
}

/// Sends a marked event to a sink.
pub(super) fn test(config: Option<&PathBuf>, name: &str, streams: &mut Streams<'_>) -> io::Result<Exit> {
    ended(tested(config, name, streams), streams)
}

/// Sends events of the journal to a sink again.
pub(super) fn replay(
    config: Option<&PathBuf>,
    name: &str,
    range: (u64, Option<u64>),
    streams: &mut Streams<'_>,
) -> io::Result<Exit> {
    ended(replayed(config, name, range, streams), streams)
}

fn ended(done: Result<Exit, Failure>, streams: &mut Streams<'_>) -> io::Result<Exit> {
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
            let is_usage = matches!(failure, Failure::NoSink { .. } | Failure::Local(_) | Failure::NoJournal);
            Ok(if is_usage { Exit::Usage } else { Exit::Runtime })
        }
    }
}

fn tested(config: Option<&PathBuf>, name: &str, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let settings = settings(config).map_err(Failure::Configuration)?;
    let sink = find(&settings, name)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut word = [0; 4];
    OsEntropy.fill(&mut word)?;
    let word = format!("{:08x}", u32::from_be_bytes(word));
    let event = kinds::EventsTest { sink: Text::from(name), word: Text::from(word.as_str()) };
    let mut record = Record::new(clock.now(), Scene::default(), event.into());
    record.node = Some(Text::from(settings.name.as_str()));
    let keys = keyring(&settings, sink.privacy)?;
    let not_taken = |why: &dyn std::fmt::Display| Failure::NotTaken { name: name.to_owned(), why: why.to_string() };
    let said = match &sink.target {
        SinkTarget::Stdout => {
            let mut line = Vec::new();
            sink.encoder(settings.events.privacy, false, keys).encode(&record, &mut line);
            streams.out.write_all(&line)?;
            "it was written".to_owned()
        }
        SinkTarget::File(path) => {
            let file = FileSink::open(path, sink.encoder(settings.events.privacy, false, keys));
            let mut file = file.map_err(|why| not_taken(&why))?;
            file.take(&record).and_then(|()| file.flush()).map_err(|why| not_taken(&why))?;
            format!("it was written to {}", path.display())
        }
        SinkTarget::Remote(_) => {
            let mut hand = hand(&settings, sink, keys, &clock)?;
            runtime()?.block_on(hand.send(record)).map_err(|why| not_taken(&why))?
        }
    };
    writeln!(streams.out, "{name}: {said}. Look for \"{word}\" there")?;
    Ok(Exit::Done)
}

fn replayed(
    config: Option<&PathBuf>,
    name: &str,
    (from, to): (u64, Option<u64>),
    streams: &mut Streams<'_>,
) -> Result<Exit, Failure> {
    let settings = settings(config).map_err(Failure::Configuration)?;
    let sink = find(&settings, name)?;
    if !matches!(sink.target, SinkTarget::Remote(_)) {
        return Err(Failure::Local(name.to_owned()));
    }
    let path = &settings.events.journal.as_ref().ok_or(Failure::NoJournal)?.path;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut hand = hand(&settings, sink, keyring(&settings, sink.privacy)?, &clock)?;
    let done = runtime()?.block_on(hand.replay(path, from, to.unwrap_or(u64::MAX)));
    let done = done.map_err(|why| Failure::Replay { name: name.to_owned(), why })?;
    for (first, last) in &done.gone {
        writeln!(streams.out, "events {first} to {last} are not kept any more")?;
    }
    for (seq, why) in &done.refused {
        writeln!(streams.out, "event {seq} was refused: {why}")?;
    }
    let last = done.last.map_or_else(String::new, |last| format!(", the last one is {last}"));
    writeln!(streams.out, "{name}: {} events were sent{last}", done.sent)?;
    Ok(if done.gone.is_empty() && done.refused.is_empty() { Exit::Done } else { Exit::Findings })
}

fn find<'s>(settings: &'s Settings, name: &str) -> Result<&'s EventSink, Failure> {
    let sinks = &settings.events.sinks;
    sinks.iter().find(|sink| sink.name == name).ok_or_else(|| {
        let names: Vec<_> = sinks.iter().map(|sink| format!("`{}`", sink.name)).collect();
        let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::NoSink { name: name.to_owned(), has }
    })
}

/// The keys that hashes in events are made with. A sink that shows everything needs none, and the guard may not have run yet.
fn keyring(settings: &Settings, privacy: Privacy) -> Result<Arc<Keyring>, Failure> {
    let needs_none = privacy.ip != IpPrivacy::Pseudonym && privacy.subject == SubjectPrivacy::Plain;
    match keys::read(&settings.keys_file) {
        Ok(file) => Ok(Arc::new(file.keyring())),
        Err(_) if needs_none => Ok(Arc::new(Keyring::new(&MasterKey::new(KeyId(0), [0; 32]), &[]))),
        Err(why) => Err(Failure::Keys(why)),
    }
}

fn hand(settings: &Settings, sink: &EventSink, keys: Arc<Keyring>, clock: &Arc<dyn Clock>) -> Result<Hand, Failure> {
    let remote = sink.remote(settings.events.privacy, keys)?;
    let remote = remote.ok_or_else(|| Failure::Local(sink.name.clone()))?;
    Ok(Hand::new(remote, clock)?)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
