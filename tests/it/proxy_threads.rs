//! Threads of a proxy: each connection stays on one, and none has more of them than another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use http::{request, response};
use portcullis::proxy::{Admitted, AnsweredBy, Arrival, Cut, Gate, RequestBody, Settings, Settled};

use crate::support::origin::{Origin, held, ok};
use crate::support::running::{Running, settings};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Notes on which threads the requests of each connection are, before and after the app is asked.
#[derive(Clone, Default)]
struct Watcher(Arc<Mutex<HashMap<String, Vec<ThreadId>>>>);

impl Watcher {
    fn note(&self, connection: &str) {
        let mut all = self.0.lock().unwrap();
        all.entry(connection.to_owned()).or_default().push(std::thread::current().id());
    }

    /// How many connections each thread had. Panics if one was on two.
    fn shares(&self) -> Vec<usize> {
        let mut shares: HashMap<ThreadId, usize> = HashMap::new();
        for threads in self.0.lock().unwrap().values_mut() {
            threads.dedup();
            let [only] = threads.as_slice() else { panic!("a connection was on {threads:?}") };
            *shares.entry(*only).or_default() += 1;
        }
        shares.into_values().collect()
    }
}

impl Gate for Watcher {
    type Admission = String;
    type Tether = ();

    async fn admit(&self, arrival: &Arrival, _: &mut request::Parts, _: &mut RequestBody) -> Admitted<String> {
        let connection = format!("{:?}", arrival.connection.peer());
        self.note(&connection);
        Admitted::Forward(connection)
    }

    async fn settle(&self, connection: String, _: AnsweredBy, _: &mut response::Parts) -> Settled<()> {
        self.note(&connection);
        Settled::default()
    }

    fn tether(&self, (): ()) -> Cut {
        Cut::never()
    }
}

fn on_threads(count: usize, origin: &Origin) -> Settings {
    Settings { threads: count.try_into().unwrap(), ..settings(origin) }
}

#[test]
fn connections_are_shared_out_evenly_and_stay_where_they_are() {
    const THREADS: usize = 4;
    let origin = Origin::start();
    let watcher = Watcher::default();
    let proxy = Running::start_with(on_threads(THREADS, &origin), watcher.clone());
    // All are open at the same time.
    let mut wires: Vec<_> = (0..3 * THREADS).map(|_| proxy.wire()).collect();
    for _ in 0..3 {
        for wire in &mut wires {
            assert_eq!(wire.send(GET).reply().text(), "hello");
        }
    }
    assert_eq!(watcher.shares(), [3; THREADS]);
    drop(wires);
    // With the proxy its threads end, and everything that was on them.
    proxy.join();
    assert_eq!(Arc::strong_count(&watcher.0), 1);
}

#[test]
fn a_thread_that_lost_its_connections_gets_the_next_ones() {
    let origin = Origin::start();
    let watcher = Watcher::default();
    let proxy = Running::start_with(on_threads(2, &origin), watcher.clone());
    for _ in 0..6 {
        // One after the other: all may be on the same thread, and none is left behind in its count.
        assert_eq!(proxy.wire().send(GET).reply().text(), "hello");
        proxy.wait_alone();
    }
    watcher.0.lock().unwrap().clear();
    let mut wires: Vec<_> = (0..6).map(|_| proxy.wire()).collect();
    for wire in &mut wires {
        assert_eq!(wire.send(GET).reply().text(), "hello");
    }
    assert_eq!(watcher.shares(), [3, 3]);
}

#[test]
fn dropping_a_running_proxy_ends_its_threads() {
    let origin = Origin::start();
    let watcher = Watcher::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let proxy = portcullis::proxy::Proxy::bind(settings(&origin), watcher.clone()).unwrap();
    let address = proxy.local_addrs()[0];
    let asked = std::thread::spawn(move || crate::support::wire::Wire::connect(address).send(GET).reply().status);
    runtime.block_on(async {
        tokio::select! {
            () = proxy.run(std::future::pending()) => {}
            status = tokio::task::spawn_blocking(|| asked.join().unwrap()) => assert_eq!(status.unwrap(), 200),
        }
    });
    drop(runtime);
    crate::support::running::until("the end of the threads", || Arc::strong_count(&watcher.0) == 1);
}

/// An app that serves one connection at a time would else wait for one that lies idle on another thread.
#[test]
fn threads_share_the_connections_to_an_app_where_they_are_few() {
    let origin = Origin::start();
    let mut settings = on_threads(2, &origin);
    settings.upstream.connections_max = 1;
    let proxy = Running::start(settings);
    let mut wires = [proxy.wire(), proxy.wire()];
    for _ in 0..10 {
        for wire in &mut wires {
            assert_eq!(wire.send(GET).reply().text(), "hello");
        }
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn streams_of_http2_count_for_their_thread() {
    let origin = Origin::start();
    let watcher = Watcher::default();
    let mut settings = on_threads(2, &origin);
    settings.listen[0].http2 = portcullis::proxy::Http2::On;
    let proxy = Running::start_with(settings, watcher.clone());
    let (release, act) = held("HTTP/1.1 204 No Content\r\n\r\n");
    origin.always(act);
    // Five requests under way on one connection: the next three connections go to the other thread.
    let get = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
    let mut busy = proxy.wire();
    busy.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    for stream in [1, 3, 5, 7, 9] {
        busy.send([0, 0, 6, 1, 5, 0, 0, 0, stream]).send(get);
    }
    origin.wait_heads(5);
    let mut wires: Vec<_> = (0..3).map(|_| proxy.wire()).collect();
    for wire in &mut wires {
        wire.send(GET);
    }
    origin.wait_heads(8);
    let mut shares = watcher.shares();
    shares.sort_unstable();
    assert_eq!(shares, [1, 3]);
    drop(release);
}

#[test]
fn every_thread_follows_a_reload() {
    let (one, two) = (Origin::start(), Origin::start());
    two.always(ok("two"));
    let before = on_threads(2, &one);
    let proxy = Running::start(before.clone());
    let mut wires = [proxy.wire(), proxy.wire()];
    for wire in &mut wires {
        assert_eq!(wire.send(GET).reply().text(), "hello");
    }
    let mut after = before;
    after.upstream = settings(&two).upstream;
    proxy.reload(after).unwrap();
    for wire in &mut wires {
        assert_eq!(wire.send(GET).reply().text(), "two");
    }
}
