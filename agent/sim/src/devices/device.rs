//! The driver's view of a device: its identity, its messages, and when it acts. Devices are pure; the driver has the
//! sockets.

use jiff::Zoned;

use super::agenda::Life;

/// One PUBLISH to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS 1; 0 otherwise. No device here uses QoS 2.
    pub at_least_once: bool,
    /// To be retained by the broker.
    pub retain: bool,
}

impl Publication {
    /// QoS 0, not retained.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Publication {
        Publication { topic: topic.into(), payload: payload.into(), at_least_once: false, retain: false }
    }

    /// At QoS 1 or QoS 0.
    pub fn qos1(self, at_least_once: bool) -> Publication {
        Publication { at_least_once, ..self }
    }

    /// Retained, or not.
    pub fn retained(self, retain: bool) -> Publication {
        Publication { retain, ..self }
    }
}

/// The MQTT version of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    V5,
}

/// How a device connects.
#[derive(Clone, Debug)]
pub struct Session {
    /// Client identifier.
    pub client_id: String,
    /// Protocol version it speaks.
    pub protocol: Protocol,
    /// Keep-alive, in seconds; 5 or more.
    pub keep_alive_s: u64,
    /// Last will.
    pub will: Publication,
}

/// The result of one event in a device's life.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It publishes these, possibly none.
    Publish(Vec<Publication>),
    /// It loses power or signal, without a DISCONNECT, for this many simulated seconds.
    Vanish(f64),
}

/// A simulated device, or a bridge of many.
pub trait Device: Send + 'static {
    /// How it connects.
    fn session(&self) -> Session;

    /// Its own time.
    fn now(&self) -> Life;

    /// When its next step is due, in its own time.
    fn due(&self) -> Life;

    /// Its messages after each connection; `clock` is the time on its clock.
    fn birth(&mut self, clock: &Zoned) -> Vec<Publication>;

    /// Advances to `due` and takes the step that is due then.
    fn step(&mut self, clock: &Zoned) -> Step;

    /// The topics and filters on which it takes commands.
    fn listens(&self) -> Vec<String>;

    /// Takes a message that arrives on one of them at `now`. Returns its messages at once; what takes time is for its
    /// steps.
    fn hear(&mut self, now: Life, topic: &str, payload: &[u8], clock: &Zoned) -> Vec<Publication>;

    /// Its messages before a clean disconnect.
    fn farewell(&self) -> Vec<Publication>;
}
