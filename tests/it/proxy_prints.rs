//! What the transport of a client looks like, as the gate sees it: TLS and HTTP/2 through the real proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Version, request, response};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::connection::print::{Ja4, PseudoOrder, TlsPrint};
use portcullis::connection::{Connection, Http2Print, Print, client_hello};
use portcullis::proxy::{
    Admitted, AnsweredBy, Arrival, Cut, Fault, Gate, Http2, ProxyProtocol, RequestBody, Settings, Settled,
};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::proxy_http2::Client;
use crate::proxy_tls::{Certificate, ask, with_tls};
use crate::support::origin::Origin;
use crate::support::running::{Running, settings, until};
use crate::support::wire::PATIENCE;

/// A gate that lets everything through and keeps the prints, and the faults.
#[derive(Clone, Default)]
struct Observer(Arc<Mutex<(Vec<Print>, Vec<Fault>)>>);

impl Observer {
    /// Waits until so many requests were seen.
    fn prints(&self, count: usize) -> Vec<Print> {
        until("a request", || self.0.lock().unwrap().0.len() >= count);
        self.0.lock().unwrap().0.clone()
    }

    fn wait(&self, fault: Fault) {
        until(fault.as_str(), || self.0.lock().unwrap().1.contains(&fault));
    }
}

impl Gate for Observer {
    type Admission = ();
    type Tether = ();

    async fn admit(&self, arrival: &Arrival, _: &mut request::Parts, _: &mut RequestBody) -> Admitted<()> {
        self.0.lock().unwrap().0.push(arrival.print);
        Admitted::Forward(())
    }

    async fn settle(&self, (): (), _: AnsweredBy, _: &mut response::Parts) -> Settled<()> {
        Settled::default()
    }

    fn tether(&self, (): ()) -> Cut {
        Cut::never()
    }

    fn fault(&self, _: &Arc<Connection>, fault: Fault) {
        self.0.lock().unwrap().1.push(fault);
    }
}

/// A proxy that speaks TLS, an app behind it, and who sees the requests.
struct Scene {
    certificate: Certificate,
    observer: Observer,
    proxy: Running,
    _origin: Origin,
}

impl Scene {
    fn with_tls() -> Self {
        Self::set(|_| {})
    }

    fn set(change: impl FnOnce(&mut Settings)) -> Self {
        let (origin, certificate, observer) = (Origin::start(), Certificate::new(), Observer::default());
        let mut settings = with_tls(&origin, &certificate);
        change(&mut settings);
        let proxy = Running::start_with(settings, observer.clone());
        Self { certificate, observer, proxy, _origin: origin }
    }
}

