//! PROXY protocol v1 and v2: read when a listener requires it, never guessed.
//!
//! [`parse`] looks at the bytes that came so far and says "more", "done, this many were mine" or why not. It refuses at
//! the first byte that cannot belong to a header, so plain HTTP on such a listener is cut at once.
//!
//! Version 1 is one line of at most 107 bytes, exactly in this spelling:
//!
//! ```text
//! PROXY TCP4 192.0.2.7 192.0.2.9 5000 443\r\n      TCP4 or TCP6, or UNKNOWN and anything up to \r\n
//! ```
//!
//! Version 2 is binary, lengths and ports in network order:
//!
//! | Bytes | What |
//! |---|---|
//! | 12 | `0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A` |
//! | 1 | version (2) in the high half, command in the low: 0 `LOCAL`, 1 `PROXY` |
//! | 1 | family in the high half (1 IPv4, 2 IPv6, 3 unix), transport in the low (1 stream, 2 datagram); 0 unspecified |
//! | 2 | length of all that follows |
//! | 12, 36 or 216 | source address, destination address, source port, destination port |
//! | rest | TLVs: type (1), length (2), value |
//!
//! Source: `proxy-protocol.txt` of HAProxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::net::canonical;

/// The longest header of version 1, its line end included.
pub const V1_BYTES_MAX: usize = 107;
/// The longest header of version 2 that is read; the format itself would allow 64 KiB.
pub const V2_BYTES_MAX: usize = 4096;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
const TLV_CRC32C: u8 = 0x03;
const TLV_UNIQUE_ID: u8 = 0x05;
const UNIQUE_ID_MAX: usize = 128;

/// The two ends of the connection that a balancer took, addresses in canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// The client.
    pub source: SocketAddr,
    /// The address the client connected to.
    pub destination: SocketAddr,
}

impl Endpoints {
    fn new(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        let end = |(ip, port)| SocketAddr::new(canonical(ip), port);
        Self { source: end(source), destination: end(destination) }
    }
}

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header: read more.
    Incomplete,
    /// A whole header.
    Complete {
        /// How many bytes it took; the next one belongs to the client.
        used: usize,
        /// What it said; `None` if it names nobody (`LOCAL`, `UNKNOWN`, unix sockets): the ends of the socket hold.
        endpoints: Option<Endpoints>,
    },
}

/// Why bytes are not a PROXY header. The connection is to be closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// They begin like something else.
    #[error("the connection does not begin with a PROXY header")]
    NotProxy,
    /// No line end where one must be, or a line end that is not exactly CR LF.
    #[error("the PROXY line does not end in CR LF within 107 bytes")]
    LineEnd,
    /// The line is not in the one spelling.
    #[error("the PROXY line is malformed")]
    Line,
    /// Not version 2, or an unknown command.
    #[error("the PROXY header has an unknown version or command")]
    Command,
    /// Longer than we read.
    #[error("the PROXY header is longer than {V2_BYTES_MAX} bytes")]
    TooLong,
    /// Shorter than the addresses it announces.
    #[error("the PROXY header is too short for its addresses")]
    TooShort,
    /// A TLV reaches beyond the header, is repeated, or is longer than its kind may be.
    #[error("the PROXY header has a malformed TLV")]
    Tlv,
    /// The checksum it carries is not its own.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// Looks for a header at the beginning of `bytes`.
///
/// # Errors
/// At the first byte that no valid header could have.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    if begins(bytes, V1_START) {
        parse_v1(bytes)
    } else if begins(bytes, V2_START) {
        parse_v2(bytes)
    } else {
        Err(ProxyHeaderError::NotProxy)
    }
}

