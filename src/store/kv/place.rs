//! Where the server is: one, the primary that sentinels name, or the node of a cluster that has our slot.
//!
//! All keys of a store carry one hash tag, so in a cluster they are in one slot, and one node has them all. Finding it is like
//! asking a sentinel: ask somebody who knows, connect to whom he names, and ask again when that one is not it any more. That
//! is why both are done here, and the parts of the client library for them are not used: its cluster connection sends a
//! command again when an answer was lost, and a session must not be rotated twice.

use std::fmt;
use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};
use redis::{ErrorKind, ProtocolVersion, RedisError, RedisResult, Value};

use super::OpenError;

/// Where a sentinel listens unless told otherwise.
const SENTINEL_PORT: u16 = 26_379;

/// Where the server is.
pub(super) struct Place {
    kind: Kind,
    /// For people: without names of users and passwords.
    shown: String,
}

enum Kind {
    One(ConnectionInfo),
    Sentinels {
        sentinels: Vec<ConnectionInfo>,
        service: String,
        /// How to connect to the primary, wherever it is.
        primary: ConnectionInfo,
    },
    Cluster {
        nodes: Vec<ConnectionInfo>,
        /// A key of the slot.
        key: Vec<u8>,
        /// Who had it last; asked first.
        last: Mutex<Option<ConnectionInfo>>,
    },
}

impl Place {
    /// Reads an address. `key` is any key of the store.
    pub(super) fn parse(url: &str, key: &[u8]) -> Result<Self, OpenError> {
        let (scheme, rest) = url.split_once("://").ok_or(OpenError::Url("it has no `scheme://`"))?;
        let kind = match scheme.split_once('+') {
            None if matches!(scheme, "redis" | "rediss" | "valkey" | "valkeys") => Kind::One(server(url)?),
            Some(("redis" | "valkey", "unix")) => Kind::One(server(url)?),
            Some((base @ ("redis" | "rediss" | "valkey" | "valkeys"), "sentinel")) => sentinels(base, rest)?,
            Some((base @ ("redis" | "rediss" | "valkey" | "valkeys"), "cluster")) => {
                let parts = Parts::of(rest);
                if !parts.path.trim_matches('/').is_empty() {
                    return Err(OpenError::Url("a cluster has no numbered databases"));
                }
                Kind::Cluster { nodes: parts.servers(base)?, key: key.to_vec(), last: Mutex::new(None) }
            }
            _ => {
                return Err(OpenError::Url(
                    "it begins with redis://, rediss://, redis+unix://, redis+sentinel:// or redis+cluster://",
                ));
            }
        };
        if kind.uses_tls() {
            provide_cryptography();
        }
        let parts = Parts::of(rest);
        // The question mark may hide a password.
        let path = if parts.path.is_empty() { "" } else { "/" };
        let shown = format!("{scheme}://{}{path}{}", parts.hosts, parts.path);
        Ok(Self { kind, shown })
    }

