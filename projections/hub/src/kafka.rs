//! Parcels from Kafka. The events of a parcel lie in several partitions, as each has the key of its device; so one
//! process reads all partitions of a topic, and topics are divided among the processes that are alive.
//!
//! How far a topic is stored is noted in PostgreSQL: no further than the first record of a parcel that is not. So what a
//! process was at when it died comes again, and the account of its log knows what of it is there.

mod assemble;
mod connect;

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fieldlog_projections::Epoch;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{OffsetAt, PartitionClient};
use rskafka::record::RecordAndOffset;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::config::{Kafka, Postgres};
use crate::parcel::Parcel;
use crate::postgres::{Link, Place, chain, is_stored, note_offsets, take_partitions};
use crate::source::{self, Ended, Fate, Parts, Standing};
use assemble::{Assembler, Record, Whole};

/// Bytes of one answer of a partition, compressed; a record that is larger comes alone.
const FETCH_BYTES: i32 = 256 * 1024;
/// How long a broker waits for a first record.
const WAIT_MS: i32 = 500;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// With more records still to be read, what is missing is probably among them.
const BEHIND: i64 = 1_000;
/// Nothing is fetched while so many parcels are being stored.
const AT_ONCE: usize = 64;
/// Bytes of parcels that are not whole; beyond, only partitions that are behind are read.
const INCOMPLETE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A parcel that could not be stored is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);
const NOTE_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A parcel that is not whole after this time, with all partitions read, is given up: four times as long as a sink may
/// wait for the answers to its records.
const GIVE_UP: Duration = Duration::from_secs(2_400);

/// Consumes until `stopped`, and connects again as needed.
pub(crate) async fn serve(kafka: Kafka, postgres: Postgres, parts: Parts, stopped: watch::Receiver<bool>) {
    let name = format!("{}, topic {}", kafka.address, kafka.topic);
    let run = || async {
        let Err(why) = share(&kafka, &postgres, &name, &parts).await;
        why
    };
    source::keep(&name, &parts, stopped, run).await;
}

/// Reads the topic whenever it is this process's.
async fn share(kafka: &Kafka, postgres: &Postgres, name: &str, parts: &Parts) -> Result<Infallible, Ended> {
    let share = format!("kafka {}", kafka.topic);
    loop {
        parts.wait_turn(name, &share).await;
        let mut reader = Reader::open(kafka, postgres, name, parts).await?;
        tokio::select! {
            ended = reader.read() => {
                let Err(why) = ended;
                return Err(why);
            }
            () = parts.wait_mine(&share, false) => {
                parts.standings.set(name, Standing::wait);
                tracing::info!("{name}: another hub reads it from now on");
            }
        };
    }
}

/// What a fetch has led to.
enum Fetched {
    Records {
        records: Vec<RecordAndOffset>,
        /// The offset behind the last record that there is.
        end: i64,
    },
    /// There is nothing at this offset; the topic begins at another one.
    Elsewhere { earliest: i64 },
}

/// A process that reads a topic.
struct Reader<'a> {
    kafka: &'a Kafka,
    name: &'a str,
    parts: &'a Parts,
    /// Where offsets are noted, and the name under which.
    link: Link,
    hub: Arc<str>,
    partitions: Vec<Partition>,
    assembler: Assembler,
    fetching: JoinSet<(usize, Result<Fetched, String>)>,
    storing: JoinSet<(Whole, Option<String>)>,
    /// Logs of which it was said that they are stopped.
    stopped: HashSet<(Arc<str>, Epoch)>,
}

struct Partition {
    client: Arc<PartitionClient>,
    /// As it is noted.
    place: Place,
    is_fetching: bool,
    /// Whether the last fetch found nothing.
    at_end: bool,
    end: i64,
}

