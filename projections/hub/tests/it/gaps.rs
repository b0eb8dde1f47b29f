//! What is missing is asked for, and what the gateway does not have any more is lost.

use std::time::Duration;

use fieldlog_sim::servers::nats::NatsServer;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::wait::{block_until, until};
use fieldlog_wire::Lane;
use futures_util::StreamExt;
use serde_json::{Value as Json, json};

use crate::gateway::{Form, Gateway, random};
use crate::hub::Hub;
use crate::tables::assert_complete;

const PATIENCE: &str = "gap_patience_s = 1\nlease_s = 3\n";

/// Gaps of the only gateway, without times, and its lag.
fn gaps(hub: &Hub) -> (Vec<Json>, u64) {
    let body: Json = serde_json::from_str(&hub.get("/api/v1/gateways").body).unwrap();
    let Some(row) = body["items"].get(0) else { return (Vec::new(), 0) };
    let brief = |gap: &Json| json!([gap["first"], gap["last"], gap["state"], gap["asks"], gap["why"]]);
    (row["gaps"].as_array().unwrap().iter().map(brief).collect(), row["lag_events"].as_u64().unwrap())
}

/// How long the data of the only gateway has been incomplete, in seconds, and how long ago the position was recorded.
fn behind(hub: &Hub, seq: u64) -> (f64, f64) {
    let get = |path: &str| -> Json { serde_json::from_str(&hub.get(path).body).unwrap() };
    let events = get("/api/v1/events?gateway=plant&limit=1000");
    let is = |event: &&Json| event["seq"] == seq;
    let recorded = events["items"].as_array().unwrap().iter().find(is).unwrap()["recorded"].as_str().unwrap();
    let recorded: jiff::Timestamp = recorded.parse().unwrap();
    let gateways = get("/api/v1/gateways");
    let age = jiff::Timestamp::now().duration_since(recorded).as_secs_f64();
    (gateways["items"][0]["lag_s"].as_f64().unwrap(), age)
}

#[test]
fn the_lag_in_seconds_begins_where_something_is_missing() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::with("one", &postgres, PATIENCE);
    let mut gateway = Gateway::new("plant", Form::Compact, 3, random());
    gateway.live(200);
    let head = gateway.head();
    let near = |(lag, age): (f64, f64)| assert!((lag - age).abs() < 5.0, "{lag} s, and not {age} s");
    // Nothing is known from before the gap: what comes after it is younger than what is missing.
    hub.take(&gateway.parcel((51, 60), Lane::Live));
    near(behind(&hub, 51));
    hub.take(&gateway.parcel((1, 10), Lane::Backlog));
    near(behind(&hub, 10));
    hub.take(&gateway.parcel((11, 20), Lane::Backlog));
    near(behind(&hub, 20));
    hub.take(&gateway.parcel((101, 110), Lane::Live));
    near(behind(&hub, 20));
    // The second gap is what is missing now.
    hub.take(&gateway.parcel((21, 50), Lane::Backlog));
    near(behind(&hub, 60));
    hub.take(&gateway.parcel((61, 100), Lane::Backlog));
    hub.take(&gateway.parcel((111, head), Lane::Live));
    assert_eq!(behind(&hub, head).0, 0.0);
    let metrics = hub.get("/metrics").body;
    assert!(metrics.contains("fieldlog_hub_gateway_lag_seconds{gateway=\"plant\"} 0.0"), "{metrics}");
}

/// The database was lost: everything before the first parcel that comes is a gap like any other.
#[test]
fn an_empty_database_asks_for_the_whole_log() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::with("one", &postgres, PATIENCE);
    let mut gateway = Gateway::new("plant", Form::Compact, 3, random());
    gateway.live(60);
    let head = gateway.head();
    let last = gateway.parcel((head, head), Lane::Live);
    hub.take(&last);
    let asked = block_until("a request", || Some(hub.post(&last)).filter(|answer| answer.status == 200));
    let request: Json = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(request["resend"]["ranges"], json!([[1, head - 1]]));
    hub.take(&gateway.parcel((1, head - 1), Lane::Backlog));
    assert_complete(&postgres, &gateway);
}