    /// A new connection to the server that takes writes. It takes no longer than `timeout`, and no one who does not answer
    /// takes the time of the others.
    pub(super) async fn dial(
        &self,
        config: &AsyncConnectionConfig,
        timeout: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        match &self.kind {
            Kind::One(server) => connect(server, config, timeout).await,
            Kind::Sentinels { sentinels, service, primary } => {
                let step = timeout / part(sentinels.len().saturating_add(1));
                let mut failed = nobody("no sentinel was asked");
                for sentinel in sentinels {
                    match by_sentinel(sentinel, service, primary, config, step).await {
                        Ok(connection) => return Ok(connection),
                        Err(error) => failed = error,
                    }
                }
                Err(failed)
            }
            Kind::Cluster { nodes, key, last } => {
                let known = last.lock().clone();
                let step = timeout / part(nodes.len().saturating_add(2));
                let mut failed = nobody("no node was asked");
                for node in known.iter().chain(nodes) {
                    match by_node(node, key, config, step).await {
                        Ok((connection, owner)) => {
                            *last.lock() = Some(owner);
                            return Ok(connection);
                        }
                        Err(error) => failed = error,
                    }
                }
                Err(failed)
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

impl Kind {
    fn uses_tls(&self) -> bool {
        let is_tls = |server: &ConnectionInfo| matches!(server.addr(), ConnectionAddr::TcpTls { .. });
        match self {
            Self::One(server) => is_tls(server),
            Self::Sentinels { primary, .. } => is_tls(primary),
            Self::Cluster { nodes, .. } => nodes.iter().any(is_tls),
        }
    }
}

/// The client library takes the cryptography that the process has chosen, and panics if nobody has.
fn provide_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails if another thread was quicker, which is as good.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    }
}

// ---- addresses -------------------------------------------------------------------------------------------------------

/// An address with several hosts: `user:password@host:port,host/path?query`.
struct Parts<'a> {
    user: Option<&'a str>,
    hosts: &'a str,
    /// Without the slash before it.
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Self {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        Self { user, hosts, path, query }
    }

    fn servers(&self, base: &str) -> Result<Vec<ConnectionInfo>, OpenError> {
        let user = self.user.map_or_else(String::new, |user| format!("{user}@"));
        self.hosts.split(',').map(|host| server(&format!("{base}://{user}{host}"))).collect()
    }
}

/// One server. What the library says of a text that it can not read is not told, for the text may hold a password.
fn server(url: &str) -> Result<ConnectionInfo, OpenError> {
    let server =
        url.into_connection_info().ok().ok_or(OpenError::Url("a host, a port or a database can not be read"))?;
    // The third version of the protocol: the server's own messages come over the same connection as its answers.
    let settings = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(server.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

fn sentinels(base: &str, rest: &str) -> Result<Kind, OpenError> {
    let parts = Parts::of(rest);
    let (service, database) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    if service.is_empty() {
        return Err(OpenError::Url("after the sentinels comes the name of the service that they watch"));
    }
    let password = parts.query.split('&').find_map(|pair| pair.strip_prefix("sentinel_password="));
    let user = password.map_or_else(String::new, |password| format!(":{password}@"));
    let sentinel = |host: &str| {
        let port = if has_port(host) { String::new() } else { format!(":{SENTINEL_PORT}") };
        server(&format!("{base}://{user}{host}{port}"))
    };
    let sentinels = parts.hosts.split(',').map(sentinel).collect::<Result<_, _>>()?;
    let user = parts.user.map_or_else(String::new, |user| format!("{user}@"));
    // Where it is only sentinels know.
    let primary = server(&format!("{base}://{user}primary.invalid/{database}"))?;
    Ok(Kind::Sentinels { sentinels, service: service.to_owned(), primary })
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The same server elsewhere.
fn at(server: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let address = match server.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    server.clone().set_addr(address)
}

// ---- connecting ------------------------------------------------------------------------------------------------------

async fn connect(
    server: &ConnectionInfo,
    config: &AsyncConnectionConfig,
    step: Duration,
) -> RedisResult<MultiplexedConnection> {
    let client = Client::open(server.clone())?;
    within(step, client.get_multiplexed_async_connection_with_config(config)).await
}

/// The primary that this sentinel names.
async fn by_sentinel(
    sentinel: &ConnectionInfo,
    service: &str,
    primary: &ConnectionInfo,
    config: &AsyncConnectionConfig,
    step: Duration,
) -> RedisResult<MultiplexedConnection> {
    let mut asked = connect(sentinel, &AsyncConnectionConfig::new(), step / 2).await?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let named: Option<(String, u16)> = within(step / 2, question.query_async(&mut asked)).await?;
    let (host, port) = named.ok_or_else(|| nobody("the sentinel knows no service of this name"))?;
    let mut connection = connect(&at(primary, host, port), config, step / 2).await?;
    // For a while after it was replaced, a primary is still named.
    let role: Vec<Value> = within(step / 2, redis::cmd("ROLE").query_async(&mut connection)).await?;
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
        _ => Err(nobody("the server that the sentinel names is no primary")),
    }
}

/// The node that has the slot of this key, if this node knows it.
async fn by_node(
    node: &ConnectionInfo,
    key: &[u8],
    config: &AsyncConnectionConfig,
    step: Duration,
) -> RedisResult<(MultiplexedConnection, ConnectionInfo)> {
    let mut question = redis::cmd("EXISTS");
    question.arg(key);
    let mut connection = connect(node, config, step / 2).await?;
    let Err(error) = within(step / 2, question.query_async::<Value>(&mut connection)).await else {
        return Ok((connection, node.clone()));
    };
    let Some((host, port)) = error.redirect_node().and_then(|(address, _)| address.rsplit_once(':')) else {
        return Err(error);
    };
    let port = port.parse().ok().ok_or_else(|| nobody("a node named a place that can not be read"))?;
    let host = match (host.trim_matches(['[', ']']), node.addr()) {
        // An empty name means: on the same host.
        ("" | "?", ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }) => host.clone(),
        (host, _) => host.to_owned(),
    };
    let owner = at(node, host, port);
    let mut connection = connect(&owner, config, step / 2).await?;
    within(step / 2, question.query_async::<Value>(&mut connection)).await?;
    Ok((connection, owner))
}

async fn within<T>(step: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(step, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

fn nobody(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, why))
}

fn part(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Place {
        Place::parse(url, b"{x}:d").unwrap()
    }

    fn addresses(servers: &[ConnectionInfo]) -> Vec<String> {
        servers.iter().map(|server| server.addr().to_string()).collect()
    }

    #[test]
    fn one_server_is_named_by_its_address() {
        let Kind::One(server) = parsed("redis://ann:secret@example.org:7000/3").kind else { panic!("it is one") };
        assert_eq!(server.addr().to_string(), "example.org:7000");
        assert_eq!((server.redis_settings().username(), server.redis_settings().db()), (Some("ann"), 3));
        assert_eq!(server.redis_settings().protocol(), ProtocolVersion::RESP3);
        let Kind::One(server) = parsed("rediss://example.org").kind else { panic!("it is one") };
        assert!(matches!(server.addr(), ConnectionAddr::TcpTls { port: 6379, insecure: false, .. }));
    }

    #[test]
    fn sentinels_are_named_with_their_service() {
        let url = "redis+sentinel://ann:secret@one:7001,two,[::1]:7003/shop/2?sentinel_password=hidden";
        let Kind::Sentinels { sentinels, service, primary } = parsed(url).kind else { panic!("they are sentinels") };
        assert_eq!(addresses(&sentinels), ["one:7001", "two:26379", "::1:7003"]);
        assert_eq!((service.as_str(), primary.redis_settings().db()), ("shop", 2));
        assert_eq!(primary.redis_settings().password(), Some("secret"));
        assert_eq!(sentinels[0].redis_settings().password(), Some("hidden"));
        assert_eq!(sentinels[0].redis_settings().username(), None);
    }

    #[test]
    fn a_cluster_is_named_by_some_of_its_nodes() {
        let Kind::Cluster { nodes, .. } = parsed("rediss+cluster://:secret@one,two:7002").kind else {
            panic!("it is a cluster")
        };
        assert_eq!(addresses(&nodes), ["one:6379", "two:7002"]);
        assert!(nodes.iter().all(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. })));
        assert_eq!(nodes[1].redis_settings().password(), Some("secret"));
    }

    #[test]
    fn an_address_that_can_not_be_read_is_refused_and_not_repeated() {
        let urls = [
            "",
            "secret",
            "http://secret@one",
            "redis://:secret@",
            "redis://:secret@one:70000",
            "redis://:secret@one/many",
            "redis+sentinel://:secret@one",
            "redis+sentinel://:secret@one/",
            "redis+sentinel://:secret@one/shop/many",
            "redis+cluster://:secret@one,",
            "redis+cluster://:secret@one/2",
            "redis+secret://one",
        ];
        for url in urls {
            let error = Place::parse(url, b"{x}:d").expect_err(url);
            assert!(!format!("{error} {error:?}").contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn what_is_shown_of_an_address_holds_no_password() {
        let urls = [
            "redis://ann:secret@one:7000/3?other=secret",
            "redis+sentinel://ann:secret@one/shop/2?sentinel_password=secret",
            "rediss+cluster://ann:secret@one,two",
        ];
        for url in urls {
            let place = parsed(url);
            assert!(!format!("{place} {place:?}").contains("secret"), "{place}");
            assert!(place.to_string().contains("one"), "{place}");
        }
    }
}
