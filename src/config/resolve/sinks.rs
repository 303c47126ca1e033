//! `[[events.sink]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::events::privacy;
use super::wire::variable;
use crate::config::{Cluster, EventSink, HttpServer, Remote, RemoteKind, SecretFrom, SinkFormat, SinkTarget};
use crate::delivery::{
    Address, BATCH_DEFAULT, BATCH_MAX, JOURNALD_SOCKET, KAFKA_PORT, Mechanism, NAME_MAX, NATS_PORT, TIMEOUT_DEFAULT,
    Tls, Url, is_private_host, server,
};
use crate::event::encode::{FACILITY_DEFAULT, Privacy};
use crate::event::sink::{Filter, names};
use crate::event::{Kind as EventKind, Severity};
use crate::rules::page::{Reader, Value};

const FORMATS: [(&str, SinkFormat); 6] = [
    ("json", SinkFormat::Json),
    ("human", SinkFormat::Human),
    ("ecs", SinkFormat::Ecs),
    ("ocsf", SinkFormat::Ocsf),
    ("cef", SinkFormat::Cef),
    ("syslog", SinkFormat::Syslog),
];

/// Words for the facilities of RFC 5424, 6.2.1, that programs are logged under.
const FACILITIES: [(&str, u8); 12] = [
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("authpriv", 10),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stdout,
    File,
    Syslog,
    Journald,
    Webhook,
    Loki,
    Otlp,
    Kafka,
    Nats,
}

const KINDS: [(&str, Kind); 9] = [
    ("stdout", Kind::Stdout),
    ("file", Kind::File),
    ("syslog", Kind::Syslog),
    ("journald", Kind::Journald),
    ("webhook", Kind::Webhook),
    ("loki", Kind::Loki),
    ("otlp", Kind::Otlp),
    ("kafka", Kind::Kafka),
    ("nats", Kind::Nats),
];

/// How Kafka is shown a password.
const MECHANISMS: [(&str, Mechanism); 3] =
    [("scram-sha-512", Mechanism::ScramSha512), ("scram-sha-256", Mechanism::ScramSha256), ("plain", Mechanism::Plain)];

/// Letters of the longest topic of Kafka.
const TOPIC_MAX: usize = 249;
/// Letters of the longest beginning of subjects of NATS.
const SUBJECT_MAX: usize = 200;

const TLS: [&str; 4] = ["ca", "fingerprint", "cert", "key"];
const HTTP: [&str; 4] = ["url", "auth_env", "auth_file", "allow_private"];
const CLUSTER: [&str; 5] = ["servers", "user", "auth_env", "auth_file", "allow_private"];
const SENDING: [&str; 2] = ["batch", "timeout"];

impl Kind {
    fn word(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// The feature that this program would have to be built with.
    const fn missing_feature(self) -> Option<&'static str> {
        match self {
            Self::Kafka if cfg!(not(feature = "kafka")) => Some("kafka"),
            Self::Nats if cfg!(not(feature = "nats")) => Some("nats"),
            _ => None,
        }
    }

    /// The keys of other kinds that it has no use for.
    fn foreign(self) -> Vec<&'static str> {
        let own: &[&[&str]] = match self {
            Self::Stdout => &[],
            Self::File => &[&["path"]],
            Self::Syslog => &[&["address", "facility"], &TLS, &SENDING],
            Self::Journald => &[&["path"], &SENDING],
            Self::Webhook => &[&["secret_env", "secret_file"], &HTTP, &TLS, &["timeout"]],
            Self::Loki => &[&["labels", "tenant"], &HTTP, &TLS, &SENDING],
            Self::Otlp => &[&HTTP, &TLS, &SENDING],
            Self::Kafka => &[&["topic", "mechanism"], &CLUSTER, &TLS, &SENDING],
            Self::Nats => &[&["subject"], &CLUSTER, &TLS, &SENDING],
        };
        let special = ["path", "address", "facility", "secret_env", "secret_file", "labels", "tenant"];
        let clusters = ["servers", "user", "topic", "mechanism", "subject"];
        let all = special.into_iter().chain(clusters).chain(TLS).chain(HTTP).chain(SENDING);
        all.filter(|key| !own.iter().any(|own| own.contains(key))).collect()
    }

    /// Whether it can be given lines of that form.
    fn takes(self, format: SinkFormat) -> bool {
        match self {
            // The line is the message, behind a header of its own.
            Self::Syslog => matches!(format, SinkFormat::Json | SinkFormat::Ecs | SinkFormat::Ocsf | SinkFormat::Cef),
            // It is part of a JSON object.
            Self::Webhook => matches!(format, SinkFormat::Json | SinkFormat::Ecs | SinkFormat::Ocsf),
            _ => true,
        }
    }
}

