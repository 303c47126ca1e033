//! TLS where we are the client: towards apps, and towards receivers of events.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::secret::sha256;

/// Whom to believe.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust<'a> {
    /// A certificate for the name of the server that one of these authorities vouches for: a file in PEM, or those of the system.
    Authorities(Option<&'a Path>),
    /// A certificate with one of these SHA-256, whatever stands in it (RFC 5425, 4.2.2).
    Fingerprints(&'a [[u8; 32]]),
}

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

/// How a server is checked, and what it is shown.
pub(crate) fn client_config(
    trust: Trust<'_>,
    identity: Option<Identity<'_>>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault { file: "TLS".to_owned(), reason: error.to_string() })?;
    let builder = match trust {
        Trust::Authorities(ca) => builder.with_root_certificates(roots(ca)?),
        Trust::Fingerprints(known) => {
            let verifier = ByFingerprint { known: known.to_vec(), provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let fault = Fault::of(key);
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(&error))?;
            builder.with_client_auth_cert(certificates(certificate)?, key).map_err(|error| fault(&error))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Fault> {
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
    Ok(roots)
}

/// Believes a certificate by its fingerprint. Whoever shows it must have its key, as always.
#[derive(Debug)]
struct ByFingerprint {
    known: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.known.contains(&sha256(end_entity)) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = Fault::of(path);
    let all = CertificateDer::pem_file_iter(path).map_err(|error| fault(&error))?;
    all.map(|certificate| certificate.map_err(|error| fault(&error))).collect()
}
