//! `fieldlog doctor`: opens every file that the configuration names, tries every broker and sink, and checks disk, clock and
//! rights. It takes no message, writes nothing, and changes nothing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::check::files::{self, Finding, Verdict, place_of};
use crate::cli::text::{plain, wrap};
use crate::cli::{NOT_DONE, end};
use crate::client::Failure;
use crate::config::{Config, EXIT_CONFIG};
use crate::words::{complain, say, say_json};

mod agent;
mod broker;
mod machine;
mod sink;

/// Longest that a server is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Arguments of `fieldlog doctor`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing is wrong; 1 something is; 78 the configuration has faults, which are listed."
)]
pub struct DoctorArgs {
    /// The configuration file.
    #[arg(long, default_value = "/etc/fieldlog/fieldlog.toml", value_name = "FILE")]
    config: PathBuf,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `fieldlog doctor`.
pub fn main(args: &DoctorArgs) -> ExitCode {
    end(examined(args))
}

fn examined(args: &DoctorArgs) -> Result<u8, Failure> {
    let config = match Config::load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(faults) => {
            complain(&format!("{faults}\nCorrect this first; `fieldlog check-config` lists it again."));
            return Ok(EXIT_CONFIG);
        }
    };
    let mut all = Vec::new();
    let found = |all: &mut Vec<Finding>, findings: Vec<Finding>| {
        for finding in findings {
            if !args.json {
                say(&line(&finding));
            }
            all.push(finding);
        }
    };
    let place = args.config.display().to_string();
    let head = match config.sources.is_empty() {
        true => Finding::new(
            Verdict::Bad,
            &place,
            "it has no [[source]], so `fieldlog run` does not start; `fieldlog init` writes one",
        ),
        false => Finding::new(Verdict::Good, &place, "the configuration has no faults"),
    };
    found(&mut all, vec![head]);
    found(&mut all, files::examine(&config));
    found(&mut all, machine::examine(&config));
    found(&mut all, agent::examine(&args.config, &config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::internal(format!("cannot start: {error}")))?;
    // Without its files, a connection would fail for the same reason again.
    let usable = |all: &[Finding], place: &str| {
        !all.iter().any(|finding| finding.verdict == Verdict::Bad && finding.place == place)
    };
    for source in &config.sources {
        if usable(&all, &place_of("source", &source.name)) {
            found(&mut all, runtime.block_on(broker::examine_source(source)));
        }
    }
    for target in &config.sinks {
        if usable(&all, &place_of("sink", &target.name)) {
            found(&mut all, runtime.block_on(sink::examine(target)));
        }
    }
    let bad = all.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    match args.json {
        true => say_json(&json!(all.iter().map(as_json).collect::<Vec<_>>())),
        false if bad == 0 => say("\nNothing is wrong.\n"),
        false if bad == 1 => say("\nOne thing is wrong.\n"),
        false => say(&format!("\n{bad} things are wrong.\n")),
    }
    Ok(if bad == 0 { 0 } else { NOT_DONE })
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Unknown => "note",
        Verdict::Bad => "WRONG",
    }
}

fn line(finding: &Finding) -> String {
    let Finding { verdict, place, words } = finding;
    wrap(&format!("{:<7}{}: {}", word(*verdict), plain(place), plain(words)), "       ")
}

fn as_json(finding: &Finding) -> serde_json::Value {
    let verdict = word(finding.verdict).to_lowercase();
    json!({"verdict": verdict, "place": finding.place, "words": finding.words})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line() {
        let finding = Finding::new(Verdict::Bad, "source \"home\"", "no answer\u{1b}");
        assert_eq!(line(&finding), "WRONG  source \"home\": no answer\u{fffd}\n");
        assert_eq!(as_json(&finding)["verdict"], "wrong");
        assert_eq!(line(&Finding::new(Verdict::Good, "clock", "set")), "good   clock: set\n");
    }
}
