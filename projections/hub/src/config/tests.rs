use std::os::unix::fs::PermissionsExt;

use super::*;

const LEAST: &str = "name = \"a\"\n[postgres]\naddress = \"postgresql://fieldlog@127.0.0.1/fieldlog\"\n";

fn check(text: &str, expected: &[&str]) {
    let faults = Config::from_toml(text).unwrap_err();
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, words) in faults.iter().zip(expected) {
        assert!(fault.contains(words), "{fault}");
    }
}

#[test]
fn little_is_required() {
    let config = Config::from_toml(LEAST).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8090");
    assert_eq!((config.lease, config.parcel_bytes_max), (Duration::from_secs(10), 32 << 20));
    assert_eq!((&*config.postgres.schema, config.postgres.writers), ("fieldlog", 2));
    assert_eq!(config.gap_patience, Duration::from_secs(30));
    assert_eq!(config.retention, Retention { events_days: None, minutes_days: None });
}

#[test]
fn unknown_keys_are_named_with_their_line() {
    check(&format!("leas_s = 3\n{LEAST}"), &["unknown field `leas_s`"]);
    check("name = \"a\"", &["missing field `postgres`"]);
    check(&format!("{LEAST}\n[http]\nport = 1"), &["unknown field `port`"]);
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = r#"
        name = "a b"
        lease_s = 1
        gap_patience_s = 0
        [http]
        listen = "0.0.0.0:80"
        [postgres]
        address = "postgresql://u:secret@h/db"
        schema = "Public"
        writers = 0
        [retention]
        events_days = 0
    "#;
    check(
        text,
        &[
            "`lease_s` is 1; it must be 3 to 3600",
            "`gap_patience_s` is 0; it must be 1 to 86400",
            "`postgres.writers` is 0",
            "`retention.events_days` is 0",
            "`name` is \"a b\"",
            "`postgres.schema` is \"Public\"",
            "add a [[token]], or listen on 127.0.0.1",
            "has a password; put it into a file",
        ],
    );
    check("name = \"a\"\n[postgres]\naddress = \"dbname=x\"", &["names no host", "must name the user"]);
    check("name = \"a\"\n[postgres]\naddress = \"nonsense\"", &["cannot be read"]);
}

#[test]
fn tls_to_the_database_is_asked_for_by_its_address() {
    let with = |mode: &str, more: &str| {
        format!("name = \"a\"\n[postgres]\naddress = \"postgresql://u@h/db{mode}\"\n{more}")
    };
    for mode in ["?sslmode=require", "?sslmode=verify-full"] {
        let config = Config::from_toml(&with(mode, "")).unwrap();
        assert_eq!(config.postgres.connect.get_ssl_mode(), SslMode::Require);
    }
    let dir = tempfile::tempdir().unwrap();
    let ca = format!("ca_file = {:?}", dir.path().join("ca.pem"));
    check(
        &with("", &ca),
        &["`postgres.ca_file` has no effect without TLS; write sslmode=require in `address`"],
    );
    check(&with("?sslmode=require", &ca), &["`postgres.ca_file`: "]);
}

