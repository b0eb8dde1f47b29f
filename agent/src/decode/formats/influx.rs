//! InfluxDB line protocol
//! (<https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/>).

use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use serde_json::{Map, Value, json};

use super::{DecodeError, check_size, fault, float, insert};

const FORMAT: &str = "line protocol";

/// Reads lines into one document each, in their order:
/// `{"measurement": text, "tags": {name: text}, "fields": {name: value}, "time": seconds since 1970}`. `time` is absent on a
/// line without; a time on the line is in nanoseconds.
///
/// # Errors
/// [`DecodeError::Format`] for a payload in which a line cannot be read, a tag or field is there twice, or nothing is there.
pub fn decode(payload: &[u8]) -> Result<Value, DecodeError> {
    check_size(payload, FORMAT)?;
    let text = std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8)?;
    let mut documents = Vec::new();
    for line in parse_lines(text) {
        let line = line.map_err(|error| fault(FORMAT, format!("line {}: {error}", documents.len() + 1)))?;
        documents.push(document(line)?);
    }
    if documents.is_empty() {
        return Err(fault(FORMAT, "no line in it"));
    }
    Ok(Value::Array(documents))
}

fn document(line: ParsedLine<'_>) -> Result<Value, DecodeError> {
    let mut tags = Map::new();
    for (name, value) in line.series.tag_set.into_iter().flatten() {
        insert(&mut tags, name.to_string(), value.to_string().into(), FORMAT)?;
    }
    let mut fields = Map::new();
    for (name, value) in line.field_set {
        let value = match value {
            FieldValue::I64(v) => v.into(),
            FieldValue::U64(v) => v.into(),
            FieldValue::F64(v) => float(v, FORMAT)?,
            FieldValue::String(v) => v.to_string().into(),
            FieldValue::Boolean(v) => v.into(),
        };
        insert(&mut fields, name.to_string(), value, FORMAT)?;
    }
    let mut document =
        json!({"measurement": line.series.measurement.to_string(), "tags": tags, "fields": fields});
    if let Some(nanos) = line.timestamp {
        // To the microsecond, which is what a double can say for times of this century.
        document["time"] = float((nanos / 1_000) as f64 / 1e6, FORMAT)?;
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_document() {
        // The elements of the reference, and what Telegraf's `outputs.mqtt` sends by default.
        let lines = "myMeasurement,tag1=value1,tag2=value2 fieldKey=\"fieldValue\" 1556813561098000000\n\
            cpu,cpu=cpu0,host=edge-1 usage_idle=97.5,procs=12i,up=18446744073709551615u,ok=true,bad=f 1655972309339341000\n\
            my\\ Measurement,tag\\ Key1=tag\\ Value1 fieldKey=\"string \\\"value\\\"\"\n";
        assert_eq!(
            decode(lines.as_bytes()),
            Ok(json!([
                {"measurement": "myMeasurement", "tags": {"tag1": "value1", "tag2": "value2"},
                 "fields": {"fieldKey": "fieldValue"}, "time": 1_556_813_561.098},
                {"measurement": "cpu", "tags": {"cpu": "cpu0", "host": "edge-1"},
                 "fields": {"usage_idle": 97.5, "procs": 12, "up": u64::MAX, "ok": true, "bad": false},
                 "time": 1_655_972_309.339_341},
                {"measurement": "my Measurement", "tags": {"tag Key1": "tag Value1"},
                 "fields": {"fieldKey": "string \"value\""}},
            ]))
        );
        // Comments and empty lines are no lines.
        let lines = "# a comment\n\nm f=1\n";
        assert_eq!(decode(lines.as_bytes()).unwrap().as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn nothing_is_taken_of_a_payload_with_a_faulty_line() {
        for (lines, why) in [
            ("", "no line in it"),
            ("m f=1\nm\n", "line 2: "),
            ("m f=1,f=2", "the name \"f\" is there twice"),
            ("m f=1 notatime", "line 1: "),
            ("{\"a\":1}", "line 1: "),
        ] {
            let error = decode(lines.as_bytes()).expect_err(lines).to_string();
            assert!(error.contains(why), "{lines:?}: {error}");
        }
        assert_eq!(decode(b"m f=\"\xff\""), Err(DecodeError::NotUtf8));
    }
}
