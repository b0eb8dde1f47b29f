//! Every kind of fault, with its message.

use super::super::hints::one_of;
use super::{Config, SOURCE, lines};

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(lines(text), expected, "{text}");
}

/// `lines` are put into a source; the fault's key follows `source[0] "home" `.
#[track_caller]
fn check_source(extra: &str, expected: &[&str]) {
    let text = SOURCE.replace("[[source.subscription]]", &format!("{extra}\n[[source.subscription]]"));
    let expected: Vec<String> = expected.iter().map(|line| format!("source[0] \"home\" {line}")).collect();
    assert_eq!(lines(&text), expected, "{text}");
}

/// A source with only this subscription.
#[track_caller]
fn check_rule(rule: &str, expected: &[&str]) {
    let text = SOURCE.replace("preset = \"zigbee2mqtt\"", rule);
    let expected: Vec<String> =
        expected.iter().map(|line| format!("source[0] \"home\" subscription[0] {line}")).collect();
    assert_eq!(lines(&text), expected, "{text}");
}

#[test]
fn unknown_keys() {
    check("data_dri = \"x\"", &["data_dri: unknown key; did you mean data_dir?"]);
    check("[log]\ncommit_delay = 5", &["log.commit_delay: unknown key; did you mean commit_delay_ms?"]);
    check("[log]\ncommit_delay_s = 5", &["log.commit_delay_s: unknown key; did you mean commit_delay_ms?"]);
    check("commit_delay_ms = 5", &["commit_delay_ms: unknown key; it belongs to [log]"]);
    check("[Log]", &["Log: unknown key; did you mean log?"]);
    check(
        "[snapshots]\nwhatever = 5",
        &["snapshots.whatever: unknown key; known here: events, interval_s, keep, past_bytes_max"],
    );
    check_source("recieve_window = 5", &["recieve_window: unknown key; did you mean receive_window?"]);
    check_source(
        "password = \"hunter2\"",
        &["password: unknown key; write it to a file and name the file in password_file"],
    );
    check_rule(
        "topic = \"a/+device\"\ndecoder = \"json\"\nwhen = { pointer = \"/a\", equal = \"b\" }",
        &[
            "when.equals: it is missing; give equals, in, not_in, exists or is",
            "when.equal: unknown key; did you mean equals?",
        ],
    );
}

#[test]
fn namespaces_and_what_is_redacted() {
    // A block for commands of a second preset needs the namespace of that, and one that nothing has is a mistake.
    let second = |namespace: &str| {
        let block =
            format!("[[source.command]]\nattribute = \"power\"\ntopic = \"a\"\nnamespace = {namespace:?}\n");
        format!("{SOURCE}[[source.subscription]]\npreset = \"tasmota\"\n{block}")
    };
    check(
        &second("home.tasmot"),
        &[
            "source[0] \"home\" command: the block \"power\" is for devices of namespace \"home.tasmot\", and no \
           subscription has it; set its namespace to \"home\" or \"home.tasmota\"",
        ],
    );
    for good in ["home", "home.tasmota"] {
        assert!(Config::from_toml(&second(good), "test.toml").is_ok(), "{good}");
    }
    let rule = "topic = \"a/+device\"\ndecoder = \"json\"\nnamespace = ";
    let words = "use 1 to 64 of the characters a-z, 0-9, _, - and .";
    let long = "x".repeat(65);
    for name in ["House", "a@b", "a/b", &long] {
        let fault = format!("namespace: {name:?} is too long or has other characters than it may; {words}");
        check_rule(&format!("{rule}{name:?}"), &[&fault]);
        check_rule(&format!("preset = \"tasmota\"\nnamespace = {name:?}"), &[&fault]);
    }
    let good = format!("{rule}\"house.of-mine_2\"");
    assert!(Config::from_toml(&SOURCE.replace("preset = \"zigbee2mqtt\"", &good), "test.toml").is_ok());
    check_rule(
        "topic = \"a/+device\"\ndecoder = \"json\"\nroot = \"/params\"\nidempotent_by = \"\"\norder_by = \"\"",
        &[
            "idempotent_by: it is empty; write it from the top of the document, as \"/event_cnt\"",
            "order_by: it is empty; write it from the top of the document, as \"/event_cnt\"",
        ],
    );
    check_source(
        "redact = 5",
        &["redact: it is the number 5; it must be an array of texts, such as [\"a\", \"b\"]"],
    );
    let fault = lines(&SOURCE.replace("[[source.s", "redact = [\"\"]\n[[source.s")).remove(0);
    assert!(fault.contains("redact[0]: \"\" is not a pattern"), "{fault}");
}

