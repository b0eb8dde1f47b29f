use fieldlog_projections::{Value, ValueRef};

use super::arena::Range;
use super::*;
use crate::rule::PayloadTime;

mod trees;
mod zone;

fn prepared(rule: &Rule) -> JsonRule {
    JsonRule::new(rule, Zone::default()).unwrap()
}

fn plain() -> Rule {
    Rule::new("a/+device", Decoder::Json)
}

fn when(pointer: &str, test: Test) -> Vec<When> {
    vec![When { subject: Subject::Pointer(pointer.into()), test }]
}

fn time(pointer: &str, format: TimeFormat) -> Option<PayloadTime> {
    Some(PayloadTime { pointer: pointer.into(), format })
}

fn check(rule: &JsonRule, payload: &str, expected: &[(&str, Value)]) {
    let mut values = Values::new(100, 256);
    let outcome = json(payload.as_bytes(), rule, &mut values).unwrap();
    assert!(matches!(outcome, Json::Values(_)), "{payload}");
    let found: Vec<(&str, Value)> = values.iter().map(|(p, v)| (p, v.to_owned())).collect();
    assert_eq!(found, expected, "{payload}");
}

fn refuse(payload: &[u8], words: &str) {
    let mut values = Values::new(100, 256);
    let error = json(payload, &JsonRule::default(), &mut values).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
    assert_eq!(values.iter().len(), 0);
}

#[test]
fn flattens_objects_and_keeps_arrays() {
    check(
        &JsonRule::default(),
        r#"{"state":"ON","color":{"x":0.3,"y":0.4},"by":[23.6, 23],"gone":null,"ok":true,"esc":"a\"b"}"#,
        &[
            ("state", Value::Text("ON".into())),
            ("color.x", Value::Float(0.3)),
            ("color.y", Value::Float(0.4)),
            ("by", Value::Json("[23.6,23]".into())),
            ("gone", Value::Null),
            ("ok", Value::Bool(true)),
            ("esc", Value::Text("a\"b".into())),
        ],
    );
}

