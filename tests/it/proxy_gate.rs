//! What stands between: a gate can look, change, answer itself, and cut.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, request, response};
use portcullis::connection::Connection;
use portcullis::proxy::{
    Admitted, AnsweredBy, Arrival, Cut, Cutter, Extent, Fault, Gate, Lifetime, Looks, Problem, RequestBody, Settled,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::support::origin::{Act, Origin, held, raw};
use crate::support::running::{Recorder, Running, settings};
use crate::support::wire::PATIENCE;

/// A gate that writes down what it sees; `/denied` is denied, `/panic` panics.
#[derive(Clone, Default)]
struct Clerk(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    peeked: Vec<(Extent, Vec<u8>)>,
    settled: Vec<(AnsweredBy, u16)>,
    cutters: Vec<Cutter>,
}

impl Clerk {
    /// Waits for so many tethers and cuts them.
    fn cut(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        loop {
            let notes = self.0.lock().unwrap();
            if notes.cutters.len() >= count {
                notes.cutters.iter().for_each(Cutter::cut);
                return;
            }
            drop(notes);
            assert!(Instant::now() < end, "no tether was taken");
            std::thread::yield_now();
        }
    }
}

impl Gate for Clerk {
    type Admission = String;
    type Tether = ();

    async fn admit(&self, _: &Arrival, request: &mut request::Parts, body: &mut RequestBody) -> Admitted<String> {
        match request.uri.path() {
            "/denied" => return Admitted::Answer(Problem::Denied.answer(Looks::Json)),
            "/panic" => panic!("a bug in the gate"),
            _ => {}
        }
        let mut seen = Vec::new();
        if request.uri.path() == "/login" {
            let extent = body.peek(8, &mut seen).await.unwrap();
            self.0.lock().unwrap().peeked.push((extent, seen));
        }
        request.headers.insert("portcullis-subject", HeaderValue::from_static("alice"));
        Admitted::Forward(request.uri.path().to_owned())
    }

    async fn settle(&self, path: String, by: AnsweredBy, response: &mut response::Parts) -> Settled<()> {
        self.0.lock().unwrap().settled.push((by, response.status.as_u16()));
        response.headers.insert("x-path", path.parse().unwrap());
        Settled { tether: Some(()), instead: None }
    }

    fn tether(&self, (): ()) -> Cut {
        let (cutter, cut) = Cutter::new();
        self.0.lock().unwrap().cutters.push(cutter);
        cut
    }
}

fn guarded(origin: &Origin) -> (Running, Clerk) {
    let clerk = Clerk::default();
    (Running::start_with(settings(origin), clerk.clone()), clerk)
}

#[test]
fn a_gate_changes_both_halves() {
    let origin = Origin::start();
    let (proxy, clerk) = guarded(&origin);
    let mut wire = proxy.wire();
    let reply = wire.send("GET /x HTTP/1.1\r\nHost: a\r\nPortcullis-Subject: mallory\r\n\r\n").reply();
    assert_eq!(reply.header("x-path"), Some("/x"));
    assert_eq!(origin.wait(1).header("portcullis-subject"), Some("alice"));
    origin.next(Act::Close);
    // A new connection: nothing is tried again.
    let second = Running::start_with(settings(&origin), clerk.clone());
    let mut other = second.wire();
    assert_eq!(other.send("GET /y HTTP/1.1\r\nHost: a\r\n\r\n").reply().header("x-path"), Some("/y"));
    assert_eq!(clerk.0.lock().unwrap().settled, [(AnsweredBy::App, 200), (AnsweredBy::Proxy, 502)]);
    // A short answer is over before anything could cut it.
    assert!(clerk.0.lock().unwrap().cutters.is_empty());
}

#[test]
fn a_denial_needs_no_body_and_its_rest_is_no_request() {
    let origin = Origin::start();
    let (proxy, _) = guarded(&origin);
    let mut wire = proxy.wire();
    wire.send("POST /denied HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\nExpect: 100-continue\r\n\r\n");
    let reply = wire.reply();
    assert_eq!(reply.status, 403);
    assert_eq!(reply.header("proxy-status"), Some("portcullis; error=http_request_denied"));
    let mut wire = proxy.wire();
    wire.send("POST /denied HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
    wire.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000));
    assert_eq!(wire.reply().status, 403);
    wire.expect_closed();
    assert!(origin.seen().is_empty());
}

