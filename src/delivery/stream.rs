//! Connections to receivers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::Authority;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Failure;

/// How long a receiver may leave what it was sent unconfirmed before the connection is given up, and how often one that is
/// silent is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long an address has for itself before the next one is tried beside it (RFC 8305, 5).
const NEXT_AFTER: Duration = Duration::from_millis(250);

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
    let stream = first_of(addresses).await.map_err(Failure::again)?;
    let prepare = || {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE_MAX).with_interval(SILENCE_MAX / 4))?;
        socket.set_tcp_user_timeout(Some(SILENCE_MAX))
    };
    prepare().map_err(Failure::again)?;
    Ok(stream)
}

/// One after the other, and beside those that do not say anything: of a host with two families of addresses one may lead nowhere.
async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let (mut trying, mut left) = (JoinSet::new(), addresses.iter().copied());
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        match left.next() {
            Some(address) => drop(trying.spawn(TcpStream::connect(address))),
            None if trying.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(tried) = trying.join_next() => match tried {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(ended) => last = ended.into(),
            },
            () = sleep(NEXT_AFTER), if left.len() > 0 => {}
        }
    }
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

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    /// An address that says nothing, neither yes nor no, as long as what is given is kept: its queue is full.
    fn silent() -> (SocketAddr, Vec<Socket>) {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut kept = vec![listener];
        for _ in 0..4 {
            let one = socket();
            one.set_nonblocking(true).unwrap();
            // Under way.
            drop(one.connect(&address.into()));
            kept.push(one);
        }
        (address, kept)
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_says_nothing_keeps_nobody_from_the_next_one() {
        let (silent, _kept) = silent();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(tcp(&[refused, silent, silent, good]).await.unwrap().peer_addr().unwrap(), good);
        assert!(tcp(&[refused]).await.unwrap_err().to_string().contains("refused"));
        assert!(tokio::time::timeout(Duration::from_secs(60), tcp(&[silent])).await.is_err(), "it does say nothing");
        assert!(tcp(&[]).await.is_err());
    }
}
