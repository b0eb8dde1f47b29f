//! Commands from the hub down to a device, and what becomes of them back up into its tables.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::http_message::Message;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::nats::NatsServer;
use fieldlog_tests::process::free_port;
use fieldlog_tests::proxy::{Fault, Proxy};
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::{PATIENCE, until};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::commands::{Scene, on};
use super::hub::{Hub, rows};

const TOKEN: &str = "0123456789abcdef";

/// What is between the gateway and the hub.
enum Server {
    Nats(NatsServer),
    Mqtt(Mosquitto),
}

impl Server {
    fn nats() -> Option<Server> {
        NatsServer::with_stream().map(Server::Nats)
    }

    fn mqtt() -> Option<Server> {
        Mosquitto::start("").map(Server::Mqtt)
    }

    fn port(&self) -> u16 {
        match self {
            Server::Nats(server) => server.port,
            Server::Mqtt(broker) => broker.port,
        }
    }

    /// Names the source of the hub and the scheme of addresses.
    fn scheme(&self) -> &'static str {
        match self {
            Server::Nats(_) => "nats",
            Server::Mqtt(_) => "mqtt",
        }
    }
}

/// A lamp, its gateway, which may be cut off from where it forwards to, and a hub.
struct Fleet {
    scene: Scene,
    postgres: PostgresServer,
    link: Proxy,
    port: u16,
    _server: Server,
    _hub: Hub,
    _dir: TempDir,
}

impl Fleet {
    async fn start(server: Option<Server>) -> Option<(Fleet, Agent)> {
        let (postgres, mosquitto) = (PostgresServer::start()?, Mosquitto::start("")?);
        let server = server?;
        let (scheme, behind) = (server.scheme(), server.port());
        let link = Proxy::start(SocketAddr::from(([127, 0, 0, 1], behind)), Fault::Pass).await;
        let sink = format!("address = \"{scheme}://{}\"\n[sink.commands]\n", link.address);
        let (scene, agent) = Scene::at(mosquitto, &sink).await?;
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let token = dir.path().join("token");
        std::fs::write(&token, TOKEN).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let lines = format!(
            "gap_patience_s = 1\n[[{scheme}]]\naddress = \"{scheme}://127.0.0.1:{behind}\"\n[[token]]\nfile = {token:?}\n\
             scopes = [\"command\", \"read\"]\n"
        );
        let hub = Hub::start(&postgres, port, &lines);
        let fleet = Fleet { scene, postgres, link, port, _server: server, _hub: hub, _dir: dir };
        // A broker drops what comes before the hub has a session; of that the hub learns with what comes later.
        let publisher = Publisher::start(fleet.scene.mosquitto.port);
        let mut quality = 0..;
        until("the lamp at the hub", || {
            let state = json!({"state": "OFF", "linkquality": quality.next()});
            publisher.post([Post::retained("zigbee2mqtt/lamp", state.to_string())]);
            fleet.lamp_is("OFF")
        })
        .await;
        publisher.idle().await;
        Some((fleet, agent))
    }

    /// Whether the hub's tables say so.
    fn lamp_is(&self, state: &str) -> bool {
        self.rows("value", "FROM current_state WHERE attribute = 'state'") == [json!([state])]
    }

    fn rows(&self, columns: &str, rest: &str) -> Vec<Json> {
        let there = self.postgres.sql("SELECT to_regclass('fieldlog.commands')");
        if there.trim().is_empty() { Vec::new() } else { rows(&self.postgres, columns, rest) }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, Json) {
        self.call_with("", method, path, body).await
    }

