//! A deadline that costs nothing while it moves away.
//!
//! A connection's deadline moves with every request. Re-arming the runtime's timer each time would cost more than
//! parsing the request; so the timer stays where it is, and only when it fires is the true deadline looked at.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A lazily armed timer. The runtime's clock is used, since these deadlines never outlive the process.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready when `deadline` has passed; otherwise the task is woken then, or earlier.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// This long from now; far away when the span is absurd.
pub(super) fn after(span: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(span).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_follows_a_deadline_that_moves_in_either_direction() {
        let start = Instant::now();
        let mut timer = Timer::default();
        let far = after(Duration::from_secs(60));
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx, far))).await.is_pending());
        let near = after(Duration::from_secs(1));
        poll_fn(|cx| timer.poll(cx, near)).await;
        assert_eq!(start.elapsed().as_secs(), 1);
        let later = after(Duration::from_secs(5));
        poll_fn(|cx| timer.poll(cx, later)).await;
        assert_eq!(start.elapsed().as_secs(), 6);
    }
}
