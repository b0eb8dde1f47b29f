//! Open alerts: now, at a past moment, by page.

use fieldlog_projections::alert::{Alert, AlertCleared, ClearedBecause, Condition, Severity, Subject};

use super::*;

fn raised(rule: &str, severity: Severity, subject: Subject) -> Fact {
    let rule = rule.to_owned();
    let (condition, threshold, value) = (Condition::Above, Value::Float(30.0), Value::Float(30.5));
    Fact::AlertRaised(Box::new(Alert { rule, severity, subject, condition, threshold, value }))
}

fn cleared(raised: Seq) -> Fact {
    let (rule, subject) = ("late".to_owned(), Subject::Sink("cloud".into()));
    let (severity, because, value) = (Severity::Warning, ClearedBecause::Ended, Value::Null);
    Fact::AlertCleared(Box::new(AlertCleared { raised, rule, severity, subject, because, value }))
}

fn ids(page: &Json) -> Vec<u64> {
    page["alerts"].as_array().unwrap().iter().map(|alert| alert["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn open_alerts_are_listed_and_chosen_the_newest_first() {
    let agent = Agent::start().await;
    agent.commit([
        (0, discovered(0, "kitchen/one", None)),
        (0, discovered(1, "attic", None)),
        (0, named(0, "t")),
    ]);
    let hot =
        agent.commit([(1, raised("hot", Severity::Critical, Subject::Attribute(DeviceId(0), AttrId(0))))]);
    let quiet = agent.commit([(2, raised("quiet", Severity::Warning, Subject::Device(DeviceId(1))))]);
    let late = agent.commit([(3, raised("late", Severity::Warning, Subject::Sink("cloud".into())))]);

    let page = agent.json("/api/v1/alerts").await;
    assert_eq!((ids(&page), &page["next"]), (vec![late.0, quiet.0, hot.0], &Json::Null));
    let one = &page["alerts"][2];
    assert_eq!((&one["device"], &one["attribute"]), (&"kitchen/one".into(), &"t".into()));
    assert_eq!(
        (&one["condition"], &one["threshold"], &one["value"]),
        (&"above".into(), &30.0.into(), &30.5.into())
    );
    assert!(one.get("sink").is_none() && page["alerts"][0]["sink"] == "cloud");
    assert_eq!(ids(&agent.json("/api/v1/alerts?device=kitchen%2Fone").await), [hot.0]);
    assert_eq!(ids(&agent.json("/api/v1/alerts?severity=warning&rule=quiet").await), [quiet.0]);
    let page = agent.json("/api/v1/alerts?limit=2").await;
    assert_eq!((ids(&page), &page["next"]), (vec![late.0, quiet.0], &Json::from(quiet.0)));
    assert_eq!(ids(&agent.json(&format!("/api/v1/alerts?limit=2&before={quiet}")).await), [hot.0]);

    let end = agent.commit([(4, cleared(late))]);
    assert_eq!(ids(&agent.json("/api/v1/alerts").await), [quiet.0, hot.0]);
    let before = agent.json(&format!("/api/v1/alerts?at={}", end.0 - 1)).await;
    assert_eq!((ids(&before), &before["as_of"]["seq"]), (vec![late.0, quiet.0, hot.0], &Json::from(late.0)));
    agent.problem("/api/v1/alerts?severity=bad", 400, "bad-parameter").await;
    agent.problem("/api/v1/alerts?device=none", 404, "no-such-device").await;
    let status = agent.json("/status").await;
    assert_eq!((&status["alerts"]["open"], &status["alerts"]["critical"]), (&2.into(), &1.into()));
    agent.stop().await;
}
