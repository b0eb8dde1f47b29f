//! `/api/v1/devices/{id}/attributes/{attribute}/why`: the record that set a value, the command that it answers, and the
//! values before.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use fieldlog_projections::command::Progress;
use fieldlog_projections::stored::type_id;
use fieldlog_projections::{AttrId, CommandRequest, DeviceId, Fact, Seq, Time, Value};
use fieldlog_wire::api::why::{WhyAnswer, WhyBefore, WhyCommand, WhyRequest};
use fieldlog_wire::json::Rfc3339;

use super::App;
use super::answer::answer;
use super::body::encode;
use super::devices::{find, find_attribute};
use super::event::{Entry, each_change, event_json};
use super::events;
use super::params::Params;
use super::past::Moment;
use super::position::At;
use super::problem::Problem;
use super::reads::{Cancel, Stretch, scan, scan_for};
use crate::command::declared::to_json;
use crate::log::Wanted;
use crate::read_side::ReadSide;

const LIMIT_MAX: u64 = 100;
const LIMIT_DEFAULT: u64 = 5;
/// Maximum records visited for earlier changes; the answer says how far they go.
const RECORDS_MAX: u64 = 2_000_000;

/// A change of the attribute.
struct Change {
    seq: Seq,
    time: Time,
    device_time: Option<Time>,
    value: Value,
}

/// What is asked about.
#[derive(Clone, Copy)]
struct Subject {
    device: DeviceId,
    attribute: AttrId,
}

/// `GET /api/v1/devices/{id}/attributes/{attribute}/why`
pub(super) async fn why(
    State(app): State<Arc<App>>,
    Path((device, attribute)): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["at", "limit"])?;
    let limit = params.limit(LIMIT_MAX, LIMIT_DEFAULT)?;
    let moment = params.text("at").map(|text| Moment::parse("at", text)).transpose()?;
    let (at, subject, names, newest) = app.with_view(|view, at| {
        let (id, device) = find(&view.devices, &device)?;
        let attribute = find_attribute(&view.devices, device, &attribute)?;
        let name = view.devices.attribute_name(attribute).unwrap_or_default().to_owned();
        let slot = device.attributes.iter().find(|slot| slot.id == attribute);
        let newest = slot.map_or(Seq(0), |slot| slot.seq);
        let names = (device.name.to_string(), name, device.source.to_string());
        Ok((at, Subject { device: id, attribute }, names, newest))
    })?;
    if let Some(known) = at.not_modified(&headers) {
        return Ok(known);
    }
    let (side, budget) = (app.side.clone(), app.budget.clone());
    let body = app
        .reads
        .long(move |cancel| {
            let last = match moment {
                None => newest,
                Some(moment) => moment.last(&side.shared.reader, at, cancel)?,
            };
            let (changes, complete_from_seq) = subject.changes(&side, last, limit + 1, cancel)?;
            let (device, attribute, source) = names;
            let mut changes = changes.into_iter();
            let Some(newest) = changes.next() else {
                return Err(not_there(&side, &device, &attribute, last, complete_from_seq)?);
            };
            let entry = events::find(&side, at, newest.seq, cancel)?;
            let names = side.names(&entry);
            let gateway = side.config.borrow().gateway_id.clone();
            let command = subject.command(&side, at, newest.seq, &attribute, cancel)?;
            let before = changes.map(|change| WhyBefore {
                seq: change.seq,
                at: Rfc3339(change.time),
                device_time: change.device_time.map(Rfc3339),
                value: to_json(change.value.borrow()),
            });
            let answer = WhyAnswer {
                position: at.into(),
                device: device.into(),
                attribute: attribute.into(),
                value: to_json(newest.value.borrow()),
                source: source.into(),
                event: event_json(&entry, &names, &gateway, at.epoch),
                command,
                before: before.collect(),
                complete_from_seq,
            };
            encode(&budget, &answer)
        })
        .await?;
    Ok(answer(body, at))
}

/// No change was found back to a position.
fn not_there(
    side: &ReadSide,
    device: &str,
    attribute: &str,
    last: Seq,
    searched: Seq,
) -> Result<Problem, Problem> {
    let first = side.shared.reader.range()?.map_or(Seq(1), |(first, _)| first);
    if searched > first {
        return Ok(Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "too-slow",
            "The read took too long",
            format!(
                "no change of `{attribute}` of {device} is among sequences {searched} to {last}, and the log is not indexed \
                 there yet; go on with `at={}`",
                searched.0 - 1
            ),
        ));
    }
    let detail = match first {
        Seq(1) => format!("`{attribute}` of {device} had no value yet at sequence {last}"),
        first => format!(
            "the log begins at sequence {first}, and has no change of `{attribute}` of {device} from there to {last}: the one \
             that set it was deleted, or there was none yet"
        ),
    };
    Ok(Problem::not_found("no-such-change", "No record set the value", detail))
}

