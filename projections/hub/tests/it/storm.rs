//! Many gateways, through JetStream and through Kafka's protocol, into all stores, while everything is killed at random.
//!
//! PostgreSQL, Redis and nats-server are the real ones; Kafka's protocol is Tansu, and OpenSearch's API is an imitation. Both
//! keep everything in memory, so Tansu is not killed, and the other one is, but begins empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use fieldlog_sim::rng::Rng;
use fieldlog_sim::servers::nats::NatsServer;
use fieldlog_sim::servers::opensearch::OpenSearchServer;
use fieldlog_sim::servers::postgres::PostgresServer;
use fieldlog_sim::servers::redis::RedisServer;
use fieldlog_sim::servers::tansu::Tansu;
use fieldlog_sim::servers::wait::{PATIENCE, block_until};
use fieldlog_wire::Lane;

use crate::gateway::{Form, Gateway, Post, random};
use crate::hub::Hub;
use crate::kafka::{self, Topic};
use crate::nats;
use crate::stores::{
    assert_arrivals, assert_opensearch, assert_redis, opensearch_lines, redis_lines, standing,
};
use crate::tables::{assert_complete, has, rows};

/// What is killed.
struct Servers {
    postgres: PostgresServer,
    nats: NatsServer,
    redis: RedisServer,
    opensearch: OpenSearchServer,
    hubs: Vec<Hub>,
}

/// How many gateways, and how many kills.
fn size() -> (usize, usize) {
    let text = std::env::var("FIELDLOG_STORM").unwrap_or_else(|_| "12,10".into());
    let (gateways, kills) = text.split_once(',').unwrap();
    (gateways.parse().unwrap(), kills.parse().unwrap())
}

impl Servers {
    /// Kills something, at some moment, and starts it again; says what.
    fn kill(&mut self, rng: &mut Rng) -> &'static str {
        let pause = |rng: &mut Rng| std::thread::sleep(Duration::from_millis(rng.below(400) as u64));
        pause(rng);
        let hub = rng.below(self.hubs.len());
        match rng.below(20) {
            0..8 => {
                self.hubs[hub].kill();
                pause(rng);
                self.hubs[hub].restart();
                "a hub"
            }
            8..12 => {
                self.nats.kill();
                pause(rng);
                self.nats.restart();
                "NATS"
            }
            12..15 => {
                self.postgres.kill();
                pause(rng);
                self.postgres.restart();
                "PostgreSQL"
            }
            15..18 => {
                self.redis.kill();
                pause(rng);
                self.redis.restart();
                "Redis"
            }
            18 => {
                // For longer than its lease; the other one takes what it has held.
                self.hubs[hub].signal("STOP");
                std::thread::sleep(Duration::from_millis(4_000));
                self.hubs[hub].signal("CONT");
                "nothing, but a hub stood still"
            }
            _ => {
                self.opensearch.replace();
                "OpenSearch with all that it had"
            }
        }
    }
}

