//! What is wrong with a configuration or with rules, and where.
//!
//! All faults of a file are gathered before any is shown: who sets up a server should not fix one line per attempt.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Origin, Patch, Snippet};

pub use annotate_snippets::Renderer;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing can run with it.
    Fault,
    /// It runs, and is weaker or other than it may seem.
    Warning,
}

impl Level {
    /// The word before the message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// What stands there, up to the end of its line; no more than 1000 characters.
    pub text: Arc<str>,
    /// The whole line; of one that is longer than 1000 characters the part around the place.
    pub source_line: Arc<str>,
    /// The column where [`source_line`](Self::source_line) begins: 1, unless it is a part.
    pub source_column: usize,
}

/// Another place that has to do with a fault: where a name was taken first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Also {
    /// Where.
    pub spot: Spot,
    /// What is there.
    pub label: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How much it matters.
    pub level: Level,
    /// Where; `None` for something that is nowhere, or was said on the command line.
    pub spot: Option<Spot>,
    /// The setting, such as `session.idle`; empty where there is none.
    pub key: String,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to write instead, in words.
    pub help: Option<String>,
    /// What to write instead of the text at the spot.
    pub fix: Option<String>,
    /// A word or two under the marks; may be empty.
    pub label: String,
    /// Other places that have to do with it.
    pub also: Vec<Also>,
}

/// Longest line of a file that is shown with a fault, and longest replacement, in characters.
pub(crate) const SHOWN_LINE_MAX: usize = 1000;

