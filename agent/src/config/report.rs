//! `fieldlog check-config`: reports every fault, or a summary of the configuration.

use std::io::{self, Write};
use std::path::Path;

use super::{Config, Loaded};

/// Exit code for a faulty configuration, `EX_CONFIG` of sysexits.
pub const EXIT_CONFIG: u8 = 78;

/// Checks the configuration at `path` and prints the result: faults to `err`, the rest to `out`. With `show`, prints
/// the effective configuration as TOML, presets expanded. Returns the exit code.
pub fn check_config(path: &Path, show: bool, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    match Config::load(path) {
        Ok(loaded) if show => out.write_all(loaded.config.to_toml().as_bytes()).map(|()| 0),
        Ok(loaded) => summary(&loaded, out).map(|()| 0),
        Err(faults) => {
            writeln!(err, "{faults}")?;
            writeln!(err, "Nothing was started. Correct this and run `fieldlog check-config` again.")?;
            Ok(EXIT_CONFIG)
        }
    }
}

fn summary(loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    for file in &loaded.files {
        writeln!(out, "{}: good", file.display())?;
    }
    let config = &loaded.config;
    writeln!(out, "gateway {:?}, data in {}", config.gateway_id, config.data_dir.display())?;
    for source in &config.sources {
        let scheme = if source.address.tls { "mqtts" } else { "mqtt" };
        let (host, port, rules) = (&source.address.host, source.address.port, source.rules.len());
        writeln!(out, "source {:?}: {scheme}://{host}:{port}, {rules} rules", source.name)?;
    }
    for sink in &config.sinks {
        writeln!(out, "sink {:?}: {}, {}", sink.name, sink.target, sink.format.name())?;
    }
    if config.sources.is_empty() {
        writeln!(out, "no sources: `fieldlog run` needs at least one [[source]]")?;
    }
    Ok(())
}
