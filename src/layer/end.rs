//! Telling the app that a session ended while it holds a tunnel of it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::engine::cut::Cut;

/// The end of a session, for an app that answers with a tunnel (a WebSocket): a request extension of every request that
/// asks for one.
///
/// Bytes of a tunnel do not pass through the layer, so the app has to let go of it:
///
/// ```text
/// tokio::select! {
///     () = talk(socket) => {}
///     () = end.ended() => {}   // dropping the socket closes it
/// }
/// ```
#[derive(Clone, Default)]
pub struct SessionEnd(Arc<State>);

#[derive(Default)]
struct State {
    cut: OnceLock<Cut>,
    tied: Notify,
}

impl SessionEnd {
    /// Waits for the end of the session, however it comes: logout, revocation, a deadline. Waits for ever where there is
    /// no session. Of several tasks that wait, only the one that asked last is woken.
    pub async fn ended(&self) {
        loop {
            // Made before the look, so that a tie that comes in between is not missed.
            let tied = self.0.tied.notified();
            if let Some(cut) = self.0.cut.get() {
                return std::future::poll_fn(|cx| cut.poll_done(cx)).await;
            }
            tied.await;
        }
    }

    /// Whether it has come.
    pub fn has_ended(&self) -> bool {
        self.0.cut.get().is_some_and(Cut::is_done)
    }

    pub(super) fn tie(&self, cut: Cut) {
        if self.0.cut.set(cut).is_ok() {
            self.0.tied.notify_waiters();
        }
    }
}

impl fmt::Debug for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionEnd").field(&self.has_ended()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cut::Cutter;

    #[tokio::test]
    async fn whoever_waits_before_or_after_the_answer_is_told() {
        let (cutter, cut) = Cutter::new();
        let end = SessionEnd::default();
        let waiting = tokio::spawn({
            let end = end.clone();
            async move { end.ended().await }
        });
        tokio::task::yield_now().await;
        end.tie(cut);
        tokio::task::yield_now().await;
        assert!(!end.has_ended());
        cutter.cut();
        waiting.await.unwrap();
        end.ended().await;
        assert!(end.has_ended());
    }
}
