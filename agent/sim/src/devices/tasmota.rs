//! Devices with Tasmota firmware: MQTT 3.1.1, QoS 0 except for the will, one topic per kind of message.

use jiff::Zoned;

use super::agenda::{Agenda, Life, MORNING, Turn};
use super::device::{Device, Protocol, Publication, Session, Step};
use super::fault;
use super::json::Object;
use super::model::{Appliance, Climate, Drift, Outlet, Reading};
use super::obedience::{Obedience, switched};
use crate::rng::{Rng, fnv1a};

/// `TelePeriod`: seconds between two telemetry messages. The firmware default is 300; users who watch charts set less.
const TELE_PERIOD_S: f64 = 90.0;

/// One Tasmota device.
#[derive(Debug)]
pub struct Tasmota {
    topic: String,
    mac: u64,
    hardware: Hardware,
    signal: Drift,
    rng: Rng,
    agenda: Agenda<Event>,
    turn: Turn,
    /// When the physics was last stepped.
    measured: Life,
    connections: u32,
}

#[derive(Debug)]
enum Hardware {
    Plug { outlet: Outlet, day: DayCounter },
    Ds18b20(Climate),
    Bme280(Climate),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Telemetry,
    Switch,
    /// A command that was taken is carried out.
    Obey(bool),
    Fault,
    Vanish,
}

/// `Today` and `Yesterday` of the energy meter, in Wh.
#[derive(Debug)]
struct DayCounter {
    day: i64,
    at_midnight: f64,
    yesterday: f64,
}

const NAMES: [&str; 8] = [
    "washing_machine",
    "greenhouse",
    "boiler",
    "tv_corner",
    "wine_cellar",
    "heat_pump",
    "roof",
    "garden_pump",
];

impl Tasmota {
    /// The n-th device, which determines its name, sensors and habits.
    pub fn new(seed: u64, index: usize, turn: Turn) -> Tasmota {
        let topic = super::name(&NAMES, index);
        let mut rng = Rng::of_device(seed, &topic);
        let hardware = Hardware::new(index, &mut rng);
        let mut agenda = Agenda::new();
        agenda.after(rng.within((0.0, TELE_PERIOD_S)), Event::Telemetry);
        if matches!(hardware, Hardware::Plug { .. }) {
            agenda.after(rng.within((300.0, 900.0)), Event::Switch);
        }
        agenda.after(turn.first(fault::PERIOD_S), Event::Fault);
        agenda.after(turn.first(super::VANISH_PERIOD_S), Event::Vanish);
        let mac = 0x2462_ab00_0000 | (fnv1a(&topic) & 0xff_ffff);
        let signal = Drift::new(4.0, 1800.0);
        Tasmota { topic, mac, hardware, signal, rng, agenda, turn, measured: MORNING, connections: 0 }
    }

    fn tele(&self, what: &str, payload: impl Into<Vec<u8>>) -> Publication {
        Publication::new(format!("tele/{}/{what}", self.topic), payload)
    }

    fn lwt(&self, text: &str) -> Publication {
        self.tele("LWT", text).retained(true)
    }

    /// Seconds since the physics was last stepped.
    fn elapse(&mut self) -> f64 {
        let dt = self.agenda.now() - self.measured;
        self.measured = self.agenda.now();
        dt
    }

    fn sensor(&mut self, clock: &Zoned) -> String {
        let dt = self.elapse();
        let life = self.measured;
        let document = Object::new().text("Time", &local(clock));
        match &mut self.hardware {
            Hardware::Plug { outlet, day } => {
                let reading = outlet.step(dt, &mut self.rng);
                document.object("ENERGY", &day.energy(life, &reading)).finish()
            }
            Hardware::Ds18b20(climate) => {
                let air = climate.step(dt, &mut self.rng);
                let probe = Object::new()
                    .text("Id", &format!("{:012X}", 0x0300_0000_0000 | (self.mac & 0xffff_ffff)))
                    .fixed("Temperature", air.temperature, 1);
                document.object("DS18B20", &probe).text("TempUnit", "C").finish()
            }
            Hardware::Bme280(climate) => {
                let air = climate.step(dt, &mut self.rng);
                let probe = Object::new()
                    .fixed("Temperature", air.temperature, 1)
                    .fixed("Humidity", air.humidity, 1)
                    .fixed("DewPoint", air.dew_point(), 1)
                    .fixed("Pressure", air.pressure, 1);
                document.object("BME280", &probe).text("PressureUnit", "hPa").text("TempUnit", "C").finish()
            }
        }
    }

