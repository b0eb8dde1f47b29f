//! A sink as TOML.

use super::super::show::{Doc, show_tls, show_will};
use super::super::{Protocol, TlsConfig};
use super::read::{ORDERS, REFUSED};
use super::target::SASL;
use super::{HttpSink, KafkaSink, MqttSink, NatsSink, SinkConfig, SinkFormat, SinkTarget};
use crate::config::Order;

impl SinkConfig {
    pub(in super::super) fn show(&self, doc: &mut Doc) {
        doc.header("[[sink]]");
        doc.text("name", &self.name);
        doc.text("address", &self.target.address());
        doc.text("format", self.format.name());
        let order = ORDERS.iter().find(|(_, order)| *order == self.order);
        doc.text("order", order.map_or("", |(word, _)| word));
        doc.texts("priority", &self.priority);
        if self.order == Order::LiveFirst {
            doc.raw("backlog_share", format_args!("{:?}", self.backlog_share));
        }
        doc.raw("bandwidth_bytes_per_s", self.bandwidth_bytes_per_s.unwrap_or(0));
        doc.raw("parcel_events_max", self.parcel_events_max);
        doc.raw("parcel_bytes_max", self.parcel_bytes_max);
        doc.raw("parcel_delay_ms", self.parcel_delay.as_millis());
        doc.raw("in_flight_max", self.in_flight_max);
        doc.raw("required", self.required);
        let refused = REFUSED.iter().find(|(_, policy)| *policy == self.refused);
        doc.text("refused", refused.map_or("", |(word, _)| word));
        doc.texts("devices", &self.filter.devices);
        doc.texts("types", &self.filter.types);
        doc.raw("connect_timeout_s", self.connect_timeout.as_secs());
        doc.raw("answer_timeout_s", self.answer_timeout.as_secs());
        doc.raw("backoff_max_s", self.backoff_max.as_secs());
        self.target.show(doc, self.format);
    }
}

impl SinkTarget {
    fn show(&self, doc: &mut Doc, format: SinkFormat) {
        match self {
            SinkTarget::Mqtt(mqtt) => mqtt.show(doc),
            SinkTarget::Http(http) => http.show(doc, format),
            SinkTarget::Nats(nats) => nats.show(doc),
            SinkTarget::Kafka(kafka) => kafka.show(doc),
        }
        show_tls(doc, "[sink.tls]", self.tls());
        if let SinkTarget::Mqtt(mqtt) = self {
            show_will(doc, "[sink.will]", mqtt.will.as_ref());
        }
    }

    pub(super) fn tls(&self) -> &TlsConfig {
        match self {
            SinkTarget::Mqtt(mqtt) => &mqtt.tls,
            SinkTarget::Http(http) => &http.tls,
            SinkTarget::Nats(nats) => &nats.tls,
            SinkTarget::Kafka(kafka) => &kafka.tls,
        }
    }
}

impl MqttSink {
    fn show(&self, doc: &mut Doc) {
        doc.raw("protocol", if self.protocol == Protocol::V4 { 4 } else { 5 });
        doc.text("topic", &self.topic);
        doc.text("client_id", &self.client_id);
        doc.text("username", self.username.as_deref().unwrap_or_default());
        doc.path("password_file", self.password_file.as_deref());
        doc.raw("keep_alive_s", self.keep_alive.as_secs());
        doc.raw("packet_bytes_max", self.packet_bytes_max);
    }
}

impl HttpSink {
    fn show(&self, doc: &mut Doc, format: SinkFormat) {
        doc.path("token_file", self.token_file.as_deref());
        if format == SinkFormat::Json {
            doc.raw("gzip", self.gzip);
        }
    }
}

impl NatsSink {
    fn show(&self, doc: &mut Doc) {
        doc.text("subject", &self.subject);
        doc.text("stream", &self.stream);
        doc.raw("create_stream", self.create_stream);
        doc.path("credentials_file", self.credentials_file.as_deref());
        doc.path("token_file", self.token_file.as_deref());
        doc.text("username", self.username.as_deref().unwrap_or_default());
        doc.path("password_file", self.password_file.as_deref());
    }
}

impl KafkaSink {
    fn show(&self, doc: &mut Doc) {
        doc.text("kafka_topic", &self.topic);
        doc.text("username", self.username.as_deref().unwrap_or_default());
        doc.path("password_file", self.password_file.as_deref());
        // Without a user name it has no effect, and would be a fault.
        if self.username.is_some() {
            let sasl = SASL.iter().find(|(_, mechanism)| *mechanism == self.sasl);
            doc.text("sasl", sasl.map_or("", |(word, _)| word));
        }
    }
}