#[test]
fn wrong_types() {
    let delay = "log.commit_delay_ms: it is";
    let must = "it must be a whole number, 1 to 10000 milliseconds";
    for (value, is) in [("true", "true"), ("\"200\"", "text"), ("1.5", "the number 1.5"), ("[1]", "an array")]
    {
        check(&format!("[log]\ncommit_delay_ms = {value}"), &[&format!("{delay} {is}; {must}")]);
    }
    check("[log]\nquick_repair = 1", &["log.quick_repair: it is the number 1; it must be true or false"]);
    check("[log]\nquick_repair = \"true\"", &["log.quick_repair: it is text; it must be true or false"]);
    check("gateway_id = 5", &["gateway_id: it is the number 5; it must be text in quotes"]);
    check("log = 5", &["log: it is the number 5; it must be a table, [log]"]);
    check("source = 5", &["source: it is the number 5; it must be an array of tables, [[source]]"]);
    check("[source]\nname = \"home\"", &["source: it is a table; it must be an array of tables, [[source]]"]);
    check("source = [5]", &["source[0]: it is the number 5; it must be a table"]);
    check(
        "[http]\nhosts = \"a\"",
        &["http.hosts: it is text; it must be an array of texts, such as [\"a\", \"b\"]"],
    );
    check("[http]\nhosts = [1]", &["http.hosts[0]: it is the number 1; it must be text in quotes"]);
    check_source("password_file = 12345", &["password_file: it is a number; it must be text in quotes"]);
    check_source("username = true", &["username: it is true; it must be text in quotes"]);
}

#[test]
fn ranges() {
    check(
        "[log]\ncommit_delay_ms = 0",
        &["log.commit_delay_ms: 0 is out of range; it must be 1 to 10000 milliseconds"],
    );
    check(
        "[log]\ncache_bytes = -1",
        &["log.cache_bytes: -1 is out of range; it must be 1048576 to 1073741824 bytes"],
    );
    check("[snapshots]\nkeep = 101", &["snapshots.keep: 101 is out of range; it must be 1 to 100 snapshots"]);
    check_source(
        "receive_window = 0",
        &["receive_window: 0 is out of range; it must be 1 to 65535 messages"],
    );
    check_source(
        "receive_window = 65536",
        &["receive_window: 65536 is out of range; it must be 1 to 65535 messages"],
    );
    check_source(
        "protocol = 3",
        &["protocol: 3 is out of range; it must be 4 to 5 (4 for MQTT 3.1.1, 5 for MQTT 5)"],
    );
    check_source(
        "[[source.policy]]\nattributes = [\"a\"]\ndeadband = -0.5",
        &["policy[0] deadband: -0.5 is out of range; it must be 0 or more"],
    );
    check_rule(
        "topic = \"a/+device\"\ndecoder = \"json\"\nqos = 2",
        &["qos: 2 is out of range; it must be 0 to 1"],
    );
}

#[test]
fn sparkplug() {
    check_source(
        "session_expiry_s = 60\n[source.will]\ntopic = \"a\"\n[source.sparkplug]\nhost_id = \"a/b\"\n\
         groups = [\"+\", \"g+\"]\nreorder_timeout_ms = 60001\nhost = 1",
        &[
            "session_expiry_s: a Sparkplug host application begins each connection with a clean session; remove it, or \
             give what must not be lost a [[source]] of its own",
            "will: a connection has one will, and that of a Sparkplug host application is its STATE; remove [source.will]",
            "sparkplug.host_id: \"a/b\" has one of the characters /, + and #; give the host application a name of its \
             own, such as \"gateway-1\"",
            "sparkplug.groups[1]: \"g+\" has one of the characters /, + and #; write the group as it stands in topics, \
             or \"+\" for all",
            "sparkplug.reorder_timeout_ms: 60001 is out of range; it must be 0 to 60000 milliseconds",
            "sparkplug.host: unknown key; did you mean host_id?",
        ],
    );
    check_source(
        "[source.sparkplug]\ngroups = []",
        &["sparkplug.groups: it is empty; name at least one group, or remove it for all"],
    );
}

