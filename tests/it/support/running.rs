//! A proxy that really runs, on a port of its own.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use http::{request, response};
use portcullis::connection::Connection;
use portcullis::proxy::{
    Admitted, AnsweredBy, Arrival, Cut, ExchangeFigures, Fault, Gate, Location, Off, Proxy, RequestBody, Settings,
    Settled, StartError,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::origin::Origin;
use super::wire::{PATIENCE, Wire};

/// A running proxy, ended when it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    reload: Box<dyn Fn(Settings) -> Result<(), StartError> + Send>,
    connections: Box<dyn Fn() -> usize + Send>,
    exchanges: Box<dyn Fn() -> ExchangeFigures + Send>,
}

/// A proxy on a port of its own and on one thread, in front of this app, otherwise with the defaults.
pub(crate) fn settings(origin: &Origin) -> Settings {
    let app = origin.address();
    let upstream = Location::Tcp { host: app.ip().to_string(), port: app.port() };
    // One thread, so that a connection to the app is kept for everybody, on every machine.
    Settings { threads: NonZeroUsize::MIN, ..Settings::new("127.0.0.1:0".parse().unwrap(), upstream) }
}

impl Running {
    pub(crate) fn start(settings: Settings) -> Self {
        Self::start_with(settings, Off)
    }

    pub(crate) fn start_with(settings: Settings, gate: impl Gate) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let proxy = Proxy::bind(settings, gate).unwrap();
        let address = proxy.local_addrs()[0];
        let handle = proxy.handle();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(proxy.run(async { drop(stopped.await) }));
            runtime.shutdown_background();
        });
        let counted = handle.clone();
        let reload = Box::new(move |settings| handle.reload(settings));
        let watched = counted.clone();
        let connections = Box::new(move || counted.connections());
        let exchanges = Box::new(move || watched.exchanges());
        Self { address, stop: Some(stop), thread: Some(thread), reload, connections, exchanges }
    }

    pub(crate) fn in_front_of(origin: &Origin) -> Self {
        Self::start(settings(origin))
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.address)
    }

    pub(crate) fn reload(&self, settings: Settings) -> Result<(), StartError> {
        (self.reload)(settings)
    }

    /// What became of requests that went to the app.
    pub(crate) fn exchanges(&self) -> ExchangeFigures {
        (self.exchanges)()
    }

    /// Waits until every connection of a client has ended.
    pub(crate) fn wait_alone(&self) {
        until("no connection", || (self.connections)() == 0);
    }

    /// Gives the shutdown signal.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
    }

    /// Gives the shutdown signal and waits for the end.
    pub(crate) fn join(mut self) {
        self.stop.take();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take();
    }
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// A gate that lets everything through and keeps the faults.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Fault>>>);

impl Recorder {
    /// Waits until there is a fault of this kind.
    pub(crate) fn wait(&self, fault: Fault) {
        until(&format!("{fault:?}"), || self.all().contains(&fault));
    }

    pub(crate) fn all(&self) -> Vec<Fault> {
        self.0.lock().unwrap().clone()
    }
}

impl Gate for Recorder {
    type Admission = ();
    type Tether = ();

    async fn admit(&self, _: &Arrival, _: &mut request::Parts, _: &mut RequestBody) -> Admitted<()> {
        Admitted::Forward(())
    }

    async fn settle(&self, (): (), _: AnsweredBy, _: &mut response::Parts) -> Settled<()> {
        Settled::default()
    }

    fn tether(&self, (): ()) -> Cut {
        Cut::never()
    }

    fn fault(&self, _: &Arc<Connection>, fault: Fault) {
        self.0.lock().unwrap().push(fault);
    }
}
