//! Two histories with one identity are seen, and stop their own stream only.

use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_wire::Lane;
use serde_json::json;

use crate::gateway::{Form, Gateway, random};
use crate::hub::Hub;
use crate::tables::{assert_complete, rows};

/// A log that was put back to an earlier state and went on, in both forms, and after the hub has forgotten all but its
/// tables.
#[test]
fn a_restored_gateway_is_stopped_and_others_go_on() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let mut hub = Hub::start("one", &postgres);
    let mut other = Gateway::new("other", Form::Json, 3, rng.fork());
    for form in [Form::Json, Form::Compact] {
        let name = format!("restored-{form:?}").to_lowercase();
        let mut gateway = Gateway::new(&name, form, 3, rng.fork());
        gateway.live(50);
        let mut copy = gateway.copy(rng.fork());
        gateway.live(50);
        copy.live(20);
        let head = gateway.head();
        hub.take(&gateway.parcel((1, head), Lane::Live));
        hub.restart_after_kill();
        // All of these positions are known, and no parcel has ended at the first of them.
        let answer = hub.post(&copy.parcel((copy.head() - 19, copy.head()), Lane::Live));
        assert_eq!(answer.status, 409, "{answer:?}");
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["type"], "urn:fieldlog:problem:fork");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("gateway {name}")) && detail.contains("FORK at"), "{detail}");
        assert!(hub.words().contains("is stopped: FORK at"), "{}", hub.words());
        // From now on nobody knows which history is right.
        gateway.live(5);
        let next = gateway.parcel((head + 1, gateway.head()), Lane::Live);
        assert_eq!(hub.post(&next).status, 409);
        hub.restart_after_kill();
        assert_eq!(hub.post(&next).status, 409);
        let found = rows(
            &postgres,
            "position, forked LIKE 'FORK at%'",
            &format!("FROM logs WHERE gateway = '{name}'"),
        );
        assert_eq!(found, [json!([head, true])]);
        let from = other.head() + 1;
        other.live(30);
        let part = (if form == Form::Json { 1 } else { from }, other.head());
        hub.take(&other.parcel(part, Lane::Live));
    }
    assert_complete(&postgres, &other);
}

/// A clone that has not sent anything that contradicts is seen where it goes on.
#[test]
fn a_clone_is_seen_at_its_first_own_record() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let hub = Hub::start("one", &postgres);
    let mut gateway = Gateway::new("plant", Form::Compact, 3, rng.fork());
    gateway.live(40);
    let mut clone = gateway.copy(rng.fork());
    let head = gateway.head();
    hub.take(&gateway.parcel((1, head), Lane::Live));
    // What both have changes nothing.
    hub.take(&clone.parcel((1, head), Lane::Live));
    assert_complete(&postgres, &gateway);
    gateway.live(1);
    clone.live(3);
    hub.take(&gateway.parcel((head + 1, head + 1), Lane::Live));
    assert_eq!(hub.post(&clone.parcel((head + 1, head + 3), Lane::Live)).status, 409);
}

/// A new epoch is a new log: it is taken although the old one is stopped.
#[test]
fn a_new_epoch_is_taken() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let hub = Hub::start("one", &postgres);
    let mut old = Gateway::new("plant", Form::Compact, 3, rng.fork());
    old.live(10);
    hub.take(&old.parcel((1, old.head()), Lane::Live));
    let mut new = Gateway::new("plant", Form::Compact, 2, rng.fork());
    new.live(10);
    hub.take(&new.parcel((1, new.head()), Lane::Live));
    assert_complete(&postgres, &old);
    assert_complete(&postgres, &new);
    let current = rows(&postgres, "epoch, position", "FROM gateway_lag");
    assert_eq!(current, [json!([new.epoch.to_string(), new.head()])]);
    let devices = rows(&postgres, "count(*)", "FROM current_devices");
    assert_eq!(devices, [json!([2])]);
}
