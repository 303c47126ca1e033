//! HTTP/2 on the client side: the same duties, and floods (hardening rules 3, 13, 15 to 17).

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version, request, response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::connection::Connection;
use portcullis::proxy::{
    Admitted, AnsweredBy, Arrival, Cut, Fault, Gate, Http2, Looks, PeekError, Problem, RequestBody, Settings, Settled,
};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::origin::{Act, Origin, held};
use crate::support::running::{Recorder, Running, settings};
use crate::support::wire::{PATIENCE, Wire};

fn with_http2(origin: &Origin) -> Settings {
    let mut settings = settings(origin);
    settings.listen[0].http2 = Http2::On;
    settings
}

/// A client that speaks HTTP/2 at once.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let sender = runtime.block_on(async {
            let io = TokioIo::new(TcpStream::connect(to).await.unwrap());
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(async { drop(connection.await) });
            sender
        });
        Self { runtime, sender }
    }

    /// Posts a form and does not wait for the answer.
    pub(crate) fn starts(&self, uri: &str, form: &str) {
        let request = Request::post(uri).version(Version::HTTP_2).body(Full::from(form.to_owned())).unwrap();
        let mut sender = self.sender.clone();
        self.runtime.spawn(async move { sender.send_request(request).await.map(drop) });
    }

    fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, hyper::Error> {
        self.runtime.block_on(async {
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        })
    }
}

fn get(uri: &str) -> request::Builder {
    Request::get(uri).version(Version::HTTP_2)
}

#[test]
fn http2_reaches_an_app_that_speaks_http1() {
    let origin = Origin::start();
    let proxy = Running::start(with_http2(&origin));
    let mut client = Client::connect(proxy.address);
    let request = get("http://shop.example/a%2F?b").header("cookie", "a=1").header("cookie", "b=2");
    let reply = client.send(request.body(Full::default()).unwrap()).unwrap();
    assert_eq!((reply.status().as_u16(), reply.body().as_ref()), (200, b"hello".as_slice()));
    let seen = origin.wait(1);
    assert_eq!(seen.request_line(), "GET /a%2F?b HTTP/1.1");
    assert_eq!((seen.header("host"), seen.header("cookie")), (Some("shop.example"), Some("a=1; b=2")));
    assert_eq!(seen.all("via"), ["2.0 portcullis"]);

    let post = Request::post("http://a/").version(Version::HTTP_2).body(Full::from("12345")).unwrap();
    assert_eq!(client.send(post).unwrap().status(), 200);
    let seen = origin.wait(2);
    assert_eq!((seen.body.as_slice(), seen.header("content-length")), (b"12345".as_slice(), Some("5")));
    assert_eq!(origin.connections(), 1);
    // HTTP/1.1 is spoken on the same port.
    assert_eq!(proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().text(), "hello");
}

#[test]
fn h03_authority_and_host_must_agree() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(with_http2(&origin), recorder.clone());
    let mut client = Client::connect(proxy.address);
    let request = get("http://a/").header("host", "b").body(Full::default()).unwrap();
    assert_eq!(client.send(request).unwrap().status(), 400);
    recorder.wait(Fault::Host);
    let request = get("http://a/").header("host", "a").body(Full::default()).unwrap();
    assert_eq!(client.send(request).unwrap().status(), 200);
}

#[test]
fn h15_limits_hold_for_http2_too() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(with_http2(&origin), recorder.clone());
    let mut client = Client::connect(proxy.address);
    let long = get(&format!("http://a/{}", "x".repeat(9000))).body(Full::default()).unwrap();
    assert_eq!(client.send(long).unwrap().status(), 414);
    let crumbs = (0..120).fold(get("http://a/"), |request, number| request.header("cookie", format!("c{number}=1")));
    assert_eq!(client.send(crumbs.body(Full::default()).unwrap()).unwrap().status(), 431);
    let huge = |size: usize| get("http://a/").header("x", "y".repeat(size)).body(Full::default()).unwrap();
    assert_eq!(client.send(huge(40 << 10)).unwrap().status(), 431);
    assert_eq!(recorder.all(), [Fault::UriTooLong, Fault::HeadersTooLarge, Fault::HeadersTooLarge],);
    // This one the parser answers by itself.
    assert_eq!(client.send(huge(80 << 10)).map_or(431, |reply| reply.status().as_u16()), 431);
    assert_eq!(client.send(huge(1)).unwrap().status(), 200);
    recorder.wait(Fault::Http2Refused);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn h01_a_length_in_http2_is_one_number() {
    let origin = Origin::start();
    let proxy = Running::start(with_http2(&origin));
    let mut client = Client::connect(proxy.address);
    for lengths in [vec!["5", "5"], vec!["+5"], vec!["5, 5"], vec!["4"], vec!["6"]] {
        let request = Request::post("http://a/").version(Version::HTTP_2);
        let request = lengths.iter().fold(request, |request, length| request.header("content-length", *length));
        let refused = client.send(request.body(Full::from("12345")).unwrap());
        assert!(refused.is_err() || refused.unwrap().status() == 400, "{lengths:?}");
        if client.sender.is_closed() {
            client = Client::connect(proxy.address);
        }
    }
    assert!(origin.seen().iter().all(|seen| !seen.whole), "{:?}", origin.seen());
}

