//! A rules file as it is read: names, sets, rules and tunes, conditions not yet looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::check::{Literal, Named, Scope, Set};
use super::compile::Unknown;
use super::diagnostic::{Also, Fault, Level, Spot};
use super::expression::Expression;
use super::gathered::Gathered;
use super::pack::Pack;
use super::page::{Entry, Reader, Source, Value, page_of};
use super::scheme::{Field, HostFact, Type};
use crate::clock::Timestamp;
use crate::history::Points;
use crate::signal::SignalKind;
use crate::verdict::{Action, EventSync, Mode, Sighting, TAGS_MAX, Text};

/// Rules that one guard can have: each costs time in every request.
pub(crate) const RULES_MAX: usize = 5000;

/// Entries of one set.
const SET_MAX: usize = 100_000;

/// Longest window of `count`.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);

/// Highest `over` of `count`: each key remembers one time more.
pub(crate) const OVER_MAX: u32 = 1000;

/// How long a verdict on an answer holds, if nothing else is said.
pub(crate) const HOLD: Duration = Duration::from_secs(10 * 60);

/// What a rules file says.
#[derive(Debug)]
pub(crate) struct RulesFile {
    /// The first half of the names of its rules.
    pub(crate) name: String,
    pub(crate) name_spot: Option<Spot>,
    /// Packs whose rules belong to it: only packs include packs.
    pub(crate) include: Vec<Pack>,
    /// Ceiling of the modes of its rules.
    pub(crate) mode: Mode,
    pub(crate) zone: Option<TimeZone>,
    pub(crate) scope: Scope,
    pub(crate) rules: Vec<RawRule>,
    pub(crate) tunes: Vec<Tune>,
    /// Files with sets that it names.
    pub(crate) files: Vec<PathBuf>,
}

/// What a rule gives in points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Score {
    #[default]
    None,
    /// As long as it matches.
    Fixed(Points),
    /// What a detector gives; it sticks to the client and fades.
    Signal(SignalKind),
    /// So many points instead, if the detector sees anything.
    SignalAs(SignalKind, Points),
}

/// `count = { over, within, per }`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Count {
    pub(crate) over: u32,
    pub(crate) within: Duration,
    pub(crate) per: Field,
}

/// A rule as it was typed.
#[derive(Debug)]
pub(crate) struct RawRule {
    pub(crate) id: String,
    pub(crate) spot: Option<Spot>,
    pub(crate) about: String,
    pub(crate) when: Option<Arc<Expression>>,
    pub(crate) score: Score,
    pub(crate) then: Option<Action>,
    pub(crate) count: Option<Count>,
    pub(crate) mode: Mode,
    pub(crate) unknown: Unknown,
    pub(crate) tags: Vec<Text>,
    /// Whom a verdict on an answer holds for, and how long.
    pub(crate) per: Option<Field>,
    pub(crate) within: Option<Duration>,
    /// When it was put into `observe`.
    pub(crate) since: Option<Timestamp>,
    pub(crate) sync: EventSync,
    /// What a match is told as.
    pub(crate) event: Option<Sighting>,
}

/// A change of another file's rule.
#[derive(Debug)]
pub(crate) struct Tune {
    pub(crate) rule: String,
    pub(crate) spot: Spot,
    pub(crate) unless: Option<Arc<Expression>>,
    pub(crate) score: Option<Score>,
    pub(crate) then: Option<Action>,
    pub(crate) mode: Option<Mode>,
    pub(crate) expires: Option<Timestamp>,
}

/// Who wrote a rules file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// It comes with the program.
    Pack,
    /// Somebody else.
    User,
}

/// Reads a file. `open` gives the text of files that it names.
pub(crate) fn read(
    source: &Arc<Source>,
    whose: Whose,
    base: &Path,
    host: &mut Vec<HostFact>,
    open: &dyn Fn(&Path) -> io::Result<String>,
) -> (RulesFile, Gathered) {
    let mut file = RulesFile {
        name: String::new(),
        name_spot: None,
        include: Vec::new(),
        mode: Mode::Enforce,
        zone: None,
        scope: Scope::default(),
        rules: Vec::new(),
        tunes: Vec::new(),
        files: Vec::new(),
    };
    let mut faults = page_of(source, base, |reader| read_all(reader, &mut file, whose, host, open));
    faults.extend(twice(&file.rules));
    (file, faults)
}

