//! What people and programs read from the hub.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use fieldlog_projections::command::Progress;
use fieldlog_projections::{AttrId, DeviceId, Fact, Seq, Value};
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::wait::block_until;
use fieldlog_wire::Lane;
use fieldlog_wire::api::hub::{
    self, Change, Found, GatewayLog, HubCommand, HubCommandAnswer, HubDevice, HubEvent, Items, Store,
    WindowNumbers,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use crate::gateway::{Form, Gateway, random};
use crate::hub::Hub;
use crate::tables::rows;

/// The items of an answer.
pub fn items(hub: &Hub, path: &str) -> Vec<Json> {
    let answer = hub.get(&format!("/api/v1/{path}"));
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
    let body: Json = serde_json::from_str(&answer.body).unwrap();
    body["items"].as_array().unwrap().clone()
}

/// Checks that an answer has exactly what its type has.
pub fn form<T: Serialize + DeserializeOwned>(hub: &Hub, path: &str) {
    let answer = hub.get(&format!("/api/v1/{path}"));
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    let typed: T = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (sent, typed) = (serde_json::from_str(&answer.body).unwrap(), serde_json::to_value(typed).unwrap());
    assert_eq!(members("", &sent), members("", &typed), "{path}");
    assert!(members("", &sent).len() > 1, "{path}");
}

/// The paths of all members that are not null.
fn members(path: &str, json: &Json) -> BTreeSet<String> {
    match json {
        Json::Null => BTreeSet::new(),
        Json::Object(all) => {
            all.iter().flat_map(|(name, json)| members(&format!("{path}.{name}"), json)).collect()
        }
        Json::Array(all) => all.iter().flat_map(|json| members(&format!("{path}[]"), json)).collect(),
        _ => [path.to_owned()].into(),
    }
}

fn state(device: u32, value: Value) -> Fact {
    Fact::StateChanged { device: DeviceId(device), changes: vec![(AttrId(0), value)] }
}

#[test]
fn everything_can_be_read() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let hub = Hub::start("one", &postgres);
    let mut gateway = Gateway::new("plant", Form::Compact, 3, rng.fork());
    let values = [Value::Float(1.5), Value::Text("a\0b".into()), Value::Uint(u64::MAX), Value::Int(-3)];
    for value in values {
        gateway.record(&state(1, value));
    }
    let applied = Progress::Applied { evidence: None };
    gateway.record(&Fact::CommandProgressed { device: DeviceId(1), command: Seq(7), progress: applied });
    hub.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    let other = Gateway::new("other", Form::Json, 1, rng.fork());
    hub.take(&other.parcel((2, other.head()), Lane::Live));

    let gateways = items(&hub, "gateways");
    let brief = |row: &Json| {
        json!([
            row["gateway"],
            row["position"],
            row["head"],
            row["lag_events"],
            row["missing"],
            row["forked"]
        ])
    };
    let (head, other_head) = (gateway.head(), other.head());
    let expected =
        [json!(["other", 0, other_head, 1, [[1, 1]], null]), json!(["plant", head, head, 0, [], null])];
    assert_eq!(gateways.iter().map(brief).collect::<Vec<_>>(), expected);
    assert_eq!((&gateways[0]["version"], &gateways[1]["version"]), (&Json::Null, &json!("1")));
    assert_eq!(items(&hub, "gateways?after=other&limit=5").len(), 1);
    assert_eq!(items(&hub, "gateways/plant")[0]["chain"], gateway.link(head).to_string());

    let devices = items(&hub, "devices?limit=2");
    let names = |rows: &[Json]| rows.iter().map(|row| row["device"].clone()).collect::<Vec<_>>();
    assert_eq!((names(&devices), &devices[1]["gateway"]), (vec!["hall/0".into(); 2], &"plant".into()));
    assert_eq!(names(&items(&hub, "devices?after=plant/hall/0")), ["hall/1", "hall/2"]);
    assert_eq!(
        names(&items(&hub, "devices?q=M1")),
        Vec::<Json>::new(),
        "the operator has named another model"
    );
    assert_eq!(names(&items(&hub, "devices?q=SAID&gateway=plant")), ["hall/1"]);
    assert_eq!(names(&items(&hub, "devices?q=%25")), Vec::<Json>::new());
    assert_eq!(items(&hub, "devices?device=hall/1")[0]["state"], json!({"power": -3}));

    let history = items(&hub, "history?gateway=plant&device=hall/1&attribute=power");
    let values: Vec<&Json> = history.iter().map(|row| &row["value"]).collect();
    assert_eq!(values, [&json!(1.5), &json!("a\u{fffd}b"), &json!(u64::MAX), &json!(-3)]);
    let after =
        format!("history?gateway=plant&device=hall/1&attribute=power&after={}&limit=1", history[1]["seq"]);
    assert_eq!(items(&hub, &after), [history[2].clone()]);
    let from = history[2]["recorded"].as_str().unwrap().replace('+', "%2B");
    assert_eq!(
        items(&hub, &format!("history?gateway=plant&device=hall/1&attribute=power&from={from}")).len(),
        2
    );

    form::<Items<hub::Gateway>>(&hub, "gateways");
    form::<Items<GatewayLog>>(&hub, "gateways/plant");
    form::<Items<HubDevice>>(&hub, "devices");
    form::<Items<Change>>(&hub, "history?gateway=plant&device=hall/1&attribute=power");
    form::<Items<WindowNumbers>>(&hub, "aggregates?gateway=plant&device=hall/1&attribute=power");
    form::<Items<HubEvent>>(&hub, "events?gateway=plant&limit=1000");
    form::<Items<HubCommand>>(&hub, "commands?gateway=plant");
    form::<HubCommandAnswer>(&hub, "gateways/plant/commands/7");
    form::<Items<Store<'_>>>(&hub, "stores");
    form::<Found>(&hub, "search?q=hall");

    let days = items(&hub, "aggregates?gateway=plant&device=hall/1&attribute=power&length_s=86400");
    let counts: u64 = days.iter().map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!(counts, 3);
    assert_eq!(days.last().unwrap()["last"], -3);
    let events = items(&hub, "events?gateway=plant&type=device_discovered");
    assert_eq!(events.len(), 3);
    assert_eq!(events[0]["data"]["source"], "plant");
    let commands = items(&hub, "commands?gateway=plant&state=applied");
    assert_eq!((&commands[0]["command"], &commands[0]["device"]), (&json!(7), &json!("hall/1")));

    let metrics = hub.get("/metrics");
    assert!(metrics.head.contains("application/openmetrics-text"), "{metrics:?}");
    for line in [
        "fieldlog_hub_parcels_total{outcome=\"stored\"} 2",
        "fieldlog_hub_gateway_lag_events{gateway=\"other\"} 1.0",
        "fieldlog_hub_gateway_gaps{gateway=\"other\"} 1.0",
        "fieldlog_hub_gateway_lag_seconds{gateway=\"plant\"} 0.0",
        "fieldlog_hub_gateway_forked{gateway=\"plant\"} 0.0",
        &format!("fieldlog_hub_events_total {}", head + other_head - 1),
    ] {
        assert!(metrics.body.contains(line), "{line}\n{}", metrics.body);
    }
    assert!(metrics.body.contains("fieldlog_hub_batch_seconds_count 2"), "{}", metrics.body);
    // What alerts and dashboards ask for; of the stores, only those that are configured are there.
    let asked = [
        include_str!("../../../../config/prometheus/fieldlog.rules.yml"),
        include_str!("../../../../config/grafana/fleet.json"),
    ];
    for name in asked.concat().split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        if name.starts_with("fieldlog_hub_") && !name.starts_with("fieldlog_hub_store_") {
            assert!(metrics.body.contains(name), "{name}");
        }
    }
}

