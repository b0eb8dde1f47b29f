//! Later files override earlier ones, and the environment overrides files.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::super::{Config, Faults, Loaded};
use super::{SINK, SOURCE};

struct Files {
    directory: TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("conf.d")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Files { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Loaded, Faults> {
        let environment =
            environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::load_with(&self.path("fieldlog.toml"), environment)
    }

    fn lines(&self, environment: &[(&str, &str)]) -> Vec<String> {
        let directory = format!("{}/", self.directory.path().display());
        let text = self.load(environment).unwrap_err().to_string().replace(&directory, "");
        text.lines().skip(1).map(|line| line.trim_start().to_owned()).collect()
    }
}

#[test]
fn conf_d_is_read_in_order_and_adds_sources() {
    let other = SOURCE.replace("\"home\"", "\"attic\"");
    let files = Files::new(&[
        (
            "fieldlog.toml",
            &format!("gateway_id = \"main\"\n[log]\ncommit_delay_ms = 1\ncache_bytes = 2000000\n{SOURCE}"),
        ),
        ("conf.d/20-late.toml", "[log]\ncommit_delay_ms = 3"),
        ("conf.d/10-early.toml", &format!("[log]\ncommit_delay_ms = 2\n{other}")),
        ("conf.d/note.txt", "not TOML"),
    ]);
    let loaded = files.load(&[]).unwrap();
    assert_eq!(loaded.files.len(), 3);
    assert_eq!(loaded.config.log.commit_delay, Duration::from_millis(3));
    assert_eq!(loaded.config.log.cache_bytes, 2_000_000);
    let names: Vec<&str> = loaded.config.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["home", "attic"]);
    assert_eq!(loaded.config.sources.first().unwrap().client_id, "fieldlog-main-home");
}

#[test]
fn conf_d_adds_sinks() {
    let other = SINK.replace("\"cloud\"", "\"backup\"");
    let files = Files::new(&[("fieldlog.toml", SINK), ("conf.d/10.toml", &other)]);
    let config = files.load(&[("FIELDLOG__RETENTION__AGE_DAYS", "7")]).unwrap().config;
    let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["cloud", "backup"]);
    assert_eq!(config.retention.age, Some(Duration::from_secs(7 * 86_400)));
    let faulty = Files::new(&[("fieldlog.toml", SINK), ("conf.d/10.toml", &other.replace("mqtt", "ftp"))]);
    assert_eq!(
        faulty.lines(&[("FIELDLOG__SINK__0__NAME", "x")]),
        [
            "FIELDLOG__SINK__0__NAME: arrays cannot be set by environment variables; use a file in conf.d",
            "sink[1] \"backup\" address: it must begin with mqtt://, mqtts://, http://, https://, nats://, tls://, \
             kafka:// or kafkas:// (in conf.d/10.toml, line 3)",
        ]
    );
}

#[test]
fn sinks_that_this_build_cannot_serve() {
    for (scheme, built, words) in [
        ("nats", cfg!(feature = "nats"), "NATS; use another address, or a build with the feature \"nats\""),
        (
            "kafka",
            cfg!(feature = "kafka"),
            "Kafka; use another address, or a build with the feature \"kafka\"",
        ),
    ] {
        let files = Files::new(&[("fieldlog.toml", &SINK.replace("mqtt", scheme))]);
        if built {
            files.load(&[]).unwrap();
        } else {
            let fault = format!("sink[0] \"cloud\" address: this build of fieldlog has no {words}");
            assert_eq!(files.lines(&[]), [fault]);
        }
    }
}

#[test]
fn the_environment_wins_and_its_numbers_are_text() {
    let files = Files::new(&[("fieldlog.toml", "gateway_id = \"main\"\n[log]\ncommit_delay_ms = 1\n")]);
    let config = files
        .load(&[
            ("FIELDLOG__LOG__COMMIT_DELAY_MS", "500"),
            ("FIELDLOG__LOG__QUICK_REPAIR", "true"),
            ("FIELDLOG__LIMITS__STATE_BYTES_MAX", "2000000"),
            ("FIELDLOG__GATEWAY_ID", "0123"),
            ("FIELDLOG__HTTP__LISTEN", ""),
            ("FIELDLOG__HTTP__HOSTS", "a.example, b.example"),
            ("FIELDLOG_CONFIG", "not ours"),
            ("PATH", "not ours"),
        ])
        .unwrap()
        .config;
    assert_eq!(config.log.commit_delay, Duration::from_millis(500));
    assert!(config.log.quick_repair);
    assert_eq!(config.limits.state_bytes_max, Some(2_000_000));
    assert_eq!(config.gateway_id, "0123");
    assert_eq!(config.http.listen, None);
    assert_eq!(config.http.hosts, ["a.example", "b.example"]);
}

#[test]
fn faults_name_their_origin_unless_it_is_the_main_file() {
    let files = Files::new(&[
        ("fieldlog.toml", "[snapshots]\nkeep = 0"),
        ("conf.d/10.toml", "[limits]\ndevices_max = 0"),
    ]);
    let environment = [
        ("FIELDLOG__LOG__COMMIT_DELAY_MS", "fast"),
        ("FIELDLOG__LOG__COMIT_BYTES_MAX", "5"),
        ("FIELDLOG__SOURCE__0__NAME", "x"),
        ("FIELDLOG__LOG", "x"),
    ];
    assert_eq!(
        files.lines(&environment),
        [
            "FIELDLOG__LOG: it names no key; it must be FIELDLOG__TABLE__KEY",
            "FIELDLOG__LOG__COMIT_BYTES_MAX: it names no key; did you mean FIELDLOG__LOG__COMMIT_BYTES_MAX?",
            "FIELDLOG__SOURCE__0__NAME: arrays cannot be set by environment variables; use a file in conf.d",
            "log.commit_delay_ms: it is text; it must be a whole number, 1 to 10000 milliseconds (in the environment)",
            "snapshots.keep: 0 is out of range; it must be 1 to 100 snapshots (line 2)",
            "limits.devices_max: 0 is out of range; it must be 1 to 1000000 devices (in conf.d/10.toml, line 2)",
        ]
    );
}

#[test]
fn unreadable_files() {
    let files = Files::new(&[("conf.d/10.toml", "[log")]);
    let lines = files.lines(&[]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines.iter().any(|line| line.starts_with("fieldlog.toml: it cannot be read: No such file")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("conf.d/10.toml: syntax error at line 1, column 5: ")),
        "{lines:?}"
    );
    fs::write(files.path("fieldlog.toml"), b"a = \"\xff\"").unwrap();
    assert!(files.lines(&[]).iter().any(|line| line.contains("it is not UTF-8 text at byte 5")));
}
