//! Zigbee2MQTT: one MQTT 5 connection for every Zigbee device in the house.

mod documents;
mod member;
mod products;
mod settings;

use jiff::Zoned;
use serde_json::{Map, Value, json};

use super::FleetOptions;
use super::agenda::{Agenda, Life};
use super::device::{Device, Protocol, Publication, Session, Step};
use super::model::{Climate, Outlet};
use super::obedience::Obedience;
use crate::rng::Rng;
use member::{Kind, Light, Member, Press};

/// The base topic.
const BASE: &str = "zigbee2mqtt";
/// Simulated time between sensors falling silent.
const SILENCE_PERIOD_S: (f64, f64) = (3600.0, 7200.0);
/// After this the bridge reports a device as offline; the default for routers. Sleeping devices get more in reality.
const AVAILABILITY_TIMEOUT_S: f64 = 600.0;
/// Simulated time between failures of the bridge itself.
const VANISH_PERIOD_S: (f64, f64) = (18_000.0, 30_000.0);
/// Simulated time between presses of a remote.
const PRESS_PERIOD_S: (f64, f64) = (240.0, 900.0);
/// Simulated time until a plug is switched off, and on again.
const SWITCH_PERIOD_S: (f64, f64) = (600.0, 1500.0);

/// The bridge and its devices.
#[derive(Debug)]
pub struct Bridge {
    members: Vec<Member>,
    rng: Rng,
    agenda: Agenda<Event>,
}

#[derive(Clone, Debug)]
enum Event {
    Report(usize),
    /// A command that was taken is carried out.
    Obey(usize, Map<String, Value>),
    Press,
    Switch(usize),
    Silence,
    Unreachable(usize),
    Return(usize),
    Vanish,
}

impl Bridge {
    /// A bridge with the devices in the options.
    pub fn new(options: &FleetOptions) -> Bridge {
        let mut rng = Rng::of_device(options.seed, BASE);
        let mut members = members(options);
        let mut agenda = Agenda::new();
        for (index, member) in members.iter_mut().enumerate() {
            if let Some(delay) = member.report_delay() {
                agenda.after(delay * member.rng.unit(), Event::Report(index));
            }
            if member.is_switched() {
                agenda.after(member.rng.within(SWITCH_PERIOD_S), Event::Switch(index));
            }
        }
        agenda.after(rng.within(PRESS_PERIOD_S) / 3.0, Event::Press);
        agenda.after(rng.within(SILENCE_PERIOD_S) / 3.0, Event::Silence);
        agenda.after(rng.within(VANISH_PERIOD_S), Event::Vanish);
        Bridge { members, rng, agenda }
    }

    fn bridge_state(state: &str) -> Publication {
        let payload = json!({"state": state}).to_string();
        Publication::new(format!("{BASE}/bridge/state"), payload).qos1(true).retained(true)
    }

    fn document(name: &str, document: &Value) -> Publication {
        Publication::new(format!("{BASE}/bridge/{name}"), document.to_string()).retained(true)
    }

    fn log(level: &str, message: &str) -> Publication {
        let payload = json!({"level": level, "message": message, "namespace": "z2m"}).to_string();
        Publication::new(format!("{BASE}/bridge/logging"), payload)
    }

    fn availability(member: &Member) -> Publication {
        let state = if member.reachable { "online" } else { "offline" };
        let payload = json!({"state": state}).to_string();
        Publication::new(format!("{BASE}/{}/availability", member.name), payload).qos1(true).retained(true)
    }

    fn state(member: &Member, state: &Value) -> Publication {
        Publication::new(format!("{BASE}/{}", member.name), state.to_string())
            .qos1(member.at_least_once())
            .retained(member.retains())
    }

    fn report(&mut self, index: usize) -> Vec<Publication> {
        let life = self.agenda.now();
        let member = &mut self.members[index];
        let mut said = Vec::new();
        if !member.silent {
            let state = member.report(life);
            said.push(Bridge::state(member, &state));
        }
        if let Some(delay) = member.report_delay() {
            self.agenda.after(delay, Event::Report(index));
        }
        said
    }

