//! What the guard knows for sure of itself, in the text format of Prometheus (0.0.4).
//!
//! Labels come from closed sets alone, so that no client can make the answer longer. A figure that nobody has is left out.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

use super::view::PolicyView;
use crate::clock::Timestamp;
use crate::delivery::{Standing, State};
use crate::engine::{Decisions, StoreUse};
use crate::event::queue::Count;
use crate::figures::{BUCKETS_MICROS, Times};
use crate::proxy::ExchangeFigures;
use crate::store::metered::Outcome;

/// What is told.
pub(super) struct Figures<'a> {
    pub(super) started: Timestamp,
    pub(super) policy: PolicyView,
    /// Connections of clients that are open; none where no proxy runs.
    pub(super) connections: Option<usize>,
    /// What became of requests that went to the app; none where no proxy runs.
    pub(super) exchanges: Option<ExchangeFigures>,
    /// What the guard decided.
    pub(super) decisions: Decisions,
    /// Sessions that have not ended, if the store knows.
    pub(super) sessions_active: Option<usize>,
    pub(super) events: &'a [Count],
    pub(super) events_waiting: usize,
    pub(super) events_unkept: u64,
    /// Sinks that send to other programs.
    pub(super) sinks: &'a [Arc<Standing>],
    /// What kind of store it is; none if nobody said.
    pub(super) store_kind: Option<&'static str>,
    pub(super) store: &'a StoreUse,
}

/// The media type.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a figure does: a counter only grows until the next start.
#[derive(Clone, Copy)]
enum Shape {
    Counter,
    Gauge,
    Histogram,
}