#[test]
fn missing() {
    check(
        "[[source]]",
        &[
            "source[0] name: it is missing; give the source a short name, such as \"home\"",
            "source[0] address: it is missing; give the broker's address, such as \"mqtt://127.0.0.1:1883\"",
            "source[0] subscription: the source subscribes to nothing; \
         add [[source.subscription]] with a preset or a topic, or [source.sparkplug]",
        ],
    );
    check(
        "[[aggregates]]\nkeep = 5",
        &["aggregates[0] window_s: it is missing; give it 10 to 31536000 seconds"],
    );
    check_rule(
        "qos = 0",
        &[
            "topic: it is missing; give a topic such as \"sensors/+device\", or a preset",
            "decoder: it is missing; choose json, cbor, msgpack, senml, senml-cbor, influx, scalar, availability, action, ignore, zigbee2mqtt-devices, zigbee2mqtt-groups, homeassistant-discovery, homie, homie5-description, tasmota-discovery or shelly-announce",
        ],
    );
    check_rule(
        "topic = \"\"\ndecoder = \"ignore\"",
        &["topic: it is empty; give a topic such as \"sensors/+device\", or a preset"],
    );
    check_rule(
        "topic = \"a/+device\"\ndecoder = \"json\"\ntime = {}",
        &["time.pointer: it is missing; write it as \"/Time\""],
    );
    check_source(
        "[source.will]\noffline = \"x\"",
        &["will.topic: it is missing; name the topic, such as \"fieldlog/gateway/state\""],
    );
    check_source(
        "[[source.policy]]",
        &[
            "policy[0] attributes: it is missing or empty; name attributes, such as [\"temperature\", \"power*\"]",
        ],
    );
}

#[test]
fn duplicates() {
    check(
        &SOURCE.repeat(2),
        &["source[1] \"home\" name: \"home\" is used by another source; give each its own name"],
    );
    let named =
        |name| SOURCE.replace("\"home\"", name).replace("[[source.s", "client_id = \"x\"\n[[source.s");
    check(
        &(named("\"a\"") + &named("\"b\"")),
        &["source[1] \"b\" client_id: source \"a\" has the same client id at the same broker; \
         they would disconnect each other; give each its own"],
    );
    // At another broker it is another session.
    let elsewhere = named("\"b\"").replace("1883", "1884");
    super::parse(&(named("\"a\"") + &elsewhere));
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "mqtts:// needs the feature tls")]
fn contradictions() {
    check_source(
        "[source.tls]\nca_file = \"x\"",
        &[
            "tls: the address begins with mqtt://, which is not encrypted; use mqtts://, or remove [source.tls]",
        ],
    );
    let tls = SOURCE.replace("mqtt://", "mqtts://");
    let with = |extra: &str| tls.replace("[[source.s", &format!("[source.tls]\n{extra}\n[[source.s"));
    check(
        &with("cert_file = \"x\""),
        &["source[0] \"home\" tls.cert_file: it has no key_file; a certificate needs its private key"],
    );
    check(
        &with("key_file = \"x\""),
        &["source[0] \"home\" tls.key_file: it has no cert_file; a private key needs its certificate"],
    );
    check(
        "[http]\ncert_file = \"x\"",
        &["http.cert_file: it has no key_file; a certificate needs its private key"],
    );
    check(
        "[http]\nlisten = \"0.0.0.0:80\"",
        &["http.listen: 0.0.0.0:80 can be reached from other machines, and there is no token_file; \
         set token_file, or listen on 127.0.0.1"],
    );
    check_source(
        "protocol = 4\npassword_file = \"x\"",
        &["password_file: MQTT 3.1.1 has no password without a user name; set username"],
    );
    let window = |seconds| format!("[[aggregates]]\nwindow_s = {seconds}\nkeep = 1\n");
    check(
        &(window(60) + &window(90)),
        &["aggregates[1] window_s: 90 seconds are not a multiple of the window before, 60 seconds; \
         use 120, for example"],
    );
    check(
        &(window(60) + &window(60)),
        &[
            "aggregates[1] window_s: 60 seconds come after 60 seconds; put the windows in order, the shortest first",
        ],
    );
    check_rule(
        "topic = \"a/+device\"\ndecoder = \"availability\"\nroot = \"/a\"\nonline = [\"OFF\"]",
        &[
            "root: only decoders of documents, such as \"json\", read it; remove it, or change the decoder",
            "online: \"OFF\" means online and offline; remove it from one of the two (each has a default)",
        ],
    );
    check_source(
        "[[source.policy]]\nattributes = [\"a\"]\nrecord = \"never\"\ndeadband = 1",
        &["policy[0] deadband: it has no effect unless record is \"change\"; remove one of the two"],
    );
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "mqtts:// needs the feature tls")]
fn addresses() {
    for (address, words) in [
        ("localhost:1883", "it must begin with mqtt:// or mqtts://; write it as \"mqtt://host:1883\""),
        (
            "mqtt://me:hunter2@host",
            "it must not hold a user name or password; use username and password_file",
        ),
        (
            "mqtt://host:0",
            "it is not a host with an optional port; \
            write it as \"mqtt://host:1883\" or \"mqtt://[::1]:1883\"",
        ),
        (
            "mqtt://",
            "it is not a host with an optional port; \
            write it as \"mqtt://host:1883\" or \"mqtt://[::1]:1883\"",
        ),
    ] {
        let text = SOURCE.replace("mqtt://127.0.0.1:1883", address);
        check(&text, &[&format!("source[0] \"home\" address: {words}")]);
    }
    for (address, host, port) in [
        ("mqtt://host", "host", 1883),
        ("mqtts://host/", "host", 8883),
        ("mqtt://[::1]", "::1", 1883),
        ("mqtt://[fd00::1]:99", "fd00::1", 99),
    ] {
        let config = super::parse(&SOURCE.replace("mqtt://127.0.0.1:1883", address));
        let found = &config.sources.first().unwrap().address;
        assert_eq!((found.host.as_str(), found.port), (host, port), "{address}");
    }
}

