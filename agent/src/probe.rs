//! `fieldlog probe`: listens at a broker for a while, and reports the topics, the preset that takes each, and what would
//! not be recorded. It stores nothing, sends no acknowledgements, and keeps no session.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{Config, Decoder, EXIT_CONFIG, Rule, SourceConfig};
use crate::ingest::{self, SourceStatus};
use crate::message::{Delivery, SourceId};
use crate::words::{complain, say, say_json};
use fieldlog_rules::decode::Zone;

mod heard;
mod report;
mod suggest;

use heard::Heard;
use report::Report;

/// Exit code for unusable arguments, `EX_USAGE` of sysexits.
const EXIT_USAGE: u8 = 64;
/// Exit code if the broker could not be reached, `EX_UNAVAILABLE` of sysexits.
const EXIT_UNAVAILABLE: u8 = 69;

/// Arguments of `fieldlog probe`.
#[derive(Clone, Debug, clap::Args)]
pub struct ProbeArgs {
    /// The configuration file.
    #[arg(long, default_value = "/etc/fieldlog/fieldlog.toml", value_name = "FILE")]
    config: PathBuf,
    /// The source whose broker to listen to; needed if the configuration has several sources.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Listen to this broker instead, such as mqtt://127.0.0.1:1883, without user name and password.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["config", "source"])]
    address: Option<String>,
    /// How long to listen. Allow more time for devices that report rarely and retain nothing at the broker.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// The topics to listen to.
    #[arg(long, default_value = "#", value_name = "FILTER")]
    filter: String,
    /// Print what was heard as one JSON object; `additions` is what to add to the source, in TOML.
    #[arg(long)]
    json: bool,
}

/// Runs `fieldlog probe`; returns the exit code.
pub fn main(args: &ProbeArgs) -> u8 {
    match probed(args) {
        Ok(report) => {
            match args.json {
                true => say_json(&report.json),
                false => say(&report.text),
            }
            0
        }
        Err((code, words)) => {
            complain(&words);
            code
        }
    }
}

fn probed(args: &ProbeArgs) -> Result<Report, (u8, String)> {
    let (config, source) = match &args.address {
        Some(address) => (bare_config(address)?, None),
        None => {
            let loaded = Config::load(&args.config).map_err(|faults| (EXIT_CONFIG, faults.to_string()))?;
            (loaded.config, args.source.as_deref())
        }
    };
    let source = chosen(&config, source).map_err(|words| (EXIT_USAGE, words))?;
    let topic = rule_topic(&args.filter).map_err(|words| (EXIT_USAGE, words))?;
    let place = source.address.to_string();
    complain(&format!(
        "listening to {} at {place} for {} s; Ctrl-C stops it early",
        args.filter, args.seconds
    ));
    let heard = listen(listener(source.clone(), &topic), Duration::from_secs(u64::from(args.seconds)))
        .map_err(|words| (EXIT_UNAVAILABLE, words))?;
    let own = args.address.is_none().then(|| (config.clone(), source.name.clone()));
    Ok(report::report(&heard, own, Zone::system(), Clock::system().wall()))
}

/// Listens at the broker of a source for this long. Returns the report, and what to add to the source in TOML; nothing if
/// nothing was heard that could be recorded.
pub(crate) fn suggest(source: &SourceConfig, seconds: u32) -> Result<(String, String), String> {
    let time = Duration::from_secs(u64::from(seconds));
    let heard = listen(listener(source.clone(), "#rest"), time)?;
    let Report { text, additions, .. } = report::report(&heard, None, Zone::system(), Clock::system().wall());
    Ok((text, additions))
}

/// A configuration with one source and no rules.
fn bare_config(address: &str) -> Result<Config, (u8, String)> {
    let quoted = serde_json::Value::from(address);
    let text = format!(
        "[[source]]\nname = \"probe\"\naddress = {quoted}\n[[source.subscription]]\ntopic = \"#rest\"\ndecoder = \"ignore\"\n"
    );
    Config::from_toml(&text, "--address").map_err(|faults| (EXIT_CONFIG, faults.to_string()))
}

