//! A request that goes on when its client has gone, because what the app does with it must be settled.
//!
//! As long as the client is there, the request is part of its connection like any other. Only when that is dropped, what is
//! left of the request gets a task of its own: so one that its client waits for costs a box, and neither a task nor a
//! channel. How long it may go on is limited by the times of the upstream side, and how many of one client by an eighth of
//! the places at the app: a client that begins and leaves again and again does not take them all.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::limit::ClientKey;
use crate::proxy::room::Full;
use crate::proxy::serve::Session;
use crate::proxy::{Fault, Gate};

/// A future that is finished even if it is dropped.
pub(super) struct Outlive<G: Gate, F: Future + Send + 'static> {
    /// Absent when it is done, and while it is polled: one that panicked is not to be polled again.
    rest: Option<Pin<Box<F>>>,
    /// Absent once it was handed over.
    held: Option<Held<G>>,
}

impl<G: Gate, F: Future + Send + 'static> Outlive<G, F> {
    /// For a client, or for nobody if it holds no place at the app any more.
    pub(super) fn new(session: &Arc<Session<G>>, client: Option<IpAddr>, future: F) -> Self {
        let client = client.map(ClientKey::new);
        Self { rest: Some(Box::pin(future)), held: Some(Held::new(session, client)) }
    }
}

impl<G: Gate, F: Future + Send + 'static> Future for Outlive<G, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(mut rest) = self.rest.take() else { return Poll::Pending };
        let polled = rest.as_mut().poll(cx);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        polled
    }
}

impl<G: Gate, F: Future + Send + 'static> Drop for Outlive<G, F> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end, and nothing can go on.
        if let (Some(rest), Some(mut held)) = (self.rest.take(), self.held.take())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
            && held.leave_alone().is_ok()
        {
            runtime.spawn(async move {
                let _held = held;
                drop(rest.await);
            });
        }
    }
}

/// Whose panic it would be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its connection's.
    Connection,
    Alone,
}

/// What the drain waits for.
struct Held<G: Gate> {
    session: Arc<Session<G>>,
    client: Option<ClientKey>,
    place: Place,
}

impl<G: Gate> Held<G> {
    fn new(session: &Arc<Session<G>>, client: Option<ClientKey>) -> Self {
        session.worker.drain.hold();
        Self { session: session.clone(), client, place: Place::Connection }
    }

    /// Its client has gone.
    fn leave_alone(&mut self) -> Result<(), Full> {
        let worker = &self.session.worker;
        if let Some(client) = self.client {
            worker.left.one_more(client, worker.settings.load().upstream.connections_max)?;
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
                self.session.worker.left.one_less(client);
            }
        }
        self.session.worker.drain.release();
    }
}
