//! Syslog: RFC 5424 over UDP (RFC 5426), TCP with octet counting (RFC 6587, 3.4.1), TLS (RFC 5425) or the local socket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{UdpSocket, UnixDatagram, UnixStream};
use tokio::time::timeout;

use super::stream::{self, Stream};
use super::transport::{Failure, Item, Receipt, Transport};
use super::{BATCH_MAX, Tls};

/// How long saying farewell may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// The port of syslog over TLS where none is named (RFC 5425).
const TLS_PORT: u16 = 6514;
/// The port of syslog otherwise (RFC 5426, RFC 6587).
const PORT: u16 = 514;

/// Where a syslog server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `udp://host:514`
    Udp {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `tcp://host:514`
    Tcp {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `tls://host:6514`
    Tls {
        /// Its name or address, which its certificate must be for.
        host: String,
        /// Its port.
        port: u16,
        /// How it is checked.
        tls: Tls,
    },
    /// `unix:/dev/log`
    Unix(PathBuf),
}

/// An address of syslog can not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address such as \"tcp://logs.example.net:514\", \"udp://...\", \"tls://...\" or \"unix:/dev/log\""
)]
pub struct NoAddress;

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(NoAddress) } else { Ok(Self::Unix(path.into())) };
        }
        let (scheme, rest) = text.split_once("://").ok_or(NoAddress)?;
        let (host, port) = stream::host_and_port(rest).ok_or(NoAddress)?;
        match scheme {
            "udp" => Ok(Self::Udp { host, port: port.unwrap_or(PORT) }),
            "tcp" => Ok(Self::Tcp { host, port: port.unwrap_or(PORT) }),
            "tls" => Ok(Self::Tls { host, port: port.unwrap_or(TLS_PORT), tls: Tls::default() }),
            _ => Err(NoAddress),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Udp { host, port } => ("udp", host, port),
            Self::Tcp { host, port } => ("tcp", host, port),
            Self::Tls { host, port, .. } => ("tls", host, port),
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
        };
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

/// A way to a syslog server.
pub(super) struct Syslog {
    address: Address,
    link: Option<Link>,
    buffer: Vec<u8>,
}

/// A connection to one.
enum Link {
    Udp(UdpSocket),
    Local(UnixDatagram),
    Stream(Box<dyn Stream>),
}

impl Syslog {
    pub(super) fn new(address: &Address) -> Result<Self, String> {
        if let Address::Tls { tls, .. } = address {
            // What is wrong with its files is told at the start.
            tls.connector(&[])?;
        }
        Ok(Self { address: address.clone(), link: None, buffer: Vec::new() })
    }

    async fn connect(address: &Address) -> Result<Link, Failure> {
        match address {
            Address::Udp { host, port } => udp(host, *port).await.map(Link::Udp),
            Address::Tcp { host, port } => {
                Ok(Link::Stream(Box::new(stream::tcp(&stream::addresses(host, *port).await?).await?)))
            }
            Address::Tls { host, port, tls } => {
                let tcp = stream::tcp(&stream::addresses(host, *port).await?).await?;
                Ok(Link::Stream(Box::new(tls.over(tcp, host, &[]).await?)))
            }
            Address::Unix(path) => {
                let socket = UnixDatagram::unbound().map_err(Failure::again)?;
                match socket.connect(path) {
                    Ok(()) => Ok(Link::Local(socket)),
                    // It is one for streams (EPROTOTYPE).
                    Err(_) => UnixStream::connect(path)
                        .await
                        .map(|stream| Link::Stream(Box::new(stream) as _))
                        .map_err(Failure::again),
                }
            }
        }
    }

    async fn write(&mut self, link: &mut Link, items: &[Item]) -> Result<Receipt, Failure> {
        match link {
            Link::Udp(socket) => {
                for item in items {
                    socket.send(&item.line).await.map_err(|why| stream::datagram(&why))?;
                }
                Ok(Receipt::Taken("sent; UDP can not tell whether it arrived".to_owned()))
            }
            Link::Local(socket) => {
                for item in items {
                    socket.send(&item.line).await.map_err(|why| stream::datagram(&why))?;
                }
                Ok(Receipt::Taken("the socket took it".to_owned()))
            }
            Link::Stream(stream) => {
                // What was closed meanwhile takes a first write all the same.
                tokio::select! {
                    biased;
                    why = stream::ended(&mut **stream) => return Err(why),
                    () = std::future::ready(()) => {}
                }
                self.buffer.clear();
                for item in items {
                    self.buffer.extend_from_slice(item.line.len().to_string().as_bytes());
                    self.buffer.push(b' ');
                    self.buffer.extend_from_slice(&item.line);
                }
                stream.write_all(&self.buffer).await.map_err(Failure::again)?;
                stream.flush().await.map_err(Failure::again)?;
                Ok(Receipt::Written)
            }
        }
    }
}

impl Transport for Syslog {
    fn batch_max(&self) -> usize {
        match self.address {
            // A batch that fails half way is sent again from its beginning.
            Address::Udp { .. } | Address::Unix(_) => 32,
            _ => BATCH_MAX,
        }
    }

    async fn send(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        // Taken out, so that a call that is left half way leaves no connection with half a message on it.
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Self::connect(&self.address).await?,
        };
        let sent = self.write(&mut link, items).await;
        if matches!(sent, Ok(_) | Err(Failure::Refused { .. })) {
            self.link = Some(link);
        }
        sent
    }

    /// Over TLS the other end is told that nothing was cut off (RFC 5425, 4.4).
    async fn close(&mut self) {
        if let Some(Link::Stream(mut stream)) = self.link.take() {
            // Whoever does not take it has ended it himself.
            drop(timeout(FAREWELL_MAX, stream.shutdown()).await);
        }
    }

    async fn lost(&mut self) -> Failure {
        match &mut self.link {
            Some(Link::Stream(stream)) => {
                let why = stream::ended(&mut **stream).await;
                self.link = None;
                why
            }
            _ => std::future::pending().await,
        }
    }
}

async fn udp(host: &str, port: u16) -> Result<UdpSocket, Failure> {
    let addresses = stream::addresses(host, port).await?;
    let is_v4 = addresses.first().is_some_and(|address| address.is_ipv4());
    let any = if is_v4 { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.map_err(Failure::again)?;
    let same = addresses.into_iter().filter(|address| address.is_ipv4() == is_v4).collect::<Vec<_>>();
    socket.connect(&*same).await.map_err(Failure::again)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let host = |host: &str| host.to_owned();
        let good = [
            ("udp://logs.example.net", Address::Udp { host: host("logs.example.net"), port: 514 }),
            ("tcp://127.0.0.1:5140", Address::Tcp { host: host("127.0.0.1"), port: 5140 }),
            ("tls://[2001:db8::1]", Address::Tls { host: host("2001:db8::1"), port: 6514, tls: Tls::default() }),
            ("unix:/dev/log", Address::Unix("/dev/log".into())),
        ];
        for (text, address) in good {
            assert_eq!(text.parse::<Address>().as_ref(), Ok(&address));
            assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
        for text in [
            "",
            "logs",
            "logs:514",
            "http://logs",
            "tcp://",
            "tcp://:514",
            "tcp://logs:99999",
            "tcp://logs:",
            "tcp://me@logs",
            "unix:",
            "tcp://logs/path",
        ] {
            assert_eq!(text.parse::<Address>(), Err(NoAddress), "{text}");
        }
    }
}