    /// The same, with further lines of the head.
    async fn call_with(&self, lines: &str, method: &str, path: &str, body: &str) -> (u16, Json) {
        let request = format!(
            "{method} /api/v1/{path} HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {TOKEN}\r\n{lines}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let answer = Message::read(&mut BufReader::new(socket)).await.unwrap();
        let status = std::str::from_utf8(&answer.bytes[9..12]).unwrap().parse().unwrap();
        (status, serde_json::from_slice(answer.body()).unwrap())
    }

    async fn ask(&self, device: &str, body: &str) -> (u16, Json) {
        self.call("POST", &format!("gateways/test/devices/{device}/commands"), body).await
    }

    /// Checks that a command is refused like this.
    async fn refused(&self, device: &str, body: &str, status: u16, code: &str, words: &str) {
        let (found, problem) = self.ask(device, body).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
}

/// Asks until there is what is looked for.
async fn eventually<T>(what: &str, mut find: impl AsyncFnMut() -> Option<T>) -> T {
    let finding = async {
        loop {
            if let Some(found) = find().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, finding).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

#[tokio::test]
async fn a_command_goes_down_to_the_device_over_nats_and_its_end_comes_back() {
    goes_down_and_comes_back(Server::nats()).await;
}

#[tokio::test]
async fn a_command_goes_down_to_the_device_over_mqtt_and_its_end_comes_back() {
    goes_down_and_comes_back(Server::mqtt()).await;
}

async fn goes_down_and_comes_back(server: Option<Server>) {
    let Some((fleet, agent)) = Fleet::start(server).await else { return };
    let (status, answer) = fleet.ask("lamp", &on("k1")).await;
    assert!(matches!(status, 200 | 202), "{status} {answer}");
    let url = answer["url"].as_str().unwrap().strip_prefix("/api/v1/").unwrap().to_owned();
    let ended = eventually("the end of it at the hub", async || {
        let (status, shown) = fleet.call("GET", &url, "").await;
        (status == 200 && shown["state"] == "applied").then_some(shown)
    });
    let ended = ended.await;
    assert_eq!((&ended["command"], &ended["device"]), (&answer["command"], &json!("lamp")));
    assert_eq!(
        (&ended["request"]["value"], &ended["request"]["actor"]),
        (&json!("ON"), &json!("sink:cloud"))
    );
    let steps: Vec<&str> =
        ended["steps"].as_array().unwrap().iter().map(|step| step["type"].as_str().unwrap()).collect();
    let all = ["command_requested", "command_dispatched", "command_acknowledged", "command_applied"];
    assert_eq!(steps, all, "{ended}");
    until("the state at the hub", || fleet.lamp_is("ON")).await;

    let (status, again) = fleet.ask("lamp", &on("k1")).await;
    assert_eq!((status, &again["command"], &again["repeated"]), (200, &answer["command"], &json!(true)));
    fleet.refused("lamp", &on("k1").replace("ON", "OFF"), 409, "key-conflict", "k1").await;
    fleet.refused("other", &on("k2"), 404, "no-such-device", "other").await;
    fleet.refused("lamp", &on("k3").replace("ON", "PURPLE"), 422, "invalid-value", "PURPLE").await;
    fleet.refused("lamp", "no", 400, "bad-command", "a command looks like").await;
    let expected = json!({"attribute": "state", "value": "ON", "ttl_s": 30, "idempotency_key": "k4",
        "expected": {"changed_seq": 1}});
    fleet.refused("lamp", &expected.to_string(), 412, "not-as-expected", "`expected.changed_seq` is 1").await;
    assert_eq!(fleet.scene.lamp.received().len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn without_an_answer_nothing_is_carried_out_twice() {
    let Some((fleet, agent)) = Fleet::start(Server::nats()).await else { return };
    // It arrives, and the answer is too late.
    fleet.link.set(Fault::Delay(Duration::from_secs(3)));
    fleet.refused("lamp", &on("k1"), 504, "no-answer", "Ask again with the same `idempotency_key`").await;
    fleet.link.set(Fault::Pass);
    let again = eventually("an answer", async || {
        let (status, answer) = fleet.ask("lamp", &on("k1")).await;
        matches!(status, 200 | 202).then_some(answer)
    })
    .await;
    assert_eq!(again["repeated"], true, "{again}");
    until("its end at the hub", || fleet.rows("state", "FROM commands") == [json!(["applied"])]).await;
    assert_eq!(fleet.scene.lamp.received().len(), 1);

    // It cannot arrive, neither now nor later.
    agent.stop().await;
    let nobody = "Nothing was sent, so the command will not be carried out later";
    fleet.refused("lamp", &on("k2"), 503, "gateway-away", nobody).await;
    let agent = fleet.scene.agent().await;
    // It listens again a moment later.
    eventually("the gateway", async || {
        matches!(fleet.ask("lamp", &on("k3")).await.0, 200 | 202).then_some(())
    })
    .await;
    until("both ends", || fleet.rows("state", "FROM commands") == [json!(["applied"]), json!(["applied"])])
        .await;
    assert_eq!(fleet.scene.lamp.received().len(), 2);
    agent.stop().await;
}

/// A broker keeps a command for a gateway that is away, for as long as the command may live.
#[tokio::test]
async fn a_command_over_mqtt_waits_at_the_broker_for_its_gateway() {
    let Some((fleet, agent)) = Fleet::start(Server::mqtt()).await else { return };
    agent.stop().await;
    let unknown = "whether `test` has recorded the command is unknown";
    fleet.refused("lamp", &on("k1"), 504, "no-answer", unknown).await;
    let short = on("k2").replace("\"ttl_s\":30", "\"ttl_s\":1");
    assert!(short.contains("\"ttl_s\":1"), "{short}");
    fleet.refused("lamp", &short, 504, "no-answer", unknown).await;
    let agent = fleet.scene.agent().await;
    until("its end at the hub", || fleet.rows("state", "FROM commands") == [json!(["applied"])]).await;
    let (status, again) = fleet.ask("lamp", &on("k1")).await;
    assert_eq!((status, &again["repeated"]), (200, &json!(true)), "{again}");
    assert_eq!(fleet.scene.lamp.received().len(), 1, "the other one has expired at the broker");
    agent.stop().await;
}

#[tokio::test]
async fn a_trace_context_goes_down_over_nats_and_comes_back_with_the_request() {
    is_traced(Server::nats()).await;
}

#[tokio::test]
async fn a_trace_context_goes_down_over_mqtt_and_comes_back_with_the_request() {
    is_traced(Server::mqtt()).await;
}

async fn is_traced(server: Option<Server>) {
    let Some((fleet, agent)) = Fleet::start(server).await else { return };
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let path = "gateways/test/devices/lamp/commands";
    for (key, given, found) in [("k1", parent, json!(parent)), ("k2", "00-no", Json::Null)] {
        let lines = format!("traceparent: {given}\r\n");
        let (status, answer) = fleet.call_with(&lines, "POST", path, &on(key)).await;
        assert!(matches!(status, 200 | 202), "{status} {answer}");
        let url = answer["url"].as_str().unwrap().strip_prefix("/api/v1/").unwrap().to_owned();
        let shown = eventually("its request at the hub", async || {
            let (status, shown) = fleet.call("GET", &url, "").await;
            (status == 200 && shown["request"].is_object()).then_some(shown)
        });
        assert_eq!(shown.await["request"]["traceparent"], found, "{key}");
    }
    agent.stop().await;
}
