//! SIGKILL of the agent, the intermediary, and the receiver, in every order.

use fieldlog_tests::mosquitto::Mosquitto;

use super::parts::{Between, ORDERS, Row, Verdict};
use super::site::random;

/// Rounds in random order, after those in every order.
const ROUNDS: usize = 4;

pub async fn check(between: Between) -> (Verdict, Between, u64) {
    let mut rng = random();
    let mut row = Row::new(between).await;
    for order in ORDERS {
        row.round(&mut rng, &order).await;
    }
    for _ in 0..ROUNDS {
        let any = *rng.pick(&ORDERS);
        let count = rng.between(1, 3);
        row.round(&mut rng, &any[..count]).await;
    }
    row.finish().await
}

#[tokio::test]
async fn over_http_nothing_is_missing() {
    let (verdict, _, head) = check(Between::Nothing).await;
    assert!(verdict.check(head).is_empty());
    assert_eq!(verdict.log.chained.0, head);
}

/// mosquitto acknowledges before it saves, so a SIGKILL makes it forget. Saving after every change keeps the loss
/// small, and the receiver reports it exactly.
#[tokio::test]
async fn over_mosquitto_what_it_forgets_is_reported() {
    let Some(broker) = Mosquitto::start("autosave_on_changes true\nautosave_interval 1") else { return };
    let (verdict, _, head) = check(Between::Mosquitto(broker)).await;
    println!("{} of {head} events forgotten by mosquitto", verdict.check(head).len());
}
