//! TLS on both sides, and the PROXY protocol (hardening rules 6 and 24).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis::proxy::{Fault, Http2, Location, ProxyProtocol, Settings, TlsFiles};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::origin::Origin;
use crate::support::running::{Recorder, Running, settings};

/// A certificate in two files.
pub(crate) struct Certificate {
    directory: TempDir,
    der: CertificateDer<'static>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut certificate = Self { directory, der: CertificateDer::from(Vec::new()) };
        certificate.renew();
        certificate
    }

    fn renew(&mut self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "other.example".to_owned()]).unwrap();
        std::fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        self.der = made.cert.der().clone();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { cert: self.path("cert.pem"), key: self.path("key.pem") }
    }

    /// What a client is that trusts it.
    pub(crate) fn config(&self, alpn: &[&str]) -> ClientConfig {
        self.config_of(rustls::crypto::aws_lc_rs::default_provider(), alpn)
    }

    pub(crate) fn config_of(&self, provider: CryptoProvider, alpn: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    fn client(&self, to: &Running, name: &str, alpn: &[&str]) -> StreamOwned<ClientConnection, TcpStream> {
        let config = self.config(alpn);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(to.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        StreamOwned::new(connection, stream)
    }
}

pub(crate) fn ask(stream: &mut StreamOwned<ClientConnection, TcpStream>, host: &str) -> std::io::Result<String> {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}

pub(crate) fn with_tls(origin: &Origin, certificate: &Certificate) -> Settings {
    let mut settings = settings(origin);
    settings.listen[0].tls = Some(certificate.files());
    settings.listen[0].http2 = Http2::On;
    settings
}

#[test]
fn tls_ends_here_and_the_app_is_told() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    let proxy = Running::start(with_tls(&origin, &certificate));
    let mut client = certificate.client(&proxy, "localhost", &["http/1.1"]);
    let reply = ask(&mut client, "localhost").unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("hello"), "{reply}");
    assert_eq!(client.conn.alpn_protocol(), Some(b"http/1.1".as_slice()));
    let seen = origin.wait(1);
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;host=localhost;proto=https"));
    // HTTP/2 is agreed where it is offered, and nothing where only strangers are.
    let mut client = certificate.client(&proxy, "localhost", &["h2", "http/1.1"]);
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut header = [0; 9];
    client.read_exact(&mut header).unwrap();
    assert_eq!((client.conn.alpn_protocol(), header[3]), (Some(b"h2".as_slice()), 4));
    assert!(ask(&mut certificate.client(&proxy, "localhost", &["spdy/3"]), "localhost").is_err());
}

#[test]
fn h24_another_host_than_the_handshake_named_is_421() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    let recorder = Recorder::default();
    let proxy = Running::start_with(with_tls(&origin, &certificate), recorder.clone());
    let reply = ask(&mut certificate.client(&proxy, "other.example", &[]), "localhost").unwrap();
    assert!(reply.starts_with("HTTP/1.1 421 "), "{reply}");
    recorder.wait(Fault::Misdirected);
    let reply = ask(&mut certificate.client(&proxy, "other.example", &[]), "Other.Example:8443").unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
}

#[test]
fn h16_a_handshake_that_does_not_come_is_not_waited_for() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    let recorder = Recorder::default();
    let mut settings = with_tls(&origin, &certificate);
    settings.client.timeouts.header = Duration::from_millis(100);
    let proxy = Running::start_with(settings, recorder.clone());
    proxy.wire().expect_closed();
    recorder.wait(Fault::TlsHandshake);
    proxy.wire().send("GET / HTTP/1.1\r\n\r\n").rest();
}

#[test]
fn a_certificate_follows_its_files() {
    let origin = Origin::start();
    let mut certificate = Certificate::new();
    let proxy = Running::start(with_tls(&origin, &certificate));
    let mut kept = certificate.client(&proxy, "localhost", &[]);
    kept.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    certificate.renew();
    let end = Instant::now() + Duration::from_secs(15);
    while ask(&mut certificate.client(&proxy, "localhost", &[]), "localhost").is_err() {
        assert!(Instant::now() < end, "the new certificate never came into use");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Who was connected stays so.
    assert!(ask(&mut kept, "localhost").unwrap().contains("hello"));
}

#[test]
fn a_certificate_that_cannot_be_used_is_a_sentence() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    std::fs::write(certificate.path("cert.pem"), "nothing").unwrap();
    let error = portcullis::proxy::Proxy::bind(with_tls(&origin, &certificate), portcullis::proxy::Off).unwrap_err();
    assert!(error.to_string().starts_with("cannot use the certificate "), "{error}");
}

