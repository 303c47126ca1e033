//! TLS towards receivers.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::transport::{Failure, plainly};
use crate::proxy::client_tls::{Identity, Trust, client_config};

/// How a receiver is checked, and what it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that its certificate must be signed by, as PEM; without it those of the system.
    pub ca: Option<PathBuf>,
    /// A certificate and its key, as PEM, if the receiver wants one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// SHA-256 of certificates, one of which it must have, whoever signed it and whatever name stands in it (RFC 5425, 4.2.2); if there
    /// are none it is checked as usual.
    pub fingerprints: Vec<[u8; 32]>,
}

impl Tls {
    /// The files are read for each connection, so new ones need no restart.
    pub(super) fn config(&self, alpn: &[&[u8]]) -> Result<ClientConfig, String> {
        let identity = self.identity.as_ref().map(|(certificate, key)| Identity { certificate, key });
        let trust = match self.fingerprints.as_slice() {
            [] => Trust::Authorities(self.ca.as_deref()),
            known => Trust::Fingerprints(known),
        };
        client_config(trust, identity, alpn).map_err(|fault| fault.to_string())
    }

    pub(super) fn connector(&self, alpn: &[&[u8]]) -> Result<TlsConnector, String> {
        Ok(TlsConnector::from(Arc::new(self.config(alpn)?)))
    }

    /// TLS over a connection to a host of that name.
    pub(super) async fn over(
        &self,
        stream: TcpStream,
        host: &str,
        alpn: &[&[u8]],
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let name = ServerName::try_from(host.to_owned()).map_err(Failure::again)?;
        let connector = self.connector(alpn).map_err(Failure::again)?;
        // It may list the names of their certificate.
        let connected = connector.connect(name, stream).await;
        connected.map_err(|why| Failure::again(format!("TLS: {}", plainly(why.to_string()))))
    }
}