#[test]
fn names() {
    check(
        "gateway_id = \"a b\"",
        &[
            "gateway_id: \"a b\" cannot be a gateway id; use 1 to 64 letters, digits, dots, hyphens and underscores",
        ],
    );
    check(
        &SOURCE.replace("\"home\"", "\"Home\""),
        &["source[0] \"Home\" name: the name is too long or has other characters than it may; \
         use 1 to 32 of the characters a-z, 0-9, _ and -"],
    );
    check(
        "[http]\nlisten = \"localhost\"",
        &["http.listen: \"localhost\" is not an IP address with a port; \
         write it as \"127.0.0.1:8687\" or \"[::1]:8687\", or \"\" for none"],
    );
    check(
        "[http]\nhosts = [\"http://a\"]",
        &["http.hosts: \"http://a\" is not a host name; give names without scheme and port"],
    );
}

#[test]
fn topics() {
    check_rule(
        "topic = \"a/b+\"\ndecoder = \"ignore\"",
        &["topic: \"a/b+\" is not a topic template: level \"b+\" has a wildcard inside it; \
         `+` and `#` must be a whole level or begin it"],
    );
    check_rule(
        "topic = \"a/+x\"\ndecoder = \"json\"",
        &["device: it is \"{device}\" by default: the topic has no capture \"device\"; it has x; \
         write +NAME or #NAME in the topic and {NAME} in device"],
    );
    check_rule(
        "topic = \"a/+device\"\ndecoder = \"scalar\"\nattribute = \"{what}\"",
        &["attribute: it is \"{what}\": the topic has no capture \"what\"; it has device; \
         write +NAME or #NAME in the topic and {NAME} in attribute"],
    );
    check_source(
        "exclude = [\"a/#/b\"]",
        &["exclude[0]: \"a/#/b\" is not an MQTT filter: `#` must be its last level"],
    );
    check_source(
        "[source.will]\ntopic = \"a/+\"",
        &["will.topic: it is not the name of a topic: level \"+\" has a wildcard inside it; \
         `+` and `#` must be a whole level or begin it"],
    );
}

#[test]
fn pointers_patterns_and_choices() {
    let rule = "topic = \"a/+device\"\ndecoder = \"json\"\n";
    for pointer in ["a", "/a~2", "/a~"] {
        check_rule(
            &format!("{rule}root = \"{pointer}\""),
            &[&format!(
                "root: \"{pointer}\" is not a JSON pointer; \
             write it as \"/params/ts\"; ~1 stands for / and ~0 for ~ in a name"
            )],
        );
    }
    check_rule(
        &format!("{rule}ignore = [\"a**\"]"),
        &["ignore[0]: \"a**\" is not a pattern; it must not be empty, nor have two `*` side by side"],
    );
    check_rule(
        "topic = \"a/+device\"\ndecoder = \"jsn\"",
        &[
            "decoder: \"jsn\" is unknown; it must be json, cbor, msgpack, senml, senml-cbor, influx, scalar, availability, action, ignore, zigbee2mqtt-devices, zigbee2mqtt-groups, homeassistant-discovery, homie, homie5-description, tasmota-discovery or shelly-announce; did you mean json?",
        ],
    );
    check_source(
        "[[source.policy]]\nattributes = [\"a**b\"]\nrecord = \"always\"",
        &[
            "policy[0] record: \"always\" is unknown; it must be change, every or never",
            "policy[0] attributes[0]: \"a**b\" is not a pattern; it must not be empty, nor have two `*` side by side",
        ],
    );
}

