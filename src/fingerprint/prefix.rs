//! Addresses as they are kept: as the network within which a client moves freely.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::canonical;

/// The network a client is in: the prefix within which it moves freely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// The address is not known (a unix socket).
    #[default]
    Unknown,
    /// The first 24 bits of an IPv4 address.
    V4([u8; 3]),
    /// The first 64 bits of an IPv6 address; the first 48 of them are the site.
    V6(u64),
}

impl Prefix {
    /// The prefix of an address.
    pub fn of(ip: IpAddr) -> Self {
        match canonical(ip) {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }

    /// Its first address, which names the network.
    pub fn network(self) -> Option<IpAddr> {
        match self {
            Self::Unknown => None,
            Self::V4([a, b, c]) => Some(Ipv4Addr::new(a, b, c, 0).into()),
            Self::V6(high) => Some(Ipv6Addr::from_bits(u128::from(high) << 64).into()),
        }
    }

    /// An address of it, to look up where the network is.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Unknown => None,
            Self::V4([a, b, c]) => Some(Ipv4Addr::new(a, b, c, 1).into()),
            Self::V6(high) => Some(Ipv6Addr::from_bits(u128::from(high) << 64 | 1).into()),
        }
    }
}

/// `203.0.113.0/24`, `2001:db8:1:2::/64`.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6(high) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*high) << 64)),
        }
    }
}
