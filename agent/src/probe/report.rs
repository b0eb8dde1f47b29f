//! Applies the rules of a source and of the presets to the messages heard, and words the report. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use fieldlog_projections::Time;
use serde_json::{Value as Json, json};

use super::heard::{Heard, Kept};
use super::suggest;
use crate::config::{Config, presets};
use crate::sorted;
use crate::trial::Trial;
use crate::words::number;
use fieldlog_rules::decode::Zone;

/// Maximum topics listed as examples.
const EXAMPLES_MAX: usize = 5;
/// Maximum topics listed with a fault.
const FAULTS_MAX: usize = 20;

/// The result of a set of rules for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// Something is recorded.
    Recorded,
    /// A rule ignores it.
    Ignored,
    /// It is quarantined, for this reason.
    Quarantined(String),
    /// No rule takes it.
    Untaken,
}

/// The results for all topics under one set of rules.
type Fates<'h> = BTreeMap<&'h str, Fate>;

/// What was heard, in words.
#[derive(Debug)]
pub(super) struct Report {
    /// For people; ends with the additions.
    pub(super) text: String,
    /// What to add to a source, in TOML; may be empty.
    pub(super) additions: String,
    /// For programs.
    pub(super) json: Json,
}

/// Reports what was heard, what the source `own` (a configuration and a name in it) takes of it, which presets take the
/// rest, and what to add.
pub(super) fn report(heard: &Heard, own: Option<(Config, String)>, zone: Zone, now: Time) -> Report {
    let mut text =
        format!("{} on {}\n", number(heard.messages, "message"), number(heard.topics() as u64, "topic"));
    let mut json = json!({
        "messages": heard.messages, "topics": heard.topics(), "not_examined": heard.beyond, "source": null, "presets": [],
        "untaken": [], "additions": "",
    });
    match heard.beyond {
        0 => {}
        1 => text += "1 message was not examined: too many topics, too large, or not text\n",
        more => {
            let _ =
                writeln!(text, "{more} messages were not examined: too many topics, too large, or not text");
        }
    }
    if heard.kept.is_empty() {
        text +=
            "nothing was heard; listen longer with --seconds, or check with the broker who may read what\n";
        return Report { text, additions: String::new(), json };
    }
    let taken = own.map_or_else(Fates::new, |(config, name)| {
        let fates = fates(&heard.kept, config, Some(&name), zone, now);
        json["source"] = describe_source(&mut text, &name, &fates);
        fates
    });
    // What gateways say of themselves is not to be recorded again.
    let is_left = |topic: &str| {
        matches!(taken.get(topic), None | Some(Fate::Untaken)) && !topic.starts_with("fieldlog/")
    };
    let mut left: Vec<&Kept> = heard.kept.iter().filter(|kept| is_left(&kept.topic)).collect();
    let mut additions = String::new();
    let mut presets = Vec::new();
    for fit in fits(&heard.kept, zone, now) {
        let takes = |topic: &str| fit.fates.get(topic).is_some_and(|fate| *fate != Fate::Untaken);
        let topics = sorted::set(left.iter().map(|kept| kept.topic.as_str()).filter(|topic| takes(topic)));
        if topics.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{} fits {}: {}", fit.name(), count_of(&topics), examples(&topics));
        let quarantined = describe_faults(&mut text, &fit.fates);
        presets.push(
            json!({"name": fit.preset, "base": fit.base, "topics": topics, "quarantined": quarantined}),
        );
        additions += &fit.toml();
        left.retain(|kept| !takes(&kept.topic));
    }
    let proposals = suggest::propose(&left);
    let topics = sorted::set(left.iter().map(|kept| kept.topic.as_str()));
    if !topics.is_empty() {
        let _ = writeln!(text, "\nno rule and no preset takes {}: {}", count_of(&topics), examples(&topics));
    }
    for proposal in &proposals {
        let names = proposal.topics.iter().map(String::as_str).collect();
        additions += &format!("\n# {}\n{}", examples(&names), proposal.toml);
    }
    if additions.is_empty() {
        text += "\nnothing to add\n";
    } else {
        text += "\nTo record them, add to the source what you want of this; try single messages with `fieldlog try`:\n";
        text += &additions;
    }
    json["presets"] = presets.into();
    json["untaken"] = json!(topics);
    json["additions"] = additions.as_str().into();
    Report { text, additions, json }
}

fn describe_source(text: &mut String, name: &str, fates: &Fates<'_>) -> Json {
    let count = |is: fn(&Fate) -> bool| fates.values().filter(|fate| is(fate)).count();
    let (recorded, ignored) = (count(|fate| *fate == Fate::Recorded), count(|fate| *fate == Fate::Ignored));
    let _ = writeln!(text, "\nsource {name:?} records {recorded} of the topics and ignores {ignored}");
    let quarantined = describe_faults(text, fates);
    json!({"name": name, "recorded": recorded, "ignored": ignored, "quarantined": quarantined})
}