/// What goes with a kind of sink, for whoever tells of it.
#[derive(Debug)]
pub(in crate::config) struct SinkKeys {
    pub(in crate::config) word: &'static str,
    pub(in crate::config) required: &'static [&'static str],
    /// Keys of which it must have one.
    pub(in crate::config) one_of: &'static [&'static str],
    /// Keys that only other kinds have.
    pub(in crate::config) foreign: Vec<&'static str>,
    pub(in crate::config) formats: Vec<&'static str>,
    /// Whether it is servers that are reached by host and port.
    pub(in crate::config) is_cluster: bool,
}

pub(in crate::config) fn sink_kinds() -> impl Iterator<Item = SinkKeys> {
    KINDS.iter().map(|(word, kind)| {
        let required: &[&str] = match kind {
            Kind::Stdout | Kind::Journald => &[],
            Kind::File => &["path"],
            Kind::Syslog => &["address"],
            Kind::Webhook | Kind::Loki | Kind::Otlp => &["url"],
            Kind::Kafka => &["servers", "topic"],
            Kind::Nats => &["servers", "subject"],
        };
        let one_of: &[&str] = if *kind == Kind::Webhook { &["secret_env", "secret_file"] } else { &[] };
        let formats = FORMATS.iter().filter(|(_, format)| kind.takes(*format)).map(|(word, _)| *word);
        let is_cluster = matches!(kind, Kind::Kafka | Kind::Nats);
        SinkKeys { word, required, one_of, foreign: kind.foreign(), formats: formats.collect(), is_cluster }
    })
}

/// All values of a sink, good or not: each is asked for, so that none is taken for a spelling mistake.
pub(super) fn sink(reader: &Reader<'_>, journal: Privacy) -> Option<EventSink> {
    let kind = reader.value("type");
    let name = reader.value("name").map(|value| name(&value));
    let format = format(reader);
    let filter = filter(reader);
    let privacy = reader.table("privacy", |reader| privacy(reader, journal)).unwrap_or(journal);
    let values = Values::read(reader);
    let Some(value) = kind else {
        reader.missing("type", "such as type = \"stdout\"");
        return None;
    };
    let kind = value.word(&KINDS)?;
    for key in kind.foreign() {
        if let Some(found) = reader.peek(key) {
            found.fault(&format!("a sink of type \"{}\" has no `{key}`", kind.word()), None);
        }
    }
    let format = format?;
    if !kind.takes(format)
        && let Some(value) = reader.peek("format")
    {
        value.fault(&format!("a sink of type \"{}\" takes no lines of this form", kind.word()), None);
        return None;
    }
    let name = match name {
        Some(name) => name?,
        None => kind.word().to_owned(),
    };
    let target = values.target(reader, kind)?;
    if let Some(feature) = kind.missing_feature() {
        let help = format!("build one with `cargo build --release --features {feature}`");
        value.fault("this program was built without this sink", Some(help));
        return None;
    }
    Some(EventSink { name, target, format, filter, privacy })
}

fn format(reader: &Reader<'_>) -> Option<SinkFormat> {
    match reader.value("format") {
        Some(value) => value.word(&FORMATS),
        None => Some(SinkFormat::Json),
    }
}

fn filter(reader: &Reader<'_>) -> Filter {
    let words = Severity::ALL.map(|severity| (severity.as_str(), severity));
    let min = reader.word("min", &words).unwrap_or(Severity::Info);
    let kinds = reader.value("kinds").and_then(|value| {
        value.one_or_more("kinds of events, such as [\"session.*\", \"login.failed\"]", |text| {
            let is_known = EventKind::ALL.iter().any(|kind| names(text, *kind));
            if is_known {
                Ok(text.to_owned())
            } else {
                Err("no event is of this kind; the manual lists them, and `session.*` is for all that begin so")
            }
        })
    });
    let tags = reader.value("tags");
    let tags = tags.and_then(|value| value.one_or_more("words of rules", |text| Ok::<_, String>(text.to_owned())));
    Filter { min, kinds: kinds.unwrap_or_default(), tags: tags.unwrap_or_default() }
}

