//! The command line: its subcommands, and what each of them runs.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::clock::Clock;
use crate::words::say_json;
use crate::{check, cli, correct, daemon, telemetry, verify};

#[cfg(feature = "completions")]
pub mod completions;
#[cfg(feature = "completions")]
mod man;

/// Exit code of arguments that cannot be used.
const EX_USAGE: u8 = 64;

/// Durable MQTT event log for gateways: acknowledged means stored.
#[derive(Debug, Parser)]
#[command(name = "fieldlog", version, about, max_term_width = 100, after_help = cli::EXIT_CODES)]
pub struct CommandLine {
    /// How much to log: error, warn, info or debug.
    #[arg(long, global = true, default_value = "info", env = "FIELDLOG_LOG", value_name = "LEVEL")]
    log: tracing::Level,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
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
    /// Write a configuration: ask for the broker, listen there, and choose what fits it. Never overwrites.
    Init(crate::init::InitArgs),
    /// Check the configuration and list every fault in it.
    CheckConfig {
        /// The configuration file.
        #[arg(long, default_value = "/etc/fieldlog/fieldlog.toml", value_name = "FILE")]
        config: PathBuf,
        /// Print the effective configuration, with presets expanded.
        #[arg(long, conflicts_with = "json")]
        show: bool,
        /// Print what was found as one JSON object: `faults` and `warnings`, each with its place, and the summary.
        #[arg(long)]
        json: bool,
    },
    /// Check everything that fieldlog needs: files, brokers, sinks, disk, clock and rights; says what is wrong and what to do.
    Doctor(crate::doctor::DoctorArgs),
    /// Listen to a broker and show its topics, the preset that takes each, and what would not be recorded.
    Probe(crate::probe::ProbeArgs),
    /// Show what would be recorded from a message, one fact per line; no broker is needed.
    Try(crate::trial::TryArgs),
    /// List the presets, or print the rules of one.
    Presets(cli::presets::PresetsArgs),
    /// Say whether all is well, and what to do if not.
    Status(cli::status::StatusArgs),
    /// List the devices of a running agent with their values.
    Devices(cli::devices::DevicesArgs),
    /// Show a device of a running agent; retire, forget or rename it.
    Device(cli::device::DeviceArgs),
    /// Show the state of all devices, or of one, at a past moment.
    At(cli::at::AtArgs),
    /// Show the events of a running agent, the newest or a part of them, or follow them as they come.
    Events(cli::events::EventsArgs),
    /// Show what a device has reported.
    History(cli::events::HistoryArgs),
    /// Ask a running agent why an attribute has its value: what set it, which command, and the values before.
    Why(cli::why::WhyArgs),
    /// Ask a running agent to have a device do something, and say what came of it.
    Command(cli::command::CommandArgs),
    /// List the commands that a running agent knows, newest first.
    Commands(cli::command::CommandsArgs),
    /// List the alerts that are open: what the rules of the configuration find wrong.
    Alerts(cli::alerts::AlertsArgs),
    /// List the sinks of a running agent, with what waits for them.
    Sinks(cli::sinks::SinksArgs),
    /// Look at the messages that a running agent could not decode; read them again or throw them away.
    Quarantine(cli::quarantine::QuarantineArgs),
    /// Have a running agent write its state to disk, so that its next start is quick.
    Snapshot(cli::snapshot::SnapshotArgs),
    /// Copy the log of a running agent, which goes on meanwhile, or of a stopped one.
    Backup(crate::backup::BackupArgs),
    /// Make a data directory of a backup, with a new epoch.
    Restore(crate::backup::RestoreArgs),
    /// Write the events of a running or a stopped agent to stdout, as NDJSON or CSV.
    Export(crate::export::ExportArgs),
    /// Make a data directory of the events of an export, with their provenance.
    Import(crate::import::ImportArgs),
    /// Check the whole log of a stopped agent and report what is intact.
    Verify {
        /// The data directory.
        #[arg(long, default_value = "/var/lib/fieldlog", value_name = "DIR")]
        data_dir: PathBuf,
        /// Compare the chain with a hash that was kept elsewhere, such as the `anchor` in a receiver's report; may be
        /// given several times.
        #[arg(long, value_name = "SEQUENCE:HASH")]
        anchor: Vec<fieldlog_projections::Anchor>,
        /// Print the report as one JSON object; `fault` is null if nothing is damaged.
        #[arg(long)]
        json: bool,
    },
    /// Save what is intact of the damaged log of a stopped agent, in a log of a new epoch.
    Repair(crate::repair::RepairArgs),
    /// Fold the log of a stopped agent up to a moment, and print the digest of the state.
    Replay(crate::replay::ReplayArgs),
    /// Set log time back to the wall clock after the clock was ahead; the agent must be stopped.
    CorrectClock {
        /// The data directory.
        #[arg(long, default_value = "/var/lib/fieldlog", value_name = "DIR")]
        data_dir: PathBuf,
        /// Print what was done as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Receive what gateways forward: a reference receiver that writes NDJSON and finds every gap and duplicate.
    Receive(crate::receive::ReceiveArgs),
    /// Try it out: an embedded broker, simulated devices, a receiver, and the agent with its status page.
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArgs),
    /// Print a script with which a shell completes the arguments of fieldlog.
    #[cfg(feature = "completions")]
    #[command(
        after_help = "For the present shell: source <(fieldlog completions bash). The Debian package has installed them."
    )]
    Completions {
        /// The shell.
        shell: completions::Shell,
    },
    /// Print the man page of fieldlog, or of one of its commands.
    #[cfg(feature = "completions")]
    #[command(
        after_help = "To read it: fieldlog man status | man -l -. The Debian package has installed all of them."
    )]
    Man {
        /// The command, such as: status, or quarantine requeue [default: fieldlog itself].
        command: Vec<String>,
    },
}