/// Returns all of them, for programs.
fn describe_faults(text: &mut String, fates: &Fates<'_>) -> Vec<Json> {
    let faults = fates.iter().filter_map(|(topic, fate)| match fate {
        Fate::Quarantined(reason) => Some((topic, reason)),
        _ => None,
    });
    let faults: Vec<_> = faults.collect();
    if faults.is_empty() {
        return Vec::new();
    }
    let _ = writeln!(text, "  {} would go into quarantine:", faults.len());
    for (topic, reason) in faults.iter().take(FAULTS_MAX) {
        let _ = writeln!(text, "    {topic}: {reason}");
    }
    if faults.len() > FAULTS_MAX {
        let _ = writeln!(text, "    and {} more", faults.len() - FAULTS_MAX);
    }
    faults.iter().map(|(topic, reason)| json!({"topic": topic, "reason": reason})).collect()
}

fn count_of(topics: &BTreeSet<&str>) -> String {
    number(topics.len() as u64, "topic")
}

fn examples(topics: &BTreeSet<&str>) -> String {
    let shown: Vec<&str> = topics.iter().copied().take(EXAMPLES_MAX).collect();
    let more = if topics.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// A preset with the base of its topics.
struct Fit<'h> {
    preset: &'static str,
    base: String,
    is_default: bool,
    fates: Fates<'h>,
}

impl Fit<'_> {
    fn name(&self) -> String {
        if self.is_default {
            return format!("preset {:?}", self.preset);
        }
        format!("preset {:?} with base {:?}", self.preset, self.base)
    }

    fn toml(&self) -> String {
        let mut text = format!("\n[[source.subscription]]\npreset = \"{}\"\n", self.preset);
        if !self.is_default {
            let _ = writeln!(text, "base = {}", serde_json::Value::from(self.base.as_str()));
        }
        text
    }
}

/// The presets whose devices are present, by the topics that only these devices have.
fn fits(kept: &[Kept], zone: Zone, now: Time) -> Vec<Fit<'_>> {
    let topics = sorted::set(kept.iter().map(|kept| kept.topic.as_str()));
    let mut fits = Vec::new();
    for preset in presets::names() {
        for base in presets::bases(preset, &topics) {
            let is_default = presets::default_base(preset).as_deref() == Some(base.as_str());
            let mut fit = Fit { preset, base, is_default, fates: Fates::new() };
            let text =
                format!("[[source]]\nname = \"probe\"\naddress = \"mqtt://localhost\"\n{}", fit.toml());
            // Skip a base that is invalid in a configuration.
            if let Ok(config) = Config::from_toml(&text, "probe") {
                fit.fates = fates(kept, config, None, zone, now);
                fits.push(fit);
            }
        }
    }
    fits
}

fn fates<'h>(kept: &'h [Kept], config: Config, source: Option<&str>, zone: Zone, now: Time) -> Fates<'h> {
    let mut fates = Fates::new();
    let Ok(mut trial) = Trial::new(config, source, now, zone) else { return fates };
    for message in kept {
        let Ok(lines) = trial.observe(&message.topic, &message.payload, message.retain) else { continue };
        let fate = fate(&lines);
        let known = fates.entry(message.topic.as_str()).or_insert(Fate::Untaken);
        // A topic counts as taken if one of its messages is recorded; a fault in one message is still reported.
        match (&*known, &fate) {
            (Fate::Quarantined(_), _) | (_, Fate::Untaken) | (Fate::Recorded, Fate::Ignored) => {}
            _ => *known = fate,
        }
    }
    fates
}

