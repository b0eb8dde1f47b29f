//! The driver with a slow sink.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};

use fieldlog_projections::chunk::RecordBuffer;
use fieldlog_projections::fact::Availability;
use fieldlog_wire::resend::{Request, Resend};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::forward::filter::Filter;
use crate::forward::fixture::Fixture;
use crate::forward::parcel::Format;
use crate::forward::sinks::builder;
use crate::log::Commit;
use crate::log::acked::AckedRanges;
use crate::shared::{Position, WriterStats};
use crate::snapshots::SnapshotStore;

const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a sink that answers each parcel after a while.
struct Slow {
    arrived: Arc<Arrived>,
    takes: Duration,
    stored: Option<Manifest>,
}

#[derive(Default)]
struct Arrived {
    parcels: Mutex<Vec<Arc<Parcel>>>,
    more: Notify,
}

impl Arrived {
    fn parcels(&self) -> Vec<Arc<Parcel>> {
        self.parcels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn until(&self, what: &str, reached: impl Fn(&[Arc<Parcel>]) -> bool) {
        let waiting = async {
            while !reached(&self.parcels()) {
                self.more.notified().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what} does not come");
    }
}

impl Transport for Slow {
    fn send(&mut self, parcel: Arc<Parcel>) -> impl Future<Output = Outcome> + Send + 'static {
        self.arrived.parcels.lock().unwrap_or_else(PoisonError::into_inner).push(parcel);
        self.arrived.more.notify_one();
        let takes = self.takes;
        async move {
            tokio::time::sleep(takes).await;
            Outcome::Acked
        }
    }

    async fn lost(&mut self) -> String {
        std::future::pending().await
    }

    fn window(&self) -> usize {
        2
    }

    fn stored(&self) -> Option<&Manifest> {
        self.stored.as_ref()
    }

    async fn close(self) {}
}

/// A driver working on a log.
struct Rig {
    fixture: Fixture,
    shared: Arc<Shared>,
    status: Arc<SinkStatus>,
    requests: Arc<Requests>,
    inputs: Receiver<Input>,
    arrived: Arc<Arrived>,
    stop: watch::Sender<bool>,
    task: JoinHandle<AckedRanges>,
}

impl Rig {
    /// With these additional keys in the sink's configuration.
    fn start(fixture: Fixture, takes: Duration, keys: &str) -> Rig {
        Rig::start_with(fixture, takes, keys, None)
    }

    /// With a sink that already has something.
    fn start_with(fixture: Fixture, takes: Duration, keys: &str, stored: Option<Manifest>) -> Rig {
        let text = format!("[[sink]]\nname = \"cloud\"\naddress = \"http://cloud.example\"\n{keys}");
        let sink = Config::from_toml(&text, "test").unwrap().sinks.remove(0);
        let position = Position { head: fixture.log.head(), applied: fixture.log.head() };
        let shared = Arc::new(Shared {
            epoch: fixture.log.epoch(),
            view: fixture.view.read().unwrap().clone().into(),
            position: watch::channel(position).0,
            reader: fixture.log.reader(),
            disk: fixture.log.disk().clone(),
            snapshots: SnapshotStore::open(fixture.dir.path()).unwrap(),
            stats: WriterStats::default(),
            rebuild: crate::shared::RebuildProgress::default(),
            alerts: watch::channel(Seq(0)).0,
        });
        let (writer, inputs) = channel();
        let status = Arc::new(SinkStatus::new(Clock::system()));
        let clock = Clock::system();
        let requests = Arc::new(Requests::new("cloud", "plant-7", shared.epoch));
        let parts = Parts {
            shared: shared.clone(),
            writer,
            status: status.clone(),
            requests: requests.clone(),
            clock,
            known: None,
        };
        let build = builder(&sink, &shared, &"plant-7".into(), shared.epoch).unwrap();
        let arrived = Arc::new(Arrived::default());
        let (stop, stopping) = watch::channel(false);
        let there = arrived.clone();
        let open =
            move || std::future::ready(Ok(Slow { arrived: there.clone(), takes, stored: stored.clone() }));
        let task = tokio::spawn(drive(Service::of(&sink), parts, open, build, stopping));
        Rig { fixture, shared, status, requests, inputs, arrived, stop, task }
    }

