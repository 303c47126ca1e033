//! How fast a body of HTTP/2 comes. In HTTP/1 the connection's driver sees to that; here one connection carries many bodies,
//! each of which holds a place at the app.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::timer::Timer;
use crate::proxy::{Client, Limits};

/// The pace of one body. Only time in which somebody waits for it counts: an app that does not read is not the client's
/// fault.
#[derive(Debug)]
pub(super) struct Pace {
    limits: Limits,
    silence_max: Duration,
    timer: Timer,
    /// Since when it is waited for.
    since: Option<Instant>,
    /// All waiting before that, and the octets that came.
    waited: Duration,
    moved: u64,
}

/// The client stalled, or sends slower than the least rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request body came too slowly")]
pub(super) struct TooSlow;

impl Pace {
    pub(super) fn new(client: &Client) -> Self {
        Self {
            limits: client.limits.clone(),
            silence_max: client.timeouts.body,
            timer: Timer::default(),
            since: None,
            waited: Duration::ZERO,
            moved: 0,
        }
    }

    /// Nothing is there. Ready when it has been waited for too long.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let deadline = since.checked_add(self.silence_max).unwrap_or(since);
        ready!(self.timer.poll(cx, deadline));
        Poll::Ready(TooSlow)
    }

    /// Something came.
    pub(super) fn came(&mut self, octets: usize) -> Result<(), TooSlow> {
        self.moved = self.moved.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX));
        let Some(since) = self.since.take() else { return Ok(()) };
        self.waited += since.elapsed();
        if self.limits.is_too_slow(self.moved, self.waited) { Err(TooSlow) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Every `pause` so many octets come, until they are too few or enough; says after how long that was.
    async fn sent(pause: Duration, octets: usize) -> Result<(), Duration> {
        let start = Instant::now();
        let mut pace = Pace::new(&Client::default());
        for _ in 0..100 {
            let late = poll_fn(|cx| pace.poll_late(cx));
            if tokio::time::timeout(pause, late).await.is_ok() || pace.came(octets).is_err() {
                return Err(start.elapsed());
            }
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_and_a_silence_are_too_slow() {
        let seconds = Duration::from_secs;
        assert_eq!(sent(seconds(1), 200).await, Ok(()));
        assert_eq!(sent(seconds(29), 29 * 128).await, Ok(()));
        assert_eq!(sent(seconds(3), 1).await, Err(seconds(12)));
        assert_eq!(sent(seconds(31), 1 << 20).await, Err(seconds(30)));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_does_not_count() {
        let mut pace = Pace::new(&Client::default());
        for _ in 0..100 {
            tokio::time::advance(Duration::from_secs(60)).await;
            assert_eq!(pace.came(1), Ok(()));
        }
    }
}
