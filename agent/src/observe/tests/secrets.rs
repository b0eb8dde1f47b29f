//! Values that are never stored.

use super::story::Input::{Faulty, Retained, Says};
use super::story::given;
use super::*;
use crate::message::WireFault;

fn settings() -> Config {
    let mut settings = config(50_000_000);
    let rules = &mut settings.sources[0].rules;
    rules[0].redact = vec!["*Password*".into(), "*pin_code".into()];
    rules.extend([
        Rule { attribute: "{attribute}".into(), ..rule("s/+device/+attribute", Decoder::Scalar) },
        Rule { attribute: "{attribute}".into(), ..rule("x/+device/+attribute", Decoder::Action) },
        Rule { actions: vec!["*".into()], ..rule("k/+device", Decoder::Json) },
        Rule { attribute: "wifi".into(), ..rule("p/+device", Decoder::Json) },
    ]);
    settings.sources[0].redact = vec!["token".into(), "wifi.key".into()];
    settings
}

#[test]
fn a_secret_says_that_it_changed_and_never_what_to() {
    given(settings(), &[(0, Says("d/t", r#"{"x":1}"#))])
        .when(1, Says("d/t", r#"{"MqttPassword":"hunter2","x":1}"#))
        .then(&["named MqttPassword", "t MqttPassword=(redacted #1)"])
        .when(2, Says("d/t", r#"{"MqttPassword":"hunter2","x":1}"#))
        .then(&[])
        .counted("unchanged", 1)
        .when(3, Says("d/t", r#"{"MqttPassword":"hunter3","x":2}"#))
        .then(&["t MqttPassword=(redacted #2) x=2"])
        // Returning to an earlier value is also a change.
        .when(4, Says("d/t", r#"{"MqttPassword":"hunter2"}"#))
        .then(&["t MqttPassword=(redacted #3)"])
        .when(5, Says("d/t", r#"{"MqttPassword":null}"#))
        .then(&["t MqttPassword=null"])
        .when(6, Says("d/t", r#"{"users":{"1":{"pin_code":1234,"status":"enabled"}}}"#))
        .then(&[
            "named users.1.pin_code",
            "named users.1.status",
            "t users.1.pin_code=(redacted #1) users.1.status=enabled",
        ]);
}

#[test]
fn after_a_restart_the_first_value_is_only_looked_at() {
    given(settings(), &[(0, Says("d/t", r#"{"Password1":"a"}"#))])
        .restarted(settings())
        .when(1, Retained("d/t", r#"{"Password1":"a"}"#))
        .then(&[])
        .when(2, Says("d/t", r#"{"Password1":"b"}"#))
        .then(&["t Password1=(redacted #2)"])
        .restarted(settings())
        // Not noticed: only the previous process could have detected a change.
        .when(3, Says("d/t", r#"{"Password1":"c"}"#))
        .then(&[])
        .when(4, Says("d/t", r#"{"Password1":"d"}"#))
        .then(&["t Password1=(redacted #3)"]);
}

#[test]
fn a_value_that_was_recorded_before_the_pattern_is_replaced() {
    let mut open = settings();
    open.sources[0].rules[0].redact.clear();
    given(open.clone(), &[(0, Says("d/t", r#"{"Password1":"a"}"#))])
        .reloaded(settings())
        .when(1, Says("d/t", r#"{"Password1":"a"}"#))
        .then(&["t Password1=(redacted #1)"])
        .reloaded(open)
        .when(2, Says("d/t", r#"{"Password1":"a"}"#))
        .then(&["t Password1=a"]);
}

#[test]
fn lists_single_values_and_actions_are_redacted_too() {
    given(settings(), &[(0, Says("d/t", "{}"))])
        .when(1, Says("d/t", r#"{"users":[{"pin_code":1}],"list":[1]}"#))
        .then(&["named users", "named list", "t users=(redacted #1) list=[1]"])
        .when(2, Says("d/t", r#"{"users":[{"pin_code":2}],"list":[1]}"#))
        .then(&["t users=(redacted #2)"])
        .when(3, Says("s/t/token", "abc"))
        .then(&["named token", "t token=(redacted #1)"])
        .when(4, Says("s/t/other", "abc"))
        .then(&["named other", "t other=abc"])
        .when(5, Says("x/t/token", "abc"))
        .then(&["t token!(redacted)"])
        .when(6, Says("k/t", r#"{"token":"abc","list":[{"token":1}],"key":"on"}"#))
        .then(&["t token!(redacted)", "t list!(redacted)", "named key", "t key!on"])
        // By its full name.
        .when(7, Says("p/t", r#"{"key":"abc","ssid":"y"}"#))
        .then(&["named wifi.key", "named wifi.ssid", "t wifi.key=(redacted #1) wifi.ssid=y"]);
}

#[test]
fn what_waits_for_the_end_of_an_interval_is_no_secret_either() {
    let mut settings = settings();
    settings.sources[0].rules[0].redact.push("slow*".into());
    given(settings, &[(0, Says("d/t", r#"{"slow":"a"}"#))])
        .when(1, Says("d/t", r#"{"slow":"b"}"#))
        .then(&[])
        .when(20_000, super::story::Input::Tick)
        .then(&["t slow=(redacted #2)"]);
}

#[test]
fn the_quarantine_keeps_no_secret() {
    let mut settings = settings();
    settings.limits.text_bytes_max = 16;
    let long = r#"{"MqttPassword":"hunter2","note":"12345678901234567"}"#;
    given(settings, &[])
        .when(0, Says("d/t", r#"[{"MqttPassword":"hunter2"}]"#))
        .then_quarantined("")
        .when(1, Says("d/u", r#"{"x":1,"MqttPassword":"hunter2""#))
        .then_quarantined("")
        .when(2, Faulty(WireFault::TooLarge { size: 9 }))
        .then_quarantined("")
        .when(3, Says("s/t/token", "12345678901234567"))
        .then_quarantined("a text of 17 bytes")
        .when(4, Says("b/t", r#"{"state":"?","wifi":{"key":"hunter2"}}"#))
        .then_quarantined("(redacted) is neither one of this rule's")
        .kept(&[
            r#"[{"MqttPassword":"(redacted)"}]"#,
            r#"{"x":1,"#,
            "{}",
            "(redacted)",
            r#"{"state":"?","wifi":{"key":"(redacted)"}}"#,
        ])
        .when(5, Says("d/w", long))
        .then(&[
            "discovered w",
            "named MqttPassword",
            "w MqttPassword=(redacted #1)",
            "quarantined: attribute note is longer than limits.text_bytes_max and was left out; the others were taken (said \
             once for this topic)",
        ]);
}
