//! The physics: rooms, appliances and batteries. Every `step` takes the elapsed seconds and the device's own random
//! stream, and works for any length: a device that was away for an hour comes back with the state of an hour later.

use std::f64::consts::TAU;

use super::agenda::{Life, MORNING};
use crate::rng::Rng;

const DAY: f64 = 86_400.0;

/// A quantity that fluctuates around zero (an Ornstein-Uhlenbeck process, stepped exactly).
#[derive(Clone, Debug)]
pub struct Drift {
    value: f64,
    spread: f64,
    memory_s: f64,
}

impl Drift {
    /// Standard deviation in the long run, and correlation time.
    pub fn new(spread: f64, memory_s: f64) -> Drift {
        Drift { value: 0.0, spread, memory_s }
    }

    /// Advances by `dt` seconds.
    pub fn step(&mut self, dt: f64, rng: &mut Rng) -> f64 {
        let keep = (-dt / self.memory_s).exp();
        self.value = self.value * keep + self.spread * (1.0 - keep * keep).sqrt() * rng.normal();
        self.value
    }
}

/// The reading of a climate sensor: °C, % and hPa.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Air {
    /// In °C.
    pub temperature: f64,
    /// Relative, in %.
    pub humidity: f64,
    /// In hPa.
    pub pressure: f64,
}

impl Air {
    /// By the Magnus formula, in °C.
    pub fn dew_point(self) -> f64 {
        let gamma = (self.humidity / 100.0).ln() + 17.62 * self.temperature / (243.12 + self.temperature);
        243.12 * gamma / (17.62 - gamma)
    }
}

/// The air of one room.
#[derive(Clone, Debug)]
pub struct Climate {
    life: Life,
    mean: f64,
    swing: f64,
    humidity: f64,
    drift: Drift,
    damp: Drift,
}

impl Climate {
    /// A room with this mean temperature, daily amplitude and mean humidity.
    pub fn new(mean: f64, swing: f64, humidity: f64) -> Climate {
        let drift = Drift::new(0.15 * swing + 0.1, 3.0 * 3600.0);
        Climate { life: MORNING, mean, swing, humidity, drift, damp: Drift::new(2.5, 4.0 * 3600.0) }
    }

    /// Advances by `dt` seconds, then measures.
    pub fn step(&mut self, dt: f64, rng: &mut Rng) -> Air {
        self.life += dt;
        // Coldest at three in the morning, warmest at three in the afternoon.
        let daily = self.swing * ((self.life - 9.0 * 3600.0) / DAY * TAU).sin();
        let warmth = daily + self.drift.step(dt, rng);
        // Warmer air with the same water has a lower relative humidity: about 2.2 % per degree.
        let humidity = self.humidity - 2.2 * warmth + self.damp.step(dt, rng) + 0.05 * rng.normal();
        Air {
            temperature: self.mean + warmth + 0.012 * rng.normal(),
            humidity: humidity.clamp(15.0, 96.0),
            pressure: weather(self.life) + 0.04 * rng.normal(),
        }
    }
}

/// Air pressure, the same for the whole house.
fn weather(life: Life) -> f64 {
    1013.0 + 7.5 * (life / (3.1 * DAY) * TAU).sin() + 2.5 * (life / (0.83 * DAY) * TAU).sin()
}

/// A battery that is replaced when it is nearly empty.
#[derive(Clone, Debug)]
pub struct Battery {
    percent: f64,
    life_s: f64,
}

impl Battery {
    /// At a random point in its life, which is far shorter than in reality so that a demo shows it.
    pub fn new(rng: &mut Rng) -> Battery {
        Battery { percent: rng.within((35.0, 100.0)), life_s: rng.within((12.0 * DAY, 30.0 * DAY)) }
    }

    /// Advances by `dt` seconds; returns the charge in %.
    pub fn step(&mut self, dt: f64) -> f64 {
        self.percent -= 100.0 * dt / self.life_s;
        if self.percent < 4.0 {
            self.percent = 100.0;
        }
        self.percent
    }

    /// The voltage of a coin cell with this charge, in mV.
    pub fn millivolts(&self) -> f64 {
        (2600.0 + 4.5 * self.percent).round()
    }
}

/// The appliance in an outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appliance {
    /// A compressor that runs a third of the time.
    Fridge,
    /// Heats, turns, rinses, spins, and waits for the next load.
    WashingMachine,
    /// Two kilowatts for three minutes.
    Kettle,
    /// Long evenings.
    Television,
    /// Always on.
    Router,
    /// Two stages and pauses.
    HeatPump,
    /// On or off.
    Lamp,
}

/// One phase of an appliance's cycle: power and duration.
struct Phase {
    watts: (f64, f64),
    seconds: (f64, f64),
}

