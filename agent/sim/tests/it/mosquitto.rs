//! Independent clients, if they are installed.

use std::process::{Command, Output};

use fieldlog_sim::broker::{Broker, Options, Qos};
use fieldlog_sim::servers::installed;

use crate::raw::{PATIENCE, broker, until, until_detached};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

/// Whether the mosquitto clients can be run.
fn clients() -> bool {
    installed("mosquitto_sub", "--help") && installed("mosquitto_pub", "--help")
}

/// Runs a client to its end, outside the broker's runtime. Every client ends by itself, by `-W` at the latest.
async fn run(broker: &Broker, client: &'static str, version: &'static str, args: &[&str]) -> Output {
    let addr = broker.local_addr();
    let mut command = Command::new(client);
    command.args(["-V", version, "-h", &addr.ip().to_string(), "-p", &addr.port().to_string()]).args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn lines(broker: &Broker, version: &'static str, args: &[&str]) -> Vec<String> {
    let output = run(broker, "mosquitto_sub", version, args).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn mosquitto_pub_reaches_mosquitto_sub() {
    if !clients() {
        return;
    }
    for version in VERSIONS {
        let broker = broker(Options::default()).await;
        let sub = lines(&broker, version, &["-q", "1", "-t", "a/+", "-C", "2", "-W", "20", "-v"]);
        let publish = async {
            // The subscription exists once its retained message has been sent.
            broker.publish("a/1", "first", true, Qos::AtLeastOnce).unwrap();
            until(&broker, |stats| stats.pubacks_in == 1).await;
            let done =
                run(&broker, "mosquitto_pub", version, &["-q", "1", "-t", "a/2", "-m", "second"]).await;
            assert!(done.status.success());
        };
        let (received, ()) = tokio::join!(sub, publish);
        assert_eq!(received, ["a/1 first", "a/2 second"]);
        let stats = broker.stats();
        assert_eq!((stats.messages_in, stats.stray_acks, stats.misordered_acks), (1, 0, 0));
    }
}

#[tokio::test]
async fn mosquitto_sub_gets_what_came_while_it_was_away() {
    if !clients() {
        return;
    }
    for version in VERSIONS {
        let broker = broker(Options::default()).await;
        let mut args = vec!["-c", "-i", "stay", "-q", "1", "-t", "a", "-W", "20"];
        if version == "mqttv5" {
            args.extend(["-x", "3600"]);
        }
        let subscribe_only = [&args[..], &["-E"]].concat();
        assert_eq!(lines(&broker, version, &subscribe_only).await, [""; 0]);
        until_detached(&broker, "stay").await;
        for n in 0..50 {
            broker.publish("a", n.to_string(), false, Qos::AtLeastOnce).unwrap();
        }
        args.extend(["-C", "50"]);
        let sent: Vec<_> = (0..50).map(|n| n.to_string()).collect();
        assert_eq!(lines(&broker, version, &args).await, sent);
    }
}

#[tokio::test]
async fn mosquitto_sub_leaves_its_will_when_it_is_killed() {
    if !clients() {
        return;
    }
    for version in VERSIONS {
        let broker = broker(Options::default()).await;
        let addr = broker.local_addr();
        let mut victim = Command::new("mosquitto_sub")
            .args(["-V", version, "-h", &addr.ip().to_string(), "-p", &addr.port().to_string()])
            .args(["-i", "victim", "-t", "never", "--will-topic", "gone", "--will-payload", "bye"])
            .args(["--will-retain", "--will-qos", "1"])
            .spawn()
            .unwrap();
        let connected = async {
            while broker.session("victim").is_none() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let connected = tokio::time::timeout(PATIENCE, connected).await;
        victim.kill().unwrap();
        victim.wait().unwrap();
        connected.unwrap();
        until_detached(&broker, "victim").await;
        assert_eq!(lines(&broker, version, &["-t", "gone", "-C", "1", "-W", "20"]).await, ["bye"]);
    }
}

#[tokio::test]
async fn a_large_and_a_binary_payload_come_through() {
    if !clients() {
        return;
    }
    for version in VERSIONS {
        let broker = broker(Options::default()).await;
        broker.publish("big", vec![0xffu8; 300_000], true, Qos::AtLeastOnce).unwrap();
        let args = ["-t", "big", "-q", "1", "-C", "1", "-W", "20", "-N"];
        let output = run(&broker, "mosquitto_sub", version, &args).await;
        assert!(output.stdout == vec![0xffu8; 300_000], "{} bytes", output.stdout.len());
    }
}
