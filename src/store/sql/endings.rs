//! Which sessions ended: PostgreSQL tells everybody who listens, when the change is committed.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use super::dialect::Kind;
use super::wire::{Line, Value};
use super::work::Fault;
use crate::session::id::SessionDigest;
use crate::store::endings::{Hearing, Notice, QUIET, Source, Unheard};
use crate::store::leases::Recall;

/// Tells all who listen that a session has ended, once the change is committed.
pub(super) async fn announce(line: &mut Line<'_>, digest: &SessionDigest) -> Result<(), Fault> {
    if line.dialect.kind() == Kind::Postgres {
        line.execute("SELECT pg_notify('{t}_ending', encode(?, 'hex'))", &[Value::Bytes(&digest.0)]).await?;
    }
    Ok(())
}

/// The channel of a database on which that is told.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) options: Arc<PgConnectOptions>,
    pub(super) name: String,
    pub(super) timeout: Duration,
}

impl Source for Channel {
    async fn hear(&self, hearing: &mut Hearing) -> Result<(), Unheard> {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(self.timeout);
        let pool = pool.connect_lazy_with((*self.options).clone());
        let mut listener = tokio::time::timeout(self.timeout, PgListener::connect_with(&pool)).await??;
        // Whoever calls this begins anew, and knows that there was a gap.
        listener.eager_reconnect(false);
        tokio::time::timeout(self.timeout, listener.listen(&self.name)).await??;
        hearing.begun();
        loop {
            match tokio::time::timeout(QUIET, listener.try_recv()).await {
                Ok(Ok(Some(message))) => hearing.tell(notice(message.payload())),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error.into()),
                // A connection may be dead without a sign.
                Err(_) => {
                    tokio::time::timeout(self.timeout, sqlx::query("SELECT 1").execute(&mut listener)).await??;
                }
            }
        }
    }
}

/// What a message means: a digest, or a recall. Anything else was not sent by us, and could mean anything.
fn notice(payload: &str) -> Notice {
    let (pairs, rest) = payload.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    let bytes = bytes.filter(|_| rest.is_empty()).unwrap_or_default();
    match bytes.as_slice().try_into() {
        Ok(digest) => Notice::Session(SessionDigest(digest)),
        Err(_) => Recall::from_bytes(&bytes).map_or(Notice::Gap, Notice::Recall),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_no_digest_is_a_gap() {
        assert_eq!(notice(&"0a".repeat(32)), Notice::Session(SessionDigest([10; 32])));
        assert_eq!(notice("0000000000000102"), Notice::Recall(Recall { id: 258, about: None }));
        let recall = Recall { id: 258, about: Some(SessionDigest([10; 32])) };
        assert_eq!(notice(&format!("0000000000000102{}", "0a".repeat(32))), Notice::Recall(recall));
        for other in [
            String::new(),
            "0a".repeat(31),
            "0a".repeat(33),
            "0a".repeat(31) + "0",
            "zz".repeat(32),
            "\u{e9}".repeat(32),
        ] {
            assert_eq!(notice(&other), Notice::Gap, "{other}");
        }
    }
}