#[test]
fn brokers_have_sessions_of_their_own() {
    let mqtt = |lines: &str| format!("{LEAST}\n[[mqtt]]\naddress = \"mqtt://h\"\n{lines}");
    let config = Config::from_toml(&mqtt("topic = \"a/{lane}/{gateway}/{epoch}\"")).unwrap();
    let found = &config.mqtt[0];
    assert_eq!((&*found.filter, &*found.host, found.port, found.tls), ("a/+/+/+", "h", 1883, false));
    let config = Config::from_toml(&mqtt("").replace("mqtt://h", "mqtts://[::1]")).unwrap();
    let found = &config.mqtt[0];
    assert_eq!((&*found.filter, &*found.host, found.port), ("fieldlog/+/events", "::1", 8883));
    for topic in ["fieldlog/+/events", "fieldlog/events", "a{gateway}/b", "{gateway}/#"] {
        check(&mqtt(&format!("topic = \"{topic}\"")), &["it must be that of the gateways' sinks"]);
    }
    for commands in ["fieldlog/{gateway}/commands", "fieldlog/commands/#", "c/{gateway}/+/#", "#"] {
        let words = "it must be that of [sink.commands] of the gateways' sinks";
        check(&mqtt(&format!("commands = \"{commands}\"")), &[words]);
    }
    check(&mqtt("session_expiry_s = 60"), &["it must be 3600 to 4294967295 (for ever)"]);
    check(&mqtt("username = \"u\""), &["one is given; both are needed"]);
    check(&mqtt("").replace("mqtt://", "mqtt://u:p@"), &["user and password have keys of their own"]);
    check(&mqtt("[[mqtt]]\naddress = \"mqtt://h:1883\""), &["use the session `fieldlog-hub`"]);
}

#[test]
fn subjects_are_those_of_the_sinks() {
    let nats = |lines: &str| format!("{LEAST}\n[[nats]]\naddress = \"nats://h:4222\"\n{lines}");
    let config = Config::from_toml(&nats("subject = \"a.{lane}.{gateway}.{epoch}\"")).unwrap();
    assert_eq!((&*config.nats[0].pattern, config.nats[0].gateway_token), ("a.*.*.*", 2));
    let config = Config::from_toml(&nats("")).unwrap();
    assert_eq!((&*config.nats[0].pattern, config.nats[0].gateway_token), ("fieldlog.*.events", 1));
    assert_eq!(config.nats[0].commands, "fieldlog.commands.{gateway}.>");
    assert_eq!(config.nats[0].consumer, "fieldlog-hub");
    assert_eq!(Config::from_toml(&nats("consumer = \"b_2\"")).unwrap().nats[0].consumer, "b_2");
    for name in ["", "a.b", "a b", "a*", "a>", "a/b", &"a".repeat(61)] {
        check(&nats(&format!("consumer = {name:?}")), &["`nats.consumer` is"]);
    }
    check(&nats("subject = \"fieldlog.*.events\""), &["it must be that of the gateways' sinks"]);
    for commands in ["fieldlog.commands.{gateway}", "fieldlog.commands.>", "c-{gateway}.>"] {
        check(
            &nats(&format!("commands = \"{commands}\"")),
            &["it must be that of [sink.commands] of the gateways' sinks"],
        );
    }
    check(&nats("").replace("nats://", "http://"), &["`nats.address` is \"http://h:4222\""]);
}

#[test]
fn tokens_come_from_files_that_not_everyone_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let text = format!("{LEAST}\n[[token]]\nfile = {path:?}\nscopes = [\"ingest\"]");
    check(&text, &["cannot read"]);
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    check(&text, &["chmod o-rwx"]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(Config::from_toml(&text).unwrap().tokens.len(), 1);
    std::fs::write(&path, "too short").unwrap();
    check(&text, &["must hold 16 to 4,096"]);
    check(&text.replace("ingest", "write"), &["unknown variant `write`"]);
}

