//! A second schema that is filled from the events of the first, and takes its place.

use fieldlog_projections::{Seq, Time};
use jiff::Timestamp;
use tokio_postgres::{Client, Error, IsolationLevel, Transaction};

use super::connect::chain;
use super::migrate::{self, MigrateError};
use super::partitions::{self, Partitions};
use super::rows;
use super::write::copy_rows;
use crate::changes::Changes;
use crate::parcel::Event;

/// Any number, the same for all hubs: a schema is rebuilt by one process at a time.
const LOCK: i64 = 0x6669_656c_6472_6562;
/// Events of one transaction.
const EVENTS_MAX: i64 = 20_000;
/// The first migration with all that is read here.
const LEAST_MIGRATION: i32 = 4;

/// The schemas of a rebuild.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The one in use.
    pub(crate) now: String,
    /// The one that is filled.
    pub(crate) next: String,
    /// What the first one is called afterwards.
    pub(crate) before: String,
}

/// A log, and how much of it is filled.
#[derive(Clone, Debug)]
pub(crate) struct LogToFill {
    pub(crate) log: i32,
    /// Arrivals in the schema in use.
    pub(crate) events: i64,
    /// Up to which arrival the next schema has it; `None` before its beginning.
    pub(crate) filled: Option<i64>,
}

/// Some events of a log, in the order of their arrival.
pub(crate) struct Piece {
    /// With their arrivals.
    events: Vec<(i64, Event)>,
    /// The arrival up to which they are all that is there.
    pub(crate) to: i64,
}

/// Why a schema is not rebuilt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RebuildError {
    #[error("PostgreSQL: {}", chain(.0))]
    Sql(#[from] Error),
    #[error("{0}")]
    Migrate(#[from] MigrateError),
    #[error("the schema `{0}` has no tables of fieldlog-hub: check `postgres.schema`")]
    Nothing(String),
    #[error("the schema `{0}` is too old: run this version of fieldlog-hub once, which brings it up to date")]
    Old(String),
    #[error("another process rebuilds the schema `{0}`")]
    Busy(String),
    #[error(
        "there is a schema `{0}` already, from an earlier rebuild: if it is not needed any more, remove it with \
         `DROP SCHEMA {0} CASCADE`"
    )]
    Before(String),
    #[error(
        "{0} events of the schema in use are not in the next one, although all were read; nothing was changed. Begin anew with \
         `--abandon`"
    )]
    Incomplete(i64),
}

impl Names {
    /// Those for the schema in use.
    pub(crate) fn of(schema: &str) -> Names {
        Names { now: schema.to_owned(), next: format!("{schema}_next"), before: format!("{schema}_before") }
    }

    /// Makes the next schema, or goes on with what an earlier process has left of it. `client` is connected to it, and has the
    /// right to rebuild from now on.
    pub(crate) async fn begin(&self, client: &mut Client) -> Result<(), RebuildError> {
        let Names { now, next, before } = self;
        if !lock(client, now).await? {
            return Err(RebuildError::Busy(now.clone()));
        }
        if !exists(client, &format!("{now}.migrations")).await? {
            return Err(RebuildError::Nothing(now.clone()));
        }
        let newest = format!("SELECT coalesce(max(number), 0) FROM {now}.migrations");
        if client.query_one(&newest, &[]).await?.get::<_, i32>(0) < LEAST_MIGRATION {
            return Err(RebuildError::Old(now.clone()));
        }
        let taken = client.query_one("SELECT to_regnamespace($1) IS NOT NULL", &[before]).await?;
        if taken.get(0) {
            return Err(RebuildError::Before(before.clone()));
        }
        migrate::migrate(client, next).await?;
        let transaction = client.transaction().await?;
        // From now on nothing is dropped of what is to be read.
        partitions::lock(&transaction).await?;
        transaction
            .batch_execute(
                "CREATE TABLE IF NOT EXISTS filled (log integer PRIMARY KEY, arrival bigint NOT NULL);
                 COMMENT ON TABLE filled IS 'Up to which arrival each log is in this schema. The schema is not complete.'",
            )
            .await?;
        transaction.commit().await?;
        // What is lost with a crash is filled again: its cursor is lost with it.
        client.batch_execute("SET synchronous_commit TO off").await?;
        Ok(())
    }

