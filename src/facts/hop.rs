//! Which headers there are that concern whoever stands between a client and an app, found in one walk: asking the map for
//! each of them would hash two dozen names.

use http::HeaderMap;

use super::client_ip::is_forwarding;
use super::headers::{is_alias, is_hop_by_hop};
use super::order::{HeaderOrder, Walk};

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
    /// The order of some of them, which is gone once others are taken off.
    pub order: HeaderOrder,
}

impl HopHeaders {
    /// Walks over the names once. Inlined, so that nothing is looked for that the caller does not ask about.
    #[inline]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self { repeats: headers.len() > headers.keys_len(), ..Self::default() };
        let mut walk = Walk::default();
        for name in headers.keys() {
            let text = name.as_str();
            walk.see(text);
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
        found.order = walk.order();
        found
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;
    use crate::facts::client_ip::{FORWARDING_HEADERS, strip_forwarding};
    use crate::facts::headers::{first_alias, hop_by_hop};

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

    proptest! {
        /// What is done only when something was found would have done nothing otherwise.
        #[test]
        fn what_is_not_found_is_not_there(names in prop::collection::vec(name(), 0..8)) {
            let mut headers = HeaderMap::new();
            for name in names {
                headers.append(name.parse::<HeaderName>().unwrap(), "x".parse().unwrap());
            }
            let found = HopHeaders::of(&headers);
            let mut left = headers.clone();
            prop_assert_eq!(found.hop_by_hop, hop_by_hop(&mut left).is_err() || left != headers);
            let mut left = headers.clone();
            prop_assert_eq!(found.forwarding, strip_forwarding(&mut left) > 0);
            prop_assert_eq!(found.alias, first_alias(&headers).is_some());
            prop_assert_eq!(found.te, headers.contains_key("te"));
            prop_assert_eq!(found.via, headers.contains_key("via"));
            prop_assert_eq!(found.expect, headers.contains_key("expect"));
            prop_assert_eq!(found.upgrade, headers.contains_key("upgrade"));
            prop_assert_eq!(found.sets_cookie, headers.contains_key("set-cookie"));
            prop_assert_eq!(found.repeats, headers.keys().any(|name| headers.get_all(name).iter().count() > 1));
        }
    }

    fn name() -> impl Strategy<Value = String> {
        const KNOWN: &[&str] = &[
            "te",
            "via",
            "host",
            "expect",
            "cookie",
            "upgrade",
            "set-cookie",
            "connection",
            "keep-alive",
            "accept",
            "http2-settings",
            "proxy-connection",
            "transfer-encoding",
            "proxy-authenticate",
            "proxy-authorization",
            "content-length",
            "portcullis-session",
            "portcullis_session",
        ];
        prop_oneof![
            prop::sample::select(KNOWN).prop_map(str::to_owned),
            prop::sample::select(FORWARDING_HEADERS).prop_map(str::to_owned),
            "[a-z0-9_.-]{1,20}",
        ]
    }
}
