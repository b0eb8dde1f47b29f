//! Configurations for fuzzing: each preset, each set of rules in the fixtures, a Sparkplug host, and all presets
//! together.

use std::sync::OnceLock;

use fieldlog::config::{Config, Decoder, PRESETS, Rule};
use fieldlog_rules::decode::{JsonRule, Zone};
use jiff::tz::TimeZone;
use serde::Deserialize;

/// Fixtures whose cases have their own rules.
const FIXTURES: [&str; 2] = [
    include_str!("../../../tests/fixtures/devices/rules.toml"),
    include_str!("../../../tests/fixtures/devices/formats.toml"),
];

/// Bounds that a short input reaches.
const LIMITS: &str = "[limits]\ndevices_max = 12\nattributes_per_device_max = 16\ntopics_max = 12\n\
    state_bytes_max = 1048576\ntext_bytes_max = 128\nname_bytes_max = 48\nquarantine_payload_bytes_max = 64\n";

/// Forms of rules, in addition to those in the fixtures.
const SHAPES: &str = r##"
topic = "plain/+device"
decoder = "json"

topic = "shaped/+device"
decoder = "json"
root = "/a"
when = [{ pointer = "/a/b", exists = true }, { pointer = "", is = "object" }]
time = { pointer = "/t" }
arrays = "index"

topic = "value/+device"
decoder = "json"
value = "/value"
attribute = "v"
time = { pointer = "/time", format = "unix_ms" }

topic = "field/+device"
decoder = "json"
arrays = "name"
rename = [{ from = "a", to = "b.c" }]
types = [{ attributes = ["*_n"], type = "number", unit = "W" }, { attributes = ["*_i"], type = "integer" }, { attributes = ["*_b"], type = "boolean" }, { attributes = ["*_t"], type = "text" }]
update = "replace"

topic = "members/#device"
decoder = "json"
root = "/m"
each = "members"
device = ["{/id}", "{key}", "{device}"]
attribute = "{/kind}"
time = { pointer = "/at", format = "local" }
also = true
namespace = "members"

topic = "elements/#device"
decoder = "json"
each = "elements"
device = ["{/id}", "{device}"]
arrays = "index"
redact = ["*secret*"]
also = true

topic = "members/#device"
decoder = "json"
root = "/m/x"
value = "/v"
attribute = "second"

topic = "together/+device"
decoder = "json"
actions = ["act*", "x.*"]
action_fields = "together"
attribute = "pressed"
idempotent_by = "/n"
time = { pointer = "/t", format = "rfc3339" }

topic = "actions/+device"
decoder = "json"
actions = ["*"]
ignore = ["n"]
idempotent_by = "/n"

topic = "cbor/+device"
decoder = "cbor"
arrays = "index"
time = { pointer = "/t" }

topic = "msgpack/+device"
decoder = "msgpack"
each = "members"
device = "{key}"

topic = "senml/+device"
decoder = "senml"

topic = "senml-cbor/+device"
decoder = "senml-cbor"

topic = "influx/+device"
decoder = "influx"

topic = "scalar/+device/+attribute"
decoder = "scalar"
types = [{ attributes = ["n*"], type = "number", unit = "W" }, { attributes = ["i*"], type = "integer" }, { attributes = ["b*"], type = "boolean", true = ["ON"], false = ["OFF"] }, { attributes = ["t*"], type = "text" }]
redact = ["*secret*"]

topic = "availability/+device"
decoder = "availability"

topic = "action/+device"
decoder = "action"
"##;

#[derive(Deserialize)]
struct Fixture {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    rules: Option<String>,
}

/// A configuration, with its name in `seeds.py`.
pub struct World {
    /// Name of the preset, of the fixture's case, or of the kind.
    pub name: String,
    /// With [`LIMITS`].
    pub config: Config,
}

/// Times without an offset are UTC, on any machine.
pub const ZONE: Zone = Zone(|| TimeZone::UTC);

fn source(name: &str, subscriptions: &str) -> String {
    format!("[[source]]\nname = \"{name}\"\naddress = \"mqtt://localhost\"\n{subscriptions}\n")
}

fn preset(name: &str) -> String {
    format!("[[source.subscription]]\npreset = \"{name}\"\n")
}

fn world(name: &str, sources: &str) -> World {
    let config = Config::from_toml(&format!("{LIMITS}{sources}"), name);
    World { name: name.to_owned(), config: config.unwrap_or_else(|faults| panic!("{name}: {faults}")) }
}

/// All of them; the first ones are selected most often by an input's first byte.
pub fn all() -> &'static [World] {
    static ALL: OnceLock<Vec<World>> = OnceLock::new();
    ALL.get_or_init(|| {
        let tables: Vec<String> =
            SHAPES.trim().split("\n\n").map(|rule| format!("[[source.subscription]]\n{rule}\n")).collect();
        let policies = "[[source.policy]]\nattributes = [\"deadband*\", \"v\"]\ndeadband = 1\n\
            [[source.policy]]\nattributes = [\"slow*\"]\nmin_interval_ms = 5000\n\
            [[source.policy]]\nattributes = [\"held*\"]\nmin_interval_ms = 5000\nheld = \"record\"\n\
            [[source.policy]]\nattributes = [\"every*\"]\nrecord = \"every\"\n";
        let host = "[source.sparkplug]\nhost_id = \"host\"\n";
        let mut presets = PRESETS;
        presets.sort_unstable();
        let together: String = presets.iter().map(|name| preset(name)).collect();
        let mut worlds = vec![
            world("sparkplug", &source("plant", host)),
            world("shapes", &source("home", &(tables.concat() + policies))),
            world(
                "together",
                &(source("home", &together)
                    + &source("home2", &(preset("tasmota") + &preset("zigbee2mqtt")))
                    + &source("plant", host)),
            ),
        ];
        worlds.extend(presets.iter().map(|name| world(name, &source("home", &preset(name)))));
        for text in FIXTURES {
            let fixture: Fixture = toml::from_str(text).expect("a fixture");
            for case in fixture.case {
                let Some(rules) = case.rules else { continue };
                let rules = rules.replace("[[rule]]", "[[source.subscription]]");
                worlds.push(world(&case.name, &source("home", &rules)));
            }
        }
        worlds
    })
}

/// All rules for documents, each with its prepared form.
pub fn rules() -> &'static [(Rule, JsonRule)] {
    static RULES: OnceLock<Vec<(Rule, JsonRule)>> = OnceLock::new();
    RULES.get_or_init(|| {
        let mut rules: Vec<Rule> = Vec::new();
        // The hand-written forms first, so that a small number selects one of them.
        let sources = all()[1..].iter().flat_map(|world| &world.config.sources);
        for rule in sources.flat_map(|source| &source.rules).filter(|rule| rule.decoder.is_document()) {
            let alike = |known: &Rule| {
                let topic = rule.topic.clone();
                Rule {
                    topic,
                    device: rule.device.clone(),
                    namespace: rule.namespace.clone(),
                    ..known.clone()
                } == *rule
            };
            if !rules.iter().any(alike) {
                rules.push(rule.clone());
            }
        }
        let prepared = |rule: Rule| {
            let json = JsonRule::new(&rule, ZONE).expect("a rule that was checked");
            (rule, json)
        };
        rules.into_iter().map(prepared).collect()
    })
}

/// The rules of some decoders.
pub fn rules_of(takes: impl Fn(Decoder) -> bool) -> Vec<&'static (Rule, JsonRule)> {
    rules().iter().filter(|(rule, _)| takes(rule.decoder)).collect()
}

/// Does one-time initialisation before memory is counted.
pub fn prepare() {
    rules();
}
