//! Simulated devices for the demo. They speak real MQTT to any broker, send the payloads, take the commands and have the
//! failures of real devices, and live sixty times faster, so that a viewer sees activity.

mod agenda;
mod device;
mod fault;
mod json;
mod link;
mod model;
mod obedience;
mod shelly;
mod tasmota;
#[cfg(test)]
mod tests;
mod zigbee;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Zoned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::rng::Rng;
use agenda::{Life, Turn};
use device::{Device, Publication, Session, Step};
use link::{Heard, Link, LinkError};

/// Simulated seconds per real second at speed 1: a day takes 24 minutes, a fridge cycles each minute.
const ACCELERATION: f64 = 60.0;
/// Simulated time in which one of the devices with their own connection vanishes.
const VANISH_PERIOD_S: f64 = 4500.0;
/// How long it stays away, in simulated seconds.
const OUTAGE_S: (f64, f64) = (480.0, 1200.0);
/// A device that was delayed by more than this continues from there and does not catch up.
const LAG_MAX: Duration = Duration::from_secs(1);
/// First and longest wait between two connection attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Time limit for the farewell; with a slower broker the will is published instead.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Which devices to simulate.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetOptions {
    /// Climate, contact, motion and leak sensors behind the Zigbee bridge.
    pub zigbee_sensors: usize,
    /// Metering plugs behind the Zigbee bridge.
    pub zigbee_plugs: usize,
    /// Colour bulbs behind the Zigbee bridge.
    pub zigbee_bulbs: usize,
    /// Wireless buttons behind the Zigbee bridge; each controls one of the bulbs.
    pub remotes: usize,
    /// Tasmota plugs and sensors.
    pub tasmota: usize,
    /// Shelly switches of the second generation.
    pub shelly_gen2: usize,
    /// The same seed gives each device the same life, except for the time stamps in its payloads.
    pub seed: u64,
    /// 1 gives 20 to 40 messages a second from the default fleet, enough to see activity.
    pub speed: f64,
}

impl Default for FleetOptions {
    fn default() -> FleetOptions {
        FleetOptions {
            zigbee_sensors: 14,
            zigbee_plugs: 6,
            zigbee_bulbs: 3,
            remotes: 2,
            tasmota: 4,
            shelly_gen2: 3,
            seed: 1,
            speed: 1.0,
        }
    }
}

impl FleetOptions {
    /// Simulated seconds per real second; an invalid speed counts as 1.
    fn pace(&self) -> f64 {
        let speed = if self.speed.is_finite() && self.speed > 0.0 { self.speed } else { 1.0 };
        speed.clamp(0.001, 10_000.0) * ACCELERATION
    }

    fn has_zigbee(&self) -> bool {
        self.zigbee_sensors + self.zigbee_plugs + self.zigbee_bulbs + self.remotes > 0
    }
}

/// Running devices. Dropping the fleet cuts every connection, so that the wills are published; [`Fleet::stop`]
/// disconnects.
#[derive(Debug)]
pub struct Fleet {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    published: Arc<AtomicU64>,
}

impl Fleet {
    /// Starts the devices on the caller's tokio runtime. They connect and reconnect by themselves.
    pub fn start(broker: SocketAddr, options: &FleetOptions) -> Fleet {
        let (stop, stopped) = watch::channel(false);
        let published = Arc::new(AtomicU64::new(0));
        let mut fleet = Fleet { stop, tasks: JoinSet::new(), published };
        let driver = Driver {
            broker,
            pace: options.pace(),
            published: Arc::clone(&fleet.published),
            stopped,
            jitter: Rng::of_device(options.seed, "back-off"),
        };
        if options.has_zigbee() {
            fleet.tasks.spawn(driver.clone().run(zigbee::Bridge::new(options)));
        }
        let of = options.tasmota + options.shelly_gen2;
        for index in 0..options.tasmota {
            let device = tasmota::Tasmota::new(options.seed, index, Turn { index, of });
            fleet.tasks.spawn(driver.clone().run(device));
        }
        for index in 0..options.shelly_gen2 {
            let turn = Turn { index: options.tasmota + index, of };
            fleet.tasks.spawn(driver.clone().run(shelly::Shelly::new(options.seed, index, turn)));
        }
        fleet
    }

