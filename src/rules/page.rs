//! A typed reader of TOML that keeps places and goes on after a fault.
//!
//! serde stops at the first key it does not know. Here each key is asked for by name; what is wrong with its value is
//! noted with its place, and the keys that nobody asked for are unknown. The parser goes on after a fault of syntax too,
//! so one look at a file tells all that is wrong with it.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Fault, Level, Spot, nearest};
use super::gathered::Gathered;
pub(crate) use super::source::Source;
use crate::clock::Timestamp;
use crate::limit::{Rate, parse_duration};

/// Entries of one list that are read: each route or network costs time in every request.
pub(crate) const ENTRIES_MAX: usize = 1000;

/// Longest file that is read: far more than anyone writes, little enough to read at once.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// One file while it is read.
pub(crate) struct Page<'t> {
    source: &'t Arc<Source>,
    base: &'t Path,
    faults: RefCell<Gathered>,
    missing: RefCell<Gathered>,
    /// Where each key that was read stands; none if nobody will ask.
    places: Option<RefCell<BTreeMap<String, Range<usize>>>>,
}

/// What was found besides the values.
pub(crate) struct Notes {
    pub(crate) faults: Vec<Fault>,
    /// Where each key that was read stands.
    pub(crate) spots: Spots,
}

/// Where the keys of what was read stand.
#[derive(Debug, Default)]
pub(crate) struct Spots(BTreeMap<String, (Arc<Source>, Range<usize>)>);

impl Spots {
    fn new(source: &Arc<Source>, places: BTreeMap<String, Range<usize>>) -> Self {
        Self(places.into_iter().map(|(key, place)| (key, (source.clone(), place))).collect())
    }

    /// Where a key stands.
    pub(crate) fn get(&self, key: &str) -> Option<Spot> {
        self.0.get(key).map(|(source, place)| source.spot(place.clone()))
    }

    /// Whether a key was read.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Takes those of another text, whose keys come later and replace those of the same name.
    pub(crate) fn append(&mut self, mut more: Self) {
        self.0.append(&mut more.0);
    }
}

