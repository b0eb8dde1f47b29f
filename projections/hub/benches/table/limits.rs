//! The same rows without a hub: what PostgreSQL takes of them at most, and what the usual statements get.

use std::fmt::Write as _;
use std::pin::pin;
use std::time::{Duration, Instant};

use fieldlog_hub::parcel::{Event, Parcel};
use fieldlog_projections::Time;
use fieldlog_sim::servers::postgres::PostgresServer;
use jiff::Timestamp;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};

use crate::Table;
use crate::fleet::Parcels;
use crate::hub::Hub;
use crate::usage::cpu_seconds;

/// Rows of a COPY, as in the hub's transactions.
const COPY_ROWS: usize = 20_000;
/// Rows of an INSERT; more are hardly faster.
const INSERT_ROWS: usize = 1_000;
const COLUMNS: &str = "(log, seq, recorded, time, type, device, data, arrival)";

/// Rows into a table like `events`, without state, aggregates and accounts, over as many connections as a hub has.
pub async fn measure(table: &mut Table, parcels: &Parcels) {
    let mut halves: [Vec<(i32, Event)>; 2] = Default::default();
    for (log, requests) in (0..).zip(&parcels.0) {
        let events = requests
            .iter()
            .flat_map(|request| Parcel::read(&request.body, |_| None).expect("a parcel").events);
        halves[log as usize % 2].extend(events.map(|event| (log, event)));
    }
    let rows = halves.iter().map(Vec::len).sum::<usize>() as f64;
    let print = |table: &mut Table, what: &str, (took, cpu_s): (Duration, f64)| {
        let rate = rows / took.as_secs_f64();
        table.info(what, &format!("{rate:.0} events/s, {:.1} µs of PostgreSQL", cpu_s * 1e6 / rows));
    };
    let postgres = with_tables().await;
    let copied = timed(&postgres, async |half: usize, client: Client| {
        for rows in halves[half].chunks(COPY_ROWS) {
            copy(&client, rows).await.expect("rows");
        }
    });
    print(table, "the same rows by COPY alone, without state and aggregates", copied.await);
    let postgres = with_tables().await;
    let statements = halves.each_ref().map(|half| half.chunks(INSERT_ROWS).map(insert).collect::<Vec<_>>());
    let inserted = timed(&postgres, async |half: usize, client: Client| {
        for statement in &statements[half] {
            client.batch_execute(statement).await.expect("rows");
        }
    });
    let what = format!("the same rows by INSERT alone, {INSERT_ROWS} rows each");
    print(table, &what, inserted.await);
}

/// An empty PostgreSQL with the hub's tables.
async fn with_tables() -> PostgresServer {
    let postgres = crate::postgres();
    drop(Hub::start("hub", &postgres, "").await);
    postgres
}

/// Wall clock and processor time of PostgreSQL while both halves are written.
async fn timed(postgres: &PostgresServer, write: impl AsyncFn(usize, Client)) -> (Duration, f64) {
    let clients = [connect(postgres).await, connect(postgres).await];
    let (cpu, begin) = (cpu_seconds(postgres.pid()), Instant::now());
    let [first, second] = clients;
    tokio::join!(write(0, first), write(1, second));
    (begin.elapsed(), cpu_seconds(postgres.pid()) - cpu)
}

async fn connect(postgres: &PostgresServer) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&postgres.address(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client.batch_execute("SET search_path TO fieldlog").await.expect("a schema");
    client
}

async fn copy(client: &Client, rows: &[(i32, Event)]) -> Result<(), tokio_postgres::Error> {
    let types = [
        Type::INT4,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
    ];
    let sink = client.copy_in(&format!("COPY events {COLUMNS} FROM STDIN BINARY")).await?;
    let mut out = pin!(BinaryCopyInWriter::new(sink, &types));
    for (log, event) in rows {
        let (seq, device) = (event.seq.0 as i64, event.device.as_deref());
        let (recorded, time) = (timestamp(event.recorded), timestamp(event.time));
        let row: [&(dyn ToSql + Sync); 8] =
            [log, &seq, &recorded, &time, &&*event.kind, &device, &&*event.data, &seq];
        out.as_mut().write(&row).await?;
    }
    out.finish().await.map(|_| ())
}

/// The statement for these rows. No text in them has a quote.
fn insert(rows: &[(i32, Event)]) -> String {
    let mut statement = format!("INSERT INTO events {COLUMNS} VALUES ");
    for (number, (log, event)) in rows.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let (seq, device) = (event.seq, event.device.as_deref().expect("a device"));
        let (recorded, time) = (timestamp(event.recorded), timestamp(event.time));
        let (kind, data) = (&event.kind, &event.data);
        write!(statement, "{comma}({log},{seq},'{recorded}','{time}','{kind}','{device}','{data}',{seq})")
            .expect("a String");
    }
    statement
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_microsecond(time.0).expect("a time")
}
