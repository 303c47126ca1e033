//! Ports: taking them, accepting from them, and not spinning when the system has no more descriptors.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::serve::{self, Entered};
use crate::proxy::tls::Tls;
use crate::proxy::worker::Workers;
use crate::proxy::{Gate, Http2, Listen, ProxyProtocol, StartError};

/// Connections the system may hold for us before we accept them.
const BACKLOG: i32 = 1024;

/// How long accepting rests after the system ran out of descriptors or memory.
const REST: Duration = Duration::from_millis(50);

/// An address, or a socket that is bound already (socket activation).
#[derive(Clone, Debug)]
pub enum Source {
    /// Bind this address.
    Address(SocketAddr),
    /// Use this listening socket.
    Handed(Arc<std::net::TcpListener>),
}

/// A port we have.
#[derive(Debug)]
pub(super) struct Listener {
    socket: std::net::TcpListener,
    port: Port,
}

/// What is spoken on a port.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Tls>,
    pub(super) http2: Http2,
    pub(super) proxy_protocol: ProxyProtocol,
}

impl Listener {
    pub(super) fn bind(settings: &Listen) -> Result<Self, StartError> {
        let (socket, wanted) = match &settings.source {
            Source::Address(address) => (bind(*address), *address),
            Source::Handed(socket) => {
                let wanted = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
                (socket.try_clone(), wanted)
            }
        };
        let ready = socket.and_then(|socket| {
            socket.set_nonblocking(true)?;
            #[cfg(all(feature = "kernel-hints", target_os = "linux"))]
            if settings.proxy_protocol == ProxyProtocol::Off {
                super::kernel::keep_syn(&socket);
            }
            let address = socket.local_addr()?;
            Ok((socket, address))
        });
        match ready {
            Ok((socket, address)) => {
                let tls = settings.tls.as_ref().map(|files| Tls::load(files, settings.http2)).transpose()?;
                let (http2, proxy_protocol) = (settings.http2, settings.proxy_protocol);
                Ok(Self { socket, port: Port { address, tls, http2, proxy_protocol } })
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(StartError::PortTaken(wanted)),
            Err(source) => Err(StartError::Listen { address: wanted, source }),
        }
    }

    pub(super) const fn local_addr(&self) -> SocketAddr {
        self.port.address
    }

    /// Accepts until it is dropped; every connection gets a task of its own, so that a panic ends that one alone.
    pub(super) async fn accept<G: Gate>(self, workers: Workers<G>) {
        let port = Arc::new(self.port);
        let listener = match TcpListener::from_std(self.socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a listening socket could not be registered");
                return;
            }
        };
        let accepting = each(|cx| listener.poll_accept(cx), |(stream, peer)| admit(stream, peer, &port, &workers));
        match &port.tls {
            None => accepting.await,
            Some(tls) => {
                tokio::join!(accepting, tls.follow());
            }
        }
    }
}

/// Takes connections from `next` for ever. One that failed is no reason to stop, and no reason to spin either.
async fn each<C>(mut next: impl FnMut(&mut Context<'_>) -> Poll<io::Result<C>>, mut take: impl FnMut(C)) {
    loop {
        match poll_fn(&mut next).await {
            Ok(connection) => take(connection),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting rests: the system has no more to give");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections to leave TIME_WAIT. Two listeners on one port stay impossible.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` means IPv6 alone, on every system alike.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The client was gone before we took it from the queue; the next one may be well.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn admit<G: Gate>(stream: TcpStream, peer: SocketAddr, port: &Arc<Port>, workers: &Workers<G>) {
    let Some(worker) = workers.least_busy() else { return };
    // The thread that serves it has to listen for it.
    let Ok(stream) = stream.set_nodelay(true).and_then(|()| stream.into_std()) else {
        // Only a connection that is gone already refuses this.
        return;
    };
    if !workers.drain.enter(workers.settings.load().client.limits.connections_max) {
        return workers.refuse(peer, port.address);
    }
    let (entered, port) = (Entered::new(worker, peer, port), port.clone());
    worker.spawn(async move {
        match TcpStream::from_std(stream) {
            Ok(stream) => serve::serve(stream, peer, port, entered).await,
            Err(error) => tracing::warn!(%error, "a connection was closed: the system has no more to give"),
        }
    });
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    /// When the connection behind these errors of the system was taken.
    async fn taken_after(errors: &[i32]) -> Duration {
        let start = Instant::now();
        let mut errors = errors.iter();
        let taken = Cell::new(None);
        let next = |_: &mut Context<'_>| match errors.next() {
            Some(number) => Poll::Ready(Err(io::Error::from_raw_os_error(*number))),
            None if taken.get().is_none() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        };
        let accepting = each(next, |()| taken.set(Some(start.elapsed())));
        drop(tokio::time::timeout(Duration::from_secs(3600), accepting).await);
        taken.get().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn h24_accepting_rests_when_nothing_is_left_and_goes_on() {
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;
        const ENOBUFS: i32 = 105;
        const ECONNABORTED: i32 = 103;
        assert_eq!(taken_after(&[EMFILE, ENFILE, ENOBUFS]).await, 3 * REST);
        assert_eq!(taken_after(&[ECONNABORTED, ECONNABORTED]).await, Duration::ZERO, "no fault of ours");
    }
}