/// Reads `text` with `read`, which asks for everything it knows. Paths in it are relative to `base`.
pub(crate) fn page(file: &str, text: &str, base: &Path, read: impl FnOnce(&Reader<'_>)) -> Notes {
    let source = Source::new(file, text);
    let page = Page::new(&source, base, Some(RefCell::default()));
    page.read(read);
    let places = page.places.unwrap_or_default().into_inner();
    Notes { faults: page.faults.into_inner().into_told(), spots: Spots::new(&source, places) }
}

/// As [`page`], for a text that is kept: only what is wrong is told.
pub(crate) fn page_of(source: &Arc<Source>, base: &Path, read: impl FnOnce(&Reader<'_>)) -> Gathered {
    let page = Page::new(source, base, None);
    page.read(read);
    page.faults.into_inner()
}

impl<'t> Page<'t> {
    fn new(source: &'t Arc<Source>, base: &'t Path, places: Option<RefCell<BTreeMap<String, Range<usize>>>>) -> Self {
        Self { source, base, faults: RefCell::default(), missing: RefCell::default(), places }
    }

    fn read(&self, read: impl FnOnce(&Reader<'_>)) {
        let text = self.source.text();
        if text.len() > FILE_BYTES_MAX {
            self.note(Level::Fault, "", "the file is larger than 1 MiB".to_owned(), None, None);
        } else {
            let (table, errors) = DeTable::parse_recoverable(text);
            Reader::over(self, table.get_ref(), String::new(), read);
            self.note_syntax(&errors);
        }
    }

    /// Keeps the place of a key.
    fn keep(&self, key: &str, place: Range<usize>) {
        if let Some(places) = &self.places {
            places.borrow_mut().insert(key.to_owned(), place);
        }
    }
}

impl Page<'_> {
    fn spot(&self, span: Range<usize>) -> Spot {
        self.source.spot(span)
    }

    fn note(&self, level: Level, key: &str, message: String, help: Option<String>, span: Option<Range<usize>>) {
        let make = || Fault::new(level, key, message).at(span.map(|span| self.spot(span))).with_help(help);
        self.faults.borrow_mut().note(level, make);
    }

    /// Notes the faults of syntax. What the reader found on the same lines only follows from them, and so does all that
    /// it missed.
    fn note_syntax(&self, errors: &[toml::de::Error]) {
        let mut found = self.faults.borrow_mut();
        if errors.is_empty() {
            found.append(self.missing.take());
            return;
        }
        let mut spoilt: BTreeSet<usize> = BTreeSet::new();
        let mut faults = Gathered::default();
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            // One slip makes several errors on its line; the first says it best.
            if spoilt.insert(self.source.line_of(span.start)) {
                let message = || error.message().trim().replace('\n', ", ");
                faults.note(Level::Fault, || Fault::new(Level::Fault, "", message()).at(Some(self.spot(span))));
            }
        }
        // The parser goes on with values of its own making, which stand nowhere.
        let is_made_up = |spot: &Spot| (spot.line, spot.column, spot.text.is_empty()) == (1, 1, true);
        found.keep_only(|fault| {
            fault.spot.as_ref().is_none_or(|spot| !spoilt.contains(&spot.line) && !is_made_up(spot))
        });
        found.append(faults);
    }
}

/// What an unknown key was meant to be.
fn near(name: &str, asked: &[&'static str]) -> String {
    if let Some(near) = nearest(name, asked.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    let first = |at: usize, key: &&str| !asked.iter().take(at).any(|earlier| earlier == key);
    let known = asked.iter().enumerate().filter(|(at, key)| first(*at, key)).map(|(_, key)| *key);
    format!("known here: {}", known.collect::<Vec<_>>().join(", "))
}

/// Reads one table.
pub(crate) struct Reader<'p> {
    page: &'p Page<'p>,
    table: &'p DeTable<'p>,
    path: String,
    asked: RefCell<Vec<&'static str>>,
    /// Whether its keys are for the user to choose.
    all_known: Cell<bool>,
}

/// An entry of a table whose keys are for the user to choose.
pub(crate) struct Entry<'p> {
    /// Its key.
    pub(crate) name: &'p str,
    /// Where the key stands.
    pub(crate) name_span: Range<usize>,
    /// Its value.
    pub(crate) value: Value<'p>,
}

impl<'p> Reader<'p> {
    fn over<T>(page: &'p Page<'p>, table: &'p DeTable<'p>, path: String, read: impl FnOnce(&Self) -> T) -> T {
        let reader = Self { page, table, path, asked: RefCell::default(), all_known: Cell::new(false) };
        let out = read(&reader);
        if !reader.all_known.get() {
            reader.note_unknown();
        }
        out
    }

    fn note_unknown(&self) {
        let asked = self.asked.borrow();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if asked.contains(&name) {
                continue;
            }
            // A name is looked for among those that are known only if it is told.
            self.page.faults.borrow_mut().note(Level::Fault, || {
                let place = if self.path.is_empty() { "this file".to_owned() } else { format!("[{}]", self.path) };
                let fault = Fault::new(Level::Fault, "", format!("`{name}` is not a setting of {place}"));
                fault.at(Some(self.page.spot(key.span()))).with_help(Some(near(name, &asked)))
            });
        }
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { [&self.path, ".", key].concat() }
    }

    /// All that stands in a table whose keys are for the user to choose.
    pub(crate) fn entries(&self) -> Vec<Entry<'p>> {
        self.all_known.set(true);
        let each = |(name, value): (&'p Spanned<Cow<'p, str>>, &'p Spanned<DeValue<'p>>)| {
            let name_text: &'p str = name.get_ref();
            let key = self.dotted(name_text);
            self.page.keep(&key, value.span());
            let value = Value { page: self.page, value: value.get_ref(), span: value.span(), key };
            Entry { name: name_text, name_span: name.span(), value }
        };
        let mut entries: Vec<_> = self.table.iter().take(ENTRIES_MAX).map(each).collect();
        if self.table.len() > ENTRIES_MAX {
            self.fault(&format!("at most {ENTRIES_MAX} entries are read"));
        }
        entries.sort_by_key(|entry| entry.name_span.start);
        entries
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// The value of a key that nobody is to be told of.
    pub(crate) fn peek(&self, key: &str) -> Option<Value<'p>> {
        let value = self.table.get(key)?;
        Some(Value { page: self.page, value: value.get_ref(), span: value.span(), key: self.dotted(key) })
    }

    /// Notes that what stands somewhere is wrong.
    pub(crate) fn fault_at(&self, span: &Range<usize>, message: &str) {
        self.page.note(Level::Fault, &self.path, message.to_owned(), None, Some(span.clone()));
    }

    /// Notes that the table as a whole is wrong, at its head.
    pub(crate) fn fault(&self, message: &str) {
        self.page.note(Level::Fault, &self.path, message.to_owned(), None, self.head());
    }

    fn head(&self) -> Option<Range<usize>> {
        let first = self.table.iter().map(|(name, value)| name.span().start.min(value.span().start)).min();
        first.map(|start| start..start)
    }

    /// The text that the table stands in, for what is to be said later.
    pub(crate) const fn source(&self) -> &'p Arc<Source> {
        self.page.source
    }

    /// The value of a key, if it is there.
    pub(crate) fn value(&self, key: &'static str) -> Option<Value<'p>> {
        self.asked.borrow_mut().push(key);
        let value = self.table.get(key)?;
        let value = Value { page: self.page, value: value.get_ref(), span: value.span(), key: self.dotted(key) };
        self.page.keep(&value.key, value.span());
        Some(value)
    }

    /// Says that a key is missing, at the head of its table. Silent in a file that has faults of syntax: it may be there.
    pub(crate) fn missing(&self, key: &'static str, expected: &str) {
        self.page.missing.borrow_mut().note(Level::Fault, || {
            let spot = self.head().map(|head| self.page.spot(head));
            let fault = Fault::new(Level::Fault, self.path.clone(), format!("`{key}` is missing"));
            fault.at(spot).with_help(Some(expected.to_owned()))
        });
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &'static str) -> Option<bool> {
        self.value(key)?.flag()
    }

    /// A duration such as `"30m"`.
    pub(crate) fn duration(&self, key: &'static str) -> Option<Duration> {
        self.value(key)?.duration()
    }

    /// A duration that is not zero.
    pub(crate) fn some_time(&self, key: &'static str) -> Option<Duration> {
        let value = self.value(key)?;
        let duration = value.duration()?;
        if duration.is_zero() {
            value.fault("expected a duration longer than zero", None);
            return None;
        }
        Some(duration)
    }

    /// A size such as `"64KiB"`.
    pub(crate) fn size(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<usize> {
        self.value(key)?.size(range)
    }

    /// A whole number.
    pub(crate) fn whole<N: TryFrom<u64>>(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<N> {
        self.value(key)?.whole(range)
    }

    /// A rate such as `"10/1m burst 3"`; `"off"` is `Some(None)`.
    pub(crate) fn rate(&self, key: &'static str) -> Option<Option<Rate>> {
        self.value(key)?.parsed("a limit such as \"10/1m burst 3\"", Rate::parse)
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.value(key)?.word(words)
    }

    /// A path, relative to the file.
    pub(crate) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.value(key)?.path()
    }

    /// A table.
    pub(crate) fn table<T>(&self, key: &'static str, read: impl FnOnce(&Reader<'_>) -> T) -> Option<T> {
        self.value(key)?.table(read)
    }

    /// A list of tables, `[[key]]`.
    pub(crate) fn tables<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&Reader<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.value(key)?.list(&format!("a list of tables, [[{key}]]"), |value| value.table(&mut read).flatten())
    }
}

