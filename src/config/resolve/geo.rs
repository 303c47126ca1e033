//! `[geo]`.

use crate::config::geo::{Geo, GeoFile, GeoList};
use crate::facts::geo::{Field, FieldPath, Fields, NetworkKind};
use crate::facts::networks::{BuiltIn, ListFormat};
use crate::rules::page::{Reader, Value, set};

/// The kinds of networks that a list may be of.
const KINDS: [(&str, NetworkKind); 8] = [
    ("hosting", NetworkKind::Hosting),
    ("vpn", NetworkKind::Vpn),
    ("relay", NetworkKind::Relay),
    ("tor", NetworkKind::Tor),
    ("sase", NetworkKind::Sase),
    ("mobile", NetworkKind::Mobile),
    ("corporate", NetworkKind::Corporate),
    ("residential", NetworkKind::Residential),
];

const FORMATS: [(&str, ListFormat); 4] =
    [("auto", ListFormat::Auto), ("plain", ListFormat::Plain), ("csv", ListFormat::Csv), ("asn", ListFormat::Asn)];

const FIELDS: [(&str, Field); 6] = [
    ("country", Field::Country),
    ("asn", Field::Asn),
    ("latitude", Field::Latitude),
    ("longitude", Field::Longitude),
    ("radius", Field::Radius),
    ("kind", Field::Kind),
];

pub(super) fn geo(reader: &Reader<'_>, geo: &mut Geo) {
    if let Some(value) = reader.value("databases") {
        set(&mut geo.databases, value.list("a list of paths to MaxMind databases", |value| database(&value)));
    }
    set(&mut geo.lists, reader.tables("list", list));
    set(&mut geo.entries_max, reader.whole("entries_max", 1..=10_000_000));
    let built_in = reader.flag("built_in").map(|is_on| if is_on { BuiltIn::On } else { BuiltIn::Off });
    set(&mut geo.built_in, built_in);
}

/// `"x.mmdb"`, or `{ path = "x.mmdb", fields = { country = "country.code" } }`
fn database(value: &Value<'_>) -> Option<GeoFile> {
    if !value.is_table() {
        return value.path().map(|path| GeoFile { path, fields: Fields::default() });
    }
    value.table(|reader| {
        let path = reader.path("path");
        if path.is_none() {
            reader.missing("path", "path = \"city.mmdb\"");
        }
        let fields = reader.table("fields", fields).unwrap_or_default();
        path.map(|path| GeoFile { path, fields })
    })?
}

fn fields(reader: &Reader<'_>) -> Fields {
    let each = |all: Fields, (key, field): (&'static str, Field)| {
        let path: Option<FieldPath> = reader
            .value(key)
            .and_then(|value| value.parsed("keys joined by dots, such as \"country.code\"", str::parse));
        path.map_or_else(|| all.clone(), |path| all.clone().with(field, path))
    };
    FIELDS.into_iter().fold(Fields::default(), each)
}

/// `[[geo.list]]`
fn list(reader: &Reader<'_>) -> Option<GeoList> {
    let path = reader.path("path");
    if !reader.has("path") {
        reader.missing("path", "path = \"lists/tor.txt\"");
    }
    let kind = reader.word("kind", &KINDS);
    if !reader.has("kind") {
        reader.missing("kind", "what its networks are used for, such as kind = \"tor\"");
    }
    let format = reader.word("format", &FORMATS).unwrap_or_default();
    Some(GeoList { path: path?, kind: kind?, format })
}