    fn state(&mut self, clock: &Zoned) -> String {
        let uptime = self.agenda.now() - MORNING;
        let signal = (-58.0 + self.signal.step(TELE_PERIOD_S, &mut self.rng)).round().clamp(-92.0, -30.0);
        let wifi = Object::new()
            .whole("AP", 1)
            .text("SSId", "fieldlog-demo")
            .text("BSSId", "60:32:B1:4C:0A:7E")
            .whole("Channel", 6)
            .text("Mode", "HT20")
            .whole("RSSI", (2.0 * (signal + 100.0)).min(100.0) as i64)
            .whole("Signal", signal as i64)
            .whole("LinkCount", i64::from(self.connections))
            .text("Downtime", "0T00:00:04");
        let mut document = Object::new()
            .text("Time", &local(clock))
            .text("Uptime", &duration(uptime))
            .whole("UptimeSec", uptime as i64)
            .whole("Heap", 24 + self.rng.below(3) as i64)
            .text("SleepMode", "Dynamic")
            .whole("Sleep", 50)
            .whole("LoadAvg", 19 + self.rng.below(4) as i64)
            .whole("MqttCount", i64::from(self.connections));
        if let Some(power) = self.power() {
            document = document.text("POWER", power);
        }
        document.object("Wifi", &wifi).finish()
    }

    fn power(&self) -> Option<&'static str> {
        match &self.hardware {
            Hardware::Plug { outlet, .. } => Some(if outlet.is_on() { "ON" } else { "OFF" }),
            _ => None,
        }
    }

    fn telemetry(&mut self, clock: &Zoned) -> Vec<Publication> {
        let state = self.state(clock);
        let sensor = self.sensor(clock);
        vec![self.tele("STATE", state), self.tele("SENSOR", sensor)]
    }

    /// The relay switches; the firmware publishes it twice, as a document and as a word.
    fn switch(&mut self) -> Vec<Publication> {
        let dt = self.elapse();
        let Hardware::Plug { outlet, .. } = &mut self.hardware else { return Vec::new() };
        outlet.step(dt, &mut self.rng);
        let on = !outlet.is_on();
        outlet.switch(on);
        // Off for minutes, on for much longer.
        let delay = self.rng.within(if on { (900.0, 2700.0) } else { (180.0, 600.0) });
        self.agenda.after(delay, Event::Switch);
        self.power().map_or_else(Vec::new, |power| self.announce(power))
    }

    fn obedience(&self) -> Obedience {
        match self.topic.as_str() {
            // 12 to 16 s at speed 1.
            "tv_corner" => Obedience::Late(720.0, 960.0),
            _ => Obedience::AtOnce,
        }
    }

    /// `POWER` with a word sets the relay; without one it only answers.
    fn command(&mut self, name: &str, payload: &[u8]) -> Vec<Publication> {
        let is_power = name.eq_ignore_ascii_case("POWER") || name.eq_ignore_ascii_case("POWER1");
        let Some(power) = self.power().filter(|_| is_power) else {
            let result = Object::new().text("Command", "Unknown").finish();
            return vec![Publication::new(format!("stat/{}/RESULT", self.topic), result)];
        };
        let word = String::from_utf8_lossy(payload);
        match (switched(&word, power == "ON"), self.obedience()) {
            (Some(on), Obedience::AtOnce) => self.obey(on),
            (Some(on), Obedience::Late(least, most)) => {
                let delay = self.rng.within((least, most));
                self.agenda.after(delay, Event::Obey(on));
                Vec::new()
            }
            _ => self.announce(power),
        }
    }

    fn obey(&mut self, on: bool) -> Vec<Publication> {
        let dt = self.elapse();
        let Hardware::Plug { outlet, .. } = &mut self.hardware else { return Vec::new() };
        outlet.step(dt, &mut self.rng);
        outlet.switch(on);
        self.power().map_or_else(Vec::new, |power| self.announce(power))
    }

    fn announce(&self, power: &str) -> Vec<Publication> {
        let result = Object::new().text("POWER", power).finish();
        vec![
            Publication::new(format!("stat/{}/RESULT", self.topic), result),
            Publication::new(format!("stat/{}/POWER", self.topic), power),
        ]
    }

    fn boot_information(&self) -> Vec<Publication> {
        let suffix = self.mac & 0xff_ffff;
        let first = Object::new()
            .text("Module", "Generic")
            .text("Version", "14.4.1(release-tasmota)")
            .text("FallbackTopic", &format!("cmnd/DVES_{suffix:06X}_fb/"))
            .text("GroupTopic", "cmnd/tasmotas/");
        let second = Object::new()
            .text("WebServerMode", "Admin")
            .text("Hostname", &format!("{}-{:04}", self.topic, suffix & 0x1fff))
            .text("IPAddress", &format!("192.168.7.{}", 20 + self.turn.index % 200));
        let third = Object::new().text("RestartReason", "Power On").whole("BootCount", 17);
        [("INFO1", first, "Info1"), ("INFO2", second, "Info2"), ("INFO3", third, "Info3")]
            .map(|(what, object, key)| self.tele(what, Object::new().object(key, &object).finish()))
            .into()
    }
}

