//! What a field is for one request, and the tests that conditions make on it.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use regex::Regex;

use super::lex::Compare;
use super::scheme::{Case, Field};
use super::table::{Ints, Networks, Texts};
use crate::clock::Timestamp;
use crate::net::{IpPrefix, PrefixSet};

/// What a field is for one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nobody knows.
    Unknown,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A span of time, in milliseconds.
    Millis(u64),
    /// A text.
    Text(&'a str),
    /// A text of at most 15 bytes that stands nowhere else.
    Short(Short),
    /// A list of texts, as `Accept-Language` writes one: parts between commas, each up to a `;`.
    Texts(&'a str),
    /// An address, or the first one of a network.
    Ip(IpAddr),
    /// Something recorded whose value is kept secret: a [`Pseudonym`].
    Pseudonym(&'a Pseudonym),
    /// An address of which no more is recorded than a network that it is in.
    Network(IpPrefix),
    /// A text of which parts are kept secret: a [`Masked`].
    Masked(&'a Masked),
}

/// Bytes of the longest [`Short`].
pub const SHORT_BYTES_MAX: usize = 15;

/// A text of at most 15 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Short {
    len: u8,
    bytes: [u8; SHORT_BYTES_MAX],
}

impl Short {
    /// The text, cut after [`SHORT_BYTES_MAX`] bytes.
    pub fn new(text: &str) -> Self {
        let cut = text.floor_char_boundary(SHORT_BYTES_MAX);
        let mut bytes = [0; SHORT_BYTES_MAX];
        let len = bytes.iter_mut().zip(text.as_bytes().iter().take(cut)).fold(0, |len, (place, byte)| {
            *place = *byte;
            len + 1
        });
        Self { len, bytes }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.len)).map(std::str::from_utf8);
        text.and_then(Result::ok).unwrap_or_default()
    }
}

impl Value<'_> {
    /// The value, if it is a text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Short(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Whether it is known.
    pub const fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// Whether it is known, and kept secret.
    pub const fn is_hidden(&self) -> bool {
        matches!(self, Self::Pseudonym(_) | Self::Network(_) | Self::Masked(_))
    }

    /// The value, if it is a name that reports may tell: a text, or what stands for one.
    pub fn as_name(&self) -> Option<&str> {
        match self {
            Self::Pseudonym(pseudonym) => Some(pseudonym.name()),
            Self::Masked(masked) => Some(&masked.text),
            other => other.as_text(),
        }
    }
}

/// As rules write it; `?` for what is unknown.
impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("?"),
            Self::Bool(yes) => write!(f, "{yes}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Millis(millis) => {
                write!(f, "{}", crate::limit::Spelled(std::time::Duration::from_millis(*millis)))
            }
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Short(text) => write!(f, "{:?}", text.as_str()),
            Self::Texts(list) => f.debug_list().entries(texts(list)).finish(),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Pseudonym(pseudonym) => f.write_str(pseudonym.name()),
            Self::Network(network) => write!(f, "{network}"),
            Self::Masked(masked) => write!(f, "{:?}", masked.text),
        }
    }
}

/// A text of which parts are kept secret. Pseudonyms stand in their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    text: Box<str>,
    clear: usize,
}

impl Masked {
    /// A text of which the first `clear` bytes are as they were. None if it does not have so many.
    pub fn new(text: &str, clear: usize) -> Option<Self> {
        text.is_char_boundary(clear).then(|| Self { text: text.into(), clear })
    }

    /// The text, with pseudonyms in it.
    pub const fn text(&self) -> &str {
        &self.text
    }

    /// How many of its first bytes are as they were.
    pub const fn clear(&self) -> usize {
        self.clear
    }

    /// Whether a test holds for what it was; none if that only the hidden parts could tell.
    fn ask(&self, test: &Test, case: Case) -> Option<bool> {
        let (kind, wanted) = test.as_text()?;
        self.says(kind, wanted, case)
    }

