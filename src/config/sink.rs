//! Where events go, as the file says, and what a sink is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::{
    self, Address, Credentials, Endpoint, Kafka, Loki, Mechanism, Nats, Secret, Servers, Target, Tls, Url,
};
use crate::event::encode::{Colour, Encoder, FACILITY_DEFAULT, Format, IpPrivacy, Message, Privacy, SubjectPrivacy};
use crate::event::sink::Filter;
use crate::secret::Keyring;

/// Bytes of the longest file with a secret.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// `[[events.sink]]`: where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSink {
    /// What it is called.
    pub name: String,
    /// Where.
    pub target: SinkTarget,
    /// In which form.
    pub format: SinkFormat,
    /// Which of them.
    pub filter: Filter,
    /// How plainly addresses and subjects are shown.
    pub privacy: Privacy,
}

/// Where events are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkTarget {
    /// Standard output.
    Stdout,
    /// A file, reopened on SIGHUP and when it was renamed.
    File(PathBuf),
    /// Another program, from the journal.
    Remote(Box<Remote>),
}

/// Another program that events are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Which.
    pub kind: RemoteKind,
    /// The most events that are sent at once.
    pub batch: usize,
    /// How long it may take for them.
    pub timeout: Duration,
}

/// A kind of program that events are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteKind {
    /// A syslog server, and the facility of messages (RFC 5424, 6.2.1).
    Syslog(Address, u8),
    /// The journal of systemd, by its socket.
    Journald(PathBuf),
    /// Standard Webhooks, and where the secret is that they are signed with.
    Webhook(HttpServer, SecretFrom),
    /// Grafana Loki, with labels and a tenant.
    Loki(HttpServer, BTreeMap<String, String>, Option<String>),
    /// OTLP over HTTP.
    Otlp(HttpServer),
    /// Kafka, with a topic.
    Kafka(Cluster, String, Mechanism),
    /// NATS, with what subjects begin with.
    Nats(Cluster, String),
}

/// Servers that are reached by host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Their hosts and ports.
    pub at: Vec<(String, u16)>,
    /// Whether TLS is spoken with them.
    pub is_tls: bool,
    /// How they are checked then, and what they are shown.
    pub tls: Tls,
    /// As whom.
    pub user: Option<String>,
    /// Where the password is, or what takes its place.
    pub secret: Option<SecretFrom>,
}