    /// Removes what a rebuild has left; `false` if there is nothing.
    pub(crate) async fn abandon(&self, client: &mut Client) -> Result<bool, RebuildError> {
        if !lock(client, &self.now).await? {
            return Err(RebuildError::Busy(self.now.clone()));
        }
        let is_there = exists(client, &format!("{}.filled", self.next)).await?;
        if is_there {
            client.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.next)).await?;
        }
        Ok(is_there)
    }

    /// All logs.
    pub(crate) async fn logs(&self, client: &Client) -> Result<Vec<LogToFill>, Error> {
        let select = format!(
            "SELECT l.log, l.events, f.arrival FROM {}.logs l LEFT JOIN {}.filled f USING (log) ORDER BY l.log",
            self.now, self.next
        );
        let rows = client.query(&select, &[]).await?;
        let log =
            |row: &tokio_postgres::Row| LogToFill { log: row.get(0), events: row.get(1), filled: row.get(2) };
        Ok(rows.iter().map(log).collect())
    }

    /// Begins a log. What came from events that are no longer there, because they were older than what is kept, is taken over
    /// as it is.
    pub(crate) async fn seed(&self, client: &mut Client, log: i32) -> Result<(), Error> {
        let now = &self.now;
        let transaction =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
        let select = format!(
            "SELECT l.events = (SELECT count(*) FROM {now}.events e WHERE e.log = l.log) FROM {now}.logs l WHERE l.log = $1"
        );
        let is_whole: bool = transaction.query_one(&select, &[&log]).await?.get(0);
        if !is_whole {
            for (table, columns, is_of_deleted) in TAKEN_OVER {
                let take = format!(
                    "INSERT INTO {table} ({columns}) SELECT {columns} FROM {now}.{table} t WHERE log = $1 AND {}",
                    is_of_deleted.replace("NOW", now)
                );
                transaction.execute(&take, &[&log]).await?;
            }
        }
        transaction.execute("INSERT INTO filled (log, arrival) VALUES ($1, 0)", &[&log]).await?;
        transaction.commit().await
    }

    /// Reads what has arrived of a log after `from`.
    pub(crate) async fn read(&self, client: &Client, log: i32, from: i64) -> Result<Piece, Error> {
        let now = &self.now;
        let arrived = format!("SELECT events FROM {now}.logs WHERE log = $1");
        let events: i64 = client.query_one(&arrived, &[&log]).await?.get(0);
        let select = format!(
            "SELECT arrival, seq, recorded, time, type, device, data::text FROM {now}.events
             WHERE log = $1 AND arrival > $2 AND arrival <= $3 ORDER BY arrival LIMIT $4"
        );
        let rows = client.query(&select, &[&log, &from, &events, &EVENTS_MAX]).await?;
        let time = |row: &tokio_postgres::Row, at| Time(row.get::<_, Timestamp>(at).as_microsecond());
        let event = |row: &tokio_postgres::Row| {
            let event = Event {
                seq: Seq(row.get::<_, i64>(1) as u64),
                recorded: time(row, 2),
                time: time(row, 3),
                kind: row.get::<_, &str>(4).into(),
                device: row.get::<_, Option<&str>>(5).map(Into::into),
                data: row.get::<_, &str>(6).into(),
            };
            (row.get(0), event)
        };
        let is_all = rows.len() < EVENTS_MAX as usize;
        let last = rows.last().map_or(from, |row| row.get(0));
        // Arrivals whose events have been deleted are passed over.
        Ok(Piece { events: rows.iter().map(event).collect(), to: if is_all { events } else { last } })
    }

    /// Puts the next schema in the place of the one in use, if it has all events by then. Nobody writes meanwhile; whoever
    /// held a gateway has to take it anew.
    pub(crate) async fn swap(
        &self,
        client: &mut Client,
        statements: &rows::Statements,
        partitions: &mut Partitions,
    ) -> Result<(), RebuildError> {
        let Names { now, next, before } = self;
        self.same_partitions(client, partitions).await?;
        let logs = self.logs(client).await?;
        for log in logs.iter().filter(|log| log.filled.is_none()) {
            self.seed(client, log.log).await?;
        }
        let transaction = client.transaction().await?;
        // Conflicts with the lock of rows with which every transaction of a writer begins.
        let begin = format!(
            "SET LOCAL synchronous_commit TO on; SET LOCAL lock_timeout TO '30s';
             LOCK TABLE {now}.gateways, {now}.logs, {now}.stores, {now}.hubs, {now}.kafka_partitions, {now}.gaps
             IN EXCLUSIVE MODE"
        );
        transaction.batch_execute(&begin).await?;
        for LogToFill { log, filled, .. } in self.logs(transaction.client()).await? {
            let mut from = filled.unwrap_or(0);
            loop {
                let piece = self.read(transaction.client(), log, from).await?;
                if piece.to == from {
                    break;
                }
                from = piece.to;
                put(&transaction, statements, log, &piece).await?;
            }
        }
        let missing = format!(
            "SELECT coalesce(sum(l.events - coalesce(f.arrival, 0)), 0)::bigint
             FROM {now}.logs l LEFT JOIN {next}.filled f USING (log)"
        );
        let missing: i64 = transaction.query_one(&missing, &[]).await?.get(0);
        if missing != 0 {
            return Err(RebuildError::Incomplete(missing));
        }
        transaction.batch_execute(&take_accounts(now, next)).await?;
        transaction.batch_execute(&same_rights(now, next)).await?;
        let rename = format!(
            "UPDATE {now}.gateways SET holder = NULL, fence = fence + 1; DROP TABLE {next}.filled;
             ALTER SCHEMA {now} RENAME TO {before}; ALTER SCHEMA {next} RENAME TO {now}"
        );
        transaction.batch_execute(&rename).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Makes the partitions that the schema in use has: its writers will not make them again.
    async fn same_partitions(&self, client: &mut Client, partitions: &mut Partitions) -> Result<(), Error> {
        let select = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = to_regclass($1)";
        let rows = client.query(select, &[&format!("{}.events", self.now)]).await?;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        partitions.make(client, names.iter().filter_map(|name| partitions::date_of(name))).await
    }

    /// Views of others that use the tables of the schema in use. They will go on to show these, under their new name.
    pub(crate) async fn views_of_others(&self, client: &Client) -> Result<Vec<String>, Error> {
        let select =
            "SELECT DISTINCT v.oid::regclass::text FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid
            JOIN pg_class v ON v.oid = w.ev_class JOIN pg_class t ON t.oid = d.refobjid
            WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
            AND t.relnamespace = to_regnamespace($1) AND v.relnamespace <> to_regnamespace($1) ORDER BY 1";
        Ok(client.query(select, &[&self.now]).await?.iter().map(|row| row.get(0)).collect())
    }
}

