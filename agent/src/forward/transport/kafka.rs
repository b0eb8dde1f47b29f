//! Kafka sinks: one record per event, keyed by device, with the partitioner of the Java client, so that the events of a
//! device stay in order and share a partition with other producers' records of the same key.
//!
//! Each record has the manifest of its parcel in its headers; a parcel without events is one record with an empty
//! value. `FORMAT.md` says what a consumer does with them.
//!
//! A parcel is acknowledged when all in-sync replicas of all its partitions have its records (`acks=all`). The client
//! has no idempotent producer: after a lost answer, or if only some partitions have accepted their part, the parcel is
//! sent again. Delivery is at-least-once; the header `ce_id` identifies duplicates.

mod failure;
mod partition;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fieldlog_projections::Time;
use fieldlog_wire::Manifest;
use rskafka::BackoffConfig;
use rskafka::chrono::{DateTime, Utc};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use rskafka::record::Record;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config::{KafkaSink, SaslMechanism};
use crate::forward::queue::{Jobs, Queue};
use crate::forward::transport::Target;
use crate::forward::{Item, Outcome, Pace, Parcel, SLOW, Transport, Unreachable};
use crate::net::secret;
use crate::net::tls::client_config;
use crate::sorted;

/// Address and settings. `connect_timeout` covers connecting and querying the topic together; `answer_timeout` the time
/// from sending a parcel to its acknowledgement by all partitions.
pub type KafkaTarget = Target<KafkaSink>;

/// A connection to a cluster.
pub struct Kafka {
    queue: Queue,
}

impl KafkaTarget {
    /// Connects and finds the partitions.
    pub async fn open(&self) -> Result<Kafka, Unreachable> {
        let late = |_| Unreachable {
            why: format!(
                "{}: no answer within {} s (see `connect_timeout_s`)",
                self.name(),
                self.connect_timeout.as_secs_f32()
            ),
            pace: Pace::Unreached,
        };
        let partitions = timeout(self.connect_timeout, self.connect()).await.map_err(late)??;
        let producer = Producer { target: self.clone(), partitions };
        Ok(Kafka { queue: Queue::start(|jobs| producer.serve(jobs)) })
    }

    async fn connect(&self) -> Result<Vec<Arc<PartitionClient>>, Unreachable> {
        let client = self.client().await?;
        let failed = |error: rskafka::client::error::Error| failure::connect(&self.name(), &error);
        let topics = client.list_topics().await.map_err(failed)?;
        let Some(topic) = topics.into_iter().find(|topic| topic.name == self.sink.topic) else {
            let why = format!(
                "{}: there is no topic `{}`, or this user may not see it: create it, or check `kafka_topic`",
                self.name(),
                self.sink.topic
            );
            return Err(Unreachable { why, pace: Pace::Slow });
        };
        let mut partitions = Vec::new();
        for partition in topic.partitions {
            let opening = client.partition_client(&self.sink.topic, partition, UnknownTopicHandling::Error);
            partitions.push(Arc::new(opening.await.map_err(failed)?));
        }
        Ok(partitions)
    }

    async fn client(&self) -> Result<Client, Unreachable> {
        let bad = |why: String| Unreachable { why: format!("{}: {why}", self.name()), pace: Pace::Slow };
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
            // Total of the pauses, without the attempts: enough for a leader that has just changed. The driver does
            // longer waits; with more attempts, `connect_timeout` would end them and hide the error.
            deadline: Some(Duration::from_millis(500)),
        };
        let mut builder = ClientBuilder::new(self.sink.hosts()).client_id("fieldlog").backoff_config(backoff);
        if self.sink.is_tls() {
            let config = client_config(&self.sink.tls).map_err(|error| bad(error.to_string()))?;
            builder = builder.tls_config(Arc::new(config));
        }
        if let (Some(username), Some(file)) = (&self.sink.username, &self.sink.password_file) {
            let password = secret::read("password_file", file).map_err(|error| bad(error.to_string()))?;
            let credentials = Credentials::new(username.clone(), password);
            builder = builder.sasl_config(match self.sink.sasl {
                SaslMechanism::Plain => SaslConfig::Plain(credentials),
                SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
                SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
            });
        }
        builder.build().await.map_err(|error| failure::connect(&self.name(), &error))
    }

    fn name(&self) -> String {
        format!("kafka {}", self.sink.hosts().join(","))
    }
}

