//! Events for apps that have no log of events: into the diagnostics that they have anyway.

use std::io;

use tracing::Level;

use super::Sink;
use crate::event::encode::Encoder;
use crate::event::{Record, Severity};

/// The target of events in `tracing`, to be filtered by.
pub const TRACING_TARGET: &str = "portcullis::events";

/// Hands events to `tracing` under [`TRACING_TARGET`]: critical ones as errors, warnings as warnings, all others as
/// information. The fields are `event`, `action`, `ref` and `rule` where there is one, and `line`, which is the whole event as a line
/// of JSON.
///
/// Whether anybody sees them is for the app's subscriber to say: a filter that leaves the target out leaves events out. A guard
/// whose events must arrive has a sink of its own.
#[derive(Clone, Debug, Default)]
pub struct TracingSink {
    encoder: Encoder,
}

impl TracingSink {
    /// A bridge that shows addresses and subjects as they are.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with `line` as this encoder writes it: in another format, or with addresses and subjects hidden.
    pub fn with_encoder(encoder: Encoder) -> Self {
        Self { encoder }
    }
}

/// Tells one record at a level, if anybody listens to that.
macro_rules! tell {
    ($level:expr, $sink:expr, $record:expr) => {{
        if tracing::enabled!(target: TRACING_TARGET, $level) {
            let mut line = Vec::new();
            $sink.encoder.encode($record, &mut line);
            let line = String::from_utf8_lossy(line.trim_ascii_end());
            let scene = &$record.scene;
            tracing::event!(
                target: TRACING_TARGET,
                $level,
                event = %$record.event.kind(),
                action = scene.action.as_str(),
                "ref" = scene.reference.map(tracing::field::display),
                rule = scene.rule.as_ref().map(|rule| rule.as_str()),
                line = &*line,
                "{}",
                $record.event.kind().meta().doc
            );
        }
    }};
}

impl Sink for TracingSink {
    fn name(&self) -> &'static str {
        "tracing"
    }

    fn take(&mut self, record: &Record) -> io::Result<()> {
        match record.severity() {
            Severity::Critical => tell!(Level::ERROR, self, record),
            Severity::Warn => tell!(Level::WARN, self, record),
            Severity::Notice | Severity::Info => tell!(Level::INFO, self, record),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
