//! The headers that the guard judges by, found in one walk: asking the map for each of them would hash a dozen names.

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::order::{HeaderOrder, Walk};

/// All lines of a header, in their order. A map hashes the name that it is asked for, which takes longer than to walk over
/// the few that a message has.
pub fn lines<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h HeaderValue> {
    headers.iter().filter(move |(other, _)| *other == name).map(|(_, value)| value)
}

/// The first line of a header, by such a walk.
pub fn first<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    lines(headers, name).next()
}

/// A header of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Field<'h> {
    first: Option<&'h [u8]>,
    lines: u32,
}

impl<'h> Field<'h> {
    /// Its first line.
    pub const fn first(self) -> Option<&'h [u8]> {
        self.first
    }

    /// Its value, if it stands there exactly once.
    pub const fn single(self) -> Option<&'h [u8]> {
        if self.lines == 1 { self.first } else { None }
    }

    /// Whether it is there at all.
    pub const fn is_present(self) -> bool {
        self.first.is_some()
    }
}

/// The headers of one request that the guard judges by.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeenHeaders<'h> {
    /// `Accept`.
    pub accept: Field<'h>,
    /// `X-Requested-With`, by which script libraries name themselves.
    pub x_requested_with: Field<'h>,
    /// `User-Agent`.
    pub user_agent: Field<'h>,
    /// `Accept-Language`.
    pub accept_language: Field<'h>,
    /// `Sec-CH-UA`.
    pub sec_ch_ua: Field<'h>,
    /// `Sec-CH-UA-Mobile`.
    pub sec_ch_ua_mobile: Field<'h>,
    /// `Sec-CH-UA-Platform`.
    pub sec_ch_ua_platform: Field<'h>,
    /// `Sec-CH-UA-Platform-Version`.
    pub sec_ch_ua_platform_version: Field<'h>,
    /// `Sec-CH-UA-Full-Version-List`.
    pub sec_ch_ua_full_version_list: Field<'h>,
    /// `Sec-CH-UA-Model`.
    pub sec_ch_ua_model: Field<'h>,
    /// `Sec-CH-UA-Arch`.
    pub sec_ch_ua_arch: Field<'h>,
    /// `Sec-CH-UA-Bitness`.
    pub sec_ch_ua_bitness: Field<'h>,
    /// `Sec-Fetch-Site`.
    pub sec_fetch_site: Field<'h>,
    /// `Sec-Fetch-Mode`.
    pub sec_fetch_mode: Field<'h>,
    /// `Sec-Fetch-Dest`.
    pub sec_fetch_dest: Field<'h>,
    /// `Sec-Fetch-User`.
    pub sec_fetch_user: Field<'h>,
    /// `Sec-Purpose`.
    pub sec_purpose: Field<'h>,
    /// `Purpose`, its older spelling.
    pub purpose: Field<'h>,
    /// `X-Moz`, an older one still.
    pub x_moz: Field<'h>,
    /// `Range`.
    pub range: Field<'h>,
    /// `traceparent` (W3C Trace Context).
    pub traceparent: Field<'h>,
    /// `Upgrade`.
    pub upgrade: Field<'h>,
    /// `Host`, its first line.
    pub host: Option<&'h HeaderValue>,
    /// In which order they stand.
    pub order: HeaderOrder,
}

impl<'h> SeenHeaders<'h> {
    /// Walks over the headers once.
    pub fn of(headers: &'h HeaderMap) -> Self {
        let (mut seen, mut walk) = (Self::default(), Walk::default());
        for (name, value) in headers {
            if *name == HOST {
                seen.host = seen.host.or(Some(value));
                continue;
            }
            walk.see(name.as_str());
            if let Some(field) = seen.field(name.as_str()) {
                field.first = field.first.or(Some(value.as_bytes()));
                field.lines = field.lines.saturating_add(1);
            }
        }
        Self { order: walk.order(), ..seen }
    }

    /// By length first: most names differ in it, and those that do not are compared once or twice.
    fn field(&mut self, name: &str) -> Option<&mut Field<'h>> {
        match name.len() {
            6 if name == "accept" => Some(&mut self.accept),
            5 if name == "range" => Some(&mut self.range),
            5 if name == "x-moz" => Some(&mut self.x_moz),
            7 if name == "upgrade" => Some(&mut self.upgrade),
            7 if name == "purpose" => Some(&mut self.purpose),
            9 if name == "sec-ch-ua" => Some(&mut self.sec_ch_ua),
            10 if name == "user-agent" => Some(&mut self.user_agent),
            11 => match name {
                "sec-purpose" => Some(&mut self.sec_purpose),
                "traceparent" => Some(&mut self.traceparent),
                _ => None,
            },
            14 => match name {
                "sec-ch-ua-arch" => Some(&mut self.sec_ch_ua_arch),
                "sec-fetch-site" => Some(&mut self.sec_fetch_site),
                "sec-fetch-mode" => Some(&mut self.sec_fetch_mode),
                "sec-fetch-dest" => Some(&mut self.sec_fetch_dest),
                "sec-fetch-user" => Some(&mut self.sec_fetch_user),
                _ => None,
            },
            15 => match name {
                "accept-language" => Some(&mut self.accept_language),
                "sec-ch-ua-model" => Some(&mut self.sec_ch_ua_model),
                _ => None,
            },
            16 => match name {
                "sec-ch-ua-mobile" => Some(&mut self.sec_ch_ua_mobile),
                "x-requested-with" => Some(&mut self.x_requested_with),
                _ => None,
            },
            17 if name == "sec-ch-ua-bitness" => Some(&mut self.sec_ch_ua_bitness),
            18 if name == "sec-ch-ua-platform" => Some(&mut self.sec_ch_ua_platform),
            26 if name == "sec-ch-ua-platform-version" => Some(&mut self.sec_ch_ua_platform_version),
            27 if name == "sec-ch-ua-full-version-list" => Some(&mut self.sec_ch_ua_full_version_list),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_is_found_in_its_field() {
        let mut headers = HeaderMap::new();
        let names = [
            "user-agent",
            "accept-language",
            "sec-ch-ua",
            "sec-ch-ua-mobile",
            "sec-ch-ua-platform",
            "sec-fetch-site",
            "sec-fetch-mode",
            "sec-fetch-dest",
            "sec-purpose",
            "purpose",
            "x-moz",
            "range",
            "upgrade",
            "sec-fetch-user",
            "accept",
            "x-requested-with",
            "traceparent",
            "accept-encoding",
        ];
        for name in names {
            headers.append(name, name.parse().unwrap());
        }
        headers.append("range", "again".parse().unwrap());
        let seen = SeenHeaders::of(&headers);
        let found = [
            seen.user_agent,
            seen.accept_language,
            seen.sec_ch_ua,
            seen.sec_ch_ua_mobile,
            seen.sec_ch_ua_platform,
            seen.sec_fetch_site,
            seen.sec_fetch_mode,
            seen.sec_fetch_dest,
            seen.sec_purpose,
            seen.purpose,
            seen.x_moz,
            seen.range,
            seen.upgrade,
            seen.sec_fetch_user,
            seen.accept,
            seen.x_requested_with,
        ];
        for (field, name) in found.into_iter().zip(names) {
            assert_eq!(field.first(), Some(name.as_bytes()));
            assert_eq!(field.single().is_some(), name != "range", "{name}");
        }
        let empty = HeaderMap::new();
        let none = SeenHeaders::of(&empty);
        assert!(!none.user_agent.is_present() && none.upgrade.single().is_none());
    }
}
