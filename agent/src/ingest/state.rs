//! The STATE topic of a source that is a Sparkplug host application.

use fieldlog_projections::Time;

use crate::config::{SourceConfig, WillConfig};
use crate::sparkplug::{state, topic};

/// Packet identifier of the certificates. Those of the SUBSCRIBEs count up from 1 and never reach it.
pub(super) const PKID: u16 = u16::MAX;

/// The certificates of one connection: both have the time of its CONNECT.
#[derive(Debug)]
pub(super) struct HostState(WillConfig);

impl HostState {
    /// For a connection that begins now; `None` if the source is not a host application.
    pub(super) fn of(config: &SourceConfig, now: Time) -> Option<HostState> {
        let host_id = &config.sparkplug.as_ref()?.host_id;
        Some(HostState(WillConfig {
            topic: state::topic(host_id),
            offline: state::certificate(false, now),
            online: state::certificate(true, now),
        }))
    }

    pub(super) fn will(&self) -> &WillConfig {
        &self.0
    }

    pub(super) fn topic(&self) -> &str {
        &self.0.topic
    }

    pub(super) fn birth(&self) -> &str {
        &self.0.online
    }
}

/// What a source subscribes to beside its rules: as a host application, and for answers to commands.
pub(super) fn filters(config: &SourceConfig) -> Vec<(String, u8)> {
    let replies = config.replies().into_iter().map(|topic| (topic, 1));
    let Some(host) = &config.sparkplug else { return replies.collect() };
    let own = (state::topic(&host.host_id), 1);
    host.groups.iter().flat_map(|group| topic::filters(group)).chain([own]).chain(replies).collect()
}