#[test]
fn faults_of_rules() {
    let rule = "topic = \"a/+device/+x\"\ndecoder = \"json\"\n";
    let json = |keys: &str, expected: &[&str]| check_rule(&format!("{rule}{keys}"), expected);
    json("also = 1", &["also: it is the number 1; it must be true or false"]);
    json(
        "each = \"member\"",
        &["each: \"member\" is unknown; it must be members or elements; did you mean members?"],
    );
    json(
        "value = \"x\"\nattribute = \"y\"",
        &["value: \"x\" is not a JSON pointer; \
         write it as \"/params/ts\"; ~1 stands for / and ~0 for ~ in a name"],
    );
    json("value = \"/x\"", &["value: the value has no name; give attribute"]);
    json(
        "action_fields = \"together\"",
        &[
            "action_fields: the action has no name; give attribute",
            "action_fields: there are no actions; give actions, such as [\"*\"]",
        ],
    );
    json("device = []", &["device: it is empty; give at least one text, or remove it for the default"]);
    json("device = [\"{device}\", \"\"]", &["device[1]: it is empty; remove it"]);
    json(
        "device = [\"{/a~2}\", \"{name}\"]",
        &[
            "device[0]: it is \"{/a~2}\": {/a~2} is not a JSON pointer; ~1 stands for / and ~0 for ~ in a name; \
             write +NAME or #NAME in the topic and {NAME} in device",
            "device[1]: it is \"{name}\": the topic has no capture \"name\"; it has device, x; \
             write +NAME or #NAME in the topic and {NAME} in device",
        ],
    );
    json(
        "device = \"{key}\"\neach = \"elements\"",
        &[
            "device: it is \"{key}\": there is a {key} only with each = \"members\"; write +key in the topic, or set each",
        ],
    );
    json(
        "rename = [{ from = \"a\" }, { to = \"\", from = \"b\" }]",
        &[
            "rename[0] to: it is missing; give the name that it shall have",
            "rename[1] to: it is empty; give the name that it shall have",
        ],
    );
    json(
        "only = [\"**\"]",
        &["only[0]: \"**\" is not a pattern; it must not be empty, nor have two `*` side by side"],
    );
    check_rule(
        "topic = \"a/+device/+x\"\ndecoder = \"scalar\"\nattribute = \"{/a}\"\nonly = [\"a\"]",
        &[
            "only: only decoders of documents, such as \"json\", read it; remove it, or change the decoder",
            "attribute: it is \"{/a}\": only a decoder for documents can look into the payload; \
             use captures of the topic, or change the decoder",
        ],
    );
    check_rule(
        "topic = \"a/+device\"\ndecoder = \"availability\"\nroot = \"/state\"",
        &["root: only decoders of documents, such as \"json\", read it; remove it, or change the decoder"],
    );
    json(
        "parent = \"{/a}\"",
        &["parent: it is \"{/a}\": only captures of the subscription's topic can be in it; \
           write +NAME or #NAME in the topic and {NAME} in parent"],
    );
    check_rule(
        "topic = \"a/+device/+x\"\ndecoder = \"ignore\"\nalso = true",
        &["also: a rule that ignores a message takes nothing of it; remove it, or change the decoder"],
    );
}

