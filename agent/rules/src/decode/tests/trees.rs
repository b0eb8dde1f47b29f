//! Lists, single values, and documents that are built.

use serde_json::json;

use super::*;
use crate::decode::formats::PAYLOAD_BYTES_MAX;
use crate::rule::Shape;

/// Name and values of each document, as JSON.
fn taken(rule: &Rule, payload: &str) -> Result<Vec<(String, serde_json::Value)>, String> {
    let prepared = prepared(rule);
    let whole = build(Decoder::Json, payload.as_bytes()).map_err(|error| error.to_string())?.document;
    let Documents::These(documents, left_out) =
        documents(&prepared, &whole).map_err(|error| error.to_string())?
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for document in documents {
        let mut values = Values::new(100, 256);
        let time = document.take(&prepared, &mut values).map_err(|error| error.to_string())?;
        let attributes =
            values.iter().map(|(path, value)| (path.to_owned(), json!(format!("{:?}", value.to_owned()))));
        let mut attributes: serde_json::Map<_, _> = attributes.collect();
        attributes.extend(time.map(|time| ("at".to_owned(), json!(time.0 / 1_000_000))));
        attributes.extend(document.together(&prepared).map(|text| ("together".to_owned(), json!(text))));
        let template = crate::topic::Template::parse("a/+device").unwrap();
        let mut captures = crate::topic::Captures::default();
        assert!(template.matches("a/top", &mut captures));
        let name = |text: &String| document.name(&template.pattern(text).unwrap().expand(&captures));
        let device = rule.device.iter().map(name).find_map(Result::ok).unwrap_or_default();
        found.push((device, serde_json::Value::Object(attributes)));
    }
    found.extend(left_out.map(|place| ("left out".to_owned(), json!(place))));
    Ok(found)
}

#[track_caller]
fn check(rule: &Rule, payload: &str, expected: &[(&str, serde_json::Value)]) {
    let found = taken(rule, payload).unwrap();
    let found: Vec<(&str, serde_json::Value)> =
        found.iter().map(|(name, values)| (name.as_str(), values.clone())).collect();
    assert_eq!(found, expected, "{payload}");
}

