//! Networks: addresses in one form, prefixes, and sets of prefixes.
//!
//! Every address is brought to one form with [`canonical`] before it is compared, so that `::ffff:192.0.2.1` and
//! `192.0.2.1` are one client.

pub mod map;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The one form of an address: an IPv4-mapped IPv6 address becomes the IPv4 address it stands for.
pub const fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The prefix within which a client is free to move: /24 of IPv4, /64 of IPv6 (one household or machine).
pub fn client_prefix(ip: IpAddr) -> IpPrefix {
    match canonical(ip) {
        v4 @ IpAddr::V4(_) => IpPrefix::around(v4, 24),
        v6 @ IpAddr::V6(_) => IpPrefix::around(v6, 64),
    }
}

/// The prefix of a whole site: /24 of IPv4, /48 of IPv6 (what a provider gives one customer).
pub fn site_prefix(ip: IpAddr) -> IpPrefix {
    match canonical(ip) {
        v4 @ IpAddr::V4(_) => IpPrefix::around(v4, 24),
        v6 @ IpAddr::V6(_) => IpPrefix::around(v6, 48),
    }
}

/// Whether an address belongs to this machine or to a private network (RFC 1918, 6598, 4193, link-local): where a
/// proxy of our own stands, rather than a client.
pub fn is_private_or_loopback(ip: IpAddr) -> bool {
    match canonical(ip) {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether an address is one of the internet at large: none of this machine, of a private network, of a group or of those
/// that are kept for other uses (RFC 6890).
pub fn is_public(ip: IpAddr) -> bool {
    let is_kept = match canonical(ip) {
        IpAddr::V4(ip) => {
            let [first, second, third, _] = ip.octets();
            first == 0
                || first >= 240
                || ip.is_multicast()
                || ip.is_documentation()
                || (first, second, third) == (192, 0, 0)
                || (first, second, third) == (192, 88, 99)
                || first == 198 && second & 0xfe == 18
        }
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            // All that is given out begins with 001; of that are kept: 2001::/23 (Teredo and others), documentation, 6to4.
            first & 0xe000 != 0x2000
                || first == 0x2001 && (second < 0x200 || second == 0xdb8)
                || first == 0x2002
                || first == 0x3fff && second < 0x1000
        }
    };
    !is_kept && !is_private_or_loopback(ip)
}

/// A network: all addresses that begin with the same bits. Written `10.0.0.0/8` or, for one address, `192.0.2.1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix {
    /// The lowest address: canonical, no bit set beyond `length`.
    address: IpAddr,
    length: u8,
}

impl IpPrefix {
    /// The prefix of that many bits around an address; a length beyond the address's own is the address alone.
    ///
    /// The length counts from the canonical form: `::ffff:192.0.2.1` with 24 bits is `192.0.2.0/24`.
    pub fn around(ip: IpAddr, length: u8) -> Self {
        match canonical(ip) {
            IpAddr::V4(ip) => {
                let length = length.min(32);
                Self { address: IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask_v4(length))), length }
            }
            IpAddr::V6(ip) => {
                let length = length.min(128);
                Self { address: IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask_v6(length))), length }
            }
        }
    }

    /// Its lowest address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// How many leading bits its addresses share.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether the address is one of this network.
    pub fn contains(self, ip: IpAddr) -> bool {
        match (self.address, canonical(ip)) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => ip.to_bits() & mask_v4(self.length) == network.to_bits(),
            (IpAddr::V6(network), IpAddr::V6(ip)) => ip.to_bits() & mask_v6(self.length) == network.to_bits(),
            _ => false,
        }
    }
}

