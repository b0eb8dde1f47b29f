use fieldlog_projections::declared::{Declared, DerivedAttribute, NamedAggregate};
use fieldlog_projections::{Named, Settings};
use serde_json::json;

use super::*;

const DECLARED: &str = "\
[[derived_attribute]]
name = \"fahrenheit\"
formula = \"value\"
of = [\"temperature\"]
scale = 1.8
offset = 32
unit = \"°F\"
[[derived_attribute]]
name = \"warm\"
formula = \"value\"
of = [\"temperature\"]
above = 21
[[derived_attribute]]
name = \"nothing\"
formula = \"ratio\"
of = [\"temperature\", \"on\"]
[[named_aggregate]]
name = \"warmest\"
attributes = [\"temp*\", \"fahrenheit\"]
function = \"max\"
window_s = 60
unit = \"°\"
[[named_aggregate]]
name = \"rise\"
attributes = [\"temperature\"]
function = \"change\"
window_s = 60
scale = 1000
";

fn declared(text: &str) -> (Vec<DerivedAttribute>, Vec<NamedAggregate>) {
    let config = Config::from_toml(text, "test.toml").unwrap();
    (config.derived, config.named)
}

/// An agent that has the house, with other declarations in the configuration than in the view.
async fn agent(configured: &str, folded: &str) -> Agent {
    let agent = Agent::start_configured(|config| (config.derived, config.named) = declared(configured)).await;
    let (derived, aggregates) = declared(folded);
    agent.side.shared.view.write().unwrap().named = Named::new(Declared { derived, aggregates });
    agent.commit_house();
    agent
}

fn window(start: &str, count: u32, value: f64, open: bool) -> Json {
    json!({"start": format!("2025-11-23T{start}:00.000000Z"), "count": count, "value": value, "open": open})
}

#[tokio::test]
async fn all_devices_are_in_one_answer() {
    let agent = agent(DECLARED, DECLARED).await;
    let answer = agent.json("/api/v1/aggregates/warmest").await;
    let series = |attribute: &str, derived: bool, first: f64, second: f64| {
        let windows = [window("10:00", 2, first, false), window("10:01", 1, second, true)];
        json!({"attribute": attribute, "derived": derived, "windows": windows})
    };
    let series = [series("temperature", false, 21.5, 22.0), series("fahrenheit", true, 70.7, 71.6)];
    assert_eq!(answer["devices"], json!([{"id": "kitchen/lamp", "series": series}]));
    assert_eq!(answer["next"], Json::Null);
    let aggregate = &answer["aggregate"];
    assert_eq!(
        (&aggregate["state"], &aggregate["unit"], &aggregate["function"]),
        (&json!("current"), &json!("°"), &json!("max"))
    );
    assert!(aggregate.get("complete_from").is_none());
    let rise = agent.json("/api/v1/aggregates/rise").await;
    let windows = [window("10:00", 2, 1_000.0, false), window("10:01", 1, 500.0, true)];
    assert_eq!(rise["devices"][0]["series"][0]["windows"], json!(windows), "scaled");
}

#[tokio::test]
async fn an_answer_is_narrowed_by_its_parameters() {
    let agent = agent(DECLARED, DECLARED).await;
    let get = async |query: &str| {
        let answer = agent.json(&format!("/api/v1/aggregates/warmest?{query}")).await;
        let devices = answer["devices"].as_array().unwrap().clone();
        let series = devices.iter().flat_map(|device| device["series"].as_array().unwrap());
        series
            .map(|one| (one["attribute"].clone(), one["windows"].as_array().unwrap().len()))
            .collect::<Vec<_>>()
    };
    let both = [(json!("temperature"), 2), (json!("fahrenheit"), 2)];
    assert_eq!(get("device=kitchen%2Flamp").await, both);
    assert_eq!(get("device=bridge").await, []);
    assert_eq!(get("attribute=fahrenheit").await, both[1..]);
    assert_eq!(get("from=2025-11-23T10:00:59Z").await, both, "the window goes on after it");
    assert_eq!(get("from=2025-11-23T10:01:00Z&attribute=temperature").await, [(json!("temperature"), 1)]);
    assert_eq!(get("to=2025-11-23T10:01:00Z&attribute=temperature").await, [(json!("temperature"), 1)]);
    assert_eq!(get("after=kitchen%2Flamp").await, []);
    let problem = agent.problem("/api/v1/aggregates/warmest?device=kitchen", 404, "no-such-device").await;
    assert!(problem["detail"].as_str().unwrap().contains("there is no device `kitchen`"), "{problem}");
    agent.problem("/api/v1/aggregates/warmest?at=5", 400, "bad-parameter").await;
}

#[tokio::test]
async fn pages_of_devices_follow_each_other() {
    let agent = agent(DECLARED, DECLARED).await;
    agent.commit((2..5).flat_map(|number| {
        let value = changed(number, vec![(0, Value::Int(i64::from(number)))]);
        [(100, discovered(number, &format!("sensor{number}"), None)), (100, value)]
    }));
    let mut ids = Vec::new();
    let mut path = "/api/v1/aggregates/rise?limit=2".to_owned();
    loop {
        let answer = agent.get(&path).await;
        let page = answer.json();
        ids.extend(page["devices"].as_array().unwrap().iter().map(|device| device["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/aggregates/rise?limit=2&after={}", next.replace('/', "%2F"));
        assert!(answer.header("link").unwrap().contains(&path), "{:?}", answer.header("link"));
    }
    assert_eq!(ids, ["kitchen/lamp", "sensor2", "sensor3", "sensor4"]);
}

#[tokio::test]
async fn what_is_declared_is_listed_with_its_state() {
    let earlier = DECLARED.replace("\"max\"\nwindow_s = 60", "\"max\"\nwindow_s = 120");
    let removed = earlier.replace("\"rise\"", "\"removed\"");
    let agent = agent(DECLARED, &removed).await;
    let answer = agent.json("/api/v1/aggregates").await;
    let list = |answer: &Json| -> Vec<Json> {
        let all = answer["aggregates"].as_array().unwrap().iter();
        all.map(|one| json!([one["name"], one["state"], one["window_s"]])).collect()
    };
    let expected = [
        json!(["warmest", "earlier", 120]),
        json!(["rise", "pending", 60]),
        json!(["removed", "earlier", 60]),
    ];
    assert_eq!(list(&answer), expected);
    assert_eq!(answer["derived_attributes"][1]["name"], "warm");
    // The earlier one answers, the new one says how to see how far it is.
    let page = agent.json("/api/v1/aggregates/warmest").await;
    assert_eq!(page["devices"][0]["series"][0]["windows"].as_array().unwrap().len(), 1);
    let problem = agent.problem("/api/v1/aggregates/rise", 503, "rebuilding").await;
    let detail = "`rise` is new and is being built from the log; `rebuild` in /status shows how far it is. Ask again later";
    assert_eq!(problem["detail"], detail);
    let problem = agent.problem("/api/v1/aggregates/warmset", 404, "no-such-aggregate").await;
    let detail =
        "no named aggregate `warmset` is declared. Did you mean warmest? /api/v1/aggregates lists them";
    assert_eq!(problem["detail"], detail);

    let progress = &agent.side.shared.rebuild;
    let (number, _) = progress.begin(&[Named::ID]);
    let status = agent.json("/status").await;
    assert_eq!(status["rebuild"], json!({"running": true, "applied": 0, "folds": ["named aggregates"]}));
    let metrics = agent.get("/metrics").await;
    assert!(
        metrics.text().contains("fieldlog_fold_rebuilding{fold=\"named aggregates\"} 1"),
        "{}",
        metrics.text()
    );
    progress.end(number, false);
    let problem = agent.problem("/api/v1/aggregates/rise", 503, "rebuilding").await;
    assert!(problem["detail"].as_str().unwrap().ends_with("restart fieldlog to try again"), "{problem}");

    let (derived, aggregates) = declared(DECLARED);
    let settings = Settings { declared: Declared { derived, aggregates }, ..Settings::default() };
    crate::rebuild::start(&agent.side.shared, &[Named::ID], settings);
    while progress.running() {
        tokio::task::yield_now().await;
    }
    let answer = agent.get("/api/v1/aggregates").await;
    assert_eq!(list(&answer.json()), [json!(["warmest", "current", 60]), json!(["rise", "current", 60])]);
    assert_eq!(answer.header("etag"), None, "a rebuild moves no position");
    assert!(agent.json("/api/v1/aggregates/rise").await["devices"][0]["series"].is_array());
}

#[tokio::test]
async fn derived_attributes_are_computed_from_the_values_of_any_moment() {
    let agent = agent(DECLARED, "").await;
    let fahrenheit = |value: f64, seq: u64, at: &str| json!({"value": value, "unit": "°F", "seq": seq, "at": format!("2025-11-23T10:{at}.000000Z")});
    let device = agent.json("/api/v1/devices/kitchen%2Flamp").await["device"].clone();
    assert_eq!(device["derived"]["fahrenheit"], fahrenheit(71.6, 7, "01:10"));
    assert_eq!(
        device["derived"]["warm"],
        json!({"value": true, "seq": 7, "at": "2025-11-23T10:01:10.000000Z"})
    );
    assert!(device["derived"].get("nothing").is_none(), "`on` is no number");
    let list = agent.json("/api/v1/devices").await;
    assert!(list["devices"][0].get("derived").is_none(), "the bridge has no values");
    assert_eq!(list["devices"][1]["derived"], device["derived"]);
    let past = agent.json("/api/v1/devices/kitchen%2Flamp?at=5").await;
    assert_eq!(past["device"]["derived"]["fahrenheit"], fahrenheit(68.9, 5, "00:01"));
    assert_eq!(past["device"]["derived"]["warm"]["value"], false);
    let past = agent.json("/api/v1/devices?at=5").await;
    assert_eq!(past["devices"][1]["derived"]["warm"]["value"], false);
}