impl Fault {
    /// A fault without a place.
    pub fn new(level: Level, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            level,
            spot: None,
            key: key.into(),
            message: message.into(),
            help: None,
            fix: None,
            label: String::new(),
            also: Vec::new(),
        }
    }

    /// The same at this place.
    #[must_use]
    pub fn at(mut self, spot: Option<Spot>) -> Self {
        self.spot = spot;
        self
    }

    /// The same with words of help.
    #[must_use]
    pub fn with_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// Place, level, key and message in one line: for events and logs.
    pub fn headline(&self) -> String {
        let place = self.spot.as_ref().map(|spot| format!("{}:{}:{}: ", plain(&spot.file), spot.line, spot.column));
        format!("{}{}: {}", place.unwrap_or_default(), self.level.as_str(), self.title())
    }

    fn title(&self) -> String {
        let message = plain(&self.message);
        if self.key.is_empty() { message } else { format!("{}: {message}", plain(&self.key)) }
    }

    /// The fault as a compiler would show it, with the lines of the file.
    pub fn render(&self, renderer: &Renderer) -> String {
        let level = match self.level {
            Level::Fault => annotate_snippets::Level::ERROR,
            Level::Warning => annotate_snippets::Level::WARNING,
        };
        let shown: Option<Shown> = self.spot.as_ref().map(Shown::of);
        let others: Vec<(Shown, &str)> = self.also.iter().map(|also| (Shown::of(&also.spot), &*also.label)).collect();
        let mut group = Group::with_title(level.primary_title(self.title()));
        let context =
            |(other, label): &(Shown, &str)| AnnotationKind::Context.span(other.marked.clone()).label(plain(label));
        if let Some(shown) = &shown {
            let mark = AnnotationKind::Primary.span(shown.marked.clone());
            let mark = if self.label.is_empty() { mark } else { mark.label(plain(&self.label)) };
            let same_line = others.iter().filter(|(other, _)| other.is_beside(shown)).map(context);
            group = shown.headed(group).element(shown.snippet().annotation(mark).annotations(same_line));
        }
        for other in others.iter().filter(|(other, _)| !shown.as_ref().is_some_and(|shown| other.is_beside(shown))) {
            group = other.0.headed(group).element(other.0.snippet().annotation(context(other)));
        }
        let fix = self.fix.as_deref().filter(|fix| fix.chars().count() <= SHOWN_LINE_MAX).zip(shown);
        let help = self.help.as_deref().map(plain);
        let mut groups = Vec::new();
        match (fix, help) {
            (Some((fix, shown)), help) => {
                groups.push(group);
                let title = help.unwrap_or_else(|| "write".to_owned());
                let patch = Patch::new(shown.marked.clone(), plain(fix));
                let snippet = Snippet::source(shown.line.clone()).line_start(shown.number).patch(patch);
                groups.push(annotate_snippets::Level::HELP.secondary_title(title).element(snippet));
            }
            (None, Some(help)) => groups.push(group.element(annotate_snippets::Level::HELP.message(help))),
            (None, None) => groups.push(group),
        }
        renderer.render(&groups)
    }

    /// The fault as an object for scripts: `level file line column key text message help fix also`, the last with the
    /// `file line column text label` of other places.
    pub fn to_json(&self) -> serde_json::Value {
        let spot = self.spot.as_ref();
        let also = self.also.iter().map(|Also { spot, label }| {
            serde_json::json!({
                "file": &*spot.file, "line": spot.line, "column": spot.column, "text": &*spot.text, "label": label,
            })
        });
        serde_json::json!({
            "level": self.level.as_str(),
            "file": spot.map(|spot| &*spot.file),
            "line": spot.map(|spot| spot.line),
            "column": spot.map(|spot| spot.column),
            "key": self.key,
            "text": spot.map(|spot| &*spot.text),
            "message": self.message,
            "help": self.help,
            "fix": self.fix,
            "also": also.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

/// A line of a file as it is shown, and the bytes of it that are marked.
struct Shown {
    path: String,
    number: usize,
    /// Where the mark is in the file, if only a part of its line is shown.
    column: Option<usize>,
    line: String,
    marked: Range<usize>,
}

impl Shown {
    fn of(spot: &Spot) -> Self {
        // One character for one, so that columns stay true.
        let line = plain(&spot.source_line);
        let byte_at = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
        let start = spot.column.saturating_sub(spot.source_column.max(1));
        let end = byte_at(start.saturating_add(spot.text.chars().count().max(1)));
        let marked = byte_at(start)..end;
        let column = (spot.source_column > 1).then_some(spot.column);
        Self { path: plain(&spot.file), number: spot.line, column, line, marked }
    }

    /// Whether both are places of one line.
    fn is_beside(&self, other: &Self) -> bool {
        (&self.path, self.number, &self.line) == (&other.path, other.number, &other.line)
    }

    /// Says where a part of a line comes from, which a snippet takes for the whole. A line `:::` tells that something is left
    /// out.
    fn headed(&self, group: Group<'static>) -> Group<'static> {
        match self.column {
            Some(column) => group.element(Origin::path(self.path.clone()).line(self.number).char_column(column)),
            None => group,
        }
    }

    fn snippet<T: Clone>(&self) -> Snippet<'static, T> {
        let path = self.column.is_none().then(|| self.path.clone());
        Snippet::source(self.line.clone()).path(path).line_start(self.number)
    }
}

/// Everything that is wrong, warnings included, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Puts them in the order in which a reader of the files meets them; what has no place comes last.
    pub(crate) fn sorted(mut faults: Vec<Fault>) -> Self {
        let place = |spot: &Spot| (spot.file.clone(), spot.line, spot.column);
        faults.sort_by_cached_key(|fault| (fault.spot.is_none(), fault.spot.as_ref().map(place)));
        Self(faults)
    }

    /// The first of them in one line: for events and logs.
    pub fn headline(&self) -> String {
        let first = self.0.iter().find(|fault| fault.level == Level::Fault).or(self.0.first());
        first.map(Fault::headline).unwrap_or_default()
    }

    /// Whether anything is so wrong that nothing can run.
    pub fn is_fatal(&self) -> bool {
        self.0.iter().any(|fault| fault.level == Level::Fault)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Control characters taken out, so that a file can not write to the terminal of whoever checks it.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter == '\t' { ' ' } else { letter }).map(harmless).collect()
}

fn harmless(letter: char) -> char {
    match letter {
        '\n' => letter,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        _ if letter.is_control() => '\u{fffd}',
        _ => letter,
    }
}

/// The word among `known` that `word` was probably meant to be.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A long text is no misspelt name, and comparing it would take the square of its length.
    if word.len() > 64 {
        return None;
    }
    let folded = word.to_lowercase().replace(['-', ' '], "_");
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1.max(name.chars().count() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Fault {
        Fault {
            spot: Some(Spot {
                file: "portcullis.toml".into(),
                line: 12,
                column: 8,
                text: "\"30\"".into(),
                source_line: "idle = \"30\"".into(),
                source_column: 1,
            }),
            help: Some("did you mean \"30m\"?".to_owned()),
            ..Fault::new(Level::Fault, "session.idle", "a duration needs a unit")
        }
    }

    #[test]
    fn a_fault_shows_the_place_the_line_and_the_help() {
        let expected = "\
error: session.idle: a duration needs a unit
  --> portcullis.toml:12:8
   |
12 | idle = \"30\"
   |        ^^^^
   |
   = help: did you mean \"30m\"?";
        assert_eq!(fault().to_string(), expected);
        assert_eq!(fault().headline(), "portcullis.toml:12:8: error: session.idle: a duration needs a unit");
    }

    #[test]
    fn a_fix_is_shown_as_it_is_to_be_written() {
        let spot = Spot {
            file: "r.toml".into(),
            line: 3,
            column: 9,
            text: "client.asnn".into(),
            source_line: "when = 'client.asnn == 1'".into(),
            source_column: 1,
        };
        let also = Also { spot: Spot { line: 1, ..spot.clone() }, label: "first here".to_owned() };
        let fault = Fault {
            spot: Some(spot),
            help: Some("a field of nearly this name".to_owned()),
            fix: Some("client.asn".to_owned()),
            label: "not a field".to_owned(),
            also: vec![also],
            ..Fault::new(Level::Fault, "", "there is no field `client.asnn`")
        };
        let shown = fault.to_string();
        for line in ["^^^^^^^^^^^ not a field", "----------- first here", "when = 'client.asn == 1'"] {
            assert!(shown.contains(line), "{shown}");
        }
    }

    #[test]
    fn of_a_line_without_an_end_the_part_around_the_mark_is_shown() {
        let text = format!("{}, idle = \"30\", {}", "\u{e9}".repeat(2000), "\u{e9}".repeat(100_000));
        let start = text.find('"').unwrap();
        let mut fault = fault();
        fault.fix = Some("\"30m\"".to_owned());
        fault.spot = Some(super::super::page::Source::new("portcullis.toml", text).spot(start..start + 4));
        let (before, behind) = ("\u{e9}".repeat(31), "\u{e9}".repeat(38));
        let expected = format!(
            "error: session.idle: a duration needs a unit
 --> portcullis.toml:1:2010
  |
 ::: \n\
1 | {before}, idle = \"30\", {behind}
  | {}^^^^
  |
help: did you mean \"30m\"?
  |
1 | {before}, idle = \"30m\", {behind}
  | {}+",
            " ".repeat(40),
            " ".repeat(43),
        );
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn a_fault_of_a_command_line_is_one_line() {
        let fault = Fault::new(Level::Fault, "", "a duration needs a unit");
        assert_eq!(fault.to_string(), "error: a duration needs a unit");
    }

    #[test]
    fn a_file_can_not_write_to_the_terminal() {
        let mut fault = fault();
        fault.message = "\u{1b}[2J\u{202e}x".to_owned();
        if let Some(spot) = &mut fault.spot {
            spot.source_line = "\u{1b}]0;x\u{7}".into();
        }
        assert!(!fault.to_string().contains(['\u{1b}', '\u{7}', '\u{202e}']));
    }

    #[test]
    fn scripts_get_an_object() {
        let json = fault().to_json();
        assert_eq!(json["level"], "error");
        assert_eq!((json["line"].as_u64(), json["column"].as_u64()), (Some(12), Some(8)));
        assert_eq!(json["text"], "\"30\"");
    }

    #[test]
    fn the_nearest_name_is_near() {
        let check = |word, expected| assert_eq!(nearest(word, ["idle", "absolute", "same_site"]), expected, "{word}");
        check("idel", Some("idle"));
        check("Idle", Some("idle"));
        check("absolut", Some("absolute"));
        check("same-site", Some("same_site"));
        check("samesite", Some("same_site"));
        check("colour", None);
        check(&"a".repeat(10_000), None);
    }
}
