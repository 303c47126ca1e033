//! What the kernel can tell of a connection that the socket does not.
//!
//! The first packet: a listener asks for it once (`TCP_SAVE_SYN`), and each connection then hands it out once
//! (`TCP_SAVED_SYN`, Linux 4.2). No privilege is needed. Where the kernel kept nothing, as under a flood that is met with
//! SYN cookies, nothing is known.
//!
//! nix lets one declare an option, and reads it into a value of a fixed size; another size is a panic. A kernel that is
//! given too little room refuses with `EINVAL` and keeps what it has, so room is offered in growing sizes: headers come in
//! words of four octets. No room at all is refused only if there is a packet. (Who hands us a socket that is set to keep the frame
//! around the packet too breaks that rule: such a connection ends.)

use std::os::fd::AsFd;
#[cfg(feature = "relay-rtt")]
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, setsockopt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

use crate::connection::print::SynClass;
use crate::connection::syn;

sockopt_impl!(
    /// Whether first packets are kept.
    SaveSyn,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_SAVE_SYN,
    bool
);

/// Has the kernel keep the first packets of this listener's connections. A kernel that can not do so goes without.
pub(super) fn keep_syn(listener: &impl AsFd) {
    if let Err(error) = setsockopt(listener, SaveSyn, &true) {
        tracing::info!(%error, "the kernel keeps no first packets: nothing is known of the systems of clients");
    }
}

macro_rules! saved_syn {
    ($($name:ident $octets:literal)*) => {
        $(sockopt_impl!(
            /// The first packet, if it is as long.
            $name,
            GetOnly,
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            [u8; $octets]
        );)*

        /// What kind of system opened this connection. It is known only once.
        pub(super) fn syn_class(connection: &impl AsFd) -> Option<SynClass> {
            $(match getsockopt(connection, $name) {
                Ok(headers) => return syn::class(&headers),
                Err(Errno::EINVAL) => {}
                Err(_) => return None,
            })*
            None
        }
    };
}

saved_syn! {
    Syn0 0 Syn40 40 Syn44 44 Syn48 48 Syn52 52 Syn56 56 Syn60 60 Syn64 64 Syn68 68 Syn72 72 Syn76 76 Syn80 80 Syn84 84
    Syn88 88 Syn92 92 Syn96 96 Syn100 100 Syn104 104 Syn108 108 Syn112 112 Syn116 116 Syn120 120
}

/// Octets of `struct tcp_info` that every kernel since Linux 2.6.10 has. Newer ones have more, and so may the structure in libc:
/// asked for all of that, an older kernel would give less than nix takes.
#[cfg(feature = "relay-rtt")]
const TCP_INFO_BYTES: usize = 104;

#[cfg(feature = "relay-rtt")]
sockopt_impl!(
    /// What the kernel knows of a connection.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u8; TCP_INFO_BYTES]
);

/// How a connection fared within TCP.
#[cfg(feature = "relay-rtt")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answers {
    /// How long the other end takes to answer, smoothed (`tcpi_rtt`).
    pub(super) rtt: Duration,
    /// How long ago the last octets came in, whoever has read them since (`tcpi_last_data_recv`).
    pub(super) heard: Duration,
}

/// How the other end of a connection answers within TCP. None after something had to be sent twice (`tcpi_total_retrans`): what was
/// waited for then was not the other end.
#[cfg(feature = "relay-rtt")]
pub(super) fn answers(connection: &impl AsFd) -> Option<Answers> {
    let info = getsockopt(connection, TcpInfo).ok()?;
    let field = |at: usize| Some(u32::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    let (heard_ms, rtt_us, sent_again) = (field(52)?, field(68)?, field(100)?);
    let answers = Answers { rtt: Duration::from_micros(rtt_us.into()), heard: Duration::from_millis(heard_ms.into()) };
    (rtt_us > 0 && sent_again == 0).then_some(answers)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// A connection as both ends see it, opened by a system that sends this hop limit.
    fn connected(listener: &TcpListener, hops: Option<u32>) -> (TcpStream, TcpStream) {
        let address = listener.local_addr().unwrap();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        match (hops, address) {
            (Some(hops), SocketAddr::V4(_)) => socket.set_ttl_v4(hops).unwrap(),
            (Some(hops), SocketAddr::V6(_)) => socket.set_unicast_hops_v6(hops).unwrap(),
            (None, _) => {}
        }
        socket.connect(&address.into()).unwrap();
        (socket.into(), listener.accept().unwrap().0)
    }

    #[test]
    fn the_first_packet_tells_systems_apart_and_is_there_once() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            keep_syn(&listener);
            let [here, again, other] = [None, None, Some(128)].map(|hops| connected(&listener, hops));
            let class = syn_class(&here.1);
            assert!(class.is_some(), "{address}");
            assert_eq!(syn_class(&again.1), class);
            assert!(syn_class(&other.1).is_some_and(|other| Some(other) != class));
            assert_eq!(syn_class(&here.1), None, "it was taken");
        }
    }

    #[cfg(feature = "relay-rtt")]
    #[test]
    fn the_kernel_tells_how_a_connection_fares() {
        use std::io::{Read as _, Write as _};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut client, mut server) = connected(&listener, None);
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        let found = answers(&server).unwrap();
        // Of a connection within one machine: the fields are those that are meant.
        let second = Duration::from_secs(1);
        assert!(found.rtt > Duration::ZERO && found.rtt < second && found.heard < 60 * second, "{found:?}");
        assert_eq!(answers(&std::fs::File::open("/dev/null").unwrap()), None);
    }

    #[test]
    fn where_nothing_was_kept_nothing_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_client, server) = connected(&listener, None);
        assert_eq!(syn_class(&server), None);
        keep_syn(&std::fs::File::open("/dev/null").unwrap());
        assert_eq!(syn_class(&std::fs::File::open("/dev/null").unwrap()), None, "no socket");
    }
}
