//! The products behind the bridge, as the bridge describes them.

use serde_json::{Value, json};

use super::member::Kind;

/// The converters' data on a product.
pub struct Product {
    pub model: &'static str,
    pub model_id: &'static str,
    pub vendor: &'static str,
    pub description: &'static str,
    pub clusters: &'static [&'static str],
    pub properties: &'static [&'static Property],
}

/// A property that a product exposes.
pub struct Property {
    pub name: &'static str,
    pub label: &'static str,
    pub shape: Shape,
    pub description: &'static str,
    /// Cluster and attribute of its reporting, when the bridge has configured one.
    pub reporting: Option<(&'static str, &'static str)>,
}

/// The form of its values.
pub enum Shape {
    Numeric { unit: &'static str, range: Option<(i64, i64)> },
    Binary { on: bool },
    Enumeration(&'static [&'static str]),
    Switch,
    Light,
}

impl Property {
    /// Its entry in `exposes`.
    pub fn exposed(&self) -> Value {
        let mut exposed = json!({"access": 1, "description": self.description, "label": self.label,
            "name": self.name, "property": self.name});
        match self.shape {
            Shape::Numeric { unit, range } => {
                exposed["type"] = "numeric".into();
                exposed["unit"] = unit.into();
                if let Some((low, high)) = range {
                    exposed["value_min"] = low.into();
                    exposed["value_max"] = high.into();
                }
                exposed
            }
            Shape::Binary { on } => {
                exposed["type"] = "binary".into();
                exposed["value_on"] = on.into();
                exposed["value_off"] = (!on).into();
                exposed
            }
            Shape::Enumeration(values) => {
                exposed["type"] = "enum".into();
                exposed["values"] = values.into();
                exposed
            }
            Shape::Switch => json!({"features": [switch()], "type": "switch"}),
            Shape::Light => json!({"features": [switch(), brightness(), colour()], "type": "light"}),
        }
    }

    /// The bridge can calibrate and round numbers; these are two options each.
    pub fn options(&self) -> Vec<Value> {
        let Shape::Numeric { unit, .. } = self.shape else { return Vec::new() };
        if matches!(unit, "lqi" | "mV") {
            return Vec::new();
        }
        let (name, label) = (self.name, self.label);
        let calibration = format!(
            "Calibrates the {name} value (absolute offset), takes into effect on next report of device."
        );
        let precision = format!(
            "Number of digits after decimal point for {name}, takes into effect on next report of device. This option can only decrease the precision, not increase it."
        );
        vec![
            json!({"access": 2, "description": calibration, "label": format!("{label} calibration"),
                "name": format!("{name}_calibration"), "property": format!("{name}_calibration"),
                "type": "numeric", "value_step": 0.1}),
            json!({"access": 2, "description": precision, "label": format!("{label} precision"),
                "name": format!("{name}_precision"), "property": format!("{name}_precision"),
                "type": "numeric", "value_max": 3, "value_min": 0}),
        ]
    }
}

fn switch() -> Value {
    json!({"access": 7, "description": "On/off state of the switch", "label": "State", "name": "state",
        "property": "state", "type": "binary", "value_off": "OFF", "value_on": "ON", "value_toggle": "TOGGLE"})
}

fn brightness() -> Value {
    json!({"access": 7, "description": "Brightness of this light", "label": "Brightness", "name": "brightness",
        "property": "brightness", "type": "numeric", "value_max": 254, "value_min": 0})
}

fn colour() -> Value {
    let axis = |name: &str| json!({"access": 7, "label": name.to_uppercase(), "name": name, "property": name, "type": "numeric"});
    json!({"access": 7, "description": "Color of this light in the CIE 1931 color space (x/y)", "features": [axis("x"), axis("y")],
        "label": "Color (X/Y)", "name": "color_xy", "property": "color", "type": "composite"})
}

const fn numeric(
    name: &'static str,
    label: &'static str,
    unit: &'static str,
    description: &'static str,
    reporting: (&'static str, &'static str),
) -> Property {
    Property {
        name,
        label,
        shape: Shape::Numeric { unit, range: None },
        description,
        reporting: Some(reporting),
    }
}

const fn flag(name: &'static str, label: &'static str, on: bool, description: &'static str) -> Property {
    Property { name, label, shape: Shape::Binary { on }, description, reporting: None }
}

const TEMPERATURE: Property = numeric(
    "temperature",
    "Temperature",
    "°C",
    "Measured temperature value",
    ("msTemperatureMeasurement", "measuredValue"),
);
const HUMIDITY: Property = numeric(
    "humidity",
    "Humidity",
    "%",
    "Measured relative humidity",
    ("msRelativeHumidity", "measuredValue"),
);
const PRESSURE: Property = numeric(
    "pressure",
    "Pressure",
    "hPa",
    "The measured atmospheric pressure",
    ("msPressureMeasurement", "measuredValue"),
);
const ILLUMINANCE: Property = numeric(
    "illuminance",
    "Illuminance",
    "lx",
    "Measured illuminance",
    ("msIlluminanceMeasurement", "measuredValue"),
);
const DEVICE_TEMPERATURE: Property = numeric(
    "device_temperature",
    "Device temperature",
    "°C",
    "Temperature of the device",
    ("genDeviceTempCfg", "currentTemperature"),
);
const POWER: Property = numeric(
    "power",
    "Power",
    "W",
    "Instantaneous measured power",
    ("haElectricalMeasurement", "activePower"),
);
const CURRENT: Property = numeric(
    "current",
    "Current",
    "A",
    "Instantaneous measured electrical current",
    ("haElectricalMeasurement", "rmsCurrent"),
);
const MAINS: Property = numeric(
    "voltage",
    "Voltage",
    "V",
    "Measured electrical potential value",
    ("haElectricalMeasurement", "rmsVoltage"),
);
const ENERGY: Property =
    numeric("energy", "Energy", "kWh", "Sum of consumed energy", ("seMetering", "currentSummDelivered"));
