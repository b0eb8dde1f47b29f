//! The changes of a batch as columns, one array each: a statement puts a whole batch into a table.

use jiff::Timestamp;
use tokio_postgres::{Client, Error, Statement, Transaction};

use crate::changes::Changes;
use crate::text;

/// Changes, by the numbers of their logs.
pub(super) type ByLog<'a> = &'a [(i32, &'a Changes)];

/// Generates a struct with a column for each field; `log` is one of them.
macro_rules! columns {
    ($name:ident<$life:lifetime> { $($column:ident: $kind:ty,)* }) => {
        #[derive(Default)]
        struct $name<$life> { $($column: Vec<$kind>,)* }

        impl<$life> $name<$life> {
            #[allow(clippy::too_many_arguments)] // one for each column
            fn push(&mut self, $($column: $kind,)*) {
                $(self.$column.push($column);)*
            }

            /// Runs the statement with the columns, in their order, as its parameters.
            async fn write(&self, transaction: &Transaction<'_>, statement: &Statement) -> Result<(), Error> {
                if self.log.is_empty() {
                    return Ok(());
                }
                transaction.execute(statement, &[$(&self.$column),*]).await.map(|_| ())
            }
        }
    };
}

columns! { States<'a> {
    log: i32,
    device: &'a str,
    attribute: &'a str,
    value: &'a str,
    number: Option<f64>,
    seq: i64,
    changed: Timestamp,
}}

const STATES: &str = "
    INSERT INTO device_state AS t (log, device, attribute, value, number, seq, changed)
    SELECT log, device, attribute, value::jsonb, number, seq, changed
    FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::int8[], $7::timestamptz[])
        AS u (log, device, attribute, value, number, seq, changed)
    ON CONFLICT (log, device, attribute) DO UPDATE
    SET value = excluded.value, number = excluded.number, seq = excluded.seq, changed = excluded.changed
    WHERE excluded.seq > t.seq";

columns! { Devices<'a> {
    log: i32,
    device: &'a str,
    seq: i64,
    changed: Timestamp,
    source: Option<&'a str>,
    parent: Option<&'a str>,
    retired: bool,
    found_seq: i64,
    availability: Option<&'a str>,
    availability_since: Option<Timestamp>,
    availability_seq: i64,
}}

const DEVICES: &str = "
    INSERT INTO devices AS t (log, device, seq, changed, source, parent, retired, found_seq,
        availability, availability_since, availability_seq)
    SELECT * FROM unnest($1::int4[], $2::text[], $3::int8[], $4::timestamptz[], $5::text[], $6::text[], $7::bool[],
        $8::int8[], $9::text[], $10::timestamptz[], $11::int8[])
    ON CONFLICT (log, device) DO UPDATE SET
        seq = greatest(t.seq, excluded.seq),
        changed = CASE WHEN excluded.seq > t.seq THEN excluded.changed ELSE t.changed END,
        (source, parent) = (SELECT p.source, p.parent
            FROM (VALUES (t.source, t.parent, t.found_seq), (excluded.source, excluded.parent, excluded.found_seq))
                AS p (source, parent, at)
            ORDER BY p.source IS NULL, p.at DESC LIMIT 1),
        retired = CASE WHEN excluded.found_seq > t.found_seq THEN excluded.retired ELSE t.retired END,
        found_seq = greatest(t.found_seq, excluded.found_seq),
        availability = CASE WHEN excluded.availability_seq > t.availability_seq
            THEN excluded.availability ELSE t.availability END,
        availability_since = CASE WHEN excluded.availability_seq > t.availability_seq
            THEN excluded.availability_since ELSE t.availability_since END,
        availability_seq = greatest(t.availability_seq, excluded.availability_seq)";

columns! { Descriptions<'a> {
    log: i32,
    device: &'a str,
    attribute: &'a str,
    said_by: &'a str,
    description: &'a str,
    seq: i64,
}}

const DESCRIPTIONS: &str = "
    INSERT INTO descriptions AS t (log, device, attribute, said_by, description, seq)
    SELECT log, device, attribute, said_by, description::jsonb, seq
    FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int8[])
        AS u (log, device, attribute, said_by, description, seq)
    ON CONFLICT (log, device, attribute, said_by) DO UPDATE SET description = excluded.description, seq = excluded.seq
    WHERE excluded.seq > t.seq";

columns! { Windows<'a> {
    log: i32,
    device: &'a str,
    attribute: &'a str,
    length_s: i32,
    start: Timestamp,
    count: i64,
    min: f64,
    max: f64,
    sum: f64,
    last: f64,
    last_seq: i64,
}}

const WINDOWS: &str = "
    INSERT INTO aggregates AS t (log, device, attribute, length_s, start, count, min, max, sum, last, last_seq)
    SELECT * FROM unnest($1::int4[], $2::text[], $3::text[], $4::int4[], $5::timestamptz[], $6::int8[], $7::float8[],
        $8::float8[], $9::float8[], $10::float8[], $11::int8[])
    ON CONFLICT (log, device, attribute, length_s, start) DO UPDATE SET
        count = t.count + excluded.count, min = least(t.min, excluded.min), max = greatest(t.max, excluded.max),
        sum = t.sum + excluded.sum,
        last = CASE WHEN excluded.last_seq > t.last_seq THEN excluded.last ELSE t.last END,
        last_seq = greatest(t.last_seq, excluded.last_seq)";

columns! { Commands<'a> {
    log: i32,
    command: i64,
    device: Option<&'a str>,
    request: Option<&'a str>,
    requested: Option<Timestamp>,
    state: &'a str,
    step: &'a str,
    seq: i64,
    changed: Timestamp,
}}

