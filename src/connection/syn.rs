//! What kind of system sent the first packet of a connection (SYN), by traits that belong to its TCP and not to the way here.
//!
//! Systems differ in the hop limit they begin with, in which TCP options they send in which order, and in the window scale
//! (RFC 9293, RFC 7323, RFC 2018). What changes with the path or with the connection is left out: addresses, MSS, window,
//! times, ECN, padding, and the options that one system sends now and then (multipath, Fast Open, experiments).

use crate::connection::print::SynClass;
use crate::secret::sha256;

/// TCP options that say nothing of the system: end and padding, MD5, multipath, Fast Open, experiments.
const LEFT_OUT: [u8; 7] = [0, 1, 19, 30, 34, 253, 254];

/// Hop limits that systems begin with.
const HOPS: [u8; 4] = [32, 64, 128, 255];

const WINDOW_SCALE: u8 = 3;

/// Reads the headers of a SYN as a kernel hands them out: IP (either version), then TCP. None if that is not what they are.
pub fn class(headers: &[u8]) -> Option<SynClass> {
    let (hops, tcp) = match headers.first()? >> 4 {
        4 => {
            let length = usize::from(headers.first()? & 15) * 4;
            (headers.get(8)?, headers.get(length..).filter(|_| length >= 20)?)
        }
        6 => (headers.get(7)?, behind_extensions(headers)?),
        _ => return None,
    };
    let length = usize::from(tcp.get(12)? >> 4) * 4;
    // The hop limit it had at first: the next of those that systems begin with. Hardly anybody is 32 hops away.
    let mut traits = vec![*HOPS.iter().find(|first| hops <= first)?];
    let mut options = tcp.get(20..length)?;
    while let Some((kind, after)) = options.split_first() {
        options = match kind {
            0 => break,
            1 => after,
            _ => {
                let length = usize::from(*after.first()?);
                if !LEFT_OUT.contains(kind) {
                    traits.push(*kind);
                    if *kind == WINDOW_SCALE {
                        traits.push(*after.get(1).filter(|_| length == 3)?);
                    }
                }
                options.get(length..).filter(|_| length >= 2)?
            }
        };
    }
    let [class, ..] = sha256(&traits);
    Some(SynClass(class.max(1)))
}

/// The TCP header behind those of IPv6 (RFC 8200 section 4): each extension names the next and, in units of eight octets
/// beyond its first eight, its own length.
fn behind_extensions(headers: &[u8]) -> Option<&[u8]> {
    const TCP: u8 = 6;
    const EXTENSIONS: [u8; 3] = [0, 43, 60];
    let (mut next, mut rest) = (*headers.get(6)?, headers.get(40..)?);
    while next != TCP {
        if !EXTENSIONS.contains(&next) {
            return None;
        }
        let length = usize::from(*rest.get(1)?) * 8 + 8;
        (next, rest) = (*rest.first()?, rest.get(length..)?);
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Options as the systems send them (p0f's public signatures name the same orders).
    const LINUX: &[u8] = &[2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    const WINDOWS: &[u8] = &[2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2];
    const MACOS: &[u8] = &[2, 4, 5, 180, 1, 3, 3, 6, 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 4, 2, 0, 0];

    fn tcp(options: &[u8]) -> Vec<u8> {
        let words = u8::try_from(5 + options.len() / 4).unwrap();
        let mut header = vec![0x9c, 0x40, 1, 187, 1, 2, 3, 4, 0, 0, 0, 0, words << 4, 2, 0xfa, 0xf0, 0, 0, 0, 0];
        header.extend(options);
        header
    }

    fn v4(hops: u8, options: &[u8]) -> Vec<u8> {
        let ip = [0x45, 0, 0, 60, 0, 0, 64, 0, hops, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        [&ip[..], &tcp(options)].concat()
    }

    fn v6(hops: u8, extensions: &[u8], next: u8, options: &[u8]) -> Vec<u8> {
        let mut ip = [0x20; 40];
        (ip[0], ip[6], ip[7]) = (0x60, next, hops);
        [&ip[..], extensions, &tcp(options)].concat()
    }

    #[test]
    fn systems_are_told_apart_wherever_they_are() {
        let linux = class(&v4(64, LINUX)).unwrap();
        assert_eq!(class(&v4(47, LINUX)), Some(linux), "further away");
        assert_eq!(class(&v6(50, &[], 6, LINUX)), Some(linux), "over IPv6");
        assert_eq!(class(&v6(50, &[6, 0, 0, 0, 0, 0, 0, 0], 0, LINUX)), Some(linux), "behind an extension");
        let mut options = v4(64, LINUX);
        options.splice(20..20, [1; 4]);
        options[0] = 0x46;
        assert_eq!(class(&options), Some(linux), "with options of IP");
        let others = [class(&v4(118, WINDOWS)), class(&v4(55, MACOS)), class(&v4(128, LINUX)), class(&v4(64, WINDOWS))];
        for (at, other) in others.iter().enumerate() {
            assert!(other.is_some() && *other != Some(linux) && !others[..at].contains(other), "{at}: {others:?}");
        }
        let mut scaled = v4(64, LINUX);
        *scaled.last_mut().unwrap() = 10;
        assert_ne!(class(&scaled), Some(linux), "another window scale");
    }

    #[test]
    fn what_changes_from_one_connection_to_the_next_is_left_out() {
        let linux = class(&v4(64, LINUX));
        let mut other = v4(64, LINUX);
        // Ports, sequence, ECN, window, MSS, times.
        for at in [20, 21, 24, 25, 26, 27, 33, 34, 35, 42, 43, 48, 49, 50, 51] {
            other[at] ^= 0x41;
        }
        assert_eq!(class(&other), linux);
        let multipath = [LINUX, &[30, 4, 1, 1, 34, 2, 1, 1]].concat();
        assert_eq!(class(&v4(64, &multipath)), linux);
    }

    #[test]
    fn what_is_no_syn_has_no_class() {
        let good = v4(64, LINUX);
        for length in 0..good.len() {
            assert_eq!(class(&good[..length]), None, "cut after {length}");
        }
        let with = |at: usize, octet: u8| {
            let mut bad = good.clone();
            bad[at] = octet;
            class(&bad)
        };
        assert_eq!(with(0, 0x55), None, "no version of IP");
        assert_eq!(with(0, 0x44), None, "an IP header that is too short");
        assert_eq!(with(41, 1), None, "an option that is shorter than itself");
        assert_eq!(with(41, 99), None, "an option beyond the end");
        assert_eq!(with(58, 2), None, "a window scale without one");
        assert_eq!(class(&v6(64, &[], 17, LINUX)), None, "UDP");
    }

    proptest! {
        /// Whatever the options are: neither the way here nor padding is told.
        #[test]
        fn options_are_read_to_the_end_or_not_at_all(
            options in proptest::collection::vec((2..=255u8, proptest::collection::vec(any::<u8>(), 0..6)), 0..6),
            noise in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut octets: Vec<u8> = Vec::new();
            for (kind, content) in options {
                let content = if kind == WINDOW_SCALE { vec![7] } else { content };
                octets.extend([&[kind, u8::try_from(content.len()).unwrap() + 2][..], &content].concat());
            }
            octets.truncate(36);
            octets.resize(octets.len().next_multiple_of(4), 1);
            let whole = class(&v4(64, &octets));
            prop_assert_eq!(class(&v4(33, &octets)), whole);
            prop_assert_eq!(class(&v4(64, &[&octets[..], &[1; 4]].concat())), whole);
            prop_assert_eq!(class(&v6(64, &[], 6, &octets)), whole);
            class(&noise);
        }
    }
}