/// Runs what the arguments of this process ask for.
pub fn main() -> ExitCode {
    let cli = match CommandLine::try_parse() {
        Ok(cli) => cli,
        Err(said) => {
            // A closed pipe has read enough.
            let _ = said.print();
            return ExitCode::from(if said.use_stderr() { EX_USAGE } else { 0 });
        }
    };
    match cli.command {
        Verb::Run { config, new_epoch } => {
            telemetry::start(cli.log);
            daemon::main(&config, new_epoch)
        }
        Verb::CheckConfig { config, json: true, .. } => {
            let (json, code) = check::as_json(&config);
            say_json(&json);
            ExitCode::from(code)
        }
        Verb::CheckConfig { config, show, .. } => {
            let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
            // If the reader closes our output early, it has read enough.
            let code = check::check_config(&config, show, &mut out, &mut err).unwrap_or(1);
            ExitCode::from(code)
        }
        Verb::Try(args) => ExitCode::from(crate::trial::main(&args)),
        // They say themselves why they fail, which a log would say again.
        Verb::Probe(args) => ExitCode::from(crate::probe::main(&args)),
        Verb::Verify { data_dir, anchor, json } => match verify::verify_against(&data_dir, &anchor) {
            Ok(report) if json => {
                say_json(&verify::as_json(&report));
                ExitCode::from(verify::exit_code(&report))
            }
            Ok(report) => ExitCode::from(verify::print(&report, &mut std::io::stdout().lock()).unwrap_or(1)),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{error}");
                ExitCode::from(if error.is_lasting() { verify::EX_DATAERR } else { 74 })
            }
        },
        Verb::CorrectClock { data_dir, json } => {
            match correct::correct(&data_dir, Clock::system().wall(), &daemon::actor()) {
                Ok(corrected) if json => {
                    say_json(&corrected.as_json());
                    ExitCode::SUCCESS
                }
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
        Verb::Backup(args) => crate::backup::main(&args),
        Verb::Restore(args) => crate::backup::restore_main(&args),
        Verb::Replay(args) => crate::replay::main(&args),
        Verb::Import(args) => crate::import::main(&args),
        Verb::Repair(args) => crate::repair::main(&args),
        Verb::Export(args) => crate::export::main(&args),
        Verb::Command(args) => cli::command::main(&args),
        Verb::Commands(args) => cli::command::list(&args),
        Verb::Alerts(args) => cli::alerts::main(&args),
        Verb::Quarantine(args) => cli::quarantine::main(&args),
        Verb::Device(args) => cli::device::main(&args),
        Verb::Why(args) => cli::why::main(&args),
        Verb::Status(args) => cli::status::main(&args),
        Verb::Devices(args) => cli::devices::main(&args),
        Verb::At(args) => cli::at::main(&args),
        Verb::Events(args) => cli::events::main(&args),
        Verb::History(args) => cli::events::history(&args),
        Verb::Sinks(args) => cli::sinks::main(&args),
        Verb::Snapshot(args) => cli::snapshot::main(&args),
        Verb::Doctor(args) => crate::doctor::main(&args),
        Verb::Init(args) => crate::init::main(&args),
        Verb::Presets(args) => cli::presets::main(&args),
        Verb::Receive(args) => {
            telemetry::start(cli.log);
            crate::receive::main(&args)
        }
        #[cfg(feature = "completions")]
        Verb::Completions { shell } => {
            completions::print(shell);
            ExitCode::SUCCESS
        }
        #[cfg(feature = "completions")]
        Verb::Man { command } => man::print(&command),
        #[cfg(feature = "demo")]
        Verb::Demo(args) => {
            telemetry::start(cli.log);
            crate::demo::main(&args)
        }
    }
}
