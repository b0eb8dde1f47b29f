//! Named aggregates of a running agent: declared, changed, kept.

use std::path::Path;

use fieldlog::clock::Clock;
use fieldlog::log::Log;
use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::{AttrId, DeviceId, Epoch, Fact, Seq, Time, Value};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::wait::until;
use serde_json::Value as Json;

use crate::history::{DAY_S, HOUR_S, at, config, introduce};
use crate::rig::{OPTIONS, scratch};

const POWER: &str = "
[[derived_attribute]]
name = \"power\"
formula = \"product\"
of = [\"voltage\", \"current\"]
";

const ENERGY: &str = "
[[named_aggregate]]
name = \"energy\"
attributes = [\"energy\"]
function = \"increase\"
window_s = 3600
scale = 0.001
unit = \"kWh\"
";

const PEAK: &str = "
[[named_aggregate]]
name = \"peak\"
attributes = [\"power\"]
function = \"max\"
window_s = 3600
";

/// Two meters that report every other minute for five days, until now. Returns the log's begin, in seconds.
fn fill(dir: &Path) -> i64 {
    let begin_s = (Clock::system().wall().0 / 1_000_000 - 5 * DAY_S) / HOUR_S * HOUR_S;
    let mut log = Log::open(dir, OPTIONS, Epoch(7)).unwrap();
    let mut body = RecordBuffer::after(Time(0));
    introduce(&mut body, begin_s, &["attic", "cellar"], &["energy", "voltage", "current"]);
    for number in 0..5 * DAY_S / 120 {
        for device in 0..2 {
            // A whole watt-hour for each report, and one ampere more for each hour of the log.
            let values = [number as f64 * f64::from(device + 1), 200.0, (number / 30 + 1) as f64];
            let changes = (0..).map(AttrId).zip(values.map(Value::Float)).collect();
            let fact = Fact::StateChanged { device: DeviceId(device), changes };
            body.push_fact(at(begin_s + number * 120), &fact);
        }
        if body.len() > 100 {
            log.append(&body, &[]).unwrap();
            body = RecordBuffer::after(log.last_time());
        }
    }
    log.append(&body, &[]).unwrap();
    log.close().unwrap();
    begin_s
}

/// The results of one device by window.
fn results(page: &Json, device: usize) -> Vec<f64> {
    let windows = page["devices"][device]["series"][0]["windows"].as_array().unwrap();
    windows.iter().map(|window| window["value"].as_f64().unwrap()).collect()
}

async fn current(agent: &Agent, names: &[&str]) -> Json {
    until("a rebuild", || !agent.handle.shared.rebuild.running()).await;
    let answer = agent.json("/api/v1/aggregates").await;
    let all = answer["aggregates"].as_array().unwrap();
    let found: Vec<_> = all.iter().map(|one| (one["name"].as_str().unwrap(), &one["state"])).collect();
    let current = Json::from("current");
    assert_eq!(found, names.iter().map(|name| (*name, &current)).collect::<Vec<_>>());
    answer
}

#[tokio::test]
async fn they_are_built_from_the_log_and_outlive_its_records() {
    let dir = scratch();
    fill(dir.path());
    let start =
        async |retention: &str, declared: &str| Agent::start(config(dir.path(), retention, declared)).await;
    let agent = start("", "").await;
    current(&agent, &[]).await;

    // Declared while it runs.
    let declared = [POWER, ENERGY].concat();
    agent.reload(config(dir.path(), "", &declared)).await;
    until("the declaration", || agent.view(|view| !view.named.declared().is_empty())).await;
    current(&agent, &["energy"]).await;
    let energy = agent.json("/api/v1/aggregates/energy").await;
    assert!(energy["aggregate"].get("complete_from").is_none());
    for (device, each) in [(0, 0.03), (1, 0.06)] {
        let found = results(&energy, device);
        // A hundred closed windows and the open one are kept.
        assert_eq!(found.len(), 101);
        assert!(found.iter().all(|result| (result - each).abs() < 1e-9), "{found:?}");
    }
    let device = agent.json("/api/v1/devices/attic").await;
    assert_eq!(device["device"]["derived"]["power"]["value"], 24_000.0);
    agent.stop().await;

    // It is in the snapshot: nothing is rebuilt at the next start. Then four of the five days are deleted.
    let agent = start("age_days = 1", &declared).await;
    assert!(!agent.handle.shared.rebuild.running());
    until("a trimmed log", || agent.first() > Seq(5_000)).await;

    // Another one is declared: it has what the log has, and the first one keeps what is no longer there.
    let declared = [POWER, PEAK, ENERGY].concat();
    agent.reload(config(dir.path(), "age_days = 1", &declared)).await;
    until("the declaration", || agent.view(|view| view.named.declared().aggregates.len() == 2)).await;
    current(&agent, &["peak", "energy"]).await;
    let peak = agent.json("/api/v1/aggregates/peak?device=cellar").await;
    let from = peak["aggregate"]["complete_from"].as_str().expect("four days are gone").to_owned();
    let complete = agent.json(&format!("/api/v1/aggregates/peak?device=cellar&from={from}")).await;
    let found = results(&complete, 0);
    assert!((23..=40).contains(&found.len()), "{}", found.len());
    assert!(
        found.windows(2).all(|two| two[1] == two[0] + 200.0) && found.last() == Some(&24_000.0),
        "{found:?}"
    );
    assert_eq!(agent.json("/api/v1/aggregates/energy").await["devices"], energy["devices"]);
    let answers = [peak["devices"].clone(), energy["devices"].clone()];
    agent.stop().await;

    // Changed while it was stopped: the one that was not changed still has everything.
    let changed = [POWER, &PEAK.replace("3600", "7200"), ENERGY].concat();
    let agent = start("age_days = 1", &changed).await;
    until("the declaration", || agent.view(|view| view.named.declared().aggregates[0].window_s == 7_200))
        .await;
    current(&agent, &["peak", "energy"]).await;
    let halved = results(&agent.json("/api/v1/aggregates/peak").await, 0).len();
    assert!(halved <= found.len() / 2 + 2, "{halved}");
    assert_eq!(agent.json("/api/v1/aggregates/energy").await["devices"], answers[1]);

    // Nothing is left of what is no longer declared.
    agent.reload(config(dir.path(), "age_days = 1", "")).await;
    until("no declaration", || agent.view(|view| view.named == fieldlog_projections::Named::default())).await;
    let gone = agent.json("/api/v1/devices/attic").await;
    assert!(gone["device"].get("derived").is_none());
    agent.stop().await;
}