    /// A remote is pressed, and its bound bulb follows.
    fn press(&mut self) -> Vec<Publication> {
        let life = self.agenda.now();
        let delay = self.rng.within(PRESS_PERIOD_S);
        self.agenda.after(delay, Event::Press);
        let press =
            [Press::Single, Press::Single, Press::Single, Press::Double, Press::Hold][self.rng.below(5)];
        let remotes = self.indices(|member| matches!(member.kind, Kind::Remote) && !member.silent);
        if remotes.is_empty() {
            return Vec::new();
        }
        let turn = self.rng.below(remotes.len());
        let remote = &mut self.members[remotes[turn]];
        let message = remote.press(press, life);
        let mut said = vec![Bridge::state(remote, &message)];
        let bulbs = self.indices(|member| matches!(member.kind, Kind::Bulb(_)) && !member.silent);
        if let Some(bulb) = bulbs.get(turn % bulbs.len().max(1)) {
            let bulb = &mut self.members[*bulb];
            let state = bulb.obey(press, life);
            said.extend(state.map(|state| Bridge::state(bulb, &state)));
        }
        said
    }

    fn switch(&mut self, index: usize) -> Vec<Publication> {
        let life = self.agenda.now();
        let member = &mut self.members[index];
        let Some((on, state)) = member.switch(life) else { return Vec::new() };
        let said = if member.silent { Vec::new() } else { vec![Bridge::state(member, &state)] };
        // Off for minutes, on for hours: nobody likes a warm fridge.
        let range = if on { (3600.0, 10_800.0) } else { (120.0, 420.0) };
        let delay = self.rng.within(range);
        self.agenda.after(delay, Event::Switch(index));
        said
    }

    /// One more device falls silent. The bridge notices later.
    fn silence(&mut self) {
        let delay = self.rng.within(SILENCE_PERIOD_S);
        self.agenda.after(delay, Event::Silence);
        let talking = self.indices(|member| !member.silent && !matches!(member.kind, Kind::Plug(_)));
        let Some(index) = talking.get(self.rng.below(talking.len())).copied() else { return };
        self.members[index].silent = true;
        self.agenda.after(AVAILABILITY_TIMEOUT_S, Event::Unreachable(index));
        let away = AVAILABILITY_TIMEOUT_S + self.rng.within((900.0, 2700.0));
        self.agenda.after(away, Event::Return(index));
    }

    fn unreachable(&mut self, index: usize) -> Vec<Publication> {
        let member = &mut self.members[index];
        member.reachable = false;
        let text = format!("Device '{}' did not check in, marked as offline", member.name);
        vec![Bridge::availability(member), Bridge::log("warning", &text)]
    }

    fn comes_back(&mut self, index: usize) -> Vec<Publication> {
        let life = self.agenda.now();
        let member = &mut self.members[index];
        (member.reachable, member.silent) = (true, false);
        let state = member.report(life);
        vec![Bridge::availability(member), Bridge::state(member, &state)]
    }

    /// Takes a command to a member. The only answers are the state that follows, and the bridge's log.
    fn command(&mut self, index: usize, payload: &[u8]) -> Vec<Publication> {
        let member = &mut self.members[index];
        let name = &member.name;
        let Ok(Value::Object(wanted)) = serde_json::from_slice(payload) else {
            let text = format!("Invalid JSON '{}', skipping...", String::from_utf8_lossy(payload));
            return vec![Bridge::log("error", &text)];
        };
        let reached = !member.silent;
        match member.obedience() {
            Obedience::AtOnce if reached => self.obey(index, &wanted),
            Obedience::Late(least, most) if reached => {
                let delay = member.rng.within((least, most));
                self.agenda.after(delay, Event::Obey(index, wanted));
                Vec::new()
            }
            _ => {
                // As in https://github.com/Koenkk/zigbee2mqtt/issues/9961.
                let what = wanted.keys().next().map_or("", String::as_str);
                let text = format!(
                    "Publish 'set' '{what}' to '{name}' failed: 'Error: Data request failed with error: 'No network route' (205)'"
                );
                vec![Bridge::log("error", &text)]
            }
        }
    }

    fn obey(&mut self, index: usize, wanted: &Map<String, Value>) -> Vec<Publication> {
        let life = self.agenda.now();
        let member = &mut self.members[index];
        match member.set_to(wanted, life) {
            Ok(state) => vec![Bridge::state(member, &state)],
            Err(what) => {
                let text = format!("No converter available for '{what}' on '{}'", member.name);
                vec![Bridge::log("error", &text)]
            }
        }
    }

    fn indices(&self, wanted: impl Fn(&Member) -> bool) -> Vec<usize> {
        (0..self.members.len()).filter(|index| wanted(&self.members[*index])).collect()
    }
}

impl Device for Bridge {
    fn session(&self) -> Session {
        Session {
            client_id: "zigbee2mqtt_demo".into(),
            protocol: Protocol::V5,
            keep_alive_s: 60,
            will: Bridge::bridge_state("offline"),
        }
    }

    fn now(&self) -> Life {
        self.agenda.now()
    }

    fn due(&self) -> Life {
        self.agenda.due()
    }

