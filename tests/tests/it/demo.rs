//! `fieldlog demo` as a process: it must exit if it cannot start, and must not take a log that is in use.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fieldlog_tests::agent::post;
use fieldlog_tests::binary;
use fieldlog_tests::process::Process;
use fieldlog_tests::wait::{block_until, until};

use crate::rig::scratch;

/// Its devices obey at once, late, never, or refuse, and what it sends them comes to each end that a command can have.
#[tokio::test]
async fn a_demo_shows_every_outcome_of_a_command_in_a_minute() {
    let dir = scratch();
    let path = dir.path().join("demo");
    let demo = Process::demo(&["--dir", path.to_str().unwrap(), "--port", "0"]);
    let begin = Instant::now();
    for outcome in [
        "brightness = 200: applied",
        "brightness = 30: superseded by command ",
        "switch:0.output = true: failed: the device refuses it: switch:0 is locked after overpower",
        "not accepted: kitchen/floor_light brightness = 300: `value` is 300; `brightness` takes a number from 0 to 254",
        "brightness = 60: expired",
        "POWER = \"ON\": applied",
        "brightness = 120: applied",
        "router_plug state = \"OFF\": unconfirmed",
        // By evidence that came late.
        "bedroom/ceiling state = \"ON\": unconfirmed",
        "bedroom/ceiling state = \"ON\": applied",
    ] {
        until(outcome, || demo.printed().contains(outcome)).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());

    // A viewer can send one with the command line that is printed.
    let printed = demo.printed();
    let token = printed.split("Bearer ").nth(1).unwrap().split('\'').next().unwrap();
    let (_, rest) = printed.split_once("'http://").unwrap();
    let address = rest.split('/').next().unwrap().parse().unwrap();
    let body = r#"{"attribute":"brightness","value":120,"ttl_s":30,"idempotency_key":"try-1"}"#;
    assert!(printed.contains(body), "{printed}");
    let path = "/api/v1/devices/kitchen%2Ffloor_light/commands?wait=10";
    assert!(printed.contains(path), "{printed}");
    let body = serde_json::from_str(body).unwrap();
    let (status, answer) = post(address, path, token, &body).await;
    assert_eq!((status, &answer["command"]["state"]), (200, &"applied".into()), "{answer}");
    demo.signal("TERM");
    assert_eq!(demo.ended().await.code, 0);
}

#[tokio::test]
async fn a_demo_that_cannot_start_ends() {
    let dir = scratch();
    let path = dir.path().join("demo");
    let path = path.to_str().unwrap();
    let running = Process::demo(&["--dir", path, "--port", "0"]);
    until("a running demo", || running.printed().contains("status page")).await;

    // Its log is in use, with or without `--fresh`.
    let ended = Process::demo(&["--dir", path, "--port", "0", "--seconds", "1"]).ended().await;
    assert_eq!(ended.code, 74, "{ended:?}");
    assert!(ended.words.contains("in use by another process"), "{ended:?}");
    let ended = Process::demo(&["--dir", path, "--port", "0", "--fresh", "--seconds", "1"]).ended().await;
    assert_eq!(ended.code, 74, "{ended:?}");
    assert!(ended.words.contains("in use by another process"), "{ended:?}");
    assert!(dir.path().join("demo/log.redb").exists(), "the log of a running demo was deleted");
    running.signal("TERM");
    let ended = running.ended().await;
    assert_eq!(ended.code, 0, "{ended:?}");

    // The port is taken.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = Process::demo(&["--dir", path, "--port", &port, "--seconds", "1"]).ended().await;
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(ended.words.contains(&port), "{ended:?}");

    // The path is not a directory.
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let ended =
        Process::demo(&["--dir", file.to_str().unwrap(), "--port", "0", "--seconds", "1"]).ended().await;
    assert_eq!(ended.code, 74, "{ended:?}");
    assert!(ended.words.contains("data directory"), "{ended:?}");

    // A log that is not in use can be replaced.
    let ended = Process::demo(&["--dir", path, "--port", "0", "--fresh", "--seconds", "1"]).ended().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.printed.contains("\nbegun       as a new log\n"), "{ended:?}");
}

#[test]
fn a_demo_whose_output_nobody_reads_ends_quietly() {
    let dir = scratch();
    let mut demo = Command::new(binary::fieldlog())
        .args(["demo", "--port", "0", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // As `head -n 0` does.
    drop(demo.stdout.take());
    let status = block_until("the end of the demo", || demo.try_wait().unwrap());
    let mut words = String::new();
    std::io::Read::read_to_string(&mut demo.stderr.take().unwrap(), &mut words).unwrap();
    assert_eq!(status.code(), Some(0), "{words}");
    assert!(!words.contains("panicked"), "{words}");
}