impl<'a> Reader<'a> {
    /// Connects, and takes the partitions.
    async fn open(
        kafka: &'a Kafka,
        postgres: &Postgres,
        name: &'a str,
        parts: &'a Parts,
    ) -> Result<Reader<'a>, Ended> {
        let hub = parts.hub.borrow().clone().ok_or("this process has no lease in PostgreSQL")?;
        let clients = connect::partitions(kafka).await?;
        let link = Link::open(postgres, parts.lease).await?;
        let numbers: Vec<i32> = clients.iter().map(|client| client.partition()).collect();
        let places = take_partitions(&link.client, &hub, &kafka.topic, &numbers).await;
        let mut places = places.map_err(|error| chain(&error))?;
        places.sort_by_key(|place| place.partition);
        let assembler = Assembler::new(places.iter().map(|place| place.next));
        let partition =
            |(client, place)| Partition { client, place, is_fetching: false, at_end: false, end: 0 };
        let partitions: Vec<Partition> = clients.into_iter().zip(places).map(partition).collect();
        tracing::info!("{name}: this hub reads its {} partitions", partitions.len());
        parts.standings.set(name, Standing::read);
        let (fetching, storing) = (JoinSet::new(), JoinSet::new());
        let stopped = HashSet::new();
        Ok(Reader { kafka, name, parts, link, hub, partitions, assembler, fetching, storing, stopped })
    }

    async fn read(&mut self) -> Result<Infallible, Ended> {
        let mut note = interval(NOTE_EVERY);
        note.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.fetch();
            tokio::select! {
                Some(fetched) = self.fetching.join_next() => {
                    let (partition, fetched) = fetched?;
                    self.take(partition, fetched?)?;
                }
                Some(stored) = self.storing.join_next() => {
                    let (whole, stopped) = stored?;
                    self.settle(&whole, stopped);
                }
                _ = note.tick() => self.note().await?,
                _ = look.tick() => self.look().await?,
            }
        }
    }

    /// Asks the partitions for more, unless there is enough to do.
    fn fetch(&mut self) {
        if self.storing.len() >= AT_ONCE {
            return;
        }
        let over = self.assembler.bytes() > INCOMPLETE_BYTES_MAX;
        let wanted = |assembler: &Assembler, at: usize| !over || assembler.is_behind(at);
        if over
            && (0..self.partitions.len()).all(|at| !wanted(&self.assembler, at) || self.partitions[at].at_end)
        {
            self.make_room();
        }
        for at in 0..self.partitions.len() {
            let partition = &mut self.partitions[at];
            if !partition.is_fetching && wanted(&self.assembler, at) {
                partition.is_fetching = true;
                let (client, offset) = (partition.client.clone(), self.assembler.next(at));
                self.fetching.spawn(async move { (at, fetch(&client, offset).await) });
            }
        }
    }

    /// Gives up the oldest parcels, whose missing records are nowhere.
    fn make_room(&mut self) {
        for incomplete in self.assembler.older_than(Duration::ZERO, Instant::now()) {
            if self.assembler.bytes() <= INCOMPLETE_BYTES_MAX / 2 {
                return;
            }
            self.give_up(&incomplete);
        }
    }

    fn give_up(&mut self, incomplete: &assemble::Incomplete) {
        let manifest = &incomplete.manifest;
        tracing::error!(
            "{}: of the events {} to {} of gateway {} epoch {} only {} of {} are in the topic; they are passed over, and \
             show as a gap",
            self.name,
            manifest.first,
            manifest.last,
            manifest.gateway,
            manifest.epoch,
            incomplete.found,
            manifest.events
        );
        self.assembler.give_up(incomplete);
    }

    /// Takes the records of a fetch.
    fn take(&mut self, at: usize, fetched: Fetched) -> Result<(), Ended> {
        let partition = &mut self.partitions[at];
        partition.is_fetching = false;
        let (records, end) = match fetched {
            Fetched::Records { records, end } => (records, end),
            Fetched::Elsewhere { earliest } => return self.elsewhere(at, earliest),
        };
        partition.at_end = records.is_empty();
        partition.end = end;
        let now = Instant::now();
        for RecordAndOffset { record, offset } in records {
            let value = record.value.unwrap_or_default();
            match self.assembler.add(Record { partition: at, offset, headers: &record.headers }, value, now) {
                Ok(Some(whole)) => {
                    let (parts, name) = (self.parts.clone(), self.name.to_owned());
                    self.storing.spawn(store(whole, parts, name, end - offset > BEHIND));
                }
                Ok(None) => {}
                Err(why) => self.parts.no_parcel(self.name, &why),
            }
        }
        Ok(())
    }

    fn elsewhere(&mut self, at: usize, earliest: i64) -> Result<(), Ended> {
        let (next, number) = (self.assembler.next(at), self.partitions[at].place.partition);
        if earliest > next {
            tracing::error!(
                "{}: the records {next} to {} of partition {number} are gone, as the topic keeps records for too short a time; \
                 what they had shows as gaps",
                self.name,
                earliest - 1
            );
        } else if earliest < next {
            tracing::warn!(
                "{}: partition {number} ends before offset {next}, where reading was to go on: it was made anew, or has lost its \
                 end; it is read from its beginning",
                self.name
            );
        } else {
            return Err(format!("partition {number} has nothing at {next}, where it begins").into());
        }
        self.assembler.skip_to(at, earliest);
        Ok(())
    }

    fn settle(&mut self, whole: &Whole, stopped: Option<String>) {
        self.assembler.done(whole);
        let Some(why) = stopped else { return };
        let log = (whole.manifest.gateway.clone(), whole.manifest.epoch);
        if self.stopped.insert(log) {
            tracing::error!(
                "{}: gateway {} epoch {} is passed over: {why}. After `resume`, what was passed over shows as a gap",
                self.name,
                whole.manifest.gateway,
                whole.manifest.epoch
            );
        }
    }

    /// Notes how far the topic is stored.
    async fn note(&mut self) -> Result<(), Ended> {
        let lag =
            self.partitions.iter().enumerate().map(|(at, partition)| partition.end - self.assembler.next(at));
        let (lag, incomplete) = (lag.map(|lag| lag.max(0) as u64).sum(), self.assembler.incomplete() as u64);
        self.parts.standings.set(self.name, |standing| {
            (standing.lag_records, standing.incomplete) = (Some(lag), Some(incomplete));
        });
        let mut moved = Vec::new();
        for (at, partition) in self.partitions.iter_mut().enumerate() {
            let next = self.assembler.stored(at);
            if partition.place.next != next {
                partition.place.next = next;
                moved.push(partition.place);
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        let noted = note_offsets(&self.link.client, &self.hub, &self.kafka.topic, &moved).await;
        match noted.map_err(|error| chain(&error))? {
            true => Ok(()),
            false => Err("this process has lost it to another hub, or its own lease".into()),
        }
    }

    /// Looks which parcels that are not whole need not be any more, because others have brought their events.
    async fn look(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        let at_end = self.partitions.iter().all(|partition| partition.at_end);
        for incomplete in self.assembler.older_than(LOOK_EVERY, now) {
            let manifest = &incomplete.manifest;
            let range = (manifest.first, manifest.last);
            let stored = is_stored(&self.link.client, &manifest.gateway, manifest.epoch, range).await;
            if stored.map_err(|error| chain(&error))? {
                self.assembler.give_up(&incomplete);
            } else if at_end && incomplete.age(now) >= GIVE_UP {
                self.give_up(&incomplete);
            }
        }
        Ok(())
    }
}

/// Stores a parcel; says why if its log is stopped.
async fn store(whole: Whole, parts: Parts, name: String, is_behind: bool) -> (Whole, Option<String>) {
    loop {
        let (body, fields) = (whole.body.clone(), whole.manifest.fields());
        let read = move || {
            let field = |name: &str| fields.iter().find(|(field, _)| *field == name);
            Parcel::read(&body, |name| field(name).map(|(_, text)| &**text))
        };
        match parts.store(whole.body.len(), &name, is_behind, read).await {
            Fate::Done => return (whole, None),
            Fate::Stopped(why) => return (whole, Some(why)),
            Fate::Again => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn fetch(client: &PartitionClient, offset: i64) -> Result<Fetched, String> {
    let late =
        |_| format!("partition {} does not answer within {} s", client.partition(), ANSWER_TIMEOUT.as_secs());
    let fetching = timeout(ANSWER_TIMEOUT, client.fetch_records(offset, 1..FETCH_BYTES, WAIT_MS));
    match fetching.await.map_err(late)? {
        Ok((records, end)) => Ok(Fetched::Records { records, end }),
        Err(Error::ServerError { protocol_error: ProtocolError::OffsetOutOfRange, .. }) => {
            let asking = timeout(ANSWER_TIMEOUT, client.get_offset(OffsetAt::Earliest));
            let earliest = asking.await.map_err(late)?.map_err(|error| connect::words(&error))?;
            Ok(Fetched::Elsewhere { earliest })
        }
        Err(error) => Err(connect::words(&error)),
    }
}