/// A value and where it stands.
pub(crate) struct Value<'p> {
    page: &'p Page<'p>,
    value: &'p DeValue<'p>,
    span: Range<usize>,
    key: String,
}

impl<'p> Value<'p> {
    /// Notes that it is wrong.
    pub(crate) fn fault(&self, message: &str, help: Option<String>) {
        self.page.note(Level::Fault, &self.key, message.to_owned(), help, Some(self.span.clone()));
    }

    /// Where it stands, with its quotes.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Whether it is a list.
    pub(crate) const fn is_list(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    /// Whether it is a string.
    pub(crate) const fn is_text(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    pub(crate) fn wrong_type(&self, expected: &str) {
        let found = match self.value {
            DeValue::String(_) => "a string".to_owned(),
            DeValue::Integer(number) => format!("the number {}", number.as_str()),
            DeValue::Float(number) => format!("the number {}", number.as_str()),
            DeValue::Boolean(yes) => format!("{yes}"),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.fault(&format!("expected {expected}, found {found}"), None);
    }

    /// Its text.
    pub(crate) fn text(&self, expected: &str) -> Option<&'p str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_type(expected);
        }
        text
    }

    /// Its text, read by `parse`.
    pub(crate) fn parsed<T, E: Display>(&self, expected: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match parse(self.text(expected)?) {
            Ok(value) => Some(value),
            Err(why) => {
                self.fault(&why.to_string(), None);
                None
            }
        }
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.wrong_type("true or false");
        }
        flag
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        self.parsed("a duration in quotes with a unit, such as \"30m\"", parse_duration)
    }

