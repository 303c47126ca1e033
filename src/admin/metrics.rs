//! What the guard knows for sure of itself, in the text format of Prometheus (0.0.4).
//!
//! Labels come from closed sets alone, so that no client can make the answer longer. A figure that nobody has is left out.

use std::fmt::Write as _;

use super::view::PolicyView;
use crate::event::queue::Count;

/// What is told.
pub(super) struct Figures<'a> {
    pub(super) policy: PolicyView,
    /// Connections of clients that are open; none where no proxy runs.
    pub(super) connections: Option<usize>,
    pub(super) events: &'a [Count],
    pub(super) events_waiting: usize,
}

/// The media type.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a figure does: a counter only grows until the next start.
#[derive(Clone, Copy)]
enum Shape {
    Counter,
    Gauge,
}

/// The text.
pub(super) fn render(figures: &Figures<'_>) -> String {
    let mut text = Text(String::with_capacity(16 * 1024));
    let PolicyView { revision, stale, rules } = figures.policy;
    text.head("portcullis_build_info", Shape::Gauge, "Always 1; the label is the version that runs.");
    text.sample("portcullis_build_info", Some(("version", env!("CARGO_PKG_VERSION"))), 1);
    text.one("portcullis_policy_revision", "The policy in force: counts reloads, from 1.", revision);
    text.one("portcullis_policy_stale", "1 if a newer policy was refused, else 0.", u64::from(stale));
    text.one("portcullis_policy_rules", "Rules that are in force where no route names other packs.", count(rules));
    if let Some(open) = figures.connections {
        text.one("portcullis_connections_open", "Connections of clients that are open.", count(open));
    }
    text.one("portcullis_events_waiting", "Events that wait to be written.", count(figures.events_waiting));
    text.of_events("portcullis_events_total", "What happened since the start.", figures, |count| count.emitted);
    let dropped = "Of these, events that were lost because the queue was full.";
    text.of_events("portcullis_events_dropped_total", dropped, figures, |count| count.dropped);
    let folded = "Of these, events that were counted in a summary instead of written.";
    text.of_events("portcullis_events_folded_total", folded, figures, |count| count.folded);
    text.0
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, shape: Shape, help: &str) {
        let shape = match shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
        };
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {shape}\n"));
    }

    fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: u64) {
        match label {
            Some((label, word)) => self.line(format_args!("{name}{{{label}=\"{word}\"}} {value}\n")),
            None => self.line(format_args!("{name} {value}\n")),
        }
    }

    fn one(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, Shape::Gauge, help);
        self.sample(name, None, value);
    }

    fn of_events(&mut self, name: &str, help: &str, figures: &Figures<'_>, value: impl Fn(&Count) -> u64) {
        self.head(name, Shape::Counter, help);
        for count in figures.events {
            self.sample(name, Some(("kind", count.kind.as_str())), value(count));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        if self.0.write_fmt(line).is_err() {
            self.0.push('\n');
        }
    }
}
