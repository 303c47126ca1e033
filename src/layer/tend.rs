//! The housekeeping that a guard needs while it runs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::{Guard, SWEEP_MAX};
use crate::store::Store;

/// How often streams of sessions that are over are looked for.
pub const STREAMS_EVERY: Duration = Duration::from_secs(1);

/// One round in so many also removes records that are over.
const RECORDS_ROUNDS: u32 = 30;

/// Ends the streams of sessions that are over and removes their records, until the guard is dropped. Spawn it beside the
/// server: `tokio::spawn(tend(&guard))`.
pub fn tend<S: Store>(guard: &Arc<Guard<S>>) -> impl Future<Output = ()> + Send + use<S> {
    let guard = Arc::downgrade(guard);
    async move {
        let mut round: u32 = 0;
        loop {
            tokio::time::sleep(STREAMS_EVERY).await;
            let Some(guard) = Weak::upgrade(&guard) else { return };
            if let Err(error) = guard.sweep_streams().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "streams of ended sessions were not looked for"
                );
            }
            round = round.wrapping_add(1);
            if round.is_multiple_of(RECORDS_ROUNDS) {
                clear(&guard).await;
            }
        }
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
