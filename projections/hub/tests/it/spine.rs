//! What gateways send becomes tables, each event once, whatever is killed meanwhile.

use std::time::Duration;

use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_wire::Lane;

use crate::gateway::{Form, Gateway, Post, random};
use crate::hub::{Hub, send};
use crate::tables::{assert_complete, rows};

#[test]
fn tables_are_what_the_log_folds_to() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let hub = Hub::start("one", &postgres);
    for (name, form) in [("plant-json", Form::Json), ("plant-compact", Form::Compact)] {
        let mut gateway = Gateway::new(name, form, 7, rng.fork());
        gateway.live(400);
        for part in gateway.split(1) {
            hub.take(&gateway.parcel(part, Lane::Live));
        }
        assert_complete(&postgres, &gateway);
    }
    assert_eq!(rows(&postgres, "count(*)", "FROM events_other"), [serde_json::json!([0])]);
}

/// Parcels twice, out of order, with other bounds, after priority copies; the hub and PostgreSQL are killed meanwhile.
#[test]
fn no_order_and_no_kill_makes_a_difference() {
    let Some(mut postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let mut hub = Hub::start("one", &postgres);
    let mut gateways: Vec<Gateway> = (0..4)
        .map(|number| {
            let form = if number % 2 == 0 { Form::Json } else { Form::Compact };
            let mut gateway = Gateway::new(&format!("plant-{number}"), form, 5, rng.fork());
            gateway.live(300);
            gateway
        })
        .collect();
    let mut posts: Vec<Post> = Vec::new();
    for gateway in &mut gateways {
        let middle = gateway.head() / 2;
        // The backlog and what is fresh, and half of the backlog again with other bounds.
        let fresh = gateway.split(middle + 1);
        posts.extend(fresh.into_iter().map(|part| gateway.parcel(part, Lane::Live)));
        for _ in 0..2 {
            let backlog = gateway.split(1).into_iter().filter(|(_, last)| *last <= middle);
            posts.extend(backlog.map(|part| gateway.parcel(part, Lane::Backlog)).collect::<Vec<_>>());
        }
        posts.push(gateway.parcel((1, gateway.head()), Lane::Backlog));
        let urgent = |seq: u64| seq.is_multiple_of(17);
        let part = (1, gateway.head());
        posts.push(gateway.filtered(part, Lane::Priority, |record| urgent(record.seq.0)));
    }
    // Everything at least once, in any order, and some twice.
    for at in (1..posts.len()).rev() {
        posts.swap(at, rng.below(at + 1));
    }
    let twice: Vec<Post> = posts.iter().filter(|_| rng.chance(20)).cloned().collect();
    posts.extend(twice);
    let kills = [posts.len() / 4, posts.len() / 2, posts.len() * 3 / 4];
    for (at, post) in posts.iter().enumerate() {
        match kills.iter().position(|kill| *kill == at) {
            Some(1) => {
                postgres.kill();
                let answer = hub.post(post);
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
                postgres.restart();
            }
            Some(_) => {
                // While it works on this parcel: whether it was stored is unknown.
                let _unanswered = send(hub.address, post);
                std::thread::sleep(Duration::from_millis(rng.below(30) as u64));
                hub.restart_after_kill();
            }
            None => {}
        }
        hub.insist(post);
    }
    for gateway in &gateways {
        assert_complete(&postgres, gateway);
    }
}
