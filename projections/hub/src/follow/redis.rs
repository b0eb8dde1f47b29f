//! Redis or Valkey: the current state of each device as a hash, and a stream of what changes. Everything of one step, with
//! the cursor, is written by one script, which writes nothing if the cursor is not where this process believes it to be.
//!
//! All keys of a gateway have its id as hash tag, so in a cluster they are on one node:
//! - `{prefix}:{gateway}:cursor`, hash: `epoch`, `log`, `arrival`, `generation`, `complete`, `fence`, `mark`
//! - `{prefix}:{gateway}:devices`, set: names of the devices
//! - `{prefix}:{gateway}:device:{device}`, hash: the row of the table `devices`, and for each attribute `value:`, `seq:`
//!   and `changed:` with its name, the value as JSON
//! - `{prefix}:{gateway}:changes`, stream: an entry for each event, with the id `{log}-{arrival}`

use std::collections::HashMap;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, Script,
    ScriptInvocation,
};
use tokio::net::TcpStream;

use super::{Cursor, Fault, Store};
use crate::config::{self, Redis as Settings};
use crate::postgres::{Arrived, DeviceRow, Log, Step};
use crate::tls;

pub(super) const NAME: &str = "redis";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection to one.
pub(super) struct Redis {
    settings: Settings,
    script: Script,
    connection: Option<MultiplexedConnection>,
}

impl Redis {
    pub(super) fn new(settings: Settings) -> Redis {
        Redis { settings, script: Script::new(include_str!("redis/write.lua")), connection: None }
    }

    async fn connect(&mut self) -> Result<MultiplexedConnection, Fault> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let mut info = self.settings.connect.clone();
        if let Some(file) = &self.settings.password_file {
            let secret = config::read_secret(file)
                .map_err(|error| Fault::Failed(format!("`redis.password_file`: {error}")))?;
            let settings = info.redis_settings().clone().set_password(secret);
            info = info.set_redis_settings(settings);
        }
        let opened = match self.settings.tls {
            true => open_with_tls(&self.settings, &info).await,
            false => open(info).await,
        };
        let connection =
            opened.map_err(|why| Fault::Failed(format!("Redis at {}: {why}", self.settings.address)))?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// After an error nothing is known about the connection, nor about what was sent on it.
    fn failed(&mut self, error: &RedisError) -> Fault {
        self.connection = None;
        Fault::Failed(format!("Redis at {}: {error}", self.settings.address))
    }

    fn key(&self, log: &Log, name: &str) -> String {
        format!("{}:{{{}}}:{name}", self.settings.prefix, log.gateway)
    }

    /// Runs the script, which moves the cursor.
    async fn write(
        &mut self,
        log: &Log,
        from: Option<&Cursor>,
        to: Cursor,
        clear: bool,
        events: &[Arrived],
        devices: &[DeviceRow],
    ) -> Result<Cursor, Fault> {
        let mut connection = self.connect().await?;
        let mut call = self.script.prepare_invoke();
        for name in ["cursor", "devices", "changes"] {
            call.key(self.key(log, name));
        }
        for device in devices {
            call.key(self.key(log, &format!("device:{}", device.device)));
        }
        call.arg(log.fence).arg(from.map_or("", |from| &from.mark)).arg(&to.mark).arg(u8::from(clear));
        call.arg(self.settings.ttl_s.unwrap_or(0)).arg(self.settings.changes_max);
        let cursor = [
            ("epoch", to.epoch.clone()),
            ("log", to.log.to_string()),
            ("arrival", to.arrival.to_string()),
            ("generation", to.generation.to_string()),
            ("complete", u8::from(to.is_complete).to_string()),
        ];
        fields(&mut call, &cursor);
        call.arg(events.len());
        for event in events {
            call.arg(format!("{}-{}", log.log, event.arrival));
            fields(&mut call, &event_fields(event));
        }
        for device in devices {
            call.arg(&device.device);
            fields(&mut call, &device_fields(device));
        }
        let answer: Result<(String, String), RedisError> = call.invoke_async(&mut connection).await;
        let (word, number) = answer.map_err(|error| self.failed(&error))?;
        match &*word {
            "written" => Ok(to),
            "fenced" => Err(Fault::Fenced(number.parse().unwrap_or(i64::MAX))),
            _ => Err(Fault::Moved),
        }
    }
}

fn timeouts() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT))
}

async fn open(info: ConnectionInfo) -> Result<MultiplexedConnection, String> {
    let client = Client::open(info).map_err(|error| unopened(&error))?;
    let opened = client.get_multiplexed_async_connection_with_config(&timeouts()).await;
    // A port with TLS hangs up.
    opened.map_err(|error| match error.is_connection_dropped() {
        true => format!("{error}; is it a port with TLS? Then write rediss:// in `redis.address`"),
        false => unopened(&error),
    })
}

/// Why there is no connection, and what to do about it where that is not plain.
fn unopened(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            format!("{error}; check the user in `redis.address` and `redis.password_file`")
        }
        _ => error.to_string(),
    }
}

