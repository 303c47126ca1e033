//! A sink that holds the writer of events for as long as it is shut, as a disk does that hangs.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use portcullis::event::Record;
use portcullis::event::sink::Sink;

/// Clones are the same valve.
#[derive(Clone, Default)]
pub(crate) struct Valve(Arc<(Mutex<bool>, Condvar)>);

impl Valve {
    pub(crate) fn shut(&self) {
        *self.0.0.lock() = true;
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock() = false;
        self.0.1.notify_all();
    }
}

impl Sink for Valve {
    fn name(&self) -> &'static str {
        "valve"
    }

    fn take(&mut self, _: &Record) -> io::Result<()> {
        self.0.1.wait_while(&mut self.0.0.lock(), |is_shut| *is_shut);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