    fn birth(&mut self, _clock: &Zoned) -> Vec<Publication> {
        let mut said = vec![
            Bridge::bridge_state("online"),
            Bridge::document("info", &documents::info(&self.members)),
            Bridge::document("devices", &documents::devices(&self.members)),
            Bridge::document("groups", &json!([])),
            Bridge::log("info", "Zigbee2MQTT started!"),
        ];
        for member in &self.members {
            said.push(Bridge::availability(member));
            said.push(Bridge::state(member, &member.cached()));
        }
        said
    }

    fn step(&mut self, _clock: &Zoned) -> Step {
        Step::Publish(match self.agenda.take() {
            None => Vec::new(),
            Some(Event::Report(index)) => self.report(index),
            Some(Event::Obey(index, wanted)) => self.obey(index, &wanted),
            Some(Event::Press) => self.press(),
            Some(Event::Switch(index)) => self.switch(index),
            Some(Event::Silence) => {
                self.silence();
                Vec::new()
            }
            Some(Event::Unreachable(index)) => self.unreachable(index),
            Some(Event::Return(index)) => self.comes_back(index),
            Some(Event::Vanish) => {
                let delay = self.rng.within(VANISH_PERIOD_S);
                self.agenda.after(delay, Event::Vanish);
                let outage = self.rng.within(super::OUTAGE_S);
                self.agenda.postpone(outage);
                return Step::Vanish(outage);
            }
        })
    }

    fn listens(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("{BASE}/{}/set", member.name)).collect()
    }

    fn hear(&mut self, now: Life, topic: &str, payload: &[u8], _clock: &Zoned) -> Vec<Publication> {
        self.agenda.advance(now);
        let name = topic.strip_prefix(BASE).and_then(|rest| rest.strip_prefix('/')?.strip_suffix("/set"));
        let index = self.members.iter().position(|member| Some(member.name.as_str()) == name);
        index.map_or_else(Vec::new, |index| self.command(index, payload))
    }

    fn farewell(&self) -> Vec<Publication> {
        // The bridge's state of its devices does not change because it stops.
        vec![Bridge::bridge_state("offline")]
    }
}

const SENSORS: [&str; 14] = [
    "living_room/climate",
    "kitchen/climate",
    "front_door",
    "hall/motion",
    "bedroom/climate",
    "weather_sensor",
    "bathroom/climate",
    "kitchen/window",
    "garage_motion",
    "office/climate",
    "cellar/climate",
    "cellar/leak",
    "bedroom/window",
    "nursery/climate",
];
const PLUGS: [&str; 6] =
    ["kitchen/fridge", "laundry", "living_room/tv", "router_plug", "kitchen/kettle", "desk_lamp"];
const BULBS: [&str; 3] = ["kitchen/floor_light", "bulb_color", "bedroom/ceiling"];
const REMOTES: [&str; 2] = ["remote", "bedroom/button"];

fn members(options: &FleetOptions) -> Vec<Member> {
    let seed = options.seed;
    let named = |names: &'static [&'static str], count: usize| {
        (0..count).map(move |index| (index, super::name(names, index)))
    };
    let sensors = named(&SENSORS, options.zigbee_sensors)
        .map(|(index, name)| Member::new(seed, name, |_| sensor(index % SENSORS.len())));
    let plugs = named(&PLUGS, options.zigbee_plugs).map(|(index, name)| {
        Member::new(seed, name, |rng| Kind::Plug(Outlet::new(member::appliance(index), rng)))
    });
    let bulbs = named(&BULBS, options.zigbee_bulbs)
        .map(|(_, name)| Member::new(seed, name, |rng| Kind::Bulb(Light::new(rng))));
    let remotes = named(&REMOTES, options.remotes).map(|(_, name)| Member::new(seed, name, |_| Kind::Remote));
    sensors.chain(plugs).chain(bulbs).chain(remotes).collect()
}

/// The kind of the sensor at this index in [`SENSORS`].
fn sensor(place: usize) -> Kind {
    let room = |mean, swing, humidity| Kind::Climate(Climate::new(mean, swing, humidity));
    match place {
        0 => room(21.5, 1.2, 44.0),
        1 => room(22.0, 1.8, 48.0),
        2 | 7 | 12 => Kind::Contact(true),
        3 | 8 => Kind::Motion(false),
        4 => room(18.5, 1.0, 50.0),
        5 => room(11.0, 6.5, 71.0),
        6 => room(22.8, 1.5, 61.0),
        9 => room(21.0, 2.0, 41.0),
        10 => room(13.5, 0.5, 68.0),
        11 => Kind::Leak,
        _ => room(20.5, 1.0, 47.0),
    }
}