    /// Publishes the fixture's records to the driver.
    fn publish(&self) {
        *self.shared.view.write().unwrap() = self.fixture.view.read().unwrap().clone();
        let head = self.fixture.log.head();
        self.shared.position.send_replace(Position { head, applied: head });
    }

    /// Waits until everything is acknowledged, and returns how much that is.
    async fn delivered(&self) -> Seq {
        let head = self.fixture.log.head();
        let waiting = async {
            while self.status.details().acked.contiguous() < head {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
        head
    }

    /// Asks for ranges again.
    fn ask(&self, ranges: &[(u64, u64)]) {
        let ranges = ranges.iter().map(|(first, last)| (Seq(*first), Seq(*last))).collect();
        let resend = Resend { gateway: "plant-7".into(), epoch: self.shared.epoch.to_string(), ranges };
        let answer = self.requests.take(&serde_json::to_vec(&Request { resend }).unwrap());
        assert!(answer.accepted, "{answer:?}");
    }

    /// Stops the driver; returns the parcels that have arrived, and the acknowledged ranges.
    async fn stop(self) -> (Vec<Arc<Parcel>>, AckedRanges) {
        self.stop.send_replace(true);
        let acked = tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
        let cursors = self.inputs.try_iter().filter_map(|input| match input {
            Input::Cursor { acked, .. } => Some(acked),
            _ => None,
        });
        assert_eq!(cursors.last().as_ref(), Some(&acked), "what is stored is what it has");
        (self.arrived.parcels(), acked)
    }
}

fn at(parcel: &Parcel, lane: Lane, seq: Seq) -> bool {
    parcel.manifest.lane == lane && parcel.items.iter().any(|item| item.seq == seq)
}

const PRIORITY: &str = "priority = [\"availability_changed\"]\nparcel_events_max = 200\n";

#[tokio::test]
async fn an_event_that_matters_goes_ahead_of_a_backlog() {
    for format in ["format = \"json\"", "format = \"compact\""] {
        let mut fixture = Fixture::new(100_000);
        let old = fixture.availability(7, Availability::Offline);
        let mut rig = Rig::start(fixture, Duration::from_millis(5), &format!("{PRIORITY}{format}"));
        rig.arrived.until("a part of the backlog", |parcels| parcels.len() > 20).await;
        let fresh = rig.fixture.availability(7, Availability::Online);
        rig.fixture.record(3_000);
        rig.publish();
        let before = rig.arrived.parcels().len();
        rig.arrived.until("more of it", |parcels| parcels.len() > before + 20).await;
        let (parcels, acked) = rig.stop().await;
        let find = |seq| parcels.iter().position(|parcel| at(parcel, Lane::Priority, seq));
        assert_eq!(find(old), Some(0), "nothing can be before it");
        let found = find(fresh).unwrap();
        assert!((before..=before + 3).contains(&found), "published after {before}, sent as {found}");
        let priority: u32 =
            parcels.iter().filter(|p| p.manifest.lane == Lane::Priority).map(|p| p.manifest.events).sum();
        assert_eq!(priority, 3, "there are three such events, each is copied once");
        assert!(acked.missing(old, old).is_some(), "a copy covers nothing");
        // Covering parcels continue in parallel, and meet.
        let mut backlog = parcels.iter().filter(|parcel| parcel.manifest.lane == Lane::Backlog);
        let mut next = Seq(1);
        assert!(backlog.all(|p| std::mem::replace(&mut next, p.manifest.last.next()) == p.manifest.first));
        assert!(next > Seq(3_000), "the backlog is only at {next}");
    }
}

#[tokio::test]
async fn a_backlog_goes_on_while_fresh_events_wait_for_company() {
    let keys = "parcel_events_max = 200\nparcel_delay_ms = 60000";
    let mut rig = Rig::start(Fixture::new(100_000), Duration::from_millis(5), keys);
    rig.arrived.until("a part of the backlog", |parcels| parcels.len() > 5).await;
    rig.fixture.availability(7, Availability::Online);
    rig.publish();
    let before = rig.arrived.parcels().len();
    rig.arrived.until("more of it", |parcels| parcels.len() > before + 20).await;
    let (parcels, _) = rig.stop().await;
    assert!(parcels.iter().all(|parcel| parcel.manifest.lane == Lane::Backlog));
}

#[tokio::test]
async fn on_an_idle_link_nothing_is_sent_twice() {
    let mut rig = Rig::start(Fixture::new(100), Duration::ZERO, &format!("{PRIORITY}parcel_delay_ms = 0"));
    for device in 0..10 {
        let seq = rig.fixture.availability(device, Availability::Online);
        rig.publish();
        rig.arrived.until("the event", |parcels| parcels.iter().any(|p| at(p, Lane::Live, seq))).await;
    }
    let (parcels, _) = rig.stop().await;
    assert!(parcels.iter().all(|parcel| parcel.manifest.lane == Lane::Live));
}

#[tokio::test]
async fn what_a_sink_has_stored_counts_only_if_it_is_from_this_log() {
    let manifest = || {
        let fixture = Fixture::new(1_000);
        let parcels = fixture.parcels(Filter::default(), Format::Compact, Seq(1), 100);
        (fixture, parcels[4].manifest.clone())
    };
    let first = async |fixture, stored: Manifest| {
        let rig = Rig::start_with(fixture, Duration::ZERO, "order = \"strict\"", Some(stored));
        rig.arrived.until("a parcel", |parcels| !parcels.is_empty()).await;
        let error = rig.status.details().last_error.map(|failure| failure.why);
        (rig.stop().await.0[0].manifest.first, error)
    };
    let (fixture, stored) = manifest();
    assert_eq!(first(fixture, stored.clone()).await, (stored.last.next(), None));
    let (fixture, mut other) = manifest();
    other.after = other.before;
    let (from, error) = first(fixture, other).await;
    assert!(from == Seq(1) && error.is_some_and(|why| why.contains("restored from a backup")));
    let (fixture, mut ahead) = manifest();
    ahead.last = Seq(5_000);
    let (from, error) = first(fixture, ahead).await;
    assert!(from == Seq(1) && error.is_some_and(|why| why.contains("sequence 5000")));
}

#[tokio::test]
async fn without_priorities_nothing_goes_ahead() {
    let rig = Rig::start(Fixture::new(5_000), Duration::ZERO, "parcel_events_max = 200");
    rig.arrived.until("the backlog", |parcels| parcels.len() > 20).await;
    let (parcels, _) = rig.stop().await;
    assert!(parcels.iter().all(|parcel| parcel.manifest.lane != Lane::Priority));
}

#[tokio::test]
async fn a_copy_does_not_wait_until_telemetry_has_paid_for_its_bandwidth() {
    // The second parcel of telemetry has to wait for minutes.
    let keys = "parcel_delay_ms = 0\nbandwidth_bytes_per_s = 400";
    let mut rig = Rig::start(Fixture::new(300), Duration::ZERO, &format!("{PRIORITY}{keys}"));
    let sent = |parcels: &[Arc<Parcel>]| parcels.iter().any(|p| p.manifest.lane != Lane::Priority);
    rig.arrived.until("a parcel of telemetry", sent).await;
    let seq = rig.fixture.availability(1, Availability::Online);
    rig.publish();
    rig.arrived.until("the copy", |parcels| parcels.iter().any(|p| at(p, Lane::Priority, seq))).await;
    let priority = rig.status.clone();
    let (parcels, _) = rig.stop().await;
    let covering = parcels.iter().filter(|p| p.manifest.lane != Lane::Priority).count();
    assert_eq!(covering, 1, "telemetry keeps to the limit");
    assert_eq!(priority.priority_acked.load(std::sync::atomic::Ordering::Relaxed), 2);
}

/// With a sink that takes one parcel at a time, and with one whose bandwidth is less than there are copies.
#[tokio::test]
async fn copies_of_everything_do_not_keep_the_cursor_back() {
    for keys in ["in_flight_max = 1", "bandwidth_bytes_per_s = 100000"] {
        let keys = format!("priority = [\"state_changed\"]\nparcel_events_max = 20\n{keys}");
        let rig = Rig::start(Fixture::new(5_000), Duration::from_millis(1), &keys);
        rig.arrived.until("sixty parcels", |parcels| parcels.len() >= 60).await;
        let (parcels, acked) = rig.stop().await;
        let covering = parcels.iter().filter(|p| p.manifest.lane == Lane::Backlog).count();
        assert!(
            (20..=45).contains(&covering),
            "{keys}: {covering} of {} parcels cover something",
            parcels.len()
        );
        assert!(acked.contiguous() >= Seq(300), "{keys}: {acked:?}");
    }
}

#[tokio::test]
async fn a_stop_waits_for_the_answers_under_way() {
    let rig = Rig::start(Fixture::new(2_000), Duration::from_millis(300), "parcel_events_max = 100");
    rig.arrived.until("two parcels", |parcels| parcels.len() == 2).await;
    let (parcels, acked) = rig.stop().await;
    assert_eq!(parcels.len(), 2, "nothing more is sent");
    assert_eq!(acked, AckedRanges::upto(parcels[1].manifest.last));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_sink_that_never_answers() {
    let rig = Rig::start(Fixture::new(2_000), Duration::from_secs(3_600), "parcel_events_max = 100");
    rig.arrived.until("two parcels", |parcels| parcels.len() == 2).await;
    let (_, acked) = rig.stop().await;
    assert_eq!(acked, AckedRanges::default());
}

/// First, last, and from where it was asked for, of the parcels that were sent again.
fn resent(parcels: &[Arc<Parcel>]) -> Vec<(u64, u64, u64)> {
    let again = parcels.iter().filter_map(|parcel| Some((&parcel.manifest, parcel.resent?)));
    again.map(|(manifest, resent)| (manifest.first.0, manifest.last.0, resent.asked.0)).collect()
}

#[tokio::test]
async fn what_the_receiver_asks_for_again_moves_no_cursor() {
    for order in ["live-first", "strict"] {
        let keys = format!("order = \"{order}\"\nparcel_events_max = 100");
        let rig = Rig::start(Fixture::new(3_000), Duration::ZERO, &keys);
        let head = rig.delivered().await;
        rig.ask(&[(150, 420), (head.0 - 9, 9_000)]);
        rig.arrived.until("what was asked for", |parcels| resent(parcels).len() == 4).await;
        let status = rig.status.clone();
        let (parcels, acked) = rig.stop().await;
        let last = (head.0 - 9, head.0, head.0 - 9);
        assert_eq!(resent(&parcels), [(150, 249, 150), (250, 349, 250), (350, 420, 350), last]);
        assert_eq!(acked, AckedRanges::upto(head));
        for parcel in parcels.iter().filter(|parcel| parcel.resent.is_some()) {
            assert_eq!(parcel.manifest.lane, Lane::Backlog);
            assert!(parcel.identity().starts_with(&format!("{}/resend/", parcel.manifest.identity())));
        }
        let count =
            |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((count(&status.resend_requests), count(&status.events_resent)), (1, 281));
        assert_eq!(count(&status.events_acked), head.0);
    }
}

#[tokio::test]
async fn of_what_was_trimmed_the_first_record_that_is_left_is_sent() {
    let mut rig = Rig::start(Fixture::new(3_000), Duration::ZERO, "parcel_events_max = 100");
    rig.delivered().await;
    let nothing = RecordBuffer::after(Time(0));
    let trim = Commit { trim_before: Some(Seq(1_000)), ..Commit::of(&nothing) };
    rig.fixture.log.commit(&trim).unwrap();
    let begin = rig.shared.reader.range().unwrap().unwrap().0.0;
    assert!(begin > 20);
    rig.ask(&[(3, 5), (10, begin + 20)]);
    rig.arrived.until("both", |parcels| resent(parcels).len() == 2).await;
    let (parcels, _) = rig.stop().await;
    // The first parcel says it for everything before its beginning.
    assert_eq!(resent(&parcels), [(begin, begin, 3), (begin + 1, begin + 20, begin + 1)]);
}
