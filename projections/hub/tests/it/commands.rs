//! Commands to devices of gateways, as far as the hub goes.

use std::os::unix::fs::PermissionsExt;

use fieldlog_sim::servers::mosquitto::Mosquitto;
use fieldlog_sim::servers::nats::NatsServer;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_wire::Lane;
use futures_util::StreamExt;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::gateway::{Form, Gateway, random};
use crate::hub::Hub;

const TOKEN: &str = "command-0123456789abcdef";
const BODY: &str = r#"{"attribute":"state","value":"ON","ttl_s":30,"idempotency_key":"k"}"#;

/// Lines with a token of each scope that may be mistaken for the right one, and the right one.
fn tokens() -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let lines = ["admin", "command"].map(|scope| {
        let path = dir.path().join(scope);
        std::fs::write(&path, format!("{scope}-0123456789abcdef")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("[[token]]\nfile = {path:?}\nscopes = [{scope:?}]\n")
    });
    let ingest = dir.path().join("ingest");
    std::fs::write(&ingest, "ingest-0123456789abcdef").unwrap();
    std::fs::set_permissions(&ingest, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ingest = format!("[[token]]\nfile = {ingest:?}\nscopes = [\"ingest\"]\n");
    (dir, lines.concat() + &ingest)
}

fn introduce(hub: &Hub, gateway: &Gateway) {
    let mut post = gateway.parcel((1, gateway.head()), Lane::Live);
    post.headers.push(("authorization".into(), "Bearer ingest-0123456789abcdef".into()));
    hub.take(&post);
}

/// Checks that a command is refused like this.
fn refused(hub: &Hub, path: &str, body: &str, status: u16, code: &str, words: &str) -> Json {
    let answer = hub.command(&format!("/api/v1/gateways/{path}/commands"), TOKEN, body);
    assert_eq!(answer.status, status, "{path}: {answer:?}");
    let problem: Json = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{problem}");
    assert_eq!(problem["type"], format!("urn:fieldlog:problem:{code}"));
    assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    problem
}

#[test]
fn a_gateway_without_a_way_for_commands_gets_none() {
    let Some(postgres) = PostgresServer::start() else { return };
    let (_dir, tokens) = tokens();
    let mut hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{tokens}"));
    introduce(&hub, &Gateway::new("plant", Form::Json, 1, random()));
    let words = "`plant` sends its events over HTTP, and no command gets to it that way: give it a sink of NATS or MQTT";
    refused(&hub, "plant/devices/lamp", BODY, 409, "no-command-channel", words);
    hub.restart_after_kill();
    let words = "not connected to a server over which gateways take commands. Nothing was sent";
    refused(&hub, "plant/devices/lamp", BODY, 503, "gateway-away", words);
    refused(&hub, "other/devices/lamp", BODY, 404, "no-such-gateway", "no gateway `other` has sent anything");
    let large = format!("{BODY}{}", " ".repeat(1 << 16));
    refused(&hub, "plant/devices/lamp", &large, 413, "too-large", "more than 65536 bytes");

    let path = "/api/v1/gateways/plant/devices/lamp/commands";
    let with = |token: &str| hub.command(path, token, BODY);
    assert_eq!(with("0123456789abcdef").status, 401);
    let answer = with("admin-0123456789abcdef");
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("the token needs the scope \\\"command\\\""), "{answer:?}");
    let answer = hub.call("POST", path, TOKEN);
    assert_eq!(answer.status, 415, "{answer:?}");
    let answer = hub.call("GET", "/api/v1/gateways/plant/commands/9", "admin-0123456789abcdef");
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("nothing has arrived of a command 9"), "{answer:?}");

    let answer = hub.call("GET", "/api/v1/gateways/plant/commands/x", "admin-0123456789abcdef");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("`x` is no command: its id is the position of its request"), "{answer:?}");

    // Whoever can reach the port could command devices.
    let open = Hub::start("open", &postgres);
    let answer = open.command(path, "", BODY);
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("commands need a [[token]] with the scope \\\"command\\\""), "{answer:?}");
}

