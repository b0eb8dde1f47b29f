//! The stream and its stored messages.

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, StorageType, Stream};
use fieldlog_projections::Epoch;

use super::failure::pace;
use super::{NatsTarget, causes, header};
use crate::forward::{Pace, Unreachable};
use fieldlog_wire::Manifest;

const STREAM_NOT_FOUND: u64 = 10_059;

/// A subject that parcels are published to.
pub(super) struct Subject {
    pub(super) name: String,
    /// Stream sequence of its last message; 0 if none.
    pub(super) last: u64,
    /// The manifest of that message, if it is from this gateway and epoch.
    pub(super) stored: Option<Manifest>,
}

/// The subject of a parcel.
pub(super) fn subject(template: &str, manifest: &Manifest) -> String {
    fill(template, &manifest.gateway, manifest.epoch, manifest.lane.name())
}

/// All subjects of a gateway.
pub(super) fn subjects(template: &str, gateway: &str, epoch: Epoch) -> Vec<String> {
    let mut subjects: Vec<_> =
        ["live", "backlog"].iter().map(|lane| fill(template, gateway, epoch, lane)).collect();
    subjects.dedup();
    subjects
}

/// Dots separate the tokens of a subject; a gateway is one token, so `fieldlog.*.events` matches all gateways.
fn fill(template: &str, gateway: &str, epoch: Epoch, lane: &str) -> String {
    template
        .replace("{gateway}", &gateway.replace('.', "_"))
        .replace("{lane}", lane)
        .replace("{epoch}", &epoch.to_string())
}

/// Finds the stream, or creates it if that is allowed.
pub(super) async fn find(target: &NatsTarget, jetstream: &Context) -> Result<Stream, Unreachable> {
    let (url, stream) = (target.sink.url(), &target.sink.stream);
    let slow = |what: String| Unreachable { why: format!("{url}: {what}"), pace: Pace::Slow };
    let error = match jetstream.get_stream(stream).await {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    match error.kind() {
        GetStreamErrorKind::JetStream(said) if said.error_code().0 == STREAM_NOT_FOUND => {}
        GetStreamErrorKind::Request if pace(&error) == Pace::Slow => {
            return Err(slow(format!("the server has no JetStream: enable it there ({})", causes(&error))));
        }
        GetStreamErrorKind::Request => {
            let why = format!(
                "{url}: JetStream does not answer: check the link, and that this user may publish to \
                 $JS.API.STREAM.INFO.{stream} ({})",
                causes(&error)
            );
            return Err(Unreachable { why, pace: Pace::Soon });
        }
        _ => return Err(slow(format!("stream `{stream}` cannot be used: {}", causes(&error)))),
    }
    if !target.sink.create_stream {
        let subjects = pattern(&target.sink.subject);
        return Err(slow(format!(
            "there is no stream `{stream}`: create it, for the subject `{subjects}`, or set `create_stream = true`"
        )));
    }
    let config = Config {
        name: stream.clone(),
        subjects: vec![pattern(&target.sink.subject)],
        storage: StorageType::File,
        description: Some("Events of fieldlog gateways".to_owned()),
        ..Config::default()
    };
    match jetstream.create_stream(config).await {
        Ok(created) => {
            tracing::info!(sink = %url, %stream, "stream created");
            Ok(created)
        }
        Err(error) => {
            let hint = match error.kind() {
                CreateStreamErrorKind::TimedOut => {
                    format!("check that this user may publish to $JS.API.STREAM.CREATE.{stream}; ")
                }
                _ => String::new(),
            };
            let why = format!("{url}: stream `{stream}` cannot be created: {hint}{}", causes(&error));
            Err(Unreachable { why, pace: pace(&error) })
        }
    }
}

/// The subjects of all gateways.
fn pattern(template: &str) -> String {
    template.replace("{gateway}", "*").replace("{lane}", "*").replace("{epoch}", "*")
}

impl Subject {
    /// Reads the last message.
    pub(super) async fn read(
        target: &NatsTarget,
        stream: &Stream,
        name: String,
        gateway: &str,
        epoch: Epoch,
    ) -> Result<Subject, Unreachable> {
        let message = match stream.get_last_raw_message_by_subject(&name).await {
            Ok(message) => message,
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                return Ok(Subject { name, last: 0, stored: None });
            }
            Err(error) => {
                let why = format!(
                    "{}: the last message of `{name}` cannot be read: check the link, `subject`, and that this user may publish to \
                     $JS.API.STREAM.MSG.GET.{} ({})",
                    target.sink.url(),
                    target.sink.stream,
                    causes(&error)
                );
                return Err(Unreachable { why, pace: pace(&error) });
            }
        };
        let field = |name: &str| Some(message.headers.get(header(name).as_str())?.as_str());
        let stored = Manifest::read(field)
            .ok()
            .filter(|manifest| *manifest.gateway == *gateway && manifest.epoch == epoch);
        Ok(Subject { name, last: message.sequence, stored })
    }

    /// Whether its last message includes this whole parcel.
    pub(super) fn holds(&self, parcel: &Manifest) -> bool {
        self.stored.as_ref().is_some_and(|stored| {
            stored.gateway == parcel.gateway
                && stored.epoch == parcel.epoch
                && stored.first <= parcel.first
                && parcel.last <= stored.last
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::envelope::tests::parcel;

    #[test]
    fn a_gateway_is_one_token() {
        let all = subjects("f.{gateway}.{lane}", "gw.1", Epoch(1));
        assert_eq!(all, ["f.gw_1.live", "f.gw_1.backlog"]);
        assert_eq!(subjects("f.{gateway}", "gw.1", Epoch(1)), ["f.gw_1"]);
        assert_eq!(
            subject("f.{gateway}.{lane}.{epoch}", &parcel(1, 1).manifest),
            "f.gw-1.live.000000000000001f"
        );
        assert_eq!(pattern("f.{gateway}.{lane}"), "f.*.*");
    }

    #[test]
    fn what_is_stored_is_known_again() {
        let stored = Some(parcel(5, 9).manifest);
        let subject = Subject { name: "s".into(), last: 1, stored };
        assert!(subject.holds(&parcel(5, 9).manifest) && subject.holds(&parcel(6, 8).manifest));
        assert!(!subject.holds(&parcel(4, 9).manifest) && !subject.holds(&parcel(9, 10).manifest));
        let mut other = parcel(5, 9).manifest;
        other.epoch = Epoch(2);
        assert!(!subject.holds(&other));
    }
}
