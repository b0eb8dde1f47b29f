//! `[[alert]]` and `[[notify]]`.

use fieldlog_projections::alert::Severity;

use super::super::Watch;
use super::{SINK, SOURCE, lines, parse};

const HOT: &str = "\
[[alert]]
name = \"hot\"
on = \"attribute\"
attribute = \"temperature\"
above = 30
";

const QUIET: &str = "\
[[alert]]
name = \"quiet\"
on = \"silence\"
for_s = 600
";

const LATE: &str = "\
[[alert]]
name = \"late\"
on = \"sink-backlog\"
sink = \"cloud\"
above_s = 600
";

const TELL: &str = "\
[[notify]]
name = \"broker\"
mqtt = \"home\"
";

const HOOK: &str = "\
[[notify]]
name = \"hook\"
webhook = \"https://host/secret\"
";

/// `with` follows a complete block.
#[track_caller]
fn check(block: &str, with: &str, expected: &[&str]) {
    let name = block.split('"').nth(1).unwrap_or_default();
    let kind = if block.starts_with("[[alert]]") { "alert" } else { "notify" };
    let expected: Vec<String> = expected.iter().map(|line| format!("{kind}[0] {name:?} {line}")).collect();
    assert_eq!(lines(&format!("{SOURCE}{SINK}{block}{with}")), expected, "{with}");
}

#[test]
fn there_are_none_by_default_and_few_keys_suffice() {
    let config = parse(SOURCE);
    assert!(config.alerts.is_empty() && config.notify.is_empty());
    let battery = "[[alert]]\nname = \"battery\"\non = \"battery\"\n";
    let config = parse(&format!("{SOURCE}{SINK}{HOT}{QUIET}{LATE}{battery}{TELL}{HOOK}"));
    let kinds: Vec<Watch> = config.alerts.iter().map(|rule| rule.on).collect();
    assert_eq!(kinds, [Watch::Attribute, Watch::Silence, Watch::SinkBacklog, Watch::Battery]);
    let (hot, battery) = (&config.alerts[0], &config.alerts[3]);
    assert_eq!(
        (hot.severity, hot.lasting.as_secs(), hot.devices.as_slice()),
        (Severity::Warning, 0, &["*".to_owned()][..])
    );
    assert_eq!(battery.below, Some(20.0));
    let targets: Vec<String> = config.notify.iter().map(|notify| notify.target.to_string()).collect();
    assert_eq!(targets, ["source \"home\"", "https://host"], "a path may contain a secret");
}

#[test]
fn what_is_written_is_read_again() {
    let more = "[[alert]]\nname = \"open\"\non = \"attribute\"\ndevice = [\"a\", \"b*\"]\nattribute = [\"door\"]\nequals = \"open\"\nseverity = \"critical\"\nfor_s = 9\n";
    let token = "token_file = \"/t\"\n[notify.tls]\nca_file = \"/ca\"\n";
    let text = format!("{SOURCE}{SINK}{HOT}clear = 28.5\n{QUIET}{LATE}{more}{TELL}{HOOK}{token}");
    let config = parse(&text);
    let written = config.to_toml();
    assert_eq!(parse(&written), config, "{written}");
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(
        lines("[[alert]]"),
        [
            "alert[0] name: it is missing; give the rule a short name, such as \"freezer-warm\"",
            "alert[0] on: it is missing; choose attribute, silence, battery or sink-backlog",
        ]
    );
    assert_eq!(
        lines("[[alert]]\nname = \"a\"\non = \"attribute\""),
        [
            "alert[0] \"a\" attribute: it is missing; name the attributes, such as \"temperature\"; * stands for any text",
            "alert[0] \"a\" above: it is missing; give one of above, below and equals",
        ]
    );
    assert_eq!(
        lines("[[alert]]\nname = \"a\"\non = \"silence\""),
        ["alert[0] \"a\" for_s: it is missing; say after how many seconds a device is silent"]
    );
    assert_eq!(
        lines("[[alert]]\nname = \"a\"\non = \"sink-backlog\""),
        [
            "alert[0] \"a\" sink: it is missing; name the sink whose backlog is watched",
            "alert[0] \"a\" above_events: it is missing; give either above_events or above_s",
        ]
    );
    assert_eq!(
        lines("[[notify]]\nname = \"a\""),
        ["notify[0] \"a\" mqtt: it is missing; give either mqtt, the name of a source, or webhook, a URL"]
    );
}