    /// The same for a test of texts.
    pub(crate) fn says(&self, kind: TextTest, wanted: &str, case: Case) -> Option<bool> {
        let clear = self.text.get(..self.clear)?;
        let begins = |text: &str, with: &str| match (case, text.get(..with.len())) {
            (Case::Exact, Some(begin)) => begin == with,
            (_, Some(begin)) => begin.eq_ignore_ascii_case(with),
            (_, None) => false,
        };
        match kind {
            TextTest::StartsWith if begins(clear, wanted) => Some(true),
            // Something is hidden behind what is clear, so what is shorter is another text.
            TextTest::StartsWith | TextTest::Equals if !begins(wanted, clear) => Some(false),
            _ => None,
        }
    }
}

/// Bytes of the longest pseudonym that is read.
const PSEUDONYM_BYTES_MAX: usize = 100;

/// What stands for a value that is kept secret: equal values have equal pseudonyms under one key. Two spellings of a subject, and
/// two addresses of a network that one client has to itself, have different ones and are counted as one; so a pseudonym may
/// have a second name that they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pseudonym {
    name: Box<str>,
    counted_as: Option<Box<str>>,
}

impl Pseudonym {
    /// A pseudonym, and what it is counted as.
    pub fn new(name: &str, counted_as: &str) -> Self {
        Self { name: name.into(), counted_as: (counted_as != name).then(|| counted_as.into()) }
    }

    /// Reads both, written with a slash between them.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, counted_as) = text.split_once('/').unwrap_or((text, text));
        let is_one =
            |part: &str| part.contains('-') && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (text.len() <= PSEUDONYM_BYTES_MAX && is_one(name) && is_one(counted_as)).then(|| Self::new(name, counted_as))
    }

    /// The pseudonym.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that it shares with what is counted as one with it.
    pub fn counted_as(&self) -> &str {
        self.counted_as.as_deref().unwrap_or(&self.name)
    }

    /// Whether two values are one; none if they were hidden with different keys.
    pub fn is(&self, other: &Self) -> Option<bool> {
        let key = |of: &Self| of.name.split('-').next().map(ToOwned::to_owned);
        (key(self) == key(other)).then(|| self.name == other.name)
    }
}

/// Both names, as [`Pseudonym::parse`] reads them.
impl std::fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        self.counted_as.as_ref().map_or(Ok(()), |counted_as| write!(f, "/{counted_as}"))
    }
}

/// A value that stands for itself: kept until the answer, recorded, or told by a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OwnedValue {
    /// Nobody knows.
    #[default]
    Unknown,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A span of time, in milliseconds.
    Millis(u64),
    /// A text.
    Text(Box<str>),
    /// A list of texts, as in [`Value::Texts`].
    Texts(Box<str>),
    /// An address.
    Ip(IpAddr),
    /// As in [`Value::Pseudonym`].
    Pseudonym(Box<Pseudonym>),
    /// As in [`Value::Network`].
    Network(IpPrefix),
    /// As in [`Value::Masked`].
    Masked(Box<Masked>),
}

impl OwnedValue {
    /// The value, borrowed.
    pub fn as_value(&self) -> Value<'_> {
        match self {
            Self::Unknown => Value::Unknown,
            Self::Bool(yes) => Value::Bool(*yes),
            Self::Int(number) => Value::Int(*number),
            Self::Millis(millis) => Value::Millis(*millis),
            Self::Text(text) => Value::Text(text),
            Self::Texts(list) => Value::Texts(list),
            Self::Ip(ip) => Value::Ip(*ip),
            Self::Pseudonym(pseudonym) => Value::Pseudonym(pseudonym),
            Self::Network(network) => Value::Network(*network),
            Self::Masked(masked) => Value::Masked(masked),
        }
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Unknown => Self::Unknown,
            Value::Bool(yes) => Self::Bool(yes),
            Value::Int(number) => Self::Int(number),
            Value::Millis(millis) => Self::Millis(millis),
            Value::Text(text) => Self::Text(text.into()),
            Value::Short(text) => Self::Text(text.as_str().into()),
            Value::Texts(list) => Self::Texts(list.into()),
            Value::Ip(ip) => Self::Ip(ip),
            Value::Pseudonym(pseudonym) => Self::Pseudonym(Box::new(pseudonym.clone())),
            Value::Network(network) => Self::Network(network),
            Value::Masked(masked) => Self::Masked(Box::new(masked.clone())),
        }
    }
}

