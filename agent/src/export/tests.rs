use super::*;

fn rows(format: Format, events: &[&str]) -> String {
    let mut out = Vec::new();
    let mut output = Output::new(format, &mut out);
    events.iter().for_each(|event| output.put(event).unwrap());
    output.flush().unwrap();
    String::from_utf8(out).unwrap()
}

/// The columns before the attribute.
const LAMP: &str = "g/1f/7,7,state_changed,2025-11-23T10:00:00.000000Z,,2025-11-23T09:59:59.000000Z,5,lamp";

fn changed(data: &str) -> String {
    format!(
        r#"{{"id":"g/1f/7","seq":7,"type":"state_changed","time":"2025-11-23T10:00:00.000000Z","device_time":"2025-11-23T09:59:59.000000Z","cause":5,"device":"lamp","data":{data}}}"#
    )
}

#[test]
fn csv_has_a_row_for_each_changed_value_as_it_was_written() {
    let event = changed(
        r#"{"changes":{"a":1.50,"b":"x, \"y\"","c":null,"d":{"e":1},"f":18446744073709551615},"described":{}}"#,
    );
    let expected = format!(
        "id,seq,type,time,wall_time,device_time,cause,device,attribute,value,data\r\n\
         {LAMP},a,1.50,\r\n\
         {LAMP},b,\"x, \"\"y\"\"\",\r\n\
         {LAMP},c,,\r\n\
         {LAMP},d,\"{{\"\"e\"\":1}}\",\r\n\
         {LAMP},f,18446744073709551615,\r\n"
    );
    assert_eq!(rows(Format::Csv, &[&event]), expected);
}

#[test]
fn csv_has_actions_and_the_content_of_anything_else() {
    let action = changed(r#"{"attribute":"button","value":"double"}"#);
    assert!(rows(Format::Csv, &[&action]).ends_with(&format!("\r\n{LAMP},button,double,\r\n")));
    // A number in the place of a name, as `attribute_named` has it, is no value of an attribute.
    let named = changed(r#"{"attribute":3,"name":"level"}"#);
    let expected = format!("\r\n{LAMP},,,\"{{\"\"attribute\"\":3,\"\"name\"\":\"\"level\"\"}}\"\r\n");
    assert!(rows(Format::Csv, &[&named]).ends_with(&expected));
}

#[test]
fn csv_without_events_is_its_head_and_ndjson_is_nothing() {
    assert!(rows(Format::Csv, &[]).starts_with("id,seq,"));
    assert_eq!(rows(Format::Csv, &[]).lines().count(), 1);
    assert_eq!(rows(Format::Ndjson, &[]), "");
    assert_eq!(rows(Format::Ndjson, &["{}", "{\"a\":1}"]), "{}\n{\"a\":1}\n");
}
