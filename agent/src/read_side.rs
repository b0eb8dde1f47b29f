//! The data behind HTTP and metrics: the view, the sources, the sinks, the current configuration.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};

use fieldlog_projections::alert::Severity;
use fieldlog_projections::fact::Availability;
use fieldlog_projections::{Alerts, Commands, Devices, Time};
use fieldlog_wire::api::status::DeviceCounts;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::Config;
use crate::forward::sinks::Sinks;
use crate::notify::Notifiers;
use crate::observe::Heard;
use crate::shared::Shared;
use crate::sources::Sources;
use crate::writer::Input;

/// The data behind HTTP and metrics.
#[derive(Debug)]
pub struct ReadSide {
    /// View, position and log.
    pub shared: Arc<Shared>,
    /// The current configuration.
    pub config: watch::Receiver<Arc<Config>>,
    /// When devices were last heard.
    pub heard: Arc<Heard>,
    /// The sources and their counters.
    pub sources: Arc<Sources>,
    /// The sinks and their counters.
    pub sinks: Arc<Sinks>,
    /// Who is told of alerts.
    pub notifiers: Arc<Notifiers>,
    /// When the agent started.
    pub started: Time,
    /// The wall clock.
    pub clock: Clock,
    /// What the writer is told.
    pub inputs: Sender<Input>,
}

impl ReadSide {
    /// The wall clock now.
    pub(crate) fn now(&self) -> Time {
        self.clock.wall()
    }

    /// Bytes written per day to log, journal and snapshots, at the rate since the start; `None` at the start.
    pub(crate) fn bytes_written_per_day(&self) -> Option<f64> {
        let (disk, stats) = (&self.shared.disk.bytes_written, &self.shared.stats.snapshot_bytes_written);
        let bytes = disk.load(Ordering::Relaxed) + stats.load(Ordering::Relaxed);
        let uptime_s = self.now().micros_since(self.started) as f64 / 1e6;
        (uptime_s > 0.0).then(|| bytes as f64 * 86_400.0 / uptime_s)
    }

    /// How many commands are not closed; `None` while they are being rebuilt from the log.
    pub(crate) fn open_commands(&self) -> Option<usize> {
        let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
        (!view.is_stale(Commands::ID)).then(|| view.commands.open().len())
    }

    /// How many alerts are open, by severity; `None` while they are being rebuilt from the log.
    pub(crate) fn open_alerts(&self) -> Option<[u64; Severity::ALL.len()]> {
        let view = self.shared.view.read().unwrap_or_else(PoisonError::into_inner);
        (!view.is_stale(Alerts::ID)).then(|| {
            let mut open = [0; Severity::ALL.len()];
            view.alerts.iter().for_each(|(_, one)| open[one.alert.severity as usize] += 1);
            open
        })
    }
}

/// Counts devices by state.
pub(crate) fn count_devices(devices: &Devices) -> DeviceCounts {
    let mut counts = DeviceCounts::default();
    for (_, device) in devices.iter() {
        if device.retired {
            counts.retired += 1;
            continue;
        }
        counts.total += 1;
        match devices.effective_availability(device).0 {
            Availability::Online => counts.online += 1,
            Availability::Offline => counts.offline += 1,
            Availability::Unknown => counts.unknown += 1,
        }
    }
    counts
}
