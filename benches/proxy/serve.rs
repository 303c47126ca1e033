//! Our own contenders, each in a process of its own: prints its address, serves until standard input ends.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::{Clock, SystemClock};
use portcullis::proxy::{Gate, Guarded, Location, Off, Proxy, Settings};
use portcullis::store::memory::MemoryStore;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use super::kept::{self, Kept};
use super::{bare, support};

/// As many as nginx has workers and haproxy threads. Beside those that serve, the proxy has one that accepts.
const THREADS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

pub(crate) fn serve(what: &str, app: &str) {
    let app: SocketAddr = app.parse().unwrap();
    let mut runtime = match what {
        "bare" => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let runtime = runtime.worker_threads(THREADS.get()).enable_all().build().unwrap();
    runtime.block_on(async {
        match what {
            "bare" => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                say(listener.local_addr().unwrap());
                tokio::select! {
                    () = bare::accept(listener, app) => {}
                    () = input_ended() => {}
                }
            }
            "off" => proxy(app, Off).await,
            "on" => {
                let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
                let (guard, writer) = support::guard(&clock, MemoryStore::default());
                proxy(app, Guarded::new(Arc::new(guard))).await;
                drop(writer);
            }
            "journal" | "dead" | "live" => {
                let kept = Kept::start(Duration::from_secs(1));
                let (_dead, dead) = kept::nobody();
                let delivery = match what {
                    "dead" => Some(kept.delivery(&dead)),
                    "live" => Some(kept.delivery(&kept::somebody())),
                    _ => None,
                };
                let guard = support::guard_that_tells(&kept.clock, MemoryStore::default(), kept.events.clone());
                proxy(app, Guarded::new(Arc::new(guard))).await;
                drop(delivery);
                kept.writer.stop(Duration::from_secs(5));
            }
            other => panic!("{other} is none of ours"),
        }
    });
    runtime.shutdown_background();
}

async fn proxy(app: SocketAddr, gate: impl Gate) {
    let upstream = Location::Tcp { host: app.ip().to_string(), port: app.port() };
    let settings = Settings { threads: THREADS, ..Settings::new("127.0.0.1:0".parse().unwrap(), upstream) };
    let proxy = Proxy::bind(settings, gate).unwrap();
    say(proxy.local_addrs()[0]);
    proxy.run(input_ended()).await;
}

fn say(address: SocketAddr) {
    let mut out = std::io::stdout();
    writeln!(out, "{address}").unwrap();
    out.flush().unwrap();
}

/// Whoever started us is gone, or wants us to go.
async fn input_ended() {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        drop(ended);
    });
    drop(end.await);
}
