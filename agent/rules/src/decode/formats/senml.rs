//! SenML (RFC 8428), as JSON or as CBOR.

use serde_json::{Map, Value, json};

use super::{DecodeError, cbor, fault};

const FORMAT: &str = "SenML";
/// The supported version of SenML (RFC 8428, section 4.4).
const VERSION: u64 = 10;
/// Times below this are relative to now (RFC 8428, section 4.5.3), in seconds.
const RELATIVE_BELOW: f64 = 268_435_456.0;
/// Labels of the CBOR form (RFC 8428, table 4).
const LABELS: [(&str, &str); 14] = [
    ("-1", "bver"),
    ("-2", "bn"),
    ("-3", "bt"),
    ("-4", "bu"),
    ("-5", "bv"),
    ("-6", "bs"),
    ("0", "n"),
    ("1", "u"),
    ("2", "v"),
    ("3", "vs"),
    ("4", "vb"),
    ("5", "s"),
    ("6", "t"),
    ("7", "ut"),
];

/// Reads a pack as JSON into its [`documents`].
///
/// # Errors
/// [`DecodeError::Json`] if it is not JSON; otherwise as [`documents`].
pub(super) fn read(payload: &[u8]) -> Result<Value, DecodeError> {
    let pack = serde_json::from_slice(payload).map_err(|error| DecodeError::Json(error.to_string()))?;
    documents(pack)
}

/// Reads a pack as CBOR into its [`documents`].
///
/// # Errors
/// As [`cbor::read`] and [`documents`].
pub(super) fn read_cbor(payload: &[u8]) -> Result<Value, DecodeError> {
    documents(cbor::read(payload)?)
}

/// Resolves a pack (section 4.6) into one document for each run of records of the same device at the same time, in their
/// order: `{"device": base name, "time": seconds since 1970, "values": {name: value}}`.
///
/// `device` is the base name without the `:`, `/`, `.`, `-` or `_` that joins it to the names; absent without a base
/// name. A record without a name of its own is named `value`. `time` is absent if the records have none or a relative
/// one, since the time of arrival is as good. A sum `s` has the record's name with `_sum`; a data value `vd` stays
/// base64url text.
///
/// # Errors
/// [`DecodeError::Format`] for a pack of another version, a record with several values or none, values that do not
/// match their label, and labels that end in `_`, which must be understood (section 4.4).
fn documents(pack: Value) -> Result<Value, DecodeError> {
    let Value::Array(records) = pack else { return Err(fault(FORMAT, "not an array of records")) };
    let mut base = Base::default();
    let mut documents: Vec<Value> = Vec::new();
    for (index, record) in records.into_iter().enumerate() {
        let Value::Object(record) = record else {
            return Err(fault(FORMAT, format!("record {index} is not an object")));
        };
        let place = |why: String| fault(FORMAT, format!("record {index}: {why}"));
        let record = base.resolve(record).map_err(place)?;
        let same = documents.last().is_some_and(|last| {
            last.get("device") == record.device.as_ref() && last.get("time") == record.time.as_ref()
        });
        // A repeated name is a further value of it.
        let again = documents
            .last()
            .is_some_and(|last| record.values.iter().any(|(name, _)| last["values"].get(name).is_some()));
        if !same || again {
            let mut document = Map::new();
            document.extend(record.device.map(|device| ("device".to_owned(), device)));
            document.extend(record.time.map(|time| ("time".to_owned(), time)));
            document.insert("values".into(), json!({}));
            documents.push(Value::Object(document));
        }
        let Some(document) = documents.last_mut() else { continue };
        for (name, value) in record.values {
            document["values"][name] = value;
        }
    }
    if documents.is_empty() {
        return Err(fault(FORMAT, "no record in it"));
    }
    Ok(Value::Array(documents))
}

/// Base values, which hold from their record on.
#[derive(Default)]
struct Base {
    name: String,
    time: f64,
    has_time: bool,
    value: f64,
    sum: f64,
}

struct Record {
    device: Option<Value>,
    time: Option<Value>,
    values: Vec<(String, Value)>,
}

