//! Clients that ask for commands whatever happens to the agent, devices that count what they carry out, and the comparison
//! of both with the log.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fieldlog_projections::command::{CommandState, Progress};
use fieldlog_projections::{Fact, Seq};
use fieldlog_sim::rng::Rng;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::actuator::{Actuator, Received};
use crate::logbook::Logbook;
use crate::publisher::{Post, Publisher};
use crate::wait::until;

const TOKEN: &str = "0123456789abcdef0123";
const DEVICES: usize = 8;
const CLIENTS: usize = 4;
const TTL_S: usize = 8;
const CONFIRM_S: u64 = 2;
/// One answer may take this long; the agent may be dead.
const ANSWER: Duration = Duration::from_secs(5);
/// `level` is idempotent and superseded by newer ones, `position` is held in order, `step` must not be done twice.
const ATTRIBUTES: [(&str, bool, &str); 3] =
    [("level", true, "latest_wins"), ("position", true, "hold"), ("step", false, "reject")];

/// Asks for commands at one agent, which may be killed at any time.
pub struct Commander {
    /// The agent's configuration.
    pub config: PathBuf,
    data_dir: PathBuf,
    http: u16,
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    actuator: Actuator,
    _publisher: Publisher,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    /// Commands by their number, which is their key and their value, with the id they were answered with.
    accepted: Mutex<BTreeMap<u64, u64>>,
}

/// What came of all commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Commands that a client asked for, once or more often.
    pub asked: usize,
    /// Of those, answered with 200 or 202.
    pub accepted: usize,
    /// Commands in the log.
    pub recorded: usize,
    /// Commands of which a publication was recorded.
    pub published: usize,
    /// Publications recorded.
    pub publications: usize,
    /// Commands that a device carried out.
    pub executed: usize,
    /// Those that are not idempotent and were carried out or published more than once.
    pub duplicates: Vec<String>,
    /// Accepted and not in the log, or without an end and without a reason for it.
    pub lost: Vec<String>,
    /// What the log says and the devices know better.
    pub untrue: Vec<String>,
    /// How many ended how.
    pub states: BTreeMap<&'static str, usize>,
}

impl Commander {
    /// Writes a configuration into `dir` for an agent that listens on the port `http` and starts the clients. The broker on
    /// port `mqtt` must run.
    ///
    /// # Panics
    /// If the broker does not answer.
    pub async fn start(dir: &Path, mqtt: u16, http: u16, rng: &mut Rng) -> Commander {
        let (token, config, data_dir) = (dir.join("token"), dir.join("fieldlog.toml"), dir.join("data"));
        std::fs::write(&token, TOKEN).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut text = format!(
            "gateway_id = \"test\"\ndata_dir = {data_dir:?}\n[log]\ncommit_delay_ms = 20\n[snapshots]\nevents = 1000\n\
             [retention]\nfree_bytes_min = 0\n[http]\nlisten = \"127.0.0.1:{http}\"\nadmin_token_file = {token:?}\n\
             [[source]]\nname = \"plant\"\naddress = \"mqtt://127.0.0.1:{mqtt}\"\nbackoff_max_s = 1\n\
             [[source.subscription]]\ntopic = \"t/+device/+attribute\"\ndecoder = \"scalar\"\n"
        );
        for (attribute, idempotent, on_offline) in ATTRIBUTES {
            text += &format!(
                "[[source.command]]\nattribute = \"{attribute}\"\ntype = \"integer\"\nidempotent = {idempotent}\n\
                 topic = \"cmnd/{{device}}/{{attribute}}\"\non_offline = \"{on_offline}\"\nconfirm_s = {CONFIRM_S}\n"
            );
        }
        std::fs::write(&config, text).unwrap();
        let actuator = Actuator::start(mqtt, "cmnd/#", obey).await;
        let publisher = Publisher::start(mqtt);
        let topics =
            (0..DEVICES).flat_map(|device| ATTRIBUTES.map(|(name, ..)| format!("t/d{device}/{name}")));
        publisher.post(topics.map(|topic| Post::retained(topic, "-1")));
        publisher.idle().await;
        let shared = Arc::<Shared>::default();
        let client = |_| tokio::spawn(ask_for_ever(http, shared.clone(), rng.fork()));
        let clients = (0..CLIENTS).map(client).collect();
        Commander { config, data_dir, http, shared, clients, actuator, _publisher: publisher }
    }

