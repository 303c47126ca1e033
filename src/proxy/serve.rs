//! One client connection from its first octet to its last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::connection::{Connection, Peer, Proxied, Transport};
use crate::proxy::{Gate, Shared, forward};

/// Serves HTTP/1.1 on a plain connection.
pub(super) async fn plain<G: Gate>(stream: TcpStream, peer: SocketAddr, local: SocketAddr, shared: Arc<Shared<G>>) {
    let connection = Connection::new(shared.next_id(), Peer::Ip(peer), Some(local), Transport::Plain, Proxied::No);
    let connection = Arc::new(connection);
    let service = service_fn(move |request| {
        let (shared, connection) = (shared.clone(), connection.clone());
        async move { Ok::<_, Infallible>(forward::handle(shared, connection, request).await) }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client connection ended early");
    }
}
