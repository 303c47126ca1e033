//! A stream that is written by a thread of its own: whoever reads the other end may have stopped, and only these lines wait for it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Batch, Lost, Spout};

/// Bytes that may wait. What comes then is given up.
pub(super) const WAITING_MAX: usize = 1 << 20;

/// How long somebody who waits for what was written may have to.
const PATIENCE: Duration = Duration::from_secs(1);

/// See above.
pub(super) struct Pipe {
    /// None where there is no thread.
    to: Option<Sender<Batch>>,
    shared: Arc<Shared>,
    /// How many writes had ended when somebody waited in vain, or there was no room: it is stuck until one more has.
    stuck_at: Option<u64>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes that wait.
    waiting: usize,
    /// Writes that have ended.
    ended: u64,
    lost: Vec<Lost>,
    error: Option<io::Error>,
}

impl Pipe {
    pub(super) fn new(name: &str, to: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let (send, batches) = channel();
        let its = Arc::clone(&shared);
        let builder = thread::Builder::new().name(format!("portcullis-{name}"));
        match builder.spawn(move || its.work(&batches, to)) {
            // It ends with this, or with the process.
            Ok(_) => Self { to: Some(send), shared, stuck_at: None },
            Err(error) => {
                shared.state.lock().error = Some(error);
                Self { to: None, shared, stuck_at: None }
            }
        }
    }

    /// Hands lines over, or gives them up. What became of those before is told, too.
    pub(super) fn pour(&mut self, batch: &mut Batch, lost: &mut Vec<Lost>) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        lost.append(&mut state.lost);
        let before = state.error.take().map_or(Ok(()), Err);
        if batch.bytes.is_empty() {
            return before;
        }
        let bytes = batch.bytes.len();
        let Some(to) = self.to.as_ref().filter(|_| state.waiting + bytes <= WAITING_MAX) else {
            batch.give_up(0, lost);
            self.stuck_at = Some(state.ended);
            return before.and(Err(is_stuck()));
        };
        state.waiting += bytes;
        // It failed, and does so until one more write has ended.
        let is_stuck_still = self.stuck_at == Some(state.ended);
        drop(state);
        if let Err(mut back) = to.send(std::mem::take(batch)) {
            back.0.give_up(0, lost);
            return before.and(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if is_stuck_still { before.and(Err(is_stuck())) } else { before }
    }

    /// Whether something is to be told of what was written meanwhile, or may be soon.
    pub(super) fn is_waiting(&self) -> bool {
        let state = self.shared.state.lock();
        state.error.is_some() || !state.lost.is_empty() || state.waiting > 0 && self.stuck_at != Some(state.ended)
    }

    /// Waits until all of it is written, for a moment.
    pub(super) fn sync(&mut self, lost: &mut Vec<Lost>) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        if self.stuck_at != Some(state.ended) {
            self.shared.moved.wait_while_for(&mut state, |state| state.waiting > 0, PATIENCE);
        }
        if state.waiting > 0 {
            self.stuck_at = Some(state.ended);
            return Err(is_stuck());
        }
        lost.append(&mut state.lost);
        state.error.take().map_or(Ok(()), Err)
    }
}

impl Shared {
    fn work(&self, batches: &Receiver<Batch>, mut to: impl Write) {
        let (mut spout, mut lost) = (Spout::default(), Vec::new());
        for mut batch in batches {
            let bytes = batch.bytes.len();
            let done = spout.pour(&mut batch, &mut lost, &mut to);
            let mut state = self.state.lock();
            state.waiting -= bytes;
            state.ended += 1;
            state.lost.append(&mut lost);
            if let Err(error) = done {
                state.error = Some(error);
            }
            self.moved.notify_all();
        }
    }
}

fn is_stuck() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nobody reads what was written to it")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::SyncSender;

    use super::*;
    use crate::event::Kind;

    /// Takes a write when somebody looks, and closes when nobody does any more.
    struct Looked(SyncSender<Vec<u8>>);

    impl Write for Looked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|closed| io::Error::new(io::ErrorKind::BrokenPipe, closed))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(seq: u64, bytes: usize) -> Batch {
        let mut line = vec![b'a'; bytes - 1];
        line.push(b'\n');
        Batch { bytes: line, ends: vec![(bytes, Lost { kind: Kind::LoginFailed, seq })] }
    }

    #[test]
    fn what_nobody_reads_is_given_up_and_told_and_nobody_waits_for_it() {
        let (send, look) = std::sync::mpsc::sync_channel(0);
        let mut pipe = Pipe::new("test", Looked(send));
        let mut lost = Vec::new();
        let half = WAITING_MAX / 2;
        for seq in 1..=2 {
            pipe.pour(&mut line(seq, half), &mut lost).unwrap();
        }
        assert!(lost.is_empty());
        let stuck = pipe.pour(&mut line(3, 10), &mut lost).unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
        assert_eq!(lost.iter().map(|lost| lost.seq).collect::<Vec<_>>(), [3]);
        assert_eq!(pipe.sync(&mut lost).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(!pipe.is_waiting(), "nothing is expected of it");
        // Somebody reads again.
        assert_eq!((look.recv().unwrap().len(), look.recv().unwrap().len()), (half, half));
        pipe.sync(&mut lost).unwrap();
        pipe.pour(&mut line(4, 10), &mut lost).unwrap();
        assert_eq!(look.recv().unwrap().len(), 10);
        pipe.sync(&mut lost).unwrap();
        // There is room, and nobody takes what comes: it is not well again with the next line.
        pipe.pour(&mut line(5, 10), &mut lost).unwrap();
        assert!(pipe.is_waiting());
        assert_eq!(pipe.sync(&mut lost).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(pipe.pour(&mut line(6, 10), &mut lost).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!((look.recv().unwrap().len(), look.recv().unwrap().len()), (10, 10));
        pipe.sync(&mut lost).unwrap();
        // And then it is closed.
        drop(look);
        pipe.pour(&mut line(7, 10), &mut lost).unwrap();
        assert_eq!(pipe.sync(&mut lost).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(lost.iter().map(|lost| lost.seq).collect::<Vec<_>>(), [3, 7]);
    }
}
