//! OpenTelemetry: log records over OTLP/HTTP, as JSON.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use serde_json::{Value, json};

use super::http::{Endpoint, Http};
use super::transport::{Failure, Item, Receipt, Transport};

/// Where collectors take them, if the URL does not say.
const PATH: &str = "/v1/logs";

/// A way to a collector.
pub(super) struct Otlp {
    http: Http,
}

impl Otlp {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, String> {
        let mut endpoint = endpoint.clone();
        endpoint.url = endpoint.url.or_path(PATH);
        Ok(Self { http: Http::new(&endpoint)? })
    }
}

impl Transport for Otlp {
    fn tell_answers(&mut self) {
        self.http.tell_answers();
    }

    async fn send(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        let answer = self.http.post("application/json", &[], body(items)).await?;
        // What it rejects of a request it must not be sent again (OTLP/HTTP, "Partial Success").
        Ok(match rejected(&answer.body) {
            0 => answer.receipt,
            rejected => Receipt::Partly(rejected),
        })
    }
}

/// How many records were rejected: a number, or as 64-bit numbers of Protocol Buffers are in JSON, a text.
fn rejected(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = answer.get("partialSuccess").and_then(|partial| partial.get("rejectedLogRecords"));
    count.and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok())).unwrap_or(0)
}

/// The events as one request: those of a node are a resource.
fn body(items: &[Item]) -> Vec<u8> {
    let node = |item: &Item| item.record.node.as_ref().map(ToString::to_string);
    let resources: Vec<_> = items
        .chunk_by(|one, other| node(one) == node(other))
        .map(|items| {
            let mut attributes = vec![text("service.name", "portcullis")];
            attributes.extend(items.first().and_then(node).map(|node| text("service.instance.id", &node)));
            let records: Vec<_> = items.iter().map(record).collect();
            json!({
                "resource": { "attributes": attributes },
                "scopeLogs": [{
                    "scope": { "name": "portcullis", "version": env!("CARGO_PKG_VERSION") },
                    "logRecords": records,
                }],
            })
        })
        .collect();
    json!({ "resourceLogs": resources }).to_string().into_bytes()
}

/// An event: the line is the body, and what is often asked for stands beside it under the names of the semantic conventions,
/// as far as they have one.
fn record(item: &Item) -> Value {
    let Item { record, line, .. } = item;
    let scene = &record.scene;
    let nanos = (u128::from(record.ts.as_millis()) * 1_000_000).to_string();
    let mut attributes = vec![
        text("event.id", &record.id()),
        text("portcullis.action", scene.action.as_str()),
        text("portcullis.mode", scene.mode.as_str()),
        json!({ "key": "portcullis.seq", "value": { "intValue": record.seq.to_string() } }),
    ];
    attributes.extend(scene.session.map(|session| text("session.id", &session.to_string())));
    attributes.extend(item.address.as_ref().map(|address| text("client.address", address)));
    attributes.extend(item.subject.as_ref().map(|subject| text("user.name", subject)));
    attributes.extend(scene.rule.as_ref().map(|rule| text("portcullis.rule", rule.as_str())));
    attributes.extend(scene.method.map(|method| text("http.request.method", method)));
    attributes.extend(scene.route.as_ref().map(|route| text("http.route", route)));
    let status = scene
        .status
        .map(|status| json!({ "key": "http.response.status_code", "value": { "intValue": status.to_string() } }));
    attributes.extend(status);
    let mut told = json!({
        "timeUnixNano": nanos,
        "observedTimeUnixNano": nanos,
        "severityNumber": record.severity().otel(),
        "severityText": record.severity().as_str(),
        "eventName": record.event.kind().as_str(),
        "body": { "stringValue": String::from_utf8_lossy(line) },
        "attributes": attributes,
    });
    if let (Some(trace), Some(told)) = (scene.trace, told.as_object_mut()) {
        told.insert("traceId".to_owned(), trace.to_string().into());
    }
    told
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}
