//! Where the makers of databases put what we read.
//!
//! There are built-in spellings for the databases that most people use. For any other, [`Fields`] says field by field where
//! it stands: keys of maps and places in lists, joined by dots, as in `as.number` or `networks.0.kind`.

use std::str::FromStr;

use super::NetworkKind;

/// What is read of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The two letters of the country.
    Country,
    /// The number of the autonomous system.
    Asn,
    /// Degrees north.
    Latitude,
    /// Degrees east.
    Longitude,
    /// The radius in kilometres in which the address probably is.
    Radius,
    /// What the network is used for.
    Kind,
}

/// Most keys on the way to a field.
pub(super) const STEPS_MAX: usize = 8;

/// Longest path that is read.
const PATH_BYTES_MAX: usize = 200;

/// The way to a field inside a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(Box<[Step]>);

/// One step of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a map.
    Key(Box<str>),
    /// Into a list, counted from 0.
    Index(usize),
}

impl FieldPath {
    pub(super) const fn steps(&self) -> &[Step] {
        &self.0
    }
}

/// A text is no way to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldPathError {
    /// Two dots follow each other, or one stands at an end.
    #[error("expected keys joined by dots, such as \"country.code\"")]
    Empty,
    /// It is longer than any record is deep.
    #[error("expected at most {STEPS_MAX} keys and {PATH_BYTES_MAX} bytes")]
    TooLong,
}

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(text: &str) -> Result<Self, FieldPathError> {
        if text.len() > PATH_BYTES_MAX {
            return Err(FieldPathError::TooLong);
        }
        let step = |key: &str| {
            let is_index = key.bytes().all(|byte| byte.is_ascii_digit());
            match (key, key.parse()) {
                ("", _) => Err(FieldPathError::Empty),
                (_, Ok(at)) if is_index => Ok(Step::Index(at)),
                _ => Ok(Step::Key(key.into())),
            }
        };
        let steps: Box<[Step]> = text.split('.').map(step).collect::<Result<_, _>>()?;
        if steps.len() > STEPS_MAX { Err(FieldPathError::TooLong) } else { Ok(Self(steps)) }
    }
}

/// Where one database has its fields, as far as they do not stand where most have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(Field, FieldPath)>);

impl Fields {
    /// The same, with a field that stands there and nowhere else.
    #[must_use]
    pub fn with(mut self, field: Field, path: FieldPath) -> Self {
        self.0.retain(|(known, _)| *known != field);
        self.0.push((field, path));
        self
    }

    /// Each field that stands somewhere else.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Field, &FieldPath)> {
        self.0.iter().map(|(field, path)| (*field, path))
    }
}

/// What a value is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is a field.
    Field(Field),
    /// If it is true, the network is of that kind.
    Flag(NetworkKind),
    /// How sure the maker is of the whole record, in percent.
    Confidence,
}

/// The part of a record that is read: what a value is good for by itself, and by what stands in it.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) value: Option<Use>,
    /// Sorted by their names.
    pub(super) keys: &'static [(&'static str, Self)],
}

const fn field(field: Field) -> Tree {
    Tree { value: Some(Use::Field(field)), keys: &[] }
}

const fn flag(kind: NetworkKind) -> Tree {
    Tree { value: Some(Use::Flag(kind)), keys: &[] }
}

