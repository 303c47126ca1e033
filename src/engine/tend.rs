//! The housekeeping that a guard needs while it runs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::{Guard, SWEEP_MAX};
use crate::store::Store;
use crate::store::endings::{Endings, Notice};

/// How often streams of sessions that are over are looked for.
pub const STREAMS_EVERY: Duration = Duration::from_millis(500);

/// One round in so many also removes records that are over: every ten seconds.
const RECORDS_ROUNDS: u32 = 20;

/// How often guards of one store tell each other what was taken of limits.
pub const LIMITS_EVERY: Duration = Duration::from_millis(250);

/// Ends the streams of sessions that are over, removes their records, looks for what is unusual on the whole site, counts limits
/// together with the other guards of the store, and keeps a cache before it among those that the others wait for, until the guard is
/// dropped. Spawn it beside the server:
/// `tokio::spawn(tend(&guard))`.
pub fn tend<S: Store>(guard: &Arc<Guard<S>>) -> impl Future<Output = ()> + Send + use<S> {
    let guard = Arc::downgrade(guard);
    async move {
        // Each at its own pace: a store that is slow to answer one must not keep the other.
        tokio::join!(sweep(&guard), share(&guard), follow(&guard));
    }
}

/// Lets a store that keeps records for a moment know which sessions have ended elsewhere, and say that it does.
async fn follow<S: Store>(guard: &Weak<Guard<S>>) {
    let Some(begun) = guard.upgrade() else { return };
    let mut endings = begun.store().follows();
    let mut due = attend(&begun).await;
    drop(begun);
    while endings.is_some() || due.is_some() {
        let mut notice = tokio::select! {
            notice = next(&mut endings) => notice,
            () = at(due) => None,
        };
        let Some(guard) = guard.upgrade() else { return };
        let mut is_waited_for = false;
        // All that has been told by now: those who wait are answered together.
        while let Some(told) = notice {
            guard.store().heed(told);
            is_waited_for |= matches!(told, Notice::Recall(_) | Notice::Gap);
            notice = endings.as_mut().and_then(Endings::try_next);
        }
        if is_waited_for || due.is_some_and(|due| due <= Instant::now()) {
            due = attend(&guard).await;
        }
    }
}

/// When to do it again.
async fn attend<S: Store>(guard: &Guard<S>) -> Option<Instant> {
    let began = Instant::now();
    guard.store().attend().await.map(|after| began + after)
}

/// The next notice; none if there will be no more, or for ever.
async fn next(endings: &mut Option<Endings>) -> Option<Notice> {
    let Some(open) = endings else { return std::future::pending().await };
    let notice = open.next().await;
    if notice.is_none() {
        *endings = None;
    }
    notice
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn sweep<S: Store>(guard: &Weak<Guard<S>>) {
    let mut round: u32 = 0;
    loop {
        tokio::time::sleep(STREAMS_EVERY).await;
        let Some(guard) = guard.upgrade() else { return };
        round = round.wrapping_add(1);
        let is_tenth = round.is_multiple_of(RECORDS_ROUNDS);
        if is_tenth {
            // Before anything that may have to wait for the store.
            guard.look_for_trends();
        }
        if let Err(error) = guard.sweep_streams().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "streams of ended sessions were not looked for");
        }
        if is_tenth {
            clear(&guard).await;
        }
    }
}

async fn share<S: Store>(guard: &Weak<Guard<S>>) {
    let (mut last, mut fails) = (None, false);
    loop {
        tokio::time::sleep(LIMITS_EVERY).await;
        let Some(guard) = guard.upgrade() else { return };
        let now = guard.now();
        let since = last.replace(now).map_or(LIMITS_EVERY, |last| now.since(last));
        let shared = guard.share_limits(since).await;
        // Once for an outage: it is tried again four times a second.
        if let Err(error) = &shared
            && !fails
        {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "limits are not counted together with other guards"
            );
        }
        fails = shared.is_err();
    }
}

async fn clear<S: Store>(guard: &Guard<S>) {
    loop {
        match guard.clear_expired().await {
            Ok(removed) if removed >= SWEEP_MAX => tokio::task::yield_now().await,
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "records of ended sessions were not removed");
                return;
            }
        }
    }
}
