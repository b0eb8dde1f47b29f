//! The command line: what it says of a running agent, of one that is not there, and of what it cannot do.

use std::path::{Path, PathBuf};

use fieldlog::config::Config;
use fieldlog_tests::agent::Agent;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process::{self, Process};
use fieldlog_tests::publisher::{Post, Publisher};
use fieldlog_tests::wait::until;
use serde_json::Value as Json;
use tempfile::TempDir;

mod setup;

/// How a call ended: exit code, stdout, stderr.
type Called = (i32, String, String);

/// `fieldlog` beside a runtime, which agents and brokers in this process need.
async fn call(environment: &[(&'static str, &'static str)], arguments: &[&str]) -> Called {
    let environment = environment.to_vec();
    let all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let called = tokio::task::spawn_blocking(move || {
        process::call_with(&environment, &all.iter().map(String::as_str).collect::<Vec<_>>())
    });
    called.await.unwrap()
}

#[track_caller]
fn assert_says(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
}

struct Scene {
    agent: Agent,
    publisher: Publisher,
    _mosquitto: Mosquitto,
    dir: TempDir,
    config: Config,
}

fn config(dir: &Path, port: u16) -> Config {
    let text = format!(
        "gateway_id = \"site\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 20\n[http]\nlisten = \"127.0.0.1:0\"\n\
         unix_socket = {:?}\n[[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:{port}\"\n\
         [[source.subscription]]\ntopic = \"plant/+device/state\"\ndecoder = \"json\"\n\
         [[source.subscription]]\ntopic = \"plant/+device/online\"\ndecoder = \"availability\"\n",
        dir.join("data"),
        dir.join("http.sock"),
    );
    Config::from_toml(&text, "test").unwrap()
}

impl Scene {
    async fn start() -> Option<Scene> {
        let mosquitto = Mosquitto::start("")?;
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), mosquitto.port);
        let agent = Agent::start(config.clone()).await;
        agent.subscribed().await;
        let publisher = Publisher::start(mosquitto.port);
        Some(Scene { agent, publisher, _mosquitto: mosquitto, dir, config })
    }

    /// Publishes, and waits until the values are in the state.
    async fn say(&self, device: &str, json: &str) {
        let before = self.agent.head();
        self.publisher.post([Post::new(format!("plant/{device}/state"), json)]);
        until("the record", || self.agent.head() > before && self.agent.view(|view| view.seq.0) > before)
            .await;
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("http.sock")
    }

    async fn call_in(&self, environment: &[(&'static str, &'static str)], arguments: &[&str]) -> Called {
        let socket = self.socket();
        call(environment, &[arguments, &["--socket", socket.to_str().unwrap()]].concat()).await
    }

    async fn good(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.call_in(&[], arguments).await;
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}: {out}");
        out
    }

    async fn refused(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let (found, out, err) = self.call_in(&[], arguments).await;
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        assert_says(&err, parts);
    }
}

