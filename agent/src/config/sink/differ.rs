//! In which keys two sinks differ.

use super::{HttpSink, KafkaSink, MqttSink, NatsSink, SinkConfig, SinkTarget};

impl SinkConfig {
    pub(in super::super) fn differ(&self, new: &SinkConfig, note: &mut impl FnMut(&str)) {
        let filter = (&self.filter, &new.filter);
        let fields = [
            ("address", self.target.address() != new.target.address()),
            ("format", self.format != new.format),
            ("order", self.order != new.order),
            ("priority", self.priority != new.priority),
            ("backlog_share", self.backlog_share.to_bits() != new.backlog_share.to_bits()),
            ("bandwidth_bytes_per_s", self.bandwidth_bytes_per_s != new.bandwidth_bytes_per_s),
            ("parcel_events_max", self.parcel_events_max != new.parcel_events_max),
            ("parcel_bytes_max", self.parcel_bytes_max != new.parcel_bytes_max),
            ("parcel_delay_ms", self.parcel_delay != new.parcel_delay),
            ("in_flight_max", self.in_flight_max != new.in_flight_max),
            ("required", self.required != new.required),
            ("refused", self.refused != new.refused),
            ("devices", filter.0.devices != filter.1.devices),
            ("types", filter.0.types != filter.1.types),
            ("connect_timeout_s", self.connect_timeout != new.connect_timeout),
            ("answer_timeout_s", self.answer_timeout != new.answer_timeout),
            ("backoff_max_s", self.backoff_max != new.backoff_max),
        ];
        fields.iter().filter(|(_, differs)| *differs).for_each(|(key, _)| note(key));
        self.target.differ(&new.target, note);
    }
}

impl SinkTarget {
    /// In what only sinks of one kind have; that the kind is another is seen by the address.
    fn differ(&self, new: &SinkTarget, note: &mut impl FnMut(&str)) {
        match (self, new) {
            (SinkTarget::Mqtt(a), SinkTarget::Mqtt(b)) => a.differ(b, note),
            (SinkTarget::Http(a), SinkTarget::Http(b)) => a.differ(b, note),
            (SinkTarget::Nats(a), SinkTarget::Nats(b)) => a.differ(b, note),
            (SinkTarget::Kafka(a), SinkTarget::Kafka(b)) => a.differ(b, note),
            _ => return,
        }
        if self.tls() != new.tls() {
            note("tls");
        }
    }
}

impl MqttSink {
    fn differ(&self, new: &MqttSink, note: &mut impl FnMut(&str)) {
        let fields = [
            ("protocol", self.protocol != new.protocol),
            ("topic", self.topic != new.topic),
            ("client_id", self.client_id != new.client_id),
            ("username", self.username != new.username),
            ("password_file", self.password_file != new.password_file),
            ("keep_alive_s", self.keep_alive != new.keep_alive),
            ("packet_bytes_max", self.packet_bytes_max != new.packet_bytes_max),
            ("will", self.will != new.will),
        ];
        fields.iter().filter(|(_, differs)| *differs).for_each(|(key, _)| note(key));
    }
}

impl HttpSink {
    fn differ(&self, new: &HttpSink, note: &mut impl FnMut(&str)) {
        let fields = [("token_file", self.token_file != new.token_file), ("gzip", self.gzip != new.gzip)];
        fields.iter().filter(|(_, differs)| *differs).for_each(|(key, _)| note(key));
    }
}

impl NatsSink {
    fn differ(&self, new: &NatsSink, note: &mut impl FnMut(&str)) {
        let fields = [
            ("subject", self.subject != new.subject),
            ("stream", self.stream != new.stream),
            ("create_stream", self.create_stream != new.create_stream),
            ("credentials_file", self.credentials_file != new.credentials_file),
            ("token_file", self.token_file != new.token_file),
            ("username", self.username != new.username),
            ("password_file", self.password_file != new.password_file),
        ];
        fields.iter().filter(|(_, differs)| *differs).for_each(|(key, _)| note(key));
    }
}

impl KafkaSink {
    fn differ(&self, new: &KafkaSink, note: &mut impl FnMut(&str)) {
        let fields = [
            ("kafka_topic", self.topic != new.topic),
            ("username", self.username != new.username),
            ("password_file", self.password_file != new.password_file),
            ("sasl", self.sasl != new.sasl),
        ];
        fields.iter().filter(|(_, differs)| *differs).for_each(|(key, _)| note(key));
    }
}
