//! InfluxDB line protocol
//! (<https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/>).

use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use serde_json::{Map, Value, json};

use super::{DecodeError, fault, float, insert};

const FORMAT: &str = "line protocol";

/// The tag that names the device, as Telegraf sets it.
const HOST: &str = "host";

/// Reads each line into a document, in order: `{"measurement": text, "tags": {name: text}, "values": …, "time": seconds
/// since 1970}`. The fields in `values` are nested below the measurement and the values of all tags except `host`, in
/// the order of the tags' names, because lines that differ in a tag are about different things: `cpu,host=a,cpu=cpu0
/// idle=1` is `{"cpu": {"cpu0": {"idle": 1}}}`. `time` is absent if the line has none; times in lines are in
/// nanoseconds.
///
/// # Errors
/// [`DecodeError::Format`] for a payload with an unreadable line, a duplicate tag or field, or without any line.
pub(super) fn read(payload: &[u8]) -> Result<Value, DecodeError> {
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
    let measurement = line.series.measurement.to_string();
    let others = tags.iter().filter(|(name, _)| *name != HOST).filter_map(|(_, value)| value.as_str());
    let names: Vec<&str> = [measurement.as_str()].into_iter().chain(others).collect();
    let values = names.iter().rev().fold(Value::Object(fields), |values, name| json!({ *name: values }));
    let mut document = json!({"measurement": measurement, "tags": tags, "values": values});
    if let Some(nanos) = line.timestamp {
        // Precise to the microsecond, the precision of a double for times of this century.
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
            read(lines.as_bytes()),
            Ok(json!([
                {"measurement": "myMeasurement", "tags": {"tag1": "value1", "tag2": "value2"},
                 "values": {"myMeasurement": {"value1": {"value2": {"fieldKey": "fieldValue"}}}}, "time": 1_556_813_561.098},
                {"measurement": "cpu", "tags": {"cpu": "cpu0", "host": "edge-1"},
                 "values": {"cpu": {"cpu0": {"usage_idle": 97.5, "procs": 12, "up": u64::MAX, "ok": true, "bad": false}}},
                 "time": 1_655_972_309.339_341},
                {"measurement": "my Measurement", "tags": {"tag Key1": "tag Value1"},
                 "values": {"my Measurement": {"tag Value1": {"fieldKey": "string \"value\""}}}},
            ]))
        );
        // Comments and empty lines are skipped.
        let lines = "# a comment\n\nm f=1\n";
        assert_eq!(read(lines.as_bytes()).unwrap().as_array().map(Vec::len), Some(1));
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
            let error = read(lines.as_bytes()).expect_err(lines).to_string();
            assert!(error.contains(why), "{lines:?}: {error}");
        }
        assert_eq!(read(b"m f=\"\xff\""), Err(DecodeError::NotUtf8));
    }
}
