//! A proxy that really runs, on a port of its own.

use std::net::SocketAddr;

use portcullis::proxy::{Gate, Location, Off, Proxy, Settings};
use tokio::sync::oneshot;

use super::origin::Origin;
use super::wire::Wire;

/// A running proxy, ended when it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub(crate) fn settings(origin: &Origin) -> Settings {
    let app = origin.address();
    let upstream = Location::Tcp { host: app.ip().to_string(), port: app.port() };
    Settings::new("127.0.0.1:0".parse().unwrap(), upstream)
}

impl Running {
    pub(crate) fn start(settings: Settings) -> Self {
        Self::start_with(settings, Off)
    }

    pub(crate) fn start_with(settings: Settings, gate: impl Gate) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let proxy = Proxy::bind(settings, gate).unwrap();
        let address = proxy.local_addrs()[0];
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(proxy.run(async { drop(stopped.await) }));
            runtime.shutdown_background();
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn in_front_of(origin: &Origin) -> Self {
        Self::start(settings(origin))
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// Gives the shutdown signal.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
    }

    /// Waits for `run` to return.
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