fn name(value: &Value<'_>) -> Option<String> {
    value.parsed("a name such as \"siem\"", |text| {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(is_letter) {
            Ok(text.to_owned())
        } else {
            Err(format!("a name has up to {NAME_MAX} small letters, digits, - and _"))
        }
    })
}

/// What only some kinds of sinks have.
struct Values<'p> {
    path: Option<PathBuf>,
    address: Option<Value<'p>>,
    facility: Option<u8>,
    url: Option<Value<'p>>,
    tls: Option<Tls>,
    secret: Option<SecretFrom>,
    authorization: Option<SecretFrom>,
    allow_private: bool,
    labels: BTreeMap<String, String>,
    tenant: Option<String>,
    /// Servers, as asked for with the port of their kind.
    servers: Option<Value<'p>>,
    user: Option<String>,
    topic: Option<String>,
    mechanism: Option<Mechanism>,
    subject: Option<String>,
    batch: usize,
    timeout: std::time::Duration,
}

impl<'p> Values<'p> {
    fn read(reader: &Reader<'p>) -> Self {
        let labels = reader.value("labels").and_then(|value| {
            value.one_or_more("labels such as [\"env=prod\"]", |text| {
                label(text).ok_or("a label is a name and a value, such as \"env=prod\"")
            })
        });
        let tenant = reader.value("tenant");
        Self {
            path: reader.path("path"),
            address: reader.value("address"),
            facility: reader.word("facility", &FACILITIES),
            url: reader.value("url"),
            tls: tls(reader),
            secret: secret(reader, "secret_env", "secret_file"),
            authorization: secret(reader, "auth_env", "auth_file"),
            allow_private: reader.flag("allow_private").unwrap_or(false),
            labels: labels.unwrap_or_default().into_iter().collect(),
            tenant: tenant.and_then(|value| {
                value.parsed("the name of a tenant", |text| {
                    let is_good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
                    if is_good { Ok(text.to_owned()) } else { Err("it is sent as a header: letters, digits and signs") }
                })
            }),
            servers: reader.value("servers"),
            user: reader.value("user").and_then(|value| value.text("the name of a user").map(str::to_owned)),
            topic: reader.value("topic").and_then(|value| value.parsed("a topic such as \"portcullis\"", topic)),
            mechanism: reader.word("mechanism", &MECHANISMS),
            subject: reader
                .value("subject")
                .and_then(|value| value.parsed("a subject such as \"portcullis\"", subject)),
            batch: reader.whole("batch", 1..=BATCH_MAX as u64).unwrap_or(BATCH_DEFAULT),
            timeout: reader.some_time("timeout").unwrap_or(TIMEOUT_DEFAULT),
        }
    }

    fn target(self, reader: &Reader<'_>, kind: Kind) -> Option<SinkTarget> {
        let (batch, timeout) = (self.batch, self.timeout);
        let remote = |kind| Some(SinkTarget::Remote(Box::new(Remote { kind, batch, timeout })));
        match kind {
            Kind::Stdout => Some(SinkTarget::Stdout),
            Kind::File => {
                if self.path.is_none() {
                    reader.missing("path", "such as path = \"portcullis-data/events.jsonl\"");
                }
                self.path.map(SinkTarget::File)
            }
            Kind::Syslog => {
                let facility = self.facility.unwrap_or(FACILITY_DEFAULT);
                remote(RemoteKind::Syslog(self.syslog(reader)?, facility))
            }
            Kind::Journald => remote(RemoteKind::Journald(self.path.unwrap_or_else(|| PathBuf::from(JOURNALD_SOCKET)))),
            Kind::Webhook => {
                if self.secret.is_none() {
                    reader.missing("secret_env", "the name of an environment variable with the secret that requests are signed with, or `secret_file`");
                }
                let (server, secret) = (self.server(reader), self.secret.clone());
                remote(RemoteKind::Webhook(server?, secret?))
            }
            Kind::Loki => {
                let (labels, tenant) = (self.labels.clone(), self.tenant.clone());
                remote(RemoteKind::Loki(self.server(reader)?, labels, tenant))
            }
            Kind::Otlp => remote(RemoteKind::Otlp(self.server(reader)?)),
            Kind::Kafka => {
                if !reader.has("topic") {
                    reader.missing("topic", "such as topic = \"portcullis\": where records go");
                }
                let (cluster, mechanism) = (self.kafka(reader), self.mechanism.unwrap_or_default());
                remote(RemoteKind::Kafka(cluster?, self.topic.clone()?, mechanism))
            }
            Kind::Nats => {
                if !reader.has("subject") {
                    let help = "such as subject = \"portcullis\": messages go to portcullis.session.created and so on";
                    reader.missing("subject", help);
                }
                remote(RemoteKind::Nats(self.nats(reader)?, self.subject.clone()?))
            }
        }
    }

