//! Kafka: a record for each event, which counts as taken when all replicas in sync have it.
//!
//! Records of one session, or else of one client, go to one partition and keep their order. The key says whose they are, and the
//! header `id` names the event for whoever was told of it twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{ClientBuilder, Credentials as Login, SaslConfig};
use rskafka::record::Record;
use rskafka::{BackoffConfig, chrono};

use super::server::{Credentials, Kafka, Mechanism};
use super::transport::{Failure, Item, Receipt, Transport};
use crate::facts::user_agent::stable_hash;

/// Octets of the longest answer that is read.
const ANSWER_MAX: usize = 4 << 20;

/// A way to a topic.
pub(super) struct Produce {
    kafka: Kafka,
    partitions: Vec<Arc<PartitionClient>>,
}

impl Produce {
    pub(super) fn new(kafka: &Kafka) -> Result<Self, String> {
        kafka.servers.tls.connector(&[])?;
        Ok(Self { kafka: kafka.clone(), partitions: Vec::new() })
    }

    async fn connect(&self) -> Result<Vec<Arc<PartitionClient>>, Failure> {
        let Kafka { servers, mechanism, topic, timeout } = &self.kafka;
        let address = |(host, port): &(String, u16)| {
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        };
        // Whoever sends tries again, with pauses.
        let patience = BackoffConfig { deadline: Some(*timeout), ..BackoffConfig::default() };
        let mut builder = ClientBuilder::new(servers.at.iter().map(address).collect())
            .client_id("portcullis")
            .max_message_size(ANSWER_MAX)
            .backoff_config(patience);
        if servers.is_tls {
            builder = builder.tls_config(Arc::new(servers.tls.config(&[]).map_err(Failure::again)?));
        }
        if let Some(Credentials { user: Some(user), secret }) = &servers.credentials {
            let login = Login::new(user.clone(), secret.expose().clone());
            builder = builder.sasl_config(match mechanism {
                Mechanism::ScramSha512 => SaslConfig::ScramSha512(login),
                Mechanism::ScramSha256 => SaslConfig::ScramSha256(login),
                Mechanism::Plain => SaslConfig::Plain(login),
            });
        }
        let client = builder.build().await.map_err(|why| failed(&why))?;
        let topics = client.list_topics().await.map_err(|why| failed(&why))?;
        let found = topics.into_iter().find(|found| found.name == *topic);
        let found =
            found.ok_or_else(|| Failure::again(format!("there is no topic `{topic}`, or it is hidden from us")))?;
        let mut partitions = Vec::new();
        for partition in found.partitions {
            let client = client.partition_client(topic.as_str(), partition, UnknownTopicHandling::Error);
            partitions.push(Arc::new(client.await.map_err(|why| failed(&why))?));
        }
        if partitions.is_empty() { Err(Failure::again(format!("`{topic}` has no partitions"))) } else { Ok(partitions) }
    }
}

fn failed(why: &Error) -> Failure {
    match why {
        Error::ServerError {
            protocol_error: ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge,
            ..
        } => Failure::Refused { why: "it is larger than the topic allows".to_owned() },
        // Without what was sent: that is ours to know.
        Error::ServerError { protocol_error, error_message, .. } => {
            let more = error_message.as_ref().map_or_else(String::new, |more| format!(": {more}"));
            Failure::again(format!("the broker said {protocol_error}{more}"))
        }
        other => Failure::again(other),
    }
}

/// Whose events are to stay in order.
fn key(item: &Item) -> Option<String> {
    let scene = &item.record.scene;
    scene.reference.map(|reference| reference.to_string()).or_else(|| item.address.clone())
}

fn record(item: &Item) -> Record {
    let millis = i64::try_from(item.record.ts.as_millis()).unwrap_or(i64::MAX);
    let headers = [("id", item.record.id()), ("event", item.record.event.kind().to_string())];
    Record {
        key: key(item).map(String::into_bytes),
        value: Some(item.line.clone()),
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect(),
        timestamp: chrono::DateTime::from_timestamp_millis(millis).unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC),
    }
}

impl Transport for Produce {
    async fn send(&mut self, items: &[Item]) -> Result<Receipt, Failure> {
        // Those that failed, or were left in the middle, are not used again.
        let mut partitions = std::mem::take(&mut self.partitions);
        if partitions.is_empty() {
            partitions = self.connect().await?;
        }
        let mut by_partition: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
        for item in items {
            let record = record(item);
            let hash = record.key.as_deref().map_or(0, stable_hash);
            by_partition.entry(hash % partitions.len() as u64).or_default().push(record);
        }
        let mut sending = tokio::task::JoinSet::new();
        for (at, records) in by_partition {
            let partition = usize::try_from(at).ok().and_then(|at| partitions.get(at)).cloned();
            let partition = partition.ok_or_else(|| Failure::again("the partitions changed"))?;
            sending.spawn(async move { partition.produce(records, Compression::NoCompression).await });
        }
        let count = sending.len();
        while let Some(sent) = sending.join_next().await {
            sent.map_err(Failure::again)?.map_err(|why| failed(&why))?;
        }
        self.partitions = partitions;
        Ok(Receipt::Taken(format!("all replicas have {} events in {count} partitions", items.len())))
    }
}
