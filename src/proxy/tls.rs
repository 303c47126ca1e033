//! TLS on the client side: certificates that follow their files, and nothing older than TLS 1.2.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::connection::print::{RttGap, TlsPrint};
use crate::connection::{Alpn, Transport, client_hello};
use crate::proxy::tap::Tap;
use crate::proxy::{Http2, RelayRtt, StartError, TlsFiles};
use crate::secret::sha256;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What a handshake leaves behind.
pub(super) struct Accepted {
    pub(super) stream: TlsStream<Tap<TcpStream>>,
    pub(super) transport: Transport,
    pub(super) print: Option<TlsPrint>,
    /// How much later the client answered within TLS than within TCP, if that was to be measured.
    pub(super) rtt_gap: Option<RttGap>,
}

/// The TLS side of one listener.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsFiles,
    http2: Http2,
    config: ArcSwap<ServerConfig>,
}

impl Tls {
    pub(super) fn load(files: &TlsFiles, http2: Http2) -> Result<Self, StartError> {
        let config = read(files, http2)?;
        Ok(Self { files: files.clone(), http2, config: ArcSwap::from_pointee(config) })
    }

    /// Takes the handshake; the caller sees to the time.
    ///
    /// The print is that of the first `ClientHello`. After a HelloRetryRequest there is a second one, which differs by what
    /// we asked for: it would tell of us, too.
    pub(super) async fn accept(&self, stream: TcpStream, relay_rtt: RelayRtt) -> std::io::Result<Accepted> {
        let tap = Tap::new(stream, client_hello::RECORDED_BYTES_MAX);
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), tap).await?;
        let print = client_hello::print(&start.io.take_kept());
        #[cfg(all(feature = "relay-rtt", target_os = "linux"))]
        if relay_rtt == RelayRtt::Measured {
            start.io.measure();
        }
        #[cfg_attr(
            not(all(feature = "relay-rtt", target_os = "linux")),
            expect(unused_mut, reason = "nothing is measured")
        )]
        let mut stream = start.into_stream(self.config.load_full()).await?;
        let rtt_gap = match relay_rtt {
            RelayRtt::Off => None,
            #[cfg(all(feature = "relay-rtt", target_os = "linux"))]
            RelayRtt::Measured => gap(stream.get_mut().0),
        };
        let (_, session) = stream.get_ref();
        let alpn = match session.alpn_protocol() {
            Some(b"h2") => Some(Alpn::Http2),
            Some(b"http/1.1") => Some(Alpn::Http1),
            _ => None,
        };
        let sni = session.server_name().map(Into::into);
        Ok(Accepted { stream, transport: Transport::Tls { sni, alpn }, print, rtt_gap })
    }

    /// Reads the files again when they change, until it is dropped. Files that can not be used leave the old ones in use.
    pub(super) async fn follow(&self) {
        let mut used = stamp(&self.files);
        let mut seen = used;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = stamp(&self.files);
            // Twice the same: whoever writes them has finished with both.
            if now == used || std::mem::replace(&mut seen, now) != now {
                continue;
            }
            used = now;
            match read(&self.files, self.http2) {
                Ok(config) => {
                    self.config.store(Arc::new(config));
                    tracing::info!(cert = %self.files.cert.display(), "the certificate was read again");
                }
                Err(error) => tracing::error!(%error, "the old certificate stays in use"),
            }
        }
    }
}

/// The answer to our side of the handshake is a way to whoever speaks TLS and back; the kernel knows how long one to whoever speaks
/// TCP takes. What has come in and waited for us to read it is no fault of either.
#[cfg(all(feature = "relay-rtt", target_os = "linux"))]
fn gap(tap: &mut Tap<TcpStream>) -> Option<RttGap> {
    let answer = tap.take_answer()?;
    let within_tcp = super::kernel::answers(tap.below())?;
    let lay_there = within_tcp.heard.saturating_sub(answer.heard.elapsed());
    Some(RttGap::of(answer.took.saturating_sub(lay_there).saturating_sub(within_tcp.rtt)))
}

/// Tells versions of the files apart, also when a clock or a copy left the time as it was.
fn stamp(files: &TlsFiles) -> [Option<(SystemTime, [u8; 32])>; 2] {
    [&files.cert, &files.key].map(|path| {
        let changed = std::fs::metadata(path).and_then(|meta| meta.modified()).ok()?;
        Some((changed, sha256(&std::fs::read(path).ok()?)))
    })
}

fn read(files: &TlsFiles, http2: Http2) -> Result<ServerConfig, StartError> {
    let fault = |reason: String| StartError::Certificate { cert: files.cert.clone(), reason };
    let chain = certificates(&files.cert).map_err(&fault)?;
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|error| fault(format!("its key {}: {error}", files.key.display())))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| fault(error.to_string()))?;
    config.alpn_protocols = match http2 {
        Http2::On => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Http2::Off => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(chain) }
}