#[test]
fn faults_of_conditions() {
    let json = |when: &str, expected: &[&str]| {
        check_rule(&format!("topic = \"a/+device/+x\"\ndecoder = \"json\"\nwhen = {when}"), expected);
    };
    json(
        "[{ equals = \"a\" }]",
        &["when[0] pointer: it is missing; write it as \"/method\", or give a capture"],
    );
    json(
        "[{ pointer = \"/a\", capture = \"x\", equals = \"a\" }]",
        &["when[0] pointer: it is there beside capture; write two conditions"],
    );
    json(
        "[{ capture = \"y\", in = [\"a\"] }]",
        &["when[0] capture: the topic has no capture \"y\"; write +y or #y in the topic"],
    );
    json(
        "[{ capture = \"x\", exists = true }]",
        &["when[0] exists: a capture is always there; use in or not_in"],
    );
    json(
        "[{ capture = \"x\", is = \"object\" }]",
        &["when[0] is: a capture is always a text; use in or not_in"],
    );
    json(
        "[{ pointer = \"/a\", is = \"array\" }]",
        &["when[0] is: \"array\" is unknown; it must be object, list or value"],
    );
    json("{ retained = 1 }", &["when.retained: it is the number 1; it must be true or false"]);
    json("{ retained = true, equals = \"a\" }", &["when.equals: unknown key; known here: retained"]);
    json("[{ capture = \"x\", in = [] }]", &["when[0] in: it is empty; give at least one text"]);
    json(
        "[{ pointer = \"/a\", equals = \"a\", in = [\"b\"] }]",
        &["when[0] equals: there are several tests: equals, in; write a condition for each"],
    );
    json("5", &["when: it is the number 5; it must be an array of tables, [[when]]"]);
    check_rule(
        "topic = \"a/+device/+attribute\"\ndecoder = \"homie\"\nwhen = { pointer = \"/a\", exists = true }",
        &["when.pointer: an announcement is read as a whole, or not at all; \
           use a capture of the topic, or change the decoder"],
    );
}

#[test]
fn faults_of_types() {
    let types = |types: &str, expected: &[&str]| {
        check_rule(&format!("topic = \"a/+device\"\ndecoder = \"json\"\ntypes = [{types}]"), expected);
    };
    types(
        "{ unit = \"W\" }",
        &[
            "types[0] attributes: it is missing or empty; name attributes, such as [\"*version\"]",
            "types[0] type: it is missing; choose text, number, integer or boolean",
        ],
    );
    types(
        "{ attributes = [\"a\"], type = \"text\", unit = \"W\", true = [\"x\"] }",
        &[
            "types[0] unit: it is only for number and integer; remove it, or change the type",
            "types[0] true: it is only for boolean; remove it, or change the type",
        ],
    );
    types(
        "{ attributes = [\"a\"], type = \"boolean\", true = [\"OFF\"], false = [] }",
        &["types[0] false: it is empty; give at least one text, or remove it for the default"],
    );
    types(
        "{ attributes = [\"a\"], type = \"boolean\", true = [\"OFF\"] }",
        &["types[0] true: \"OFF\" means true and false; remove it from one of the two (each has a default)"],
    );
    check_rule(
        "topic = \"a/+device\"\ndecoder = \"action\"\ntypes = [{ attributes = [\"a\"], type = \"text\" }]",
        &[
            "types: only decoders of documents, such as \"json\", and the decoder \"scalar\" read it; remove it, or change the decoder",
        ],
    );
}

#[test]
fn preset_faults() {
    let names = one_of(&super::super::PRESETS);
    assert!(names.starts_with("zigbee2mqtt, tasmota, "), "{names}");
    check_rule(
        "preset = \"bluetooth\"",
        &[&format!("preset: there is no preset \"bluetooth\"; it must be {names}")],
    );
    check_rule(
        "preset = \"tasmoto\"",
        &[&format!("preset: there is no preset \"tasmoto\"; it must be {names}; did you mean tasmota?")],
    );
    check_rule(
        "preset = \"tasmota\"\nbase = \"a/#\"\ntopic = \"x\"",
        &[
            "base: \"a/#\" is not the beginning of a topic: level \"#\" has a wildcard inside it; \
         `+` and `#` must be a whole level or begin it; use plain text, such as \"zigbee2mqtt\"",
            "topic: it cannot be combined with a preset; \
         a preset takes only base, commands, device_prefix, namespace and qos; write a subscription of its own before it",
        ],
    );
    check_rule(
        "preset = \"tasmota\"\nbase = \"a/\"\ndevice_prefix = \"{x}\"",
        &[
            "base: \"a/\" begins or ends with a slash; use plain text, such as \"zigbee2mqtt\"",
            "device_prefix: \"{x}\" has a brace in it; use plain text, such as \"zigbee2mqtt\"",
        ],
    );
}