fn read_all(
    reader: &Reader<'_>,
    file: &mut RulesFile,
    whose: Whose,
    host: &mut Vec<HostFact>,
    open: &dyn Fn(&Path) -> io::Result<String>,
) {
    match reader.value("version") {
        Some(version) if version.whole::<u64>(0..=u64::MAX).is_some_and(|version| version != 1) => {
            version.fault("this program reads version 1 of rules files", None);
        }
        Some(_) => {}
        None => reader.missing("version", "version = 1"),
    }
    match reader.value("name") {
        Some(value) => {
            file.name = value.parsed("a name such as \"shop\"", name).unwrap_or_default();
            file.name_spot = Some(reader.source().spot(value.span()));
        }
        None => reader.missing("name", "such as name = \"shop\": the rules are told as shop/..."),
    }
    file.zone = reader.value("zone").and_then(|value| {
        value.parsed("a time zone such as \"Europe/Berlin\"", |text| {
            TimeZone::get(text)
                .map_err(|_unknown| format!("there is no time zone \"{text}\"; names are those of the IANA database"))
        })
    });
    if whose == Whose::Pack {
        let words = Pack::ALL.map(|pack| (pack.as_str(), pack));
        let packs = reader.value("include").and_then(|value| value.list("a list of packs", |value| value.word(&words)));
        file.include = packs.unwrap_or_default();
    } else if let Some(value) = reader.peek("include") {
        value.fault(
            "packs are not included by files",
            Some("put them in force in portcullis.toml: [rules] packs".to_owned()),
        );
    }
    file.mode = reader.word("mode", &MODES).unwrap_or_default();
    reader.table("facts", |reader| facts(reader, host, &mut file.scope.wrong));
    file.scope.host.clone_from(host);
    let mut files = Vec::new();
    reader.table("set", |reader| {
        for entry in reader.entries() {
            match is_name(reader, &entry, false).then(|| set(reader, &entry, open, &mut files)).flatten() {
                Some(set) => drop(file.scope.sets.insert(entry.name.to_owned(), set)),
                None => drop(file.scope.wrong.insert(entry.name.to_owned())),
            }
        }
    });
    file.files = files;
    reader.table("let", |reader| {
        for entry in reader.entries() {
            match is_name(reader, &entry, true).then(|| named(reader, &entry)).flatten() {
                Some(named) => drop(file.scope.lets.insert(entry.name.to_owned(), named)),
                None => drop(file.scope.wrong.insert(entry.name.to_owned())),
            }
        }
    });
    let RulesFile { name, scope, rules, tunes, .. } = file;
    if let Some(read) = reader.tables("rule", |reader| rule(reader, name, &scope.host)) {
        *rules = read;
    }
    if let Some(read) = reader.tables("tune", tune) {
        *tunes = read;
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'));
    let fits = plain && (1..=64).contains(&text.len());
    fits.then(|| text.to_owned()).ok_or("expected 1 to 64 small letters, digits, `-` or `_`")
}

/// Whether the key can be read in a condition: as `@name`, or as a word of its own.
fn is_name(reader: &Reader<'_>, entry: &Entry<'_>, as_word: bool) -> bool {
    const TAKEN: [&str; 13] = [
        "and",
        "or",
        "not",
        "in",
        "not_in",
        "starts_with",
        "ends_with",
        "contains",
        "matches",
        "known",
        "true",
        "false",
        "risk",
    ];
    let is_word = entry.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !entry.name.starts_with(|letter: char| letter.is_ascii_digit());
    let why = match name(entry.name) {
        Err(why) => Some(why),
        Ok(_) if as_word && !is_word => Some("expected small letters, digits and `_`, beginning with a letter"),
        Ok(_) if as_word && TAKEN.contains(&entry.name) => Some("this is a word of the language; choose another name"),
        Ok(_) => None,
    };
    if let Some(why) = why {
        reader.fault_at(&entry.name_span, &format!("the name `{}`: {why}", entry.name));
    }
    why.is_none()
}

/// What the host of the guard tells of a request. Files share what they declare.
fn facts(reader: &Reader<'_>, host: &mut Vec<HostFact>, wrong: &mut BTreeSet<String>) {
    let words = [Type::Bool, Type::Int, Type::Duration, Type::Text, Type::Ip].map(|kind| (kind.word(), kind));
    for entry in reader.entries() {
        let kind = is_name(reader, &entry, true).then(|| entry.value.word(&words)).flatten();
        let Some(kind) = kind else {
            wrong.insert(format!("facts.{}", entry.name));
            continue;
        };
        match host.iter().find(|known| &*known.name == entry.name) {
            Some(known) if known.kind != kind => {
                entry.value.fault(&format!("another file declares `{}` as {}", entry.name, known.kind), None);
            }
            Some(_) => {}
            None => host.push(HostFact { name: entry.name.into(), kind }),
        }
    }
}

const SET: &str = "a list such as [\"198.51.100.0/24\"], or { file = \"office.txt\" }";

fn set(
    reader: &Reader<'_>,
    entry: &Entry<'_>,
    open: &dyn Fn(&Path) -> io::Result<String>,
    files: &mut Vec<PathBuf>,
) -> Option<Set> {
    let spot = reader.source().spot(entry.name_span.clone());
    if entry.value.is_table() {
        let path = entry.value.table(|reader| {
            if !reader.has("file") {
                reader.missing("file", "file = \"office.txt\": an entry a line, `#` begins a comment");
            }
            reader.path("file")
        })??;
        files.push(path.clone());
        return match open(&path) {
            Ok(text) => {
                let source = Source::new(&path.to_string_lossy(), text.trim_start_matches('\u{feff}'));
                let entries = lines(source.text());
                if entries.len() > SET_MAX {
                    entry.value.fault(&format!("{} has more than {SET_MAX} entries", path.display()), None);
                    return None;
                }
                Some(Set::new(entries, source, spot))
            }
            Err(why) => {
                entry.value.fault(&format!("{} can not be read: {why}", path.display()), None);
                None
            }
        };
    }
    if !entry.value.is_list() {
        entry.value.wrong_type(SET);
        return None;
    }
    let entries = entry.value.list(SET, |value| {
        let place = value.span();
        if value.is_number() {
            return value.whole::<i64>(0..=i64::MAX.unsigned_abs()).map(|number| (Literal::Int(number), place));
        }
        value.text("a string or a whole number").map(|text| (Literal::Text(text.to_owned()), place))
    })?;
    Some(Set::new(entries, reader.source().clone(), spot))
}

/// The entries of a file, one a line, each with its place.
fn lines(text: &str) -> Vec<(Literal, Range<usize>)> {
    let mut at = 0;
    let mut entries = Vec::new();
    for line in text.split_inclusive('\n') {
        let said = line.split('#').next().unwrap_or_default();
        let start = at + (said.len() - said.trim_start().len());
        let said = said.trim();
        if !said.is_empty() {
            let literal = said.parse().map_or_else(|_| Literal::Text(said.to_owned()), Literal::Int);
            entries.push((literal, start..start + said.len()));
        }
        at += line.len();
    }
    entries
}

fn named(reader: &Reader<'_>, entry: &Entry<'_>) -> Option<Named> {
    let text = entry.value.text("a condition in quotes")?;
    let expression = Expression::new(reader.source(), text, entry.value.span(), format!("let.{}", entry.name));
    Some(Named { expression, spot: reader.source().spot(entry.name_span.clone()), used: std::cell::Cell::new(false) })
}

fn rule(reader: &Reader<'_>, file: &str, host: &[HostFact]) -> Option<RawRule> {
    let value = reader.value("id");
    if value.is_none() {
        reader.missing("id", "such as id = \"geo-jump\"");
    }
    let spot = value.as_ref().map(|value| reader.source().spot(value.span()));
    let id = value.and_then(|value| value.parsed("a name such as \"geo-jump\"", name));
    let owner = id.as_ref().map_or_else(|| "rule".to_owned(), |id| format!("{file}/{id}"));
    if !reader.has("when") {
        reader.missing("when", "such as when = 'client.is_tor'");
    }
    if !reader.has("then") && !reader.has("score") {
        reader.missing("then", "then = \"observe\" (or rotate, quarantine, terminate ...), or score = 20");
    }
    let mut rule = RawRule {
        about: reader.value("about").and_then(|value| value.text("a sentence")).unwrap_or_default().to_owned(),
        when: condition(reader, "when", &owner),
        score: score(reader).unwrap_or_default(),
        then: reader.word("then", &ACTIONS),
        count: reader.value("count").and_then(|value| value.table(|reader| count(reader, host)).flatten()),
        mode: reader.word("mode", &MODES).unwrap_or_default(),
        unknown: reader.word("unknown", &[("silent", Unknown::Silent), ("fire", Unknown::Fire)]).unwrap_or_default(),
        tags: tags(reader),
        per: reader.value("per").and_then(|value| per(&value, host)),
        within: window(reader, "within"),
        since: reader.value("since").and_then(|value| value.date()),
        sync: EventSync::default(),
        event: None,
        spot,
        id: id.unwrap_or_default(),
    };
    rule.sync = sync(reader, rule.then).unwrap_or_default();
    rule.event = event(reader, rule.then);
    Some(rule)
}

fn condition(reader: &Reader<'_>, key: &'static str, owner: &str) -> Option<Arc<Expression>> {
    let value = reader.value(key)?;
    let text = value.text("a condition in quotes, such as 'client.is_tor'")?;
    Some(Expression::new(reader.source(), text, value.span(), owner))
}

/// The words of `then`, mildest first. `allow` is none: a rule takes nothing back.
pub(crate) const ACTIONS: [(&str, Action); 7] = [
    ("observe", Action::Observe),
    ("throttle", Action::Throttle),
    ("rotate", Action::Rotate),
    ("quarantine", Action::Quarantine),
    ("challenge", Action::Challenge),
    ("terminate", Action::Terminate),
    ("deny", Action::Deny),
];

/// The words of `mode`.
pub(crate) const MODES: [(&str, Mode); 3] =
    [("off", Mode::Off), ("observe", Mode::Observe), ("enforce", Mode::Enforce)];

/// An answer that serves somebody does not wait for a disk.
fn sync(reader: &Reader<'_>, then: Option<Action>) -> Option<EventSync> {
    let value = reader.value("sync")?;
    let sync = value.word(&EventSync::ALL.map(|sync| (sync.as_str(), sync)))?;
    if sync == EventSync::BeforeReply && !matches!(then, Some(Action::Terminate | Action::Deny)) {
        let help = "take `sync` away, or have it ask for `terminate` or `deny`";
        value.fault("only what ends a session or refuses a request can wait for its event", Some(help.to_owned()));
    }
    Some(sync)
}

/// Points are no event: what is told is what somebody does about it.
fn event(reader: &Reader<'_>, then: Option<Action>) -> Option<Sighting> {
    let value = reader.value("event")?;
    let event = value.word(&Sighting::ALL.map(|event| (event.as_str(), event)))?;
    if then.is_none() {
        value.fault("only a rule with `then` can have an event of its own", Some("then = \"observe\"".to_owned()));
    } else if event.is_refusal() && then != Some(Action::Deny) {
        let help = "then = \"deny\", or take `event` away".to_owned();
        value.fault(&format!("`{}` tells of a request that was refused", event.as_str()), Some(help));
    }
    Some(event)
}

fn score(reader: &Reader<'_>) -> Option<Score> {
    let value = reader.value("score")?;
    if !value.is_text() {
        return value.whole::<u16>(1..=500).map(|points| Score::Fixed(Points::whole(points)));
    }
    let kind = value.parsed("points from 1 to 500, or a signal such as \"signal.network.asn\"", |text| {
        match Field::parse(text, &[]) {
            Some(Field::Signal(kind)) => Ok(kind),
            _ => Err(
                "expected points from 1 to 500 without quotes, or the name of a signal such as \"signal.network.asn\"",
            ),
        }
    });
    kind.map(Score::Signal)
}

fn count(reader: &Reader<'_>, host: &[HostFact]) -> Option<Count> {
    for (key, example) in [("over", "over = 5"), ("within", "within = \"10m\""), ("per", "per = \"client.prefix\"")] {
        if !reader.has(key) {
            reader.missing(key, example);
        }
    }
    let over = reader.whole("over", 0..=u64::from(OVER_MAX));
    let within = window(reader, "within");
    let per = reader.value("per").and_then(|value| per(&value, host));
    Some(Count { over: over?, within: within?, per: per? })
}

fn window(reader: &Reader<'_>, key: &'static str) -> Option<Duration> {
    let value = reader.value(key)?;
    let window = value.duration()?;
    if window.is_zero() || window > WINDOW_MAX {
        value.fault("expected a duration longer than zero, up to \"24h\"", None);
        return None;
    }
    Some(window)
}

/// What may be counted by.
pub const PER: [Field; 11] = [
    Field::ClientIp,
    Field::ClientPrefix,
    Field::ClientAsn,
    Field::ClientCountry,
    Field::ClientUaFamily,
    Field::SessionRef,
    Field::SessionSubject,
    Field::LoginSubject,
    Field::RequestRoute,
    Field::RequestPath,
    Field::RequestHost,
];

fn per(value: &Value<'_>, host: &[HostFact]) -> Option<Field> {
    let plain = PER.iter().map(|field| (field.name(&[]), *field));
    let facts =
        (0..host.len()).filter_map(|at| u16::try_from(at).ok()).map(|at| (Field::Host(at).name(host), Field::Host(at)));
    let all: Vec<(String, Field)> = plain.chain(facts).collect();
    let words: Vec<(&str, Field)> = all.iter().map(|(name, field)| (name.as_str(), *field)).collect();
    value.word(&words)
}

/// Events carry all words of a rule in one line, with a blank between two.
fn tags(reader: &Reader<'_>) -> Vec<Text> {
    let Some(value) = reader.value("tags") else { return Vec::new() };
    let tags = value.list("a list of words", |value| value.parsed("a word such as \"hijack\" or \"T1539\"", tag));
    let tags = tags.unwrap_or_default();
    if tags.len() > TAGS_MAX {
        value.fault(&format!("at most {TAGS_MAX} words are told with a rule"), None);
    }
    tags
}

fn tag(text: &str) -> Result<Text, &'static str> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
    let fits = plain && (1..=64).contains(&text.len());
    fits.then(|| Text::from(text)).ok_or("expected 1 to 64 letters, digits, or `-_.:/`")
}

