//! The command line of `fieldlog try`.

use std::fs;
use std::path::{Path, PathBuf};

use fieldlog_wire::api::commands::CommandBody;
use fieldlog_wire::json::base16;
use serde_json::json;

use super::Trial;
use crate::clock::Clock;
use crate::config::{Config, EXIT_CONFIG};
use crate::words::{complain, number, say, say_json};
use fieldlog_rules::decode::Zone;
use fieldlog_rules::topic;

/// Exit code for unusable arguments, `EX_USAGE` of sysexits.
const EXIT_USAGE: u8 = 64;

/// Arguments of `fieldlog try`.
#[derive(Clone, Debug, clap::Args)]
pub struct TryArgs {
    /// The topic. If given once, it applies to every payload; if given several times, each applies to the payload in
    /// the same place.
    #[arg(long, value_name = "TOPIC", required = true)]
    topic: Vec<String>,
    /// The payload as text; may be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, group = "payloads")]
    payload: Vec<String>,
    /// A file that holds the payload; may be given several times.
    #[arg(long, value_name = "FILE", group = "payloads")]
    payload_file: Vec<PathBuf>,
    /// The payload as hexadecimal digits, spaces allowed; may be given several times.
    #[arg(long, value_name = "HEX", group = "payloads")]
    payload_hex: Vec<String>,
    /// Treat the message as retained, as the broker sends it after a new subscription.
    #[arg(long)]
    retain: bool,
    /// The configuration file.
    #[arg(long, default_value = "/etc/fieldlog/fieldlog.toml", value_name = "FILE")]
    config: PathBuf,
    /// The source whose rules to try; needed if the configuration has several sources.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Try this preset instead of a configuration.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["config", "source"])]
    preset: Option<String>,
    /// The beginning of the preset's topics [default: the preset's own].
    #[arg(long, value_name = "TOPIC", requires = "preset")]
    base: Option<String>,
    /// A command to the device --device, as in a request without key and time to live, such as
    /// '{"attribute":"state","value":"ON"}': says what would be published.
    #[arg(long, value_name = "JSON", requires = "device")]
    command: Option<String>,
    /// The id of the device that the command is for; without a command, says what it can be told.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// The command comes after this many messages; those after it are what the device answers [default: all].
    #[arg(long, value_name = "COUNT", requires = "command")]
    command_after: Option<usize>,
    /// Print `lines` as one JSON object: each with its `text`, and the `topic` of the message that it is about; null
    /// for a command.
    #[arg(long)]
    json: bool,
}

/// Runs `fieldlog try`; returns the exit code.
pub fn main(args: &TryArgs) -> u8 {
    match tried(args) {
        Ok(lines) if args.json => {
            let line = |(topic, text): &Line<'_>| json!({"topic": topic, "text": text});
            say_json(&json!({"lines": lines.iter().map(line).collect::<Vec<_>>()}));
            0
        }
        Ok(lines) => {
            lines.iter().for_each(|(_, line)| say(&format!("{line}\n")));
            0
        }
        Err((code, words)) => {
            complain(&words);
            code
        }
    }
}

/// A line, with the topic of the message that it is about, unless it is about a command.
type Line<'a> = (Option<&'a str>, String);