#[test]
fn an_app_behind_tls_is_reached_only_if_its_certificate_is_good() {
    let origin = Origin::start();
    let certificate = Certificate::new();
    // A proxy with TLS stands for an app that speaks it.
    let app = Running::start(with_tls(&origin, &certificate));
    let mut settings = settings(&origin);
    settings.name = "outer".to_owned();
    let location = |ca: &Certificate| Location::Tls {
        host: "localhost".to_owned(),
        port: app.address.port(),
        ca: Some(ca.path("cert.pem")),
    };
    settings.upstream.locations = vec![location(&certificate)];
    let proxy = Running::start(settings.clone());
    let mut wire = proxy.wire();
    assert_eq!(wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").reply().text(), "hello");
    assert_eq!(origin.wait(1).all("via"), ["1.1 outer", "1.1 portcullis"]);
    let stranger = Certificate::new();
    settings.upstream.locations = vec![location(&stranger)];
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings.clone(), recorder.clone());
    let ask = |proxy: &Running| proxy.wire().send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").reply();
    let reply = ask(&proxy);
    assert_eq!((reply.status, reply.header("proxy-status")), (502, Some("outer; error=tls_certificate_error")));
    assert_eq!(recorder.all(), [Fault::AppCertificate]);
    // An app that speaks no TLS.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap().port();
    let answers = std::thread::spawn(move || {
        let mut stream = plain.accept().unwrap().0;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    settings.upstream.locations =
        vec![Location::Tls { host: "127.0.0.1".to_owned(), port, ca: Some(stranger.path("cert.pem")) }];
    let reply = ask(&Running::start(settings));
    assert_eq!((reply.status, reply.header("proxy-status")), (502, Some("outer; error=tls_protocol_error")));
    answers.join().unwrap();
}

fn with_proxy_protocol(origin: &Origin, trusted: &str) -> Settings {
    let mut settings = settings(origin);
    settings.listen[0].proxy_protocol = ProxyProtocol::Required;
    settings.client.trusted_proxies = [trusted.parse().unwrap()].into_iter().collect();
    settings.client.timeouts.header = Duration::from_millis(200);
    settings
}

#[test]
fn h06_a_proxy_header_names_the_client() {
    let origin = Origin::start();
    let proxy = Running::start(with_proxy_protocol(&origin, "127.0.0.1/32"));
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut wire = proxy.wire();
    wire.send(format!("PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n{get}"));
    assert_eq!(wire.reply().text(), "hello");
    assert_eq!(origin.wait(1).header("x-forwarded-for"), Some("192.0.2.7"));
    // In pieces.
    let mut wire = proxy.wire();
    for piece in ["PRO", "XY TCP6 2001:db8::7 2001:db8::1 5000", " 80\r", "\nGET / HTTP/1.1\r\n", "Host: a\r\n\r\n"] {
        wire.send(piece);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(wire.reply().text(), "hello");
    assert_eq!(origin.wait(2).header("x-forwarded-for"), Some("2001:db8::7"));
    // Version 2.
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&[198, 51, 100, 9, 192, 0, 2, 1, 0x13, 0x88, 0, 80]);
    assert_eq!(proxy.wire().send([header, get.into()].concat()).reply().text(), "hello");
    assert_eq!(origin.wait(3).header("x-forwarded-for"), Some("198.51.100.9"));
}

#[test]
fn h06_a_proxy_header_is_never_guessed() {
    let origin = Origin::start();
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n";
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    // Not asked for: a malformed request.
    let plain = Running::in_front_of(&origin);
    assert_eq!(plain.wire().send(format!("{header}{get}")).reply().status, 400);
    // Asked for and missing, late, or from a stranger: closed without a word.
    let recorder = Recorder::default();
    let proxy = Running::start_with(with_proxy_protocol(&origin, "127.0.0.1/32"), recorder.clone());
    proxy.wire().send(get).expect_closed();
    proxy.wire().send("PROXY TCP4 ").expect_closed();
    recorder.wait(Fault::ProxyProtocol);
    let recorder = Recorder::default();
    let proxy = Running::start_with(with_proxy_protocol(&origin, "10.0.0.0/8"), recorder.clone());
    proxy.wire().send(format!("{header}{get}")).expect_closed();
    recorder.wait(Fault::ProxyProtocol);
    assert!(origin.seen().is_empty());
}
