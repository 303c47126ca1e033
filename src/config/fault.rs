//! What is wrong with a configuration, and where.
//!
//! All faults of a file are gathered before any is shown: who sets up a server should not fix one line per attempt.

use std::fmt;
use std::sync::Arc;

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
    /// What stands there, up to the end of its line.
    pub text: String,
    /// The whole line.
    pub source_line: String,
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
    /// What to write instead.
    pub help: Option<String>,
}

/// Longest line that is shown with a fault.
const SHOWN_LINE_MAX: usize = 200;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(spot) = &self.spot {
            write!(f, "{}:{}:{}: ", plain(&spot.file), spot.line, spot.column)?;
        }
        write!(f, "{}: ", self.level.as_str())?;
        if !self.key.is_empty() {
            write!(f, "{}: ", plain(&self.key))?;
        }
        write!(f, "{}", plain(&self.message))?;
        if let Some(spot) = &self.spot
            && spot.source_line.chars().count() <= SHOWN_LINE_MAX
        {
            let marks = spot.text.chars().count().max(1);
            write!(f, "\n{:>5} | {}", spot.line, plain(&spot.source_line))?;
            write!(f, "\n      | {:indent$}{:^>marks$}", "", "", indent = spot.column.saturating_sub(1))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n      = {}", plain(help)),
            None => Ok(()),
        }
    }
}

impl Fault {
    /// The fault as an object for scripts: `level file line column key text message help`.
    pub fn to_json(&self) -> serde_json::Value {
        let spot = self.spot.as_ref();
        serde_json::json!({
            "level": self.level.as_str(),
            "file": spot.map(|spot| &*spot.file),
            "line": spot.map(|spot| spot.line),
            "column": spot.map(|spot| spot.column),
            "key": self.key,
            "text": spot.map(|spot| spot.text.as_str()),
            "message": self.message,
            "help": self.help,
        })
    }
}

/// Everything that is wrong, warnings included, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Puts them in the order in which a reader of the file meets them; what has no place comes last.
    pub(super) fn sorted(mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.spot.as_ref().map_or((1, 0, 0), |spot| (0, spot.line, spot.column)));
        Self(faults)
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
                f.write_str("\n")?;
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
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
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
            level: Level::Fault,
            spot: Some(Spot {
                file: "portcullis.toml".into(),
                line: 12,
                column: 8,
                text: "\"30\"".to_owned(),
                source_line: "idle = \"30\"".to_owned(),
            }),
            key: "session.idle".to_owned(),
            message: "a duration needs a unit".to_owned(),
            help: Some("did you mean \"30m\"?".to_owned()),
        }
    }

    #[test]
    fn a_fault_shows_the_place_the_line_and_the_help() {
        let expected = "\
portcullis.toml:12:8: error: session.idle: a duration needs a unit
   12 | idle = \"30\"
      |        ^^^^
      = did you mean \"30m\"?";
        assert_eq!(fault().to_string(), expected);
    }

    #[test]
    fn a_fault_of_a_command_line_is_one_line() {
        let fault = Fault { spot: None, help: None, key: String::new(), ..fault() };
        assert_eq!(fault.to_string(), "error: a duration needs a unit");
    }

    #[test]
    fn a_file_can_not_write_to_the_terminal() {
        let mut fault = fault();
        fault.message = "\u{1b}[2J\u{202e}x".to_owned();
        if let Some(spot) = &mut fault.spot {
            spot.source_line = "\u{1b}]0;x\u{7}".to_owned();
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
