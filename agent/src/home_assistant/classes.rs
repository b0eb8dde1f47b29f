//! Home Assistant's device classes and units. It refuses an entity with a class that it does not know, and complains about a
//! unit that does not fit, so what is not in this table is left out.
//! <https://www.home-assistant.io/integrations/sensor#device-class>

const TEMPERATURE: &[&str] = &["°C", "°F", "K"];
const PRESSURE: &[&str] = &["Pa", "hPa", "kPa", "bar", "cbar", "mbar", "mmHg", "inHg", "psi"];
const ENERGY: &[&str] = &["J", "kJ", "MJ", "GJ", "Wh", "kWh", "MWh", "GWh"];
const VOLUME: &[&str] = &["L", "mL", "gal", "fl. oz.", "m³", "ft³", "CCF"];
const MICROGRAMS: &[&str] = &["µg/m³"];
const PPM: &[&str] = &["ppm"];
const PERCENT: &[&str] = &["%"];

/// Classes of sensors, and their units.
const SENSORS: [(&str, &[&str]); 42] = [
    ("apparent_power", &["VA"]),
    ("aqi", &[""]),
    ("atmospheric_pressure", PRESSURE),
    ("battery", PERCENT),
    ("carbon_dioxide", PPM),
    ("carbon_monoxide", PPM),
    ("current", &["A", "mA"]),
    ("data_rate", &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "B/s", "kB/s", "MB/s", "KiB/s", "MiB/s"]),
    ("data_size", &["bit", "kbit", "Mbit", "B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]),
    ("distance", &["km", "m", "cm", "mm", "mi", "yd", "in", "ft"]),
    ("duration", &["d", "h", "min", "s", "ms"]),
    ("energy", ENERGY),
    ("energy_storage", ENERGY),
    ("frequency", &["Hz", "kHz", "MHz", "GHz"]),
    ("gas", &["m³", "ft³", "CCF"]),
    ("humidity", PERCENT),
    ("illuminance", &["lx"]),
    ("irradiance", &["W/m²"]),
    ("moisture", PERCENT),
    ("nitrogen_dioxide", MICROGRAMS),
    ("nitrogen_monoxide", MICROGRAMS),
    ("ozone", MICROGRAMS),
    ("ph", &[""]),
    ("pm1", MICROGRAMS),
    ("pm10", MICROGRAMS),
    ("pm25", MICROGRAMS),
    ("power", &["W", "kW"]),
    ("power_factor", &["", "%"]),
    ("precipitation", &["mm", "cm", "in"]),
    ("precipitation_intensity", &["mm/h", "mm/d", "in/h", "in/d"]),
    ("pressure", PRESSURE),
    ("reactive_power", &["var"]),
    ("signal_strength", &["dB", "dBm"]),
    ("speed", &["m/s", "km/h", "mph", "kn", "ft/s"]),
    ("sulphur_dioxide", MICROGRAMS),
    ("temperature", TEMPERATURE),
    ("volatile_organic_compounds", MICROGRAMS),
    ("volatile_organic_compounds_parts", &["ppm", "ppb"]),
    ("voltage", &["V", "mV"]),
    ("volume", VOLUME),
    ("water", &["L", "gal", "m³", "ft³", "CCF"]),
    ("weight", &["kg", "g", "mg", "oz", "lb", "st"]),
];

/// Classes of sensors with two states.
const BINARY: [&str; 28] = [
    "battery",
    "battery_charging",
    "carbon_monoxide",
    "cold",
    "connectivity",
    "door",
    "garage_door",
    "gas",
    "heat",
    "light",
    "lock",
    "moisture",
    "motion",
    "moving",
    "occupancy",
    "opening",
    "plug",
    "power",
    "presence",
    "problem",
    "running",
    "safety",
    "smoke",
    "sound",
    "tamper",
    "update",
    "vibration",
    "window",
];

/// Classes whose values are a meter's, which only goes up.
const METERS: [&str; 3] = ["energy", "gas", "water"];

/// Whether a sensor with this unit can have this class.
pub(super) fn is_of_sensor(class: &str, unit: &str) -> bool {
    SENSORS.iter().any(|(known, units)| *known == class && units.contains(&unit))
}

/// Whether a sensor with two states can have this class.
pub(super) fn is_binary(class: &str) -> bool {
    BINARY.contains(&class)
}

/// What long-term statistics Home Assistant makes of a number.
pub(super) fn state_class(class: &str) -> &'static str {
    if METERS.contains(&class) { "total_increasing" } else { "measurement" }
}
