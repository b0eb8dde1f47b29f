//! `fieldlog check-config`: reports every fault of the configuration and of the files that it names, or a summary.

use std::io::{self, Write};
use std::path::Path;

use crate::config::{Config, EXIT_CONFIG, Loaded};
use files::{Finding, Verdict};

mod alerts;
pub(crate) mod files;

/// Checks the configuration at `path` and prints the result: faults and warnings to `err`, the rest to `out`. With
/// `show`, prints the effective configuration as TOML, presets expanded. Returns the exit code.
///
/// # Errors
/// Of the output.
pub fn check_config(path: &Path, show: bool, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    match Config::load(path) {
        Ok(loaded) if show => out.write_all(loaded.config.to_toml().as_bytes()).map(|()| 0),
        Ok(loaded) => checked(path, &loaded, out, err),
        Err(faults) => {
            writeln!(err, "{faults}")?;
            writeln!(err, "Nothing was started. Correct this and run `fieldlog check-config` again.")?;
            Ok(EXIT_CONFIG)
        }
    }
}

fn checked(path: &Path, loaded: &Loaded, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let config = &loaded.config;
    let mut findings = files::examine(config);
    findings.extend(alerts::examine(config));
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    let usable = bad == 0 && !config.sources.is_empty();
    if usable {
        for file in &loaded.files {
            writeln!(out, "{}: good", file.display())?;
        }
    }
    summary(config, out)?;
    if bad > 0 {
        let plural = if bad == 1 { "" } else { "s" };
        writeln!(err, "{}: {bad} file{plural} that it names cannot be used", path.display())?;
    }
    for Finding { verdict, place, words } in &findings {
        match verdict {
            Verdict::Bad => writeln!(err, "  {place}: {words}")?,
            Verdict::Unknown => writeln!(err, "warning: {place}: {words}")?,
            Verdict::Good => {}
        }
    }
    if config.sources.is_empty() {
        writeln!(
            err,
            "{}: it has no [[source]], so there is nothing to record and `fieldlog run` does not start; `fieldlog init` \
             writes one",
            path.display()
        )?;
    }
    Ok(if usable { 0 } else { EXIT_CONFIG })
}

fn summary(config: &Config, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "gateway {:?}, data in {}", config.gateway_id, config.data_dir.display())?;
    for source in &config.sources {
        let scheme = if source.address.tls { "mqtts" } else { "mqtt" };
        let (host, port, rules) = (&source.address.host, source.address.port, source.rules.len());
        writeln!(out, "source {:?}: {scheme}://{host}:{port}, {rules} rules", source.name)?;
    }
    for sink in &config.sinks {
        writeln!(out, "sink {:?}: {}, {}", sink.name, sink.target, sink.format.name())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(more: &str) -> (u8, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fieldlog.toml");
        std::fs::write(&path, more.replace("DIR", &dir.path().display().to_string())).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check_config(&path, false, &mut out, &mut err).unwrap();
        let text =
            |bytes| String::from_utf8(bytes).unwrap().replace(&dir.path().display().to_string(), "DIR");
        (code, text(out), text(err))
    }

    const SOURCE: &str = "gateway_id = \"g\"\n[[source]]\nname = \"home\"\naddress = \"mqtt://127.0.0.1\"\n\
                          username = \"u\"\npassword_file = \"DIR/password\"\n\
                          [[source.subscription]]\npreset = \"tasmota\"\n";

    #[test]
    fn what_is_good_is_summed_up() {
        let sink = "[[sink]]\nname = \"cloud\"\naddress = \"http://broker.example/in?key=hunter2\"\n";
        let source = SOURCE.replace("username = \"u\"\npassword_file = \"DIR/password\"\n", "");
        let (code, out, err) = checked(&format!("{source}{sink}"));
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(
            out,
            "DIR/fieldlog.toml: good\ngateway \"g\", data in /var/lib/fieldlog\n\
             source \"home\": mqtt://127.0.0.1:1883, 22 rules\nsink \"cloud\": http://broker.example:80, json\n"
        );
    }

    #[test]
    fn a_rule_that_names_a_derived_attribute_is_warned_of() {
        let source = SOURCE.replace("username = \"u\"\npassword_file = \"DIR/password\"\n", "");
        let derived =
            "[[derived_attribute]]\nname = \"load\"\nformula = \"product\"\nof = [\"volts\", \"amps\"]\n";
        let alert = |attribute: &str| {
            let rule =
                format!("[[alert]]\nname = \"r\"\non = \"attribute\"\nattribute = {attribute}\nabove = 5\n");
            checked(&format!("{source}{derived}{rule}"))
        };
        let warning = "warning: alert \"r\": `attribute` \"lo*\" includes the derived attribute \"load\", which alerts do \
                       not read, as it is not recorded; name what it is computed from: volts, amps\n";
        let (code, _, err) = alert("[\"volts\", \"lo*\"]");
        assert_eq!((code, err.as_str()), (0, warning));
        for silent in ["\"volts\"", "\"*\""] {
            let (code, _, err) = alert(silent);
            assert_eq!((code, err.as_str()), (0, ""), "{silent}");
        }
    }

    #[test]
    fn faults_are_listed_with_their_lines() {
        let (code, out, err) = checked("\nx = 1");
        assert_eq!((code, out.as_str()), (78, ""));
        assert!(err.contains("\n  x: unknown key") && err.contains(" (line 2)\n"), "{err}");
    }

    #[test]
    fn a_configuration_without_a_source_is_not_good() {
        let (code, out, err) = checked("gateway_id = \"g\"\n");
        assert_eq!((code, out.as_str()), (78, "gateway \"g\", data in /var/lib/fieldlog\n"));
        assert!(err.contains("it has no [[source]]") && err.contains("`fieldlog init` writes one"), "{err}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_its_setting() {
        let (code, out, err) = checked(SOURCE);
        assert_eq!(code, 78);
        assert!(!out.contains("good"), "{out}");
        assert_eq!(
            err,
            "DIR/fieldlog.toml: 1 file that it names cannot be used\n  source \"home\": cannot read `password_file` \
             DIR/password: No such file or directory (os error 2)\n"
        );
    }

    #[test]
    fn a_credential_of_the_service_is_not_known_here() {
        let (code, out, err) = checked(&SOURCE.replace("DIR/password", "mqtt-password"));
        assert_eq!(code, 0, "{err}");
        assert!(out.starts_with("DIR/fieldlog.toml: good\n"), "{out}");
        assert!(
            err.starts_with(
                "warning: source \"home\": `password_file` mqtt-password is a systemd credential"
            ),
            "{err}"
        );
    }
}
