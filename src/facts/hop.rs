//! Which headers there are that concern whoever stands between a client and an app, found in one walk: asking the map for
//! each of them would hash two dozen names.

use http::HeaderMap;

use super::client_ip::is_forwarding;
use super::headers::{is_alias, is_hop_by_hop};

/// What a walk over the names found. Nothing is known of the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is the presence of one header")]
pub struct HopHeaders {
    /// `Connection`, or another that is for this hop alone.
    pub hop_by_hop: bool,
    /// `TE`.
    pub te: bool,
    /// `Upgrade`.
    pub upgrade: bool,
    /// `Via`.
    pub via: bool,
    /// `Expect`.
    pub expect: bool,
    /// One that speaks for a proxy.
    pub forwarding: bool,
    /// One whose name another program could take for a second one.
    pub alias: bool,
    /// `Portcullis-Session`, or another that is ours alone.
    pub ours: bool,
    /// `Set-Cookie`.
    pub sets_cookie: bool,
    /// Some name stands there more than once.
    pub repeats: bool,
}

impl HopHeaders {
    /// Walks over the names once.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self { repeats: headers.len() > headers.keys_len(), ..Self::default() };
        for name in headers.keys() {
            let text = name.as_str();
            found.forwarding |= is_forwarding(text);
            found.alias |= is_alias(name);
            found.ours |= text.starts_with("portcullis-");
            found.hop_by_hop |= is_hop_by_hop(text);
            // By length first: most names differ in it.
            match text.len() {
                2 => found.te |= text == "te",
                3 => found.via |= text == "via",
                6 => found.expect |= text == "expect",
                7 => found.upgrade |= text == "upgrade",
                10 => found.sets_cookie |= text == "set-cookie",
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn found(names: &[&str]) -> HopHeaders {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(name.parse::<HeaderName>().unwrap(), "x".parse().unwrap());
        }
        HopHeaders::of(&headers)
    }

    #[test]
    fn each_header_is_found_and_others_are_not() {
        let none = HopHeaders::default();
        assert_eq!(found(&["host", "accept", "cookie", "user-agent", "content-length", "x-requested-with"]), none);
        assert_eq!(found(&["accept", "accept"]), HopHeaders { repeats: true, ..none });
        for name in ["connection", "keep-alive", "transfer-encoding", "proxy-connection", "http2-settings"] {
            assert_eq!(found(&["host", name]), HopHeaders { hop_by_hop: true, ..none }, "{name}");
        }
        assert_eq!(found(&["te"]), HopHeaders { hop_by_hop: true, te: true, ..none });
        assert_eq!(found(&["upgrade"]), HopHeaders { hop_by_hop: true, upgrade: true, ..none });
        assert_eq!(found(&["via"]), HopHeaders { via: true, ..none });
        assert_eq!(found(&["expect"]), HopHeaders { expect: true, ..none });
        assert_eq!(found(&["x-forwarded-for"]), HopHeaders { forwarding: true, ..none });
        assert_eq!(found(&["set-cookie"]), HopHeaders { sets_cookie: true, ..none });
        assert_eq!(found(&["x_a"]), HopHeaders { alias: true, ..none });
        assert_eq!(found(&["portcullis-session"]), HopHeaders { ours: true, ..none });
    }
}