impl Base {
    fn resolve(&mut self, record: Map<String, Value>) -> Result<Record, String> {
        let mut fields = Map::new();
        for (label, value) in record {
            let label =
                LABELS.iter().find(|(number, _)| *number == label).map_or(label, |(_, name)| (*name).into());
            if label.ends_with('_') {
                return Err(format!("the label {label:?} must be understood, and is not known here"));
            }
            fields.insert(label, value);
        }
        self.take_over(&fields)?;
        let own = text(&fields, "n")?.unwrap_or_default();
        let time = number(&fields, "t")?;
        let seconds = self.time + time.unwrap_or_default();
        let dated = (self.has_time || time.is_some()) && seconds >= RELATIVE_BELOW;
        let device = self.name.strip_suffix([':', '/', '.', '-', '_']).unwrap_or(&self.name);
        let name = if own.is_empty() { "value" } else { own };
        let mut values = Vec::new();
        values.extend(self.value(&fields)?.map(|value| (name.to_owned(), value)));
        if let Some(sum) = number(&fields, "s")? {
            values.push((format!("{name}_sum"), float(sum + self.sum)?));
        }
        if values.is_empty() && !fields.keys().all(|label| label.starts_with('b')) {
            return Err("neither a value nor a sum".into());
        }
        Ok(Record {
            device: (!device.is_empty()).then(|| device.into()),
            time: if dated { Some(float(seconds)?) } else { None },
            values,
        })
    }

    fn take_over(&mut self, fields: &Map<String, Value>) -> Result<(), String> {
        if let Some(version) = fields.get("bver")
            && version.as_u64().is_none_or(|version| version > VERSION)
        {
            return Err(format!("version {version}; {VERSION} is the newest that is known here"));
        }
        if let Some(name) = text(fields, "bn")? {
            name.clone_into(&mut self.name);
        }
        if let Some(time) = number(fields, "bt")? {
            (self.time, self.has_time) = (time, true);
        }
        text(fields, "bu")?;
        self.value = number(fields, "bv")?.unwrap_or(self.value);
        self.sum = number(fields, "bs")?.unwrap_or(self.sum);
        Ok(())
    }

    fn value(&self, fields: &Map<String, Value>) -> Result<Option<Value>, String> {
        let labels = ["v", "vs", "vb", "vd"];
        let mut found = labels.into_iter().filter(|label| fields.contains_key(*label));
        let (label, more) = (found.next(), found.next());
        if let (Some(one), Some(other)) = (label, more) {
            return Err(format!("it has {one} and {other}; a record has one value"));
        }
        Ok(match label {
            // Without a base value the number stays as written.
            Some("v") if self.value == 0.0 => {
                number(fields, "v")?;
                fields.get("v").cloned()
            }
            Some("v") => number(fields, "v")?.map(|value| float(value + self.value)).transpose()?,
            Some("vb") if !fields["vb"].is_boolean() => return Err("vb is neither true nor false".into()),
            Some("vb") => fields.get("vb").cloned(),
            Some(label) => text(fields, label)?.map(Value::from),
            None => None,
        })
    }
}

fn text<'f>(fields: &'f Map<String, Value>, label: &str) -> Result<Option<&'f str>, String> {
    fields.get(label).map(|value| value.as_str().ok_or_else(|| format!("{label} is not text"))).transpose()
}

fn number(fields: &Map<String, Value>, label: &str) -> Result<Option<f64>, String> {
    fields
        .get(label)
        .map(|value| value.as_f64().ok_or_else(|| format!("{label} is not a number")))
        .transpose()
}

