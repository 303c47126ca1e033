//! Kafka: a record for each event, which counts as taken when all replicas in sync have it.
//!
//! Records of one session, or else of one client, go to one partition and keep their order. The key says whose they are, and the
//! header `id` names the event for whoever was told of it twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials as Login, SaslConfig};
use rskafka::record::Record;
use rskafka::{BackoffConfig, chrono};

use super::aside::Aside;
use super::server::{Credentials, Kafka, Mechanism};
use super::transport::{Failure, Item, Receipt, Transport, plainly};
use crate::facts::user_agent::stable_hash;

/// Octets of the longest answer that is read.
const ANSWER_MAX: usize = 4 << 20;

/// A way to a topic.
pub(super) struct Produce {
    kafka: Arc<Kafka>,
    open: Option<Open>,
}

struct Open {
    cluster: Arc<Cluster>,
    aside: Aside,
}

/// The brokers, and those partitions that something was sent to.
struct Cluster {
    kafka: Arc<Kafka>,
    client: Client,
    /// The numbers of all partitions, in order.
    partitions: Vec<i32>,
    reached: Mutex<BTreeMap<i32, Arc<PartitionClient>>>,
}

impl Produce {
    pub(super) fn new(kafka: &Kafka) -> Result<Self, String> {
        if kafka.servers.is_tls {
            kafka.servers.tls.connector(&[])?;
        }
        Ok(Self { kafka: Arc::new(kafka.clone()), open: None })
    }

    async fn connect(&self) -> Result<Open, Failure> {
        let (aside, kafka) = (Aside::new()?, self.kafka.clone());
        let cluster = aside.run(Cluster::connect(kafka)).await?;
        Ok(Open { cluster: Arc::new(cluster), aside })
    }
}

impl Cluster {
    async fn connect(kafka: Arc<Kafka>) -> Result<Self, Failure> {
        let Kafka { servers, mechanism, topic, timeout } = &*kafka;
        let address = |(host, port): &(String, u16)| {
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        };
        // Of the time that there is some is left for telling why.
        let patience = BackoffConfig { deadline: Some(*timeout / 2), ..BackoffConfig::default() };
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
        let partitions: Vec<_> = found.partitions.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        if partitions.is_empty() {
            return Err(Failure::again(format!("`{topic}` has no partitions")));
        }
        Ok(Self { kafka, client, partitions, reached: Mutex::default() })
    }

    /// Where records with that key go.
    fn partition_of(&self, key: Option<&[u8]>) -> i32 {
        let at = key.map_or(0, stable_hash) % (self.partitions.len() as u64).max(1);
        usize::try_from(at).ok().and_then(|at| self.partitions.get(at)).copied().unwrap_or_default()
    }

    async fn produce(&self, partition: i32, records: Vec<Record>) -> Result<(), Failure> {
        let known = self.reached.lock().get(&partition).cloned();
        let way = match known {
            Some(way) => way,
            None => {
                let topic = self.kafka.topic.as_str();
                let way = self.client.partition_client(topic, partition, UnknownTopicHandling::Error).await;
                let way = Arc::new(way.map_err(|why| failed(&why))?);
                self.reached.lock().insert(partition, way.clone());
                way
            }
        };
        way.produce(records, Compression::NoCompression).await.map_err(|why| failed(&why)).map(drop)
    }

    /// Sends each partition its records, to all of them at the same time.
    async fn send(self: Arc<Self>, records: Vec<Record>) -> Result<usize, Failure> {
        let mut by_partition: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        for record in records {
            by_partition.entry(self.partition_of(record.key.as_deref())).or_default().push(record);
        }
        let mut sending = tokio::task::JoinSet::new();
        for (partition, records) in by_partition {
            let cluster = self.clone();
            sending.spawn(async move { cluster.produce(partition, records).await });
        }
        let count = sending.len();
        while let Some(sent) = sending.join_next().await {
            sent.map_err(|why| Failure::again(plainly(why.to_string())))??;
        }
        Ok(count)
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
            let more = error_message.as_ref().map_or_else(String::new, |more| format!(": {}", plainly(more)));
            Failure::again(format!("the broker said {protocol_error}{more}"))
        }
        other => Failure::again(plainly(other.to_string())),
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
        // One that failed, or was left in the middle, is not used again.
        let open = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let records = items.iter().map(record).collect();
        let count = open.aside.run(open.cluster.clone().send(records)).await?;
        self.open = Some(open);
        Ok(Receipt::Taken(format!("all replicas in sync have {} events in {count} partitions", items.len())))
    }
}
