//! The commented configuration file is correct.

use super::super::{Config, Protocol, SinkConfig, SinkTarget, WindowConfig};
use super::{SINK, SOURCE, parse};

const EXAMPLE: &str = include_str!("../../../../config/fieldlog.toml");

/// The lines with defaults, uncommented. A comment never looks like `# key = value`.
fn defaults() -> String {
    let uncommented = EXAMPLE.lines().filter_map(|line| {
        let rest = line.strip_prefix("# ")?;
        let key = rest.split(" = ").next().filter(|_| rest.contains(" = ")).unwrap_or_default();
        let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let is_header = rest.starts_with('[') && rest.ends_with(']');
        (is_key || is_header).then_some(rest)
    });
    uncommented.collect::<Vec<_>>().join("\n")
}

/// The lines after `#:`: the minimal configuration, a whole source, and the sinks.
fn examples() -> (String, String, String) {
    let lines: Vec<&str> =
        EXAMPLE.lines().filter_map(|line| line.strip_prefix("#:")).map(str::trim_start).collect();
    let sources: Vec<usize> = (0..lines.len()).filter(|at| lines[*at] == "[[source]]").collect();
    let [_, second, host] = sources[..] else { panic!("{sources:?}") };
    let (first, rest) = lines.split_at(second);
    let first = &first[..first.iter().position(|line| *line == "[[derived_attribute]]").unwrap()];
    // The third source is another example; see `sparkplug_example`.
    let rest =
        [&rest[..host - second], &rest[rest.iter().position(|line| *line == "[[sink]]").unwrap()..]].concat();
    let third = rest.iter().position(|line| *line == "[[sink]]").unwrap();
    let (second, third) = rest.split_at(third);
    let third = &third[..third.iter().position(|line| *line == "[[alert]]").unwrap()];
    (first.join("\n"), second.join("\n"), third.join("\n"))
}

/// The source that is a Sparkplug host application.
fn sparkplug_example() -> String {
    let lines: Vec<&str> =
        EXAMPLE.lines().filter_map(|line| line.strip_prefix("#:")).map(str::trim_start).collect();
    let begin = lines.iter().rposition(|line| *line == "[[source]]").unwrap();
    let end = lines.iter().position(|line| *line == "[[sink]]").unwrap();
    lines[begin..end].join("\n")
}

#[test]
fn the_declared_examples_show_every_key() {
    let lines: Vec<&str> =
        EXAMPLE.lines().filter_map(|line| line.strip_prefix("#:")).map(str::trim_start).collect();
    let begin = lines.iter().position(|line| *line == "[[derived_attribute]]").unwrap();
    let end = begin + lines[begin..].iter().position(|line| *line == "[[source]]").unwrap();
    let config = parse(&lines[begin..end].join("\n"));
    assert_eq!(parse(&config.to_toml()), config);
    let shown = |text: &str, key: &str| text.lines().any(|line| line.starts_with(&format!("{key} = ")));
    let [text, without] =
        [&config, &Config { derived: Vec::new(), named: Vec::new(), ..config.clone() }].map(Config::to_toml);
    // `below` excludes `above`.
    for line in text.lines().filter(|line| !without.contains(*line)) {
        let key = line.split(" = ").next().unwrap();
        assert!(
            line.starts_with('[') || line.is_empty() || shown(&lines[begin..end].join("\n"), key),
            "{key}"
        );
    }
    let (power, energy) = (&config.derived[0], &config.named[0]);
    assert_eq!((power.scale, power.offset, energy.keep), (1.0, 0.0, 100), "the defaults are shown");
}

/// The rules and who is told, with a source and a sink that they name.
fn alert_examples() -> String {
    let lines: Vec<&str> =
        EXAMPLE.lines().filter_map(|line| line.strip_prefix("#:")).map(str::trim_start).collect();
    let begin = lines.iter().position(|line| *line == "[[alert]]").unwrap();
    format!("{SOURCE}{SINK}{}", lines[begin..].join("\n"))
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "https:// needs the feature tls")]
fn the_examples_of_alerts_show_every_key() {
    let example = alert_examples();
    let config = parse(&example);
    assert_eq!(parse(&config.to_toml()), config);
    let table = config.table();
    let home = table.get("home_assistant").and_then(toml::Value::as_table).unwrap();
    assert!(home.keys().all(|key| example.lines().any(|line| line.starts_with(&format!("{key} = ")))));
    for kind in ["alert", "notify"] {
        for block in table.get(kind).and_then(toml::Value::as_array).unwrap() {
            for (key, value) in block.as_table().unwrap().iter().filter(|(_, value)| !value.is_table()) {
                let shown = example.lines().any(|line| line.starts_with(&format!("{key} = ")));
                assert!(shown, "{kind} {key} = {value:?}");
            }
        }
    }
    let battery = parse("[[alert]]\nname = \"b\"\non = \"battery\"").alerts.remove(0);
    assert_eq!(config.alerts[2].below, battery.below, "the default is shown");
}