#[tokio::test]
async fn a_running_agent_is_asked_for_all_that_it_knows() {
    let Some(scene) = Scene::start().await else { return };
    scene.say("pump", r#"{"flow":1.5,"mode":"auto"}"#).await;
    let before = scene.agent.head();
    scene.say("pump", r#"{"flow":2.5}"#).await;
    scene.say("valve", r#"{"open":true}"#).await;
    scene.publisher.post([Post::new("plant/valve/online", "offline")]);
    until("the valve offline", || {
        scene.agent.view(|view| {
            view.devices.find("valve").is_some_and(|(_, d)| {
                view.devices.effective_availability(d).0 == fieldlog_projections::fact::Availability::Offline
            })
        })
    })
    .await;

    let out = scene.good(&["status"]).await;
    assert_says(
        &out,
        &[
            "The agent is well.\n",
            "gateway site",
            "1 of 1 connected, 4 messages\n",
            "2: 1 offline, 1 unknown",
        ],
    );

    let out = scene.good(&["devices"]).await;
    assert_says(&out, &["DEVICE  STATE    HEARD  VALUES\n", "flow 2.5, mode auto\n", "valve   offline"]);
    let out = scene.good(&["devices", "--availability", "offline"]).await;
    assert!(out.contains("valve") && !out.contains("pump"), "{out}");
    assert_eq!(scene.good(&["devices", "--source", "other"]).await, "No such devices.\n");

    let out = scene.good(&["device", "pump"]).await;
    assert_says(
        &out,
        &["pump\nunknown since ", "source plant\n", "ATTRIBUTE  VALUE  UNIT  CHANGED", "\nmode       auto "],
    );

    let out = scene.good(&["at", &before.to_string(), "pump"]).await;
    assert_says(&out, &[&format!(", after the record at sequence {before}:\n"), "\nflow       1.5 "]);
    let out = scene.good(&["at", &before.to_string()]).await;
    assert!(out.contains("flow 1.5, mode auto") && !out.contains("valve"), "{out}");
    let out = scene.good(&["at", "1h"]).await;
    assert_says(&out, &["; the log begins later:\nNo such devices.\n"]);

    let out = scene.good(&["history", "pump", "flow"]).await;
    let values: Vec<&str> =
        out.lines().filter_map(|line| line.split_once("  flow ").map(|(_, value)| value)).collect();
    assert_eq!(values, ["1.5", "2.5"], "{out}");
    let out = scene.good(&["history", "pump", "flow", "--limit", "1"]).await;
    assert!(out.ends_with("  flow 2.5\n") && out.lines().count() == 1, "the newest: {out}");
    let out = scene.good(&["history", "pump", "flow", "--limit", "1", "--since", "1h"]).await;
    assert!(out.ends_with("  flow 1.5\n"), "the first: {out}");

    let out = scene.good(&["events", "--device", "valve", "--type", "availability_changed"]).await;
    assert_says(&out, &["  valve  availability_changed: ", "availability offline"]);
    let (code, out, err) = scene.call_in(&[], &["events", "--actor", "nobody"]).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "There are none.\n"));

    let (code, out, _) = scene.call_in(&[], &["sinks"]).await;
    assert_eq!(
        (code, out.as_str()),
        (0, "No sinks: nothing is forwarded. A [[sink]] in the configuration adds one.\n")
    );
    let out = scene.good(&["snapshot"]).await;
    assert_says(
        &out,
        &[&format!("The state at sequence {} is on disk, in a snapshot of ", scene.agent.head())],
    );
    let snapshots = std::fs::read_dir(scene.dir.path().join("data/snapshots")).unwrap().count();
    assert_eq!(snapshots, 1);
    scene.agent.stop().await;
}

#[tokio::test]
async fn json_is_what_the_api_has() {
    let Some(scene) = Scene::start().await else { return };
    scene.say("pump", r#"{"flow":1.5}"#).await;
    for (arguments, path) in [
        (&["devices", "--json"][..], "/api/v1/devices?limit=1000"),
        (&["device", "pump", "--json"], "/api/v1/devices/pump"),
        (&["at", "3", "--json"], "/api/v1/devices?limit=1000&at=3"),
        (&["commands", "--json"], "/api/v1/commands?limit=100"),
    ] {
        let strip = |text: &str| {
            let mut json: Json = serde_json::from_str(text).unwrap();
            // Ages go on between the two.
            json.as_object_mut().unwrap().remove("as_of");
            json.to_string()
                .split("\"data_age_s\":")
                .map(|part| part.split_once(',').map_or(part, |(_, rest)| rest))
                .collect::<String>()
        };
        assert_eq!(strip(&scene.good(arguments).await), strip(&scene.agent.get(path).await), "{arguments:?}");
    }
    let page = scene.agent.get("/api/v1/events?limit=1000").await;
    let out = scene.good(&["events", "--after", "0", "--json"]).await;
    assert!(out.lines().count() >= 3, "{out}");
    for line in out.lines() {
        assert!(page.contains(line), "{line} is not in: {page}");
    }
    let status: Json = serde_json::from_str(&scene.good(&["status", "--json"]).await).unwrap();
    assert_eq!(status["gateway_id"], "site");
    assert_eq!(scene.good(&["sinks", "--json"]).await, "[]\n");
    scene.agent.stop().await;
}

#[tokio::test]
async fn a_line_fits_the_terminal_and_names_cannot_control_it() {
    let Some(scene) = Scene::start().await else { return };
    let hostile = "gpj\u{202e}exe";
    scene.say(hostile, "{\"text\":\"\\u001b[31mred\\u009b\\u202e and much more than fits on a line\"}").await;
    for arguments in [
        &["devices"][..],
        &["events"],
        &["device", hostile],
        &["history", hostile],
        &["at", "4"],
        &["status"],
    ] {
        let (code, out, err) = scene.call_in(&[("COLUMNS", "50")], arguments).await;
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        for line in out.lines() {
            assert!(line.chars().count() <= 50, "{arguments:?}: {line:?}");
            let hostile = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
            assert!(!line.contains(hostile), "{arguments:?}: {line:?}");
        }
        assert!(!out.is_empty(), "{arguments:?}");
    }
    let out = scene.good(&["devices"]).await;
    assert_says(
        &out,
        &["gpj\u{fffd}exe", "text \u{fffd}[31mred\u{fffd}\u{fffd} and much more than fits on a line\n"],
    );
    scene.agent.stop().await;
}

#[tokio::test]
async fn events_are_followed_over_a_restart_of_the_agent() {
    let Some(scene) = Scene::start().await else { return };
    scene.say("pump", r#"{"flow":1.5}"#).await;
    let socket = scene.socket();
    let socket = socket.to_str().unwrap();
    let following = Process::of(&["events", "-f", "--type", "state_changed", "--socket", socket]);
    until("the events before", || following.printed().contains("flow 1.5")).await;
    scene.say("pump", r#"{"flow":2.5}"#).await;
    until("the event that comes", || following.printed().contains("flow 2.5")).await;

    let Scene { agent, publisher, _mosquitto, dir, config } = scene;
    agent.stop().await;
    following.says("Trying again until it answers.", 0).await;
    let agent = Agent::start(config.clone()).await;
    agent.subscribed().await;
    let scene = Scene { agent, publisher, _mosquitto, dir, config };
    scene.say("pump", r#"{"flow":3.5}"#).await;
    until("the event after the restart", || following.printed().contains("flow 3.5")).await;
    let ended = following.kill();
    assert_eq!(ended.printed.matches("flow 2.5").count(), 1, "{}", ended.printed);
    scene.agent.stop().await;
}

#[tokio::test]
async fn a_reader_that_has_enough_ends_it_quietly() {
    let Some(scene) = Scene::start().await else { return };
    for n in 0..20 {
        scene.say("pump", &format!("{{\"flow\":{n}}}")).await;
    }
    // The first use builds it.
    let binary = tokio::task::spawn_blocking(fieldlog_tests::binary::fieldlog).await.unwrap();
    let socket = scene.socket();
    for arguments in ["events --after 0", "events -f --after 0", "devices", "status"] {
        let line = format!(
            "\"$0\" {arguments} --socket {} | head -n 1 >/dev/null; echo \"${{PIPESTATUS[0]}}\"",
            socket.display()
        );
        let publisher = &scene.publisher;
        let shell = tokio::task::spawn_blocking(move || {
            std::process::Command::new("bash").args(["-c", &line]).arg(binary).output().unwrap()
        });
        // One that follows notices the end of its reader with the next event.
        let mut n = 100;
        until("the end", || {
            n += 1;
            publisher.post([Post::new("plant/pump/state", format!("{{\"flow\":{n}}}"))]);
            shell.is_finished()
        })
        .await;
        let output = shell.await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(
            (text(&output.stdout).as_str(), text(&output.stderr).as_str()),
            ("0\n", ""),
            "{arguments}"
        );
    }
    scene.agent.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_with_what_to_do() {
    let Some(scene) = Scene::start().await else { return };
    scene.say("pump", r#"{"flow":1.5}"#).await;
    // In the words of the command line, not of paths.
    let missing =
        "No such device: there is no device `pumpe`. Did you mean pump? `fieldlog devices` lists them\n";
    let (code, _, err) = scene.call_in(&[], &["device", "pumpe"]).await;
    assert_eq!((code, err.as_str()), (65, missing));
    for verb in ["requeue", "purge"] {
        scene.refused(&["quarantine", verb], 64, &["say which messages", "--topic", "--source"]).await;
    }
    scene.refused(&["history", "pump", "flaw"], 65, &["has no attribute `flaw`", "flow"]).await;
    scene.refused(&["at", "999"], 65, &["sequence 999 has not happened yet"]).await;
    scene.refused(&["events", "--type", "x"], 65, &["no event type is called `x`", "state_changed"]).await;
    scene.refused(&["events", "--since", "yesterday"], 64, &["'yesterday'", "15m, 2h or 3d"]).await;
    scene.refused(&["events", "--follow", "--until", "1h"], 64, &["--until"]).await;
    scene.refused(&["devices", "--availability", "gone"], 64, &["online, offline, unknown"]).await;
    let (code, _, err) = call(&[], &["status", "--socket", "/nowhere/http.sock"]).await;
    assert_eq!(code, 69);
    assert_says(&err, &["cannot reach fieldlog at /nowhere/http.sock", "is fieldlog running"]);
    let token = scene.dir.path().join("token");
    std::fs::write(&token, "wrong").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let url = format!("http://{}", scene.agent.handle.http.unwrap());
    let (code, _, err) =
        call(&[], &["snapshot", "--url", &url, "--token-file", token.to_str().unwrap()]).await;
    assert_eq!(code, 77, "{err}");
    assert_says(&err, &["http.admin_token_file", "--token-file names the file with the token"]);
    scene.agent.stop().await;
}

#[tokio::test]
async fn what_needs_attention_changes_the_exit_code_of_status() {
    let dir = tempfile::tempdir().unwrap();
    let port = process::free_port();
    let agent = Agent::start(config(dir.path(), port)).await;
    until("the failure", || agent.details().last_error.is_some()).await;
    let socket = dir.path().join("http.sock");
    let (code, out, err) = call(&[], &["status", "--socket", socket.to_str().unwrap()]).await;
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let words = format!(
        "One thing needs attention:\n- source \"plant\" (mqtt://127.0.0.1:{port}) is not connected: "
    );
    assert_says(&out, &[&words, "check that the server runs"]);
    agent.stop().await;
}
