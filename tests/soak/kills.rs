//! `kill -9` at random moments while QoS 1 messages arrive. Everything that the broker has acknowledged to the
//! publisher must be in the log afterwards, each change once, and the newest value of each device must be its state.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fieldlog_projections::Value;
use fieldlog_tests::logbook::Logbook;
use fieldlog_tests::publisher::Post;
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::until;

use crate::account::Account;
use crate::site::Site;

/// More values than can be in flight to the agent: no device has two unacknowledged messages at the same time, so
/// redelivered values equal the recorded ones. mosquitto has had 2,028 in flight to an MQTT 3.1.1 client.
const DEVICES: usize = 500;
const ATTRIBUTES: usize = 10;
/// Timeout for the rest of the broker's queue.
const LAST: Duration = Duration::from_secs(40);
/// Messages waiting at the publisher at any time.
const BACKLOG: usize = 200;
const RULES: [&str; 1] = ["topic = \"t/+device/+attribute\"\ndecoder = \"scalar\""];

struct Run {
    site: Site,
    rng: Rng,
    posted: usize,
}

/// The message with this number, which is also its value.
fn post(number: usize) -> Post {
    let topic = format!("t/{}/a{}", number % DEVICES, number / DEVICES % ATTRIBUTES);
    Post::new(topic, number.to_string())
}

impl Run {
    /// Lets the publisher work for a random time up to this.
    async fn for_a_while(&mut self, millis: usize) {
        let until = tokio::time::Instant::now() + Duration::from_millis(self.rng.below(millis) as u64);
        loop {
            let missing = BACKLOG.saturating_sub(self.site.publisher.waiting());
            self.site.publisher.post((self.posted..).take(missing).map(post));
            self.posted += missing;
            if tokio::time::Instant::now() >= until {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub async fn round(mut rng: Rng, account: &Arc<Account>) {
    let site = Site::new(account).await;
    let more = format!("protocol = {}", rng.pick(&[4, 5]));
    let rules = [RULES[0], more.as_str()];
    // The session must exist before the first message, or that one is lost.
    let unit = site.run(&[], &config(rules)).await;
    until("the subscription", || {
        site.publisher.post([Post::new("t/first/value", "true")]);
        site.messages() > 0
    })
    .await;
    site.publisher.idle().await;
    unit.stop().await;

    let kills = rng.between(4, 9);
    let mut run = Run { site, rng, posted: 0 };
    for _ in 0..kills {
        let unit = run.site.start(&[], &config(rules));
        run.for_a_while(1_200).await;
        unit.kill();
        run.for_a_while(100).await;
    }
    let site = &run.site;
    site.publisher.idle().await;
    let unit = site.run(&[], &config(rules)).await;
    site.publisher.post([Post::new("t/last/value", "true")]);
    let last = || site.value("last", "value") == Some(true.into());
    if tokio::time::timeout(LAST, until("the last message", last)).await.is_err() {
        panic!("the last message is not in the state after {LAST:?}: {}", site.status().unwrap_or_default());
    }
    unit.stop().await;
    assert_eq!(site.publisher.unknown(), 0, "the broker dropped the publisher");
    check(site, account, &more);
}

/// A subscription, after a key of the source.
fn config([rule, key]: [&str; 2]) -> String {
    format!("{key}\n[[source.subscription]]\n{rule}")
}

fn check(site: &Site, account: &Account, key: &str) {
    let acked = site.publisher.acked();
    let log = Logbook::read(&site.data_dir());
    let mut recorded: HashMap<String, usize> = HashMap::new();
    for (_, device, attribute, value) in log.changes() {
        if let Value::Int(number) = value {
            *recorded.entry(format!("t/{device}/{attribute} = {number}")).or_default() += 1;
        }
    }
    let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
    let mut lost = Vec::new();
    for post in &acked {
        let value = std::str::from_utf8(&post.payload).unwrap();
        newest.insert(&post.topic, value);
        let message = format!("{} = {value}", post.topic);
        if value != "true" && !recorded.contains_key(&message) {
            lost.push(message);
        }
    }
    account.checked(acked.len());
    account.lost(lost.len(), &format!("acknowledged and not in the log: {:?}", lost.first()));
    let twice: Vec<_> = recorded.iter().filter(|(_, count)| **count > 1).collect();
    account.repeated(twice.len(), &format!("changes recorded more than once, with {key}: {twice:?}"));
    log.assert_no_equal_values(&[]);

    let state = log.state();
    let differ = newest.iter().filter(|(topic, value)| {
        let mut names = topic.split('/').skip(1);
        let found = names.next().and_then(|device| state.get(device)?.get(names.next()?));
        !found.is_some_and(|found| match found {
            Value::Int(number) => number.to_string() == **value,
            other => **other == Value::Bool(**value == "true"),
        })
    });
    let differ: Vec<_> = differ.collect();
    account.wrong(differ.len(), &format!("not the newest state: {:?}", differ.first()));
}
