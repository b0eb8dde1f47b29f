//! One second in 2099, then `correct-clock`, and how every reader handles the log after that.

use std::sync::atomic::AtomicBool;

use fieldlog::correct::{Corrected, correct};
use fieldlog::log::Commit;
use fieldlog::retention::rollup::{Job, roll_up};
use fieldlog::verify::verify;
use fieldlog_projections::rollup::Row;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::process::call;
use serde_json::Value as Json;

use super::*;
use crate::history::HOUR_S;

/// 2099-01-01.
const FAR_S: i64 = 4_070_908_800;

/// Four hours: one with a correct clock, then one second in 2099 with values 1000 to 1009, one in which log time stands
/// still, the correction at its end, and one after it. The values count the minutes. Returns the second of the first
/// value and the position of the correction.
fn four_hours(dir: &Path) -> (i64, Seq) {
    let begin_s = (Clock::system().wall().0 / 1_000_000 / HOUR_S - 5) * HOUR_S;
    let mut log = open(dir);
    introduce(&mut log, begin_s);
    (0..60).for_each(|n| report(&mut log, begin_s + n * 60, n as f64));
    (0..10).for_each(|n| report(&mut log, FAR_S, f64::from(1_000 + n)));
    (60..120).for_each(|n| report(&mut log, begin_s + n * 60, n as f64));
    log.close().unwrap();
    let wall = Time::from_secs(begin_s + 2 * HOUR_S);
    let Corrected::Back { before, after, at } = correct(dir, wall, "uid:1000").unwrap() else {
        panic!("not corrected")
    };
    assert_eq!((before, after, at), (Time::from_secs(FAR_S), wall, Seq(3 + 130 + 2)));
    let mut log = open(dir);
    (120..180).for_each(|n| report(&mut log, begin_s + n * 60, n as f64));
    log.close().unwrap();
    (begin_s, at)
}

