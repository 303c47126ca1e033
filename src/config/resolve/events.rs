//! `[events]` and `[admin]`.

use std::path::Path;

use super::{sinks, wire};
use crate::config::{Admin, AdminAddress, EventSink, Events, SinkFormat, SinkTarget};
use crate::event::encode::{IpPrivacy, Privacy, SubjectPrivacy};
use crate::event::journal::{self, BYTES_MAX_DEFAULT, BYTES_MAX_MIN, SYNC_DEFAULT};
use crate::event::queue::{PLACES_DEFAULT, PLACES_MIN, RepeatSettings};
use crate::event::sink::Filter;
use crate::rules::page::{Reader, set};

pub(super) fn defaults() -> Events {
    let (filter, privacy) = (Filter::default(), Privacy::default());
    let stdout =
        EventSink { name: "stdout".to_owned(), target: SinkTarget::Stdout, format: SinkFormat::Json, filter, privacy };
    Events {
        queue: PLACES_DEFAULT,
        repeat: RepeatSettings::default(),
        privacy: Privacy::default(),
        journal: None,
        sinks: vec![stdout],
    }
}

pub(super) fn read(reader: &Reader<'_>, events: &mut Events) {
    set(&mut events.journal, reader.table("journal", journal));
    let places = u64::try_from(PLACES_MIN).unwrap_or(u64::MAX);
    set(&mut events.queue, reader.whole("queue", places..=1 << 24));
    reader.table("repeat", |reader| {
        set(&mut events.repeat.window, reader.duration("window"));
        set(&mut events.repeat.first, reader.whole("first", 1..=1_000_000));
    });
    let privacy = events.privacy;
    set(&mut events.privacy, reader.table("privacy", |reader| self::privacy(reader, privacy)));
    let privacy = events.privacy;
    set(&mut events.sinks, reader.tables("sink", |reader| sinks::sink(reader, privacy)));
    if let (Some(journal), Some(value)) = (&events.journal, reader.value("journal"))
        && events
            .sinks
            .iter()
            .any(|sink| matches!(&sink.target, SinkTarget::File(path) if is_beside(path, &journal.path)))
    {
        let help = "give the sink another path, or leave it out: the journal has all events";
        value.fault(
            "a sink writes to the same file or one of those beside it, and the journal would not be whole",
            Some(help.to_owned()),
        );
    }
}

/// Whether a path is that of the journal, or of a file beside it.
fn is_beside(path: &Path, journal: &Path) -> bool {
    let place = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Where the folder is not there yet, two spellings are two folders.
        (
            std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned()),
            path.file_name().unwrap_or_default().to_owned(),
        )
    };
    let ((folder, name), (of_journal, own)) = (place(path), place(journal));
    let rest = name.to_str().zip(own.to_str()).and_then(|(name, own)| name.strip_prefix(own));
    folder == of_journal && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// `journal = { path = "portcullis-data/events.jsonl", max_bytes = "2GiB" }`
fn journal(reader: &Reader<'_>) -> Option<journal::Settings> {
    let path = reader.path("path");
    if path.is_none() {
        reader.missing("path", "path = \"portcullis-data/events.jsonl\"");
    }
    let bytes = reader.size("max_bytes", BYTES_MAX_MIN..=1 << 44).and_then(|bytes| u64::try_from(bytes).ok());
    let (age_max, sync, chain) = (reader.some_time("max_age"), reader.duration("sync"), reader.flag("chain"));
    Some(journal::Settings {
        path: path?,
        bytes_max: bytes.unwrap_or(BYTES_MAX_DEFAULT),
        age_max,
        sync: sync.unwrap_or(SYNC_DEFAULT),
        chain: chain.unwrap_or(true),
    })
}

/// `[events.privacy]`, or that of a sink, which is `otherwise` as it does not say.
pub(super) fn privacy(reader: &Reader<'_>, otherwise: Privacy) -> Privacy {
    let mut privacy = otherwise;
    let words = [("full", IpPrivacy::Full), ("truncate", IpPrivacy::Truncate), ("pseudonym", IpPrivacy::Pseudonym)];
    set(&mut privacy.ip, reader.word("ip", &words));
    let words = [("plain", SubjectPrivacy::Plain), ("hmac", SubjectPrivacy::Hmac)];
    set(&mut privacy.subject, reader.word("subject", &words));
    privacy
}

pub(super) fn admin(reader: &Reader<'_>, admin: &mut Admin) {
    if let Some(value) = reader.value("address") {
        let base = value.base();
        let read = match value.text("an address such as \"127.0.0.1:9090\" or \"unix:/run/portcullis.sock\"") {
            Some("off") => Some(AdminAddress::Off),
            Some(text) => match text.strip_prefix("unix:") {
                Some("") => {
                    value.fault("expected a path behind \"unix:\"", None);
                    None
                }
                Some(path) => Some(AdminAddress::Unix(base.join(path))),
                None => wire::address(&value).map(AdminAddress::Tcp),
            },
            None => None,
        };
        set(&mut admin.address, read);
    }
    set(&mut admin.token_file, reader.path("token_file"));
}
