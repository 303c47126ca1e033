//! The order of headers, as far as it is a trait of the program that sent them.
//!
//! Browsers send their headers in dozens of orders, by the kind of request, so an order as a whole says nothing. Two pairs
//! never swap their places in any request of one engine: they are all that is kept. A pair that is not whole says nothing.
//!
//! A `HeaderMap` keeps the order of the wire until something is removed from it, so this is to be read before that.

use http::HeaderMap;

/// Which of two headers came first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum First {
    /// One of them is not there.
    #[default]
    Unknown = 0,
    /// The first one did.
    Yes = 1,
    /// The second one did.
    No = 2,
}

impl First {
    /// That of a stored number; another is unknown.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Yes,
            2 => Self::No,
            _ => Self::Unknown,
        }
    }

    const fn or(self, other: Self) -> Self {
        match self {
            Self::Unknown => other,
            known => known,
        }
    }

    /// Whether both are known, and one is not the other.
    pub fn contradicts(self, other: Self) -> bool {
        self != Self::Unknown && other != Self::Unknown && self != other
    }
}

/// The two pairs of headers that never swap their places in one engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeaderOrder {
    /// Whether `Sec-Fetch-Site` comes before `Sec-Fetch-Dest`: in Chromium it does, in Firefox and Safari it does not.
    pub site_before_dest: First,
    /// Whether `Accept-Encoding` comes before `Accept-Language`: in Chromium it does, in Firefox and Safari it does not.
    pub encoding_before_language: First,
}

impl HeaderOrder {
    /// Walks over the names once.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut walk = Walk::default();
        headers.keys().for_each(|name| walk.see(name.as_str()));
        walk.order()
    }

    /// Whether what both know differs.
    pub fn contradicts(self, other: Self) -> bool {
        self.site_before_dest.contradicts(other.site_before_dest)
            || self.encoding_before_language.contradicts(other.encoding_before_language)
    }

    /// This order, with what it does not know taken from `other`.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            site_before_dest: self.site_before_dest.or(other.site_before_dest),
            encoding_before_language: self.encoding_before_language.or(other.encoding_before_language),
        }
    }
}

/// A walk over the names of headers in their order, for whoever walks over them anyway.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    site: bool,
    encoding: bool,
    dest: bool,
    language: bool,
    order: HeaderOrder,
}

impl Walk {
    /// The next name, in small letters. By length first: most names differ in it.
    #[inline]
    pub fn see(&mut self, name: &str) {
        match name.len() {
            14 if name == "sec-fetch-site" => {
                self.site = true;
                if self.dest {
                    self.order.site_before_dest = First::No;
                }
            }
            14 if name == "sec-fetch-dest" => {
                self.dest = true;
                if self.site {
                    self.order.site_before_dest = First::Yes;
                }
            }
            15 if name == "accept-encoding" => {
                self.encoding = true;
                if self.language {
                    self.order.encoding_before_language = First::No;
                }
            }
            15 if name == "accept-language" => {
                self.language = true;
                if self.encoding {
                    self.order.encoding_before_language = First::Yes;
                }
            }
            _ => {}
        }
    }

    /// What was found.
    pub const fn order(&self) -> HeaderOrder {
        self.order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(names: &[&'static str]) -> HeaderOrder {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(*name, "x".parse().unwrap());
        }
        HeaderOrder::of(&headers)
    }

    /// The orders in which the two engines send these headers.
    const CHROMIUM: &[&str] =
        &["user-agent", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "accept-encoding", "accept-language"];
    const FIREFOX: &[&str] =
        &["user-agent", "accept-language", "accept-encoding", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site"];

    #[test]
    fn engines_differ_in_both_pairs() {
        let (chromium, firefox) = (order(CHROMIUM), order(FIREFOX));
        assert_eq!(chromium, HeaderOrder { site_before_dest: First::Yes, encoding_before_language: First::Yes });
        assert_eq!(firefox, HeaderOrder { site_before_dest: First::No, encoding_before_language: First::No });
        assert!(chromium.contradicts(firefox) && !chromium.contradicts(chromium));
    }

    #[test]
    fn half_a_pair_says_nothing() {
        let without = order(&["accept-encoding", "sec-fetch-dest", "sec-fetch-mode"]);
        assert_eq!(without, HeaderOrder::default());
        assert!(!without.contradicts(order(FIREFOX)) && !order(CHROMIUM).contradicts(without));
        assert_eq!(without.or(order(FIREFOX)), order(FIREFOX));
    }

    /// Nothing promises this; if it changes, the order has to be read off the wire.
    #[test]
    fn a_map_keeps_the_order_of_the_wire_until_something_is_removed() {
        for names in [CHROMIUM, FIREFOX] {
            let mut headers = HeaderMap::new();
            for name in names {
                headers.append(*name, "x".parse().unwrap());
            }
            // A second line of a name does not move it, and growing does not shuffle.
            headers.append("user-agent", "y".parse().unwrap());
            for number in 0..40 {
                headers.append(format!("x-{number}").parse::<http::HeaderName>().unwrap(), "x".parse().unwrap());
            }
            let kept: Vec<&str> = headers.keys().map(http::HeaderName::as_str).take(names.len()).collect();
            assert_eq!(kept, names);
        }
    }
}