#[test]
fn the_sparkplug_example_shows_every_key_with_its_default() {
    let example = sparkplug_example();
    let (head, keys) = example.split_once("[source.sparkplug]").unwrap();
    assert_eq!(keys.lines().filter(|line| !line.is_empty()).count(), 4);
    let id = "gateway_id = \"gateway\"\n";
    assert_eq!(parse(&format!("{id}{example}")), parse(&format!("{id}{head}[source.sparkplug]")));
    let config = parse(&example);
    assert_eq!(parse(&config.to_toml()), config);
}

#[test]
fn as_it_is_it_changes_nothing() {
    assert_eq!(parse(EXAMPLE), Config::default());
    assert_eq!(parse(""), Config::default());
}

#[test]
fn uncommented_defaults_are_the_defaults() {
    let text = defaults();
    let config = parse(&text);
    assert_eq!(config, Config::default());
    for (table, keys) in super::super::keys::tables() {
        // The host name has no line that could be uncommented everywhere.
        for key in keys.iter().filter(|key| *key != "gateway_id") {
            assert!(text.lines().any(|line| line.starts_with(&format!("{key} = "))), "[{table}] {key}");
        }
    }
}

#[test]
fn every_number_in_the_defaults_is_read() {
    // If a line had no effect, changing it would have none either.
    let text = defaults();
    let numbers: Vec<&str> =
        text.lines().filter(|line| line.ends_with(|c: char| c.is_ascii_digit())).collect();
    assert!(numbers.len() > 19);
    for line in numbers {
        let changed = text.replacen(line, &format!("{line}0"), 1);
        let same = Config::from_toml(&changed, "test.toml").is_ok_and(|config| config == Config::default());
        assert!(!same, "{line}");
    }
}

#[test]
fn the_first_example_works_with_eight_lines() {
    let (first, _, _) = examples();
    assert_eq!(first.lines().filter(|line| !line.is_empty()).count(), 6);
    let config = parse(&first);
    assert_eq!(config.sources, parse(SOURCE).sources);
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "mqtts:// needs the feature tls")]
fn the_second_example_shows_every_key_of_a_source() {
    let (_, second, _) = examples();
    let source = parse(&second).sources.remove(0);
    assert_eq!(source.protocol, Protocol::V5);
    assert!(source.tls.key_file.is_some() && source.will.is_some() && source.password_file.is_some());
    assert_eq!((source.policies.len(), source.describe.len()), (1, 2));
    let own = source.rules.iter().find(|rule| rule.topic == "plant/+line/+machine/state").unwrap();
    assert!(!own.when.is_empty() && own.time.is_some() && own.parent.is_some());
    for key in super::super::rule::keys() {
        assert!(second.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
    }
    // Whatever a block for commands can have, these have.
    for command in &source.commands {
        for key in toml::Table::try_from(command).unwrap().keys().filter(|key| *key != "device_prefix") {
            assert!(second.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
        }
    }
    let own = source.commands.iter().find(|command| command.attribute == "*/setpoint").unwrap();
    assert!(!own.device.is_empty() && own.conditions.len() == 2 && own.reply.is_some() && own.max.is_some());
    let plain =
        parse(&format!("{SOURCE}[[source.command]]\nattribute = \"a\"\ntopic = \"a\"")).sources.remove(0);
    let plain = plain.commands.into_iter().find(|command| command.attribute == "a").unwrap();
    assert_eq!((plain.announced, plain.qos, plain.idempotent), (own.announced, own.qos, own.idempotent));
    assert_eq!(
        (plain.on_offline, plain.confirm, plain.evidence),
        (own.on_offline, own.confirm, own.evidence)
    );
    // Values that the example gives as defaults are the defaults.
    let (plain, example) = (parse(SOURCE).sources.remove(0), source);
    assert_eq!(plain.keep_alive, example.keep_alive);
    assert_eq!(plain.connect_timeout, example.connect_timeout);
    assert_eq!(plain.backoff_max, example.backoff_max);
    assert_eq!(plain.session_expiry, example.session_expiry);
    assert_eq!(plain.receive_window, example.receive_window);
    assert_eq!(plain.packet_bytes_max, example.packet_bytes_max);
    assert_eq!(plain.silence_timeout, example.silence_timeout);
    let (a, b) = (plain.rules.first().unwrap(), example.rules.last().unwrap());
    assert_eq!((&a.online, &a.offline), (&b.online, &b.offline));
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "mqtts:// needs the feature tls")]
fn the_third_example_shows_every_key_of_each_kind_of_sink() {
    let (_, _, third) = examples();
    let sinks = parse(&third).sinks;
    let plain = |scheme: &str| parse(&SINK.replace("mqtt", scheme)).sinks.remove(0);
    let kinds = ["mqtts", "https", "tls", "kafkas"];
    assert_eq!(sinks.len(), kinds.len());
    for (sink, scheme) in sinks.iter().zip(kinds) {
        assert!(sink.target.to_string().starts_with(&format!("{scheme}://")), "{}", sink.target.to_string());
        // The example shows everything that `--show` prints.
        let mut shown = parse(SOURCE);
        shown.sinks = vec![sink.clone()];
        let shown = shown.to_toml();
        let (_, shown) = shown.split_once("[[sink]]").unwrap();
        for key in shown.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
            assert!(third.lines().any(|line| line.starts_with(&format!("{key} = "))), "{scheme} {key}");
        }
        // Values that the example gives as defaults are the defaults.
        let plain = plain(scheme);
        let as_plain = SinkConfig {
            name: plain.name.clone(),
            filter: plain.filter.clone(),
            priority: plain.priority.clone(),
            target: plain_target(&sink.target, &plain.target),
            ..sink.clone()
        };
        assert_eq!(as_plain, plain);
    }
    let first = sinks.first().unwrap();
    assert_eq!((first.filter.devices.len(), first.filter.types.len(), first.priority.len()), (2, 2, 1));
}

