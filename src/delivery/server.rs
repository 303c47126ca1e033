//! Servers that are reached by host and port, and what they are shown.

use std::time::Duration;

use super::stream::host_and_port;
use super::{Secret, Tls};

/// The port of a broker of Kafka where nobody says one.
pub(crate) const KAFKA_PORT: u16 = 9092;
/// The port of a server of NATS where nobody says one.
pub(crate) const NATS_PORT: u16 = 4222;

/// What Kafka is told besides the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Where brokers are, one of which is enough to find the others.
    pub servers: Servers,
    /// How the password of its user is shown.
    pub mechanism: Mechanism,
    /// Where records go. It must be there.
    pub topic: String,
    /// How long brokers may take.
    pub timeout: Duration,
}

/// How Kafka is shown a password (SASL).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    /// So that nobody who listens learns it (RFC 7677, with SHA-512).
    #[default]
    ScramSha512,
    /// The same with SHA-256.
    ScramSha256,
    /// As it is (RFC 4616), within TLS.
    Plain,
}

/// What NATS is told besides the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// Where servers are, one of which is enough.
    pub servers: Servers,
    /// What the subject of each message begins with: the kind of the event comes behind it.
    pub subject: String,
    /// How long a server may take.
    pub timeout: Duration,
}

/// Servers of one cluster, one of which is enough to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Their hosts and ports.
    pub at: Vec<(String, u16)>,
    /// Whether TLS is spoken with them.
    pub is_tls: bool,
    /// How they are checked then, and what they are shown.
    pub tls: Tls,
    /// Who we are.
    pub credentials: Option<Credentials>,
}

/// Who we are to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// A user with a password, if that is what it is.
    pub user: Option<String>,
    /// The password, or what takes its place.
    pub secret: Secret,
}

/// The text is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a host and a port, such as \"logs.example.net:{port}\", perhaps with tls:// in front")]
pub struct NoServer {
    port: u16,
}

/// Reads `tls://host:port`, `host:port` or `host`. Tells whether TLS is asked for.
///
/// # Errors
/// When it is none of these.
pub(crate) fn server(text: &str, port: u16) -> Result<((String, u16), bool), NoServer> {
    let (authority, is_tls) = match text.strip_prefix("tls://") {
        Some(authority) => (authority, true),
        None => (text, false),
    };
    match host_and_port(authority) {
        Some((host, own)) => Ok(((host, own.unwrap_or(port)), is_tls)),
        None => Err(NoServer { port }),
    }
}
