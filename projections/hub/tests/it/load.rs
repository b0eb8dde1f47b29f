//! Logs from files of `fieldlog export --format parcels`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use fieldlog_sim::servers::nats::NatsServer;
use fieldlog_sim::servers::opensearch::OpenSearchServer;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::redis::RedisServer;
use fieldlog_sim::servers::wait::{block_until, until};
use fieldlog_sim::servers::{Process, skip};
use fieldlog_wire::{Lane, parcels};
use serde_json::{Value as Json, json};

use crate::gateway::{Form, Gateway, Post, random};
use crate::hub::{Hub, run};
use crate::nats;
use crate::stores::{assert_opensearch, assert_redis, opensearch_lines, redis_lines, settle};
use crate::tables::{assert_complete, assert_same, has, rows};

pub fn load(hub: &Hub, files: &[&Path]) -> (i32, String) {
    let files = files.iter().map(|file| file.to_str().unwrap());
    run(&["load", "--config", hub.config()].into_iter().chain(files).collect::<Vec<_>>())
}

/// The file of these parcels.
fn file(posts: &[Post]) -> Vec<u8> {
    let parcel = |post: &Post| [&parcels::head(&post.body)[..], &post.body].concat();
    let all: Vec<u8> = posts.iter().flat_map(parcel).collect();
    [&parcels::MAGIC[..], &all, &parcels::END].concat()
}

/// The log of a gateway in parcels, and the file of these.
pub fn exported(gateway: &mut Gateway, path: &Path) -> Vec<Post> {
    let posts: Vec<Post> =
        gateway.split(1).into_iter().map(|part| gateway.parcel(part, Lane::Backlog)).collect();
    std::fs::write(path, file(&posts)).unwrap();
    posts
}

/// PostgreSQL is lost: the files bring everything back, each event once, however often they are loaded.
#[test]
fn a_lost_database_is_filled_from_files() {
    let Some(postgres) = PostgresServer::start() else { return };
    let (dir, mut rng) = (tempfile::tempdir().unwrap(), random());
    let mut gateways = ["plant-a", "plant-b"].map(|name| Gateway::new(name, Form::Compact, 4, rng.fork()));
    let files: Vec<PathBuf> = gateways
        .iter_mut()
        .map(|gateway| {
            gateway.live(1_500);
            let path = dir.path().join(&gateway.name);
            exported(gateway, &path);
            path
        })
        .collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    // No hub has ever run here.
    let mut hub = Hub::start("one", &postgres);
    hub.kill();
    postgres.sql("DROP SCHEMA fieldlog CASCADE");
    let (code, words) = load(&hub, &files);
    assert_eq!(code, 0, "{words}");
    for gateway in &gateways {
        assert_complete(&postgres, gateway);
        let all = gateway.head();
        let said = format!(
            "positions 1 to {all} of the gateway {}, epoch {}, are in the tables; {all} of {all} events were new",
            gateway.name, gateway.epoch
        );
        assert!(words.contains(&said), "{said}: {words}");
    }
    // It leaves nothing that others would have to wait for.
    assert_eq!(rows(&postgres, "count(*)", "FROM hubs WHERE name LIKE 'load %'"), [json!([0])]);
    let (code, words) = load(&hub, &files);
    assert_eq!(code, 0, "{words}");
    assert!(words.contains(&format!("; 0 of {} events were new", gateways[0].head())), "{words}");
    gateways.iter().for_each(|gateway| assert_complete(&postgres, gateway));
    hub.restart();
    for gateway in &mut gateways {
        let from = gateway.head() + 1;
        gateway.live(20);
        hub.take(&gateway.parcel((from, gateway.head()), Lane::Live));
        assert_complete(&postgres, gateway);
    }
}

/// The gateway sends to a hub, in other parcels, and its older records come from the file at the same time; loading is
/// killed meanwhile.
#[test]
fn files_are_loaded_while_the_gateway_sends() {
    let Some(postgres) = PostgresServer::start() else { return };
    let (dir, mut rng) = (tempfile::tempdir().unwrap(), random());
    let path = dir.path().join("plant");
    let hub = Hub::start("one", &postgres);
    let mut gateway = Gateway::new("plant", Form::Compact, 4, rng.fork());
    gateway.live(4_000);
    exported(&mut gateway, &path);
    // What the hub already has reaches into the file.
    let begin = gateway.head() - 100;
    hub.take(&gateway.parcel((begin, gateway.head()), Lane::Live));
    let is_loaded = || rows(&postgres, "position >= 4000", "FROM logs") == [json!([true])];
    let send = |gateway: &mut Gateway| {
        let from = gateway.head() + 1;
        gateway.live(3);
        hub.insist(&gateway.parcel((from, gateway.head()), Lane::Live));
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_fieldlog-hub"))
        .args(["load", "--config", hub.config()])
        .arg(&path)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = SystemTime::now();
    while rows(&postgres, "events < 400", "FROM logs") == [json!([true])] {
        send(&mut gateway);
        assert!(begun.elapsed().unwrap().as_secs() < 60, "nothing is loaded");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, words) = std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(&hub, &[&path]));
        while !loading.is_finished() {
            send(&mut gateway);
        }
        loading.join().unwrap()
    });
    assert_eq!(code, 0, "{words}");
    assert!(is_loaded());
    assert_complete(&postgres, &gateway);
}