/// Whether `bytes` begin with `start`, or `start` with `bytes`.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, expected)| byte == expected)
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    let window = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        // The line end takes two of the 107 bytes.
        return if bytes.len() >= V1_BYTES_MAX - 1 { Err(ProxyHeaderError::LineEnd) } else { Ok(Parsed::Incomplete) };
    };
    let (line, line_end) = window.split_at_checked(end).ok_or(ProxyHeaderError::LineEnd)?;
    match line_end {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if window.len() < V1_BYTES_MAX => return Ok(Parsed::Incomplete),
        _ => return Err(ProxyHeaderError::LineEnd),
    }
    let line = line.strip_prefix(V1_START).and_then(|line| str::from_utf8(line).ok()).ok_or(ProxyHeaderError::Line)?;
    let endpoints = if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        None
    } else {
        Some(v1_endpoints(line).ok_or(ProxyHeaderError::Line)?)
    };
    Ok(Parsed::Complete { used: end + 2, endpoints })
}

fn v1_endpoints(line: &str) -> Option<Endpoints> {
    let mut words = line.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match words.next()? {
        "TCP4" => |word| Ipv4Addr::from_str(word).ok().map(IpAddr::V4),
        "TCP6" => |word| Ipv6Addr::from_str(word).ok().map(IpAddr::V6),
        _ => return None,
    };
    let (source, destination) = (address(words.next()?)?, address(words.next()?)?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then(|| Endpoints::new((source, source_port), (destination, destination_port)))
}

/// A port without sign or leading zeros, which the standard parser would take.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    plain.then(|| word.parse().ok()).flatten()
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    // Version and command, then the length, are judged as soon as they are there.
    let local = match bytes.get(12) {
        None => return Ok(Parsed::Incomplete),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(ProxyHeaderError::Command),
    };
    let Some([family, high, low]) = bytes.get(13..V2_FIXED) else { return Ok(Parsed::Incomplete) };
    let used = V2_FIXED + usize::from(u16::from_be_bytes([*high, *low]));
    if used > V2_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong);
    }
    let Some(header) = bytes.get(..used) else { return Ok(Parsed::Incomplete) };
    let body = header.get(V2_FIXED..).unwrap_or_default();
    // A header that names nobody protects nothing: what follows is skipped unread, as the format asks for.
    let (endpoints, tlvs) = match family {
        _ if local => return Ok(Parsed::Complete { used, endpoints: None }),
        0x11 | 0x12 => v2_endpoints::<4>(body).ok_or(ProxyHeaderError::TooShort)?,
        0x21 | 0x22 => v2_endpoints::<16>(body).ok_or(ProxyHeaderError::TooShort)?,
        0x31 | 0x32 => (None, body.get(216..).ok_or(ProxyHeaderError::TooShort)?),
        _ => return Ok(Parsed::Complete { used, endpoints: None }),
    };
    check_tlvs(header, tlvs)?;
    Ok(Parsed::Complete { used, endpoints })
}

/// The addresses, each of `N` bytes, with their ports, and what follows them.
fn v2_endpoints<const N: usize>(body: &[u8]) -> Option<(Option<Endpoints>, &[u8])>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, rest) = rest.split_first_chunk::<2>()?;
    let source = (IpAddr::from(*source), u16::from_be_bytes(*source_port));
    let destination = (IpAddr::from(*destination), u16::from_be_bytes(*destination_port));
    Some((Some(Endpoints::new(source, destination)), rest))
}

/// Walks the TLVs: each must lie within the header, and a checksum must be right. Others are skipped.
fn check_tlvs(header: &[u8], tlvs: &[u8]) -> Result<(), ProxyHeaderError> {
    let mut rest = tlvs;
    let mut checksum = None;
    while !rest.is_empty() {
        let Some(([kind, high, low], tail)) = rest.split_first_chunk() else { return Err(ProxyHeaderError::Tlv) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, tail) = tail.split_at_checked(length).ok_or(ProxyHeaderError::Tlv)?;
        match *kind {
            TLV_CRC32C => {
                let sum: [u8; 4] = value.try_into().ok().ok_or(ProxyHeaderError::Tlv)?;
                // Counted from behind: the sum's own four bytes stand right before `tail`.
                let at = header.len().saturating_sub(tail.len() + 4);
                if checksum.replace((at, u32::from_be_bytes(sum))).is_some() {
                    return Err(ProxyHeaderError::Tlv);
                }
            }
            TLV_UNIQUE_ID if length > UNIQUE_ID_MAX => return Err(ProxyHeaderError::Tlv),
            _ => {}
        }
        rest = tail;
    }
    match checksum {
        Some((at, sum)) if crc32c_without(header, at) != sum => Err(ProxyHeaderError::Checksum),
        _ => Ok(()),
    }
}

