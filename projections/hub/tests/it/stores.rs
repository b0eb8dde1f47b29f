//! Redis and OpenSearch have what the tables have, whatever happens to them or to the hub.

use std::collections::{BTreeMap, BTreeSet};

use fieldlog_projections::{AttrId, DeviceId, Fact, Value};
use fieldlog_sim::servers::opensearch::OpenSearchServer;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::redis::RedisServer;
use fieldlog_sim::servers::wait::block_until;
use fieldlog_wire::Lane;
use serde_json::{Value as Json, json};

use crate::gateway::{Form, Gateway, Post, random};
use crate::hub::{Hub, run};
use crate::tables::{assert_complete, rows};

type Hash = BTreeMap<String, String>;

const TIME: &str = r#"'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"#;

pub fn redis_lines(redis: &RedisServer) -> String {
    format!("[redis]\naddress = \"{}\"\nchanges_max = 100000\n", redis.address())
}

pub fn opensearch_lines(opensearch: &OpenSearchServer) -> String {
    format!("[opensearch]\naddress = \"{}\"\n", opensearch.address())
}

pub fn standing(hub: &Hub, store: &str) -> Option<Json> {
    let answer: Json = serde_json::from_str(&hub.try_get("/api/v1/stores")?.body).unwrap();
    answer["items"].as_array().unwrap().iter().find(|item| item["store"] == store).cloned()
}

/// Waits until a store says that it has so many events in this generation.
pub fn settle(hub: &Hub, store: &str, events: u64, generation: u64) {
    block_until(&format!("{store} with {events} events in generation {generation}"), || {
        standing(hub, store).filter(|now| {
            now["state"] == "live"
                && now["lag_events"] == 0
                && now["events"] == events
                && now["generation"] == generation
        })
    });
}

fn ask<T: redis::FromRedisValue>(redis: &RedisServer, words: &[&str]) -> T {
    let mut connection = redis::Client::open(redis.address()).unwrap().get_connection().unwrap();
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command.query(&mut connection).unwrap()
}

/// The hashes of a gateway's devices, by name.
fn hashes(redis: &RedisServer, gateway: &str) -> BTreeMap<String, Hash> {
    let names: BTreeSet<String> = ask(redis, &["SMEMBERS", &format!("fieldlog:{{{gateway}}}:devices")]);
    let hash = |name: String| {
        let hash = ask(redis, &["HGETALL", &format!("fieldlog:{{{gateway}}}:device:{name}")]);
        (name, hash)
    };
    names.into_iter().map(hash).collect()
}

/// What the hashes have to be, from the tables.
fn expected_hashes(postgres: &PostgresServer, gateway: &str) -> BTreeMap<String, Hash> {
    let mut hashes: BTreeMap<String, Hash> = BTreeMap::new();
    let columns = format!(
        "t.device, t.seq::text, to_char(t.changed, {TIME}), t.retired::text, t.source, t.parent, t.availability,
        to_char(t.availability_since, {TIME}),
        (SELECT m.description::text FROM merged_descriptions m
            WHERE m.log = t.log AND m.device = t.device AND m.attribute = '')"
    );
    let from =
        |table: &str| format!("FROM {table} t JOIN gateways g USING (log) WHERE g.gateway = '{gateway}'");
    let names = [
        "seq",
        "changed",
        "retired",
        "source",
        "parent",
        "availability",
        "availability_since",
        "description",
    ];
    for row in rows(postgres, &columns, &from("devices")) {
        let fields = names.iter().zip(1..);
        let fields = fields.filter_map(|(name, at)| Some(((*name).to_owned(), row[at].as_str()?.to_owned())));
        hashes.insert(row[0].as_str().unwrap().into(), fields.collect());
    }
    let columns = format!("device, attribute, value::text, seq::text, to_char(t.changed, {TIME})");
    for row in rows(postgres, &columns, &from("device_state")) {
        let text = |at: usize| row[at].as_str().unwrap().to_owned();
        let hash = hashes.get_mut(&text(0)).unwrap();
        for (name, at) in [("value", 2), ("seq", 3), ("changed", 4)] {
            hash.insert(format!("{name}:{}", text(1)), text(at));
        }
    }
    hashes
}