/// Mosquitto says whether anybody listens, and whether the hub may publish.
#[test]
fn what_a_broker_does_not_deliver_is_explained() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(mut broker) = Mosquitto::start("acl_file DIR/nobody") else { return };
    broker.kill();
    let rules = "topic read fieldlog/+/events\ntopic read fieldlog-hub/answers/#\ntopic write fieldlog/+/commands/lamp\n";
    std::fs::write(broker.dir().join("nobody"), rules).unwrap();
    broker.restart();
    let (_dir, tokens) = tokens();
    let address = format!("mqtt://127.0.0.1:{}", broker.port);
    let hub =
        Hub::with("one", &postgres, &format!("lease_s = 3\n{tokens}[[mqtt]]\naddress = \"{address}\"\n"));
    introduce(&hub, &Gateway::new("plant", Form::Json, 1, random()));
    refused(&hub, "plant/devices/lamp", BODY, 409, "no-command-channel", "sends its events over HTTP");
    let words = "the broker refuses what is published on `fieldlog/plant/commands/door` (NotAuthorized): allow the hub's user";
    refused(&hub, "plant/devices/door", BODY, 502, "no-way", words);
    refused(&hub, "plant/devices/a+b", BODY, 409, "no-such-subject", "command the device at its gateway");
    broker.kill();
    let words = "check `mqtt.address`, that the broker runs";
    refused(&hub, "plant/devices/lamp", BODY, 502, "no-way", words);
    std::fs::write(broker.dir().join("nobody"), "topic read fieldlog/+/events\n").unwrap();
    broker.restart();
    // Over a new connection.
    let words = "what is published on `fieldlog/plant/commands/lamp` (NotAuthorized)";
    refused(&hub, "plant/devices/lamp", BODY, 502, "no-way", words);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_answers_is_the_answer() {
    let Some(postgres) = PostgresServer::start() else { return };
    let Some(server) = NatsServer::with_stream() else { return };
    let (_dir, tokens) = tokens();
    let address = format!("nats://127.0.0.1:{}", server.port);
    let hub =
        format!("lease_s = 3\n{tokens}[[nats]]\naddress = \"{address}\"\ncommands = \"c.{{gateway}}.>\"\n");
    let hub = Hub::with("one", &postgres, &hub);
    introduce(&hub, &Gateway::new("plant.7", Form::Json, 1, random()));
    let words = "sends its events over HTTP";
    refused(&hub, "plant.7/devices/hall%2Flamp", BODY, 409, "no-command-channel", words);
    let client = async_nats::connect(&address).await.unwrap();
    let mut requests = client.subscribe("c.plant_7.>").await.unwrap();
    client.flush().await.unwrap();
    let same = json!({"gateway": "plant.7", "epoch": "e", "device": "hall/lamp", "idempotency_key": "k"});
    let answers = [
        json!({"closed": false, "command": 12, "state": "requested"}),
        json!({"closed": true, "command": 12, "state": "applied", "repeated": true}),
        json!({"closed": true, "code": "not-as-expected", "detail": "it has 830", "changed_seq": 830}),
        json!({"closed": true, "code": "busy", "detail": "64 wait"}),
        json!({"closed": true, "code": "of-next-year", "detail": "who knows"}),
        json!({"stream": "COMMANDS", "seq": 4}),
    ];
    let answering = tokio::spawn(async move {
        for answer in answers {
            let request = requests.next().await.unwrap();
            assert_eq!((&*request.subject, &request.payload[..]), ("c.plant_7.hall/lamp", BODY.as_bytes()));
            let mut whole = if answer.get("stream").is_none() { same.clone() } else { json!({}) };
            whole.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
            client.publish(request.reply.unwrap(), whole.to_string().into()).await.unwrap();
        }
        requests
    });
    let path = "plant.7/devices/hall%2Flamp";
    let ask = || hub.command(&format!("/api/v1/gateways/{path}/commands"), TOKEN, BODY);
    let first = ask();
    assert_eq!(first.status, 202, "{first:?}");
    assert!(first.head.contains("location: /api/v1/gateways/plant.7/commands/12\r\n"), "{first:?}");
    let body: Json = serde_json::from_str(&first.body).unwrap();
    let expected = json!({"url": "/api/v1/gateways/plant.7/commands/12", "gateway": "plant.7", "epoch": "e",
        "device": "hall/lamp", "idempotency_key": "k", "command": 12, "state": "requested", "closed": false});
    assert_eq!(body, expected);
    let again = ask();
    assert_eq!(again.status, 200, "{again:?}");
    assert!(again.head.contains("idempotency-replayed: true"), "{again:?}");
    let problem = refused(&hub, path, BODY, 412, "not-as-expected", "it has 830");
    assert_eq!(problem["changed_seq"], 830);
    refused(&hub, path, BODY, 503, "busy", "64 wait");
    refused(&hub, path, BODY, 409, "of-next-year", "who knows");
    refused(&hub, path, BODY, 502, "bad-answer", "in place of `plant.7` is no gateway");
    let _listening = answering.await.unwrap();
    // Nobody answers.
    refused(&hub, path, BODY, 504, "no-answer", "Ask again with the same `idempotency_key`");
    for device in ["$resend", "a%20b", "a.%2A", "%3E"] {
        let path = format!("plant.7/devices/{device}");
        refused(&hub, &path, BODY, 409, "no-such-subject", "command the device at its gateway");
    }
    introduce(&hub, &Gateway::new("plant_7", Form::Json, 1, random()));
    refused(&hub, path, BODY, 409, "ambiguous", "`plant.7` and `plant_7` have the same subject");
    let metrics = hub.call("GET", "/metrics", "admin-0123456789abcdef").body;
    for (outcome, count) in [("accepted", 2), ("refused", 3), ("unanswered", 5)] {
        let line = format!("fieldlog_hub_commands_total{{outcome=\"{outcome}\"}} {count}");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}
