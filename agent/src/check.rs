//! `fieldlog check-config`: reports every fault of the configuration and of the files that it names, or a summary.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::config::{Config, EXIT_CONFIG, Fault, Faults, Loaded, SinkConfig, SourceConfig};
use crate::words::number;
use files::{Finding, Verdict};

mod alerts;
pub(crate) mod files;

/// What is missing where there is nothing to record.
const NO_SOURCE: &str = "it has no [[source]], so there is nothing to record and `fieldlog run` does not start; `fieldlog \
                         init` writes one";

/// What a check has found.
struct Checked {
    /// What could be read.
    loaded: Option<Loaded>,
    faults: Faults,
    /// About the files that are named, and what else needs attention.
    findings: Vec<Finding>,
}

impl Checked {
    fn of(path: &Path) -> Checked {
        let (loaded, faults) = Config::examine(path, std::env::vars_os());
        let mut findings =
            loaded.iter().flat_map(|loaded| files::examine(&loaded.config)).collect::<Vec<_>>();
        match &loaded {
            Some(loaded) if faults.faults.is_empty() => findings.extend(alerts::examine(&loaded.config)),
            _ => {}
        }
        Checked { loaded, faults, findings }
    }

    /// The configuration, if it can be used but for the files that it names.
    fn whole(&self) -> Option<&Loaded> {
        self.loaded.as_ref().filter(|_| self.faults.faults.is_empty())
    }

    fn found(&self, verdict: Verdict) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.verdict == verdict)
    }

    fn is_good(&self) -> bool {
        let recorded = self.whole().is_some_and(|loaded| !loaded.config.sources.is_empty());
        recorded && self.found(Verdict::Bad).next().is_none()
    }

    fn exit_code(&self) -> u8 {
        if self.is_good() { 0 } else { EXIT_CONFIG }
    }
}

/// Checks the configuration at `path` and prints the result: faults and warnings to `err`, the rest to `out`. With
/// `show`, prints the effective configuration as TOML, presets expanded. Returns the exit code.
///
/// # Errors
/// Of the output.
pub fn check_config(path: &Path, show: bool, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let checked = Checked::of(path);
    match checked.whole() {
        Some(loaded) if show => return out.write_all(loaded.config.to_toml().as_bytes()).map(|()| 0),
        Some(loaded) => {
            if checked.is_good() {
                for file in &loaded.files {
                    writeln!(out, "{}: good", file.display())?;
                }
            }
            summary(&loaded.config, out)?;
        }
        None => writeln!(err, "{}", checked.faults)?,
    }
    let bad = checked.found(Verdict::Bad).count();
    if bad > 0 {
        writeln!(err, "{}: {} that it names cannot be used", path.display(), number(bad as u64, "file"))?;
    }
    for Finding { verdict, place, words } in &checked.findings {
        match verdict {
            Verdict::Bad => writeln!(err, "  {place}: {words}")?,
            Verdict::Unknown => writeln!(err, "warning: {place}: {words}")?,
            Verdict::Good => {}
        }
    }
    match checked.whole() {
        None => writeln!(err, "Nothing was started. Correct this and run `fieldlog check-config` again.")?,
        Some(loaded) if loaded.config.sources.is_empty() => writeln!(err, "{}: {NO_SOURCE}", path.display())?,
        Some(_) => {}
    }
    Ok(checked.exit_code())
}

