//! The devices behind the bridge, and their state as the bridge publishes it.

use serde_json::{Map, Value, json};

use super::super::agenda::{Life, MORNING};
use super::super::json::number;
use super::super::model::{Appliance, Battery, Climate, Drift, Outlet};
use super::super::obedience::{Obedience, switched};
use crate::rng::{Rng, fnv1a};

/// One Zigbee device.
#[derive(Debug)]
pub struct Member {
    /// `friendly_name`; may contain a slash.
    pub name: String,
    /// Its kind, with the physics for it.
    pub kind: Kind,
    /// Whether the bridge reports it as online.
    pub reachable: bool,
    /// Whether it has fallen silent, which the bridge does not know yet.
    pub silent: bool,
    cached: Map<String, Value>,
    battery: Option<Battery>,
    radio: Drift,
    pub(super) rng: Rng,
    measured: Life,
}

/// The kind of a member.
#[derive(Debug)]
pub enum Kind {
    /// Temperature, humidity and pressure.
    Climate(Climate),
    /// A door or window contact; true is closed.
    Contact(bool),
    /// A motion detector with a light meter; true is occupied.
    Motion(bool),
    /// A water leak detector.
    Leak,
    /// A metering plug.
    Plug(Outlet),
    /// A colour bulb.
    Bulb(Light),
    /// A wireless button.
    Remote,
}

/// The state of a bulb.
#[derive(Clone, Debug)]
pub struct Light {
    on: bool,
    brightness: u8,
    colour: usize,
    /// A colour that was asked for, instead of the one at `colour`.
    chosen: Option<(f64, f64)>,
}

/// Chromaticities of the bulbs: warm white, amber, blue and magenta.
const COLOURS: [(f64, f64); 4] = [(0.4599, 0.4106), (0.5614, 0.4156), (0.1621, 0.0732), (0.3833, 0.1591)];

/// A plug that nobody switches, not even by command.
const ROUTER: &str = "router_plug";

/// The kind of a press.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    /// Toggles the light.
    Single,
    /// Another colour.
    Double,
    /// Another brightness.
    Hold,
}

impl Press {
    /// Its name in messages.
    pub const fn action(self) -> &'static str {
        match self {
            Press::Single => "single",
            Press::Double => "double",
            Press::Hold => "hold",
        }
    }
}

impl Member {
    /// A member with a kind made from its own random stream.
    pub fn new(seed: u64, name: String, make: impl FnOnce(&mut Rng) -> Kind) -> Member {
        let mut rng = Rng::of_device(seed, &name);
        let kind = make(&mut rng);
        let battery = (!matches!(kind, Kind::Plug(_) | Kind::Bulb(_))).then(|| Battery::new(&mut rng));
        let radio = Drift::new(18.0, 2400.0);
        let (cached, measured) = (Map::new(), MORNING);
        let mut member =
            Member { name, kind, reachable: true, silent: false, cached, battery, radio, rng, measured };
        member.measure(MORNING);
        member
    }

    /// The hardware address, which does not change when the device is renamed.
    pub fn ieee_address(&self) -> String {
        format!("0x00158d00{:08x}", fnv1a(&self.name) & 0xffff_ffff)
    }

    /// The short address in the mesh.
    pub fn network_address(&self) -> u64 {
        fnv1a(&self.name) >> 48
    }

    /// Whether it runs on a battery, and sleeps most of the time.
    pub fn sleeps(&self) -> bool {
        self.battery.is_some()
    }

    /// `retain` of its state, a bridge option per device.
    pub fn retains(&self) -> bool {
        matches!(self.kind, Kind::Plug(_) | Kind::Bulb(_) | Kind::Contact(_))
    }

    /// `qos` of its state, a bridge option per device.
    pub fn at_least_once(&self) -> bool {
        !matches!(self.kind, Kind::Motion(_) | Kind::Leak | Kind::Bulb(_))
    }

