//! Databases in the MaxMind DB format, whoever made them and however broken they are.
//!
//! A lookup neither panics nor hangs, whatever a file holds. The crate checks every offset; a record may have 65,536 values at
//! most. Of those the reader here looks into the few that it knows by name, each name once for each map, and passes over the
//! rest where they stand, without following a pointer: one lookup reads a file some dozens of times at the very worst. What
//! can not be read is *unknown*, and the first time a database fails is told: it must not be missed that rules on
//! countries have stopped to match.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::{BUILT_IN, Field, FieldPath, Fields, STEPS_MAX, Step, Tree, Use, kind_of};
use super::{Country, NetworkKind, Place, Position};
use crate::net::Asn;

/// A file that is not a usable MaxMind DB.
#[derive(Debug, thiserror::Error)]
#[error("not a MaxMind DB file")]
pub struct GeoError(#[from] MaxMindDbError);

type Tell = dyn Fn(&str, &dyn std::error::Error) + Send + Sync;

/// Open databases in order: what one does not know, the next may.
#[derive(Default)]
pub struct GeoDatabase {
    databases: Vec<Database>,
    tell: Option<Arc<Tell>>,
}

/// One of them.
struct Database {
    name: Box<str>,
    reader: Reader<Vec<u8>>,
    fields: Fields,
    /// What every record says, by being there.
    whole: NetworkKind,
    /// Lookups that failed.
    failed: AtomicU64,
}

impl GeoDatabase {
    /// One database, from the bytes of its file.
    ///
    /// # Errors
    /// When they are not a MaxMind DB.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GeoError> {
        Self::named("", bytes, Fields::default())
    }

    /// One database by the name it goes by when something is wrong with it, whose fields stand where `fields` says.
    ///
    /// # Errors
    /// When the bytes are not a MaxMind DB.
    pub fn named(name: &str, bytes: Vec<u8>, fields: Fields) -> Result<Self, GeoError> {
        let reader = Reader::from_source(bytes)?;
        // Its records say when an address was last seen, and nothing else.
        let is_of_proxies = reader.metadata().database_type.contains("Residential-Proxy");
        let whole = if is_of_proxies { NetworkKind::Vpn } else { NetworkKind::Unknown };
        let database = Database { name: name.into(), reader, fields, whole, failed: AtomicU64::new(0) };
        Ok(Self { databases: vec![database], tell: None })
    }

    /// These databases, and after them the `other` ones.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.databases.extend(other.databases);
        self.tell = self.tell.or(other.tell);
        self
    }

    /// The same; `tell` is told the name of a database and what is wrong when a lookup in it fails for the first time. That
    /// it has no record of an address is no failure.
    #[must_use]
    pub fn telling(mut self, tell: impl Fn(&str, &dyn std::error::Error) + Send + Sync + 'static) -> Self {
        self.tell = Some(Arc::new(tell));
        self
    }

    /// What the databases say of an address. An IPv6 address that wraps an IPv4 one is looked up as the latter.
    ///
    /// Country, network and position are those of the first that knows any; of several kinds the one that says more counts.
    /// Takes half a microsecond with two databases: ask once for a connection, not for each request.
    pub fn lookup(&self, ip: IpAddr) -> Place {
        let ip = ip.to_canonical();
        self.databases.iter().fold(Place::default(), |place, database| match database.lookup(ip) {
            Ok(found) => Place { kind: place.kind.or_stronger(found.kind), ..place.or(found) },
            Err(error) => {
                self.note(database, &error);
                place
            }
        })
    }

    /// The English name of the city of an address. What a file has there and is no name is none.
    pub fn city(&self, ip: IpAddr) -> Option<Box<str>> {
        /// Longer than the name of any city.
        const NAME_BYTES_MAX: usize = 200;
        let ip = ip.to_canonical();
        let ways: [&[PathElement<'_>]; 2] = [&maxminddb::path!["city", "names", "en"], &maxminddb::path!["city"]];
        self.databases.iter().find_map(|database| {
            let found = database.reader.lookup(ip).ok()?;
            let name = ways.iter().find_map(|way| found.decode_path::<&str>(way).ok().flatten())?;
            (!name.is_empty() && name.len() <= NAME_BYTES_MAX).then(|| name.into())
        })
    }

    /// What each database calls itself, and when it was built (seconds since 1970).
    pub fn names(&self) -> impl Iterator<Item = (&str, u64)> {
        self.databases.iter().map(|database| {
            let metadata = database.reader.metadata();
            (metadata.database_type.as_str(), metadata.build_epoch)
        })
    }

    /// How many lookups failed in each database, by its name.
    pub fn failed(&self) -> impl Iterator<Item = (&str, u64)> {
        self.databases.iter().map(|database| (&*database.name, database.failed.load(Ordering::Relaxed)))
    }

    #[cold]
    fn note(&self, database: &Database, error: &MaxMindDbError) {
        let before = database.failed.fetch_add(1, Ordering::Relaxed);
        if let (0, Some(tell)) = (before, &self.tell) {
            tell(&database.name, error);
        }
    }
}

impl fmt::Debug for GeoDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names().map(|(name, _)| name)).finish()
    }
}