#[test]
fn a_body_that_was_peeked_at_arrives_whole() {
    let origin = Origin::start();
    let (proxy, clerk) = guarded(&origin);
    let mut wire = proxy.wire();
    let long = "u=alice&p=0123456789".repeat(5000);
    for body in ["u=alice", "12345678", long.as_str()] {
        let count = origin.seen().len();
        wire.send(format!("POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        assert_eq!(wire.reply().status, 200);
        let seen = origin.wait(count + 1);
        assert!(seen.body == body.as_bytes());
        assert_eq!(seen.header("content-length"), Some(body.len().to_string().as_str()));
    }
    wire.send("POST /login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nu=\r\n1\r\na\r\n0\r\n\r\n");
    assert_eq!(wire.reply().status, 200);
    assert_eq!(origin.wait(4).body, b"u=a");
    wire.send(
        "POST /login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\na\r\n0\r\n\
         X-Sum: 7\r\nCookie: a=b\r\n\r\n",
    );
    assert_eq!(wire.reply().status, 200);
    assert_eq!(origin.wait(5).body, b"a--trailers--\r\nx-sum: 7\r\n");
    let peeked = std::mem::take(&mut clerk.0.lock().unwrap().peeked);
    let expected: [(Extent, &[u8]); 5] = [
        (Extent::Whole, b"u=alice"),
        (Extent::Whole, b"12345678"),
        (Extent::Beginning, b"u=alice&"),
        (Extent::Whole, b"u=a"),
        (Extent::Whole, b"a"),
    ];
    assert!(peeked.iter().map(|(extent, seen)| (*extent, seen.as_slice())).eq(expected), "{peeked:?}");
}

#[test]
fn revocation_cuts_a_stream_within_a_second() {
    let origin = Origin::start();
    let (proxy, clerk) = guarded(&origin);
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let event = b"9\r\ndata: 1\n\n\r\n".to_vec();
    origin.next(Act::Slowly(vec![head, event, b"0\r\n\r\n".to_vec()], Duration::from_millis(300)));
    let mut wire = proxy.wire();
    assert_eq!(wire.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").head().status, 200);
    let begun = Instant::now();
    clerk.cut(1);
    wire.expect_closed();
    assert!(begun.elapsed() < Duration::from_secs(1));
    origin.wait_closed(1);
}

#[test]
fn revocation_cuts_a_websocket_within_a_second() {
    let origin = Origin::start();
    let (proxy, clerk) = guarded(&origin);
    let agree = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    origin.next(Act::Echo(agree.into()));
    let mut wire = proxy.wire();
    wire.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(wire.head().status, 101);
    assert_eq!(wire.send("hello").exactly(5, Instant::now() + PATIENCE), b"hello");
    let begun = Instant::now();
    clerk.cut(1);
    wire.expect_closed();
    origin.wait_closed(1);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn revocation_cuts_a_download_that_the_client_does_not_read() {
    let origin = Origin::start();
    let (proxy, clerk) = guarded(&origin);
    origin.next(crate::support::origin::ok(&"x".repeat(64 << 20)));
    let mut wire = proxy.wire();
    wire.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    let begun = Instant::now();
    clerk.cut(1);
    origin.wait_closed(1);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(wire.rest().len() < 64 << 20);
}

#[test]
fn h24_a_panic_ends_one_connection_only() {
    let origin = Origin::start();
    let (proxy, _) = guarded(&origin);
    let mut other = proxy.wire();
    assert_eq!(other.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
    proxy.wire().send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").expect_closed();
    assert_eq!(other.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
    assert_eq!(proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
}

/// Lets every request outlive its client, and breaks while it settles.
struct Broken(Recorder);

impl Gate for Broken {
    type Admission = ();
    type Tether = ();

    async fn admit(&self, _: &Arrival, _: &mut request::Parts, _: &mut RequestBody) -> Admitted<()> {
        Admitted::Forward(())
    }

    async fn settle(&self, (): (), _: AnsweredBy, _: &mut response::Parts) -> Settled<()> {
        panic!("a bug in the gate")
    }

    fn lifetime(&self, (): &()) -> Lifetime {
        Lifetime::UntilSettled
    }

    fn tether(&self, (): ()) -> Cut {
        Cut::never()
    }

    fn fault(&self, connection: &Arc<Connection>, fault: Fault) {
        self.0.fault(connection, fault);
    }
}

#[test]
fn h17_a_client_that_leaves_its_requests_alone_holds_an_eighth_of_the_places_at_the_app() {
    struct Patient;
    impl Gate for Patient {
        type Admission = ();
        type Tether = ();
        async fn admit(&self, _: &Arrival, _: &mut request::Parts, _: &mut RequestBody) -> Admitted<()> {
            Admitted::Forward(())
        }
        async fn settle(&self, (): (), _: AnsweredBy, _: &mut response::Parts) -> Settled<()> {
            Settled::default()
        }
        fn lifetime(&self, (): &()) -> Lifetime {
            Lifetime::UntilSettled
        }
        fn tether(&self, (): ()) -> Cut {
            Cut::never()
        }
    }
    let origin = Origin::start();
    origin.always(Act::Silence);
    let mut settings = settings(&origin);
    settings.upstream.connections_max = 16;
    let proxy = Running::start_with(settings, Patient);
    for left in 1..=6 {
        let mut wire = proxy.wire();
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        origin.wait_heads(left);
        drop(wire);
        // The first two go on; each one more ends with its client.
        origin.wait_closed(left.saturating_sub(2));
    }
    // Whoever waits for his answer is no such client.
    origin.always(crate::support::origin::ok("hello"));
    assert_eq!(proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status, 200);
}

#[test]
fn an_answer_that_may_change_the_session_is_settled_without_its_client() {
    /// Takes its time to settle, and notes when it begins and when it is done.
    struct Slow {
        notes: Sender<&'static str>,
        go_on: Arc<Notify>,
    }
    impl Gate for Slow {
        type Admission = ();
        type Tether = ();
        async fn admit(&self, _: &Arrival, _: &mut request::Parts, _: &mut RequestBody) -> Admitted<()> {
            Admitted::Forward(())
        }
        async fn settle(&self, (): (), _: AnsweredBy, _: &mut response::Parts) -> Settled<()> {
            let told = self.go_on.notified();
            self.notes.send("begun").unwrap();
            told.await;
            self.notes.send("done").unwrap();
            Settled::default()
        }
        fn tether(&self, (): ()) -> Cut {
            Cut::never()
        }
    }
    let origin = Origin::start();
    let (notes, read) = channel();
    let go_on = Arc::new(Notify::new());
    let proxy = Running::start_with(settings(&origin), Slow { notes, go_on: go_on.clone() });
    let ask = |headers: &str| {
        origin.next(raw(&format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n")));
        let mut wire = proxy.wire();
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(read.recv_timeout(PATIENCE).unwrap(), "begun");
        drop(wire);
        proxy.wait_alone();
        go_on.notify_waiters();
    };
    for headers in ["Set-Cookie: sessionid=2\r\n", "Portcullis-Session: login; subject=alice\r\n"] {
        ask(headers);
        assert_eq!(read.recv_timeout(PATIENCE).unwrap(), "done", "{headers}");
    }
    // One that can change nothing went with its client: what comes next is the end of the gate.
    ask("");
    proxy.join();
    assert!(read.recv_timeout(PATIENCE).is_err());
}

#[test]
fn h24_a_panic_after_the_client_has_gone_is_told_too() {
    let origin = Origin::start();
    let recorder = Recorder::default();
    let proxy = Running::start_with(settings(&origin), Broken(recorder.clone()));
    let (release, act) = held("HTTP/1.1 204 No Content\r\n\r\n");
    origin.next(act);
    let mut wire = proxy.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // One whose client has gone before it was even read is not asked at all.
    origin.wait(1);
    drop(wire);
    proxy.wait_alone();
    assert_eq!(recorder.all(), []);
    drop(release);
    recorder.wait(Fault::Panic);
    // Nor does the end of the proxy wait for what is broken.
    proxy.join();
    assert_eq!(recorder.all(), [Fault::Panic]);
}

#[test]
fn h18_what_peeks_of_a_client_hold_is_limited_and_given_back() {
    /// Looks at the beginning of every body, and goes on when it is told to.
    struct Reader {
        seen: Sender<bool>,
        go_on: Arc<Notify>,
    }
    impl Gate for Reader {
        type Admission = ();
        type Tether = ();
        async fn admit(&self, _: &Arrival, _: &mut request::Parts, body: &mut RequestBody) -> Admitted<()> {
            match body.peek(6000, &mut Vec::new()).await {
                Ok(_) => {
                    let told = self.go_on.notified();
                    self.seen.send(true).unwrap();
                    told.await;
                    Admitted::Forward(())
                }
                Err(_) => {
                    self.seen.send(false).unwrap();
                    Admitted::Answer(Problem::Busy.answer(Looks::Json))
                }
            }
        }
        async fn settle(&self, (): (), _: AnsweredBy, _: &mut response::Parts) -> Settled<()> {
            Settled::default()
        }
        fn tether(&self, (): ()) -> Cut {
            Cut::never()
        }
    }
    let origin = Origin::start();
    let (seen, read) = channel();
    let go_on = Arc::new(Notify::new());
    let mut settings = settings(&origin);
    // One client gets an eighth of it.
    settings.client.limits.peeked_bytes_max = 8 * 5000;
    settings.client.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    let proxy = Running::start_with(settings, Reader { seen, go_on: go_on.clone() });
    let post = |client: &str, size: usize| {
        let mut wire = proxy.wire();
        wire.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\nContent-Length: {size}\r\n\r\n{}",
            "x".repeat(size)
        ));
        wire
    };
    for _ in 0..2 {
        let mut passing = Vec::new();
        // What an earlier request held is given back a moment after its answer.
        let mut passes = |client, size| loop {
            let wire = post(client, size);
            if read.recv_timeout(PATIENCE).unwrap() {
                passing.push(wire);
                break;
            }
        };
        let is_refused = |client| {
            let status = post(client, 6000).reply().status;
            assert!(!read.recv_timeout(PATIENCE).unwrap());
            status == 503
        };
        passes("192.0.2.1", 6000);
        assert!(is_refused("192.0.2.1"));
        passes("192.0.2.1", 1000);
        passes("2001:db8::1", 6000);
        assert!(is_refused("2001:db8::2"), "the same household");
        go_on.notify_waiters();
        passing.iter_mut().for_each(|wire| assert_eq!(wire.reply().status, 200));
    }
}

#[test]
fn an_answer_of_the_gate_goes_out_as_it_is() {
    #[derive(Clone)]
    struct Teapot;
    impl Gate for Teapot {
        type Admission = ();
        type Tether = ();
        async fn admit(&self, _: &Arrival, _: &mut request::Parts, _: &mut RequestBody) -> Admitted<()> {
            let answer = http::Response::builder().status(418).header("x-tea", "1").body(Bytes::from_static(b"short"));
            Admitted::Answer(answer.unwrap())
        }
        async fn settle(&self, (): (), _: AnsweredBy, _: &mut response::Parts) -> Settled<()> {
            Settled::default()
        }
        fn tether(&self, (): ()) -> Cut {
            Cut::never()
        }
    }
    let origin = Origin::start();
    let proxy = Running::start_with(settings(&origin), Teapot);
    let reply = proxy.wire().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert_eq!((reply.status, reply.header("x-tea"), reply.text()), (418, Some("1"), "short"));
}
