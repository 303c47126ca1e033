//! Figures of all sessions, for people: what is many, what is large, what the store costs.

use std::io::{self, Write};

use portcullis::admin::{AgeShare, CutBy, SizeShare, Stats, StoreFigures};

use super::{SUBJECT_MAX, clean, shorten};

/// Widest column of a share.
const SHARE: usize = 8;

pub(super) fn human(stats: &Stats, out: &mut dyn Write) -> io::Result<()> {
    let states = stats.states;
    writeln!(
        out,
        "{} live, {} quarantined, {} held, {} ended and still kept",
        states.live, states.quarantined, states.held, states.ended
    )?;
    writeln!(out, "Of those that go on, {} signed in and {} anonymous", stats.authenticated, stats.anonymous)?;
    writeln!(
        out,
        "{} records, {} together; {} of them are no sessions (replaced ids, cookies taken over)",
        stats.records,
        size(stats.bytes),
        stats.leftovers
    )?;
    match stats.cut {
        Some(CutBy::Records) => writeln!(out, "NOT ALL: there are more records than were looked at (--limit)")?,
        Some(CutBy::Time) => writeln!(out, "NOT ALL: looking at all records took too long")?,
        None => {}
    }
    if states.live + states.quarantined + states.held > 0 {
        ages(stats, out)?;
        sizes(stats, out)?;
        subjects(stats, out)?;
    }
    store(&stats.store, out)
}

fn ages(stats: &Stats, out: &mut dyn Write) -> io::Result<()> {
    let heads = stats.began.iter().map(|AgeShare { under_seconds, .. }| match under_seconds {
        Some(seconds @ 0..3600) => format!("<{}m", seconds / 60),
        Some(seconds @ 3600..86_400) => format!("<{}h", seconds / 3600),
        Some(seconds) => format!("<{}d", seconds / 86_400),
        None => "older".to_owned(),
    });
    writeln!(out, "\n{}", line("AGE", heads))?;
    let counts = |shares: &[AgeShare]| -> Vec<String> { shares.iter().map(|s| s.sessions.to_string()).collect() };
    writeln!(out, "{}", line("began", counts(&stats.began)))?;
    writeln!(out, "{}", line("last used", counts(&stats.last_seen)))
}

fn sizes(stats: &Stats, out: &mut dyn Write) -> io::Result<()> {
    let sizes = &stats.sizes;
    let heads = sizes.shares.iter().map(|SizeShare { under_bytes, .. }| match under_bytes {
        Some(bytes) => format!("<{}", short(*bytes)),
        None => "larger".to_owned(),
    });
    writeln!(out, "\n{}", line("SIZE", heads))?;
    writeln!(out, "{}", line("sessions", sizes.shares.iter().map(|share| share.sessions.to_string())))?;
    let (median, p99, largest) = (size(sizes.median), size(sizes.p99), size(sizes.largest));
    writeln!(out, "half are no larger than {median}, 99 of 100 no larger than {p99}, the largest has {largest}")?;
    writeln!(out, "\n{:32}  {:>9}  {:>9}  {:>9}", "LARGEST", "SIZE", "COOKIES", "DATA")?;
    for large in &stats.largest {
        let [all, jar, data] = [large.bytes, large.jar_bytes, large.data_bytes].map(size);
        let reference = large.reference.get(..32).unwrap_or_default();
        writeln!(out, "{reference:32}  {all:>9}  {jar:>9}  {data:>9}")?;
    }
    Ok(())
}

fn subjects(stats: &Stats, out: &mut dyn Write) -> io::Result<()> {
    if stats.subjects.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:20}  SESSIONS", "SUBJECT")?;
    for busy in &stats.subjects {
        let name = shorten(&clean(&busy.subject), SUBJECT_MAX);
        let (least, most) = (busy.sessions, busy.at_most);
        let count = if least == most { least.to_string() } else { format!("{least} to {most}") };
        writeln!(out, "{name:SUBJECT_MAX$}  {count}")?;
    }
    Ok(())
}

fn store(store: &StoreFigures, out: &mut dyn Write) -> io::Result<()> {
    let kind = store.kind.as_deref().map(clean).unwrap_or_else(|| "store".to_owned());
    let cached = if store.cached { ", with a cache" } else { "" };
    let each = store.writes_per_request.map_or_else(String::new, |each| format!(", {each} for each request"));
    writeln!(
        out,
        "\n{kind}{cached}, since the guard started: {} requests, {} writes{each}",
        store.requests, store.writes
    )?;
    let heads = ["DONE", "CONFLICT", "NOTHING", "FAILED", "GIVEN UP", "AT ONCE", "WAIT"].map(str::to_owned);
    writeln!(out, "{}", line("OPERATION", heads))?;
    for of in store.operations.iter().filter(|of| of.calls > 0) {
        let counts = [of.done, of.conflict, of.nothing, of.failed, of.given_up, of.at_once].map(|n| n.to_string());
        let wait = wait(of.waited_ms, of.calls.saturating_sub(of.at_once));
        writeln!(out, "{}", line(&clean(&of.operation), counts.into_iter().chain([wait])))?;
    }
    writeln!(out, "WAIT: the mean of those that were not answered at once")
}

