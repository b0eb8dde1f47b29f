//! Whether fieldlog runs, and what it says itself.

use std::net::TcpListener;
use std::path::Path;

use fieldlog_wire::api::status::Status;

use crate::check::files::{Finding, Verdict};
use crate::cli::attention::attention;
use crate::client::{Client, Failure, Reach};
use crate::config::Config;

const PLACE: &str = "fieldlog";

/// Asks the running agent; if there is none, looks whether it could listen.
pub(super) fn examine(path: &Path, config: &Config) -> Vec<Finding> {
    let status = Client::open(&Reach::of_config(path)).and_then(|client| client.get("/status")?.json());
    match status {
        Ok(status) => of_running(&status),
        Err(failure) => of_silent(config, &failure),
    }
}

fn of_running(status: &Status) -> Vec<Finding> {
    let words = format!("version {} is running", status.version);
    let mut findings = vec![Finding::new(Verdict::Good, PLACE, words)];
    findings.extend(attention(status).into_iter().map(|found| {
        let todo = if found.todo.is_empty() { String::new() } else { format!("; {}", found.todo) };
        Finding::new(Verdict::Bad, PLACE, format!("{}{todo}", found.what))
    }));
    findings
}

fn of_silent(config: &Config, failure: &Failure) -> Vec<Finding> {
    let words = format!("it cannot be asked: {}", failure.words);
    let mut findings = vec![Finding::new(Verdict::Unknown, PLACE, words)];
    if let Some(listen) = config.http.listen
        && let Err(error) = TcpListener::bind(listen)
    {
        let words = format!(
            "{listen} cannot be listened to: {error}; if fieldlog itself does not run, set another `listen`, or find out with \
             `ss -ltnp` what does"
        );
        findings.push(Finding::new(Verdict::Unknown, "http", words));
    }
    findings
}
