mod alerts;
mod declared;
mod examples;
mod home_assistant;
mod layers;
mod presets;
mod reload;
mod retention;
mod sinks;
mod words;

use super::Config;

/// A complete source, for tests about something else.
const SOURCE: &str = "\
[[source]]
name = \"home\"
address = \"mqtt://127.0.0.1:1883\"
[[source.subscription]]
preset = \"zigbee2mqtt\"
";

/// The same for a sink; keys can follow.
const SINK: &str = "\
[[sink]]
name = \"cloud\"
address = \"mqtt://broker.example\"
";

fn parse(text: &str) -> Config {
    Config::from_toml(text, "test.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn lines(text: &str) -> Vec<String> {
    let faults = Config::from_toml(text, "test.toml").expect_err(text);
    faults.faults.iter().map(ToString::to_string).collect()
}
