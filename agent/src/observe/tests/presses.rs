//! Momentary events: each press is recorded once.

use super::story::Input::{Retained, Says, SaysOn};
use super::story::given;
use super::*;

fn settings() -> Config {
    let mut settings = config(50_000_000);
    let event = Rule {
        attribute: "input_event/{input}".into(),
        actions: vec!["event".into()],
        idempotent_by: Some("/event_cnt".into()),
        ..rule("shellies/+device/input_event/+input", Decoder::Json)
    };
    let root = Rule {
        root: "/params".into(),
        attribute: "button".into(),
        actions: vec!["press".into()],
        idempotent_by: Some("/params/n".into()),
        ..rule("rpc/+device", Decoder::Json)
    };
    settings.sources[0].rules = vec![
        Rule { actions: vec!["Button*".into()], ..rule("stat/+device/RESULT", Decoder::Json) },
        Rule {
            attribute: "event/{name}".into(),
            actions: vec!["event_type".into()],
            ..rule("esp/+device/event/+name/state", Decoder::Json)
        },
        event,
        root,
    ];
    settings
}

#[test]
fn three_equal_presses_are_three_presses() {
    let press = r#"{"Button1":{"Action":"SINGLE"}}"#;
    given(settings(), &[(0, Says("stat/t/RESULT", "{}"))])
        .when(1, Says("stat/t/RESULT", press))
        .then(&["named Button1.Action", "t Button1.Action!SINGLE"])
        .when(2, Says("stat/t/RESULT", press))
        .then(&["t Button1.Action!SINGLE"])
        .when(3, Says("stat/t/RESULT", press))
        .then(&["t Button1.Action!SINGLE"]);
}