#[test]
fn syntax_errors_have_a_place_and_no_excerpt() {
    check(
        "[log]\npassword = \"hunter2\nx = 1",
        &["test.toml: syntax error at line 2, column 20: invalid basic string, expected `\"`; \
         correct the file at this place"],
    );
    check(
        "a = 1\na = 2",
        &["test.toml: syntax error at line 2, column 1: duplicate key; correct the file at this place"],
    );
}

#[test]
fn all_faults_are_reported_at_once_and_secrets_never() {
    let text = "x = 1\n[log]\ncommit_delay_ms = 0\n[http]\nlisten = \"a\"\n[[source]]\nname = \"home\"\n\
                address = \"mqtt://u:hunter2@h\"\npassword = \"hunter2\"\nusername = 3\n";
    let faults = Config::from_toml(text, "test.toml").unwrap_err();
    assert_eq!(faults.faults.len(), 7, "{faults}");
    assert!(
        faults
            .to_string()
            .starts_with("test.toml: 7 faults in the configuration\n  log.commit_delay_ms: 0 is")
    );
    assert!(!format!("{faults}{faults:?}").contains("hunter2"), "{faults}");
}

#[test]
fn descriptions() {
    let block = |keys: &str| format!("{SOURCE}[[source.describe]]\n{keys}\n");
    let check = |keys: &str, expected: &str| {
        assert_eq!(lines(&block(keys)), [format!("source[0] \"home\" describe[0] {expected}")], "{keys}");
    };
    check(
        "unit = \"V\"",
        "unit: it is for attributes, and the block names none; write one block for the devices and another for their \
         attributes",
    );
    check(
        "attributes = [\"a\"]\nunit = \"V\"\narea = \"x\"",
        "area: it is for devices; a block with `attributes` is about those; write one block for the devices and another \
         for their attributes",
    );
    check(
        "devices = [\"a\"]",
        "name: the block says nothing; give at least one of name, area, model, manufacturer, unit, device_class",
    );
    check(
        "attributes = []\nunit = \"V\"",
        "attributes: it is empty; name attributes, or remove it to describe the devices",
    );
    check(
        "name = \"a\\nb\"",
        "name: it is longer than 256 bytes or holds a control character; write a short text on one line",
    );
    check(
        "name = \"x\"\ndevices = [\"a**b\"]",
        "devices[0]: \"a**b\" is not a pattern; it must not be empty, nor have two `*` side by side",
    );
    let announced =
        "[[source.subscription]]\ntopic = \"a/+device\"\ndecoder = \"homie\"\ndevice = \"{device}\"\n";
    let expected = "source[0] \"home\" subscription[1] device: an announcement is about the devices that the other \
                    subscriptions make of their topics; remove it";
    assert_eq!(lines(&format!("{SOURCE}{announced}")), [expected]);
}

#[test]
fn faults_of_keep_alives() {
    let rule = "topic = \"a/+device/+x\"\ndecoder = \"scalar\"\nattribute = \"x\"\n";
    let check = |keys: &str, expected: &[&str]| check_rule(&format!("{rule}keep_alive = {keys}"), expected);
    check(
        "{}",
        &["keep_alive.topic: it is missing; give the topic to publish, such as \"plant/{device}/keepalive\""],
    );
    check(
        "{ topic = \"r/{name}\", every_s = 1 }",
        &[
            "keep_alive.topic: it is \"r/{name}\": the topic has no capture \"name\"; it has device, x; \
             write +NAME or #NAME in the topic of the subscription and {NAME} here",
            "keep_alive.every_s: 1 is out of range; it must be 5 to 3600 seconds",
        ],
    );
    check(
        "{ topic = \"r/+/x\" }",
        &["keep_alive.topic: it is \"r/+/x\": a message has no wildcards in its topic; \
         write +NAME or #NAME in the topic of the subscription and {NAME} here"],
    );
}

/// A source with this block for commands.
#[track_caller]
fn check_command(block: &str, name: &str, expected: &[&str]) {
    let text = format!("{SOURCE}commands = false\n[[source.command]]\n{block}");
    let expected: Vec<String> =
        expected.iter().map(|line| format!("source[0] \"home\" command[0] {name:?} {line}")).collect();
    assert_eq!(lines(&text), expected, "{text}");
}

