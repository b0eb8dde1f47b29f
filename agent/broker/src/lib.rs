//! A small MQTT broker for the demo and the fault tests.