impl From<bool> for OwnedValue {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

impl From<i64> for OwnedValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for OwnedValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<IpAddr> for OwnedValue {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl From<std::time::Duration> for OwnedValue {
    fn from(span: std::time::Duration) -> Self {
        Self::Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

/// What a Rust host knows of a request, for rules that read `facts.*`. The host puts it into the request's extensions before
/// the guard sees it; names and types are declared in `[facts]` of a rules file. A value of another type than declared is
/// unknown.
///
/// ```
/// # use portcullis::rules::HostFacts;
/// let facts = HostFacts::new().with("plan", "trial").with("is_staff", false);
/// # let mut request = http::Request::new(());
/// request.extensions_mut().insert(facts);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts(Vec<(Box<str>, OwnedValue)>);

impl HostFacts {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The same with one fact more; an earlier one of this name is replaced.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OwnedValue>) -> Self {
        self.0.retain(|(known, _)| **known != *name);
        self.0.push((name.into(), value.into()));
        self
    }

    /// A fact by its name.
    pub fn get(&self, name: &str) -> Option<&OwnedValue> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }
}

/// The parts of a list of texts.
pub(crate) fn texts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|part| part.split(';').next().unwrap_or(part).trim()).filter(|part| !part.is_empty())
}

/// Where fields come from: a request, a recorded one, a scenario.
pub trait Facts {
    /// What the field is. Never asked for `time.*`, which is [`now`](Self::now) in a zone.
    fn value(&self, field: Field) -> Value<'_>;

    /// The time.
    fn now(&self) -> Timestamp;
}

/// A test on one field. Two of them are equal if they find the same in every value of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Test {
    /// It is true.
    Is,
    /// It is known. Never unknown itself.
    Known,
    Int(Compare, i64),
    Ints(Arc<Ints>),
    /// In milliseconds.
    Span(Compare, u64),
    Equals(Box<str>),
    OneOf(Arc<Texts>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Matches(Pattern),
    /// The address is in one of the networks.
    Within(Arc<Networks>),
    /// Compared with another field of its type.
    Field(Compare, Field),
}

/// A pattern. Fields say themselves whether the case of letters matters, so its text tells it from others.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(crate) Arc<Regex>);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl Test {
    /// What it costs to be asked, in steps about as long as a comparison of numbers.
    pub(crate) fn cost(&self) -> f32 {
        match self {
            Self::Is | Self::Known | Self::Int(..) | Self::Span(..) => 1.0,
            Self::Equals(_) | Self::StartsWith(_) | Self::EndsWith(_) | Self::Ints(_) => 2.0,
            Self::Field(..) | Self::Within(_) | Self::OneOf(_) => 4.0,
            Self::Contains(_) => 10.0,
            Self::Matches(_) => 100.0,
        }
    }

    /// The test as one of a text, if it is one.
    pub(crate) fn as_text(&self) -> Option<(TextTest, &str)> {
        match self {
            Self::Equals(text) => Some((TextTest::Equals, text)),
            Self::StartsWith(text) => Some((TextTest::StartsWith, text)),
            Self::EndsWith(text) => Some((TextTest::EndsWith, text)),
            Self::Contains(text) => Some((TextTest::Contains, text)),
            _ => None,
        }
    }
}

/// How a text is compared with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextTest {
    Equals,
    StartsWith,
    EndsWith,
    Contains,
}

/// Asks the test. `None`: the field is unknown, or hidden and only its value could tell.
pub(crate) fn ask<F: Facts + ?Sized>(facts: &F, field: Field, case: Case, test: &Test) -> Option<bool> {
    let value = facts.value(field);
    match (test, value) {
        (Test::Known, value) => Some(value.is_known()),
        (_, Value::Unknown) => None,
        (Test::Is, Value::Bool(yes)) => Some(yes),
        (Test::Int(op, wanted), Value::Int(number)) => Some(ordered(*op, &number, wanted)),
        (Test::Ints(wanted), Value::Int(number)) => Some(wanted.has(number)),
        (Test::Span(op, wanted), Value::Millis(millis)) => Some(ordered(*op, &millis, wanted)),
        (Test::Within(networks), Value::Ip(ip)) => Some(networks.set().contains(ip)),
        (Test::Within(networks), Value::Network(network)) => lies_within(network, networks.set()),
        (Test::Field(op, other), value) => same(*op, value, facts.value(*other), case),
        (test, Value::Masked(masked)) => masked.ask(test, case),
        (test, Value::Texts(list)) => Some(texts(list).any(|part| meets(test, part, case))),
        (test, value) => value.as_text().map(|text| meets(test, text, case)),
    }
}

