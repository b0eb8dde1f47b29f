//! Tables that are made anew beside those in use.

use fieldlog_sim::servers::nats::NatsServer;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::redis::RedisServer;
use fieldlog_sim::servers::wait::until;
use fieldlog_wire::Lane;
use serde_json::{Value as Json, json};

use crate::gateway::{Form, Gateway, random};
use crate::hub::{Hub, run};
use crate::load::{exported, load};
use crate::nats;
use crate::stores::{assert_arrivals, assert_redis, redis_lines, settle};
use crate::tables::{assert_complete, assert_same, has, rows};

fn rebuild(hub: &Hub) -> (i32, String) {
    run(&["rebuild", "--config", hub.config(), "--store", "postgres"])
}

fn send(hub: &Hub, gateway: &mut Gateway, records: usize) {
    let from = if gateway.head() < 20 { 1 } else { gateway.head() + 1 };
    gateway.live(records);
    for part in gateway.split(from) {
        hub.insist(&gateway.parcel(part, Lane::Live));
    }
}

/// Rows that are wrong become right, while gateways go on to send, and whoever follows the tables notices nothing.
#[test]
fn tables_are_made_anew_while_hubs_run() {
    let (Some(postgres), Some(redis)) = (PostgresServer::start(), RedisServer::start()) else { return };
    let mut rng = random();
    let hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}", redis_lines(&redis)));
    let mut gateways = ["plant-a", "plant-b", "plant-c"].map(|name| {
        let mut gateway = Gateway::new(name, Form::Compact, 3, rng.fork());
        send(&hub, &mut gateway, 300);
        gateway
    });
    let reader = "CREATE ROLE grafana; GRANT USAGE ON SCHEMA fieldlog TO grafana;
        GRANT SELECT ON fieldlog.gateway_lag, fieldlog.events TO grafana;
        CREATE VIEW public.mine AS SELECT * FROM fieldlog.device_state;
        UPDATE fieldlog.device_state SET value = '-1', number = -1;
        DELETE FROM fieldlog.aggregates WHERE length_s = 60; DELETE FROM fieldlog.descriptions";
    postgres.sql(reader);
    let (code, words) = std::thread::scope(|scope| {
        let rebuilding = scope.spawn(|| rebuild(&hub));
        while !rebuilding.is_finished() {
            gateways.iter_mut().for_each(|gateway| send(&hub, gateway, 3));
        }
        rebuilding.join().unwrap()
    });
    assert_eq!(code, 0, "{words}");
    assert!(words.contains("events are in the new tables ("), "{words}");
    assert!(words.contains("remove them with `DROP SCHEMA fieldlog_before CASCADE`"), "{words}");
    assert!(
        words.contains("These views show the old tables until they are made anew: public.mine"),
        "{words}"
    );
    gateways.iter_mut().for_each(|gateway| send(&hub, gateway, 50));
    for gateway in &gateways {
        assert_complete(&postgres, gateway);
        assert_arrivals(&postgres, gateway);
    }
    settle(&hub, "redis", gateways.iter().map(Gateway::head).sum(), 1);
    gateways.iter().for_each(|gateway| assert_redis(&postgres, &redis, &gateway.name));
    // What others may see they may still see.
    postgres.sql("SET ROLE grafana; SELECT count(*) FROM fieldlog.gateway_lag, fieldlog.events");
    assert_eq!(rows(&postgres, "to_regclass('filled') IS NULL", ""), [json!([true])]);
    // Another one would overwrite the old tables.
    let (code, words) = rebuild(&hub);
    assert_eq!(code, 69);
    assert!(words.contains("there is a schema `fieldlog_before` already"), "{words}");
    postgres.sql("DROP SCHEMA fieldlog_before CASCADE");
    assert_eq!(rebuild(&hub).0, 0);
    gateways.iter().for_each(|gateway| assert_complete(&postgres, gateway));
    // A log that is new gets a number that no other has.
    let mut new = Gateway::new("plant-d", Form::Json, 3, rng.fork());
    send(&hub, &mut new, 10);
    assert_complete(&postgres, &new);
}