#[test]
fn what_is_asked_wrongly_is_answered_with_what_to_do() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::start("one", &postgres);
    let check = |path: &str, status: u16, code: &str, words: &str| {
        let answer = hub.get(&format!("/api/v1/{path}"));
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        let problem: Json = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["type"], format!("urn:fieldlog:problem:{code}"));
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    };
    check("gateways?limit=0", 400, "bad-parameter", "`limit=0` is not 1 to 10000");
    check("gateways?lim=3", 400, "bad-parameter", "unknown field `lim`");
    check("events", 400, "bad-parameter", "`gateway` is needed");
    check("events?gateway=a&from=noon", 400, "bad-parameter", "`from=noon` is not a time like");
    check("events?gateway=a&after=x", 400, "bad-parameter", "`after=x` is not a position");
    check(
        "aggregates?gateway=a&device=b&attribute=c&length_s=7",
        400,
        "bad-parameter",
        "not 60, 3600 or 86400",
    );
    check("events?gateway=a&min_seq=1", 503, "behind", "everything of `a` up to 0, and `min_seq` is 1");
    check("nothing", 404, "no-such-path", "README");
    check("events?gateway=a&min_seq=-1", 400, "bad-parameter", "`min_seq=-1` is not a position");
    check("events?gateway=&device=a", 400, "bad-parameter", "`gateway` is needed");
    check("gateways?lim=", 400, "bad-parameter", "unknown field `lim`");
    check("gateways?limit=many", 400, "bad-parameter", "limit: invalid digit");
    check("gateways/%FF", 400, "bad-parameter", "UTF-8");
    check("search?gateway=a", 400, "bad-parameter", "`q` is needed");
    check("search?q=..", 400, "bad-parameter", "`q=..` has no word");
    check("search?q=a&after=b", 400, "bad-parameter", "`after=b` is not the `next` of another page");
    let answer = hub.call("DELETE", "/api/v1/gateways", "");
    assert_eq!(answer.status, 405);
    assert!(
        answer.head.contains("allow: get,head") && answer.body.contains("method-not-allowed"),
        "{answer:?}"
    );
    // PostgreSQL has no such character, and neither has an id.
    assert_eq!(items(&hub, "devices?device=a%00b"), Vec::<Json>::new());
    assert_eq!(items(&hub, "gateways/a%00b"), Vec::<Json>::new());
    let description = hub.get("/openapi.json");
    assert!(description.head.contains("content-type: application/json"), "{}", description.head);
    assert!(description.body.contains("\"/api/v1/search\""));
    let page = hub.get("/");
    assert!(page.head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{page:?}");
    assert!(page.body.contains("/assets/app.js"), "{page:?}");
    assert_eq!(hub.get("/assets/app.js").status, 200);
    assert_eq!(hub.get("/assets/style.css").status, 200);
}