/// SIGTERM ends it early, with a code of its own; it goes on with the same file.
#[test]
fn loading_is_stopped_and_goes_on() {
    let Some(postgres) = PostgresServer::start() else { return };
    let (dir, mut rng) = (tempfile::tempdir().unwrap(), random());
    let path = dir.path().join("plant");
    let hub = Hub::start("one", &postgres);
    let mut gateway = Gateway::new("plant", Form::Compact, 4, rng.fork());
    gateway.live(3_000);
    exported(&mut gateway, &path);
    // Each transaction takes a while, so that it does not end by itself.
    postgres.sql(
        "CREATE FUNCTION fieldlog.wait() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;
         CREATE TRIGGER wait BEFORE UPDATE ON fieldlog.logs FOR EACH STATEMENT EXECUTE FUNCTION fieldlog.wait()",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldlog-hub"));
    command.env("NO_COLOR", "1").args(["load", "--config", hub.config()]).arg(&path);
    let mut loading = Process(command.stderr(Stdio::piped()).spawn().unwrap());
    let events = || rows(&postgres, "coalesce(sum(events), 0)", "FROM logs")[0][0].as_u64().unwrap();
    block_until("the first events", || (events() > 0).then_some(()));
    loading.signal("TERM");
    let status = loading.0.wait().unwrap();
    let words = std::io::read_to_string(loading.0.stderr.take().unwrap()).unwrap();
    assert_eq!(status.code(), Some(75), "{words}");
    assert!(words.contains("stopped; run it again, and it goes on"), "{words}");
    let before = events();
    assert!(0 < before && before < gateway.head(), "{before}");
    // Nobody has to wait for the end of its lease.
    assert_eq!(rows(&postgres, "count(*)", "FROM hubs WHERE name LIKE 'load %'"), [json!([0])]);
    postgres.sql("DROP TRIGGER wait ON fieldlog.logs");
    let (code, words) = load(&hub, &[&path]);
    let said = format!("; {} of {} events were new", gateway.head() - before, gateway.head());
    assert_eq!((code, words.contains(&said)), (0, true), "{said}: {words}");
    assert_complete(&postgres, &gateway);
}

