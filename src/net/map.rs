//! What is said of networks, by address.

use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{IpPrefix, canonical, mask_v4, mask_v6};

/// Values by network, built once and asked often: where each stretch of addresses begins and what is said of it, searched by
/// halves.
///
/// Networks lie apart or inside of each other, so what is said of an address is decided while the map is built, and a lookup
/// is one search: 16 steps in a list of 50,000 networks.
#[derive(Clone, PartialEq, Eq)]
pub struct PrefixMap<V> {
    v4: Stretches<u32, V>,
    v6: Stretches<u128, V>,
}

impl<V: Copy + Eq> PrefixMap<V> {
    /// The map of these networks. `join` says what holds inside of two: first the wider one's value, then the narrower one's.
    pub fn new(entries: impl IntoIterator<Item = (IpPrefix, V)>, join: impl Fn(V, V) -> V) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, value) in entries {
            match prefix.address {
                IpAddr::V4(ip) => v4.push((ip.to_bits(), ip.to_bits() | !mask_v4(prefix.length), value)),
                IpAddr::V6(ip) => v6.push((ip.to_bits(), ip.to_bits() | !mask_v6(prefix.length), value)),
            }
        }
        Self {
            v4: Stretches::new(v4, |last| last.checked_add(1), &join),
            v6: Stretches::new(v6, |last| last.checked_add(1), &join),
        }
    }

    /// What is said of an address.
    pub fn get(&self, ip: IpAddr) -> Option<V> {
        match canonical(ip) {
            IpAddr::V4(ip) => self.v4.get(Ipv4Addr::to_bits(ip)),
            IpAddr::V6(ip) => self.v6.get(Ipv6Addr::to_bits(ip)),
        }
    }

    /// Whether nothing is said of any.
    pub const fn is_empty(&self) -> bool {
        self.v4.starts.is_empty() && self.v6.starts.is_empty()
    }
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self { v4: Stretches::default(), v6: Stretches::default() }
    }
}

/// How much, not what: lists are long.
impl<V> fmt::Debug for PrefixMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrefixMap({} IPv4 stretches, {} IPv6 stretches)", self.v4.starts.len(), self.v6.starts.len())
    }
}

/// Stretches of addresses up to the next one's beginning. The two lists are apart so that a search touches little memory.
#[derive(Clone, PartialEq, Eq)]
struct Stretches<N, V> {
    starts: Box<[N]>,
    values: Box<[Option<V>]>,
}

impl<N, V> Default for Stretches<N, V> {
    fn default() -> Self {
        Self { starts: Box::default(), values: Box::default() }
    }
}

impl<N: Ord + Copy, V: Copy + Eq> Stretches<N, V> {
    fn new(mut ranges: Vec<(N, N, V)>, next: impl Fn(N) -> Option<N>, join: impl Fn(V, V) -> V) -> Self {
        // The wider one first. Equal ones stay in their order.
        ranges.sort_by_key(|(first, last, _)| (*first, Reverse(*last)));
        let mut out = Builder { starts: Vec::with_capacity(ranges.len()), values: Vec::with_capacity(ranges.len()) };
        // The networks around the place we are at, the narrowest last: never more than an address has bits, but for
        // those that are there several times.
        let mut around: Vec<(N, V)> = Vec::new();
        for (first, last, value) in ranges {
            while let Some((end, _)) = around.last().filter(|(end, _)| *end < first).copied() {
                around.pop();
                out.end(next(end), around.last().map(|(_, value)| *value));
            }
            let value = around.last().map_or(value, |(_, outer)| join(*outer, value));
            out.begin(first, Some(value));
            // One that ends where the one around it ends says more than that to its end.
            if around.last().is_some_and(|(end, _)| *end == last) {
                around.pop();
            }
            around.push((last, value));
        }
        while let Some((end, _)) = around.pop() {
            out.end(next(end), around.last().map(|(_, value)| *value));
        }
        Self { starts: out.starts.into_boxed_slice(), values: out.values.into_boxed_slice() }
    }

    fn get(&self, number: N) -> Option<V> {
        let after = self.starts.partition_point(|start| *start <= number);
        self.values.get(after.checked_sub(1)?).copied().flatten()
    }
}

struct Builder<N, V> {
    starts: Vec<N>,
    values: Vec<Option<V>>,
}

impl<N: Ord + Copy, V: Copy + Eq> Builder<N, V> {
    /// From here on something else holds. What was to begin at the same place has no addresses.
    fn begin(&mut self, start: N, value: Option<V>) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last().copied().flatten() != value {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    /// A network has ended; behind the last address there is nothing.
    fn end(&mut self, start: Option<N>, value: Option<V>) {
        if let Some(start) = start {
            self.begin(start, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(entries: &[(&str, u8)]) -> PrefixMap<u8> {
        PrefixMap::new(entries.iter().map(|(prefix, value)| (prefix.parse().unwrap(), *value)), |_, inner| inner)
    }

    #[test]
    fn the_narrower_network_speaks_for_its_addresses() {
        let networks =
            map(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("10.1.1.0/24", 3), ("255.255.255.255", 4), ("::/0", 5)]);
        let check = |ip: &str, value| assert_eq!(networks.get(ip.parse().unwrap()), value, "{ip}");
        check("9.255.255.255", None);
        check("10.0.0.0", Some(1));
        check("10.1.0.255", Some(2));
        check("::ffff:10.1.1.7", Some(3));
        check("10.1.2.0", Some(2));
        check("10.2.0.0", Some(1));
        check("11.0.0.0", None);
        check("255.255.255.255", Some(4));
        check("ffff::", Some(5));
        assert!(PrefixMap::<u8>::default().is_empty() && !networks.is_empty());
    }

    #[test]
    fn neighbours_that_say_the_same_are_one() {
        let networks = map(&[
            ("10.0.0.0/25", 1),
            ("10.0.0.128/25", 1),
            ("10.0.0.0/26", 1),
            ("10.0.1.0/24", 1),
            ("10.0.2.0/24", 2),
        ]);
        assert_eq!(format!("{networks:?}"), "PrefixMap(3 IPv4 stretches, 0 IPv6 stretches)");
    }

    fn any_prefix() -> impl Strategy<Value = IpPrefix> {
        // Few distinct leading bits, so that networks meet.
        let ip = prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits & 0xe000_000f))),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits & (7 << 125 | 0xf)))),
        ];
        (ip, 0..=128u8).prop_map(|(ip, length)| IpPrefix::around(ip, length))
    }

    proptest! {
        #[test]
        fn a_map_says_what_the_networks_around_an_address_say(
            entries in proptest::collection::vec((any_prefix(), 0..4u8), 0..24),
            asked in proptest::collection::vec(any_prefix(), 20),
        ) {
            let map = PrefixMap::new(entries.iter().copied(), |outer, inner| outer.max(inner));
            let ends = entries.iter().map(|(prefix, _)| prefix.address());
            for ip in asked.iter().map(|prefix| prefix.address()).chain(ends) {
                let around = entries.iter().filter(|(prefix, _)| prefix.contains(ip));
                prop_assert_eq!(map.get(ip), around.map(|(_, value)| *value).max(), "{}", ip);
            }
        }
    }
}
