//! What a process holds is its own only while it gives signs of life.

use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::wait::block_until;
use fieldlog_wire::Lane;

use crate::gateway::{Form, Gateway, random};
use crate::hub::{Hub, answer, run, send};
use crate::tables::{assert_complete, rows};

/// A hub that stood still for longer than its lease has an unfinished parcel, and another hub has the gateway.
#[test]
fn a_hub_that_stood_still_writes_nothing() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let (first, second) = (Hub::start("first", &postgres), Hub::start("second", &postgres));
    let mut gateway = Gateway::new("plant", Form::Compact, 3, rng.fork());
    gateway.live(30);
    let middle = gateway.head();
    first.take(&gateway.parcel((1, middle), Lane::Live));
    let fence = || rows(&postgres, "holder, fence", "FROM gateways")[0].clone();
    assert!(fence()[0].as_str().unwrap().starts_with("first-"), "{}", fence());
    gateway.live(30);
    let rest = gateway.parcel((middle + 1, gateway.head()), Lane::Live);
    first.signal("STOP");
    // The kernel takes it for the hub.
    let waiting = send(first.address, &rest).unwrap();
    block_until("the end of the lease", || {
        let alive = postgres.sql("SELECT count(*) FROM fieldlog.hubs WHERE expires > clock_timestamp()");
        (alive.trim() == "1").then_some(())
    });
    second.take(&rest);
    let held = fence();
    assert!(held[0].as_str().unwrap().starts_with("second-"), "{held}");
    assert_eq!(held[1], 2);
    let version = || postgres.sql("SELECT version FROM fieldlog.logs");
    let before = version();
    first.signal("CONT");
    let answered = answer(waiting).unwrap();
    match answered.status {
        503 => assert_eq!((fence(), version()), (held, before)),
        // It has found out first, has the gateway anew, and knows all of the parcel from the other one.
        204 => {
            assert!(first.words().contains("the lease was over"), "{}", first.words());
            assert_eq!(fence()[1], 3);
        }
        _ => panic!("{answered:?}"),
    }
    assert_complete(&postgres, &gateway);
    // It enters itself anew, and works again.
    block_until("the new lease", || first.words().contains("the lease was over").then_some(()));
    block_until("readiness", || first.try_get("/readyz").filter(|answer| answer.status == 200));
    let from = gateway.head() + 1;
    gateway.live(5);
    first.insist(&gateway.parcel((from, gateway.head()), Lane::Live));
    assert_complete(&postgres, &gateway);
}

/// Two hubs that get the parcels of one gateway in turn.
#[test]
fn a_gateway_goes_where_it_sends_to() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let hubs = [Hub::start("first", &postgres), Hub::start("second", &postgres)];
    let mut gateway = Gateway::new("plant", Form::Json, 3, rng.fork());
    gateway.live(300);
    for part in gateway.split(1) {
        hubs[rng.below(2)].insist(&gateway.parcel(part, Lane::Live));
    }
    assert_complete(&postgres, &gateway);
}

#[test]
fn each_hub_needs_its_own_name() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut first = Hub::start("same", &postgres);
    // The second is taken for the restart of the first, which then finds its entry gone.
    let _second = Hub::start("same", &postgres);
    assert_eq!(first.ends(), 78);
    assert!(first.words().contains("another fieldlog-hub with the name `same`"), "{}", first.words());
}

#[test]
fn a_stop_gives_everything_back() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut hub = Hub::start("one", &postgres);
    hub.signal("TERM");
    assert_eq!(hub.ends(), 0);
    assert!(hub.words().contains("stopped; every acknowledged parcel is stored"), "{}", hub.words());
    assert_eq!(postgres.sql("SELECT count(*) FROM fieldlog.hubs").trim(), "0");
    let (code, words) = run(&["check-config", "--config", "/nowhere/hub.toml"]);
    assert_eq!(code, 78);
    assert!(words.contains("/nowhere/hub.toml cannot be used:"), "{words}");
}
