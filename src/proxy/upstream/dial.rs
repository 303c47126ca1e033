//! Reaching an app: TCP, TLS over TCP, or a unix socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use smallvec::SmallVec;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::Failure;
use super::io::Transport;
use crate::proxy::client_tls::{Trust, client_config};
use crate::proxy::{Location, StartError};

/// All that is needed to reach one app.
pub(super) enum Dial {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16, name: ServerName<'static>, connector: TlsConnector },
    Unix(PathBuf),
}

impl Dial {
    pub(super) fn new(location: &Location) -> Result<Self, StartError> {
        Ok(match location {
            Location::Tcp { host, port } => Self::Tcp { host: host.clone(), port: *port },
            Location::Unix(path) => Self::Unix(path.clone()),
            Location::Tls { host, port, ca } => {
                let name = ServerName::try_from(host.clone()).ok();
                let name = name.ok_or_else(|| StartError::ServerName(host.clone()))?;
                let config = client_config(Trust::Authorities(ca.as_deref()), None, &[b"http/1.1"]);
                let config =
                    config.map_err(|fault| StartError::Authorities { ca: fault.file, reason: fault.reason })?;
                let connector = TlsConnector::from(Arc::new(config));
                Self::Tls { host: host.clone(), port: *port, name, connector }
            }
        })
    }

    /// What to say as `Host` when we ask for ourselves.
    pub(super) fn host_value(&self) -> String {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    pub(super) async fn connect(&self) -> Result<Transport, Failure> {
        match self {
            Self::Tcp { host, port } => tcp(host, *port).await.map(Transport::Tcp),
            Self::Tls { host, port, name, connector } => {
                let stream = tcp(host, *port).await?;
                let stream = connector.connect(name.clone(), stream).await.map_err(Failure::Tls)?;
                Ok(Transport::Tls(Box::new(stream)))
            }
            Self::Unix(path) => UnixStream::connect(path).await.map(Transport::Unix).map_err(Failure::Connect),
        }
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses: SmallVec<[SocketAddr; 4]> =
        tokio::net::lookup_host((host, port)).await.map_err(Failure::Resolve)?.collect();
    let stream = TcpStream::connect(&*addresses).await.map_err(Failure::Connect)?;
    stream.set_nodelay(true).map_err(Failure::Connect)?;
    Ok(stream)
}