#[test]
fn min_seq_waits_for_what_was_just_sent() {
    let Some(postgres) = PostgresServer::start() else { return };
    let hub = Hub::start("one", &postgres);
    let mut gateway = Gateway::new("plant", Form::Json, 1, random());
    gateway.record(&state(0, Value::Int(5)));
    let parcel = gateway.parcel((1, gateway.head()), Lane::Live);
    let path = format!("devices?gateway=plant&min_seq={}", gateway.head());
    let found = std::thread::scope(|scope| {
        let reader = scope.spawn(|| items(&hub, &path));
        std::thread::sleep(Duration::from_millis(200));
        hub.take(&parcel);
        reader.join().unwrap()
    });
    assert_eq!(found[0]["state"], json!({"power": 5}));
}

/// The wrong one of two histories is gone, and an operator lets the right one go on.
#[test]
fn a_stopped_gateway_is_resumed() {
    let Some(postgres) = PostgresServer::start() else { return };
    let mut rng = random();
    let dir = tempfile::tempdir().unwrap();
    let lines = ["read", "admin", "ingest"].map(|scope| {
        let path = dir.path().join(scope);
        std::fs::write(&path, format!("{scope}-0123456789abcdef")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("[[token]]\nfile = {path:?}\nscopes = [{scope:?}]\n")
    });
    let hub = Hub::with("one", &postgres, &format!("lease_s = 3\n{}", lines.concat()));
    let with = |mut post: crate::gateway::Post| {
        post.headers.push(("authorization".into(), "Bearer ingest-0123456789abcdef".into()));
        hub.post(&post).status
    };
    let mut gateway = Gateway::new("plant", Form::Compact, 1, rng.fork());
    let mut clone = gateway.copy(rng.fork());
    let head = gateway.head();
    gateway.live(3);
    clone.live(3);
    assert_eq!(with(gateway.parcel((1, head + 3), Lane::Live)), 204);
    assert_eq!(with(clone.parcel((head + 1, head + 3), Lane::Live)), 409);
    gateway.live(2);
    let next = gateway.parcel((head + 4, head + 5), Lane::Live);
    assert_eq!(with(next.clone()), 409);
    let resume =
        |name: &str, token: &str| hub.call("POST", &format!("/api/v1/gateways/{name}/resume"), token);
    assert_eq!(resume("plant", "").status, 401);
    let answer = resume("plant", "read-0123456789abcdef");
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("the token needs the scope \\\"admin\\\""), "{answer:?}");
    let answer = resume("none", "admin-0123456789abcdef");
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("`none` has no log that is stopped"), "{answer:?}");
    assert_eq!(resume("plant", "admin-0123456789abcdef").status, 204);
    assert_eq!(with(next), 204);
    assert_eq!(with(clone.parcel((head + 1, head + 3), Lane::Live)), 409);
    assert_eq!(hub.call("GET", "/api/v1/gateways", "admin-0123456789abcdef").status, 200);
    assert_eq!(hub.call("GET", "/metrics", "ingest-0123456789abcdef").status, 403);
}

#[test]
fn old_days_are_dropped() {
    let Some(postgres) = PostgresServer::start() else { return };
    // The gateway's log begins three days ago, and takes less than one.
    let mut gateway = Gateway::new("plant", Form::Compact, 3, random());
    gateway.live(100);
    {
        let hub = Hub::start("one", &postgres);
        hub.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    }
    let events = || rows(&postgres, "count(*)", "FROM events")[0][0].as_u64().unwrap();
    let minutes =
        || rows(&postgres, "count(*)", "FROM aggregates WHERE length_s = 60")[0][0].as_u64().unwrap();
    assert_eq!(events(), gateway.head());
    assert!(minutes() > 0);
    let keeps = "lease_s = 3\n[retention]\nevents_days = 10\nminutes_days = 10\n";
    let mut keeping = Hub::with("keeping", &postgres, keeps);
    keeping.signal("TERM");
    assert_eq!(keeping.ends(), 0);
    assert_eq!(events(), gateway.head());
    let hub = Hub::with("dropping", &postgres, &keeps.replace("10", "1"));
    block_until("the end of the events", || (events() == 0 && minutes() == 0).then_some(()));
    assert!(hub.words().contains("dropped events_"), "{}", hub.words());
    let longer = rows(&postgres, "count(*) > 0", "FROM aggregates WHERE length_s > 60");
    assert_eq!(longer, [json!([true])]);
    // The positions stay known: nothing is taken for missing, and nothing comes back.
    hub.take(&gateway.parcel((1, gateway.head()), Lane::Live));
    assert_eq!(events(), 0);
    assert_eq!(rows(&postgres, "position", "FROM logs"), [json!([gateway.head()])]);
}
