//! `kill -9` at random moments while clients ask for commands and devices carry them out. Afterwards every command that was
//! accepted is in the log and has ended or is visibly open, and none that must not be done twice was.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fieldlog_tests::commander::{Commander, Outcome};
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::process::free_port;
use fieldlog_tests::rng::Rng;

use crate::account::Account;
use crate::site::Unit;

const KILLS: usize = 10;

/// Over all rounds: kills and what came of the commands.
static TOTAL: Mutex<Option<(usize, Outcome)>> = Mutex::new(None);

pub async fn round(mut rng: Rng, account: &Arc<Account>) {
    let Some(mosquitto) = Mosquitto::start("") else {
        println!("commands: mosquitto is not installed");
        return;
    };
    let dir = crate::rig::scratch();
    let mut commander = Commander::start(dir.path(), mosquitto.port, free_port(), &mut rng).await;
    for _ in 0..KILLS {
        let unit = Unit::start(&commander.config, account);
        tokio::time::sleep(Duration::from_millis(200 + rng.below(1_300) as u64)).await;
        unit.kill();
        tokio::time::sleep(Duration::from_millis(rng.below(100) as u64)).await;
    }
    let unit = Unit::start(&commander.config, account);
    commander.settle().await;
    unit.stop().await;
    let found = commander.outcome();
    account.checked(found.recorded);
    account.repeated(found.duplicates.len(), &format!("{:?}", found.duplicates));
    account.lost(found.lost.len(), &format!("{:?}", found.lost));
    account.wrong(found.untrue.len(), &format!("{:?}", found.untrue));
    let mut total = TOTAL.lock().unwrap_or_else(PoisonError::into_inner);
    let (kills, sum) = total.get_or_insert_default();
    *kills += KILLS;
    sum.add(&found);
    println!("after {kills} kills:\n{sum}");
}
