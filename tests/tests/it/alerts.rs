//! Alerts of a running agent: raised, told of over a real broker and to a webhook, seen everywhere, cleared.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fieldlog::clock::TestClock;
use fieldlog::config::Config;
use fieldlog_projections::Fact;
use fieldlog_tests::actuator::{Actuator, Received};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::http_message::Message;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::until;
use serde_json::Value as Json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::rig::scratch;

const TOPIC: &str = "fieldlog/gw/alerts/hot/kitchen/temperature";

const HOT: &str = "
[[alert]]
name = \"hot\"
on = \"attribute\"
attribute = \"temperature\"
above = 30
clear = 28
for_s = 60
severity = \"critical\"
";

/// A server that takes what is posted, after it has refused as often as it is told.
struct Webhook {
    port: u16,
    taken: Arc<Mutex<Vec<(String, Json)>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Webhook {
    async fn start() -> Webhook {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (taken, answers) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<VecDeque<u16>>>::default());
        let (noted, next) = (taken.clone(), answers.clone());
        let task = tokio::spawn(async move {
            loop {
                let mut stream = BufReader::new(listener.accept().await.unwrap().0);
                while let Some(request) = Message::read(&mut stream).await {
                    assert_eq!(request.field("content-type"), Some("application/cloudevents+json"));
                    assert_eq!(request.field("authorization"), Some("Bearer secret"));
                    let key = request.field("idempotency-key").unwrap().to_owned();
                    let event: Json = serde_json::from_slice(request.body()).unwrap();
                    assert_eq!(event["id"], key.as_str());
                    let status = next.lock().unwrap().pop_front().unwrap_or(204);
                    if status == 204 {
                        noted.lock().unwrap().push((key, event));
                    }
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                    stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        Webhook { port, taken, answers, task }
    }

    fn events(&self) -> Vec<Json> {
        self.taken.lock().unwrap().iter().map(|(_, event)| event.clone()).collect()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Scene {
    agent: Agent,
    clock: TestClock,
    publisher: Publisher,
    mosquitto: Mosquitto,
    webhook: Webhook,
    dir: tempfile::TempDir,
}

fn config(dir: &std::path::Path, mqtt: u16, webhook: u16, rules: &str) -> Config {
    let text = format!(
        "gateway_id = \"gw\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[source]]\nname = \"home\"\naddress = \"mqtt://127.0.0.1:{mqtt}\"\nbackoff_max_s = 1\n\
         [[source.subscription]]\ntopic = \"d/+device/+attribute\"\ndecoder = \"scalar\"\n\
         [[notify]]\nname = \"broker\"\nmqtt = \"home\"\n\
         [[notify]]\nname = \"hook\"\nwebhook = \"http://127.0.0.1:{webhook}/alerts?x=1\"\ntoken_file = {:?}\n{rules}",
        dir.join("data"),
        dir.join("token"),
    );
    Config::from_toml(&text, "test").unwrap_or_else(|faults| panic!("{faults}"))
}

impl Scene {
    async fn start(rules: &str) -> Option<Scene> {
        use std::os::unix::fs::PermissionsExt;
        let mosquitto = Mosquitto::start("")?;
        let (webhook, dir) = (Webhook::start().await, scratch());
        let token = dir.path().join("token");
        std::fs::write(&token, "secret\n").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let clock = TestClock::running();
        let config = config(dir.path(), mosquitto.port, webhook.port, rules);
        let agent = Agent::start_at(config, clock.clock()).await;
        agent.subscribed().await;
        let publisher = Publisher::start(mosquitto.port);
        Some(Scene { agent, clock, publisher, mosquitto, webhook, dir })
    }

    async fn value(&self, attribute: &str, value: &str) {
        self.publisher.post([Post::new(format!("d/kitchen/{attribute}"), value)]);
        self.publisher.idle().await;
        let recorded = || {
            self.agent.value("kitchen", attribute).is_some_and(|found| format!("{found:?}").contains(value))
        };
        until("the value", recorded).await;
    }

    fn open(&self) -> usize {
        self.agent.view(|view| view.alerts.len())
    }

    async fn restart(self, rules: &str) -> Scene {
        let Scene { agent, clock, publisher, mosquitto, webhook, dir } = self;
        agent.stop().await;
        let config = config(dir.path(), mosquitto.port, webhook.port, rules);
        let agent = Agent::start_at(config, clock.clock()).await;
        agent.subscribed().await;
        Scene { agent, clock, publisher, mosquitto, webhook, dir }
    }
}

/// Types and values of events.
fn brief(events: &[Json]) -> Vec<(String, String)> {
    let one = |event: &Json| {
        let kind = event["type"].as_str().unwrap().trim_start_matches("io.fieldlog.").to_owned();
        (kind, event["data"]["value"].to_string())
    };
    events.iter().map(one).collect()
}

fn said(kind: &str, value: &str) -> (String, String) {
    (format!("{kind}.v1"), value.to_owned())
}

fn bodies(received: &[Received]) -> Vec<Json> {
    received.iter().map(|message| serde_json::from_str(&message.payload).unwrap()).collect()
}

#[tokio::test]
async fn an_alert_is_raised_told_of_and_cleared() {
    let Some(scene) = Scene::start(HOT).await else { return };
    let listener = Actuator::start(scene.mosquitto.port, "fieldlog/#", |_| Vec::new()).await;
    // The server cannot at first.
    scene.webhook.answers.lock().unwrap().extend([503, 500]);
    scene.value("temperature", "31.5").await;
    let before = scene.agent.head();
    scene.agent.pass(&scene.clock, Duration::from_secs(61)).await;
    until("the alert", || scene.open() == 1).await;

    let page = scene.agent.json("/api/v1/alerts").await;
    let alert = &page["alerts"][0];
    assert_eq!((alert["rule"].as_str(), alert["severity"].as_str()), (Some("hot"), Some("critical")));
    assert_eq!(
        (alert["device"].as_str(), alert["attribute"].as_str()),
        (Some("kitchen"), Some("temperature"))
    );
    assert_eq!((&alert["value"], &alert["threshold"]), (&Json::from(31.5), &Json::from(30.0)));
    assert!(alert["id"].as_u64().unwrap() > before);
    let past = scene.agent.json(&format!("/api/v1/alerts?at={before}")).await;
    assert_eq!(
        (past["alerts"].as_array().map(Vec::len), &past["as_of"]["seq"]),
        (Some(0), &Json::from(before))
    );
    let none = scene.agent.json("/api/v1/alerts?severity=warning").await;
    assert_eq!(none["alerts"], Json::Array(Vec::new()));
    let status = scene.agent.json("/status").await;
    assert_eq!((&status["alerts"]["open"], &status["alerts"]["critical"]), (&Json::from(1), &Json::from(1)));
    let metrics = scene.agent.get("/metrics").await;
    assert!(metrics.contains("fieldlog_alerts_open{severity=\"critical\"} 1\n"), "{metrics}");
    assert!(metrics.contains("fieldlog_alerts_raised_total{severity=\"critical\"} 1\n"), "{metrics}");
    let events = scene.agent.json("/api/v1/events?device=kitchen&type=alert_raised").await;
    let cause = events["events"][0]["cause"].as_u64().unwrap();
    let caused_by = scene.agent.json(&format!("/api/v1/events/{cause}")).await;
    assert_eq!(caused_by["event"]["data"]["changes"]["temperature"], 31.5);

    until("a retained message", || listener.received().len() == 1).await;
    assert_eq!(listener.received()[0].topic, TOPIC);
    until("the webhook", || {
        // Its pause is of the clock that the test moves.
        scene.clock.advance(Duration::from_secs(1));
        scene.webhook.events().len() == 1
    })
    .await;
    let raised = [said("alert_raised", "31.5")];
    assert_eq!(brief(&bodies(&listener.received())), raised);
    assert_eq!(brief(&scene.webhook.events()), raised);
    let status = scene.agent.json("/status").await;
    let hook = &status["notify"][1];
    assert_eq!((&hook["name"], &hook["told"], &hook["failures"]), (&"hook".into(), &1.into(), &2.into()));

    // Between the thresholds it stays, and a restart does not raise it again; those who are told get it once more.
    scene.value("temperature", "29").await;
    let scene = scene.restart(HOT).await;
    until("the open alert at the webhook", || scene.webhook.events().len() == 2).await;
    assert_eq!(scene.webhook.events()[0]["id"], scene.webhook.events()[1]["id"]);
    assert_eq!(scene.open(), 1);
    scene.value("temperature", "27.5").await;
    until("the end", || scene.open() == 0).await;
    until("its word at the webhook", || scene.webhook.events().len() == 3).await;
    assert_eq!(brief(&scene.webhook.events())[2], said("alert_cleared", "27.5"));
    let is_over =
        |received: &[Received]| brief(&bodies(received)).last() == Some(&said("alert_cleared", "27.5"));
    until("its word at the broker", || is_over(&listener.received())).await;
    // Whoever comes now learns how it is.
    let late = Actuator::start(scene.mosquitto.port, TOPIC, |_| Vec::new()).await;
    until("what is retained", || late.received().iter().any(|message| message.retain)).await;
    assert!(is_over(&late.received()));

    let log = Logbook::read(&scene.agent.stop().await);
    assert_eq!(log.count(|fact| matches!(fact, Fact::AlertRaised(_))), 1);
    assert_eq!(log.count(|fact| matches!(fact, Fact::AlertCleared(_))), 1);
}

#[tokio::test]
async fn a_rule_that_is_removed_clears_its_alerts_also_by_a_reload() {
    let Some(scene) = Scene::start(&HOT.replace("for_s = 60", "for_s = 0")).await else { return };
    scene.value("temperature", "31.5").await;
    until("the alert", || scene.open() == 1).await;
    scene.agent.reload(config(scene.dir.path(), scene.mosquitto.port, scene.webhook.port, "")).await;
    until("the end", || scene.open() == 0).await;
    until("its word", || scene.webhook.events().len() == 2).await;
    let cleared = &scene.webhook.events()[1];
    assert_eq!(
        (&cleared["data"]["because"], &cleared["data"]["rule"]),
        (&"rule-removed".into(), &"hot".into())
    );
    let diff = scene.agent.json("/api/v1/events?type=config_changed").await;
    assert!(diff["events"][0]["data"]["keys"].to_string().contains("alert"), "{diff}");
    scene.agent.stop().await;
}

#[tokio::test]
async fn what_the_webhook_refuses_is_not_tried_again_and_holds_nothing_up() {
    let Some(scene) = Scene::start(&HOT.replace("for_s = 60", "for_s = 0")).await else { return };
    scene.webhook.answers.lock().unwrap().push_back(422);
    scene.value("temperature", "31.5").await;
    until("the alert", || scene.open() == 1).await;
    scene.value("temperature", "20.5").await;
    until("the end", || scene.webhook.events().len() == 1).await;
    assert_eq!(brief(&scene.webhook.events()), [said("alert_cleared", "20.5")]);
    let status = scene.agent.json("/status").await;
    assert_eq!((&status["notify"][1]["refused"], &status["notify"][1]["told"]), (&1.into(), &1.into()));
    scene.agent.stop().await;
}

#[tokio::test]
async fn the_journal_says_what_an_alert_is_about() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let dir = scratch();
    let file = dir.path().join("fieldlog.toml");
    let text = format!(
        "data_dir = {:?}\n[http]\nlisten = \"\"\n[[source]]\nname = \"home\"\naddress = \"mqtt://127.0.0.1:{}\"\n\
         [[source.subscription]]\ntopic = \"home/+device\"\ndecoder = \"json\"\n{}",
        dir.path().join("data"),
        mosquitto.port,
        HOT.replace("for_s = 60\n", "")
    );
    std::fs::write(&file, text).unwrap();
    let publisher = Publisher::start(mosquitto.port);
    publisher.post([Post::retained("home/kitchen", r#"{"temperature":31}"#)]);
    publisher.idle().await;
    let process = fieldlog_tests::process::Process::run(&file, &[]);
    until("the alert", || process.words().contains("an alert is raised")).await;
    let words = process.words();
    let line = words.lines().find(|line| line.contains("an alert is raised")).unwrap();
    for part in ["rule=hot", "device=\"kitchen\"", "attribute=\"temperature\""] {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    assert!(!line.contains("sink="), "{line}");
    process.kill();
}
