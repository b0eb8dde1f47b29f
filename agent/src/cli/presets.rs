//! `fieldlog presets`. No agent is asked.

use std::process::ExitCode;

use serde_json::json;

use super::end;
use super::text::table;
use crate::client::Failure;
use crate::config::presets;
use crate::words::{say, say_json};

/// Arguments of `fieldlog presets`.
#[derive(Clone, Debug, clap::Args)]
pub struct PresetsArgs {
    /// Print the rules of this preset, as TOML.
    preset: Option<String>,
    /// Print names and bases as JSON; with a preset, its name, base and rules.
    #[arg(long)]
    json: bool,
}

/// Runs `fieldlog presets`.
pub fn main(args: &PresetsArgs) -> ExitCode {
    end(listed(args))
}

fn listed(args: &PresetsArgs) -> Result<u8, Failure> {
    if let Some(name) = &args.preset {
        let names: Vec<&str> = presets::names().collect();
        let text = presets::text_of(name).ok_or_else(|| {
            Failure::usage(format!("there is no preset {name:?}; there are {}", names.join(", ")))
        })?;
        match args.json {
            true => say_json(
                &json!({"name": name, "base": presets::default_base(name).unwrap_or_default(), "rules": text}),
            ),
            false => say(&text),
        }
        return Ok(0);
    }
    let all: Vec<(&str, String)> =
        presets::names().map(|name| (name, presets::default_base(name).unwrap_or_default())).collect();
    if args.json {
        let json: Vec<_> = all.iter().map(|(name, base)| json!({"name": name, "base": base})).collect();
        say_json(&json!(json));
        return Ok(0);
    }
    let base = |base: &String| if base.is_empty() { "-".to_owned() } else { base.clone() };
    let rows: Vec<_> = all.iter().map(|(name, text)| [(*name).to_owned(), base(text)]).collect();
    say(&table(["PRESET", "BASE"], &rows));
    say(
        "\n`fieldlog presets NAME` prints the rules of one; `fieldlog probe` finds out which of them fit a broker.\n",
    );
    Ok(0)
}
