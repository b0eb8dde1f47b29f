//! Metrics as a process shows them, in the OpenMetrics format: for pages about them, and for promtool.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use super::installed;

/// A family of metrics.
#[derive(Debug, Default)]
pub struct Metric {
    /// Its name, without the `_total` of counters.
    pub name: String,
    /// `counter`, `gauge` and so on.
    pub kind: String,
    /// What it is.
    pub help: String,
    /// Names of labels that any of its samples has, without `le`.
    pub labels: BTreeSet<String>,
}

impl Metric {
    /// Its row in a table of Markdown: name, type, unit, labels, and what it is.
    pub fn row(&self) -> String {
        let total = if self.kind == "counter" { "_total" } else { "" };
        let unit = match self.name.rsplit('_').next() {
            Some("seconds")
                if self.name.ends_with("_timestamp_seconds") || self.name.ends_with("start_time_seconds") =>
            {
                "s since 1970"
            }
            Some("seconds") => "s",
            Some("bytes") => "bytes",
            _ if self.name.ends_with("bytes_max") => "bytes",
            _ => "",
        };
        let labels: Vec<String> = self.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, help) = (&self.name, &self.kind, self.help.replace('|', "\\|"));
        format!("| `{name}{total}` | {kind} | {unit} | {} | {help} |\n", labels.join(", "))
    }
}

/// Reads what a process shows; what comes before the first name with a text of its own is left out.
pub fn read(text: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            metrics.push(Metric { name: name.to_owned(), help: help.to_owned(), ..Metric::default() });
        } else if let Some(kind) = line.strip_prefix("# TYPE ").and_then(|rest| rest.rsplit(' ').next()) {
            if let Some(metric) = metrics.last_mut() {
                kind.clone_into(&mut metric.kind);
            }
        } else if let Some((_, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let names = labels.split("=\"").filter_map(|part| part.rsplit(['{', ',', '"']).next());
            let names = names.filter(|name| {
                *name != "le" && !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            });
            if let Some(metric) = metrics.last_mut() {
                metric.labels.extend(names.map(str::to_owned));
            }
        }
    }
    metrics
}

/// What `promtool check metrics` finds wrong; `None` where it is not installed.
///
/// # Panics
/// If promtool cannot be run.
pub fn check(text: &str) -> Option<String> {
    if !installed("promtool", "--version") {
        return None;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    promtool.stdin.take().expect("a pipe").write_all(older(text).as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some(if output.status.success() { String::new() } else { format!("{}: {said}", output.status) })
}

/// The same in Prometheus' older format, the only one that promtool checks: there the `_total` of a counter and the `_info` of
/// constant labels are part of the name, and the latter are gauges.
fn older(text: &str) -> String {
    let kinds: BTreeMap<String, String> =
        read(text).into_iter().map(|metric| (metric.name, metric.kind)).collect();
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let (Some("#"), Some(word @ ("HELP" | "TYPE")), Some(name), Some(rest)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return format!("{line}\n");
        };
        let kind = kinds.get(name).map_or("", String::as_str);
        let ending = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let rest = if word == "TYPE" && kind == "info" { "gauge" } else { rest };
        format!("# {word} {name}{ending} {rest}\n")
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP doors Help.\n# TYPE doors counter\ndoors_total{hall=\"1,y\",near_to=\"\"} 1\n";

    #[test]
    fn names_of_labels_are_read() {
        let metrics = read(TEXT);
        assert_eq!((&*metrics[0].kind, &*metrics[0].help), ("counter", "Help."));
        assert_eq!(metrics[0].labels.iter().collect::<Vec<_>>(), ["hall", "near_to"]);
    }

    #[test]
    fn promtool_finds_what_is_wrong() {
        assert_eq!(check(TEXT).unwrap_or_default(), "");
        let Some(said) = check("doors{hall=\"1\"} 1\n") else { return };
        assert!(said.contains("no help text"), "{said}");
    }
}
