//! Events kept in memory: for tests and the demo.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Sink;
use crate::event::encode::Encoder;
use crate::event::{Kind, Record};

/// Keeps every record and its line. Clones share what they keep; it grows without limit, so it is not for a running
/// guard.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    encoder: Encoder,
    kept: Arc<Mutex<Vec<(Record, String)>>>,
}

impl Collector {
    /// A collector of JSON lines.
    pub fn new() -> Self {
        Self::default()
    }

    /// A collector of lines as this encoder writes them.
    pub fn with_encoder(encoder: Encoder) -> Self {
        Self { encoder, kept: Arc::default() }
    }

    /// What was collected so far.
    pub fn records(&self) -> Vec<Record> {
        self.kept.lock().iter().map(|(record, _)| record.clone()).collect()
    }

    /// The lines so far, without their newlines.
    pub fn lines(&self) -> Vec<String> {
        self.kept.lock().iter().map(|(_, line)| line.clone()).collect()
    }

    /// The kinds of what was collected so far.
    pub fn kinds(&self) -> Vec<Kind> {
        self.kept.lock().iter().map(|(record, _)| record.event.kind()).collect()
    }

    /// Forgets everything, and gives it out.
    pub fn drain(&self) -> Vec<Record> {
        std::mem::take(&mut *self.kept.lock()).into_iter().map(|(record, _)| record).collect()
    }
}

impl Sink for Collector {
    fn name(&self) -> &'static str {
        "collector"
    }

    fn take(&mut self, record: &Record) -> io::Result<()> {
        let mut line = Vec::new();
        self.encoder.encode(record, &mut line);
        line.pop();
        let line = String::from_utf8(line).map_err(io::Error::other)?;
        self.kept.lock().push((record.clone(), line));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// For whoever looks at it, it is what a journal is to others.
    fn keeps(&self) -> bool {
        true
    }
}
