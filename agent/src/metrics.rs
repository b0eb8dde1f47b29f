//! Metrics in the OpenMetrics text format. This module keeps no state: a scrape reads the counters of the stages.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fieldlog_projections::{Aggregates, Seq, Time, View};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::histogram::Histogram;
use crate::log::FILE_NAME;
use crate::read_side::{ReadSide, count_devices};

mod alerts;
mod commands;
mod described;
pub mod process;
mod sinks;
mod sources;

/// What [`encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PREFIX: &str = "fieldlog";

/// All metrics, as text. Reads the log's range and the file system, so it must not run on the thread that serves sockets.
///
/// # Errors
/// Never, in practice: the encoder's interface is fallible, writing to a string is not.
pub fn encode(side: &Arc<ReadSide>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.sub_registry_with_prefix(PREFIX).register_collector(Box::new(Metrics(side.clone())));
    registry.register_collector(Box::new(process::Metrics));
    let mut text = String::with_capacity(16 * 1024);
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// All metrics except those of the process.
#[derive(Debug)]
struct Metrics(Arc<ReadSide>);

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (side, out) = (&*self.0, &mut Out(&mut encoder));
        agent(side, out)?;
        log(side, out)?;
        rollups(side, out)?;
        store(side, out)?;
        views(side, out)?;
        commands::encode(side, out)?;
        alerts::encode(side, out)?;
        described::encode(side, out)?;
        state(side, out)?;
        snapshots(side, out)?;
        sinks::encode(&side.sinks.views(), &side.shared.reader, out)?;
        let blocked = u32::from(side.shared.stats.blocked().is_some());
        out.gauge(
            "ingest_blocked",
            "1 while ingest is blocked because the log or the disk is full.",
            blocked,
        )?;
        sources::encode(&side.sources.views(), out)
    }
}

/// Writes metrics. Appends `_total` to the names of counters.
pub(crate) struct Out<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Out<'_, '_> {
    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue + Copy) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue + Copy) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let (sum, count, buckets) = histogram.read();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn seconds(time: Time) -> f64 {
    time.0 as f64 / 1e6
}

fn agent(side: &ReadSide, out: &mut Out<'_, '_>) -> fmt::Result {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("target", std::env::consts::ARCH)];
    let mut info = out.0.encode_descriptor(
        "build",
        "Version and architecture of the running agent.",
        None,
        MetricType::Info,
    )?;
    info.encode_info(&labels)?;
    out.gauge("start_time_seconds", "Unix time at which the agent started.", seconds(side.started))?;
    let beat = Time(side.shared.stats.beat.load(Ordering::Relaxed));
    out.gauge(
        "writer_beat_timestamp_seconds",
        "Unix time of the last iteration of the writer's loop.",
        seconds(beat),
    )
}

fn log(side: &ReadSide, out: &mut Out<'_, '_>) -> fmt::Result {
    let stats = &side.shared.stats;
    let range = side.shared.reader.range().ok().flatten();
    let (first, _) = range.unwrap_or((Seq(0), Seq(0)));
    let head = side.shared.position.borrow().head;
    out.gauge("log_first_sequence", "Position of the oldest record in the log; 0 if it is empty.", first.0)?;
    out.gauge("log_last_sequence", "Position of the newest durable record.", head.0)?;
    out.counter("log_events", "Records committed.", get(&stats.events))?;
    out.counter(
        "log_event_bytes",
        "Bytes of records committed, before compression.",
        get(&stats.event_bytes),
    )?;
    let commits = [
        ([("reason", "delay")], get(&stats.commits_delay)),
        ([("reason", "bytes")], get(&stats.commits_bytes)),
        ([("reason", "window")], get(&stats.commits_window)),
        ([("reason", "internal")], get(&stats.commits_internal)),
    ];
    out.counters("log_commits", "Durable commits, by the reason that made them due.", commits)?;
    out.histogram("log_commit_duration_seconds", "Duration of durable commits.", &stats.commit_duration)?;
    out.counter(
        "messages_settled",
        "Messages fully processed: their records are durable, or they made none.",
        get(&stats.settled),
    )
}

fn rollups(side: &ReadSide, out: &mut Out<'_, '_>) -> fmt::Result {
    let reader = &side.shared.reader;
    // No value if the archive cannot be read; the error is logged when the log is next thinned.
    if let Ok(size) = reader.rollups_size() {
        out.gauge("archive_rows", "Rows of archived aggregates.", size.rows)?;
        out.gauge("archive_bytes", "Size of the archived rows.", size.bytes)?;
    }
    if let Ok(Some(end)) = reader.rollups_end() {
        let period = end.period;
        out.gauge("archive_last_sequence", "Position of the last record in the archive.", period.last.0)?;
        let help = "Log time of the last record in the archive.";
        out.gauge("archive_last_timestamp_seconds", help, seconds(period.last_time))?;
    }
    Ok(())
}

