//! What `portcullis events` is asked on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use portcullis::clock::{Clock as _, SystemClock, Timestamp};
use portcullis::event::Severity;

use super::{ColorChoice, Format, Label};

/// `portcullis events`
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub(crate) action: EventsAction,
}

/// How lines of events are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LinesFormat {
    /// For people
    #[default]
    Human,
    /// As they stand in the journal
    Json,
    /// Elastic Common Schema, in JSON
    Ecs,
    /// Open Cybersecurity Schema Framework, in JSON
    Ocsf,
    /// Common Event Format
    Cef,
    /// RFC 5424, with JSON in it
    Syslog,
}

/// What to do with events.
#[derive(Debug, Subcommand)]
pub(crate) enum EventsAction {
    /// Say of events whether they were right; the last word on each counts
    ///
    /// Labels are kept beside the events, in FILE.labels. `portcullis events precision` and `portcullis replay --labels` read them.
    Label {
        /// The events, as a sink of type "file" writes them in JSON
        #[arg(long, value_name = "FILE")]
        events: PathBuf,
        /// Their numbers (`seq`)
        #[arg(required = true, value_name = "SEQ")]
        seq: Vec<u64>,
        /// true: somebody else had the session. false: it was its owner
        #[arg(value_enum)]
        label: Label,
        /// How that is known, for whoever reads it later
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Show events of the journal: the last ones, or those from a number on
    Tail {
        /// Where they are
        #[command(flatten)]
        journal: JournalArgs,
        /// How many of the last ones
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20, conflicts_with = "from")]
        lines: usize,
        /// From the event of this number (`seq`) on
        #[arg(long, value_name = "SEQ")]
        from: Option<u64>,
        /// Those from this time on: 2026-11-21T10:00:00Z, or how long ago: 90m, 2d
        #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "from")]
        since: Option<Timestamp>,
        /// Those up to this time
        #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "follow")]
        until: Option<Timestamp>,
        /// Go on showing those that come
        #[arg(long, short)]
        follow: bool,
        /// The mildest severity that is shown: info, notice, warn or critical
        #[arg(long, value_name = "SEVERITY")]
        min: Option<Severity>,
        /// Kinds that are shown; `session.` is for all that begin so
        #[arg(long = "event", value_name = "KIND")]
        kinds: Vec<String>,
        /// Only those with this value: `subject=alice`, `reasons.network.asn=10`; `ua=Fire*` is for all that begin so, `ip=203.0.113.0/24` for a
        /// network; with `!=` only those without it
        #[arg(long = "where", value_name = "KEY=VALUE")]
        wanted: Vec<String>,
        /// How to show them
        #[arg(long, value_enum, default_value_t)]
        format: LinesFormat,
        /// Whether with colours
        #[arg(long, value_enum, default_value_t)]
        color: ColorChoice,
    },
    /// Check the journal: that no event was changed, removed or moved since it was written
    ///
    /// The chain tells that by itself, unless somebody has computed it anew. With the first key of the seals, kept elsewhere
    /// (`portcullis events seal-key`), that is told too; with a head that was written down elsewhere, that the end was cut off.
    Verify {
        /// Where it is
        #[command(flatten)]
        journal: JournalArgs,
        /// A file with the first key of its seals
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// The number of an event and its hash, as a check told them before or the last seal does
        #[arg(long = "head", value_name = "SEQ:HASH")]
        heads: Vec<String>,
        /// A file with seals (`events.sealed`) as a sink wrote them elsewhere, in JSON or with JSON in a message; other lines are left out
        #[arg(long = "seals", value_name = "FILE")]
        seals: Vec<PathBuf>,
        /// How to tell it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show the first key of the journal's seals, which is to be kept where the guard is not, and forget it
    ///
    /// As long as it stands beside the journal, whoever takes the machine over can make seals for all that was before.
    SealKey {
        /// Where it is
        #[command(flatten)]
        journal: JournalArgs,
        /// Write it to this file, which must not be there yet, read it back, and forget it
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Forget it, which you have shown and kept elsewhere
        #[arg(long, conflicts_with = "to")]
        forget: bool,
    },
    /// Send a marked event to a sink of the configuration, and tell what came back
    TestSink {
        /// The `name` of the sink, or its type if it has none
        #[arg(value_name = "NAME")]
        name: String,
        /// The configuration [default: portcullis.toml, if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Send events of the journal to a sink again, or for the first time
    ///
    /// How far the sink is in the running guard does not change.
    Replay {
        /// The `name` of the sink, or its type if it has none
        #[arg(long, value_name = "NAME")]
        sink: String,
        /// The number (`seq`) of the first event
        #[arg(long, value_name = "SEQ")]
        from: u64,
        /// The number of the last one [default: that of the last event there is]
        #[arg(long, value_name = "SEQ")]
        to: Option<u64>,
        /// The configuration [default: portcullis.toml, if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Tell of each signal how many of its events were right
    Precision {
        /// The events
        #[arg(long, value_name = "FILE")]
        events: PathBuf,
        /// How to tell it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// A time, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let span = portcullis::limit::parse_duration(text).map_err(|_other| {
        "expected a time such as 2026-11-21T10:00:00Z, or how long ago, such as 90m or 2d".to_owned()
    })?;
    Ok(SystemClock::new().now().before(span))
}

/// Which journal.
#[derive(Debug, Args)]
pub(crate) struct JournalArgs {
    /// The file of the journal [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// The configuration that names it [default: portcullis.toml, if it is there]
    #[arg(long, value_name = "FILE", conflicts_with = "journal")]
    pub(crate) config: Option<PathBuf>,
}