/// What came from events that are no longer kept stays; all else is made anew, also by a process that goes on after another.
#[test]
fn what_is_older_than_the_events_that_are_kept_stays() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let hub = Hub::start("one", &postgres);
    let mut gateway = Gateway::new("plant", Form::Json, 4, rng.fork());
    send(&hub, &mut gateway, 6_000);
    let days = "SELECT relname FROM pg_class WHERE relname ~ '^events_[0-9]{8}$' AND relnamespace = 'fieldlog'::regnamespace
        AND relkind = 'r' ORDER BY 1";
    let days: Vec<String> = postgres.sql(days).lines().map(str::to_owned).collect();
    assert!(days.len() > 1, "{days:?}");
    let models = ["devices", "descriptions", "device_state", "commands"];
    let all = |schema: &str| -> Vec<Vec<Json>> {
        let table = |table: &&str| {
            postgres
                .sql(&format!("SELECT to_jsonb(t) FROM {schema}.{table} t ORDER BY to_jsonb(t)::text"))
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        models.iter().map(table).collect()
    };
    // Sums are added in another order.
    let windows = "SELECT to_jsonb(t) - 'sum', round(sum::numeric, 3) FROM SCHEMA.aggregates t ORDER BY 1, 2";
    let aggregates = |schema: &str| postgres.sql(&windows.replace("SCHEMA", schema));
    let before = (all("fieldlog"), aggregates("fieldlog"));
    postgres.sql(&format!("DROP TABLE fieldlog.{}", days[0]));
    // As an earlier process has left it: a schema that is begun, in which a log has its beginning.
    let (code, words) = run(&["rebuild", "--config", hub.config(), "--store", "postgres", "--abandon"]);
    assert_eq!((code, words.contains("no rebuild has been begun")), (0, true), "{words}");
    postgres.sql("CREATE SCHEMA fieldlog_next; CREATE TABLE fieldlog_next.filled (log integer)");
    let (code, words) = run(&["rebuild", "--config", hub.config(), "--store", "postgres", "--abandon"]);
    assert_eq!((code, words.contains("is removed")), (0, true), "{words}");
    let (code, words) = rebuild(&hub);
    assert_eq!(code, 0, "{words}");
    assert_eq!((all("fieldlog"), aggregates("fieldlog")), before);
    let (position, events) =
        (gateway.head(), rows(&postgres, "count(*)", "FROM events")[0][0].as_u64().unwrap());
    assert!(events < position, "{events} of {position}");
    // What is kept is made anew, what is not cannot be.
    postgres.sql(
        "DROP SCHEMA fieldlog_before CASCADE; UPDATE fieldlog.device_state SET value = '-1', number = -1;
         UPDATE fieldlog.aggregates SET count = 0 WHERE start >= (SELECT date_trunc('day', min(recorded)) FROM fieldlog.events)",
    );
    assert_eq!(rebuild(&hub).0, 0);
    assert_eq!(aggregates("fieldlog"), before.1);
    let newest = "FROM device_state s JOIN events e USING (log, seq) WHERE s.number = -1 AND e.data::text NOT LIKE '%-1%'";
    assert_eq!(rows(&postgres, "count(*)", newest), [json!([0])]);
    send(&hub, &mut gateway, 20);
}

/// A second database beside the one in use is filled from the stream and from a file, and takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_database_is_filled_from_the_stream_and_takes_over() {
    let (Some(blue), Some(green)) = (PostgresServer::start(), PostgresServer::start()) else { return };
    let Some(server) = NatsServer::with_stream() else { return };
    let (dir, mut rng) = (tempfile::tempdir().unwrap(), random());
    let jetstream = nats::connect(&server).await;
    let publish = async |gateways: &mut [Gateway], records: usize| {
        for gateway in gateways {
            let from = if gateway.head() < 20 { 1 } else { gateway.head() + 1 };
            gateway.live(records);
            for part in gateway.split(from) {
                nats::try_publish(&jetstream, &gateway.name, gateway.parcel(part, Lane::Live)).await.unwrap();
            }
        }
    };
    let mut gateways = ["plant-a", "plant-b"].map(|name| Gateway::new(name, Form::Compact, 3, rng.fork()));
    let mut old = Hub::with("one", &blue, &nats::lines(&server));
    // What the stream does not have any more, or has never had.
    let mut posted = Gateway::new("plant-c", Form::Compact, 3, rng.fork());
    posted.live(300);
    old.take(&posted.parcel((1, posted.head()), Lane::Live));
    publish(&mut gateways, 300).await;
    let new = Hub::with("one", &green, &format!("{}consumer = \"green\"\n", nats::lines(&server)));
    publish(&mut gateways, 100).await;
    let file = dir.path().join("plant-c");
    exported(&mut posted, &file);
    let (code, words) = load(&new, &[&file]);
    assert_eq!(code, 0, "{words}");
    publish(&mut gateways, 100).await;
    // As the documentation says how to see that it has everything.
    let positions = |hub: &Hub| -> Vec<Json> {
        let body: Json = serde_json::from_str(&hub.get("/api/v1/gateways").body).unwrap();
        let gateways = body["items"].as_array().unwrap().iter();
        gateways
            .map(|gateway| json!(["gateway", "position", "lag_events"].map(|field| &gateway[field])))
            .collect()
    };
    let wanted: Vec<Json> =
        gateways.iter().chain([&posted]).map(|gateway| json!([gateway.name, gateway.head(), 0])).collect();
    for hub in [&old, &new] {
        until("everything", || positions(hub) == wanted).await;
        assert_eq!(
            (&hub.sources()[0]["state"], &hub.sources()[0]["stopped"]),
            (&json!("reading"), &json!([]))
        );
    }
    assert_same(&blue, &green);
    gateways.iter().chain([&posted]).for_each(|gateway| assert_complete(&green, gateway));
    old.signal("TERM");
    assert_eq!(old.ends(), 0);
    publish(&mut gateways, 50).await;
    for gateway in &gateways {
        until(&gateway.name, || has(&green, gateway)).await;
        assert_complete(&green, gateway);
    }
    // The way back: the first one goes on where it was.
    old.restart();
    for gateway in &gateways {
        until(&gateway.name, || has(&blue, gateway)).await;
    }
    assert_same(&blue, &green);
}

#[test]
fn what_cannot_be_rebuilt_is_explained() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut hub = Hub::start("one", &postgres);
    hub.kill();
    postgres.sql("DROP SCHEMA fieldlog CASCADE");
    let (code, words) = rebuild(&hub);
    assert_eq!(code, 69);
    assert!(words.contains("the schema `fieldlog` has no tables of fieldlog-hub"), "{words}");
    let (code, words) = run(&["rebuild", "--config", hub.config(), "--store", "redis", "--abandon"]);
    assert_eq!(code, 64);
    assert!(words.contains("--abandon is for --store postgres"), "{words}");
}