impl Subject {
    /// The last changes up to `last`, newest first, and the position from which on these are all.
    fn changes(
        self,
        side: &ReadSide,
        last: Seq,
        limit: usize,
        cancel: &Cancel,
    ) -> Result<(Vec<Change>, Seq), Problem> {
        let reader = &side.shared.reader;
        let first = reader.range()?.map_or(Seq(1), |(first, _)| first);
        let wanted = Wanted { device: Some(self.device), types: vec![type_id::STATE_CHANGED] };
        let (mut found, mut at, mut left) = (Vec::new(), last.next(), RECORDS_MAX);
        while at > first && left > 0 {
            let (runs, begin) = reader.runs_before(at, &wanted)?;
            for (run, end) in runs {
                let stretch = Stretch { from: run, until: Seq(end.0 - 1), records_max: u64::MAX };
                let mut of_run = Vec::new();
                scan(reader, stretch, cancel, |record| {
                    left = left.saturating_sub(1);
                    each_change(record, self.device, |attribute, value| {
                        if attribute == self.attribute {
                            let (seq, time, device_time) = (record.seq, record.time, record.device_time);
                            of_run.push(Change { seq, time, device_time, value: value.to_owned() });
                        }
                    })?;
                    Ok(ControlFlow::Continue(()))
                })?;
                found.extend(of_run.into_iter().rev());
                if found.len() >= limit {
                    found.truncate(limit);
                    let complete_from = found.last().map_or(run, |change| change.seq);
                    return Ok((found, complete_from));
                }
            }
            at = begin;
        }
        Ok((found, at.max(first)))
    }

    /// The command that was carried out according to the record at `evidence`.
    fn command(
        self,
        side: &ReadSide,
        at: At,
        evidence: Seq,
        attribute: &str,
        cancel: &Cancel,
    ) -> Result<Option<WhyCommand<'static>>, Problem> {
        let reader = &side.shared.reader;
        let stretch = Stretch { from: evidence.next(), until: at.applied, records_max: u64::MAX };
        let wanted = Wanted { device: Some(self.device), types: vec![type_id::COMMAND_APPLIED] };
        let mut found = Vec::new();
        scan_for(reader, stretch, &wanted, cancel, |record| {
            if record.kind.type_id == type_id::COMMAND_APPLIED
                && let Fact::CommandProgressed { device, command, progress } = Entry::of(record)?.fact
                && (device, progress) == (self.device, Progress::Applied { evidence: Some(evidence) })
            {
                found.push((command, record.seq, record.time));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        // The record may have shown another attribute's command, too.
        for (id, applied_seq, applied) in found.into_iter().rev() {
            let request = request(side, at, id, cancel)?;
            let about = |(request, _): &(Arc<CommandRequest>, Time)| {
                request.evidence.reported().map_or(&*request.name, |(name, _, _)| name) == attribute
            };
            if request.as_ref().is_none_or(about) {
                let request = request.as_ref().map(|(request, time)| request_json(request, *time));
                return Ok(Some(WhyCommand { id, applied_seq, applied_at: Rfc3339(applied), request }));
            }
        }
        Ok(None)
    }
}

/// The request of a command and its log time, from the view or the log; `None` if it was deleted.
fn request(
    side: &ReadSide,
    at: At,
    command: Seq,
    cancel: &Cancel,
) -> Result<Option<(Arc<CommandRequest>, Time)>, Problem> {
    let known = side.with_view(|view, _| {
        view.commands.get(command).map(|command| (command.request.clone(), command.requested))
    });
    if known.is_some() {
        return Ok(known);
    }
    if side.shared.reader.range()?.is_none_or(|(first, _)| command < first) {
        return Ok(None);
    }
    let entry = events::find(side, at, command, cancel)?;
    Ok(match entry.fact {
        Fact::CommandRequested { request, .. } => Some((Arc::new(*request), entry.time)),
        _ => None,
    })
}

fn request_json(request: &CommandRequest, requested: Time) -> WhyRequest<'static> {
    WhyRequest {
        actor: request.actor.clone().into(),
        reason: request.reason.clone().into(),
        requested_at: Rfc3339(requested),
        name: request.name.clone().into(),
        operation: request.operation,
        value: to_json(request.value.borrow()),
        source: request.publish.source.clone().into(),
        topic: request.publish.topic.clone().into(),
    }
}
