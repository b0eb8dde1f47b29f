//! Parses TOML into values that know their file and line, for faults that are found later.

use std::ops::Range;

use ::config::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One text.
struct Text<'t> {
    text: &'t str,
    name: &'t str,
}

/// The values of a file. The error is that of the parser, with an excerpt.
pub(super) fn parse(text: &str, name: &str) -> Result<Map<String, Value>, String> {
    let table = DeTable::parse(text).map_err(|error| error.to_string())?;
    Text { text, name }.table(table.into_inner())
}

/// The file and the line of an origin.
pub(super) fn place(origin: &str) -> (&str, Option<usize>) {
    let split = origin.split_once(':').and_then(|(line, file)| Some((file, line.parse().ok()?)));
    split.map_or((origin, None), |(file, line)| (file, Some(line)))
}

impl Text<'_> {
    fn origin(&self, span: Range<usize>) -> String {
        let line = 1 + self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
        format!("{line}:{}", self.name)
    }

    fn table(&self, table: DeTable<'_>) -> Result<Map<String, Value>, String> {
        let value = |(key, value): (Spanned<_>, Spanned<_>)| {
            let origin = self.origin(key.span());
            Ok((
                std::borrow::Cow::into_owned(key.into_inner()),
                self.value(Some(&origin), value.into_inner())?,
            ))
        };
        table.into_iter().map(value).collect()
    }

    fn value(&self, uri: Option<&String>, value: DeValue<'_>) -> Result<Value, String> {
        let too_large = |number: &str| {
            let line = uri.and_then(|origin| place(origin).1).unwrap_or_default();
            format!("line {line}: {number} is no number of 64 bits")
        };
        Ok(match value {
            DeValue::String(text) => Value::new(uri, text.into_owned()),
            DeValue::Boolean(flag) => Value::new(uri, flag),
            DeValue::Datetime(time) => Value::new(uri, time.to_string()),
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                Value::new(uri, parsed.map_err(|_| too_large(number.as_str()))?)
            }
            DeValue::Float(number) => {
                let parsed = number.as_str().parse::<f64>();
                Value::new(uri, parsed.map_err(|_| too_large(number.as_str()))?)
            }
            DeValue::Table(table) => Value::new(uri, self.table(table)?),
            DeValue::Array(items) => {
                let item = |item: Spanned<DeValue<'_>>| {
                    self.value(Some(&self.origin(item.span())), item.into_inner())
                };
                Value::new(uri, items.into_iter().map(item).collect::<Result<Vec<_>, _>>()?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines() {
        let text = "a = 1\n[b]\n\nc = [\n  \"x\",\n]\n[[d]]\ne.f = 2.5\n[[d]]\n";
        let values = parse(text, "x:y.toml").unwrap();
        let line = |value: &Value| place(value.origin().unwrap()).1.unwrap();
        let table = |value: &Value| value.clone().into_table().unwrap();
        let items = |value: &Value| value.clone().into_array().unwrap();
        assert_eq!(place(values["a"].origin().unwrap()), ("x:y.toml", Some(1)));
        assert_eq!(line(&values["b"]), 2);
        assert_eq!(line(&table(&values["b"])["c"]), 4);
        assert_eq!(line(&items(&table(&values["b"])["c"])[0]), 5);
        let blocks = items(&values["d"]);
        assert_eq!([line(&blocks[0]), line(&blocks[1])], [7, 9]);
        assert_eq!(line(&table(&table(&blocks[0])["e"])["f"]), 8);
        assert_eq!(place("the environment"), ("the environment", None));
    }

    #[test]
    fn a_number_that_does_not_fit_is_said_with_its_line() {
        let fault = parse("\na = 99999999999999999999", "x.toml").unwrap_err();
        assert_eq!(fault, "line 2: 99999999999999999999 is no number of 64 bits");
    }
}
