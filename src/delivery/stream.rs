//! Connections to receivers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::Authority;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;

use super::Failure;

/// How long a receiver may leave what it was sent unconfirmed before the connection is given up, and how often one that is
/// silent is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// The host and the port of an authority such as `logs.example.net:514`; none if it is not one, or has a user in it.
pub(super) fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let parsed: Authority = authority.parse().ok()?;
    let port = match authority.strip_prefix(parsed.host())? {
        "" => None,
        rest => Some(rest.strip_prefix(':')?.parse().ok()?),
    };
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// A connection, whatever it is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to the first of these addresses that answers.
pub(super) async fn tcp(addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(addresses).await.map_err(Failure::again)?;
    let prepare = || {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE_MAX).with_interval(SILENCE_MAX / 4))?;
        socket.set_tcp_user_timeout(Some(SILENCE_MAX))
    };
    prepare().map_err(Failure::again)?;
    Ok(stream)
}

/// The addresses of a host.
pub(super) async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(Failure::again)?.collect();
    if found.is_empty() { Err(Failure::again("its name has no address")) } else { Ok(found) }
}

/// Why a datagram was not sent.
pub(super) fn datagram(why: &io::Error) -> Failure {
    match why.raw_os_error() {
        // EMSGSIZE
        Some(90) => Failure::Refused { why: "it is larger than a datagram can be".to_owned() },
        _ => Failure::again(why),
    }
}

/// Waits until a connection on which nothing is expected ends. What comes is thrown away.
pub(super) async fn ended(stream: &mut (impl AsyncRead + Unpin + ?Sized)) -> Failure {
    let mut bytes = [0; 512];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) => {
                return Failure::again(
                    "it closed the connection, and nothing tells whether what was sent last arrived",
                );
            }
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => return Failure::again(error),
        }
    }
}
