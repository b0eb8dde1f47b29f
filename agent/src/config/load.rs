//! Merges files and environment into one tree: the main file, then `conf.d/*.toml` beside it in the order of their
//! names, then `FIELDLOG__TABLE__KEY` variables.
//!
//! Tables are merged key by key and a later file wins. Exception: the `[[source]]` blocks of all files are
//! concatenated, and so are those of `[[sink]]`, `[[alert]]`, `[[notify]]`, `[[derived_attribute]]` and
//! `[[named_aggregate]]`, so that a file in `conf.d` can add one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use ::config::{ConfigError, Environment, Map, Source, Value, ValueKind};

use super::faults::{Collector, Faults};
use super::hints::did_you_mean;
use super::raw::Table;
use super::{Config, checks, keys, lines};

const PREFIX: &str = "FIELDLOG__";
const SEPARATOR: &str = "__";
/// Arrays of tables that are concatenated.
const ADDED: [&str; 6] = ["source", "sink", "derived_attribute", "named_aggregate", "alert", "notify"];

/// A configuration and the files that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The checked configuration.
    pub config: Config,
    /// The main file, then those of `conf.d` in order.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads the configuration file, `conf.d` beside it and the process's environment.
    pub fn load(path: &Path) -> Result<Loaded, Faults> {
        Config::load_with(path, std::env::vars_os())
    }

    /// The same with another environment.
    pub fn load_with(
        path: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, Faults> {
        match Config::examine(path, environment) {
            (Some(loaded), faults) if faults.faults.is_empty() => Ok(loaded),
            (_, faults) => Err(faults),
        }
    }

    /// The same, with what could be read beside the faults, for whoever looks for more of them; nothing if a file could
    /// not be read at all.
    pub(crate) fn examine(
        path: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> (Option<Loaded>, Faults) {
        let faults = Collector::default();
        let mut files = vec![path.to_path_buf()];
        files.extend(conf_d(path, &faults));
        let documents = files.iter().filter_map(|file| read(file, &faults)).collect();
        let config = merge(documents, environment, &faults);
        config.iter().for_each(|config| check_features(config, &faults));
        let faults = Faults { faults: faults.into_faults(), file: path.display().to_string() };
        (config.map(|config| Loaded { config, files }), faults)
    }

    /// Reads one text, without environment; `name` is the file name in faults. Does not check whether this build has
    /// the required features.
    pub fn from_toml(text: &str, name: &str) -> Result<Config, Faults> {
        let faults = Collector::default();
        let documents = parse(text, name, &faults).into_iter().collect();
        let config = merge(documents, [], &faults);
        match (config, faults.into_faults()) {
            (Some(config), faults) if faults.is_empty() => Ok(config),
            (_, faults) => Err(Faults { faults, file: name.to_owned() }),
        }
    }
}

/// What this build cannot do. A sink whose protocol is not in it would send nothing, and hold back retention.
fn check_features(config: &Config, faults: &Collector) {
    if config.http.cert_file.is_some() && !cfg!(feature = "tls") {
        let hint = "leave it out, or use a build with the feature \"tls\"";
        faults.add("http.cert_file", None, "this build of fieldlog has no TLS", hint);
    }
    for (index, target) in config.sinks.iter().enumerate() {
        if let Some((feature, what)) = target.target.missing_feature() {
            let key = format!("sink[{index}] {:?} address", target.name);
            let hint = format!("use another address, or a build with the feature \"{feature}\"");
            faults.add(key, None, format!("this build of fieldlog has no {what}"), hint);
        }
    }
}

/// The `*.toml` files in `conf.d`, in the order of their names. The directory may be missing.
fn conf_d(path: &Path, faults: &Collector) -> Vec<PathBuf> {
    let directory = path.parent().unwrap_or(Path::new("")).join("conf.d");
    let names = match fs::read_dir(&directory).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries.into_iter().map(|entry| entry.path()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            faults.add(directory.display().to_string(), None, format!("it cannot be read: {error}"), "");
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> =
        names.filter(|name| name.extension().is_some_and(|ext| ext == "toml")).collect();
    files.sort();
    files
}

/// One parsed file: its blocks for each array of [`ADDED`], and everything else.
struct Document {
    added: [Vec<Value>; ADDED.len()],
    rest: Map<String, Value>,
}

fn read(path: &Path, faults: &Collector) -> Option<Document> {
    let name = path.display().to_string();
    match fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => parse(&text, &name, faults),
        Ok(Err(error)) => {
            let at = error.utf8_error().valid_up_to();
            faults.add(&name, None, format!("it is not UTF-8 text at byte {at}"), "save it as UTF-8");
            None
        }
        Err(error) => {
            faults.add(
                &name,
                None,
                format!("it cannot be read: {error}"),
                "check the path and its permissions",
            );
            None
        }
    }
}

fn parse(text: &str, name: &str, faults: &Collector) -> Option<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match lines::parse(text, name) {
        Ok(mut rest) => Some(Document { added: ADDED.map(|key| take_array(&mut rest, key)), rest }),
        Err(error) => {
            faults.add(name, None, syntax(&error), "correct the file at this place");
            None
        }
    }
}