/// What is taken over of a log whose oldest events are gone: table, columns, and which rows come from such events.
const TAKEN_OVER: [(&str, &str, &str); 5] = [
    (
        "devices",
        "log, device, seq, changed, source, parent, retired, found_seq, availability, availability_since, availability_seq",
        // Where it was found may have been said long before anything else that the row has.
        "true",
    ),
    (
        "descriptions",
        "log, device, attribute, said_by, description, seq",
        "NOT EXISTS (SELECT FROM NOW.events e WHERE e.log = t.log AND e.seq = t.seq)",
    ),
    (
        "device_state",
        "log, device, attribute, value, number, seq, changed",
        "NOT EXISTS (SELECT FROM NOW.events e WHERE e.log = t.log AND e.seq = t.seq)",
    ),
    (
        // Events are deleted by whole days, and a window lies in one day.
        "aggregates",
        "log, device, attribute, length_s, start, count, min, max, sum, last, last_seq",
        "start < (SELECT coalesce(date_trunc('day', min(e.recorded)), 'infinity') FROM NOW.events e WHERE e.log = t.log)",
    ),
    (
        "commands",
        "log, command, device, request, requested, state, step, seq, changed",
        "EXISTS (SELECT FROM (VALUES (t.seq), (t.command)) p (seq)
            WHERE NOT EXISTS (SELECT FROM NOW.events e WHERE e.log = t.log AND e.seq = p.seq))",
    ),
];