impl Database {
    fn lookup(&self, ip: IpAddr) -> Result<Place, MaxMindDbError> {
        let found = match self.reader.lookup(ip) {
            Ok(found) => found,
            // An IPv6 address in a database that has none.
            Err(MaxMindDbError::InvalidInput { .. }) => return Ok(Place::default()),
            Err(error) => return Err(error),
        };
        let Some(Row(mut row)) = found.decode::<Row>()? else { return Ok(Place::default()) };
        for (field, path) in self.fields.iter() {
            row.forget(field);
            if let Some(value) = at(&found, path)? {
                row.take(Use::Field(field), &value);
            }
        }
        Ok(row.place(self.whole))
    }
}

/// The value at the end of a path. A record that is built otherwise has none.
fn at<'a>(found: &LookupResult<'a, Vec<u8>>, path: &FieldPath) -> Result<Option<Value<'a>>, MaxMindDbError> {
    let steps = path.steps();
    let way: [PathElement<'_>; STEPS_MAX] = std::array::from_fn(|at| match steps.get(at) {
        Some(Step::Key(key)) => PathElement::Key(key),
        Some(Step::Index(at)) => PathElement::Index(*at),
        None => PathElement::Index(0),
    });
    match found.decode_path(way.get(..steps.len()).unwrap_or_default()) {
        Err(MaxMindDbError::Decoding { .. }) => Ok(None),
        other => other,
    }
}

/// What was read of a record so far. The first value of a field that makes sense counts.
#[derive(Debug, Default)]
struct Found {
    country: Option<Country>,
    asn: Option<Asn>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    radius_km: Option<u16>,
    kind: NetworkKind,
    confidence: Option<f64>,
}

/// Residential addresses that are perhaps one of a proxy are mostly homes.
const CONFIDENCE_MIN: f64 = 50.0;

impl Found {
    fn take(&mut self, use_: Use, value: &Value<'_>) {
        match use_ {
            Use::Field(Field::Country) => self.country = self.country.or_else(|| value.country()),
            Use::Field(Field::Asn) => self.asn = self.asn.or_else(|| value.asn()),
            Use::Field(Field::Latitude) => self.latitude = self.latitude.or_else(|| value.number()),
            Use::Field(Field::Longitude) => self.longitude = self.longitude.or_else(|| value.number()),
            Use::Field(Field::Radius) => self.radius_km = self.radius_km.or_else(|| value.kilometres()),
            Use::Field(Field::Kind) => self.kind = self.kind.or_stronger(value.kind()),
            Use::Flag(kind) if value.is_true() => self.kind = self.kind.or_stronger(kind),
            Use::Flag(_) => {}
            Use::Confidence => self.confidence = self.confidence.or_else(|| value.number()),
        }
    }

    const fn forget(&mut self, field: Field) {
        match field {
            Field::Country => self.country = None,
            Field::Asn => self.asn = None,
            Field::Latitude => self.latitude = None,
            Field::Longitude => self.longitude = None,
            Field::Radius => self.radius_km = None,
            Field::Kind => self.kind = NetworkKind::Unknown,
        }
    }

    fn place(self, whole: NetworkKind) -> Place {
        let is_sure = self.confidence.is_none_or(|percent| percent >= CONFIDENCE_MIN);
        let position = self.latitude.zip(self.longitude).filter(|at| *at != (0.0, 0.0));
        Place {
            country: self.country,
            asn: self.asn,
            kind: if is_sure { self.kind.or_stronger(whole) } else { self.kind },
            // Several makers write 0 and 0, a place in the sea, for "nowhere".
            position: position.and_then(|(latitude, longitude)| Position::new(latitude, longitude, self.radius_km)),
        }
    }
}