impl Device for Tasmota {
    fn session(&self) -> Session {
        Session {
            client_id: format!("DVES_{:06X}", self.mac & 0xff_ffff),
            protocol: Protocol::V4,
            keep_alive_s: 30,
            will: self.lwt("Offline").qos1(true),
        }
    }

    fn now(&self) -> Life {
        self.agenda.now()
    }

    fn due(&self) -> Life {
        self.agenda.due()
    }

    fn birth(&mut self, clock: &Zoned) -> Vec<Publication> {
        self.connections += 1;
        let mut said = vec![self.lwt("Online")];
        said.extend(self.boot_information());
        if let Some(power) = self.power() {
            said.extend(self.announce(power));
        }
        said.extend(self.telemetry(clock));
        said
    }

    fn step(&mut self, clock: &Zoned) -> Step {
        Step::Publish(match self.agenda.take() {
            None => Vec::new(),
            Some(Event::Telemetry) => {
                self.agenda.after(TELE_PERIOD_S, Event::Telemetry);
                self.telemetry(clock)
            }
            Some(Event::Switch) => self.switch(),
            Some(Event::Obey(on)) => self.obey(on),
            Some(Event::Fault) => {
                self.agenda.after(self.turn.next(fault::PERIOD_S), Event::Fault);
                let sensor = self.sensor(clock);
                let broken = fault::spoil(&sensor, &mut self.rng);
                vec![self.tele("SENSOR", broken)]
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
        vec![format!("cmnd/{}/+", self.topic)]
    }

    fn hear(&mut self, now: Life, topic: &str, payload: &[u8], _clock: &Zoned) -> Vec<Publication> {
        self.agenda.advance(now);
        let name = topic.rsplit('/').next().unwrap_or_default();
        self.command(name, payload)
    }

    fn farewell(&self) -> Vec<Publication> {
        vec![self.lwt("Offline")]
    }
}

impl Hardware {
    fn new(index: usize, rng: &mut Rng) -> Hardware {
        let plug = |appliance, rng: &mut Rng| {
            let outlet = Outlet::new(appliance, rng);
            Hardware::Plug { outlet, day: DayCounter::new() }
        };
        match index % NAMES.len() {
            0 => plug(Appliance::WashingMachine, rng),
            1 => Hardware::Bme280(Climate::new(18.0, 8.0, 66.0)),
            2 => Hardware::Ds18b20(Climate::new(54.0, 6.0, 40.0)),
            3 => plug(Appliance::Television, rng),
            4 => Hardware::Bme280(Climate::new(12.5, 0.6, 70.0)),
            5 => plug(Appliance::HeatPump, rng),
            6 => Hardware::Ds18b20(Climate::new(9.0, 6.5, 70.0)),
            _ => plug(Appliance::Kettle, rng),
        }
    }
}

impl DayCounter {
    fn new() -> DayCounter {
        DayCounter { day: 0, at_midnight: f64::NAN, yesterday: 0.0 }
    }

    fn energy(&mut self, life: Life, reading: &Reading) -> Object {
        let day = (life / 86_400.0) as i64;
        if self.at_midnight.is_nan() {
            self.at_midnight = reading.watt_hours;
        }
        if day != self.day {
            self.yesterday = reading.watt_hours - self.at_midnight;
            self.at_midnight = reading.watt_hours;
            self.day = day;
        }
        let apparent = reading.volts * reading.amperes;
        let reactive = (apparent * apparent - reading.watts * reading.watts).max(0.0).sqrt();
        Object::new()
            .text("TotalStartTime", "2025-02-11T08:40:12")
            .fixed("Total", reading.watt_hours / 1000.0, 3)
            .fixed("Yesterday", self.yesterday / 1000.0, 3)
            .fixed("Today", (reading.watt_hours - self.at_midnight) / 1000.0, 3)
            .whole("Period", (reading.watts * TELE_PERIOD_S / 3600.0) as i64)
            .fixed("Power", reading.watts, 0)
            .fixed("ApparentPower", apparent, 0)
            .fixed("ReactivePower", reactive, 0)
            .fixed("Factor", reading.factor, 2)
            .fixed("Voltage", reading.volts, 0)
            .fixed("Current", reading.amperes, 3)
    }
}

/// Local time without a zone, as the firmware sends it.
fn local(clock: &Zoned) -> String {
    clock.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// `dTHH:MM:SS`.
fn duration(seconds: f64) -> String {
    let s = seconds as i64;
    format!("{}T{:02}:{:02}:{:02}", s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60)
}