    /// Seconds to the next periodic report; `None` if it only reports events.
    pub fn report_delay(&mut self) -> Option<f64> {
        let range = match self.kind {
            Kind::Climate(_) => (60.0, 150.0),
            Kind::Plug(_) => (25.0, 55.0),
            Kind::Contact(closed) => {
                if closed {
                    (600.0, 2400.0)
                } else {
                    (60.0, 500.0)
                }
            }
            Kind::Motion(occupied) => {
                if occupied {
                    (90.0, 240.0)
                } else {
                    (240.0, 900.0)
                }
            }
            Kind::Leak => (2400.0, 3600.0),
            Kind::Bulb(_) => (900.0, 1800.0),
            Kind::Remote => return None,
        };
        Some(self.rng.within(range))
    }

    /// The state that the bridge has in its cache.
    pub fn cached(&self) -> Value {
        Value::Object(self.cached.clone())
    }

    /// A report: what the bridge publishes after merging it into its cache.
    pub fn report(&mut self, life: Life) -> Value {
        // The mesh delivers a report twice now and then, and the bridge publishes both.
        if !self.rng.likely(0.06) {
            match &mut self.kind {
                Kind::Contact(closed) => *closed = !*closed,
                Kind::Motion(occupied) => *occupied = !*occupied,
                _ => {}
            }
            self.measure(life);
        }
        self.cached()
    }

    /// The remote was pressed: the action is only in this message and never in the cache.
    pub fn press(&mut self, press: Press, life: Life) -> Value {
        self.measure(life);
        let mut message = self.cached.clone();
        message.insert("action".into(), press.action().into());
        Value::Object(message)
    }

    /// A bulb follows a press; other members do not.
    pub fn obey(&mut self, press: Press, life: Life) -> Option<Value> {
        let Kind::Bulb(light) = &mut self.kind else { return None };
        match press {
            Press::Single => light.on = !light.on,
            Press::Double => (light.colour, light.chosen) = ((light.colour + 1) % COLOURS.len(), None),
            Press::Hold => light.brightness = light.brightness.wrapping_add(96).max(12),
        }
        self.measure(life);
        Some(self.cached())
    }

    /// The relay of a plug is switched; other members have none.
    pub fn switch(&mut self, life: Life) -> Option<(bool, Value)> {
        self.measure(life);
        let Kind::Plug(outlet) = &mut self.kind else { return None };
        let on = !outlet.is_on();
        outlet.switch(on);
        self.measure(life);
        Some((on, self.cached()))
    }

    /// Whether somebody switches it now and then.
    pub fn is_switched(&self) -> bool {
        matches!(self.kind, Kind::Plug(_)) && self.name != ROUTER
    }

    /// How it takes commands.
    pub fn obedience(&self) -> Obedience {
        match self.name.as_str() {
            // At speed 1, 12 to 16 s, and so long that the agent no longer waits for it.
            "bulb_color" => Obedience::Late(720.0, 960.0),
            "bedroom/ceiling" => Obedience::Late(2100.0, 2400.0),
            ROUTER => Obedience::Never,
            _ => Obedience::AtOnce,
        }
    }

    /// Carries a command out and returns the state that follows, or the name of what cannot be set.
    pub fn set_to(&mut self, wanted: &Map<String, Value>, life: Life) -> Result<Value, String> {
        self.measure(life);
        for (name, value) in wanted {
            let known = match &mut self.kind {
                Kind::Plug(outlet) => outlet_set(outlet, name, value),
                Kind::Bulb(light) => light.set(name, value),
                _ => None,
            };
            known.ok_or_else(|| name.clone())?;
        }
        self.measure(life);
        Ok(self.cached())
    }

    /// Advances to `life` and updates the cache.
    fn measure(&mut self, life: Life) {
        let dt = life - self.measured;
        self.measured = life;
        let quality = (150.0 + self.radio.step(dt, &mut self.rng)).clamp(20.0, 255.0);
        // Coarsely quantised; otherwise every report would differ only by its link quality.
        self.set("linkquality", number((quality / 12.0).round() * 12.0, 0));
        self.measure_kind(dt, life);
        if let Some(battery) = &mut self.battery {
            let (percent, millivolts) = (battery.step(dt), battery.millivolts());
            self.set("battery", number(percent, 0));
            self.set("voltage", number(millivolts, 0));
        }
    }

