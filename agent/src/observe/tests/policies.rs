//! Which values become events, and when.

use super::story::Input::{ClockSetFrom, PoliciesRemoved, Says, Stop, Tick};
use super::story::given;
use super::*;

fn settings(record: RecordMode, deadband: f64, min_interval_ms: u64) -> Config {
    let mut settings = config(50_000_000);
    settings.sources[0].policies = vec![Policy {
        attributes: vec!["t*".into()],
        devices: vec!["lamp".into()],
        deadband,
        min_interval: Duration::from_millis(min_interval_ms),
        held: crate::config::HeldValues::Memory,
        record,
    }];
    settings
}

fn every_10_s() -> Config {
    settings(RecordMode::Change, 0.0, 10_000)
}

#[test]
fn a_deadband_is_measured_from_the_recorded_value() {
    given(settings(RecordMode::Change, 0.5, 0), &[(0, Says("d/lamp", r#"{"t":20.0}"#))])
        .when(1, Says("d/lamp", r#"{"t":20.25}"#))
        .then(&[])
        .when(2, Says("d/lamp", r#"{"t":20.49}"#))
        .then(&[])
        .counted("suppressed", 2)
        .when(3, Says("d/lamp", r#"{"t":20.5}"#))
        .then(&["lamp t=20.5"])
        .when(4, Says("d/lamp", r#"{"t":20.5}"#))
        .then(&[])
        .counted("suppressed", 2);
}

#[test]
fn a_policy_holds_for_the_devices_and_attributes_it_names() {
    given(settings(RecordMode::Never, 0.0, 0), &[])
        .when(0, Says("d/lamp", r#"{"t":1,"x":1}"#))
        .then(&["discovered lamp", "named t", "named x", "lamp x=1"])
        .when(1, Says("d/fan", r#"{"t":1}"#))
        .then(&["discovered fan", "fan t=1"])
        .counted("suppressed", 1);
}

#[test]
fn every_records_what_is_equal_and_change_does_not() {
    for (record, facts) in [(RecordMode::Every, &["lamp t=1"][..]), (RecordMode::Change, &[])] {
        given(settings(record, 0.0, 0), &[(0, Says("d/lamp", r#"{"t":1}"#))])
            .when(1, Says("d/lamp", r#"{"t":1}"#))
            .then(facts);
    }
}

#[test]
fn the_newest_value_of_an_interval_is_recorded_at_its_end() {
    given(every_10_s(), &[(0, Says("d/lamp", r#"{"t":1}"#))])
        .when(2_000, Says("d/lamp", r#"{"t":2}"#))
        .then(&[])
        .when(3_000, Says("d/lamp", r#"{"t":3}"#))
        .then(&[])
        .counted("suppressed", 2)
        .when(9_999, Tick)
        .then(&[])
        .when(10_000, Tick)
        .then(&["lamp t=3"])
        .when(10_001, Tick)
        .then(&[])
        // The next interval begins here.
        .when(19_000, Says("d/lamp", r#"{"t":4}"#))
        .then(&[])
        .when(20_000, Tick)
        .then(&["lamp t=4"]);
}

#[test]
fn a_value_that_came_back_within_the_interval_is_no_event() {
    given(every_10_s(), &[(0, Says("d/lamp", r#"{"t":1}"#)), (1_000, Says("d/lamp", r#"{"t":2}"#))])
        .when(2_000, Says("d/lamp", r#"{"t":1}"#))
        .then(&[])
        .when(10_000, Tick)
        .then(&[]);
}

#[test]
fn a_value_after_the_interval_replaces_the_one_held_back() {
    given(every_10_s(), &[(0, Says("d/lamp", r#"{"t":1}"#)), (1_000, Says("d/lamp", r#"{"t":2}"#))])
        .when(10_500, Says("d/lamp", r#"{"t":3}"#))
        .then(&["lamp t=3"])
        .when(30_000, Tick)
        .then(&[]);
}

#[test]
fn a_stop_records_what_is_held_back() {
    given(every_10_s(), &[(0, Says("d/lamp", r#"{"t":1}"#)), (1_000, Says("d/lamp", r#"{"t":2}"#))])
        .when(1_500, Stop)
        .then(&["lamp t=2"]);
}

#[test]
fn a_value_that_came_back_is_no_event_even_if_the_policy_is_gone_meanwhile() {
    given(every_10_s(), &[(0, Says("d/lamp", r#"{"t":1}"#)), (1_000, Says("d/lamp", r#"{"t":2}"#))])
        .when(1_500, PoliciesRemoved)
        .then(&[])
        .when(2_000, Says("d/lamp", r#"{"t":1}"#))
        .then(&[])
        .when(10_000, Tick)
        .then(&[]);
}

#[test]
fn an_interval_goes_on_when_the_clock_is_set() {
    let hour = 3_600_000;
    for by in [hour, -hour] {
        given(every_10_s(), &[(0, Says("d/lamp", r#"{"t":1}"#)), (2_000, Says("d/lamp", r#"{"t":2}"#))])
            .when(by + 3_000, ClockSetFrom(3_000))
            .then(&[])
            .when(by + 9_999, Tick)
            .then(&[])
            .when(by + 10_000, Tick)
            .then(&["lamp t=2"]);
    }
}

#[test]
fn silence_goes_on_when_the_clock_is_set() {
    let hour = 3_600_000;
    for by in [hour, -hour] {
        let mut settings = config(50_000_000);
        settings.sources[0].silence_timeout = Some(Duration::from_secs(60));
        given(settings, &[(0, Says("d/lamp", r#"{"t":1}"#))])
            .when(by + 30_000, ClockSetFrom(30_000))
            .then(&[])
            .when(by + 60_000, Tick)
            .then(&[])
            .when(by + 60_001, Tick)
            .then(&["lamp Offline by Silence"]);
    }
}