    fn syslog(&self, reader: &Reader<'_>) -> Option<Address> {
        let Some(value) = &self.address else {
            reader.missing("address", "such as address = \"tcp://logs.example.net:514\"");
            return None;
        };
        let expected = "an address such as \"tcp://logs.example.net:514\"";
        match value.parsed(expected, str::parse::<Address>)? {
            Address::Tls { host, port, .. } => Some(Address::Tls { host, port, tls: self.tls.clone()? }),
            Address::Unix(path) => Some(Address::Unix(value.base().join(path))),
            other => {
                if self.tls.as_ref().is_some_and(|tls| *tls != Tls::default()) {
                    value.fault("certificates are for \"tls://\" alone", None);
                }
                Some(other)
            }
        }
    }

    /// Servers of one cluster: with TLS all of them, or none.
    fn cluster(&self, reader: &Reader<'_>, port: u16) -> Option<Cluster> {
        let Some(value) = &self.servers else {
            reader.missing("servers", &format!("such as servers = [\"tls://logs.example.net:{port}\"]"));
            return None;
        };
        let found = value.one_or_more("servers such as [\"tls://logs.example.net\"]", |text| server(text, port))?;
        if found.is_empty() {
            value.fault("there is none", None);
            return None;
        }
        let is_tls = found.iter().all(|(_, is_tls)| *is_tls);
        if !is_tls && found.iter().any(|(_, is_tls)| *is_tls) {
            value.fault("all of them have tls:// in front, or none", None);
            return None;
        }
        if !is_tls && !self.allow_private {
            let help = "put tls:// in front; without it servers have to be inside, and allow_private = true says so";
            value.fault("events would be readable on their way", Some(help.to_owned()));
            return None;
        }
        if !is_tls && self.tls.as_ref().is_some_and(|tls| *tls != Tls::default()) {
            value.fault("certificates are for \"tls://\" alone", None);
            return None;
        }
        let (user, secret) = (self.user.clone(), self.authorization.clone());
        if user.is_some() && secret.is_none() {
            reader
                .missing("auth_env", "the name of an environment variable with the password of `user`, or `auth_file`");
            return None;
        }
        let at = found.into_iter().map(|(at, _)| at).collect();
        Some(Cluster { at, is_tls, tls: self.tls.clone()?, user, secret })
    }

    /// A password is not shown to whoever listens.
    fn nats(&self, reader: &Reader<'_>) -> Option<Cluster> {
        let cluster = self.cluster(reader, NATS_PORT)?;
        if cluster.user.is_some()
            && !cluster.is_tls
            && let Some(value) = reader.peek("user")
        {
            value.fault(
                "the password would be readable on its way",
                Some("put tls:// in front of the servers".to_owned()),
            );
            return None;
        }
        Some(cluster)
    }

    /// Who is shown to Kafka has a name.
    fn kafka(&self, reader: &Reader<'_>) -> Option<Cluster> {
        let cluster = self.cluster(reader, KAFKA_PORT)?;
        if cluster.user.is_none() && (cluster.secret.is_some() || self.mechanism.is_some()) {
            reader.missing("user", "whose password it is");
            return None;
        }
        if cluster.is_tls
            && cluster.at.iter().any(|(host, _)| host.contains(':'))
            && let Some(value) = &self.servers
        {
            value.fault("a broker with TLS is named by a name, or by an address of IPv4", None);
            return None;
        }
        if self.mechanism == Some(Mechanism::Plain)
            && !cluster.is_tls
            && let Some(value) = reader.peek("mechanism")
        {
            let help = "take `scram-sha-512`, or put tls:// in front of the servers";
            value.fault("the password would be readable on its way", Some(help.to_owned()));
            return None;
        }
        Some(cluster)
    }

    fn server(&self, reader: &Reader<'_>) -> Option<HttpServer> {
        let Some(value) = &self.url else {
            reader.missing("url", "such as url = \"https://logs.example.net/\"");
            return None;
        };
        let url = value.parsed("a URL such as \"https://logs.example.net/\"", str::parse::<Url>)?;
        if !self.allow_private && is_private_host(url.host()) {
            let help = "set allow_private = true if it is meant to be there";
            value.fault("this is a private address, and a sink is not led to one by mistake", Some(help.to_owned()));
            return None;
        }
        if !url.is_tls() && !self.allow_private {
            let help = "use https; without it a receiver has to be inside, and allow_private = true says so";
            value.fault("events would be readable on their way", Some(help.to_owned()));
            return None;
        }
        let (authorization, allow_private) = (self.authorization.clone(), self.allow_private);
        Some(HttpServer { url, tls: self.tls.clone()?, authorization, allow_private })
    }
}

