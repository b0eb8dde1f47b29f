use fieldlog_projections::{Aggregates, Settings, snapshot};

use super::*;

const AGGREGATES: &str =
    "/api/v1/devices/kitchen%2Flamp/aggregates?attribute=temperature&from=2025-11-23T10:00:00Z";

/// Replaces the view by one restored from a snapshot without aggregates.
fn lose_aggregates(agent: &Agent) {
    let mut view = agent.side.shared.view.write().unwrap();
    let longer = Window { length_s: 2 * WINDOW.length_s, ..WINDOW };
    let lacking = snapshot::decode(&snapshot::encode(&view, EPOCH).unwrap(), &[longer]).unwrap();
    *view = snapshot::decode(&snapshot::encode(&lacking, EPOCH).unwrap(), &[WINDOW]).unwrap();
    assert_eq!(view.stale(), [Aggregates::ID]);
}

async fn check(agent: &Agent) -> (Json, Json) {
    let answer = agent.get("/readyz").await;
    assert_eq!(answer.status, 200, "the devices are served meanwhile");
    let check = &answer.json()["checks"]["aggregates"];
    (check["status"].clone(), check["output"].clone())
}

#[tokio::test]
async fn a_fold_that_is_missing_is_rebuilt_beside_and_its_readers_are_told() {
    let agent = Agent::start().await;
    agent.commit_house();
    let before = agent.json(AGGREGATES).await;
    assert_eq!(before["source"], "memory");
    let whole = agent.side.with_view(|view, _| view.clone());
    lose_aggregates(&agent);

    let (shared, progress) = (&agent.side.shared, &agent.side.shared.rebuild);
    let (number, _) = progress.begin(&[Aggregates::ID]);
    progress.end(number, false);
    let told = "aggregates could not be rebuilt, the agent's log says why; restart fieldlog to try again";
    assert_eq!(check(&agent).await, ("warn".into(), told.into()));
    progress.begin(&[Aggregates::ID]);
    assert_eq!(check(&agent).await, ("warn".into(), "aggregates are being rebuilt, sequence 0".into()));
    let rebuild = serde_json::json!({"running": true, "applied": 0, "folds": ["aggregates"]});
    assert_eq!(agent.json("/status").await["rebuild"], rebuild);
    let metrics = agent.get("/metrics").await;
    assert!(metrics.text().contains("fieldlog_fold_rebuilding{fold=\"aggregates\"} 1"), "{}", metrics.text());

    // Records are still applied, and answers come from the log.
    agent.commit([(130, changed(1, vec![(0, Value::Int(30))]))]);
    let meanwhile = agent.json(AGGREGATES).await;
    assert_eq!(meanwhile["source"], "log");
    assert_eq!(meanwhile["buckets"].as_array().unwrap().len(), 3);

    // The running rebuild is taken over, with its fold.
    let settings = Settings { windows: vec![WINDOW], ..Settings::default() };
    crate::rebuild::start(shared, &[], settings);
    while progress.running() {
        tokio::task::yield_now().await;
    }
    assert_eq!(check(&agent).await, ("pass".into(), "aggregates are up to date".into()));
    let after = agent.json(AGGREGATES).await;
    assert_eq!((&after["source"], &after["buckets"]), (&"memory".into(), &meanwhile["buckets"]));
    let mut all = whole;
    shared
        .reader
        .scan(Seq(10), |chunk| {
            all.apply_chunk(chunk).unwrap();
            std::ops::ControlFlow::<()>::Continue(())
        })
        .unwrap();
    assert!(agent.side.with_view(|view, _| *view == all));
    agent.stop().await;
}
