//! OpenSearch or Elasticsearch: every event in an index of its month, and every device as it is.
//!
//! Documents have ids and versions of their own, so what is written twice is there once, and what comes late replaces
//! nothing newer. The cursor of a log is a document, written after the others, and only if it is still the one that was
//! read before.

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cursor, Fault, Store};
use crate::config::OpenSearch as Settings;
use crate::postgres::{DeviceRow, Log, Step};

mod client;
mod documents;

use client::{Http, reason};
use documents::Document;

pub(super) const NAME: &str = "opensearch";

/// A connection to one.
pub(super) struct OpenSearch {
    prefix: String,
    http: Http,
    has_templates: bool,
    reduced: u64,
}

/// The cursor as a document.
#[derive(Deserialize)]
struct Stored {
    fence: i64,
    generation: i64,
    log: i32,
    arrival: i64,
    is_complete: bool,
}

impl OpenSearch {
    pub(super) fn new(settings: Settings) -> OpenSearch {
        let prefix = settings.prefix.clone();
        OpenSearch { prefix, http: Http::new(settings), has_templates: false, reduced: 0 }
    }

    fn path(&self, log: &Log) -> String {
        format!("/{}-cursors/_doc/{}.{}", self.prefix, log.gateway, log.epoch)
    }

    /// Writes the cursor, if it is still `from`. Returns it with its new mark.
    async fn save(&mut self, log: &Log, from: Option<&Cursor>, to: Cursor) -> Result<Cursor, Fault> {
        let condition = from.map_or("op_type=create", |from| &from.mark);
        let path = format!("{}?{condition}", self.path(log));
        let body = json!({
            "gateway": log.gateway, "epoch": to.epoch, "fence": log.fence, "generation": to.generation, "log": to.log,
            "arrival": to.arrival, "is_complete": to.is_complete,
        });
        let (status, answer) =
            self.http.call(Method::PUT, &path, body.to_string()).await.map_err(Fault::Failed)?;
        // Without the index, the cursor is not what it was either.
        if status == StatusCode::CONFLICT || status == StatusCode::NOT_FOUND {
            return Err(Fault::Moved);
        }
        if !status.is_success() {
            return Err(Fault::Failed(format!(
                "OpenSearch refuses a cursor with {status}: {}",
                reason(&answer)
            )));
        }
        Ok(Cursor { mark: mark(&answer), ..to })
    }

    /// Writes documents; those that are there in a newer version stay. One that would not be taken as it is, is written
    /// without its content, so that it does not hold up what comes after it.
    async fn bulk(&mut self, mut documents: Vec<Document>) -> Result<(), Fault> {
        if !self.has_templates {
            for (path, body) in documents::templates(&self.prefix) {
                self.http.need(Method::PUT, &path, body).await.map_err(Fault::Failed)?;
            }
            self.has_templates = true;
        }
        for is_last in [false, true] {
            if documents.is_empty() {
                break;
            }
            let mut body = String::new();
            for document in &documents {
                let action = json!({"index": {
                    "_index": document.index, "_id": document.id, "version": document.version,
                    "version_type": "external_gte",
                }});
                body.push_str(&format!("{action}\n{}\n", document.source));
            }
            let answer = self.http.need(Method::POST, "/_bulk", body).await.map_err(Fault::Failed)?;
            let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
            if items.len() != documents.len() {
                return Err(Fault::Failed(
                    "OpenSearch answers a bulk request with another number of items".into(),
                ));
            }
            let mut refused = Vec::new();
            for (mut document, item) in documents.into_iter().zip(items) {
                let item = &item["index"];
                let why = || format!("{} in {}: {}", document.id, document.index, reason(item));
                match item["status"].as_u64().unwrap_or(0) {
                    200..=299 | 409 => {}
                    400 | 413 if !is_last => {
                        tracing::warn!("OpenSearch does not take {}; it gets it without its content", why());
                        self.reduced += 1;
                        document.reduced["refused"] = reason(item).into();
                        document.source = document.reduced.to_string();
                        refused.push(document);
                    }
                    status => {
                        return Err(Fault::Failed(format!("OpenSearch answers {status} for {}", why())));
                    }
                }
            }
            documents = refused;
        }
        Ok(())
    }
}

