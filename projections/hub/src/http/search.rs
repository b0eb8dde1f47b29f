//! `GET /api/v1/search`: devices by their ids and descriptions, and messages that gateways could not read, of all
//! gateways.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use fieldlog_projections::{Seq, Time};
use fieldlog_wire::api::hub::{Found, Hit};
use fieldlog_wire::json::Rfc3339;

use super::App;
use super::problem::Problem;
use super::reading::{Asked, Reading, position};

/// Longer questions are a mistake.
const QUESTION_BYTES_MAX: usize = 256;
/// What `kind` says, and `after` begins with.
const DEVICE: &str = "device";
const QUARANTINE: &str = "quarantine";

const DEVICES: &str = "
    SELECT g.gateway, t.device, t.text FROM device_texts t JOIN gateways g USING (log)
    WHERE t.words @@ to_tsquery('simple', $1) AND ($2::text IS NULL OR g.gateway = $2) AND (g.gateway, t.device) > ($3, $4)
    ORDER BY g.gateway, t.device LIMIT $5";

const QUARANTINED: &str = "
    SELECT g.gateway, t.seq, t.recorded, t.text FROM quarantined t JOIN gateways g USING (log)
    WHERE t.words @@ to_tsquery('simple', $1) AND ($2::text IS NULL OR g.gateway = $2)
        AND (g.gateway > $3 OR g.gateway = $3 AND t.seq < $4)
    ORDER BY g.gateway, t.seq DESC LIMIT $5";

/// Where a page begins: behind a device, or behind a refused message.
enum After<'a> {
    Device(&'a str, &'a str),
    Quarantined(&'a str, i64),
}

/// Answers a question.
pub(super) async fn search(State(app): State<App>, asked: Reading) -> Result<Response, Problem> {
    let Asked { gateway, q, after, .. } = &*asked;
    let question = question(asked.need("q", q)?)?;
    let limit = asked.limit()?;
    let (mut items, mut behind) = (Vec::new(), ("", i64::MAX));
    match after.as_deref().map_or(Ok(After::Device("", "")), after_item)? {
        After::Device(at, device) => {
            // One more than is shown tells whether there is more.
            let most = limit + 1;
            let rows = app.readers.query(DEVICES, &[&question, gateway, &at, &device, &most]).await;
            let rows = rows.map_err(|why| Problem::database(&why))?;
            items.extend(rows.iter().map(|row| Hit {
                kind: DEVICE.into(),
                gateway: row.get(0),
                device: Some(row.get(1)),
                seq: None,
                recorded: None,
                text: row.get(2),
            }));
        }
        After::Quarantined(at, seq) => behind = (at, seq),
    }
    let most = limit + 1 - items.len() as i64;
    if most > 0 {
        let (at, seq) = behind;
        let rows = app.readers.query(QUARANTINED, &[&question, gateway, &at, &seq, &most]).await;
        let rows = rows.map_err(|why| Problem::database(&why))?;
        items.extend(rows.iter().map(|row| Hit {
            kind: QUARANTINE.into(),
            gateway: row.get(0),
            device: None,
            seq: Some(Seq(row.get::<_, i64>(1).unsigned_abs())),
            recorded: Some(Rfc3339(Time(row.get::<_, jiff::Timestamp>(2).as_microsecond()))),
            text: row.get(3),
        }));
    }
    let is_more = items.len() as i64 > limit;
    if is_more {
        items.pop();
    }
    let next = items.last().filter(|_| is_more).map(name);
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((headers, Json(Found { items, next })).into_response())
}

/// The question for PostgreSQL: all of its words, of which the last may go on. They are taken apart as the texts are.
fn question(q: &str) -> Result<String, Problem> {
    if q.len() > QUESTION_BYTES_MAX {
        let detail = format!("`q` has {} bytes; at most {QUESTION_BYTES_MAX} are looked for", q.len());
        return Err(Problem::bad_parameter(detail));
    }
    let between = |char: char| char.is_ascii() && !char.is_ascii_alphanumeric() || char.is_whitespace();
    let words: Vec<String> =
        q.split(between).filter(|word| !word.is_empty()).map(|word| format!("'{word}'")).collect();
    if words.is_empty() {
        return Err(Problem::bad_parameter(format!("`q={q}` has no word to look for")));
    }
    Ok(words.join(" & ") + ":*")
}

/// An item's name, as `after` takes it.
fn name(hit: &Hit) -> String {
    match (&hit.device, hit.seq) {
        (Some(device), _) => format!("{DEVICE}/{}/{device}", hit.gateway),
        (None, seq) => format!("{QUARANTINE}/{}/{}", hit.gateway, seq.unwrap_or_default()),
    }
}

/// The item of that name. A gateway's id has no slash.
fn after_item(text: &str) -> Result<After<'_>, Problem> {
    let parts = text.split_once('/').and_then(|(kind, rest)| Some((kind, rest.split_once('/')?)));
    match parts {
        Some((DEVICE, (gateway, device))) => Ok(After::Device(gateway, device)),
        Some((QUARANTINE, (gateway, seq))) => Ok(After::Quarantined(gateway, position("after", seq)?)),
        _ => {
            let detail = format!("`after={text}` is not the `next` of another page");
            Err(Problem::bad_parameter(detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_its_words() {
        let check = |q: &str, expected: &str| assert_eq!(question(q).unwrap(), expected, "{q}");
        check("lamp", "'lamp':*");
        check("  Hall/lamp-2 ", "'Hall' & 'lamp' & '2':*");
        check("a' | !b:* \\", "'a' & 'b':*");
        check("Küche\u{a0}Süd", "'Küche' & 'Süd':*");
        for q in ["", " ", "--", "'", &"x".repeat(257)] {
            assert!(question(q).is_err(), "{q}");
        }
    }

    #[test]
    fn a_page_goes_on_behind_an_item() {
        let hit = |device: Option<&str>, seq: Option<u64>| Hit {
            kind: String::new(),
            gateway: "plant".into(),
            device: device.map(Into::into),
            seq: seq.map(Seq),
            recorded: None,
            text: String::new(),
        };
        let text = name(&hit(Some("hall/7"), None));
        assert!(matches!(after_item(&text).unwrap(), After::Device("plant", "hall/7")), "{text}");
        let text = name(&hit(None, Some(7)));
        assert!(matches!(after_item(&text).unwrap(), After::Quarantined("plant", 7)), "{text}");
        for text in ["", "plant", "device/plant", "quarantine/plant/x", "quarantine/plant/-1"] {
            assert!(after_item(text).is_err(), "{text}");
        }
    }
}
