//! Values that a field is looked up in. A table is made once for each set and kind of field, however many conditions use it,
//! and is told from others by the digest of its values: a long one costs no more to compare than a short one.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use super::scheme::Case;
use crate::net::{IpPrefix, PrefixSet};
use crate::secret::sha256;

/// Values, and what tells them from others.
#[derive(Debug)]
pub(crate) struct Table<T> {
    values: T,
    digest: [u8; 32],
}

/// Texts in the order of their bytes, spelled as [`folded`] does.
pub(crate) type Texts = Table<Box<[Box<str>]>>;

/// Numbers in their order.
pub(crate) type Ints = Table<Box<[i64]>>;

/// Networks.
pub(crate) type Networks = Table<PrefixSet>;

impl<T> PartialEq for Table<T> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl<T> Eq for Table<T> {}

impl<T> PartialOrd for Table<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Table<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.digest.cmp(&other.digest)
    }
}

impl Texts {
    pub(crate) fn new<'t>(texts: impl IntoIterator<Item = &'t str>, case: Case) -> Arc<Self> {
        let mut values: Vec<Box<str>> = texts.into_iter().map(|text| folded(text, case)).collect();
        values.sort_unstable();
        values.dedup();
        let mut bytes = Vec::new();
        for text in &values {
            bytes.extend_from_slice(&text.len().to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        Arc::new(Self { values: values.into(), digest: sha256(&bytes) })
    }

    /// Whether one of them is this text, compared as texts of the field are. Allocates nothing.
    pub(crate) fn has(&self, text: &str, case: Case) -> bool {
        let text = bare(text.as_bytes(), case);
        let found = match case {
            Case::Exact => self.values.binary_search_by(|one| one.as_bytes().cmp(text)),
            Case::Ignored | Case::Path => {
                self.values.binary_search_by(|one| one.bytes().cmp(text.iter().map(|byte| byte.to_ascii_lowercase())))
            }
        };
        found.is_ok()
    }

    /// All of them, as they are compared.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|text| &**text)
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

impl Ints {
    pub(crate) fn new(mut values: Vec<i64>) -> Arc<Self> {
        values.sort_unstable();
        values.dedup();
        let bytes: Vec<u8> = values.iter().flat_map(|number| number.to_be_bytes()).collect();
        Arc::new(Self { values: values.into(), digest: sha256(&bytes) })
    }

    pub(crate) fn has(&self, number: i64) -> bool {
        self.values.binary_search(&number).is_ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = i64> {
        self.values.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

impl Networks {
    pub(crate) fn new(networks: impl IntoIterator<Item = IpPrefix>) -> Arc<Self> {
        let values: PrefixSet = networks.into_iter().collect();
        let mut bytes = Vec::new();
        for (first, last) in values.ranges() {
            for ip in [first, last] {
                match ip {
                    IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
                }
            }
            // Ranges of both kinds stand one after the other, and are told apart.
            bytes.push(u8::from(first.is_ipv4()));
        }
        Arc::new(Self { values, digest: sha256(&bytes) })
    }

    pub(crate) const fn set(&self) -> &PrefixSet {
        &self.values
    }
}

/// A text as it is compared: in small letters where their case is overlooked, and a path without the slash at its end.
pub(crate) fn folded(text: &str, case: Case) -> Box<str> {
    match case {
        Case::Exact => text.into(),
        Case::Ignored => text.to_ascii_lowercase().into(),
        Case::Path => text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase().into(),
    }
}

/// What of a text is compared with whole texts.
fn bare(text: &[u8], case: Case) -> &[u8] {
    match case {
        Case::Exact | Case::Ignored => text,
        Case::Path => text.strip_suffix(b"/").unwrap_or(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One text after the other, by the words of the manual.
    fn walked(wanted: &[String], text: &str, case: Case) -> bool {
        let bare = |path: &str| path.strip_suffix('/').unwrap_or(path).to_owned();
        wanted.iter().any(|one| match case {
            Case::Exact => one == text,
            Case::Ignored => one.eq_ignore_ascii_case(text),
            Case::Path => bare(one).eq_ignore_ascii_case(&bare(text)),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_table_finds_what_a_walk_over_the_list_finds(
            wanted in prop::collection::vec("[/a-cA-C_\\[\u{e9}\u{c9}]{0,4}", 1..12),
            more in prop::collection::vec("[/a-cA-C_\\[\u{e9}\u{c9}]{0,4}", 1..12),
        ) {
            for case in [Case::Exact, Case::Ignored, Case::Path] {
                let table = Texts::new(wanted.iter().map(String::as_str), case);
                let spelled = wanted.iter().flat_map(|text| {
                    [text.to_uppercase(), text.to_lowercase(), format!("{text}/"), format!("{text}//"), format!("/{text}")]
                });
                for text in wanted.iter().chain(&more).cloned().chain(spelled) {
                    prop_assert_eq!(table.has(&text, case), walked(&wanted, &text, case), "{:?} {}", case, text);
                }
            }
        }
    }

    #[test]
    fn tables_are_one_if_they_hold_the_same() {
        let texts = |list: &[&str], case| Texts::new(list.iter().copied(), case);
        assert_eq!(texts(&["/B/", "/a"], Case::Path), texts(&["/a/", "/b", "/b"], Case::Path));
        assert_ne!(texts(&["/B", "/a"], Case::Exact), texts(&["/a", "/b"], Case::Exact));
        assert_ne!(texts(&["ab", "c"], Case::Exact), texts(&["a", "bc"], Case::Exact));
        assert_eq!(Ints::new(vec![2, 1, 2]), Ints::new(vec![1, 2]));
        assert_ne!(Ints::new(vec![1]), Ints::new(vec![1, 2]));
        let networks = |list: &[&str]| Networks::new(list.iter().map(|one| one.parse().unwrap()));
        assert_eq!(networks(&["192.0.2.0/25", "192.0.2.128/25"]), networks(&["192.0.2.0/24"]));
        assert_ne!(networks(&["192.0.2.0/24"]), networks(&["192.0.2.0/25"]));
    }
}