pub fn assert_redis(postgres: &PostgresServer, redis: &RedisServer, gateway: &str) {
    let (found, expected) = (hashes(redis, gateway), expected_hashes(postgres, gateway));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(!expected.is_empty());
    for (device, expected) in &expected {
        assert_eq!(&found[device], expected, "{gateway} {device}");
    }
}

/// The stream has what has arrived, in that order, each event once.
fn assert_changes(postgres: &PostgresServer, redis: &RedisServer, gateway: &str) {
    type Entry = (String, Hash);
    let found: Vec<Entry> = ask(redis, &["XRANGE", &format!("fieldlog:{{{gateway}}}:changes"), "-", "+"]);
    let columns = "log || '-' || arrival, seq::text, type, data::text";
    let from =
        format!("FROM events JOIN gateways g USING (log) WHERE g.gateway = '{gateway}' ORDER BY arrival");
    let all = rows(postgres, columns, &from);
    // The beginning was written as state.
    let expected = &all[all.len() - found.len()..];
    for ((id, fields), expected) in found.iter().zip(expected) {
        assert_eq!(json!([id, fields["seq"], fields["type"], fields["data"]]), *expected);
    }
}

/// All documents of an index, by their ids.
fn documents(opensearch: &OpenSearchServer, index: &str) -> BTreeMap<String, Json> {
    found(opensearch, index, r#"{"match_all": {}}"#)
}

fn found(opensearch: &OpenSearchServer, index: &str, query: &str) -> BTreeMap<String, Json> {
    opensearch.call("POST", "/fieldlog-*/_refresh", "");
    let search = format!(r#"{{"size": 10000, "query": {query}}}"#);
    let (status, found) = opensearch.call("POST", &format!("/{index}/_search"), &search);
    assert_eq!(status, 200, "{found}");
    let hits = found["hits"]["hits"].as_array().unwrap();
    let documents: BTreeMap<String, Json> =
        hits.iter().map(|hit| (hit["_id"].as_str().unwrap().to_owned(), hit["_source"].clone())).collect();
    assert_eq!(documents.len(), hits.len(), "a document is there in two indices");
    documents
}

/// Compares all that is there of a gateway, at most 10,000 events.
pub fn assert_opensearch(postgres: &PostgresServer, opensearch: &OpenSearchServer, gateway: &str) {
    let columns = format!(
        "l.gateway || '/' || l.epoch || '/' || e.seq, e.seq, e.type, e.device, to_char(e.recorded, {TIME}), e.data"
    );
    let of_gateway = format!("WHERE gateway = '{gateway}'");
    let query = json!({"term": {"gateway": gateway}}).to_string();
    let events = rows(postgres, &columns, &format!("FROM events e JOIN logs l USING (log) {of_gateway}"));
    let found = found(opensearch, "fieldlog-events-*", &query);
    assert_eq!(found.len(), events.len());
    for row in &events {
        let event = &found[row[0].as_str().unwrap()];
        let fields = ["seq", "type", "device", "recorded", "data"];
        assert_eq!(fields.map(|field| &event[field]), [1, 2, 3, 4, 5].map(|at| &row[at]), "{event}");
    }
    let columns = "g.gateway, d.device, d.seq, (SELECT json_object_agg(s.attribute, json_build_array(s.value::text, s.seq))
        FROM device_state s WHERE s.log = d.log AND s.device = d.device)";
    let rows = rows(postgres, columns, &format!("FROM devices d JOIN gateways g USING (log) {of_gateway}"));
    let mut expected: Vec<String> = rows.iter().map(ToString::to_string).collect();
    let found = self::found(opensearch, "fieldlog-devices", &query);
    let found = found.values().map(|device| {
        let attributes = device["attributes"].as_array().unwrap().iter();
        let of_name = attributes
            .map(|field| (field["name"].as_str().unwrap().to_owned(), json!([field["text"], field["seq"]])));
        let attributes: BTreeMap<String, Json> = of_name.collect();
        let attributes = if attributes.is_empty() { Json::Null } else { json!(attributes) };
        json!([device["gateway"], device["device"], device["seq"], attributes]).to_string()
    });
    let mut found: Vec<String> = found.collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

/// All parcels of a gateway in any order, some twice.
fn shuffled(gateway: &mut Gateway, rng: &mut fieldlog_sim::rng::Rng) -> Vec<Post> {
    let mut posts: Vec<Post> =
        gateway.split(1).into_iter().map(|part| gateway.parcel(part, Lane::Backlog)).collect();
    let twice: Vec<Post> = posts.iter().filter(|_| rng.chance(30)).cloned().collect();
    posts.extend(twice);
    for at in (1..posts.len()).rev() {
        posts.swap(at, rng.below(at + 1));
    }
    posts
}

#[test]
fn redis_has_what_the_tables_have_whatever_is_killed() {
    let (Some(postgres), Some(redis)) = (PostgresServer::start(), RedisServer::start()) else { return };
    kill_with(&postgres, redis);
}

#[test]
fn so_has_valkey() {
    let (Some(postgres), Some(valkey)) = (PostgresServer::start(), RedisServer::valkey()) else { return };
    kill_with(&postgres, valkey);
}

fn kill_with(postgres: &PostgresServer, mut redis: RedisServer) {
    let mut rng = random();
    let mut hub = Hub::with("one", postgres, &format!("lease_s = 3\n{}", redis_lines(&redis)));
    let mut gateways = ["plant-a", "plant-b"].map(|name| Gateway::new(name, Form::Compact, 5, rng.fork()));
    let mut posts = Vec::new();
    for gateway in &mut gateways {
        gateway.live(400);
        posts.extend(shuffled(gateway, &mut rng));
    }
    for (number, post) in posts.iter().enumerate() {
        match number % 16 {
            3 => hub.restart_after_kill(),
            9 => redis.kill(),
            12 => redis.restart(),
            _ => {}
        }
        hub.insist(post);
    }
    if posts.len() % 16 > 9 && posts.len() % 16 <= 12 {
        redis.restart();
    }
    let events = gateways.iter().map(Gateway::head).sum();
    settle(&hub, "redis", events, 1);
    for gateway in &gateways {
        assert_complete(postgres, gateway);
        assert_arrivals(postgres, gateway);
        assert_redis(postgres, &redis, &gateway.name);
        assert_changes(postgres, &redis, &gateway.name);
    }
    let before = gateways.each_ref().map(|gateway| hashes(&redis, &gateway.name));
    let same = |redis: &RedisServer| {
        let now = gateways.each_ref().map(|gateway| hashes(redis, &gateway.name));
        assert_eq!(now, before);
    };
    // Something that is no longer right goes when it begins anew.
    let _: i64 = ask(&redis, &["HSET", "fieldlog:{plant-a}:device:hall/0", "value:power", "-1"]);
    let (code, words) = run(&["rebuild", "--config", hub.config(), "--store", "redis"]);
    assert_eq!(code, 0, "{words}");
    settle(&hub, "redis", events, 2);
    same(&redis);
    let _: String = ask(&redis, &["FLUSHALL"]);
    for (gateway, before) in gateways.iter().zip(&before) {
        block_until(&gateway.name, || (hashes(&redis, &gateway.name) == *before).then_some(()));
    }
    settle(&hub, "redis", events, 2);
    same(&redis);
}

/// Arrivals are numbered without a gap.
pub fn assert_arrivals(postgres: &PostgresServer, gateway: &Gateway) {
    let from = format!("FROM events JOIN logs l USING (log) WHERE l.gateway = '{}'", gateway.name);
    let found = rows(postgres, "min(arrival), max(arrival), count(DISTINCT arrival)", &from);
    assert_eq!(found, [json!([1, gateway.head(), gateway.head()])]);
}

#[test]
fn a_gateway_goes_on_elsewhere_and_its_new_log_replaces_the_old_one() {
    let (Some(postgres), Some(redis)) = (PostgresServer::start(), RedisServer::start()) else { return };
    let mut rng = random();
    let lines = format!("lease_s = 3\n{}", redis_lines(&redis));
    let (first, second) = (Hub::with("first", &postgres, &lines), Hub::with("second", &postgres, &lines));
    let mut gateway = Gateway::new("plant", Form::Compact, 6, rng.fork());
    gateway.live(50);
    let middle = gateway.head();
    first.take(&gateway.parcel((1, middle), Lane::Live));
    settle(&first, "redis", middle, 1);
    first.signal("STOP");
    gateway.live(50);
    block_until("the end of the lease", || {
        let alive = postgres.sql("SELECT count(*) FROM fieldlog.hubs WHERE expires > clock_timestamp()");
        (alive.trim() == "1").then_some(())
    });
    second.insist(&gateway.parcel((middle + 1, gateway.head()), Lane::Live));
    settle(&second, "redis", gateway.head(), 1);
    first.signal("CONT");
    block_until("the new lease", || first.words().contains("the lease was over").then_some(()));
    let cursor: Hash = ask(&redis, &["HGETALL", "fieldlog:{plant}:cursor"]);
    assert_eq!((&*cursor["fence"], &cursor["arrival"]), ("2", &gateway.head().to_string()));
    assert_redis(&postgres, &redis, "plant");
    assert_changes(&postgres, &redis, "plant");
    // The gateway is set up again, with fewer devices.
    let mut anew = Gateway::new("plant", Form::Compact, 2, rng.fork());
    anew.live(20);
    second.insist(&anew.parcel((1, anew.head()), Lane::Live));
    settle(&second, "redis", anew.head(), 1);
    assert_redis(&postgres, &redis, "plant");
}

#[test]
fn opensearch_has_what_the_tables_have_even_after_it_has_lost_everything() {
    let (Some(postgres), Some(mut opensearch)) = (PostgresServer::start(), OpenSearchServer::start()) else {
        return;
    };
    let mut rng = random();
    let mut hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}", opensearch_lines(&opensearch)));
    let mut gateway = Gateway::new("plant", Form::Json, 4, rng.fork());
    gateway.live(200);
    // From an integer to a float to text, and back.
    for value in
        [Value::Int(1), Value::Float(1.5), Value::Text("open".into()), Value::Json("{\"a\":[1]}".into())]
    {
        gateway.record(&Fact::StateChanged { device: DeviceId(0), changes: vec![(AttrId(1), value)] });
    }
    for (number, post) in shuffled(&mut gateway, &mut rng).iter().enumerate() {
        if number % 8 == 5 {
            hub.restart_after_kill();
        }
        hub.insist(post);
    }
    settle(&hub, "opensearch", gateway.head(), 1);
    assert_opensearch(&postgres, &opensearch, "plant");
    let digest = |opensearch: &OpenSearchServer| documents(opensearch, "fieldlog-events-*,fieldlog-devices");
    let before = digest(&opensearch);
    // Numbers can be searched although the attribute is sometimes text.
    let query = r#"{"query": {"nested": {"path": "attributes", "query": {"bool": {"filter": [
        {"term": {"attributes.name": "energy"}}, {"range": {"attributes.number": {"gte": 1.5, "lte": 1.5}}}]}}}}}"#;
    let (_, found) = opensearch.call("POST", "/fieldlog-events-*/_search", query);
    assert!(found["hits"]["total"]["value"].as_u64().unwrap() >= 1, "{found}");
    opensearch.replace();
    block_until("everything again", || {
        let (status, found) = opensearch.call("GET", "/fieldlog-events-*/_count", "");
        (status == 200 && found["count"] == gateway.head()).then_some(())
    });
    settle(&hub, "opensearch", gateway.head(), 1);
    assert_eq!(digest(&opensearch), before);
    let (code, words) = run(&["rebuild", "--config", hub.config(), "--store", "opensearch"]);
    assert_eq!(code, 0, "{words}");
    settle(&hub, "opensearch", gateway.head(), 2);
    let mut again = digest(&opensearch);
    for document in again.values_mut().filter(|document| document["generation"] == 2) {
        document["generation"] = 1.into();
    }
    assert_eq!(again, before);
    assert_opensearch(&postgres, &opensearch, "plant");
}