#[test]
fn a_gateway_is_asked_in_the_answer_to_a_parcel() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::with("one", &postgres, PATIENCE);
    let mut gateway = Gateway::new("plant", Form::Compact, 3, random());
    gateway.live(60);
    let head = gateway.head();
    hub.take(&gateway.parcel((1, 5), Lane::Live));
    let last = gateway.parcel((26, head), Lane::Live);
    hub.take(&last);
    assert_eq!(gaps(&hub), (vec![json!([6, 25, "expected", null, null])], 20));
    let asked = block_until("a request", || Some(hub.post(&last)).filter(|answer| answer.status == 200));
    assert!(asked.head.contains("content-type: application/vnd.fieldlog.resend+json"), "{asked:?}");
    let request: Json = serde_json::from_str(&asked.body).unwrap();
    let epoch = gateway.epoch.to_string();
    assert_eq!(request, json!({"resend": {"gateway": "plant", "epoch": epoch, "ranges": [[6, 25]]}}));
    block_until("the note of it", || (gaps(&hub).0 == [json!([6, 25, "asked", 1, null])]).then_some(()));
    // The log begins with 16 now.
    let mut again = gateway.parcel((16, 25), Lane::Backlog);
    again.headers.push(("fieldlog-resend".into(), "6".into()));
    hub.take(&again);
    let why = "the gateway does not have it any more; the first that it still has is 16";
    let lost = (vec![json!([6, 15, "lost", 1, why])], 0);
    block_until("the loss", || (gaps(&hub) == lost).then_some(()));
    // Nobody waits for what does not come.
    let waiting = hub.get(&format!("/api/v1/devices?gateway=plant&min_seq={head}"));
    assert_eq!(waiting.status, 200, "{waiting:?}");
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(300));
        hub.take(&last);
    }
    assert_eq!(gaps(&hub), lost, "it is not asked for again");
    let metrics = hub.get("/metrics").body;
    for line in [
        "fieldlog_hub_resend_requests_total{outcome=\"asked\"} 1",
        "fieldlog_hub_gateway_gaps{gateway=\"plant\"} 1.0",
        "fieldlog_hub_gateway_lost_gaps{gateway=\"plant\"} 1.0",
        "fieldlog_hub_gateway_lag_events{gateway=\"plant\"} 0.0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let words = hub.words();
    assert!(
        words.contains("gateway plant is asked, in the answer to its parcel, to send sequence 6 to 25 again")
    );
    assert!(words.contains("sequence 6 to 15 is lost, as its log does not have it any more"), "{words}");
    // Somebody has found it after all.
    hub.take(&gateway.parcel((6, 15), Lane::Backlog));
    block_until("no gap", || gaps(&hub).0.is_empty().then_some(()));
    assert_complete(&postgres, &gateway);
}

/// The stream is behind as long as it has more to be read, and a gateway that takes commands is asked at once.
#[tokio::test]
async fn a_gateway_is_asked_over_nats() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = NatsServer::with_stream() else { return };
    let address = format!("nats://127.0.0.1:{}", server.port);
    let client = async_nats::connect(&address).await.unwrap();
    let mut asked = client.subscribe("fieldlog.commands.plant_7.>").await.unwrap();
    let hub = Hub::with("one", &postgres, &format!("{PATIENCE}[[nats]]\naddress = \"{address}\"\n"));
    let mut gateway = Gateway::new("plant.7", Form::Json, 2, random());
    gateway.live(20);
    hub.take(&gateway.parcel((9, gateway.head()), Lane::Live));
    let mut answers = [
        json!({"accepted": false, "detail": "not today"}),
        json!({"gateway": "plant.7", "code": "bad-command", "detail": "unknown field `resend`"}),
        json!({"accepted": true}),
    ]
    .into_iter();
    let mut after = Vec::new();
    for answer in answers.by_ref() {
        let request = asked.next().await.unwrap();
        assert_eq!(&*request.subject, "fieldlog.commands.plant_7.$resend");
        let body: Json = serde_json::from_slice(&request.payload).unwrap();
        assert_eq!(body["resend"]["ranges"], json!([[1, 8]]));
        client.publish(request.reply.unwrap(), answer.to_string().into()).await.unwrap();
        let asks = after.len() + 1;
        until("the note of it", || gaps(&hub).0.first().is_some_and(|gap| gap[3] == asks)).await;
        after.push(gaps(&hub).0.remove(0)[4].clone());
    }
    assert_eq!(after, [json!("not today"), json!("unknown field `resend`"), Json::Null]);
    hub.take(&gateway.parcel((1, 8), Lane::Backlog));
    until("no gap", || gaps(&hub).0.is_empty()).await;
    assert_complete(&postgres, &gateway);
    let metrics = hub.get("/metrics").body;
    assert!(metrics.contains("fieldlog_hub_resend_requests_total{outcome=\"refused\"} 2"), "{metrics}");
    assert!(hub.words().contains("gateway plant.7 does not send sequence 1 to 8 again: not today"));
}