#[test]
fn what_a_broker_has_kept_is_no_press() {
    given(settings(), &[(0, Says("stat/t/RESULT", "{}"))])
        .when(1, Retained("stat/t/RESULT", r#"{"Button1":{"Action":"SINGLE"},"x":1}"#))
        .then(&["named x", "t x=1"]);
}

#[test]
fn which_button_it_was_is_in_the_name() {
    given(settings(), &[(0, Says("esp/front/event/doorbell/state", r#"{"event_type":"press"}"#))])
        .when(1, Says("esp/front/event/doorbell2/state", r#"{"event_type":"press"}"#))
        .then(&["named event/doorbell2.event_type", "front event/doorbell2.event_type!press"])
        .when(2, Says("esp/front/event/doorbell/state", r#"{"event_type":"press"}"#))
        .then(&["front event/doorbell.event_type!press"]);
}

#[test]
fn a_press_with_the_counter_of_the_last_one_is_a_repeat() {
    let (one, two) = (r#"{"event":"S","event_cnt":1}"#, r#"{"event":"S","event_cnt":2}"#);
    given(settings(), &[])
        .when(0, Says("shellies/ix3/input_event/0", one))
        .then(&[
            "discovered ix3",
            "named input_event/0.event",
            "ix3 input_event/0.event!S",
            "named input_event/0.event_cnt",
            "ix3 input_event/0.event_cnt=1",
        ])
        .when(1, Says("shellies/ix3/input_event/0", one))
        .then(&[])
        .counted("unchanged", 1)
        // Each input is counted separately.
        .when(2, Says("shellies/ix3/input_event/1", one))
        .then(&[
            "named input_event/1.event",
            "ix3 input_event/1.event!S",
            "named input_event/1.event_cnt",
            "ix3 input_event/1.event_cnt=1",
        ])
        .when(3, Says("shellies/ix3/input_event/0", two))
        .then(&["ix3 input_event/0.event!S", "ix3 input_event/0.event_cnt=2"])
        .restarted(settings())
        .when(4, Says("shellies/ix3/input_event/0", two))
        .then(&[])
        .when(5, Says("shellies/ix3/input_event/0", one))
        .then(&["ix3 input_event/0.event!S", "ix3 input_event/0.event_cnt=1"])
        // Without a counter a repeat cannot be recognised.
        .when(6, Says("shellies/ix3/input_event/0", r#"{"event":"L"}"#))
        .then(&["ix3 input_event/0.event!L"])
        .when(7, Says("shellies/ix3/input_event/0", r#"{"event":"L"}"#))
        .then(&["ix3 input_event/0.event!L"]);
}

#[test]
fn one_action_of_all_fields_is_not_repeated_either_and_has_no_secret() {
    let mut settings = settings();
    settings.sources[0].redact = vec!["*code".into()];
    settings.sources[0].rules = vec![Rule {
        attribute: "rf".into(),
        actions: vec!["rf*".into()],
        action_fields: crate::config::ActionFields::Together,
        each: Some(crate::config::Each::Members),
        device: vec!["{key}".into()],
        idempotent_by: Some("/n".into()),
        ..rule("bridge/+x", Decoder::Json)
    }];
    let press = r#"{"a":{"n":1,"rf":{"code":"0xAF","bits":24}},"b":{"n":1,"rf":{"bits":12}}}"#;
    given(settings.clone(), &[])
        .when(0, Says("bridge/x", press))
        .then(&[
            "discovered a",
            "named rf.n",
            "a rf.n=1",
            "named rf",
            r#"a rf!{"rf":{"bits":24,"code":"(redacted)"}}"#,
            "discovered b",
            "b rf.n=1",
            r#"b rf!{"rf":{"bits":12}}"#,
        ])
        .when(1, Says("bridge/x", press))
        .then(&[])
        .restarted(settings)
        .when(2, Says("bridge/x", press))
        .then(&[]);
}

#[test]
fn a_counter_below_the_root_counts() {
    let press = r#"{"params":{"n":7,"press":"long"}}"#;
    given(settings(), &[])
        .when(0, SaysOn(0, "rpc/b", press))
        .then(&[
            "discovered b",
            "named button.n",
            "named button.press",
            "b button.press!long",
            "b button.n=7",
        ])
        .when(1, Says("rpc/b", press))
        .then(&[]);
}

/// Beside the root, in a list, and above the documents of several devices.
#[test]
fn a_counter_anywhere_in_the_payload_counts() {
    let mut settings = settings();
    let counted = |topic: &str, root: &str, by: &str| Rule {
        root: root.into(),
        actions: vec!["press".into()],
        idempotent_by: Some(by.into()),
        ..rule(topic, Decoder::Json)
    };
    settings.sources[0].rules = vec![
        counted("beside/+device", "/params", "/head/id"),
        counted("list/+device", "", "/events/0/n"),
        Rule {
            each: Some(crate::config::Each::Members),
            device: vec!["{key}".into()],
            ..counted("each", "/of", "/n")
        },
    ];
    let beside =
        |id: u8, press: &str| format!(r#"{{"head":{{"id":{id}}},"params":{{"id":1,"press":"{press}"}}}}"#);
    let list = |n: u8| format!(r#"{{"press":"S","events":[{{"n":{n}}}]}}"#);
    let each = |n: u8| format!(r#"{{"n":{n},"of":{{"p":{{"press":"S"}},"q":{{"press":"S","n":5}}}}}}"#);
    given(settings.clone(), &[])
        .when(0, Says("beside/b", &beside(7, "S")))
        .then(&[
            "discovered b",
            "named id",
            "named press",
            "b press!S",
            "named /head/id",
            "b id=1 /head/id=7",
        ])
        .when(1, Says("beside/b", &beside(7, "S")))
        .then(&[])
        .restarted(settings.clone())
        .when(2, Says("beside/b", &beside(7, "S")))
        .then(&[])
        .when(3, Says("beside/b", &beside(8, "S")))
        .then(&["b press!S", "b /head/id=8"])
        // Only the last one is known: one before it is a press.
        .when(4, Says("beside/b", &beside(7, "S")))
        .then(&["b press!S", "b /head/id=7"])
        // Nothing that could be compared is there.
        .when(5, Says("beside/b", r#"{"head":{"id":{}},"params":{"press":"L"}}"#))
        .then(&["b press!L"])
        .when(6, Says("list/l", &list(1)))
        .then(&[
            "discovered l",
            "l press!S",
            "named events",
            "named /events/0/n",
            r#"l events=[{"n":1}] /events/0/n=1"#,
        ])
        .when(7, Says("list/l", &list(1)))
        .then(&[])
        .when(8, Says("each", &each(1)))
        .then(&[
            "discovered p",
            "p press!S",
            "named /n",
            "p /n=1",
            "discovered q",
            "named n",
            "q press!S",
            "q n=5",
        ])
        // Each device has its own, or the one above.
        .when(9, Says("each", &each(2)))
        .then(&["p press!S", "p /n=2"])
        .restarted(settings)
        .when(10, Says("each", &each(2)))
        .then(&[]);
}