/// `ca`, `fingerprint`, `cert` and `key`. None if they do not go together.
fn tls(reader: &Reader<'_>) -> Option<Tls> {
    let ca = reader.path("ca");
    let identity = match (reader.path("cert"), reader.path("key")) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(_), None) => {
            reader.missing("key", "the key of `cert`, as PEM");
            return None;
        }
        (None, Some(_)) => {
            reader.missing("cert", "the certificate of `key`, as PEM");
            return None;
        }
    };
    let fingerprints = match reader.value("fingerprint") {
        None => Vec::new(),
        Some(value) if ca.is_some() => {
            value.fault("either `fingerprint` or `ca`", None);
            return None;
        }
        Some(value) => value.one_or_more("fingerprints such as [\"sha-256:2c:26:..\"], 32 octets each", fingerprint)?,
    };
    Some(Tls { ca, identity, fingerprints })
}

/// As RFC 5425 (4.2.2) has it: the hash, and each octet in two digits with colons between.
fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    let Some((hash, octets)) = text.split_once(':') else {
        return Err("a fingerprint begins with `sha-256:`".to_owned());
    };
    if hash.eq_ignore_ascii_case("sha-1") {
        return Err("SHA-1 can be forged: take the fingerprint with SHA-256".to_owned());
    }
    let octet = |pair: &str| match pair.as_bytes() {
        [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => u8::from_str_radix(pair, 16).ok(),
        _ => None,
    };
    let octets: Option<Vec<u8>> = octets.split(':').map(octet).collect();
    let found = octets.filter(|_| hash.eq_ignore_ascii_case("sha-256")).and_then(|octets| octets.try_into().ok());
    found.ok_or_else(|| "a fingerprint is `sha-256:` and 32 octets in hex with colons between them".to_owned())
}

fn secret(reader: &Reader<'_>, env: &'static str, file: &'static str) -> Option<SecretFrom> {
    let (variable_value, path) = (reader.value(env), reader.path(file));
    match (variable_value, path) {
        (Some(value), Some(_)) => {
            value.fault(&format!("either `{env}` or `{file}`"), None);
            None
        }
        (Some(value), None) => variable(&value).map(SecretFrom::Env),
        (None, path) => path.map(SecretFrom::File),
    }
}

/// A topic of Kafka.
fn topic(text: &str) -> Result<String, String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name =
        !text.is_empty() && text.len() <= TOPIC_MAX && text.bytes().all(is_letter) && text != "." && text != "..";
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(format!("a topic has up to {TOPIC_MAX} letters, digits, dots, - and _"))
    }
}

/// What subjects of NATS begin with: words with dots between them.
fn subject(text: &str) -> Result<String, String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_letter);
    if text.len() <= SUBJECT_MAX && text.split('.').all(is_word) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "a subject has words of letters, digits, - and _ with dots between them, up to {SUBJECT_MAX} in all"
        ))
    }
}

/// `name=value`, as Prometheus and Loki name labels.
fn label(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let is_first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    let is_name = name.starts_with(is_first) && name.chars().all(|letter| is_first(letter) || letter.is_ascii_digit());
    (is_name && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_of_rfc_5425() {
        let octets = ["0a"; 32].join(":");
        for hash in ["sha-256", "SHA-256"] {
            assert_eq!(fingerprint(&format!("{hash}:{octets}")), Ok([10; 32]));
        }
        assert_eq!(fingerprint(&format!("sha-256:{}", octets.to_uppercase())), Ok([10; 32]));
        let (short, long) = (["0a"; 31].join(":"), ["0a"; 33].join(":"));
        let octets = ["+a"; 32].join(":");
        for octets in [short, long, octets, "0a".repeat(32), String::new()] {
            assert!(fingerprint(&format!("sha-256:{octets}")).unwrap_err().contains("32 octets"), "{octets}");
        }
        assert!(fingerprint(&format!("sha-1:{}", ["0a"; 20].join(":"))).unwrap_err().contains("forged"));
        assert!(fingerprint("0a0a").unwrap_err().contains("`sha-256:`"));
    }
}
