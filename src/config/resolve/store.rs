//! `[store]`: where sessions are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wire::variable;
use crate::config::{OnOutage, ServerKind, ServerUrl, Store, StoreKind, StoreServer};
use crate::rules::page::{Reader, Value, set};

/// Longest prefix of what a server is asked for, in bytes: with `_sessions` behind it, it is still the name of a table.
const PREFIX_BYTES_MAX: usize = 31;

/// Most replicas that are waited for.
const REPLICAS_MAX: u64 = 9;

/// The words of `on_outage`.
pub(super) const ON_OUTAGE: [(&str, OnOutage); 2] = [("deny", OnOutage::Deny), ("anonymous", OnOutage::Anonymous)];

pub(super) fn store_defaults(base: &Path) -> Store {
    Store { kind: StoreKind::Embedded(base.join("portcullis-data")), on_outage: OnOutage::Deny }
}

/// The kinds that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Memory,
    Embedded,
    File,
    Server(ServerKind),
    Sealed,
}

const KINDS: [(&str, Kind); 8] = [
    ("memory", Kind::Memory),
    ("embedded", Kind::Embedded),
    ("file", Kind::File),
    ("redis", Kind::Server(ServerKind::Redis)),
    ("postgres", Kind::Server(ServerKind::Postgres)),
    ("mysql", Kind::Server(ServerKind::Mysql)),
    ("sqlite", Kind::Server(ServerKind::Sqlite)),
    ("sealed", Kind::Sealed),
];

/// Where it can be remembered which sessions have ended, if clients carry them.
const ENDED: [(&str, Kind); 5] = [
    ("embedded", Kind::Embedded),
    ("redis", Kind::Server(ServerKind::Redis)),
    ("postgres", Kind::Server(ServerKind::Postgres)),
    ("mysql", Kind::Server(ServerKind::Mysql)),
    ("sqlite", Kind::Server(ServerKind::Sqlite)),
];

impl Kind {
    /// The feature that this program would have to be built with.
    const fn missing_feature(self) -> Option<&'static str> {
        match self {
            Self::Server(ServerKind::Redis) if cfg!(not(feature = "redis")) => Some("redis"),
            Self::Server(ServerKind::Postgres | ServerKind::Mysql | ServerKind::Sqlite)
                if cfg!(not(feature = "sql")) =>
            {
                Some("sql")
            }
            _ => None,
        }
    }
}

pub(super) fn store(reader: &Reader<'_>, store: &mut Store) {
    let written = reader.value("kind");
    let ended = reader.value("ended");
    let path = reader.path("path");
    let server = Asked::read(reader);
    set(&mut store.on_outage, reader.word("on_outage", &ON_OUTAGE));
    let (kind, remembers) = (word(written.as_ref(), &KINDS), word(ended.as_ref(), &ENDED));
    let (Some(kind), Some(remembers)) = (kind, remembers) else { return };
    let (kept, by) = if kind == Kind::Sealed { (remembers, &ended) } else { (kind, &written) };
    if let (Some(feature), Some(value)) = (kept.missing_feature(), by) {
        let help = format!("build one with `cargo build --release --features {feature}`");
        value.fault("this program was built without this store", Some(help));
        return;
    }
    let folder = path.or_else(|| written.as_ref().map(|value| value.base().join("portcullis-data")));
    let Some(folder) = folder.or_else(|| store.kind.folder().map(Path::to_owned)) else { return };
    let kept = match kept {
        // It is remembered nowhere else which sessions have ended.
        Kind::Memory | Kind::Sealed => StoreKind::Memory,
        Kind::Embedded => StoreKind::Embedded(folder),
        Kind::File => StoreKind::File(folder),
        Kind::Server(named) => match server.resolve(reader, named, folder) {
            Some(server) if kind == Kind::Sealed => StoreKind::Server(uncached(reader, server)),
            Some(server) => StoreKind::Server(server),
            None => return,
        },
    };
    store.kind = if kind == Kind::Sealed { StoreKind::Sealed(Box::new(kept)) } else { kept };
}

/// What has ended is asked for with every request.
fn uncached(reader: &Reader<'_>, server: StoreServer) -> StoreServer {
    if let (Some(_), Some(cache)) = (server.cache, reader.value("cache")) {
        cache.fault("of the store \"sealed\" nothing is cached: what has ended is asked for with every request", None);
    }
    StoreServer { cache: None, ..server }
}