/// A name and columns, without space at the end.
fn line(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    let mut line = format!("{name:14}");
    for cell in cells {
        line.push_str(&format!("  {cell:>SHARE$}"));
    }
    line
}

/// The mean wait of so many calls that waited so many milliseconds together.
fn wait(millis: f64, calls: u64) -> String {
    match u32::try_from(calls.min(u64::from(u32::MAX))) {
        Ok(calls @ 1..) => format!("{:.2}ms", millis / f64::from(calls)),
        _ => "-".to_owned(),
    }
}

fn short(bytes: u64) -> String {
    if bytes >= 1024 { format!("{}KiB", bytes / 1024) } else { format!("{bytes}B") }
}

/// A size as people say it: `812 B`, `1.3 KiB`, `40.0 MiB`.
fn size(bytes: u64) -> String {
    let mut unit = "B";
    // In tenths, rounded down.
    let mut tenths = bytes.saturating_mul(10);
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use portcullis::admin::{Busy, Large, OperationFigures, Sizes, States};

    use super::*;

    fn stats() -> Stats {
        let age = |under_seconds, sessions| AgeShare { under_seconds, sessions };
        let ages = vec![age(Some(60), 3), age(Some(3600), 20), age(Some(86_400), 0), age(None, 4_000_000)];
        Stats {
            at: "2026-11-21T10:46:12.000Z".to_owned(),
            cut: None,
            records: 1_234_567,
            bytes: 987_654_321,
            states: States { live: 4_000_000, quarantined: 20, held: 3, ended: 17 },
            leftovers: 9,
            authenticated: 4_000_000,
            anonymous: 23,
            began: ages.clone(),
            last_seen: ages,
            sizes: Sizes {
                median: 880,
                p99: 2_150,
                largest: 70_000,
                shares: vec![
                    SizeShare { under_bytes: Some(256), sessions: 1 },
                    SizeShare { under_bytes: Some(65_536), sessions: 2 },
                    SizeShare { under_bytes: None, sessions: 3 },
                ],
            },
            largest: vec![Large { reference: "ab".repeat(16), bytes: 70_000, jar_bytes: 900, data_bytes: 65_000 }],
            subjects: vec![
                Busy { subject: format!("\u{1b}[2J\u{202e}{}", "x".repeat(200)), sessions: 900, at_most: 903 },
                Busy { subject: "ann".to_owned(), sessions: 7, at_most: 7 },
            ],
            store: StoreFigures {
                kind: Some("postgres".to_owned()),
                cached: true,
                requests: 1000,
                writes: 34,
                writes_per_request: Some(0.034),
                operations: vec![
                    OperationFigures {
                        operation: "load".to_owned(),
                        calls: 9_999_999,
                        done: 9_999_990,
                        conflict: 0,
                        nothing: 9,
                        failed: 0,
                        given_up: 0,
                        at_once: 9_999_899,
                        waited_ms: 45.0,
                    },
                    OperationFigures {
                        operation: "rotate".to_owned(),
                        calls: 0,
                        done: 0,
                        conflict: 0,
                        nothing: 0,
                        failed: 0,
                        given_up: 0,
                        at_once: 0,
                        waited_ms: 0.0,
                    },
                ],
            },
        }
    }

    fn told(stats: &Stats) -> String {
        let mut out = Vec::new();
        human(stats, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn figures_fit_100_columns_and_hold_nothing_that_moves_the_cursor() {
        let text = told(&stats());
        assert!(text.lines().all(|line| line.chars().count() <= 100 && line == line.trim_end()), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'), "{text:?}");
        let words = |start: &str| -> Vec<&str> {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
            line.split_whitespace().collect()
        };
        assert_eq!(words("AGE"), ["AGE", "<1m", "<1h", "<1d", "older"]);
        assert_eq!(words("began"), ["began", "3", "20", "0", "4000000"]);
        assert_eq!(words("SIZE"), ["SIZE", "<256B", "<64KiB", "larger"]);
        assert_eq!(words("ann"), ["ann", "7"]);
        assert_eq!(words(&"ab".repeat(16))[1..], ["68.3", "KiB", "900", "B", "63.4", "KiB"]);
        assert_eq!(words("load"), ["load", "9999990", "0", "9", "0", "0", "9999899", "0.45ms"]);
        assert!(
            text.contains("900 to 903") && text.contains("postgres, with a cache") && text.contains("0.034 for each")
        );
        assert!(!text.contains("rotate") && !text.contains("NOT ALL"), "{text}");
    }

    #[test]
    fn what_was_cut_is_told_and_what_is_not_there_is_left_out() {
        assert!(told(&Stats { cut: Some(CutBy::Records), ..stats() }).contains("NOT ALL: there are more"));
        assert!(told(&Stats { cut: Some(CutBy::Time), ..stats() }).contains("NOT ALL: looking"));
        let none = told(&Stats { states: States::default(), ..stats() });
        assert!(!none.contains("LARGEST") && !none.contains("AGE") && none.contains("OPERATION"), "{none}");
    }

    #[test]
    fn sizes_are_as_people_say_them() {
        let check = |bytes: u64, expected: &str| assert_eq!(size(bytes), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1_500_000, "1.4 MiB");
        check(u64::MAX, "1677721.5 TiB");
    }
}
