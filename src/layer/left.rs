//! Requests that go on when their clients have gone: how many, in all and of one client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::engine::outlive::{Full, Leave, PART, PerClient, add};
use crate::limit::ClientKey;

/// Requests of one layer that go on without their clients at one time; an eighth of them of one client.
pub const LEFT_MAX: usize = 1024;

/// How many there are.
#[derive(Debug, Default)]
pub(super) struct Left {
    all: AtomicUsize,
    of_clients: PerClient,
}

/// A request, and whether it is one of them.
pub(super) struct Held {
    left: Arc<Left>,
    client: ClientKey,
    is_alone: bool,
}

impl Held {
    pub(super) fn new(left: &Arc<Left>, client: ClientKey) -> Self {
        Self { left: left.clone(), client, is_alone: false }
    }
}

impl Leave for Held {
    fn leave_alone(&mut self) -> Result<(), Full> {
        let Left { all, of_clients } = &*self.left;
        of_clients.add(self.client, 1, LEFT_MAX / PART)?;
        if add(all, 1, LEFT_MAX).is_err() {
            of_clients.take(self.client, 1);
            return Err(Full);
        }
        self.is_alone = true;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_alone {
            self.left.all.fetch_sub(1, Ordering::AcqRel);
            self.left.of_clients.take(self.client, 1);
        }
    }
}