/// A server that takes events over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpServer {
    /// Where it is.
    pub url: Url,
    /// How it is checked.
    pub tls: Tls,
    /// Where it stands what it is told as `Authorization`.
    pub authorization: Option<SecretFrom>,
    /// Whether it may be at an address that is not of the internet at large.
    pub allow_private: bool,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFrom {
    /// In the environment variable of this name.
    Env(String),
    /// In this file.
    File(PathBuf),
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkFormat {
    /// One JSON object.
    Json,
    /// For people; with colours on a terminal.
    Human,
    /// Elastic Common Schema.
    Ecs,
    /// Open Cybersecurity Schema Framework.
    Ocsf,
    /// Common Event Format.
    Cef,
    /// Syslog (RFC 5424).
    Syslog,
}

/// A secret is not where it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No such variable, or one that is no text.
    #[error("the sink `{sink}`: the environment variable {name} is not set, or no text")]
    Env {
        /// Which sink.
        sink: String,
        /// Which variable.
        name: String,
    },
    /// No such file, or one that is no text, or empty, or far too long.
    #[error("the sink `{sink}`: {}: {why}", path.display())]
    File {
        /// Which sink.
        sink: String,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl SecretFrom {
    /// The secret, without white space around it.
    fn read(&self, sink: &str) -> Result<Secret, SecretError> {
        use std::io::Read as _;
        match self {
            Self::Env(name) => {
                let text = std::env::var(name).map(Secret::new);
                let text = text.ok().filter(|text| !text.expose().trim().is_empty());
                let text = text.ok_or_else(|| SecretError::Env { sink: sink.to_owned(), name: name.clone() })?;
                Ok(Secret::new(text.expose().trim().to_owned()))
            }
            Self::File(path) => {
                let failed = |why: &dyn fmt::Display| SecretError::File {
                    sink: sink.to_owned(),
                    path: path.clone(),
                    why: why.to_string(),
                };
                let file = std::fs::File::open(path).map_err(|why| failed(&why))?;
                let mut text = String::new();
                let read = file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text);
                let text = Secret::new(text);
                read.map_err(|why| failed(&why))?;
                if text.expose().len() as u64 > SECRET_BYTES_MAX {
                    return Err(failed(&"it is far too long for a secret"));
                }
                if text.expose().trim().is_empty() {
                    return Err(failed(&"it is empty"));
                }
                Ok(Secret::new(text.expose().trim().to_owned()))
            }
        }
    }
}

impl EventSink {
    /// What writes its lines. Those of a sink that reads the journal are made of what the journal shows.
    pub fn encoder(&self, journal: Privacy, is_terminal: bool, keys: Arc<Keyring>) -> Encoder {
        let facility = match &self.target {
            SinkTarget::Remote(remote) => match &remote.kind {
                RemoteKind::Syslog(_, facility) => Some(*facility),
                _ => None,
            },
            _ => None,
        };
        let message = match self.format {
            SinkFormat::Ecs => Message::Ecs,
            SinkFormat::Ocsf => Message::Ocsf,
            SinkFormat::Cef => Message::Cef,
            SinkFormat::Json | SinkFormat::Human | SinkFormat::Syslog => Message::Json,
        };
        let format = match (facility, self.format) {
            (Some(facility), _) => Format::Syslog { facility, message },
            (None, SinkFormat::Json) => Format::Json,
            (None, SinkFormat::Human) if is_terminal => Format::Human(Colour::Always),
            (None, SinkFormat::Human) => Format::Human(Colour::Never),
            (None, SinkFormat::Ecs) => Format::Ecs,
            (None, SinkFormat::Ocsf) => Format::Ocsf,
            (None, SinkFormat::Cef) => Format::Cef,
            (None, SinkFormat::Syslog) => Format::Syslog { facility: FACILITY_DEFAULT, message: Message::Json },
        };
        let encoder = Encoder::new(format).with_privacy(self.privacy, keys);
        if matches!(self.target, SinkTarget::Remote(_)) { encoder.behind(journal) } else { encoder }
    }

    /// The sink that sends to another program, if it is one.
    ///
    /// # Errors
    /// When a secret is not where it should be.
    pub fn remote(&self, journal: Privacy, keys: Arc<Keyring>) -> Result<Option<delivery::Sink>, SecretError> {
        let SinkTarget::Remote(remote) = &self.target else { return Ok(None) };
        Ok(Some(delivery::Sink {
            name: self.name.clone(),
            target: self.opened(remote)?,
            encoder: self.encoder(journal, false, keys),
            filter: self.filter.clone(),
            batch: remote.batch,
            timeout: remote.timeout,
        }))
    }

    fn opened(&self, remote: &Remote) -> Result<Target, SecretError> {
        let timeout = remote.timeout;
        Ok(match &remote.kind {
            RemoteKind::Syslog(address, _) => Target::Syslog(address.clone()),
            RemoteKind::Journald(socket) => Target::Journald(socket.clone()),
            RemoteKind::Webhook(server, secret) => Target::Webhook(self.endpoint(server)?, secret.read(&self.name)?),
            RemoteKind::Loki(server, labels, tenant) => {
                Target::Loki(Loki { endpoint: self.endpoint(server)?, labels: labels.clone(), tenant: tenant.clone() })
            }
            RemoteKind::Otlp(server) => Target::Otlp(self.endpoint(server)?),
            RemoteKind::Kafka(cluster, topic, mechanism) => {
                let (servers, topic) = (self.servers(cluster)?, topic.clone());
                Target::Kafka(Kafka { servers, mechanism: *mechanism, topic, timeout })
            }
            RemoteKind::Nats(cluster, subject) => {
                Target::Nats(Nats { servers: self.servers(cluster)?, subject: subject.clone(), timeout })
            }
        })
    }

    fn endpoint(&self, server: &HttpServer) -> Result<Endpoint, SecretError> {
        let HttpServer { url, tls, authorization, allow_private } = server.clone();
        let authorization = authorization.map(|secret| secret.read(&self.name)).transpose()?;
        Ok(Endpoint { url, tls, authorization, allow_private })
    }

    fn servers(&self, cluster: &Cluster) -> Result<Servers, SecretError> {
        let Cluster { at, is_tls, tls, user, secret } = cluster.clone();
        let secret = secret.map(|secret| secret.read(&self.name)).transpose()?;
        Ok(Servers { at, is_tls, tls, credentials: secret.map(|secret| Credentials { user, secret }) })
    }

    /// What it would show and the journal does not, by its key.
    pub(crate) fn asks_for_more(&self, journal: Privacy) -> Option<&'static str> {
        if journal.ip != IpPrivacy::Full && self.privacy.ip != journal.ip {
            return Some("ip");
        }
        (journal.subject == SubjectPrivacy::Hmac && self.privacy.subject != journal.subject).then_some("subject")
    }
}
