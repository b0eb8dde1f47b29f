//! Second-generation Shelly switches: MQTT 3.1.1, JSON-RPC notifications with only the changes, and the full status of
//! each component on a topic of its own.

use jiff::Zoned;
use serde_json::Value;

use super::agenda::{Agenda, Life, MORNING, Turn};
use super::device::{Device, Protocol, Publication, Session, Step};
use super::fault;
use super::json::Object;
use super::model::{Appliance, Drift, Outlet, Reading};
use super::obedience::{Obedience, switched};
use crate::rng::{Rng, fnv1a};

/// One Shelly Plus 1PM.
#[derive(Debug)]
pub struct Shelly {
    id: String,
    index: usize,
    mac: u64,
    outlet: Outlet,
    warmth: Drift,
    rng: Rng,
    agenda: Agenda<Event>,
    turn: Turn,
    measured: Life,
    reading: Reading,
    source: &'static str,
    celsius: f64,
    /// Energy of the last three full minutes, newest first, in mWh.
    by_minute: [f64; 3],
    minute_start_wh: f64,
}

#[derive(Clone, Debug)]
enum Event {
    /// A full minute: the energy counter is reported.
    Minute,
    /// The power has changed enough to be reported.
    Power,
    /// Somebody presses the button: down, then up with the name of the press.
    Down,
    Up {
        long: bool,
    },
    /// A command that was taken is carried out.
    Obey(Order),
    Fault,
    Vanish,
}

fn mac(index: usize) -> u64 {
    0xb8d6_1a00_0000 | (fnv1a(&format!("shelly {index}")) & 0xff_ffff)
}

/// The id of the n-th device.
pub fn id(index: usize) -> String {
    format!("shellyplus1pm-{:012x}", mac(index))
}

/// What a command asks for.
#[derive(Clone, Debug)]
struct Order {
    on: bool,
    /// Number and sender of the request, who get an answer; a plain command has none.
    asker: Option<Asker>,
}

/// Number and sender of a request.
type Asker = (Value, String);

impl Shelly {
    /// The n-th device, which determines its address and appliance.
    pub fn new(seed: u64, index: usize, turn: Turn) -> Shelly {
        let (mac, id) = (mac(index), id(index));
        let mut rng = Rng::of_device(seed, &id);
        let appliance =
            [Appliance::Fridge, Appliance::Lamp, Appliance::HeatPump, Appliance::Kettle][index % 4];
        let mut outlet = Outlet::new(appliance, &mut rng);
        let reading = outlet.step(0.0, &mut rng);
        let mut agenda = Agenda::new();
        agenda.after(rng.within((0.0, 60.0)), Event::Minute);
        agenda.after(rng.within((0.0, 60.0)), Event::Power);
        agenda.after(rng.within((400.0, 1200.0)), Event::Down);
        agenda.after(turn.first(fault::PERIOD_S), Event::Fault);
        agenda.after(turn.first(super::VANISH_PERIOD_S), Event::Vanish);
        Shelly {
            id,
            index,
            mac,
            outlet,
            warmth: Drift::new(0.6, 900.0),
            rng,
            agenda,
            turn,
            measured: MORNING,
            minute_start_wh: reading.watt_hours,
            reading,
            source: "init",
            celsius: 41.0,
            by_minute: [0.0; 3],
        }
    }

    fn topic(&self, path: &str) -> String {
        format!("{}/{path}", self.id)
    }

    fn online(&self, online: bool) -> Publication {
        Publication::new(self.topic("online"), online.to_string()).qos1(true).retained(true)
    }

    fn measure(&mut self) {
        let dt = self.agenda.now() - self.measured;
        self.measured = self.agenda.now();
        self.reading = self.outlet.step(dt, &mut self.rng);
        // The relay warms up with the current, over some minutes.
        let target = 38.0 + 2.4 * self.reading.amperes + self.warmth.step(dt, &mut self.rng);
        self.celsius += (target - self.celsius) * (1.0 - (-dt / 400.0).exp());
    }

    fn aenergy(&self, clock: &Zoned) -> Object {
        let second = clock.timestamp().as_second();
        Object::new()
            .fixed("total", self.reading.watt_hours, 3)
            .array("by_minute", &self.by_minute, 3)
            .whole("minute_ts", second - second.rem_euclid(60))
    }

    fn temperature(&self) -> Object {
        Object::new().fixed("tC", self.celsius, 1).fixed("tF", self.celsius * 1.8 + 32.0, 1)
    }

    fn full_status(&self, clock: &Zoned) -> Publication {
        let status = Object::new()
            .whole("id", 0)
            .text("source", self.source)
            .flag("output", self.outlet.is_on())
            .fixed("apower", self.reading.watts, 1)
            .fixed("voltage", self.reading.volts, 1)
            .fixed("freq", 50.0, 1)
            .fixed("current", self.reading.amperes, 3)
            .fixed("pf", self.reading.factor, 2)
            .object("aenergy", &self.aenergy(clock))
            .object("temperature", &self.temperature());
        Publication::new(self.topic("status/switch:0"), status.finish()).qos1(true)
    }