    pub(crate) fn size(&self, range: RangeInclusive<u64>) -> Option<usize> {
        let size = self.parsed("a size in quotes with a unit, such as \"64KiB\"", parse_size)?;
        let fits = usize::try_from(size).ok().filter(|_| range.contains(&size));
        if fits.is_none() {
            let (low, high) = (SizeSpelled(*range.start()), SizeSpelled(*range.end()));
            self.fault(&format!("expected a size from {low} to {high}"), None);
        }
        fits
    }

    pub(crate) fn whole<N: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<N> {
        let Some(number) = self.value.as_integer() else {
            self.wrong_type("a whole number");
            return None;
        };
        let number = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|number| range.contains(number));
        let fits = number.and_then(|number| N::try_from(number).ok());
        if fits.is_none() {
            self.fault(&format!("expected a whole number from {} to {}", range.start(), range.end()), None);
        }
        fits
    }

    pub(crate) fn real(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let text = match self.value {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            _ => {
                self.wrong_type("a number");
                return None;
            }
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.fault(&format!("expected a number from {} to {}", range.start(), range.end()), None);
        }
        number
    }

    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let all = || words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let Some(text) = self.value.as_str() else {
            self.wrong_type(&format!("one of {}", all()));
            return None;
        };
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let all = all();
            let near = nearest(text, words.iter().map(|(word, _)| *word));
            self.fault(&format!("expected one of {all}"), near.map(|near| format!("did you mean \"{near}\"?")));
        }
        found
    }

    /// As [`word`](Self::word), where there are too many words to list.
    pub(crate) fn word_quietly<T: Copy>(&self, words: &[(&str, T)], what: &str) -> Option<T> {
        let text = self.text(what)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let near = nearest(text, words.iter().map(|(word, _)| *word));
            self.fault(&format!("\"{text}\" is not {what}"), near.map(|near| format!("did you mean \"{near}\"?")));
        }
        found
    }

    pub(crate) fn path(&self) -> Option<PathBuf> {
        let text = self.text("a path")?;
        if text.is_empty() || text.contains('\0') {
            self.fault("expected a path", None);
            return None;
        }
        Some(self.page.base.join(text))
    }

    /// The folder that paths are relative to.
    pub(crate) const fn base(&self) -> &'p Path {
        self.page.base
    }

    /// A date, `2027-01-01` (its first moment in UTC), or a time with an offset.
    pub(crate) fn date(&self) -> Option<Timestamp> {
        let expected = "a date without quotes, such as 2027-01-01";
        let Some(date) = self.value.as_datetime() else {
            self.wrong_type(expected);
            return None;
        };
        let text = match (date.date, date.time, date.offset) {
            (Some(date), None, None) => format!("{date}T00:00:00Z"),
            (Some(_), Some(_), Some(_)) => date.to_string(),
            _ => {
                self.fault(
                    &format!("expected {expected}, or a time with an offset, such as 2027-01-01T08:00:00Z"),
                    None,
                );
                return None;
            }
        };
        let time = text.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
        if time.is_none() {
            self.fault("there is no such date", None);
        }
        time.map(Timestamp::from_millis)
    }

    /// A list, each entry read by `read`. An entry that is wrong is left out; the fault is noted.
    pub(crate) fn list<T>(&self, expected: &str, mut read: impl FnMut(Self) -> Option<T>) -> Option<Vec<T>> {
        let Some(array) = self.value.as_array() else {
            self.wrong_type(expected);
            return None;
        };
        let each = |(at, value): (usize, &'p Spanned<DeValue<'p>>)| {
            let key = format!("{}[{at}]", self.key);
            self.page.keep(&key, value.span());
            read(Self { page: self.page, value: value.get_ref(), span: value.span(), key })
        };
        if array.len() > ENTRIES_MAX {
            self.fault(&format!("at most {ENTRIES_MAX} entries are read"), None);
            return None;
        }
        Some(array.iter().enumerate().filter_map(each).collect())
    }

    /// One text or a list of them, each read by `parse`.
    pub(crate) fn one_or_more<T, E: Display>(
        &self,
        expected: &str,
        mut parse: impl FnMut(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        match self.value {
            DeValue::Array(_) => self.list(expected, |value| value.parsed(expected, &mut parse)),
            _ => self.parsed(expected, parse).map(|one| vec![one]),
        }
    }

    /// A table. An inline one is as good.
    pub(crate) fn table<T>(&self, read: impl FnOnce(&Reader<'_>) -> T) -> Option<T> {
        match self.value {
            DeValue::Table(table) => Some(Reader::over(self.page, table, self.key.clone(), read)),
            _ => {
                self.wrong_type("a table");
                None
            }
        }
    }

    /// Whether it is a whole number.
    pub(crate) const fn is_number(&self) -> bool {
        matches!(self.value, DeValue::Integer(_))
    }

    /// Whether it is a table.
    pub(crate) const fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }
}

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a whole number and a unit (B, KiB, MiB, GiB, kB, MB or GB), such as \"64KiB\"")]
pub(crate) struct SizeError;