fn chosen<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c SourceConfig, String> {
    let names = || config.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, config.sources.as_slice()) {
        (_, []) => Err("the configuration has no [[source]]; give the broker with --address".to_owned()),
        (None, [source]) => Ok(source),
        (None, _) => {
            Err(format!("the configuration has several sources: {}; choose one with --source", names()))
        }
        (Some(name), sources) => sources
            .iter()
            .find(|source| source.name == name)
            .ok_or_else(|| format!("the configuration has no source {name:?}; it has {}", names())),
    }
}

/// A filter as the topic of a rule, with captures for wildcards.
fn rule_topic(filter: &str) -> Result<String, String> {
    fieldlog_rules::topic::check_filter(filter)
        .map_err(|error| format!("{filter:?} is not a topic filter: {error}; write it as \"home/#\""))?;
    let levels = filter.split('/').enumerate().map(|(index, level)| match level {
        "+" => format!("+level{index}"),
        "#" => "#rest".to_owned(),
        other => other.to_owned(),
    });
    Ok(levels.collect::<Vec<_>>().join("/"))
}

/// The source for listening only: a temporary session, no will, no acknowledgements.
fn listener(source: SourceConfig, topic: &str) -> SourceConfig {
    let everything = Rule { qos: 0, ..Rule::new(topic, Decoder::Scalar) };
    SourceConfig {
        client_id: format!("fieldlog-probe-{:08x}", std::process::id()),
        session_expiry: Duration::ZERO,
        will: None,
        rules: vec![everything],
        ..source
    }
}

/// Ends when the broker has refused the connection for a reason that does not go away by itself.
async fn hopeless(status: &SourceStatus) {
    while status.connections.get() > 0 || status.details().advice.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Listens for this long, or until Ctrl-C.
fn listen(source: SourceConfig, time: Duration) -> Result<Heard, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the process cannot wait for the network: {error}"))?;
    let heard = Arc::new(Mutex::new(Heard::default()));
    let status = Arc::new(SourceStatus::default());
    let name = source.address.to_string();
    let deliver = {
        let heard = Arc::clone(&heard);
        move |delivery: Delivery| {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            delivery.messages.iter().for_each(|message| heard.add(message));
            // No acknowledgement is sent, but this frees the room that the messages took.
            delivery.acks.release(delivery.messages.len(), &[]);
            Ok(())
        }
    };
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let task = ingest::run(SourceId(0), source, deliver, Clock::system(), Arc::clone(&status), stopped);
        let task = tokio::spawn(task);
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = tokio::signal::ctrl_c() => {}
            () = hopeless(&status) => {}
        }
        let _ = stop.send(true);
        let _ = task.await;
    });
    let details = status.details();
    if status.connections.get() == 0 {
        let why = details.last_error.unwrap_or_else(|| "it has not answered yet".to_owned());
        return Err(format!("the broker at {name} could not be listened to: {why}"));
    }
    if let Some((filter, why)) = details.refused.first() {
        return Err(format!(
            "the broker at {name} refuses the subscription to {filter}: {why}; try --filter"
        ));
    }
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_becomes_the_topic_of_a_rule() {
        assert_eq!(rule_topic("#"), Ok("#rest".to_owned()));
        assert_eq!(rule_topic("home/+/x/#"), Ok("home/+level1/x/#rest".to_owned()));
        let error = rule_topic("a/#/b").unwrap_err();
        assert!(error.starts_with("\"a/#/b\" is not a topic filter: "), "{error}");
    }

    #[test]
    fn a_source_must_be_named_where_there_are_several() {
        let source = |name: &str| {
            format!(
                "[[source]]\nname = {name:?}\naddress = \"mqtt://localhost\"\nclient_id = {name:?}\n\
                 [[source.subscription]]\npreset = \"tasmota\"\n"
            )
        };
        let both = Config::from_toml(&(source("a") + &source("b")), "test").unwrap();
        assert_eq!(chosen(&both, Some("b")).map(|source| source.name.as_str()), Ok("b"));
        assert_eq!(
            chosen(&both, None).map(|_| ()),
            Err("the configuration has several sources: a, b; choose one with --source".to_owned())
        );
        assert_eq!(
            chosen(&both, Some("c")).map(|_| ()),
            Err("the configuration has no source \"c\"; it has a, b".to_owned())
        );
    }
}
