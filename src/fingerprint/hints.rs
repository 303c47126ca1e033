//! Client hints: what Chromium says of itself beside the user agent.

use super::short;
use crate::facts::seen::{Field, SeenHeaders};
use crate::facts::user_agent::{Os, digits};

/// Whether a client hint says that the device is held in a hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MobileHint {
    /// It was not sent.
    #[default]
    Absent = 0,
    /// `?0`.
    No = 1,
    /// `?1`.
    Yes = 2,
}

/// The client hints that Chromium sends unasked. Each may be absent, and is then no evidence of anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// `Sec-CH-UA-Platform`; [`Os::Unknown`] if absent.
    pub platform: Os,
    /// `Sec-CH-UA-Mobile`.
    pub mobile: MobileHint,
    /// The version of Chromium in `Sec-CH-UA`; 0 if absent.
    pub major: u16,
    /// Of those that are sent only to whoever asks for them with `Accept-CH`.
    pub exact: Exact,
}

/// The client hints that Chromium sends when asked. What of them is absent is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Exact {
    /// `Sec-CH-UA-Platform-Version`: its first two numbers, the first in the high byte.
    pub platform_version: u16,
    /// The last number of Chromium's version in `Sec-CH-UA-Full-Version-List`, one more: it counts the updates of a version.
    pub patch: u16,
    /// A hash of `Sec-CH-UA-Model`, `-Arch` and `-Bitness`: the machine.
    pub machine: u16,
}

impl Hints {
    pub(super) fn observe(seen: &SeenHeaders<'_>) -> Self {
        let mobile = match seen.sec_ch_ua_mobile.first() {
            Some(b"?0") => MobileHint::No,
            Some(b"?1") => MobileHint::Yes,
            _ => MobileHint::Absent,
        };
        Self {
            platform: seen.sec_ch_ua_platform.first().map_or(Os::Unknown, platform),
            mobile,
            major: seen.sec_ch_ua.first().map_or(0, chromium_major),
            exact: Exact::observe(seen),
        }
    }

    /// These hints, with what is absent taken from `other`.
    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            platform: if self.platform == Os::Unknown { other.platform } else { self.platform },
            mobile: if self.mobile == MobileHint::Absent { other.mobile } else { self.mobile },
            major: if self.major == 0 { other.major } else { self.major },
            exact: self.exact.or(other.exact),
        }
    }
}

impl Exact {
    fn observe(seen: &SeenHeaders<'_>) -> Self {
        let parts = [seen.sec_ch_ua_model, seen.sec_ch_ua_arch, seen.sec_ch_ua_bitness].map(Field::first);
        let machine = if parts.iter().all(Option::is_none) {
            0
        } else {
            let joined = parts.map(|part| part.map_or(&b""[..], cut)).join(&b'\n');
            short(&joined)
        };
        Self {
            platform_version: seen.sec_ch_ua_platform_version.first().map_or(0, platform_version),
            patch: seen.sec_ch_ua_full_version_list.first().map_or(0, chromium_patch),
            machine,
        }
    }

    fn or(self, other: Self) -> Self {
        let or = |one: u16, other: u16| if one == 0 { other } else { one };
        Self {
            platform_version: or(self.platform_version, other.platform_version),
            patch: or(self.patch, other.patch),
            machine: or(self.machine, other.machine),
        }
    }
}

/// Bytes of a hint that are looked at.
const HINT_BYTES_MAX: usize = 512;

fn cut(raw: &[u8]) -> &[u8] {
    raw.get(..HINT_BYTES_MAX).unwrap_or(raw)
}

/// `"15.3.0"`; empty where a system has no versions.
fn platform_version(raw: &[u8]) -> u16 {
    let raw = cut(raw).strip_prefix(b"\"").unwrap_or(raw);
    if !raw.first().is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    let byte = |number: u16| u8::try_from(number).unwrap_or(u8::MAX);
    let minor = raw.iter().position(|octet| *octet == b'.').and_then(|dot| raw.get(dot.saturating_add(1)..));
    u16::from_be_bytes([byte(digits(raw)), byte(minor.map_or(0, digits))]).max(1)
}

/// The last number of `"Chromium";v="156.0.8078.79"`, one more.
fn chromium_patch(raw: &[u8]) -> u16 {
    let version = after_chromium(cut(raw)).and_then(|version| version.split(|octet| *octet == b'"').next());
    let last = version.and_then(|version| version.rsplit(|octet| *octet == b'.').next());
    last.filter(|last| last.first().is_some_and(u8::is_ascii_digit)).map_or(0, |last| digits(last).saturating_add(1))
}

fn platform(raw: &[u8]) -> Os {
    match raw {
        b"\"Windows\"" => Os::Windows,
        b"\"macOS\"" => Os::MacOs,
        b"\"Linux\"" => Os::Linux,
        b"\"Chrome OS\"" | b"\"Chromium OS\"" => Os::ChromeOs,
        b"\"Android\"" => Os::Android,
        b"\"iOS\"" => Os::Ios,
        b"" | b"\"\"" | b"\"Unknown\"" => Os::Unknown,
        _ => Os::Other,
    }
}

/// The version beside `"Chromium"` in a brand list. The other brands are the maker's name and noise that varies by design.
fn chromium_major(raw: &[u8]) -> u16 {
    after_chromium(cut(raw)).map_or(0, digits)
}

fn after_chromium(raw: &[u8]) -> Option<&[u8]> {
    let mark = b"\"Chromium\";v=\"";
    let start = memchr::memmem::find(raw, mark)?.saturating_add(mark.len());
    raw.get(start..)
}