/// Writes a piece, in one transaction with how far the log is filled.
pub(crate) async fn fill(
    client: &mut Client,
    statements: &rows::Statements,
    partitions: &mut Partitions,
    log: i32,
    piece: &Piece,
) -> Result<(), Error> {
    let times = piece.events.iter().map(|(_, event)| crate::text::time(event.recorded));
    partitions.ensure(client, times, Timestamp::now()).await?;
    let transaction = client.transaction().await?;
    put(&transaction, statements, log, piece).await?;
    transaction.commit().await
}

async fn put(
    transaction: &Transaction<'_>,
    statements: &rows::Statements,
    log: i32,
    piece: &Piece,
) -> Result<(), Error> {
    let mut changes = Changes::default();
    piece.events.iter().for_each(|(_, event)| changes.add(event));
    copy_rows(transaction, piece.events.iter().map(|(arrival, event)| (log, event, *arrival))).await?;
    rows::merge(transaction, statements, &[(log, &changes)]).await?;
    transaction.execute("UPDATE filled SET arrival = $2 WHERE log = $1", &[&log, &piece.to]).await.map(|_| ())
}

async fn exists(client: &Client, table: &str) -> Result<bool, Error> {
    Ok(client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?.get(0))
}

async fn lock(client: &Client, schema: &str) -> Result<bool, Error> {
    let try_lock = "SELECT pg_try_advisory_lock($1 # hashtext($2)::bigint)";
    Ok(client.query_one(try_lock, &[&LOCK, &schema]).await?.get(0))
}

/// Copies what no event says. Every holder has to take its gateways anew.
fn take_accounts(now: &str, next: &str) -> String {
    let same = |table: &str, columns: &str, values: &str| {
        format!(
            "INSERT INTO {next}.{table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {now}.{table};\n"
        )
    };
    let logs = "log, gateway, epoch, version, account, position, chain, newest, head, missing, events, duplicates, faults, \
                forked, first_seen, last_seen, newest_time, agent_version, booted";
    let gaps = "log, first, last, state, since, asks, asked_at, why";
    [
        // A process of another version has to look whether it knows these tables.
        format!(
            "INSERT INTO {next}.hubs SELECT * FROM {now}.hubs
             WHERE (SELECT max(number) FROM {next}.migrations) = (SELECT max(number) FROM {now}.migrations);\n"
        ),
        same("gateways", "gateway, fence, log, first_seen", "gateway, fence + 1, log, first_seen"),
        same("logs", logs, logs),
        same("gaps", gaps, gaps),
        same("kafka_partitions", "topic, partition, holder, fence, next", "topic, partition, holder, fence + 1, next"),
        format!("UPDATE {next}.stores n SET generation = s.generation FROM {now}.stores s WHERE s.store = n.store;\n"),
        // An older schema has none; the id that the next one was made with is then as good.
        format!(
            "DO $$ BEGIN IF to_regclass('{now}.identity') IS NOT NULL THEN
             UPDATE {next}.identity n SET id = i.id FROM {now}.identity i; END IF; END $$;\n"
        ),
        format!(
            "SELECT setval(pg_get_serial_sequence('{next}.logs', 'log'), coalesce(max(log), 1), max(log) IS NOT NULL)
             FROM {next}.logs;\n"
        ),
    ]
    .concat()
}

/// Gives everyone the rights in the next schema that they have in the one in use.
fn same_rights(now: &str, next: &str) -> String {
    format!(
        "DO $$ DECLARE r record; BEGIN
         FOR r IN SELECT format('TABLE {next}.%I', c.relname) AS what, a.* FROM pg_class c
                CROSS JOIN aclexplode(c.relacl) a
                WHERE c.relnamespace = '{now}'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.grantee <> c.relowner
                AND to_regclass(format('{next}.%I', c.relname)) IS NOT NULL
            UNION ALL SELECT 'SCHEMA {next}', a.* FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) a
                WHERE n.oid = '{now}'::regnamespace AND a.grantee <> n.nspowner
         LOOP
            EXECUTE format('GRANT %s ON %s TO %s%s', r.privilege_type, r.what,
                CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r.grantee)) END,
                CASE WHEN r.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
         END LOOP; END $$"
    )
}