const COMMANDS: &str = "
    INSERT INTO commands AS t (log, command, device, request, requested, state, step, seq, changed)
    SELECT log, command, device, request::json, requested, state, step::json, seq, changed
    FROM unnest($1::int4[], $2::int8[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::int8[],
        $9::timestamptz[]) AS u (log, command, device, request, requested, state, step, seq, changed)
    ON CONFLICT (log, command) DO UPDATE SET
        device = coalesce(t.device, excluded.device), request = coalesce(t.request, excluded.request),
        requested = coalesce(t.requested, excluded.requested),
        state = CASE WHEN excluded.seq > t.seq THEN excluded.state ELSE t.state END,
        step = CASE WHEN excluded.seq > t.seq THEN excluded.step ELSE t.step END,
        changed = CASE WHEN excluded.seq > t.seq THEN excluded.changed ELSE t.changed END,
        seq = greatest(t.seq, excluded.seq)";

/// The statements of a connection.
pub(crate) struct Statements {
    devices: Statement,
    descriptions: Statement,
    states: Statement,
    windows: Statement,
    commands: Statement,
}

impl Statements {
    /// Prepares them.
    pub(crate) async fn prepare(client: &Client) -> Result<Statements, Error> {
        Ok(Statements {
            devices: client.prepare(DEVICES).await?,
            descriptions: client.prepare(DESCRIPTIONS).await?,
            states: client.prepare(STATES).await?,
            windows: client.prepare(WINDOWS).await?,
            commands: client.prepare(COMMANDS).await?,
        })
    }
}

/// Merges the changes into the read models.
pub(super) async fn merge(
    transaction: &Transaction<'_>,
    statements: &Statements,
    changes: ByLog<'_>,
) -> Result<(), Error> {
    tokio::try_join!(
        devices(transaction, &statements.devices, changes),
        descriptions(transaction, &statements.descriptions, changes),
        states(transaction, &statements.states, changes),
        windows(transaction, &statements.windows, changes),
        commands(transaction, &statements.commands, changes),
    )
    .map(|_| ())
}

async fn devices(
    transaction: &Transaction<'_>,
    statement: &Statement,
    changes: ByLog<'_>,
) -> Result<(), Error> {
    let mut c = Devices::default();
    for (log, changes) in changes {
        for (id, device) in &changes.devices {
            let Some((seq, changed)) = device.changed else { continue };
            let (found, available) = (device.found.as_ref(), device.available.as_ref());
            let place = found.and_then(|found| found.place.as_ref());
            c.push(
                *log,
                id,
                seq.0 as i64,
                text::time(changed),
                place.map(|(source, _)| source.as_str()),
                place.and_then(|(_, parent)| parent.as_deref()),
                found.is_some_and(|found| found.retired),
                found.map_or(0, |found| found.seq.0 as i64),
                available.map(|available| available.availability.as_str()),
                available.map(|available| text::time(available.since)),
                available.map_or(0, |available| available.seq.0 as i64),
            );
        }
    }
    c.write(transaction, statement).await
}

async fn descriptions(
    transaction: &Transaction<'_>,
    statement: &Statement,
    changes: ByLog<'_>,
) -> Result<(), Error> {
    let mut c = Descriptions::default();
    for (log, changes) in changes {
        for (id, device) in &changes.devices {
            for ((attribute, by), described) in &device.described {
                c.push(*log, id, attribute, by, &described.description, described.seq.0 as i64);
            }
        }
    }
    c.write(transaction, statement).await
}

async fn states(
    transaction: &Transaction<'_>,
    statement: &Statement,
    changes: ByLog<'_>,
) -> Result<(), Error> {
    let mut c = States::default();
    for (log, changes) in changes {
        for (id, device) in &changes.devices {
            for (attribute, changed) in &device.attributes {
                let newest = &changed.newest;
                let (seq, time) = (newest.seq.0 as i64, text::time(newest.time));
                c.push(*log, id, attribute, &newest.value, newest.number, seq, time);
            }
        }
    }
    c.write(transaction, statement).await
}

async fn windows(
    transaction: &Transaction<'_>,
    statement: &Statement,
    changes: ByLog<'_>,
) -> Result<(), Error> {
    let mut c = Windows::default();
    for (log, changes) in changes {
        for (id, device) in &changes.devices {
            for (attribute, changed) in &device.attributes {
                for (length_s, window) in changed.windows() {
                    let bucket = &window.bucket;
                    c.push(
                        *log,
                        id,
                        attribute,
                        length_s as i32,
                        text::time(fieldlog_projections::Time(bucket.start_s.saturating_mul(1_000_000))),
                        i64::from(bucket.count),
                        bucket.min,
                        bucket.max,
                        bucket.sum,
                        bucket.last,
                        window.last_seq.0 as i64,
                    );
                }
            }
        }
    }
    c.write(transaction, statement).await
}

async fn commands(
    transaction: &Transaction<'_>,
    statement: &Statement,
    changes: ByLog<'_>,
) -> Result<(), Error> {
    let mut c = Commands::default();
    for (log, changes) in changes {
        for (id, command) in &changes.commands {
            let request = command.request.as_ref();
            let (seq, changed, state, step) = &command.step;
            c.push(
                *log,
                id.0 as i64,
                command.device.as_deref(),
                request.map(|(request, _)| &**request),
                request.map(|(_, requested)| text::time(*requested)),
                state,
                step,
                seq.0 as i64,
                text::time(*changed),
            );
        }
    }
    c.write(transaction, statement).await
}
