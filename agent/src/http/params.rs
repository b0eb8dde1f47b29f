//! Query parameters, parsed strictly: a misspelt one is an error, not a different answer.

use std::ops::RangeInclusive;

use axum::extract::Query;
use axum::http::Uri;
use fieldlog_projections::{Seq, Time};

use super::problem::Problem;
use fieldlog_wire::json;

/// Parameters of every read; see [`super::min_seq`].
const COMMON: [&str; 3] = ["min_seq", "epoch", "min_seq_timeout_ms"];

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// All parameters, whatever their names.
    pub(super) fn any(uri: &Uri) -> Result<Params, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::bad_parameter(format!("the query cannot be read: {error}")))?;
        Ok(Params(pairs))
    }

    /// The parameters, each at most once; only `known` ones and those of every read.
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Result<Params, Problem> {
        let params = Params::any(uri)?;
        for (index, (name, _)) in params.0.iter().enumerate() {
            if !known.contains(&name.as_str()) && !COMMON.contains(&name.as_str()) {
                let names = [known, &COMMON].concat().join(", ");
                return Err(Problem::bad_parameter(format!(
                    "this resource has no parameter `{name}`; it has {names}"
                )));
            }
            if params.0[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::bad_parameter(format!("`{name}` is given twice; give it once")));
            }
        }
        Ok(params)
    }

    /// The text of a parameter; an empty one counts as absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    pub(super) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (from, to) = range.into_inner();
            Problem::bad_parameter(format!("`{name}={text}` must be a whole number from {from} to {to}"))
        })
    }

    pub(super) fn limit(&self, max: u64, default: u64) -> Result<usize, Problem> {
        Ok(self.number("limit", 1..=max)?.unwrap_or(default) as usize)
    }

    pub(super) fn seq(&self, name: &str) -> Result<Option<Seq>, Problem> {
        Ok(self.number(name, 0..=u64::MAX - 1)?.map(Seq))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(text) => Err(Problem::bad_parameter(format!("`{name}={text}` must be true or false"))),
        }
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Time>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        json::parse_time(text).map(Some).ok_or_else(|| {
            Problem::bad_parameter(format!(
                "`{name}={text}` must be a time with an offset, such as 2026-11-23T10:00:00Z"
            ))
        })
    }

    /// `from` and `to`, which is not included.
    pub(super) fn span(&self) -> Result<(Option<Time>, Option<Time>), Problem> {
        let (from, to) = (self.time("from")?, self.time("to")?);
        match (from, to) {
            (Some(from), Some(to)) if from >= to => {
                Err(Problem::bad_parameter("`from` must be earlier than `to`, which is not included"))
            }
            span => Ok(span),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Result<Params, Problem> {
        Params::of(&format!("/x?{query}").parse().unwrap(), &["limit", "from", "to", "retired"])
    }

    #[test]
    fn misspelt_and_repeated_parameters_are_refused() {
        assert!(params("limit=3&min_seq=4").is_ok());
        for query in ["limits=3", "limit=3&limit=4"] {
            assert_eq!(params(query).unwrap_err().code, "bad-parameter", "{query}");
        }
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(params("limit=3").unwrap().limit(10, 5).unwrap(), 3);
        assert_eq!(params("limit=").unwrap().limit(10, 5).unwrap(), 5);
        for query in ["limit=0", "limit=11", "limit=x", "limit=-1"] {
            assert!(params(query).unwrap().limit(10, 5).is_err(), "{query}");
        }
        assert!(params("retired=yes").unwrap().flag("retired").is_err());
        assert!(params("from=2026-11-23T10:00:00Z&to=2026-11-23T09:00:00Z").unwrap().span().is_err());
        assert!(params("from=yesterday").unwrap().span().is_err());
    }

    #[test]
    fn a_plus_in_an_offset_survives_the_query_encoding() {
        let (from, _) = params("from=2026-11-23T12:00:00+02:00").unwrap().span().unwrap();
        let (same, _) = params("from=2026-11-23T10:00:00Z").unwrap().span().unwrap();
        assert_eq!(from, same);
    }
}