/// How far it is can be seen while it begins anew, which may take hours.
#[test]
fn a_store_that_begins_anew_says_how_far_it_is() {
    let (Some(postgres), Some(opensearch)) = (PostgresServer::start(), OpenSearchServer::start()) else {
        return;
    };
    let mut rng = random();
    let hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}", opensearch_lines(&opensearch)));
    let mut gateways: Vec<Gateway> =
        (0..8).map(|number| Gateway::new(&format!("plant-{number}"), Form::Compact, 3, rng.fork())).collect();
    for gateway in &mut gateways {
        gateway.live(1_000);
        hub.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    }
    let events = gateways.iter().map(Gateway::head).sum();
    settle(&hub, "opensearch", events, 1);
    let (code, words) = run(&["rebuild", "--config", hub.config(), "--store", "opensearch"]);
    assert_eq!(code, 0, "{words}");
    block_until("how far it is", || {
        let now = standing(&hub, "opensearch").unwrap();
        let lag = now["lag_events"].as_u64().unwrap();
        let is_anew = now["generation"] == 2;
        assert!(!is_anew || lag > 0 || now["state"] == "rebuilding", "it ends before it has said anything");
        (is_anew && now["state"] == "rebuilding" && 0 < lag && lag < events).then_some(())
    });
    settle(&hub, "opensearch", events, 2);
    gateways.iter().for_each(|gateway| assert_opensearch(&postgres, &opensearch, &gateway.name));
}