fn fate(lines: &[String]) -> Fate {
    if let Some(reason) = lines.iter().find_map(|line| line.strip_prefix("quarantined: ")) {
        return Fate::Quarantined(reason.to_owned());
    }
    match lines.first().map(String::as_str) {
        Some("ignored: no rule matches the topic") => Fate::Untaken,
        Some(line) if line.starts_with("ignored: ") => Fate::Ignored,
        _ => Fate::Recorded,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::Message;

    fn heard(messages: &[(&str, &str)]) -> Heard {
        let mut heard = Heard::default();
        for (topic, payload) in messages {
            heard.add(&Message {
                topic: Bytes::copy_from_slice(topic.as_bytes()),
                payload: Bytes::copy_from_slice(payload.as_bytes()),
                retain: false,
                dup: false,
                pkid: None,
                fault: None,
            });
        }
        heard
    }

    fn said(messages: &[(&str, &str)], own: Option<&str>) -> String {
        let own = own.map(|subscriptions| {
            let text =
                format!("[[source]]\nname = \"home\"\naddress = \"mqtt://localhost\"\n{subscriptions}");
            (Config::from_toml(&text, "test").unwrap(), "home".to_owned())
        });
        report(&heard(messages), own, Zone::default(), Time(1_700_000_000_000_000)).text
    }

    const TASMOTA: [(&str, &str); 3] = [
        ("tele/plug/LWT", "Online"),
        ("tele/plug/STATE", r#"{"POWER":"ON"}"#),
        ("stat/plug/RESULT", r#"{"POWER":"ON"}"#),
    ];

    #[test]
    fn a_preset_whose_devices_are_there_is_named_with_what_to_add() {
        let text = said(&TASMOTA, None);
        assert_eq!(
            text,
            "3 messages on 3 topics\n\n\
             preset \"tasmota\" fits 3 topics: stat/plug/RESULT, tele/plug/LWT, tele/plug/STATE\n\n\
             To record them, add to the source what you want of this; try single messages with `fieldlog try`:\n\n\
             [[source.subscription]]\npreset = \"tasmota\"\n"
        );
    }

    #[test]
    fn the_base_of_a_preset_is_found() {
        let text = said(
            &[("home/z2m/bridge/state", r#"{"state":"online"}"#), ("home/z2m/lamp", r#"{"state":"ON"}"#)],
            None,
        );
        assert!(text.contains("preset \"zigbee2mqtt\" with base \"home/z2m\" fits 2 topics"), "{text}");
        assert!(text.ends_with("preset = \"zigbee2mqtt\"\nbase = \"home/z2m\"\n"), "{text}");
    }

    #[test]
    fn a_shelly_is_found_by_what_it_says_in_passing_and_takes_nothing_of_others() {
        let text = said(
            &[
                ("shellies/announce", r#"{"id":"shelly1-AA","model":"SHSW-1"}"#),
                ("shellies/shelly1-AA/relay/0", "on"),
                ("shellies/shelly1-AA/input/0", "0"),
                ("shellies/shelly1-AA/online", "true"),
                ("plant/hall1/press/telemetry", r#"{"p":4}"#),
                ("plant/gateway/info", r#"{"version":"1"}"#),
            ],
            None,
        );
        assert!(text.contains("preset \"shelly-gen1\" fits 4 topics: shellies/announce, "), "{text}");
        assert!(
            text.contains("\nno rule and no preset takes 2 topics: plant/gateway/info, plant/"),
            "{text}"
        );
    }

    #[test]
    fn what_the_source_takes_needs_nothing_and_its_faults_are_told() {
        let own = "[[source.subscription]]\npreset = \"tasmota\"\n";
        assert!(said(&TASMOTA, Some(own)).ends_with("ignores 0\n\nnothing to add\n"));
        let faulty = [TASMOTA[0], ("tele/plug/SENSOR", "not json")];
        let text = said(&faulty, Some(own));
        assert!(text.contains("source \"home\" records 1 of the topics and ignores 0\n"), "{text}");
        assert!(
            text.contains("  1 would go into quarantine:\n    tele/plug/SENSOR: not the JSON object"),
            "{text}"
        );
    }

    #[test]
    fn rules_are_proposed_for_the_rest() {
        let text = said(&[("plant/a/data", "{\"x\":1}"), ("plant/b/data", "{\"x\":1}")], None);
        assert!(
            text.contains("no rule and no preset takes 2 topics: plant/a/data, plant/b/data\n"),
            "{text}"
        );
        let end = "# plant/a/data, plant/b/data\n\
             [[source.subscription]]\ntopic = \"plant/+device/data\"\ndecoder = \"json\"\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn what_gateways_say_of_themselves_is_not_proposed() {
        let text = said(
            &[("fieldlog/hall3/status", r#"{"seq":4}"#), ("fieldlog/hall3/availability", "online")],
            None,
        );
        assert_eq!(text, "2 messages on 2 topics\n\nnothing to add\n");
    }

    #[test]
    fn a_report_for_programs_has_all_topics() {
        let own = Config::from_toml(
            "[[source]]\nname = \"home\"\naddress = \"mqtt://localhost\"\n[[source.subscription]]\n\
             topic = \"plant/+device\"\ndecoder = \"json\"\n",
            "test",
        );
        let messages = [&TASMOTA[..], &[("plant/a", "[1]"), ("other/x", "1")]].concat();
        let own = Some((own.unwrap(), "home".to_owned()));
        let Report { json, additions, .. } =
            report(&heard(&messages), own, Zone::default(), Time(1_700_000_000_000_000));
        assert_eq!([&json["messages"], &json["topics"], &json["not_examined"]], [5, 5, 0], "{json}");
        assert_eq!([&json["source"]["recorded"], &json["source"]["ignored"]], [0, 0], "{json}");
        assert_eq!(json["source"]["quarantined"][0]["topic"], "plant/a", "{json}");
        assert_eq!(json["presets"][0]["name"], "tasmota", "{json}");
        assert_eq!(
            json["presets"][0]["topics"],
            json!(["stat/plug/RESULT", "tele/plug/LWT", "tele/plug/STATE"])
        );
        assert_eq!(json["untaken"], json!(["other/x"]));
        assert!(!additions.is_empty() && json["additions"] == additions.as_str(), "{json}");
    }

    #[test]
    fn silence_is_told_from_an_unknown_topic() {
        assert!(said(&[], None).starts_with("0 messages on 0 topics\nnothing was heard; listen longer"));
    }
}