fn rfc3339(second: i64) -> String {
    let (day, of_day) = (second.div_euclid(DAY_S), second.rem_euclid(DAY_S));
    // Days since 1970 to a date, after Howard Hinnant's description of the calendar.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The values of the device's history between two moments, in order.
async fn history(agent: &Agent, from_s: i64, to_s: i64) -> Vec<f64> {
    let (from, to) = (rfc3339(from_s), rfc3339(to_s));
    let answer =
        agent.json(&format!("/api/v1/devices/meter/history?attribute=power&from={from}&to={to}")).await;
    let items = answer["history"].as_array().unwrap().iter();
    items.filter_map(|item| item["changes"]["power"].as_f64()).collect()
}

/// Count and last value of each bucket of an hour, from a moment on.
async fn buckets(agent: &Agent, from_s: i64, source: &str) -> Vec<(String, u64, f64)> {
    let from = rfc3339(from_s);
    let path = format!("/api/v1/devices/meter/aggregates?attribute=power&window_s=3600&from={from}");
    let answer = agent.json(&path).await;
    assert_eq!(answer["source"], source, "{answer}");
    let bucket = |b: &Json| {
        (
            b["start"].as_str().unwrap()[..19].to_owned() + "Z",
            b["count"].as_u64().unwrap(),
            b["last"].as_f64().unwrap(),
        )
    };
    answer["buckets"].as_array().unwrap().iter().map(bucket).collect()
}

fn minutes(range: std::ops::Range<i64>) -> Vec<f64> {
    range.map(|n| n as f64).collect()
}

#[tokio::test]
async fn what_was_recorded_is_found_where_it_happened() {
    let dir = scratch();
    let (begin_s, _) = four_hours(dir.path());
    let agent = Agent::start(config(dir.path(), "", KEEP)).await;
    let hour = |n: i64| begin_s + n * HOUR_S;

    // By log time, or by the correction where log time was wrong.
    assert_eq!(history(&agent, hour(0), hour(1)).await, minutes(0..60));
    assert_eq!(history(&agent, hour(1), hour(2)).await, minutes(0..0));
    let wrong = [minutes(1_000..1_010), minutes(60..120)].concat();
    assert_eq!(history(&agent, hour(2), hour(2) + 1).await, [wrong, minutes(120..121)].concat());
    assert_eq!(history(&agent, hour(2) + 1, hour(3)).await, minutes(121..180));
    assert_eq!(history(&agent, FAR_S - 1, FAR_S + 1).await, minutes(0..0));
    let events = agent.json(&format!("/api/v1/events?type=clock_corrected&from={}", rfc3339(hour(2)))).await;
    let data = &events["events"][0]["data"];
    assert_eq!(data["before"], "2099-01-01T00:00:00.000000Z", "{events}");
    let by = agent.json("/api/v1/events?actor=uid:1000").await["events"][0].clone();
    assert_eq!((&events["events"][0]["cause"], &by["data"]["call"]), (&by["seq"], &"correct-clock".into()));
    assert_eq!(data["after"].as_str().unwrap()[..19], rfc3339(hour(2))[..19]);

    let at = async |second: i64| {
        agent.json(&format!("/api/v1/devices/meter?at={}", rfc3339(second))).await.to_string()
    };
    for (second, value) in [(hour(0) + 600, 10.0), (hour(2) - 1, 59.0), (hour(2), 120.0), (hour(3), 179.0)] {
        let answer = at(second).await;
        assert!(answer.contains(&format!("\"value\":{value:?}")), "{value} at {second}: {answer}");
    }

    // Memory has the buckets after the correction; the others are folded from the log.
    let expected = [(rfc3339(hour(0)), 60, 59.0), (rfc3339(hour(2)), 130, 179.0)];
    assert_eq!(buckets(&agent, hour(0), "log").await, expected);
    let advice = agent.json("/status").await["clock_advice"].clone();
    assert_eq!(advice, Json::Null);
    agent.stop().await;
    let log = Logbook::read(dir.path());
    assert_eq!(log.count(|fact| matches!(fact, Fact::ClockCorrected { .. })), 1);
    drop(log);
    let report = verify(dir.path()).unwrap();
    assert!(report.is_good(), "{report:?}");
}

#[tokio::test]
async fn later_records_alone_are_in_the_aggregates_in_memory() {
    let dir = scratch();
    let (begin_s, _) = four_hours(dir.path());
    let mut log = open(dir.path());
    (180..240).for_each(|n| report(&mut log, begin_s + n * 60, n as f64));
    log.close().unwrap();
    // From the whole log, and from the snapshot that the first stop leaves.
    for _ in 0..2 {
        let agent = Agent::start(config(dir.path(), "", KEEP)).await;
        let hour = begin_s + 3 * HOUR_S;
        assert_eq!(buckets(&agent, hour, "memory").await, [(rfc3339(hour), 60, 239.0)]);
        agent.stop().await;
    }
}

#[test]
fn ages_and_windows_go_by_the_correction() {
    let dir = scratch();
    let (begin_s, corrected) = four_hours(dir.path());
    let log = open(dir.path());
    let reader = log.reader();
    let hour = |n: i64| begin_s + n * HOUR_S;
    let seek = |second: i64| reader.seek_time(Time::from_secs(second)).unwrap();
    // Retention by age deletes everything before such a position; 2099 must not keep the log for 73 years.
    assert!(seek(hour(1)) <= Seq(63) && seek(hour(2)) <= Seq(64));
    assert!(seek(hour(2) + 1) <= corrected.next());
    assert!(seek(hour(3)) > corrected, "what a wrong clock has recorded is kept for ever");
    assert!(seek(FAR_S) > corrected);

    let job = Job {
        length_s: HOUR_S as u32,
        before: log.head().next(),
        head: (log.head(), Time::from_secs(hour(5))),
    };
    let periods = roll_up(&reader, job, &AtomicBool::new(false)).unwrap();
    let found: Vec<_> = periods
        .iter()
        .map(|p| {
            let row = Row::parse(&p.rows[0]).unwrap();
            (p.period.start_s, p.period.last, row.series().unwrap()[0].bucket.count)
        })
        .collect();
    assert_eq!(found, [(hour(0), Seq(63), 60), (hour(2), log.head(), 130)]);
    let sorted = periods.iter().all(|p| p.period.base_time <= p.period.last_time);
    assert!(sorted, "{periods:?}");
}

#[tokio::test]
async fn an_archive_made_before_the_correction_is_read_by_it() {
    let dir = scratch();
    let begin_s = (Clock::system().wall().0 / 1_000_000 / HOUR_S - 5) * HOUR_S;
    let mut log = open(dir.path());
    introduce(&mut log, begin_s);
    (0..60).for_each(|n| report(&mut log, begin_s + n * 60, n as f64));
    (0..10).for_each(|n| report(&mut log, FAR_S + n * 60, (1_000 + n) as f64));
    let head = (log.head(), Time::from_secs(FAR_S + DAY_S));
    let job = Job { length_s: HOUR_S as u32, before: log.head().next(), head };
    let periods = roll_up(&log.reader(), job, &AtomicBool::new(false)).unwrap();
    assert_eq!(periods.iter().map(|p| p.period.start_s).collect::<Vec<_>>(), [begin_s, FAR_S]);
    let empty = RecordBuffer::after(log.last_time());
    log.commit(&Commit { rollups: &periods, ..Commit::of(&empty) }).unwrap();
    log.close().unwrap();
    correct(dir.path(), Time::from_secs(begin_s + HOUR_S), "uid:1000").unwrap();
    let mut log = open(dir.path());
    (60..120).for_each(|n| report(&mut log, begin_s + n * 60, n as f64));
    assert_eq!(
        log.reader().seek_rollups(Time::from_secs(begin_s + 2 * HOUR_S)).unwrap(),
        log.reader().seek_rollups(Time(i64::MAX)).unwrap()
    );
    // The last period is always kept; here it is that of 2099.
    let old = log.reader().rollups_older(Time::from_secs(begin_s + 2 * HOUR_S)).unwrap();
    assert_eq!(old, Some(periods[1].period.first));
    log.close().unwrap();
    let agent = Agent::start(config(dir.path(), "", KEEP)).await;
    let hour = |n: i64| rfc3339(begin_s + n * HOUR_S);
    let expected = [(hour(0), 60, 59.0), (hour(1), 70, 119.0)];
    assert_eq!(buckets(&agent, begin_s, "archive+log").await, expected);
    agent.stop().await;
}

#[tokio::test]
async fn the_command_says_what_it_did_and_what_it_cannot_do() {
    let dir = scratch();
    let path = dir.path().to_str().unwrap();
    let (code, _, err) = call(&["correct-clock", "--data-dir", path]);
    assert_eq!(code, 74, "{err}");
    assert!(err.contains("log.redb"), "{err}");

    let now_s = Clock::system().wall().0 / 1_000_000;
    let mut log = open(dir.path());
    introduce(&mut log, now_s - 60);
    report(&mut log, FAR_S, 1.0);
    log.close().unwrap();
    // The agent reports this in its status, and has the log.
    let agent = Agent::start(config(dir.path(), "", KEEP)).await;
    let advice = agent.json("/status").await["clock_advice"].as_str().unwrap().to_owned();
    for part in ["2099-01-01", "stands still", "correct-clock", path] {
        assert!(advice.contains(part), "{part:?} is not in: {advice}");
    }
    assert!(fieldlog::daemon::status_line(&agent.handle).contains(path));
    let (code, _, err) = call(&["correct-clock", "--data-dir", path]);
    assert_eq!(code, 74, "{err}");
    assert!(err.contains("in use"), "{err}");
    agent.stop().await;

    let told = || {
        let (code, out, err) = call(&["correct-clock", "--data-dir", path, "--json"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        serde_json::from_str::<serde_json::Value>(&out).unwrap()
    };
    let (code, out, err) = call(&["correct-clock", "--data-dir", path]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("log time was 2099-01-01T00:00:00.000000Z and now continues from 20"), "{out}");
    let (code, out, _) = call(&["correct-clock", "--data-dir", path]);
    assert_eq!(code, 0);
    assert!(out.contains("nothing to correct"), "{out}");
    let nothing = told();
    assert_eq!((&nothing["corrected"], &nothing["seq"]), (&false.into(), &serde_json::Value::Null));
    let mut log = open(dir.path());
    report(&mut log, FAR_S, 2.0);
    log.close().unwrap();
    let corrected = told();
    assert_eq!(
        (&corrected["corrected"], &corrected["before"]),
        (&true.into(), &"2099-01-01T00:00:00.000000Z".into())
    );
    assert!(corrected["after"].as_str().unwrap().starts_with("20"), "{corrected}");
    assert!(corrected["seq"].as_u64().unwrap() > 0, "{corrected}");
    let (code, out, _) = call(&["verify", "--data-dir", path]);
    assert_eq!(code, 0, "{out}");

    let error = correct(dir.path(), Time::from_secs(60), "uid:1000").unwrap_err();
    assert_eq!(error.exit_code(), 75);
    assert!(error.to_string().contains("set the clock first"), "{error}");
}
