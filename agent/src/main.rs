//! The `fieldlog` binary: command line, signals, exit codes.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fieldlog::clock::Clock;
use fieldlog::{check, cli, correct, daemon, telemetry, verify};

/// Durable MQTT event log for gateways: acknowledged means stored.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    /// How much to log: error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "info", env = "FIELDLOG_LOG", value_name = "LEVEL")]
    log: tracing::Level,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the agent in the foreground, as systemd does.
    Run {
        /// The configuration file.
        #[arg(long, default_value = "/etc/fieldlog/fieldlog.toml", value_name = "FILE")]
        config: PathBuf,
        /// Begin a new log when the previous one is missing, empty or blank. Its first record notes this, and the old
        /// snapshots are kept as *.old-epoch. Refused while a log exists.
        #[arg(long)]
        new_epoch: bool,
    },
    /// Check the configuration and list every fault in it.
    CheckConfig {
        /// The configuration file.
        #[arg(long, default_value = "/etc/fieldlog/fieldlog.toml", value_name = "FILE")]
        config: PathBuf,
        /// Print the effective configuration, with presets expanded.
        #[arg(long)]
        show: bool,
    },
    /// Show what would be recorded from a message, one fact per line; no broker is needed.
    Try(fieldlog::trial::TryArgs),
    /// Listen to a broker and show its topics, the preset that takes each, and what would not be recorded.
    Probe(fieldlog::probe::ProbeArgs),
    /// Check the whole log of a stopped agent and report what is intact.
    Verify {
        /// The data directory.
        #[arg(long, default_value = "/var/lib/fieldlog", value_name = "DIR")]
        data_dir: PathBuf,
        /// Compare the chain with a hash that was kept elsewhere, such as the `anchor` in a receiver's report; may be
        /// given several times.
        #[arg(long, value_name = "SEQUENCE:HASH")]
        anchor: Vec<fieldlog_projections::Anchor>,
    },
    /// Set log time back to the wall clock after the clock was ahead; the agent must be stopped.
    CorrectClock {
        /// The data directory.
        #[arg(long, default_value = "/var/lib/fieldlog", value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Copy the log of a running agent, which goes on meanwhile, or of a stopped one.
    Backup(fieldlog::backup::BackupArgs),
    /// Make a data directory of a backup, with a new epoch.
    Restore(fieldlog::backup::RestoreArgs),
    /// Fold the log of a stopped agent up to a moment, and print the digest of the state.
    Replay(fieldlog::replay::ReplayArgs),
    /// Make a data directory of the events of an export, with their provenance.
    Import(fieldlog::import::ImportArgs),
    /// Save what is intact of the damaged log of a stopped agent, in a log of a new epoch.
    Repair(fieldlog::repair::RepairArgs),
    /// Write the events of a running or a stopped agent to stdout, as NDJSON or CSV.
    Export(fieldlog::export::ExportArgs),
    /// Ask a running agent to have a device do something, and say what came of it.
    Command(cli::command::CommandArgs),
    /// List the commands that a running agent knows, newest first.
    Commands(cli::command::CommandsArgs),
    /// Look at the messages that a running agent could not decode; read them again or throw them away.
    Quarantine(cli::quarantine::QuarantineArgs),
    /// Retire, forget or rename a device of a running agent.
    Device(cli::device::DeviceArgs),
    /// Ask a running agent why an attribute has its value: what set it, which command, and the values before.
    Why(cli::why::WhyArgs),
    /// Receive what gateways forward: a reference receiver that writes NDJSON and finds every gap and duplicate.
    Receive(fieldlog::receive::ReceiveArgs),
    /// Try it out: an embedded broker, simulated devices, a receiver, and the agent with its status page.
    #[cfg(feature = "demo")]
    Demo(fieldlog::demo::DemoArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Verb::Run { config, new_epoch } => {
            telemetry::start(cli.log);
            daemon::main(&config, new_epoch)
        }
        Verb::CheckConfig { config, show } => {
            let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
            // If the reader closes our output early, it has read enough.
            let code = check::check_config(&config, show, &mut out, &mut err).unwrap_or(1);
            ExitCode::from(code)
        }
        Verb::Try(args) => ExitCode::from(fieldlog::trial::main(&args)),
        Verb::Probe(args) => {
            telemetry::start(tracing::Level::ERROR);
            ExitCode::from(fieldlog::probe::main(&args))
        }
        Verb::Verify { data_dir, anchor } => match verify::verify_against(&data_dir, &anchor) {
            Ok(report) => ExitCode::from(verify::print(&report, &mut std::io::stdout().lock()).unwrap_or(1)),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{error}");
                ExitCode::from(if error.is_lasting() { verify::EX_DATAERR } else { 74 })
            }
        },
        Verb::CorrectClock { data_dir } => {
            match correct::correct(&data_dir, Clock::system().wall(), &daemon::actor()) {
                Ok(corrected) => {
                    let _ = writeln!(std::io::stdout(), "{corrected}");
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "{error}");
                    ExitCode::from(error.exit_code())
                }
            }
        }
        Verb::Backup(args) => fieldlog::backup::main(&args),
        Verb::Restore(args) => fieldlog::backup::restore_main(&args),
        Verb::Replay(args) => fieldlog::replay::main(&args),
        Verb::Import(args) => fieldlog::import::main(&args),
        Verb::Repair(args) => fieldlog::repair::main(&args),
        Verb::Export(args) => fieldlog::export::main(&args),
        Verb::Command(args) => cli::command::main(&args),
        Verb::Commands(args) => cli::command::list(&args),
        Verb::Quarantine(args) => cli::quarantine::main(&args),
        Verb::Device(args) => cli::device::main(&args),
        Verb::Why(args) => cli::why::main(&args),
        Verb::Receive(args) => {
            telemetry::start(cli.log);
            fieldlog::receive::main(&args)
        }
        #[cfg(feature = "demo")]
        Verb::Demo(args) => {
            telemetry::start(cli.log);
            fieldlog::demo::main(&args)
        }
    }
}