const fn phase(watts: (f64, f64), seconds: (f64, f64)) -> Phase {
    Phase { watts, seconds }
}

impl Appliance {
    const fn cycle(self) -> &'static [Phase] {
        const FRIDGE: &[Phase] = &[phase((1.1, 1.4), (1500.0, 2700.0)), phase((82.0, 95.0), (700.0, 1300.0))];
        const WASHING_MACHINE: &[Phase] = &[
            phase((0.6, 0.9), (1800.0, 5400.0)),
            phase((9.0, 14.0), (100.0, 160.0)),
            phase((1960.0, 2080.0), (700.0, 1000.0)),
            phase((140.0, 190.0), (240.0, 360.0)),
            phase((5.0, 7.0), (40.0, 80.0)),
            phase((150.0, 200.0), (300.0, 480.0)),
            phase((80.0, 110.0), (400.0, 600.0)),
            phase((390.0, 460.0), (240.0, 320.0)),
        ];
        const KETTLE: &[Phase] =
            &[phase((0.2, 0.4), (1800.0, 5400.0)), phase((2050.0, 2150.0), (120.0, 260.0))];
        const TELEVISION: &[Phase] =
            &[phase((0.4, 0.6), (2400.0, 7200.0)), phase((76.0, 112.0), (2700.0, 7200.0))];
        const ROUTER: &[Phase] = &[phase((9.1, 9.8), (3600.0, 7200.0))];
        const HEAT_PUMP: &[Phase] = &[
            phase((13.0, 16.0), (600.0, 1500.0)),
            phase((450.0, 520.0), (900.0, 1800.0)),
            phase((1250.0, 1420.0), (600.0, 1500.0)),
        ];
        const LAMP: &[Phase] = &[phase((8.6, 9.2), (3600.0, 7200.0))];
        match self {
            Appliance::Fridge => FRIDGE,
            Appliance::WashingMachine => WASHING_MACHINE,
            Appliance::Kettle => KETTLE,
            Appliance::Television => TELEVISION,
            Appliance::Router => ROUTER,
            Appliance::HeatPump => HEAT_PUMP,
            Appliance::Lamp => LAMP,
        }
    }

    const fn power_factor(self) -> f64 {
        match self {
            Appliance::Kettle | Appliance::Lamp => 0.99,
            Appliance::WashingMachine | Appliance::HeatPump => 0.93,
            Appliance::Television => 0.88,
            Appliance::Fridge => 0.64,
            Appliance::Router => 0.55,
        }
    }
}

/// The reading of a metering outlet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Active power, in W.
    pub watts: f64,
    /// In V.
    pub volts: f64,
    /// In A.
    pub amperes: f64,
    /// Power factor, 0 to 1.
    pub factor: f64,
    /// Counter, in Wh; never decreases.
    pub watt_hours: f64,
}

/// An outlet with a relay, a meter and an appliance.
#[derive(Clone, Debug)]
pub struct Outlet {
    appliance: Appliance,
    relay: bool,
    phase: usize,
    left_s: f64,
    watts: f64,
    mains: Drift,
    watt_hours: f64,
}

impl Outlet {
    /// Switched on, with a random counter.
    pub fn new(appliance: Appliance, rng: &mut Rng) -> Outlet {
        let mut outlet = Outlet {
            appliance,
            relay: true,
            phase: rng.below(appliance.cycle().len()),
            left_s: 0.0,
            watts: 0.0,
            mains: Drift::new(1.6, 1800.0),
            watt_hours: rng.within((2_000.0, 90_000.0)),
        };
        outlet.enter_phase(rng);
        outlet.left_s *= rng.unit();
        outlet
    }

    /// Whether the relay is closed.
    pub fn is_on(&self) -> bool {
        self.relay
    }

    /// Opens or closes the relay.
    pub fn switch(&mut self, on: bool) {
        self.relay = on;
    }

    fn enter_phase(&mut self, rng: &mut Rng) {
        let phase = &self.appliance.cycle()[self.phase];
        self.watts = rng.within(phase.watts);
        self.left_s = rng.within(phase.seconds);
    }

    /// Advances by `dt` seconds, then reads the meter.
    pub fn step(&mut self, dt: f64, rng: &mut Rng) -> Reading {
        let mut rest = dt;
        while self.relay && rest > 0.0 {
            let stretch = rest.min(self.left_s);
            self.watt_hours += self.watts * stretch / 3600.0;
            self.left_s -= stretch;
            rest -= stretch;
            if self.left_s <= 0.0 {
                self.phase = (self.phase + 1) % self.appliance.cycle().len();
                self.enter_phase(rng);
            }
        }
        self.read(dt, rng)
    }