/// The kind that is named, `embedded` if none is; none if there is no such.
fn word(written: Option<&Value<'_>>, kinds: &[(&str, Kind)]) -> Option<Kind> {
    written.map_or(Some(Kind::Embedded), |value| value.word(kinds))
}

/// What only a store has that is asked over a connection.
struct Asked<'p> {
    url: Option<Value<'p>>,
    url_env: Option<Value<'p>>,
    cache: Option<Duration>,
    timeout: Option<Duration>,
    prefix: Option<String>,
    replicas: Option<Value<'p>>,
}

impl<'p> Asked<'p> {
    fn read(reader: &Reader<'p>) -> Self {
        let url = reader.value("url").filter(|value| any_url(value).is_some());
        let url_env = reader.value("url_env").filter(|value| variable(value).is_some());
        let (cache, timeout) = (reader.some_time("cache"), reader.some_time("timeout"));
        let prefix = reader.value("prefix").and_then(|value| prefix(&value));
        let replicas = reader.value("replicas").filter(|value| value.whole::<u32>(0..=REPLICAS_MAX).is_some());
        Self { url, url_env, cache, timeout, prefix, replicas }
    }

    fn resolve(&self, reader: &Reader<'_>, kind: ServerKind, folder: PathBuf) -> Option<StoreServer> {
        let url = match (&self.url, &self.url_env) {
            (None, None) if kind == ServerKind::Sqlite => ServerUrl::Given(sqlite(&folder)),
            (Some(value), _) | (_, Some(value)) if kind == ServerKind::Sqlite => {
                value.fault("a SQLite database is the file `sessions.sqlite` in `path`", None);
                return None;
            }
            (Some(value), None) => ServerUrl::Given(url(value, kind)?),
            (None, Some(value)) => ServerUrl::Env(variable(value)?),
            (Some(_), Some(value)) => {
                value.fault("either `url` or `url_env`", None);
                return None;
            }
            (None, None) => {
                let scheme = kind.schemes().first().copied().unwrap_or_default();
                reader
                    .missing("url", &format!("such as \"{scheme}://127.0.0.1\", or `url_env`, the name of a variable"));
                return None;
            }
        };
        let timeout = self.timeout.unwrap_or(StoreServer::TIMEOUT);
        let prefix = self.prefix.clone().unwrap_or_else(|| StoreServer::PREFIX.to_owned());
        let replicas = match &self.replicas {
            Some(value) if kind != ServerKind::Redis => {
                value
                    .fault("replicas are waited for in Redis; a database is told itself what it has to wait for", None);
                return None;
            }
            value => value.as_ref().map_or(Some(0), |value| value.whole(0..=REPLICAS_MAX))?,
        };
        Some(StoreServer { kind, url, timeout, cache: self.cache, prefix, replicas, folder })
    }
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("sessions.sqlite").display())
}

fn any_url(value: &Value<'_>) -> Option<String> {
    value.parsed("a URL such as \"redis://127.0.0.1\"", |text| {
        let scheme = text.split_once("://").filter(|(_, rest)| !rest.is_empty()).map(|(scheme, _)| scheme);
        let is_scheme =
            |scheme: &str| !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_lowercase() || b == b'+');
        if scheme.is_some_and(is_scheme) {
            Ok(text.to_owned())
        } else {
            Err("a URL begins with a word and `://`".to_owned())
        }
    })
}

fn url(value: &Value<'_>, kind: ServerKind) -> Option<String> {
    let text = value.text("a URL")?;
    if !kind.is_named_by(text) {
        value.fault(&kind.expected(), None);
        return None;
    }
    Some(text.to_owned())
}

fn prefix(value: &Value<'_>) -> Option<String> {
    value.parsed("a name such as \"portcullis\"", |text| {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if begins && text.len() <= PREFIX_BYTES_MAX && text.bytes().all(is_letter) {
            Ok(text.to_owned())
        } else {
            Err(format!("a prefix has up to {PREFIX_BYTES_MAX} small letters, digits and underscores, a letter first"))
        }
    })
}

impl StoreServer {
    /// How long it may take to answer.
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// What the names of its keys or tables begin with.
    pub const PREFIX: &'static str = "portcullis";
}