/// CRC-32C (RFC 3720) of the header with the four bytes at `hole` taken as zero. Bit by bit: it runs once for each
/// connection of a balancer that sends it, over some dozens of bytes.
fn crc32c_without(header: &[u8], hole: usize) -> u32 {
    let mut crc = u32::MAX;
    for (at, byte) in header.iter().enumerate() {
        let byte = if (hole..hole + 4).contains(&at) { 0 } else { *byte };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ends(source: &str, destination: &str) -> Option<Endpoints> {
        Some(Endpoints { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    /// A header of version 2 with these bytes after its length.
    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_START, &[command, family], &length, body].concat()
    }

    const ADDRESSES_V4: &[u8] = &[192, 0, 2, 7, 192, 0, 2, 9, 0x13, 0x88, 0x01, 0xbb];

    fn with_checksum(extra: &[u8]) -> Vec<u8> {
        let mut header = v2(0x21, 0x11, &[ADDRESSES_V4, extra, &[TLV_CRC32C, 0, 4, 0, 0, 0, 0]].concat());
        let at = header.len() - 4;
        let sum = crc32c_without(&header, at).to_be_bytes();
        header[at..].copy_from_slice(&sum);
        header
    }

    #[test]
    fn version_1_is_read_in_one_spelling() {
        let check = |line: &str, expected: Result<Option<Endpoints>, ProxyHeaderError>| {
            let mut bytes = line.as_bytes().to_vec();
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
            let expected = expected.map(|endpoints| Parsed::Complete { used: line.len(), endpoints });
            assert_eq!(parse(&bytes), expected, "{line:?}");
        };
        let v4 = ends("192.0.2.7:5000", "192.0.2.9:443");
        check("PROXY TCP4 192.0.2.7 192.0.2.9 5000 443\r\n", Ok(v4));
        check(
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Ok(ends("255.255.255.255:65535", "255.255.255.255:65535")),
        );
        check("PROXY TCP4 192.0.2.7 192.0.2.9 0 0\r\n", Ok(ends("192.0.2.7:0", "192.0.2.9:0")));
        check("PROXY TCP6 2001:db8::1 ::1 5000 443\r\n", Ok(ends("[2001:db8::1]:5000", "[::1]:443")));
        check("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.9 5000 443\r\n", Ok(v4));
        check("PROXY UNKNOWN\r\n", Ok(None));
        check("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Ok(None));

        for line in [
            "PROXY TCP4 192.0.2.7 192.0.2.9 05000 443\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.9 5000 00\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.9 +5000 443\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.9 5000 65536\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.9 5000 -1\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.9 5000 \r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.9 5000\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.9 5000 443 \r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.9 5000 443 x\r\n",
            "PROXY TCP4  192.0.2.7 192.0.2.9 5000 443\r\n",
            "PROXY TCP4\t192.0.2.7 192.0.2.9 5000 443\r\n",
            "PROXY TCP4 192.0.2.07 192.0.2.9 5000 443\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2 5000 443\r\n",
            "PROXY TCP4 192.0.2.256 192.0.2.9 5000 443\r\n",
            "PROXY TCP4 2001:db8::1 ::1 5000 443\r\n",
            "PROXY TCP6 192.0.2.7 192.0.2.9 5000 443\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 5000 443\r\n",
            "PROXY TCP6 [2001:db8::1] ::1 5000 443\r\n",
            "PROXY TCP5 192.0.2.7 192.0.2.9 5000 443\r\n",
            "PROXY tcp4 192.0.2.7 192.0.2.9 5000 443\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY unknown\r\n",
            "PROXY \r\n",
            "PROXY  TCP4 192.0.2.7 192.0.2.9 5000 443\r\n",
        ] {
            check(line, Err(ProxyHeaderError::Line));
        }
        for line in [
            "PROXY TCP4 192.0.2.7 192.0.2.9 5000 443\n",
            "PROXY TCP4 192.0.2.7 192.0.2.9 5000 443\r",
            "PROXY TCP4 192.0.2.7 192.0.2.9 5000 443\r\r\n",
            "PROXY TCP4\r192.0.2.7 192.0.2.9 5000 443\r\n",
            "PROXY UNKNOWN a\rb\r\n",
            "PROXY UNKNOWN a\nb\r\n",
        ] {
            check(line, Err(ProxyHeaderError::LineEnd));
        }
        for line in ["proxy TCP4 192.0.2.7 192.0.2.9 5000 443\r\n", "PROXYTCP4", "PROXY\rTCP4", "", "\r\n\r\n", "\n"] {
            check(line, Err(ProxyHeaderError::NotProxy));
        }
    }

    #[test]
    fn version_1_has_at_most_107_bytes() {
        let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
        assert_eq!(parse(line(107).as_bytes()), Ok(Parsed::Complete { used: 107, endpoints: None }));
        assert_eq!(parse(line(108).as_bytes()), Err(ProxyHeaderError::LineEnd));
        assert_eq!(parse(line(109).as_bytes()), Err(ProxyHeaderError::LineEnd));
        assert_eq!(parse(&line(200).as_bytes()[..105]), Ok(Parsed::Incomplete));
        assert_eq!(parse(&line(200).as_bytes()[..106]), Err(ProxyHeaderError::LineEnd));
    }

    #[test]
    fn version_2_is_read() {
        let check = |bytes: &[u8], expected: Result<Option<Endpoints>, ProxyHeaderError>| {
            let expected = expected.map(|endpoints| Parsed::Complete { used: bytes.len(), endpoints });
            assert_eq!(parse(&[bytes, b"GET /"].concat()), expected, "{bytes:x?}");
        };
        let v4 = ends("192.0.2.7:5000", "192.0.2.9:443");
        check(&v2(0x21, 0x11, ADDRESSES_V4), Ok(v4));
        check(&v2(0x21, 0x12, ADDRESSES_V4), Ok(v4));
        check(&v2(0x21, 0x11, &[ADDRESSES_V4, &[0x01, 0, 2, b'h', b'2', 0x04, 0, 0]].concat()), Ok(v4));
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[31], v6[33], v6[35]) = (0x20, 0x01, 1, 1, 80, 90);
        check(&v2(0x21, 0x21, &v6), Ok(ends("[2001::1]:80", "[::1]:90")));
        check(&v2(0x21, 0x22, &v6), Ok(ends("[2001::1]:80", "[::1]:90")));
        check(&v2(0x21, 0x31, &[7; 216]), Ok(None));

        // Nobody is named: what follows is skipped, whatever it is.
        check(&v2(0x20, 0x00, b""), Ok(None));
        check(&v2(0x20, 0x11, ADDRESSES_V4), Ok(None));
        check(&v2(0x20, 0x11, b"junk"), Ok(None));
        check(&v2(0x21, 0x00, b"junk"), Ok(None));
        check(&v2(0x21, 0x41, b"junk"), Ok(None));
        check(&v2(0x21, 0x13, b"junk"), Ok(None));

        for command in [0x11, 0x22, 0x2f, 0x31, 0x01, 0x00] {
            check(&v2(command, 0x11, ADDRESSES_V4), Err(ProxyHeaderError::Command));
        }
        check(&v2(0x21, 0x11, &ADDRESSES_V4[..11]), Err(ProxyHeaderError::TooShort));
        check(&v2(0x21, 0x21, ADDRESSES_V4), Err(ProxyHeaderError::TooShort));
        check(&v2(0x21, 0x32, &[0; 215]), Err(ProxyHeaderError::TooShort));
        check(&v2(0x21, 0x11, &[ADDRESSES_V4, &[4, 0]].concat()), Err(ProxyHeaderError::Tlv));
        check(&v2(0x21, 0x11, &[ADDRESSES_V4, &[4, 0, 2, 0]].concat()), Err(ProxyHeaderError::Tlv));
        check(&v2(0x21, 0x11, &[ADDRESSES_V4, &[5, 0, 129], &[0; 129]].concat()), Err(ProxyHeaderError::Tlv));
        check(&v2(0x21, 0x11, &[ADDRESSES_V4, &[5, 0, 128], &[0; 128]].concat()), Ok(v4));
        check(&v2(0x21, 0x11, &[ADDRESSES_V4, &[3, 0, 3, 0, 0, 0]].concat()), Err(ProxyHeaderError::Tlv));
    }

    #[test]
    fn version_2_has_a_limit() {
        let fits = v2(0x20, 0, &[0; V2_BYTES_MAX - V2_FIXED]);
        assert_eq!(parse(&fits), Ok(Parsed::Complete { used: V2_BYTES_MAX, endpoints: None }));
        let over = v2(0x20, 0, &[0; V2_BYTES_MAX - V2_FIXED + 1]);
        // Refused by its length field, before the bytes come.
        assert_eq!(parse(&over[..V2_FIXED]), Err(ProxyHeaderError::TooLong));
    }

    #[test]
    fn a_checksum_is_verified() {
        assert_eq!(crc32c_without(b"123456789", 100), 0xe306_9283, "the check value of CRC-32C");
        for extra in [&b""[..], &[0x04, 0, 3, 1, 2, 3]] {
            let right = with_checksum(extra);
            assert!(matches!(parse(&right), Ok(Parsed::Complete { endpoints: Some(_), .. })));
            for at in (V2_FIXED..V2_FIXED + ADDRESSES_V4.len()).chain(right.len() - 4..right.len()) {
                let mut wrong = right.clone();
                wrong[at] ^= 0x10;
                assert_eq!(parse(&wrong), Err(ProxyHeaderError::Checksum), "byte {at}");
            }
        }
        let twice = [&with_checksum(b"")[V2_FIXED..], &[3, 0, 4, 0, 0, 0, 0]].concat();
        assert_eq!(parse(&v2(0x21, 0x11, &twice)), Err(ProxyHeaderError::Tlv));
    }

    #[test]
    fn a_header_may_come_byte_by_byte() {
        for header in [b"PROXY TCP4 192.0.2.7 192.0.2.9 5000 443\r\n".to_vec(), with_checksum(b""), v2(0x20, 0, b"xy")]
        {
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(Parsed::Incomplete), "{cut} bytes of {header:x?}");
            }
            assert!(matches!(parse(&header), Ok(Parsed::Complete { used, .. }) if used == header.len()));
        }
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_an_answer(
            start in prop_oneof![Just(V1_START.to_vec()), Just(V2_START.to_vec()), Just(Vec::new())],
            tail in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'\r'), Just(b'\n'), Just(0x21u8), Just(0x11u8), Just(0u8)], 0..200),
        ) {
            let bytes = [start, tail].concat();
            let mut known = None;
            for cut in 0..=bytes.len() {
                let answer = parse(&bytes[..cut]);
                if let Some(known) = known {
                    prop_assert_eq!(answer, known, "{} bytes", cut);
                } else if answer != Ok(Parsed::Incomplete) {
                    known = Some(answer);
                }
                if let Ok(Parsed::Complete { used, .. }) = answer {
                    prop_assert!(used <= cut);
                }
            }
        }

        #[test]
        fn what_a_balancer_writes_is_read(source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) {
            let (from, to) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
            let expected = Endpoints::new((from.into(), ports.0), (to.into(), ports.1));
            let line = format!("PROXY TCP4 {from} {to} {} {}\r\n", ports.0, ports.1);
            let complete = |used| Ok(Parsed::Complete { used, endpoints: Some(expected) });
            prop_assert_eq!(parse(line.as_bytes()), complete(line.len()));
            let body = [&source[..], &destination, &ports.0.to_be_bytes(), &ports.1.to_be_bytes()].concat();
            prop_assert_eq!(parse(&v2(0x21, 0x11, &body)), complete(28));
        }
    }
}
