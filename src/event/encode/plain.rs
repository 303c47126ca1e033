//! Values that print as letters, digits, dots, colons and dashes, and so need no escaping: written without the machinery of `fmt`,
//! which takes longer than all the rest of a line.

use std::net::IpAddr;

use super::put;
use crate::clock::Timestamp;
use crate::event::{Kind, SessionHash, Severity, TraceId};
use crate::session::id::Ref;
use crate::verdict::{Action, Mode};

/// What `Display` prints, written at once.
pub(super) trait Plain: Copy {
    fn put(self, out: &mut Vec<u8>);
}

macro_rules! words {
    ($($word:ty),*) => {$(
        impl Plain for $word {
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.as_str().as_bytes());
            }
        }
    )*};
}

words!(Action, Mode, Severity, Kind);

impl Plain for u64 {
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(self).as_bytes());
    }
}

impl Plain for Timestamp {
    fn put(self, out: &mut Vec<u8>) {
        const PRINTER: jiff::fmt::temporal::DateTimePrinter =
            jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
        let time = i64::try_from(self.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let printed = time.is_some_and(|time| PRINTER.print_timestamp(&time, &mut *out).is_ok());
        if !printed {
            put(out, self);
        }
    }
}

impl Plain for SessionHash {
    fn put(self, out: &mut Vec<u8>) {
        u64::from(self.key.0).put(out);
        out.push(b'-');
        hex(out, &self.hash);
    }
}

impl Plain for Ref {
    fn put(self, out: &mut Vec<u8>) {
        hex(out, &self.0);
    }
}

impl Plain for TraceId {
    fn put(self, out: &mut Vec<u8>) {
        hex(out, &self.0);
    }
}

impl Plain for IpAddr {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::V4(ip) => {
                for (at, octet) in ip.octets().into_iter().enumerate() {
                    if at > 0 {
                        out.push(b'.');
                    }
                    u64::from(octet).put(out);
                }
            }
            Self::V6(ip) => put(out, ip),
        }
    }
}

/// Two small digits for each octet.
fn hex(out: &mut Vec<u8>, octets: &[u8; 16]) {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' - 10 + half };
    let mut digits = [0; 32];
    for (pair, octet) in digits.chunks_exact_mut(2).zip(octets) {
        pair.copy_from_slice(&[digit(octet >> 4), digit(octet & 15)]);
    }
    out.extend_from_slice(&digits);
}

/// Appends points: one decimal, none for a whole number, and 0 for what is no number.
pub(super) fn put_points(out: &mut Vec<u8>, points: f32) {
    put_tenths(out, points, Whole::Short);
}

/// Whether a whole number has a decimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// `10`
    Short,
    /// `10.0`
    Long,
}

/// Appends points as `{:.1}` prints them, with the decimal of a whole number or without it.
pub(super) fn put_tenths(out: &mut Vec<u8>, points: f32, whole: Whole) {
    let points = if points.is_finite() { points } else { 0.0 };
    // Exact: an `f32` has 24 bits, and ten 4.
    let tenths = (f64::from(points) * 10.0).round_ties_even();
    if tenths < 0.0 {
        out.push(b'-');
    }
    let tenths = tenths.abs();
    if tenths > 1e15 {
        // Beyond what points are.
        return put(out, format_args!("{:.*}", usize::from(whole == Whole::Long), points.abs()));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 0 to 10^15")]
    let tenths = tenths as u64;
    (tenths / 10).put(out);
    if !tenths.is_multiple_of(10) || whole == Whole::Long {
        out.push(b'.');
        (tenths % 10).put(out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::KeyId;

    fn written(value: impl Plain) -> String {
        let mut out = Vec::new();
        value.put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn points_have_at_most_one_decimal_and_are_always_numbers() {
        let check = |points: f32, expected: &str| {
            let mut out = Vec::new();
            put_points(&mut out, points);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(0.0, "0");
        check(-0.0, "0");
        check(-0.01, "0");
        check(10.0, "10");
        check(100.0, "100");
        check(22.5, "22.5");
        check(-3.26, "-3.3");
        check(f32::NAN, "0");
        check(f32::INFINITY, "0");
        check(f32::MAX, "340282346638528859811704183484516925440");
    }

    #[test]
    fn times_beyond_all_calendars_are_written_too() {
        for millis in [0, 1_795_257_972_045, 253_402_300_799_999, u64::MAX] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(written(time), time.to_string());
        }
    }

    proptest! {
        #[test]
        fn values_are_written_as_they_print(
            millis in 0_u64..300_000_000_000_000, octets in any::<[u8; 16]>(), key in any::<u8>(), ip in any::<IpAddr>(),
        ) {
            let time = Timestamp::from_millis(millis);
            prop_assert_eq!(written(time), time.to_string());
            let session = SessionHash { key: KeyId(key), hash: octets };
            prop_assert_eq!(written(session), session.to_string());
            prop_assert_eq!(written(Ref(octets)), Ref(octets).to_string());
            prop_assert_eq!(written(TraceId(octets)), TraceId(octets).to_string());
            prop_assert_eq!(written(ip), ip.to_string());
            prop_assert_eq!(written(millis), millis.to_string());
        }

        #[test]
        fn points_are_written_as_they_print(points in prop_oneof![any::<f32>(), -1000.0_f32..1000.0, (-4000..4000).prop_map(|n| n as f32 / 80.0)]) {
            let mut out = Vec::new();
            put_tenths(&mut out, points, Whole::Long);
            let finite = if points.is_finite() { points } else { 0.0 };
            let printed = format!("{finite:.1}");
            let printed = if printed == "-0.0" { "0.0" } else { &printed };
            prop_assert_eq!(String::from_utf8(out).unwrap(), printed);
        }
    }
}