/// The same with TLS, of which the client knows nothing.
async fn open_with_tls(settings: &Settings, info: &ConnectionInfo) -> Result<MultiplexedConnection, String> {
    let ConnectionAddr::Tcp(host, port) = info.addr() else {
        return Err("`redis.address` is none of TCP".into());
    };
    let opening = async {
        let stream = TcpStream::connect((&**host, *port)).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let stream = tls::connect(stream, host, settings.ca_file.as_deref(), NAME).await?;
        MultiplexedConnection::new_with_config(info.redis_settings(), stream, timeouts())
            .await
            .map_err(|error| unopened(&error))
    };
    // A port without TLS may wait for the end of what it takes for a line.
    let late = |_| format!("no greeting within {} s; {}", CONNECT_TIMEOUT.as_secs(), tls::without_tls(NAME));
    let (connection, driver) = tokio::time::timeout(CONNECT_TIMEOUT, opening).await.map_err(late)??;
    // Ends with the last handle.
    tokio::spawn(driver);
    Ok(connection)
}

impl Store for Redis {
    const NAME: &'static str = NAME;
    const HAS_EVENTS: bool = false;
    // It does one thing after the other itself.
    const LANES: usize = 1;

    async fn cursor(&mut self, log: &Log) -> Result<Option<Cursor>, Fault> {
        let mut connection = self.connect().await?;
        let key = self.key(log, "cursor");
        let found: Result<HashMap<String, String>, RedisError> =
            ::redis::cmd("HGETALL").arg(key).query_async(&mut connection).await;
        let found = found.map_err(|error| self.failed(&error))?;
        let text = |name: &str| found.get(name).cloned().unwrap_or_default();
        // What somebody else has put there is no cursor of ours: it has to begin anew, from that mark.
        Ok((!found.is_empty()).then(|| Cursor {
            generation: text("generation").parse().unwrap_or(-1),
            epoch: text("epoch"),
            log: text("log").parse().unwrap_or(-1),
            arrival: text("arrival").parse().unwrap_or(i64::MAX),
            is_complete: text("complete") == "1",
            mark: text("mark"),
        }))
    }

    async fn begin(&mut self, log: &Log, from: Option<&Cursor>, to: Cursor) -> Result<Cursor, Fault> {
        // The attempts of a process are told apart, and processes by their fencing numbers.
        let mark = format!("begin-{}-{}", log.fence, to.mark);
        self.write(log, from, Cursor { mark, ..to }, true, &[], &[]).await
    }

    async fn page(&mut self, log: &Log, at: &Cursor, devices: &[DeviceRow], _: i64) -> Result<(), Fault> {
        self.write(log, Some(at), at.clone(), false, &[], devices).await.map(|_| ())
    }

    async fn complete(&mut self, log: &Log, from: &Cursor, to: Cursor) -> Result<Cursor, Fault> {
        let mark = mark(&to);
        self.write(log, Some(from), Cursor { mark, ..to }, false, &[], &[]).await
    }

    async fn put(&mut self, log: &Log, from: &Cursor, to: Cursor, step: &Step) -> Result<Cursor, Fault> {
        let mark = mark(&to);
        self.write(log, Some(from), Cursor { mark, ..to }, false, &step.events, &step.devices).await
    }

    fn reduced(&self) -> u64 {
        0
    }
}

fn mark(cursor: &Cursor) -> String {
    format!("{}-{}-{}", cursor.generation, cursor.log, cursor.arrival)
}

/// The count of all names and values, and these.
fn fields(call: &mut ScriptInvocation<'_>, fields: &[(impl AsRef<str>, String)]) {
    call.arg(fields.len() * 2);
    for (name, value) in fields {
        call.arg(name.as_ref()).arg(value);
    }
}

fn event_fields(event: &Arrived) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("seq", event.seq.to_string()),
        ("recorded", event.recorded.clone()),
        ("time", event.time.clone()),
        ("type", event.kind.clone()),
        ("data", event.data.clone()),
    ];
    fields.extend(event.device.clone().map(|device| ("device", device)));
    fields
}

fn device_fields(row: &DeviceRow) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = vec![
        ("seq".into(), row.seq.to_string()),
        ("changed".into(), row.changed.clone()),
        ("retired".into(), row.retired.to_string()),
    ];
    let maybe = [
        ("source", &row.source),
        ("parent", &row.parent),
        ("availability", &row.availability),
        ("availability_since", &row.availability_since),
    ];
    fields.extend(maybe.into_iter().filter_map(|(name, value)| Some((name.into(), value.clone()?))));
    fields.extend(row.description.as_ref().map(|json| ("description".into(), json.get().into())));
    for state in &row.state {
        fields.push((format!("value:{}", state.attribute), state.value.get().into()));
        fields.push((format!("seq:{}", state.attribute), state.seq.to_string()));
        fields.push((format!("changed:{}", state.attribute), state.changed.clone()));
    }
    fields
}
