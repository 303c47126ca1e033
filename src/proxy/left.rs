//! Requests that go on when their clients have gone: what the drain waits for. How long they may is limited by the times of the
//! upstream side, and how many of one client by an eighth of the places at the app.

use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::outlive::{Full, Leave, PART};
use crate::limit::ClientKey;
use crate::proxy::serve::Session;
use crate::proxy::{Fault, Gate};

/// Whose panic it would be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its connection's.
    Connection,
    Alone,
}

/// What the drain waits for.
pub(super) struct Held<G: Gate> {
    session: Arc<Session<G>>,
    client: Option<ClientKey>,
    place: Place,
}

impl<G: Gate> Held<G> {
    /// For a client, or for nobody if it holds no place at the app any more.
    pub(super) fn new(session: &Arc<Session<G>>, client: Option<IpAddr>) -> Self {
        session.worker.drain.hold();
        Self { session: session.clone(), client: client.map(ClientKey::new), place: Place::Connection }
    }
}

impl<G: Gate> Leave for Held<G> {
    fn leave_alone(&mut self) -> Result<(), Full> {
        let worker = &self.session.worker;
        if let Some(client) = self.client {
            let places = worker.settings.load().upstream.connections_max;
            worker.left.add(client, 1, (places / PART).max(1))?;
        }
        self.place = Place::Alone;
        Ok(())
    }
}

impl<G: Gate> Drop for Held<G> {
    fn drop(&mut self) {
        if self.place == Place::Alone {
            if std::thread::panicking() {
                self.session.fault(Fault::Panic);
            }
            if let Some(client) = self.client {
                self.session.worker.left.take(client, 1);
            }
        }
        self.session.worker.drain.release();
    }
}