    fn read(&mut self, dt: f64, rng: &mut Rng) -> Reading {
        let volts = 230.5 + self.mains.step(dt, rng);
        let noise = 1.0 + 0.008 * rng.normal();
        let watts = if self.relay { (self.watts * noise).max(0.0) } else { 0.0 };
        let factor = if self.relay { self.appliance.power_factor() } else { 0.0 };
        let amperes = if self.relay { watts / (volts * factor) } else { 0.0 };
        Reading { watts, volts, amperes, factor, watt_hours: self.watt_hours }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rng(seed: u64) -> Rng {
        Rng::of_device(seed, "model")
    }

    fn day_of(mut climate: Climate, seed: u64) -> Vec<Air> {
        let mut rng = rng(seed);
        (0..1440).map(|_| climate.step(60.0, &mut rng)).collect()
    }

    #[test]
    fn a_day_has_a_warm_afternoon_and_dry_air_in_it() {
        let air = day_of(Climate::new(21.0, 2.5, 48.0), 5);
        // Life begins at seven: minute 480 is three in the afternoon, 1200 three in the morning.
        let mean =
            |from: usize, pick: fn(&Air) -> f64| air[from..from + 60].iter().map(pick).sum::<f64>() / 60.0;
        assert!(mean(450, |a| a.temperature) > mean(1170, |a| a.temperature) + 2.0);
        assert!(mean(450, |a| a.humidity) < mean(1170, |a| a.humidity));
    }

    #[test]
    fn ranges_hold_for_every_room() {
        for (mean, swing, humidity) in
            [(21.0, 1.5, 45.0), (8.0, 6.0, 78.0), (14.0, 0.5, 68.0), (29.0, 9.0, 20.0)]
        {
            for air in day_of(Climate::new(mean, swing, humidity), 11) {
                assert!((air.temperature - mean).abs() < swing + 3.0, "{air:?}");
                assert!((15.0..=96.0).contains(&air.humidity), "{air:?}");
                assert!((1000.0..1026.0).contains(&air.pressure), "{air:?}");
                assert!(air.dew_point() <= air.temperature, "{air:?}");
            }
        }
    }

    #[test]
    fn same_seed_same_day() {
        let climate = || Climate::new(21.0, 1.5, 45.0);
        assert_eq!(day_of(climate(), 1), day_of(climate(), 1));
        assert_ne!(day_of(climate(), 1), day_of(climate(), 2));
    }

    #[test]
    fn counters_never_fall_and_match_the_power() {
        for appliance in
            [Appliance::Fridge, Appliance::WashingMachine, Appliance::HeatPump, Appliance::Router]
        {
            let mut rng = rng(9);
            let mut outlet = Outlet::new(appliance, &mut rng);
            let start = outlet.watt_hours;
            let (mut last, mut sum) = (start, 0.0);
            for _ in 0..8640 {
                let reading = outlet.step(10.0, &mut rng);
                assert!(reading.watt_hours >= last, "{appliance:?}");
                assert!((215.0..246.0).contains(&reading.volts), "{reading:?}");
                sum += reading.watts * 10.0 / 3600.0;
                last = reading.watt_hours;
            }
            let counted = last - start;
            assert!(
                (counted - sum).abs() < 0.05 * counted,
                "{appliance:?}: counter {counted} Wh, power {sum} Wh"
            );
        }
    }

    #[test]
    fn appliances_switch() {
        let mut rng = rng(2);
        let mut outlet = Outlet::new(Appliance::Fridge, &mut rng);
        let watts: Vec<f64> = (0..400).map(|_| outlet.step(60.0, &mut rng).watts).collect();
        let running = watts.iter().filter(|w| **w > 50.0).count();
        assert!((60..220).contains(&running), "compressor ran {running} of 400 minutes");
        assert!(watts.iter().all(|w| *w < 110.0));
    }

    #[test]
    fn an_open_relay_counts_nothing() {
        let mut rng = rng(2);
        let mut outlet = Outlet::new(Appliance::HeatPump, &mut rng);
        outlet.switch(false);
        let before = outlet.watt_hours;
        let reading = outlet.step(7200.0, &mut rng);
        assert_eq!((reading.watts, reading.amperes, reading.watt_hours), (0.0, 0.0, before));
        outlet.switch(true);
        assert!(outlet.step(7200.0, &mut rng).watt_hours > before);
    }

    #[test]
    fn batteries_fall_and_are_replaced() {
        let mut battery = Battery::new(&mut rng(4));
        let levels: Vec<f64> = (0..24 * 60).map(|_| battery.step(3600.0)).collect();
        assert!(levels.iter().all(|l| (3.0..=100.0).contains(l)));
        let rises = levels.windows(2).filter(|w| w[1] > w[0]).count();
        assert!((1..=5).contains(&rises), "replaced {rises} times in 60 days");
    }
}