/// Publishes until it is acknowledged, as a gateway does.
async fn insist(jetstream: &Context, gateway: &str, post: &Post) {
    while let Err(error) = nats::try_publish(jetstream, gateway, post.clone()).await {
        println!("{gateway} publishes again: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The new part of a log in parcels: some twice, some backwards, and some of the events first as priority copies.
async fn send(jetstream: &Context, gateway: &mut Gateway, from: u64, rng: &mut Rng) {
    let all = (from, gateway.head());
    let mut posts: Vec<Post> =
        gateway.split(from).into_iter().map(|part| gateway.parcel(part, Lane::Live)).collect();
    if rng.chance(30) {
        posts.insert(0, gateway.filtered(all, Lane::Priority, |record| record.seq.0.is_multiple_of(3)));
    }
    if rng.chance(30) {
        posts.push(gateway.parcel(all, Lane::Backlog));
    }
    if rng.chance(30) {
        posts.reverse();
    }
    for post in &posts {
        insist(jetstream, &gateway.name, post).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_every_table_and_store_is_the_fold_of_the_logs() {
    let (Some(postgres), Some(nats), Some(tansu)) =
        (PostgresServer::start(), NatsServer::with_stream(), Tansu::start())
    else {
        return;
    };
    let (Some(redis), Some(opensearch)) = (RedisServer::start(), OpenSearchServer::start()) else { return };
    let (count, kills) = size();
    let mut rng = random();
    let topic = Topic::create(&kafka::client(&tansu).await, "fieldlog").await;
    let lines = format!(
        "{}{}{}{}",
        nats::lines(&nats),
        kafka::source(&tansu, "fieldlog"),
        redis_lines(&redis),
        opensearch_lines(&opensearch)
    );
    let hubs = ["first", "second"].map(|name| Hub::with(name, &postgres, &lines)).into();
    let jetstream = nats::connect(&nats).await;
    let mut servers = Servers { postgres, nats, redis, opensearch, hubs };
    let done = Arc::new(AtomicBool::new(false));
    let (over, mut of_kills) = (done.clone(), rng.fork());
    let killer = std::thread::spawn(move || {
        for number in 1..=kills {
            println!("kill {number} of {kills}: {}", servers.kill(&mut of_kills));
        }
        over.store(true, Ordering::Release);
        servers
    });
    // Kafka's records are JSON.
    let form = |number: usize| if number % 4 == 1 { Form::Compact } else { Form::Json };
    let new = |number: usize, rng: Rng| Gateway::new(&format!("plant-{number}"), form(number), 3, rng);
    let mut gateways: Vec<Gateway> = (0..count).map(|number| new(number, rng.fork())).collect();
    let mut rounds = 0;
    while !done.load(Ordering::Acquire) {
        for (number, gateway) in gateways.iter_mut().enumerate() {
            let from = if rounds == 0 { 1 } else { gateway.head() + 1 };
            gateway.live(rng.between(1, 12));
            if number % 2 == 1 {
                send(&jetstream, gateway, from, &mut rng).await;
            } else {
                kafka::send(&topic, gateway, from, &mut rng).await;
            }
        }
        rounds += 1;
        // The more there is of a log, the longer it takes to make a parcel of it.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let servers = killer.join().unwrap();
    println!("{rounds} rounds");
    check(&servers, &gateways).await;
    let events: u64 = gateways.iter().map(Gateway::head).sum();
    println!("{count} gateways, {kills} kills, {events} events: each is there once");
}

async fn check(servers: &Servers, gateways: &[Gateway]) {
    let Servers { postgres, redis, opensearch, hubs, .. } = servers;
    for gateway in gateways {
        arrive(servers, gateway).await;
        assert_complete(postgres, gateway);
        assert_arrivals(postgres, gateway);
    }
    let events: u64 = gateways.iter().map(Gateway::head).sum();
    // That it was emptied is seen when its cursors are read again: until then it passes for complete.
    block_until("all events in OpenSearch", || {
        opensearch.call("POST", "/fieldlog-*/_refresh", "");
        let (_, found) = opensearch.call("POST", "/fieldlog-events-*/_count", "");
        (found["count"] == events).then_some(())
    });
    for store in ["redis", "opensearch"] {
        let lacks = || {
            let of_hubs = hubs.iter().map(|hub| standing(hub, store).unwrap());
            of_hubs.fold((0, true), |(events, settled), now| {
                let is = now["state"] == "live" && now["lag_events"] == 0;
                (events + now["events"].as_u64().unwrap(), settled && is)
            })
        };
        block_until(store, || (lacks() == (events, true)).then_some(()));
    }
    for gateway in gateways {
        assert_redis(postgres, redis, &gateway.name);
        assert_opensearch(postgres, opensearch, &gateway.name);
    }
}

/// Waits for the rest of a gateway's log; if it does not come, says what there is of it.
async fn arrive(servers: &Servers, gateway: &Gateway) {
    let from = format!("FROM logs WHERE gateway = '{}'", gateway.name);
    let begin = Instant::now();
    while !has(&servers.postgres, gateway) {
        if begin.elapsed() > PATIENCE {
            for hub in &servers.hubs {
                let words = hub.words();
                let lines: Vec<&str> = words.lines().collect();
                let metrics = hub.get("/metrics").body;
                let sources = metrics.lines().filter(|line| line.starts_with("fieldlog_hub_source"));
                println!(
                    "{}\n{:#?}",
                    lines[lines.len().saturating_sub(40)..].join("\n"),
                    sources.collect::<Vec<_>>()
                );
            }
            println!(
                "{:?}",
                rows(&servers.postgres, "topic, partition, holder, fence, next", "FROM kafka_partitions")
            );
            let log =
                rows(&servers.postgres, "position, newest, head, missing, events, forked, last_seen", &from);
            panic!("{} has {} records, and the tables have {log:?}", gateway.name, gateway.head());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
