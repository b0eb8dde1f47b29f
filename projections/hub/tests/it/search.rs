//! Search, across gateways.

use fieldlog_projections::{DescribedBy, DeviceDescription, DeviceId, Fact};
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::wait::block_until;
use fieldlog_wire::Lane;
use serde_json::{Value as Json, json};

use crate::gateway::{Form, Gateway, random};
use crate::hub::Hub;
use crate::tables::rows;

fn described(device: u32, name: &str, area: &str, by: DescribedBy) -> Fact {
    let description = DeviceDescription {
        name: name.into(),
        area: area.into(),
        manufacturer: "Signify".into(),
        ..DeviceDescription::default()
    };
    Fact::DeviceDescribed { device: DeviceId(device), by, description }
}

fn refused(reason: &str) -> Fact {
    Fact::InputQuarantined {
        source: "plant".into(),
        topic: "zigbee2mqtt/bridge/log".into(),
        reason: reason.into(),
        size: 7,
    }
}

/// A page, as `kind gateway device-or-seq`, and where the next one begins.
fn page(hub: &Hub, query: &str) -> (Vec<String>, Option<String>) {
    let answer = hub.get(&format!("/api/v1/search?{query}"));
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    let found: Json = serde_json::from_str(&answer.body).unwrap();
    let word = |hit: &Json| {
        let which = hit["device"].as_str().map_or_else(|| hit["seq"].to_string(), Into::into);
        format!("{} {} {which}", hit["kind"].as_str().unwrap(), hit["gateway"].as_str().unwrap())
    };
    let next = found["next"].as_str().map(Into::into);
    (found["items"].as_array().unwrap().iter().map(word).collect(), next)
}

fn found(hub: &Hub, query: &str) -> Vec<String> {
    let (items, next) = page(hub, query);
    assert_eq!(next, None, "{query}");
    items
}

/// Two gateways with the same devices, the second of which could not read two messages.
fn two(hub: &Hub) -> u64 {
    let mut rng = random();
    let mut plant = Gateway::new("plant", Form::Compact, 3, rng.fork());
    let mut depot = Gateway::new("depot", Form::Json, 2, rng.fork());
    plant.record(&described(2, "Lampe", "Küche", DescribedBy::Discovery));
    plant.record(&described(2, "Ceiling", "", DescribedBy::Operator));
    depot.record(&refused("a number is too large"));
    depot.record(&refused("not JSON: expected value at line 1"));
    hub.take(&plant.parcel((1, plant.head()), Lane::Live));
    hub.take(&depot.parcel((1, depot.head()), Lane::Live));
    depot.head()
}

fn assert_found(hub: &Hub, head: u64) {
    let check = |query: &str, expected: &[&str]| assert_eq!(found(hub, query), expected, "{query}");
    // By the id, whole or in part; by what is said, whoever said it; what an operator has replaced is not there.
    check("q=hall/2", &["device plant hall/2"]);
    check(
        "q=hal",
        &[
            "device depot hall/0",
            "device depot hall/1",
            "device plant hall/0",
            "device plant hall/1",
            "device plant hall/2",
        ],
    );
    check("q=hal+2", &[]);
    check("q=hall&gateway=depot", &["device depot hall/0", "device depot hall/1"]);
    check("q=ceiling+sign", &["device plant hall/2"]);
    check("q=K%C3%BC", &["device plant hall/2"]);
    check("q=Lampe", &[]);
    check("q=2+signify", &["device plant hall/2"]);
    check("q=said", &["device depot hall/1", "device plant hall/1"]);
    let (older, newer) = (format!("quarantine depot {}", head - 1), format!("quarantine depot {head}"));
    check("q=zigbee2mqtt/bridge", &[&newer, &older]);
    check("q=not.json", &[&newer]);
    check("q=LARGE&gateway=depot", &[&older]);
    check("q=large&gateway=plant", &[]);
}