fn float(value: f64) -> Result<Value, String> {
    serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| "a number that is not finite".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Value, String> {
        read(text.as_bytes()).map_err(|error| error.to_string())
    }

    /// RFC 8428, sections 5.1.1 to 5.1.3.
    #[test]
    fn the_examples_of_the_rfc() {
        let single = r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#;
        assert_eq!(
            said(single),
            Ok(json!([{
                "values": {"urn:dev:ow:10e2073a01080063": 23.1}
            }]))
        );
        let both = r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},
            {"n":"current","u":"A","v":1.2}]"#;
        assert_eq!(
            said(both),
            Ok(json!([{
                "device": "urn:dev:ow:10e2073a01080063",
                "values": {"voltage": 120.1, "current": 1.2}
            }]))
        );
        let series = r#"[
            {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
            {"n":"current","t":-5,"v":1.2},
            {"n":"current","t":-4,"v":1.3}]"#;
        assert_eq!(
            said(series),
            Ok(json!([
                {"device": "urn:dev:ow:10e2073a0108006", "time": 1_276_020_076.001,
                 "values": {"voltage": 120.1}},
                {"device": "urn:dev:ow:10e2073a0108006", "time": 1_276_020_071.001,
                 "values": {"current": 1.2}},
                {"device": "urn:dev:ow:10e2073a0108006", "time": 1_276_020_072.001,
                 "values": {"current": 1.3}},
            ]))
        );
    }

    /// RFC 8428, section 6, figure 5 (the first two records).
    #[test]
    fn cbor_has_numbers_for_labels() {
        let bytes = b"\x82\xa7\x21\x78\x1burn:dev:ow:10e2073a0108006:\x22\xfb\x41\xd3\x03\xa1\x5b\x00\x10\x62\x23\x61\x41\x20\x05\x00\x67voltage\x01\x61V\x02\xfb\x40\x5e\x06\x66\x66\x66\x66\x66\xa3\x00\x67current\x06\x24\x02\xfb\x3f\xf3\x33\x33\x33\x33\x33\x33";
        let documents = read_cbor(bytes).unwrap();
        assert_eq!(documents[0]["device"], "urn:dev:ow:10e2073a0108006");
        assert_eq!(documents[0]["values"], json!({"voltage": 120.1}));
        assert_eq!(documents[1]["values"], json!({"current": 1.2}));
        assert_eq!(documents[1]["time"], json!(1_276_020_071.001));
    }

    #[test]
    fn base_value_base_sum_and_other_kinds_of_values() {
        let pack = r#"[{"bn":"pump/","bv":20,"bs":100,"n":"level","v":2.5},{"n":"energy","s":5},
            {"n":"state","vs":"on"},{"n":"open","vb":true},{"n":"raw","vd":"aGk"}]"#;
        assert_eq!(
            said(pack),
            Ok(json!([{
                "device": "pump",
                "values": {"level": 22.5, "energy_sum": 105.0, "state": "on", "open": true, "raw": "aGk"}
            }]))
        );
        // A repeated name at the same time is a further value and must not be lost.
        let twice = r#"[{"bn":"a:","n":"x","v":1},{"n":"x","v":2}]"#;
        assert_eq!(said(twice).unwrap().as_array().map(Vec::len), Some(2));
        // An integer stays an integer.
        assert_eq!(said(r#"[{"n":"x","v":1}]"#).unwrap()[0]["values"]["x"], json!(1));
    }

    #[test]
    fn relative_times_are_the_time_of_arrival() {
        let documents = said(r#"[{"n":"x","v":1,"t":-5}]"#).unwrap();
        assert_eq!(documents[0].get("time"), None);
        let documents = said(r#"[{"n":"x","v":1,"t":1276020076}]"#).unwrap();
        assert_eq!(documents[0]["time"], json!(1_276_020_076.0));
    }

    #[test]
    fn a_faulty_pack_is_refused_with_a_reason() {
        for (pack, why) in [
            ("{}", "not an array of records"),
            ("[]", "no record in it"),
            ("[1]", "record 0 is not an object"),
            (r#"[{"n":"x"}]"#, "record 0: neither a value nor a sum"),
            (r#"[{"n":"x","v":1,"vs":"a"}]"#, "record 0: it has v and vs; a record has one value"),
            (r#"[{"n":"x","v":"1"}]"#, "record 0: v is not a number"),
            (r#"[{"n":"x","v":1},{"n":"y","vb":1}]"#, "record 1: vb is neither true nor false"),
            (r#"[{"bver":11,"n":"x","v":1}]"#, "record 0: version 11; 10 is the newest that is known here"),
            (r#"[{"n":"x","v":1,"foo_":1}]"#, "the label \"foo_\" must be understood"),
        ] {
            let error = said(pack).expect_err(pack);
            assert!(error.contains(why), "{pack}: {error}");
        }
    }
}