/// Older logs that are loaded after the newest one change nothing that is current: all is as if they had come in order.
#[test]
fn older_logs_are_loaded_as_history() {
    let (Some(ordered), Some(postgres)) = (PostgresServer::start(), PostgresServer::start()) else { return };
    let (Some(redis), Some(opensearch)) = (RedisServer::start(), OpenSearchServer::start()) else { return };
    let (dir, mut rng) = (tempfile::tempdir().unwrap(), random());
    let mut first = Gateway::new("plant", Form::Compact, 4, rng.fork());
    first.live(300);
    let mut second = first.successor(rng.fork());
    // What the first log has had in these windows does not count: another history has taken its place.
    first.live(100);
    second.live(300);
    let mut third = second.successor(rng.fork());
    third.live(300);
    let mut logs = [first, second, third];
    let files: Vec<PathBuf> = (0..)
        .zip(&mut logs)
        .map(|(number, log)| {
            let path = dir.path().join(format!("{number}"));
            exported(log, &path);
            path
        })
        .collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let in_order = Hub::start("one", &ordered);
    let (code, words) = load(&in_order, &files);
    assert_eq!(code, 0, "{words}");
    let lines = format!("lease_s = 3\n{}{}", redis_lines(&redis), opensearch_lines(&opensearch));
    let hub = Hub::with("one", &postgres, &lines);
    let [first, second, third] = &mut logs;
    hub.take(&third.parcel((1, third.head()), Lane::Live));
    settle(&hub, "redis", third.head(), 1);
    // Only the second log says that the first one was before it; and only the third one, that the second one was.
    let (code, words) = load(&hub, &[files[1], files[0]]);
    assert_eq!(code, 0, "{words}");
    let said = format!("epoch {} is older; that of epoch {} stays the current one", first.epoch, third.epoch);
    assert!(words.contains(&said), "{words}");
    for log in [&*first, second, third] {
        assert_complete(&postgres, log);
    }
    assert_same(&postgres, &ordered);
    let logs = |hub: &Hub| -> Vec<Json> {
        let body: Json = serde_json::from_str(&hub.get("/api/v1/gateways/plant").body).unwrap();
        body["items"].as_array().unwrap().iter().map(|log| log["epoch"].clone()).collect()
    };
    assert_eq!(logs(&hub), logs(&in_order));
    settle(&hub, "opensearch", first.head() + second.head() + third.head(), 1);
    assert_redis(&postgres, &redis, "plant");
    assert_opensearch(&postgres, &opensearch, "plant");
    // The gateway goes on as before, and whatever is not its history is still seen: in an older log as in the current one.
    let mut copies = [&*first, &*third].map(|log| log.copy(rng.fork()));
    let from = third.head() + 1;
    for log in [&mut *first, third] {
        log.live(10);
    }
    hub.insist(&first.parcel((1, first.head()), Lane::Backlog));
    hub.insist(&third.parcel((from, third.head()), Lane::Live));
    for copy in &mut copies {
        copy.live(10);
        assert_eq!(hub.post(&copy.parcel((1, copy.head()), Lane::Live)).status, 409);
    }
    let current = rows(&postgres, "epoch, position", "FROM gateway_lag");
    assert_eq!(current, [json!([third.epoch.to_string(), third.head()])]);
    settle(&hub, "redis", third.head(), 1);
    assert_redis(&postgres, &redis, "plant");
}

/// What a process that loads would have of a stream nobody would read.
#[tokio::test]
async fn who_loads_has_no_share_of_a_stream() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = NatsServer::with_stream() else { return };
    let mut rng = random();
    let mut hub = Hub::with("one", &postgres, &nats::lines(&server));
    hub.kill();
    postgres.sql(
        "INSERT INTO fieldlog.hubs (hub, name, expires) VALUES ('load 1-1', 'load 1', now() + interval '1 hour')",
    );
    hub.restart();
    let jetstream = nats::connect(&server).await;
    let gateways: Vec<Gateway> =
        (0..8).map(|number| Gateway::new(&format!("plant-{number}"), Form::Compact, 2, rng.fork())).collect();
    for gateway in &gateways {
        let all = gateway.parcel((1, gateway.head()), Lane::Live);
        nats::try_publish(&jetstream, &gateway.name, all).await.unwrap();
    }
    for gateway in &gateways {
        until(&gateway.name, || has(&postgres, gateway)).await;
    }
}

