//! Reaching an app: TCP, TLS over TCP, or a unix socket.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use smallvec::SmallVec;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::Failure;
use super::io::Transport;
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
                let connector = TlsConnector::from(Arc::new(client_config(ca.as_deref())?));
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

fn client_config(ca: Option<&Path>) -> Result<ClientConfig, StartError> {
    let named = || ca.map_or_else(|| "the system's store".to_owned(), |ca| ca.display().to_string());
    let fault = |reason: String| StartError::Authorities { ca: named(), reason };
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| fault(error.to_string()))?;
                roots.add(certificate).map_err(|error| fault(error.to_string()))?;
            }
        }
        None => {
            // Some stores hold a certificate or two that cannot be read; the others are good.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(fault("there is not one certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