impl Store for OpenSearch {
    const NAME: &'static str = NAME;
    const HAS_EVENTS: bool = true;
    const LANES: usize = 4;

    async fn cursor(&mut self, log: &Log) -> Result<Option<Cursor>, Fault> {
        let (status, answer) =
            self.http.call(Method::GET, &self.path(log), String::new()).await.map_err(Fault::Failed)?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(Fault::Failed(format!("OpenSearch answers with {status}: {}", reason(&answer))));
        }
        let mark = mark(&answer);
        // What somebody else has put there is no cursor of ours: it has to begin anew, from that mark.
        let foreign = Stored { fence: 0, generation: -1, log: -1, arrival: 0, is_complete: false };
        let stored: Stored = serde_json::from_value(answer["_source"].clone()).unwrap_or(foreign);
        if stored.fence > log.fence {
            return Err(Fault::Fenced(stored.fence));
        }
        let Stored { generation, log: number, arrival, is_complete, .. } = stored;
        Ok(Some(Cursor { generation, epoch: log.epoch.clone(), log: number, arrival, is_complete, mark }))
    }

    async fn begin(&mut self, log: &Log, from: Option<&Cursor>, to: Cursor) -> Result<Cursor, Fault> {
        // Where there is no cursor, the indices may have been deleted with their templates.
        self.has_templates &= from.is_some();
        self.bulk(Vec::new()).await?;
        self.save(log, from, to).await
    }

    async fn page(&mut self, log: &Log, at: &Cursor, devices: &[DeviceRow], as_of: i64) -> Result<(), Fault> {
        let document = |row| documents::device(&self.prefix, log, at.generation, row, as_of);
        let documents = devices.iter().map(document).collect();
        self.bulk(documents).await
    }

    async fn complete(&mut self, log: &Log, from: &Cursor, to: Cursor) -> Result<Cursor, Fault> {
        if log.is_newest {
            // Devices of an older log, or of a generation in which there were others.
            let path = format!(
                "/{p}-devices/_delete_by_query?conflicts=proceed&ignore_unavailable=true",
                p = self.prefix
            );
            let is_current = json!([{"term": {"epoch": log.epoch}}, {"term": {"generation": to.generation}}]);
            let query = json!({"query": {"bool": {
                "filter": [{"term": {"gateway": log.gateway}}],
                "must_not": [{"bool": {"filter": is_current}}],
            }}});
            let refresh = format!("/{}-devices/_refresh?ignore_unavailable=true", self.prefix);
            self.http.need(Method::POST, &refresh, String::new()).await.map_err(Fault::Failed)?;
            self.http.need(Method::POST, &path, query.to_string()).await.map_err(Fault::Failed)?;
        }
        self.save(log, Some(from), to).await
    }

    async fn put(&mut self, log: &Log, from: &Cursor, to: Cursor, step: &Step) -> Result<Cursor, Fault> {
        let prefix = &self.prefix;
        let mut documents: Vec<Document> =
            step.events.iter().map(|event| documents::event(prefix, log, event)).collect();
        if log.is_newest {
            let device = |row| documents::device(prefix, log, to.generation, row, step.as_of);
            documents.extend(step.devices.iter().map(device));
        }
        self.bulk(documents).await?;
        self.save(log, Some(from), to).await
    }

    fn reduced(&self) -> u64 {
        self.reduced
    }
}

/// What a write has to name, so that it is refused if the cursor is another one by then.
fn mark(answer: &Value) -> String {
    format!("if_seq_no={}&if_primary_term={}", answer["_seq_no"], answer["_primary_term"])
}