const VOLTAGE: Property = numeric(
    "voltage",
    "Voltage",
    "mV",
    "Voltage of the battery in millivolts",
    ("genPowerCfg", "batteryVoltage"),
);
const BATTERY: Property = Property {
    shape: Shape::Numeric { unit: "%", range: Some((0, 100)) },
    ..numeric(
        "battery",
        "Battery",
        "%",
        "Remaining battery in %, can take up to 24 hours before reported",
        ("genPowerCfg", "batteryPercentageRemaining"),
    )
};
const LINKQUALITY: Property = Property {
    shape: Shape::Numeric { unit: "lqi", range: Some((0, 255)) },
    reporting: None,
    ..numeric("linkquality", "Linkquality", "lqi", "Link quality (signal strength)", ("", ""))
};
const CONTACT: Property =
    flag("contact", "Contact", false, "Indicates if the contact is closed (= true) or open (= false)");
const OCCUPANCY: Property =
    flag("occupancy", "Occupancy", true, "Indicates whether the device detected occupancy");
const WATER_LEAK: Property =
    flag("water_leak", "Water leak", true, "Indicates whether the device detected a water leak");
const BATTERY_LOW: Property =
    flag("battery_low", "Battery low", true, "Indicates if the battery of this device is almost empty");
const TAMPER: Property = flag("tamper", "Tamper", true, "Indicates whether the device is tampered");
const STATE: Property = Property {
    shape: Shape::Switch,
    reporting: Some(("genOnOff", "onOff")),
    ..flag("state", "State", true, "")
};
const LIGHT: Property = Property {
    shape: Shape::Light,
    reporting: Some(("genLevelCtrl", "currentLevel")),
    ..flag("state", "State", true, "")
};
const ACTION: Property = Property {
    shape: Shape::Enumeration(&["single", "double", "hold"]),
    ..flag("action", "Action", true, "Triggered action (e.g. a button click)")
};

/// The product of a kind.
pub fn product(kind: &Kind) -> &'static Product {
    const CLIMATE: Product = Product {
        model: "WSDCGQ11LM",
        model_id: "lumi.weather",
        vendor: "Aqara",
        description: "Temperature and humidity sensor",
        clusters: &[
            "genBasic",
            "genIdentify",
            "msTemperatureMeasurement",
            "msPressureMeasurement",
            "msRelativeHumidity",
        ],
        properties: &[&BATTERY, &TEMPERATURE, &HUMIDITY, &PRESSURE, &VOLTAGE, &LINKQUALITY],
    };
    const DOOR: Product = Product {
        model: "MCCGQ11LM",
        model_id: "lumi.sensor_magnet.aq2",
        vendor: "Aqara",
        description: "Door and window sensor",
        clusters: &["genBasic", "genIdentify", "genOnOff"],
        properties: &[&BATTERY, &CONTACT, &VOLTAGE, &LINKQUALITY],
    };
    const MOTION: Product = Product {
        model: "RTCGQ11LM",
        model_id: "lumi.sensor_motion.aq2",
        vendor: "Aqara",
        description: "Motion sensor",
        clusters: &["genBasic", "msOccupancySensing", "msIlluminanceMeasurement", "ssIasZone"],
        properties: &[&BATTERY, &OCCUPANCY, &DEVICE_TEMPERATURE, &ILLUMINANCE, &VOLTAGE, &LINKQUALITY],
    };
    const LEAK: Product = Product {
        model: "SJCGQ11LM",
        model_id: "lumi.sensor_wleak.aq1",
        vendor: "Aqara",
        description: "Water leak sensor",
        clusters: &["genBasic", "genIdentify", "ssIasZone"],
        properties: &[&BATTERY, &WATER_LEAK, &BATTERY_LOW, &TAMPER, &VOLTAGE, &LINKQUALITY],
    };
    const PLUG: Product = Product {
        model: "SP 240",
        model_id: "SP 240",
        vendor: "Innr",
        description: "Smart plug",
        clusters: &[
            "genBasic",
            "genIdentify",
            "genGroups",
            "genScenes",
            "genOnOff",
            "seMetering",
            "haElectricalMeasurement",
        ],
        properties: &[&STATE, &POWER, &CURRENT, &MAINS, &ENERGY, &LINKQUALITY],
    };
    const BULB: Product = Product {
        model: "LED1924G9",
        model_id: "TRADFRI bulb E27 CWS 806lm",
        vendor: "IKEA",
        description: "TRADFRI bulb E26/E27, color/white spectrum, globe, opal, 800/806/810 lm",
        clusters: &[
            "genBasic",
            "genIdentify",
            "genGroups",
            "genScenes",
            "genOnOff",
            "genLevelCtrl",
            "lightingColorCtrl",
            "touchlink",
        ],
        properties: &[&LIGHT, &LINKQUALITY],
    };
    const REMOTE: Product = Product {
        model: "WXKG11LM",
        model_id: "lumi.remote.b1acn01",
        vendor: "Aqara",
        description: "Wireless mini switch",
        clusters: &["genBasic", "genIdentify", "genMultistateInput"],
        properties: &[&BATTERY, &ACTION, &VOLTAGE, &LINKQUALITY],
    };
    match kind {
        Kind::Climate(_) => &CLIMATE,
        Kind::Contact(_) => &DOOR,
        Kind::Motion(_) => &MOTION,
        Kind::Leak => &LEAK,
        Kind::Plug(_) => &PLUG,
        Kind::Bulb(_) => &BULB,
        Kind::Remote => &REMOTE,
    }
}
