//! What the page of the hub reads: how gateways are doing, and the newest items first.

use fieldlog_projections::command::Progress;
use fieldlog_projections::{AttrId, DeviceId, Fact, Seq, Value};
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_wire::Lane;
use fieldlog_wire::api::hub::{AttributeState, Fleet, Gateway as HubGateway, Items};
use serde_json::{Value as Json, json};

use crate::gateway::{Form, Gateway, random};
use crate::hub::Hub;
use crate::reading::{form, items};

/// What becomes of `late`, and the states that it goes through.
const CHANGES: [(&str, &str); 6] = [
    ("SELECT 1", "behind"),
    (
        "INSERT INTO gaps SELECT log, 1, 1, 'asked', clock_timestamp(), 1, clock_timestamp(), NULL FROM logs WHERE gateway = 'late'",
        "gaps",
    ),
    ("UPDATE gaps SET state = 'lost'", "lost"),
    ("UPDATE logs SET last_seen = last_seen - interval '61 minutes' WHERE gateway = 'late'", "silent"),
    (r#"UPDATE logs SET faults = '[{"fault": "content", "seq": 5}]' WHERE gateway = 'late'"#, "contradicted"),
    ("UPDATE logs SET forked = 'two histories' WHERE gateway = 'late'", "forked"),
];

fn names(rows: &[Json]) -> Vec<&str> {
    rows.iter().map(|row| row["gateway"].as_str().unwrap()).collect()
}

#[test]
fn each_gateway_is_in_the_worst_state_that_it_has() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::start("one", &postgres);
    for name in ["plant-1", "plant_2"] {
        let gateway = Gateway::new(name, Form::Json, 1, random());
        hub.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    }
    let late = Gateway::new("late", Form::Json, 1, random());
    hub.take(&late.parcel((2, late.head()), Lane::Live));
    for (sql, state) in CHANGES {
        postgres.sql(sql);
        let found = items(&hub, "gateways?gateway=late");
        assert_eq!(found[0]["state"], state, "{found:?}");
        assert_eq!(names(&items(&hub, &format!("gateways?state={state}"))), ["late"]);
        let answer = hub.get("/api/v1/fleet");
        let fleet: Json = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (&fleet["gateways"], &fleet["complete"], &fleet[state]),
            (&json!(3), &json!(2), &json!(1))
        );
    }
    form::<Fleet>(&hub, "fleet");
    form::<Items<HubGateway>>(&hub, "gateways");
    assert_eq!(names(&items(&hub, "gateways?state=complete,forked")), ["late", "plant-1", "plant_2"]);
    assert_eq!(names(&items(&hub, "gateways?q=T_")), ["plant_2"], "an underscore stands for itself");
    assert_eq!(names(&items(&hub, "gateways?q=plant&after=plant-1")), ["plant_2"]);
    let answer = hub.get("/api/v1/gateways?state=well");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("`state=well` is none of forked, contradicted"), "{answer:?}");
}

#[test]
fn the_newest_come_first_before_a_position() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::start("one", &postgres);
    let mut gateway = Gateway::new("plant", Form::Compact, 2, random());
    for value in [1, 2, 3] {
        let changes = vec![(AttrId(0), Value::Int(value))];
        gateway.record(&Fact::StateChanged { device: DeviceId(1), changes });
    }
    for command in [7, 8] {
        let progress = Progress::Applied { evidence: None };
        gateway.record(&Fact::CommandProgressed { device: DeviceId(1), command: Seq(command), progress });
    }
    hub.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    let newest = i64::MAX;
    let of = "gateway=plant&device=hall/1";
    let values = |query: &str| -> Vec<Json> {
        let found = items(&hub, &format!("history?{of}&attribute=power&{query}"));
        found.iter().map(|row| row["value"].clone()).collect()
    };
    assert_eq!(values(&format!("before={newest}&limit=2")), [3, 2]);
    assert_eq!(values(""), [1, 2, 3]);
    let [second] = &items(&hub, &format!("history?{of}&attribute=power&before={newest}&limit=2"))[1..] else {
        panic!("two values");
    };
    assert_eq!(values(&format!("before={}", second["seq"])), [1]);
    let types = |query: &str| -> Vec<Json> {
        items(&hub, &format!("events?{query}")).iter().map(|row| row["type"].clone()).collect()
    };
    let both = "type=command_applied,state_changed";
    assert_eq!(
        types(&format!("{of}&{both}&before={newest}&limit=3")),
        ["command_applied", "command_applied", "state_changed"]
    );
    assert_eq!(types(&format!("{of}&{both}&limit=1")), ["state_changed"]);
    let commands = |query: &str| -> Vec<Json> {
        items(&hub, &format!("commands?gateway=plant&{query}"))
            .iter()
            .map(|row| row["command"].clone())
            .collect()
    };
    assert_eq!(commands(&format!("before={newest}")), [8, 7]);
    assert_eq!(commands("after=6&before=8"), [7]);
    let answer = hub.get("/api/v1/events?gateway=plant&before=now");
    assert!(answer.status == 400 && answer.body.contains("`before=now` is not a position"), "{answer:?}");

    form::<Items<AttributeState>>(&hub, &format!("state?{of}"));
    let state = items(&hub, &format!("state?{of}"));
    assert_eq!((&state[0]["attribute"], &state[0]["value"]), (&json!("power"), &json!(3)));
    assert_eq!(state[0]["seq"], second["seq"].as_u64().unwrap() + 1);
    assert_eq!(items(&hub, &format!("state?{of}&after=power")), Vec::<Json>::new());
}

#[test]
fn files_of_the_page_come_with_their_types() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::start("one", &postgres);
    for (name, kind) in
        [("app.js", "text/javascript"), ("uplot.css", "text/css"), ("favicon.svg", "image/svg+xml")]
    {
        let answer = hub.get(&format!("/assets/{name}"));
        assert_eq!(answer.status, 200);
        for words in [&*format!("content-type: {kind}"), "etag: \"", "cache-control: no-cache", "nosniff"] {
            assert!(answer.head.contains(words), "{words}: {answer:?}");
        }
    }
    assert_eq!(hub.get("/assets/nothing.js").status, 404);
}
