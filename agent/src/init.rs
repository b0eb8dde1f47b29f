//! `fieldlog init`: asks for the broker, listens there, and writes a configuration with what fits it. It never overwrites.

use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use crate::check::{self, check_config};
use crate::cli::end;
use crate::client::Failure;
use crate::config::{Config, SourceConfig, presets};
use crate::probe;
use crate::words::{complain, say, say_json};

/// What the first question is answered with if nothing is typed.
const ADDRESS: &str = "mqtt://127.0.0.1:1883";

/// Arguments of `fieldlog init`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "If the configuration file is there already, the source is written into conf.d/NAME.toml beside it, which \
                  belongs to it. Nothing is ever overwritten.\n\n\
                  Exit codes: 0 written; 64 wrong usage, or the file is there already; 69 the broker cannot be reached, or \
                  nothing was heard; 74 the file cannot be written; 78 the configuration that is there has faults."
)]
pub struct InitArgs {
    /// The configuration file.
    #[arg(long, default_value = "/etc/fieldlog/fieldlog.toml", value_name = "FILE")]
    config: PathBuf,
    /// The broker, such as mqtt://127.0.0.1:1883 [default: it is asked for, and for user name and password].
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// The user name at the broker.
    #[arg(long, value_name = "NAME", requires = "address")]
    username: Option<String>,
    /// The file with the password; only its path is written down.
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// The file with the certificate of the authority that vouches for the broker [default: those that this machine trusts].
    #[arg(long, value_name = "FILE", requires = "address")]
    ca_file: Option<PathBuf>,
    /// What to call the source.
    #[arg(long, default_value = "home", value_name = "NAME")]
    name: String,
    /// Where the log is to be, in a new configuration file.
    #[arg(long, default_value = "/var/lib/fieldlog", value_name = "DIR")]
    data_dir: PathBuf,
    /// Use this preset, and do not listen; may be given several times. `fieldlog presets` lists them.
    #[arg(long, value_name = "PRESET")]
    preset: Vec<String>,
    /// How long to listen. Allow more time for devices that report rarely and retain nothing at the broker.
    #[arg(long, default_value_t = 15, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Print the file, what is written in it, and what `check-config --json` says of it as one JSON object.
    #[arg(long, requires = "address")]
    json: bool,
}

/// Runs `fieldlog init`.
pub fn main(args: &InitArgs) -> ExitCode {
    end(written(args))
}

fn written(args: &InitArgs) -> Result<u8, Failure> {
    let place = Place::of(args)?;
    let broker = match &args.address {
        Some(address) => Broker {
            address: address.clone(),
            username: args.username.clone(),
            password_file: args.password_file.clone(),
            ca_file: args.ca_file.clone(),
        },
        None => Broker::ask(&mut io::stdin().lock())?,
    };
    let source = broker.toml(&args.name)?;
    let rules = match args.preset.is_empty() {
        true => heard(&checked_source(&source)?, args)?,
        false => args.preset.iter().map(|name| preset(name)).collect::<Result<String, Failure>>()?,
    };
    let text = match place.is_new {
        true => {
            let dir = absolute(&args.data_dir);
            format!("{HEAD}data_dir = {}\n\n{source}{rules}", quoted(&dir.display().to_string()))
        }
        false => format!("{source}{rules}"),
    };
    Config::from_toml(&text, &place.file.display().to_string())
        .map_err(|faults| Failure::usage(faults.to_string()))?;
    place.write(&text)?;
    if args.json {
        let (check, code) = check::as_json(&args.config);
        say_json(&json!({"file": place.file, "text": text, "check": check}));
        return Ok(code);
    }
    say(&format!("Written to {}:\n\n{text}\n", place.file.display()));
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let code = check_config(&args.config, false, &mut out, &mut err).unwrap_or(0);
    if code == 0 {
        let _ = writeln!(
            out,
            "\nNext: `fieldlog doctor`, then `systemctl enable --now fieldlog` or `fieldlog run`."
        );
    }
    Ok(code)
}

const HEAD: &str =
    "# Written by `fieldlog init`. config/fieldlog.toml, which comes with fieldlog, explains every key.\n";

/// Where it is written.
struct Place {
    file: PathBuf,
    /// There is no configuration yet.
    is_new: bool,
}

impl Place {
    fn of(args: &InitArgs) -> Result<Place, Failure> {
        let place = match args.config.exists() {
            false => Place { file: args.config.clone(), is_new: true },
            true => {
                let there =
                    Config::load(&args.config).map_err(|faults| Failure::config(faults.to_string()))?;
                if there.config.sources.iter().any(|source| source.name == args.name) {
                    let words = format!(
                        "{} has a source {:?} already; choose another name with --name",
                        args.config.display(),
                        args.name
                    );
                    return Err(Failure::usage(words));
                }
                let dir = args.config.parent().unwrap_or(Path::new("")).join("conf.d");
                Place { file: dir.join(format!("{}.toml", args.name)), is_new: false }
            }
        };
        match place.file.exists() {
            true => Err(place.taken()),
            false => Ok(place),
        }
    }

    fn taken(&self) -> Failure {
        let words = format!(
            "{} is there already, and nothing is overwritten; edit it, or choose another name with --name",
            self.file.display()
        );
        Failure::usage(words)
    }

    fn write(&self, text: &str) -> Result<(), Failure> {
        let dir = self.file.parent().unwrap_or(Path::new(""));
        let made = std::fs::create_dir_all(dir);
        let file = made.and_then(|()| OpenOptions::new().write(true).create_new(true).open(&self.file));
        file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all())).map_err(
            |error| match error.kind() {
                io::ErrorKind::AlreadyExists => self.taken(),
                _ => Failure::io(format!("cannot write {}: {error}; run this as root?", self.file.display())),
            },
        )
    }
}

