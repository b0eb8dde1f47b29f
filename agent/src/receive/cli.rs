//! The command line of `fieldlog receive`, its signals and its exit code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{MqttOptions, Out, ReceiveError, ReceiveOptions, run};
use crate::daemon;
use crate::words::{complain, say};

/// Exit code if something is missing or contradictory.
const EXIT_INCOMPLETE: u8 = 1;

/// Arguments of `fieldlog receive`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReceiveArgs {
    /// Subscribe to parcels at this broker (MQTT 5).
    #[arg(long, value_name = "mqtt://HOST:PORT")]
    mqtt: Option<String>,
    /// Topic filter; may be given several times.
    #[arg(long, value_name = "FILTER", default_value = "fieldlog/+/events")]
    topic: Vec<String>,
    /// Name of the session that the broker keeps for this receiver.
    #[arg(long, value_name = "ID", default_value = "fieldlog-receive")]
    client_id: String,
    /// Accept parcels by HTTP POST at this address; port 0 picks a free port. Over HTTP, the receiver refuses a parcel
    /// of another history (409). A broker has already acknowledged such a parcel, so the receiver takes it and reports
    /// a FORK.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Consume a JetStream stream of this NATS server.
    #[cfg(feature = "nats")]
    #[arg(long, value_name = "nats://HOST:PORT")]
    nats: Option<String>,
    /// Name of the stream.
    #[cfg(feature = "nats")]
    #[arg(long, value_name = "NAME", default_value = "FIELDLOG")]
    stream: String,
    /// Consume only this subject of the stream.
    #[cfg(feature = "nats")]
    #[arg(long, value_name = "FILTER", default_value = "fieldlog.*.events")]
    subject: String,
    /// Append the events to this file, one CloudEvent per line; `-` is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    /// Keep the receiver's state in this file. After a restart, the receiver continues and writes no line twice.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Sync the files before acknowledging a parcel, so that acknowledged events survive a power loss.
    #[arg(long)]
    fsync: bool,
    /// Do not report events before the first one received as missing.
    #[arg(long)]
    joined_late: bool,
    /// Refuse parcels larger than this.
    #[arg(long, value_name = "BYTES", default_value_t = 32 * 1024 * 1024)]
    parcel_bytes_max: usize,
    /// Log a report every S seconds.
    #[arg(long, value_name = "S")]
    report_every: Option<u64>,
}

impl ReceiveArgs {
    fn options(&self) -> Result<ReceiveOptions, String> {
        let mqtt = self.mqtt.as_deref();
        let mqtt = mqtt
            .map(|address| MqttOptions::parse(address, self.topic.clone(), &self.client_id))
            .transpose()?;
        let options = ReceiveOptions {
            mqtt,
            http: self.http,
            #[cfg(feature = "nats")]
            nats: self.nats.as_ref().map(|server| super::NatsOptions {
                server: server.clone(),
                stream: self.stream.clone(),
                subject: self.subject.clone(),
                consumer: self.client_id.clone(),
            }),
            out: if self.out.as_os_str() == "-" { Out::Stdout } else { Out::File(self.out.clone()) },
            state: self.state.clone(),
            fsync: self.fsync,
            joined_late: self.joined_late,
            parcel_bytes_max: self.parcel_bytes_max,
            report_every: self.report_every.filter(|s| *s > 0).map(Duration::from_secs),
        };
        #[cfg(feature = "nats")]
        let nats = options.nats.is_some();
        #[cfg(not(feature = "nats"))]
        let nats = false;
        if options.mqtt.is_none() && options.http.is_none() && !nats {
            return Err(
                "nothing to receive from: give --mqtt mqtt://HOST:PORT or --http 127.0.0.1:PORT".into()
            );
        }
        Ok(options)
    }
}

/// Receives until SIGINT or SIGTERM, then reports. Exit code 0 if nothing is missing or contradictory.
pub fn main(args: &ReceiveArgs) -> ExitCode {
    let options = match args.options() {
        Ok(options) => options,
        Err(error) => {
            complain(&error);
            return ExitCode::from(64);
        }
    };
    let lines_on_stdout = options.out == Out::Stdout;
    let runtime = match daemon::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::from(71);
        }
    };
    let result = runtime.block_on(receive(options));
    runtime.shutdown_timeout(Duration::from_secs(2));
    match result {
        Ok(report) if lines_on_stdout => {
            complain(report.to_string().trim_end());
            verdict(report.is_clean())
        }
        Ok(report) => {
            say(&report.to_string());
            verdict(report.is_clean())
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(if matches!(error, ReceiveError::Listen { .. }) { 69 } else { 74 })
        }
    }
}

fn verdict(clean: bool) -> ExitCode {
    if clean { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) }
}

async fn receive(options: ReceiveOptions) -> Result<fieldlog_wire::ledger::Report, ReceiveError> {
    let (shutdown, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::error!("cannot listen for signals; only SIGKILL can stop the receiver");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.send_replace(true);
    });
    run(options, stopped, |handle| {
        if let Some(address) = handle.http {
            tracing::info!("parcels by POST to http://{address}/, report at http://{address}/report");
        }
    })
    .await
}