#[test]
fn many_requests_at_once() {
    let origin = Origin::start();
    let proxy = Running::start(with_http2(&origin));
    let client = Client::connect(proxy.address);
    let statuses = client.runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for number in 0..200 {
            let mut sender = client.sender.clone();
            all.spawn(async move {
                let request = get(&format!("http://a/{number}")).body(Full::default()).unwrap();
                let reply = sender.send_request(request).await.unwrap();
                reply.into_body().collect().await.unwrap().to_bytes()
            });
        }
        all.join_all().await
    });
    assert!(statuses.iter().all(|body| body.as_ref() == b"hello"));
    assert_eq!(statuses.len(), 200);
}

#[test]
fn h24_a_drain_lets_streams_finish() {
    let origin = Origin::start();
    let late = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate".to_vec();
    origin.next(Act::Slowly(vec![late], Duration::from_millis(150)));
    let mut proxy = Running::start(with_http2(&origin));
    let client = Client::connect(proxy.address);
    let mut sender = client.sender.clone();
    let waiting = client.runtime.spawn(async move {
        let reply = sender.send_request(get("http://a/").body(Full::default()).unwrap()).await.unwrap();
        reply.into_body().collect().await.unwrap().to_bytes()
    });
    origin.wait(1);
    proxy.stop();
    assert_eq!(client.runtime.block_on(waiting).unwrap().as_ref(), b"late");
    proxy.join();
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `GET / a` in HPACK, all from the static table but the authority.
const HEADERS: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

fn flood(proxy: &Running, each: impl Fn(u32) -> Vec<u8>) {
    let mut wire: Wire = proxy.wire();
    wire.send(PREFACE);
    for number in 0..3000 {
        wire.send(each(number));
    }
    // Whatever was said before, the connection is closed.
    wire.rest();
}

#[test]
fn h17_floods_of_control_frames_end_the_connection() {
    let origin = Origin::start();
    type Each = fn(u32) -> Vec<u8>;
    let floods: [(&str, Each); 5] = [
        ("PING", |_| frame(6, 0, 0, &[0; 8])),
        ("SETTINGS", |_| frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ("PRIORITY", |_| frame(2, 0, 1, &[0; 5])),
        ("empty DATA", |number| match number {
            0 => frame(1, 4, 1, &[0x83, 0x86, 0x84, 0x41, 0x01, b'a']),
            _ => frame(0, 0, 1, &[]),
        }),
        ("WINDOW_UPDATE", |_| frame(8, 0, 0, &[0, 0, 0, 1])),
    ];
    for (name, each) in floods {
        let recorder = Recorder::default();
        let proxy = Running::start_with(with_http2(&origin), recorder.clone());
        flood(&proxy, each);
        // The parser underneath has had enough of empty DATA before we have; who comes first does not matter.
        if name != "empty DATA" {
            recorder.wait(Fault::Http2Flood);
        }
        assert!(recorder.all().len() <= 1, "{name}");
    }
}

#[test]
fn h17_rapid_reset_is_stopped_also_after_dispatch() {
    let origin = Origin::start();
    origin.always(Act::Silence);
    let recorder = Recorder::default();
    let proxy = Running::start_with(with_http2(&origin), recorder.clone());
    let mut wire = proxy.wire();
    wire.send(PREFACE);
    for number in 0..3000 {
        wire.send(frame(1, 5, number * 2 + 1, HEADERS));
        // Long enough for some of them to be on their way to the app.
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        wire.send(frame(3, 0, number * 2 + 1, &[0, 0, 0, 8]));
    }
    wire.rest();
    assert!(origin.connections() < 500, "{} requests went through", origin.connections());
    recorder.wait(Fault::Http2Flood);
}

#[test]
fn h17_a_flood_of_continuation_frames_ends_the_connection() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(with_http2(&origin), recorder.clone());
    let mut wire = proxy.wire();
    wire.send(PREFACE).send(frame(1, 0, 1, HEADERS));
    for _ in 0..2000 {
        // A field that is not indexed: "x: y".
        wire.send(frame(9, 0, 1, &[0, 1, b'x', 1, b'y']));
    }
    wire.rest();
    recorder.wait(Fault::Http2Flood);
    assert!(origin.seen().is_empty());
}

#[test]
fn h15_what_the_parser_of_http2_refuses_by_itself_is_told_too() {
    let origin = Origin::start();
    // Without a path; with a field that only HTTP/1 has; with its own field after the others.
    let malformed: [&[u8]; 3] = [
        &[0x82, 0x86, 0x41, 0x01, b'a'],
        &[
            0x82, 0x86, 0x84, 0x41, 0x01, b'a', 0, 10, b'c', b'o', b'n', b'n', b'e', b'c', b't', b'i', b'o', b'n', 1,
            b'x',
        ],
        &[0x82, 0x86, 0x41, 0x01, b'a', 0, 1, b'x', 1, b'y', 0x84],
    ];
    for block in malformed {
        let recorder = Recorder::default();
        let proxy = Running::start_with(with_http2(&origin), recorder.clone());
        let mut wire = proxy.wire();
        wire.send(PREFACE).send(frame(1, 5, 1, block));
        let mut said = Vec::new();
        while !said.ends_with(&[0, 0, 4, 3, 0, 0, 0, 0, 1]) {
            said.extend(wire.exactly(1, Instant::now() + PATIENCE));
        }
        // It is noticed when the parser asks for more.
        wire.send(frame(6, 0, 0, &[0; 8]));
        recorder.wait(Fault::Http2Refused);
        wire.finish().rest();
        assert_eq!(recorder.all().len(), 1, "{block:?}");
    }
    // One that is all right is not told, however its head is split.
    let recorder = Recorder::default();
    let proxy = Running::start_with(with_http2(&origin), recorder.clone());
    let mut wire = proxy.wire();
    let (first, rest) = HEADERS.split_at(3);
    wire.send(PREFACE).send(frame(1, 1, 1, first)).send(frame(9, 4, 1, rest));
    wire.send(frame(1, 5, 3, HEADERS)).send(frame(6, 0, 0, &[0; 8]));
    origin.wait_heads(2);
    // Nor one that the client takes back in the same breath.
    wire.send([frame(1, 5, 5, HEADERS), frame(3, 0, 5, &[0, 0, 0, 8])].concat());
    wire.send(frame(1, 5, 7, HEADERS));
    origin.wait_heads(3);
    wire.send(frame(6, 0, 0, &[0; 8])).finish().rest();
    assert_eq!(recorder.all(), []);
}

#[test]
fn h15_a_header_bomb_is_refused() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(with_http2(&origin), recorder.clone());
    // One field of 3000 octets in the table (3000 = 127 + 57 + 22 * 128), named again and again.
    let mut bomb = HEADERS.to_vec();
    bomb.extend_from_slice(&[0x40, 0x01, b'x', 0x7f, 0xb9, 22]);
    bomb.extend(std::iter::repeat_n(b'y', 3000));
    bomb.extend(std::iter::repeat_n(0xbe, 4000));
    let mut wire = proxy.wire();
    wire.send(PREFACE).send(frame(1, 5, 1, &bomb));
    std::thread::sleep(Duration::from_millis(50));
    wire.finish().rest();
    recorder.wait(Fault::Http2Flood);
    assert!(origin.seen().is_empty());
    assert_eq!(proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
}

#[test]
fn h24_a_drain_says_goaway_and_finishes_what_is_in_hand() {
    let origin = Origin::start();
    let (release, act) = held("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    origin.next(act);
    let mut proxy = Running::start(with_http2(&origin));
    let mut wire = proxy.wire();
    wire.send(PREFACE).send(frame(1, 5, 1, HEADERS));
    origin.wait_heads(1);
    proxy.stop();
    let mut said = Vec::new();
    let mut hears = |octets: &[u8]| {
        while !said.ends_with(octets) {
            said.extend(wire.exactly(1, Instant::now() + PATIENCE));
        }
    };
    hears(&[0, 0, 8, 7, 0, 0, 0, 0, 0]);
    drop(release);
    hears(b"late");
    drop(wire);
    proxy.join();
}

#[test]
fn h16_an_idle_http2_connection_is_closed_and_ping_is_not_activity() {
    let origin = Origin::start();
    let mut settings = with_http2(&origin);
    settings.client.timeouts.idle = Duration::from_millis(200);
    let proxy = Running::start(settings);
    let mut wire = proxy.wire();
    wire.send(PREFACE);
    let begun = Instant::now();
    for _ in 0..200 {
        // In two pieces: the first looks like the beginning of anything.
        let ping = frame(6, 0, 0, &[0; 8]);
        wire.send(&ping[..5]);
        std::thread::sleep(Duration::from_millis(10));
        wire.send(&ping[5..]);
    }
    wire.rest();
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[test]
fn h16_a_stream_that_the_client_does_not_take_ends_the_connection() {
    let origin = Origin::start();
    origin.always(crate::support::origin::ok(&"x".repeat(1 << 20)));
    let recorder = Recorder::default();
    let mut settings = with_http2(&origin);
    settings.client.timeouts.body = Duration::from_millis(150);
    let proxy = Running::start_with(settings, recorder.clone());
    let mut wire = proxy.wire();
    // The window is the default, 64 KiB, and is never opened again.
    wire.send(PREFACE).send(frame(1, 5, 1, HEADERS));
    wire.rest();
    recorder.wait(Fault::WriteTimeout);
    origin.wait_closed(1);
}

/// What is sent of a body: these octets again and again, with a pause before each.
struct Trickle(tokio::time::Interval, &'static [u8]);

impl http_body::Body for Trickle {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_tick(cx).map(|_| Some(Ok(http_body::Frame::data(Bytes::from_static(self.1)))))
    }
}

/// The status of the answer to a body that comes like this.
fn trickled(proxy: &Running, path: &str, pause: Duration, octets: &'static [u8]) -> u16 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let io = TokioIo::new(TcpStream::connect(proxy.address).await.unwrap());
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        let body = Trickle(tokio::time::interval(pause), octets);
        let request = Request::post(format!("http://a{path}")).version(Version::HTTP_2).body(body).unwrap();
        let reply = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        reply.expect("an answer").unwrap().status().as_u16()
    })
}

/// A gate that looks at every body.
struct Peeker(Recorder);

impl Gate for Peeker {
    type Admission = ();
    type Tether = ();

    async fn admit(&self, _: &Arrival, _: &mut request::Parts, body: &mut RequestBody) -> Admitted<()> {
        match body.peek(1 << 20, &mut Vec::new()).await {
            Ok(_) => Admitted::Forward(()),
            Err(PeekError::TooSlow) => Admitted::Answer(Problem::RequestTimeout.answer(Looks::Json)),
            Err(error) => panic!("{error}"),
        }
    }

    async fn settle(&self, (): (), _: AnsweredBy, _: &mut response::Parts) -> Settled<()> {
        Settled::default()
    }

    fn tether(&self, (): ()) -> Cut {
        Cut::never()
    }

    fn fault(&self, connection: &Arc<Connection>, fault: Fault) {
        self.0.fault(connection, fault);
    }
}

/// A stream with a silent or a slow body used to hold its place at the app for ever.
#[test]
fn h18_a_slow_body_of_one_stream_is_408_and_gives_its_place_back() {
    const SHORT: Duration = Duration::from_millis(150);
    let (hour, moment) = (Duration::from_secs(3600), Duration::from_millis(5));
    for (pause, octets) in [(hour, b"x"), (moment, b"x")] {
        let origin = Origin::start();
        let mut settings = with_http2(&origin);
        settings.client.timeouts.body = SHORT;
        settings.client.limits.body_rate_min = 10_000;
        settings.client.limits.body_rate_grace = SHORT;
        let recorder = Recorder::default();
        let proxy = Running::start_with(settings.clone(), recorder.clone());
        assert_eq!(trickled(&proxy, "/", pause, octets), 408);
        recorder.wait(Fault::BodyTimeout);
        origin.wait_closed(1);
        assert!(!origin.wait(1).whole);

        // Also where the gate waits for it, and the app was not asked yet.
        let recorder = Recorder::default();
        let proxy = Running::start_with(settings, Peeker(recorder.clone()));
        assert_eq!(trickled(&proxy, "/", pause, octets), 408);
        recorder.wait(Fault::BodyTimeout);
        assert_eq!(origin.connections(), 1);
    }
}

/// hyper takes a reset without an error for the end of the body.
#[test]
fn h11_a_body_whose_stream_is_reset_does_not_look_finished() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(with_http2(&origin), recorder.clone());
    let mut wire = proxy.wire();
    let post = [0x83, 0x86, 0x84, 0x41, 0x01, b'a'];
    wire.send(PREFACE).send(frame(1, 4, 1, &post)).send(frame(0, 0, 1, b"hello"));
    origin.wait_heads(1);
    wire.send(frame(3, 0, 1, &[0; 4]));
    assert!(!origin.wait(1).whole);
    wire.finish().rest();
    assert_eq!(recorder.all(), [], "the app is not to blame");
}

#[test]
fn h16_a_preface_that_does_not_come_is_not_waited_for() {
    let origin = Origin::start();
    let mut settings = with_http2(&origin);
    settings.client.timeouts.header = Duration::from_millis(100);
    let proxy = Running::start(settings);
    proxy.wire().send("PR").expect_closed();
    let mut wire = proxy.wire();
    wire.send("PRI * HTTP/2.0\r\n").rest();
}