/// The answers.
#[derive(Debug, PartialEq, Eq)]
struct Broker {
    address: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

impl Broker {
    /// Asks for them.
    fn ask(input: &mut impl BufRead) -> Result<Broker, Failure> {
        let address = ask(input, &format!("Address of the broker [{ADDRESS}]: "))?.unwrap_or(ADDRESS.into());
        let ca_file = match address.starts_with("mqtts://") {
            true => {
                ask(input, "File with the certificate of its authority [those that this machine trusts]: ")?
            }
            false => None,
        };
        let username = ask(input, "User name [none]: ")?;
        let password_file = match username {
            Some(_) => ask(input, "File with the password, readable for fieldlog and nobody else [none]: ")?,
            None => None,
        };
        let path = |text: Option<String>| text.map(PathBuf::from);
        Ok(Broker { address, username, password_file: path(password_file), ca_file: path(ca_file) })
    }

    /// The head of the source, without subscriptions.
    fn toml(&self, name: &str) -> Result<String, Failure> {
        let mut text = format!("[[source]]\nname = {}\naddress = {}\n", quoted(name), quoted(&self.address));
        if let Some(username) = &self.username {
            text.push_str(&format!("username = {}\n", quoted(username)));
        }
        if let Some(file) = &self.password_file {
            text.push_str(&format!("password_file = {}\n", quoted(&absolute(file).display().to_string())));
        }
        if let Some(file) = &self.ca_file {
            let file = quoted(&absolute(file).display().to_string());
            text.push_str(&format!("\n[source.tls]\nca_file = {file}\n"));
        }
        checked_source(&text)?;
        Ok(text)
    }
}

/// One question. `None`: the default.
fn ask(input: &mut impl BufRead, question: &str) -> Result<Option<String>, Failure> {
    say(question);
    let mut line = String::new();
    match input.read_line(&mut line) {
        Ok(1..) => Ok(Some(line.trim().to_owned()).filter(|answer| !answer.is_empty())),
        Ok(0) => Err(Failure::usage("\nthere is nobody to ask: give the broker with --address")),
        Err(error) => Err(Failure::io(format!("cannot read the answer: {error}"))),
    }
}

/// The source, checked as it will be, with a rule in place of those that are not known yet.
fn checked_source(text: &str) -> Result<SourceConfig, Failure> {
    let text = format!("{text}\n[[source.subscription]]\ntopic = \"#rest\"\ndecoder = \"ignore\"\n");
    let config =
        Config::from_toml(&text, "the source").map_err(|faults| Failure::usage(faults.to_string()))?;
    config.sources.into_iter().next().ok_or_else(|| Failure::internal("the source is missing"))
}

/// The subscriptions that fit what is heard.
fn heard(source: &SourceConfig, args: &InitArgs) -> Result<String, Failure> {
    let seconds = args.seconds;
    complain(&format!("Listening at {} for {seconds} s; Ctrl-C stops it early.", source.address));
    let (report, additions) = probe::suggest(source, seconds).map_err(Failure::unavailable)?;
    if additions.is_empty() {
        let words = format!(
            "{report}Nothing was heard that could be recorded, so nothing is written. Listen longer with --seconds, or name the \
             preset with --preset"
        );
        return Err(Failure::unavailable(words));
    }
    match args.json {
        true => complain(&report),
        false => say(&report),
    }
    Ok(additions)
}

fn preset(name: &str) -> Result<String, Failure> {
    if presets::names().any(|known| known == name) {
        return Ok(format!("\n[[source.subscription]]\npreset = {}\n", quoted(name)));
    }
    Err(Failure::usage(format!("--preset {name}: there is no such preset; `fieldlog presets` lists them")))
}

fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

/// A text in TOML, whose strings are those of JSON.
fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_become_a_source() {
        let mut answers = "mqtts://broker.example\n/etc/ca.pem\n  alice\n/etc/fieldlog/password\n".as_bytes();
        let broker = Broker::ask(&mut answers).unwrap();
        assert_eq!(
            broker.toml("home").unwrap(),
            "[[source]]\nname = \"home\"\naddress = \"mqtts://broker.example\"\nusername = \"alice\"\n\
             password_file = \"/etc/fieldlog/password\"\n\n[source.tls]\nca_file = \"/etc/ca.pem\"\n"
        );
        let broker = Broker::ask(&mut "\n\n".as_bytes()).unwrap();
        assert_eq!(
            broker.toml("a").unwrap(),
            "[[source]]\nname = \"a\"\naddress = \"mqtt://127.0.0.1:1883\"\n"
        );
        let failure = Broker::ask(&mut "".as_bytes()).unwrap_err();
        assert!(failure.code == 64 && failure.words.contains("--address"), "{}", failure.words);
    }

    #[test]
    fn what_cannot_be_an_address_is_said() {
        let broker = |address: &str| Broker {
            address: address.into(),
            username: None,
            password_file: None,
            ca_file: None,
        };
        let failure = broker("127.0.0.1").toml("home").unwrap_err();
        assert!(failure.code == 64 && failure.words.contains("must begin with mqtt://"), "{}", failure.words);
        assert!(
            broker("mqtt://h").toml("No Name").unwrap_err().words.contains("the name is too long or has")
        );
        assert!(preset("zigbe").unwrap_err().words.contains("`fieldlog presets` lists them"));
    }
}