/// A record, as far as it stands where most makers put it. A value of another type than expected is as if it were not there.
struct Row(Found);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut found = Found::default();
        Look { tree: &BUILT_IN, found: &mut found }.deserialize(deserializer)?;
        Ok(Self(found))
    }
}

/// Looks at a value, and into it as deep as the tree goes.
struct Look<'t, 'f> {
    tree: &'t Tree,
    found: &'f mut Found,
}

impl Look<'_, '_> {
    fn take<E: de::Error>(self, value: &Value<'_>) -> Result<(), E> {
        if let Some(use_) = self.tree.value {
            self.found.take(use_, value);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.take(&Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.take(&Value::of_u64(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.take(&Value::of_i64(value))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<(), E> {
        self.take(&Value::of_u128(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.take(&Value::Number(value))
    }

    fn visit_f32<E: de::Error>(self, value: f32) -> Result<(), E> {
        self.take(&Value::Number(value.into()))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.take(&Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let keys = self.tree.keys;
        // Each name counts once: a map that has one a thousand times could else lead to the same large value each time.
        let mut seen = 0_u64;
        while let Some(key) = map.next_key::<&str>()? {
            let known = keys.binary_search_by(|(name, _)| (*name).cmp(key)).ok();
            let known = known.and_then(|at| {
                let bit = 1_u64.checked_shl(u32::try_from(at).ok()?)?;
                let is_new = seen & bit == 0;
                seen |= bit;
                keys.get(at).filter(|_| is_new)
            });
            match known {
                Some((_, tree)) => map.next_value_seed(Look { tree, found: &mut *self.found })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A value, as far as it can be one of ours.
#[derive(Clone, Copy, Debug)]
enum Value<'de> {
    Text(&'de str),
    Number(f64),
    Bool(bool),
    Useless,
}

impl Value<'_> {
    fn of_u64(number: u64) -> Self {
        u32::try_from(number).map_or(Self::Useless, |number| Self::Number(number.into()))
    }

    fn of_i64(number: i64) -> Self {
        i32::try_from(number).map_or_else(
            |_| u64::try_from(number).map_or(Self::Useless, Self::of_u64),
            |number| Self::Number(number.into()),
        )
    }

    fn of_u128(number: u128) -> Self {
        u64::try_from(number).map_or(Self::Useless, Self::of_u64)
    }

    fn country(self) -> Option<Country> {
        match self {
            Self::Text(code) => Country::parse(code),
            _ => None,
        }
    }

    /// Several makers write 0 for "none".
    fn asn(self) -> Option<Asn> {
        let number = match self {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number that fits")]
            Self::Number(number) if (1.0..=f64::from(u32::MAX)).contains(&number) && number.fract() == 0.0 => {
                Asn(number as u32)
            }
            Self::Text(text) => text.parse().ok()?,
            _ => return None,
        };
        (number != Asn(0)).then_some(number)
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            // Decimals alone: Rust would read `inf` and `1e3` too.
            Self::Text(text) => {
                let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+'));
                is_plain.then(|| text.parse().ok()).flatten()
            }
            _ => None,
        }
        .filter(|number: &f64| number.is_finite())
    }

    /// A radius of nothing is none; the largest there is stands for all that are larger.
    fn kilometres(self) -> Option<u16> {
        let radius = self.number().filter(|radius| *radius > 0.0)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and cut off at the most"
        )]
        let whole = radius.ceil().min(f64::from(u16::MAX)) as u16;
        Some(whole)
    }

    fn kind(self) -> NetworkKind {
        match self {
            Self::Text(word) => kind_of(word),
            _ => NetworkKind::Unknown,
        }
    }

    fn is_true(self) -> bool {
        match self {
            Self::Bool(is_set) => is_set,
            Self::Text(text) => text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::of_u64(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::of_i64(value))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value<'de>, E> {
        Ok(Value::of_u128(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value))
    }

    fn visit_f32<E: de::Error>(self, value: f32) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Value<'de>, E> {
        Ok(Value::Useless)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Value<'de>, E> {
        Ok(Value::Useless)
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Useless)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Useless)
    }
}

#[cfg(test)]
mod tests;
