//! Programs that take events: syslog over every transport, and what listens on a socket for datagrams.

use std::io::{self, BufRead as _, BufReader, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::running::until;

/// The messages that came, in order, the connections that they came over, and how many of these were ended as it should be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receiver(Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<TcpStream>>>, Arc<AtomicUsize>);

impl Receiver {
    /// Datagrams over UDP.
    pub(crate) fn udp() -> (SocketAddr, Self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (address, Self::datagrams(move |bytes| socket.recv(bytes)))
    }

    /// Datagrams to a socket of this machine.
    pub(crate) fn local(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        Self::datagrams(move |bytes| socket.recv(bytes))
    }

    fn datagrams(receive: impl Fn(&mut [u8]) -> io::Result<usize> + Send + 'static) -> Self {
        let receiver = Self::default();
        let to = receiver.clone();
        thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(count) = receive(&mut bytes) {
                to.0.lock().push(String::from_utf8(bytes[..count].to_vec()).unwrap());
            }
        });
        receiver
    }

    /// Messages over TCP, each behind the number of its octets (RFC 6587, 3.4.1), or over TLS.
    pub(crate) fn stream(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> Self {
        let receiver = Self::default();
        let to = receiver.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (to, tls) = (to.clone(), tls.clone());
                let open = stream.try_clone().unwrap();
                to.1.lock().push(stream.try_clone().unwrap());
                thread::spawn(move || {
                    match tls {
                        Some(tls) => to.frames(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream)),
                        None => to.frames::<TcpStream>(stream),
                    }
                    // The other end may have done it.
                    drop(open.shutdown(Shutdown::Both));
                });
            }
        });
        receiver
    }

    fn frames<S: Read>(&self, stream: S) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut length = Vec::new();
            if matches!(stream.read_until(b' ', &mut length), Ok(0)) {
                self.2.fetch_add(1, Ordering::SeqCst);
            }
            // Half a length is what whoever was killed has left.
            if length.pop() != Some(b' ') {
                return;
            }
            let length: usize = String::from_utf8(length).unwrap().parse().expect("a length of digits alone");
            let mut message = vec![0; length];
            if stream.read_exact(&mut message).is_err() {
                return;
            }
            self.0.lock().push(String::from_utf8(message).unwrap());
        }
    }

    /// How many connections were ended between two messages, and over TLS with a farewell.
    pub(crate) fn farewells(&self) -> usize {
        self.2.load(Ordering::SeqCst)
    }

    /// Forgets every connection, without a word of farewell to the other end but that it knows of none (RST).
    pub(crate) fn forget(&self) {
        for stream in self.1.lock().drain(..) {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    /// The first message with this in it, now or later.
    pub(crate) fn with(&self, what: &str) -> String {
        let found = || self.0.lock().iter().find(|message| message.contains(what)).cloned();
        until(&format!("a message with {what}"), || found().is_some());
        found().unwrap()
    }
}

/// The fingerprint of a certificate, as RFC 5425 writes it.
pub(crate) fn fingerprint(file: &Path) -> String {
    let certificate = CertificateDer::from_pem_file(file).unwrap();
    let octets = portcullis::secret::sha256(&certificate).map(|octet| format!("{octet:02X}"));
    format!("SHA-256:{}", octets.join(":"))
}

/// A certificate for `localhost`, as a file, and a server that shows it.
pub(crate) fn tls(folder: &Path) -> (PathBuf, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = folder.join("receiver.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    (file, Arc::new(config))
}