/// The connection's task: produces the records of one parcel after the other.
struct Producer {
    target: KafkaTarget,
    partitions: Vec<Arc<PartitionClient>>,
}

impl Producer {
    async fn serve(self, mut jobs: Jobs) {
        while let Some(job) = jobs.incoming.recv().await {
            let limit = self.target.answer_timeout;
            let late = |_| Outcome::Lost {
                why: format!(
                    "{}: not acknowledged within {} s (see `answer_timeout_s`)",
                    self.target.name(),
                    limit.as_secs_f32()
                ),
            };
            let outcome = timeout(limit, self.send(&job.parcel)).await.unwrap_or_else(late);
            if let Outcome::Lost { why } = outcome {
                return jobs.lose(why);
            }
            // The driver may have given up on it.
            let _ = job.reply.send(outcome);
        }
    }

    async fn send(&self, parcel: &Parcel) -> Outcome {
        if !parcel.compact.is_empty() {
            let why =
                format!("{}: Kafka takes events one by one; set `format = \"json\"`", self.target.name());
            return Outcome::Busy { after: Some(SLOW), why };
        }
        let mut producing = JoinSet::new();
        for (partition, records) in self.distribute(parcel) {
            let partition = Arc::clone(&self.partitions[partition]);
            producing.spawn(async move { partition.produce(records, Compression::Gzip).await });
        }
        let mut worst = Outcome::Acked;
        while let Some(produced) = producing.join_next().await {
            let outcome = match produced {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => failure::produce(&self.target.name(), &self.target.sink.topic, &error),
                Err(error) => Outcome::Lost { why: format!("{}: {error}", self.target.name()) },
            };
            worst = failure::worse(worst, outcome);
        }
        worst
    }

    /// The records of each partition, in order.
    fn distribute(&self, parcel: &Parcel) -> BTreeMap<usize, Vec<Record>> {
        let records = if parcel.items.is_empty() { vec![coverage(parcel)] } else { events(parcel) };
        let mut distributed: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        for record in records {
            let partition = partition::of(record.key.as_deref(), self.partitions.len());
            distributed.entry(partition).or_default().push(record);
        }
        distributed
    }
}

/// One record for each event.
fn events(parcel: &Parcel) -> Vec<Record> {
    let manifest = &parcel.manifest;
    let mut common = headers(manifest);
    common.insert("content-type".to_owned(), b"application/cloudevents+json".to_vec());
    let timestamp = timestamp(parcel.oldest);
    let record = |item: &Item| {
        let mut headers = common.clone();
        let id = format!("{}/{}/{}", manifest.gateway, manifest.epoch, item.seq);
        headers.insert("ce_id".to_owned(), id.into_bytes());
        let key = item.device.as_ref().map(|device| device.as_bytes().to_vec());
        Record { key, value: Some(item.json.to_vec()), headers, timestamp }
    };
    parcel.items.iter().map(record).collect()
}

/// Stands for a parcel without events, so that a consumer can distinguish filtered positions from missing ones. The key
/// keeps those of a gateway in one partition. The value is empty rather than null, which would delete in a compacted
/// topic.
fn coverage(parcel: &Parcel) -> Record {
    let manifest = &parcel.manifest;
    Record {
        key: Some(manifest.gateway.as_bytes().to_vec()),
        value: Some(Vec::new()),
        headers: headers(manifest),
        // No event gives it a time, and a broker deletes or refuses records from 1970.
        timestamp: timestamp(Clock::system().wall()),
    }
}

fn headers(manifest: &Manifest) -> BTreeMap<String, Vec<u8>> {
    let fields = manifest.fields().into_iter();
    sorted::map(fields.map(|(name, value)| (format!("fieldlog-{name}"), value.into_bytes())))
}

fn timestamp(time: Time) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.0).unwrap_or_default()
}

impl Transport for Kafka {
    fn send(&mut self, parcel: Arc<Parcel>) -> impl Future<Output = Outcome> + Send + 'static {
        self.queue.send(parcel)
    }

    /// The client opens connections on demand; with nothing in flight, nothing can be lost.
    fn lost(&mut self) -> impl Future<Output = String> + Send {
        self.queue.lost()
    }

    fn close(self) -> impl Future<Output = ()> + Send {
        self.queue.close()
    }
}

#[cfg(test)]
mod tests;
