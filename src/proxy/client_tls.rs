//! TLS where we are the client: towards apps, and towards receivers of events.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};

/// What a server is shown that wants to know who asks: files in PEM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    /// The certificate, and those that it is signed by.
    pub(crate) certificate: &'a Path,
    /// Its key.
    pub(crate) key: &'a Path,
}

/// A file can not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which.
    pub(crate) file: String,
    /// Why.
    pub(crate) reason: String,
}

impl Fault {
    fn of(file: &Path) -> impl Fn(&dyn fmt::Display) -> Self {
        move |reason| Self { file: file.display().to_string(), reason: reason.to_string() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.reason)
    }
}

/// How a server is checked, by these authorities or those of the system, and what it is shown.
pub(crate) fn client_config(
    ca: Option<&Path>,
    identity: Option<Identity<'_>>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Fault> {
    let file = ca.unwrap_or(Path::new("the system's store"));
    let fault = Fault::of(file);
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| fault(&error))?;
            }
        }
        None => {
            // Some stores hold a certificate or two that cannot be read; the others are good.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(fault(&"there is not one certificate in it"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(&error))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let fault = Fault::of(key);
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(&error))?;
            config.with_client_auth_cert(certificates(certificate)?, key).map_err(|error| fault(&error))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = Fault::of(path);
    let all = CertificateDer::pem_file_iter(path).map_err(|error| fault(&error))?;
    all.map(|certificate| certificate.map_err(|error| fault(&error))).collect()
}
