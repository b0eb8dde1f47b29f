//! Whose the consumer of a subject is. Two databases at one consumer would each get a part of the parcels, so it has the id
//! of its database in its metadata, which nats-server keeps since 2.10.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::jetstream::consumer::{self, Consumer, pull};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Stream;

use crate::source::Ended;

/// Its field in the metadata.
const DATABASE: &str = "fieldlog-database";

/// The consumers of a database at a stream.
#[derive(Clone)]
pub(super) struct Consumers {
    /// What their names begin with.
    pub(super) name: Arc<str>,
    /// The id of the database.
    pub(super) database: Arc<str>,
}

/// A consumer that may be used, or why it may not.
pub(super) type Claim = Result<Consumer<pull::Config>, String>;

impl Consumers {
    /// Makes the consumer of a subject as it is to be, or takes over one of which nobody has said whose it is.
    pub(super) async fn claim(
        &self,
        stream: &Stream<()>,
        subject: &str,
        config: pull::Config,
    ) -> Result<Claim, Ended> {
        let name = self.name_of(subject);
        let metadata = HashMap::from([(DATABASE.to_owned(), self.database.to_string())]);
        let config = pull::Config { durable_name: Some(name.clone()), metadata, ..config };
        match stream.consumer_info(&name).await {
            Ok(info) => match self.refuse(&info) {
                Some(why) => Ok(Err(why)),
                None => Ok(Ok(stream.create_consumer(config).await?)),
            },
            // Another database that makes it at the same moment is not overwritten.
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {
                Ok(Ok(stream.create_consumer_strict(config).await?))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Why a consumer may not be used, or not any more.
    pub(super) fn refuse(&self, info: &consumer::Info) -> Option<String> {
        let owner = info.config.metadata.get(DATABASE).filter(|owner| **owner != *self.database)?;
        Some(format!(
            "its consumer `{name}` in the stream `{stream}` belongs to another database of hubs (id {owner}; this one is \
             {own}), and each would get a part of the parcels. Give this one a `consumer` of its own in [[nats]]: it then \
             begins with the oldest parcel of the stream. If the other database is gone, you can instead delete the \
             consumer, which has the same effect: nats consumer rm {stream} {name}",
            name = info.name,
            stream = info.stream_name,
            own = self.database,
        ))
    }

    /// A name without the characters that NATS does not allow, its own for each subject.
    fn name_of(&self, subject: &str) -> String {
        let readable: String = subject
            .chars()
            .take(40)
            .map(|char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' })
            .collect();
        format!("{}-{readable}-{}", self.name, &blake3::hash(subject.as_bytes()).to_hex()[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_before_unless_configured() {
        let named = |name: &str| Consumers { name: name.into(), database: "".into() };
        assert_eq!(
            named("fieldlog-hub").name_of("fieldlog.plant_7.events"),
            "fieldlog-hub-fieldlog_plant_7_events-dbf9c5d6"
        );
        assert!(named("b").name_of("fieldlog.plant_7.events").starts_with("b-fieldlog_plant_7_events-"));
    }
}