/// Checks the configuration at `path`: the result for programs, and the exit code. A file that is named and cannot be used
/// is a fault, too.
pub fn as_json(path: &Path) -> (Json, u8) {
    let checked = Checked::of(path);
    let file = path.display().to_string();
    let fault = |Fault { key, what, hint, origin, line }: &Fault| json!({"place": key, "message": what, "hint": hint, "file": origin.as_ref().unwrap_or(&file), "line": line});
    let finding = |Finding { place, words, .. }: &Finding| json!({"place": place, "message": words, "hint": "", "file": file, "line": null});
    let mut faults: Vec<Json> = checked.faults.faults.iter().map(fault).collect();
    faults.extend(checked.found(Verdict::Bad).map(finding));
    if checked.whole().is_some_and(|loaded| loaded.config.sources.is_empty()) {
        faults.push(finding(&Finding::new(Verdict::Bad, "source", NO_SOURCE)));
    }
    let summary = checked.whole().map(|Loaded { config, files }| {
        let sink = |SinkConfig { name, target, format, .. }: &SinkConfig| {
            json!({"name": name, "address": target.to_string(), "format": format.name()})
        };
        let source = |source: &SourceConfig| {
            json!({"name": source.name, "address": address(source), "rules": source.rules.len()})
        };
        json!({
            "files": files,
            "gateway_id": config.gateway_id,
            "data_dir": config.data_dir,
            "sources": config.sources.iter().map(source).collect::<Vec<_>>(),
            "sinks": config.sinks.iter().map(sink).collect::<Vec<_>>(),
        })
    });
    let json = json!({
        "good": checked.is_good(),
        "faults": faults,
        "warnings": checked.found(Verdict::Unknown).map(finding).collect::<Vec<_>>(),
        "summary": summary,
    });
    (json, checked.exit_code())
}

fn address(source: &SourceConfig) -> String {
    let (host, port) = (&source.address.host, source.address.port);
    format!("{}://{host}:{port}", if source.address.tls { "mqtts" } else { "mqtt" })
}

fn summary(config: &Config, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "gateway {:?}, data in {}", config.gateway_id, config.data_dir.display())?;
    for source in &config.sources {
        let rules = number(source.rules.len() as u64, "rule");
        writeln!(out, "source {:?}: {}, {rules}", source.name, address(source))?;
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

    /// One round is enough for all that is wrong.
    #[test]
    fn a_file_that_is_not_there_is_named_beside_other_faults() {
        let faulty = format!("colour = 1\n{SOURCE}");
        let (code, out, err) = checked(&faulty);
        assert_eq!((code, out.as_str()), (78, ""));
        let colour = "DIR/fieldlog.toml: 1 fault in the configuration\n  colour: unknown key";
        let file = "\nDIR/fieldlog.toml: 1 file that it names cannot be used\n  source \"home\": cannot read `password_file` ";
        assert!(err.starts_with(colour) && err.contains(file), "{err}");
        assert!(err.ends_with("run `fieldlog check-config` again.\n"), "{err}");
    }

    #[test]
    fn a_check_for_programs_has_each_fault_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fieldlog.toml");
        let name = path.to_str().unwrap();
        let check = |text: &str| {
            std::fs::write(&path, text.replace("DIR", &dir.path().display().to_string())).unwrap();
            as_json(&path)
        };
        let (json, code) = check(&format!("\ncolour = 1\n{SOURCE}"));
        assert_eq!((code, &json["good"], &json["summary"]), (78, &json!(false), &Json::Null), "{json}");
        let faults = json["faults"].as_array().unwrap();
        assert_eq!(faults.len(), 2, "{json}");
        let place = |n: usize| [&faults[n]["place"], &faults[n]["file"], &faults[n]["line"]];
        assert_eq!(place(0), [&json!("colour"), &json!(name), &json!(2)]);
        assert_eq!(place(1), [&json!("source \"home\""), &json!(name), &Json::Null]);
        assert!(faults[1]["message"].as_str().unwrap().contains("`password_file`"), "{json}");

        let (json, code) = check(&SOURCE.replace("DIR/password", "mqtt-password"));
        assert_eq!((code, &json["good"], &json["faults"]), (0, &json!(true), &json!([])), "{json}");
        assert_eq!(json["warnings"][0]["place"], "source \"home\"");
        let source = json!({"name": "home", "address": "mqtt://127.0.0.1:1883", "rules": 22});
        assert_eq!(json["summary"]["sources"], json!([source]));
        assert_eq!(json["summary"]["files"], json!([name]));

        let (json, code) = check("gateway_id = \"g\"\n");
        assert_eq!((code, &json["good"], &json["faults"][0]["place"]), (78, &json!(false), &json!("source")));
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
