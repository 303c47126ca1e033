//! Which nodes serve from caches, and what they have not returned: two small tables, and the clock of the database.

use std::time::Duration;

use super::SqlStore;
use super::dialect::{Kind, places};
use super::wire::{Line, Mode, Value};
use super::work::{Decided, Fault, Work};
use crate::session::id::SessionDigest;
use crate::store::leases::{LEASE, Leased, Leases, Node, Recall, Renewed};

impl Leases for SqlStore {
    fn renew<'a>(&'a self, node: Node, returned: &'a [Recall]) -> Leased<'a, Renewed> {
        Box::pin(async move { Ok(self.perform(&Renew { node, returned }).await?) })
    }

    fn recall(&self, node: Node, recall: Recall) -> Leased<'_, bool> {
        Box::pin(async move { Ok(self.perform(&Recalling { node, recall }).await?) })
    }

    fn is_open(&self, recall: Recall) -> Leased<'_, bool> {
        Box::pin(async move { Ok(self.perform(&IsOpen(recall)).await?) })
    }

    fn release(&self, node: Node) -> Leased<'_, ()> {
        Box::pin(async move { Ok(self.perform(&Release(node)).await?) })
    }
}

/// A lease that gains less than this is left as it is, in milliseconds: those who end sessions make a node say often that it has heard.
const GAIN_MIN: i64 = 100;

const fn int<'a>(id: u64) -> Value<'a> {
    Value::Int(id.cast_signed())
}

struct Renew<'a> {
    node: Node,
    returned: &'a [Recall],
}

impl Work for Renew<'_> {
    type Answer = Renewed;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<Renewed>, Fault> {
        let node = int(self.node.0);
        if !self.returned.is_empty() {
            let places = places(self.returned.len());
            let template = format!("DELETE FROM {{t}}_recalls WHERE node = ? AND recall IN ({places})");
            let values: Vec<_> =
                std::iter::once(node).chain(self.returned.iter().map(|recall| int(recall.id))).collect();
            line.execute(&template, &values).await?;
        }
        let before = "SELECT {now}, (SELECT ends_at FROM {t}_nodes WHERE node = ?)";
        let before: Vec<(i64, Option<i64>)> = line.fetch(before, &[node]).await?;
        let (now, before) = before.first().copied().ok_or(sqlx::Error::RowNotFound)?;
        let before = before.unwrap_or(0);
        let open = "SELECT recall, about, made_at FROM {t}_recalls WHERE node = ?";
        let open: Vec<(i64, Option<Vec<u8>>, i64)> = line.fetch(open, &[node]).await?;
        let oldest = open.iter().map(|(.., made_at)| *made_at).fold(now, i64::min);
        let lease = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        let mut ends_at = before.max(oldest.saturating_add(lease));
        if ends_at > before.saturating_add(GAIN_MIN) {
            let instead = match line.dialect.kind() {
                Kind::MySql => "ON DUPLICATE KEY UPDATE ends_at = GREATEST(ends_at, VALUES(ends_at))",
                Kind::Postgres => {
                    "ON CONFLICT (node) DO UPDATE SET ends_at = GREATEST({t}_nodes.ends_at, excluded.ends_at)"
                }
                Kind::Sqlite => "ON CONFLICT (node) DO UPDATE SET ends_at = MAX(ends_at, excluded.ends_at)",
            };
            let template = format!("INSERT INTO {{t}}_nodes (node, ends_at) VALUES (?, ?) {instead}");
            line.execute(&template, &[node, Value::Int(ends_at)]).await?;
        } else {
            ends_at = before;
        }
        let open = open.into_iter().map(|(id, about, _)| Recall {
            id: id.cast_unsigned(),
            about: about.and_then(|digest| digest.try_into().ok()).map(SessionDigest),
        });
        Ok(Decided::Keep(Renewed {
            was_held: before > now,
            granted: Duration::from_millis(u64::try_from(ends_at.saturating_sub(now)).unwrap_or(0)),
            open: open.collect(),
        }))
    }
}

struct Recalling {
    node: Node,
    recall: Recall,
}

impl Work for Recalling {
    type Answer = bool;
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<bool>, Fault> {
        // A database guesses the type of a value that stands alone.
        let template = "INSERT INTO {t}_recalls (node, recall, about, made_at) \
                        SELECT node, CAST(? AS {int}), CAST(? AS {bytes}), {now} \
                        FROM {t}_nodes WHERE node <> ? AND ends_at > {now}";
        let about = Value::Maybe(self.recall.about.as_ref().map(|digest| digest.0.as_slice()));
        let asked = line.execute(template, &[int(self.recall.id), about, int(self.node.0)]).await?;
        if asked == 0 {
            return Ok(Decided::Undo(false));
        }
        if line.dialect.kind() == Kind::Postgres {
            let recall = self.recall.to_bytes();
            line.execute("SELECT pg_notify('{t}_ending', encode(?, 'hex'))", &[Value::Bytes(&recall)]).await?;
        }
        Ok(Decided::Keep(true))
    }
}

struct Release(Node);

impl Work for Release {
    type Answer = ();
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<()>, Fault> {
        forget(line, int(self.0.0)).await?;
        Ok(Decided::Keep(()))
    }
}

async fn forget(line: &mut Line<'_>, node: Value<'_>) -> Result<(), Fault> {
    line.execute("DELETE FROM {t}_recalls WHERE node = ?", &[node]).await?;
    line.execute("DELETE FROM {t}_nodes WHERE node = ?", &[node]).await?;
    Ok(())
}

struct IsOpen(Recall);

impl Work for IsOpen {
    type Answer = bool;
    const MODE: Mode = Mode::Read;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<bool>, Fault> {
        let template = "SELECT n.node FROM {t}_nodes n JOIN {t}_recalls r ON r.node = n.node \
                        WHERE r.recall = ? AND n.ends_at > {now}";
        let open: Vec<(i64,)> = line.fetch(template, &[int(self.0.id)]).await?;
        Ok(Decided::Keep(!open.is_empty()))
    }
}

/// Removes leases that ended a while ago, and what their nodes had not returned.
pub(super) async fn clear(store: &SqlStore) -> Result<(), Fault> {
    store.perform(&Clear).await
}

struct Clear;

impl Work for Clear {
    type Answer = ();
    const MODE: Mode = Mode::Together;

    async fn run(&self, line: &mut Line<'_>) -> Result<Decided<()>, Fault> {
        const AFTER: Value<'_> = Value::Int(60_000);
        // Locked: a node that comes back meanwhile waits, so nothing is recalled from it yet that could be removed with the rest.
        let gone = "SELECT node FROM {t}_nodes WHERE ends_at < {now} - ? ORDER BY node LIMIT 64{skip}";
        let found: Vec<(i64,)> = line.fetch(gone, &[AFTER]).await?;
        for (node,) in found {
            forget(line, Value::Int(node)).await?;
        }
        // Of a node that was leaving just then.
        line.execute("DELETE FROM {t}_recalls WHERE made_at < {now} - ?", &[AFTER]).await?;
        Ok(Decided::Keep(()))
    }
}