#[test]
fn thresholds_are_one_and_clear_on_the_right_side() {
    check(HOT, "below = 1", &["below: there is also above; give one of above, below and equals"]);
    check(HOT, "equals = true", &["equals: there is also above; give one of above, below and equals"]);
    check(HOT, "clear = 31", &["clear: 31 is greater than above, 30; use the same or less"]);
    let cold = HOT.replace("above", "below");
    check(&cold, "clear = 29", &["clear: 29 is less than below, 30; use the same or more"]);
    let open = HOT.replace("above = 30", "equals = \"open\"");
    check(&open, "clear = 1", &["clear: it has no effect beside equals; remove it"]);
    check(
        &HOT.replace("above = 30", "equals = []"),
        "",
        &["equals: it must be text, a number, true or false"],
    );
}

#[test]
fn keys_belong_to_their_kind() {
    check(QUIET, "above = 1", &["above: only rules on attribute have it; remove it, or change `on`"]);
    check(
        QUIET,
        "clear = 1",
        &["clear: only rules on attribute or battery have it; remove it, or change `on`"],
    );
    check(
        LATE,
        "device = \"x\"",
        &["device: only rules on attribute, silence or battery have it; remove it, or change `on`"],
    );
    check(
        LATE,
        "above_events = 1",
        &["above_s: there is also above_events; give either above_events or above_s"],
    );
    check(QUIET, "severity = \"bad\"", &["severity: \"bad\" is unknown; it must be warning or critical"]);
    check(&QUIET.replace("600", "0"), "", &["for_s: 0 is out of range; it must be 1 to 31536000 seconds"]);
    check(
        HOT,
        "device = \"a**\"",
        &["device: \"a**\" is not a pattern; it must not be empty, nor have two `*` side by side"],
    );
    check(
        &LATE.replace("\"cloud\"", "\"clout\""),
        "",
        &["sink: there is no sink \"clout\"; did you mean cloud?"],
    );
    let twice = format!("{HOT}{HOT}");
    assert_eq!(lines(&twice), ["alert[1] \"hot\" name: another block has it too; give each its own name"]);
    let many: String = (0..65).map(|n| HOT.replace("\"hot\"", &format!("\"h{n}\""))).collect();
    let expected = "alert: there are 65; at most 64 can be declared; remove some, or use patterns in device and attribute";
    assert_eq!(lines(&many), [expected]);
}

#[test]
fn notifications_go_to_a_source_or_a_url() {
    check(
        &TELL.replace("\"home\"", "\"hone\""),
        "",
        &["mqtt: there is no source \"hone\"; did you mean home?"],
    );
    check(TELL, "token_file = \"/t\"", &["token_file: it goes with webhook; remove it"]);
    check(
        TELL,
        "webhook = \"http://h\"",
        &["mqtt: there is also webhook; give either mqtt, the name of a source, or webhook, a URL"],
    );
    check(
        TELL,
        "topic = \"a/{rule}/{device}\"",
        &[
            "topic: \"a/{rule}/{device}\" has a brace that belongs to no placeholder; the placeholders are {gateway}, {rule} and {subject}",
            "topic: two alerts would be published on one topic, of which the broker keeps the last message; use {rule} and {subject} in it",
        ],
    );
    check(
        TELL,
        "topic = \"zigbee2mqtt/{rule}-{subject}\"",
        &[
            "topic: source \"home\" takes \"zigbee2mqtt/r-s\" from the same broker; alerts would be recorded as messages of devices; exclude the topic from the source",
        ],
    );
    check(HOOK, "topic = \"t\"", &["topic: it goes with mqtt; remove it"]);
    let hook = |url: &str| HOOK.replace("https://host/secret", url);
    check(&hook("ftp://host"), "", &["webhook: it must begin with http:// or https://"]);
    check(
        &hook("https://u:p@host"),
        "",
        &["webhook: it must not hold a user name or password; use token_file"],
    );
    check(
        &hook("http://"),
        "",
        &["webhook: it has no host with an optional port; write it as \"https://host/path\""],
    );
    check(
        &hook("http://host"),
        "[notify.tls]\nca_file = \"/ca\"",
        &["tls: the URL begins with http://; use https://, or remove [notify.tls]"],
    );
}
