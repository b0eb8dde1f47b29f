//! Events of a log that no agent has open, as `/api/v1/events` shows them.

use std::ops::ControlFlow;

use fieldlog_projections::{Epoch, Record, Seq, Time, View};

use super::event::{Entry, Names, Selection, event_json};
use super::problem::Problem;
use crate::log::{LogError, LogReader};

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only this device, by its id.
    pub device: Option<String>,
    /// Only these types, separated by commas.
    pub types: Option<String>,
    /// From this log time on.
    pub from: Option<Time>,
    /// Before this log time.
    pub to: Option<Time>,
}

/// The events of a log.
#[derive(Debug)]
pub struct OfflineEvents<'a> {
    /// The log.
    pub reader: LogReader,
    /// The state at its head, which has the names.
    pub view: &'a View,
    /// The gateway's id.
    pub gateway: &'a str,
    /// The log's incarnation.
    pub epoch: Epoch,
}

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is no such device or type.
    #[error("{0}")]
    Unknown(String),
    /// A record in the log.
    #[error("{0}")]
    Record(String),
}

impl OfflineEvents<'_> {
    /// Passes the JSON of each wanted event to `put`, oldest first, until it breaks.
    ///
    /// # Errors
    /// [`OfflineError`]; the events before a damaged place were passed.
    pub fn each<B>(
        &self,
        wanted: &Wanted,
        mut put: impl FnMut(Seq, &[u8]) -> ControlFlow<B>,
    ) -> Result<Option<B>, OfflineError> {
        let unknown = |problem: Problem| OfflineError::Unknown(problem.words());
        let (device, types) = (wanted.device.as_deref(), wanted.types.as_deref());
        let selection = Selection::of(&self.view.devices, device, types).map_err(unknown)?;
        let from = wanted.from.map(|from| self.reader.seek_time(from)).transpose()?.unwrap_or(Seq(1));
        let mut json = Vec::new();
        let stopped = self.reader.scan(from, |chunk| {
            for record in chunk.records() {
                let step = match record {
                    Ok(record) => self.step(&record, wanted, &selection, &mut json, &mut put),
                    Err(error) => Err(error.to_string()),
                };
                match step {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(value)) => return ControlFlow::Break(Ok(value)),
                    Err(words) => return ControlFlow::Break(Err(OfflineError::Record(words))),
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(stopped.transpose()?.flatten())
    }

    /// Handles one record; breaks with `None` after the last one that is wanted.
    fn step<B>(
        &self,
        record: &Record<'_>,
        wanted: &Wanted,
        selection: &Selection,
        json: &mut Vec<u8>,
        put: &mut impl FnMut(Seq, &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<Option<B>>, String> {
        // After a clock correction a record may have any log time; its moment never goes back.
        let moment = self.reader.moment(record.seq, record.time);
        if wanted.to.is_some_and(|to| moment >= to) {
            return Ok(ControlFlow::Break(None));
        }
        let words = |problem: Problem| problem.words();
        if wanted.from.is_some_and(|from| moment < from) || !selection.has(record).map_err(words)? {
            return Ok(ControlFlow::Continue(()));
        }
        let entry = Entry::of(record).map_err(words)?;
        let mut names = Names::default();
        names.learn(self.view, &entry);
        json.clear();
        serde_json::to_writer(&mut *json, &event_json(&entry, &names, self.gateway, self.epoch))
            .map_err(|error| format!("the record at sequence {} cannot be written: {error}", record.seq))?;
        Ok(put(record.seq, json).map_break(Some))
    }
}