fn mask_v4(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn mask_v6(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// `10.0.0.0/8`; always with its length.
impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<IpAddr> for IpPrefix {
    fn from(ip: IpAddr) -> Self {
        Self::around(ip, u8::MAX)
    }
}

/// Why a text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// What stands before the slash is no address.
    #[error("`{0}` is not an IP address; expected one like `10.0.0.0/8`, `192.0.2.1` or `2001:db8::/32`")]
    Address(Box<str>),
    /// What stands behind the slash is no length.
    #[error("`{found}` is not a prefix length; expected a number from 0 to {max}")]
    Length {
        /// What was written.
        found: Box<str>,
        /// The longest prefix of this kind of address.
        max: u8,
    },
    /// The address says more than its length. It may be a typing error in either, and one of them is too wide a net.
    #[error("`{found}` has bits set beyond its length; expected `{network}` for the network or `{host}` for the host")]
    HostBits {
        /// What was written.
        found: Box<str>,
        /// The network around that address.
        network: IpPrefix,
        /// The address alone.
        host: IpAddr,
    },
}

impl FromStr for IpPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().ok().ok_or_else(|| PrefixError::Address(address.into()))?;
        let Some(length) = length else { return Ok(ip.into()) };
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let fault = || PrefixError::Length { found: length.into(), max };
        // u8's own parser takes a sign and leading zeros.
        let plain = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
        let bits = length.parse::<u8>().ok().filter(|bits| plain && *bits <= max).ok_or_else(fault)?;
        let prefix = match (ip, canonical(ip)) {
            // Mapped networks are IPv4 networks; one wider than all of IPv4 stays what it is and holds no IPv4 address.
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if bits >= 96 => Self::around(v4, bits - 96),
            (IpAddr::V6(v6), _) => {
                Self { address: IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask_v6(bits))), length: bits }
            }
            (v4 @ IpAddr::V4(_), _) => Self::around(v4, bits),
        };
        let lost = if prefix.address.is_ipv4() { prefix.address != canonical(ip) } else { prefix.address != ip };
        if lost {
            return Err(PrefixError::HostBits { found: text.into(), network: prefix, host: ip });
        }
        Ok(prefix)
    }
}

/// A set of networks, built once and asked often: two sorted lists of ranges, searched by halves.
///
/// Networks that overlap or touch are joined, so 10,000 prefixes cost at most 14 steps.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PrefixSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl PrefixSet {
    /// Whether the address is in one of the networks.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match canonical(ip) {
            IpAddr::V4(ip) => in_ranges(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => in_ranges(&self.v6, ip.to_bits()),
        }
    }

    /// Its ranges by their first and last addresses, in order and apart from each other: sets of the same addresses have
    /// the same.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let v4 =
            self.v4.iter().map(|(first, last)| (Ipv4Addr::from_bits(*first).into(), Ipv4Addr::from_bits(*last).into()));
        let v6 =
            self.v6.iter().map(|(first, last)| (Ipv6Addr::from_bits(*first).into(), Ipv6Addr::from_bits(*last).into()));
        v4.chain(v6)
    }

    /// Whether all of its addresses are those of `other` too.
    pub fn is_within(&self, other: &Self) -> bool {
        // Ranges that touch are joined, so one that is within several is within one.
        self.v4.iter().all(|range| holds_range(&other.v4, *range))
            && self.v6.iter().all(|range| holds_range(&other.v6, *range))
    }

    /// Whether no address is in both.
    pub fn is_apart_from(&self, other: &Self) -> bool {
        !overlap(&self.v4, &other.v4) && !overlap(&self.v6, &other.v6)
    }

    /// Whether it holds no network at all.
    pub const fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl FromIterator<IpPrefix> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpPrefix>>(prefixes: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix.address {
                IpAddr::V4(ip) => v4.push((ip.to_bits(), ip.to_bits() | !mask_v4(prefix.length))),
                IpAddr::V6(ip) => v6.push((ip.to_bits(), ip.to_bits() | !mask_v6(prefix.length))),
            }
        }
        Self { v4: joined(v4, |last| last.checked_add(1)), v6: joined(v6, |last| last.checked_add(1)) }
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn joined<N: Ord + Copy>(mut ranges: Vec<(N, N)>, next: impl Fn(N) -> Option<N>) -> Box<[(N, N)]> {
    ranges.sort_unstable();
    let mut out: Vec<(N, N)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            // No next number: that range reaches to the end and swallows all that follow.
            Some((_, end)) if next(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => out.push((first, last)),
        }
    }
    out.into_boxed_slice()
}

fn in_ranges<N: Ord + Copy>(ranges: &[(N, N)], number: N) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= number);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| number <= *last)
}