fn devices(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn each_member_of_an_object_is_a_device() {
    let rule = Rule {
        root: "/ZbReceived".into(),
        each: Some(Each::Members),
        device: devices(&["{/Name}", "{/Device}/x", "{key}", "{device}"]),
        time: time("/Time", TimeFormat::UnixS),
        ignore: vec!["Version".into()],
        ..plain()
    };
    check(
        &rule,
        r#"{"Time":1700000000,"ZbReceived":{"0x01":{"Name":" door ","Power":1},"0x02":{"Device":"0x2"},"0x03":{"Time":1700000005},
            "Version":5,"Odd":"x"}}"#,
        &[
            ("door", json!({"Name": "Text(\" door \")", "Power": "Int(1)", "at": 1_700_000_000})),
            ("0x2/x", json!({"Device": "Text(\"0x2\")", "at": 1_700_000_000})),
            ("0x03", json!({"at": 1_700_000_005})),
            ("left out", json!("Odd")),
        ],
    );
    assert!(taken(&rule, "{}").unwrap_err().ends_with("there is nothing at /ZbReceived"));
    assert!(taken(&rule, r#"{"ZbReceived":[1]}"#).unwrap_err().contains("/ZbReceived is not an object"));
}

#[test]
fn each_element_of_a_list_is_a_device() {
    let rule = Rule {
        each: Some(Each::Elements),
        device: devices(&["{/model}-{/id}", "{/model}", "{device}"]),
        when: when("/model", Test::NotIn(vec!["Noise*".into()])),
        ..plain()
    };
    check(
        &rule,
        r#"[{"model":"A","id":7},{"model":"Noise-1"},{"model":"B"},{"id":true},5]"#,
        &[
            ("A-7", json!({"id": "Int(7)", "model": "Text(\"A\")"})),
            ("B", json!({"model": "Text(\"B\")"})),
            ("top", json!({"id": "Bool(true)"})),
            ("left out", json!("4")),
        ],
    );
    check(&rule, r#"[{"model":"Noise-1"}]"#, &[]);
    check(&rule, "[]", &[]);
    assert!(taken(&rule, "{}").unwrap_err().contains("the document is not a list"));
}

#[test]
fn a_value_is_unwrapped_wherever_it_is() {
    let rule = Rule {
        each: Some(Each::Members),
        value: Some("/value".into()),
        device: devices(&["{key}"]),
        ..plain()
    };
    check(
        &rule,
        r#"{"a":{"value":5,"time":1},"b":{"value":{"x":[1]}},"c":{"value":[1]}}"#,
        &[
            ("a", json!({"": "Int(5)"})),
            ("b", json!({"x": "Json(\"[1]\")"})),
            ("c", json!({"": "Json(\"[1]\")"})),
        ],
    );
    let whole = Rule { value: Some(String::new()), ..plain() };
    for payload in ["5", "\"on\"", "[1,2]", "null", "{\"a\":1}"] {
        let mut values = Values::new(100, 256);
        json(payload.as_bytes(), &prepared(&whole), &mut values).unwrap();
        assert_eq!(values.iter().len(), 1, "{payload}");
    }
    let below = prepared(&Rule { root: "/a".into(), value: Some("/v".into()), ..plain() });
    let mut values = Values::new(100, 256);
    json(br#"{"a":{"v":[{"x":1}],"w":2}}"#, &below, &mut values).unwrap();
    assert_eq!(values.iter().collect::<Vec<_>>(), [("", ValueRef::Json(r#"[{"x":1}]"#))]);
    let missing = json(br#"{"a":{"w":2}}"#, &below, &mut values).unwrap_err().to_string();
    assert!(missing.ends_with("there is nothing at /a/v"), "{missing}");
}

#[test]
fn lists_by_index_and_by_a_field() {
    let names = |arrays: Arrays, payload: &str| {
        let rule = prepared(&Rule { arrays, ..plain() });
        let mut values = Values::new(100, 256);
        json(payload.as_bytes(), &rule, &mut values).map_err(|error| error.to_string())?;
        Ok::<_, String>(
            values.iter().map(|(path, value)| format!("{path}={:?}", value.to_owned())).collect::<Vec<_>>(),
        )
    };
    let payload = r#"{"e":[1,{"id":"a","x":[2]},{"id":7,"x":4},[]]}"#;
    let by_index = names(Arrays::Index, payload).unwrap();
    assert_eq!(
        by_index,
        ["e.0=Int(1)", "e.1.id=Text(\"a\")", "e.1.x.0=Int(2)", "e.2.id=Int(7)", "e.2.x=Int(4)"]
    );
    let by_field = names(Arrays::Field("id".into()), payload).unwrap();
    assert_eq!(by_field, ["e.0=Int(1)", "e.a.x.0=Int(2)", "e.7.x=Int(4)"]);
    let twice =
        names(Arrays::Field("id".into()), r#"{"e":[{"id":"a","x":1},{"id":"a","x":2}]}"#).unwrap_err();
    assert_eq!(twice, "two elements of e have the same id, \"a\": their values would overwrite each other");
    // An index and a name are not the same element either.
    assert!(names(Arrays::Field("id".into()), r#"{"e":[{"id":"1","x":1},{"x":2}]}"#).is_err());
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    assert!(names(Arrays::Index, &deep).unwrap_err().contains("nested deeper than 16"));
}

#[test]
fn the_fields_of_an_action_stay_together() {
    let rule = Rule {
        root: "/RfReceived".into(),
        action_fields: ActionFields::Together,
        actions: vec!["*".into()],
        ignore: vec!["RfKey".into()],
        redact: vec!["*secret*".into()],
        attribute: "RfReceived".into(),
        ..plain()
    };
    let payload =
        r#"{"RfReceived":{"Data":"0x7028D2","RfKey":"None","Low":380,"more":{"secret":1,"High":[1]}}}"#;
    let found = taken(&rule, payload).unwrap();
    assert_eq!(found[0].1["together"], json!(r#"{"Data":"0x7028D2","Low":380,"more":{"High":[1]}}"#));
    assert_eq!(taken(&rule, r#"{"RfReceived":{"RfKey":1}}"#).unwrap()[0].1.get("together"), None);
}

#[test]
fn conditions_look_at_a_payload_in_every_way() {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (test, payload, holds) in [
        (Test::Equals("5".into()), r#"{"a":5}"#, true),
        (Test::Equals("true".into()), r#"{"a":true}"#, true),
        (Test::Equals("x".into()), r#"{"b":"x"}"#, false),
        (Test::In(texts(&["x", "sens*"])), r#"{"a":"sensor"}"#, true),
        (Test::In(texts(&["x"])), r#"{"b":1}"#, false),
        (Test::NotIn(texts(&["x"])), r#"{"a":"x"}"#, false),
        (Test::NotIn(texts(&["x"])), r#"{"b":1}"#, true),
        (Test::Exists(true), r#"{"a":null}"#, true),
        (Test::Exists(true), r#"{"b":1}"#, false),
        (Test::Exists(false), r#"{"b":1}"#, true),
        (Test::Exists(false), r#"{"a":[1,2]}"#, false),
        (Test::Is(Shape::Object), r#"{"a":{"b":[1]}}"#, true),
        (Test::Is(Shape::Object), r#"{"a":[{}]}"#, false),
        (Test::Is(Shape::List), r#"{"a":[{"b":1}]}"#, true),
        (Test::Is(Shape::Value), r#"{"a":null}"#, true),
        (Test::Is(Shape::Value), r#"{"b":1}"#, false),
        (Test::Is(Shape::Value), r#"{"a":1.5}"#, true),
    ] {
        let rule = Rule { when: when("/a", test.clone()), ..plain() };
        let outcome = json(payload.as_bytes(), &prepared(&rule), &mut Values::new(100, 256)).unwrap();
        assert_eq!(outcome != Json::NotThis(None), holds, "{test:?} {payload}");
        assert_eq!(!taken(&rule, payload).unwrap().is_empty(), holds, "built: {test:?} {payload}");
    }
    let object = Rule { when: when("", Test::Is(Shape::Object)), ..plain() };
    for (payload, holds, document) in [
        (" {\"a\":1}", true, true),
        ("[{}]", false, true),
        ("5", false, true),
        ("ON", false, false),
        ("", false, false),
    ] {
        let outcome = json(payload.as_bytes(), &prepared(&object), &mut Values::new(100, 256)).unwrap();
        assert_eq!(matches!(outcome, Json::Values(_)), holds, "{payload}");
        assert_eq!(!matches!(outcome, Json::NotThis(Some(_))), document, "{payload}");
        if document {
            assert_eq!(!taken(&object, payload).unwrap().is_empty(), holds, "built: {payload}");
        }
    }
    assert!(json(b"{\"a\":", &prepared(&object), &mut Values::new(100, 256)).is_err());
    let rule = prepared(&Rule { when: when("", Test::Exists(true)), ..plain() });
    let foreign = json(b"ON", &rule, &mut Values::new(100, 256)).unwrap();
    assert!(matches!(foreign, Json::NotThis(Some(DecodeError::Json(_)))), "{foreign:?}");
}

/// `root = "/0"` took the first record and silently dropped the others.
#[test]
fn elements_beside_the_root_are_counted() {
    let rule = Rule { root: "/0".into(), ..plain() };
    let mut values = Values::new(100, 256);
    json(br#"[{"n":1},{"n":2},{"n":3}]"#, &prepared(&rule), &mut values).unwrap();
    assert_eq!((values.iter().len(), values.left_out()), (1, 2));
    json(br#"[{"n":1}]"#, &prepared(&rule), &mut values).unwrap();
    assert_eq!(values.left_out(), 0);
    let whole = build(Decoder::Json, br#"[{"n":1},{"n":2}]"#).unwrap().document;
    let Documents::These(documents, None) = documents(&prepared(&rule), &whole).unwrap() else { panic!() };
    documents[0].take(&prepared(&Rule { root: "/0".into(), ..plain() }), &mut values).unwrap();
    assert_eq!(values.left_out(), 1);
}

#[test]
fn a_document_that_is_built_has_bounds_with_names() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES_MAX));
    let error = build(Decoder::Json, long.as_bytes()).unwrap_err().to_string();
    assert!(
        error.starts_with("a document of 262152 bytes; 262144 are the most for a rule with each,"),
        "{error}"
    );
    let error = build(Decoder::Cbor, &[0x40; 65_537]).unwrap_err().to_string();
    assert!(error.starts_with("a document of 65537 bytes; 65536 are the most"), "{error}");
    let many = format!("[{}0]", "[],".repeat(60_000));
    let error = build(Decoder::Json, many.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("more than 16384 lists and objects in one document"), "{error}");
    assert!(build(Decoder::Json, b"{} x").is_err());
}

/// What is taken directly and by the tree, and the name that is said to be there twice.
#[track_caller]
fn both(rule: &Rule, payload: &str) -> (Vec<(String, Value)>, Option<String>) {
    let (rule, mut values) = (prepared(rule), Values::new(100, 256));
    let kept = |values: &Values| {
        let mut kept: Vec<_> =
            values.iter().map(|(path, value)| (path.to_owned(), value.to_owned())).collect();
        kept.sort_by(|(a, _), (b, _)| a.cmp(b));
        kept
    };
    let directly = json(payload.as_bytes(), &rule, &mut values).map(|_| kept(&values));
    let twice = values.twice().map(str::to_owned);
    let built = build(Decoder::Json, payload.as_bytes()).unwrap();
    let Documents::These(documents, None) = documents(&rule, &built.document).unwrap() else { panic!() };
    let by_tree = documents[0].take(&rule, &mut values).map(|_| kept(&values));
    assert_eq!(directly, by_tree, "{payload}");
    assert_eq!(twice, built.twice, "{payload}");
    (directly.unwrap_or_default(), twice)
}

/// A rule that builds the document and one that does not take the same of it.
#[test]
fn of_a_name_that_stands_twice_the_last_one_counts_in_every_way() {
    let int = |path: &str, value| (path.to_owned(), Value::Int(value));
    let state = Rule { root: "/s".into(), ..plain() };
    let long: String = (0..100).map(|n| format!("\"k{n}\":{n},")).collect();
    for (rule, payload, expected, twice) in [
        (&plain(), r#"{"a":1,"a":2}"#, vec![int("a", 2)], Some("a")),
        (&plain(), r#"{"a":2,"b":3,"a":2}"#, vec![int("a", 2), int("b", 3)], None),
        (&plain(), r#"{"a":{"b":1},"a":{"c":2}}"#, vec![int("a.c", 2)], Some("a")),
        (&plain(), r#"{"a":5,"a":{"c":2}}"#, vec![int("a.c", 2)], Some("a")),
        (&plain(), r#"{"x":{"a":{"b":1}},"y":{"a":{"b":2}}}"#, vec![int("x.a.b", 1), int("y.a.b", 2)], None),
        (&plain(), r#"{"x":{"b":1,"b":{}}}"#, vec![], Some("b")),
        (&plain(), r#"{" ":1," ":2}"#, vec![int(" ", 2)], Some(" ")),
        (&state, r#"{"s":{"a":1},"s":{"b":1,"b":2}}"#, vec![int("b", 2)], Some("b")),
        (&state, r#"{"s":{"a":1},"s":{"b":2}}"#, vec![int("b", 2)], Some("s")),
    ] {
        assert_eq!(both(rule, payload), (expected, twice.map(str::to_owned)), "{payload}");
    }
    let (found, twice) = both(&plain(), &format!("{{{long}\"k7\":-1}}"));
    assert_eq!((found.len(), twice.as_deref()), (100, Some("k7")));
    assert!(found.contains(&int("k7", -1)));
    assert_eq!(both(&plain(), &format!("{{{long}\"b\":1}}")).1, None);
    let (found, twice) = both(&plain(), r#"{"list":[{"a":1,"a":2}]}"#);
    assert_eq!(found, [("list".to_owned(), Value::Json(r#"[{"a":2}]"#.into()))]);
    assert_eq!(twice.as_deref(), Some("a"));
}

/// Two values that would have the same name, of which neither is the other's change.
#[test]
fn two_places_with_one_path_are_refused_in_every_way() {
    let index = Rule { arrays: Arrays::Index, ..plain() };
    for (rule, payload) in [(&plain(), r#"{"a.b":1,"a":{"b":2}}"#), (&index, r#"{"a":[1],"a.0":2}"#)] {
        assert_eq!(both(rule, payload), (vec![], None));
        let error = json(payload.as_bytes(), &prepared(rule), &mut Values::new(100, 256)).unwrap_err();
        assert!(error.to_string().starts_with("two of its values are called a."), "{error}");
    }
    assert_eq!(both(&plain(), r#"{"a.b":1,"a":{"c":2}}"#).0.len(), 2);
}
