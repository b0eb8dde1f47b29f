//! The schema, by numbered migrations.

use tokio_postgres::Client;

use super::connect::chain;

/// In their order; the first is number 1. One that has been released is never changed.
const MIGRATIONS: [&str; 7] = [
    include_str!("../../migrations/0001.sql"),
    include_str!("../../migrations/0002.sql"),
    include_str!("../../migrations/0003.sql"),
    include_str!("../../migrations/0004.sql"),
    include_str!("../../migrations/0005.sql"),
    include_str!("../../migrations/0006.sql"),
    include_str!("../../migrations/0007.sql"),
];
/// Any number, the same for all hubs: only one of them migrates at a time.
const LOCK: i64 = 0x6669_656c_646c_6f67;

/// Why the schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    #[error(
        "the schema `{schema}` is at migration {found}, and this fieldlog-hub knows {known}: a newer one has changed it; \
         run that, or name another `postgres.schema`"
    )]
    Newer { schema: String, found: i32, known: usize },
    #[error(
        "the schema `{schema}` cannot be brought to migration {number}: {why}; its user needs the right to create in it, or \
         for a new schema in the database"
    )]
    Failed { schema: String, number: usize, why: String },
}

/// Refuses a schema that a newer version has changed, or put in the place of another.
pub(crate) async fn refuse_newer(client: &Client, schema: &str) -> Result<(), MigrateError> {
    let newest = client.query_one("SELECT coalesce(max(number), 0) FROM migrations", &[]).await;
    let newest = newest.map_err(|error| MigrateError::Failed {
        schema: schema.to_owned(),
        number: 0,
        why: chain(&error),
    });
    let found: i32 = newest?.get(0);
    if usize::try_from(found).unwrap_or(0) > MIGRATIONS.len() {
        return Err(MigrateError::Newer { schema: schema.to_owned(), found, known: MIGRATIONS.len() });
    }
    Ok(())
}

/// Creates the schema, and brings it to the newest migration.
pub(crate) async fn migrate(client: &mut Client, schema: &str) -> Result<(), MigrateError> {
    let failed = |number: usize| {
        let schema = schema.to_owned();
        move |error: tokio_postgres::Error| MigrateError::Failed { schema, number, why: chain(&error) }
    };
    let transaction = client.transaction().await.map_err(failed(0))?;
    let prepare = format!(
        "SELECT pg_advisory_xact_lock({LOCK}); CREATE SCHEMA IF NOT EXISTS {schema};
         CREATE TABLE IF NOT EXISTS migrations
         (number integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT clock_timestamp())"
    );
    transaction.batch_execute(&prepare).await.map_err(failed(0))?;
    let newest = transaction
        .query_one("SELECT coalesce(max(number), 0) FROM migrations", &[])
        .await
        .map_err(failed(0))?;
    let found: i32 = newest.get(0);
    let done = usize::try_from(found).unwrap_or(0);
    if done > MIGRATIONS.len() {
        return Err(MigrateError::Newer { schema: schema.to_owned(), found, known: MIGRATIONS.len() });
    }
    for (number, migration) in (1..).zip(MIGRATIONS).skip(done) {
        transaction.batch_execute(migration).await.map_err(failed(number))?;
        let number_i32 = i32::try_from(number).unwrap_or(i32::MAX);
        transaction
            .execute("INSERT INTO migrations (number) VALUES ($1)", &[&number_i32])
            .await
            .map_err(failed(number))?;
        tracing::info!("the schema `{schema}` is now at migration {number}");
    }
    transaction.commit().await.map_err(failed(MIGRATIONS.len()))
}
