//! A stream that is open already: standard output, or anything that takes bytes.

use std::io::{self, Write};

use super::pipe::Pipe;
use super::{Fill, Filter, Lines, Lost, Sink};
use crate::event::Record;
use crate::event::encode::Encoder;

/// Writes lines to a stream, a batch at a time.
pub struct StreamSink<W> {
    name: &'static str,
    to: To<W>,
    lines: Lines,
}

enum To<W> {
    /// By whoever has the sink.
    Here(W),
    /// By a thread of its own.
    Apart(Pipe),
}

impl StreamSink<io::Stdout> {
    /// Standard output. It is locked for each batch, so lines never mix with what others print there. Where nobody reads it,
    /// 1 MiB waits for that; what comes then is given up, and nothing else waits. What waits at the end is written for a second.
    pub fn stdout(encoder: Encoder) -> Self {
        let to = To::Apart(Pipe::new("stdout", io::stdout()));
        Self { name: "stdout", to, lines: Lines::new(encoder) }
    }
}

impl<W: Write + Send> StreamSink<W> {
    /// Any stream. It is written by the thread of the sinks: what keeps it waiting keeps all of them.
    pub fn new(name: &'static str, to: W, encoder: Encoder) -> Self {
        Self { name, to: To::Here(to), lines: Lines::new(encoder) }
    }

    /// The same for events that the filter wants.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.lines.filter = filter;
        self
    }
}

impl<W: Write + Send> Sink for StreamSink<W> {
    fn name(&self) -> &str {
        self.name
    }

    fn wants(&self, record: &Record) -> bool {
        self.lines.filter.wants(record)
    }

    fn take(&mut self, record: &Record) -> io::Result<()> {
        match self.lines.add(record) {
            Fill::Room => Ok(()),
            Fill::Full => self.flush(),
        }
    }

    fn lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lines.lost)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::Here(to) => self.lines.pour(to),
            To::Apart(pipe) => pipe.pour(&mut self.lines.batch, &mut self.lines.lost),
        }
    }

    fn is_waiting(&self) -> bool {
        match &self.to {
            To::Here(_) => false,
            To::Apart(pipe) => pipe.is_waiting(),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let handed = self.flush();
        match &mut self.to {
            To::Here(_) => handed,
            To::Apart(pipe) => handed.and(pipe.sync(&mut self.lines.lost)),
        }
    }
}

impl<W> std::fmt::Debug for StreamSink<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamSink").field("name", &self.name).field("lines", &self.lines).finish_non_exhaustive()
    }
}