#[test]
fn devices_and_refused_messages_are_found_by_words() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::start("one", &postgres);
    let head = two(&hub);
    assert_found(&hub, head);
    let answer = hub.get("/api/v1/search?q=json");
    let hit = &serde_json::from_str::<Json>(&answer.body).unwrap()["items"][0];
    assert_eq!(hit["text"], "plant · zigbee2mqtt/bridge/log · not JSON: expected value at line 1");
    assert!(hit["recorded"].as_str().unwrap().ends_with('Z'), "{hit}");

    // Page by page it is the same, whatever their size; `plant` is a word of two messages, and an id's is none.
    postgres.sql("UPDATE fieldlog.device_texts SET text = text || ' plant' WHERE device <> 'hall/0'");
    let all = found(&hub, "q=plant");
    assert_eq!(all.len(), 5, "{all:?}");
    for limit in 1..=5 {
        let (mut pages, mut after) = (Vec::new(), String::new());
        loop {
            let (items, next) = page(&hub, &format!("q=plant&limit={limit}{after}"));
            assert!(items.len() == limit || next.is_none(), "{items:?}");
            pages.extend(items);
            let Some(next) = next else { break };
            after = format!("&after={next}");
        }
        assert_eq!(pages, all, "{limit}");
    }
}

/// The tables of an older hub are looked through, too.
#[test]
fn what_was_there_before_is_found() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut hub = Hub::start("one", &postgres);
    let head = two(&hub);
    hub.signal("TERM");
    assert_eq!(hub.ends(), 0);
    postgres.sql(
        "SET search_path TO fieldlog; DROP TABLE device_texts, quarantined, identity; DROP FUNCTION words_of, device_text;
         DROP FUNCTION note_device, note_descriptions CASCADE; DROP VIEW gateway_lag;
         ALTER TABLE logs DROP COLUMN agent_version, DROP COLUMN booted; DELETE FROM migrations WHERE number >= 5",
    );
    hub.restart();
    assert_found(&hub, head);
    assert!(hub.get("/api/v1/gateways").body.contains("\"version\":\"1\""));
}

/// What is asked for is read through the indices, not from the whole tables.
#[test]
fn many_texts_are_searched_by_their_index() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::start("one", &postgres);
    two(&hub);
    postgres.sql(
        "SET search_path TO fieldlog; INSERT INTO device_texts (log, device, text)
         SELECT g.log, 'sensor/' || n, 'sensor/' || n || ' · Sensor ' || n || ' · hall ' || n % 100 || ' · Aqara'
         FROM gateways g CROSS JOIN generate_series(1, 20000) n;
         INSERT INTO quarantined (log, seq, recorded, text)
         SELECT g.log, 1000 + n, now(), 'plant · topic/' || n || ' · value ' || n || ' is too large'
         FROM gateways g CROSS JOIN generate_series(1, 20000) n",
    );
    postgres.sql("VACUUM ANALYZE fieldlog.device_texts; ");
    postgres.sql("VACUUM ANALYZE fieldlog.quarantined");
    let scans = || {
        let columns = "t.relname, t.seq_scan, i.idx_scan";
        let from = "FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid)
            WHERE i.indexrelname LIKE '%_words' ORDER BY t.relname";
        rows(&postgres, columns, from)
    };
    let number = |rows: &[Json], table: usize, column: usize| rows[table][column].as_i64().unwrap();
    let before = scans();
    assert_eq!(before.len(), 2, "{before:?}");
    assert_eq!(found(&hub, "q=sensor/12345"), ["device depot sensor/12345", "device plant sensor/12345"]);
    assert_eq!(found(&hub, "q=topic+17771").len(), 2);
    // PostgreSQL counts a while after the query.
    let after = block_until("the counts of PostgreSQL", || {
        let after = scans();
        (0..2).all(|table| number(&after, table, 2) > number(&before, table, 2)).then_some(after)
    });
    for table in 0..2 {
        assert_eq!(
            number(&after, table, 1),
            number(&before, table, 1),
            "read as a whole: {before:?} {after:?}"
        );
    }
    assert_eq!(after[0][0], json!("device_texts"));
}
