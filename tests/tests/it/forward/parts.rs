//! The parts between a device and its data, each a process that can be killed: agent, intermediary, receiver.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use fieldlog::receive::{self, Out, ReceiveOptions};
use fieldlog_tests::agent::Agent;
use fieldlog_tests::mosquitto::Mosquitto;
use fieldlog_tests::nats::NatsServer;
use fieldlog_tests::process::{Process, free_port};
use fieldlog_tests::rng::Rng;
use fieldlog_tests::wait::until;
use fieldlog_wire::ledger::LogReport;
use tempfile::TempDir;
use tokio::sync::watch;

use super::site::{Site, forwarded, sink};

/// `fieldlog receive` with its lines and its state, over any number of runs.
pub struct Keeper {
    arguments: Vec<String>,
    dir: TempDir,
    process: Option<Process>,
}

/// The receiver's output at its end.
pub struct Verdict {
    pub code: i32,
    /// The report, as an operator reads it.
    pub printed: String,
    /// The state file's report on the only log.
    pub log: LogReport,
    /// Position of each line, in the order of the file.
    pub lines: Vec<u64>,
}

impl Keeper {
    /// One that receives from there: an option of `fieldlog receive` and its value.
    pub async fn start(option: &str, from: &str) -> Keeper {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let arguments = [option, from, "--out", &path("events.ndjson"), "--state", &path("state")];
        let mut keeper = Keeper { arguments: arguments.map(str::to_owned).into(), dir, process: None };
        keeper.run();
        // With its subscription, or what is sent before is for nobody.
        let ready = ["subscribed", "parcels by POST", "consuming"];
        let process = keeper.process.as_ref().unwrap();
        until("the receiver", || ready.iter().any(|words| process.words().contains(words))).await;
        keeper
    }

    pub fn run(&mut self) {
        self.process = Some(Process::receive(&self.arguments));
    }

    pub fn kill(&mut self) {
        assert_eq!(self.process.take().unwrap().kill().code, -9);
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("events.ndjson")
    }

    /// Positions of the complete lines so far.
    pub fn lines(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.out()).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(position).collect()
    }

    /// Waits until it has written an event.
    pub async fn has(&self, seq: u64) {
        until(&format!("event {seq} at the receiver"), || self.lines().contains(&seq)).await;
    }

    /// Stops it like an operator.
    pub async fn stop(mut self) -> Verdict {
        let process = self.process.take().unwrap();
        process.signal("TERM");
        let ended = process.ended().await;
        let state = Some(self.dir.path().join("state"));
        let (_stop, stopped) = watch::channel(true);
        let options = ReceiveOptions { state, out: Out::File(self.out()), ..ReceiveOptions::default() };
        let mut logs = receive::run(options, stopped, drop).await.unwrap().logs;
        assert_eq!(logs.len(), 1, "{logs:?}");
        let verdict =
            Verdict { code: ended.code, printed: ended.printed, log: logs.remove(0), lines: self.lines() };
        println!("{}", verdict.printed);
        verdict
    }
}

fn position(line: &str) -> u64 {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["sequence"].as_str().unwrap().parse().unwrap()
}

impl Verdict {
    /// Checks that the reported missing ranges are exactly those of a log that ends at `head`, that each other event
    /// has one line, and that there are no contradictions. Returns the missing positions.
    pub fn check(&self, head: u64) -> BTreeSet<u64> {
        let lines: BTreeSet<u64> = self.lines.iter().copied().collect();
        assert_eq!(lines.len(), self.lines.len(), "an event has two lines");
        let missing: BTreeSet<u64> = (1..=head).filter(|seq| !lines.contains(seq)).collect();
        let reported = self.log.missing.iter().flat_map(|(first, last)| first.0..=last.0).collect();
        assert_eq!(missing, reported, "{}", self.printed);
        for (first, last) in self.log.missing.iter().take(20) {
            let words = format!("  MISSING {first} to {last}\n");
            assert!(self.printed.contains(&words), "no {words:?} in {}", self.printed);
        }
        assert_eq!((self.log.newest.0, self.log.counts.faults), (head, 0), "{}", self.printed);
        assert_eq!(self.code, i32::from(!missing.is_empty()), "{}", self.printed);
        missing
    }
}

/// The intermediary between agent and receiver.
pub enum Between {
    /// Nothing: HTTP.
    Nothing,
    Mosquitto(Mosquitto),
    Nats(NatsServer),
}

/// One of the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Agent,
    Between,
    Receiver,
}