/// The position and the reason, without the excerpt between them: the faulty line may contain a secret.
fn syntax(message: &str) -> String {
    let lines = message.lines().filter(|line| !line.trim().is_empty());
    let is_excerpt = |line: &&str| {
        let line = line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit());
        line.starts_with('|')
    };
    let words: Vec<&str> = lines.filter(|line| !is_excerpt(line)).collect();
    match words.split_first() {
        Some((place, reason)) if place.starts_with("TOML parse error at ") => {
            let place = place.trim_start_matches("TOML parse error at ");
            format!("syntax error at {place}: {}", reason.join(", "))
        }
        _ => format!("syntax error: {}", words.join(", ")),
    }
}

fn take_array(map: &mut Map<String, Value>, key: &str) -> Vec<Value> {
    let Some(value) = map.remove(key) else { return Vec::new() };
    match value.kind {
        ValueKind::Array(tables) => tables,
        // Not an array: leave it for the checks, which report it.
        _ => {
            map.insert(key.to_owned(), value);
            Vec::new()
        }
    }
}

/// One file as a layer of the `config` crate.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

fn merge(
    documents: Vec<Document>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    faults: &Collector,
) -> Option<Config> {
    // If a file could not be read, faults about the rest would mislead.
    let readable = !faults.has_faults();
    let mut builder = ::config::Config::builder();
    let mut added = ADDED.map(|_| Vec::new());
    for document in documents {
        added.iter_mut().zip(document.added).for_each(|(all, more)| all.extend(more));
        builder = builder.add_source(Layer(document.rest));
    }
    let variables = variables(environment, faults);
    // Without `try_parsing`: it would turn the text `0123` into the number 123.
    let environment = Environment::with_prefix("FIELDLOG").prefix_separator(SEPARATOR).separator(SEPARATOR);
    let merged = builder.add_source(environment.source(Some(variables))).build();
    let mut tree = match merged.map(|merged| merged.cache.kind) {
        Ok(ValueKind::Table(tree)) => tree,
        Ok(_) => Map::new(),
        Err(error) => {
            faults.add("configuration", None, error.to_string(), "");
            return None;
        }
    };
    for (key, tables) in ADDED.into_iter().zip(added) {
        if !tree.contains_key(key) && !tables.is_empty() {
            tree.insert(key.to_owned(), Value::new(None, ValueKind::Array(tables)));
        }
    }
    readable.then(|| checks::read(Table::new("", tree, None, faults)))
}

/// The variables with our prefix. Each must name a key: a misspelt one would otherwise be ignored silently.
fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    faults: &Collector,
) -> Map<String, String> {
    let ours = environment.into_iter().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let upper = name.to_ascii_uppercase();
        upper.starts_with(PREFIX).then_some((name, value))
    });
    let mut ours: Vec<(String, OsString)> = ours.collect();
    ours.sort();
    let mut variables = Map::new();
    for (name, value) in ours {
        match (check_variable(&name), value.into_string()) {
            (Err((what, hint)), _) => faults.add(name, None, what, hint),
            (Ok(()), Err(_)) => faults.add(name, None, "its value is not UTF-8 text", ""),
            (Ok(()), Ok(value)) => {
                variables.insert(name, value);
            }
        }
    }
    variables
}

fn check_variable(name: &str) -> Result<(), (&'static str, String)> {
    let path = name.get(PREFIX.len()..).unwrap_or_default().to_ascii_lowercase();
    let tables = keys::tables();
    let names = || tables.iter().flat_map(|(table, keys)| keys.iter().map(|key| variable(table, key)));
    let wanted = format!("{PREFIX}{}", path.to_ascii_uppercase());
    if names().any(|known| known == wanted) {
        return Ok(());
    }
    let table = path.split(SEPARATOR).next().unwrap_or_default();
    if ADDED.contains(&table) || table == "aggregates" {
        return Err(("arrays cannot be set by environment variables", "use a file in conf.d".to_owned()));
    }
    let names: Vec<String> = names().collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let nearest = names.iter().min_by_key(|known| strsim::damerau_levenshtein(known, &wanted));
    let near = nearest.filter(|known| strsim::damerau_levenshtein(known, &wanted) <= 4);
    let hint = near.map(|known| format!("did you mean {known}?")).or_else(|| did_you_mean(&wanted, &names));
    Err(("it names no key", hint.unwrap_or_else(|| format!("it must be {PREFIX}TABLE__KEY"))))
}

fn variable(table: &str, key: &str) -> String {
    let path = if table.is_empty() { key.to_owned() } else { format!("{table}{SEPARATOR}{key}") };
    format!("{PREFIX}{}", path.to_ascii_uppercase())
}