/// `{"": {"a": 1}, "a": 2}` would have two values called `a`, and `{"": 1}` one that nobody can ask for.
#[test]
fn refuses_an_empty_name() {
    for payload in
        [r#"{"":1,"a":2}"#, r#"{"":{"a":1}}"#, r#"{"a":{"":1}}"#, r#"{"a":[1],"b":{"c":{"":null}}}"#]
    {
        refuse(payload.as_bytes(), "one of its members has an empty name; a value needs a name");
    }
}

#[test]
fn keeps_integers_beyond_2_to_53() {
    check(
        &JsonRule::default(),
        r#"{"a":9007199254740993,"b":-9223372036854775808,"c":18446744073709551615}"#,
        &[
            ("a", Value::Int(9_007_199_254_740_993)),
            ("b", Value::Int(i64::MIN)),
            ("c", Value::Uint(u64::MAX)),
        ],
    );
}

/// All digits of a double: the recorded value equals the sent one exactly.
#[test]
fn keeps_every_digit_of_a_number() {
    for text in [
        "51.24817837550540",
        "31.245270191439438",
        "121.48791951161945",
        "-54.17684871286513",
        "1.7976931348623157e308",
    ] {
        let number: f64 = text.parse().unwrap();
        check(&JsonRule::default(), &format!("{{\"v\":{text}}}"), &[("v", Value::Float(number))]);
    }
}

#[test]
fn takes_the_root_when_the_condition_holds() {
    let rule = prepared(&Rule {
        root: "/params".into(),
        when: when("/method", Test::Equals("NotifyStatus".into())),
        time: time("/params/ts", TimeFormat::UnixS),
        ..plain()
    });
    let mut values = Values::new(100, 256);
    let payload = br#"{"method":"NotifyStatus","params":{"ts":1631186545.04,"switch:0":{"output":true}}}"#;
    let outcome = json(payload, &rule, &mut values).unwrap();
    assert_eq!(outcome, Json::Values(Some(Time(1_631_186_545_040_000))));
    let found: Vec<_> = values.iter().collect();
    assert_eq!(found, [("switch:0.output", ValueRef::Bool(true))]);
    let other = json(br#"{"method":"NotifyEvent","params":{}}"#, &rule, &mut values).unwrap();
    assert_eq!(other, Json::NotThis(None));
}

#[test]
fn a_long_text_is_left_out_and_named() {
    let mut values = Values::new(5, 256);
    json(br#"{"a":"123456","b":1}"#, &JsonRule::default(), &mut values).unwrap();
    assert_eq!((values.too_long(), values.iter().len()), (Some("a"), 1));
}

#[test]
fn refuses_what_is_no_object_with_words() {
    refuse(b"23.4", "expected a JSON object");
    refuse(b"[1]", "expected a JSON object");
    refuse(b"{\"a\":1", "EOF");
    refuse(b"{\"a\":1} x", "trailing");
    refuse(b"", "EOF");
    refuse("{\"a\":".repeat(20).as_bytes(), "nested deeper than 16");
    refuse(b"{\"a\":\"\xff\"}", "");
}

#[test]
fn scalars_as_devices_write_them() {
    let check = |payload: &str, expected: ValueRef<'_>| {
        assert_eq!(scalar(payload.as_bytes(), 100).unwrap().value, expected, "{payload}");
    };
    check("23.4", ValueRef::Float(23.4));
    check(" -5\n", ValueRef::Int(-5));
    check("18446744073709551615", ValueRef::Uint(u64::MAX));
    check("ON", ValueRef::Text("ON"));
    check("true", ValueRef::Bool(true));
    check("nan", ValueRef::Null);
    check("", ValueRef::Null);
    check("inf", ValueRef::Text("inf"));
    check("007", ValueRef::Text("007"));
    check("0.5", ValueRef::Float(0.5));
    check("1e3", ValueRef::Float(1000.0));
    assert_eq!(scalar(b"\xff", 100), Err(DecodeError::NotUtf8));
    assert_eq!(scalar(b"123456", 5), Err(DecodeError::TooLong { bytes: 6, max: 5 }));
}

/// `1.10` and `2024.10` are versions as well as numbers, and not the same as 1.1 and 2024.1.
#[test]
fn a_number_whose_text_would_not_come_back_is_marked() {
    for (payload, exact) in [
        ("1.10", false),
        ("2024.10", false),
        ("21.0", false),
        ("+5", false),
        ("1e3", false),
        (".5", false),
        ("0.12345678901234567890", false),
        ("1.1", true),
        ("-0.5", true),
        ("18446744073709551615", true),
        ("-7", true),
        ("ON", true),
        ("nan", true),
        ("", true),
    ] {
        assert_eq!(scalar(payload.as_bytes(), 100).unwrap().exact, exact, "{payload}");
    }
}

#[test]
fn availability_words() {
    let words = |w: &[&str]| w.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (on, off) = (words(&["online", "true"]), words(&["offline", "false"]));
    let check = |payload: &[u8], expected: Option<bool>| {
        assert_eq!(availability(payload, None, &on, &off).ok(), expected, "{payload:?}");
    };
    check(b"Online", Some(true));
    check(b"{\"state\":\"offline\"}", Some(false));
    check(b"true", Some(true));
    check(b"false", Some(false));
    check(b"{\"state\":1}", None);
    check(b"gone", None);
    let at = |payload: &str| availability(payload.as_bytes(), Some("/s/0"), &on, &off);
    assert_eq!(at(r#"{"s":["offline"],"state":"online"}"#), Ok(false));
    assert_eq!(at(r#"{"s":[true]}"#), Ok(true));
    for payload in [r#"{"s":["gone"]}"#, r#"{"s":[]}"#, r#"{"s":["online"]"#, "online", ""] {
        assert!(at(payload).is_err(), "{payload}");
    }
}

fn excess(payload: &str, rule: &JsonRule) -> (DecodeError, Values) {
    let mut values = Values::new(100, 256);
    let error = json(payload.as_bytes(), rule, &mut values).unwrap_err();
    assert_eq!(values.iter().len(), 0);
    (error, values)
}

/// One long name above many values made 300 MB from 100 KB: the name was copied for each of them.
#[test]
fn a_long_name_above_many_values_is_not_copied() {
    let leaves: Vec<String> = (0..6_000).map(|n| format!("\"{n}\":1")).collect();
    let payload = format!("{{\"{}\":{{{}}}}}", "k".repeat(50_000), leaves.join(","));
    let (error, values) = excess(&payload, &JsonRule::default());
    assert_eq!(
        error.to_string(),
        format!("a name of 50000 bytes, it begins with \"{}\"; limits.name_bytes_max is 256", "k".repeat(40))
    );
    assert!(values.capacity() <= ARENA_KEPT_BYTES);
    let under_root = prepared(&Rule { root: "/a".into(), ..plain() });
    excess(&format!("{{\"a\":{payload}}}"), &under_root);
}

#[test]
fn a_name_may_be_as_long_as_the_limit_with_the_names_around_it() {
    let of = |inner: usize| format!("{{\"{}\":{{\"{}\":1}}}}", "ä".repeat(50), "b".repeat(inner));
    let mut values = Values::new(100, 256);
    json(of(155).as_bytes(), &JsonRule::default(), &mut values).unwrap();
    assert_eq!(values.iter().next().unwrap().0.len(), 256);
    let (error, _) = excess(&of(156), &JsonRule::default());
    assert!(error.to_string().starts_with("a name of 257 bytes, it begins with \"ää"), "{error}");
}

#[test]
fn values_and_names_of_one_document_are_bounded() {
    let members = |count| (0..count).map(|n| format!("\"{n}\":1,")).collect::<String>();
    let many = format!("{{{}\"a\":1}}", members(LEAVES_MAX));
    let (error, _) = excess(&many, &JsonRule::default());
    assert_eq!(
        error.to_string(),
        "more than 65536 values in one document; that is the most that is taken of one"
    );
    let long = format!("{{\"{}\":{{{}\"a\":1}}}}", "k".repeat(250), members(NAMES_BYTES_MAX / 251));
    let (error, values) = excess(&long, &JsonRule::default());
    assert_eq!(
        error.to_string(),
        "the names of its values have more than 4194304 bytes together; that is the most that is taken of one document"
    );
    assert!(values.capacity() <= ARENA_KEPT_BYTES);
    let twice = format!("{{{}\"0\":1}}", members(LEAVES_MAX / 2));
    let (error, _) = excess(&twice, &JsonRule::default());
    assert!(error.to_string().ends_with("or a name that stands in an object twice"), "{error}");
}

#[test]
fn an_arena_that_has_grown_is_given_back() {
    let mut values = Values::new(1 << 20, 256);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    json(large.as_bytes(), &JsonRule::default(), &mut values).unwrap();
    assert!(values.capacity() > ARENA_KEPT_BYTES);
    json(b"{\"a\":1}", &JsonRule::default(), &mut values).unwrap();
    assert!(values.capacity() <= ARENA_KEPT_BYTES, "{}", values.capacity());
}

#[test]
fn a_condition_and_a_root_are_found_without_building_the_document() {
    let heavy = format!("[{}0]", r#"{"":0},"#.repeat(100_000));
    let payload = format!(r#"{{"x":{heavy},"type":"report","state":{{"on":true}},"at":1700000000}}"#);
    let rule = prepared(&Rule {
        root: "/state".into(),
        when: when("/type", Test::Equals("report".into())),
        time: time("/at", TimeFormat::UnixS),
        ..plain()
    });
    let mut values = Values::new(100, 256);
    let outcome = json(payload.as_bytes(), &rule, &mut values).unwrap();
    assert_eq!(outcome, Json::Values(Some(Time(1_700_000_000_000_000))));
    assert_eq!(values.iter().collect::<Vec<_>>(), [("on", ValueRef::Bool(true))]);
    let heavy_type = format!(r#"{{"type":{heavy}}}"#);
    assert_eq!(json(heavy_type.as_bytes(), &rule, &mut values).unwrap(), Json::NotThis(None));
    let (error, _) = excess(r#"{"type":"report"}"#, &rule);
    assert_eq!(error.to_string(), "not the JSON object that was expected: there is nothing at /state");
    excess(r#"{"type":"report","state":1}"#, &rule);
}

/// A duplicate state in the document: the last counts, as for other JSON readers.
#[test]
fn of_two_roots_the_last_counts() {
    let rule = prepared(&Rule { root: "/a".into(), ..plain() });
    check(&rule, r#"{"a":{"x":1},"a":{"y":2}}"#, &[("y", Value::Int(2))]);
}

/// Hostile documents, generated from a seed: memory is bounded by the document's size, and accepted values respect the
/// limits.
#[test]
fn what_a_hostile_document_makes_us_hold_is_bounded() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("FIELDLOG_SEED").map_or(seed, |text| text.parse().unwrap());
    println!("FIELDLOG_SEED={seed}");
    let mut hostile = Hostile { state: seed | 1 };
    let rules = [JsonRule::default(), prepared(&Rule { root: "/a".into(), ..plain() })];
    let mut values = Values::new(4_096, 256);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..300 {
        let document = hostile.document();
        let rule = &rules[round % 2];
        let payload = if round % 2 == 1 { format!("{{\"a\":{document}}}") } else { document };
        match json(payload.as_bytes(), rule, &mut values) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
        let held = 2 * (payload.len() + NAMES_BYTES_MAX) + 2 * LEAVES_MAX * size_of::<(Range, Item)>();
        assert!(
            values.capacity() <= held,
            "{} held for {} in round {round}",
            values.capacity(),
            payload.len()
        );
        if let Ok(Built { document: whole, .. }) = build(Decoder::Json, payload.as_bytes()) {
            let each = prepared(&Rule { each: Some(Each::Members), arrays: Arrays::Index, ..plain() });
            let found = documents(&each, &whole);
            let Ok(Documents::These(all, _)) = found else { continue };
            for document in all {
                let _ = document.take(&each, &mut values);
                assert!(
                    values.capacity() <= held + 4 * formats::PAYLOAD_BYTES_MAX,
                    "{} held",
                    values.capacity()
                );
            }
        }
        for (path, value) in values.iter() {
            assert!(path.len() <= 256);
            if let ValueRef::Text(text) | ValueRef::Json(text) = value {
                assert!(text.len() <= 4_096);
            }
        }
    }
    assert!(taken > 20 && refused > 20, "{taken} taken, {refused} refused: too few of one kind");
}

struct Hostile {
    state: u64,
}

impl Hostile {
    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % bound
    }

    /// An object with a few members, each with too much of something, or with nothing.
    fn document(&mut self) -> String {
        let members: Vec<String> = (0..=self.below(4)).map(|n| format!("\"{n}\":{}", self.value())).collect();
        format!("{{{}}}", members.join(","))
    }

    fn value(&mut self) -> String {
        let many = 1 << self.below(16);
        match self.below(9) {
            0 => "1".into(),
            1 => format!("\"{}\"", "x".repeat(many)),
            2 => format!("[{}0]", "1e15,".repeat(many)),
            3 => format!("[{}0]", r#"{"":0},"#.repeat(many)),
            4 => format!("{}0{}", "[".repeat(many), "]".repeat(many)),
            5 => format!("{}0{}", r#"{"":"#.repeat(many), "}".repeat(many)),
            6 => format!("{{\"{}\":{{{}\"\":0}}}}", "k".repeat(many), "\"\":0,".repeat(1 << self.below(16))),
            7 => format!("{{{}\"\":0}}", "\"\":\"\\u0001\",".repeat(many)),
            _ => format!("{{\"{}\":{}}}", "k".repeat(1 << self.below(9)), self.document()),
        }
    }
}