    /// Stops the clients once each has its last answer, and waits until the agent, which must be running, has done all it can
    /// about every command.
    ///
    /// # Panics
    /// If it does not.
    pub async fn settle(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.await.unwrap();
        }
        let port = self.http;
        let limit = Duration::from_secs(4 * (TTL_S as u64 + CONFIRM_S));
        let settled = async {
            let path = "/api/v1/commands?state=requested,dispatched,acknowledged&limit=1000";
            loop {
                if let Some((200, page)) = call(port, "GET", path, None).await
                    && page["commands"].as_array().unwrap().iter().all(|command| command["closed"] == true)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(limit, settled).await.is_err() {
            let page = call(port, "GET", "/api/v1/commands?open=true", None).await;
            panic!("commands are neither ended nor given up after {limit:?}: {page:?}");
        }
    }

    /// Compares what clients and devices know with the log of an agent that has stopped.
    pub fn outcome(&self) -> Outcome {
        let mut executed: HashMap<u64, usize> = HashMap::new();
        for Received { payload, .. } in self.actuator.received() {
            *executed.entry(payload.parse().unwrap()).or_default() += 1;
        }
        let accepted = self.shared.accepted.lock().unwrap().clone();
        compare(
            &Logbook::read(&self.data_dir),
            self.shared.next.load(Ordering::Relaxed),
            &accepted,
            &executed,
        )
    }

    /// Waits until the device has carried something out.
    pub async fn executes(&self) {
        until("a command that is carried out", || !self.actuator.received().is_empty()).await;
    }
}

impl Drop for Commander {
    fn drop(&mut self) {
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

/// A device reports what it was told, but for one command in seven.
fn obey(received: &Received) -> Vec<Post> {
    let number: u64 = received.payload.parse().unwrap();
    let topic = received.topic.replacen("cmnd/", "t/", 1);
    if number % 7 == 3 { Vec::new() } else { vec![Post::new(topic, received.payload.clone())] }
}

/// One command after the other, each asked for under its key until there is an answer.
async fn ask_for_ever(port: u16, shared: Arc<Shared>, mut rng: Rng) {
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let (device, (attribute, ..)) = (rng.below(DEVICES), *rng.pick(&ATTRIBUTES));
        let path = format!("/api/v1/devices/d{device}/commands");
        let body = json!({"attribute": attribute, "value": number, "ttl_s": 1 + rng.below(TTL_S),
            "idempotency_key": number.to_string(), "reason": "kill"});
        // An answer may have got lost: some ask again although they have one.
        let mut answers = 1 + usize::from(rng.chance(20));
        loop {
            match call(port, "POST", &path, Some(&body)).await {
                Some((200 | 202, answer)) => {
                    let id = answer["command"]["id"].as_u64().unwrap();
                    let known = *shared.accepted.lock().unwrap().entry(number).or_insert(id);
                    assert_eq!(known, id, "two commands for one key");
                    answers -= 1;
                    if answers == 0 {
                        break;
                    }
                }
                // Not there, not connected, not known yet: again, or another one.
                Some((404 | 409 | 503, _)) | None if rng.chance(90) => {
                    tokio::time::sleep(Duration::from_millis(20 + rng.below(80) as u64)).await;
                }
                Some((404 | 409 | 503, _)) | None => break,
                Some((status, answer)) => panic!("{status}: {answer}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.below(30) as u64)).await;
    }
}

/// Status and body of an answer, if there is one.
async fn call(port: u16, method: &str, path: &str, body: Option<&Json>) -> Option<(u16, Json)> {
    let body = body.map(Json::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
    };
    tokio::time::timeout(ANSWER, answer).await.ok()?
}

#[derive(Default)]
struct Life {
    number: u64,
    once: bool,
    dispatches: usize,
    state: Option<CommandState>,
}

fn compare(
    log: &Logbook,
    asked: u64,
    accepted: &BTreeMap<u64, u64>,
    executed: &HashMap<u64, usize>,
) -> Outcome {
    let mut lives: BTreeMap<Seq, Life> = BTreeMap::new();
    let mut numbers = BTreeSet::new();
    let mut found = Outcome {
        asked: asked as usize,
        accepted: accepted.len(),
        executed: executed.len(),
        ..Outcome::default()
    };
    for (seq, _, fact) in &log.records {
        match fact {
            Fact::CommandRequested { request, .. } => {
                let number = request.key.parse().unwrap();
                if !numbers.insert(number) {
                    found.duplicates.push(format!("key {number} is in the log twice"));
                }
                lives.insert(*seq, Life { number, once: !request.idempotent, ..Life::default() });
            }
            Fact::CommandProgressed { command, progress, .. } => {
                let life = lives.get_mut(command).expect("a step after its request");
                if life.state.is_some_and(CommandState::is_final) {
                    found.untrue.push(format!("{command} goes on after its end: {progress:?}"));
                }
                life.dispatches += usize::from(matches!(progress, Progress::Dispatched { .. }));
                life.state = Some(progress.state());
            }
            _ => {}
        }
    }
    found.recorded = lives.len();
    for (number, id) in accepted {
        if lives.get(&Seq(*id)).is_none_or(|life| life.number != *number) {
            found.lost.push(format!("{number} was accepted as {id}, which is not in the log"));
        }
    }
    for number in executed.keys().filter(|number| !numbers.contains(number)) {
        found.untrue.push(format!("{number} was carried out and is not in the log"));
    }
    for (id, life) in &lives {
        judge(*id, life, executed.get(&life.number).copied().unwrap_or(0), &mut found);
    }
    found
}

fn judge(id: Seq, life: &Life, done: usize, found: &mut Outcome) {
    let state = life.state.unwrap_or(CommandState::Requested);
    *found.states.entry(state.word()).or_default() += 1;
    found.published += usize::from(life.dispatches > 0);
    found.publications += life.dispatches;
    if life.once && done > 1 {
        found.duplicates.push(format!("{id} was carried out {done} times"));
    }
    if done > life.dispatches {
        found.untrue.push(format!("{id} was carried out {done} times and sent {} times", life.dispatches));
    }
    if state.is_driven() {
        found.lost.push(format!("{id} stays {}", state.word()));
    }
    let never = matches!(state, CommandState::Failed | CommandState::Expired | CommandState::Superseded);
    if (never && done > 0) || (state == CommandState::Applied && done == 0) {
        found.untrue.push(format!("{id} is {}, and was carried out {done} times", state.word()));
    }
}

impl Outcome {
    /// Whether everything is as promised, and something was proved by that.
    pub fn is_ok(&self) -> bool {
        self.duplicates.is_empty() && self.lost.is_empty() && self.untrue.is_empty() && self.executed > 0
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Outcome) {
        self.asked += other.asked;
        self.accepted += other.accepted;
        self.recorded += other.recorded;
        self.published += other.published;
        self.publications += other.publications;
        self.executed += other.executed;
        self.duplicates.extend_from_slice(&other.duplicates);
        self.lost.extend_from_slice(&other.lost);
        self.untrue.extend_from_slice(&other.untrue);
        for (state, count) in &other.states {
            *self.states.entry(state).or_default() += count;
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "asked   accepted  recorded  published  publications  executed  duplicates  lost  untrue"
        )?;
        writeln!(
            f,
            "{:<7} {:>8} {:>9} {:>10} {:>13} {:>9} {:>11} {:>5} {:>7}",
            self.asked,
            self.accepted,
            self.recorded,
            self.published,
            self.publications,
            self.executed,
            self.duplicates.len(),
            self.lost.len(),
            self.untrue.len()
        )?;
        let states: Vec<String> =
            self.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        write!(f, "ends: {}", states.join(", "))
    }
}