pub const ORDERS: [[Part; 3]; 6] = [
    [Part::Agent, Part::Between, Part::Receiver],
    [Part::Agent, Part::Receiver, Part::Between],
    [Part::Between, Part::Agent, Part::Receiver],
    [Part::Between, Part::Receiver, Part::Agent],
    [Part::Receiver, Part::Agent, Part::Between],
    [Part::Receiver, Part::Between, Part::Agent],
];

/// All parts in a row, behind a source.
pub struct Row {
    site: Site,
    between: Between,
    agent: Option<Process>,
    keeper: Keeper,
    sink: String,
}

impl Row {
    pub async fn new(between: Between) -> Row {
        let (option, address, from) = match &between {
            Between::Nothing => {
                let port = free_port();
                ("--http", format!("http://127.0.0.1:{port}/events"), format!("127.0.0.1:{port}"))
            }
            Between::Mosquitto(broker) => {
                let address = format!("mqtt://127.0.0.1:{}", broker.port);
                ("--mqtt", address.clone(), address)
            }
            Between::Nats(server) => {
                let address = format!("nats://127.0.0.1:{}", server.port);
                ("--nats", address.clone(), address)
            }
        };
        let keeper = Keeper::start(option, &from).await;
        let site = Site::new().await;
        let sink = sink(&address, "parcel_events_max = 20");
        // The session must exist before the first message, or that one is lost.
        site.start(&site.config("")).await.stop().await;
        let mut row = Row { site, between, agent: None, keeper, sink };
        row.start(Part::Agent);
        row
    }

    /// Whether there is such a process.
    pub fn has(&self, part: Part) -> bool {
        part != Part::Between || !matches!(self.between, Between::Nothing)
    }

    fn kill(&mut self, part: Part) {
        match (part, &mut self.between) {
            (Part::Agent, _) => assert_eq!(self.agent.take().unwrap().kill().code, -9),
            (Part::Receiver, _) => self.keeper.kill(),
            (Part::Between, Between::Nothing) => {}
            (Part::Between, Between::Mosquitto(broker)) => broker.kill(),
            (Part::Between, Between::Nats(server)) => server.kill(),
        }
    }

    fn start(&mut self, part: Part) {
        match (part, &mut self.between) {
            (Part::Agent, _) => {
                let path = self.site.dir.path().join("fieldlog.toml");
                std::fs::write(&path, self.site.text(&self.sink)).unwrap();
                self.agent = Some(Process::run(&path, &[]));
            }
            (Part::Receiver, _) => self.keeper.run(),
            (Part::Between, Between::Nothing) => {}
            (Part::Between, Between::Mosquitto(broker)) => broker.restart(),
            (Part::Between, Between::Nats(server)) => server.restart(),
        }
    }

    /// Kills these one after the other and restarts them in any order, with events all the while.
    pub async fn round(&mut self, rng: &mut Rng, kills: &[Part]) {
        let mut dead: Vec<Part> = kills.iter().copied().filter(|part| self.has(*part)).collect();
        println!("killed: {dead:?}");
        for part in &dead {
            self.post(rng).await;
            self.kill(*part);
        }
        self.post(rng).await;
        while !dead.is_empty() {
            let part = dead.swap_remove(rng.below(dead.len()));
            println!("started: {part:?}");
            self.start(part);
            self.post(rng).await;
        }
        let before = self.keeper.lines().len();
        self.site.post(1);
        until("new events at the receiver", || self.keeper.lines().len() > before).await;
    }

    async fn post(&mut self, rng: &mut Rng) {
        self.site.post_for(Duration::from_millis(rng.between(50, 400) as u64)).await;
    }

    /// Lets everything arrive; returns the receiver's result, the intermediary, and the last position of the log.
    pub async fn finish(mut self) -> (Verdict, Between, u64) {
        self.kill(Part::Agent);
        let agent: Agent = self.site.start(&self.site.config(&self.sink)).await;
        self.site.recorded().await;
        forwarded(&agent).await;
        // Whatever was lost is before this one.
        self.site.post(1);
        self.site.recorded().await;
        forwarded(&agent).await;
        let head = agent.head();
        if let Between::Mosquitto(_) = self.between {
            // It delivers in order: whatever does not come before this one does not come.
            self.keeper.has(head).await;
        } else {
            // NATS hands out again what a killed receiver had, 30 s after the first time.
            until("every event at the receiver", || self.keeper.lines().len() as u64 >= head).await;
        }
        agent.stop().await;
        (self.keeper.stop().await, self.between, head)
    }
}