#[test]
fn commands() {
    let both = "attribute: the block must name an attribute or an operation, and not both; give either the attribute that \
                is set, such as attribute = \"state\", or the name of an operation";
    let text = |block: &str| format!("{SOURCE}commands = false\n[[source.command]]\n{block}");
    check(&text("topic = \"a\""), &[&format!("source[0] \"home\" command[0] {both}")]);
    check(
        &text("attribute = \"a\"\noperation = \"b\"\ntopic = \"a\""),
        &[&format!("source[0] \"home\" command[0] {both}")],
    );
    check_command(
        "attribute = \"*/a/*\"\nof = \"b\"\nmin = 2\nmax = 1\ntopic = \"{x}/set\"\nqos = 2",
        "*/a/*",
        &[
            "qos: 2 is out of range; it must be 0 to 1",
            "attribute: it may have one `*`; write one block for each group of attributes",
            "of: it has no effect without an operation; name the operation, or remove it",
            "topic: there is no placeholder {x}; use {device}, {attribute}, {attribute/}, {*}, {value}, {json}, \
             {document}, {id}, {reply}, {client_id}",
            "min: it is larger than max, 1; exchange the two",
        ],
    );
    check_command(
        "operation = \"{attribute}/go\"\ndevice = \"+value/a+\"\ntopic = \"a\"",
        "{attribute}/go",
        &[
            "device: \"+value/a+\" is not a template: level \"a+\" has a wildcard inside it; `+` and `#` must be a whole \
             level or begin it; write it like a topic, such as \"+bridge/+name\"",
            "operation: there is no attribute that its placeholder could stand for; say with `of` which attributes the \
             operation is for, or remove the placeholder",
        ],
    );
    check_command(
        "operation = \"go\"\ndevice = \"+value/+device\"\ntopic = \"a\"\nreaches = \"there\"",
        "go",
        &[
            "device: {value} already stands for something else; call the capture something else",
            "reaches: it has no effect without evidence = \"reported\"; set evidence, or remove it",
        ],
    );
    check_command(
        "operation = \"go\"\ntopic = \"a\"\nevidence = \"reported\"",
        "go",
        &[
            "reports: an operation has no attribute of its own; name the attribute that reaches the value, or set evidence = \
             \"none\"",
            "reaches: the operation takes no value that could be reached; say with `reaches` what the attribute is when \
             it is done, or set evidence = \"none\"",
        ],
    );
    check_command(
        "attribute = \"a\"\ntopic = \"a\"\nreply = { topic = \"b\" }",
        "a",
        &[
            "payload: it has no {id}, so an answer cannot be told from another; put {id} where the device takes the number \
             that it sends back",
        ],
    );
    check_command(
        "attribute = \"a\"\ntopic = \"a\"\nevidence = \"none\"\nqos = 0\nreply = { topic = \"b/{device}\", id = \"id\" }",
        "a",
        &[
            "reply.id: \"id\" is not a JSON pointer; begin it with a slash, such as \"/id\"",
            "reply.topic: it must be the same for all devices, because the source subscribes to it; write the topic out; \
             {client_id} is the only placeholder",
            "reply: it has no effect with evidence = \"none\"; set evidence to \"reply\" or \"reported\", or remove it",
            "qos: with 0 and without evidence nothing would ever be known of the command; set qos = 1, so that at least \
             the broker acknowledges it",
        ],
    );
    check_command(
        "attribute = \"a\"\ntopic = \"a\"\nevidence = \"reply\"",
        "a",
        &["reply: it is missing; say where the answer arrives: reply = { topic = \"...\" }"],
    );
    check_command(
        "attribute = \"a\"\ntopic = \"a\"\nwords = { on = 1 }\nwhere = [\"x\"]",
        "a",
        &[
            "words: it must be a table of texts; write words = { true = \"ON\", false = \"OFF\" }",
            "where: it must be a table of attributes with lists of texts; write where = { state = [\"ON\", \"OFF\"] }",
        ],
    );
    check_command(
        "attribute = \"a\"\ntopic = \"a\"\nwhere = { \"$area\" = \"x\" }",
        "a",
        &[
            "where: $area is not known of a device; use the name of an attribute, or $model, $manufacturer or $stable_id",
        ],
    );
    check(
        "[[source]]\nname = \"home\"\naddress = \"mqtt://127.0.0.1\"\nclient_id = \"a+b\"\n[[source.subscription]]\npreset = \
         \"shelly-gen2\"",
        &[
            "source[0] \"home\" client_id: devices would answer commands on \"a+b/rpc\", which is not a topic; choose one \
           without the characters + and #",
        ],
    );
}