/// The spellings of MaxMind, DB-IP, IPinfo and `ip-location-db`.
pub(super) static BUILT_IN: Tree = Tree {
    value: None,
    keys: &[
        ("accuracy_radius", field(Field::Radius)),
        ("anonymizer_confidence", Tree { value: Some(Use::Confidence), keys: &[] }),
        ("as_number", field(Field::Asn)),
        ("asn", field(Field::Asn)),
        ("autonomous_system_number", field(Field::Asn)),
        ("connection_type", field(Field::Kind)),
        // Letters, or a map with the letters in it.
        ("country", Tree { value: Some(Use::Field(Field::Country)), keys: &[("iso_code", field(Field::Country))] }),
        ("country_code", field(Field::Country)),
        ("hosting", flag(NetworkKind::Hosting)),
        ("is_anonymous_vpn", flag(NetworkKind::Vpn)),
        ("is_hosting_provider", flag(NetworkKind::Hosting)),
        ("is_public_proxy", flag(NetworkKind::Vpn)),
        ("is_residential_proxy", flag(NetworkKind::Vpn)),
        ("is_tor_exit_node", flag(NetworkKind::Tor)),
        ("lat", field(Field::Latitude)),
        ("latitude", field(Field::Latitude)),
        ("lng", field(Field::Longitude)),
        (
            "location",
            Tree {
                value: None,
                keys: &[
                    ("accuracy_radius", field(Field::Radius)),
                    ("latitude", field(Field::Latitude)),
                    ("longitude", field(Field::Longitude)),
                ],
            },
        ),
        ("lon", field(Field::Longitude)),
        ("longitude", field(Field::Longitude)),
        ("proxy", flag(NetworkKind::Vpn)),
        ("relay", flag(NetworkKind::Relay)),
        ("tor", flag(NetworkKind::Tor)),
        (
            "traits",
            Tree {
                value: None,
                keys: &[
                    ("autonomous_system_number", field(Field::Asn)),
                    ("connection_type", field(Field::Kind)),
                    ("is_anonymous_vpn", flag(NetworkKind::Vpn)),
                    ("is_hosting_provider", flag(NetworkKind::Hosting)),
                    ("is_public_proxy", flag(NetworkKind::Vpn)),
                    ("is_residential_proxy", flag(NetworkKind::Vpn)),
                    ("is_tor_exit_node", flag(NetworkKind::Tor)),
                    ("user_type", field(Field::Kind)),
                ],
            },
        ),
        ("user_type", field(Field::Kind)),
        ("vpn", flag(NetworkKind::Vpn)),
    ],
};

/// The kind of network behind a word of a maker: our own names, and those of MaxMind's `connection_type` and `user_type`.
pub(super) fn kind_of(word: &str) -> NetworkKind {
    const WORDS: [(&str, NetworkKind); 21] = [
        ("residential", NetworkKind::Residential),
        ("cable/dsl", NetworkKind::Residential),
        ("satellite", NetworkKind::Residential),
        ("dialup", NetworkKind::Residential),
        ("mobile", NetworkKind::Mobile),
        ("cellular", NetworkKind::Mobile),
        ("corporate", NetworkKind::Corporate),
        ("business", NetworkKind::Corporate),
        ("college", NetworkKind::Corporate),
        ("education", NetworkKind::Corporate),
        ("government", NetworkKind::Corporate),
        ("library", NetworkKind::Corporate),
        ("military", NetworkKind::Corporate),
        ("school", NetworkKind::Corporate),
        ("hosting", NetworkKind::Hosting),
        ("content_delivery_network", NetworkKind::Hosting),
        ("search_engine_spider", NetworkKind::Hosting),
        ("vpn", NetworkKind::Vpn),
        ("consumer_privacy_network", NetworkKind::Relay),
        ("relay", NetworkKind::Relay),
        ("tor", NetworkKind::Tor),
    ];
    let known = WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
    known.map_or_else(|| NetworkKind::parse(word).unwrap_or_default(), |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_few_enough_to_be_counted_off() {
        fn check(tree: &Tree) {
            assert!(tree.keys.is_sorted_by(|(a, _), (b, _)| a < b) && tree.keys.len() <= 64);
            tree.keys.iter().for_each(|(_, inner)| check(inner));
        }
        check(&BUILT_IN);
    }

    #[test]
    fn a_path_is_keys_and_indexes() {
        let path: FieldPath = "as.0.number".parse().unwrap();
        assert_eq!(path.steps(), [Step::Key("as".into()), Step::Index(0), Step::Key("number".into())]);
        for text in ["", ".", "a..b", "a.", ".a"] {
            assert_eq!(text.parse::<FieldPath>(), Err(FieldPathError::Empty), "{text}");
        }
        assert_eq!("a.".repeat(8).as_str().parse::<FieldPath>(), Err(FieldPathError::Empty));
        assert_eq!("a.a.a.a.a.a.a.a.a".parse::<FieldPath>(), Err(FieldPathError::TooLong));
        assert_eq!("a".repeat(201).parse::<FieldPath>(), Err(FieldPathError::TooLong));
        // No list is that long; it is then a key that no map has.
        assert_eq!("9".repeat(30).parse::<FieldPath>().unwrap().steps().len(), 1);
    }

    #[test]
    fn words_of_makers_are_kinds() {
        for (word, kind) in [
            ("Cellular", NetworkKind::Mobile),
            ("Cable/DSL", NetworkKind::Residential),
            ("Corporate", NetworkKind::Corporate),
            ("hosting", NetworkKind::Hosting),
            ("sase", NetworkKind::Sase),
            ("traveler", NetworkKind::Unknown),
            ("", NetworkKind::Unknown),
        ] {
            assert_eq!(kind_of(word), kind, "{word}");
        }
    }
}
