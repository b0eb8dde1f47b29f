//! All records of a log as parcels, as a sink sends them: with the chain, from which a hub sees that none is missing.

use std::io::Write;
use std::sync::RwLock;

use fieldlog_projections::Seq;
use fieldlog_wire::{Lane, parcels};

use super::progress::Progress;
use super::{ExportArgs, Stop};
use crate::client::Failure;
use crate::forward::filter::Filter;
use crate::forward::parcel::{Builder, Format, Limits, Span};
use crate::stopped::Stopped;

/// As large as those of a sink.
const LIMITS: Limits = Limits { events_max: 5_000, bytes_max: 1 << 20 };

pub(super) fn export(args: &ExportArgs, out: impl Write) -> Result<(), Failure> {
    let ExportArgs { from, to, device, types, .. } = args;
    if from.is_some() || to.is_some() || device.is_some() || types.is_some() {
        return Err(Failure::usage(
            "parcels have all records, or their chain would prove nothing; leave out --from, --to, --device and --type",
        ));
    }
    let Some(dir) = &args.data_dir else {
        return Err(Failure::usage(
            "parcels are read from a data directory: stop the agent and name its --data-dir, or make a copy with \
             `fieldlog backup --to DIR` and name that",
        ));
    };
    let stopped = Stopped::open(dir)?;
    let mut progress = Progress::new();
    let written = write(&stopped, args.reach.gateway_id()?, &mut progress, out);
    progress.end();
    match written {
        Err(Stop::Failed(failure)) => Err(failure),
        Ok(()) | Err(Stop::Enough) => Ok(()),
    }
}

/// Writes the file. Only a complete one has its end.
fn write(
    stopped: &Stopped,
    gateway: String,
    progress: &mut Progress,
    mut out: impl Write,
) -> Result<(), Stop> {
    let (head, reader) = (stopped.head(), stopped.reader());
    let view = RwLock::new(stopped.view(head).map_err(Failure::from)?);
    let mut builder = Builder::new(gateway.into(), stopped.epoch(), Filter::default(), Format::Compact);
    let mut span = Span { lane: Lane::Backlog, first: Seq(1), last_max: head, head, limits: LIMITS };
    out.write_all(parcels::MAGIC)?;
    while let Some(parcel) = builder.build(&reader, &view, &span).map_err(Failure::from)? {
        out.write_all(&parcels::head(&parcel.compact))?;
        out.write_all(&parcel.compact)?;
        span.first = parcel.manifest.last.next();
        progress.at(parcel.manifest.last, head);
    }
    out.write_all(&parcels::END)?;
    Ok(out.flush()?)
}