    /// Publications written to a socket since the start.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Publishes every device as offline, disconnects, and returns when all have ended.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Drives the connections and the time of one device.
#[derive(Clone, Debug)]
struct Driver {
    broker: SocketAddr,
    pace: f64,
    published: Arc<AtomicU64>,
    stopped: watch::Receiver<bool>,
    jitter: Rng,
}

/// Why a device's connection ended.
enum Ended {
    Lost(LinkError),
    Vanished(f64),
}

impl Driver {
    async fn run(mut self, mut device: impl Device) {
        let session = device.session();
        // Otherwise all devices would reconnect at the same moments after an outage.
        self.jitter = Rng::of_device(self.jitter.next_u64(), &session.client_id);
        let mut attempt = 0;
        loop {
            let opening = Link::open(&session, self.broker, Arc::clone(&self.published));
            let wait = match self.unless_stopped(opening).await {
                None => return,
                Some(Err(error)) => {
                    attempt += 1;
                    tracing::debug!(
                        device = session.client_id,
                        attempt,
                        error = &error as &dyn std::error::Error,
                        "not connected"
                    );
                    self.backoff(attempt)
                }
                Some(Ok(mut link)) => {
                    attempt = 0;
                    let lifetime = live(&mut device, &mut link, self.pace);
                    let mut stopped = self.stopped.clone();
                    let ended = tokio::select! {
                        _ = stopped.wait_for(|stop| *stop) => None,
                        ended = lifetime => Some(ended),
                    };
                    match ended {
                        None => return say_goodbye(&device, link).await,
                        Some(ended) => self.pause(&session, ended),
                    }
                }
            };
            if self.unless_stopped(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// How long to stay away after a connection.
    fn pause(&mut self, session: &Session, ended: Ended) -> Duration {
        match ended {
            Ended::Vanished(outage) => {
                tracing::debug!(device = session.client_id, "vanishes");
                Duration::from_secs_f64(outage / self.pace)
            }
            Ended::Lost(error) => {
                tracing::debug!(
                    device = session.client_id,
                    error = &error as &dyn std::error::Error,
                    "connection lost"
                );
                self.backoff(1)
            }
        }
    }

    /// Doubles with each attempt up to a maximum; half of it is random.
    fn backoff(&mut self, attempt: u32) -> Duration {
        let (first, longest) = BACKOFF;
        let full = first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(longest);
        full.mul_f64(self.jitter.within((0.5, 1.0)))
    }

    /// `None` if the fleet is stopped before the work is done.
    async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            // An error means that the fleet was dropped, which is also a stop.
            _ = self.stopped.wait_for(|stop| *stop) => None,
            done = work => Some(done),
        }
    }
}

/// The life of a device during one connection.
async fn live(device: &mut impl Device, link: &mut Link, pace: f64) -> Ended {
    if let Err(error) = link.subscribe(device.listens()).await {
        return Ended::Lost(error);
    }
    if let Err(error) = publish(link, device.birth(&Zoned::now())).await {
        return Ended::Lost(error);
    }
    let mut schedule = Schedule { origin: Instant::now(), life: device.now(), pace };
    loop {
        let due = schedule.instant(device.due());
        let heard = tokio::select! {
            () = tokio::time::sleep_until(due) => None,
            heard = link.next() => match heard {
                Ok(heard) => Some(heard),
                Err(error) => return Ended::Lost(error),
            },
        };
        if let Some(Heard { topic, payload }) = heard {
            let said = device.hear(schedule.life(Instant::now()), &topic, &payload, &Zoned::now());
            if let Err(error) = publish(link, said).await {
                return Ended::Lost(error);
            }
            continue;
        }
        match device.step(&Zoned::now()) {
            Step::Vanish(outage) => return Ended::Vanished(outage),
            Step::Publish(publications) => {
                if let Err(error) = publish(link, publications).await {
                    return Ended::Lost(error);
                }
            }
        }
        schedule.forgive_lag(due, device.now());
    }
}

/// Maps a device's life to the clock.
struct Schedule {
    origin: Instant,
    life: Life,
    pace: f64,
}

impl Schedule {
    fn instant(&self, due: Life) -> Instant {
        // Bounded, because a device with nothing to do is due at infinity.
        let seconds = ((due - self.life) / self.pace).clamp(0.0, 86_400.0);
        self.origin + Duration::from_secs_f64(seconds)
    }

    fn life(&self, now: Instant) -> Life {
        self.life + now.saturating_duration_since(self.origin).as_secs_f64() * self.pace
    }

    fn forgive_lag(&mut self, due: Instant, life: Life) {
        let now = Instant::now();
        if now.saturating_duration_since(due) > LAG_MAX {
            (self.origin, self.life) = (now, life);
        }
    }
}

async fn publish(link: &Link, publications: Vec<Publication>) -> Result<(), LinkError> {
    for publication in publications {
        link.publish(publication).await?;
    }
    Ok(())
}

async fn say_goodbye(device: &impl Device, link: Link) {
    let goodbye = async {
        if publish(&link, device.farewell()).await.is_ok() {
            link.close().await;
        }
    };
    // After the timeout the connection is cut, and the will says the same.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, goodbye).await;
}

/// The id of the n-th Shelly device, which is the beginning of its topics.
pub fn shelly_id(index: usize) -> String {
    shelly::id(index)
}

/// The n-th name of a list; after its end, names repeat with a number.
fn name(names: &[&str], index: usize) -> String {
    let base = names[index % names.len()];
    match index / names.len() {
        0 => base.into(),
        round => format!("{base}_{}", round + 1),
    }
}