/// The text.
pub(super) fn render(figures: &Figures<'_>) -> String {
    let mut text = Text(String::with_capacity(16 * 1024));
    let PolicyView { revision, stale, rules } = figures.policy;
    text.head("portcullis_build_info", Shape::Gauge, "Always 1; the label is the version that runs.");
    text.sample("portcullis_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.one("portcullis_policy_revision", "The policy in force: counts reloads, from 1.", revision);
    text.one("portcullis_policy_stale", "1 if a newer policy was refused, else 0.", u64::from(stale));
    text.one("portcullis_policy_rules", "Rules that are in force where no route names other packs.", count(rules));
    text.one(
        "portcullis_start_time_seconds",
        "When it started, in seconds since 1970.",
        figures.started.as_millis() / 1000,
    );
    if let Some(open) = figures.connections {
        text.one("portcullis_connections_open", "Connections of clients that are open.", count(open));
    }
    text.one("portcullis_events_waiting", "Events that wait to be written.", count(figures.events_waiting));
    text.of_events("portcullis_events_total", "What happened since the start.", figures, |count| count.emitted);
    let dropped = "Of these, events that were lost because the queue was full.";
    text.of_events("portcullis_events_dropped_total", dropped, figures, |count| count.dropped);
    let folded = "Of these, events that were counted in a summary instead of written.";
    text.of_events("portcullis_events_folded_total", folded, figures, |count| count.folded);
    let lost = "Lines that a file or standard output did not take.";
    text.of_events("portcullis_events_lost_total", lost, figures, |count| count.lost);
    let unkept = "Answers that were given before their event was on disk, though a rule says `before-reply`.";
    text.head("portcullis_events_unkept_total", Shape::Counter, unkept);
    text.sample("portcullis_events_unkept_total", &[], figures.events_unkept);
    text.of_sinks(figures.sinks);
    text.of_decisions(&figures.decisions);
    if let Some(exchanges) = &figures.exchanges {
        text.of_exchanges(exchanges);
    }
    if let Some(active) = figures.sessions_active {
        text.one("portcullis_sessions_active", "Sessions in the store that have not ended.", count(active));
    }
    text.of_store(figures);
    text.0
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

struct Text(String);

impl Text {
    fn of_sinks(&mut self, sinks: &[Arc<Standing>]) {
        type Of = fn(&Standing) -> u64;
        let figures: [(&str, Shape, &str, Of); 5] = [
            ("lag", Shape::Gauge, "Events on disk that the receiver does not have for sure yet.", Standing::lag),
            (
                "failing",
                Shape::Gauge,
                "0 if it delivers, 1 if its receiver fails, 2 if it is not asked any more.",
                |sink| match sink.state() {
                    State::Working => 0,
                    State::Failing => 1,
                    State::Disabled => 2,
                },
            ),
            ("delivered_total", Shape::Counter, "Events that the receiver took since the start.", Standing::delivered),
            (
                "refused_total",
                Shape::Counter,
                "Events that the receiver refused for what is in them.",
                Standing::refused,
            ),
            ("failures_total", Shape::Counter, "How often sending failed.", Standing::failures),
        ];
        for (name, shape, help, figure) in figures {
            let name = format!("portcullis_events_sink_{name}");
            for (at, sink) in sinks.iter().enumerate() {
                if at == 0 {
                    self.head(&name, shape, help);
                }
                self.sample(&name, &[("sink", sink.name())], figure(sink));
            }
        }
    }

    fn head(&mut self, name: &str, shape: Shape, help: &str) {
        let shape = match shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {shape}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let mut between = '{';
        self.0.push_str(name);
        for (label, word) in labels {
            self.line(format_args!("{between}{label}=\"{word}\""));
            between = ',';
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.line(format_args!("{end} {value}\n"));
    }

    fn one(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, Shape::Gauge, help);
        self.sample(name, &[], value);
    }

    fn of_events(&mut self, name: &str, help: &str, figures: &Figures<'_>, value: impl Fn(&Count) -> u64) {
        self.head(name, Shape::Counter, help);
        for count in figures.events {
            self.sample(name, &[("kind", count.kind.as_str())], value(count));
        }
    }

    fn of_store(&mut self, figures: &Figures<'_>) {
        let StoreUse { requests, store } = figures.store;
        let name = "portcullis_store_requests_total";
        self.head(name, Shape::Counter, "Requests that came as far as their session.");
        self.sample(name, &[], requests);
        if let Some(kind) = figures.store_kind {
            let name = "portcullis_store_info";
            self.head(name, Shape::Gauge, "Always 1; the label is the kind of store that sessions are in.");
            self.sample(name, &[("kind", kind)], 1);
        }
        let name = "portcullis_store_calls_total";
        self.head(name, Shape::Counter, "What the store was asked, by what came of it.");
        for of in store {
            for (outcome, count) in Outcome::ALL.iter().zip(of.outcomes) {
                let labels = [("operation", of.operation.as_str()), ("outcome", outcome.as_str())];
                self.sample(name, &labels, count);
            }
        }
        let name = "portcullis_store_wait_seconds";
        self.head(name, Shape::Histogram, "How long those who asked the store waited for its answer.");
        // What was answered at once is in the first bucket, and so in all of them.
        store.iter().for_each(|of| self.times(name, &[("operation", of.operation.as_str())], of.at_once, &of.waits));
    }

    fn of_decisions(&mut self, decisions: &Decisions) {
        let name = "portcullis_requests_total";
        self.head(name, Shape::Counter, "Requests by what was done with them, and the mode on their route.");
        for (done, mode, count) in &decisions.requests {
            self.sample(name, &[("action", done.as_str()), ("mode", mode.as_str())], count);
        }
        let name = "portcullis_verdicts_total";
        let help = "Verdicts of rules, evidence and limits that ask for more than to serve a request; under `observe` those that \
                    are only reported.";
        self.head(name, Shape::Counter, help);
        for (action, mode, count) in &decisions.verdicts {
            self.sample(name, &[("action", action.as_str()), ("mode", mode.as_str())], count);
        }
        let name = "portcullis_signals_total";
        self.head(name, Shape::Counter, "What detectors saw, each time that they saw it.");
        for (kind, count) in &decisions.signals {
            self.sample(name, &[("signal", kind.name())], count);
        }
        let name = "portcullis_answers_replaced_total";
        self.head(name, Shape::Counter, "Answers of the app that one of the guard took the place of, by why.");
        for (kind, count) in &decisions.replaced {
            self.sample(name, &[("why", kind.as_str())], count);
        }
    }

    fn of_exchanges(&mut self, exchanges: &ExchangeFigures) {
        let name = "portcullis_upstream_answers_total";
        self.head(name, Shape::Counter, "Answers of the app, by the class of their status.");
        for (class, count) in &exchanges.answers {
            self.sample(name, &[("status", class)], count);
        }
        let name = "portcullis_upstream_failures_total";
        self.head(
            name,
            Shape::Counter,
            "Requests that the app gave no answer to that could be passed on, by what was wrong.",
        );
        for (fault, count) in &exchanges.failures {
            self.sample(name, &[("fault", fault)], count);
        }
        let name = "portcullis_upstream_wait_seconds";
        self.head(name, Shape::Histogram, "How long it took until the head of the app's answer came.");
        self.times(name, &[], 0, &exchanges.waits);
    }

    /// A histogram. So many took no time at all, and are not in its buckets.
    fn times(&mut self, name: &str, labels: &[(&str, &str)], at_once: u64, times: &Times) {
        let bucket = format!("{name}_bucket");
        // The last bucket is all that are in any: each of these counts only grows, and so do their sums.
        let mut upto = at_once;
        let most = BUCKETS_MICROS.iter().map(|micros| Duration::from_micros(*micros).as_secs_f64().to_string());
        for (count, most) in times.buckets.iter().zip(most.chain(["+Inf".to_owned()])) {
            upto += count;
            self.sample(&bucket, &[labels, &[("le", &most)]].concat(), upto);
        }
        self.sample(&format!("{name}_sum"), labels, times.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), labels, upto);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        if self.0.write_fmt(line).is_err() {
            self.0.push('\n');
        }
    }
}