    fn notify(&self, method: &str, params: &Object) -> Publication {
        let frame = Object::new()
            .text("src", &self.id)
            .text("dst", &self.topic("events"))
            .text("method", method)
            .object("params", params);
        Publication::new(self.topic("events/rpc"), frame.finish()).qos1(true)
    }

    /// A change of the switch, and the resulting full status.
    fn changed(&self, clock: &Zoned, delta: &Object) -> Vec<Publication> {
        let params = Object::new().fixed("ts", unix(clock), 2).object("switch:0", delta);
        vec![self.notify("NotifyStatus", &params), self.full_status(clock)]
    }

    fn minute(&mut self, clock: &Zoned) -> Vec<Publication> {
        self.measure();
        let spent = (self.reading.watt_hours - self.minute_start_wh) * 1000.0;
        self.minute_start_wh = self.reading.watt_hours;
        self.by_minute = [spent, self.by_minute[0], self.by_minute[1]];
        let delta = Object::new().whole("id", 0).object("aenergy", &self.aenergy(clock));
        self.changed(clock, &delta)
    }

    fn power(&mut self, clock: &Zoned) -> Vec<Publication> {
        let before = self.reading.watts;
        self.measure();
        // Firmware reports steps, not noise.
        if (self.reading.watts - before).abs() < 0.02 * before.max(5.0) && self.rng.likely(0.7) {
            return Vec::new();
        }
        let delta = Object::new()
            .whole("id", 0)
            .fixed("apower", self.reading.watts, 1)
            .fixed("current", self.reading.amperes, 3)
            .object("temperature", &self.temperature());
        self.changed(clock, &delta)
    }

    fn obedience(&self) -> Obedience {
        match self.index % 3 {
            0 => Obedience::AtOnce,
            // 12 to 16 s at speed 1.
            1 => Obedience::Late(720.0, 960.0),
            _ => Obedience::Refuses,
        }
    }

    /// Takes a frame on the topic `rpc`; one that is no request gets no answer.
    fn request(&mut self, frame: &[u8], clock: &Zoned) -> Vec<Publication> {
        let Ok(frame) = serde_json::from_slice::<Value>(frame) else { return Vec::new() };
        let (Some(method), Some(id)) = (frame["method"].as_str(), frame.get("id")) else { return Vec::new() };
        let asker = (id.clone(), frame["src"].as_str().unwrap_or_default().to_owned());
        let params = &frame["params"];
        let of_switch = params["id"].as_u64() == Some(0);
        let on = match method {
            "Switch.Set" if of_switch => params["on"].as_bool(),
            "Switch.Toggle" if of_switch => Some(!self.outlet.is_on()),
            "Switch.Set" | "Switch.Toggle" => {
                let message = format!("Argument 'id', value {} not found!", params["id"]);
                return vec![self.refusal(&asker, -105, &message)];
            }
            _ => return vec![self.refusal(&asker, 404, &format!("No handler for {method}"))],
        };
        match on {
            Some(on) => self.take(Order { on, asker: Some(asker) }, clock),
            None => vec![self.refusal(&asker, -103, "Missing required argument 'on'!")],
        }
    }

    fn take(&mut self, order: Order, clock: &Zoned) -> Vec<Publication> {
        match (self.obedience(), &order.asker) {
            (Obedience::AtOnce, _) => self.obey(&order, clock),
            (Obedience::Late(least, most), _) => {
                let delay = self.rng.within((least, most));
                self.agenda.after(delay, Event::Obey(order));
                Vec::new()
            }
            (Obedience::Refuses, Some(asker)) => {
                vec![self.refusal(asker, -109, "switch:0 is locked after overpower")]
            }
            _ => Vec::new(),
        }
    }

    fn obey(&mut self, order: &Order, clock: &Zoned) -> Vec<Publication> {
        let was_on = self.outlet.is_on();
        let mut said = Vec::new();
        if let Some(asker) = &order.asker {
            let result = Object::new().flag("was_on", was_on);
            said.push(self.answer(asker, "result", &result));
        }
        if was_on != order.on {
            said.extend(self.switch(order.on, "MQTT", clock));
        }
        said
    }

    fn refusal(&self, asker: &Asker, code: i64, message: &str) -> Publication {
        self.answer(asker, "error", &Object::new().whole("code", code).text("message", message))
    }

    fn answer(&self, (id, asker): &Asker, key: &str, content: &Object) -> Publication {
        let frame = Object::new().value("id", id).text("src", &self.id).text("dst", asker);
        Publication::new(format!("{asker}/rpc"), frame.object(key, content).finish()).qos1(true)
    }

    /// The relay switches, and the firmware says so.
    fn switch(&mut self, on: bool, source: &'static str, clock: &Zoned) -> Vec<Publication> {
        self.measure();
        self.source = source;
        self.outlet.switch(on);
        self.measure();
        let delta = Object::new()
            .whole("id", 0)
            .flag("output", on)
            .text("source", source)
            .fixed("apower", self.reading.watts, 1)
            .fixed("current", self.reading.amperes, 3);
        self.changed(clock, &delta)
    }

