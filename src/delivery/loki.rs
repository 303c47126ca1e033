//! Grafana Loki: batches of lines under a few labels, over its push API.

use std::collections::BTreeMap;

use http::HeaderName;
use serde_json::{Map, Value, json};

use super::http::{Endpoint, Http};
use super::transport::{Failure, Item, Receipt, Transport};

/// Where it takes them, if the URL does not say.
const PATH: &str = "/loki/api/v1/push";

/// What Loki is told besides the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loki {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Labels that all events get.
    pub labels: BTreeMap<String, String>,
    /// Whose they are, where Loki has several tenants (`X-Scope-OrgID`).
    pub tenant: Option<String>,
}

/// A way to Loki.
pub(super) struct Push {
    http: Http,
    labels: BTreeMap<String, String>,
    tenant: Option<String>,
}

impl Push {
    pub(super) fn new(loki: &Loki) -> Result<Self, String> {
        let Loki { mut endpoint, labels, tenant } = loki.clone();
        endpoint.url = endpoint.url.or_path(PATH);
        Ok(Self { http: Http::new(&endpoint)?, labels, tenant })
    }

    /// The events by their labels: those with few values, as Loki asks for.
    fn body(&self, items: &[Item]) -> Vec<u8> {
        let mut streams: BTreeMap<[&str; 4], Vec<Value>> = BTreeMap::new();
        for Item { record, line, .. } in items {
            let node = record.node.as_ref().map_or("", |node| node.as_str());
            let labels = [node, record.event.kind().as_str(), record.severity().as_str(), record.scene.action.as_str()];
            let nanos = u128::from(record.ts.as_millis()) * 1_000_000;
            let line = String::from_utf8_lossy(line);
            streams.entry(labels).or_default().push(json!([nanos.to_string(), line]));
        }
        let streams: Vec<_> = streams
            .into_iter()
            .map(|(labels, values)| {
                let mut stream: Map<String, Value> = Map::new();
                for (name, value) in ["node", "event", "severity", "action"].into_iter().zip(labels) {
                    if !value.is_empty() {
                        stream.insert(name.to_owned(), value.into());
                    }
                }
                for (name, value) in &self.labels {
                    stream.insert(name.clone(), value.as_str().into());
                }
                json!({ "stream": stream, "values": values })
            })
            .collect();
        json!({ "streams": streams }).to_string().into_bytes()
    }
}

/// How many of the lines Loki says it has left out because of their time: it has taken the others, and will never take these.
fn ignored(why: &str, sent: usize) -> Option<u64> {
    let is_for_time = ["too far behind", "timestamp too old", "out of order"].iter().any(|words| why.contains(words));
    let count = || why.split_once("total ignored: ")?.1.split_once(' ')?.0.parse().ok();
    is_for_time.then(|| count().unwrap_or(u64::MAX).min(sent as u64))
}

impl Transport for Push {
    fn tell_answers(&mut self) {
        self.http.tell_answers();
    }

    async fn send(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        let tenant = self.tenant.iter().map(|tenant| (HeaderName::from_static("x-scope-orgid"), tenant.clone()));
        let headers: Vec<_> = tenant.collect();
        let (head, body) = self.http.ask("application/json", &headers, self.body(items)).await?;
        match self.http.judge(&head, &body) {
            refused @ Err(Failure::Refused { .. }) => ignored(&String::from_utf8_lossy(&body), items.len())
                .map_or(refused, |count| Ok(Receipt::Partly(count))),
            judged => judged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_too_old_for_loki_are_left_out_and_others_are_not() {
        let behind = "400 Bad Request: entry with timestamp 2026-11-21 10:46:12 ignored, reason: 'entry too far behind', \
                      user 'fake', total ignored: 3 out of 20 for stream: {node=\"a\"}";
        assert_eq!(ignored(behind, 20), Some(3));
        assert_eq!(ignored("400 Bad Request: entry for stream '{}' has timestamp too old: 2026-01-01", 7), Some(7));
        assert_eq!(
            ignored("400: entry too far behind, total ignored: 99 out of 99", 5),
            Some(5),
            "not more than there were"
        );
        assert_eq!(ignored("400 Bad Request: error at least one label pair is required", 7), None);
    }
}
