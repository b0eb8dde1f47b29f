//! What stores that follow the tables read of them.

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_postgres::{Client, Error, IsolationLevel, Transaction};

use super::connect::chain;

/// Events of one step.
const EVENTS_MAX: i64 = 1_000;
/// A step has no more than this of their content, and at least one event.
const BYTES_MAX: usize = 8 << 20;
/// Devices of one page.
const DEVICES_MAX: i64 = 200;
/// Times as RFC 3339 has them.
const TIME: &str = r#"'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"#;

/// A log of a gateway that this process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) gateway: String,
    /// The gateway's fencing number.
    pub(crate) fence: i64,
    pub(crate) log: i32,
    pub(crate) epoch: String,
    /// Arrivals so far.
    pub(crate) events: i64,
    /// Whether it is the gateway's newest.
    pub(crate) is_newest: bool,
}

/// An event, with the number of its arrival.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) arrival: i64,
    pub(crate) seq: i64,
    pub(crate) recorded: String,
    pub(crate) time: String,
    pub(crate) kind: String,
    pub(crate) device: Option<String>,
    pub(crate) data: String,
    /// Whether its log time is plausible, so that it is in a day's partition.
    pub(crate) is_plausible: bool,
}

/// A device as the tables have it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DeviceRow {
    pub(crate) device: String,
    pub(crate) seq: i64,
    pub(crate) changed: String,
    pub(crate) source: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) retired: bool,
    pub(crate) availability: Option<String>,
    pub(crate) availability_since: Option<String>,
    pub(crate) description: Option<Box<RawValue>>,
    pub(crate) state: Vec<StateRow>,
}

/// An attribute of a device.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StateRow {
    pub(crate) attribute: String,
    pub(crate) value: Box<RawValue>,
    pub(crate) number: Option<f64>,
    pub(crate) seq: i64,
    pub(crate) changed: String,
}

/// Some events in the order of their arrival, and the devices that they are about.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) events: Vec<Arrived>,
    /// The last arrival that it has.
    pub(crate) to: i64,
    /// As they were after the arrival `as_of`, which may be later than `to`.
    pub(crate) devices: Vec<DeviceRow>,
    pub(crate) as_of: i64,
}

/// Why the tables cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("PostgreSQL: {}", chain(.0))]
    Sql(#[from] Error),
    #[error("a device in PostgreSQL cannot be read: {0}")]
    Device(#[from] serde_json::Error),
}

/// Takes the gateways that no living process holds, so that what follows them goes on.
pub(crate) async fn adopt(client: &Client, hub: &str) -> Result<u64, Error> {
    let update = "UPDATE gateways SET holder = $1, fence = fence + 1 WHERE gateway IN (
            SELECT g.gateway FROM gateways g
            WHERE NOT EXISTS (SELECT FROM hubs h WHERE h.hub = g.holder AND h.expires > clock_timestamp())
            ORDER BY g.gateway FOR UPDATE SKIP LOCKED)
        AND EXISTS (SELECT FROM hubs h WHERE h.hub = $1 AND h.expires > clock_timestamp())";
    client.execute(update, &[&hub]).await
}

/// The logs of the gateways that this process holds.
pub(crate) async fn led(client: &Client, hub: &str) -> Result<Vec<Log>, Error> {
    let select = "SELECT g.gateway, g.fence, l.log, l.epoch, l.events, l.log = g.log
        FROM gateways g JOIN logs l USING (gateway)
        WHERE g.holder = $1 AND EXISTS (SELECT FROM hubs h WHERE h.hub = $1 AND h.expires > clock_timestamp())
        ORDER BY l.log";
    let rows = client.query(select, &[&hub]).await?;
    let log = |row: &tokio_postgres::Row| Log {
        gateway: row.get(0),
        fence: row.get(1),
        log: row.get(2),
        epoch: row.get(3),
        events: row.get(4),
        is_newest: row.get::<_, Option<bool>>(5) == Some(true),
    };
    Ok(rows.iter().map(log).collect())
}

/// The generation that a store is to have.
pub(crate) async fn generation(client: &Client, store: &str) -> Result<i64, Error> {
    let row = client.query_one("SELECT generation FROM stores WHERE store = $1", &[&store]).await?;
    Ok(row.get(0))
}