fn store(side: &ReadSide, out: &mut Out<'_, '_>) -> fmt::Result {
    let (disk, dir) = (&side.shared.disk, side.config.borrow().data_dir.clone());
    out.counter(
        "store_written_bytes",
        "Bytes written to the log and the journal.",
        get(&disk.bytes_written),
    )?;
    out.counter("store_syncs", "fsync calls on the log and the journal.", get(&disk.syncs))?;
    out.counter("journal_commits", "Commits that went to the journal.", get(&disk.journal_commits))?;
    let journal = u32::from(side.shared.stats.no_journal.get().is_none());
    out.gauge("journal_used", "1 if small commits go to the journal.", journal)?;
    out.counter("store_sync_seconds", "Time spent in fsync.", get(&disk.sync_micros) as f64 / 1e6)?;
    if let Ok(metadata) = std::fs::metadata(dir.join(FILE_NAME)) {
        out.gauge("store_file_bytes", "Size of the log file.", metadata.len())?;
    }
    if let Ok(fs) = rustix::fs::statvfs(&dir) {
        let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
        out.gauge("store_free_bytes", "Free space of the file system with the log.", bytes(fs.f_bavail))?;
        out.gauge("store_size_bytes", "Size of the file system with the log.", bytes(fs.f_blocks))?;
    }
    Ok(())
}

fn views(side: &ReadSide, out: &mut Out<'_, '_>) -> fmt::Result {
    let position = *side.shared.position.borrow();
    let lag = position.head.0.saturating_sub(position.applied.0);
    out.gauge("projection_applied_sequence", "Position of the last record in the view.", position.applied.0)?;
    out.gauge("projection_lag_events", "Durable records that are not in the view yet.", lag)?;
    let rebuild = &side.shared.rebuild;
    let rebuilding = rebuild.folds();
    let folds = View::FOLDS.iter().map(|fold| ([("fold", fold.name)], u32::from(rebuilding.contains(fold))));
    out.gauges("fold_rebuilding", "1 while this part of the view is being rebuilt from the log.", folds)?;
    let aggregates = u32::from(rebuilding.contains(&Aggregates::ID));
    out.gauge("aggregates_rebuilding", "1 while the aggregates are being rebuilt.", aggregates)?;
    out.gauge(
        "aggregates_rebuilt_sequence",
        "Position of the last record that the current or last rebuild has processed.",
        get(&rebuild.applied),
    )?;
    let counts = {
        let view = side.shared.view.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        count_devices(&view.devices)
    };
    let devices = [
        ([("state", "online")], counts.online as u64),
        ([("state", "offline")], counts.offline as u64),
        ([("state", "unknown")], counts.unknown as u64),
        ([("state", "retired")], counts.retired as u64),
    ];
    out.gauges("devices", "Devices, by availability; retired ones separately.", devices)
}

fn state(side: &ReadSide, out: &mut Out<'_, '_>) -> fmt::Result {
    let state = side.shared.stats.state.get();
    out.gauge("state_bytes", "Memory counted for names, values, aggregates and topics.", state.bytes)?;
    out.gauge("state_bytes_max", "Limit of that memory, limits.state_bytes_max.", state.bytes_max)?;
    out.counter(
        "state_refused",
        "Devices, attributes and values refused because state_bytes_max was reached.",
        state.refused,
    )?;
    out.counter("devices_forgotten", "Retired devices forgotten to make room.", state.forgotten)
}

fn snapshots(side: &ReadSide, out: &mut Out<'_, '_>) -> fmt::Result {
    let stats = &side.shared.stats;
    out.counter("snapshots", "Snapshots written.", get(&stats.snapshots))?;
    out.counter("snapshot_errors", "Failed attempts to write a snapshot.", get(&stats.snapshot_errors))?;
    out.gauge("snapshot_last_sequence", "Position of the last snapshot.", get(&stats.snapshot_seq))?;
    out.gauge("snapshot_bytes", "Size of the last snapshot.", get(&stats.snapshot_bytes))?;
    let help = "Size of the sparse snapshots from which states at past moments are replayed.";
    out.gauge("snapshot_past_bytes", help, get(&stats.past_bytes))?;
    let last = Time(stats.snapshot_time.load(Ordering::Relaxed));
    if last.0 != 0 {
        let help = "Unix time of the last snapshot.";
        out.gauge("snapshot_last_success_timestamp_seconds", help, seconds(last))?;
    }
    Ok(())
}