    fn measure_kind(&mut self, dt: f64, life: Life) {
        match &mut self.kind {
            Kind::Climate(climate) => {
                let air = climate.step(dt, &mut self.rng);
                self.set("temperature", number(air.temperature, 2));
                self.set("humidity", number(air.humidity, 2));
                self.set("pressure", number(air.pressure, 1));
            }
            Kind::Contact(closed) => {
                let closed = *closed;
                self.set("contact", closed.into());
            }
            Kind::Motion(occupied) => {
                let occupied = *occupied;
                let light = daylight(life) * self.rng.within((0.8, 1.2));
                let warmth = 24.0 + self.rng.normal();
                self.set("occupancy", occupied.into());
                self.set("illuminance", number(light, 0));
                self.set("device_temperature", number(warmth, 0));
            }
            Kind::Leak => {
                for (name, value) in [("water_leak", false), ("battery_low", false), ("tamper", false)] {
                    self.set(name, value.into());
                }
            }
            Kind::Plug(outlet) => {
                let reading = outlet.step(dt, &mut self.rng);
                let state = if outlet.is_on() { "ON" } else { "OFF" };
                self.set("state", state.into());
                self.set("power", number(reading.watts, 1));
                self.set("current", number(reading.amperes, 2));
                self.set("voltage", number(reading.volts, 0));
                self.set("energy", number(reading.watt_hours / 1000.0, 2));
                self.set("update", idle_update());
            }
            Kind::Bulb(light) => {
                let (light, (x, y)) = (light.clone(), light.xy());
                self.set("state", if light.on { "ON" } else { "OFF" }.into());
                self.set("brightness", light.brightness.into());
                self.set("color", json!({"x": x, "y": y}));
                self.set("color_mode", "xy".into());
                self.set("update", idle_update());
            }
            Kind::Remote => {}
        }
    }

    fn set(&mut self, name: &str, value: Value) {
        self.cached.insert(name.into(), value);
    }
}

impl Light {
    /// Off, at some brightness.
    pub fn new(rng: &mut Rng) -> Light {
        let (brightness, colour) = (100 + rng.below(155) as u8, rng.below(COLOURS.len()));
        Light { on: false, brightness, colour, chosen: None }
    }

    /// Its colour, in the CIE 1931 colour space.
    fn xy(&self) -> (f64, f64) {
        self.chosen.unwrap_or(COLOURS[self.colour])
    }

    /// Sets what a member of a command names; `None` if it cannot be set to that.
    fn set(&mut self, name: &str, value: &Value) -> Option<()> {
        match name {
            "state" => self.on = switched(value.as_str()?, self.on)?,
            "brightness" => {
                let wanted = value.as_f64().filter(|wanted| (0.0..=254.0).contains(wanted))?;
                (self.brightness, self.on) = (wanted.round() as u8, wanted > 0.0);
            }
            "color" => {
                let (x, y) = self.xy();
                let axis = |name: &str, old: f64| value.get(name).map_or(Some(old), Value::as_f64);
                self.chosen = Some((axis("x", x)?, axis("y", y)?));
            }
            _ => return None,
        }
        Some(())
    }
}

/// Sets what a member of a command names; `None` if it cannot be set to that.
fn outlet_set(outlet: &mut Outlet, name: &str, value: &Value) -> Option<()> {
    let on = switched(value.as_str().filter(|_| name == "state")?, outlet.is_on())?;
    outlet.switch(on);
    Some(())
}

/// The appliance in the n-th plug.
pub const fn appliance(index: usize) -> Appliance {
    match index % 6 {
        0 => Appliance::Fridge,
        1 => Appliance::WashingMachine,
        2 => Appliance::Television,
        3 => Appliance::Router,
        4 => Appliance::Kettle,
        _ => Appliance::Lamp,
    }
}

fn idle_update() -> Value {
    json!({"installed_version": 33_816_645, "latest_version": 33_816_645, "state": "idle"})
}

/// Lux at a window.
fn daylight(life: Life) -> f64 {
    let height = ((life / 86_400.0 - 0.25) * std::f64::consts::TAU).sin();
    3.0 + 900.0 * height.max(0.0)
}