pub(crate) fn ordered<T: Ord>(op: Compare, left: &T, right: &T) -> bool {
    match op {
        Compare::Ne => left != right,
        Compare::Lt => left < right,
        Compare::Le => left <= right,
        Compare::Gt => left > right,
        Compare::Ge => left >= right,
        _ => left == right,
    }
}

fn same(op: Compare, left: Value<'_>, right: Value<'_>, case: Case) -> Option<bool> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(ordered(op, &left, &right)),
        (Value::Millis(left), Value::Millis(right)) => Some(ordered(op, &left, &right)),
        (Value::Bool(left), Value::Bool(right)) => Some(ordered(op, &left, &right)),
        (Value::Ip(left), Value::Ip(right)) => Some(ordered(op, &left, &right)),
        (Value::Pseudonym(left), Value::Pseudonym(right)) => {
            // Which of two comes first only their values tell.
            let is_same = left.is(right)?;
            matches!(op, Compare::Eq | Compare::Ne).then_some(is_same == (op == Compare::Eq))
        }
        (Value::Network(one), other) | (other, Value::Network(one)) => {
            let is_apart = match other {
                Value::Ip(ip) => !one.contains(ip),
                Value::Network(other) => !one.contains(other.address()) && !other.contains(one.address()),
                _ => false,
            };
            (is_apart && matches!(op, Compare::Eq | Compare::Ne)).then_some(op == Compare::Ne)
        }
        (left, right) => {
            let (left, right) = (left.as_text()?, right.as_text()?);
            Some(equal(left, right, case) == (op == Compare::Eq))
        }
    }
}

/// Whether an address that is somewhere in a network is in one of a set; none if only the address could tell.
fn lies_within(network: IpPrefix, set: &PrefixSet) -> Option<bool> {
    let network: PrefixSet = std::iter::once(network).collect();
    match (network.is_within(set), network.is_apart_from(set)) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

fn equal(left: &str, right: &str, case: Case) -> bool {
    match case {
        Case::Exact => left == right,
        Case::Ignored => left.eq_ignore_ascii_case(right),
        Case::Path => is_path(left.as_bytes(), right.as_bytes()),
    }
}

/// Whether two paths are one to an app that is not particular.
fn is_path(one: &[u8], other: &[u8]) -> bool {
    let bare = |path| <[u8]>::strip_suffix(path, b"/").unwrap_or(path);
    bare(one).eq_ignore_ascii_case(bare(other))
}

/// Whether a test of texts holds for one.
pub(crate) fn meets(test: &Test, text: &str, case: Case) -> bool {
    match test {
        Test::OneOf(wanted) => wanted.has(text, case),
        Test::Matches(pattern) => pattern.0.is_match(text),
        test => test.as_text().is_some_and(|(kind, wanted)| says(kind, wanted, text, case)),
    }
}

/// Whether a text is as wanted.
#[inline]
pub(crate) fn says(kind: TextTest, wanted: &str, text: &str, case: Case) -> bool {
    let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
    let equal = |part: Option<&[u8]>| match (part, case) {
        (Some(part), Case::Exact) => part == wanted,
        (Some(part), Case::Ignored | Case::Path) => part.eq_ignore_ascii_case(wanted),
        (None, _) => false,
    };
    match kind {
        TextTest::Equals if case == Case::Path => is_path(text, wanted),
        TextTest::Equals => equal(Some(text)),
        TextTest::StartsWith => equal(text.get(..wanted.len())),
        TextTest::EndsWith => equal(text.len().checked_sub(wanted.len()).and_then(|start| text.get(start..))),
        TextTest::Contains => match case {
            Case::Exact => memchr::memmem::find(text, wanted).is_some(),
            Case::Ignored | Case::Path => {
                text.windows(wanted.len().max(1)).any(|part| part.eq_ignore_ascii_case(wanted))
            }
        },
    }
}