fn holds_range<N: Ord + Copy>(ranges: &[(N, N)], (first, last): (N, N)) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= first);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, end)| last <= *end)
}

fn overlap<N: Ord + Copy>(ranges: &[(N, N)], others: &[(N, N)]) -> bool {
    let (few, many) = if ranges.len() < others.len() { (ranges, others) } else { (others, ranges) };
    few.iter().any(|(first, last)| {
        // The last range that does not begin behind this one.
        let after = many.partition_point(|(start, _)| start <= last);
        after.checked_sub(1).and_then(|at| many.get(at)).is_some_and(|(_, end)| first <= end)
    })
}

/// How many ranges, not which: lists are long.
impl fmt::Debug for PrefixSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrefixSet({} IPv4 ranges, {} IPv6 ranges)", self.v4.len(), self.v6.len())
    }
}

/// The number of an autonomous system: the network operator an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asn(pub u32);

/// `AS64496`.
impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

/// A text is not the number of an autonomous system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an AS number; expected `AS64496` or `64496`")]
pub struct AsnError(Box<str>);

impl FromStr for Asn {
    type Err = AsnError;

    fn from_str(text: &str) -> Result<Self, AsnError> {
        let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as")).unwrap_or(text);
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
        number.map(Self).ok_or_else(|| AsnError(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn set(prefixes: &[&str]) -> PrefixSet {
        prefixes.iter().map(|text| text.parse::<IpPrefix>().unwrap()).collect()
    }

    #[test]
    fn what_is_kept_for_other_uses_is_not_the_internet() {
        let check = |all: &str, is: bool| {
            for ip in all.split_whitespace() {
                assert_eq!(is_public(ip.parse().unwrap()), is, "{ip}");
            }
        };
        check("1.1.1.1 192.88.98.1 198.17.255.255 223.255.255.255 2606:4700::1 2001:4860::1 3fff:1000::1", true);
        check(
            "0.0.0.1 10.0.0.1 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 192.0.0.8 192.0.2.1 192.88.99.1",
            false,
        );
        check(
            "192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255",
            false,
        );
        check(
            ":: ::1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::a00:1 100::1 2001::1 2001:db8::1 2002:a00:1::",
            false,
        );
        check("3fff:0:1:: fc00::1 fe80::1 ff02::1", false);
    }

    #[test]
    fn prefixes_are_read_in_one_form() {
        let check = |text: &str, expected: &str| {
            let read = text.parse::<IpPrefix>().map_or_else(|fault| format!("! {fault}"), |prefix| prefix.to_string());
            let expected = expected.strip_suffix("..").map_or_else(|| read == expected, |head| read.starts_with(head));
            assert!(expected, "{text}: {read}");
        };
        check("10.0.0.0/8", "10.0.0.0/8");
        check("192.0.2.1", "192.0.2.1/32");
        check("0.0.0.0/0", "0.0.0.0/0");
        check("2001:DB8::/32", "2001:db8::/32");
        check("::1", "::1/128");
        check("::/0", "::/0");
        check("::ffff:10.0.0.0/104", "10.0.0.0/8");
        check("::ffff:192.0.2.1", "192.0.2.1/32");
        check("::ffff:0:0/96", "0.0.0.0/0");
        check("::/90", "::/90");
        check("", "! `` is not an IP address..");
        check("10.0.0/8", "! `10.0.0` is not an IP address..");
        check("010.0.0.0/8", "! `010.0.0.0` is not an IP address..");
        check("fe80::1%eth0", "! `fe80::1%eth0` is not an IP address..");
        check("10.0.0.0/33", "! `33` is not a prefix length; expected a number from 0 to 32");
        check("::/129", "! `129` is not a prefix length; expected a number from 0 to 128");
        check("10.0.0.0/", "! `` is not a prefix length..");
        check("10.0.0.0/+8", "! `+8` is not a prefix length..");
        check("10.0.0.0/08", "! `08` is not a prefix length..");
        check("10.0.0.0/8/8", "! `8/8` is not a prefix length..");
        check("10.0.0.1/8", "! `10.0.0.1/8` has bits set beyond its length; expected `10.0.0.0/8` for the network..");
        check("::ffff:10.0.0.1/104", "! `::ffff:10.0.0.1/104` has bits set beyond its length; expected `10.0.0.0/8`..");
        check("2001:db8::1/32", "! `2001:db8::1/32` has bits set..");
    }

    #[test]
    fn a_mapped_address_is_the_address_it_stands_for() {
        assert_eq!(canonical(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert!(set(&["192.0.2.0/24"]).contains(ip("::ffff:192.0.2.9")));
        assert!("192.0.2.0/24".parse::<IpPrefix>().unwrap().contains(ip("::ffff:192.0.2.9")));
        assert_eq!(client_prefix(ip("::ffff:192.0.2.9")).to_string(), "192.0.2.0/24");
    }

    #[test]
    fn a_client_is_a_prefix() {
        assert_eq!(client_prefix(ip("203.0.113.77")).to_string(), "203.0.113.0/24");
        assert_eq!(client_prefix(ip("2001:db8:1:2:3:4:5:6")).to_string(), "2001:db8:1:2::/64");
        assert_eq!(site_prefix(ip("203.0.113.77")).to_string(), "203.0.113.0/24");
        assert_eq!(site_prefix(ip("2001:db8:1:2:3:4:5:6")).to_string(), "2001:db8:1::/48");
    }

    #[test]
    fn private_networks_are_known() {
        let inside = "127.0.0.1 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.1.1 100.64.0.1 100.127.255.255 \
                      ::1 fd00::1 fe80::1 ::ffff:10.0.0.1";
        for text in inside.split_whitespace() {
            assert!(is_private_or_loopback(ip(text)), "{text}");
        }
        for text in
            "8.8.8.8 172.32.0.1 100.63.255.255 100.128.0.0 192.0.2.1 2001:db8::1 ::ffff:8.8.8.8".split_whitespace()
        {
            assert!(!is_private_or_loopback(ip(text)), "{text}");
        }
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        let networks = set(&["10.0.0.0/25", "10.0.0.128/25", "10.0.0.0/26", "255.255.255.255", "255.0.0.0/8", "::/0"]);
        assert_eq!(format!("{networks:?}"), "PrefixSet(2 IPv4 ranges, 1 IPv6 ranges)");
        assert!(networks.contains(ip("255.255.255.255")) && networks.contains(ip("ffff::ffff")));
        assert!(!networks.contains(ip("10.0.1.0")) && !networks.contains(ip("9.255.255.255")));
        assert!(!set(&["::/0"]).contains(ip("192.0.2.1")), "all of IPv6 is not IPv4");
        assert!(PrefixSet::default().is_empty() && !PrefixSet::default().contains(ip("::")));
    }

    #[test]
    fn as_numbers_are_read_with_and_without_letters() {
        assert_eq!("AS64496".parse(), Ok(Asn(64496)));
        assert_eq!("64496".parse(), Ok(Asn(64496)));
        assert_eq!(Asn(3).to_string(), "AS3");
        for text in ["", "AS", "AS+1", "AS4294967296", "ASx"] {
            assert!(text.parse::<Asn>().is_err(), "{text}");
        }
    }

    fn any_ip() -> impl Strategy<Value = IpAddr> {
        // Few distinct leading bits, so that prefixes and addresses meet.
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits & 0xe000_ffff))),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits & (7 << 125 | 0xffff)))),
        ]
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_prefixes_holds(
            prefixes in proptest::collection::vec((any_ip(), 0u8..=128), 0..20),
            asked in proptest::collection::vec(any_ip(), 20),
        ) {
            let prefixes: Vec<_> = prefixes.into_iter().map(|(ip, length)| IpPrefix::around(ip, length)).collect();
            let set: PrefixSet = prefixes.iter().copied().collect();
            let edges = prefixes.iter().map(|prefix| prefix.address());
            for ip in asked.into_iter().chain(edges) {
                prop_assert_eq!(set.contains(ip), prefixes.iter().any(|prefix| prefix.contains(ip)), "{}", ip);
            }
        }

        #[test]
        fn what_is_shown_is_read_back(ip in any_ip(), length in 0u8..=128) {
            let prefix = IpPrefix::around(ip, length);
            prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
            prop_assert!(prefix.contains(ip));
        }
    }
}