fn tried(args: &TryArgs) -> Result<Vec<Line<'_>>, (u8, String)> {
    let usage = |words: String| (EXIT_USAGE, words);
    let payloads = payloads(args).map_err(usage)?;
    let topics = args.topic.len();
    if topics != 1 && topics != payloads.len() {
        let words = format!(
            "there are {} and {}; give each payload a topic, or one to all",
            number(topics as u64, "topic"),
            number(payloads.len() as u64, "payload"),
        );
        return Err(usage(words));
    }
    for topic in &args.topic {
        topic::check_name(topic)
            .map_err(|error| usage(format!("{topic:?} is not the topic of a message: {error}")))?;
    }
    let config = match &args.preset {
        Some(preset) => Config::from_toml(&preset_source(preset, args.base.as_deref()), "--preset"),
        None => Config::load(&args.config).map(|loaded| loaded.config),
    };
    let config = config.map_err(|faults| (EXIT_CONFIG, faults.to_string()))?;
    let now = Clock::system().wall();
    let mut trial = Trial::new(config, args.source.as_deref(), now, Zone::system())
        .map_err(|error| usage(error.to_string()))?;
    let mut all = Vec::new();
    let command = args.command.as_deref().map(body).transpose().map_err(usage)?;
    let command = command.as_ref().zip(args.device.as_deref());
    let after = args.command_after.unwrap_or(payloads.len()).min(payloads.len());
    for (index, (topic, payload)) in args.topic.iter().cycle().zip(&payloads).enumerate() {
        if let Some((body, device)) = command.filter(|_| index == after) {
            all.push((None, asked(&mut trial, device, body)));
        }
        let lines = trial.observe(topic, payload, args.retain).map_err(|error| (1, error.to_string()))?;
        all.extend(lines.into_iter().map(|line| (Some(topic.as_str()), line)));
    }
    match (command, &args.device) {
        (Some((body, device)), _) if after == payloads.len() => {
            all.push((None, asked(&mut trial, device, body)));
        }
        (None, Some(device)) => all.extend(declared(&trial, device).into_iter().map(|line| (None, line))),
        _ => {}
    }
    Ok(all)
}

/// A command from its JSON; a key and a time to live need not be given.
fn body(text: &str) -> Result<CommandBody, String> {
    let unread = |error: serde_json::Error| format!("--command is not a command: {error}");
    let mut given: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(unread)?;
    given.entry("idempotency_key").or_insert_with(|| "try".into());
    given.entry("ttl_s").or_insert_with(|| 60.into());
    serde_json::from_value(given.into()).map_err(unread)
}

fn declared(trial: &Trial, device: &str) -> Vec<String> {
    match trial.declared(device) {
        Ok(all) if all.is_empty() => vec![format!("{device}  can be told nothing")],
        Ok(all) => all.iter().map(|declared| format!("{device}  can be told {}", declared.name)).collect(),
        Err(rejected) => vec![rejected.reason],
    }
}

fn asked(trial: &mut Trial, device: &str, body: &CommandBody) -> String {
    match trial.command(device, body) {
        Ok(publish) => {
            let payload = String::from_utf8(publish.payload)
                .unwrap_or_else(|error| format!("0x{}", base16(error.as_bytes())));
            format!("{device}  command publishes {} {payload}", publish.topic)
        }
        Err(rejected) => format!("{device}  command refused: {}", rejected.reason),
    }
}

/// A configuration with one source that has only the preset.
fn preset_source(preset: &str, base: Option<&str>) -> String {
    // A JSON string is a TOML string, except for characters that no topic and no preset contains.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let base = base.map(|base| format!("base = {}\n", quoted(base))).unwrap_or_default();
    format!(
        "[[source]]\nname = \"try\"\naddress = \"mqtt://localhost\"\n[[source.subscription]]\npreset = {}\n{base}",
        quoted(preset)
    )
}

fn payloads(args: &TryArgs) -> Result<Vec<Vec<u8>>, String> {
    let texts = args.payload.iter().map(|text| Ok(text.clone().into_bytes()));
    let files = args.payload_file.iter().map(|path| read(path));
    let hex = args.payload_hex.iter().map(|digits| {
        from_hex(digits).ok_or_else(|| format!("{digits:?} is not an even number of hexadecimal digits"))
    });
    let payloads: Vec<Vec<u8>> = texts.chain(files).chain(hex).collect::<Result<_, _>>()?;
    if payloads.is_empty() {
        return Err("there is no payload; give --payload, --payload-file or --payload-hex".to_owned());
    }
    Ok(payloads)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// Bytes from hexadecimal digits, with white space between them.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|&[high, low]| Some(value(high)? << 4 | value(low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_bytes() {
        assert_eq!(from_hex("a1 0F\nff"), Some(vec![0xa1, 0x0f, 0xff]));
        assert_eq!(from_hex(""), Some(Vec::new()));
        assert_eq!(from_hex("a1f"), None);
        assert_eq!(from_hex("0x"), None);
    }
}