/// `target`, with every value replaced that has no default or differs in the example.
fn plain_target(target: &SinkTarget, plain: &SinkTarget) -> SinkTarget {
    let mut target = target.clone();
    let state = format!("fieldlog/{}/state", Config::default().gateway_id);
    match (&mut target, plain) {
        (SinkTarget::Mqtt(target), SinkTarget::Mqtt(plain)) => {
            assert!(target.tls.ca_file.is_some() && target.tls.key_file.is_some());
            assert!(target.username.is_some() && target.password_file.is_some());
            target.address = plain.address.clone();
            target.tls = plain.tls.clone();
            target.client_id.clone_from(&plain.client_id);
            target.username.clone_from(&plain.username);
            target.password_file.clone_from(&plain.password_file);
            let will = target.will.take().unwrap();
            let shown = (will.topic.as_str(), will.offline.as_str(), will.online.as_str());
            assert_eq!(shown, (state.as_str(), "offline", "online"));
            let commands = target.commands.take().unwrap();
            let topic = format!("fieldlog/{}/commands/#", Config::default().gateway_id);
            assert_eq!((commands.topic, commands.session_expiry.as_secs()), (topic, 86_400));
        }
        (SinkTarget::Http(target), SinkTarget::Http(plain)) => {
            assert!(target.token_file.is_some());
            target.address = plain.address.clone();
            target.path.clone_from(&plain.path);
            target.token_file.clone_from(&plain.token_file);
        }
        (SinkTarget::Nats(target), SinkTarget::Nats(plain)) => {
            assert!(target.credentials_file.is_some());
            let commands = target.commands.take().unwrap();
            let subject = format!("fieldlog.commands.{}.>", Config::default().gateway_id.replace('.', "_"));
            assert_eq!(commands.subject, subject);
            target.address = plain.address.clone();
            target.credentials_file.clone_from(&plain.credentials_file);
        }
        (SinkTarget::Kafka(target), SinkTarget::Kafka(plain)) => {
            assert_eq!(target.brokers.len(), 2);
            assert!(target.username.is_some() && target.password_file.is_some());
            target.brokers = plain.brokers.clone();
            target.username.clone_from(&plain.username);
            target.password_file.clone_from(&plain.password_file);
        }
        (target, _) => panic!("{target:?}"),
    }
    target
}

#[test]
fn the_documentation_names_every_event_type() {
    for (_, _, name) in fieldlog_projections::stored::KINDS {
        let named = EXAMPLE.split(|c: char| c != '_' && !c.is_ascii_lowercase()).any(|word| word == *name);
        assert!(named, "{name}");
    }
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "mqtts:// needs the feature tls")]
fn what_is_shown_reads_back_the_same() {
    let (_, second, third) = examples();
    let rules = super::super::PRESETS.map(|name| format!("[[source.subscription]]\npreset = \"{name}\"\n"));
    let odd = "[[source]]\nname = \"odd\"\naddress = \"mqtt://[::1]\"\nprotocol = 4\nusername = \"\\\"\\\\\\u0007ü\"\n";
    let retention = "[retention]\nage_days = 2\nbytes_max = 0\nwhen_full = \"drop-oldest\"";
    let rules = rules.concat();
    let text =
        format!("aggregates = []\n{retention}\n[http]\nlisten = \"\"\n{second}\n{odd}{rules}\n{third}");
    let config = parse(&text);
    assert_eq!(parse(&config.to_toml()), config);
    assert_eq!(parse(&Config::default().to_toml()), Config::default());
    assert_eq!(Config::default().aggregates, WindowConfig::defaults());
}