    fn pushed(&self, clock: &Zoned, event: &str) -> Publication {
        let ts = unix(clock);
        let push =
            Object::new().text("component", "input:0").whole("id", 0).text("event", event).fixed("ts", ts, 2);
        self.notify("NotifyEvent", &Object::new().fixed("ts", ts, 2).only("events", &push))
    }

    /// The button is released: the press gets its name, and a short one switches.
    fn released(&mut self, clock: &Zoned, long: bool) -> Vec<Publication> {
        let mut said = vec![self.pushed(clock, "btn_up")];
        said.push(self.pushed(clock, if long { "long_push" } else { "single_push" }));
        if long {
            return said;
        }
        said.extend(self.switch(!self.outlet.is_on(), "button", clock));
        said
    }

    fn system_status(&self, clock: &Zoned) -> Vec<Publication> {
        let uptime = (self.agenda.now() - MORNING) as i64;
        let sys = Object::new()
            .text("mac", &format!("{:012X}", self.mac))
            .flag("restart_required", false)
            .text("time", &clock.strftime("%H:%M").to_string())
            .whole("unixtime", clock.timestamp().as_second())
            .whole("uptime", uptime)
            .whole("ram_size", 260_288)
            .whole("ram_free", 138_412)
            .whole("fs_size", 458_752)
            .whole("fs_free", 143_360)
            .object("available_updates", &Object::new());
        let wifi = Object::new()
            .text("sta_ip", &format!("192.168.7.{}", 120 + self.turn.index % 100))
            .text("status", "got ip")
            .text("ssid", "fieldlog-demo")
            .whole("rssi", -57);
        let input = Object::new().whole("id", 0).flag("state", false);
        let flag = Object::new().flag("connected", true);
        [("sys", sys), ("wifi", wifi), ("mqtt", flag), ("input:0", input)]
            .map(|(name, status)| {
                Publication::new(self.topic(&format!("status/{name}")), status.finish()).qos1(true)
            })
            .into()
    }
}

impl Device for Shelly {
    fn session(&self) -> Session {
        Session {
            client_id: self.id.clone(),
            protocol: Protocol::V4,
            keep_alive_s: 60,
            will: self.online(false),
        }
    }

    fn now(&self) -> Life {
        self.agenda.now()
    }

    fn due(&self) -> Life {
        self.agenda.due()
    }

    fn birth(&mut self, clock: &Zoned) -> Vec<Publication> {
        let mut said = vec![self.online(true)];
        said.extend(self.system_status(clock));
        self.measure();
        said.push(self.full_status(clock));
        said
    }

    fn step(&mut self, clock: &Zoned) -> Step {
        Step::Publish(match self.agenda.take() {
            None => Vec::new(),
            Some(Event::Minute) => {
                self.agenda.after(60.0, Event::Minute);
                self.minute(clock)
            }
            Some(Event::Power) => {
                let delay = self.rng.within((20.0, 50.0));
                self.agenda.after(delay, Event::Power);
                self.power(clock)
            }
            Some(Event::Down) => {
                let long = self.rng.likely(0.2);
                self.agenda.after(if long { 12.0 } else { 6.0 }, Event::Up { long });
                vec![self.pushed(clock, "btn_down")]
            }
            Some(Event::Up { long }) => {
                let delay = self.rng.within((600.0, 1800.0));
                self.agenda.after(delay, Event::Down);
                self.released(clock, long)
            }
            Some(Event::Obey(order)) => self.obey(&order, clock),
            Some(Event::Fault) => {
                self.agenda.after(self.turn.next(fault::PERIOD_S), Event::Fault);
                let whole = String::from_utf8_lossy(&self.full_status(clock).payload).into_owned();
                let broken = fault::spoil(&whole, &mut self.rng);
                vec![Publication::new(self.topic("status/switch:0"), broken).qos1(true)]
            }
            Some(Event::Vanish) => {
                self.agenda.after(self.turn.next(super::VANISH_PERIOD_S), Event::Vanish);
                let outage = self.rng.within(super::OUTAGE_S);
                self.agenda.postpone(outage);
                return Step::Vanish(outage);
            }
        })
    }

    fn listens(&self) -> Vec<String> {
        vec![self.topic("rpc"), self.topic("command/switch:0")]
    }

    fn hear(&mut self, now: Life, topic: &str, payload: &[u8], clock: &Zoned) -> Vec<Publication> {
        self.agenda.advance(now);
        if topic.ends_with("/rpc") {
            return self.request(payload, clock);
        }
        match switched(&String::from_utf8_lossy(payload), self.outlet.is_on()) {
            Some(on) => self.take(Order { on, asker: None }, clock),
            None => Vec::new(),
        }
    }

    fn farewell(&self) -> Vec<Publication> {
        vec![self.online(false)]
    }
}

/// Seconds since 1970, with hundredths.
fn unix(clock: &Zoned) -> f64 {
    clock.timestamp().as_millisecond() as f64 / 1000.0
}
