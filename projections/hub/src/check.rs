//! `fieldlog-hub check-config`: every fault of a configuration, or what it says.

use std::fmt::Write as _;
use std::path::Path;

use tokio_postgres::config::Host;

use crate::config::{Config, ConfigError, OpenSearch, Postgres, Retention};
use crate::token::{Scope, Token};

/// Reads a configuration and sums it up, without secrets.
///
/// # Errors
/// With every fault.
pub fn check_config(path: &Path) -> Result<String, ConfigError> {
    let config = Config::load(path)?;
    let mut text = format!("{}: good\n", path.display());
    // Writing to a String does not fail.
    let _ = summary(&config, &mut text);
    Ok(text)
}

fn summary(config: &Config, out: &mut String) -> std::fmt::Result {
    writeln!(out, "hub {:?}, a lease of {} s", config.name, config.lease.as_secs())?;
    writeln!(out, "http: {}, {}", config.listen, tokens(&config.tokens))?;
    writeln!(out, "postgres: {}", postgres(&config.postgres))?;
    for nats in &config.nats {
        writeln!(
            out,
            "nats: {}, stream {:?}, consumers {}-*, commands to {}",
            nats.address, nats.stream, nats.consumer, nats.commands
        )?;
    }
    for kafka in &config.kafka {
        writeln!(out, "kafka: {}, topic {:?}", kafka.address, kafka.topic)?;
    }
    for mqtt in &config.mqtt {
        writeln!(
            out,
            "mqtt: {}, topic {:?}, session {:?}, commands to {}",
            mqtt.address, mqtt.filter, mqtt.client_id, mqtt.commands
        )?;
    }
    if let Some(redis) = &config.redis {
        writeln!(out, "redis: {}{}, keys {}:*", redis.address, with_tls(redis.tls), redis.prefix)?;
    }
    if let Some(opensearch) = &config.opensearch {
        let OpenSearch { authority, tls, prefix, .. } = opensearch;
        writeln!(out, "opensearch: {authority}{}, indices {prefix}-*", with_tls(*tls))?;
    }
    let Retention { events_days, minutes_days } = config.retention;
    let kept = |days: Option<u32>| days.map_or("for ever".into(), |days| format!("for {days} days"));
    writeln!(out, "kept: events {}, aggregates of minutes {}", kept(events_days), kept(minutes_days))
}

fn with_tls(tls: bool) -> &'static str {
    if tls { " with TLS" } else { "" }
}

fn tokens(tokens: &[Token]) -> String {
    let scopes: Vec<String> =
        tokens.iter().map(|token| token.scopes().map(Scope::word).collect::<Vec<_>>().join("+")).collect();
    match scopes.len() {
        0 => "no token: whoever is on this machine may send and read".into(),
        1 => format!("1 token: {}", scopes[0]),
        count => format!("{count} tokens: {}", scopes.join(", ")),
    }
}

fn postgres(postgres: &Postgres) -> String {
    let hosts = postgres.connect.get_hosts().iter().enumerate().map(|(at, host)| {
        // One port is for all hosts.
        let ports = postgres.connect.get_ports();
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(dir) => format!("{}/.s.PGSQL.{port}", dir.display()),
        }
    });
    format!(
        "{}, database {:?}, schema {:?}, {} writers",
        hosts.collect::<Vec<_>>().join(", "),
        postgres.connect.get_dbname().unwrap_or_default(),
        postgres.schema,
        postgres.writers
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn checked(text: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "0123456789abcdef").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (file, name) = (dir.path().join("hub.toml"), dir.path().display().to_string());
        std::fs::write(&file, text.replace("DIR", &name)).unwrap();
        let said = check_config(&file).map_err(|error| error.to_string());
        let own = |text: String| text.replace(&name, "DIR");
        said.map(own).map_err(own)
    }

    #[test]
    fn what_is_good_is_summed_up() {
        let least = "name = \"one\"\n[postgres]\naddress = \"postgresql://u@db.example/fleet\"\n";
        assert_eq!(
            checked(least).unwrap(),
            "DIR/hub.toml: good\nhub \"one\", a lease of 10 s\nhttp: 127.0.0.1:8090, no token: whoever is on this machine may \
             send and read\npostgres: db.example:5432, database \"fleet\", schema \"fieldlog\", 2 writers\n\
             kept: events for ever, aggregates of minutes for ever\n"
        );
        let most = "name = \"one\"\n[[token]]\nfile = \"DIR/secret\"\nscopes = [\"read\", \"admin\"]\n\
             [[token]]\nfile = \"DIR/secret\"\nscopes = [\"ingest\"]\n\
             [postgres]\naddress = \"host=/run/postgresql user=u dbname=d\"\npassword_file = \"DIR/secret\"\n\
             [[nats]]\naddress = \"nats://127.0.0.1:4222\"\ntoken_file = \"DIR/secret\"\n\
             [[kafka]]\naddress = \"kafka://127.0.0.1:9092\"\n\
             [[mqtt]]\naddress = \"mqtt://127.0.0.1\"\n\
             [redis]\naddress = \"rediss://127.0.0.1\"\npassword_file = \"DIR/secret\"\n\
             [opensearch]\naddress = \"http://127.0.0.1:9200\"\n[retention]\nevents_days = 400\n";
        let said = checked(most).unwrap();
        for line in [
            "http: 127.0.0.1:8090, 2 tokens: read+admin, ingest",
            "postgres: /run/postgresql/.s.PGSQL.5432, database \"d\", schema \"fieldlog\", 2 writers",
            "nats: nats://127.0.0.1:4222, stream \"FIELDLOG\", consumers fieldlog-hub-*, commands to \
             fieldlog.commands.{gateway}.>",
            "kafka: kafka://127.0.0.1:9092, topic \"fieldlog\"",
            "mqtt: mqtt://127.0.0.1, topic \"fieldlog/+/events\", session \"fieldlog-hub\", commands to fieldlog/{gateway}/commands/#",
            "redis: 127.0.0.1:6379 with TLS, keys fieldlog:*",
            "opensearch: 127.0.0.1:9200, indices fieldlog-*",
            "kept: events for 400 days, aggregates of minutes for ever",
        ] {
            assert!(said.lines().any(|found| found == line), "{line}\n{said}");
        }
        assert!(!said.contains("0123456789abcdef"), "{said}");
    }

    #[test]
    fn every_fault_is_listed() {
        let faults = "name = \"\"\n[postgres]\naddress = \"postgresql://u@db.example/fleet\"\nwriters = 0\n";
        let said = checked(faults).unwrap_err();
        assert!(said.contains("`postgres.writers` is 0") && said.contains("`name` is \"\""), "{said}");
    }
}
