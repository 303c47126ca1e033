//! Which nodes serve from caches, and what they have not returned: a step is a script.

use std::time::Duration;

use redis::Value;

use super::RedisStore;
use super::link::{Again, LinkError};
use super::scripts::LEASES;
use crate::store::StoreError;
use crate::store::leases::{LEASE, Leased, Leases, Node, Recall, Renewed};

impl Leases for RedisStore {
    fn renew<'a>(&'a self, node: Node, returned: &'a [Recall]) -> Leased<'a, Renewed> {
        Box::pin(async move {
            let (node, lease) = (node.0.to_be_bytes(), LEASE.as_millis().to_string());
            let returned: Vec<_> = returned.iter().map(|recall| recall.to_bytes()).collect();
            let mut args: Vec<&[u8]> = vec![b"renew", &node, lease.as_bytes()];
            args.extend(returned.iter().map(Vec::as_slice));
            Ok(renewed(&self.step(&args).await?).ok_or(LinkError::Answer)?)
        })
    }

    fn recall(&self, node: Node, recall: Recall) -> Leased<'_, bool> {
        Box::pin(async move {
            let (node, recall) = (node.0.to_be_bytes(), recall.to_bytes());
            self.is_any(&[b"recall", &node, &recall, &self.names.channel]).await
        })
    }

    fn is_open(&self, recall: Recall) -> Leased<'_, bool> {
        Box::pin(async move { self.is_any(&[b"open", &recall.to_bytes()]).await })
    }

    fn release(&self, node: Node) -> Leased<'_, ()> {
        Box::pin(async move { self.is_any(&[b"leave", &node.0.to_be_bytes()]).await.map(drop) })
    }
}

impl RedisStore {
    async fn step(&self, args: &[&[u8]]) -> Result<Value, LinkError> {
        // Renewed twice, it looks as if it had never been gone.
        self.link.run(&LEASES, &self.names.leases, args, Again::MayNot).await
    }

    async fn is_any(&self, args: &[&[u8]]) -> Result<bool, StoreError> {
        match self.step(args).await? {
            Value::Int(count) => Ok(count > 0),
            _ => Err(LinkError::Answer.into()),
        }
    }
}

fn renewed(answer: &Value) -> Option<Renewed> {
    let Value::Array(parts) = answer else { return None };
    let [Value::Int(held), Value::Int(millis), open @ ..] = parts.as_slice() else { return None };
    let recall = |part: &Value| match part {
        Value::BulkString(recall) => Recall::from_bytes(recall),
        _ => None,
    };
    Some(Renewed {
        was_held: *held == 1,
        granted: Duration::from_millis(u64::try_from(*millis).ok()?),
        open: open.iter().map(recall).collect::<Option<_>>()?,
    })
}