/// Makes a store begin anew.
pub(crate) async fn begin_anew(client: &Client, store: &str) -> Result<(), Error> {
    let update = "UPDATE stores SET generation = generation + 1 WHERE store = $1";
    client.execute(update, &[&store]).await.map(|_| ())
}

/// What has arrived after `from`.
pub(crate) async fn step(client: &mut Client, log: i32, from: i64) -> Result<Step, FollowError> {
    let snapshot = Snapshot::begin(client, log).await?;
    let select = format!(
        "SELECT arrival, seq, to_char(recorded, {TIME}), to_char(time, {TIME}), type, device, data::text,
            tableoid <> 'events_other'::regclass
        FROM events WHERE log = $1 AND arrival > $2 ORDER BY arrival LIMIT $3"
    );
    let rows = snapshot.transaction.query(&select, &[&log, &from, &EVENTS_MAX]).await?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    for row in &rows {
        let data: String = row.get(6);
        bytes += data.len();
        if bytes > BYTES_MAX && !events.is_empty() {
            break;
        }
        events.push(Arrived {
            arrival: row.get(0),
            seq: row.get(1),
            recorded: row.get(2),
            time: row.get(3),
            kind: row.get(4),
            device: row.get(5),
            data,
            is_plausible: row.get(7),
        });
    }
    // Arrivals whose events have been deleted since are passed over.
    let is_all = events.len() == rows.len() && rows.len() < EVENTS_MAX as usize;
    let last = events.last().map_or(from, |event| event.arrival);
    let to = if is_all { snapshot.as_of } else { last };
    let mut devices: Vec<&str> = events.iter().filter_map(|event| event.device.as_deref()).collect();
    devices.sort_unstable();
    devices.dedup();
    let devices =
        snapshot.devices("device = ANY($2::text[]) AND device > $3", &devices, "", i64::MAX).await?;
    let as_of = snapshot.as_of;
    snapshot.transaction.commit().await?;
    Ok(Step { events, to, devices, as_of })
}

/// The tables as they are at one moment.
pub(crate) struct Snapshot<'a> {
    transaction: Transaction<'a>,
    log: i32,
    /// The newest arrival.
    pub(crate) as_of: i64,
}

impl Snapshot<'_> {
    /// Begins one of a log.
    pub(crate) async fn begin(client: &mut Client, log: i32) -> Result<Snapshot<'_>, FollowError> {
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let row = transaction.query_one("SELECT events FROM logs WHERE log = $1", &[&log]).await?;
        Ok(Snapshot { transaction, log, as_of: row.get(0) })
    }

    /// Some devices after this one, in order of their names.
    pub(crate) async fn page(&self, after: &str) -> Result<Vec<DeviceRow>, FollowError> {
        self.devices("$2::text[] IS NOT NULL AND device > $3", &[], after, DEVICES_MAX).await
    }

    async fn devices(
        &self,
        which: &str,
        names: &[&str],
        after: &str,
        limit: i64,
    ) -> Result<Vec<DeviceRow>, FollowError> {
        let select = format!(
            "SELECT json_build_object('device', d.device, 'seq', d.seq, 'changed', to_char(d.changed, {TIME}),
                'source', d.source, 'parent', d.parent, 'retired', d.retired, 'availability', d.availability,
                'availability_since', to_char(d.availability_since, {TIME}),
                'description', (SELECT m.description FROM merged_descriptions m
                    WHERE m.log = d.log AND m.device = d.device AND m.attribute = ''),
                'state', coalesce((SELECT json_agg(json_build_object('attribute', s.attribute, 'value', s.value,
                        'number', s.number, 'seq', s.seq, 'changed', to_char(s.changed, {TIME})))
                    FROM device_state s WHERE s.log = d.log AND s.device = d.device), '[]'))::text
            FROM devices d WHERE log = $1 AND {which} ORDER BY device LIMIT $4"
        );
        let rows = self.transaction.query(&select, &[&self.log, &names, &after, &limit]).await?;
        rows.iter().map(|row| Ok(serde_json::from_str(row.get(0))?)).collect()
    }
}
