//! Many undecodable inputs make few records.

use super::story::Input::{ClockSetFrom, Says, Stop, Tick};
use super::story::given;
use super::*;

const MINUTE: i64 = 60_000;

fn settings() -> Config {
    let mut settings = config(50_000_000);
    settings.limits.quarantine_per_topic_max = Config::default().limits.quarantine_per_topic_max;
    settings
}

#[test]
fn three_thousand_unreadable_messages_are_three_records_and_a_summary() {
    let mut story = given(settings(), &[]);
    for n in 0..3_000 {
        let told = story.when(n, Says("b/lamp", &format!("maybe {n}")));
        story = if n < 3 { told.then_quarantined("maybe") } else { told.then(&[]) };
    }
    story
        .counted("quarantined", 3_000)
        .counted("summarised", 2_997)
        .when(10 * MINUTE + 2, Tick)
        .then(&[])
        .when(10 * MINUTE + 3, Tick)
        .then_summarised("summary: 2997 on b/lamp from 3 to 2999: \"maybe 2999\" is neither")
        .kept(&["maybe 0", "maybe 1", "maybe 2", "maybe 2999"])
        .when(20 * MINUTE, Tick)
        .then(&[])
        // Another topic has its own.
        .when(21 * MINUTE, Says("b/fan", "maybe"))
        .then_quarantined("maybe")
        .when(22 * MINUTE, Says("b/lamp", "maybe"))
        .then(&[])
        .when(22 * MINUTE + 1, Stop)
        .then_summarised("summary: 1 on b/lamp from 1320000 to 1320000: \"maybe\" is neither")
        // An hour after the first one they are recorded individually again.
        .when(60 * MINUTE, Says("b/lamp", "maybe"))
        .then_quarantined("maybe");
}

#[test]
fn without_a_limit_each_is_recorded() {
    let mut settings = settings();
    settings.limits.quarantine_per_topic_max = 0;
    let mut story = given(settings, &[]);
    for n in 0..20 {
        story = story.when(n, Says("b/lamp", "maybe")).then_quarantined("maybe");
    }
    story.counted("summarised", 0);
}

#[test]
fn topics_beyond_the_table_are_counted_together() {
    let mut story = given(settings(), &[]);
    for n in 0..1_000 {
        story = story.when(n, Says(&format!("b/{n}"), "maybe")).then_quarantined("maybe");
    }
    for n in 1_000..1_100 {
        let told = story.when(n, Says(&format!("b/{n}"), "maybe"));
        story = if n < 1_003 { told.then_quarantined("maybe") } else { told.then(&[]) };
    }
    story = story
        // A topic in the table still has its own count.
        .when(2_000, Says("b/7", "maybe"))
        .then_quarantined("maybe")
        .when(20 * MINUTE, Tick)
        .then_summarised("summary: 97 on  from 1003 to 1099: ");
    // After an hour without faults there is room again.
    story
        .when(61 * MINUTE, Tick)
        .then(&[])
        .when(61 * MINUTE + 1, Says("b/new", "maybe"))
        .then_quarantined("maybe")
        .counted("summarised", 97);
}

#[test]
fn a_clock_that_is_set_ends_no_count_and_holds_none_back() {
    let before: Vec<_> = (0..5).map(|n| (n, Says("b/lamp", "maybe"))).collect();
    let hour = 60 * MINUTE;
    for by in [-hour, hour] {
        given(settings(), &before)
            .when(by + 10, ClockSetFrom(10))
            .then(&[])
            .when(by + 11, Tick)
            .then_summarised("summary: 2 on b/lamp from 3 to 4: ")
            .when(by + 12, Says("b/lamp", "maybe"))
            .then(&[])
            .when(by + hour + 12, Says("b/lamp", "maybe"))
            .then_quarantined("maybe");
    }
}

#[test]
fn what_is_counted_goes_on_after_a_reload() {
    let before: Vec<_> = (0..5).map(|n| (n, Says("b/lamp", "maybe"))).collect();
    given(settings(), &before)
        .reloaded(settings())
        .when(6, Says("b/lamp", "maybe"))
        .then(&[])
        .when(7, Stop)
        .then_summarised("summary: 3 on b/lamp from 3 to 6: ");
}