fn tune(reader: &Reader<'_>) -> Option<Tune> {
    let value = reader.value("rule");
    if value.is_none() {
        reader.missing("rule", "such as rule = \"baseline/program-changed\"");
    }
    let spot = value.as_ref().map(|value| reader.source().spot(value.span()));
    let rule = value.and_then(|value| value.text("the name of a rule, such as \"baseline/program-changed\""));
    let owner = format!("tune of {}", rule.unwrap_or("?"));
    let unless = condition(reader, "unless", &owner);
    let changes = (score(reader), reader.word("then", &ACTIONS), reader.word("mode", &MODES));
    let expires = reader.value("expires").and_then(|value| value.date());
    match reader.value("why") {
        Some(value) if value.text("a sentence").is_some_and(|why| why.trim().is_empty()) => {
            value.fault("expected a sentence: who reads this in a year should know", None);
        }
        Some(_) => {}
        None => reader.missing("why", "why = \"...\": who reads this in a year should know"),
    }
    if !["unless", "score", "then", "mode"].iter().any(|key| reader.has(key)) {
        reader.missing("unless", "unless = '...', or score, then, mode: what is to be otherwise");
    }
    let (score, then, mode) = changes;
    Some(Tune { rule: rule?.to_owned(), spot: spot?, unless, score, then, mode, expires })
}

/// Rules of one name.
fn twice(rules: &[RawRule]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut seen: BTreeMap<&str, &RawRule> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| !rule.id.is_empty()) {
        let earlier = *seen.entry(&rule.id).or_insert(rule);
        if let Some(first) = earlier.spot.clone().filter(|_| !std::ptr::eq(earlier, rule)) {
            let fault =
                Fault::new(Level::Fault, "", format!("the rule `{}` is there twice", rule.id)).at(rule.spot.clone());
            let also = vec![Also { spot: first, label: "first here".to_owned() }];
            faults.push(Fault { label: "again here".to_owned(), also, ..fault });
        }
    }
    faults
}