#[test]
fn stores_are_checked() {
    let with = |lines: &str| format!("{LEAST}\n{lines}");
    let config = Config::from_toml(&with(
        "[redis]\naddress = \"redis://127.0.0.1:6379/2\"\n[opensearch]\naddress = \"http://h:9200/\"",
    ));
    let config = config.unwrap();
    let (redis, opensearch) = (config.redis.unwrap(), config.opensearch.unwrap());
    assert_eq!((&*redis.prefix, redis.changes_max, redis.ttl_s), ("fieldlog", 10_000, None));
    assert_eq!((redis.connect.redis_settings().db(), &*redis.address), (2, "127.0.0.1:6379"));
    assert_eq!((&*opensearch.authority, &*opensearch.prefix), ("h:9200", "fieldlog"));
    let text = r#"
        [redis]
        address = "redis://u:secret@h"
        prefix = "a:b"
        ttl_s = 0
        [opensearch]
        address = "https://h"
        user = "u"
        prefix = "A"
    "#;
    let faults = [
        "`redis.prefix` is \"a:b\"",
        "`redis.ttl_s` is 0",
        "`redis.address` has a password; put it into a file",
        "`opensearch.prefix` is \"A\"; it must be 1 to 60 lower-case",
        "one is given; both are needed",
        "`opensearch.address` is \"https://h\"; write it like \"http://127.0.0.1:9200\", or with TLS",
    ];
    check(&with(text), &faults);
    let config = Config::from_toml(&with(
        "[redis]\naddress = \"rediss://u@h:7000/2\"\n[opensearch]\naddress = \"https://h:9200/\"",
    ))
    .unwrap();
    let (redis, opensearch) = (config.redis.unwrap(), config.opensearch.unwrap());
    assert_eq!((&*redis.address, redis.tls, redis.connect.redis_settings().db()), ("h:7000", true, 2));
    assert_eq!((&*opensearch.authority, opensearch.tls), ("h:9200", true));
    let plain = "[redis]\naddress = \"redis://h\"\nca_file = \"/nowhere\"\n\
        [opensearch]\naddress = \"http://h:1\"\nca_file = \"/nowhere\"";
    check(
        &with(plain),
        &[
            "`redis.ca_file` has no effect without TLS; write rediss:// in `address`",
            "`opensearch.ca_file` has no effect without TLS; write https:// in `address`",
        ],
    );
    check(
        &with(&plain.replace("redis://", "rediss://").replace("http://", "https://")),
        &["`redis.ca_file`: /nowhere cannot be used", "`opensearch.ca_file`: /nowhere cannot be used"],
    );
    check(&with("[redis]\naddress = \"127.0.0.1\""), &["write it like \"redis://127.0.0.1:6379/0\""]);
    check(&with("[opensearch]\naddress = \"http://h\""), &["write it like"]);
    check(
        &with("[redis]\naddress = \"redis://h\"\npassword_file = \"/nowhere/p\""),
        &["`redis.password_file`: cannot read /nowhere/p"],
    );
}

#[test]
fn streams_are_checked() {
    let with = |lines: &str| format!("{LEAST}\n{lines}");
    let text =
        "[[kafka]]\naddress = \"kafka://a, [::1]:1\"\n[[kafka]]\naddress = \"kafkas://b\"\ntopic = \"t\"\n";
    let config = Config::from_toml(&with(text)).unwrap();
    assert_eq!(
        (&*config.kafka[0].brokers, &*config.kafka[0].topic),
        (&["a:9092".into(), "[::1]:1".into()][..], "fieldlog")
    );
    assert_eq!((config.kafka[0].tls, config.kafka[1].tls), (false, true));
    let text = r#"
        [[kafka]]
        address = "kafka://u:secret@h"
        topic = "a/b"
        username = "u"
        [[kafka]]
        address = "kafka://h"
        ca_file = "/nowhere"
        sasl = "plain"
        [[kafka]]
        address = "kafkas://[::1]"
        ca_file = "/nowhere"
    "#;
    let faults = [
        "`kafka.topic` is \"a/b\"; it must be 1 to 249",
        "of `kafka.username` and `kafka.password_file` one is given",
        "`kafka.address` is \"kafka://u:secret@h\"; write it like",
        "`kafka.ca_file` has no effect without TLS; write kafkas://",
        "`kafka.sasl` has no effect without",
        "`kafka.ca_file`: /nowhere cannot be used",
        "an IPv6 address, which cannot be checked",
        "two [[kafka]] have the topic `fieldlog`",
    ];
    check(&with(text), &faults);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "secret").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!("[[kafka]]\naddress = \"kafka://h\"\nusername = \"u\"\npassword_file = {path:?}");
    check(&with(&text), &["which would show the password to everyone on the way"]);
    check(&with(&format!("{text}\nsasl = \"md5\"")), &["unknown variant `md5`"]);
}
