//! Ports: taking them, accepting from them, and not spinning when the system has no more descriptors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::tls::Tls;
use crate::proxy::{Gate, Http2, Listen, ProxyProtocol, Shared, StartError, serve};

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
    pub(super) async fn accept<G: Gate>(self, shared: Arc<Shared<G>>) {
        let port = Arc::new(self.port);
        let listener = match TcpListener::from_std(self.socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a listening socket could not be registered");
                return;
            }
        };
        let accepting = async {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => admit(stream, peer, &port, &shared),
                    Err(error) if is_about_one_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "accepting rests: the system has no more to give");
                        tokio::time::sleep(REST).await;
                    }
                }
            }
        };
        match &port.tls {
            None => accepting.await,
            Some(tls) => {
                tokio::join!(accepting, tls.follow());
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

fn admit<G: Gate>(stream: TcpStream, peer: SocketAddr, port: &Arc<Port>, shared: &Arc<Shared<G>>) {
    if stream.set_nodelay(true).is_err() {
        // Only a connection that is gone already refuses this.
        return;
    }
    if shared.drain.enter(shared.live.load().settings.client.limits.connections_max) {
        tokio::spawn(serve::serve(stream, peer, port.clone(), shared.clone()));
    } else {
        shared.refuse(peer, port.address);
    }
}
