//! The gaps that are asked for.

use std::collections::HashMap;

use fieldlog_projections::Seq;
use tokio_postgres::{Client, Error};

use crate::gaps::{Gap, State};

/// A log with gaps, or with gaps that are filled now.
pub(crate) struct Gapped {
    pub(crate) log: i32,
    pub(crate) gateway: String,
    pub(crate) epoch: String,
    /// What has not arrived, up to the newest position that the gateway has mentioned.
    pub(crate) missing: Vec<(Seq, Seq)>,
}

/// The newest logs of this process's gateways that have or had gaps.
pub(crate) async fn gapped(client: &Client, hub: &str) -> Result<Vec<Gapped>, Error> {
    let rows = client
        .query(
            "SELECT l.log, g.gateway, l.epoch, l.missing::text, l.newest, l.head FROM gateways g JOIN logs l USING (log)
             WHERE g.holder = $1 AND l.forked IS NULL
                AND (l.missing <> '[]' OR l.head > l.newest OR EXISTS (SELECT FROM gaps x WHERE x.log = l.log))",
            &[&hub],
        )
        .await?;
    let gapped = |row: &tokio_postgres::Row| {
        let (newest, head) = (row.get::<_, i64>(4) as u64, row.get::<_, i64>(5) as u64);
        let mut missing: Vec<(Seq, Seq)> = serde_json::from_str(row.get(3)).unwrap_or_default();
        missing.extend((newest < head).then_some((Seq(newest + 1), Seq(head))));
        Gapped { log: row.get(0), gateway: row.get(1), epoch: row.get(2), missing }
    };
    Ok(rows.iter().map(gapped).collect())
}

/// What is known of the gaps of these logs.
pub(crate) async fn gaps(client: &Client, logs: &[i32]) -> Result<HashMap<i32, Vec<Gap>>, Error> {
    let rows = client
        .query(
            "SELECT log, first, last, state, since, asks, asked_at, why FROM gaps WHERE log = ANY($1) ORDER BY log, first",
            &[&logs],
        )
        .await?;
    let mut found: HashMap<i32, Vec<Gap>> = HashMap::new();
    for row in rows {
        let gap = Gap {
            first: Seq(row.get::<_, i64>(1) as u64),
            last: Seq(row.get::<_, i64>(2) as u64),
            state: State::named(row.get(3)).unwrap_or(State::Expected),
            since: row.get(4),
            asks: row.get::<_, i32>(5) as u32,
            asked: row.get(6),
            why: row.get(7),
        };
        found.entry(row.get(0)).or_default().push(gap);
    }
    Ok(found)
}

/// Replaces what is known of a log's gaps.
pub(crate) async fn keep_gaps(client: &mut Client, log: i32, gaps: &[Gap]) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    transaction.execute("DELETE FROM gaps WHERE log = $1", &[&log]).await?;
    let (firsts, lasts): (Vec<i64>, Vec<i64>) =
        gaps.iter().map(|gap| (gap.first.0 as i64, gap.last.0 as i64)).unzip();
    let states: Vec<&str> = gaps.iter().map(|gap| gap.state.word()).collect();
    let sinces: Vec<_> = gaps.iter().map(|gap| gap.since).collect();
    let asks: Vec<i32> = gaps.iter().map(|gap| gap.asks as i32).collect();
    let asked: Vec<_> = gaps.iter().map(|gap| gap.asked).collect();
    let whys: Vec<_> = gaps.iter().map(|gap| gap.why.as_deref()).collect();
    transaction
        .execute(
            "INSERT INTO gaps (log, first, last, state, since, asks, asked_at, why)
             SELECT $1, u.* FROM unnest($2::int8[], $3::int8[], $4::text[], $5::timestamptz[], $6::int4[],
                $7::timestamptz[], $8::text[]) u
             ON CONFLICT DO NOTHING",
            &[&log, &firsts, &lasts, &states, &sinces, &asks, &asked, &whys],
        )
        .await?;
    transaction.commit().await
}
