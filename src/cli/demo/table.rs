//! What the demo prints: a table of the acts, and what happened in each.

use std::error::Error;
use std::io::{self, Write};

use portcullis::event::Kind;
use portcullis::event::encode::Colour;

use super::attacks::Act;
use super::play::{Outcome, PlayError, Reported, Row, Verdict};

const TITLE_WIDTH: usize = 46;
const CELL_WIDTH: usize = 16;
/// Event lines of one act that are shown.
const LINES_MAX: usize = 8;

/// What every login brings along.
const ROUTINE: [Kind; 4] =
    [Kind::SessionCreated, Kind::SessionRotated, Kind::SessionAuthenticated, Kind::ConfigScriptCookie];

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";

/// Prints with colours, or without.
pub(super) struct Printer<'a> {
    out: &'a mut dyn Write,
    colour: Colour,
}

impl<'a> Printer<'a> {
    pub(super) fn new(out: &'a mut dyn Write, colour: Colour) -> Self {
        Self { out, colour }
    }

    /// A line.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// The head of the table.
    pub(super) fn head(&mut self) -> io::Result<()> {
        let titles = format!("{:TITLE_WIDTH$}{:CELL_WIDTH$}{:CELL_WIDTH$}", "attack", "without", "with Portcullis");
        let line = format!("\n{}", self.painted(BOLD, titles.trim_end()));
        self.say(&line)?;
        self.say(&"-".repeat(TITLE_WIDTH + 2 * CELL_WIDTH))
    }

    /// A row of the table.
    pub(super) fn row(&mut self, row: &Row) -> io::Result<()> {
        let expected = row.verdict();
        let (without, with) = (self.cell(row.act, &row.without), self.cell(row.act, &row.with));
        let mark = match expected {
            Verdict::AsExpected => String::new(),
            Verdict::NotAsExpected => self.painted(RED, "<-- not as expected"),
        };
        let line = format!("{:TITLE_WIDTH$}{without}{with}{mark}", row.act.title());
        self.say(line.trim_end())
    }

    /// What happened in each act, and what the guard reported.
    pub(super) fn story(&mut self, rows: &[Row]) -> io::Result<()> {
        let title = format!("\n{}", self.painted(BOLD, "What happened, and what the guard reported"));
        self.say(&title)?;
        for row in rows {
            let title = format!("\n{}", self.painted(BOLD, row.act.title()));
            self.say(&title)?;
            self.say(&format!("  without: {}", told(&row.without)))?;
            self.say(&format!("  with:    {}", told(&row.with)))?;
            self.events(row)?;
        }
        let once = "\nEvents of ordinary logins are shown for the ordinary visit alone; every act begins with one.";
        let once = self.painted(DIM, once);
        self.say(&once)
    }

    fn events(&mut self, row: &Row) -> io::Result<()> {
        let told = |event: &&Reported| row.act == Act::OrdinaryVisit || !ROUTINE.contains(&event.kind);
        let mut events = row.events.iter().filter(told);
        for event in events.by_ref().take(LINES_MAX) {
            self.say(&format!("    {}", event.line))?;
        }
        match events.count() {
            0 => Ok(()),
            more => {
                let more = format!("    {}", self.painted(DIM, &format!("and {more} more")));
                self.say(&more)
            }
        }
    }

    /// What all of it shows.
    pub(super) fn sum(&mut self, rows: &[Row]) -> io::Result<()> {
        let (colour, text) = match Verdict::of(rows) {
            Verdict::AsExpected => (
                GREEN,
                "Every attack worked on the app alone and failed on the guarded one. The ordinary visit worked on both.",
            ),
            Verdict::NotAsExpected => (RED, "Not everything went as it should: see the marked rows."),
        };
        let line = format!("\n{}", self.painted(colour, text));
        self.say(&line)
    }

    fn cell(&self, act: Act, played: &Result<Outcome, PlayError>) -> String {
        let wanted = act == Act::OrdinaryVisit;
        let (text, colour) = match played {
            Ok(Outcome::Worked(_)) if wanted => ("works", GREEN),
            Ok(Outcome::Worked(_)) => ("WORKED", RED),
            Ok(Outcome::Stopped(_)) if wanted => ("FAILED", RED),
            Ok(Outcome::Stopped(_)) => ("stopped", GREEN),
            Err(_) => ("not played", RED),
        };
        // Padded first: escape sequences have no width.
        self.painted(colour, &format!("{text:CELL_WIDTH$}"))
    }

    fn painted(&self, style: &str, text: &str) -> String {
        match self.colour {
            Colour::Always => format!("{style}{text}{RESET}"),
            Colour::Never => text.to_owned(),
        }
    }
}

fn told(played: &Result<Outcome, PlayError>) -> String {
    match played {
        Ok(Outcome::Worked(how) | Outcome::Stopped(how)) => how.clone(),
        Err(error) => format!("could not be played: {}", whole(error)),
    }
}

/// An error with its causes, in one line.
pub(super) fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(act: Act, without: Outcome, with: Outcome) -> Row {
        Row { act, without: Ok(without), with: Ok(with), events: Vec::new() }
    }

    fn worked() -> Outcome {
        Outcome::Worked("in".to_owned())
    }

    fn stopped() -> Outcome {
        Outcome::Stopped("out".to_owned())
    }

    #[test]
    fn only_attacks_that_worked_without_and_failed_with_are_as_expected() {
        let check = |act, without, with, expected| assert_eq!(row(act, without, with).verdict(), expected);
        check(Act::AfterLogout, worked(), stopped(), Verdict::AsExpected);
        check(Act::AfterLogout, worked(), worked(), Verdict::NotAsExpected);
        check(Act::AfterLogout, stopped(), stopped(), Verdict::NotAsExpected);
        check(Act::AfterLogout, stopped(), worked(), Verdict::NotAsExpected);
        check(Act::OrdinaryVisit, worked(), worked(), Verdict::AsExpected);
        check(Act::OrdinaryVisit, worked(), stopped(), Verdict::NotAsExpected);
        check(Act::OrdinaryVisit, stopped(), worked(), Verdict::NotAsExpected);
        let broken = Row { with: Err(PlayError::NoUser), ..row(Act::AfterLogout, worked(), stopped()) };
        assert_eq!(broken.verdict(), Verdict::NotAsExpected);
        assert_eq!(Verdict::of(&[]), Verdict::NotAsExpected);
        assert_eq!(Verdict::of(&[row(Act::AfterLogout, worked(), stopped()), broken]), Verdict::NotAsExpected);
    }

    #[test]
    fn a_pipe_gets_plain_lines() {
        let rows = [row(Act::OrdinaryVisit, worked(), worked()), row(Act::LeftAlone, worked(), worked())];
        let print = |colour| {
            let mut out = Vec::new();
            let mut printer = Printer::new(&mut out, colour);
            printer.head().unwrap();
            rows.iter().for_each(|row| printer.row(row).unwrap());
            printer.sum(&rows).unwrap();
            String::from_utf8(out).unwrap()
        };
        let plain = print(Colour::Never);
        assert!(!plain.contains('\x1b'));
        assert!(
            plain.contains("session left alone (idle end)                 WORKED          WORKED          <-- not as")
        );
        assert!(print(Colour::Always).contains("\x1b[31mWORKED          \x1b[0m"));
        assert!(Act::ALL.iter().all(|act| act.title().len() < TITLE_WIDTH));
    }
}
