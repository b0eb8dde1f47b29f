//! A wall clock that jumps, by seconds or by years, between runs and during them. Nothing may be lost or recorded
//! twice, and log time must not go back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fieldlog::clock::{Clock, TestClock};
use fieldlog::config::Config;
use fieldlog_projections::{Fact, Time, Value};
use fieldlog_sim::broker::{Broker, Options, Qos};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::until;

use crate::account::Account;

const CLIENT: &str = "fieldlog-clocks";
const DEVICES: usize = 20;
/// Maximum jumps, in seconds: a moment, an hour, a day, ten years.
const JUMPS_S: [usize; 4] = [3, 4_000, 90_000, 315_000_000];

/// Relative to the correct time, so that jumps do not add up.
fn jump(rng: &mut Rng, clock: &TestClock) {
    let most = *rng.pick(&JUMPS_S);
    let by = rng.below(most) as i64 * 1_000_000;
    let by = *rng.pick(&[by, -by, 0]);
    clock.set_wall(Time(Clock::system().wall().0 + by));
}

fn config(dir: &std::path::Path, broker: &Broker) -> Config {
    let text = format!(
        "gateway_id = \"test\"\ndata_dir = {:?}\n[log]\ncommit_delay_ms = 5\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [snapshots]\nevents = 1000\n[retention]\nfree_bytes_min = 0\n\
         [[source]]\nname = \"plant\"\naddress = \"mqtt://{}\"\nclient_id = \"{CLIENT}\"\nbackoff_max_s = 1\n\
         [[source.subscription]]\ntopic = \"t/+device\"\ndecoder = \"json\"\n",
        dir.join("data"),
        broker.local_addr()
    );
    Config::from_toml(&text, "test").unwrap()
}

pub async fn round(mut rng: Rng, account: &Arc<Account>) {
    let clock = TestClock::running();
    let dir = crate::rig::scratch();
    let broker = Broker::bind("127.0.0.1:0", Options::default()).await.unwrap();
    let config = config(dir.path(), &broker);
    let mut posted = 0;
    for _ in 0..rng.between(2, 6) {
        jump(&mut rng, &clock);
        let agent = Agent::start_at(config.clone(), clock.clock()).await;
        agent.subscribed().await;
        for _ in 0..rng.between(1, 15) {
            for _ in 0..rng.below(30) {
                posted += 1;
                let payload = format!("{{\"n\":{posted}}}");
                broker
                    .publish(&format!("t/d{}", posted % DEVICES), payload, false, Qos::AtLeastOnce)
                    .unwrap();
            }
            if rng.chance(50) {
                tokio::time::sleep(Duration::from_millis(rng.below(30) as u64)).await;
            }
            jump(&mut rng, &clock);
        }
        until("the source's acknowledgements", || {
            broker.session(CLIENT).is_some_and(|session| session.queued == 0 && session.in_flight == 0)
        })
        .await;
        let newest = |n: usize| agent.value(&format!("d{}", n % DEVICES), "n");
        let wrong = (posted.saturating_sub(DEVICES) + 1..=posted)
            .filter(|n| *n > 0 && newest(*n) != Some(Value::Int(*n as i64)));
        account.wrong(wrong.count(), "not the newest value");
        agent.stop().await;
    }
    // It panics if log time goes back.
    let log = Logbook::read(&dir.path().join("data"));
    let mut recorded: HashMap<i64, usize> = HashMap::new();
    for (_, _, _, value) in log.changes() {
        let Value::Int(n) = value else { panic!("{value:?}") };
        *recorded.entry(*n).or_default() += 1;
    }
    account.checked(posted);
    account.lost(posted - recorded.len().min(posted), "values that are not in the log");
    account.repeated(recorded.values().filter(|count| **count > 1).count(), "values recorded twice");
    let trimmed = log.count(|fact| matches!(fact, Fact::Trimmed { .. }));
    account.wrong(trimmed, "records were deleted");
}
