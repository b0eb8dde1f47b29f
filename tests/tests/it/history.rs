//! Logs that tests write record by record, with chosen times, and agents that use them.

use std::path::Path;

use fieldlog::config::Config;
use fieldlog_projections::chunk::{Envelope, RecordBuffer};
use fieldlog_projections::{AttrId, DeviceId, Fact, Time};

pub const HOUR_S: i64 = 3_600;
pub const DAY_S: i64 = 86_400;

/// A record's envelope at a second of the wall clock.
pub fn at(second: i64) -> Envelope {
    Envelope { wall: Time::from_secs(second), ..Envelope::default() }
}

/// Records that name devices of one source, and attributes, in the order of their numbers.
pub fn introduce(body: &mut RecordBuffer, second: i64, devices: &[&str], attributes: &[&str]) {
    for (device, name) in (0..).map(DeviceId).zip(devices) {
        let (name, source) = ((*name).into(), "plant".into());
        let fact = Fact::DeviceDiscovered { device, name, source, parent: None, identity: None };
        body.push_fact(at(second), &fact);
    }
    for (attribute, name) in (0..).map(AttrId).zip(attributes) {
        body.push_fact(at(second), &Fact::AttributeNamed { attribute, name: (*name).into() });
    }
}

/// An agent without a source for the log in a directory, with additional lines in `[retention]`, and after it.
pub fn config(dir: &Path, retention: &str, more: &str) -> Config {
    let text = format!(
        "data_dir = {dir:?}\n[http]\nlisten = \"127.0.0.1:0\"\n[retention]\nfree_bytes_min = 0\n{retention}\n{more}"
    );
    Config::from_toml(&text, "test.toml").unwrap()
}
