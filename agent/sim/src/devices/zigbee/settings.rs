//! The schema of a bridge's configuration, published in `bridge/info` for its web frontends.

use serde_json::{Map, Value, json};

/// Name, JSON type and description.
type Setting = (&'static str, &'static str, &'static str);

/// The JSON schema of the configuration.
pub fn schema() -> Value {
    let sections = SECTIONS.iter().map(|(name, title, settings)| ((*name).into(), section(title, settings)));
    json!({
        "additionalProperties": false,
        "definitions": {
            "device": section("Options of one device", DEVICE),
            "group": section("Options of one group", GROUP),
        },
        "properties": object(sections), "required": ["mqtt"], "type": "object",
    })
}

/// An object. `collect` would sort first, with 3 KB of code each time.
pub(super) fn object(members: impl Iterator<Item = (String, Value)>) -> Value {
    let mut object = Map::new();
    object.extend(members);
    Value::Object(object)
}

fn section(title: &str, settings: &[Setting]) -> Value {
    let properties = object(settings.iter().map(|s| (s.0.into(), property(s))));
    json!({"properties": properties, "title": title, "type": "object"})
}

fn property((name, kind, meaning): &Setting) -> Value {
    let mut words = name.replace('_', " ");
    words[..1].make_ascii_uppercase();
    json!({"description": meaning, "requiresRestart": true, "title": words, "type": [kind, "null"]})
}

const SECTIONS: &[(&str, &str, &[Setting])] = &[
    ("mqtt", "MQTT", MQTT),
    ("serial", "Serial", SERIAL),
    ("availability", "Availability", AVAILABILITY),
    ("advanced", "Advanced", ADVANCED),
    ("frontend", "Frontend", FRONTEND),
    ("homeassistant", "Home Assistant", HOME_ASSISTANT),
    ("ota", "OTA updates", OTA),
    ("device_options", "Options that apply to all devices", DEVICE),
];

const MQTT: &[Setting] = &[
    ("base_topic", "string", "Base topic for all messages"),
    ("server", "string", "Address of the broker, with its scheme and port"),
    ("version", "number", "Protocol version: 4 is MQTT 3.1.1, 5 is MQTT 5"),
    ("client_id", "string", "Client identifier presented to the broker"),
    ("user", "string", "User name for authentication"),
    ("password", "string", "Password for authentication"),
    ("ca", "string", "Absolute path to the certificate of the authority that signed the broker's"),
    ("key", "string", "Absolute path to the key for client authentication"),
    ("cert", "string", "Absolute path to the certificate for client authentication"),
    ("keepalive", "number", "Keep alive interval, in seconds"),
    ("reject_unauthorized", "boolean", "Whether self-signed certificates are refused"),
    ("include_device_information", "boolean", "Adds a description of the device to every message"),
    ("force_disable_retain", "boolean", "Never sets the retain flag, for brokers that do not support it"),
    ("maximum_packet_size", "number", "Largest packet, in bytes, that is asked for with MQTT 5"),
];

const SERIAL: &[Setting] = &[
    ("port", "string", "Location of the adapter; a path, or an address with tcp:// in front"),
    ("adapter", "string", "Type of the adapter"),
    ("baudrate", "number", "Baud rate of the serial port"),
    ("rtscts", "boolean", "Hardware flow control"),
    ("disable_led", "boolean", "Switches the light on the adapter off"),
];

const AVAILABILITY: &[Setting] = &[
    ("enabled", "boolean", "Whether devices are checked for being online"),
    (
        "active",
        "object",
        "Options for routers and devices with mains power: after so many minutes they are pinged",
    ),
    (
        "passive",
        "object",
        "Options for devices that sleep: after so many minutes of silence they count as offline",
    ),
];

const ADVANCED: &[Setting] = &[
    ("channel", "number", "Radio channel; changing it requires pairing again with many devices"),
    ("pan_id", "number", "Identifier of the network; has to differ from those of the neighbours"),
    ("ext_pan_id", "array", "Extended identifier of the network"),
    ("network_key", "array", "Key of the network; changing it requires pairing every device again"),
    ("transmit_power", "number", "Transmit power of the adapter, in dBm, where the adapter supports it"),
    ("adapter_concurrent", "number", "Commands that are sent to the adapter at the same time"),
    ("adapter_delay", "number", "Pause between two commands to the adapter, in milliseconds"),
    ("cache_state", "boolean", "The last state is merged into every message; needed by most integrations"),
    ("cache_state_persistent", "boolean", "The cached state survives a restart"),
    ("cache_state_send_on_startup", "boolean", "The cached state is published at startup"),
    ("last_seen", "string", "Adds a last_seen attribute to every message, in the chosen format"),
    ("elapsed", "boolean", "Adds the time since the previous message to every message, in milliseconds"),
    ("output", "string", "Publishes states as JSON, as one topic for each attribute, or as both"),
    ("timestamp_format", "string", "Format of the timestamps in the log"),
    ("log_level", "string", "Least severe level that is logged"),
    ("log_namespaced_levels", "object", "Levels that differ from the general one, by namespace"),
    ("log_output", "array", "Where the log goes: console, file, syslog"),
    ("log_directory", "string", "Directory of the log files"),
    ("log_file", "string", "File name pattern of the log files"),
    ("log_rotation", "boolean", "Whether log files are rotated"),
    ("log_directories_to_keep", "number", "Directories of older logs that are kept"),
    ("log_symlink_current", "boolean", "Keeps a symbolic link to the directory in use"),
    ("log_syslog", "object", "Host, port, protocol and format of the syslog server"),
];

const FRONTEND: &[Setting] = &[
    ("enabled", "boolean", "Whether the frontend is served"),
    ("port", "number", "Port of the frontend"),
    ("host", "string", "Address the frontend binds to; empty binds to all"),
    ("base_url", "string", "Path below which the frontend is served, behind a proxy"),
    ("auth_token", "string", "Token that visitors have to enter"),
    ("ssl_cert", "string", "Absolute path to the certificate, when the frontend is served over TLS"),
    ("ssl_key", "string", "Absolute path to the key, when the frontend is served over TLS"),
    ("notification_filter", "array", "Messages whose notification is not shown, as regular expressions"),
];

const HOME_ASSISTANT: &[Setting] = &[
    ("enabled", "boolean", "Whether discovery messages are published"),
    ("discovery_topic", "string", "Base topic of the discovery messages"),
    ("status_topic", "string", "Topic on which the platform announces that it has started"),
    ("experimental_event_entities", "boolean", "Publishes entities for momentary actions"),
    (
        "legacy_action_sensor",
        "boolean",
        "Publishes a sensor for momentary actions, and an empty one after each",
    ),
];

const OTA: &[Setting] = &[
    ("update_check_interval", "number", "Least time between two checks that a device asks for, in minutes"),
    ("disable_automatic_update_check", "boolean", "Ignores the checks that devices ask for"),
    ("image_block_response_delay", "number", "Pause between two blocks of an image, in milliseconds"),
    ("default_maximum_data_size", "number", "Bytes of image in one block"),
    ("zigbee_ota_override_index_location", "string", "Index that takes precedence over the public one"),
];

const DEVICE: &[Setting] = &[
    ("friendly_name", "string", "Name of the device, used in its topics; a slash makes a hierarchy"),
    ("disabled", "boolean", "Excludes the device from network scans, availability and groups"),
    ("retain", "boolean", "Retains the messages of the device"),
    ("qos", "number", "Quality of service of the messages of the device"),
    ("retention", "number", "Seconds for which the broker keeps a retained message, with MQTT 5"),
    ("availability", "object", "Availability options of this device alone"),
    ("debounce", "number", "Collects messages for so many seconds and publishes them as one"),
    (
        "debounce_ignore",
        "array",
        "Attributes whose changes are published although others are being collected",
    ),
    ("throttle", "number", "Publishes at most one message in so many seconds"),
    ("optimistic", "boolean", "Publishes the state that was asked for without waiting for the device"),
    ("filtered_attributes", "array", "Attributes left out of the messages"),
    ("filtered_cache", "array", "Attributes left out of the cache"),
    ("filtered_optimistic", "array", "Attributes not published before the device has confirmed them"),
    ("icon", "string", "Picture of the device in the frontend"),
    ("homeassistant", "object", "Overrides for the discovery messages of the device"),
    ("description", "string", "Free text about the device"),
];

const GROUP: &[Setting] = &[
    ("friendly_name", "string", "Name of the group, used in its topics"),
    ("retain", "boolean", "Retains the messages of the group"),
    ("qos", "number", "Quality of service of the messages of the group"),
    ("optimistic", "boolean", "Publishes the state that was asked for without waiting for the members"),
    ("off_state", "string", "Whether the group is off when all its members are, or follows the last of them"),
    ("filtered_attributes", "array", "Attributes left out of the messages"),
];
