use super::*;

fn event(seq: u64, time_s: i64, kind: &str, data: &str) -> Event {
    Event {
        seq: Seq(seq),
        recorded: Time::from_secs(time_s),
        time: Time::from_secs(time_s),
        kind: kind.into(),
        device: Some("lamp".into()),
        data: data.into(),
    }
}

fn state(seq: u64, time_s: i64, changes: &str) -> Event {
    event(seq, time_s, "state_changed", &format!("{{\"changes\":{changes}}}"))
}

fn changed(events: &[Event]) -> Changes {
    let mut changes = Changes::default();
    events.iter().for_each(|event| changes.add(event));
    changes
}

#[test]
fn the_newest_position_wins_in_any_order() {
    let events = [
        event(1, 10, "device_discovered", r#"{"name":"lamp","source":"home","parent":null}"#),
        event(2, 10, "availability_changed", r#"{"availability":"online","cause":"topic"}"#),
        state(3, 20, r#"{"power":1,"mode":"a"}"#),
        state(4, 30, r#"{"power":2.5,"mode":null}"#),
        event(5, 40, "availability_changed", r#"{"availability":"offline","cause":"silence"}"#),
        event(6, 50, "device_described", r#"{"by":"discovery","description":{"model":"L1"}}"#),
    ];
    let check = |changes: Changes| {
        let lamp = &changes.devices["lamp"];
        assert_eq!(lamp.changed, Some((Seq(5), Time::from_secs(40))));
        let found = lamp.found.as_ref().unwrap();
        assert_eq!((found.seq, &found.place), (Seq(1), &Some(("home".to_owned(), None))));
        let available = lamp.available.as_ref().unwrap();
        assert_eq!((available.seq, &*available.availability), (Seq(5), "offline"));
        let described = &lamp.described[&("".into(), "discovery".into())];
        assert_eq!((described.seq, &*described.description), (Seq(6), r#"{"model":"L1"}"#));
        let newest = |name: &str| lamp.attributes[name].newest.clone();
        let power = newest("power");
        assert_eq!((power.seq, &*power.value, power.number), (Seq(4), "2.5", Some(2.5)));
        assert_eq!((&*newest("mode").value, newest("mode").number), ("null", None));
        assert_eq!(changes.newest, Some((Seq(6), Time::from_secs(50))));
    };
    check(changed(&events));
    let mut reversed = events.to_vec();
    reversed.reverse();
    check(changed(&reversed));
}

#[test]
fn windows_are_those_of_the_gateway() {
    let events: Vec<Event> = [(1, 0, 3.0), (2, 59, -1.0), (3, 60, 7.0), (4, 3_600, 2.0), (5, 86_399, 4.0)]
        .map(|(seq, time_s, power)| state(seq, time_s, &format!("{{\"power\":{power}}}")))
        .into();
    let windows: Vec<_> = changed(&events).devices["lamp"].attributes["power"].windows().collect();
    let window = |length_s: u32, start_s: i64, values: &[f64], last_seq: u64| {
        let mut bucket = Bucket::new(start_s, values[0]);
        values[1..].iter().for_each(|value| bucket.add(*value));
        (length_s, Window { bucket, last_seq: Seq(last_seq) })
    };
    let expected = [
        window(60, 0, &[3.0, -1.0], 2),
        window(60, 60, &[7.0], 3),
        window(60, 3_600, &[2.0], 4),
        window(60, 86_340, &[4.0], 5),
        window(3_600, 0, &[3.0, -1.0, 7.0], 3),
        window(3_600, 3_600, &[2.0], 4),
        window(3_600, 82_800, &[4.0], 5),
        window(86_400, 0, &[3.0, -1.0, 7.0, 2.0, 4.0], 5),
    ];
    assert_eq!(windows, expected);
    let mut reversed = events;
    reversed.reverse();
    let again: Vec<_> = changed(&reversed).devices["lamp"].attributes["power"].windows().collect();
    assert_eq!(again, expected);
}

#[test]
fn a_command_is_known_by_its_request() {
    let events = [
        event(7, 10, "command_requested", r#"{"name":"state","value":"ON"}"#),
        event(8, 11, "command_dispatched", r#"{"command":7,"attempt":1}"#),
        event(9, 12, "command_applied", r#"{"command":7,"evidence":10}"#),
        event(10, 13, "command_rejected", r#"{"device":"lamp","code":"expired"}"#),
    ];
    let changes = changed(&events);
    assert_eq!(changes.commands.keys().collect::<Vec<_>>(), [&Seq(7)]);
    let command = &changes.commands[&Seq(7)];
    assert_eq!((command.step.0, command.step.2), (Seq(9), "applied"));
    assert_eq!(command.request, Some((events[0].data.clone(), Time::from_secs(10))));
    // Without the request, the step is known all the same.
    assert_eq!(changed(&events[2..]).commands[&Seq(7)].request, None);
}

#[test]
fn a_removed_device_keeps_its_place() {
    let events = [
        event(1, 10, "device_discovered", r#"{"name":"lamp","source":"home","parent":"bridge"}"#),
        event(2, 20, "device_retired", "{}"),
    ];
    let mut reversed = events.clone();
    reversed.reverse();
    for events in [&events, &reversed] {
        let place = Some(("home".to_owned(), Some("bridge".to_owned())));
        let expected = Found { seq: Seq(2), retired: true, place };
        assert_eq!(changed(events).devices["lamp"].found, Some(expected));
    }
}

#[test]
fn a_name_that_postgresql_cannot_hold_is_still_one_attribute() {
    let changes = changed(&[state(1, 10, r#"{"a\u0000":1}"#), state(2, 11, r#"{"a\u0000":2}"#)]);
    let attribute = &changes.devices["lamp"].attributes["a\u{fffd}"];
    assert_eq!(attribute.newest.seq, Seq(2));
    assert!(attribute.windows().all(|(_, window)| window.bucket.count == 2));
}

#[test]
fn content_of_another_form_changes_nothing() {
    let changes = changed(&[
        event(1, 10, "state_changed", r#"{"changes":[1]}"#),
        event(2, 10, "device_discovered", "3"),
        event(3, 10, "command_applied", "{}"),
    ]);
    assert!(changes.commands.is_empty());
    assert!(changes.devices["lamp"].attributes.is_empty());
    assert_eq!(changes.newest, Some((Seq(3), Time::from_secs(10))));
}

#[test]
fn messages_that_could_not_be_read_are_noted_with_the_reason() {
    let data = r#"{"source":"home","topic":"a/b","reason":"no\u0000 JSON","size":3}"#;
    let events = [
        Event { device: None, ..event(7, 10, "input_quarantined", data) },
        event(8, 20, "quarantine_summarised", data),
        event(9, 30, "input_quarantined", r#"{"of":"another form"}"#),
    ];
    let changes = changed(&events);
    let refused = |seq, time_s| Refused {
        seq: Seq(seq),
        recorded: Time::from_secs(time_s),
        text: "home · a/b · no\u{fffd} JSON".into(),
    };
    assert_eq!(changes.refused, [refused(7, 10), refused(8, 20)]);
    assert!(changes.devices.is_empty());
}
