//! `bridge/info` and `bridge/devices`: the bridge's retained documents of tens of kilobytes, which every client with a
//! subscription to everything gets.

use serde_json::{Value, json};

use super::member::Member;
use super::products::{Property, product};
use super::settings::{object, schema};

/// `bridge/devices`: the coordinator and every member with its definition.
pub fn devices(members: &[Member]) -> Value {
    let coordinator = json!({
        "definition": null, "disabled": false, "endpoints": {"1": endpoint(&[], &[], &[])},
        "friendly_name": "Coordinator", "ieee_address": COORDINATOR, "interview_completed": true,
        "interview_state": "SUCCESSFUL", "interviewing": false, "network_address": 0, "supported": true,
        "type": "Coordinator",
    });
    Value::Array(std::iter::once(coordinator).chain(members.iter().map(device)).collect())
}

/// `bridge/info`: version, network, the configuration and its schema.
pub fn info(members: &[Member]) -> Value {
    let devices = object(members.iter().map(|m| (m.ieee_address(), options(m))));
    json!({
        "commit": "e7b1b8f6",
        "config": {
            "advanced": {"channel": 15, "last_seen": "disable", "log_level": "info", "pan_id": 6754},
            "availability": {"active": {"timeout": 10}, "enabled": true, "passive": {"timeout": 10}},
            "devices": devices, "groups": {}, "homeassistant": {"enabled": false},
            "mqtt": {"base_topic": super::BASE, "include_device_information": false, "version": 5},
            "serial": {"adapter": "zstack", "port": "/dev/ttyUSB0"}, "version": 4,
        },
        "config_schema": schema(),
        "coordinator": {"ieee_address": COORDINATOR, "meta": {"maintrel": 1, "majorrel": 2, "minorrel": 7, "product": 1,
            "revision": 20_240_710, "transportrev": 2}, "type": "zStack3x0"},
        "log_level": "info",
        "network": {"channel": 15, "extended_pan_id": "0xdddddddddddddddd", "pan_id": 6754},
        "permit_join": false, "restart_required": false, "version": "2.6.3",
        "zigbee_herdsman": {"version": "6.1.5"}, "zigbee_herdsman_converters": {"version": "25.42.0"},
    })
}

const COORDINATOR: &str = "0x00124b0024c1a7f3";

fn options(member: &Member) -> Value {
    json!({"friendly_name": member.name, "retain": member.retains(), "qos": u8::from(member.at_least_once())})
}

fn device(member: &Member) -> Value {
    let product = product(&member.kind);
    let battery = member.sleeps();
    json!({
        "date_code": "20230914",
        "definition": {
            "description": product.description,
            "exposes": product.properties.iter().map(|p| p.exposed()).collect::<Vec<_>>(),
            "model": product.model,
            "options": product.properties.iter().flat_map(|p| p.options()).collect::<Vec<_>>(),
            "source": "native", "supports_ota": !battery, "vendor": product.vendor,
        },
        "disabled": false,
        "endpoints": {"1": endpoint(product.clusters, &["genOta", "genTime", "genPowerCfg"], product.properties)},
        "friendly_name": member.name, "ieee_address": member.ieee_address(), "interview_completed": true,
        "interview_state": "SUCCESSFUL", "interviewing": false, "manufacturer": product.vendor,
        "model_id": product.model_id, "network_address": member.network_address(),
        "power_source": if battery { "Battery" } else { "Mains (single phase)" },
        "software_build_id": "3000-0001", "supported": true,
        "type": if battery { "EndDevice" } else { "Router" },
    })
}

fn endpoint(input: &[&str], output: &[&str], properties: &[&Property]) -> Value {
    let reportings: Vec<(&str, &str)> = properties.iter().filter_map(|p| p.reporting).collect();
    let bindings: Vec<Value> = reportings
        .iter()
        .map(|(cluster, _)| json!({"cluster": cluster, "target": {"endpoint": 1, "ieee_address": COORDINATOR, "type": "endpoint"}}))
        .collect();
    let configured: Vec<Value> = reportings
        .iter()
        .map(|(cluster, attribute)| {
            json!({"attribute": attribute, "cluster": cluster, "maximum_report_interval": 3600,
                "minimum_report_interval": 10, "reportable_change": 1})
        })
        .collect();
    json!({"bindings": bindings, "clusters": {"input": input, "output": output},
        "configured_reportings": configured, "scenes": []})
}
