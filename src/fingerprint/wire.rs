//! What the transport and the order of headers tell of a client, in eight bytes: enough to see that it is another program,
//! whatever it calls itself.

use crate::connection::print::Print;
use crate::facts::order::HeaderOrder;

/// How a client looks on the wire. What is unknown is 0 and says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wire {
    /// The core key of its TLS.
    pub tls: u32,
    /// The settings of its HTTP/2.
    pub http2: u16,
    /// Traits of its TLS that come and go with the kind of connection: to be compared between connections of HTTP/2 alone.
    pub soft: u8,
    /// The class of its first packet.
    pub syn: u8,
    /// The order of its headers.
    pub order: HeaderOrder,
}

impl Wire {
    /// Traits that are kept of [`soft`](Self::soft).
    pub const SOFT_MASK: u8 = 0xf;

    /// That of a print and of headers. Hashes are folded: who wants to look like somebody else copies him, and does not
    /// search for a collision.
    pub fn of(print: &Print, order: HeaderOrder) -> Self {
        let tls = print.tls.map_or(0, |tls| {
            let [a, b, c, d, e, f, g, h] = tls.core.to_be_bytes();
            (u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h])).max(1)
        });
        let http2 = print.http2.map_or(0, |http2| {
            let [a, b, c, d] = http2.key.to_be_bytes();
            (u16::from_be_bytes([a, b]) ^ u16::from_be_bytes([c, d])).max(1)
        });
        Self {
            tls,
            http2,
            soft: print.tls.map_or(0, |tls| tls.soft & Self::SOFT_MASK),
            syn: print.syn.map_or(0, |class| class.0.max(1)),
            order,
        }
    }

    /// Whether nothing that both know differs.
    pub fn agrees(&self, other: &Self) -> bool {
        !(self.tls_differs(other)
            || self.http2_differs(other)
            || self.soft_differs(other)
            || self.syn_differs(other)
            || self.order.contradicts(other.order))
    }

    /// Whether the core keys are known, and two.
    pub const fn tls_differs(&self, other: &Self) -> bool {
        self.tls != other.tls && self.tls != 0 && other.tls != 0
    }

    /// Whether the settings of HTTP/2 are known, and two.
    pub const fn http2_differs(&self, other: &Self) -> bool {
        self.http2 != other.http2 && self.http2 != 0 && other.http2 != 0
    }

    /// Whether the soft traits differ, of two connections of one kind. Browsers leave some of them out where they want
    /// no HTTP/2, for a WebSocket.
    pub const fn soft_differs(&self, other: &Self) -> bool {
        let comparable = self.tls != 0 && other.tls != 0 && self.http2 != 0 && other.http2 != 0;
        comparable && self.soft != other.soft
    }

    /// Whether the classes of the first packet are known, and two.
    pub const fn syn_differs(&self, other: &Self) -> bool {
        self.syn != other.syn && self.syn != 0 && other.syn != 0
    }

    /// This one, with what it does not know taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let full = self.tls != 0 && (self.http2 != 0 || other.http2 == 0);
        Self {
            tls: if self.tls == 0 { other.tls } else { self.tls },
            http2: if self.http2 == 0 { other.http2 } else { self.http2 },
            soft: if full { self.soft } else { other.soft },
            syn: if self.syn == 0 { other.syn } else { self.syn },
            order: self.order.or(other.order),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::print::{Http2Print, SynClass, TlsPrint};

    fn wire(core: u64, soft: u8, http2: Option<u32>) -> Wire {
        let print = Print {
            tls: Some(TlsPrint { core, soft, ja4: None }),
            http2: http2.map(|key| Http2Print { key, pseudo: None }),
            syn: Some(SynClass(3)),
            rtt_gap: None,
        };
        Wire::of(&print, HeaderOrder::default())
    }

    #[test]
    fn soft_traits_are_compared_between_connections_of_http2_alone() {
        let (page, socket) = (wire(7, 0b11, Some(9)), wire(7, 0b01, None));
        assert!(page.agrees(&socket) && socket.agrees(&page));
        assert!(!page.agrees(&wire(7, 0b10, Some(9))));
        assert_eq!(socket.or(page), page);
        assert_eq!(page.or(socket), page);
    }

    #[test]
    fn each_part_can_differ_and_none_does_if_it_is_unknown() {
        let known = wire(7, 0, Some(9));
        for other in [wire(8, 0, Some(9)), wire(7, 0, Some(10)), Wire { syn: 4, ..known }] {
            assert!(!known.agrees(&other), "{other:?}");
        }
        assert!(known.agrees(&Wire::default()) && Wire::default().agrees(&known));
        // A hash of 0 is known all the same.
        assert_eq!((wire(0, 0, Some(0)).tls, wire(0, 0, Some(0)).http2), (1, 1));
    }
}