fn to_localhost(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// Asks over a connection of its own. What of the handshake comes first is sent as `send` does it.
fn ask_over(
    to: SocketAddr,
    config: &Arc<ClientConfig>,
    send: impl FnOnce(&mut TcpStream, &[u8]),
) -> Option<HandshakeKind> {
    let mut connection = to_localhost(config);
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    send(&mut stream, &hello);
    let mut stream = StreamOwned::new(connection, stream);
    let reply = ask(&mut stream, "localhost").unwrap();
    assert!(reply.ends_with("hello"), "{reply}");
    stream.conn.handshake_kind()
}

fn at_once(stream: &mut TcpStream, hello: &[u8]) {
    stream.write_all(hello).unwrap();
}

#[test]
fn fresh_and_resumed_connections_of_one_client_have_one_core() {
    let scene = Scene::with_tls();
    let config = Arc::new(scene.certificate.config(&["http/1.1"]));
    let kinds: Vec<_> = (0..3).map(|_| ask_over(scene.proxy.address, &config, at_once)).collect();
    assert_eq!(kinds[0], Some(HandshakeKind::Full));
    assert!(kinds.contains(&Some(HandshakeKind::Resumed)), "{kinds:?}");
    // Another kind of connection of the same client, and another client.
    let bare = Arc::new(scene.certificate.config(&[]));
    ask_over(scene.proxy.address, &bare, at_once);
    let mut provider = default_provider();
    provider.kx_groups.truncate(1);
    ask_over(scene.proxy.address, &Arc::new(scene.certificate.config_of(provider, &["http/1.1"])), at_once);

    let prints: Vec<TlsPrint> = scene.observer.prints(5).iter().map(|print| print.tls.unwrap()).collect();
    assert!(prints[..4].iter().all(|print| print.core == prints[0].core), "{prints:x?}");
    assert_ne!(prints[4].core, prints[0].core);
    let ja4: Vec<String> = prints.iter().map(|print| print.ja4.unwrap().to_string()).collect();
    let parts: Vec<Vec<&str>> = ja4.iter().map(|ja4| ja4.split('_').collect()).collect();
    assert!(parts[0][0].starts_with("t13d") && parts[0][0].ends_with("h1"), "{ja4:?}");
    assert_eq!(parts[0][1], parts[2][1], "the ciphers are the same");
    assert_ne!(ja4[0], ja4[2], "JA4 tells resumed connections from fresh ones, and so it is no key");
    assert!(parts[3][0].ends_with("00"), "{ja4:?}");
    assert!(scene.observer.prints(5).iter().all(|print| print.http2.is_none()));
}

#[test]
fn a_hello_that_comes_octet_by_octet_or_in_many_records_has_the_same_print() {
    let scene = Scene::with_tls();
    // Without a store of tickets every connection is a fresh one.
    let mut config = scene.certificate.config(&["http/1.1"]);
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    ask_over(scene.proxy.address, &config, at_once);
    ask_over(scene.proxy.address, &config, |stream, hello| {
        for (at, octet) in hello.iter().enumerate() {
            stream.write_all(&[*octet]).unwrap();
            // Now and then long enough to be read by itself.
            if at % 40 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    ask_over(scene.proxy.address, &config, |stream, hello| {
        let (start, message) = hello.split_at(5);
        assert_eq!(usize::from(u16::from_be_bytes([start[3], start[4]])), message.len(), "one record");
        for fragment in message.chunks(50) {
            let length = u16::try_from(fragment.len()).unwrap().to_be_bytes();
            stream.write_all(&[&start[..3], &length, fragment].concat()).unwrap();
        }
    });
    let prints = scene.observer.prints(3);
    assert!(prints[0].tls.is_some());
    assert_eq!(prints, [prints[0]; 3]);
}

#[test]
fn after_a_retry_the_first_hello_counts() {
    let scene = Scene::with_tls();
    let mut provider = default_provider();
    // The group it sends a key for is none of ours.
    provider.kx_groups = vec![kx_group::MLKEM1024, kx_group::X25519];
    let config = Arc::new(scene.certificate.config_of(provider, &["http/1.1"]));
    let mut first = Vec::new();
    let kind = ask_over(scene.proxy.address, &config, |stream, hello| {
        at_once(stream, hello);
        first = hello.to_vec();
    });
    assert_eq!(kind, Some(HandshakeKind::FullWithHelloRetryRequest));
    assert_eq!(scene.observer.prints(1)[0].tls, client_hello::print(&first));
}

#[test]
fn what_is_no_hello_is_a_fault_of_tls_as_ever() {
    let mut hello = Vec::new();
    let config = Arc::new(Certificate::new().config(&["http/1.1"]));
    to_localhost(&config).write_tls(&mut hello).unwrap();
    let mut odd = hello.clone();
    // The list of ciphers ends within one of them.
    let at = 5 + 4 + 2 + 32 + 1 + 32 + 1;
    odd[at] |= 1;
    let endless = [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[7; 0x3ffc]].concat().repeat(5);
    for (what, octets) in [("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()), ("odd", odd), ("endless", endless)]
    {
        let scene = Scene::with_tls();
        let mut stream = TcpStream::connect(scene.proxy.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be closed before all is sent.
        drop(stream.write_all(&octets));
        scene.observer.wait(Fault::TlsHandshake);
        let mut said = Vec::new();
        if stream.read_to_end(&mut said).is_ok() && what != "endless" {
            assert_eq!(said.first(), Some(&21), "{what}: an alert");
        }
        assert!(scene.observer.0.lock().unwrap().0.is_empty(), "{what}");
    }
    // Half of one is waited for no longer than any other.
    let scene = Scene::set(|settings| settings.client.timeouts.header = Duration::from_millis(100));
    let mut wire = scene.proxy.wire();
    wire.send(&hello[..hello.len() / 2]).expect_closed();
    scene.observer.wait(Fault::TlsHandshake);
}

#[test]
fn of_plain_http1_the_first_packet_alone_is_known() {
    let scene = Scene::set(|settings| settings.listen[0].tls = None);
    let mut wire = scene.proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    let print = scene.observer.prints(1)[0];
    assert_eq!(print.syn.is_some(), cfg!(target_os = "linux"));
    assert_eq!(print, Print { syn: print.syn, ..Print::default() });
}

/// A request over a connection that was opened by a system which sends this hop limit.
fn ask_from(to: SocketAddr, hops: u32, before: &str) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_ttl_v4(hops).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{before}GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn the_first_packet_tells_systems_apart() {
    let scene = Scene::set(|settings| settings.listen[0].tls = None);
    for hops in [64, 64, 50, 128] {
        ask_from(scene.proxy.address, hops, "");
    }
    let classes: Vec<_> = scene.observer.prints(4).iter().map(|print| print.syn.unwrap()).collect();
    assert_eq!(classes[..3], [classes[0]; 3], "nearer or further away");
    assert_ne!(classes[3], classes[0]);
    // What a balancer opened tells of the balancer.
    let scene = Scene::set(|settings| {
        settings.listen[0].tls = None;
        settings.listen[0].proxy_protocol = ProxyProtocol::Required;
        settings.client.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    });
    ask_from(scene.proxy.address, 64, "PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n");
    assert_eq!(scene.observer.prints(1)[0].syn, None);
}

const BROWSER: &str = "1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p";

/// What a browser begins HTTP/2 with: `GET / a`, and a setting that it throws dice for.
fn browser(dice: u16) -> Vec<u8> {
    let mut octets = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x1e\x04\0\0\0\0\0".to_vec();
    for (id, value) in [(1, 65536), (2, 0), (4, 6_291_456), (dice, 7), (6, 262_144)] {
        octets.extend(u16::to_be_bytes(id));
        octets.extend(u32::to_be_bytes(value));
    }
    octets.extend(b"\0\0\x04\x08\0\0\0\0\0\0\xef\0\x01");
    octets.extend(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x41\x01a\x86\x84");
    octets
}

#[test]
fn the_first_request_over_http2_has_its_print() {
    let scene = Scene::set(|settings| settings.listen[0].tls = None);
    let mut whole = scene.proxy.wire();
    whole.send(browser(0x1a2a));
    scene.observer.prints(1);
    // In small pieces, and with more requests behind the first.
    let mut pieces = scene.proxy.wire();
    for piece in browser(0xeafa).chunks(5) {
        pieces.send(piece);
        std::thread::sleep(Duration::from_millis(1));
    }
    scene.observer.prints(2);
    pieces.send(b"\0\0\x06\x01\x05\0\0\0\x03\x82\x84\x86\x41\x01a");
    let syn = scene.observer.prints(1)[0].syn;
    let expected = Print { http2: Some(Http2Print::of_text(BROWSER)), syn, ..Print::default() };
    assert_eq!(scene.observer.prints(3), [expected; 3]);
    assert_eq!(expected.http2.unwrap().pseudo, Some(PseudoOrder(*b"masp")));
}

#[test]
fn one_program_has_one_print_of_http2() {
    let observer = Observer::default();
    let origin = Origin::start();
    let mut settings = settings(&origin);
    settings.listen[0].http2 = Http2::On;
    let proxy = Running::start_with(settings, observer.clone());
    let clients: Vec<Client> = (0..20)
        .map(|_| {
            let client = Client::connect(proxy.address);
            client.starts("http://a/", "x=1");
            client
        })
        .collect();
    let prints = observer.prints(20);
    assert!(prints[0].http2.unwrap().pseudo.is_some() && prints.iter().all(|print| *print == prints[0]), "{prints:?}");
    drop(clients);
}

#[test]
fn http2_over_tls_has_both_prints() {
    let scene = Scene::with_tls();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(scene.certificate.config(&["h2"])));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..5 {
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(scene.proxy.address).await.unwrap();
            let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (mut sender, connection) = handshake.await.unwrap();
            tokio::spawn(async { drop(connection.await) });
            let request = Request::get("https://localhost/").version(Version::HTTP_2);
            let reply = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
            assert_eq!(reply.status(), 200);
        });
    }
    let prints = scene.observer.prints(5);
    let keys = |print: &Print| (print.tls.unwrap().core, print.http2.unwrap());
    assert!(prints.iter().all(|print| keys(print) == keys(&prints[0])), "{prints:?}");
    assert!(prints[0].tls.unwrap().ja4.unwrap().as_str().split_once("h2_").is_some());
}

const JA4: &str = "t13d1516h2_8daaf6152771_e5627efa2ab1";

#[test]
fn a_proxy_that_is_trusted_may_state_the_ja4_of_its_client() {
    let name = HeaderName::from_static("cloudfront-viewer-ja4-fingerprint");
    let stated = TlsPrint::of_ja4(Ja4::parse(JA4).unwrap());
    for (network, expected) in [("127.0.0.0/8", stated), ("10.0.0.0/8", None)] {
        let origin = Origin::start();
        let observer = Observer::default();
        let mut settings = settings(&origin);
        settings.client.trusted_proxies = [network.parse().unwrap()].into_iter().collect();
        settings.client.ja4_header = Some(name.clone());
        let proxy = Running::start_with(settings, observer.clone());
        let mut wire = proxy.wire();
        wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n{name}: {JA4}\r\n\r\n")).reply();
        let print = observer.prints(1)[0];
        assert_eq!((print.tls, print.http2), (expected, None), "{network}");
        assert!(print.syn.is_none() || expected.is_none(), "the first packet of a proxy is not that of its client");
        // The app has it either way.
        assert_eq!(origin.wait(1).header(name.as_str()), Some(JA4));
    }
}

#[test]
fn the_tls_of_a_trusted_proxy_is_not_that_of_its_client() {
    let scene = Scene::set(|settings| {
        settings.client.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    });
    let config = Arc::new(scene.certificate.config(&["http/1.1"]));
    ask_over(scene.proxy.address, &config, at_once);
    assert_eq!(scene.observer.prints(1), [Print::default()]);
    // A balancer below HTTP passes the client's own TLS on.
    let scene = Scene::set(|settings| {
        settings.client.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        settings.listen[0].proxy_protocol = ProxyProtocol::Required;
    });
    let config = Arc::new(scene.certificate.config(&["http/1.1"]));
    ask_over(scene.proxy.address, &config, |stream, hello| {
        at_once(stream, &[&b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n"[..], hello].concat());
    });
    assert!(scene.observer.prints(1)[0].tls.is_some());
}

/// A client over somebody who ends its TCP and passes on what is in it, a little later.
#[cfg(all(feature = "relay-rtt", target_os = "linux"))]
#[test]
fn answers_within_tls_tell_of_somebody_in_between() {
    const LATER: Duration = Duration::from_millis(60);
    let measured = || Scene::set(|settings| settings.client.relay_rtt = portcullis::proxy::RelayRtt::Measured);
    let late = |scene: &Scene, relay: bool| {
        let config = Arc::new(scene.certificate.config(&["http/1.1"]));
        let to = if relay { relayed(scene.proxy.address, LATER) } else { scene.proxy.address };
        ask_over(to, &config, at_once);
        scene.observer.prints(1)[0].rtt_gap
    };
    let direct = late(&measured(), false).unwrap();
    let gap = late(&measured(), true).unwrap();
    // Each piece waits at least so long on its way; the kernel's own connection to the relay takes next to nothing.
    assert!(gap > direct && gap.as_millis() >= 60, "{direct:?} {gap:?}");
    assert_eq!(late(&Scene::with_tls(), true), None, "unless it is asked for");
    // What a balancer opened is no measure of the client.
    let scene = Scene::set(|settings| {
        settings.client.relay_rtt = portcullis::proxy::RelayRtt::Measured;
        settings.client.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        settings.listen[0].proxy_protocol = ProxyProtocol::Required;
    });
    let config = Arc::new(scene.certificate.config(&["http/1.1"]));
    ask_over(scene.proxy.address, &config, |stream, hello| {
        at_once(stream, &[&b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n"[..], hello].concat());
    });
    assert_eq!(scene.observer.prints(1)[0].rtt_gap, None);
}

/// Passes one connection on to there, each piece so much later, and tells where it is to be opened.
#[cfg(all(feature = "relay-rtt", target_os = "linux"))]
fn relayed(to: SocketAddr, later: Duration) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pass = move |mut from: TcpStream, mut into: TcpStream| {
        let mut octets = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut octets) {
            std::thread::sleep(later);
            if into.write_all(&octets[..count]).is_err() {
                break;
            }
        }
        // Either end may be gone already.
        drop(into.shutdown(std::net::Shutdown::Write));
    };
    std::thread::spawn(move || {
        let client = listener.accept().unwrap().0;
        let guard = TcpStream::connect(to).unwrap();
        let (client_too, guard_too) = (client.try_clone().unwrap(), guard.try_clone().unwrap());
        std::thread::spawn(move || pass(guard_too, client_too));
        pass(client, guard);
    });
    address
}