/// Reads a size: a whole number and a unit, `"64KiB"`.
fn parse_size(text: &str) -> Result<u64, SizeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(SizeError)?;
    let unit: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(SizeError),
    };
    let number: u64 = number.parse().ok().ok_or(SizeError)?;
    number.checked_mul(unit).ok_or(SizeError)
}

/// A size in its largest exact unit.
struct SizeSpelled(u64);

impl Display for SizeSpelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Puts a value into its place, if there is one.
pub(crate) fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str, read: impl FnOnce(&Reader<'_>)) -> Vec<String> {
        let notes = page("x.toml", text, Path::new("/etc"), read);
        notes.faults.iter().map(Fault::headline).collect()
    }

    #[test]
    fn a_size_needs_a_unit() {
        let good =
            [("0B", 0), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("5kB", 5_000), ("5MB", 5_000_000)];
        for (text, size) in good {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "64", "KiB", "64 KiB", "-1B", "1.5MiB", "64kib", "99999999999999999999GiB", "99999999999GiB"] {
            assert_eq!(parse_size(text), Err(SizeError), "{text}");
        }
    }

    #[test]
    fn a_key_nobody_asks_for_is_unknown() {
        let found = faults("[session]\nidel = \"30m\"\n\"\u{e9}\" = 1\n", |reader| {
            reader.table("session", |reader| reader.duration("idle"));
        });
        assert_eq!(
            found,
            [
                "x.toml:2:1: error: `idel` is not a setting of [session]",
                "x.toml:3:1: error: `\u{e9}` is not a setting of [session]",
            ]
        );
    }

    #[test]
    fn several_faults_of_syntax_and_meaning_are_told_at_once() {
        let found = faults("idle = \"30\"\nabsolute = \ngrace = 60\nidle = \"1m\"\nbase = 'x'\n", |reader| {
            for key in ["idle", "absolute", "grace"] {
                reader.duration(key);
            }
            assert_eq!(reader.path("base"), Some(PathBuf::from("/etc/x")));
        });
        assert_eq!(found.len(), 4, "{found:#?}");
        for (line, fault) in [("x.toml:1:8", 0), ("x.toml:3:9", 1), ("x.toml:2:", 2), ("x.toml:4:", 3)] {
            assert!(found[fault].starts_with(line), "{found:#?}");
        }
    }

    #[test]
    fn dates_are_days_or_times_with_an_offset() {
        let check = |text: &str, expected: Option<u64>| {
            let found = faults(&format!("d = {text}"), |reader| {
                let date = reader.value("d").and_then(|value| value.date());
                assert_eq!(date.map(Timestamp::as_secs), expected, "{text}");
            });
            assert_eq!(found.is_empty(), expected.is_some(), "{text}: {found:?}");
        };
        check("2027-01-01", Some(1_798_761_600));
        check("2027-01-01T01:00:00+01:00", Some(1_798_761_600));
        check("2027-01-01T01:00:00", None);
        check("01:00:00", None);
        check("\"2027-01-01\"", None);
        check("1960-01-01", None);
    }

    /// A string that is not closed before `\r\r\n` was told one column behind the end of the line that was shown.
    #[test]
    fn a_place_is_never_behind_its_line() {
        for ending in ["", "\n", "\r", "\r\n", "\r\r\n", "\n\r", "\u{feff}\r\n"] {
            let text = format!("a = 1{ending}x = \"abc{ending}y = 2{ending}");
            let notes = page("x.toml", &text, Path::new(""), |_| {});
            assert!(!notes.faults.is_empty());
            for spot in notes.faults.iter().filter_map(|fault| fault.spot.as_ref()) {
                assert!(spot.column <= spot.source_line.chars().count() + 1, "{ending:?}: {spot:?}");
            }
        }
    }

    #[test]
    fn columns_count_characters() {
        let found = faults("\"\u{e9}\u{e9}\" = 1\nlist = [\"\u{e9}\", 5]", |reader| {
            reader.value("\u{e9}\u{e9}");
            reader.value("list").and_then(|value| value.list("x", |value| value.text("a string")));
        });
        assert_eq!(found, ["x.toml:2:14: error: list[1]: expected a string, found the number 5"]);
    }
}