#[test]
fn what_cannot_be_loaded_is_explained() {
    let Some(postgres) = PostgresServer::start() else { return };
    let (dir, mut rng) = (tempfile::tempdir().unwrap(), random());
    let hub = Hub::start("one", &postgres);
    let path = dir.path().join("plant");
    let mut gateway = Gateway::new("plant", Form::Compact, 3, rng.fork());
    gateway.live(300);
    let posts = exported(&mut gateway, &path);
    let whole = std::fs::read(&path).unwrap();
    let check = |bytes: &[u8], words: &str| {
        std::fs::write(&path, bytes).unwrap();
        let (code, said) = load(&hub, &[&path]);
        assert_eq!((code, said.contains(words)), (65, true), "{words}: {said}");
    };
    check(b"{\"id\":\"plant/00000000000000aa/1\"}\n", "has events as text, without the chain");
    check(b"hello", "is no file of `fieldlog export --format parcels`");
    let mut damaged = whole.clone();
    let at = 8 + 12 + posts[0].body.len();
    damaged[at + 12 + 20] ^= 0x40;
    check(&damaged, &format!("is damaged in the parcel at byte {at}"));
    // Whole, but not what a gateway makes.
    let body = [&posts[1].body[..30], &[7; 30]].concat();
    check(&file(&[posts[0].clone(), Post { body, ..posts[1].clone() }]), "its 2. parcel cannot be read");
    let cut = file(&posts[..3]).len() - 4 + 10;
    let last = posts[2].headers.iter().find(|(name, _)| name == "fieldlog-last").unwrap().1.clone();
    check(
        &whole[..cut],
        &format!(
            "breaks off at byte {cut}: it was cut, as by a full disk, or its export ended early. positions 1 to {last} of {} of \
             the gateway plant",
            gateway.head()
        ),
    );
    assert_eq!(rows(&postgres, "position::text", "FROM logs"), [json!([last])]);
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(load(&hub, &[&path]).0, 0);
    assert_complete(&postgres, &gateway);
    // A clone's log contradicts that.
    let mut clone = Gateway::new("plant", Form::Compact, 3, rng.fork());
    clone.epoch = gateway.epoch;
    clone.live(300);
    check(&file(&[clone.parcel((1, clone.head()), Lane::Backlog)]), "is not loaded: ");
    // A log of before must not pass for the newest.
    let old = Gateway::new("other", Form::Compact, 3, rng.fork());
    let old_file = file(&[old.parcel((1, old.head()), Lane::Backlog)]);
    let mut new = Gateway::new("other", Form::Compact, 3, rng.fork());
    new.live(300);
    hub.take(&new.parcel((1, new.head()), Lane::Live));
    check(
        &old_file,
        &format!(
            "is of an older log of the gateway other, epoch {}, as it seems: the tables have one of epoch {} that ends later",
            old.epoch, new.epoch
        ),
    );
    // Somebody knows that it is.
    let (code, said) = run(&["load", "--older", "--config", hub.config(), path.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    assert_complete(&postgres, &old);
    let current = rows(&postgres, "epoch", "FROM gateway_lag WHERE gateway = 'other'");
    assert_eq!(current, [json!([new.epoch.to_string()])]);
    let (code, said) = run(&["load", "--config", hub.config(), "/nowhere"]);
    assert_eq!((code, said.contains("/nowhere cannot be read")), (66, true), "{said}");
}

/// The program of gateways, which is built beside the hub.
fn fieldlog(arguments: &[&str]) -> Option<Vec<u8>> {
    let program = Path::new(env!("CARGO_BIN_EXE_fieldlog-hub")).with_file_name("fieldlog");
    if !program.exists() {
        skip("fieldlog is not built: cargo build -p fieldlog");
        return None;
    }
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// What a gateway has exported as parcels is in the tables, event by event, as it is in its export as text.
#[test]
fn an_export_of_a_gateway_is_loaded() {
    let Some(postgres) = PostgresServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (events, data, config) = (path("events.ndjson"), path("data"), path("fieldlog.toml"));
    let lines = (1..=12_000).map(|seq| {
        let (second, device) = (seq % 60, seq % 7);
        format!(
            r#"{{"id":"plant/00000000000000aa/{seq}","seq":{seq},"type":"state_changed","time":"2026-01-02T03:04:{second:02}Z","device":"hall/{device}","data":{{"changes":{{"level":{seq},"mode":"m{device}"}}}}}}"#
        ) + "\n"
    });
    std::fs::write(&events, lines.collect::<String>()).unwrap();
    std::fs::write(&config, "gateway_id = \"plant\"\n").unwrap();
    let Some(_) = fieldlog(&["import", &events, "--data-dir", &data]) else { return };
    let of_data = ["export", "--data-dir", &data, "--config", &config, "--format"];
    let export = |format: &str| fieldlog(&[&of_data[..], &[format]].concat()).unwrap();
    let exported = path("plant.parcels");
    std::fs::write(&exported, export("parcels")).unwrap();
    let hub = Hub::start("one", &postgres);
    let (code, words) = load(&hub, &[Path::new(&exported)]);
    assert_eq!(code, 0, "{words}");
    let text = String::from_utf8(export("ndjson")).unwrap();
    let expected: Vec<Json> = text
        .lines()
        .map(|line| {
            let event: Json = serde_json::from_str(line).unwrap();
            json!([event["seq"], event["type"], event["device"], event["data"]])
        })
        .collect();
    assert!(expected.len() > 12_000, "{}", expected.len());
    let found = rows(&postgres, "seq, type, device, data", "FROM events ORDER BY seq");
    assert_eq!(found.len(), expected.len());
    found.iter().zip(&expected).for_each(|(found, expected)| assert_eq!(found, expected));
    let states =
        rows(&postgres, "device, number", "FROM device_state WHERE attribute = 'level' ORDER BY device");
    let newest = |device: u64| (0..).map(|back| 12_000 - back).find(|seq| seq % 7 == device).unwrap();
    let newest: Vec<Json> = (0..7).map(|device| json!([format!("hall/{device}"), newest(device)])).collect();
    assert_eq!(states, newest);
    let account = rows(&postgres, "position, missing, forked, faults", "FROM logs");
    assert_eq!(account, [json!([expected.len(), [], null, []])]);
}
