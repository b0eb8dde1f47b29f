//! Repeated attacks on a real agent, for any length of time:
//!
//! ```text
//! cargo run --release -p fieldlog-tests --bin soak -- --minutes 10 [--seed N] [--only kills,hostile-mqtt]
//! ```
//!
//! Each attack gets an equal share of the time and runs in rounds; a started round is finished. At the end a table has
//! one row per attack, and the exit code is 1 if one of them failed. A round draws all random values from its seed, so
//! `--only ATTACK --seed SEED --rounds 1`, printed with each failure, repeats it as far as timing allows.

// Rounds fail by panicking, like tests.
#![allow(clippy::unwrap_used)]

mod account;
mod clients;
mod clocks;
mod clones;
mod commands;
mod corruptions;
mod faults;
mod front;
mod hostile_http;
mod hostile_mqtt;
mod kills;
mod quiet;
mod receivers;
mod site;

/// The crash matrix and what it needs, from the tests.
#[allow(dead_code, unused_imports)]
#[path = "../tests/it"]
mod it {
    pub mod crash;
    pub mod rig;
}

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use fieldlog_tests::memory_limit::{CGROUP_ROOT, is_possible};
use fieldlog_tests::rng::Rng;

use account::Account;
use it::rig;

/// Failed rounds after which an attack ends.
const FAILURES_MAX: u64 = 3;

#[derive(Parser)]
#[command(about = "Attacks fieldlog for a while and says how it did")]
struct Options {
    /// How long, for all attacks together
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seed of the first round of each attack; that of the next is one more [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Only these attacks
    #[arg(long, value_delimiter = ',', value_parser = ATTACKS.map(|attack| attack.name))]
    only: Vec<String>,
    /// At most so many rounds of each
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    rounds: u64,
}

struct Attack {
    name: &'static str,
    round: fn(u64, &Arc<Account>),
}

const ATTACKS: [Attack; 9] = [
    Attack { name: "kills", round: |seed, account| on_runtime(kills::round(Rng::new(seed), account)) },
    Attack { name: "commands", round: |seed, account| on_runtime(commands::round(Rng::new(seed), account)) },
    Attack { name: "faults", round: |seed, account| faults::round(seed, account) },
    Attack {
        name: "corruptions",
        round: |seed, account| on_runtime(corruptions::round(Rng::new(seed), account)),
    },
    Attack {
        name: "hostile-mqtt",
        round: |seed, account| on_runtime(hostile_mqtt::round(Rng::new(seed), account)),
    },
    Attack {
        name: "hostile-http",
        round: |seed, account| on_runtime(hostile_http::round(Rng::new(seed), account)),
    },
    Attack {
        name: "receivers",
        round: |seed, account| on_runtime(receivers::round(Rng::new(seed), account)),
    },
    Attack { name: "clocks", round: |seed, account| on_runtime(clocks::round(Rng::new(seed), account)) },
    Attack { name: "clones", round: |seed, account| on_runtime(clones::round(Rng::new(seed), account)) },
];

fn on_runtime(round: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(round);
}

fn main() -> ExitCode {
    let options = Options::parse();
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let seed = options.seed.unwrap_or(clock);
    println!("--seed {seed}");
    quiet::install();
    let binary = fieldlog_tests::binary::fieldlog();
    println!("{}", binary.display());
    let limited = is_possible(Path::new(CGROUP_ROOT));
    println!(
        "memory: {}",
        if limited { "limited by a cgroup" } else { "watched; there is no cgroup to limit it" }
    );
    let chosen = |attack: &&Attack| options.only.is_empty() || options.only.iter().any(|n| n == attack.name);
    let attacks: Vec<&Attack> = ATTACKS.iter().filter(chosen).collect();
    let share = Duration::from_secs_f64(options.minutes.max(0.0) * 60.0 / attacks.len() as f64);
    let accounts: Vec<Account> =
        attacks.iter().map(|attack| run(attack, seed, share, options.rounds)).collect();
    println!("\n{}", account::HEADING);
    let rows = attacks.iter().zip(&accounts);
    rows.clone().for_each(|(attack, account)| println!("{}", account.row(attack.name)));
    rows.for_each(|(attack, account)| account.notes(attack.name));
    println!("--seed {seed}");
    ExitCode::from(u8::from(accounts.iter().any(|account| !account.is_ok())))
}

/// One attack, round after round.
fn run(attack: &Attack, seed: u64, share: Duration, rounds: u64) -> Account {
    println!("{} for {} s", attack.name, share.as_secs());
    let account = Arc::new(Account::default());
    let begin = Instant::now();
    for number in 0..rounds {
        if number > 0 && (begin.elapsed() >= share || account.failures() >= FAILURES_MAX) {
            break;
        }
        let (seed, of_round, round) = (seed.wrapping_add(number), Arc::clone(&account), attack.round);
        // A separate thread, so that a failed round leaves nothing to the next.
        let thread = std::thread::Builder::new().name(format!("{} {seed}", attack.name));
        let ended = thread.spawn(move || round(seed, &of_round)).unwrap().join();
        account.round(attack.name, seed, ended.err());
    }
    Arc::into_inner(account).expect("all rounds have ended")
}