/// An index that somebody has made, in which a field is of another type.
#[test]
fn a_document_that_is_refused_does_not_hold_up_others() {
    let (Some(postgres), Some(opensearch)) = (PostgresServer::start(), OpenSearchServer::start()) else {
        return;
    };
    let mapping = r#"{"mappings": {"properties": {"text": {"type": "long"}}}}"#;
    assert_eq!(opensearch.call("PUT", "/fieldlog-devices", mapping).0, 200);
    let hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}", opensearch_lines(&opensearch)));
    let gateway = Gateway::new("plant", Form::Json, 3, random());
    hub.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    settle(&hub, "opensearch", gateway.head(), 1);
    let devices = documents(&opensearch, "fieldlog-devices");
    assert_eq!(devices.len(), 3);
    assert!(
        devices.values().all(|device| device["refused"].is_string() && device["seq"].is_u64()),
        "{devices:?}"
    );
    assert_eq!(documents(&opensearch, "fieldlog-events-*").len() as u64, gateway.head());
    assert!(hub.words().contains("OpenSearch does not take"), "{}", hub.words());
    assert!(standing(&hub, "opensearch").unwrap()["reduced"].as_u64().unwrap() >= 3);
    let metrics = hub.get("/metrics").body;
    assert!(metrics.contains("fieldlog_hub_store_lag_events{store=\"opensearch\"} 0"), "{metrics}");
    assert!(!metrics.contains("store=\"redis\""), "{metrics}");
}

#[test]
fn a_store_that_is_not_there_is_named_and_waited_for() {
    let (Some(postgres), Some(mut redis)) = (PostgresServer::start(), RedisServer::start()) else { return };
    redis.kill();
    let hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}", redis_lines(&redis)));
    let gateway = Gateway::new("plant", Form::Json, 3, random());
    hub.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    let failing =
        block_until("the failure", || standing(&hub, "redis").filter(|now| now["state"] == "failing"));
    let why = failing["why"].as_str().unwrap();
    assert!(why.contains(&format!("Redis at 127.0.0.1:{}: ", redis.port)), "{why}");
    assert_eq!(standing(&hub, "opensearch").unwrap()["state"], "off");
    assert!(hub.get("/metrics").body.contains("fieldlog_hub_store_failing{store=\"redis\"} 1"));
    redis.restart();
    settle(&hub, "redis", gateway.head(), 1);
    assert_redis(&postgres, &redis, "plant");
    assert!(hub.words().contains("redis: follows again"), "{}", hub.words());
    let (code, words) = run(&["rebuild", "--config", hub.config(), "--store", "opensearch"]);
    assert_eq!(code, 69);
    assert!(words.contains("the configuration has no [opensearch]"), "{words}");
}
