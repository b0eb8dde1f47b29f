//! Compares the tables with the fold of a gateway's log.

use std::collections::BTreeMap;

use fieldlog_projections::fact::Availability;
use fieldlog_projections::{Aggregates, Described, Value};
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_wire::describe::DeviceJson;
use fieldlog_wire::json::Val;
use serde_json::{Value as Json, json};

use crate::gateway::Gateway;

/// The rows of a query, each as a JSON array of its columns.
pub fn rows(postgres: &PostgresServer, columns: &str, rest: &str) -> Vec<Json> {
    let lines =
        postgres.sql(&format!("SET search_path TO fieldlog; SELECT json_build_array({columns}) {rest}"));
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether the tables have all of a gateway's log.
pub fn has(postgres: &PostgresServer, gateway: &Gateway) -> bool {
    let position = format!("FROM logs WHERE gateway = '{}'", gateway.name);
    rows(postgres, "position", &position) == [json!([gateway.head()])]
}

/// Checks that the tables have all of a gateway's log, and what it folds to.
pub fn assert_complete(postgres: &PostgresServer, gateway: &Gateway) {
    assert_events(postgres, gateway);
    assert_account(postgres, gateway);
    assert_devices(postgres, gateway);
    assert_states(postgres, gateway);
    assert_aggregates(postgres, gateway);
}

/// Checks that two databases have the same, row by row, whatever numbers their logs have and in which order they have come.
pub fn assert_same(one: &PostgresServer, other: &PostgresServer) {
    let of_log = "JOIN logs l USING (log)";
    let mut selects: Vec<(String, String)> = [
        "events",
        "devices",
        "descriptions",
        "device_state",
        "aggregates",
        "commands",
        "device_texts",
        "quarantined",
    ]
    .map(|table| {
        ("l.gateway, l.epoch, to_jsonb(t) - 'log' - 'arrival'".into(), format!("FROM {table} t {of_log}"))
    })
    .into();
    let log = "gateway, epoch, position, chain, newest, head, missing, events, faults, forked, newest_time";
    selects.push((log.into(), "FROM logs".into()));
    selects.push(("gateway, epoch, lag_events".into(), "FROM gateway_lag".into()));
    selects.extend(
        ["current_devices", "current_state", "gateway_aggregates"]
            .map(|view| ("to_jsonb(t)".into(), format!("FROM {view} t"))),
    );
    for (columns, from) in selects {
        let sorted = |postgres: &PostgresServer| {
            let mut rows: Vec<String> = rows(postgres, &columns, &from).iter().map(Json::to_string).collect();
            rows.sort();
            rows
        };
        let (one, other) = (sorted(one), sorted(other));
        assert_eq!(one.len(), other.len(), "{from}");
        one.iter().zip(&other).for_each(|(one, other)| assert_eq!(one, other, "{from}"));
    }
}

fn of(gateway: &Gateway) -> String {
    format!("JOIN logs l USING (log) WHERE l.gateway = '{}' AND l.epoch = '{}'", gateway.name, gateway.epoch)
}

fn assert_events(postgres: &PostgresServer, gateway: &Gateway) {
    let found = rows(
        postgres,
        "count(*), count(DISTINCT seq), min(seq), max(seq)",
        &format!("FROM events {}", of(gateway)),
    );
    let head = gateway.head();
    assert_eq!(found, [json!([head, head, 1, head])], "{}", gateway.name);
}

fn assert_account(postgres: &PostgresServer, gateway: &Gateway) {
    let columns = "position, newest, chain, missing, events, forked, agent_version";
    let from = format!("FROM logs l WHERE l.gateway = '{}' AND l.epoch = '{}'", gateway.name, gateway.epoch);
    let (head, link) = (gateway.head(), gateway.link(gateway.head()).to_string());
    assert_eq!(
        rows(postgres, columns, &from),
        [json!([head, head, link, [], head, null, "1"])],
        "{}",
        gateway.name
    );
}

fn assert_devices(postgres: &PostgresServer, gateway: &Gateway) {
    let columns = "t.device, t.seq, source, parent, retired, availability,
        (SELECT description FROM merged_descriptions m WHERE m.log = t.log AND m.device = t.device AND attribute = '')";
    let found =
        rows(postgres, columns, &format!("FROM devices t {} ORDER BY t.device COLLATE \"C\"", of(gateway)));
    let devices = &gateway.view.devices;
    let mut expected: BTreeMap<&str, Json> = BTreeMap::new();
    for (id, device) in devices.iter() {
        let availability = match device.availability {
            Availability::Unknown => Json::Null,
            Availability::Online => "online".into(),
            Availability::Offline => "offline".into(),
        };
        let parent = device.parent.map(|parent| &*devices.get(parent).unwrap().name);
        let described = gateway.view.descriptions.get(id).map(Described::device);
        let described = described.as_ref().map(DeviceJson::of);
        let row = json!([
            *device.name,
            device.changed.0,
            *device.source,
            parent,
            device.retired,
            availability,
            described
        ]);
        expected.insert(&device.name, row);
    }
    assert_eq!(found, expected.into_values().collect::<Vec<_>>(), "{}", gateway.name);
}

fn assert_states(postgres: &PostgresServer, gateway: &Gateway) {
    let columns = "device, attribute, value, number, seq, extract(epoch FROM t.changed)::text";
    let found = rows(
        postgres,
        columns,
        &format!(
            "FROM device_state t {} ORDER BY device COLLATE \"C\", attribute COLLATE \"C\"",
            of(gateway)
        ),
    );
    let devices = &gateway.view.devices;
    let mut expected: BTreeMap<(&str, &str), Json> = BTreeMap::new();
    for (_, device) in devices.iter() {
        for attribute in &device.attributes {
            let name = devices.attribute_name(attribute.id).unwrap();
            let number = attribute.value.borrow().as_number().filter(|_| attribute.value != Value::Null);
            let changed = format!("{}.{:06}", attribute.time.0 / 1_000_000, attribute.time.0 % 1_000_000);
            let row =
                json!([*device.name, name, Val(attribute.value.borrow()), number, attribute.seq, changed]);
            expected.insert((&device.name, name), row);
        }
    }
    let expected: Vec<Json> = expected.into_values().collect();
    assert_eq!(found.len(), expected.len(), "{}", gateway.name);
    for (found, expected) in found.iter().zip(&expected) {
        // 20 and 20.0 are the same number.
        let number = |row: &Json| row[3].as_f64();
        assert_eq!(number(found), number(expected), "{found}");
        let rest = |row: &Json| {
            let value = if row[3].is_null() { row[2].clone() } else { Json::Null };
            (row[0].clone(), row[1].clone(), value, row[4].clone(), row[5].clone())
        };
        assert_eq!(rest(found), rest(expected), "{}", gateway.name);
    }
}

fn assert_aggregates(postgres: &PostgresServer, gateway: &Gateway) {
    let columns =
        "device, attribute, length_s, extract(epoch FROM start)::bigint, count, min, max, last, sum";
    let found = rows(postgres, columns, &format!("FROM aggregates t {}", of(gateway)));
    let (devices, aggregates): (_, &Aggregates) = (&gateway.view.devices, &gateway.view.aggregates);
    let mut expected = BTreeMap::new();
    for (id, device) in devices.iter() {
        for attribute in &device.attributes {
            let name = devices.attribute_name(attribute.id).unwrap();
            for window in aggregates.windows() {
                for bucket in aggregates.buckets(id, attribute.id, *window, i64::MIN, i64::MAX) {
                    let key = (
                        device.name.to_string(),
                        name.to_owned(),
                        u64::from(window.length_s),
                        bucket.start_s,
                    );
                    expected.insert(key, bucket);
                }
            }
        }
    }
    assert_eq!(found.len(), expected.len(), "{}", gateway.name);
    for row in found {
        let text = |at: usize| row[at].as_str().unwrap().to_owned();
        let key = (text(0), text(1), row[2].as_u64().unwrap(), row[3].as_i64().unwrap());
        let bucket = &expected[&key];
        let number = |at: usize| row[at].as_f64().unwrap();
        assert_eq!(row[4].as_u64().unwrap(), u64::from(bucket.count), "{row}");
        assert_eq!((number(5), number(6), number(7)), (bucket.min, bucket.max, bucket.last), "{row}");
        // Sums of the gateway's numbers, which are eighths, are exact in any order.
        assert_eq!(number(8), bucket.sum, "{row}");
    }
}
