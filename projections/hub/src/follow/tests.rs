//! What a process that has lost its gateway can still do to a store: nothing.

use ::redis::IntoConnectionInfo;
use fieldlog_sim::servers::opensearch::OpenSearchServer;
use fieldlog_sim::servers::redis::RedisServer;

use super::*;
use crate::config;

fn log(fence: i64) -> Log {
    let (gateway, epoch) = ("plant".into(), "00000000000000aa".into());
    Log { gateway, fence, log: 7, epoch, events: 2, is_newest: true }
}

fn at(arrival: i64) -> Cursor {
    let epoch = "00000000000000aa".into();
    Cursor { generation: 1, epoch, log: 7, arrival, is_complete: true, mark: String::new() }
}

fn step(to: i64, value: &str) -> Step {
    let row = format!(
        r#"{{"device":"lamp","seq":{to},"changed":"2026-01-02T03:04:05.000000Z","source":null,"parent":null,
            "retired":false,"availability":null,"availability_since":null,"description":null,
            "state":[{{"attribute":"on","value":{value},"number":null,"seq":{to},"changed":"2026-01-02T03:04:05.000000Z"}}]}}"#
    );
    Step { events: Vec::new(), to, devices: vec![serde_json::from_str(&row).unwrap()], as_of: to }
}

/// Begins as one process, goes on as its successor, and then lets the first one try; returns what it gets.
async fn contest<S: Store>(mut first: S, mut second: S) -> Fault {
    let begun = first.begin(&log(1), None, Cursor { is_complete: false, ..at(0) }).await.unwrap();
    let done = first.complete(&log(1), &begun, at(0)).await.unwrap();
    let taken = second.cursor(&log(2)).await.unwrap().unwrap();
    assert_eq!((taken.arrival, taken.is_complete, &taken.mark), (0, true, &done.mark));
    let now = second.put(&log(2), &taken, at(1), &step(1, "true")).await.unwrap();
    // Nor does the second one write twice from where it was.
    assert!(matches!(second.put(&log(2), &taken, at(2), &step(1, "true")).await, Err(Fault::Moved)));
    let refused = first.put(&log(1), &done, at(1), &step(0, "false")).await.unwrap_err();
    assert!(matches!(first.begin(&log(1), None, at(0)).await, Err(Fault::Moved | Fault::Fenced(2))));
    assert_eq!(second.cursor(&log(2)).await.unwrap().unwrap(), now);
    refused
}

#[tokio::test]
async fn redis_refuses_who_is_fenced() {
    for server in [RedisServer::start(), RedisServer::valkey()] {
        let Some(server) = server else { continue };
        let settings = config::Redis {
            address: server.address(),
            connect: server.address().into_connection_info().unwrap(),
            tls: false,
            ca_file: None,
            password_file: None,
            prefix: "p".into(),
            changes_max: 10,
            ttl_s: Some(1_000),
        };
        let refused = contest(redis::Redis::new(settings.clone()), redis::Redis::new(settings.clone())).await;
        assert!(matches!(refused, Fault::Fenced(2)), "{refused:?}");
        let client = ::redis::Client::open(server.address()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let key = "p:{plant}:device:lamp";
        let value: String =
            ::redis::cmd("HGET").arg(key).arg("value:on").query_async(&mut connection).await.unwrap();
        assert_eq!(value, "true");
        let ttl: i64 = ::redis::cmd("TTL").arg(key).query_async(&mut connection).await.unwrap();
        assert!((1..=1_000).contains(&ttl), "{ttl}");
    }
}

#[tokio::test]
async fn opensearch_keeps_what_is_newer() {
    let Some(server) = OpenSearchServer::start() else { return };
    let settings = config::OpenSearch {
        authority: format!("127.0.0.1:{}", server.port),
        tls: false,
        ca_file: None,
        user: None,
        password_file: None,
        prefix: "p".into(),
    };
    let store = || opensearch::OpenSearch::new(settings.clone());
    let refused = contest(store(), store()).await;
    assert!(matches!(refused, Fault::Moved), "{refused:?}");
    let fenced = store().cursor(&log(1)).await;
    assert!(matches!(fenced, Err(Fault::Fenced(2))), "{fenced:?}");
    server.call("POST", "/p-devices/_refresh", "");
    let (_, found) = server.call("POST", "/p-devices/_search", "{}");
    assert_eq!(found["hits"]["total"]["value"], 1, "{found}");
    assert_eq!(found["hits"]["hits"][0]["_source"]["attributes"][0]["text"], "true", "{found}");
}
